"""What all checks share: `Verdicts`, which they return, and how they read a record.

Verdicts is a frozen sequence that says of itself how many records failed, why, and shows some."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from types import MappingProxyType
from typing import Any

from workbench.errors import InputError
from workbench.records import Record, Verdict, by_id, one_kind

# The texts that a reader reads of each kind, the one that asks first, and how many words each may have (both included).
TEXTS: dict[str, dict[str, tuple[int, int]]] = {
    "Document": {"text": (5, 200_000)},
    "Persona": {"text": (5, 120)},
    "Instruction": {"instruction": (3, 500), "input": (1, 4_000), "output": (1, 4_000)},
    "QA": {"question": (3, 60), "answer": (1, 150)},
    "Preference": {"prompt": (1, 4_000), "chosen": (1, 4_000), "rejected": (1, 4_000)},
    "Label": {"text": (1, 1_000)},
    "Trace": {"task": (3, 4_000)},
    "ImagePair": {"prompt": (2, 300)},
}
# As they are on purpose: what an instruction is to work on, and the worse answer of a pair.
GIVEN = ("input", "rejected")


@dataclass(frozen=True)
class Limits:
    """What is still acceptable. `words` overrides single ranges of `TEXTS`: `{"QA.question": (5, 40)}`.

    Shares run from 0 to 1. `repetition` fails a text above max_repeated_lines (of its lines), max_repeated_ngrams (of
    its characters, in the most repeated 2- to 4-gram) or max_repeated_passages (in 10-grams that it had before);
    `copied_prompt` fails from copied_words words on; `language` outside `languages` (ISO 639-1); `opening` fails what
    comes after the first max(max_openings, max_opening_share of all) with the same opening_words words."""

    words: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    max_repeated_lines: float = 0.30
    max_repeated_ngrams: float = 0.50
    max_repeated_passages: float = 0.30
    copied_words: int = 8
    languages: tuple[str, ...] = ("en",)
    opening_words: int = 4
    max_openings: int = 5
    max_opening_share: float = 0.05

    def __post_init__(self):
        known = [f"{kind}.{name}" for kind, names in TEXTS.items() for name in names]
        for name, (least, most) in self.words.items():
            if name not in known:
                raise InputError(f"Limits: there is no text {name!r}; there are {', '.join(known)}.")
            if not 0 <= least <= most:
                raise InputError(f"Limits: {name} from {least} to {most} words allows none. Give (least, most).")
        if isinstance(self.languages, str) or not self.languages:
            raise InputError(f"Limits: languages is a tuple such as ('en', 'de'), got {self.languages!r}.")


Finding = tuple[float | None, str, str]  # score, reason ("" when passed), detail

_EXAMPLES = 3

_CELL = "padding:4px 12px 4px 0;text-align:left;vertical-align:top;border-top:1px solid var(--jp-border-color2);"
_SOFT = "color:var(--jp-ui-font-color2);"
_BOX = "font-family:var(--jp-ui-font-family);font-size:var(--jp-ui-font-size1);color:var(--jp-ui-font-color1);"


@dataclass(frozen=True, repr=False)
class Verdicts(Sequence[Verdict]):
    """Verdicts in order, one per record and check; `name` is what ran.

        verdicts = rules.check(records) + dedup.exact(records)
        len(verdicts), verdicts.failed, verdicts.by_reason(), verdicts.table()

    A record that fails two checks has two failed verdicts; the repr counts it once, its reasons both."""

    items: tuple[Verdict, ...] = ()
    name: str = "verdicts"

    def __post_init__(self):
        object.__setattr__(self, "items", tuple(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.items)

    def __getitem__(self, at: Any) -> Any:
        """The verdict at an index; a slice gives Verdicts."""
        return Verdicts(self.items[at], self.name) if isinstance(at, slice) else self.items[at]

    def __add__(self, other: "Verdicts") -> "Verdicts":
        if not isinstance(other, Verdicts):
            return NotImplemented
        names = dict.fromkeys(part for name in (self.name, other.name) for part in name.split(" + "))
        names = [name for name in names if name != "verdicts"] or ["verdicts"]
        return Verdicts(self.items + other.items, " + ".join(names))

    @property
    def failed(self) -> "Verdicts":
        """The verdicts that did not pass, in order."""
        return Verdicts(tuple(verdict for verdict in self.items if not verdict.passed), self.name)

    def by_reason(self) -> dict[str, int]:
        """Return how many verdicts failed for each reason code, most frequent first, then by name."""
        counts = Counter(verdict.reason for verdict in self.items if not verdict.passed)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def table(self) -> Any:
        """Return a pyarrow table, a row per verdict and a column per field of Verdict."""
        import pyarrow as pa

        text, fields = pa.string(), ("record_id", "check", "passed", "score", "reason", "detail", "survivor_id")
        kinds = {"passed": pa.bool_(), "score": pa.float64()}
        arrays = [pa.array([getattr(v, field) for v in self.items], kinds.get(field, text)) for field in fields]
        return pa.table(arrays, names=list(fields))

    def _summary(self) -> str:
        """The line after the name; a subclass adds what only it knows."""
        records = len({verdict.record_id for verdict in self.items})
        failed = len({verdict.record_id for verdict in self.items if not verdict.passed})
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.by_reason().items())
        outcome = f"{failed:,} failed ({reasons})" if failed else "none failed"
        return f"{records:,} record{'' if records == 1 else 's'}, {outcome}"

    def __repr__(self) -> str:
        return f"{self.name}: {self._summary()}"

    def _repr_html_(self) -> str:
        head = f"<div style='{_BOX}'><div><b>{escape(self.name)}</b>: {escape(self._summary())}</div>"
        if not (counts := self.by_reason()):
            return head + "</div>"
        examples: dict[str, list[Verdict]] = {reason: [] for reason in counts}
        for verdict in self.items:
            if not verdict.passed and len(examples[verdict.reason]) < _EXAMPLES:
                examples[verdict.reason].append(verdict)
        titles = "".join(f"<th style='{_CELL}{_SOFT}'>{title}</th>" for title in ("reason", "failed", "for example"))
        rows = "".join(
            f"<tr><td style='{_CELL}'>{escape(reason)}</td><td style='{_CELL}'>{count:,}</td>"
            f"<td style='{_CELL}'>{''.join(map(_example, examples[reason]))}</td></tr>"
            for reason, count in counts.items()
        )
        style = "border-collapse:collapse;font-size:inherit;color:inherit;"
        return f"{head}<table style='{style}'><tr>{titles}</tr>{rows}</table></div>"


def _example(verdict: Verdict) -> str:
    return f"<div>{escape(verdict.detail)} <span style='{_SOFT}'>{escape(verdict.record_id[:8])}</span></div>"


def judged(check: str, records: Sequence[Record], judge: Callable[[Record, str], Finding]) -> Verdicts:
    """Return the verdict of `judge(record, kind name)` on each record, once per id. No records, no verdicts.

    Raises InputError for ratings and votes, which are about texts and have none of their own."""
    kind = one_kind(records).__name__ if records else ""
    if kind and kind not in TEXTS:
        raise InputError(f"{check} reads texts, and a {kind} is about some. Check the records that it names.")
    return Verdicts(
        tuple(
            Verdict(record.id, check, not reason, score, reason, detail)
            for record in by_id(records).values()
            for score, reason, detail in (judge(record, kind),)
        ),
        check,
    )


def is_blank(value: Any) -> bool:
    """True for None, NaN, blanks, and whatever else is no text."""
    return not isinstance(value, str) or not value.strip()


def may_be_missing(record: Any, name: str) -> bool:
    """True for an input that there is none of, an output not written yet, the answer of an unanswerable question."""
    value = getattr(record, name)
    if name == "input":
        return value is None or isinstance(value, str)
    return value is None and (name == "output" or (name == "answer" and not record.is_answerable))


def texts(record: Record, kind: str, *, without: Iterable[str] = GIVEN) -> list[tuple[str, str]]:
    """Return (field, text) of the texts that are there to be judged, the asking one first."""
    found = ((name, getattr(record, name)) for name in TEXTS[kind] if name not in without)
    return [(name, text) for name, text in found if not is_blank(text)]


def asked(record: Record, kind: str, name: str) -> str:
    """Return what this text of a record answers: the asking text, with an instruction's input; "" for those."""
    if name in (next(iter(TEXTS[kind])), "input"):
        return ""
    return "\n".join(text for _, text in texts(record, kind, without=("answer", "output", "chosen", "rejected")))


def passage(record: Record) -> str:
    """Return the text that a QA was written from, "" for other kinds."""
    text = getattr(getattr(record, "passage", None), "text", None)
    return "" if is_blank(text) else text


ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_LETTER = rf"[^\W_{ALONE}]"
# Vowel signs of Indian scripts and combining accents are no letters to `re`, and part of the word to everybody else.
_SIGN = r"[\u0300-\u036f\u0900-\u0963\u0966-\u0dff]"
_WORD = re.compile(rf"[{ALONE}]|{_LETTER}+(?:(?:['-](?={_LETTER})|{_SIGN}){_LETTER}*)*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without marks; a character each in scripts that set no blanks."""
    return _WORD.findall(text.replace("’", "'").lower())


def grams(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return all runs of `size` tokens, in order."""
    return list(zip(*(tokens[start:] for start in range(size)), strict=False))


FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(FENCED.pattern + r"|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_ADDRESS = re.compile(r"\w+://\S+|www\.\S+|\S+@\S+")
_PROSE_WORD = re.compile(r"""["'“‘(\[*_]*[^\W\d_]+(?:['’-][^\W\d_]+)*["'”’)\]*_.,;:!?…]*""")
_NOT_LATIN = re.compile(r"[^\W\d_A-Za-z\u00aa-\u024f]")


def prose(text: str) -> str:
    """Return the words of a text that are no code and no address; "" when they are too few to tell a language by.

    Enough are 6 words that are 0.6 of the text, or 10 letters of other scripts than Latin."""
    tokens = _ADDRESS.sub(" ", CODE.sub(" ", text)).split()
    found = [token for token in tokens if _PROSE_WORD.fullmatch(token)]
    is_enough = len(found) >= max(6, 0.6 * len(tokens)) or len(_NOT_LATIN.findall(text)) >= 10
    return " ".join(found) if is_enough else ""


# Every further language makes short English a little less safe: these are what models slip into.
_PLAUSIBLE = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "da", "no", "fi", "cs", "hu", "ro", "tr", "id", "vi"),
    *("ru", "uk", "el", "ar", "fa", "he", "hi", "zh", "ja", "ko"),
)


@cache
def _identifier(expected: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # the model takes 0.8 s to load

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if unknown := [code for code in expected if code not in identifier.labels]:
        raise InputError(f"{unknown[0]!r} is no language of py3langid; it has {', '.join(identifier.labels)}.")
    identifier.set_languages({*_PLAUSIBLE, *expected})
    return identifier


def language_chances(text: str, expected: tuple[str, ...]) -> dict[str, float]:
    """Return the probability of each plausible or expected language (ISO 639-1), by py3langid.

    Raises InputError for an expected language that it does not know."""
    return dict(_identifier(tuple(expected)).rank(text))


def most_repeated(tokens: list[str], size: int) -> tuple[float, tuple[str, ...]]:
    """The share of characters in the most repeated n-gram, and that n-gram; 0 below 3 times or below 20 words."""
    runs = grams(tokens, size)
    gram, count = Counter(runs).most_common(1)[0] if len(tokens) >= 20 else ((), 0)
    return (_share(tokens, size, [run == gram for run in runs]), gram) if count >= 3 else (0.0, ())


def said_before(tokens: list[str], size: int) -> float:
    """The share of characters in n-grams that were there before; 0 for texts of less than 20 words."""
    seen: set[tuple[str, ...]] = set()
    runs = grams(tokens, size) if len(tokens) >= 20 else []
    return _share(tokens, size, [run in seen or bool(seen.add(run)) for run in runs])


def _share(tokens: list[str], size: int, is_hit: list[bool]) -> float:
    """The share of characters in the runs that are hits, each token counted once where runs overlap."""
    covered = {at + offset for at, hit in enumerate(is_hit) if hit for offset in range(size)}
    return sum(len(tokens[at]) for at in covered) / max(1, sum(map(len, tokens)))


def quoted(text: str, *, at: int = 0, width: int = 90) -> str:
    """Return a text in quotes on one line, cut to about `width` characters around position `at`, for a detail."""
    start = max(0, at - width // 3)
    shown = " ".join(text[start : start + width].split())
    return f"“{'…' if start else ''}{shown}{'…' if start + width < len(text) else ''}”"
