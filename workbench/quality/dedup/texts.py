"""What is compared of a record, and what counts as the same text."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from typing import Any

import orjson

from workbench.errors import InputError
from workbench.quality.checks import ALONE
from workbench.records import Record, to_row

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
    """Return what is compared: the words of a text in lower case, with one space between them.

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


def compared(kind: type[Record], fields: Sequence[str] | None) -> tuple[str, ...]:
    """Return the fields to compare, by default `KEYS` of the kind. Raises InputError for one that the kind has not, and
    for what is no kind of record."""
    if kind.__name__ not in KEYS:
        raise InputError(f"dedup compares records, got {kind.__name__}. Make records of texts: Document(text, ...).")
    if fields is None:
        return KEYS[kind.__name__]
    fields = (fields,) if isinstance(fields, str) else tuple(fields)
    known = [name for name in kind.__dataclass_fields__ if name not in ("id", "provenance")]
    if not fields or (unknown := [name for name in fields if name not in known]):
        wanted = f"no field {unknown[0]!r}" if fields else "no fields named"
        raise InputError(f"dedup: {wanted}; a {kind.__name__} has {', '.join(known)}. Name some of these.")
    return fields


def field_text(value: Any) -> str:
    """Return a field as text: empty for None and NaN, JSON for what is no text (the steps of a trace)."""
    if isinstance(value, str):
        return value
    return "" if value is None or value != value else orjson.dumps(to_row(value)).decode()


def parts(record: Record, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is compared of a record, a text for each field; all empty when there is nothing to compare."""
    texts = [field_text(getattr(record, name)) for name in fields]
    # A text of marks alone ("???") is compared as it stands.
    return tuple(normalise(text) or text.strip() for text in texts)


def key(parts: tuple[str, ...]) -> bytes | None:
    """Return 16 bytes for these texts; None when there is none to compare."""
    return blake2b("\x1f".join(parts).encode(), digest_size=16).digest() if any(parts) else None


_WORD = re.compile(rf"[{ALONE}]|[^\s{ALONE}]+")


def words(part: str) -> list[str]:
    """Return the words of a normalised text; a character each in scripts that set no blanks."""
    return part.split() if part.isascii() else _WORD.findall(part)
