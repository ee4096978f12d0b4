"""Values of the offline writer for outputs that no rule knows: plausible ones of the asked type, taken from the data."""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.request import Asked, Output

_OPTIONS = re.compile(r'"([\w -]+)"')
_RANGE = re.compile(r"(\d+)\s*(?:to|-|–)\s*(\d+)")
_ONE_OF = re.compile(r"(?:must exactly match \(no extra characters\) one of|must be one of): (.*)")
_SCHEMA = "must adhere to the JSON schema: "
_DEEPEST = 3  # levels of a schema at which lists are filled and what may be null is not


def extract(asked: Asked, name: str, at: int, rng: random.Random) -> object:
    """Return a plausible value for the output at that place: one of the options named, a number in the range named, what
    fits DSPy's note on its type, else sentences of the longest data."""
    output = asked.outputs.get(name, Output())
    if len(options := _OPTIONS.findall(output.about)) > 1 and not output.note:
        return rng.choice(options)
    if output.note:
        return _of_type(output, asked.given.passage, rng)
    guessed = re.search(r"\b(true|whether)\b|\b(integer|number|score|rating)\b|\b(list)\b", output.about, re.IGNORECASE)
    if guessed and output.note is None:
        if guessed[2]:
            return rng.randint(*_range(output.about, (1, 5)))
        return rng.random() < 0.5 if guessed[1] else text.phrases(asked.given.passage)[:3]
    sentences = text.sentences(asked.given.passage)
    ranked = sorted(sentences, key=lambda sentence: -sentence.score)[:6]
    if ranked:
        return rng.choice(ranked[at::2] or ranked).plain
    return " ".join(text.plain(asked.given.passage).replace("[[", "").split()[:30]) or "NONE"


def fitted(value: object, output: Output) -> object | None:
    """Return a rule's text as a value of the asked type, or None where it is none: a list is a list of it, and yes is
    true."""
    note = output.note
    if not note or not isinstance(value, str):
        return value
    if options := _ONE_OF.match(note):
        return value if value in options[1].split("; ") else None
    if note.startswith("must be True"):
        return value == "yes" if value in ("yes", "partly", "no") else None
    schema = _schema(note)
    items = schema.get("items", {})
    return [value] if schema.get("type") == "array" and items.get("type", "string") == "string" else None


def _range(about: str, otherwise: tuple[int, int]) -> tuple[int, int]:
    low, high = map(int, scale.groups()) if (scale := _RANGE.search(about)) else otherwise
    return min(low, high), max(low, high)


def _of_type(output: Output, passage: str, rng: random.Random) -> object:
    """A value of the type that DSPy's note names."""
    note = output.note or ""
    if options := _ONE_OF.match(note):
        return rng.choice(options[1].split("; "))
    if note.startswith("must be True"):
        return rng.random() < 0.5
    if note.startswith("must be a single int"):
        return rng.randint(*_range(output.about, (1, 5)))
    if note.startswith("must be a single float"):
        return round(rng.uniform(*_range(output.about, (0, 1))), 2)
    schema = _schema(note)
    texts = [*text.phrases(passage)[:6], "NONE"]
    return _of_schema(schema, schema.get("$defs", {}), texts, rng)


def _schema(note: str) -> dict[str, Any]:
    try:
        found = json.loads(note.removeprefix(_SCHEMA))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _of_schema(
    schema: Mapping[str, Any], defs: Mapping[str, Any], texts: list[str], rng: random.Random, depth: int = 0
) -> object:
    """A small value that a JSON schema allows: every required key, one or two items of a list, the first of several."""
    inner = lambda part: _of_schema(part, defs, texts, rng, depth + 1)
    if "$ref" in schema and depth < 3 * _DEEPEST:  # one that refers to itself and to nothing else has no value
        return inner(defs.get(schema["$ref"].rpartition("/")[2], {}))
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else rng.choice(schema["enum"])
    if variants := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return inner(variants[0]) if depth < _DEEPEST or {"type": "null"} not in variants else None
    kind = schema.get("type", "string")
    if kind == "array":
        count = max(schema.get("minItems", 0), min(2, schema.get("maxItems", 2), _DEEPEST - depth))
        parts = schema.get("prefixItems") or [schema.get("items", {})] * count
        return [inner(part) for part in parts]
    if kind == "object":
        wanted = schema.get("required", schema.get("properties", {}))
        return {name: inner(part) for name, part in schema.get("properties", {}).items() if name in wanted}
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 5) - 1)
    low = min(low, high)
    simple = {
        "integer": rng.randint(int(low), int(high)),
        "number": float(low),
        "boolean": rng.random() < 0.5,
        "null": None,
    }
    return simple.get(kind, rng.choice(texts))
