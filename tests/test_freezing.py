"""Freezing: a frozen DSPy program sends DSPy's bytes and reads answers as DSPy does, without DSPy."""

import contextlib
import enum
import itertools
import json
import math
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any, Literal, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from workbench import prompts
from workbench.errors import PromptError
from workbench.prompts import programs, schemas
from workbench.prompts.programs import Task
from workbench.records import Failure

dspy = pytest.importorskip("dspy")
pydantic = pytest.importorskip("pydantic")

ADAPTERS = {"chat": dspy.ChatAdapter(use_json_adapter_fallback=False), "json": dspy.JSONAdapter()}
BOTH = pytest.mark.parametrize("adapter", ["chat", "json"])
# Prompts that state a form of their answer; one of format "text" asks for words alone.
HAND = [ref for ref in prompts.names() if prompts.load(ref).format in ("fields", "json")]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Place(pydantic.BaseModel):
    """Where it stands."""

    page: int = pydantic.Field(ge=1, description="counted from 1")
    kind: Literal["text", "table"]
    colour: Colour


class Finding(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    claim: str
    places: list[Place]
    share: float
    note: str | None
    marks: dict[str, bool]


# --- any program ------------------------------------------------------------------------------------------------------

PIECES = [
    "{passage}", "{{passage}}", "{{x}}", "<<passage>>", "{", "}}", "\n", "\n\n", "\r\n", "\t", " ", "   ", "\u2028", "\x00", "\\n", "%s",
    "[[ ## answer ## ]]", "\n[[ ## x ## ]]\n", "[[ ## completed ## ]]", "<passage>", "</passage>", "</ x>", "é", "🜁", '"', "'", "`",
    "$", "${x}", "«", "»", "    indented", "# Example\n", "Constraints: ",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=4).map("".join)
WHOLE = st.integers(-(2**53), 2**53)
SHARE = st.floats(allow_nan=False, allow_infinity=False)
PLACE = st.builds(
    Place, page=st.integers(1, 99), kind=st.sampled_from(["text", "table"]), colour=st.sampled_from(Colour)
)
FINDING = st.builds(
    Finding, claim=TEXT, places=st.lists(PLACE, max_size=2), share=SHARE, note=st.none() | TEXT,
    marks=st.dictionaries(TEXT, st.booleans(), max_size=2),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | SHARE | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=4,
)  # fmt: skip
TYPES = [
    (str, TEXT), (int, WHOLE), (float, SHARE), (bool, st.booleans()), (list[str], st.lists(TEXT, max_size=3)),
    (list[dict[str, int]], st.lists(st.dictionaries(TEXT, WHOLE, max_size=2), max_size=2)), (dict[str, Any], st.dictionaries(TEXT, JSON, max_size=2)),
    (Literal["yes", "no", "partly: some"], st.sampled_from(["yes", "no", "partly: some"])), (Literal[1, "x", None], st.sampled_from([1, "x", None])),
    (str | None, st.none() | TEXT), (Optional[int], st.none() | WHOLE), (list[Literal["a", "b"]], st.lists(st.sampled_from("ab"), max_size=2)),  # noqa: UP045
    (Place, PLACE), (Finding, FINDING), (list[Finding], st.lists(FINDING, max_size=1)), (Finding | None, st.none() | FINDING), (int | str, WHOLE | TEXT),
]  # fmt: skip
OBJECTS = [(list[str], st.lists(TEXT, max_size=3)), (dict[str, Any], st.dictionaries(TEXT, JSON, max_size=2)), (Any, JSON), (int, WHOLE), (bool, st.booleans()), (list[Finding], st.lists(FINDING, max_size=1))]  # fmt: skip
NAMES = ["passage", "section", "x", "answer", "question", "completed", "reasoning", "a_1", "B", "été", "prediction"]


@st.composite
def cases(draw):
    """A task, a random signature with demonstrations, and values for its inputs."""
    names = draw(st.permutations(NAMES))
    count = draw(st.integers(1, 4))
    inputs, outputs = names[:count], names[count : count + draw(st.integers(1, 4))]
    kinds = {name: draw(st.sampled_from(["data", "plain", "data", "json"])) for name in inputs}
    types = {name: draw(st.sampled_from(OBJECTS)) if kinds[name] == "json" else (str, TEXT) for name in inputs}
    types |= {name: draw(st.just((str, TEXT)) | st.just((str, TEXT)) | st.sampled_from(TYPES)) for name in outputs}
    about = {
        name: draw(
            st.sampled_from([{}, {"desc": ""}, {"desc": f"${{{name}}}"}]) | TEXT.map(lambda text: {"desc": text})
        )
        for name in types
    }
    limit = draw(st.sampled_from([{}, {}, {"min_length": 2}, {"ge": 1, "le": 5}]))
    fields = {name: (types[name][0], dspy.InputField(**about[name])) for name in inputs}
    fields |= {name: (types[name][0], dspy.OutputField(**about[name], **limit)) for name in outputs}
    signature, demos = dspy.make_signature(fields, "Answer."), []
    signature.instructions = draw(TEXT)
    for _ in range(draw(st.integers(0, 3))):
        there = draw(st.sampled_from([1.0, 1.0, 0.5]))
        demo = {name: draw(kind[1]) for name, kind in types.items() if there == 1 or draw(st.booleans())}
        demo |= draw(st.sampled_from([{}, {"augmented": True}]))
        demos.append(dspy.Example(demo) if draw(st.booleans()) else demo)
    task = Task("test/any", "", {name: f"{kind}: " for name, kind in kinds.items()}, dict.fromkeys(outputs, "str: "))
    return task, signature, demos, {name: draw(types[name][1]) for name in inputs}


def predictor(signature, demos=()):
    program = dspy.Predict(signature)
    program.demos = list(demos)
    return program


def sent(adapter, program, task, values):
    """What DSPy's adapter makes of it: the oracle of all that follows."""
    return tuple(ADAPTERS[adapter].format(program.signature, program.demos, programs.inputs(task, values)))


def cases_of(count):
    """Settings for slow cases: what hypothesis draws is as large as what DSPy makes of it."""
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_frozen_program_sends_the_bytes_of_dspys_adapters_and_so_does_its_file(tmp_path_factory):
    folder, version = tmp_path_factory.mktemp("prompts"), itertools.count(1)

    @cases_of(500)
    @given(cases())
    def equal(case):
        task, signature, demos, values = case
        program = predictor(signature, demos)
        for adapter in ADAPTERS:
            prompt = programs.freeze(program, task, adapter=adapter, version=next(version))
            prompt.save(folder)
            loaded = prompts.load(prompt.ref, folder=folder)
            assert loaded == prompt and loaded.id == prompt.id
            assert prompt.render(**values) == loaded.render(**values) == sent(adapter, program, task, values)

    equal()


@cases_of(60)
@given(cases())
def test_a_thawed_program_sends_the_same_bytes_and_freezes_to_the_same_hash(case):
    task, signature, demos, values = case
    for adapter in ADAPTERS:
        prompt = programs.freeze(
            predictor(signature, demos), task, adapter=adapter, made_by={"seed": 1}, scores={"dev": 0.5}
        )
        thawed = programs.thaw(prompt)
        assert sent(adapter, thawed, task, values) == prompt.render(**values)
        again = programs.freeze(thawed, Task.of(prompt), adapter=adapter, made_by=prompt.made_by, scores=prompt.scores)
        assert again == prompt and again.sha256 == prompt.sha256


class Engine:
    """Answers nothing, and keeps what it was sent."""

    def __init__(self):
        self.messages = []

    def complete(self, request):
        from dspy.lm15 import Message, Response, TextPart, Usage

        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system)
        self.messages = [{"role": "system", "content": system}]
        self.messages += [{"role": message.role, "content": message.text} for message in request.messages]
        usage = Usage(input_tokens=1, output_tokens=1)
        return Response(
            id=None, model=request.model, message=Message.assistant([TextPart("x")]), finish_reason="stop", usage=usage
        )


@cases_of(25)
@given(cases())
def test_a_frozen_program_sends_what_dspy_predict_really_sends(case):
    task, signature, demos, values = case
    engine = Engine()
    lm = dspy.LM("test/engine", engine=engine, cache=False)
    for adapter in ADAPTERS:
        prompt = programs.freeze(predictor(signature, demos), task, adapter=adapter)
        with dspy.context(lm=lm, adapter=programs.adapter_of(prompt), warn_on_type_mismatch=False):
            with contextlib.suppress(dspy.utils.exceptions.AdapterParseError):  # the engine has no answer
                programs.thaw(prompt)(**programs.inputs(task, values))
        assert tuple(engine.messages) == prompt.render(**values)


@BOTH
def test_what_an_optimiser_made_is_frozen_with_its_demonstrations(adapter):
    task = Task.of(prompts.load("rag/question@1"))
    values = {"section": "Guide > Use", "passage": "{{passage}} </passage>\nUse it.", "kind": "reason"}
    rows = [
        dspy.Example(**programs.inputs(task, values | {"kind": kind}), question=f"{kind}?", answer="So.", evidence="Use it.").with_inputs(*values)
        for kind in ("reason", "step", "fact")
    ]  # fmt: skip
    program = dspy.LabeledFewShot(k=2).compile(programs.program(task), trainset=rows)
    prompt = programs.freeze(program, task, adapter=adapter, version=2)
    assert prompt.render(**values) == sent(adapter, program, task, values)
    assert [message["role"] for message in prompt.render(**values)] == ["system", *["user", "assistant"] * 2, "user"]
    assert prompt.marks == ("<<", ">>")  # the demonstrations hold {{passage}} as text
    assert "<passage_2>\n{{passage}} </passage>" in prompt.render(**values)[-1]["content"]
    assert programs.thaw(prompt).demos == [demo.toDict() for demo in program.demos]


# --- the prompts of the workbench -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", HAND)
@BOTH
def test_a_prompt_written_by_hand_keeps_its_words_but_not_its_format_and_its_example(ref, adapter):
    hand = prompts.load(ref)
    task = Task.of(hand)
    system = hand.messages[0][1]
    assert task.instruction == system.partition("\n\n# Output format")[0]
    assert (task.sampling, task.repair, task.about) == (hand.sampling, hand.repair, hand.about)
    prompt = programs.freeze(programs.program(task), task, adapter=adapter, version=hand.version + 1)
    assert prompt.variables == hand.variables and [*prompt.outputs] == [*hand.outputs] and prompt.marks == hand.marks
    values = {name: f"value of {name}" for name in hand.variables}
    data = [f"<{name}>\nvalue of {name}\n</{name}>" for name, kind in hand.variables.items() if kind == "data"]
    assert all(text in prompt.render(**values)[-1]["content"] for text in data)
    form = system.partition("# Output format")[2].partition("# Example")[0]
    for name, spec in task.outputs.items():
        asked = spec.removeprefix(f"{hand.outputs[name]} (").removesuffix(")")
        assert f"{asked}\n" in form and f"{spec.partition(': ')[2]}\n" in prompt.messages[0][1], f"{ref} loses {name}"
    again = Task.of(prompt)
    lists = {
        name: spec.replace("list: ", "list[str]: ", 1)
        for name, spec in task.outputs.items()
        if spec.startswith("list: ")
    }
    assert again == replace(task, outputs=task.outputs | lists, schemas=again.schemas)
    assert again.schemas.keys() == task.schemas.keys() | lists.keys()  # a list of texts has a schema once DSPy had it
    assert type(programs.adapter_of(hand)) is {"fields": dspy.ChatAdapter, "json": dspy.JSONAdapter}[hand.format]
    assert programs.thaw(hand).signature.instructions == task.instruction


def test_an_input_is_described_by_the_words_around_its_place():
    user = "About:\n\n{{a}}\n\nKind: {{b}}. Else the next one.\n{{c}}\nFrom {{d}} to {{e}} words.\n\nNow write."
    variables = {name: "data" for name in "bacde"}
    prompt = prompts.freeze(
        "test/hand", [("system", "Do it."), ("user", user)], variables=variables, outputs={"x": "list: all"}
    )
    task = Task.of(prompt)
    assert [*task.inputs] == [*"bacde"]
    assert task.inputs == {
        "a": "data: About",
        "b": "data: Kind. Else the next one.",
        "c": "data: ",
        "d": "data: From",
        "e": "data: to words.",
    }
    assert programs.signature(task).output_fields["x"].annotation == list[str]
    assert programs.freeze(programs.program(task), task).outputs == {"x": "list[str]: all"}


@pytest.mark.parametrize(
    "messages, words",
    [
        ([("system", "Do."), ("user", "{{a}}"), ("assistant", "x"), ("user", "b")], "got system, user, assistant, user. Write the programs.Task by hand"),
        ([("user", "{{a}}")], "one system and one user message, got user"), ([("system", "{{a}}")], "got system"),
        ([("system", "Do {{a}}."), ("user", "Now.")], "'a' stands in the system message"),
        ([("system", "# Output format\nJSON"), ("user", "{{a}}")], "nothing but an output format"),
    ],
)  # fmt: skip
def test_a_prompt_that_is_no_program_says_why(messages, words):
    with pytest.raises(PromptError, match=words):
        Task.of(prompts.freeze("test/hand", messages, variables={"a": "data"}, outputs={"x": "str: all"}))


# --- marks, and older files -------------------------------------------------------------------------------------------


def made(outputs=None, adapter="chat", instruction="Do it.", inputs=None, **schemas_):
    task = Task(
        "test/made", instruction, inputs or {"text": "data: the text"}, outputs or {"answer": "str: it"}, schemas_
    )
    return programs.freeze(programs.program(task), task, adapter=adapter)


@pytest.mark.parametrize(
    "said, marks",
    [("{text} { {text}} {{ text }}", ("{{", "}}")), ("{{text}}", ("<<", ">>")), ("{{a}} <<b>>", ("<<<", ">>>")), ("<<<a>>>", ("{{", "}}")), ("{{a}} <<<a>>>", ("<<<<", ">>>>"))],
)  # fmt: skip
def test_marks_are_the_first_that_no_message_holds(said, marks):
    prompt = made(instruction=said)
    assert prompt.marks == marks and said in prompt.render(text="a")[0]["content"]
    assert f"{marks[0]}text{marks[1]}" in prompt.messages[-1][1]
    assert ("marks" in prompt._header()) == (marks != ("{{", "}}"))


def test_fields_that_older_files_have_not_are_neither_hashed_nor_saved_where_they_say_nothing():
    hand = prompts.load("rag/question@1")
    assert not {"schemas", "marks"} & hand._header().keys()
    typed = made({"n": "list: numbers"})
    assert typed._header()["schemas"] == {"n": {"type": "array", "items": {"type": "string"}}}
    with pytest.raises(PromptError, match="'question' has a schema, which only"):
        replace(hand, schemas={"question": {}})
    with pytest.raises(PromptError, match="'other' has a schema"):
        replace(typed, schemas={**typed.schemas, "other": {}})
    with pytest.raises(PromptError, match="marks are the two texts"):
        replace(hand, marks=("{{", ""))
    with pytest.raises(PromptError, match="output 'n' must start with one of str, int, float, bool"):
        replace(typed, schemas={})


# --- reading answers --------------------------------------------------------------------------------------------------

SIGNATURES = [
    {"question": str, "answer": str}, {"n": int, "f": float, "t": bool}, {"names": list[str], "counts": dict[str, int], "any": dict[str, Any]},
    {"kind": Literal["yes", "no", "partly: some"], "mixed": Literal[1, "x", None]}, {"note": str | None, "number": Optional[int], "either": int | str},  # noqa: UP045
    {"place": Place, "answer": str}, {"found": list[Finding]}, {"maybe": Finding | None},
]  # fmt: skip
WORDS = [
    "", " ", "5", "-1.5", "1e999", "NaN", "Infinity", "true", "True", "yes", "no.", "'yes'", '"no"', "Literal['yes']", "Literal[1]", "partly: some", "None",
    "null", "x", '["a", "b"]', "['a', 'b']", '["a"', "a, b", '{"a": 1}', "{'a': 1, 'b': True}", '{"a": 1,}', "{1: 2}", '{"a": {1, 2}}', "```json\n[1]\n```", "```\n5\n```",
    "[[1]", '"\\ud83d"', "{[]: 1}", "(1, 2)", "b'x'", "1_000", "٣", '{"page": 1, "kind": "text", "colour": "red"}', '{"page": 0, "kind": "text", "colour": "red"}',
    '{"page": "2", "kind": "table", "colour": "RED", "more": 1}', "\\d", "1" * 20,
]  # fmt: skip
HEADERS = ["[[ ## {} ## ]]\n"] * 20 + [
    "[[ ## {} ## ]] ",
    "[[ ## {} ## ]]\r\n\n",
    "  [[ ## {} ## ]]\n",
    " [[ ## {} ## ]] ",
    "**[[ ## {} ## ]]**\n",
    "[[##{}##]]\n",
]
A_PLACE = {"page": 2, "kind": "table", "colour": "red"}
FOUND = {"claim": 'It "holds".', "places": [A_PLACE], "share": 0.5, "note": None, "marks": {"a": True}}
# What may be said of each type, as JSON; the last of each is nearly right.
SAID = {
    str: ["", "So.", "Why {a}?", "two\nlines", "[[ ## other ## ]] in a line", "é 🜁", "5", "a\n```", "[[ ## answer ## ]]\nNo.", "</a>", "x" * 90, None],
    int: [0, 5, -12, 2**60, "7", 5.0, True, 5.5], float: [0.25, 5, -1e3, "0.5", 1e300, 1e-7, False], bool: [True, False, "true", "False", 1, "yes", 2],
    list[str]: [[], ["a"], ["a", "b\n\"c\""], ["[]", "é"], ["a", 1]], dict[str, int]: [{}, {"a": 1}, {"a": "2", "b c": 3}, {"a": 1.5}],
    dict[str, Any]: [{}, {"a": [1, None, {"b": "c"}]}, {"x": 1e999}, [1]],
    Literal["yes", "no", "partly: some"]: ["yes", "no", "partly: some", '"yes"', "Literal['no']", " yes ", "Yes"], Literal[1, "x", None]: [1, "x", None, "1", True, 2],
    str | None: ["a", None, "", "null"], Optional[int]: [3, None, "None", "x"], int | str: [3, "3", "a", None],  # noqa: UP045
    Place: [A_PLACE, {**A_PLACE, "page": "3"}, {**A_PLACE, "more": 1}, {**A_PLACE, "page": 0}, {**A_PLACE, "colour": "RED"}],
    list[Finding]: [[], [FOUND], [FOUND, {**FOUND, "note": "x", "places": []}], [{**FOUND, "more": 1}]], Finding | None: [FOUND, None, {**FOUND, "share": "a"}],
}  # fmt: skip


def frozen(types, adapter):
    fields = {"q": (str, dspy.InputField()), **{name: (kind, dspy.OutputField()) for name, kind in types.items()}}
    signature = dspy.make_signature(fields, "Answer.")
    task = Task("test/reader", "", {"q": "data: "}, dict.fromkeys(types, "str: "))
    return signature, programs.freeze(dspy.Predict(signature), task, adapter=adapter)


READERS = {adapter: [(types, *frozen(types, adapter)) for types in SIGNATURES] for adapter in ADAPTERS}


def a_value(name, types, chance):
    """What a model might say for a field: mostly of its type."""
    if name in types and chance.random() < 0.85:
        return chance.choice(SAID[types[name]])
    return chance.choice(WORDS + SAID[str])


def chat_answer(types, chance):
    names = [*types, *chance.choices([*types, "completed", "other"], k=chance.choice([0, 0, 0, 1, 2]))]
    if chance.random() < 0.2:
        chance.shuffle(names)
    said = []
    for name in names:
        value = a_value(name, types, chance)
        text = value if isinstance(value, str) else chance.choice([json.dumps, str])(value)
        said.append(chance.choice(HEADERS).format(name) + text)
    dropped = chance.random() < 0.08 and said.pop()
    end = chance.choice(["", "\n\n[[ ## completed ## ]]", "\n[[ ## completed ## ]]\n", "\n```"]) if not dropped else ""
    return chance.choice(["", "", "Sure!\n", "```\n"]) + chance.choice(["\n", "\n\n"]).join(said) + end


def json_answer(types, chance):
    said = {name: a_value(name, types, chance) for name in types if chance.random() < 0.96}
    said |= {"other": [1]} if chance.random() < 0.2 else {}
    text = json.dumps(said, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 2]))
    if chance.random() < 0.4:
        breaks = [
            lambda t: t[:-1],
            lambda t: t[:-3],
            lambda t: t.replace('"', "'"),
            lambda t: t.replace(",", ",,"),
            lambda t: t.replace(": ", " "),
            str,
        ]
        text = chance.choice(breaks)(text)
    return chance.choice(
        ["%s"] * 5 + ["```json\n%s\n```", "Here:\n%s\nAnything else?", "[%s]", "%s {}", '"%s"', "%s" + text]
    ).replace("%s", text)


def expected(signature, adapter, answer):
    """What DSPy reads, as JSON; None where it raises. And whether every field was there: as texts they all can be read."""
    texts = dspy.make_signature({name: (str, field) for name, field in signature.fields.items()}, "")
    try:
        ADAPTERS[adapter].parse(texts, answer)
        found = ADAPTERS[adapter].parse(signature, answer)
        found = {
            name: pydantic.TypeAdapter(signature.output_fields[name].annotation).dump_python(
                value, mode="json", warnings=False
            )
            for name, value in found.items()
        }
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        return found
    except Exception:
        return None


@BOTH
def test_a_frozen_program_reads_every_answer_as_dspys_adapter_does(adapter):
    said, counts = {"chat": chat_answer, "json": json_answer}[adapter], Counter()
    for at in range(3000):
        chance = random.Random(at)
        types, signature, prompt = chance.choice(READERS[adapter])
        answer = said(types, chance)
        ours, theirs = prompt.parse(answer), expected(signature, adapter, answer)
        if isinstance(ours, Failure) and ours.detail.endswith("should be str, got null"):
            assert theirs is None or "None" in theirs.values(), answer  # DSPy makes the text "None" of null
            counts["null"] += 1
        elif theirs is None:
            assert isinstance(ours, Failure) and ours.reason == "parse" and ours.raw == answer, answer
            counts["failed"] += 1
        else:
            assert ours == theirs and json.dumps(ours) == json.dumps(theirs), answer
            counts["read"] += 1
    assert counts["read"] > 1200 and counts["failed"] > 600, counts


@cases_of(300)
@given(
    st.lists(st.sampled_from([*WORDS, "[[ ## n ## ]]", "[[ ## found ## ]]", '{"n":', '"found": [', "{", "}", "\n"]) | st.text(max_size=9), max_size=9).map("".join)
)  # fmt: skip
def test_whatever_a_model_says_a_frozen_program_reads_values_or_a_failure_and_never_raises(answer):
    for readers in READERS.values():
        for types, _, prompt in readers:
            found = prompt.parse(answer)
            assert found.raw == answer if isinstance(found, Failure) else found.keys() == types.keys()


@BOTH
def test_a_text_that_the_mending_library_trips_over_is_a_failure(adapter):
    _, prompt = frozen({"n": int}, adapter)
    # AssertionError, RecursionError, MemoryError
    for text in ('{"```json[```', "{" * 5000, "[" * 5000, "(" * 5000, "-" * 100_000 + "1"):
        failure = prompt.parse(text if adapter == "json" else f"[[ ## n ## ]]\n{text}")
        assert isinstance(failure, Failure) and failure.reason == "parse" and failure.raw.endswith(text)


@BOTH
def test_nested_values_come_back_as_plain_json(adapter):
    _, prompt = frozen({"found": list[Finding], "answer": str}, adapter)
    answer = {
        "chat": f"[[ ## found ## ]]\n{[FOUND]}\n[[ ## answer ## ]]\nSo.",
        "json": json.dumps({"found": [FOUND], "answer": "So."}),
    }
    assert prompt.parse(answer[adapter]) == {"found": [FOUND], "answer": "So."}
    failure = prompt.parse(answer[adapter].replace("table", "picture"))
    assert isinstance(failure, Failure)
    assert "field 'found' should be list[Finding]: 0.places.0.kind: Input should be 'text' or 'table'" in failure.detail


def test_nothing_is_filled_in_where_dspy_would():
    """The exceptions from reading as DSPy does, on purpose: no row holds a value that the model did not give."""
    cases = [
        ("chat", {"note": str | None, "a": str}, "[[ ## a ## ]]\nb", {"note": None, "a": "b"}, "field 'note' is missing; found a"),
        ("json", {"note": str | None, "a": str}, '{"a": "b"}', {"note": None, "a": "b"}, "field 'note' is missing; found a"),
        ("json", {"a": str}, '{"a": null}', {"a": "None"}, "field 'a' should be str, got null"),
    ]  # fmt: skip
    for adapter, types, answer, theirs, words in cases:
        signature, prompt = frozen(types, adapter)
        assert ADAPTERS[adapter].parse(signature, answer) == theirs
        failure = prompt.parse(answer)
        assert isinstance(failure, Failure) and words in failure.detail
    _, prompt = frozen({"f": float}, "chat")
    assert math.isnan(ADAPTERS["chat"].parse(_, "[[ ## f ## ]]\nNaN")["f"])
    assert isinstance(prompt.parse("[[ ## f ## ]]\nNaN"), Failure)
    _, prompt = frozen({"note": str | None}, "json")
    assert prompt.parse('{"note": null}') == {"note": None}


@BOTH
def test_a_repair_asks_for_the_adapters_own_format(adapter):
    _, prompt = frozen({"answer": str}, adapter)
    complaint = prompt.repair_messages(prompt.render(q="?"), "x", "nothing there")[-1]["content"]
    assert {"chat": "[[ ## answer ## ]]", "json": '"answer"'}[adapter] in complaint


def test_the_schema_of_a_frozen_program_accepts_what_its_parser_reads_and_names_each_class_once():
    jsonschema = pytest.importorskip("jsonschema")
    _, prompt = frozen({"found": list[Finding], "place": Place, "n": int}, "json")
    answer = {"found": [FOUND], "place": FOUND["places"][0], "n": 3}
    jsonschema.Draft202012Validator.check_schema(prompt.json_schema)
    jsonschema.validate(answer, prompt.json_schema)
    assert prompt.parse(json.dumps(answer)) == answer and prompt.json_schema["required"] == ["found", "place", "n"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer | {"place": {**answer["place"], "page": 0}}, prompt.json_schema)
    other = pydantic.create_model("Place", street=str)
    with pytest.raises(PromptError, match="two types of its outputs are called Place"):
        frozen({"a": list[Place], "b": list[other]}, "json")


# --- types that a file can hold ---------------------------------------------------------------------------------------


class Validated(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def short(cls, value):
        return value[:3]


class Defaulted(pydantic.BaseModel):
    text: str
    note: str | None = None


class Aliased(pydantic.BaseModel):
    text: str = pydantic.Field(alias="words")


class Trimmed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(str_strip_whitespace=True)
    text: str


class Indented(pydantic.BaseModel):
    __doc__ = "\n  Its description\n    is indented."
    text: str


class Numbered(enum.IntEnum):
    ONE = 1


class HoldsNumbered(pydantic.BaseModel):
    number: Numbered


class Tree(pydantic.BaseModel):
    branches: list["Tree"]


class Dated(pydantic.BaseModel):
    day: __import__("datetime").date


@pytest.mark.parametrize(
    "kind, words",
    [
        (Validated, "cannot hold all of its rules"), (list[Validated], "cannot hold all of its rules"), (Defaulted, "Defaulted.note has a default"),
        (Aliased, "cannot hold all of its rules"), (Trimmed, "cannot hold all of its rules"), (Indented, "cannot hold all of its rules"), (HoldsNumbered, "cannot hold all of its rules"),
        (Colour, "the Enum Colour cannot be frozen. Write it as a Literal"), (Tree, "the type Tree holds itself"), (Dated, "'format' cannot be frozen"),
        (tuple[int, str], "'prefixItems' cannot be frozen"), (set[int], "'uniqueItems' cannot be frozen"), (dict[int, str], "cannot hold all of its rules"),
        (dict, "cannot hold all of its rules"), (object, "cannot"), (dspy.Image, "cannot"), (dspy.Code, "cannot"), (dspy.Reasoning, "cannot"),
    ],
    ids=str,
)  # fmt: skip
def test_a_type_that_would_come_back_another_is_refused_with_what_to_use(kind, words):
    with pytest.raises(PromptError, match=words) as caught:
        frozen({"x": kind}, "chat")
    assert "test/reader@1" in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind, _ in TYPES[4:]] + [list[Place | None], list[list[int]], Any], ids=str)
def test_a_type_that_is_accepted_is_built_again_with_the_same_schema(kind):
    schema = schemas.schema_of(kind, name="x")
    again = schemas.type_of(json.dumps(schema))
    assert pydantic.TypeAdapter(again).json_schema() == schema == json.loads(json.dumps(schema))


def test_a_schema_that_is_not_understood_is_an_error_of_the_prompt_and_no_failure_of_the_answer():
    for schema, words in (
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"type": ["string", "null"]}, r"type \['string', 'null'\]"),
    ):
        prompt = replace(made({"x": "list: all"}), schemas={"x": schema})
        with pytest.raises(PromptError, match=f"{words} cannot be frozen"):
            prompt.parse("[[ ## x ## ]]\n[]")


def test_a_task_may_bring_a_schema_of_its_own():
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"]}
    prompt = made({"x": "it: a number"}, x=schema)
    assert prompt.outputs == {"x": "Object: a number"}
    assert prompt.parse("[[ ## x ## ]]\n{'a': 3}") == {"x": {"a": 3}} and isinstance(
        prompt.parse('[[ ## x ## ]]\n{"a": 10}'), Failure
    )


# --- what cannot be frozen --------------------------------------------------------------------------------------------


def predict(instruction="Do it.", demos=(), **outputs):
    fields = {"text": (str, dspy.InputField()), **(outputs or {"answer": (str, dspy.OutputField())})}
    return predictor(dspy.make_signature(fields, instruction), demos)


TASK = Task("test/made", "Do it.", {"text": "data: the text"}, {"answer": "str: it"})


@pytest.mark.parametrize(
    "program, task, options, words",
    [
        (dspy.ChainOfThought("text -> answer"), TASK, {}, "only a dspy.Predict can be frozen, got ChainOfThought. Give its predictor"),
        (dspy.Predict("other -> answer"), TASK, {}, r"the program is other -> answer, and the task text -> answer"),
        (dspy.Predict("text -> other"), TASK, {}, r"the program is text -> other, and the task text -> answer"),
        (predict(answer=(str, dspy.OutputField(default="x"))), TASK, {}, "output 'answer' has a default"),
        (predict(answer=(list, dspy.OutputField())), TASK, {}, r"Say list\[str\] for list"),
        (predict(), replace(TASK, inputs={"text": "json: x"}), {}, "input 'text' is 'json' and of type <class 'str'>"),
        (dspy.Predict("text: list[str] -> answer"), TASK, {}, "input 'text' is 'data' and of type list"),
        (dspy.Predict("text: dspy.History -> answer"), replace(TASK, inputs={"text": "json: x"}), {}, "text.* cannot be frozen"),
        (predict(), TASK, {"adapter": "xml"}, "an adapter is 'chat' or 'json', not 'xml'"),
        (predict(demos=[{"text": "Half an emoji: \ud83d", "answer": "a"}]), TASK, {}, "cannot be kept in a file: .*surrogates"),
        (predict(demos=[{"text": "a", "answer": math.nan}]), TASK, {}, "cannot be kept in a file: NaN"),
        (predict(demos=[{"text": "<<CUSTOM-TYPE-START-IDENTIFIER>>[]<<CUSTOM-TYPE-END-IDENTIFIER>>", "answer": "a"}]), TASK, {}, "not plain text"),
        (predict(demos=[{"text": ("a", "b"), "answer": "a"}]), TASK, {}, "cannot be rebuilt from a file"),
        (predict(), TASK, {"scores": {"dev": math.inf}}, "cannot be kept in a file: NaN, infinity"),
        (predict(), TASK, {"made_by": {"settings": (1, 2)}}, "tuples come back otherwise"),
        (predict(), TASK, {"made_by": {"examples": object()}}, "cannot be kept in a file: Type is not JSON"),
        (predict(), TASK, {"version": 0}, "versions from 1"),
    ],
)  # fmt: skip
def test_what_no_file_can_hold_is_refused_by_name(program, task, options, words):
    with pytest.raises(PromptError, match=words) as caught:
        programs.freeze(program, task, **options)
    assert "test/made" in str(caught.value) or "adapter" in options


@pytest.mark.parametrize(
    "change, words",
    [
        ({"inputs": {}}, "at least one input"), ({"outputs": {}}, "at least one input and one output"), ({"inputs": {"demos": "data: x"}}, "no field called 'demos'"),
        ({"outputs": {"_x": "str: x"}}, "no field called '_x'"), ({"inputs": {"a b": "data: x"}}, "no field called 'a b'"),
        ({"inputs": {"answer": "data: x"}}, "'answer' is both an input and an output"), ({"inputs": {"text": "raw: x"}}, "an input is 'data', 'plain' or 'json', not 'raw'"),
    ],
)  # fmt: skip
def test_a_task_that_dspy_cannot_have_is_refused(change, words):
    with pytest.raises(PromptError, match=words):
        replace(TASK, **change)


@pytest.mark.filterwarnings("ignore:Field name")
def test_a_task_of_unknown_types_or_names_is_refused_when_it_becomes_a_program():
    with pytest.raises(PromptError, match=r"'answer' is of type 'Finding', which needs its JSON Schema"):
        programs.program(replace(TASK, outputs={"answer": "Finding: x"}))
    with pytest.raises(PromptError, match="test/made: DSPy cannot have these fields"):
        programs.program(replace(TASK, outputs={"fields": "str: x"}))
    with pytest.raises(PromptError, match="test/made takes text, got nothing"):
        programs.inputs(TASK, {})
    with pytest.raises(PromptError, match="text must be a string, got list"):
        programs.inputs(TASK, {"text": ["a"]})


def test_an_instruction_whose_indent_dspy_takes_off_once_is_not_taken_off_twice():
    program = predict("\n Do:\n   this")
    assert program.signature.instructions == "Do:\n  this"
    assert programs.thaw(programs.freeze(program, TASK)).signature.instructions == "Do:\n  this"


def test_an_adapter_that_changes_what_it_is_given_cannot_be_frozen(monkeypatch):
    module = sys.modules["dspy.adapters.chat_adapter"]
    as_it_is = module.format_field_value
    monkeypatch.setattr(module, "format_field_value", lambda **given: as_it_is(**given).strip())
    with pytest.raises(PromptError, match="test/made@1: DSPy's chat adapter does not put the inputs in as they are"):
        programs.freeze(predict(), replace(TASK, inputs={"text": "plain: the text"}))


def test_a_chain_of_thought_is_frozen_by_its_predictor_with_its_reasoning():
    prompt = programs.freeze(dspy.ChainOfThought("text -> answer").predict, TASK)
    assert [*prompt.outputs] == ["reasoning", "answer"]
    assert prompt.parse("[[ ## reasoning ## ]]\nHm.\n[[ ## answer ## ]]\nSo.") == {"reasoning": "Hm.", "answer": "So."}


def test_lists_and_objects_are_inputs_too_and_what_is_no_json_is_refused():
    prompt = made(inputs={"rows": "json: rows", "text": "data: text"})
    assert '[[ ## rows ## ]]\n["é", {"a": 1}]\n\n' in prompt.render(rows=["é", {"a": 1}], text="")[-1]["content"]
    for wrong in ([math.nan], {1: "a"}, ["\ud83d"], [object()], object()):
        with pytest.raises(PromptError, match="rows must be what JSON can hold"):
            prompt.render(rows=wrong, text="")
    with pytest.raises(PromptError, match="text must be a string"):
        prompt.render(rows=[], text=["a"])


# --- thawing ----------------------------------------------------------------------------------------------------------


@BOTH
def test_another_dspy_that_writes_otherwise_is_named_and_the_prompt_still_renders(adapter, monkeypatch):
    prompt = made(adapter=adapter)
    before = prompt.render(text="a")
    monkeypatch.setattr(dspy, "__version__", "9.9")
    monkeypatch.setattr(dspy.ChatAdapter, "format_task_description", lambda self, signature: "Other words.")
    then = prompt.made_by["program"]["dspy"]
    with pytest.raises(
        PromptError,
        match=f"was frozen with dspy {then}, and dspy 9.9 writes its messages otherwise.*install dspy=={then}",
    ):
        programs.thaw(prompt)
    assert prompt.render(text="a") == before


def test_a_prompt_that_lost_its_program_renders_and_is_not_thawed():
    prompt = replace(made(), made_by={"method": "dspy"})
    assert prompt.render(text="a")
    with pytest.raises(PromptError, match="does not say of which program it was frozen"):
        programs.thaw(prompt)


# --- without DSPy -----------------------------------------------------------------------------------------------------

ALONE = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[3].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from workbench import prompts
from workbench.errors import MissingLibrary
out = []
for ref, values, answer in json.loads(sys.argv[2]):
    prompt = prompts.load(ref, folder=sys.argv[1])
    try:
        out.append([prompt.render(**values), prompt.parse(answer)])
    except MissingLibrary as error:
        out.append([prompt.render(**values), str(error)])
assert "dspy" not in sys.modules
print(json.dumps(out))
"""


def alone(folder, absent, *asked):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), json.dumps(asked), absent], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_frozen_program_is_loaded_rendered_and_read_without_dspy(tmp_path):
    asked, wanted = [], []
    for version, adapter in enumerate(ADAPTERS, 1):
        signature, prompt = frozen({"found": list[Finding], "answer": str}, adapter)
        replace(prompt, version=version).save(tmp_path)
        answer = {
            "chat": f"[[ ## found ## ]]\n{[FOUND]}\n[[ ## answer ## ]]\nSo.",
            "json": json.dumps({"found": [FOUND], "answer": "So."})[:-1],
        }
        asked.append((f"test/reader@{version}", {"q": "{q}"}, answer[adapter]))
        program = dspy.Predict(signature)
        wanted.append(
            [list(sent(adapter, program, Task.of(prompt), {"q": "{q}"})), {"found": [FOUND], "answer": "So."}]
        )
    assert alone(tmp_path, "dspy", *asked) == wanted


def test_texts_need_no_library_and_what_needs_one_says_what_to_install(tmp_path):
    for version, (outputs, adapter) in enumerate(
        [({"a": "str: x"}, "chat"), ({"a": "str: x"}, "json"), ({"a": "int: x"}, "chat")], 1
    ):
        replace(made(outputs, adapter), version=version).save(tmp_path)
    asked = [
        ("test/made@1", "[[ ## a ## ]]\nb"),
        ("test/made@2", '{"a": "b"}'),
        ("test/made@2", '{"a": "b'),
        ("test/made@3", "[[ ## a ## ]]\n3"),
    ]
    found = alone(tmp_path, "dspy,pydantic,json_repair,regex", *((ref, {"text": "t"}, answer) for ref, answer in asked))
    read = [answer for _, answer in found]
    assert read[:2] == [{"a": "b"}] * 2
    assert all("pip install 'synthetic-data-workbench[prompts]'" in answer for answer in read[2:])
