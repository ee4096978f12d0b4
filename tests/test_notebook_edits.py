"""A researcher edits a cell and runs it again, in a real kernel: what comes out belongs to the edited cell."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

FIRST = """
async def make(task, client):
    answer = await ask(client, PROMPT, {"text": task})
    return Instruction(task, output=style(answer["answer"]), provenance=answer.provenance("cell"))

def style(text):
    return text.upper()

run = runner.run(make, ["a", "b", "c"], client=ledger, out=folder)
print([r.output for r in run.records], len(client.requests))
"""
SETUP = """
import tempfile
from pathlib import Path
from workbench import llm, prompts, runner
from workbench.llm import ask
from workbench.records import Instruction

PROMPT = prompts.freeze("test/cell", [("user", "{{text}}")], variables={"text": "data"}, outputs={"answer": "str: it"})
client = llm.Scripted(lambda request: "[[ ## answer ## ]]\\nanswer to " + request.messages[0]["content"].split()[1])
folder = Path(tempfile.mkdtemp())
ledger = llm.Ledger(client, folder / "ledger.sqlite")
"""
CELLS = [
    ("as it was", FIRST, "['ANSWER TO A', 'ANSWER TO B', 'ANSWER TO C'] 3"),
    ("run again", FIRST, "['ANSWER TO A', 'ANSWER TO B', 'ANSWER TO C'] 3"),
    ("other rows", FIRST.replace('["a", "b", "c"]', '["x", "b"]'), "['ANSWER TO X', 'ANSWER TO B'] 4"),
    ("other code in a helper", FIRST.replace("upper()", "title()"), "['Answer To A', 'Answer To B', 'Answer To C'] 4"),
    (
        "other code and other rows",
        FIRST.replace("text.upper()", 'text + "!"').replace('["a", "b", "c"]', '["z"]'),
        "['answer to z!'] 5",
    ),
    ("back again", FIRST, "['ANSWER TO A', 'ANSWER TO B', 'ANSWER TO C'] 5"),
]


@pytest.fixture(scope="module")
def printed():
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (SETUP, *(cell for _, cell, _ in CELLS))]
    )
    NotebookClient(book, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    return [
        "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
        for cell in book.cells[1:]
    ]


@pytest.mark.parametrize("number", range(len(CELLS)), ids=[name for name, _, _ in CELLS])
def test_an_edited_cell_gives_its_own_rows_and_sends_only_what_is_new(printed, number):
    assert printed[number].strip().endswith(CELLS[number][2])
