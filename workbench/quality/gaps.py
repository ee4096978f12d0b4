"""Where a set is thin or empty, against a map of what it should be about.

found = clusters.fit(passages, ids=ids)                      # what there is to ask about
gaps = gaps.against(found, found.assign(questions).nearest)  # what was asked
gaps, gaps.thin, gaps.ratio                                  # the table, the clusters with too few, a value for each row of the map"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import _html, intervals
from workbench.clusters import NOISE, Map
from workbench.errors import InputError

_SHOWN = 20


@dataclass(frozen=True)
class Gap:
    """A cluster of the map with its `there` rows, and how many `rows` of the set are in it, of `expected` ones if the set were
    spread as the map is. `ratio` is the one by the other, with its interval: of all clusters' intervals together 95% hold."""

    number: int
    name: str
    there: int
    rows: int
    expected: float
    ratio: float
    low: float
    high: float

    @property
    def is_thin(self) -> bool:
        """Surely fewer rows than its share of the map, with so many clusters looked at."""
        return self.high < 1


@dataclass(frozen=True, repr=False)
class Gaps:
    """The clusters of a map, those with the lowest ratio first. `outside` counts rows of the set that are in none of them; `found`
    is the map."""

    clusters: tuple[Gap, ...]
    found: Map
    n: int
    outside: int

    @property
    def thin(self) -> list[Gap]:
        """The clusters with surely fewer rows than their share."""
        return [each for each in self.clusters if each.is_thin]

    @property
    def ratio(self) -> list[float | None]:
        """Return for each row of the map the ratio of its cluster, None in none: a column to colour the map by."""
        of = {each.number: each.ratio for each in self.clusters}
        return [of.get(label) for label in self.found.labels.tolist()]

    def table(self) -> Any:
        """Return a pyarrow table, a row per cluster: number, cluster, there, rows, expected, ratio, low, high."""
        import pyarrow as pa

        names = ("number", "name", "there", "rows", "expected", "ratio", "low", "high")
        return pa.table({name: [getattr(each, name) for each in self.clusters] for name in names})

    @property
    def _title(self) -> str:
        empty = sum(not each.rows for each in self.clusters)
        return f"{len(self.thin):,} of {len(self.clusters):,} clusters are thin, {empty:,} have no row"

    @property
    def _about(self) -> str:
        return f"{self.n:,} rows, {self.outside:,} of them in no cluster; thin is surely below the map's share, at 95% for all clusters together"

    @property
    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (each.number, each.name, each.there, each.rows, f"{each.expected:.1f}", f"{each.ratio:.2f} ({each.low:.2f} to {each.high:.2f})", "thin" if each.is_thin else "")
            for each in self.clusters[:_SHOWN]
        ]  # fmt: skip

    def __repr__(self) -> str:
        return f"{self._title}\n  {self._about}\n{_html.text_table(_COLUMNS, self._rows, len(self.clusters))}"

    def _repr_html_(self) -> str:
        return _html.card(self._title, self._about, _html.html_table(_COLUMNS, self._rows, len(self.clusters)))


_COLUMNS = ("cluster", "name", "in the map", "in the set", "expected", "ratio", "")


def against(found: Map, labels: Sequence[int]) -> Gaps:
    """Return how a set is spread over the clusters of a map; `labels`, (m,), say in which its rows are, NOISE for none.

    Rows of the map in no cluster are left out of what is expected, and rows of the set of what is compared. Intervals are
    Wilson's of the share of the set, over the share of the map, each at 1 - 0.05 / clusters (Bonferroni), since the worst of
    many is looked for. Rows are taken one by one: where they come in families, give one of each. Raises InputError for a map without clusters, for labels
    that it has not, and when no row is in a cluster."""
    labels = np.asarray(labels)
    if not found.clusters:
        raise InputError("the map has no cluster, so nothing can be empty. Fit it with a smaller min_size.")
    if odd := sorted(set(labels.tolist()) - {NOISE, *range(len(found.clusters))}):
        raise InputError(f"there is no cluster {odd[0]!r}; there are 0 to {len(found.clusters) - 1}, and NOISE, -1.")
    counts = Counter(labels[labels != NOISE].tolist())
    if not (n := counts.total()):
        raise InputError(
            f"none of {len(labels):,} rows is in a cluster. Give assign(...).nearest, which has one for each."
        )
    clustered = sum(each.size for each in found.clusters)
    rows = []
    for each in found.clusters:
        share = each.size / clustered
        low, high = intervals.wilson(counts[each.number], n, level=1 - 0.05 / len(found.clusters))
        ratio = counts[each.number] / n / share
        rows.append(
            Gap(each.number, each.name, each.size, counts[each.number], share * n, ratio, low / share, high / share)
        )
    return Gaps(
        tuple(sorted(rows, key=lambda gap: (gap.ratio, -gap.there, gap.number))), found, len(labels), len(labels) - n
    )
