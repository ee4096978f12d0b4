"""Frozen prompts: load "rag/question@1", verify its hash, render it strictly, parse what comes back.

A prompt file is JSON whose message contents are lists of lines: it diffs line by line, and no editor that trims blanks
can change a byte unseen, since a hash over all of it is checked on load. A released version never changes; an
improvement is the next version. `{{name}}` stands for a variable; every other brace is an ordinary character, in the
template as in the values, because values are put in once and never looked at again.

What DSPy optimised is a prompt like any other (`programs.freeze` makes it), and is rendered and read without DSPy."""

import dataclasses
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from workbench.errors import PromptError, RecordError
from workbench.prompts import reading
from workbench.prompts.schemas import PLAIN
from workbench.records import Failure, content_hash

FOLDER = Path(__file__).parent / "files"
MARKS = ("{{", "}}")  # around a variable's name

_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)*")
_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array"}


@dataclass(frozen=True)
class Prompt:
    """One version of a prompt: what is sent, and how the answer is read.

    `variables` maps each name to "data" (text from documents or people: put between tags of its own, so that the model
    can tell it from instructions), "plain" (put in as it is) or "json" (lists and objects, written as JSON). `outputs`
    maps each field to "type: what it holds", in the order asked for; `format` is "fields" (`[[ ## name ## ]]` headers, as
    DSPy's ChatAdapter), "json", "text" where the one output is the whole answer, or "dspy-chat" or "dspy-json" of a frozen
    DSPy program. Types beyond text, numbers and lists of texts, such as a list of objects, are JSON Schemas in `schemas`.
    `marks` stand around a variable's name in the messages, where `{{name}}` is ordinary text. `made_by` says how it
    came to be, `scores` what it scored where."""

    name: str
    version: int
    messages: tuple[tuple[str, str], ...]
    variables: Mapping[str, str]
    outputs: Mapping[str, str]
    format: str = "fields"
    about: str = ""
    made_by: Mapping[str, Any] = field(default_factory=lambda: {"method": "hand"})
    scores: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    repair: bool = True
    schemas: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[str, str] = MARKS

    def __post_init__(self):
        if not _NAME.fullmatch(self.name) or self.version < 1:
            raise PromptError(
                f"{self.name!r} version {self.version} is no prompt name: use lower-case words and '/', and versions from 1."
            )
        if self.format not in reading.FORMATS:
            raise PromptError(
                f"{self.ref}: format {self.format!r} is not 'fields' or 'json' (nor 'text', nor 'dspy-chat' or 'dspy-json', which freezing a program gives)."
            )
        if self.format == "text" and [spec.partition(":")[0] for spec in self.outputs.values()] != ["str"]:
            raise PromptError(
                f"{self.ref}: a 'text' prompt has one output of type str, the whole answer; got {dict(self.outputs)}."
            )
        if wrong := set(self.variables.values()) - {"data", "plain", "json"}:
            raise PromptError(
                f"{self.ref}: a variable is 'data' or 'plain', not {wrong.pop()!r} (or 'json', for lists and objects)."
            )
        typed = self.outputs.keys() if self.is_json else set()
        if wrong := self.schemas.keys() - (self.variables.keys() | self.outputs.keys() if self.is_program else typed):
            raise PromptError(
                f"{self.ref}: {min(wrong)!r} has a schema, which only outputs and variables of a frozen program have, and outputs in JSON."
            )
        known = PLAIN if self.is_program else reading.TYPES
        kinds = {name: spec.partition(":")[0] for name, spec in self.outputs.items() if name not in self.schemas}
        if not self.is_program:  # "list[Entry]" is read as a list
            kinds |= {name: self.outputs[name].partition(":")[0].partition("[")[0] for name in self.schemas}
        if wrong := [name for name, kind in kinds.items() if kind not in known]:
            raise PromptError(
                f"{self.ref}: output {wrong[0]!r} must start with one of {', '.join(known)}, then a colon."
            )
        if len(self.marks) != 2 or not all(self.marks):
            raise PromptError(f"{self.ref}: marks are the two texts around a variable's name, got {self.marks!r}.")
        used = {name for _, parts in self.parts for name in parts[1::2]}
        if used != set(self.variables):
            raise PromptError(
                f"{self.ref}: the messages use {sorted(used)} and the header declares {sorted(self.variables)}; the two must agree."
            )

    @property
    def ref(self) -> str:
        """What a person types: name@version."""
        return f"{self.name}@{self.version}"

    @cached_property
    def sha256(self) -> str:
        """96 bits of SHA-256 over everything in the file but this hash."""
        return content_hash(self._header())

    @cached_property
    def id(self) -> str:
        """What provenance records: name@version#hash."""
        return f"{self.ref}#{self.sha256[:12]}"

    @property
    def content_id(self) -> str:
        return self.id

    def _header(self) -> dict[str, Any]:
        header = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        # Younger than the first released files, whose hashes do not know them.
        if not self.schemas:
            del header["schemas"]
        if self.marks == MARKS:
            del header["marks"]
        header["messages"] = [{"role": role, "content": content.split("\n")} for role, content in self.messages]
        # Order is part of what is sent, and a canonical hash sorts keys: keep it in lists.
        header["variables"] = [[k, v] for k, v in self.variables.items()]
        header["outputs"] = [[k, v] for k, v in self.outputs.items()]
        return header

    @cached_property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each message's content, split into literal text (even places) and variable names (odd places)."""
        slot = slots(self.marks)
        return tuple((role, tuple(slot.split(content))) for role, content in self.messages)

    @cached_property
    def sampling_json(self) -> str:
        """The parameters that the prompt asks for, as JSON."""
        return json.dumps(dict(self.sampling), sort_keys=True)

    @property
    def is_program(self) -> bool:
        """True when it was frozen from a DSPy program."""
        return self.format.startswith("dspy-")

    @property
    def is_json(self) -> bool:
        """True when the answer is one JSON object."""
        return self.format in ("json", "dspy-json")

    @cached_property
    def _is_plain_text(self) -> bool:
        """True when no value of an answer comes out of JSON, where things stand that no text holds."""
        return not self.is_json and all(spec.partition(":")[0] == "str" for spec in self.outputs.values())

    @cached_property
    def _schema_texts(self) -> dict[str, str]:
        return {name: json.dumps(schema) for name, schema in self.schemas.items()}

    def render(self, **values: Any) -> tuple[dict[str, str], ...]:
        """Return the messages to send, `({"role": ..., "content": ...}, ...)`.

        Raises PromptError when a variable is missing, unknown or not a string ("json": not JSON)."""
        if values.keys() != self.variables.keys():
            missing, unknown = self.variables.keys() - values.keys(), values.keys() - self.variables.keys()
            wrong = [
                f"{word} {', '.join(sorted(names))}"
                for word, names in (("missing", missing), ("unknown", unknown))
                if names
            ]
            raise PromptError(f"{self.ref} takes {', '.join(self.variables) or 'no variables'}; {'; '.join(wrong)}.")
        shown = {}
        for name, value in values.items():
            kind = self.variables[name]
            if kind == "json":
                shown[name] = self._as_json(name, value)
                continue
            if not isinstance(value, str):
                raise PromptError(
                    f"{self.ref}: {name} must be a string, got {type(value).__name__}. Turn it into text first."
                )
            shown[name] = tagged(name, value) if kind == "data" else value
        return tuple(
            {"role": role, "content": "".join(shown[part] if at % 2 else part for at, part in enumerate(parts))}
            for role, parts in self.parts
        )

    def _as_json(self, name: str, value: Any) -> str:
        """The value as DSPy's adapters write it: lists and objects as JSON, anything else as Python prints it."""
        plain = lambda item: item.model_dump(mode="json")
        try:
            orjson.dumps(value, default=plain)  # refuses keys that are no text, and half an emoji
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=plain)
        except (AttributeError, TypeError, ValueError) as error:
            raise PromptError(f"{self.ref}: {name} must be what JSON can hold: {error}.") from None
        return text if text[0] in "[{" else str(value)

    def parse(self, text: str) -> dict[str, Any] | Failure:
        """Return the output fields of an answer, or a Failure (reason "parse") that holds the raw text.

        Every field must be there with its type; fields that were not asked for are dropped. Nothing is filled in."""
        try:
            values = reading.values(text, self.format, self.outputs, self._schema_texts)
            if not self._is_plain_text:
                json.dumps(
                    values, ensure_ascii=False, allow_nan=False
                ).encode()  # refuses 1e999 and half an emoji: no record can hold them
            return values
        except (ValueError, OverflowError, RecursionError) as error:
            return Failure("parse", f"{self.ref}: {error}", raw=text)

    def repair_messages(
        self, messages: tuple[dict[str, str], ...], answer: str, detail: str
    ) -> tuple[dict[str, str], ...]:
        """Return the messages of the one repair request: the conversation so far, and what was wrong with its answer."""
        form = (
            "one JSON object with exactly the keys "
            + ", ".join(f'"{name}"' for name in self.outputs)
            + ", and nothing before or after it"
            if self.is_json
            else "plain text"
            if self.format == "text"
            else "the headers "
            + ", ".join(f"[[ ## {name} ## ]]" for name in self.outputs)
            + ", each on a line of its own with its content below it, and [[ ## completed ## ]] at the end"
        )
        complaint = f"That answer could not be read: {detail}. Give the same answer again, in the asked format: {form}."
        return (*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": complaint})

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the answer, for servers that can hold a model to one."""
        properties, definitions = {}, {}
        for name, spec in self.outputs.items():
            kind, _, about = spec.partition(":")
            form = dict(self.schemas[name]) if name in self.schemas else {"type": _JSON_TYPES[kind]}
            for title, inner in form.pop("$defs", {}).items():
                if definitions.setdefault(title, inner) != inner:
                    raise PromptError(f"{self.ref}: two types of its outputs are called {title}. Rename one.")
            items = {"items": {"type": "string"}} if kind == "list" and name not in self.schemas else {}
            properties[name] = {**form, "description": about.strip(), **items}
        return {
            "type": "object",
            "properties": properties,
            "required": list(self.outputs),
            "additionalProperties": False,
            **({"$defs": definitions} if definitions else {}),
        }

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all, and return its path. Raises PromptError when this version was written
        before, by whomever."""
        path = Path(folder) / f"{self.ref}.json"
        try:
            written = orjson.dumps(
                {**self._header(), "sha256": self.sha256}, option=orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_DATACLASS
            )
        except (RecordError, TypeError) as error:
            raise PromptError(
                f"{self.ref} cannot be saved: {error}. Give made_by, scores and sampling plain JSON values."
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            temporary.write_bytes(written + b"\n")
            os.link(temporary, path)  # where a rename would replace a file of this name
        except FileExistsError:
            raise PromptError(
                f"{path} exists, and a released version never changes. Save it as version {self.version + 1}."
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def __repr__(self) -> str:
        return f"Prompt({self.id}: {', '.join(self.variables)} -> {', '.join(self.outputs)})"

    def __str__(self) -> str:
        header = (
            f"{self.id}  ({self.about})\n{', '.join(self.variables)} -> {', '.join(self.outputs)}, as {self.format}"
        )
        return "\n\n".join([header, *(f"--- {role}\n{content}" for role, content in self.messages)])

    def _repr_html_(self) -> str:
        from workbench._html import prompt_card

        return prompt_card(self)


def slots(marks: tuple[str, str]) -> re.Pattern[str]:
    """Return the pattern of a variable's place in a message, whose one group is the name."""
    return re.compile(rf"{re.escape(marks[0])}(\w+){re.escape(marks[1])}")


def tagged(name: str, value: str) -> str:
    """The value between tags that it cannot close: when it holds the tag, the tag gets a number that it does not hold."""
    tag, number = name, 1
    if "<" not in value:
        return f"<{tag}>\n{value}\n</{tag}>"
    # Whatever a model might take for the tag counts: </PASSAGE>, < / passage >.
    while re.search(rf"<(?:\s*/)?\s*{tag}", value, re.IGNORECASE):
        number += 1
        tag = f"{name}_{number}"
    return f"<{tag}>\n{value}\n</{tag}>"


def load(ref: str, *, folder: str | os.PathLike[str] = FOLDER) -> Prompt:
    """Return the prompt "name@version" from a folder of prompt files (the workbench's own by default).

    Raises PromptError when there is no such version, or when the file was edited after it was frozen."""
    name, _, version = ref.partition("@")
    if not version:
        there = [known for known in names(folder=folder) if known.partition("@")[0] == name]
        raise PromptError(
            f"{ref!r} names no version. {'There are ' + ', '.join(there) if there else 'No prompt has that name'}; name one, since runs must be repeatable."
        )
    if not _NAME.fullmatch(name) or not version.isdecimal():
        raise PromptError(f"{ref!r} is not name@version, such as rag/question@1.")
    path = Path(folder) / f"{name}@{version}.json"
    try:
        header = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise PromptError(
            f"there is no prompt {ref!r} in {folder}; there are {', '.join(names(folder=folder)) or 'none'}."
        ) from None
    except ValueError as error:
        raise PromptError(f"{path} is not JSON ({error}). Restore it from version control.") from None
    try:
        claimed, messages = header.pop("sha256", None), header["messages"]
        header["messages"] = tuple((m["role"], "\n".join(m["content"])) for m in header["messages"])
        header["variables"], header["outputs"] = dict(header["variables"]), dict(header["outputs"])
        header["marks"] = tuple(header.get("marks", MARKS))
        prompt = Prompt(**header)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PromptError(
            f"{path} does not have the form of a prompt file: {error}. Write it with Prompt.save()."
        ) from None
    if claimed != prompt.sha256 or prompt.ref != ref or prompt._header()["messages"] != messages:
        raise PromptError(
            f"{path} was edited after {ref} was frozen (its hash is {prompt.sha256}, the file says {claimed}). Restore it, and save the change as {name}@{int(version) + 1}."
        )
    return prompt


def names(*, folder: str | os.PathLike[str] = FOLDER) -> list[str]:
    """Return every "name@version" in a folder, sorted by name, then version."""
    found = (path.relative_to(folder).with_suffix("").as_posix() for path in Path(folder).rglob("*@*.json"))
    return sorted(
        found,
        key=lambda ref: (ref.partition("@")[0], int(ref.partition("@")[2]) if ref.partition("@")[2].isdecimal() else 0),
    )


def freeze(name: str, messages: list[tuple[str, str]], **header: Any) -> Prompt:
    """Return a new prompt, version 1 unless `version` says else; `save()` writes it."""
    return Prompt(name=name, messages=tuple(messages), **{"version": 1, **header})
