"""Run: what came out. Records, failures, verdicts, cost and timing, in one folder, printing itself.

out/run.json                        what ran: recipe, settings of the plan, client, code, sessions
out/shards/000000/QA.parquet        the records of a fixed number of tasks, in the plan's order
out/shards/000000/Failure.parquet   their failures
out/shards/000000/manifest.json     written last: a shard without it does not exist
out/verdicts/<check>.parquet        what the checks said"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from workbench import _html, store
from workbench.errors import LedgerError, RecordError, RunError, StoreError
from workbench.llm.ledger import Ledger
from workbench.records import KINDS, Document, Failure, Record, Verdict, by_id

UNCALIBRATED = "judge.uncalibrated"  # the check of a judge that filters though nobody has shown what it is worth
BY_HAND = "by_hand"  # the check of what a person decided, about the records that were looked at and no others
UNCALIBRATED_FILTER = "uncalibrated."  # begins the name of a check whose query selects by what such a judge said
LOW_YIELD = 0.2  # below this share of outcomes that are records, a run says so loudly


@dataclass(frozen=True)
class FunnelStep:
    """One bar of the funnel: a total, or a loss with its reason."""

    label: str
    count: int
    kind: str  # "total" or "loss"


class Run:
    """What a run left in its folder. `records` and `failures` are read when asked for; SQL goes through `store.query`."""

    def __init__(self, folder: str | os.PathLike[str], *, ledger: Ledger | None = None, retry: Any = None):
        self.folder = Path(folder)
        self.info = read_info(self.folder)
        if self.info is None:
            raise RunError(f"{self.folder} is no run: it has no run.json. Check the path.")
        self._shards = list(shards(self.folder, session=self.info.get("session")))  # the first runs named none
        self.manifests = [manifest for _, manifest in self._shards]
        self._ledger, self._retry = ledger, retry

    # --- what came out ---

    @cached_property
    def records(self) -> list[Record]:
        """All records, in the plan's order."""
        return [record for name in KINDS for record in self._read(name)]

    @cached_property
    def failures(self) -> list[Failure]:
        """All failures, in the plan's order."""
        return list(self._read("Failure"))

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """All verdicts that were kept with `mark`."""
        return [
            verdict for path in sorted((self.folder / "verdicts").glob("*.parquet")) for verdict in store.read(path)
        ]

    def _read(self, kind: str) -> Iterator[Any]:
        for folder, manifest in self._shards:
            if manifest["rows"].get(kind):
                yield from store.read(folder / f"{kind}.parquet")

    def table(self, kind: str | None = None) -> pa.Table:
        """Return the records of one kind as an Arrow table; `kind` may be left out where there is only one."""
        made = [name for name in KINDS if any(manifest["rows"].get(name) for manifest in self.manifests)]
        kind = kind or (made[0] if len(made) == 1 else None)
        if kind is None:
            raise StoreError(f"the run holds {', '.join(made) or 'no records'}. Say which: run.table('QA').")
        files = [folder / f"{kind}.parquet" for folder, manifest in self._shards if manifest["rows"].get(kind)]
        return (
            pa.concat_tables([store.read_table(file) for file in files])
            if files
            else store.schema(store.TABLES[kind]).empty_table()
        )

    def tables(self) -> dict[str, Any]:
        """Return an Arrow dataset for each kind of record there is, by its name in SQL (qa, image_pair), and `failure` and
        `verdict`, which may be empty. Rows are read from the files when somebody asks for them."""
        from pyarrow import dataset

        files = {
            name: [folder / f"{name}.parquet" for folder, manifest in self._shards if manifest["rows"].get(name)]
            for name in (*KINDS, "Failure")
        }
        files["Verdict"] = sorted((self.folder / "verdicts").glob("*.parquet"))
        in_sql = lambda name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        opened = lambda name: dataset.dataset(files[name], schema=store.schema(store.TABLES[name]), format="parquet")
        try:
            return {in_sql(name): opened(name) for name in files if files[name] or name not in KINDS}
        except OSError as error:
            raise StoreError(f"a file of this run is gone: {error}. Run again what made it.") from None

    def mark(self, *checks: Iterable[Verdict], job: str = "") -> "Run":
        """Keep the verdicts of these checks in the folder, in place of the same checks' older ones, and return the run.

        With the name of a `job`, what that job marked before and does not mark now is dropped; marks of others stay."""
        by_check: dict[str, list[Verdict]] = {}
        for verdict in (verdict for check in checks for verdict in check):
            by_check.setdefault(verdict.check, []).append(verdict)
        if odd := [check for check in by_check if not re.fullmatch(r"[\w.-]+", check) or check.startswith(".")]:
            raise RecordError(f"{odd[0]!r} cannot be a check's name. Use letters, digits, '_', '-' and '.'.")
        if job:
            info = read_info(self.folder) or self.info
            for gone in set(info.get("jobs", {}).get(job, ())) - by_check.keys():
                (self.folder / "verdicts" / f"{gone}.parquet").unlink(missing_ok=True)
            info.setdefault("jobs", {})[job] = sorted(by_check)
            write_json(self.folder / "run.json", info)
        for check, verdicts in by_check.items():
            store.write(verdicts, self.folder / "verdicts" / f"{check}.parquet", kind=Verdict)
        self.__dict__.pop("verdicts", None)
        return self

    def kept(self) -> list[Record]:
        """Return the records that failed no check, each id once."""
        failed = {verdict.record_id for verdict in self.verdicts if not verdict.passed}
        return [record for record in by_id(self.records).values() if record.id not in failed]

    # --- accounts ---

    @property
    def tasks(self) -> int:
        return sum(manifest["tasks"] for manifest in self.manifests)

    @property
    def record_count(self) -> int:
        return sum(
            count for manifest in self.manifests for kind, count in manifest["rows"].items() if kind != "Failure"
        )

    @property
    def losses(self) -> Counter[str]:
        """Failures by reason."""
        return sum((Counter(manifest["failures"]) for manifest in self.manifests), Counter())

    @property
    def stopped(self) -> str:
        """Why the run ended before its plan did; empty when it did not."""
        return self.info["stopped"] or ""

    @property
    def seconds(self) -> float:
        """Wall time of all sessions, seconds."""
        return sum(session["seconds"] for session in self.info["sessions"])

    @cached_property
    def spent(self) -> dict[str, Any]:
        """What this run paid for, by the ledger: requests, prompt_tokens, completion_tokens, cost (US dollars), unpriced."""
        ledger = self._open_ledger()
        return ledger.spent(self.info["id"])

    @property
    def replayed(self) -> int:
        """Requests that the last session answered from the ledger."""
        return self.info["sessions"][-1]["replayed"] if self.info["sessions"] else 0

    def _open_ledger(self) -> Ledger:
        if self._ledger is None:
            path = self.folder / self.info["ledger"]
            if not path.exists():
                raise LedgerError(
                    f"the ledger of this run is not at {path}. Copy it there, or give it: explain(record, run, ledger=...)."
                )
            self._ledger = Ledger(None, path)
        return self._ledger

    def funnel(self) -> list[FunnelStep]:
        """Return the waterfall from tasks to kept records. It adds up: each total is the one before less the losses between."""
        made, losses = self.record_count, self.losses
        outcomes = made + sum(losses.values())
        steps = [FunnelStep("tasks asked", self.tasks, "total")]
        if outcomes != self.tasks:
            steps.append(FunnelStep("outcomes of these tasks", outcomes, "total"))
        steps += [FunnelStep(f"failed: {reason}", count, "loss") for reason, count in losses.most_common()]
        steps.append(FunnelStep("records made", made, "total"))
        if self.verdicts:
            steps += self._losses_by_check(made)
        return steps

    def _losses_by_check(self, made: int) -> list[FunnelStep]:
        first: dict[str, str] = {}
        for verdict in sorted(
            self.verdicts, key=lambda verdict: verdict.check == "rows"
        ):  # what was only too many comes last
            if not verdict.passed:
                first.setdefault(verdict.record_id, f"{verdict.check}: {verdict.reason}")
        ids = [record.id for record in self.records]
        unique = set(ids)
        counts = Counter(first[record_id] for record_id in unique if record_id in first)
        repeats = len(ids) - len(unique)
        steps = [FunnelStep("the same record again", repeats, "loss")] if repeats else []
        ranked = sorted(counts.items(), key=lambda item: (item[0].startswith("rows:"), -item[1], item[0]))
        steps += [FunnelStep(reason, count, "loss") for reason, count in ranked]
        return [*steps, FunnelStep("records kept", made - repeats - sum(counts.values()), "total")]

    # --- what to do next ---

    def retry(self, *, reason: str | None = None) -> "Run":
        """Run the failed tasks again, all or those of one reason, and return the new run.

        What got no answer is asked again. What was answered and could not be used (a parse failure, say) would be served
        the same answer from the ledger, so it is drawn anew, under a sample number of its own."""
        if self._retry is None:
            raise RunError(
                "a run read from a folder does not know its recipe. Call runner.run(...) with the same plan: unanswered tasks are asked again."
            )
        return self._retry(self, reason)

    @property
    def warning(self) -> str:
        """What a person must not overlook; empty when there is nothing."""
        said = list(self.info.get("notes", ()))
        if self.stopped:
            said.append(f"Stopped early: {self.stopped}")
        outcomes = self.record_count + sum(self.losses.values())
        if outcomes and self.record_count < LOW_YIELD * outcomes:
            reason, count = self.losses.most_common(1)[0]
            raws = [
                f"  {at}. {' '.join((failure.raw or failure.detail).split())[:300]}"
                for at, failure in enumerate(_some_raw(self.failures, reason), 1)
            ]
            said.append(
                "\n".join(
                    [
                        f"Only {self.record_count:,} of {outcomes:,} outcomes are records; the most common loss is {reason} ({count:,}). What came back:",
                        *raws,
                    ]
                )
            )
        is_uncalibrated = lambda check: check == UNCALIBRATED or check.startswith(UNCALIBRATED_FILTER)
        if detail := next((verdict.detail for verdict in self.verdicts if is_uncalibrated(verdict.check)), ""):
            said.append(f"Filtered by an uncalibrated judge: {detail.rpartition('uncalibrated: ')[2]}.")
        judged = {verdict.record_id for verdict in self.verdicts if verdict.check.partition(".")[0] != BY_HAND}
        if judged and (unjudged := sum(record.id not in judged for record in self.records)):
            said.append(
                f"{unjudged:,} records were made after the last check and have no verdict. Check again: run.mark(...)."
            )
        return "\n".join(said)

    def __repr__(self) -> str:
        losses = ", ".join(f"{count:,} {reason}" for reason, count in self.losses.most_common())
        failed = sum(self.losses.values())
        parts = [
            f"{self.tasks:,} tasks",
            f"{self.record_count:,} records",
            f"{failed:,} failed" + (f" ({losses})" if failed else ""),
        ]
        parts += [f"{self.replayed:,} from ledger", self.cost_text]
        line = f"{self.info['recipe']}: {', '.join(parts)}"
        if self.is_offline:
            line += " [offline rules, no model]"
        return f"{line}\n{self.warning}" if self.warning else line

    @property
    def cost_text(self) -> str:
        """The money spent, in words: what is unknown is said to be."""
        return cost_text(self.spent)

    @property
    def is_offline(self) -> bool:
        """True when the rule-based offline writer made these rows, and no model did."""
        return "offline-rules@" in self.info["client"]["model"]  # also as a member of a pool

    def _repr_html_(self) -> str:
        spent = self.spent
        shown = {
            "model": self.info["client"]["model"], "requests paid": spent["requests"], "served by the ledger, last session": self.replayed,
            "tokens": spent["prompt_tokens"] + spent["completion_tokens"], "cost": self.cost_text, "time": f"{self.seconds:.1f} s",
        }  # fmt: skip
        funnel = [(step.label, step.count, step.kind) for step in self.funnel()]
        whole = max((step.count for step in self.funnel()), default=0)
        note = "made by the offline rules, no model" if self.is_offline else ""
        return _html.card(
            self.info["recipe"], note, _html.facts(shown) + _html.bars(funnel, whole), warning=self.warning
        )


def cost_text(spent: Mapping[str, Any]) -> str:
    """Money in words, of what `Ledger.spent` gives: what is unknown is said to be."""
    if not spent["requests"]:
        return "nothing paid"
    if spent["unpriced"] and not spent["cost"]:
        return "cost unknown (no price)"
    return f"${spent['cost']:.2f}" + (
        f" and {spent['unpriced']:,} answers of unknown price" if spent["unpriced"] else ""
    )


def load(folder: str | os.PathLike[str]) -> Run:
    """Return the run in a folder, finished or not."""
    return Run(folder)


def _some_raw(failures: Iterable[Failure], reason: str, count: int = 3) -> list[Failure]:
    return [failure for failure in failures if failure.reason == reason][:count]


# --- the folder -----------------------------------------------------------------------------------------------------


def read_info(folder: Path) -> dict[str, Any] | None:
    """run.json, or None where there is none."""
    try:
        return orjson.loads((folder / "run.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(
            f"{folder / 'run.json'} is not JSON ({error}). Delete that file and run again: the ledger holds what was paid for."
        ) from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    with store.atomically(path) as temporary:
        temporary.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def shards(folder: Path, *, session: str | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(folder, manifest) of every whole shard, in order; with `session`, of those that it made or found still to be true.

    A shard that an early stop never came to may be of other tasks or other code: its rows are not this run's."""
    for path in sorted((folder / "shards").glob("[0-9]*/manifest.json")):
        try:
            manifest = orjson.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # no manifest, no shard: it is made again
        if session is None or manifest.get("session") == session:
            yield path.parent, manifest


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """True when the shard's files hold what its manifest says."""
    import pyarrow.parquet as pq

    try:
        return all(
            pq.ParquetFile(folder / f"{kind}.parquet").metadata.num_rows == n for kind, n in manifest["rows"].items()
        )
    except (OSError, pa.ArrowException):
        return False


# --- explain --------------------------------------------------------------------------------------------------------


class Explanation:
    """Where one row came from, step by step, as text and as HTML."""

    def __init__(self, record: Record, lines: list[tuple[int, str, str]]):
        self.record, self.lines = record, lines

    def __repr__(self) -> str:
        return "\n".join(f"{'  ' * depth}{name}: {text}" for depth, name, text in self.lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<div style='margin-left:{18 * depth}px;white-space:pre-wrap'><span style='opacity:.65'>{_html.escaped(name)}:</span> {_html.escaped(text, 1500)}</div>"
            for depth, name, text in self.lines
        )
        return _html.card(f"{type(self.record).__name__} {self.record.id}", "where it came from", rows)


def explain(
    record: Record, run: Run | None = None, *, among: Iterable[Record] = (), ledger: Ledger | None = None
) -> Explanation:
    """Return a record's ancestry, back to document spans and ledger entries.

    Parents are looked up in `among` (documents and personas, say) and in the run's own records; the ledger entries come
    from the run's ledger. What cannot be found is said to be missing, never left out."""
    known = by_id([*among, *(run.records if run else ())])
    ledger = ledger or (run._open_ledger() if run else None)
    lines: list[tuple[int, str, str]] = []
    _tell(record, known, ledger, 0, lines, set())
    return Explanation(record, lines)


def _tell(
    record: Record,
    known: Mapping[str, Record],
    ledger: Ledger | None,
    depth: int,
    lines: list[tuple[int, str, str]],
    seen: set[str],
) -> None:
    origin = record.provenance
    first = getattr(record, record.text_fields[0]) if record.text_fields else ""
    lines.append((depth, type(record).__name__, f"{record.id}  {_short(str(first))}"))
    if record.id in seen:
        return
    seen.add(record.id)
    if isinstance(record, Document):
        lines.append((depth + 1, "read from", record.path or "memory"))
    if origin.recipe != "given":
        seeds = " + ".join(origin.seed_kinds) or "no seed"
        repaired = ", after one repair" if origin.repaired else ""
        lines.append(
            (
                depth + 1,
                "made by",
                f"{origin.recipe} ({origin.operation} of {seeds}) with {origin.prompt or 'no prompt'}{repaired}",
            )
        )
        lines.append((depth + 1, "answered by", f"{origin.model} at {origin.endpoint}, parameters {origin.sampling}"))
    if (span := origin.source) is not None:
        document = known.get(span.document_id)
        where = (
            f"{document.path}, characters {span.start:,} to {span.end:,}: {_short(document.text[span.start : span.end])}"
            if isinstance(document, Document)
            else f"document {span.document_id} (not given: pass it in among=), characters {span.start:,} to {span.end:,}"
        )
        lines.append((depth + 1, "source", where))
    for key in origin.requests:
        entry = ledger.entry(key) if ledger else None
        if entry is None:
            lines.append((depth + 1, "request", f"{key} (not in a ledger that was given)"))
            continue
        cost = "price unknown" if entry["cost"] is None else f"${entry['cost']:.6f}"
        lines.append(
            (depth + 1, "request", f"{key}, {entry['prompt_tokens']} + {entry['completion_tokens']} tokens, {cost}")
        )
        lines.append((depth + 2, "asked", _short(entry["request"]["messages"][-1]["content"])))
        lines.append((depth + 2, "answered", _short(entry["choices"][0])))
    for parent in origin.parents:
        if parent in known:
            _tell(known[parent], known, ledger, depth + 1, lines, seen)
        else:
            lines.append((depth + 1, "parent", f"{parent} (not given: pass it in among=)"))


def _short(text: str, limit: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
