"""Tasks: what a prompt asks for, apart from how it is written down. DSPy programs are made of them, and become prompts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import PromptError
from workbench.prompts.library import Prompt

_FORM, _EXAMPLE = (
    re.compile(rf"^# {title}\n.*?(?=^# |\Z)", re.MULTILINE | re.DOTALL) for title in ("Output format", "Example")
)
_NAME = re.compile(r"[^\W_]\w*")
_TAKEN = {"config", "demos", "lm", "new_signature", "signature"}  # dspy.Predict keeps these arguments for itself


@dataclass(frozen=True)
class Task:
    """What a program does: its instruction, and what goes in and comes out.

    `inputs` maps names to "data: description", "plain: description" or "json: description" (the kinds of a prompt's
    variables), `outputs` to "type: description", in order; `schemas` holds the JSON Schema of what is more than str, int,
    float, bool or a list of texts. The rest is passed on to the prompt that the program is frozen into."""

    name: str
    instruction: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    schemas: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    repair: bool = True
    about: str = ""

    def __post_init__(self):
        if not self.inputs or not self.outputs:
            raise PromptError(f"{self.name}: a program needs at least one input and one output.")
        if wrong := [name for name in (*self.inputs, *self.outputs) if not _NAME.fullmatch(name) or name in _TAKEN]:
            raise PromptError(f"{self.name}: DSPy can have no field called {wrong[0]!r}. Rename it.")
        if both := self.inputs.keys() & self.outputs.keys():
            raise PromptError(f"{self.name}: {min(both)!r} is both an input and an output. Rename one.")
        if wrong := {kind for kind, _ in map(split, self.inputs.values())} - {"data", "plain", "json"}:
            raise PromptError(f"{self.name}: an input is 'data', 'plain' or 'json', not {wrong.pop()!r}.")

    @classmethod
    def of(cls, prompt: Prompt) -> "Task":
        """Return the task of a prompt: of a frozen program as it was frozen; of one written by hand as it can be read.

        The instruction is then the system message without "# Output format" and "# Example", which DSPy writes itself. An
        input is described by the words before its place in the user message and the rest of its line, an output by its
        own words and those of the output format. Raises PromptError when the prompt is not one system message without
        variables and one user message."""
        if prompt.is_program:
            stored = program_of(prompt)
            instruction, about = stored["instruction"], stored["inputs"]
            outputs = dict(prompt.outputs)
        else:
            system, user = _messages(prompt)
            instruction, about = _EXAMPLE.sub("", _FORM.sub("", system)).strip(), _about_inputs(user)
            if not instruction:
                raise PromptError(f"{prompt.ref}: its system message is nothing but an output format and an example.")
            form = "".join(_FORM.findall(system))
            outputs = {name: _about_output(form, name, spec) for name, spec in prompt.outputs.items()}
        inputs = {name: f"{kind}: {about[name]}" for name, kind in prompt.variables.items()}
        return cls(
            prompt.name, instruction, inputs, outputs, prompt.schemas, prompt.sampling, prompt.repair, prompt.about
        )


def _messages(prompt: Prompt) -> tuple[str, tuple[str, ...]]:
    """The system message, and the user message as text (even places) and variables (odd places)."""
    roles = [role for role, _ in prompt.messages]
    if roles != ["system", "user"]:
        raise PromptError(
            f"{prompt.ref}: a task is read from one system and one user message, got {', '.join(roles) or 'none'}. Write the programs.Task by hand."
        )
    (_, (system, *moved)), (_, user) = prompt.parts
    if moved:
        raise PromptError(
            f"{prompt.ref}: {moved[0]!r} stands in the system message, where DSPy puts no inputs. Write the programs.Task by hand."
        )
    return system, user


def _about_inputs(user: tuple[str, ...]) -> dict[str, str]:
    """The words that stand around each variable: the last line before it, without its colon, and the rest of its line."""
    found: dict[str, str] = {}
    for at in range(1, len(user), 2):
        before, behind = user[at - 1], user[at + 1]
        if at > 1 and "\n" in before:
            before = before.partition("\n")[2]  # its first line is about the variable before
        rest = behind.partition("\n")[0] if "\n" in behind or at + 2 == len(user) else ""
        last = (before.strip().splitlines() or [""])[-1]
        found.setdefault(user[at], (last.removesuffix(":") + rest).strip())
    return found


def _about_output(form: str, name: str, spec: str) -> str:
    """An output's type and description, and what the output format says under its header or beside its key."""
    field = re.escape(name)
    said = re.search(rf'^(?:\[\[ ## {field} ## \]\]\n|- "{field}": )(.+)$', form, re.MULTILINE)
    return f"{spec} ({said[1]})" if said else spec


def split(spec: str) -> tuple[str, str]:
    """Return ("data", "what it is") of "data: what it is"."""
    kind, _, about = spec.partition(":")
    return kind, about.removeprefix(" ")


def program_of(prompt: Prompt) -> Mapping[str, Any]:
    """Return what a frozen prompt keeps of its program: instruction, descriptions of the inputs, demonstrations, adapter
    and the version of DSPy. Raises PromptError when it keeps none."""
    try:
        return prompt.made_by["program"]
    except KeyError:
        raise PromptError(
            f"{prompt.id} does not say of which program it was frozen, so that there is none to thaw."
        ) from None
