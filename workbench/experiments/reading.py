"""Every generation run, search and training as one table, read from their folders each time."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench import _html, intervals, store
from workbench.errors import InputError, LedgerError, StoreError, WorkbenchError
from workbench.llm.ledger import Ledger
from workbench.runs import Run

FILE = "experiment.json"
GENERATION, OPTIMIZATION, TRAINING = "generation", "optimization", "training"
_SURPLUS = "rows"  # the check that marks what is beyond the rows asked for: too many, and not bad
_NOT_SEARCHED = ("shards", "verdicts")  # a run's own, of which there may be thousands
_SHOWN = 20

_TEXT, _TEXTS, _COUNT, _NUMBER, _FLAG = pa.string(), pa.list_(pa.string()), pa.int64(), pa.float64(), pa.bool_()
_COUNTS = ("tasks", "records", "failures", "kept", "requests", "prompt_tokens", "completion_tokens")
_EXPERIMENTS = pa.schema([
    ("id", _TEXT), ("kind", _TEXT), ("name", _TEXT), ("folder", _TEXT), ("started", _TEXT), ("seconds", _NUMBER),
    ("status", _TEXT), ("stopped", _TEXT), ("prompts", _TEXTS), ("base", _TEXT), ("model", _TEXT), ("endpoint", _TEXT),
    ("is_offline", _FLAG), ("settings", _TEXT), ("code", _TEXT), *((name, _COUNT) for name in _COUNTS), ("cost", _NUMBER),
    ("score", _NUMBER), ("score_low", _NUMBER), ("score_high", _NUMBER),
])  # fmt: skip
_SCORES = pa.schema([
    ("experiment", _TEXT), ("split", _TEXT), ("part", _TEXT), ("prompt", _TEXT), ("value", _NUMBER), ("low", _NUMBER),
    ("high", _NUMBER), ("n", _COUNT),
])  # fmt: skip
_TYPES = {column.name: column.type for column in (*_EXPERIMENTS, *_SCORES)}
_PYTHON = {_TEXT: str, _TEXTS: list, _COUNT: int, _NUMBER: (int, float), _FLAG: bool}
_MAY_BE_UNKNOWN = {*_COUNTS, "cost", "low", "high"}


@dataclass(frozen=True, kw_only=True, repr=False)
class Experiment:
    """One generation run, search for a prompt, or training: what it was made with, what it took, what it scored.

    `kind` is "generation", "optimization", "training" or another word; `started` is ISO 8601 with a zone, "" where it is unknown;
    `stopped` says why it ended early, "unfinished" while it runs and after a kill. `model` is the model as answered
    (several: with commas); of a run without a row, the one that was asked. Counts, tokens and cost (US dollars) are None
    where they are unknown, and `kept` where nothing was checked. A score is a mapping with split, part, prompt, value,
    low, high and n. Raises StoreError for values of other types, and for settings that do not fit into JSON."""

    id: str
    kind: str
    name: str
    started: str
    seconds: float = 0.0
    stopped: str = ""
    prompts: Sequence[str] = ()
    base: str = ""
    model: str = ""
    endpoint: str = ""
    is_offline: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    tasks: int | None = None
    records: int | None = None
    failures: int | None = None
    kept: int | None = None
    requests: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    scores: Sequence[Mapping[str, Any]] = ()
    folder: Path = field(default=Path(), compare=False)  # where it was found, and no part of the file: folders move

    def __post_init__(self):
        try:
            # As JSON gives it back, so that what is read equals what was written. NaN becomes None: it is not known.
            content = orjson.loads(orjson.dumps(self._content(), default=_plain, option=orjson.OPT_SERIALIZE_NUMPY))
        except TypeError as error:
            raise StoreError(
                f"experiment {self.id!r} does not fit into JSON: {error}. Give text, numbers, lists, mappings or dataclasses."
            ) from None
        if fault := _fault(content):
            raise StoreError(f"this is no experiment: {fault}.")
        for name, value in content.items():
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    def _content(self) -> dict[str, Any]:
        return {known.name: getattr(self, known.name) for known in fields(self) if known.compare}

    @property
    def status(self) -> str:
        """finished, stopped (it ended before its plan did) or unfinished (it runs, or was killed)."""
        return {"": "finished", "unfinished": "unfinished"}.get(self.stopped, "stopped")

    @property
    def score(self) -> Mapping[str, Any] | None:
        """The score to sort by, or None. Of a generation run: the share of its checked rows that failed no check. Of all
        others: held_out, part "all", of the first of `prompts` that is not the base, or else of the base."""
        wanted = ("run", "kept") if self.kind == GENERATION else ("held_out", "all")
        rows = [row for row in self.scores if (row["split"], row["part"]) == wanted]
        order = [*(prompt for prompt in self.prompts if prompt != self.base), self.base]
        place = lambda row: order.index(row["prompt"]) if row["prompt"] in order else len(order)
        return min(rows, key=place, default=None)

    def __repr__(self) -> str:
        return repr(Experiments((self,), self.folder.parent))

    def _repr_html_(self) -> str:
        return Experiments((self,), self.folder.parent)._repr_html_()


@dataclass(frozen=True, repr=False)
class Experiments(Sequence[Experiment]):
    """Experiments, the newest first; as they were when `find` read them. An index is a place, a slice or an id.

    `skipped` holds (folder, why) of what could not be read: whole experiments, which are not among the items, and parts
    of one, whose values are None then. Folders are relative to `root`."""

    items: tuple[Experiment, ...]
    root: Path
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return replace(self, items=self.items[key])
        if isinstance(key, int):
            return self.items[key]
        for experiment in self.items:
            if experiment.id == key:
                return experiment
        raise InputError(f"there is no experiment {key!r} here. There are: {', '.join(self._ids()) or 'none'}.")

    def _ids(self) -> Iterator[str]:
        return (f"{experiment.id} ({experiment.name})" for experiment in self.items[:_SHOWN])

    def table(self) -> pa.Table:
        """Return one row an experiment, with its status and its `score` (score, score_low, score_high).

        `settings` are JSON text; `started` is ISO 8601 in UTC, or null; other nulls are unknown, never zero."""
        return pa.Table.from_pylist([self._row(experiment) for experiment in self.items], schema=_EXPERIMENTS)

    def _row(self, experiment: Experiment) -> dict[str, Any]:
        score = experiment.score or dict.fromkeys(["value", "low", "high"])
        return {
            **experiment._content(), "folder": _relative(experiment.folder, self.root), "status": experiment.status,
            "started": _utc(experiment.started) or None, "settings": orjson.dumps(experiment.settings).decode(),
            "score": score["value"], "score_low": score["low"], "score_high": score["high"],
        }  # fmt: skip

    def scores(self) -> pa.Table:
        """Return one row a score: experiment (its id), split, part, prompt, value, its 95% interval (low, high), n.

        Of a generation run the split is "run"; the parts are "made" (records of outcomes), "kept" (of the rows that a
        check looked at, those that failed none; rows beyond those asked for are no loss), and each check by its name (of
        the records that it looked at, those that passed). Intervals of these are Wilson's."""
        rows = [{"experiment": experiment.id, **score} for experiment in self.items for score in experiment.scores]
        return pa.Table.from_pylist(rows, schema=_SCORES)

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> store.Rows:
        """Return the rows of a DuckDB query over the tables `experiments` and `scores`; see `store.query`."""
        return store.query(sql, parameters, experiments=self.table(), scores=self.scores())

    def compare(self, *keys: str | int) -> store.Rows:
        """Return what these experiments (ids or places, two or more) were made with and differ in: a row a setting, a
        column an experiment. Nested settings have dots; values are text, null where there is no such setting."""
        if len(set(keys)) < 2:
            raise InputError(f"comparing takes two experiments or more, got {len(set(keys))}: compare(0, 1).")
        chosen = [self[key] for key in keys]
        made = [_made_with(experiment) for experiment in chosen]
        names = [name for name in dict.fromkeys(name for one in made for name in one)
                 if len({one.get(name) for one in made}) > 1]  # fmt: skip
        columns = {
            experiment.id: [one.get(name) for name in names] for experiment, one in zip(chosen, made, strict=True)
        }
        columns = {name: pa.array(values, _TEXT) for name, values in {"setting": names, **columns}.items()}
        return store.Rows(pa.table(columns))

    def _shown(self) -> tuple[list[str], list[list[Any]], str]:
        """Column names, the first rows, and what was skipped."""
        names = ["id", "started (UTC)", "kind", "name", "model", "status", "records", "kept", "cost", "score", "folder"]
        rows = [
            [
                one.id, _utc(one.started)[:16].replace("T", " "), one.kind, one.name,
                f"{one.model} (offline rules, no model)" if one.is_offline else one.model,
                one.status, one.records, one.kept, "unknown" if one.cost is None else f"${one.cost:.2f}",
                "" if (score := one.score) is None else f"{score['value']:.2f}{_between(score)}",
                _relative(one.folder, self.root),
            ]
            for one in self.items[:_SHOWN]
        ]  # fmt: skip
        more = f"; and {len(self.skipped) - 3:,} more" if len(self.skipped) > 3 else ""
        said = "; ".join(f"{folder}: {why}" for folder, why in self.skipped[:3])
        return names, rows, f"could not be read: {said}{more}" if self.skipped else ""

    def __repr__(self) -> str:
        names, rows, skipped = self._shown()
        return "\n".join(part for part in (_html.text_table(names, rows, len(self), width=60), skipped) if part)

    def _repr_html_(self) -> str:
        names, rows, skipped = self._shown()
        return _html.html_table(names, rows, len(self), note=skipped)


def find(root: str | os.PathLike[str], *, kind: str | None = None) -> Experiments:
    """Return every experiment below the folder `root`, or those of one kind, as its folders are now.

    Hidden folders are not searched. What cannot be read, or stands there twice, is named in `.skipped`, and hides nothing
    else. Raises InputError when there is no such folder."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"there is no folder {root}. Give the one that runs were written below: find('data/runs').")
    found: dict[str, Experiment] = {}
    skipped: list[tuple[str, str]] = []
    with contextlib.ExitStack() as opened:
        # Runs share ledgers: each is opened once.
        ledger = cache(lambda path: opened.enter_context(contextlib.closing(Ledger(None, path))))
        for path in _files(root, skipped):
            name = _relative(path.parent, root)
            try:
                one, gaps = (read(path.parent), []) if path.name == FILE else _generation(path.parent, ledger)
            except WorkbenchError as error:
                skipped.append((name, str(error)))
                continue
            except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
                skipped.append((name, f"its {path.name} is of another program, or was edited: {error!r}"))
                continue
            if kind is not None and one.kind != kind:
                continue
            skipped += [(name, why) for why in gaps]
            if one.id in found:
                first = _relative(found[one.id].folder, root)
                skipped.append((name, f"it is a copy of {first}: both say that they are {one.id}. Delete one of them."))
            else:
                found[one.id] = one
    newest_first = sorted(found.values(), key=lambda one: _utc(one.started), reverse=True)
    return Experiments(tuple(newest_first), root, tuple(skipped))


def write(folder: str | os.PathLike[str], experiment: Experiment) -> Path:
    """Write the experiment into its folder, whole or not at all, and return the file's path."""
    path = Path(folder) / FILE
    with store.atomically(path) as temporary:
        temporary.write_bytes(orjson.dumps(experiment._content(), option=orjson.OPT_INDENT_2))
    return path


def read(folder: str | os.PathLike[str]) -> Experiment:
    """Return the experiment that `write` put into this folder. Raises StoreError when it is not there, or damaged."""
    path = Path(folder) / FILE
    advice = "Restore it from a copy, or delete it and run what made it again."
    try:
        content = orjson.loads(path.read_bytes())
        return Experiment(**content, folder=path.parent)
    except FileNotFoundError:
        raise StoreError(f"there is no {path}. Check the path, or run what makes it first.") from None
    except (OSError, ValueError, TypeError) as error:  # not JSON; no mapping; names missing or unknown
        raise StoreError(f"{path} is no experiment: {error}. {advice}") from None
    except StoreError as error:
        raise StoreError(f"{path}: {error} {advice}") from None


def at(folder: str | os.PathLike[str]) -> Experiment:
    """Return the run, search or training of this very folder, as `find` does. Raises StoreError when it holds none that
    can be read, with the reason."""
    folder = Path(os.path.abspath(folder))
    found = find(folder) if folder.is_dir() else Experiments((), folder)
    for one in found:
        if one.folder == folder:
            return one
    why = next((f" that can be read: {why}" for name, why in found.skipped if name == "."), "")
    raise StoreError(f"{folder} holds no experiment{why or f'. Give a folder with a run.json or an {FILE} in it.'}")


# --- reading --------------------------------------------------------------------------------------------------------


def _files(root: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    """Every run.json and experiment.json, in order of their folders."""
    unreadable = lambda error: skipped.append((_relative(Path(error.filename), root), error.strerror))
    for folder, inner, files in os.walk(root, onerror=unreadable):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _NOT_SEARCHED)
        yield from (Path(folder) / name for name in ("run.json", FILE) if name in files)


def _generation(folder: Path, ledger: Callable[[Path], Ledger]) -> tuple[Experiment, list[str]]:
    """A run as an experiment, and what of it could not be read. By columns: no record is built."""
    run = Run(folder)
    info, gaps = run.info, []
    spent: dict[str, Any] = {}
    try:
        spent = _spent(run, ledger)
    except LedgerError as error:
        gaps.append(f"tokens and cost are unknown: {error}")
    made, failures = run.record_count, sum(run.losses.values())
    shares = [("made", made, made + failures)]
    kept, prompts, models = None, [], []
    try:
        rows = _rows(run)
        prompts, models = (_distinct(rows[name]) for name in ("provenance.prompt", "provenance.model"))
        kept, of_checks = _checked(run, rows["id"])
        shares += of_checks
    except StoreError as error:
        gaps.append(f"prompts, models and checks are unknown: {error}")
    models = models or [info["client"]["model"]]
    sampling = info["client"]["sampling"]
    return Experiment(
        id=info["id"], kind=GENERATION, name=info["recipe"], started=_started(info), seconds=run.seconds, stopped=run.stopped,
        prompts=prompts, model=", ".join(models), endpoint=info["client"]["endpoint"], is_offline=any(map(_is_offline, models)),
        settings={**info.get("settings", {}), **({"sampling": sampling} if sampling else {})}, code=info["code"],
        tasks=run.tasks, records=made, failures=failures, kept=kept, **spent,
        scores=[_share(*share, prompt=prompts[0] if len(prompts) == 1 else "") for share in shares if share[2]],
        folder=folder,
    ), gaps  # fmt: skip


def _started(info: Mapping[str, Any]) -> str:
    if "started" in info or not info["sessions"]:
        return info.get("started", "")
    return datetime.fromtimestamp(
        info["sessions"][0]["started"], UTC
    ).isoformat()  # a run from before it was written down


def _is_offline(model: str) -> bool:
    return model.startswith("offline-rules@")


def _spent(run: Run, ledger: Callable[[Path], Ledger]) -> dict[str, Any]:
    path = (run.folder / run.info["ledger"]).resolve()
    if not path.exists():
        raise LedgerError(f"the ledger is not at {path}. Copy it there.")
    spent = ledger(path).spent(run.info["id"])
    [missing] = ledger(path)._rows("SELECT count(*) AS n FROM calls WHERE run = ? AND cost IS NULL", (run.info["id"],))
    cost = None if spent.pop("unpriced") or missing["n"] else spent["cost"]
    return {**spent, "cost": cost}


def _rows(run: Run) -> pa.Table:
    """The id, prompt and model of every record, repeats too."""
    wanted = ("id", "provenance.prompt", "provenance.model")
    files = [
        folder / f"{kind}.parquet" for folder, manifest in run._shards for kind in manifest["rows"] if kind != "Failure"
    ]
    empty = pa.table({name: pa.array([], _TEXT) for name in wanted})
    return pa.concat_tables([empty, *(_columns(file, *wanted) for file in files)])


def _columns(path: Path, *names: str) -> pa.Table:
    """These columns of a Parquet file, those of structs by their names with dots; nothing else of it is read."""
    try:
        found = pq.ParquetFile(path).read(columns=list(names), use_threads=False)
        while any(pa.types.is_struct(column.type) for column in found.schema):
            found = found.flatten()
        return pa.table({name: found[name] for name in names})
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(f"{path.name} in {path.parent.name} is no whole table: {error}. Run it again.") from None


def _checked(run: Run, ids: pa.ChunkedArray) -> tuple[int | None, list[tuple[str, int, int]]]:
    """How many records failed no check, None where nothing was checked, and (part, hits, n) of each share."""
    own = pc.unique(ids)
    judged: dict[str, pa.Array] = {}
    failed: dict[str, pa.Array] = {}
    for path in sorted((run.folder / "verdicts").glob("*.parquet")):
        verdicts = _columns(path, "record_id", "passed")
        verdicts = verdicts.filter(pc.is_in(verdicts["record_id"], value_set=own))  # none of rows made before
        judged[path.stem] = pc.unique(verdicts["record_id"])
        failed[path.stem] = pc.unique(verdicts.filter(pc.invert(verdicts["passed"]))["record_id"])
    kept = len(own) - len(_union(failed.values()))
    judged.pop(_SURPLUS, None), failed.pop(_SURPLUS, None)
    looked_at = _union(judged.values())
    if not len(looked_at):
        return None, []
    rows = pc.sum(pc.is_in(ids, value_set=looked_at)).as_py()  # the same record again counts, and is a loss
    shares = [("kept", len(looked_at) - len(_union(failed.values())), rows)]
    return kept, shares + [(check, len(judged[check]) - len(failed[check]), len(judged[check])) for check in judged]


def _union(arrays: Iterable[pa.Array]) -> pa.Array:
    return pc.unique(pa.chunked_array(list(arrays), type=_TEXT))


def _distinct(column: pa.ChunkedArray) -> list[str]:
    return sorted(value for value in pc.unique(column).to_pylist() if value)


def _share(part: str, hits: int, n: int, *, prompt: str) -> dict[str, Any]:
    low, high = intervals.wilson(hits, n)
    return {"split": "run", "part": part, "prompt": prompt, "value": hits / n, "low": low, "high": high, "n": n}


# --- what an experiment may hold, and how it is shown ---------------------------------------------------------------


def _plain(value: Any) -> Any:
    """For JSON, which knows one kind of mapping and of sequence."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _fault(content: Mapping[str, Any]) -> str:
    """What keeps this from being an experiment, in words; empty when nothing does."""
    settings, scores = content["settings"], content["scores"]
    if not isinstance(settings, dict) or not isinstance(scores, list):
        return f"settings must be a mapping and scores a list, got {settings!r:.80} and {scores!r:.80}"
    wanted = set(_SCORES.names) - {"experiment"}
    for score in scores:
        if not isinstance(score, dict) or score.keys() != wanted:
            return f"a score has {', '.join(sorted(wanted))}, got {score!r:.200}"
    for name, value in [*content.items(), *(item for score in scores for item in score.items())]:
        if name in ("settings", "scores") or (value is None and name in _MAY_BE_UNKNOWN):
            continue
        kind = _TYPES[name]
        is_fit = isinstance(value, _PYTHON[kind]) and isinstance(value, bool) == (kind == _FLAG)
        if not is_fit or (kind == _TEXTS and not all(isinstance(text, str) for text in value)):
            return f"{name} must be of type {kind}, got {value!r:.80}"
    if not content["id"] or not content["kind"]:
        return "its id and its kind must not be empty"
    try:
        _utc(content["started"])
    except ValueError:
        return f"started must be ISO 8601 with a zone, as 2026-02-03T10:30:00+00:00, got {content['started']!r}"
    return ""


def _utc(started: str) -> str:
    """The time in UTC, as text that sorts; empty where it is unknown. Raises ValueError for a time without a zone."""
    if not started:
        return ""
    time = datetime.fromisoformat(started)
    if time.tzinfo is None:
        raise ValueError("no zone")
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


# Written beside a training's settings: what came of it, and what follows from its data and decides nothing by itself.
_OUTCOMES = ("verdict", "reason", "verdicts", "reasons", "memory_mb", "gates", "equal", "held_out", "left_out")


def _made_with(experiment: Experiment) -> dict[str, str]:
    """What decides its outcome, as text by dotted names: its settings, and who answered which prompt by which code."""
    about = {
        name: getattr(experiment, name) for name in ("kind", "name", "base", "model", "endpoint", "prompts", "code")
    }
    ended = _OUTCOMES if experiment.kind == TRAINING else ()
    return dict(_flat({**about, **{name: value for name, value in experiment.settings.items() if name not in ended}}))


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value if isinstance(value, str) else orjson.dumps(value).decode()


def _relative(folder: Path, root: Path) -> str:
    return Path(os.path.relpath(folder, root)).as_posix()


def _between(score: Mapping[str, Any]) -> str:
    low, high = score["low"], score["high"]
    return "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
