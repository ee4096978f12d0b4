"""`python -m workbench train`: from an exported file to a verdict, and what it says of files that are none."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from workbench import experiments, share
from workbench.train import known

pytest.importorskip("trl", reason="needs the train extra")


def train(*arguments):
    command = [sys.executable, "-m", "workbench", "train", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_export_becomes_an_experiment_with_a_verdict_and_its_reason(bundled, tmp_path):
    pairs = known.plain_or_hedged(bundled, 40)
    path = share.export(pairs, tmp_path, formats=["preference_chat"])["preference_chat"]
    options = ("--out", tmp_path / "worth", "--seeds", 1, "--held-out-share", 0.5, "--batch-size", 8)
    done = train(path, *options)
    assert done.returncode == 0, done.stderr
    assert "all: no evidence. One seed shows nothing about other seeds" in done.stdout
    assert "dpo of tiny-base@1; " in done.stdout and "random pairs" in done.stdout
    (found,) = experiments.find(tmp_path / "worth")
    assert (found.kind, found.status, found.settings["plan"]["held_out"]) == ("training", "finished", 0.5)
    assert train(path, *options).stdout == done.stdout
    other = train(path, *options, "--epochs", 2)
    assert other.returncode == 2 and "was begun with another plan" in other.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.parquet", None, "none.parquet"),
        ("rows.txt", "a", "is no exported file"),
        ("rows.jsonl", "{", "rows.jsonl"),
    ],
)
def test_a_file_that_holds_no_rows_is_an_error_with_its_name(name, text, said, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    done = train(tmp_path / name, "--out", tmp_path / "worth")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
