"""An experiment in its folder: begun before anything is trained, and filed with its scores at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import experiments, store
from workbench.errors import InputError
from workbench.experiments import Experiment
from workbench.records import Record
from workbench.train import measuring
from workbench.train.trl_runs import Trained

ITEMS, HELD_OUT = "items.parquet", "held_out.parquet"


def begun_in(out: Path, begun: Experiment, held_out: Sequence[Record]) -> Experiment:
    """Write the experiment and its held-out rows, and return it; where it was begun before, with the time of that.

    Raises InputError where it was begun with anything else."""
    is_finished = False
    if (out / experiments.FILE).exists():
        before = experiments.read(out)
        differing = [name for name, value in begun.settings.items() if before.settings.get(name) != value]
        if before.kind != "training" or differing:
            raise InputError(
                f"{out} was begun with another {', '.join(differing) or 'kind of experiment'}. An experiment keeps to what was decided before "
                "it: give this one a folder of its own, or delete that one."
            )
        begun, is_finished = replace(begun, started=before.started), before.status == "finished"
    store.write(list(held_out), out / HELD_OUT)
    if not is_finished:  # or a second call that is stopped would leave what was done as undone
        experiments.write(out, begun)
    return begun


def written(out: Path, tables: Sequence[pa.Table]) -> pa.Table:
    """All items in one table, which is written."""
    items = pa.concat_tables(tables)
    with store.atomically(out / ITEMS) as temporary:
        pq.write_table(items, temporary)
    return items


def scored(begun: Experiment, items: pa.Table, trained: Sequence[Trained], about: Mapping[str, Any]) -> Experiment:
    """The experiment with its scores, that of the first treatment that was trained for "all", and with what they took."""
    treatments, primary = begun.settings["treatments"], begun.settings["primary_metric"]
    metrics = [primary, *(name for name in dict.fromkeys(items["metric"].to_pylist()) if name != primary)]
    scores = [
        {
            "split": "held_out",
            "part": metric,
            "prompt": row["arm"],
            **{name: row[name] for name in ("value", "low", "high", "n")},
        }
        for metric in metrics
        for row in measuring.by_arm(items, metric, treatments)
    ]
    first = [row for name in treatments for row in scores if (row["part"], row["prompt"]) == (primary, name)][:1]
    took = {
        "device": trained[0].device, "memory_mb": max(each.memory_mb for each in trained), "libraries": dict(trained[0].libraries),
    } if trained else {}  # fmt: skip
    return replace(
        begun, stopped="", seconds=round(sum(each.seconds for each in trained), 1),
        scores=[*({**row, "part": "all"} for row in first), *scores], settings={**begun.settings, **about, **took},
    )  # fmt: skip
