"""Programs: a prompt's task as a DSPy program, and a program as a frozen prompt whose bytes are those that DSPy sends.

    task = programs.Task.of(prompts.load("rag/question@1"))
    program = programs.program(task)                        # a dspy.Predict, for any DSPy optimiser
    prompt = programs.freeze(optimised, task, adapter="chat", version=2)
    prompt.render(section=..., passage=..., kind=...)       # what DSPy would send, without DSPy
    program = programs.thaw(prompt)                         # and back, to go on from there

One text is sent otherwise than by DSPy, on purpose: DSPy takes a value that holds its own marker of a custom type for an
image or a file, and a frozen prompt sends it as the text that it is."""

import itertools
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from workbench.errors import PromptError, require
from workbench.prompts.library import MARKS, Prompt, slots, tagged
from workbench.prompts.schemas import PLAIN, schema_of, type_of
from workbench.prompts.tasks import Task, program_of, split

__all__ = ["Task", "adapter", "adapter_of", "freeze", "inputs", "program", "signature", "thaw"]


def signature(task: Task) -> Any:
    """Return a fresh DSPy signature of a task: its instruction, names, types and descriptions."""
    dspy = require("dspy", extra="prompts")
    fields = {}
    for made, specs in ((dspy.InputField, task.inputs), (dspy.OutputField, task.outputs)):
        for name, spec in specs.items():
            kind, about = split(spec)
            fields[name] = (_type(task, name, kind), made(desc=about))
    try:
        built = dspy.make_signature(fields, task.instruction)
    except (NameError, TypeError, ValueError) as error:
        raise PromptError(f"{task.name}: DSPy cannot have these fields: {error}") from None
    built.instructions = task.instruction  # an empty one would have become DSPy's own words
    return built


def program(task: Task, *, demos: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Return a dspy.Predict of the task. A demonstration holds outputs, and inputs as `inputs` gives them."""
    dspy = require("dspy", extra="prompts")
    predict = dspy.Predict(signature(task))
    predict.demos = [dict(demo) for demo in demos]
    return predict


def inputs(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what DSPy gets for these values: data between tags that it cannot close, as Prompt.render puts it.

    Raises PromptError when an input is missing, unknown, or no text though its kind is not "json"."""
    if values.keys() != task.inputs.keys():
        raise PromptError(f"{task.name} takes {', '.join(task.inputs)}, got {', '.join(values) or 'nothing'}.")
    kinds = {name: split(spec)[0] for name, spec in task.inputs.items()}
    if wrong := [name for name, kind in kinds.items() if kind != "json" and not isinstance(values[name], str)]:
        raise PromptError(f"{task.name}: {wrong[0]} must be a string, got {type(values[wrong[0]]).__name__}.")
    return {name: tagged(name, values[name]) if kind == "data" else values[name] for name, kind in kinds.items()}


def adapter(name: str) -> Any:
    """Return DSPy's adapter "chat" or "json". It asks once: no second try in another format, which a prompt has not."""
    dspy = require("dspy", extra="prompts")
    if name not in ("chat", "json"):
        raise PromptError(f"an adapter is 'chat' or 'json', not {name!r}: these are the two that can be frozen.")
    return dspy.ChatAdapter(use_json_adapter_fallback=False) if name == "chat" else dspy.JSONAdapter()


def adapter_of(prompt: Prompt) -> Any:
    """Return the DSPy adapter of a prompt's format."""
    return adapter("json" if prompt.is_json else "chat")


def freeze(
    program: Any,
    task: Task,
    *,
    adapter: str = "chat",
    version: int = 1,
    made_by: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
) -> Prompt:
    """Return the prompt whose messages are, byte for byte, what a dspy.Predict sends through the adapter "chat" or "json".

    What `thaw` needs is kept in `made_by["program"]`; sampling is the task's, not the predictor's own. It is compared with
    DSPy on awkward values before it is returned. Raises PromptError for what no file can hold: another module than
    Predict, a type that cannot be rebuilt, a default, NaN."""
    dspy, ref = require("dspy", extra="prompts"), f"{task.name}@{version}"
    if not isinstance(program, dspy.Predict):
        raise PromptError(
            f"{ref}: only a dspy.Predict can be frozen, got {type(program).__name__}. Give its predictor."
        )
    found = _task_of(program.signature, task, ref)
    messages, marks = _messages(program, adapter, ref)
    described = {name: split(spec) for name, spec in found.inputs.items()}
    stored = {
        "adapter": adapter, "dspy": dspy.__version__, "instruction": found.instruction,
        "inputs": {name: about for name, (_, about) in described.items()},
        "demos": [_demonstration(program.signature, demo) for demo in program.demos],
    }  # fmt: skip
    prompt = Prompt(
        task.name, version, messages, {name: kind for name, (kind, _) in described.items()}, found.outputs,
        f"dspy-{adapter}", task.about, {"method": "dspy", **(made_by or {}), "program": stored}, dict(scores or {}),
        task.sampling, task.repair, found.schemas, marks,
    )  # fmt: skip
    _check_json(prompt)
    if not _agree(prompt, program):
        raise PromptError(
            f"{ref}: DSPy's {adapter} adapter does not put the inputs in as they are, so that it cannot be frozen."
        )
    if not _agree(prompt, _rebuilt(prompt)):
        raise PromptError(
            f"{ref}: the program cannot be rebuilt from a file, because DSPy would write its types or demonstrations "
            "otherwise. Say list[str] for list, dict[str, Any] for dict, and give demonstrations plain JSON values."
        )
    return prompt


def thaw(prompt: Prompt) -> Any:
    """Return the dspy.Predict of a prompt, demonstrations included; with `adapter_of(prompt)` it sends the prompt's bytes.

    One written by hand becomes the program of its task, whose messages are DSPy's own. Raises PromptError when the
    installed DSPy writes a frozen program otherwise than the one it was frozen with."""
    if not prompt.is_program:
        return program(Task.of(prompt))
    predict = _rebuilt(prompt)
    if not _agree(prompt, predict):
        dspy, then = require("dspy", extra="prompts"), program_of(prompt)["dspy"]
        raise PromptError(
            f"{prompt.id} was frozen with dspy {then}, and dspy {dspy.__version__} writes its messages otherwise. It can "
            f"be used as it is; to optimise it further, install dspy=={then}."
        )
    return predict


# --- the parts --------------------------------------------------------------------------------------------------------


def _type(task: Task, name: str, kind: str) -> Any:
    """The Python type of a task's input or output."""
    if name in task.schemas:
        return type_of(orjson.dumps(task.schemas[name]).decode())
    outputs = {**PLAIN, "list": list[str], "list[str]": list[str]}
    known = {"data": str, "plain": str, "json": Any} if name in task.inputs else outputs
    if kind not in known:
        raise PromptError(f"{task.name}: {name!r} is of type {kind!r}, which needs its JSON Schema in `schemas`.")
    return known[kind]


def _task_of(signature: Any, task: Task, ref: str) -> Task:
    """The task as a program's signature has it, with the kinds of the task's inputs."""
    if [*signature.input_fields] != [*task.inputs] or not task.outputs.keys() <= signature.output_fields.keys():
        raise PromptError(
            f"{ref}: the program is {signature.signature}, and the task {', '.join(task.inputs)} -> {', '.join(task.outputs)}."
        )
    inputs, outputs, schemas = {}, {}, {}
    for name, made in signature.input_fields.items():
        kind, _ = split(task.inputs[name])
        if (kind == "json") == (made.annotation is str):
            raise PromptError(
                f"{ref}: input {name!r} is {kind!r} and of type {made.annotation}. 'data' and 'plain' are for str, 'json' for the rest."
            )
        if kind == "json":
            schemas[name] = schema_of(made.annotation, name=f"{ref}: {name}")
        inputs[name] = f"{kind}: {_described(name, made)}"
    for name, made in signature.output_fields.items():
        if not made.is_required():
            raise PromptError(
                f"{ref}: output {name!r} has a default, which would be a value that no model gave. Remove it."
            )
        if made.annotation not in PLAIN.values():
            schemas[name] = schema_of(made.annotation, name=f"{ref}: {name}")
        outputs[name] = f"{_type_name(made.annotation)}: {_described(name, made)}"
    return Task(task.name, signature.__doc__, inputs, outputs, schemas)


def _described(name: str, made: Any) -> str:
    """A field's description as DSPy shows it: its own place holder for none is none, and limits have a line."""
    about, limits = made.json_schema_extra["desc"], made.json_schema_extra.get("constraints")
    return ("" if about == f"${{{name}}}" else about) + (f"\nConstraints: {limits}" if limits else "")


def _type_name(annotation: Any) -> str:
    from dspy.adapters.utils import get_annotation_name

    return get_annotation_name(annotation).partition(":")[0]  # a colon ends it in a prompt's header


def _demonstration(signature: Any, demo: Mapping[str, Any]) -> dict[str, Any]:
    """What DSPy shows of a demonstration, as JSON."""
    from dspy.adapters.utils import serialize_for_json

    return {name: serialize_for_json(demo[name]) for name in signature.fields if name in demo}


def _messages(predict: Any, form: str, ref: str) -> tuple[tuple[tuple[str, str], ...], tuple[str, str]]:
    """The messages that DSPy sends, with marks around each input's name in its place, and the marks: the first that no
    message holds around a word of its own."""
    tokens = {secrets.token_hex(16): name for name in predict.signature.input_fields}
    sent = adapter(form).format(predict.signature, predict.demos, {name: token for token, name in tokens.items()})
    if any(not isinstance(message["content"], str) for message in sent):
        raise PromptError(f"{ref}: a message is not plain text. Demonstrations with images or files cannot be frozen.")
    token = re.compile(f"({'|'.join(tokens)})")
    parts = [
        (message["role"], [tokens.get(part, part) for part in token.split(message["content"])]) for message in sent
    ]
    for marks in itertools.chain([MARKS], (("<" * n, ">" * n) for n in itertools.count(2))):
        messages = tuple((role, "".join(_with_marks(each, marks))) for role, each in parts)
        if all(slots(marks).split(text) == each for (_, text), (_, each) in zip(messages, parts, strict=True)):
            return messages, marks
    raise AssertionError("marks that grow without end are longer than any text")


def _with_marks(parts: Sequence[str], marks: tuple[str, str]) -> Iterator[str]:
    return (marks[0] + part + marks[1] if at % 2 else part for at, part in enumerate(parts))


def _check_json(prompt: Prompt) -> None:
    """Raise PromptError when something of the prompt would not come back from its file as it went in."""
    texts = [list(message) for message in prompt.messages]
    kept = [prompt.made_by, prompt.scores, prompt.schemas, prompt.outputs, prompt.sampling, texts]
    try:
        if orjson.loads(orjson.dumps(kept)) == kept:
            prompt.json_schema  # noqa: B018  raises when two of its types share a name
            return
        reason = "NaN, infinity and tuples come back otherwise"
    except TypeError as error:
        reason = str(error)
    raise PromptError(
        f"{prompt.ref} cannot be kept in a file: {reason}. Give it plain JSON values and whole characters."
    )


def _rebuilt(prompt: Prompt) -> Any:
    return program(Task.of(prompt), demos=program_of(prompt)["demos"])


def _agree(prompt: Prompt, predict: Any) -> bool:
    """True when DSPy sends for awkward values what the prompt renders."""
    writer, task = adapter_of(prompt), Task.of(prompt)
    return all(
        tuple(writer.format(predict.signature, predict.demos, inputs(task, values))) == prompt.render(**values)
        for values in _awkward(task)
    )


_TEXTS = ("", "\n \n</{0}> {{{{{0}}}}} <<{0}>> {{{0}}}\n[[ ## {0} ## ]]\r\n\u2028 «é» \\n \n ")
_OBJECTS = ([], [{"a": ["é\n{{b}}", None, 1.5, True]}, "text"])


def _awkward(task: Task) -> Iterator[dict[str, Any]]:
    """Values that would show an adapter that trims, replaces or joins: each input is empty once, and once full of marks."""
    for turn in range(2):
        yield {
            name: _OBJECTS[(turn + at) % 2] if split(spec)[0] == "json" else _TEXTS[(turn + at) % 2].format(name)
            for at, (name, spec) in enumerate(task.inputs.items())
        }
