"""Types as JSON Schema and back: what a prompt file keeps of an output that is more than text or a number.

A file cannot hold a Python class. It holds the class's JSON Schema, and at parse time an equal pydantic type is built from
that. `schema_of` refuses every type for which the two would not read the same answers the same way."""

import enum
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union

from workbench.errors import PromptError, require

PLAIN = {"str": str, "int": int, "float": float, "bool": bool}

_NAMED = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_LIMITS = {
    "minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
    "minLength": "min_length", "maxLength": "max_length", "pattern": "pattern", "minItems": "min_length", "maxItems": "max_length",
}  # fmt: skip
_KNOWN = {
    "$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "items", "properties", "required",
    "title", "type", *_LIMITS,
}  # fmt: skip
_ADVICE = (
    "Use str, int, float, bool, Literal, list[...] and dict[str, ...] of these, Optional, and pydantic models whose "
    "fields are all required, without validators, aliases or a configuration."
)


def schema_of(annotation: Any, *, name: str) -> dict[str, Any]:
    """Return the JSON Schema of a type, from which `type_of` builds an equal one; `name` is whose type it is.

    Raises PromptError for a type that would come back another: one with validators, defaults or aliases, for instance."""
    pydantic = require("pydantic", extra="prompts")
    if isinstance(annotation, enum.EnumMeta):
        # DSPy also reads the names of an Enum's members, which no schema holds.
        raise PromptError(
            f"{name}: the Enum {annotation.__name__} cannot be frozen. Write it as a Literal of its values."
        )
    try:
        original = pydantic.TypeAdapter(annotation)
        schema = original.json_schema()
        again = pydantic.TypeAdapter(type_of(json.dumps(schema)))
        is_same = again.json_schema() == schema and _rules(again.core_schema) == _rules(original.core_schema)
    except PromptError as error:
        raise PromptError(f"{name}: {error}") from None
    except (TypeError, pydantic.PydanticUserError) as error:
        raise PromptError(f"{name}: {annotation} cannot be frozen: {error}. {_ADVICE}") from None
    if not is_same:
        raise PromptError(f"{name}: {annotation} cannot be frozen: a file cannot hold all of its rules. {_ADVICE}")
    return schema


@cache
def type_of(schema: str) -> Any:
    """Return the type that a JSON Schema (as text) describes.

    Raises PromptError for a keyword that is not understood, a field that need not be given (a value that the model did
    not give would be filled in) and a type that holds itself."""
    whole = json.loads(schema)
    return _built(whole, whole.get("$defs", {}), {})


def _built(schema: Mapping[str, Any], definitions: Mapping[str, Any], made: dict[str, Any]) -> Any:
    """The type of a part of a schema; `made` holds the classes built so far, None for those under way."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name not in made:
            made[name], part = None, definitions[name]
            # Here it is an Enum's: a Literal has no definition of its own.
            members = part.get("enum", [part["const"]] if "const" in part else None)
            made[name] = _enum(part, members) if members else _built(part, definitions, made)
        if made[name] is None:
            raise PromptError(f"the type {name} holds itself, and cannot be frozen. Ask for a list of flat objects.")
        return made[name]
    if unknown := schema.keys() - _KNOWN:
        raise PromptError(f"JSON Schema's {', '.join(map(repr, sorted(unknown)))} cannot be frozen. {_ADVICE}")
    inner = lambda part: _built(part, definitions, made)
    if "anyOf" in schema:
        return Union[tuple(map(inner, schema["anyOf"]))]  # noqa: UP007  the parts are known only here
    if "enum" in schema or "const" in schema:
        return Literal[tuple(schema["enum"] if "enum" in schema else [schema["const"]])]
    form = schema.get("type")
    if form == "array":
        kind = list[inner(schema.get("items", {}))]
    elif form == "object":
        rest = schema.get("additionalProperties", True)
        kind = _model(schema, inner) if "properties" in schema else dict[str, Any if rest is True else inner(rest)]
    elif form is None or str(form) in _NAMED:
        kind = Any if form is None else _NAMED[form]
    else:
        raise PromptError(f"JSON Schema's type {form!r} cannot be frozen. {_ADVICE}")
    if limits := {_LIMITS[key]: value for key, value in schema.items() if key in _LIMITS}:
        kind = Annotated[kind, require("pydantic", extra="prompts").Field(**limits)]
    return kind


def _model(schema: Mapping[str, Any], inner: Any) -> Any:
    """A pydantic model with the schema's fields, all of them required."""
    pydantic, title = require("pydantic", extra="prompts"), schema.get("title", "Object")
    if optional := schema["properties"].keys() - set(schema.get("required", ())):
        raise PromptError(
            f"{title}.{min(optional)} has a default, so that a value which the model did not give would be "
            "filled in. Make the field required (Optional, without a default)."
        )
    fields = {
        name: (inner(part), pydantic.Field(title=part.get("title"), description=part.get("description")))
        for name, part in schema["properties"].items()
    }
    extra = {True: "allow", False: "forbid"}.get(schema.get("additionalProperties"))
    config = pydantic.ConfigDict(extra=extra) if extra else None
    return pydantic.create_model(title, __doc__=schema.get("description"), __config__=config, **fields)


def _enum(schema: Mapping[str, Any], values: list[Any]) -> Any:
    built = enum.Enum(schema["title"], [(f"member_{at}", value) for at, value in enumerate(values)])
    built.__doc__ = schema.get("description")
    return built


def _rules(core: Any) -> Any:
    """What a pydantic core schema says of validation and writing: all of it but where its classes were defined."""
    if isinstance(core, Mapping):
        # Looks and identities. An Enum of texts reads JSON alike whether or not it is a str itself.
        dropped = {"metadata", "ref", "cls"} | ({"sub_type"} if core.get("sub_type") == "str" else set())
        named = lambda key, value: (
            str(value).rpartition(":")[0].rpartition(".")[2] if key == "schema_ref" else _rules(value)
        )
        return {key: named(key, value) for key, value in core.items() if key not in dropped}
    if isinstance(core, list | tuple):
        return [_rules(item) for item in core]
    return core.value if isinstance(core, enum.Enum) else core
