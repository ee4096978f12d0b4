"""Colours for the rows of a map, the same in its picture and in its widget: safe for the colour-blind, on white and on black."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench._html import GREY
from workbench.errors import InputError

# Okabe and Ito's, without yellow and black, which vanish on white and on black.
APART = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_LOW_TO_HIGH = ("#0072B2", "#7A6FB5", "#B86A9A", "#D9694F", "#E69F00")
STEPS = 32  # of a scale
_PLACED = 200  # values whose colour is chosen by where they are; the rest are small


@dataclass(frozen=True)
class Shades:
    """The colours of n rows by a column: `slots`, (n,), places in `colours`, of which the last is grey, for no value.

    `values` are the texts of a column of texts, those of most rows first, with their number of rows; `of_value`, (n,), places
    in them, -1 for none. `ends` are the lowest and the highest colour of a column of numbers: 1% of them are below, 1% above."""

    slots: np.ndarray
    colours: tuple[str, ...]
    values: tuple[tuple[str, int], ...] = ()
    of_value: np.ndarray | None = None
    ends: tuple[float, float] | None = None

    @property
    def without(self) -> int:
        """Rows that have no value."""
        return int((self.slots == len(self.colours) - 1).sum())

    def colour(self, value: int) -> str:
        """Return the colour of a value, by its place in `values`."""
        return self.colours[self.slots[np.argmax(self.of_value == value)]]


def shades(column: Any, xy: np.ndarray, *, name: str) -> Shades:
    """Return the colours of rows at `xy`, (n, 2), by an Arrow column of n numbers, texts, dates or truth values.

    A text has a colour of its own where there are no more than `APART`; else several share one, those far from each other
    on the map. NaN, infinity and null have none. Raises InputError for a column of anything else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _by_number(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise InputError(f"a column of {kind} has no colours: {name!r}. Give numbers, texts, dates or truth values.")
    return _by_value(pc.cast(column, pa.string()), xy)


def _by_number(numbers: np.ndarray) -> Shades:
    scale = tuple(_between(_LOW_TO_HIGH, step / (STEPS - 1)) for step in range(STEPS))
    known = numbers[np.isfinite(numbers)]
    low, high = np.quantile(known, [0.01, 0.99]).tolist() if len(known) else (0.0, 0.0)
    with np.errstate(invalid="ignore"):
        places = np.clip((numbers - low) / ((high - low) or 1.0), 0, 1) * (STEPS - 1)
    slots = np.where(np.isfinite(numbers), np.nan_to_num(places).round(), STEPS).astype(np.int32)
    return Shades(slots, (*scale, GREY), ends=(low, high))


def _by_value(texts: Any, xy: np.ndarray) -> Shades:
    encoded = texts.dictionary_encode()
    found = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(found[found >= 0], minlength=len(encoded.dictionary))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order) + 1, np.int64)
    rank[order], rank[-1] = np.arange(len(order)), -1
    of_value = rank[found]
    names = encoded.dictionary.to_pylist()
    values = tuple((names[at], int(counts[at])) for at in order)
    slots = np.append(_far_apart(of_value, len(values), xy), len(APART))[of_value]
    return Shades(slots.astype(np.int32), (*APART, GREY), values, of_value)


def _far_apart(of_value: np.ndarray, count: int, xy: np.ndarray) -> np.ndarray:
    """A colour for each value, (count,): the one whose nearest other value of that colour is farthest."""
    chosen = np.arange(count) % len(APART)
    centres = np.array([np.median(xy[of_value == at], axis=0) for at in range(min(count, _PLACED))]).reshape(-1, 2)
    for at in range(len(APART), len(centres)):
        away = np.linalg.norm(centres[:at] - centres[at], axis=1)
        nearest = [away[chosen[:at] == colour].min() for colour in range(len(APART))]
        chosen[at] = int(np.argmax(nearest))
    return chosen


def _between(colours: tuple[str, ...], share: float) -> str:
    """The colour at a share of the way through these."""
    at = min(int(share * (len(colours) - 1)), len(colours) - 2)
    part = share * (len(colours) - 1) - at
    first, second = (np.array([int(each[n : n + 2], 16) for n in (1, 3, 5)]) for each in colours[at : at + 2])
    return "#" + "".join(f"{value:02X}" for value in np.round(first + part * (second - first)).astype(int))
