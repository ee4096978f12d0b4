"""The main job: a folder of documents becomes a dataset that can say where every row came from.

from workbench import generate, llm
data = generate.from_documents("data/documents", out="data/runs/first", client=llm.Offline(), rows=100)"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import personas, prompts, runner, share, stages, store
from workbench.corpus import Corpus
from workbench.errors import InputError
from workbench.llm import Budget, Client, Ledger
from workbench.quality import dedup, rules
from workbench.quality.checks import language_chances
from workbench.recipes import persona, rag_qa
from workbench.records import QA, Persona, Record, Verdict
from workbench.report import write_report
from workbench.runs import Run, read_info
from workbench.stages import Gates, Growth

_MOST_ROUNDS = 50  # questions a passage at most when rows are asked for: past that, passages have nothing new to say


@dataclass(frozen=True)
class Settings:
    """What to make: `rows` accepted (None: one pass over the plan), questions a passage, personas to invent first, the mix
    of controls and negatives, the languages a row may be in, the seed of everything random, and the requests under way at once."""

    rows: int | None = None
    per_chunk: int = 1
    personas: int = 0
    mix: rag_qa.Mix = rag_qa.Mix()  # noqa: RUF009  frozen
    languages: tuple[str, ...] = ("en",)
    seed: int = 0
    concurrency: int = 64


@dataclass(frozen=True)
class Dataset:
    """What came out: the accepted records, the runs behind them, and the files."""

    records: list[QA]
    run: Run
    documents: store.Documents
    personas: list[Persona]
    growth: Growth | None
    files: dict[str, Path]
    report: Path
    spent: dict[str, Any]  # by the questions, the personas and the pilot together, as Ledger.spent gives it

    @property
    def why_fewer(self) -> str:
        """Why there are fewer rows than asked for; empty when there are not."""
        return self.growth.why_fewer if self.growth else self.run.stopped

    def explain(self, record: Record) -> runner.Explanation:
        """Return where a record came from, back to its document and the ledger."""
        return runner.explain(record, self.run, among=[*self.documents, *self.personas])

    def __repr__(self) -> str:
        return (
            f"{len(self.records):,} rows kept of {self.run.record_count:,} made from {self.documents!r}\n{self.run!r}"
        )

    def _repr_html_(self) -> str:
        return self.run._repr_html_()


def from_documents(
    path: str | os.PathLike[str] | store.Documents,
    *,
    out: str | os.PathLike[str],
    client: Client,
    settings: Settings = Settings(),
    gates: Gates | None = Gates(),  # noqa: B008  frozen
    budget: Budget | None = None,
) -> Dataset:
    """Return a dataset of questions with evidence, made from a folder of documents into the folder `out`.

    Personas first where some are asked for, then questions in stages, checks, exports and report.html. Everything that
    finished is kept: the same call goes on where a killed one ended. Raises InputError for documents that cannot be used
    and when not a single row was accepted."""
    check = checks(settings)  # before anything is paid for: a language that does not exist is refused here
    job = _Job(path, Path(out), client, settings, budget)
    plan, options = job.plan(), runner.Options(concurrency=settings.concurrency)
    growth = None
    if settings.rows is None:
        run = runner.run(rag_qa.make, plan, client=job.ledger, out=job.out / "qa", budget=budget, options=options)
        run.mark(check(run.records), job="generate")
        records = run.kept()
    else:
        growth = stages.grow(
            rag_qa.make,
            plan,
            rows=settings.rows,
            client=job.ledger,
            out=job.out / "qa",
            check=check,
            gates=gates,
            budget=budget,
            options=options,
        )
        run, records = growth.run, growth.accepted
    if not records:
        for old in (job.out / "export", job.out / "report.html"):  # of an earlier run, whose rows are not in this one
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        raise InputError(f"no row was accepted, so there is nothing to export.\n{run!r}")
    store.write(job.documents, job.out / "documents.parquet")
    files = share.export(records, job.out / "export", name="qa")
    spent = job.spent()
    report = write_report(job.out / "report.html", run, records, growth, spent)
    return Dataset(records, run, job.documents, job.people, growth, files, report, spent)


def estimate(
    path: str | os.PathLike[str] | store.Documents,
    *,
    out: str | os.PathLike[str],
    client: Client,
    settings: Settings = Settings(),
    budget: Budget | None = None,
) -> stages.Estimate:
    """Return what the questions of from_documents() with the same arguments will take, from a pilot of 20 tasks.

    Personas, where some are asked for, are invented first, because the questions depend on them. The pilot's answers are in the ledger, so they are not paid for twice."""
    checks(settings)
    job = _Job(path, Path(out), client, settings, budget)
    guess = stages.estimate(rag_qa.make, job.plan(), client=job.ledger, out=job.out / "pilot", budget=budget)
    return guess if settings.rows is None else guess.for_rows(settings.rows)


class _Job:
    """What every part of the job needs: documents, passages, the ledger, the people who ask."""

    def __init__(
        self,
        path: str | os.PathLike[str] | store.Documents,
        out: Path,
        client: Client,
        settings: Settings,
        budget: Budget | None,
    ):
        self.out, self.settings = out, settings
        self.documents = path if isinstance(path, store.Documents) else store.documents(path)
        self.corpus = Corpus.of(self.documents, characters=settings.mix.characters)
        self.ledger = client if isinstance(client, Ledger) else Ledger(client, out / "ledger.sqlite")
        self.people = self._invent(budget) if settings.personas else []

    def plan(self) -> runner.Plan:
        per_chunk = self.settings.per_chunk
        if self.settings.rows is not None:
            a_round = len(self.corpus) * max(1, len(self.people))
            per_chunk = max(per_chunk, min(_MOST_ROUNDS, 1 + 3 * self.settings.rows // a_round))
        return rag_qa.plan(
            self.corpus, per_chunk=per_chunk, personas=self.people, seed=self.settings.seed, mix=self.settings.mix
        )

    def spent(self) -> dict[str, Any]:
        """What the whole job paid for: pilot, personas and questions."""
        parts = [
            self.ledger.spent(info["id"])
            for name in ("pilot", "personas", "qa")
            if (info := read_info(self.out / name))
        ]
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def _invent(self, budget: Budget | None) -> list[Persona]:
        """As many different people as were asked for; fewer where three times as many tasks do not give them."""
        most = min(personas.MOST_A_TEXT * len(self.corpus), 3 * self.settings.personas + 10)
        growth = stages.grow(
            persona.make,
            persona.plan(self.corpus, count=most, seed=self.settings.seed),
            rows=self.settings.personas,
            client=self.ledger,
            out=self.out / "personas",
            check=personas.check((), personas.Settings(languages=self.settings.languages)),
            gates=None,
            budget=budget,
            options=runner.Options(concurrency=self.settings.concurrency),
        )
        if not growth.accepted:
            raise InputError(
                f"no persona was accepted, so there is nobody to ask. Go on without personas, or mend this first:\n{growth.run!r}"
            )
        return growth.accepted  # type: ignore[return-value]


def checks(settings: Settings = Settings()) -> stages.Check:
    """Return the check that a row of questions must pass: the rules, no copied prompt text, no duplicate question."""
    used = [prompts.load("rag/persona_question@1" if settings.personas else "rag/question@1")]
    limits = rules.Limits(languages=settings.languages)
    language_chances("", settings.languages)  # refuses what is no language

    def check(records: Sequence[Record]) -> list[Verdict]:
        return [*rules.check(records, limits=limits, prompts=used), *dedup.exact(records)] if records else []

    return check
