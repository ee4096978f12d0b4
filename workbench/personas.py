"""A population: N different personas, from texts and then, round by round, from the people around them.

    found = personas.grow("data/documents", out="data/runs/people", client=client, settings=personas.Settings(rows=200))
    found                                    # its rounds: asked, made, near-duplicates, accepted, and the rate of acceptance
    found.records, found.explain(found.records[-1])
    plots.saturation(found)

Round 0 asks who would read, write, practise or criticise the texts; every later round asks for people in a named relation
to those whom the round before brought (Ge et al. 2024, arXiv:2406.20094: up to six rounds). What repeats somebody is left
out as it comes, and more is asked for instead, until N are there or nobody new comes. Who was accepted in an earlier round
stays: its children may be there already."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from workbench import _html, embed, prompts, runner, runs, stages, store
from workbench.corpus import Corpus
from workbench.errors import InputError
from workbench.llm import Budget, Client, Ledger
from workbench.quality import dedup, metrics, rules
from workbench.quality.checks import language_chances
from workbench.recipes import persona
from workbench.records import Document, Persona, Record, Verdict, kept
from workbench.runs import Run

GATES = stages.Gates(min_evidence_rate=0, max_duplicate_rate=1.0, max_opening_share=0.5, min_accept_rate=0.02)
ROUNDS = 6  # six degrees
GRAINS = ("passages", "documents", "both")
MOST_A_TEXT = 20  # people asked of one text: past that, it has nobody new to tell of


@dataclass(frozen=True)
class Settings:
    """What to grow: `rows` accepted personas, of which `first` or a few more from texts (by default a quarter, and at least 10;
    all of them without rounds), then `rounds` from people, `each` around everybody, in one of `ties` each.

    `grain` is what a text is: "passages", "documents" (whole), or "both". Two people are one where the Jaccard similarity
    of their words is at least `max_shared` (single words, as Persona Hub has it), or the cosine of their embeddings by
    `model` at least `max_similar`."""

    rows: int = 100
    first: int | None = None
    rounds: int = ROUNDS
    each: int = 2
    ties: tuple[str, ...] = persona.TIES
    grain: str = "passages"
    max_shared: float = 0.9
    max_similar: float = 0.9
    model: str | os.PathLike[str] | embed.Endpoint = embed.HASHING
    languages: tuple[str, ...] = ("en",)
    seed: int = 0
    concurrency: int = 64

    def __post_init__(self):
        for name, lowest in {"rows": 1, "first": 1, "rounds": 0, "each": 1, "concurrency": 1}.items():
            value = getattr(self, name)
            may_be_none = name == "first" and value is None
            if not may_be_none and (not isinstance(value, int) or isinstance(value, bool) or value < lowest):
                raise InputError(f"Settings: {name} is a whole number of at least {lowest}, got {value!r}.")
        if self.rounds > ROUNDS:
            raise InputError(f"rounds must be 0 to {ROUNDS}, got {self.rounds}: past six, everybody knows everybody.")
        persona.check_ties(self.ties)
        if self.grain not in GRAINS:
            raise InputError(f"grain must be one of {', '.join(GRAINS)}, got {self.grain!r}.")


@dataclass(frozen=True)
class Round:
    """One round: tasks asked, personas made, and what of these repeats somebody (`repeats`) or fails another check
    (`marked`); `new` passed, of which `accepted` were still wanted. `total` is everybody accepted so far."""

    number: int
    parents: int
    asked: int
    made: int
    repeats: int
    marked: int
    new: int
    accepted: int
    total: int

    @property
    def rate(self) -> float:
        """The share of tasks that gave somebody new."""
        return self.new / self.asked if self.asked else 0.0


@dataclass(frozen=True, repr=False)
class Population:
    """What came out: the accepted personas in the order they came, the rounds with their runs, and why there are fewer than
    asked for (empty: there are not). `texts` are the documents, or personas, that it began with."""

    records: list[Persona]
    rounds: tuple[Round, ...]
    runs: tuple[Run, ...]
    rows: int
    texts: Sequence[Record]
    file: Path
    why_fewer: str = ""

    @property
    def is_offline(self) -> bool:
        return any(run.is_offline for run in self.runs)

    def curve(self) -> Any:
        """Return the saturation curve as a pyarrow table: round, made, new. A row per persona made, without those that were
        new and no longer wanted; `new` counts who was accepted so far."""
        import pyarrow as pa

        accepted, rounds, new = {record.id for record in self.records}, [], []
        for each, run in zip(self.rounds, self.runs, strict=True):
            surplus = {verdict.record_id for verdict in run.verdicts if verdict.reason == stages.BEYOND}
            for record in run.records:
                if record.id not in surplus:
                    rounds.append(each.number)
                    new.append((new[-1] if new else 0) + (record.id in accepted))
                    accepted.discard(record.id)  # the same record again is nobody new
        made = pa.array(range(1, len(new) + 1), pa.int64())
        return pa.table({"round": pa.array(rounds, pa.int64()), "made": made, "new": pa.array(new, pa.int64())})

    def explain(self, record: Record) -> runs.Explanation:
        """Return where a persona came from: its parents, back to the text, and the ledger."""
        return runs.explain(
            record, self.runs[0], among=[*self.texts, *(one for run in self.runs for one in run.records)]
        )

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Column names and one row a round."""
        columns = ["round", "from", "asked", "made", "repeats", "marked", "new", "accepted", "new of asked", "total"]
        rows = [
            [each.number, f"{each.parents:,} people" if each.number else "texts", each.asked, each.made, each.repeats,
             each.marked, each.new, each.accepted, f"{each.rate:.1%}", each.total]
            for each in self.rounds
        ]  # fmt: skip
        return columns, rows

    @property
    def _title(self) -> str:
        return f"{len(self.records):,} of {self.rows:,} personas in {len(self.rounds):,} rounds"

    def __repr__(self) -> str:
        end = f"\n{self.why_fewer}" if self.why_fewer else ""
        return f"{self._title}\n{_html.text_table(*self.table())}{end}"

    def _repr_html_(self) -> str:
        note = "made by the offline rules, no model" if self.is_offline else ""
        return _html.card(self._title, note, _html.html_table(*self.table()), warning=self.why_fewer)


def grow(
    source: str | os.PathLike[str] | Sequence[Document] | Sequence[Persona],
    *,
    out: str | os.PathLike[str],
    client: Client,
    settings: Settings = Settings(),
    gates: stages.Gates | None = GATES,
    budget: Budget | None = None,
) -> Population:
    """Return `rows` accepted personas grown from documents (a path, or records) or from personas that are there.

    Given personas are parents of round 1, and nobody new may repeat them; they are not among the records. Each round is a
    run in its own folder of `out`, personas.parquet holds who was accepted. Running again goes on. `gates` end a round as
    in `stages.grow`, and all that follow, but for the rate of acceptance: who comes after those of this round may yet be
    new. Raises InputError for documents that cannot be used, and when nobody was accepted."""
    out = Path(out)
    ledger = client if isinstance(client, Ledger) else Ledger(client, out / "ledger.sqlite")
    texts: Sequence[Record] = store.documents(source) if isinstance(source, str | os.PathLike) else list(source)
    given = [each for each in texts if isinstance(each, Persona)]
    if len(given) not in (0, len(texts)):
        raise InputError("the source holds personas and other records. Give documents or personas, one of the two.")
    if odd := next((each for each in texts if not isinstance(each, Document | Persona)), None):
        raise InputError(f"the source is documents or personas, got a {type(odd).__name__}: {str(odd)[:100]!r}.")
    if given and not settings.rounds:
        raise InputError("from personas people come in rounds, and rounds is 0. Give 1 or more, or documents.")
    accepted: list[Persona] = []
    rounds: list[Round] = []
    found: list[Run] = []
    cache = None if settings.model == embed.HASHING else out / "embeddings.sqlite"
    parents, growth = given, None
    for number in range(bool(given), settings.rounds + 1):
        plan = _plan(number, texts, parents, settings)
        left = settings.rows - len(accepted)
        wanted = left if number else _first(settings)
        growth = stages.grow(
            persona.make, plan, rows=wanted, most=left, client=ledger, out=out / f"round-{number}", gates=gates, budget=budget,
            check=check([*given, *accepted], settings, cache=cache), options=runner.Options(concurrency=settings.concurrency),
        )  # fmt: skip
        fresh: list[Persona] = growth.accepted  # type: ignore[assignment]
        accepted = [*accepted, *fresh]
        rounds.append(_counted(number, len(parents) if number else 0, growth, len(accepted)))
        found.append(growth.run)
        parents = fresh
        if len(accepted) >= settings.rows or not fresh or _must_stop(growth, gates):
            break
    file = out / "personas.parquet"
    if not accepted:
        file.unlink(missing_ok=True)  # of an earlier call, whose people these are not
        raise InputError(f"no persona was accepted.\n{found[-1]!r}")
    store.write(accepted, file)
    return Population(
        accepted, tuple(rounds), tuple(found), settings.rows, texts, file, _why_fewer(growth, rounds, settings)
    )


def _plan(number: int, texts: Sequence[Record], parents: Sequence[Persona], settings: Settings) -> runner.Plan:
    if number:
        return persona.relatives(parents, each=settings.each, ties=settings.ties, seed=settings.seed)
    documents: Sequence[Document] = texts  # type: ignore[assignment]
    fine, whole = settings.grain != "documents", settings.grain != "passages"
    parts = ([Corpus.of(documents)] if fine else []) + ([Corpus.whole(documents)] if whole else [])
    corpus = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    return persona.plan(corpus, count=MOST_A_TEXT * len(corpus), seed=settings.seed)


def _must_stop(growth: stages.Growth, gates: stages.Gates | None) -> bool:
    """True for a budget, a stopped run, and a gate other than that of accepted rows, which says that this round is used up."""
    others = gates and replace(gates, min_accept_rate=0)
    return bool(growth.run.stopped or (others and not growth.is_plan_over and growth.stages[-1].broken(others)))


def _first(settings: Settings) -> int:
    if not settings.rounds:
        return min(settings.rows, settings.first or settings.rows)
    return min(settings.rows, settings.first or max(10, math.ceil(settings.rows / 4)))


def check(
    before: Sequence[Persona],
    settings: Settings = Settings(),
    *,
    cache: str | os.PathLike[str] | None = None,
) -> stages.Check:
    """Return the check that a new persona must pass: the rules, no names, and nobody among themselves and those `before`
    who shares nearly all of its words or its meaning. Of people that repeat each other, those before, then the first stay.

    `cache` is that of `embed.texts`: a model that costs time or money reads each text once. Raises InputError for
    a threshold, a model or a language that there is not."""
    used = [prompts.load("persona/from_text@1"), prompts.load("persona/from_person@1")]
    limits = rules.Limits(languages=settings.languages)
    names = metrics.as_check(metrics.no_real_names, name="no_real_names", at_least=0.5)
    by_words = partial(dedup.minhash, threshold=settings.max_shared, ngram=1)
    by_meaning = partial(dedup.similar, threshold=settings.max_similar, model=settings.model, cache=cache)
    language_chances("", settings.languages)
    for search in (by_words, by_meaning):
        search(())  # what cannot be searched by is refused here, before anybody is asked
    there = {record.id for record in before}

    def verdicts(records: Sequence[Record]) -> list[Verdict]:
        if not records:
            return []
        found = [*rules.check(records, limits=limits, prompts=used), *names(records)]
        # The same words of the same parent are the same id, which the searches below know once and would let pass.
        again = there & {record.id for record in records}
        found += [
            Verdict(each, "duplicate", False, 1.0, "duplicate", "was there before", each) for each in sorted(again)
        ]
        # Those that failed a rule are nobody's survivor.
        left = kept(records, found)
        for search in (by_words, by_meaning):
            own = {record.id for record in left}
            more = [verdict for verdict in search([*before, *left]) if verdict.record_id in own]
            found += more
            left = kept(left, more)
        return found

    return verdicts


_REPEATS = {"near_duplicate", "similar", "duplicate"}


def _counted(number: int, parents: int, growth: stages.Growth, total: int) -> Round:
    run = growth.run
    failed: dict[str, set[str]] = {}
    there = {record.id for record in run.records}
    for verdict in _without_surplus(run.verdicts):
        if (
            not verdict.passed and verdict.record_id in there
        ):  # people may have marked others here, under other settings
            failed.setdefault(verdict.record_id, set()).add(verdict.reason)
    repeats = sum(reasons <= _REPEATS for reasons in failed.values())
    copies = run.record_count - len(there)
    new = run.record_count - copies - len(failed)
    made = run.record_count
    return Round(
        number, parents, run.tasks, made, repeats + copies, len(failed) - repeats, new, len(growth.accepted), total
    )


def _without_surplus(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.reason != stages.BEYOND]


def _why_fewer(growth: stages.Growth, rounds: Sequence[Round], settings: Settings) -> str:
    last = rounds[-1]
    if last.total >= settings.rows:
        return ""
    said = f"{last.total:,} of {settings.rows:,} after round {last.number}, where {last.rate:.0%} of those asked for were new."
    if growth.why_fewer and not growth.is_plan_over:
        return f"{said} {growth.why_fewer}"
    if not last.new:
        return (
            f"{said} Nobody is left to go on from: give more documents, a larger first=, other ties=, or another model."
        )
    return f"{said} No round is left: give more documents, rounds= (up to {ROUNDS}), first= or each=."
