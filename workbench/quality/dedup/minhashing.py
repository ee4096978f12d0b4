"""Near-duplicates by their words: MinHash finds candidates, and each is compared for true.

Broder 1997, doi:10.1109/SEQUEN.1997.666900; bands as in Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, 3.4."""

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import chain

import numpy as np

from workbench.errors import InputError
from workbench.quality.dedup.near import Best, Forest, Links, NearDuplicates, Search, Texts, floor_of, scores_of
from workbench.quality.dedup.texts import words
from workbench.records import Record

_MISSED = 0.02  # the share of pairs exactly at the floor that may be missed; at the threshold it is far below
_CHUNK = 1024  # texts read, and pairs compared, at once
_CHARACTERS, _GRAMS = 1 << 23, 1 << 21  # the most of them read and compared at once, but for a longer text
_CANDIDATES = 1 << 16  # candidate pairs looked at at once
_PLACE_BITS = 10  # of 64: which of a chunk; the other 54 are the n-gram, so that one sort orders both
_GRAM = np.uint64((1 << (64 - _PLACE_BITS)) - 1)
_SKETCH = 4  # words of 64 bits


def minhash(
    records: Sequence[Record],
    *,
    threshold: float = 0.8,
    ngram: int = 2,
    permutations: int = 128,
    best: Best | None = None,
    fields: Sequence[str] | None = None,
) -> NearDuplicates:
    """Return a verdict per distinct id: failed where another record shares nearly all of its words, and survives.

    Two records are joined when the Jaccard similarity of their sets of n-grams (runs of `ngram` words of the normalised
    text; a shorter text is one n-gram; n-grams of different `fields` differ) is at least `threshold`; clusters are all
    that such pairs connect. The same texts always are joined, and at 1.0 these alone, as in `exact`. The record with
    the highest `best(record)` survives; without `best`, and of equals, the first. Clusters do not depend on the order of
    the rows. Words in another order, or repeated, make the same set only for `ngram=1`, which is Persona Hub's choice
    (with a threshold of 0.9); 5 suits pages. Records with no text in those fields pass.

    MinHash only finds candidates, by bands of the `permutations` minima, chosen so that 98% of pairs exactly 0.1 below the
    threshold are found (`recall` of the result says how many at which similarity; with 128 and 0.8, 99.995%); the
    true similarity of each is then computed, so that no pair below the threshold is ever joined.

    One core takes about 5 s and 0.2 GB for 100,000 texts of 50 words, 25 s and 0.7 GB for 1,000,000 of 12 (the records
    not counted). Time grows with the square of the largest cluster: 8,000 texts that are all alike take 40 s.

    Raises RecordError for records of several kinds; InputError for a threshold outside 0.2 to 1, an `ngram` below 1, too
    few permutations, a `best` that is no number, an unknown field, and for what is no record."""
    floor = floor_of(threshold)
    for name, value in (("ngram", ngram), ("permutations", permutations)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number from 1 on, got {value!r}.")
    rows = _rows_per_band(floor, permutations)
    shingled = _Shingled(ngram, rows, permutations // rows)
    texts = Texts.of(records, fields, each=shingled.add)
    scores = scores_of(texts.records, best)
    links = shingled.links(floor, texts.rank)
    recall = partial(_recall, rows=rows, bands=permutations // rows)
    return Search("dedup.minhash", "near_duplicate", floor, texts, links, scores, recall).at(threshold)


def _recall(similarity: float, *, rows: int, bands: int) -> float:
    return 1 - (1 - similarity**rows) ** bands


def _rows_per_band(floor: float, permutations: int) -> int:
    """The most rows, and so the fewest candidates, with which pairs at the floor are still found."""
    fits = (
        rows
        for rows in range(permutations, 0, -1)
        if _recall(floor, rows=rows, bands=permutations // rows) >= 1 - _MISSED
    )
    if (rows := next(fits, None)) is None:
        needed = next(n for n in range(1, 10_000) if _recall(floor, rows=1, bands=n) >= 1 - _MISSED)
        raise InputError(
            f"{permutations} permutations cannot find pairs of a similarity of {floor:g}. Give at least {needed}; 128 is usual."
        )
    return rows


@lru_cache(200_000)
def _word(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def _mixed(values: np.ndarray) -> np.ndarray:
    """64 bits, each of which depends on all: Stafford's variant 13, as in SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_ODD = np.uint64(0x9E3779B97F4A7C15)


class _Shingled:
    """The n-grams of texts as sorted 54-bit hashes, and for each text the keys of its bands and a sketch of 256 bits.

    Two different n-grams of a pair of texts of 100 words are taken for one with a probability of 1e-12."""

    def __init__(self, ngram: int, rows: int, bands: int):
        self.ngram, self.rows, self.bands = ngram, rows, bands
        constants = _mixed(np.arange(1, 2 * rows * bands + 1, dtype=np.uint64) * _ODD).astype(np.uint32)
        self.flips, self.factors = constants[::2], constants[1::2] | np.uint32(1)
        self.grams, self.sizes, self.sketches = (array(kind) for kind in "QqQ")  # these grow in place
        self.keys = [array("Q") for _ in range(bands)]
        self.waiting: list[tuple[str, ...]] = []
        self.characters = 0

    def add(self, parts: tuple[str, ...]) -> None:
        self.waiting.append(parts)
        self.characters += sum(map(len, parts))
        if len(self.waiting) == _CHUNK or self.characters >= _CHARACTERS:
            self._read()

    def _read(self) -> None:
        found = _grams(self.waiting, self.ngram)
        sizes = np.bincount((found >> np.uint64(64 - _PLACE_BITS)).astype(np.int64), minlength=len(self.waiting))
        starts, found = np.cumsum(sizes) - sizes, found & _GRAM
        minima = np.empty((self.bands, self.rows, len(sizes)), np.uint32)
        top = (found >> np.uint64(22)).astype(np.uint32)
        for at, (flip, factor) in enumerate(zip(self.flips, self.factors, strict=True)):
            np.minimum.reduceat((top ^ flip) * factor, starts, out=minima[divmod(at, self.rows)])
        keys = np.zeros((self.bands, len(sizes)), np.uint64)
        for row in range(self.rows):
            keys = _mixed(keys + minima[:, row] + _ODD)
        bit, word = np.uint64(1) << (found & np.uint64(63)), (found >> np.uint64(6)) % np.uint64(_SKETCH)
        sketch = [np.bitwise_or.reduceat(np.where(word == at, bit, np.uint64(0)), starts) for at in range(_SKETCH)]
        self.grams.frombytes(found.tobytes())
        self.sizes.frombytes(sizes.astype(np.int64).tobytes())
        for band, own in zip(self.keys, keys, strict=True):
            band.frombytes(own.tobytes())
        self.sketches.frombytes(np.stack(sketch, axis=1).tobytes())
        self.waiting.clear()
        self.characters = 0

    def links(self, floor: float, rank: np.ndarray) -> Links:
        """The forest of all pairs from `floor` on that share a band."""
        if self.waiting:
            self._read()
        self.all_grams, self.size = np.frombuffer(self.grams, np.uint64), np.frombuffer(self.sizes, np.int64)
        self.start = np.cumsum(self.size) - self.size
        keys = [np.frombuffer(band, np.uint64) for band in self.keys]
        sketches = np.frombuffer(self.sketches, np.uint64).reshape(-1, _SKETCH)
        forest = Forest(rank)
        for band in range(self.bands):
            for left, right in _sharing(keys[band]):
                for earlier in keys[:band]:  # which had most of them
                    is_new = earlier[left] != earlier[right]
                    left, right = left[is_new], right[is_new]
                may = self._may_reach(left, right, sketches, floor)
                left, right = left[may], right[may]
                for some in _pieces(self.size[left] + self.size[right]):
                    a, b = left[some], right[some]
                    similarity = self._jaccard(a, b)
                    reaches = similarity >= floor
                    forest.add(a[reaches], b[reaches], similarity[reaches])
        return forest.links()

    def _may_reach(self, left: np.ndarray, right: np.ndarray, sketches: np.ndarray, floor: float) -> np.ndarray:
        """False where the sketches prove a similarity below the floor: each bit they differ in is an n-gram not shared."""
        both = self.size[left] + self.size[right]
        differ = np.bitwise_count(sketches[left] ^ sketches[right]).sum(axis=1, dtype=np.int64)
        shared = np.minimum((both - differ) // 2, np.minimum(self.size[left], self.size[right]))
        return shared >= floor * (both - shared) - 1e-6

    def _jaccard(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The true similarity of each pair."""
        place = np.arange(len(left), dtype=np.uint64) << np.uint64(64 - _PLACE_BITS)
        both = np.concatenate([self._of(left, place), self._of(right, place)])
        both.sort(kind="stable")  # a merge: each half is in order
        shared = both[1:][both[1:] == both[:-1]] >> np.uint64(64 - _PLACE_BITS)
        shared = np.bincount(shared.astype(np.int64), minlength=len(left))
        return shared / (self.size[left] + self.size[right] - shared)

    def _of(self, texts: np.ndarray, place: np.ndarray) -> np.ndarray:
        """All n-grams of these texts, with the place of the text in their upper bits."""
        sizes = self.size[texts]
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.all_grams[np.repeat(self.start[texts], sizes) + offsets] | np.repeat(place, sizes)


def _pieces(sizes: np.ndarray) -> Iterator[slice]:
    """Runs of at most `_CHUNK` pairs, with `_GRAMS` n-grams at most or one pair."""
    ends, at = np.cumsum(sizes), 0
    while at < len(ends):
        most = np.searchsorted(ends, ends[at] - sizes[at] + _GRAMS, "right")
        yield slice(at, at := min(max(int(most), at + 1), at + _CHUNK))


def _grams(texts: list[tuple[str, ...]], size: int) -> np.ndarray:
    """The distinct n-grams of up to 1,024 texts: place of the text above, hash below, sorted."""
    found = [(place, tag, words(part)) for place, parts in enumerate(texts) for tag, part in enumerate(parts) if part]
    lengths = np.array([len(said) for *_, said in found])
    hashes = np.fromiter(map(_word, chain.from_iterable(said for *_, said in found)), np.uint64, lengths.sum())
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(hashes))  # words from here to the end of the text
    is_gram = (left >= size) | (left == np.repeat(lengths, lengths))
    gram = hashes.copy()
    for ahead in range(1, size):
        more = np.flatnonzero(left > ahead)
        gram[more] = gram[more] * _ODD + hashes[more + ahead]
    tags = np.array([tag for _, tag, _ in found], np.uint64)
    gram = _mixed(gram + np.repeat(tags, lengths) * _ODD)[is_gram] & _GRAM
    places = np.array([place for place, *_ in found], np.uint64) << np.uint64(64 - _PLACE_BITS)
    gram |= np.repeat(places, lengths)[is_gram]
    gram.sort()
    return gram[np.append(True, gram[1:] != gram[:-1])]


def _sharing(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of texts with the same key, some at a time."""
    order = np.argsort(keys, kind="stable")
    ordered, apart = keys[order], 1
    first = np.flatnonzero(ordered[1:] == ordered[:-1])
    pairs: list[np.ndarray] = []
    while len(first):
        for at in range(0, len(first), _CANDIDATES):
            some = first[at : at + _CANDIDATES]
            pairs.append(order[[some, some + apart]])
            if sum(each.shape[1] for each in pairs) >= _CANDIDATES:
                yield tuple(np.concatenate(pairs, axis=1))
                pairs.clear()
        # Texts that are this far apart in a run and have the same key: some of them have it one further on, too.
        apart += 1
        first = first[first + apart < len(ordered)]
        first = first[ordered[first] == ordered[first + apart]]
    if pairs:
        yield tuple(np.concatenate(pairs, axis=1))
