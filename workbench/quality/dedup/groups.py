"""What a threshold removes of each kind of record, where somebody has said what kinds there are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import _html, intervals
from workbench.errors import InputError
from workbench.quality.dedup.near import NearDuplicates


@dataclass(frozen=True)
class At:
    """One threshold and kind: how many of its `n` records are removed."""

    threshold: float
    kind: str
    removed: int
    n: int

    @property
    def share(self) -> float:
        return self.removed / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of Wilson 1927, (low, high)."""
        return intervals.wilson(self.removed, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.0%} of {self.n:,} ({low:.0%} to {high:.0%})"


@dataclass(frozen=True, repr=False)
class Removed:
    """What each threshold removes of each kind, `rows` from the lowest threshold up."""

    rows: tuple[At, ...]
    search: str

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.kind for row in self.rows))

    def at(self, threshold: float) -> dict[str, At]:
        """Return what that threshold removes, by kind. Raises InputError for one that was not tried."""
        found = {row.kind: row for row in self.rows if abs(row.threshold - threshold) < 1e-9}
        if not found:
            raise InputError(
                f"{threshold:g} was not tried; from {self.rows[0].threshold:g} to {self.rows[-1].threshold:g} were."
            )
        return found

    def best(self, *, remove: str, spare: str) -> float:
        """Return the threshold that removes most of one kind and least of another: with the greatest difference of the two
        shares (Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3); of equals the highest.

        Chosen on these records it promises a little too much for others. Raises InputError for a kind that is not there."""
        if missing := {remove, spare} - set(self.kinds):
            raise InputError(f"there is no kind {min(missing)!r}; there are {', '.join(self.kinds)}.")
        thresholds = sorted({row.threshold for row in self.rows})
        gain = lambda threshold: (found := self.at(threshold))[remove].share - found[spare].share
        return max(thresholds, key=lambda threshold: (round(gain(threshold), 9), threshold))

    def table(self) -> Any:
        """Return a pyarrow table: threshold, kind, removed, n, share, low, high."""
        import pyarrow as pa

        names = ("threshold", "kind", "removed", "n", "share")
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in self.rows] for name in names}
        columns |= {name: [row.interval[at] for row in self.rows] for at, name in enumerate(("low", "high"))}
        return pa.table(columns)

    @property
    def _cells(self) -> list[list[Any]]:
        thresholds = sorted({row.threshold for row in self.rows}, reverse=True)
        shown = [t for t in thresholds if abs(t * 20 - round(t * 20)) < 1e-6] or thresholds  # every 0.05
        return [[f"{t:.2f}", *(str(self.at(t)[kind]) for kind in self.kinds)] for t in shown]

    def __repr__(self) -> str:
        return f"removed by {self.search}\n{_html.text_table(('threshold', *self.kinds), self._cells)}"

    def _repr_html_(self) -> str:
        return _html.card(f"Removed by {self.search}", "", _html.html_table(("threshold", *self.kinds), self._cells))


def by_kind(found: NearDuplicates, kinds: Mapping[str, str], *, thresholds: Sequence[float] = ()) -> Removed:
    """Return how many records of each kind are removed at each threshold, by default every 0.01 that `found` knows.

    `kinds` maps ids of records to a kind, such as "copy" or "cousin"; records without one are not counted. Raises
    InputError when none is of a record here."""
    ids = {verdict.record_id for verdict in found}
    counted = {record_id: kind for record_id, kind in kinds.items() if record_id in ids}
    if not counted:
        raise InputError("no id of the kinds is of a record that was searched. Give {record.id: kind}.")
    sizes = Counter(counted.values())
    rows = []
    for threshold in sorted(thresholds or found.sweep()["threshold"].to_pylist()):
        failed = Counter(counted[v.record_id] for v in found.at(threshold) if not v.passed and v.record_id in counted)
        rows += [At(threshold, kind, failed[kind], n) for kind, n in sizes.items()]
    return Removed(tuple(rows), found.search.name)
