"""No stale rows: change one thing that is sent, and what depends on it is sent again; change nothing, and nothing is."""

import importlib
import sys
from dataclasses import replace

import pytest

from tests import tasks
from workbench import llm, prompts, runner
from workbench.llm import Sampling, Scripted

RECIPE = """
from dataclasses import dataclass
from workbench.llm import ask
from workbench.records import Failure, Instruction

SUFFIX = ""

@dataclass(frozen=True)
class Task:
    text: str
    prompt: object
    sample: int = 0

async def make(task, client):
    answer = await ask(client, task.prompt, {"text": task.text}, sample=task.sample)
    if isinstance(answer, Failure):
        return answer
    return Instruction(task.text, output=shown(answer["answer"]), provenance=answer.provenance("edited"))

def shown(text):
    return text.lower() + SUFFIX
"""


class World:
    """Everything that can change, and the run of it."""

    def __init__(self, folder):
        self.folder = folder
        self.texts = [f"Text {n}" for n in range(40)]
        self.prompt = prompts.freeze(
            "test/stale",
            [("system", "Answer shortly."), ("user", "{{text}}")],
            variables={"text": "data"},
            outputs={"answer": "str: it"},
        )
        self.client = Scripted(self.reply, sampling=Sampling(temperature=0.0))
        self.sample = 0
        self.recipe(RECIPE)

    def reply(self, request):
        # The answer repeats all that was sent, so that a stale row can be told from a fresh one.
        sent = llm.client.what_is_sent(self.client, request)
        return tasks.answer(
            f"{sent['messages'][0]['content']} | {request.messages[-1]['content'].split(chr(10))[1]} | {sent['model']} {sent['endpoint']} {sent['sampling']} {sent['sample']}"
        )

    def recipe(self, source):
        (self.folder / "edited_recipe.py").write_text(source)
        importlib.invalidate_caches()
        sys.modules.pop("edited_recipe", None)
        self.module = importlib.import_module("edited_recipe")

    def run(self):
        before = len(self.client.requests)
        made = [self.module.Task(text, self.prompt, self.sample) for text in self.texts]
        # One ledger and one folder for all that follows, as in a notebook; the ledger wraps the client of the moment.
        ledger = llm.Ledger(self.client, self.folder / "ledger.sqlite")
        result = runner.run(
            self.module.make, made, client=ledger, out=self.folder / "out", options=runner.Options(shard_tasks=8)
        )
        ledger.close()
        return result, len(self.client.requests) - before


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    world = World(tmp_path)
    _, sent = world.run()
    assert sent == 40
    yield world
    sys.modules.pop("edited_recipe", None)


def outputs(run):
    return [record.output for record in run.records]


def test_nothing_changed_sends_nothing(world):
    first, _ = world.run()
    again, sent = world.run()
    assert sent == 0 and outputs(again) == outputs(first)


def test_a_changed_system_prompt_sends_everything_again(world):
    world.prompt = prompts.freeze(
        "test/stale",
        [("system", "Answer at length."), ("user", "{{text}}")],
        variables={"text": "data"},
        outputs={"answer": "str: it"},
    )
    run, sent = world.run()
    assert sent == 40 and all(text.startswith("answer at length.") for text in outputs(run))


def test_a_new_prompt_version_with_the_same_words_sends_nothing_and_is_on_every_row(world):
    world.prompt = replace(world.prompt, version=2)
    run, sent = world.run()
    assert sent == 0 and {record.provenance.prompt.partition("#")[0] for record in run.records} == {"test/stale@2"}


def test_a_changed_model_sends_everything_again(world):
    world.client.model = "another"
    run, sent = world.run()
    assert sent == 40 and all(" another " in text for text in outputs(run))


def test_a_changed_base_url_sends_everything_again(world):
    world.client.endpoint = "elsewhere"
    run, sent = world.run()
    assert sent == 40 and all(record.provenance.endpoint == "elsewhere" for record in run.records)


def test_a_changed_temperature_sends_everything_again(world):
    world.client.sampling = Sampling(temperature=0.9)
    run, sent = world.run()
    assert sent == 40 and all("'temperature': 0.9" in text for text in outputs(run))


def test_another_sample_number_sends_everything_again(world):
    world.sample = 1
    run, sent = world.run()
    assert sent == 40 and all(text.endswith(" 1") for text in outputs(run))


def test_a_changed_input_sends_only_that_one(world):
    world.texts[17] = "Another text"
    run, sent = world.run()
    assert sent == 1 and [text.split(" | ")[1] for text in outputs(run)] == [text.lower() for text in world.texts]


def test_fewer_and_reordered_inputs_send_nothing_and_leave_no_old_row(world):
    world.texts = world.texts[::-2]
    run, sent = world.run()
    assert sent == 0 and [record.instruction for record in run.records] == world.texts


def test_edited_recipe_source_re_makes_every_row_and_sends_nothing(world):
    world.recipe(RECIPE.replace("text.lower()", "text.upper()"))
    run, sent = world.run()
    assert sent == 0 and all(text.isupper() for text in outputs(run))


def test_an_edited_constant_of_a_recipe_re_makes_every_row(world):
    world.recipe(RECIPE.replace('SUFFIX = ""', 'SUFFIX = "!"'))
    run, sent = world.run()
    assert sent == 0 and all(text.endswith("!") for text in outputs(run))


def test_a_comment_in_a_recipe_re_makes_nothing(world):
    manifests = {path: path.stat().st_mtime_ns for path in world.folder.rglob("Instruction.parquet")}
    world.recipe(RECIPE.replace("def shown", "# only words\n\ndef shown"))
    _, sent = world.run()
    assert (
        sent == 0 and {path: path.stat().st_mtime_ns for path in world.folder.rglob("Instruction.parquet")} == manifests
    )


def test_a_changed_parser_re_makes_every_row_and_sends_nothing(world, monkeypatch):
    from workbench.prompts import reading

    real = reading._read_fields
    # The module's own function, as an edit would leave it.
    source = "def _read_fields(text):\n    return {k: v + ' (parsed anew)' for k, v in _real(text).items()}\n"
    namespace = {"_real": real, "__name__": reading.__name__}
    exec(compile(source, reading.__file__, "exec"), namespace)
    monkeypatch.setattr(reading, "_read_fields", namespace["_read_fields"])
    run, sent = world.run()
    assert sent == 0 and all(text.endswith("(parsed anew)") for text in outputs(run))


def test_a_function_of_a_notebook_is_followed_to_what_it_names(tmp_path):
    from workbench._code import code_fingerprint

    def cell(source):
        namespace = {"__name__": "__main__"}
        exec(compile(source, "<cell>", "exec"), namespace)
        return code_fingerprint(namespace["make"])

    base = "LIMIT = 3\ndef helper(x):\n    return x[:LIMIT]\nasync def make(task, client):\n    return helper(task)\n"
    assert cell(base) == cell(base) == cell("# a comment\n" + base)
    assert (
        len(
            {
                cell(base),
                cell(base.replace("= 3", "= 4")),
                cell(base.replace("x[:LIMIT]", "x[LIMIT:]")),
                cell(base.replace("helper(task)", "[helper(task)]")),
            }
        )
        == 4
    )
    assert cell(base) == cell("unrelated = 1\n" + base)


EDITS = [
    ("limit = 3", "limit = 4"),
    ("re.compile('a')", "re.compile('b')"),
    ("lambda x: x + 1", "lambda x: x + 2"),
    ("partial(pow, 2)", "partial(pow, 3)"),
    ("Style('plain')", "Style('bold')"),
    ("return 'base'", "return 'other base'"),
    ("return x * 10", "return x * 11"),
    ("return inner * 7", "return inner * 8"),
]
MODULE = """
import functools, re
from functools import partial
limit = 3
TABLE = {"a": re.compile('a'), "f": lambda x: x + 1}
double = partial(pow, 2)

class Base:
    def name(self):
        return 'base'

class Style(Base):
    def __init__(self, kind):
        self.kind = kind

STYLE = Style('plain')

@functools.cache
def slow(x):
    return x * 10

def outer():
    inner = 5
    def closed():
        return inner * 7
    return closed

CLOSED = outer()

async def make(task, client):
    return limit, TABLE, double, STYLE, slow(task), CLOSED()
"""


@pytest.mark.parametrize("kind", ["module", "notebook"])
@pytest.mark.parametrize(("before", "after"), EDITS)
def test_an_edit_anywhere_behind_a_recipe_changes_its_fingerprint(kind, before, after, monkeypatch):
    import types

    from workbench._code import code_fingerprint

    def loaded(source):
        name = "a_recipe_module" if kind == "module" else "__main__"
        module = types.ModuleType(name)
        module.__file__ = "/nowhere/a_recipe_module.py"
        if kind == "module":
            monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, "<source>", "exec"), module.__dict__)
        return code_fingerprint(module.make)

    assert before in MODULE
    assert loaded(MODULE) == loaded(MODULE) != loaded(MODULE.replace(before, after))


def test_the_object_behind_a_bound_recipe_is_part_of_its_fingerprint():
    from functools import partial

    from workbench._code import code_fingerprint

    class Recipe:
        def __init__(self, style):
            self.style = style

        async def make(self, task, client): ...

        async def __call__(self, task, client): ...

    for of in (lambda style: Recipe(style).make, Recipe, lambda style: partial(Recipe(style), style)):
        assert code_fingerprint(of("a")) == code_fingerprint(of("a")) != code_fingerprint(of("b"))


def test_a_fingerprint_does_not_depend_on_what_else_was_imported():
    import subprocess

    from tests.conftest import ROOT

    code = "{}; from workbench._code import code_fingerprint; from workbench.recipes import rag_qa; print(code_fingerprint(rag_qa.make))"
    few, many = (
        subprocess.run(
            [sys.executable, "-c", code.format(first)], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for first in (
            "pass",
            "from workbench import llm, share, widgets; from workbench.prompts import optimize; llm.OpenAI, llm.Local",
        )
    )
    assert few == many


def test_fingerprints_are_the_same_in_another_process(tmp_path):
    import subprocess

    from tests.conftest import ROOT

    code = "from workbench._code import code_fingerprint; from workbench.recipes import rag_qa; print(code_fingerprint(rag_qa.make))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
