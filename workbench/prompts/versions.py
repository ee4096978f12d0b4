"""What changed between two versions of a prompt, and how every version came to be.

versions.diff("rag/question@1", "rag/question@2")
versions.history("rag/question", folders=[prompts.FOLDER, "data/prompts"])"""

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher, unified_diff
from pathlib import Path
from typing import Any

from workbench import _html
from workbench._html import escaped
from workbench.errors import PromptError
from workbench.prompts import library
from workbench.prompts.library import FOLDER, Prompt

OFFLINE = "offline rules, no model"

_CONTEXT = 2  # unchanged lines shown around a change
_LONG = 12  # lines of an added message that are shown unasked
_ALIKE = 0.35  # the share of words in common from which on changed words are marked, and not the whole
_WHOLE = 50_000  # characters of a message that are shown at most
_OLD, _NEW = "rgba(213,94,0,.28)", "rgba(0,114,178,.3)"  # Okabe and Ito's vermilion and blue, over light and dark
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;font-family:var(--jp-code-font-family,monospace);font-size:12px"
_CELL = f"{_TEXT};width:50%;vertical-align:top;text-align:left;padding:1px 8px"
_ROW = "<tr style='background:transparent'>"
_SCORED = ("dev", "held_out", "difference")


# --- two versions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Diff:
    """Two prompts beside each other in a notebook, and as text a unified diff."""

    a: Prompt
    b: Prompt

    @property
    def header(self) -> dict[str, tuple[str, str]]:
        """What the headers say differently, by field: (before, after), "" where there is none."""
        before, after = _header(self.a), _header(self.b)
        names = dict.fromkeys([*before, *after])
        return {name: pair for name in names if (pair := (before.get(name, ""), after.get(name, "")))[0] != pair[1]}

    def __str__(self) -> str:
        lines = list(unified_diff(_lines(self.a), _lines(self.b), self.a.id, self.b.id, lineterm=""))
        return "\n".join(lines) or f"{self.a.id} and {self.b.id} say the same."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(name, *pair) for name, pair in self.header.items()]
        head = _html.html_table(["header", self.a.ref, self.b.ref], rows) if rows else ""
        if self.a.messages == self.b.messages:
            return _html.card(f"{self.a.ref} → {self.b.ref}", "the messages are the same", head)
        body = "".join(_message(*pair) for pair in _aligned(self.a.messages, self.b.messages))
        names = _pair(*(f"<span style='opacity:.65'>{escaped(each.id)}</span>" for each in (self.a, self.b)))
        style = "border-collapse:collapse;width:100%;table-layout:fixed;margin:6px 0"
        return _html.card(f"{self.a.ref} → {self.b.ref}", "", f"{head}<table style='{style}'>{names}{body}</table>")


def diff(a: str | Prompt, b: str | Prompt, *, folder: str | os.PathLike[str] = FOLDER) -> Diff:
    """Return what changed from prompt a to prompt b; a name@version is loaded from `folder`."""
    before, after = (each if isinstance(each, Prompt) else library.load(each, folder=folder) for each in (a, b))
    return Diff(before, after)


def _header(prompt: Prompt) -> dict[str, str]:
    """Every field of the header but name and version, as a line of text each."""
    found = {}
    for each in dataclasses.fields(prompt):
        value = getattr(prompt, each.name)
        if each.name in ("name", "version", "messages"):
            continue
        if each.name == "made_by":
            found["made_by"] = _how(value) + (f", by {model}" if (model := _with(value)) else "")
        elif each.name == "scores":
            found |= _scores("scores", value)
        elif isinstance(value, Mapping):
            found |= {each.name: ", ".join(value)} if value else {}  # their order is part of what is sent
            found |= {f"{each.name}.{key}": _line(item) for key, item in value.items()}
        else:
            found[each.name] = _line(value)
    return found


def _lines(prompt: Prompt) -> list[str]:
    """The whole prompt as lines, for a unified diff."""
    messages = (line for role, content in prompt.messages for line in ("", f"--- {role}", *content.split("\n")))
    return [*(f"{name}: {text}" for name, text in _header(prompt).items()), *messages]


def _line(value: Any) -> str:
    return value.replace("\n", "\\n") if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _how(made_by: Mapping[str, Any]) -> str:
    """How a prompt came to be: Bootstrap from rag/question@1."""
    base = str(made_by.get("base") or "").partition("#")[0]
    return str(made_by.get("method", "unknown")) + (f" from {base}" if base else "")


def _with(made_by: Mapping[str, Any]) -> str:
    """Who answered meanwhile; the offline rules are named first, where they are not cut off."""
    model = str(made_by.get("model") or "")
    return f"{OFFLINE} ({model})" if made_by.get("is_offline") else model


def _scores(name: str, scores: Any) -> dict[str, str]:
    """Every score in a header, by its path: {"scores.base.dev": "0.62 (0.55 to 0.69, n 40)"}."""
    if numbers := _numbers(scores):
        return {name: _score(numbers, "+" if name.endswith("difference") else "")}
    if not isinstance(scores, Mapping):
        return {name: _line(scores)}
    return {path: text for key, item in scores.items() for path, text in _scores(f"{name}.{key}", item).items()}


def _numbers(score: Any) -> dict[str, float]:
    """What a score of a header says as numbers: value, and low, high and n where they are there; {} for no score."""
    numbers = score if isinstance(score, Mapping) else {}
    found = {
        name: numbers[name] for name in ("value", "low", "high", "n") if isinstance(numbers.get(name), int | float)
    }
    return found if "value" in found else {}


def _score(numbers: Mapping[str, float], sign: str = "") -> str:
    if not numbers:
        return ""
    about = [f"{numbers['low']:{sign}.2f} to {numbers['high']:{sign}.2f}"] if {"low", "high"} <= numbers.keys() else []
    about += [f"n {numbers['n']:,}"] if "n" in numbers else []
    return f"{numbers['value']:{sign}.2f}" + (f" ({', '.join(about)})" if about else "")


Message = tuple[str, str]


def _aligned(before: Sequence[Message], after: Sequence[Message]) -> Iterator[tuple[Message | None, Message | None]]:
    """Messages in pairs, in order; None where the other side has none.

    Of all ways to pair messages of one role, the one whose pairs share most words. The last is what is asked, and the last
    ones go together."""
    bags = [[Counter(content.split()) for _, content in messages] for messages in (before, after)]

    def likeness(i: int, j: int) -> float:
        if before[i][0] != after[j][0]:
            return -1.0
        shared, all_words = (bags[0][i] & bags[1][j]).total(), bags[0][i].total() + bags[1][j].total()
        are_last = i == len(before) - 1 and j == len(after) - 1
        return 0.01 + 2 * shared / max(1, all_words) + are_last

    best = [[0.0] * (len(after) + 1) for _ in range(len(before) + 1)]  # of what follows i and j
    for i in reversed(range(len(before))):
        for j in reversed(range(len(after))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + likeness(i, j))
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and j < len(after) and best[i][j] == best[i + 1][j + 1] + likeness(i, j):
            yield before[i], after[j]
            i, j = i + 1, j + 1
        elif i < len(before) and best[i][j] == best[i + 1][j]:
            yield before[i], None
            i += 1
        else:
            yield None, after[j]
            j += 1


def _message(before: Message | None, after: Message | None) -> str:
    """A pair of messages as rows of the table."""
    role = (before or after)[0]  # type: ignore[index]
    if before is not None and after is not None:
        name = role if before != after else f"{role}, unchanged"
        return _band(name) + "".join(_rows(before[1].split("\n"), after[1].split("\n")))
    text = (before or after)[1]  # type: ignore[index]
    lines, colour = text.count("\n") + 1, _OLD if after is None else _NEW
    shown = f"<div style='background:{colour}'>{escaped(text, _WHOLE)}</div>"
    if lines > _LONG:
        shown = f"<details><summary>{escaped(' '.join(text.split()), 60)} ({lines:,} lines)</summary>{shown}</details>"
    return _band(f"{role}, {'removed' if after is None else 'added'}") + (
        _pair(shown, "") if after is None else _pair("", shown)
    )


def _band(name: str) -> str:
    line = "border-top:1px solid var(--jp-border-color2,#8886);padding:6px 8px 1px;text-align:left"
    return f"{_ROW}<td colspan='2' style='{line}'><b>{escaped(name)}</b></td></tr>"


def _pair(left: str, right: str) -> str:
    return f"{_ROW}<td style='{_CELL}'>{left}</td><td style='{_CELL}'>{right}</td></tr>"


def _rows(before: list[str], after: list[str]) -> Iterator[str]:
    """Two texts, given as lines, beside each other: changed words marked, long unchanged runs folded."""
    for kind, a, a_end, b, b_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            yield _pair(*_marked("\n".join(before[a:a_end]), "\n".join(after[b:b_end])))
            continue
        # Nothing leads up to a change at the first line, or away from one at the last.
        first = a + (_CONTEXT if a else 0)
        last = a_end - (_CONTEXT if a_end < len(before) or b_end < len(after) else 0)
        if last - first < 2:
            first = last = a_end
        for start, end in ((a, first), (last, a_end)):
            if start == last and last > first:
                yield _folded(before[first:last])
            if start < end:
                text = escaped("\n".join(before[start:end]), _WHOLE)
                yield _pair(text, text)


def _folded(lines: list[str]) -> str:
    text = escaped("\n".join(lines), _WHOLE)
    summary = f"<summary style='opacity:.65'>{len(lines):,} unchanged lines</summary>"
    return f"{_ROW}<td colspan='2' style='padding:1px 8px;text-align:left'><details>{summary}<div style='{_TEXT}'>{text}</div></details></td></tr>"


def _marked(before: str, after: str) -> tuple[str, str]:
    """Both texts as HTML, the words that the other does not have marked."""
    a, b = (re.findall(r"\S+\s*|\s+", text) for text in (before, after))
    matcher, left, right = SequenceMatcher(None, a, b, autojunk=False), [], []
    # A text that was written anew shares words by chance: marked word by word it could not be read.
    is_new = matcher.ratio() < _ALIKE
    for kind, i, i_end, j, j_end in [("replace", 0, len(a), 0, len(b))] if is_new else matcher.get_opcodes():
        old, new = (escaped("".join(part), _WHOLE) for part in (a[i:i_end], b[j:j_end]))
        left.append(old if kind == "equal" or not old else _mark("del", old, _OLD))
        right.append(new if kind == "equal" or not new else _mark("ins", new, _NEW))
    return "".join(left), "".join(right)


def _mark(tag: str, text: str, colour: str) -> str:
    return f"<{tag} style='background:{colour};color:inherit;text-decoration:none'>{text}</{tag}>"


# --- all versions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """One version: where its file is, how it was made, and what it scored; `broken` says why a file cannot be used."""

    ref: str
    folder: str
    prompt: Prompt | None = field(default=None, repr=False)
    broken: str = ""

    @property
    def version(self) -> int | None:
        number = self.ref.partition("@")[2]
        return int(number) if number.isdecimal() else None

    @property
    def made_by(self) -> Mapping[str, Any]:
        return self.prompt.made_by if self.prompt else {}

    @property
    def is_offline(self) -> bool:
        """True when the offline rules answered while it was made, and no model did."""
        return bool(self.made_by.get("is_offline"))

    def score(self, part: str) -> dict[str, float]:
        """Return value, low, high and n of what its header says it scored: on "dev" or "held_out", or the "difference"
        from its base. {} where it says nothing."""
        return _numbers(self.prompt.scores.get(part)) if self.prompt else {}

    def row(self) -> dict[str, Any]:
        """Return it as plain values: None for a number, "" for a text that is not known."""
        scores = {
            f"{part}{suffix}": self.score(part).get(name)
            for part in _SCORED
            for name, suffix in (("value", ""), ("low", "_low"), ("high", "_high"), ("n", "_n"))
        }
        known = {name: str(self.made_by.get(name) or "") for name in ("method", "base", "model")}
        return {
            "version": self.version, "id": self.prompt.id if self.prompt else "", **known, "is_offline": self.is_offline,
            **scores, "about": self.prompt.about if self.prompt else "", "folder": self.folder, "broken": self.broken,
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class History:
    """Every version of a prompt, the first one first."""

    name: str
    versions: tuple[Version, ...]

    def __len__(self) -> int:
        return len(self.versions)

    def __iter__(self) -> Iterator[Version]:
        return iter(self.versions)

    def table(self) -> Any:
        """Return a pyarrow table, a row per version."""
        import pyarrow as pa

        kinds = {"version": pa.int64(), "is_offline": pa.bool_()}
        kinds |= {f"{part}{suffix}": pa.float64() for part in _SCORED for suffix in ("", "_low", "_high")}
        kinds |= {f"{part}_n": pa.int64() for part in _SCORED}
        rows = [version.row() for version in self.versions]
        return pa.table({name: pa.array([row[name] for row in rows], kinds.get(name, pa.string())) for name in rows[0]})

    def notes(self) -> list[str]:
        """Return what is wrong with the files, a line each."""
        said = [f"{each.ref} is broken: {each.broken}" for each in self.versions if each.broken]
        counts = Counter(each.ref for each in self.versions if not each.broken)
        twice = [ref for ref, count in counts.items() if count > 1]
        return said + [
            f"{ref} stands in two folders with different content: save one of them as the next version."
            for ref in twice
        ]

    def _lines(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [
                each.prompt.id if each.prompt else each.ref, _how(each.made_by) if each.prompt else "broken",
                _with(each.made_by), *(_score(each.score(part), "+" if part == "difference" else "") for part in _SCORED),
                each.prompt.about if each.prompt else "",
            ]
            for each in self.versions
        ]  # fmt: skip
        columns = ["version", "made by", "model", *(part.replace("_", " ") for part in _SCORED), "about"]
        # A column that nobody filled says nothing, nor one that says the same of every version.
        values = [{row[at] for row in rows} for at in range(len(columns))]
        same = len(rows) > 1 and len(values[-1]) == 1
        kept = [at for at, each in enumerate(values) if at < 2 or (any(each) and not (same and columns[at] == "about"))]
        return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]

    def _title(self) -> str:
        return f"{self.name}: {len(self):,} version{'s'[: len(self) != 1]}"

    def __repr__(self) -> str:
        return "\n".join([self._title(), _html.text_table(*self._lines(), width=60), *self.notes()])

    def _repr_html_(self) -> str:
        return _html.card(self._title(), "", _html.html_table(*self._lines()), warning="\n".join(self.notes()))


def history(name: str, *, folders: Sequence[str | os.PathLike[str]] = (FOLDER,)) -> History:
    """Return every version of a prompt that is in these folders, by number; the same file in two folders counts once.

    A file that cannot be used is listed with the reason. Raises PromptError when no folder has a prompt of this name."""
    folders = (folders,) if isinstance(folders, str | os.PathLike) else folders
    refs = [(ref, Path(folder)) for folder in folders for ref in library.names(folder=folder)]
    found = [_version(ref, folder) for ref, folder in refs if ref.partition("@")[0] == name]
    if not found:
        known = ", ".join(dict.fromkeys(ref.partition("@")[0] for ref, _ in refs)) or "none"
        raise PromptError(f"there is no prompt named {name!r} in {', '.join(map(str, folders))}; there are {known}.")
    first = {
        version.prompt.id if version.prompt else (version.ref, version.folder): version for version in reversed(found)
    }
    return History(name, tuple(sorted(first.values(), key=lambda each: (each.version or 0, found.index(each)))))


def _version(ref: str, folder: Path) -> Version:
    place = "workbench" if folder == FOLDER else str(folder)
    try:
        return Version(ref, place, library.load(ref, folder=folder))
    except (PromptError, OSError) as error:
        return Version(ref, place, broken=str(error))
