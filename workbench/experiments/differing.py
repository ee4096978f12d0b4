"""How far two experiments are apart on what both measured: paired item by item and seed by seed, or of two values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from workbench import intervals
from workbench.errors import StoreError
from workbench.experiments.reading import GENERATION, OPTIMIZATION, Experiment, _columns

ITEMS = "items.parquet"

_TEXT, _COUNT, _NUMBER = pa.string(), pa.int64(), pa.float64()
_ITEMS = pa.schema([
    ("arm", _TEXT), ("seed", _COUNT), ("item", _TEXT), ("group", _TEXT), ("metric", _TEXT), ("value", _NUMBER),
])  # fmt: skip


def is_lower_better(metric: str) -> bool:
    """True of a loss: "loss", "eval_loss". Of all other metrics higher is better."""
    return metric.endswith("loss")


def primary(experiment: Experiment) -> str:
    """Return the metric that decides: "kept" of a run, "all" of a search, and what a training's settings name."""
    if experiment.kind == GENERATION:
        return "kept"
    return str(experiment.settings.get("primary_metric", "all"))


# --- what was measured ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """An experiment's scores by (role, metric), and the values of its items by seed, where they are there.

    A role is what an arm is compared as: its name, "base" or "found" of a search, "" of a run."""

    experiment: Experiment
    scores: Mapping[tuple[str, str], Mapping[str, Any]]
    items: Mapping[tuple[str, str], Mapping[int | None, Mapping[str, float]]]
    groups: Mapping[str, str]

    def arm(self, key: tuple[str, str]) -> str:
        return self.scores[key]["prompt"] if key in self.scores else key[0]


def measured(one: Experiment) -> Measured:
    items: dict[tuple[str, str], dict[int | None, dict[str, float]]] = {}
    groups: dict[str, str] = {}
    for row in _items(one):
        values = items.setdefault((row["arm"], row["metric"]), {}).setdefault(row["seed"], {})
        if row["item"] in values or not math.isfinite(row["value"]):
            fault = "is there twice" if row["item"] in values else f"has the value {row['value']}"
            raise StoreError(f"{ITEMS} of {one.id}: item {row['item']} ({row['arm']}, seed {row['seed']}, {row['metric']}) {fault}. Measure again what made it.")  # fmt: skip
        values[row["item"]] = row["value"]
        groups[row["item"]] = row["group"]
    return Measured(one, {(_role(one, row["prompt"]), row["part"]): row for row in judged(one)}, items, groups)


def _items(one: Experiment) -> list[dict[str, Any]]:
    """The rows of the experiment's items.parquet; none where it has none."""
    path = one.folder / ITEMS
    if one.folder == Path() or not path.exists():  # an experiment that was never read from a folder has the empty path
        return []
    try:
        table = _columns(path, *_ITEMS.names).cast(_ITEMS)
    except pa.ArrowException as error:
        raise StoreError(f"{path} has columns of other types than {ITEMS} has: {error}. Measure again.") from None
    if empty := [name for name in _ITEMS.names if name != "seed" and table[name].null_count]:
        raise StoreError(f"{path} has rows without {', '.join(empty)}. Measure again what made it.")
    return table.to_pylist()


def judged(one: Experiment) -> list[Mapping[str, Any]]:
    """The scores to judge by. What a search scored on dev it was searched for; and in the row "all" a training repeats its
    primary metric."""
    split = "run" if one.kind == GENERATION else "held_out"
    is_repeated = primary(one) != "all"
    return [row for row in one.scores if row["split"] == split and not (is_repeated and row["part"] == "all")]


def _role(one: Experiment, prompt: str) -> str:
    if one.kind == GENERATION:
        return ""
    if one.kind == OPTIMIZATION:
        return "base" if prompt == one.base else "found"
    return prompt


# --- differences ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One metric of one arm that both measured: `values` are own less baseline's, (seeds, items), where they are paired."""

    own: Measured
    baseline: Measured
    key: tuple[str, str]
    values: np.ndarray | None
    groups: Sequence[str]

    @property
    def is_primary(self) -> bool:
        return self.key[1] == primary(self.own.experiment) == primary(self.baseline.experiment)

    def row(self, level: float) -> dict[str, Any]:
        values = self.values
        found = {
            "experiment": self.own.experiment.id, "baseline": self.baseline.experiment.id, "arm": self.own.arm(self.key),
            "baseline_arm": self.baseline.arm(self.key), "metric": self.key[1], "level": level,
            "is_paired": values is not None, "is_primary": self.is_primary,
        }  # fmt: skip
        if values is None:
            after, before = self.own.scores[self.key], self.baseline.scores[self.key]
            return found | _unpaired(after, before, level)
        found |= {"difference": float(values.mean()), "n": values.shape[1], "seeds": values.shape[0]}
        if len(set(self.groups)) < 2:  # one group does not show how groups differ
            return found
        # Of one seed the interval is over items alone: the row twice has no variance between seeds.
        of_two = values if len(values) > 1 else np.repeat(values, 2, axis=0)
        interval = intervals.crossed(of_two, groups=self.groups, level=level)
        return found | {"low": interval.low, "high": interval.high}


def pairs_of(own: Measured, baseline: Measured) -> Iterator[Pair]:
    """A pair for each arm and metric that both have, by items where they share some."""
    for key in dict.fromkeys([*own.scores, *own.items]):
        ours, theirs = own.items.get(key), baseline.items.get(key)
        seeds = _matched(list(ours), list(theirs)) if ours and theirs else []
        shared = [item for item in theirs[seeds[0][1]] if all(item in ours[a] and item in theirs[b] for a, b in seeds)] if seeds else []  # fmt: skip
        if shared:
            values = np.array([[ours[a][item] - theirs[b][item] for item in shared] for a, b in seeds])
            yield Pair(own, baseline, key, values, [baseline.groups[item] for item in shared])
        elif key in own.scores and key in baseline.scores:
            yield Pair(own, baseline, key, None, ())


def _matched(ours: list[int | None], theirs: list[int | None]) -> list[tuple[int | None, int | None]]:
    """The seeds of two experiments two by two: those of one number first, then the others in order. Seeds of different
    numbers are independent draws, so any way to pair them gives an interval that holds. What has no seed goes with each."""
    if None in ours or None in theirs:
        return [(a, b) for a in ours for b in theirs]
    both = set(ours) & set(theirs)
    ours, theirs = (sorted(seeds, key=lambda seed: (seed not in both, seed)) for seeds in (ours, theirs))
    return list(zip(ours, theirs, strict=False))


def _unpaired(after: Mapping[str, Any], before: Mapping[str, Any], level: float) -> dict[str, Any]:
    """The difference of two values that vary apart. Their intervals are 95% ones, 2 x 1.96 standard errors wide."""
    difference = after["value"] - before["value"]
    counts = [row["n"] for row in (after, before)]
    found = {"difference": difference, "n": None if None in counts else min(counts)}
    if None in (after["low"], after["high"], before["low"], before["high"]):
        return found
    errors = [(row["high"] - row["low"]) / 2 / NormalDist().inv_cdf(0.975) for row in (after, before)]
    half = NormalDist().inv_cdf((1 + level) / 2) * math.hypot(*errors)
    return found | {"low": difference - half, "high": difference + half}
