"""Duplicates: which records say the same, and which one of them stays.

Of every group of duplicates the first, in the given order, survives; each other one gets a failed verdict that names
it. Never both of a pair: distilabel 1.5.3 drops every row that has a neighbour, and so both of two near-duplicates."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import Any

import orjson

from workbench.errors import InputError
from workbench.quality.checks import Verdicts, quoted
from workbench.records import Record, Verdict, one_kind, to_row

# What makes two records of a kind the same. A label or a score is not part of it: the same text twice, with two labels,
# is the same text twice. Of a preference all three texts are: one prompt with several pairs is no duplicate.
KEYS: dict[str, tuple[str, ...]] = {
    "Document": ("text",),
    "Persona": ("text",),
    "Instruction": ("instruction", "input"),
    "QA": ("question",),
    "Preference": ("prompt", "chosen", "rejected"),
    "Label": ("text",),
    "Trace": ("task", "steps"),
    "ImagePair": ("prompt", "chosen", "rejected"),
    "Rating": ("subject", "dimension", "rater"),
    "Vote": ("first", "second", "rater"),
}

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufe0e\ufe0f\ufeff]")
_QUOTATION = re.compile(r"^[ \t]*>+", re.MULTILINE)
_SUPERSCRIPTS = {ord(mark): f"^{digit}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_MINUS = dict.fromkeys(map(ord, "\u2010\u2013\u2212"), "-")


@dataclass(frozen=True, repr=False)
class Duplicates(Verdicts):
    """Verdicts, one per distinct id, with the groups behind them.

    `clusters` is a pyarrow table, a row per group of two or more in the order of the survivors: cluster (0, 1, ...),
    size (distinct ids), survivor (the id that stays), members (all ids, the survivor first). `repeats` counts further
    copies of a record whose id was already there: verdicts go by id, so a copy cannot fail alone, and `records.kept`
    gives each id once."""

    clusters: Any = field(default=None, compare=False)
    repeats: int = 0

    def _summary(self) -> str:
        return super()._summary() + (f"; {self.repeats:,} further copies of the same id" if self.repeats else "")


# Marks that can mean something, and do not where none of the lookbehinds knows a use for them.
_IDLE_MARKS = re.compile(
    r"""[-./*%&|\#!]
    (?<!\d[-./*%](?=\d))                                            # 3.5, 2*3, 2026-11-22
    (?<!\d[ ][-*/%&|](?=[ ][^\W_])) (?<!\b[^\W_][ ][-*/%&|](?=[ ][^\W_])) # 12 - 3, x * y
    (?<![\s=<>|*/+^][-.](?=\d)) (?<!\A[-.](?=\d))                       # -5, .5
    (?<!\d%) (?<![^\W_]\#(?!\w)) (?<!!(?==))                       # 10%, C#, a != b
    """,
    re.VERBOSE,
)


@cache
def _punctuation() -> dict[int, str]:
    """Every other mark (Unicode's P, and ` and ~ of Markdown), for str.translate: to a space."""
    marks = (code for code in range(0x10000) if unicodedata.category(chr(code))[0] == "P")
    return {code: " " for code in (*marks, *map(ord, "`~")) if chr(code) not in "-./*%&#!"}


def normalise(text: str) -> str:
    """Return what `exact` compares: the words of a text in lower case, with one space between them.

    Unicode NFKC (with 5² as 5^2 first, lest it become 52) and case folding; invisible characters go; punctuation and
    Markdown marks (Unicode's P and ` ~ |, and > at the start of a line) become spaces; blanks collapse. Marks that
    change what is said stay: operators, signs and decimal points at numbers and single letters, 10%, C#, !=, and what
    Unicode calls symbols (C++, $5, emoji). Doing it twice changes nothing.

        >>> normalise("**What** is\\n“FastAPI”?")
        'what is fastapi'
        >>> normalise("5 - 3?"), normalise("5 + 3?")
        ('5 - 3', '5 + 3')
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text).translate(_SUPERSCRIPTS))
        text = unicodedata.normalize("NFKC", text.casefold()).translate(_MINUS)
    else:
        text = text.casefold()
    if ">" in text:
        text = _QUOTATION.sub(" ", text)
    words = " ".join(text.translate(_punctuation()).split())
    return " ".join(_IDLE_MARKS.sub(" ", words).split()).lstrip("> ")


def exact(records: Sequence[Record], *, fields: Sequence[str] | None = None) -> Duplicates:
    """Return a verdict per distinct id: failed with reason "duplicate" where an earlier record has the same text.

    The same is what `normalise` makes the same, in all `fields` together (by default `KEYS` of the kind: a QA by its
    question). The first record of a group in the given order survives; `survivor_id` and the detail of each other one
    name it. In another order another member may survive, but always one, of the same groups. Score: 1.0 for a
    duplicate, None otherwise. Records with no text in those fields are compared with nothing and pass.

    Takes about 15 s and 0.5 GB for 1,000,000 questions: a text is held as 16 bytes of its hash (BLAKE2b; two texts
    of 1e6 collide with a probability below 1e-26). Raises RecordError for records of several kinds, InputError for a
    field that the kind does not have."""
    if not records:
        return Duplicates((), "dedup.exact", clusters=_clusters({}, ()))
    fields = _checked(one_kind(records), fields)
    what = " and ".join(fields)
    first: dict[bytes, int] = {}  # hash of the text -> place of the survivor
    groups: dict[int, list[int]] = {}  # place of the survivor -> places of the others
    seen: set[str] = set()
    verdicts = []
    for place, record in enumerate(records):
        if record.id in seen:
            continue
        seen.add(record.id)
        key = _key(record, fields)
        survivor = place if key is None else first.setdefault(key, place)
        if survivor == place:
            verdicts.append(Verdict(record.id, "duplicate", True))
            continue
        groups.setdefault(survivor, []).append(place)
        kept = records[survivor]
        detail = f"same {what} as {kept.id}: {quoted(_text(getattr(kept, fields[0])))}"
        verdicts.append(Verdict(record.id, "duplicate", False, 1.0, "duplicate", detail, kept.id))
    clusters = _clusters(groups, records)
    return Duplicates(tuple(verdicts), "dedup.exact", clusters=clusters, repeats=len(records) - len(seen))


def _checked(kind: type[Record], fields: Sequence[str] | None) -> tuple[str, ...]:
    if fields is None:
        return KEYS[kind.__name__]
    fields = (fields,) if isinstance(fields, str) else tuple(fields)
    known = [name for name in kind.__dataclass_fields__ if name not in ("id", "provenance")]
    if not fields or (unknown := [name for name in fields if name not in known]):
        wanted = f"no field {unknown[0]!r}" if fields else "no fields named"
        raise InputError(f"dedup.exact: {wanted}; a {kind.__name__} has {', '.join(known)}. Name some of these.")
    return fields


def _text(value: Any) -> str:
    """A field as text: empty for None and NaN, JSON for what is no text (the steps of a trace)."""
    if isinstance(value, str):
        return value
    return "" if value is None or value != value else orjson.dumps(to_row(value)).decode()


def _key(record: Record, fields: tuple[str, ...]) -> bytes | None:
    """16 bytes for the text of these fields; None when there is none to compare."""
    texts = [_text(getattr(record, name)) for name in fields]
    # A text of marks alone ("???") is compared as it stands.
    parts = [normalise(text) or text.strip() for text in texts]
    if not any(parts):
        return None
    return blake2b("\x1f".join(parts).encode(), digest_size=16).digest()


def _clusters(groups: dict[int, list[int]], records: Sequence[Record]) -> Any:
    import pyarrow as pa

    places = sorted(groups)
    columns = {
        "cluster": pa.array(range(len(places)), pa.int64()),
        "size": pa.array([1 + len(groups[place]) for place in places], pa.int64()),
        "survivor": pa.array([records[place].id for place in places], pa.string()),
        "members": pa.array(
            [[records[at].id for at in (place, *groups[place])] for place in places], pa.list_(pa.string())
        ),
    }
    return pa.table(columns)
