"""The set-up files agree with each other: what is declared is locked, and conda users get the same."""

import re
import tomllib

from tests.conftest import ROOT

LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


LOCKED = {canonical(re.match(r"[\w.-]+", line)[0]) for line in LOCK}


def test_every_requirement_of_every_extra_is_locked_to_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]:
        assert canonical(re.match(r"[\w.-]+", requirement)[0]) in LOCKED, requirement
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.!]+( ; .+)?", line) for line in LOCK)


def test_torch_is_pinned_without_a_build_and_no_gpu_package_is_locked():
    assert "torch==2.13.0" in LOCK
    assert not [name for name in LOCKED if name.startswith(("nvidia", "cuda", "triton"))]


def test_conda_installs_the_same_lock():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    assert "      - -r requirements.lock" in lines and "      - -e ." in lines
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert f"  - python={lowest}" in lines
    # Nothing is listed twice: what is not Python or pip comes from the lock.
    assert [line.strip() for line in lines if line.startswith("  - ")] == [
        "- conda-forge",
        f"- python={lowest}",
        "- pip",
        "- pip:",
    ]


def test_ci_runs_the_commands_of_the_readme():
    readme, ci, makefile = ((ROOT / name).read_text() for name in ("README.md", ".ci/run", "Makefile"))
    assert "make test" in ci and "make test" in readme and "make demo" in readme
    for target in re.findall(r"`make (\w+)`", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names make {target}, the Makefile has none"


def test_every_prompt_file_and_price_table_is_packaged():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    server = ["_server/**/*.py", "_server/requirements.lock"]  # no package: what runs elsewhere must not import us
    assert data == {
        "workbench.prompts": ["files/**/*.json"],
        "workbench.llm": ["prices.json"],
        "workbench.review": server,
    }


def test_the_readme_names_every_module_and_every_notebook():
    readme = (ROOT / "README.md").read_text()
    modules = [path for path in (ROOT / "workbench").rglob("*.py") if path.name != "__init__.py"]
    missing = [path.name for path in modules if not re.search(rf"\b{re.escape(path.name)}\b", readme)]
    assert not missing
    assert not [path.name for path in (ROOT / "notebooks").glob("*.ipynb") if f"notebooks/{path.name}" not in readme]


def test_nothing_names_a_machines_path():
    for path in [
        *ROOT.glob("*.*"),
        *(ROOT / "workbench").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]:
        if path.is_file():
            assert not re.search(r"(^|[^\w.])/(home|root|work|Users)/\w", path.read_text(errors="replace")), path
