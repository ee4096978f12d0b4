"""The layers hold: a module imports only from lower ones, recipes never import each other, heavy libraries load late."""

import ast
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Highest matching prefix wins. Own package and equal layers inside llm, quality and runner's own parts are listed apart.
LAYERS = {
    "errors": 0, "_html": 0, "records": 1, "intervals": 1, "prompts": 2, "store": 2, "llm.client": 2, "_code": 2, "_colours": 1, "_background": 2, "llm": 3, "corpus": 3, "embed": 3,
    "runs": 4, "runner": 5, "recipes": 6, "quality": 6, "clusters": 5, "experiments": 6, "trl_forms": 6, "stages": 7, "personas": 8,
    "prompts.examples": 7, "prompts.comparison": 7, "prompts._asking": 7, "prompts.versions": 7, "prompts.optimize": 7, "prompts._desk": 7, "share": 7, "imports": 7, "train": 8, "review": 8, "report": 8,
    "generate": 9, "plots": 10, "demo": 10, "widgets": 11, "__main__": 12,
}  # fmt: skip
HEAVY = {
    "torch", "transformers", "trl", "ray", "dspy", "litellm", "argilla", "umap", "hdbscan", "plotly", "ipywidgets", "pandas", "sklearn",
    "sentence_transformers", "markitdown", "duckdb", "bm25s", "krippendorff", "crowdkit", "tqdm", "uvloop", "semantic_text_splitter", "markdown_it", "py3langid",
}  # fmt: skip
MODULES = sorted(path for path in (ROOT / "workbench").rglob("*.py") if path != ROOT / "workbench" / "__init__.py")


def name_of(path):
    parts = path.relative_to(ROOT / "workbench").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name):
    while name:
        if name in LAYERS:
            return LAYERS[name]
        name = name.rpartition(".")[0]
    raise AssertionError(f"{name} has no layer")


def imports(tree):
    """(module, is at the top level) of everything imported."""
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "workbench":
                yield from ((f"workbench.{alias.name}", id(node) in top) for alias in node.names)
            else:
                yield node.module, id(node) in top


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_lower_layers_and_heavy_libraries_late(path):
    own = name_of(path)
    for module, is_top in imports(ast.parse(path.read_text())):
        top = module.partition(".")[0]
        assert not (is_top and top in HEAVY), (
            f"{own} imports {top} at its top level: load it in the function that needs it"
        )
        if top != "workbench" or module == "workbench":
            continue
        other = module.removeprefix("workbench.")
        same_package = own.partition(".")[0] == other.partition(".")[0]
        assert same_package or layer(other) < layer(own), (
            f"{own} (layer {layer(own)}) imports {other} (layer {layer(other)})"
        )
        if own.startswith("recipes.") and other.startswith("recipes."):
            raise AssertionError(f"recipe {own} imports recipe {other}")


def test_only_three_modules_know_dspy():
    """What is generated is rendered from files; DSPy is for the search alone."""
    knows = {name_of(path) for path in MODULES if re.search(r"import dspy|from dspy|require\(\"dspy", path.read_text())}
    assert knows == {"prompts.programs", "prompts.optimize", "prompts._desk"}


def test_one_module_knows_trl():
    knows = {
        name_of(path) for path in MODULES if re.search(r"import trl\b|from trl\b|require\(\"trl", path.read_text())
    }
    assert knows == {"train.trl_runs"}


def test_importing_the_workbench_does_nothing_and_costs_almost_nothing():
    code = "import sys; before = set(sys.modules); import workbench; print(len(set(sys.modules) - before))"
    loaded = int(
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    assert loaded <= 3  # itself; its submodules load when they are named


BARE = """
import importlib.metadata, re, sys
from packaging.requirements import Requirement

def closure(name, found):
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in found:
        return
    found.add(name)
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            closure(requirement.name, found)

core = set()
closure("synthetic-data-workbench", core)
canonical = lambda name: re.sub(r"[-_.]+", "-", name).lower()
blocked = {module for module, owners in importlib.metadata.packages_distributions().items() if not core & set(map(canonical, owners))}
blocked -= set(sys.modules) | {"packaging"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
assert "torch" in blocked and "pandas" in blocked and "plotly" in blocked
from workbench.__main__ import app
sys.argv = ["workbench", "generate", "data/documents", "--out", sys.argv[1], "--rows", "5"]
app()
"""


def test_a_bare_install_without_extras_generates_offline(tmp_path):
    """Every installed package that the core does not require is made invisible, and the main job runs."""
    done = subprocess.run([sys.executable, "-c", BARE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 rows" in done.stdout
