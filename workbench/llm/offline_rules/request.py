"""What a request asks the offline writer for: its data, its settings, the outputs wanted and their form, its demonstrations.

Two forms of prompt are read: one whose data stand between tags and whose section "# Output format" names the outputs; and
DSPy's (ChatAdapter and JSONAdapter of 3.4), whose inputs are blocks under headers, in the order that its system message
names them in. Data are looked for in the last message alone, so that nothing of a demonstration is taken for the request."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from workbench.llm.client import Messages

_TAG = re.compile(r"^<([A-Za-z]\w*)>\n", re.MULTILINE)
_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_HEADER_LINE = re.compile(r"^\[\[ ## (\w+) ## \]\]\n", re.MULTILINE)
_KEY = re.compile(r'^\s*[-*] ["`](\w+)["`]\s*:\s*(.*)$', re.MULTILINE)
# Before anything that could be data: a request may hold a passage on things that could not be read.
_COMPLAINT = re.compile(r"[^\n<\[]{0,80}could not be read")

# DSPy's system message, its request, and what it writes in place of a value that a demonstration lacks.
_INPUTS, _OUTPUTS, _STRUCTURE = (
    "Your input fields are:\n",
    "Your output fields are:\n",
    "All interactions will be structured",
)
_FIELD = re.compile(r"^\d+\. `(\w+)` \(.*?\):[ ]?(.*)$", re.MULTILINE)
_NOTE = re.compile(r"^\{(\w+)\} {8}# note: the value you produce (.*)$", re.MULTILINE)
_JSON_NOTES = "Outputs will be a JSON object with the following fields."
_RESPOND = "\n\nRespond with "
_NOT_SUPPLIED = "Not supplied for this "


@dataclass(frozen=True)
class Output:
    """A field to write: what is said about it, and DSPy's note on its type, which is "" for text and None where there is
    no such note to go by."""

    about: str = ""
    note: str | None = None


@dataclass(frozen=True)
class Given:
    """What a message gives: the data between tags, the plain values, both by name, and the words around them."""

    data: Mapping[str, str]
    plain: Mapping[str, str]
    words: str = ""

    def get(self, name: str) -> str:
        """Return the value of that name, also where the renderer numbered its tag; "" when there is none."""
        numbered = (value for tag, value in self.data.items() if re.fullmatch(rf"{name}_\d+", tag))
        return self.data[name] if name in self.data else next(numbered, self.plain.get(name, ""))

    @property
    def passage(self) -> str:
        """The text to work on: the passage, else the longest data or value, else the words of the request."""
        if "passage" in self.plain or any(re.fullmatch(r"passage(_\d+)?", tag) for tag in self.data):
            return self.get("passage")  # also when it is empty: then there is nothing to write about
        return max(self.data.values() or self.plain.values(), key=len, default=self.words)

    def setting(self, name: str) -> str:
        """Return a plain setting in small letters, such as "reason" of "Wanted kind of question: reason (why ...)."."""
        if name in self.plain:
            return self.plain[name].lower()
        match = re.search(rf"^Wanted {name}\b[^:\n]*:[ \t]*([^.\n]*)", self.words, re.MULTILINE)
        return match[1].strip().lower() if match else ""


@dataclass(frozen=True)
class Demonstration:
    """An earlier request with its answer. `outputs` are the fields shown, as text; None when it is not in the asked form."""

    given: Given
    outputs: Mapping[str, str] | None


@dataclass(frozen=True)
class Asked:
    """What a request asks for: what is given, the outputs wanted in their order, and what was demonstrated before."""

    messages: Messages
    given: Given
    outputs: Mapping[str, Output]
    is_json: bool
    is_repair: bool
    demonstrations: tuple[Demonstration, ...] = ()

    def formatted(self, fields: Mapping[str, object]) -> str:
        """Return the fields in the asked format; the one text where no format is asked for."""
        if not self.outputs:
            return str(next(iter(fields.values())))
        if self.is_json:
            return json.dumps(fields, ensure_ascii=False)
        shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        blocks = [f"[[ ## {name} ## ]]\n{value}" for name, value in shown.items()]
        return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def read(messages: Messages) -> Asked:
    """Return what the messages ask for; a request to repair an answer asks for what the original asked."""
    is_answered = len(messages) > 2 and messages[-2]["role"] == "assistant"
    is_repair = bool(is_answered and _COMPLAINT.match(messages[-1]["content"]))
    original = messages[:-2] if is_repair else messages
    earlier, last = original[:-1], original[-1]["content"] if original else ""
    system = "\n".join(message["content"] for message in earlier if message["role"] == "system")
    declared = tuple(name for name, _ in _FIELD.findall(system.partition(_INPUTS)[2].partition(_OUTPUTS)[0]))
    given = _given(last, declared, is_request=True)
    outputs, is_json = _outputs(system, given.words)
    outputs = {name: wanted for name, wanted in outputs.items() if name not in given.data | given.plain}
    shown = tuple(
        Demonstration(_given(first["content"], declared), _shown(second["content"], tuple(outputs), is_json))
        for first, second in pairwise(message for message in earlier if message["role"] != "system")
        if first["role"] == "user" and second["role"] == "assistant"
    )
    return Asked(original, given, outputs, is_json, is_repair, shown)


# --- inputs -----------------------------------------------------------------------------------------------------------


def _given(content: str, declared: Sequence[str], *, is_request: bool = False) -> Given:
    """The values of a message, under DSPy's headers where it has them, else between tags."""
    found = _HEADER_LINE.findall(content)
    if not set(declared).isdisjoint(found):
        return _under_headers(content, declared, is_request)
    data, words = _between_tags(content)
    return (
        _under_headers(content, tuple(dict.fromkeys(found)), is_request)
        if found and not data
        else Given(data, {}, words)
    )


def _between_tags(content: str) -> tuple[dict[str, str], str]:
    """The values between tags, and the text around them.

    Tags are read from the front, each up to its own closing tag, so that tags inside a value are part of the value."""
    data: dict[str, str] = {}
    rest, at = [], 0
    while match := _TAG.search(content, at):
        end = content.find(f"\n</{match[1]}>", match.end() - 1)
        if end < 0:
            rest.append(content[at : match.end()])
            at = match.end()
            continue
        rest.append(content[at : match.start()])
        data[match[1]] = content[match.end() : end]
        at = end + len(match[1]) + 4
    rest.append(content[at:])
    return data, "".join(rest)


def _under_headers(content: str, names: Sequence[str], is_request: bool) -> Given:
    """The blocks of these names, which follow each other in this order: data where a tag of that name encloses the value,
    plain values elsewhere. Headers inside a tagged value are part of the value."""
    end = content.rfind(_RESPOND) if is_request else -1
    end = end if end >= 0 else len(content)
    data: dict[str, str] = {}
    plain: dict[str, str] = {}
    match = _next_header(content, names, 0, end)
    words = content[: match.start() if match else end] + content[end:]
    while match:
        name, start = match[1], match.end()
        names = names[names.index(name) + 1 :]
        opening = re.compile(rf"<({name}(?:_\d+)?)>\n").match(content, start)
        closing = content.find(f"\n</{opening[1]}>", opening.end() - 1, end) if opening else -1
        if opening and closing >= 0:
            data[name] = content[opening.end() : closing]
            match = _next_header(content, names, closing + 1, end)
        else:
            match = _next_header(content, names, start, end)
            plain[name] = content[start : match.start() if match else end].strip()
    return Given(data, plain, words)


def _next_header(content: str, names: Sequence[str], at: int, end: int) -> re.Match[str] | None:
    return next((match for match in _HEADER_LINE.finditer(content, at, end) if match[1] in names), None)


# --- outputs ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _outputs(system: str, user: str) -> tuple[dict[str, Output], bool]:
    """Each output field with what is said about it, and whether they are asked for as JSON."""
    instructions = f"{system}\n{user}"
    if "Respond with" in user and (tail := user[user.rfind("Respond with") :]) and "`" in tail:
        names, described = _HEADER.findall(tail) or re.findall(r"`(\w+)`", tail), _described(system)
        return {name: described.get(name, Output()) for name in names if name != "completed"}, not _HEADER.search(tail)
    form = instructions.partition("# Output format")[2].partition("\n# ")[0] or instructions
    if headers := list(_HEADER.finditer(form)):
        ends = [match.start() for match in headers[1:]] + [len(form)]
        found = {match[1]: form[match.end() : end].strip() for match, end in zip(headers, ends, strict=True)}
        return {name: Output(about) for name, about in found.items() if name != "completed"}, False
    keys = dict(_KEY.findall(form)) if "JSON" in form else {}
    return {name: Output(about) for name, about in keys.items()}, bool(keys)


def _described(system: str) -> dict[str, Output]:
    """The outputs as DSPy's system message describes them: the list of fields, and the notes on their types."""
    about, _, structure = system.partition(_OUTPUTS)[2].partition(_STRUCTURE)
    notes = dict(_NOTE.findall(structure))
    if _JSON_NOTES in structure:
        # A JSON object in several lines, each `"name": "{name}        # note: ..."`.
        values = re.findall(r'^  "\w+": (".*?"),?$', structure.partition(_JSON_NOTES)[2], re.MULTILINE)
        notes = dict(match.groups() for value in values if (match := _NOTE.fullmatch(json.loads(value))))
    return {name: Output(said, notes.get(name, "")) for name, said in _FIELD.findall(about)}


def _shown(content: str, names: Sequence[str], is_json: bool) -> dict[str, str] | None:
    """The outputs of a demonstration without those that it says are not supplied; None when one is missing."""
    if is_json:
        try:
            found = json.loads(content)
        except ValueError:
            return None
        found = {name: str(value) for name, value in found.items()} if isinstance(found, dict) else {}
    else:
        headers = list(_HEADER_LINE.finditer(content + "\n"))
        ends = [match.start() for match in headers[1:]] + [len(content)]
        found = {match[1]: content[match.end() : end].strip() for match, end in zip(headers, ends, strict=True)}
    if not found.keys() >= set(names):
        return None
    return {name: found[name] for name in names if not found[name].startswith(_NOT_SUPPLIED)}
