"""How far trainings are: the steps that they log, as one table, while they run and afterwards."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench import store
from workbench.errors import InputError, StoreError
from workbench.experiments.reading import FILE, read

STEPS = "steps.jsonl"
# Arms that data worth training on must beat: the model as it was, and the same data broken on purpose.
CONTROLS = ("base", "shuffled labels", "length only", "random pairs", "half twice", "mismatched answers")

_COLUMNS = {
    "experiment": pa.string(), "arm": pa.string(), "is_control": pa.bool_(), "seed": pa.int64(), "step": pa.int64(),
    "steps": pa.int64(), "seconds": pa.float64(), "tokens": pa.int64(), "loss": pa.float64(),
}  # fmt: skip


def steps(*folders: str | os.PathLike[str]) -> store.Rows:
    """Return what the trainings below these experiments' folders logged so far: one row an arm, seed and step, in order.

    Columns: experiment (its folder's name), arm, is_control, seed, step of steps, seconds, tokens, loss, and each other
    number that was logged, null where it was not. A last line that a kill cut off is left out. Raises InputError for a
    folder that is not there, and StoreError for any other line that cannot be read."""
    rows: list[dict[str, Any]] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}. Give the one that a training writes to.")
        arms = _arms(folder)
        for path in sorted(folder.glob(f"arms/*/seed-*/{STEPS}")):
            arm = path.parts[-3]
            arm = arms.get(arm, arm)
            about = {"experiment": folder.resolve().name, "arm": arm, "is_control": _is_control(arm)}
            rows += [about | {"seed": _seed(path)} | row for row in logged(path)]
    others = sorted({name for row in rows for name in row} - _COLUMNS.keys())
    schema = pa.schema([*_COLUMNS.items(), *((name, pa.float64()) for name in others)])
    return store.Rows(pa.Table.from_pylist(rows, schema=schema))


def _is_control(arm: str) -> bool:
    """True of a control, also of one at a size: "10 rows, shuffled labels"."""
    return arm.rpartition(", ")[2] in CONTROLS


def _arms(folder: Path) -> dict[str, str]:
    """The arms by the names of their folders, which have no blanks."""
    named = read(folder).settings.get("arms", ()) if (folder / FILE).exists() else ()
    named = named if isinstance(named, Iterable) and not isinstance(named, str) else ()
    return {str(name).replace(" ", "-"): str(name) for name in (*CONTROLS, *named)}


def _seed(path: Path) -> int:
    number = path.parent.name.removeprefix("seed-")
    if not number.isdecimal():
        raise StoreError(f"{path.parent} names no seed. Such folders are called seed-0, seed-1 and so on.")
    return int(number)


def logged(path: Path) -> Iterator[dict[str, Any]]:
    """A row a step, with all that was logged of it: the loss and an evaluation come on lines of their own."""
    found: dict[int, dict[str, Any]] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)  # not orjson: a loss may be NaN, and then it must be seen
            numbers = {name: _number(name, value) for name, value in row.items() if _is_number(value)}
            found.setdefault(numbers["step"], {}).update(numbers)
        except (ValueError, AttributeError, KeyError):
            if number == len(lines):  # what ends without a line break was cut off, or is being written
                break
            raise StoreError(f"line {number} of {path} is no step: {line[:80]!r}. Delete the folder {path.parent.name} and train it again.") from None  # fmt: skip
    return iter([found[step] for step in sorted(found)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(name: str, value: float) -> float:
    return int(value) if _COLUMNS.get(name) == pa.int64() else float(value)
