"""Every notebook runs from a clean kernel, and is committed as a reader should find it."""

import ast
import json
import re

import nbformat
import pytest

from tests import notebooks
from tests.conftest import ROOT

NOTEBOOKS = sorted(notebooks.FOLDER.glob("*.ipynb"))
# Smaller than the defaults, which the committed outputs come from; a notebook that is not named here runs as it is.
SMALL = {
    "00_start_here": {"rows": 12, "personas": 2},
    "01_provenance": {"rows": 20, "personas": 2},
    "02_prompts": {"count": 60},
    "05_rag_questions": {"tasks": 120},
    "04_personas": {"people": 60},
    "06_preferences": {"prompts": 60},
    "11_durable_runs": {"tasks": 24, "moments": (12,), "concurrencies": (4,)},
    "16_review": {"pairs": 20},
    "18_training": {"pairs": 40, "seeds": 2},
    "19_experiments": {"pairs": 40, "seeds": 2},
}
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path):
    return [output for cell in code_cells(path) for output in cell.outputs]


def bundles(path):
    return [output.data for output in outputs(path) if "data" in output]


def texts(path):
    """Everything that is to be read: sources, and outputs without the images."""
    for cell in read(path).cells:
        yield cell.source
    for output in outputs(path):
        yield json.dumps({name: value for name, value in output.get("data", {}).items() if name != "image/png"})
        yield str(output.get("text", ""))


def test_there_are_notebooks():
    names = {"00_start_here", "01_provenance", "02_prompts", "04_personas", "05_rag_questions", "06_preferences"}
    names |= {"11_durable_runs", "12_duplicates", "15_map", "16_review", "18_training", "19_experiments"}
    assert names <= {path.stem for path in NOTEBOOKS}


# --- they run ---------------------------------------------------------------------------------------------------------


@every
def test_it_runs_from_a_clean_kernel_without_an_error_or_a_warning(path, tmp_path):
    # No Chrome: the static images take most of the time, and a notebook must run without them.
    made = notebooks.execute(path, SMALL.get(path.stem), {"BROWSER_PATH": str(tmp_path / "no-chrome")})
    found = [output for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output.text for output in found if output.get("name") == "stderr"]
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in found)
    last = [output.data for output in made.cells[-1].outputs if "data" in output]
    assert len(last[-1]["text/plain"]) > 60  # the sentence that answers


def test_a_parameter_that_a_notebook_does_not_have_is_refused():
    with pytest.raises(KeyError, match="has no parameter 'size'"):
        notebooks.execute(NOTEBOOKS[0], {"size": 3})


def test_a_notebook_that_fails_is_not_written_back(tmp_path, monkeypatch, capsys):
    path = tmp_path / "bad.ipynb"
    cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_code_cell("1 / 0")]
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    before = path.read_bytes()
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    assert notebooks.main([]) == 1
    assert path.read_bytes() == before and "ZeroDivisionError" in capsys.readouterr().out


# --- as committed -----------------------------------------------------------------------------------------------------


@every
def test_the_title_is_a_question_and_the_next_cell_says_why_in_three_sentences(path):
    first, second = read(path).cells[:2]
    assert first.cell_type == second.cell_type == "markdown"
    assert re.fullmatch(r"# [^\n]+\?", first.source)
    sentences = re.findall(r"[^.?!]+[.?!](?=\s|$)", second.source.replace("\n", " "))
    assert len(sentences) == 3, sentences
    assert "change our mind" in second.source


@every
def test_outputs_are_of_one_run_from_top_to_bottom(path):
    assert [cell.execution_count for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))


@every
def test_no_output_is_an_error_or_a_warning_or_a_progress_bar(path):
    for output in outputs(path):
        assert output.output_type != "error" and output.get("name") != "stderr"
    for text in texts(path):
        assert not re.search(r"Traceback \(most recent|\w+Warning:|\d+%\|[█▏▎▍▌▋▊▉ #]|it/s\b", text)


@every
def test_no_path_of_a_machine_and_no_widget_state(path):
    for text in texts(path):
        assert str(ROOT) not in text
        assert not re.search(r"(?<![\w./:])/(?:home|root|tmp|usr|var|opt|mnt|work|private|Users)/|[A-Z]:\\\\", text), (
            text[:500]
        )
    assert "widgets" not in read(path).metadata
    assert not any("application/vnd.jupyter.widget-view+json" in bundle for bundle in bundles(path))


@every
def test_it_is_small_and_its_cells_are_short_and_define_nothing(path):
    assert path.stat().st_size < 500_000
    assert len(code_cells(path)) <= 30
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 15, cell.source
        nodes = list(ast.walk(ast.parse(cell.source)))  # magics and ! do not parse
        assert not [
            node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ], cell.source
        assert not [node for node in nodes if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)], (
            cell.source
        )
        assert "sys.path" not in cell.source


@every
def test_one_cell_is_tagged_parameters_and_names_size_client_or_model_and_seed(path):
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    names = [
        node.id
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    assert "seed" in names and {"client", "clients", "model"} & set(names) and len(names) >= 3


@every
def test_it_ends_with_a_plot_with_a_static_image_and_a_computed_sentence(path):
    last = read(path).cells[-1]
    assert last.cell_type == "code"
    figure, sentence = [output.data for output in last.outputs if "data" in output][-2:]
    assert "image/png" in figure and "application/vnd.plotly.v1+json" in figure
    assert sentence["text/plain"].endswith(".") and "plotly" not in sentence["text/plain"]
    for bundle in bundles(path):
        assert ("application/vnd.plotly.v1+json" in bundle) <= ("image/png" in bundle)


@every
def test_a_section_says_where_it_fails_and_prose_holds_no_number_of_a_result(path):
    prose = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert any(re.match(r"## Where (this|it) fails", text) for text in prose)
    for text in prose:
        plain = re.sub(r"`[^`]*`|hit@1|MRR@10|BM25|@\d+", "", text)
        assert not re.search(r"\d+(\.\d+)?\s?%|\b\d+ of \d+\b|\b\d+\.\d+\b", plain), text


@every
def test_offline_rows_are_said_to_be_offline_in_every_figure(path):
    assert "offline-rules@" not in json.dumps(bundles(path)) or all(
        "offline rules, no model" in json.dumps(bundle["application/vnd.plotly.v1+json"])
        for bundle in bundles(path)
        if "application/vnd.plotly.v1+json" in bundle
    )
