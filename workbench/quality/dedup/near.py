"""From links between texts to clusters of records, at any threshold, without computing the links again.

Of all pairs found, those of a maximum spanning forest are kept: at most one per text, and at every threshold they join
the same texts as all pairs together do (Gower & Ross 1969, doi:10.2307/2346439). So memory does not grow with the
number of pairs, and every pair kept is one on which a cluster hangs."""

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.errors import InputError
from workbench.quality.checks import quoted
from workbench.quality.dedup.exact_copies import Duplicates, clusters_table
from workbench.quality.dedup.texts import compared, field_text, key, parts
from workbench.records import Record, Verdict, by_id, one_kind

Best = Callable[[Record], float]

_BELOW = 0.1  # how far below the threshold pairs are kept, for `at`
_LEAST = 0.2
_PENDING = 2_000_000  # pairs waiting for the forest, 40 MB
_PAIRS = 1 << 16  # put in order and joined between two looks at all of them
_STEP = 0.01


@dataclass(frozen=True, eq=False)
class Texts:
    """The distinct texts of records, in the order of their first record.

    `records` has each id once; `text` (records,) is the index of a record's text, -1 where it has none; `first` (texts,)
    the place of the first record of a text; `rank` (texts,) orders texts by their hash, whatever the order of the rows.
    """

    records: tuple[Record, ...]
    fields: tuple[str, ...]
    text: np.ndarray
    first: np.ndarray
    rank: np.ndarray
    repeats: int

    @classmethod
    def of(
        cls, records: Sequence[Record], fields: Sequence[str] | None, *, each: Callable[[tuple[str, ...]], None]
    ) -> "Texts":
        """Read records, and give `each` the normalised fields of every new text. Raises as `exact` does."""
        fields = compared(one_kind(records), fields) if records else ()
        once = tuple(by_id(records).values())
        places: dict[bytes, int] = {}
        text, first = np.full(len(once), -1, np.int64), []
        for place, record in enumerate(once):
            found = parts(record, fields)
            if (same := key(found)) is None:
                continue
            text[place] = at = places.setdefault(same, len(places))
            if at == len(first):
                first.append(place)
                each(found)
        rank = np.empty(len(places), np.int64)
        rank[np.argsort(np.frombuffer(b"".join(places), ">u8")[::2], kind="stable")] = np.arange(len(places))
        return cls(once, fields, text, np.array(first, np.int64), rank, len(records) - len(once))

    def shown(self, place: int) -> str:
        """The first field of a record, as it stands."""
        return field_text(getattr(self.records[place], self.fields[0]))


@dataclass(frozen=True, eq=False)
class Links:
    """Pairs of texts with their similarity, (links,) each, the most similar first."""

    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        return zip(self.left.tolist(), self.right.tolist(), self.similarity.tolist(), strict=True)

    def down_to(self, threshold: float) -> "Links":
        """The links that join at this threshold. At 1.0 none do: only the same text is, and copies are one text."""
        count = int((self.similarity >= threshold).sum()) if threshold < 1 else 0
        return Links(self.left[:count], self.right[:count], self.similarity[:count])


class Forest:
    """Takes pairs of texts in any order and any number, and keeps the maximum spanning forest of them.

    Equally similar pairs go by the rank of their texts, so that the same pairs always give the same forest."""

    def __init__(self, rank: np.ndarray):
        self.rank = rank
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._pending = 0

    def add(self, left: np.ndarray, right: np.ndarray, similarity: np.ndarray) -> None:
        if len(left):
            self._parts.append((left, right, similarity))
            self._pending += len(left)
        if self._pending >= _PENDING:
            self.links()

    def links(self) -> Links:
        left, right, similarity = (np.concatenate(column) for column in zip(_NO_LINKS, *self._parts, strict=True))
        left, right = np.where(self.rank[left] < self.rank[right], (left, right), (right, left))
        # Kruskal's, but only what may still join is put in order: of many pairs most are within groups by then (Osipov,
        # Sanders & Singler 2009, doi:10.1137/1.9781611972894.5).
        groups, kept, size = _Groups(len(self.rank)), [], max(_PAIRS, len(self.rank))
        todo = np.arange(len(similarity))
        while len(todo):
            least = np.partition(similarity[todo], -size)[-size] if len(todo) > size else -np.inf
            first, rest = todo[similarity[todo] >= least], todo[similarity[todo] < least]
            first = first[np.lexsort((self.rank[right[first]], self.rank[left[first]], -similarity[first]))]
            some, todo = first[:size], np.concatenate([first[size:], rest])
            for at, a, b in zip(some.tolist(), left[some].tolist(), right[some].tolist(), strict=True):
                if groups.join(a, b):
                    kept.append(at)
            root = groups.roots()
            todo = todo[root[left[todo]] != root[right[todo]]]
        links = Links(left[kept], right[kept], similarity[kept])
        self._parts, self._pending = [(links.left, links.right, links.similarity)], 0
        return links


_NO_LINKS = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


class _Groups:
    """Disjoint sets of 0 ... n-1, with their sizes."""

    def __init__(self, n: int, sizes: list[int] | None = None):
        self.parent = list(range(n))
        self.size = sizes or [1] * n

    def of(self, item: int) -> int:
        parent = self.parent
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item

    def roots(self) -> np.ndarray:
        """`of` every item."""
        root = np.array(self.parent, np.int64)
        while not np.array_equal(root, above := root[root]):
            root = above
        return root

    def join(self, a: int, b: int) -> bool:
        """True when they were apart."""
        a, b = self.of(a), self.of(b)
        if a == b:
            return False
        if self.size[a] < self.size[b]:
            a, b = b, a
        self.parent[b] = a
        self.size[a] += self.size[b]
        return True


@dataclass(frozen=True, eq=False)
class Search:
    """What a search found and how: enough for the clusters of any threshold from `floor` to 1."""

    name: str
    check: str
    floor: float
    texts: Texts
    links: Links
    scores: tuple[float, ...] | None
    recall: Callable[[float], float]

    def at(self, threshold: float) -> "NearDuplicates":
        links, texts = self.links.down_to(threshold), self.texts
        groups = self._groups(links)
        survivors = [self._survivor(group) for group in groups]
        verdicts = [Verdict(record.id, self.check, True) for record in texts.records]
        near = _neighbours(links)
        for group, survivor in zip(groups, survivors, strict=True):
            reached = _reached(int(texts.text[survivor]), near)
            for place in group:
                if place != survivor:
                    verdicts[place] = self._failed(place, survivor, *reached[int(texts.text[place])])
        others = {s: [p for p in group if p != s] for s, group in zip(survivors, groups, strict=True)}
        table = clusters_table(others, texts.records)
        return NearDuplicates(
            tuple(verdicts), f"{self.name} at {threshold:g}", table, texts.repeats, float(threshold), self
        )

    def _groups(self, links: Links) -> list[list[int]]:
        """Places of records that belong together, two or more each."""
        texts = self.texts
        sets = _Groups(len(texts.first))
        for a, b, _ in links:
            sets.join(a, b)
        root = sets.roots()
        places = np.flatnonzero(texts.text >= 0)
        of = root[texts.text[places]]
        many = np.bincount(of, minlength=len(root))[of] > 1
        found: dict[int, list[int]] = {}
        for place, group in zip(places[many].tolist(), of[many].tolist(), strict=True):
            found.setdefault(group, []).append(place)
        return list(found.values())

    def _survivor(self, group: list[int]) -> int:
        return group[0] if self.scores is None else max(group, key=self.scores.__getitem__)

    def _failed(self, place: int, survivor: int, similarity: float, steps: int) -> Verdict:
        record, kept = self.texts.records[place], self.texts.records[survivor]
        text = quoted(self.texts.shown(survivor))
        if steps == 0:
            detail = f"same {' and '.join(self.texts.fields)} as {kept.id}: {text}"
            return Verdict(record.id, self.check, False, 1.0, "duplicate", detail, kept.id)
        way = f" by way of {steps - 1:,} other{'s' if steps > 2 else ''}" if steps > 1 else ""
        detail = f"{_rounded_down(similarity)} like {kept.id}{way}: {text}"
        return Verdict(record.id, self.check, False, similarity, self.check, detail, kept.id)


def _rounded_down(similarity: float) -> str:
    """Three digits that never say more than is true: 0.7999 is not 0.8."""
    return f"{math.floor(similarity * 1000 + 1e-9) / 1000:.3f}"


def _neighbours(links: Links) -> dict[int, list[tuple[int, float]]]:
    near: dict[int, list[tuple[int, float]]] = {}
    for a, b, similarity in links:
        near.setdefault(a, []).append((b, similarity))
        near.setdefault(b, []).append((a, similarity))
    return near


def _reached(start: int, near: dict[int, list[tuple[int, float]]]) -> dict[int, tuple[float, int]]:
    """For each text of a tree the weakest link on the way to `start`, and the number of links."""
    reached, todo = {start: (1.0, 0)}, [start]
    for at in todo:
        weakest, steps = reached[at]
        for other, similarity in near.get(at, ()):
            if other not in reached:
                reached[other] = (min(weakest, similarity), steps + 1)
                todo.append(other)
    return reached


@dataclass(frozen=True, repr=False)
class NearDuplicates(Duplicates):
    """Verdicts, one per distinct id, at a threshold; `at` gives those at another, from `floor` to 1.

    Records are joined when a chain of pairs, each at least as similar as the threshold, leads from one to the other;
    records with the same text (as `exact` has it) always are, and at 1.0 only these. A failed verdict's score is the
    weakest link of the chain to its survivor: the highest threshold at which the two are joined. Its reason is
    "duplicate" for the survivor's own text, and else the name of the check."""

    threshold: float = 1.0
    search: Search | None = field(default=None, compare=False)

    @property
    def floor(self) -> float:
        """The lowest threshold that `at` takes."""
        return self.search.floor

    def at(self, threshold: float) -> "NearDuplicates":
        """Return what is removed at another threshold, with the same rule of who survives; nothing is compared again.

        Raises InputError below `floor` and above 1."""
        if not _is_number(threshold) or not self.floor <= threshold <= 1:
            raise InputError(
                f"threshold must be from {self.floor:g} (below that no pairs were kept) to 1, got {threshold!r}. "
                f"For a lower one search again: {self.search.name}(records, threshold=...)."
            )
        return self.search.at(threshold)

    def recall(self, similarity: float) -> float:
        """Return the probability that a pair exactly this similar was found by itself, 0 to 1; more similar, more
        probable. 1.0 where every pair was compared."""
        return self.search.recall(similarity)

    def borderline(self, count: int = 20) -> Any:
        """Return the pairs nearest the threshold, half of them joined and half not where there are as many, to look at: a pyarrow table.

        Columns: similarity, is_joined, left, right (ids), left_text, right_text; the most similar first. Only pairs on
        which a cluster hangs: the others are joined by a stronger chain anyway."""
        import pyarrow as pa

        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise InputError(f"count must be a whole number from 2 on, got {count!r}.")
        links, texts = self.search.links, self.search.texts
        middle = len(links.down_to(self.threshold).left)
        start = max(0, min(middle - count // 2, len(links.left) - count))  # more of one side where the other has few
        rows = list(links)[start : start + count]
        places = [(int(texts.first[a]), int(texts.first[b])) for a, b, _ in rows]
        columns = {
            "similarity": pa.array([similarity for *_, similarity in rows], pa.float64()),
            "is_joined": pa.array([start + at < middle for at in range(len(rows))], pa.bool_()),
            "left": pa.array([texts.records[a].id for a, _ in places], pa.string()),
            "right": pa.array([texts.records[b].id for _, b in places], pa.string()),
            "left_text": pa.array([texts.shown(a) for a, _ in places], pa.string()),
            "right_text": pa.array([texts.shown(b) for _, b in places], pa.string()),
        }
        return pa.table(columns)

    def sweep(self) -> Any:
        """Return what each threshold from `floor` to 1.00 would do, in steps of 0.01: a pyarrow table.

        Columns: threshold, removed (records), clusters (of two or more), largest (records of the largest one). A
        largest that jumps says that chains begin to join what is not alike."""
        import pyarrow as pa

        texts, links = self.search.texts, list(self.search.links)
        sizes = np.bincount(texts.text[texts.text >= 0], minlength=len(texts.first)).tolist()
        groups = _Groups(len(sizes), sizes)
        removed, clusters = sum(sizes) - len(sizes), sum(size > 1 for size in sizes)
        largest, done, rows = max(sizes, default=0), 0, []
        for threshold in _steps(self.floor):
            while threshold < 1 and done < len(links) and links[done][2] >= threshold:
                a, b, _ = links[done]
                clusters += 1 - (groups.size[groups.of(a)] > 1) - (groups.size[groups.of(b)] > 1)
                groups.join(a, b)
                largest = max(largest, groups.size[groups.of(a)])
                removed, done = removed + 1, done + 1
            rows.append((threshold, removed, clusters, largest if largest > 1 else 0))
        columns = zip(*reversed(rows), strict=True)
        return pa.table(list(map(pa.array, columns)), names=["threshold", "removed", "clusters", "largest"])


def _steps(floor: float) -> list[float]:
    """1.00, 0.99, ... down to the floor, which is the last."""
    steps = [round(1 - at * _STEP, 2) for at in range(math.floor((1 - floor) / _STEP + 1e-9) + 1)]
    return steps if steps[-1] <= floor else [*steps, floor]


def floor_of(threshold: float) -> float:
    """Return how far down pairs are kept for this threshold. Raises InputError for what is no threshold."""
    if not _is_number(threshold) or not _LEAST <= threshold <= 1:
        hint = f" For {threshold}% give {threshold / 100:g}." if _is_number(threshold) and 1 < threshold <= 100 else ""
        raise InputError(f"threshold is a similarity from {_LEAST} to 1 (the same text), got {threshold!r}.{hint}")
    return round(threshold - _BELOW, 9)


def scores_of(records: Sequence[Record], best: Best | None) -> tuple[float, ...] | None:
    """Return `best` of each record; None without it. Raises InputError where it gives no number."""
    if best is None:
        return None
    if not callable(best):
        raise InputError(f"best is a function from a record to its score, such as `lambda r: r.score`, got {best!r}.")
    scores = [best(record) for record in records]
    for record, score in zip(records, scores, strict=True):
        if not _is_number(score):
            raise InputError(
                f"best gives {score!r} for {record.id}, which is no number that can be compared. "
                "Say what a record without a score is worth, for example -1."
            )
    return tuple(map(float, scores))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value
