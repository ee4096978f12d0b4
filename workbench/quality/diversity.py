"""Diversity, accounted for: how many things a set says, and whether personas add any.

    diversity.measure(questions)                              # each measure with its interval
    diversity.coverage(found.labels)                          # clusters covered against rows
    diversity.compare(with_, without, personas=personas)      # at equal n, and again without the personas' words

Every measure but self-similarity grows or falls with the number of rows, so two sets are compared at equal n, and distinct-n at
equal numbers of n-grams too. A persona that is only named in a question ("As a baker, how hot should the oven be?") makes it
differ from its neighbours and asks nothing new: so `compare` measures again after the personas' words are taken out of both
sides, and what is left of the gain is diversity rather than vocabulary.

Intervals are of the mean influence of a row on the measure (Hampel 1974, doi:10.1080/01621459.1974.10482962), bootstrapped by
`intervals`. Resampling whole sets would not do: a row that is drawn twice is a duplicate, and any set with duplicates is
less diverse than the one it was drawn from. Of simulated sets of 200 rows, intervals called 95% hold the mean of such sets
in 96 to 99% for what is counted (clusters covered, distinct-n), 95% for self-similarity, 93% for the Vendi score, 89% for
effective clusters."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import _html, clusters, embed, intervals
from workbench.clusters import NOISE, Map
from workbench.errors import InputError
from workbench.intervals import Interval
from workbench.llm.offline_rules.text import content_stems
from workbench.quality.checks import grams, words

NGRAMS = (1, 2, 3)
COVERED, EFFECTIVE, VENDI, SIMILAR = "clusters covered", "effective clusters", "Vendi score", "self-similarity"
_SIZES = 12  # points of a curve


@dataclass(frozen=True)
class _Part:
    """A measure, and how much each row moves it: its value plus the mean of `influence`, which is 0, is the value."""

    value: float
    influence: np.ndarray

    def interval(self, groups: Sequence[str] | None, level: float, seed: int) -> Interval:
        return intervals.mean(self.rows, groups=groups, level=level, seed=seed)

    @property
    def rows(self) -> np.ndarray:
        return self.value + self.influence - self.influence.mean()


# --- measures ---------------------------------------------------------------------------------------------------------


def covered(labels: Sequence[int]) -> int:
    """Return how many clusters the rows are in; NOISE is none."""
    return len({int(label) for label in labels} - {NOISE})


def effective(labels: Sequence[int]) -> float:
    """Return the effective number of clusters, 1 to `covered`: how many of equal size would be as varied, 0 for no row.

    The exponential of Shannon's entropy of the clusters' shares (Hill 1973, doi:10.2307/1934352). NOISE is left out."""
    return _effective(np.asarray(labels)).value


def vendi(vectors: np.ndarray) -> float:
    """Return the Vendi score of unit vectors, (n, d): 1 for rows that are all alike, n for rows at right angles.

    The exponential of the entropy of the eigenvalues of the cosines over n (Friedman and Dieng 2023, arXiv:2210.02410), at
    most min(n, d). Raises InputError for rows that are not of length 1."""
    return _vendi(_units(vectors)).value


def self_similarity(vectors: np.ndarray) -> float:
    """Return the mean cosine of two different rows of unit vectors, (n, d), -1 to 1. Raises InputError for one row."""
    return _self_similarity(_units(vectors)).value


def distinct(texts: Sequence[str], n: int = 1, *, at: int | None = None) -> float:
    """Return distinct-n: the share of runs of n words that are different ones, 0 to 1 (Li et al. 2016, arXiv:1510.03055).

    More text says fewer new runs, so sets of other lengths are compared `at` the same number of runs: then it is the mean
    over all ways of drawing so many. Words are in lower case, without marks. Raises InputError where there are not that many."""
    return _distinct([grams(words(text), n) for text in texts], at).value


def _units(vectors: np.ndarray) -> np.ndarray:
    given = np.asarray(vectors, np.float64)
    if given.ndim != 2 or not len(given):
        raise InputError(f"vectors must be (n, d) with a row or more, got {given.shape}.")
    lengths = np.linalg.norm(given, axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):  # NaN is not close to anything
        at = int(np.flatnonzero(~np.isclose(lengths, 1, atol=1e-3))[0])
        raise InputError(f"row {at} has length {lengths[at]:.3g}, and cosines need length 1. Divide each by its own.")
    return given / lengths[:, None]


def _effective(labels: np.ndarray) -> _Part:
    labels = np.asarray(labels)
    influence = np.zeros(len(labels))
    of_some = labels != NOISE
    if not of_some.any():
        return _Part(0.0, influence)
    _, place, counts = np.unique(labels[of_some], return_inverse=True, return_counts=True)
    shares = counts / counts.sum()
    entropy = -(shares * np.log(shares)).sum()
    value = float(np.exp(entropy))
    influence[of_some] = value * (-np.log(shares[place]) - entropy) * len(labels) / of_some.sum()
    return _Part(value, influence)


def _vendi(unit: np.ndarray) -> _Part:
    # The n by n cosines and the d by d sums of squares have the same eigenvalues but for zeros.
    values, directions = np.linalg.eigh(unit.T @ unit / len(unit))
    is_there = values > 1e-12
    values, directions = values[is_there] / values[is_there].sum(), directions[:, is_there]
    entropy = -(values * np.log(values)).sum()
    score = float(np.exp(entropy))
    # The derivative of the entropy towards one row x: -x' log(S) x - entropy.
    return _Part(score, score * (-((unit @ directions) ** 2 @ np.log(values)) - entropy))


def _self_similarity(unit: np.ndarray) -> _Part:
    if len(unit) < 2:
        raise InputError("one row has no other to be like. Give 2 or more.")
    total = unit.sum(axis=0)
    to_others = (unit @ total - 1) / (len(unit) - 1)
    return _Part(float(to_others.mean()), 2 * (to_others - to_others.mean()))


def _distinct(runs: Sequence[Sequence[Any]], at: int | None) -> _Part:
    counts = Counter(run for row in runs for run in row)
    total = counts.total()
    size = total if at is None else at
    if not 0 < size <= total:
        raise InputError(f"there are {total:,} runs of words, so distinct-n at {size:,} of them cannot be told.")
    number = {run: place for place, run in enumerate(counts)}
    of_kind = np.array(list(counts.values()))
    chance, moves = _rarefied(of_kind, total, size)
    mean = float((moves * of_kind).sum() / total)
    influence = np.array([sum(moves[number[run]] - mean for run in row) for row in runs])
    return _Part(float(chance.sum()) / size, influence * len(runs) / total / size)


def _covered_at(labels: Sequence[int], size: int) -> _Part:
    """The clusters expected among `size` of the rows; rows of NOISE are drawn too, and cover nothing."""
    labels = np.asarray(labels)
    kinds, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    chance, moves = _rarefied(counts, len(labels), size)
    is_cluster = kinds != NOISE
    own = (moves * is_cluster)[place]
    return _Part(float(chance[is_cluster].sum()), own - own.mean())


def _rarefied(counts: np.ndarray, total: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The chance of each kind to be among `size` of `total` drawn without replacement, and how much one of it moves the
    number of kinds, (kinds,) each: by leaving it out, as the jackknife does.

    A kind of count c is missed with probability C(total - c, size) / C(total, size), a product of c factors (Hurlbert
    1971, doi:10.2307/1934145)."""
    chance = 1 - _missed(counts, total, size)
    fewer = min(size, total - 1)
    moves = _missed(counts - 1, total - 1, fewer) - _missed(counts, total - 1, fewer)
    return chance, (total - 1) * moves


def _missed(counts: np.ndarray, total: int, size: int) -> np.ndarray:
    places = np.arange(int(counts.max(initial=0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.maximum(0, total - size - places) / np.maximum(1, total - places))
    return np.exp(np.concatenate([[0.0], np.cumsum(logs)]))[counts]


# --- one set ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Measures:
    """The measures of one set of `n` rows, by name, each with its interval."""

    values: Mapping[str, Interval]
    n: int

    def __getitem__(self, name: str) -> Interval:
        return self.values[name]

    @property
    def _rows(self) -> list[tuple[str, str]]:
        return [(name, _said(found)) for name, found in self.values.items()]

    def __repr__(self) -> str:
        return f"Diversity of {self.n:,} rows\n{_html.text_table(('measure', 'value'), self._rows)}"

    def _repr_html_(self) -> str:
        return _html.card("Diversity", f"of {self.n:,} rows", _html.html_table(("measure", "value"), self._rows))


def measure(
    texts: Sequence[str],
    *,
    found: Map | None = None,
    model: str | os.PathLike[str] | embed.Endpoint | None = None,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Measures:
    """Return every measure of the texts: clusters covered and effective clusters (on the map `found`, by default one of
    these texts), Vendi score, self-similarity, distinct-1 to 3.

    `model` is one of `embed.texts`, by default that of the map, or else embed.HASHING. Raises InputError where it is not
    the map's, or the map was made of vectors and it is not given, since vectors of another model would fit by chance.

    `groups`, (n,), such as documents, are resampled whole. Say n with any of these: they change with it."""
    unit, labels = _placed([texts], found, model)
    return Measures(
        {name: part.interval(groups, level, seed) for name, part in _parts(texts, unit[0], labels[0], {}).items()},
        len(texts),
    )


def _placed(
    sets: Sequence[Sequence[str]], found: Map | None, model: str | os.PathLike[str] | embed.Endpoint | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The unit vectors and the labels of each set, on one map of all of them where none is given."""
    if found is not None and not (found.model or model):
        raise InputError(
            "the map was made of vectors or by an endpoint, and knows no model. Give model=, the one of these."
        )
    if found is not None and found.model and model is not None and str(model) != found.model:
        raise InputError(
            f"the map is one of {found.model}, and model is {model}. Leave model= out, or give another map."
        )
    model = model or (found.model if found is not None else embed.HASHING)
    ends = np.cumsum([len(texts) for texts in sets])[:-1]
    texts = [text for each in sets for text in each]
    vectors = embed.texts(texts, model=model)
    on = clusters.fit(texts, vectors=vectors) if found is None else found.assign(vectors=vectors)
    return np.split(_units(vectors), ends), np.split(on.labels, ends)


def _parts(texts: Sequence[str], unit: np.ndarray, labels: np.ndarray, at: Mapping[int, int]) -> dict[str, _Part]:
    parts = {
        COVERED: _covered_at(labels, len(labels)),
        EFFECTIVE: _effective(labels),
        VENDI: _vendi(unit),
        SIMILAR: _self_similarity(unit),
    }
    for n in NGRAMS:
        runs = [grams(words(text), n) for text in texts]
        if any(runs) and at.get(n, 1):
            parts[f"distinct-{n}"] = _distinct(runs, at.get(n))
    return parts


@dataclass(frozen=True, repr=False)
class Curve:
    """The clusters that so many rows cover: `sizes`, and for each the mean over all ways of drawing so many, with its
    interval. Where it still climbs at its end, more rows would find more."""

    sizes: tuple[int, ...]
    clusters: tuple[Interval, ...]

    def table(self) -> Any:
        """Return a pyarrow table: rows, clusters, low, high."""
        import pyarrow as pa

        of = lambda name: [getattr(each, name) for each in self.clusters]
        return pa.table({"rows": self.sizes, "clusters": of("value"), "low": of("low"), "high": of("high")})

    @property
    def _rows(self) -> list[tuple[int, str]]:
        return [(size, _said(each)) for size, each in zip(self.sizes, self.clusters, strict=True)]

    def __repr__(self) -> str:
        return _html.text_table(("rows", "clusters covered"), self._rows)

    def _repr_html_(self) -> str:
        return _html.html_table(("rows", "clusters covered"), self._rows)


def coverage(
    labels: Sequence[int], *, sizes: Sequence[int] = (), groups: Sequence[str] | None = None, level: float = 0.95
) -> Curve:
    """Return how many clusters so many of the rows cover: the rarefaction curve, exact, with intervals.

    `sizes` are by default 12 from 1 to all rows, each about as many times the one before. Raises InputError for sizes
    outside of that, and for fewer than 2 rows."""
    labels = np.asarray(labels)
    if len(labels) < 2:
        raise InputError(f"a curve needs 2 rows or more, got {len(labels)}.")
    sizes = tuple(sizes) or tuple(np.unique(np.geomspace(1, len(labels), _SIZES).round().astype(int)).tolist())
    if min(sizes) < 1 or max(sizes) > len(labels):
        raise InputError(
            f"sizes run from 1 to {len(labels):,}, the number of rows, got {min(sizes)} to {max(sizes):,}."
        )
    return Curve(sizes, tuple(_covered_at(labels, size).interval(groups, level, 0) for size in sizes))


# --- two sets ---------------------------------------------------------------------------------------------------------

# Up to the first mark, but for an opening that goes on to ask ("As a baker I wonder how hot an oven must be, and ...").
_FRAME = re.compile(
    r"\s*(?:(?:speaking |writing )?as|being|since i am|because i am|i am|i'm) (?:an?|the|someone|somebody)\b"
    r"(?:(?!\b(?:i|my|we|our|how|what|why)\b)[^,.;:?!\n]){0,160}[,.;:]\s*",
    re.IGNORECASE,
)
_TELLING = re.compile(r"\w[\w'’-]*\w|\w")


def without_persona(text: str, persona: str) -> str:
    """Return the text without the persona's words: an opening that presents them ("As a baker, ...") and every content
    word that the persona's description has too, with any ending such as -s, -ing or -ed. "" when only function words are left.

    Words that the persona shares with the topic go as well; so take them out of both sides of a comparison. Synonyms
    stay, what is derived (a baker's bakery), and a persona's concerns in other words. English."""
    own = _content(persona)
    frame = _FRAME.match(text)
    rest = text[frame.end() :] if frame and own & _content(frame[0]) else text
    rest = _TELLING.sub(lambda word: "" if own & _content(word[0]) else word[0], rest)
    rest = re.sub(r"\s+(?=[,.;:?!])", "", " ".join(rest.split()))
    return rest if rest == " ".join(text.split()) or _content(rest) else ""


def _content(text: str) -> set[str]:
    """The stems of the words that say something; of a compound also those of its parts."""
    return {stem for word in text.replace("-", " ").split() for stem in content_stems(word)}


@dataclass(frozen=True)
class Compared:
    """One measure of both sets, at equal n; `difference` is with personas less without. `is_stripped` after the personas'
    words were taken out of both."""

    measure: str
    is_stripped: bool
    without: Interval
    with_: Interval
    difference: Interval

    @property
    def gain(self) -> int:
        """1 where the set with personas is surely more diverse, -1 where surely less, 0 where it is not shown."""
        sign = -1 if self.measure == SIMILAR else 1
        return sign * (int(self.difference.low > 0) - int(self.difference.high < 0))


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two sets of `n` rows each, with and without personas. `dropped` counts pairs of which one has nothing left without
    the persona's words; `changed`, the share of rows that lost a word, without and with personas."""

    rows: tuple[Compared, ...]
    n: int
    dropped: int = 0
    changed: tuple[float, float] = (0.0, 0.0)

    def find(self, measure: str, *, is_stripped: bool = False) -> Compared:
        """Return the row of a measure. Raises InputError when there is none."""
        for row in self.rows:
            if row.measure == measure and row.is_stripped == is_stripped:
                return row
        there = ", ".join(dict.fromkeys(row.measure for row in self.rows if row.is_stripped == is_stripped))
        after = " without the personas' words" if is_stripped else ""
        raise InputError(f"there is no {measure!r}{after} here; there are {there or 'none, for lack of personas='}.")

    @property
    def answer(self) -> str:
        """Whether personas buy diversity or only vocabulary, by self-similarity, as one sentence."""
        whole = self.find(SIMILAR)
        moved = f"self-similarity {_signed(whole.difference)} at n {self.n:,}"
        if whole.gain < 0:
            return f"Personas make the set more alike: {moved}."
        if not whole.gain:
            return f"It is not shown that personas change how alike the set is: {moved}."
        if not any(row.is_stripped for row in self.rows):
            return f"Personas make the set less alike ({moved}); by their vocabulary or by more is not known: give personas=."
        bare = self.find(SIMILAR, is_stripped=True)
        left = f"{_signed(bare.difference)} without their words"
        if bare.gain > 0:
            return f"Personas buy diversity: {moved}, and {left}."
        return f"Personas buy vocabulary, and more is not shown: {moved}, but {left}."

    def table(self) -> Any:
        """Return a pyarrow table, a row per measure: measure, stripped, and value, low and high of without, with_ and
        difference."""
        import pyarrow as pa

        columns: dict[str, list[Any]] = {
            "measure": [row.measure for row in self.rows], "stripped": [row.is_stripped for row in self.rows]
        }  # fmt: skip
        for side in ("without", "with_", "difference"):
            for end in ("value", "low", "high"):
                columns[f"{side.rstrip('_')}_{end}"] = [getattr(getattr(row, side), end) for row in self.rows]
        return pa.table(columns)

    @property
    def _cells(self) -> list[tuple[str, str, str, str]]:
        name = lambda row: f"{row.measure}, personas' words out" if row.is_stripped else row.measure
        return [(name(row), _said(row.without), _said(row.with_), _signed(row.difference)) for row in self.rows]

    @property
    def _about(self) -> str:
        said = f"{self.n:,} rows each"
        if any(row.is_stripped for row in self.rows):
            said += f"; the personas' words were in {self.changed[1]:.0%} of the rows with and {self.changed[0]:.0%} of those without"
        return f"{said}; {self.dropped:,} pairs had no other words" if self.dropped else said

    def __repr__(self) -> str:
        return f"{self.answer}\n  {self._about}\n{_html.text_table(_COLUMNS, self._cells)}"

    def _repr_html_(self) -> str:
        return _html.card(self.answer, self._about, _html.html_table(_COLUMNS, self._cells))


_COLUMNS = ("measure", "without personas", "with personas", "difference")


def compare(
    with_: Sequence[str],
    without: Sequence[str],
    *,
    personas: Sequence[str] = (),
    groups: Sequence[str] = (),
    found: Map | None = None,
    model: str | os.PathLike[str] | embed.Endpoint | None = None,
) -> Comparison:
    """Return each measure of texts made with personas and without, at equal n, and the same without the personas' words.

    Of the larger set as many rows as the other has are drawn, always the same. `personas`, one for each of `with_`, are
    descriptions; row i of both sets loses the words of persona i, so that topics which personas share with their sources are
    taken from both sides. It is the fairest where row i of both is of the same source. `groups`, one for each pair of two
    sets of the same length, are resampled whole. Clusters are those of `found`, or of one map of both sets; `model` as in `measure`. Raises
    InputError for lengths that do not fit, and for fewer than 5 pairs (2 with `found`), also of those with other words."""
    if personas and len(personas) != len(with_):
        raise InputError(
            f"{len(with_):,} texts with personas and {len(personas):,} personas. Give the persona of each."
        )
    if odd := [at for at, persona in enumerate(personas) if not isinstance(persona, str)]:
        raise InputError(f"personas[{odd[0]}] is {personas[odd[0]]!r:.80}, not a description of one.")
    if groups and not len(groups) == len(with_) == len(without):
        raise InputError(
            f"groups are of pairs: there are {len(groups):,}, for {len(with_):,} texts with and {len(without):,} without personas."
        )
    n, fewest = min(len(with_), len(without)), 2 if found is not None else 5  # clusters.fit takes 10 rows or more
    if n < fewest:
        raise InputError(f"there are {n:,} rows of each set to compare, and {fewest} or more are needed. Give more.")
    drawn = [_drawn(len(texts), n) for texts in (without, with_)]
    sets = [[texts[at] for at in places] for texts, places in zip((without, with_), drawn, strict=True)]
    rows = _compared(sets, groups, found, model, is_stripped=False)
    if not personas:
        return Comparison(tuple(rows), n)
    own = [personas[at] for at in drawn[1]]
    bare = [[without_persona(text, persona) for text, persona in zip(texts, own, strict=True)] for texts in sets]
    changed = tuple(sum(a != b for a, b in zip(*pair, strict=True)) / n for pair in zip(sets, bare, strict=True))
    kept = [at for at in range(n) if bare[0][at] and bare[1][at]]
    if len(kept) < fewest:
        raise InputError(
            f"{n - len(kept):,} of {n:,} pairs have a text of the persona's words alone, and the {len(kept):,} others are too few "
            "to compare. Leave personas= out, or give shorter descriptions."
        )
    left = [[texts[at] for at in kept] for texts in bare]
    more = _compared(left, [groups[at] for at in kept] if groups else (), found, model, is_stripped=True)
    return Comparison((*rows, *more), n, n - len(kept), (changed[0], changed[1]))


def _drawn(count: int, n: int) -> list[int]:
    return sorted(np.random.default_rng(0).permutation(count)[:n].tolist())


def _compared(
    sets: Sequence[Sequence[str]],
    groups: Sequence[str],
    found: Map | None,
    model: str | os.PathLike[str] | embed.Endpoint | None,
    *,
    is_stripped: bool,
) -> list[Compared]:
    units, labels = _placed(sets, found, model)
    at = {n: min(sum(len(grams(words(text), n)) for text in texts) for texts in sets) for n in NGRAMS}
    one, two = (_parts(*each, at) for each in zip(sets, units, labels, strict=True))
    rows, by = [], list(groups) or None
    for name in one:
        if name in two:
            # Rows that are no pairs are paired by chance, which leaves the variance of the difference as it is.
            difference = intervals.paired(one[name].rows, two[name].rows, groups=by)
            sides = (part[name].interval(by, 0.95, 0) for part in (one, two))
            rows.append(Compared(name, is_stripped, *sides, difference))
    return rows


def _said(found: Interval) -> str:
    shown = _number(found)
    return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)})"


def _signed(found: Interval) -> str:
    shown = _number(found)
    return f"{shown(found.value, '+')} ({shown(found.low, '+')} to {shown(found.high, '+')})"


def _number(found: Interval) -> Callable[..., str]:
    digits = 1 if max(abs(found.value), abs(found.low), abs(found.high)) >= 2 else 3
    return lambda value, sign="": f"{value:{sign}.{digits}f}"
