"""Growing to N accepted rows in stages, with gates between them.

Ten good rows say little: duplicates and stock phrases only show by a hundred. So a large ask goes 10, 100, then the rest,
and between the stages a few rates must hold; when one does not, the run stops and says what changed, before the money for
the rest is spent. What the whole will take is judged before, from a pilot."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

from workbench import _html, runner
from workbench.errors import InputError, RunError
from workbench.llm import Budget, Client
from workbench.quality.rules import opening_table
from workbench.records import QA, Failure, Record, Verdict, by_id, kept
from workbench.runner import Make, Options, Plan
from workbench.runs import Run

STAGES = (10, 100)
BEYOND = "beyond_rows_asked"
_SMALLEST_SAMPLE = 30  # openings and duplicates among fewer rows are noise
_SMALLEST_HELPING = 100  # where a tenth is accepted, 30 tasks give less than 0.05 by chance 1 time in 5, 100 1 in 40


@dataclass(frozen=True)
class Gates:
    """The rates that must hold for the next stage to begin, each a share from 0 to 1.

    Parse and evidence: of the answers, those that could be read, and whose evidence was in the passage. Duplicates: of the
    rows made. Openings: of the rows made, those that begin with the most common four words. Accepted: of the tasks, those
    that gave a row which passed every check; of all, and of those asked last. Duplicates, openings and accepted rows are
    judged from 30 on, those asked last from 100."""

    min_parse_rate: float = 0.80
    min_evidence_rate: float = 0.70
    max_duplicate_rate: float = 0.25
    max_opening_share: float = 0.20
    min_accept_rate: float = 0.05


@dataclass(frozen=True)
class Stage:
    """One stage: what was asked for, what came, and the rates at its end. Of the tasks, `last_tasks` were asked last, and
    brought `last_accepted` rows."""

    target: int
    tasks: int
    made: int
    accepted: int
    parse_rate: float
    evidence_rate: float
    duplicate_rate: float
    opening_share: float
    opening: str = ""
    last_tasks: int = 0
    last_accepted: int = 0

    def broken(self, gates: Gates) -> list[str]:
        """Return what does not hold, in words."""
        said = []
        if self.parse_rate < gates.min_parse_rate:
            said.append(f"parse rate {self.parse_rate:.0%}, at least {gates.min_parse_rate:.0%} is needed")
        if self.evidence_rate < gates.min_evidence_rate:
            said.append(f"evidence rate {self.evidence_rate:.0%}, at least {gates.min_evidence_rate:.0%} is needed")
        if self.made >= _SMALLEST_SAMPLE and self.duplicate_rate > gates.max_duplicate_rate:
            said.append(f"duplicate rate {self.duplicate_rate:.0%}, at most {gates.max_duplicate_rate:.0%} is allowed")
        if self.made >= _SMALLEST_SAMPLE and self.opening_share > gates.max_opening_share:
            said.append(
                f'{self.opening_share:.0%} of rows begin with "{self.opening}", at most {gates.max_opening_share:.0%} may'
            )
        if self.tasks >= _SMALLEST_SAMPLE and self.accepted < gates.min_accept_rate * self.tasks:
            said.append(
                f"{self.accepted:,} of {self.tasks:,} tasks gave an accepted row, at least {gates.min_accept_rate:.0%} are needed"
            )
        elif self.last_tasks >= _SMALLEST_HELPING and self.last_accepted < gates.min_accept_rate * self.last_tasks:
            said.append(
                f"{max(0, self.last_accepted):,} of the last {self.last_tasks:,} tasks gave an accepted row, at least {gates.min_accept_rate:.0%} are needed"
            )
        return said


@dataclass(frozen=True)
class Growth:
    """What growing came to: the run, its accepted records, the stages, and why it ended before N rows (empty: it did not);
    `is_plan_over` where that is because every task was asked."""

    run: Run
    accepted: list[Record]
    stages: tuple[Stage, ...]
    rows: int
    why_fewer: str = ""
    is_plan_over: bool = False

    def __repr__(self) -> str:
        columns, rows = self.table()
        end = f"\n{self.why_fewer}" if self.why_fewer else ""
        return f"{len(self.accepted):,} of {self.rows:,} rows accepted\n{_html.text_table(columns, rows)}{end}"

    def _repr_html_(self) -> str:
        columns, rows = self.table()
        return _html.card(
            f"{len(self.accepted):,} of {self.rows:,} rows accepted",
            "",
            _html.html_table(columns, rows),
            warning=self.why_fewer,
        )

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Column names and one row a stage."""
        names = [field.name for field in fields(Stage) if field.name not in ("opening", "last_tasks", "last_accepted")]
        shown = lambda name, value: f"{value:.1%}" if name.endswith(("rate", "share")) else value
        return [name.replace("_", " ") for name in names], [
            [shown(name, getattr(stage, name)) for name in names] for stage in self.stages
        ]


Check = Callable[[list[Record]], Iterable[Verdict]]


def grow(
    make: Make,
    plan: Plan,
    *,
    rows: int,
    most: int = 0,
    client: Client,
    out: str | os.PathLike[str],
    check: Check,
    gates: Gates | None = Gates(),
    budget: Budget | None = None,
    options: Options = Options(),  # noqa: B008  frozen
) -> Growth:
    """Return `rows` accepted records, or fewer and why: the plan's end, a gate, a budget, a stopped run.

    A record is accepted when it fails none of the verdicts that `check` gives over all records so far; those beyond the
    rows asked, or beyond `most` where that is more, are marked, not dropped. Running again goes on from what is in `out`; `gates=None` asks no questions."""
    if rows < 1:
        raise InputError(f"rows must be 1 or more, got {rows}.")
    stages: list[Stage] = []
    accepted: list[Record] = []
    verdicts: list[Verdict] = []
    taken, why, is_plan_over, run = 0, "", False, None
    for target in [*(stage for stage in STAGES if stage < rows), rows]:
        stage = None
        while len(accepted) < target and not why:
            share = max(0.05, len(accepted) / taken) if taken else 0.9
            wanted = taken + math.ceil(1.05 * (target - len(accepted)) / share)
            # Rates are judged after every helping, and fall where rows repeat each other: so it at most doubles what was asked.
            wanted = min(wanted, 2 * max(taken, target))
            wanted = wanted if plan.total is None else min(plan.total, wanted)
            if wanted == taken:
                is_plan_over = True
                why = f"The plan ended after {taken:,} tasks with {len(accepted):,} rows accepted. Give more documents, personas, or questions a passage."
                break
            before, taken = (taken, len(accepted)), wanted
            run = runner.run(make, plan.first(taken), client=client, out=out, budget=budget, options=options)
            verdicts = list(check(run.records))
            # What people or other checks marked in this folder counts too.
            own = {verdict.check for verdict in verdicts} | {"rows", *run.info.get("jobs", {}).get("grow", ())}
            accepted = kept(
                run.records, [*verdicts, *(verdict for verdict in run.verdicts if verdict.check not in own)]
            )
            stage = replace(
                _measure(run, verdicts, target, len(accepted)),
                last_tasks=run.tasks - before[0], last_accepted=len(accepted) - before[1],
            )  # fmt: skip
            # Judged after every helping, not only at the stage's end: a stage that cannot fill up would empty the plan.
            is_last = target == rows and len(accepted) >= rows
            why = run.stopped or ("" if is_last or gates is None else _why_not(stage, stages, gates))
        if stage is not None:
            stages.append(stage)
        if why:
            break
    if run is None:
        raise InputError("the plan has no task. Give documents with longer text.")
    most = max(rows, most)
    beyond = [
        Verdict(record.id, "rows", False, reason=BEYOND, detail=f"{most:,} rows were asked for")
        for record in accepted[most:]
    ]
    run.mark(verdicts, beyond, job="grow")
    return Growth(run, accepted[:most], tuple(stages), rows, why, is_plan_over)


def _why_not(stage: Stage, before: list[Stage], gates: Gates) -> str:
    """Why the next stage must not begin, in words; empty when it may."""
    if not (broken := stage.broken(gates)):
        return ""
    last = f" Before, at {before[-1].made:,} rows: {_rates(before[-1])}." if before else ""
    return f"Stopped in the stage of {stage.target:,}: {'; '.join(broken)}.{last} Look at the failures and samples, and mend the prompt or the model; gates=None (--no-gates) goes on regardless."


def _measure(run: Run, verdicts: Iterable[Verdict], target: int, accepted: int) -> Stage:
    losses, made = run.losses, run.record_count
    evidenced = made + losses["evidence"]
    duplicates = (
        Counter(verdict.reason for verdict in verdicts if not verdict.passed)["duplicate"]
        + made
        - len(by_id(run.records))
    )
    asked = [record for record in run.records if isinstance(record, QA)] or run.records
    openings = opening_table(asked).slice(0, 1).to_pylist() or [{"opening": "", "share": 0.0}]
    return Stage(
        target, run.tasks, made, accepted,
        parse_rate=parse_rate(run),
        evidence_rate=made / evidenced if evidenced else 0.0,
        duplicate_rate=duplicates / made if made else 0.0,
        opening_share=openings[0]["share"],
        opening=openings[0]["opening"],
    )  # fmt: skip


def parse_rate(run: Run) -> float:
    """Return the share of a run's answers that could be read, 0 to 1; 0 where nothing was answered."""
    losses = run.losses
    answered = run.record_count + sum(count for reason, count in losses.items() if reason not in runner._NO_ANSWER)
    return 1 - losses["parse"] / answered if answered else 0.0


def _rates(stage: Stage) -> str:
    return f"parse {stage.parse_rate:.0%}, evidence {stage.evidence_rate:.0%}, duplicates {stage.duplicate_rate:.0%}, commonest opening {stage.opening_share:.0%}"


# --- estimate -------------------------------------------------------------------------------------------------------

Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Estimate:
    """What a run will take, from a pilot: (low, middle, high) of 95% bootstrap intervals, for `tasks` tasks.

    `cost` is in US dollars, None where no price is known; `yield_share` is the share of pilot tasks that gave a record."""

    tasks: int
    pilot_tasks: int
    tokens: Interval
    cost: Interval | None
    yield_share: float

    def for_rows(self, rows: int) -> "Estimate":
        """Return the estimate for as many tasks as `rows` records take at the pilot's yield."""
        tasks = -(-rows // self.yield_share) if self.yield_share else self.tasks
        scaled = lambda values: tuple(value * tasks / self.tasks for value in values)
        return replace(
            self, tasks=int(tasks), tokens=scaled(self.tokens), cost=scaled(self.cost) if self.cost else None
        )

    def __repr__(self) -> str:
        low, middle, high = self.tokens
        money = (
            "cost unknown (no price)"
            if self.cost is None
            else f"${self.cost[1]:.2f} (${self.cost[0]:.2f} to ${self.cost[2]:.2f})"
        )
        return f"{self.tasks:,} tasks: {money}, {middle:,.0f} tokens ({low:,.0f} to {high:,.0f}); {self.yield_share:.0%} of a pilot of {self.pilot_tasks} gave a record"


def estimate(
    make: Make,
    tasks: Plan,
    *,
    client: Client,
    out: str | os.PathLike[str],
    pilot: int = 20,
    budget: Budget | None = None,
) -> Estimate:
    """Return what all of `tasks` will take, judged by the first `pilot` of them, which are run into `out`.

    The pilot's answers are in the client's ledger afterwards, so the run itself does not pay for them again. Raises
    RunError when not one pilot task was answered."""
    import numpy as np

    total = tasks.total if tasks.total is not None else sum(1 for _ in tasks)
    result = runner.run(make, tasks.first(pilot), client=client, out=out, budget=budget)
    ledger = result._open_ledger()
    asked = [
        outcome.requests if isinstance(outcome, Failure) else outcome.provenance.requests
        for outcome in (*result.records, *result.failures)
    ]
    accounts = [ledger.account(keys) for keys in asked]
    if not any(asked):
        raise RunError(f"the pilot got no answer, so there is nothing to estimate from.\n{result!r}")
    draws = np.random.default_rng(0).integers(0, len(accounts), (2000, len(accounts)))

    def whole(per_task: list[float]) -> Interval:
        low, middle, high = np.quantile(np.array(per_task)[draws].mean(axis=1) * total, [0.025, 0.5, 0.975])
        return float(low), float(middle), float(high)

    tokens = whole([account["tokens"] for account in accounts])
    is_priced = all(account["cost"] is not None for account in accounts)
    cost = whole([account["cost"] for account in accounts]) if is_priced else None
    return Estimate(total, len(accounts), tokens, cost, result.record_count / len(accounts))
