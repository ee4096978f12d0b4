"""Which records people should look at: each plan returns a Sample, the records with a reason for each.

    sampling.random(records, 200)                                   # what is true of these is true of all
    sampling.stratified(records, found, 200)                        # as many of each cluster of a map
    sampling.uncertain(records, ratings, 50, threshold=4)           # where the judge's decision hangs on little
    sampling.disagree(records, votes, 50)                           # where raters differ most
    sampling.borderline(near_duplicates, 40)                        # pairs on both sides of the threshold
    sampling.by_ids(records, selected)                              # a selection on a map
    sampling.random(records, 100).for_calibration()                 # people answer without seeing what the judge said

Samples join with +. Only a random sample says how often something is: the others look where it is likely. Everything
drawn has a seed; the same records in another order give the same sample."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from statistics import fmean
from typing import TYPE_CHECKING, Any

from workbench import _html
from workbench.errors import InputError
from workbench.quality.agreement import SWAPPED
from workbench.records import Preference, Rating, Record, Verdict, Vote, by_id, content_hash
from workbench.review import questions

if TYPE_CHECKING:
    import pyarrow as pa

    from workbench.clusters import Map
    from workbench.quality.dedup import NearDuplicates

Judged = Iterable[Rating | Vote | Verdict]


@dataclass(frozen=True, repr=False)
class Sample(Sequence[Record]):
    """Records to look at, each id once; prints itself.

    `reasons` has the plan that chose a record, by its id, and `details` why it did. `beside` is the text that a record is to
    be compared with, where there is one. Of a sample `is_for_calibration` people are not told what a judge said."""

    records: tuple[Record, ...]
    reasons: Mapping[str, str]
    details: Mapping[str, str]
    notes: tuple[str, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    is_for_calibration: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, at: Any) -> Any:
        """The record at an index; a slice gives a Sample."""
        return replace(self, records=self.records[at]) if isinstance(at, slice) else self.records[at]

    def __add__(self, other: "Sample") -> "Sample":
        """Both, each record once, with the reason of the first."""
        if not isinstance(other, Sample):
            return NotImplemented
        if self.is_for_calibration != other.is_for_calibration:
            raise InputError("one of the samples is for calibration and the other is not. Push them under two names.")
        return Sample(
            tuple(by_id((*self.records, *other.records)).values()),
            {**other.reasons, **self.reasons},
            {**other.details, **self.details},
            (*self.notes, *other.notes),
            {**other.beside, **self.beside},
            self.is_for_calibration,
        )

    def for_calibration(self) -> "Sample":
        """Return the sample as one that a judge is to be compared with people on: its suggestions are kept back."""
        return replace(self, is_for_calibration=True)

    def table(self) -> "pa.Table":
        """Return a pyarrow table, a row per record: id, reason, detail."""
        import pyarrow as pa

        ids = [record.id for record in self.records]
        columns = [ids, [self.reasons[each] for each in ids], [self.details[each] for each in ids]]
        return pa.table([pa.array(column, pa.string()) for column in columns], names=["id", "reason", "detail"])

    def _said(self) -> str:
        counts = Counter(self.reasons[record.id] for record in self.records)
        by = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
        blind = ", for calibration" if self.is_for_calibration else ""
        return f"{len(self.records):,} records{f': {by}' if by else ''}{blind}"

    def __repr__(self) -> str:
        return "\n".join([f"Sample: {self._said()}", *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        rows = [
            (each.id[:8], self.reasons[each.id], self.details[each.id], _first_text(each))
            for each in self.records[:_SHOWN]
        ]
        table = _html.html_table(("record", "reason", "detail", "text"), rows, len(self.records))
        return _html.card("Sample", self._said(), table, warning="\n".join(self.notes))


_SHOWN = 10


def _first_text(record: Record) -> str:
    return next(iter(questions.shown(record).values())) or ""


def random(records: Iterable[Record], n: int, *, seed: int = 0) -> Sample:
    """Return `n` records drawn by lot, every one as likely as any other; all of them where there are no more."""
    drawn = _by_lot(records, n, seed)
    return _sample("random", [(record, f"seed {seed}") for record in drawn[:n]], n, len(drawn))


def stratified(
    records: Iterable[Record],
    by: "Map | Mapping[str, Hashable] | Callable[[Record], Hashable]",
    n: int,
    *,
    seed: int = 0,
) -> Sample:
    """Return `n` records, as many of each stratum as can be, by lot within each: a small one is seen as well as a large.

    `by` is a map (its clusters, and noise), {record id: stratum} or a function of a record. Records that it does not
    know are left out, and counted. Raises InputError when it knows none."""
    of, groups, unknown = _strata(by), {}, 0
    for record in _by_lot(records, n, seed):
        if (stratum := of(record)) is None:
            unknown += 1
        else:
            groups.setdefault(str(stratum), []).append(record)
    if not groups:
        raise InputError(f"none of {unknown:,} records has a stratum. Make the map with ids=[record.id for ...].")
    # One of each in turn, until there are enough: the smallest strata are used up first.
    turns = zip_longest(*(groups[name] for name in sorted(groups)))
    order = [(record, name) for turn in turns for record, name in zip(turn, sorted(groups), strict=True) if record]
    notes = [f"{unknown:,} records have no stratum and were left out."] if unknown else []
    if n < len(groups):
        notes.append(f"{len(groups):,} strata are more than {n:,} records: {len(groups) - n:,} have none here.")
    return _sample("stratified", order[:n], n, len(order), notes)


def uncertain(
    records: Iterable[Record], scores: Mapping[str, float] | Iterable[Rating | Verdict], n: int, *, threshold: float
) -> Sample:
    """Return the `n` records whose score is nearest to the `threshold`, where a decision hangs on little.

    `scores` are {record id: score}, or ratings or verdicts, whose mean counts. Of a preference the score is how much the
    ratings of its chosen text are above those of the other. Records without a score are left out, and counted."""
    records = list(by_id(records).values())
    found = _scores(records, scores)
    gaps = {key: abs(value - threshold) for key, value in found.items()}
    detail = lambda key: f"score {found[key]:.4g}, threshold {threshold:g}"
    return _nearest("uncertain", records, gaps, n, detail, "has no score")


def disagree(records: Iterable[Record], judged: Judged, n: int) -> Sample:
    """Return the `n` records on which two raters or more differ, the most disputed first.

    Ratings differ by the highest and the lowest mean of a rater; of a preference, by how much higher a rater has its
    chosen text. Votes, and verdicts (a check being a rater), differ by the share that is against the most frequent
    answer; among those with equal shares, a vote for each text is more than one for a tie. Records that all agree on,
    or that fewer than two judged, are not among them. Raises InputError when the judgements are of several kinds."""
    records = list(by_id(records).values())
    by_rater = _by_rater(records, judged)
    spread: dict[str, float] = {}
    said: dict[str, str] = {}
    for key, given in by_rater.items():
        values = list(given.values())
        if len(values) < 2:
            continue
        if isinstance(values[0], float):
            spread[key] = max(values) - min(values)
        else:
            counts = Counter(values)
            split = 0.001 if {"first", "second"} <= counts.keys() else 0.0
            spread[key] = 1 - counts.most_common(1)[0][1] / len(values) + split
        said[key] = ", ".join(f"{rater} {_shown(value)}" for rater, value in sorted(given.items()))
    gaps = {key: -value for key, value in spread.items() if value > 1e-9}
    return _nearest("disagree", records, gaps, n, said.__getitem__, "is not disputed")


def borderline(found: "NearDuplicates", n: int = 40) -> Sample:
    """Return up to `n` records, one of each of the pairs nearest the threshold of a search for duplicates, half of them
    joined and half not. The other text stands `beside` each; ask `questions.same_text()`."""
    _check_count(n)
    known = by_id(found.search.texts.records)
    rows, beside, used = [], {}, set()
    for pair in found.borderline(max(2, n)).to_pylist():
        mine, other = ("left", "right") if pair["left"] not in used else ("right", "left")
        if pair[mine] in used:
            continue
        used.add(pair[mine])
        what = "joined" if pair["is_joined"] else "kept apart"
        rows.append((known[pair[mine]], f"{pair['similarity']:.3f} like {pair[other]}, {what}"))
        beside[pair[mine]] = pair[f"{other}_text"]
    return replace(_sample("borderline", rows[:n], n, len(rows)), beside=beside)


def by_ids(records: Iterable[Record], ids: Iterable[str], *, reason: str = "selected") -> Sample:
    """Return the records of these ids, in their order, each once. Raises InputError when one is not among the records."""
    known, ids = by_id(records), list(dict.fromkeys(ids))
    if unknown := [each for each in ids if each not in known]:
        raise InputError(
            f"{len(unknown):,} of {len(ids):,} ids are of none of the {len(known):,} records, such as {unknown[0]!r}. Give all records, or the map's own ids."
        )
    return _sample(reason, [(known[each], "") for each in ids], len(ids), len(ids))


# --- parts ------------------------------------------------------------------------------------------------------------


def _check_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"a sample has a whole number of records, at least 1, not {n!r}.")


def _by_lot(records: Iterable[Record], n: int, seed: int) -> list[Record]:
    """All records, each once, in an order that the seed and their ids decide, and not the order they came in."""
    _check_count(n)
    return sorted(by_id(records).values(), key=lambda record: content_hash([seed, record.id]))


def _sample(
    reason: str, rows: Sequence[tuple[Record, str]], n: int, available: int, notes: Sequence[str] = ()
) -> Sample:
    few = [f"{n:,} were asked for, and there are {available:,}."] if available < n else []
    ids = [record.id for record, _ in rows]
    details = {record.id: detail for record, detail in rows}
    return Sample(tuple(record for record, _ in rows), dict.fromkeys(ids, reason), details, (*notes, *few))


def _nearest(
    reason: str, records: Sequence[Record], gaps: Mapping[str, float], n: int, detail: Callable[[str], str], why: str
) -> Sample:
    """The records of the smallest gaps; of equal ones by the hash of their ids, which says nothing of what they are."""
    _check_count(n)
    some = [record for record in records if record.id in gaps]
    some.sort(key=lambda record: (round(gaps[record.id], 9), content_hash([reason, record.id])))
    left_out = len(records) - len(some)
    notes = [f"{left_out:,} of {len(records):,} records left out: each {why}."] if left_out else []
    return _sample(reason, [(record, detail(record.id)) for record in some[:n]], n, len(some), notes)


def _strata(by: Any) -> Callable[[Record], Hashable]:
    if isinstance(by, Mapping):
        return lambda record: by.get(record.id)
    if callable(by):
        return by
    names = clusters_of(by)
    return lambda record: names.get(record.id)


def clusters_of(found: "Map") -> dict[str, str]:
    """Return {id: name of its cluster} of the rows of a map, "noise" for those in none."""
    names = [*(each.name for each in found.clusters), "noise"]  # NOISE is the last
    return {key: names[label] for key, label in zip(found.ids, found.labels.tolist(), strict=True)}


def _scores(records: Sequence[Record], scores: Any) -> dict[str, float]:
    if isinstance(scores, Mapping):
        return {key: float(value) for key, value in scores.items() if value is not None and value == value}
    rows = list(scores)
    if all(isinstance(row, Verdict) for row in rows):
        given: dict[str, list[float]] = {}
        for row in rows:
            if row.score is not None:
                given.setdefault(row.record_id, []).append(row.score)
        return {key: fmean(values) for key, values in given.items()}
    if not all(isinstance(row, Rating) for row in rows):
        raise InputError("scores are {record id: number}, ratings or verdicts. Votes are for disagree().")
    by_rater = _by_rater(records, rows)
    return {key: fmean(given.values()) for key, given in by_rater.items()}


def _by_rater(records: Sequence[Record], judged: Judged) -> dict[str, dict[str, Any]]:
    """{record id: {rater: what he said}}: a float for ratings, of a preference the chosen text above the other; else a word."""
    rows = list(judged)
    if len(kinds := {type(row).__name__ for row in rows}) > 1:
        raise InputError(f"judgements of one kind are needed here, got {', '.join(sorted(kinds))}. Give those of one.")
    found: dict[str, dict[str, Any]] = {}
    if rows and isinstance(rows[0], Verdict):
        for row in rows:
            found.setdefault(row.record_id, {})[row.check] = "passed" if row.passed else "failed"
        return found
    pairs = {record.id: _chosen_first(record) for record in records if isinstance(record, Preference)}
    if rows and isinstance(rows[0], Vote):
        by_texts: dict[frozenset[str], list[tuple[str, str]]] = {}
        for key, (chosen, rejected) in pairs.items():
            by_texts.setdefault(frozenset((chosen, rejected)), []).append((key, chosen))
        for row in rows:
            for key, chosen in by_texts.get(frozenset((row.first, row.second)), ()):
                found.setdefault(key, {})[row.rater] = row.winner if row.first == chosen else SWAPPED[row.winner]
        return found
    given: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.value is not None:
            given.setdefault((row.rater, row.subject), []).append(row.value)
    means = {key: fmean(values) for key, values in given.items()}
    raters = sorted({rater for rater, _ in means})
    for record in records:
        for rater in raters:
            sides = pairs.get(record.id, (record.id,))
            if all((rater, side) in means for side in sides):
                of = [means[rater, side] for side in sides]
                found.setdefault(record.id, {})[rater] = of[0] - of[1] if len(of) == 2 else of[0]
    return found


def _chosen_first(record: Preference) -> tuple[str, str]:
    first, second = questions.text_ids(record)
    return (second, first) if questions.is_turned(record) else (first, second)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else value
