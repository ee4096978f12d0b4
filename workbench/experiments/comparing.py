"""One experiment against another: what they were made with, how far they scored apart, and what that lets anybody say.

    found = experiments.compare("data/runs/dpo", "data/runs/dpo-filtered")
    found.sentence, found.differences          # plots.differences(found, of=found.experiments) draws them

Where both measured the same held-out items (items.parquet), a difference is paired: item by item and seed by seed, with an
interval over groups of items and over seeds, since another seed and another held-out document would have given another
number. Where they did not, it is the difference of two values, with the interval of their standard errors, and says so."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench import _html, store
from workbench.errors import InputError, PromptError
from workbench.experiments.differing import is_lower_better, judged, measured, pairs_of, primary
from workbench.experiments.reading import GENERATION, OPTIMIZATION, TRAINING, Experiment, Experiments, at
from workbench.prompts import library

_SHOWN = 40

_TEXT, _COUNT, _NUMBER, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_METRICS = pa.schema([
    ("experiment", _TEXT), ("arm", _TEXT), ("metric", _TEXT), ("value", _NUMBER), ("low", _NUMBER), ("high", _NUMBER), ("n", _COUNT),
])  # fmt: skip
_DIFFERENCES = pa.schema([
    ("experiment", _TEXT), ("baseline", _TEXT), ("arm", _TEXT), ("baseline_arm", _TEXT), ("metric", _TEXT),
    ("difference", _NUMBER), ("low", _NUMBER), ("high", _NUMBER), ("level", _NUMBER), ("n", _COUNT), ("seeds", _COUNT),
    ("is_paired", _FLAG), ("is_primary", _FLAG),
])  # fmt: skip
_LINKS = pa.schema([("experiment", _TEXT), ("what", _TEXT), ("name", _TEXT), ("path", _TEXT)])

# Settings that say how an experiment ended, how much was measured, or what others say too: no reason for a difference.
_NO_CAUSE = {OPTIMIZATION: ("name", "prompts", "answers", "lost_proposals"), TRAINING: ("name", "arms", "seeds")}
# What changes together counts as one: a run's prompt is named twice, and the prompts of a training are those of its data.
_ONE_THING = {GENERATION: {"prompts": "prompt"}, TRAINING: {"prompts": "data"}}


@dataclass(frozen=True, repr=False)
class Compared:
    """Experiments of one kind, the first of `experiments` being the baseline of all others. Tables name them by their ids.

    `settings`: a row for each that differs, a column an experiment. `metrics`: experiment, arm (of a run or search the
    prompt), metric, value, low, high, n: what was scored at the end, on held-out items or on all rows of a run.
    `differences`: one row an experiment, arm and metric that both have: the value less the baseline's, its interval at
    `level` (null where there is none), n items (unpaired: the fewer values of the two), seeds (null where unpaired).
    For a loss, too, a difference above 0 says that it is higher. Intervals of the primary metric are widened (Bonferroni),
    so that `level` of the comparison holds for all of these together; those of the others are exploratory.
    `links`: experiment, what ("prompt", "data", "run", "adapter"), name, path (from here; empty where it is unknown)."""

    experiments: tuple[Experiment, ...]
    level: float
    settings: store.Rows
    metrics: store.Rows
    differences: store.Rows
    links: store.Rows

    @property
    def baseline(self) -> Experiment:
        return self.experiments[0]

    @cached_property
    def labels(self) -> dict[str, str]:
        """What people read for an id: the name of the folder, where no two have the same."""
        names = [one.folder.name for one in self.experiments]
        return {
            one.id: name if name and names.count(name) == 1 else one.id
            for one, name in zip(self.experiments, names, strict=True)
        }

    def changes(self, experiment: Experiment) -> dict[str, tuple[str | None, str | None]]:
        """Return what this experiment and the baseline were made with and differ in, as (baseline's, its own) by name;
        what must change together, such as the parts of the data, is one thing."""
        kind, found = experiment.kind, {}
        for row in self.settings.to_pylist():
            before, after = row[self.baseline.id], row[experiment.id]
            name = _ONE_THING.get(kind, {}).get(row["setting"], row["setting"])
            name = "data" if name.startswith("data.") else name
            if before != after and name.partition(".")[0] not in _NO_CAUSE.get(kind, ()):
                found.setdefault(name, (before, after))
        return found

    @cached_property
    def sentence(self) -> str:
        """What can be said, computed: for each experiment what was changed, which differences can be told, and which cannot."""
        said = [self._sentence_of(one) for one in self.experiments[1:]]
        primary = [row for row in self._primary() if row["low"] is not None]
        if primary:
            several = f" for all {len(primary)} of these together (Bonferroni, {primary[0]['level']:.4g} each)"
            said.append(f"Intervals hold at {self.level:.4g}{several if len(primary) > 1 else ''}.")
        return " ".join(said)

    def _primary(self, experiment: str | None = None) -> list[dict[str, Any]]:
        rows = (row for row in self.differences.to_pylist() if row["is_primary"])
        return [row for row in rows if experiment in (None, row["experiment"])]

    def _sentence_of(self, one: Experiment) -> str:
        own, base, changes = self.labels[one.id], self.labels[self.baseline.id], self.changes(one)
        rows = self._primary(one.id)
        if not rows:
            return f"{own} and {base} cannot be compared: {self._why_not(one)}."
        told = [row for row in rows if row["low"] is not None and not row["low"] <= 0 <= row["high"]]
        untold = [row for row in rows if row not in told]
        parts = [_told(row) for row in told]
        if untold:
            which = _listed([f"{_arm(row) or 'all rows'} ({_size(row)})" for row in untold])
            parts.append(f"whether {rows[0]['metric']} differs cannot be told for {which}")
        said = f"{own} against {base}: {'; '.join(parts)}."
        if not changes:
            return f"{said} Both were made with the same settings, so a difference is chance or was not written down."
        names = _listed(list(changes))
        if len(changes) > 1:
            return f"{said} They differ in {names}: the difference cannot be laid to one of these."
        (before, after), matters = changes[names], "mattered" if told else "cannot be told to matter"
        if told and all(_is_of_one_seed(row) for row in told):
            matters = "mattered for these very models; whether it would with another seed is not known"
        values = "" if names == "data" else f" ({_value(before)} to {_value(after)})"
        return f"{said} The one thing that was changed, {names}{values}, {matters}."

    def _why_not(self, one: Experiment) -> str:
        for each in (one, self.baseline):
            if not each.scores:
                return f"{self.labels[each.id]} is {each.status} and has no score yet"
        own, base = primary(one), primary(self.baseline)
        return f"one was to be judged by {own}, the other by {base}" if own != base else f"no arm of both has {own}"

    def notes(self) -> list[str]:
        """Return what a reader has to know beside the numbers, a line each."""
        rows, said = self.differences.to_pylist(), []
        for one in self.experiments:
            label = self.labels[one.id]
            if one.status != "finished":
                said.append(f"{label} is {one.status}: its numbers may change." if one.status == "unfinished" else f"{label} stopped early: {one.stopped}")  # fmt: skip
            if verdict := one.settings.get("verdict"):
                said.append(f"{label} found of its own data: {verdict}. {one.settings.get('reason', '')}".strip())
        if losses := [name for name in dict.fromkeys(row["metric"] for row in rows) if is_lower_better(name)]:
            said.append(f"Lower is better of {_listed(losses)}; a difference above 0 is worse.")
        if unpaired := [row for row in rows if not row["is_paired"]]:
            which = "All" if len(unpaired) == len(rows) else f"{len(unpaired):,} of {len(rows):,}"
            said.append(f"{which} differences are unpaired, because both folders have no measured items in common: their intervals are those of two values that vary apart.")  # fmt: skip
        if any(_is_of_one_seed(row) for row in rows):
            said.append("Where there is one seed, the interval is over items alone: it says nothing about other seeds.")
        if any(row["low"] is None for row in rows):
            said.append("A difference without an interval decides nothing: add seeds, or items of other groups.")
        if any(not row["is_primary"] for row in rows):
            said.append("Differences of other metrics than the primary one are exploratory.")
        if any(one.is_offline for one in self.experiments):
            said.append("Answered by the offline rules, no model.")
        return said

    def _lines(self) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
        """Each table that has rows as people read it: its title, columns, rows."""
        label = lambda name: self.labels.get(name, name)
        yield "settings that differ", [*map(label, self.settings.columns)], [[*row.values()] for row in self.settings.to_pylist()]  # fmt: skip
        yield "metrics", ["experiment", "arm", "metric", "value", "interval", "n"], [
            [label(row["experiment"]), row["arm"], row["metric"], f"{row['value']:.3f}", _between(row, "{:.3f}"), row["n"]]
            for row in self.metrics.to_pylist()
        ]  # fmt: skip
        yield "differences", ["experiment", "baseline", "arm", "metric", "difference", "interval", "how"], [
            [
                label(row["experiment"]), label(row["baseline"]), _arm(row), row["metric"], f"{row['difference']:+.3f}",
                f"{_between(row, '{:+.3f}')} at {row['level']:.4g}" if row["low"] is not None else "none", _how(row),
            ]
            for row in self.differences.to_pylist()
        ]  # fmt: skip
        yield "links", ["experiment", "what", "name", "path"], [
            [label(row["experiment"]), row["what"], row["name"], row["path"]] for row in self.links.to_pylist()
        ]  # fmt: skip

    @property
    def _title(self) -> str:
        names = [self.labels[one.id] for one in self.experiments]
        return f"{_listed(names[1:])} against {names[0]}"

    def __repr__(self) -> str:
        tables = [
            f"\n{title}\n{_html.text_table(columns, rows[:_SHOWN], len(rows), width=60)}"
            for title, columns, rows in self._lines()
            if rows
        ]
        return "\n".join([f"{self._title} ({self.baseline.kind})", self.sentence, *tables, "", *self.notes()]).rstrip()

    def _repr_html_(self) -> str:
        tables = "".join(
            f"<div style='margin-top:8px'><b>{title}</b></div>{_html.html_table(columns, rows[:_SHOWN], len(rows))}"
            for title, columns, rows in self._lines()
            if rows
        )
        said = f"<p style='margin:6px 0'>{_html.escaped(self.sentence, 4000)}</p>"
        notes = "".join(f"<div>{_html.escaped(note, 1000)}</div>" for note in self.notes())
        return _html.card(self._title, self.baseline.kind, f"{said}{tables}<div style='margin-top:8px'>{notes}</div>")


def compare(
    *those: Experiment | str | os.PathLike[str],
    baseline: Experiment | str | os.PathLike[str] | None = None,
    level: float = 0.95,
) -> Compared:
    """Return two or more experiments compared with one of them, by default the first. They are what `find` gave, or folders.

        >>> experiments.compare("data/runs/dpo", "data/runs/dpo-filtered").sentence

    Runs are compared with runs, searches with searches (base with base, found with found) and trainings with trainings
    (each arm with the arm of its name). Raises InputError for fewer than two, for one twice, for a baseline that is not
    among them, and for several kinds: what one kind scores the other does not have. Raises StoreError for a folder that
    holds none, and for an items.parquet that cannot be read."""
    chosen = [one if isinstance(one, Experiment) else at(one) for one in those]
    ids = [one.id for one in chosen]
    if len(chosen) < 2:
        raise InputError(f"comparing takes two experiments or more, got {len(chosen)}: compare('runs/a', 'runs/b').")
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise InputError(f"{twice} is given twice, or one folder is a copy of the other. Give different experiments.")
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}.")
    if len(kinds := {one.kind for one in chosen}) > 1:
        raise InputError(f"experiments of several kinds have no score in common: {_listed(sorted(kinds))}. Give those of one; find(root).compare shows the settings of any.")  # fmt: skip
    if baseline is not None:
        first = baseline if isinstance(baseline, Experiment) else at(baseline)
        if first.id not in ids:
            raise InputError(f"the baseline {first.id!r} is none of {_listed(ids)}. Give it among the experiments too.")
        chosen.sort(key=lambda one: one.id != first.id)
    first, *others = chosen
    pairs = [pair for theirs in [measured(first)] for one in others for pair in pairs_of(measured(one), theirs)]
    decide = sum(pair.is_primary for pair in pairs)
    each = 1 - (1 - level) / max(1, decide)
    rows = [pair.row(each if pair.is_primary else level) for pair in pairs]
    scores = [
        {"experiment": one.id, "arm": row["prompt"], "metric": row["part"], **{k: row[k] for k in ("value", "low", "high", "n")}}
        for one in chosen for row in judged(one)
    ]  # fmt: skip
    return Compared(
        tuple(chosen), level, Experiments(tuple(chosen), Path()).compare(*(one.id for one in chosen)),
        *(store.Rows(pa.Table.from_pylist(found, schema=schema)) for found, schema in (
            (scores, _METRICS), (rows, _DIFFERENCES), ([link for one in chosen for link in _links(one)], _LINKS),
        )),
    )  # fmt: skip


# --- where things are -----------------------------------------------------------------------------------------------


def _links(one: Experiment) -> Iterator[dict[str, str]]:
    here = lambda path: Path(os.path.relpath(path)).as_posix()
    known = one.folder != Path()
    yield {"experiment": one.id, "what": "run", "name": one.name, "path": here(one.folder) if known else ""}
    for prompt in dict.fromkeys([*one.prompts, *([one.base] if one.base else [])]):
        path = _prompt_file(prompt)
        yield {"experiment": one.id, "what": "prompt", "name": prompt, "path": here(path) if path else ""}
    data = one.settings.get("data", one.settings.get("documents"))
    source = str(data.get("source", "")) if isinstance(data, Mapping) else ""
    for part, value in data.items() if isinstance(data, Mapping) else [("documents", data)] if data else []:
        if part != "source":
            identity = value.get("sha256", "") if isinstance(value, Mapping) else value
            yield {"experiment": one.id, "what": "data", "name": f"{part} {identity}", "path": source}
    for path in sorted(one.folder.glob("arms/*/seed-*/**/adapter_config.json")) if known else ():
        name = path.parent.relative_to(one.folder / "arms").as_posix()
        yield {"experiment": one.id, "what": "adapter", "name": name, "path": here(path.parent)}


def _prompt_file(identity: str) -> Path | None:
    """The file of a prompt of the workbench's own, when it still is the one that was sent."""
    try:
        prompt = library.load(identity.partition("#")[0])
    except PromptError:
        return None
    return library.FOLDER / f"{prompt.ref}.json" if prompt.id == identity else None


# --- words ----------------------------------------------------------------------------------------------------------


def _told(row: Mapping[str, Any]) -> str:
    is_higher = row["difference"] > 0
    better = f", which is {'worse' if is_higher else 'better'}" if is_lower_better(row["metric"]) else ""
    return f"{_what(row)} is {abs(row['difference']):.3f} {'higher' if is_higher else 'lower'}{better} ({_between(row, '{:+.3f}')}, {_how(row)})"


def _size(row: Mapping[str, Any]) -> str:
    return f"{row['difference']:+.3f}, {_between(row, '{:+.3f}') or 'no interval'}, {_how(row)}"


def _is_of_one_seed(row: Mapping[str, Any]) -> bool:
    """True of an arm that was trained once; the untouched base was not, so that there is no other."""
    return row["seeds"] == 1 and row["arm"] != "base"


def _what(row: Mapping[str, Any]) -> str:
    return f"{row['metric']} of {_arm(row)}" if row["arm"] or row["baseline_arm"] else row["metric"]


def _arm(row: Mapping[str, Any]) -> str:
    own, base = (row[name] or "several prompts" for name in ("arm", "baseline_arm"))
    return row["arm"] if row["arm"] == row["baseline_arm"] else f"{own} (against {base})"


def _how(row: Mapping[str, Any]) -> str:
    count = "n unknown" if row["n"] is None else f"n {row['n']:,}"
    if not row["is_paired"]:
        return f"unpaired, {count}"
    return f"paired, {count}, {row['seeds']} seed{'' if row['seeds'] == 1 else 's'}"


def _between(row: Mapping[str, Any], form: str) -> str:
    low, high = row["low"], row["high"]
    return "" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"


def _value(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= 40 else f"{text[:39]}…"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
