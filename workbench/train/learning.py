"""What more rows buy: models trained on 10, 100, 500 and 1,000 rows of a set, with gates between.

    found = learning.curve(pairs, out="data/runs/curve", plan=Plan(method="dpo"))
    found                       # from which size on it gains, what each step bought, where that cannot be told from nothing
    gates = Gates(failures=run, judge_score=3.5, scores=scores)       # and go on only while the rows stay as good
    learning.curve(pairs, out=..., stages=Stages(sizes=(10, 100), gates=gates))

At each size the rows and a control by lot (shuffled labels; of instructions mismatched answers) are trained with the same
seeds and measured on the same held-out rows. Each seed draws an order of the rows, of which any beginning holds about the
same share of every group (systematic sampling), and every size takes the first rows of it: the first 10 are among the first
100. As the seeds draw apart, intervals are for other rows of the same pool too, and not for these 10 alone.

What a size is better by is against its own control and against the untouched base. From which size on that is shown is
asked from the largest one down and ends at the first that fails, so that several sizes need no correction (a fixed sequence
of tests: Maurer, Hothorn and Lehmacher 1995; Westfall and Krishen 2001, doi:10.1016/S0378-3758(01)00077-5). What the steps
between sizes bought are estimates, each with an interval at the plan's level, paired by seed and held-out row. That such an
interval holds zero shows no end of the curve; its upper end says what may have been bought at most.

Where a size takes a large part of the rows, the seeds share them, and their luck with the data. How far such luck moves a
model is seen in the controls, whose labels are dealt out anew under each seed; gains count it in, as `verdicts` does, by the
part that two seeds share. So 94 to 97% of intervals called 95% held the truth in simulation, with 3 seeds at 1 to 100% of
the rows; counted in whole, 95 to 100%, and not at all, 5% where all rows are taken. Between two sizes of one seed luck is
nearly the same, and 92 to 95% held the truth without (tests/test_learning.py measures some of it)."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workbench import _html, experiments, intervals, store
from workbench._background import progress_bar
from workbench.errors import InputError, RunError
from workbench.experiments import Experiment, is_lower_better
from workbench.intervals import Interval
from workbench.quality import dedup
from workbench.quality.calibration import Calibration
from workbench.records import Record, content_hash
from workbench.runs import Run
from workbench.stages import parse_rate
from workbench.train import _machine, arms, filing, measuring, splits, trl_runs, verdicts
from workbench.train.bases import TINY, Base, load
from workbench.train.controls import Arm
from workbench.train.plans import PAIR_METRICS, Measures, Plan
from workbench.train.verdicts import BASE

LIMITS = ("parse_rate", "duplicate_rate", "judge_score", "agreement")
_EQUAL = ("steps", "epochs")
_LEAST = 2  # rows: a control exchanges something


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What must hold of the rows that come next, or nothing is trained on them; a limit of None asks nothing.

    `parse_rate`, at least, is the share of answers that could be read, as `failures` tells: the run that the rows are from,
    or the number of answers that could not be read. It is the whole run's at every size. `duplicate_rate`, at most, is the
    share of the next rows that repeat others (`dedup.minhash`): a row before them, or one of their own. `judge_score`, at
    least, is the mean of their `scores`, by record id; both are over the orders of all seeds. `agreement`, at least, is the
    low end of the judge's kappa with people in a `calibration`. What is not known is let through, and said. `force` goes on
    all the same, and the result says so."""

    parse_rate: float | None = 0.9
    duplicate_rate: float | None = 0.2
    judge_score: float | None = None
    agreement: float | None = None
    failures: Run | int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None
    force: bool = False

    def __post_init__(self):
        for name in ("parse_rate", "duplicate_rate"):
            if (limit := getattr(self, name)) is not None and not 0 <= limit <= 1:
                raise InputError(f"{name} is a share from 0 to 1, got {limit}.")
        if isinstance(self.failures, int) and self.failures < 0:
            raise InputError(f"failures are a run, or how many answers could not be read, got {self.failures}.")
        if self.judge_score is not None and not self.scores:
            raise InputError(
                "judge_score has nothing to be held against. Give scores= by record id, or leave the gate out."
            )
        if self.agreement is not None and (self.calibration is None or self.calibration.kappa is None):
            why = "there is no calibration" if self.calibration is None else "this calibration has no kappa"
            raise InputError(f"agreement has nothing to be held against: {why}. Give another, or leave the gate out.")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that there are, by name."""
        return {name: limit for name in LIMITS if (limit := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The sizes, in rows, and what is equal between them.

    With `equal="steps"` small sets repeat their rows until they have had about as many steps as the largest one has in the
    plan's epochs, so that sizes differ in rows and not in training. With "epochs" each row is seen as often at every size,
    and a small set has few steps: 10 rows have one an epoch."""

    sizes: tuple[int, ...] = (10, 100, 500, 1000)
    equal: str = "steps"
    gates: Gates = Gates()

    def __post_init__(self):
        sizes = self.sizes
        if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < _LEAST for size in sizes):
            raise InputError(f"sizes are whole numbers of rows, {_LEAST} or more, got {sizes!r}.")
        if any(after <= before for before, after in itertools.pairwise(sizes)):
            raise InputError(f"sizes must rise, got {sizes!r}.")
        if self.equal not in _EQUAL:
            raise InputError(f"equal is {' or '.join(map(repr, _EQUAL))}, got {self.equal!r}.")


@dataclass(frozen=True)
class Look:
    """What was seen of the rows of one size before they were trained on: `new` of its `rows` were in no smaller size.

    Rates are from 0 to 1, over the orders of all seeds; None is not known. A share `judged` of the new rows has a score.
    `broken` says which gates did not hold."""

    rows: int
    new: int
    parse_rate: float | None
    duplicate_rate: float
    judge_score: float | None
    judged: float
    agreement: float | None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """What so many `rows` gave by the primary metric: the mean `value`, that of their `control`, and each seed's.

    Signed so that more is better are `gain`, over the control; `over_base`, over the untouched base; and `bought`, over the
    size before, None at the first. `rows` were seen `epochs` times."""

    rows: int
    epochs: int
    value: Interval
    control: Interval
    seeds: tuple[float, ...]
    control_seeds: tuple[float, ...]
    gain: Interval
    over_base: Interval
    bought: Interval | None

    @property
    def is_shown(self) -> bool:
        """True where the rows are shown to be better than their control and than the untouched base."""
        return self.gain.low > 0 and self.over_base.low > 0


@dataclass(frozen=True, repr=False)
class Curve:
    """What more rows bought: a point a size, what the gates saw, every measurement, and the experiment as it is filed.

    `base` is what the untouched base scores. Sizes that a gate kept out have a look, and no point."""

    folder: Path
    experiment: Experiment
    points: tuple[Point, ...]
    looks: tuple[Look, ...]
    base: float
    items: pa.Table = field(compare=False)

    @property
    def primary(self) -> str:
        """The metric that decides."""
        return self.experiment.settings["primary_metric"]

    @property
    def control(self) -> str:
        """The name of the control at each size."""
        return _control(self.experiment.settings["method"])

    @property
    def is_offline(self) -> bool:
        """True where rows came from the offline writer, so that figures made of this say it."""
        return self.experiment.is_offline

    @property
    def seeds(self) -> int:
        return self.experiment.settings["plan"]["seeds"]

    @property
    def limits(self) -> Mapping[str, float]:
        """The gates' limits, by name."""
        return self.experiment.settings["limits"]

    @property
    def stopped(self) -> str:
        """Which gate kept the next rows out, and why; "" where all sizes were trained."""
        return self.experiment.stopped

    @property
    def forced(self) -> tuple[str, ...]:
        """What was gone on with though a gate did not hold."""
        return tuple(
            f"went on to {look.rows:,} rows by force: {'; '.join(look.broken)}"
            for look in self.looks
            if look.broken and look.rows in self._trained
        )

    @property
    def left_out(self) -> str:
        """Which sizes there are too few rows for; "" where none."""
        settings = self.experiment.settings
        if not (sizes := settings["sizes_left_out"]):
            return ""
        return f"{_listed([f'{size:,}' for size in sizes])} rows are left out: {settings['available']:,} are left to train on"

    @property
    def _trained(self) -> set[int]:
        return {point.rows for point in self.points}

    @property
    def shown_from(self) -> int | None:
        """The smallest size from which on every size is shown to gain over its control and the untouched base, or None."""
        shown = itertools.takewhile(lambda point: point.is_shown, reversed(self.points))
        return min((point.rows for point in shown), default=None)

    @property
    def flat_from(self) -> int | None:
        """The smallest size from which on no step is shown to have changed anything; None where the last one did."""
        flat = itertools.takewhile(lambda pair: not pair[1].bought.excludes_zero, reversed(self._steps))
        return min((before.rows for before, _ in flat), default=None)

    @property
    def _steps(self) -> list[tuple[Point, Point]]:
        return list(itertools.pairwise(self.points))

    @cached_property
    def sentence(self) -> str:
        """The result in words: from which size on a gain is shown, what each step bought, where that is nothing to tell."""
        if not self.points:
            return "No size was trained."
        return " ".join(part for part in (self._gained(), self._harmed(), self._bought(), self._flat()) if part)

    def _gained(self) -> str:
        last, by = self.points[-1], f"By {self.primary}{_falling(self.primary)}"
        over = f"its control ({self.control})"
        if (size := self.shown_from) is None:
            of = "the untouched base" if last.gain.low > 0 else over
            gain = last.over_base if last.gain.low > 0 else last.gain
            return f"{by}, no gain over {of} is shown at {last.rows:,} rows, {_signed(gain)}."
        if size == last.rows:
            alone = " alone" if len(self.points) > 1 else ""
            return f"{by}, a gain over {over} and the untouched base is shown at {size:,} rows{alone}, {_signed(last.gain)}."
        gains = [f"{_signed(point.gain)} at {point.rows:,}" for point in self.points if point.rows >= size]
        return f"{by}, a gain over {over} and the untouched base is shown from {size:,} rows on: {_listed(gains)}."

    def _harmed(self) -> str:
        worse = [
            f"{point.rows:,} rows, {_signed(point.over_base)}" for point in self.points if point.over_base.high < 0
        ]
        return f"Worse than the untouched base: {'; '.join(worse)}." if worse else ""

    def _bought(self) -> str:
        said = []
        for before, after in self._steps:
            told = (
                ", which cannot be told from nothing"
                if not after.bought.excludes_zero
                else ", for the worse"
                if after.bought.high < 0
                else ""
            )
            said.append(f"{before.rows:,} to {after.rows:,} rows bought {_signed(after.bought)}{told}")
        return f"{'; '.join(said)}." if said else ""

    def _flat(self) -> str:
        last = self.points[-1]
        if len(self.points) == 1:
            return ""
        if self.flat_from is not None:
            return f"From {self.flat_from:,} rows on, more rows are not shown to buy anything."
        return f"At {last.rows:,} rows it still {'gains' if last.bought.low > 0 else 'loses'} by more rows."

    def table(self) -> pa.Table:
        """Return a row a size: rows, epochs, n, and value, control, gain, over_base, bought, each with its low and high end."""
        named = ("value", "control", "gain", "over_base", "bought")
        return pa.Table.from_pylist([
            {"rows": point.rows, "epochs": point.epochs, "n": point.value.n, "seeds": len(point.seeds)}
            | {name + end: found and getattr(found, part) for name in named for found in [getattr(point, name)]
               for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))}
            for point in self.points
        ], schema=_POINTS)  # fmt: skip

    @property
    def gates(self) -> pa.Table:
        """What the gates saw, a row a size that was looked at: the fields of `Look`, and whether it was trained."""
        rows = [asdict(look) | {"is_trained": look.rows in self._trained} for look in self.looks]
        return pa.Table.from_pylist(rows, schema=_LOOKS)

    # --- shown ---

    @property
    def _about(self) -> str:
        settings = self.experiment.settings
        held = settings["held_out"]
        return (
            f"{self.experiment.name}; {self.seeds} seeds; {held['rows']:,} held-out rows of {held['groups']:,} groups; "
            f"equal {settings['equal']} at every size; untouched base {self.base:.3f}"
        )

    @property
    def _warnings(self) -> list[str]:
        left_out = f"{self.left_out}." if self.left_out else ""
        said = [self.stopped, *self.forced, left_out]
        return [f"{each[0].upper()}{each[1:]}" for each in said if each]

    def _tables(self) -> list[tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
        shown = lambda found: f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
        points = [
            (point.rows, point.epochs, shown(point.value), shown(point.control), _signed(point.gain), _signed(point.over_base),
             "" if point.bought is None else _signed(point.bought))
            for point in self.points
        ]  # fmt: skip
        rate = lambda value: "not known" if value is None else _percent(value)
        looks = [
            (look.rows, look.new, rate(look.parse_rate), rate(look.duplicate_rate), *(_number(value) for value in (look.judge_score, look.agreement)),
             "; ".join(look.broken) or "held")
            for look in self.looks
        ]  # fmt: skip
        names = (
            "rows", "times seen", self.primary, self.control, "better than its control by", "than the base by", "than the size before by",
        )  # fmt: skip
        gates = ("rows", "new", "parse rate", "duplicate rate", "judge score", "agreement (kappa, low end)", "gates")
        return [(names, points), (gates, looks)]

    def __repr__(self) -> str:
        tables = [_html.text_table(names, rows) for names, rows in self._tables() if rows]
        return "\n".join([self.sentence, *self._warnings, self._about, *tables])

    def _repr_html_(self) -> str:
        tables = "".join(_html.html_table(names, rows) for names, rows in self._tables() if rows)
        offline = ["The rows were written by the offline rules, not by a model."] if self.is_offline else []
        said = f"<div>{_html.escaped(self.sentence, 4000)}</div>"
        return _html.card(
            "What more rows buy", self._about, said + tables, warning="\n".join([*offline, *self._warnings])
        )


_POINTS = pa.schema([
    ("rows", pa.int64()), ("epochs", pa.int64()), ("n", pa.int64()), ("seeds", pa.int64()),
    *((name + end, pa.float64()) for name in ("value", "control", "gain", "over_base", "bought") for end in ("", "_low", "_high")),
])  # fmt: skip
_LOOKS = pa.schema([
    ("rows", pa.int64()), ("new", pa.int64()), ("parse_rate", pa.float64()), ("duplicate_rate", pa.float64()), ("judge_score", pa.float64()),
    ("judged", pa.float64()), ("agreement", pa.float64()), ("broken", pa.list_(pa.string())), ("is_trained", pa.bool_()),
])  # fmt: skip


def curve(
    rows: Sequence[Record],
    *,
    out: str | os.PathLike[str],
    base: str | os.PathLike[str] | Base = TINY,
    plan: Plan = Plan(),  # noqa: B008  frozen
    stages: Stages = Stages(),
    held_out: Sequence[Record] = (),
) -> Curve:
    """Return what more of these rows buy, by fine-tunes of `base` on each size and on its control.

    `rows` and `held_out` are as `compare.run` takes them, of one set; of the plan's controls the one by lot alone is trained.
    Sizes beyond what is left after holding out are left out, and said. Before a size is trained its new rows are looked at;
    where a gate does not hold, the curve ends there, and `stopped` says why. Nothing is lost: the same call goes on, with
    `force` or with other gates too; all else must be as the folder was begun.

    Raises InputError for rows that cannot be used, fewer than 2 seeds, held-out rows of fewer than 10 groups, and as
    `compare.run` does; RunError where a training fails; Stopped at the stop button."""
    base = base if isinstance(base, Base) else load(base)
    pool = _Pool.of(rows, base, plan, stages, held_out)
    with _machine.held(out) as out:
        begun = _begin(out, pool, base)
        tables, seen, looks = [measuring.measured_base(out, pool.prepared, base, Measures())], [], []
        stopped, before = "", 0
        with progress_bar(begun.name, 2 * plan.seeds * len(pool.sizes), "trainings") as bar:
            for size in pool.sizes:
                parsed = _parsed(stages.gates, len(rows))
                looks.append(_look([order[:size] for order in pool.given], before, stages.gates, parsed=parsed))
                if looks[-1].broken and not stages.gates.force:
                    stopped = f"stopped before {size:,} rows: {'; '.join(looks[-1].broken)}"
                    break
                for seed, arm in pool.arms[size]:
                    if bar is not None:
                        bar.set_postfix_str(f"{arm.name}, seed {seed}")
                    folder, settings = arms.arm_folder(out, arm.name, seed), pool.settings(size)
                    trained = trl_runs.METHODS[plan.method](
                        arm.rows, out=folder, base=base, settings=settings, seed=seed
                    )
                    epochs = trained.settings["epochs"]
                    arms.check_equal(arm, trained.rows / epochs, trained.tokens / epochs, pool.of_size(size, seed))
                    tables.append(measuring.measured(folder, trained, arm.name, pool.prepared, base, Measures()))
                    seen.append(trained)
                    if bar is not None:
                        bar.update()
                before = size
        items = filing.written(out, tables)
        about = {"gates": [asdict(look) for look in looks], "limits": stages.gates.limits}
        done = filing.scored(replace(begun, records=before), items, seen, about)
        found = _curve(out, replace(done, stopped=stopped), items)
        done = replace(found.experiment, settings={**found.experiment.settings, "reason": found.sentence})
        experiments.write(out, done)
        return replace(found, experiment=done)


def read(folder: str | os.PathLike[str]) -> Curve:
    """Return the curve in this folder, which is done or was stopped by a gate. Raises StoreError where there is none,
    RunError for one that is not done and for another experiment."""
    experiment = experiments.read(folder)
    if "sizes" not in experiment.settings:
        raise RunError(f"{folder} holds a {experiment.kind}, and no learning curve.")
    if experiment.status == "unfinished":
        raise RunError(f"the curve in {folder} is unfinished. The call that began it goes on with it.")
    return _curve(Path(folder), experiment, store.read_table(Path(folder) / filing.ITEMS))


# --- rows of each size ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pool:
    """The rows in the order in which each seed takes them, as they are trained on and as they were `given`; what is held out;
    and every arm, drawn before anything is trained: `arms` has (seed, arm) by size."""

    prepared: arms.Prepared
    orders: tuple[tuple[Record, ...], ...]
    given: tuple[tuple[Record, ...], ...]
    sizes: tuple[int, ...]
    plan: Plan
    stages: Stages
    arms: Mapping[int, list[tuple[int, Arm]]]

    @classmethod
    def of(cls, rows: Sequence[Record], base: Base, plan: Plan, stages: Stages, held_out: Sequence[Record]) -> "_Pool":
        """Raises InputError where these rows cannot make a curve."""
        of_reward = tuple(metric for metric in PAIR_METRICS if metric != "likelier")
        known = {"sft": ("loss",), "reward": of_reward}.get(plan.method, PAIR_METRICS)
        if plan.metric not in known:
            raise InputError(f"{plan.metric!r} is not measured of {plan.method}; there are {', '.join(known)}.")
        if plan.seeds < 2:
            raise InputError("one seed shows nothing about other seeds. Train with 2 at least; 3 are usual.")
        if stages.gates.judge_score is not None and not any(row.id in stages.gates.scores for row in rows):
            raise InputError("none of the scores is of one of these rows. Give them by the rows' ids.")
        prepared = arms.apart(rows, base, plan, held_out)
        if (groups := len(set(prepared.groups))) < intervals.FEW:
            raise InputError(
                f"the held-out rows are of {groups} groups, and intervals need {intervals.FEW}. Hold out more, or rows of more documents or prompts."
            )
        left = prepared.treatments["all"]
        if not (sizes := tuple(size for size in stages.sizes if size <= len(left))):
            raise InputError(
                f"{len(left):,} rows are left to train on, and the smallest size is {stages.sizes[0]:,}. Give more rows, hold out fewer, or ask for a smaller one."
            )
        as_given = {trained.id: row for row, trained in zip(rows, arms.as_trained(rows), strict=True)}
        groups_of = splits.groups([as_given[row.id] for row in left], among=[*rows, *held_out])
        orders = tuple(_ordered(left, groups_of, seeds=(plan.split_seed, seed)) for seed in range(plan.seeds))
        given = tuple(tuple(as_given[row.id] for row in order) for order in orders)
        pool = cls(replace(prepared, controls=(_control(plan.method),)), orders, given, sizes, plan, stages, {})
        return replace(pool, arms={size: pool._drawn(size) for size in sizes})

    def of_size(self, size: int, seed: int) -> arms.Prepared:
        return replace(self.prepared, treatments={_arm(size): self.orders[seed][:size]})

    def _drawn(self, size: int) -> list[tuple[int, Arm]]:
        arms = [(seed, arm) for seed in range(self.plan.seeds) for arm in self.of_size(size, seed).arms(seed)]
        of_size = lambda arm: replace(arm, name=_arm(size, arm.name)) if arm.is_control else arm
        return [(seed, of_size(arm)) for seed, arm in arms]

    def settings(self, size: int) -> trl_runs.Settings:
        """The plan's, with the epochs of this size."""
        settings = self.plan.settings
        if self.stages.equal == "epochs":
            return settings
        steps, most = (math.ceil(rows / settings.batch_size) for rows in (size, self.sizes[-1]))
        return replace(settings, epochs=max(1, round(settings.epochs * most / steps)))


def _ordered(rows: Sequence[Record], groups: Sequence[str], *, seeds: Sequence[int]) -> tuple[Record, ...]:
    """The rows in an order of which every beginning has about the same share of each group, whatever order they came in."""
    draw, members = np.random.default_rng([*seeds, *b"learning curve"]), {}
    by_id = sorted(range(len(rows)), key=lambda at: rows[at].id)
    for at in draw.permutation(by_id).tolist():
        members.setdefault(groups[at], []).append(at)
    # Systematic sampling: a group's rows at equal distances, from a random start.
    place = {}
    for own in members.values():
        start = draw.random()
        place |= {at: (nth + start) / len(own) for nth, at in enumerate(own)}
    return tuple(rows[at] for at in sorted(place, key=place.__getitem__))


def _arm(size: int, control: str = "") -> str:
    return f"{size} rows, {control}" if control else f"{size} rows"


def _control(method: str) -> str:
    return verdicts.MISMATCHED if method == "sft" else verdicts.SHUFFLED


# --- gates ------------------------------------------------------------------------------------------------------------


def _parsed(gates: Gates, rows: int) -> float | None:
    """The share of answers that could be read, where `rows` are those that came of them; None where it is not known."""
    if isinstance(gates.failures, int):
        return rows / (rows + gates.failures)
    return gates.failures and parse_rate(gates.failures)


def _look(orders: Sequence[Sequence[Record]], before: int, gates: Gates, *, parsed: float | None = None) -> Look:
    """What is seen of the rows from place `before` on, in the order of each seed."""
    new = [row for rows in orders for row in rows[before:]]
    scores = [gates.scores[row.id] for row in new if row.id in gates.scores]
    kappa = gates.calibration and gates.calibration.kappa
    look = Look(
        rows=len(orders[0]),
        new=len(orders[0]) - before,
        parse_rate=parsed,
        duplicate_rate=sum(_repeats(rows, before) for rows in orders) / len(new),
        judge_score=sum(scores) / len(scores) if scores else None,
        judged=len(scores) / len(new),
        agreement=kappa.low if kappa else None,
    )
    return replace(look, broken=tuple(_broken(look, gates)))


def _repeats(rows: Sequence[Record], before: int) -> int:
    """How many rows from place `before` on repeat another one that comes first."""
    survivors = {verdict.record_id for verdict in dedup.minhash(rows) if verdict.passed}
    seen, repeats = {row.id for row in rows[:before]}, 0
    for row in rows[before:]:
        repeats += row.id in seen or row.id not in survivors
        seen.add(row.id)
    return repeats


def _broken(look: Look, gates: Gates) -> list[str]:
    """Which gates do not hold, in words."""
    which = f"the {'next' if look.new < look.rows else 'first'} {look.new:,} rows"
    said = []
    if _is_below(look.parse_rate, gates.parse_rate):
        said.append(
            f"{_percent(look.parse_rate)} of the answers could be read, {_percent(gates.parse_rate)} are wanted"
        )
    if _is_below(gates.duplicate_rate, look.duplicate_rate):
        said.append(
            f"{_percent(look.duplicate_rate)} of {which} repeat others, {_percent(gates.duplicate_rate)} allowed"
        )
    if _is_below(look.judge_score, gates.judge_score):
        said.append(f"{which} are scored {look.judge_score:.3g} on average, {gates.judge_score:.3g} is wanted")
    if _is_below(look.agreement, gates.agreement):
        said.append(
            f"the judge's kappa with people may be as low as {look.agreement:.2f}, {gates.agreement:.2f} is wanted"
        )
    return said


def _is_below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


# --- the experiment ---------------------------------------------------------------------------------------------------


def _begin(out: Path, pool: _Pool, base: Base) -> Experiment:
    """Write down what was decided, the gates apart, which may change; keep to what is there."""
    plan, prepared = pool.plan, pool.prepared
    made = [row.provenance for order in pool.orders for row in order[: pool.sizes[-1]]]
    drawn = {_arm(size): [[row.id for row in order[:size]] for order in pool.orders] for size in reversed(pool.sizes)}
    registered = {
        "primary_metric": plan.metric, "method": plan.method, "base": {"name": base.name, "sha256": base.sha256},
        "plan": {**asdict(plan), "settings": asdict(trl_runs.with_rate(plan.settings, plan.method, base))},
        "sizes": list(pool.sizes), "sizes_left_out": [size for size in pool.stages.sizes if size not in pool.sizes],
        "available": len(prepared.treatments["all"]), "equal": pool.stages.equal,
        "epochs": {str(size): pool.settings(size).epochs for size in pool.sizes}, "treatments": list(drawn),
        "arms": [BASE, *(_arm(size, of) for size in pool.sizes for of in ("", *prepared.controls))],
        "data": {**{name: content_hash(ids) for name, ids in drawn.items()},
                 "held_out": content_hash([row.id for row in prepared.held_out])},
        "held_out": {"rows": len(prepared.held_out), "groups": len(set(prepared.groups))}, "left_out": dict(prepared.left_out),
    }  # fmt: skip
    begun = Experiment(
        id=content_hash([registered, str(out.resolve())]), kind=experiments.TRAINING, name=f"learning curve of {base.name} by {plan.method}",
        started=datetime.now(UTC).isoformat(timespec="seconds"), stopped="unfinished", model=base.name,
        prompts=sorted({each.prompt for each in made if each.prompt}), is_offline=any(each.is_offline for each in made),
        settings=registered, folder=out,
    )  # fmt: skip
    return filing.begun_in(out, begun, prepared.held_out)


def _curve(folder: Path, experiment: Experiment, items: pa.Table) -> Curve:
    settings = experiment.settings
    looks = tuple(Look(**{**look, "broken": tuple(look["broken"])}) for look in settings["gates"])
    sizes = [size for size in settings["sizes"] if _arm(size) in set(items["arm"].to_pylist())]
    points = _points(items, sizes, settings)
    base = next(row["value"] for row in measuring.by_arm(items, settings["primary_metric"], ()) if row["arm"] == BASE)
    return Curve(folder, experiment, points, looks, base, items)


def _points(items: pa.Table, sizes: Sequence[int], settings: Mapping[str, Any]) -> tuple[Point, ...]:
    """A point a size; differences are by the same seed on the same held-out row."""
    primary, level, control = settings["primary_metric"], settings["plan"]["level"], _control(settings["method"])
    measured = verdicts._Measured(items)
    groups = measured.groups[primary]
    sign = -1 if is_lower_better(primary) else 1
    between = lambda values, draws=(): intervals.crossed(values, groups=groups, level=level, draws=draws)
    points, before = [], None
    for size in sizes:
        ours, theirs = (measured.values[_arm(size, of), primary] for of in ("", control))
        by_lot = _shared(theirs.mean(axis=1), size / settings["available"])
        points.append(Point(
            rows=size, epochs=settings["epochs"][str(size)], value=between(sign * ours), control=between(sign * theirs),
            seeds=tuple((sign * ours.mean(axis=1)).tolist()), control_seeds=tuple((sign * theirs.mean(axis=1)).tolist()),
            gain=between(ours - theirs, by_lot), over_base=between(ours - measured.values[BASE, primary], by_lot),
            bought=None if before is None else between(ours - before),
        ))  # fmt: skip
        before = ours
    return tuple(points)


def _shared(means: np.ndarray, share: float) -> np.ndarray:
    """The means with a `share` of their variance: of rows drawn from a pool, two draws have as large a share in common."""
    return means * math.sqrt(share)


# --- words ------------------------------------------------------------------------------------------------------------


def _signed(found: Interval) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"


def _falling(metric: str) -> str:
    return ", where a gain is a fall" if is_lower_better(metric) else ""


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
