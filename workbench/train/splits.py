"""Splits: which rows are trained on and which are held out, such that the two share nothing.

    parts = splits.split(preferences, held_out=0.3, among=[*documents, *personas, *completions])
    parts.train, parts.held_out
    splits.leaks(parts.train, parts.held_out, among=...)      # must be empty

Rows are tied together when one of these is the same: the record itself or any that it descends from, above all a document
or a persona; what is asked first; a text to learn. Ties go on: if a and b share a document, and b and c a prompt, all three
are one group. A group is trained on or held out whole.

Two texts are the same when they differ in case and blanks at most. An empty one is like no other. Of a dialogue as hh-rlhf
writes it the first question counts, since one goes on where another stops. Parents of parents are found as far as their
records are given in `among`; the passages that a QA holds as negatives tie nothing."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench import _html
from workbench.errors import InputError
from workbench.quality.checks import quoted
from workbench.records import QA, Document, Instruction, Persona, Preference, Record, by_id

Key = tuple[str, str]  # one of KINDS, and an id or a text
KINDS = ("document", "persona", "parent", "prompt", "text")
_OPENING = re.compile(r"\s*(?:System:.*?\n\n)?Human:(.*?)(?:\n\nAssistant:|\Z)", re.DOTALL)


@dataclass(frozen=True, repr=False)
class Split:
    """Rows to train on and rows held out, in the order they were given; prints itself.

    `groups` has the group of each row's id, named by the smallest id in it. `ties` says by what rows were tied together: for
    each of KINDS the number of rows that share such a thing with another row. `unknown` parents were not given, so that
    what they came from is not known."""

    train: tuple[Record, ...]
    held_out: tuple[Record, ...]
    groups: Mapping[str, str]
    ties: Mapping[str, int]
    unknown: int = 0

    @property
    def _sides(self) -> list[tuple[str, int, int, str]]:
        total = len(self.train) + len(self.held_out)
        sides = {"train": self.train, "held out": self.held_out}
        return [
            (name, len(rows), len({self.groups[row.id] for row in rows}), f"{len(rows) / total:.0%}")
            for name, rows in sides.items()
        ]

    @property
    def _about(self) -> str:
        largest = max(Counter(self.groups[row.id] for row in (*self.train, *self.held_out)).values())
        tied = ", ".join(f"{count:,} rows by {kind}" for kind, count in self.ties.items() if count)
        about = f"tied together: {tied or 'none'}; {largest:,} in the largest group"
        return f"{about}; {self.unknown:,} parents were not given in among" if self.unknown else about

    def __repr__(self) -> str:
        sides = [f"{rows:,} rows of {groups:,} groups ({share})" for _, rows, groups, share in self._sides]
        return f"Split({sides[0]} to train on, {sides[1]} held out; {self._about})"

    def _repr_html_(self) -> str:
        table = _html.html_table(("part", "rows", "groups", "share"), self._sides)
        return _html.card("Split", self._about, table)


@dataclass(frozen=True)
class Leak:
    """What a row to train on and a row held out share: a `kind` of KINDS, and the `key`, an id or a text."""

    kind: str
    key: str
    train: str
    held_out: str

    def __str__(self) -> str:
        return f"{self.kind} {_shown((self.kind, self.key))} is in train (row {self.train}) and held out (row {self.held_out})"


def split(
    rows: Sequence[Record],
    *,
    held_out: float = 0.3,
    seed: int = 0,
    among: Iterable[Record] = (),
    size: int | None = None,
) -> Split:
    """Return the rows in two parts that share no group, `held_out` of them, from 0 to 1, in the second.

    Groups are drawn at random as long as they fit; the share is off by half a group at most, as far as there is another
    group to choose. The same rows in any order give the same parts for the same seed. `size` draws about that many rows
    first, in whole groups. Rows are Preference, Instruction or QA records, `among` the records that they descend from.
    Raises InputError for rows that are all one group, saying by what, and for shares that are none."""
    if not 0 < held_out < 1:
        raise InputError(f"held_out is a share between 0 and 1, got {held_out}. The default is 0.3.")
    keys, unknown = _keys(rows, among)
    group_of = _joined(keys)
    if len(set(group_of.values())) < 2:
        raise InputError(_one_group(keys, rows))
    order = np.random.default_rng(seed).permutation(sorted(set(group_of.values()))).tolist()
    sizes = Counter(group_of[row.id] for row in rows)
    if size is not None:
        if not 2 <= size <= len(rows):
            raise InputError(f"size is the number of rows to draw, 2 to {len(rows):,} here, got {size}.")
        wanted = _filled(order, sizes, size)
        if len(wanted) < 2:
            raise InputError(
                f"size={size:,} drew one group of {sizes[min(wanted)]:,} rows, and a split needs 2 groups. Draw more rows."
            )
        order = [group for group in order if group in wanted]
    total = sum(sizes[group] for group in order)
    held = _filled(order, sizes, held_out * total, may_be_all=False)
    drawn = set(order)
    kept = [row for row in rows if group_of[row.id] in drawn]
    return Split(
        tuple(row for row in kept if group_of[row.id] not in held),
        tuple(row for row in kept if group_of[row.id] in held),
        {row.id: group_of[row.id] for row in kept},
        _tied({row.id: keys[row.id] for row in kept}, kept),
        unknown,
    )


def groups(rows: Sequence[Record], *, among: Iterable[Record] = ()) -> list[str]:
    """Return the name of each row's group, (n,): the smallest id in it, so that it does not depend on the order."""
    group_of = _joined(_keys(rows, among)[0])
    return [group_of[row.id] for row in rows]


def leaks(train: Sequence[Record], held_out: Sequence[Record], *, among: Iterable[Record] = ()) -> list[Leak]:
    """Return what the two parts share, one for each row held out and each thing it shares, with the first row to train on.

    It compares each row with all rows of the other part by what they hold, and knows nothing of groups. Rows of a control
    are followed to the rows they were made of when those are in `among`."""
    known = [*among, *train, *held_out]
    first: dict[Key, str] = {}
    for id, held in _keys(train, known)[0].items():
        for key in held:
            first.setdefault(key, id)
    there = _keys(held_out, known)[0]
    return [Leak(*key, first[key], id) for id, held in there.items() for key in sorted(held & first.keys())]


def opening(prompt: str) -> str:
    """Return what a prompt asks first: the first question of a dialogue as hh-rlhf writes it, else all of it, in lower case
    with one blank between words."""
    found = _OPENING.match(prompt)
    return _folded(found[1] if found else prompt)


def _folded(text: str | None) -> str:
    return " ".join((text or "").casefold().split())


# --- what ties rows together --------------------------------------------------------------------------------------------


def _keys(rows: Sequence[Record], among: Iterable[Record]) -> tuple[dict[str, set[Key]], int]:
    """What each row, by id, may share with others, and how many parents were not given."""
    if odd := next((row for row in rows if not isinstance(row, Preference | Instruction | QA)), None):
        raise InputError(f"rows are Preference, Instruction or QA records, got a {type(odd).__name__}.")
    if not rows:
        raise InputError("there are no rows to split. Give the records to train on.")
    known = by_id([*rows, *among])
    documents = {id for record in known.values() for id in _sources(record)}
    documents |= {id for id, record in known.items() if isinstance(record, Document)}
    keys, unknown = {}, set()
    for row in by_id(rows).values():
        asked, *texts = _texts(row)
        found = {("prompt", opening(asked)), *(("text", _folded(text)) for text in texts)}
        if isinstance(row, QA):
            found.add(("persona", _folded(row.persona)))
        line = _line(row, known)
        unknown |= line - known.keys() - documents
        for id in line:
            record = known.get(id)
            if isinstance(record, Persona):
                found.add(("persona", _folded(record.text)))
            else:
                found.add(("document" if id in documents else "parent", id))
        keys[row.id] = {key for key in found if key[1]}
    return keys, len(unknown)


def _shown(key: Key) -> str:
    kind, what = key
    return what if kind in ("document", "parent") else quoted(what)


def _texts(row: Record) -> tuple[str | None, ...]:
    """What is asked, then the texts to learn."""
    if isinstance(row, Preference):
        return row.prompt, row.chosen, row.rejected
    return (row.asked, row.output) if isinstance(row, Instruction) else (row.question, row.answer)


def _sources(record: Record) -> list[str]:
    """The documents that text of a record was taken from, by id."""
    spans = [record.provenance.source, record.passage.span if isinstance(record, QA) else None]
    return [span.document_id for span in spans if span]


def _line(row: Record, known: Mapping[str, Record]) -> set[str]:
    """The row's id and those of all that it comes from: parents, their parents, and documents."""
    found, ahead = set(), [row.id]
    while ahead:
        id = ahead.pop()
        if id not in found:
            found.add(id)
            if id in known:
                ahead += [*known[id].provenance.parents, *_sources(known[id])]
    return found


def _joined(keys: Mapping[str, set[Key]]) -> dict[str, str]:
    """The smallest id of each id's group: a union-find whose roots are the smallest."""
    above = {id: id for id in keys}

    def top(id: str) -> str:
        while above[id] != id:
            above[id] = above[above[id]]
            id = above[id]
        return id

    first: dict[Key, str] = {}
    for id, held in keys.items():
        for key in held:
            low, high = sorted((top(id), top(first.setdefault(key, id))))
            above[high] = low
    return {id: top(id) for id in keys}


def _tied(keys: Mapping[str, set[Key]], rows: Sequence[Record]) -> dict[str, int]:
    """For each kind, how many rows share a thing of this kind with a row of another id."""
    holders = Counter(key for held in keys.values() for key in held)
    kinds = {id: {kind for kind, text in held if holders[kind, text] > 1} for id, held in keys.items()}
    return {kind: sum(kind in kinds[row.id] for row in rows) for kind in KINDS}


def _one_group(keys: Mapping[str, set[Key]], rows: Sequence[Record]) -> str:
    """Why rows that are one group cannot be split."""
    if len(keys) == 1:
        return f"one record ({len(rows):,} rows) cannot be split. Give 2 records or more that share nothing."
    rows_with = Counter(key for row in rows for key in keys[row.id])
    said = []
    for kind, count in _tied(keys, rows).items():
        if count:
            key = max((key for key in rows_with if key[0] == kind), key=rows_with.__getitem__)
            said.append(f"{count:,} share a {kind} with another ({rows_with[key]:,} of them {_shown(key)})")
    return (
        f"all {len(rows):,} rows are one group, and groups stay whole: {'; '.join(said)}. Add rows of other documents, "
        "personas and prompts, or leave out those that tie the rest together."
    )


# --- drawing groups -----------------------------------------------------------------------------------------------------


def _filled(order: Sequence[str], sizes: Mapping[str, int], target: float, *, may_be_all: bool = True) -> set[str]:
    """Groups in their order as long as they fit, then the smallest of the others where that is nearer to the target."""
    chosen, left, room = set(), [], target
    for group in order:
        if sizes[group] <= room:
            chosen.add(group)
            room -= sizes[group]
        else:
            left.append(group)
    smallest = min(left, key=sizes.__getitem__, default=None)
    if smallest is not None and (len(left) > 1 or may_be_all) and (not chosen or sizes[smallest] - room < room):
        chosen.add(smallest)
    return chosen
