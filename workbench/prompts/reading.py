"""Reading answers: from what a model said to the fields that a prompt asks for.

"fields" and "json" are the workbench's own formats: strict, and nothing is mended. With "text" the whole
answer is the one output. "dspy-chat" and "dspy-json" are for prompts frozen from a DSPy program, whose answers were read
by DSPy's adapters when it was optimised: the same libraries mend and convert them by the rules of DSPy 3.4, with three
exceptions, since nothing is ever filled in. A field that may be null must be there all the same, null is no text, and a
number must be one that JSON can hold."""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from workbench.errors import require
from workbench.prompts.schemas import PLAIN, type_of

FORMATS = ("fields", "json", "text", "dspy-chat", "dspy-json")
TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list}

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")


def values(text: str, format: str, outputs: Mapping[str, str], schemas: Mapping[str, str]) -> dict[str, Any]:
    """Return each output's value from an answer: text, numbers, booleans, lists and objects as JSON has them.

    `outputs` maps names to "type: what it holds", `schemas` to the JSON Schema, as text, of what has one. Raises
    ValueError when a field is missing or is not of its type."""
    if format == "text":
        return _whole(_THOUGHT.sub("", text), outputs)
    if format == "fields":
        found = _read_fields(_THOUGHT.sub("", text))
    elif format == "json":
        found = _read_json(_THOUGHT.sub("", text))
    else:
        found = _read_fields(text, as_dspy=True) if format == "dspy-chat" else _mended_object(text)
    read = _typed if format in ("fields", "json") else _typed_by_dspy
    result = {}
    for name, spec in outputs.items():
        if name not in found:
            raise ValueError(f"field {name!r} is missing; found {', '.join(map(str, found)) or 'nothing'}")
        kind = spec.partition(":")[0]
        result[name] = read(name, kind, found[name], schemas.get(name, kind))
    return result


# --- our own formats --------------------------------------------------------------------------------------------------


def _whole(text: str, outputs: Mapping[str, str]) -> dict[str, str]:
    if not text.strip():
        raise ValueError("the answer is empty")
    return dict.fromkeys(outputs, text.strip())


def _read_fields(text: str, *, as_dspy: bool = False) -> dict[str, str]:
    """The blocks under `[[ ## name ## ]]` headers; the first of a name counts, as in DSPy's ChatAdapter."""
    blocks: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in text.splitlines():
        if header := _HEADER.match(line.strip()):
            # DSPy cuts an indented header at the wrong place: what it read then is what its optimiser saw.
            rest = (line if as_dspy else line.strip())[header.end() :].strip()
            blocks.append((header[1], [rest] if rest else []))
        else:
            blocks[-1][1].append(line)
    found: dict[str, str] = {}
    for name, lines in blocks[1:]:
        found.setdefault(name, "\n".join(lines).strip())
    if not found:
        raise ValueError("no [[ ## field ## ]] header")
    return found


def _read_json(text: str) -> dict[str, Any]:
    """The one JSON object in a text, alone, in a code fence, or between other words.

    What a model thinks aloud first is no answer; and of two objects with a key in common nobody knows which is meant: one
    may be a draft, or quoted."""
    start = text.find("{")
    if start < 0:
        raise ValueError("no JSON object")
    try:
        found, end = _DECODER.raw_decode(text, start)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    if twice := next((key for other in _objects(text, end) for key in other if key in found), ""):
        raise ValueError(f"two JSON objects have a {twice!r}, and which is meant is not known")
    return found


def _objects(text: str, start: int) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text from `start` on."""
    while (start := text.find("{", start)) >= 0:
        try:
            found, start = _DECODER.raw_decode(text, start)
            yield found
        except ValueError:
            start += 1


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _keyed_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object, and which of its values is meant is not known")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_keyed_once)


def _typed(name: str, kind: str, value: Any, _: str) -> Any:
    """The field's value in its type; text from a fields answer may spell a number or a boolean.

    What a list[...] holds is for its reader to check."""
    kind = kind.partition("[")[0]
    if isinstance(value, str) and kind != "str":
        try:
            value = _DECODER.decode(value.lower() if kind == "bool" else value)
        except ValueError:
            raise ValueError(f"field {name!r} should be {kind}, got {value[:80]!r}") from None
    if not isinstance(value, TYPES[kind]) or (kind in ("int", "float") and isinstance(value, bool)):
        raise ValueError(f"field {name!r} should be {kind}, got {type(value).__name__}")
    return float(value) if kind == "float" else value


# --- DSPy's formats ---------------------------------------------------------------------------------------------------


def _mended_object(text: str) -> dict[str, Any]:
    """The JSON object that an answer is, or the first one in it, mended where it is broken."""
    found = _mended(text)
    if not isinstance(found, dict):
        regex = require("regex", extra="prompts")
        if braces := regex.search(r"\{(?:[^{}]|(?R))*\}", text, regex.DOTALL):
            found = _mended(braces[0])
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _mended(text: str) -> Any:
    """What a JSON text says; what a broken one seems to say; "" where that is nothing."""
    try:
        return json.loads(text)
    except ValueError:
        json_repair = require("json_repair", extra="prompts")
    try:
        return json_repair.loads(text)
    except Exception as error:  # it guesses, and on some texts it trips over its own assertions
        raise ValueError(f"not JSON, and cannot be mended: {type(error).__name__}") from None


def _typed_by_dspy(name: str, kind: str, value: Any, schema: str) -> Any:
    """The field's value in the type of a schema, or of a name such as "int", as JSON has it."""
    if schema == "str":
        if value is None:
            raise ValueError(f"field {name!r} should be str, got null")
        return str(value)
    pydantic = require("pydantic", extra="prompts")
    annotation, adapter = _adapter(schema)
    try:
        return adapter.dump_python(_converted(value, annotation, adapter), mode="json", warnings=False)
    except pydantic.ValidationError as error:
        problems = [": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in error.errors()]
        shown = f"{'; '.join(problems)[:300]}, got {str(value)[:80]!r}"
        raise ValueError(f"field {name!r} should be {kind}: {shown}") from None


@cache
def _adapter(schema: str) -> tuple[Any, Any]:
    annotation = PLAIN.get(schema) or type_of(schema)
    return annotation, require("pydantic", extra="prompts").TypeAdapter(annotation)


def _converted(value: Any, annotation: Any, adapter: Any) -> Any:
    """The value in its type; a text may spell a number, a list, an object, or quote one of a Literal's values."""
    if get_origin(annotation) is Literal:
        allowed = get_args(annotation)
        if value in allowed:
            return value
        if isinstance(value, str):
            value = _unquoted(value.strip())
            if value in allowed:
                return value
    may_be_text = get_origin(annotation) in (Union, UnionType) and {str, type(None)} <= set(get_args(annotation))
    return adapter.validate_python(_guessed(value) if isinstance(value, str) and not may_be_text else value)


def _unquoted(text: str) -> str:
    """`yes` of `"yes"` and of `Literal['yes']`, which models copy from the type's name."""
    if text.startswith(("Literal[", "str[")) and text.endswith("]"):
        text = text.partition("[")[2][:-1]
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _guessed(text: str) -> Any:
    """The JSON or Python value that a text spells; where it spells none, the text."""
    value = _mended(text)
    if value != "" or text == "":
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    except (TypeError, MemoryError) as error:
        raise ValueError(f"cannot be read: {error}") from None
