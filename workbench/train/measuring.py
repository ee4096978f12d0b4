"""What held-out rows say of each arm: a row a measurement, kept beside the training that it is of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workbench import intervals, store
from workbench.records import Preference, content_hash
from workbench.train import _machine, scoring
from workbench.train.arms import Prepared
from workbench.train.bases import Base
from workbench.train.plans import ANSWER_CHARACTERS, LONGER, TEXT_LOSS, Measures
from workbench.train.trl_runs import Trained
from workbench.train.verdicts import BASE

_ITEMS = pa.schema([
    ("arm", pa.string()), ("seed", pa.int64()), ("item", pa.string()), ("group", pa.string()), ("metric", pa.string()),
    ("value", pa.float64()),
])  # fmt: skip


def measured_base(out: Path, prepared: Prepared, base: Base, measures: Measures) -> pa.Table:
    """The untouched base's items. Its log-probabilities are kept beside them, since every arm's margin is against them."""
    folder = out / "arms" / BASE
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(prepared, measures, content_hash([base.sha256, *_machine.made_with()]))
    are_pairs = isinstance(prepared.held_out[0], Preference)
    if (kept := _kept(folder, key)) is not None and (not are_pairs or (folder / "log_probs.npy").exists()):
        return kept
    with scoring.opened(base) as model:
        values = {}
        if are_pairs:
            found = model.log_probs(prepared.held_out)
            half = np.full(len(found), 0.5)
            values = {"probability": half, "margin": half * 0, "accuracy": half, "likelier": _first_wins(found)}
            lengths = np.array([[len(row.chosen), len(row.rejected)] for row in prepared.held_out])
            values[LONGER] = _first_wins(lengths)
            np.save(folder / "log_probs.npy", found)
        else:
            values["loss"] = model.answer_losses(prepared.held_out)
        return _keep(folder, key, BASE, None, prepared, values, _others(model, prepared, measures))


def measured(folder: Path, trained: Trained, arm: str, prepared: Prepared, base: Base, measures: Measures) -> pa.Table:
    key = _key(prepared, measures, trained.key)
    if (kept := _kept(folder, key)) is not None:
        return kept
    with scoring.opened(trained, base=base) as model:
        if trained.method == "sft":
            values = {"loss": model.answer_losses(prepared.held_out)}
            return _keep(folder, key, arm, trained.seed, prepared, values, _others(model, prepared, measures))
        if trained.method == "reward":
            rewards = model.rewards(prepared.held_out)
            margin, likelier = rewards[:, 0] - rewards[:, 1], {}
        else:
            found = model.log_probs(prepared.held_out)
            gained = found - np.load(folder.parents[1] / BASE / "log_probs.npy")
            margin, likelier = (
                trained.settings["beta"] * (gained[:, 0] - gained[:, 1]),
                {"likelier": _first_wins(found)},
            )
        accuracy = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
        values = {
            "probability": 1 / (1 + np.exp(-np.clip(margin, -500, 500))),
            "margin": margin,
            "accuracy": accuracy,
            **likelier,
        }
        others = [] if trained.method == "reward" else _others(model, prepared, measures)
        return _keep(folder, key, arm, trained.seed, prepared, values, others)


def _first_wins(found: np.ndarray) -> np.ndarray:
    return np.where(found[:, 0] > found[:, 1], 1.0, np.where(found[:, 0] == found[:, 1], 0.5, 0.0))


def _others(model: scoring.Model, prepared: Prepared, measures: Measures) -> list[tuple[str, str, str, float]]:
    """(item, group, metric, value) of what is measured beside the held-out rows; texts and questions are groups of their own."""
    rows = []
    if texts := list(dict.fromkeys(measures.texts)):
        ids = [content_hash(text) for text in texts]
        rows += [(item, item, TEXT_LOSS, value) for item, value in zip(ids, model.losses(texts), strict=True)]
    if measures.answers:
        some = prepared.held_out[: measures.answers]
        asked = [row.prompt if isinstance(row, Preference) else row.asked for row in some]
        written = model.write(asked, max_tokens=measures.max_tokens)
        groups = prepared.groups[: measures.answers]
        rows += [
            (row.id, group, ANSWER_CHARACTERS, float(len(text)))
            for row, group, text in zip(some, groups, written, strict=True)
        ]
    if (task := measures.task) is not None:
        written = model.write(task.prompts, max_tokens=measures.max_tokens)
        for at, (text, wanted) in enumerate(zip(written, task.wanted, strict=True)):
            item = f"{task.name} {at}"
            rows.append((item, item, task.name, float(task.score(text, wanted))))
    return rows


def _key(prepared: Prepared, measures: Measures, of: str) -> str:
    return content_hash([of, [row.id for row in prepared.held_out], list(prepared.groups), measures.content_id])


def _kept(folder: Path, key: str) -> pa.Table | None:
    try:
        table = pq.read_table(folder / "measured.parquet")
    except (FileNotFoundError, pa.ArrowException):  # a damaged one is measured again
        return None
    return table.replace_schema_metadata(None) if (table.schema.metadata or {}).get(b"key") == key.encode() else None


def _keep(
    folder: Path,
    key: str,
    arm: str,
    seed: int | None,
    prepared: Prepared,
    values: Mapping[str, np.ndarray],
    others: Sequence[tuple[str, str, str, float]],
) -> pa.Table:
    rows = [
        (arm, seed, row.id, group, metric, float(value))
        for metric, found in values.items()
        for row, group, value in zip(prepared.held_out, prepared.groups, found, strict=True)
    ]
    rows += [(arm, seed, *other) for other in others]
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            name: pa.array(column, kind)
            for (name, kind), column in zip([(f.name, f.type) for f in _ITEMS], columns, strict=True)
        }
    )
    with store.atomically(folder / "measured.parquet") as temporary:
        pq.write_table(table.replace_schema_metadata({"key": key}), temporary)
    return table


def by_arm(items: pa.Table, metric: str, treatments: Sequence[str]) -> list[dict[str, Any]]:
    """A row an arm that was measured by this metric: the mean, its interval over seeds and groups, the mean of each seed."""
    found: dict[str, dict[Any, dict[str, tuple[float, str]]]] = {}
    columns = (items[name].to_pylist() for name in ("arm", "seed", "item", "group", "metric", "value"))
    for arm, seed, item, group, of, value in zip(*columns, strict=True):
        if of == metric:
            found.setdefault(arm, {}).setdefault(seed, {})[item] = (value, group)
    rows = []
    for arm, seeds in found.items():
        names = sorted(next(iter(seeds.values())))
        values = np.array([[seeds[seed][name][0] for name in names] for seed in seeds])
        groups = [next(iter(seeds.values()))[name][1] for name in names]
        between = None
        if len(set(groups)) > 1 and arm == BASE:
            between = intervals.mean(values[0].tolist(), groups=groups)
        elif len(set(groups)) > 1 and len(values) > 1:
            between = intervals.crossed(values, groups=groups)
        rows.append({
            "arm": arm, "value": float(values.mean()), "low": between and between.low, "high": between and between.high,
            "n": values.shape[1], "seeds": values.mean(axis=1).tolist() if arm != BASE else [],
            "is_control": arm not in treatments,
        })  # fmt: skip
    return rows
