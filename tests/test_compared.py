"""Experiments beside each other: differences as computed by hand, paired where the same items were measured, and in words."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from typer.testing import CliRunner

from tests.test_experiments import go, search
from workbench import experiments
from workbench.__main__ import app
from workbench.errors import InputError, StoreError
from workbench.experiments import Experiment
from workbench.records import Verdict

SETTINGS = {
    "method": "dpo", "learning_rate": 1e-4, "primary_metric": "accuracy", "seeds": [0, 1], "arms": ["all"],
    "data": {"train": "aaaa", "held_out": "bbbb", "source": "data/pairs"},
}  # fmt: skip


def score(arm, part, value, half=None, n=40):
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"split": "held_out", "part": part, "prompt": arm, "value": value, "low": low, "high": high, "n": n}


def training(folder, items=None, *, scores=None, settings=(), **changed):
    """A folder as a training leaves it; `items` are rows of (arm, seed, item, group, metric, value)."""
    if scores is None:
        cells = dict.fromkeys((row[0], row[4]) for row in items or ())
        scores = [score(arm, metric, 0.5, 0.1) for arm, metric in cells]
    one = Experiment(**{
        "id": f"id of {folder.name}", "kind": "training", "name": "dpo of tiny@1", "started": "2026-02-03T10:30:00+00:00",
        "model": "tiny@1", "settings": {**SETTINGS, **dict(settings)}, "scores": scores, **changed,
    })  # fmt: skip
    experiments.write(folder, one)
    if items is not None:
        columns = zip(*items, strict=True)
        names = ("arm", "seed", "item", "group", "metric", "value")
        table = pa.table(dict(zip(names, columns, strict=True))).cast(
            pa.schema(
                [(n, pa.int64() if n == "seed" else pa.float64() if n == "value" else pa.string()) for n in names]
            )
        )
        pq.write_table(table, folder / "items.parquet")
    return folder


def cells(values, *, arm="all", metric="accuracy", seeds=None, start=0, size=1):
    """Rows of items.parquet from values (seeds, items); a group has `size` items."""
    return [
        (arm, seed, f"item {start + at}", f"group {(start + at) // size}", metric, float(value))
        for seed, row in zip(range(len(values)) if seeds is None else seeds, values, strict=True)
        for at, value in enumerate(row)
    ]


def only(found, **wanted):
    [row] = [row for row in found.differences.to_pylist() if all(row[name] == value for name, value in wanted.items())]
    return row


# --- paired, against hand and scipy ---------------------------------------------------------------------------------


def test_a_difference_is_the_mean_over_items_of_means_over_seeds_of_what_both_measured(tmp_path):
    # Items 1 to 3 are of both: seed 0: 1-0, 1-1, 0-0; seed 1: 1-1, 1-0, 1-0. By hand: (1+0+0+0+1+1)/6.
    a = training(tmp_path / "a", cells([[9, 0, 1, 0], [9, 1, 0, 0]]))
    b = training(tmp_path / "b", cells([[1, 1, 0, -9], [1, 1, 1, -9]], start=1))
    row = only(experiments.compare(a, b))
    assert row["difference"] == pytest.approx(0.5) and (row["n"], row["seeds"], row["is_paired"]) == (3, 2, True)
    assert (row["experiment"], row["baseline"], row["arm"]) == ("id of b", "id of a", "all")
    turned = only(experiments.compare(a, b, baseline=b))
    assert turned["difference"] == pytest.approx(-0.5) and turned["experiment"] == "id of a"


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_with_one_seed_the_interval_is_that_of_the_paired_t_test(tmp_path, level):
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(1, 30)), rng.normal(0.4, size=(1, 30))
    a, b = training(tmp_path / "a", cells(before)), training(tmp_path / "b", cells(after))
    found = experiments.compare(a, b, level=level)
    wanted = stats.ttest_rel(after[0], before[0]).confidence_interval(level)
    row = only(found)
    assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high)) and row["level"] == level
    assert any("one seed" in note for note in found.notes())


def test_where_items_do_not_differ_the_interval_is_that_of_the_seeds(tmp_path):
    by_seed = [0.1, 0.2, 0.4, 0.3]
    a, b = (
        training(tmp_path / "a", cells(np.zeros((4, 20)))),
        training(tmp_path / "b", cells(np.outer(by_seed, np.ones(20)))),
    )
    row = only(experiments.compare(a, b))
    wanted = stats.ttest_1samp(by_seed, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high), rel=1e-6)


def test_items_of_one_group_count_as_one(tmp_path):
    means = np.random.default_rng(2).normal(0.3, size=12)
    a = training(tmp_path / "a", cells(np.zeros((1, 60)), size=5))
    b = training(tmp_path / "b", cells([np.repeat(means, 5)], size=5))
    row = only(experiments.compare(a, b))
    wanted = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high)) and row["n"] == 60


def test_seeds_are_matched_by_number_and_the_others_in_order(tmp_path):
    # The value is the seed's: matched by number all differences are 1, and the interval has no width.
    rows = lambda seeds, more: cells([[seed + more] * 10 for seed in seeds], seeds=seeds)
    a, b = training(tmp_path / "a", rows([0, 1, 2], 0)), training(tmp_path / "b", rows([2, 0, 1], 1))
    row = only(experiments.compare(a, b))
    assert (row["difference"], row["low"], row["high"], row["seeds"]) == pytest.approx((1, 1, 1, 3))
    c = training(tmp_path / "c", rows([2, 7, 9, 11], 1))  # 2 with 2, then 0 with 7 and 1 with 9
    row = only(experiments.compare(a, c))
    assert row["difference"] == pytest.approx((1 + 8 + 9) / 3) and row["seeds"] == 3


def test_the_untouched_base_has_no_seed_and_is_paired_all_the_same(tmp_path):
    a = training(tmp_path / "a", cells([[0, 1, 0]], arm="base", seeds=[None]))
    b = training(tmp_path / "b", cells([[1, 1, 0]], arm="base", seeds=[None]))
    found = experiments.compare(a, b)
    assert only(found)["difference"] == pytest.approx(1 / 3) and only(found)["seeds"] == 1
    assert not any("one seed" in note for note in found.notes())  # it was not trained, so there is no other
    c = training(tmp_path / "c", cells([[1, 1, 0], [0, 1, 0]], arm="base"))
    assert only(experiments.compare(a, c))["difference"] == pytest.approx(1 / 6)


def test_items_that_one_seed_did_not_measure_are_left_out(tmp_path):
    a = training(tmp_path / "a", cells([[0, 0, 0], [0, 0, 0]]))
    b = training(tmp_path / "b", [row for row in cells([[1, 5, 2], [1, 5, 2]]) if row[1:3] != (1, "item 1")])
    assert (only(experiments.compare(a, b))["difference"], only(experiments.compare(a, b))["n"]) == (1.5, 2)


def test_one_shared_group_gives_a_difference_without_an_interval(tmp_path):
    a, b = training(tmp_path / "a", cells([[0, 0]], size=2)), training(tmp_path / "b", cells([[1, 1]], size=2))
    found = experiments.compare(a, b)
    assert (only(found)["difference"], only(found)["low"], only(found)["is_paired"]) == (1.0, None, True)
    assert "cannot be told for all (+1.000, no interval, paired, n 2, 1 seed)" in found.sentence
    assert any("decides nothing" in note for note in found.notes())


# --- unpaired -------------------------------------------------------------------------------------------------------


def test_without_shared_items_the_interval_is_of_both_standard_errors_and_said_to_be_unpaired(tmp_path):
    a = training(tmp_path / "a", cells(np.zeros((2, 5))), scores=[score("all", "accuracy", 0.5, 0.196, n=50)])
    b = training(tmp_path / "b", cells(np.ones((2, 5)), start=5), scores=[score("all", "accuracy", 0.8, 0.147)])
    found = experiments.compare(a, b)
    row = only(found)
    half = 1.959964 * math.hypot(0.196 / 1.959964, 0.147 / 1.959964)  # = 0.245: a triangle of 3, 4 and 5
    assert half == pytest.approx(0.245)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.3, 0.055, 0.545), abs=1e-6)
    assert (row["n"], row["seeds"], row["is_paired"]) == (40, None, False)
    assert "unpaired, n 40" in found.sentence and any("All differences are unpaired" in note for note in found.notes())


def test_a_value_without_an_interval_has_a_difference_without_one(tmp_path):
    a = training(tmp_path / "a", scores=[score("all", "accuracy", 0.5)])
    b = training(tmp_path / "b", scores=[score("all", "accuracy", 0.75, 0.1)])
    assert (only(experiments.compare(a, b))["difference"], only(experiments.compare(a, b))["low"]) == (0.25, None)


# --- several differences, and words ---------------------------------------------------------------------------------


def two_arms(tmp_path, *, all=0.9, filtered=0.5, **changed):
    """A baseline and another training: 40 items of which each arm gets a share right, the baseline half."""
    rng = np.random.default_rng(0)
    rows = lambda **shares: [
        row for arm, share in shares.items() for row in cells(rng.random((3, 40)) < share, arm=arm)
    ]
    a = training(tmp_path / "a", rows(all=0.5, filtered=0.5))
    return a, training(tmp_path / "b", rows(all=all, filtered=filtered), **changed)


def test_primary_differences_are_widened_together_and_others_are_not(tmp_path):
    more = cells(np.random.default_rng(3).random((3, 40)), metric="margin")
    a, b = two_arms(tmp_path)
    for folder in (a, b):
        rows = [tuple(row.values()) for row in pq.read_table(folder / "items.parquet").to_pylist()]
        training(folder, rows + more)
    found = experiments.compare(a, b)
    assert {row["metric"]: (row["level"], row["is_primary"]) for row in found.differences.to_pylist()} == {
        "accuracy": (pytest.approx(0.975), True), "margin": (0.95, False),
    }  # fmt: skip
    narrow = experiments.compare(a, b, level=0.9)  # 0.95 each
    width = lambda found: (row := only(found, metric="accuracy", arm="all"))["high"] - row["low"]
    assert width(found) > width(narrow)
    assert found.sentence.endswith("Intervals hold at 0.95 for all 2 of these together (Bonferroni, 0.975 each).")
    assert any("exploratory" in note for note in found.notes())


def test_the_sentence_says_which_arm_changed_and_which_cannot_be_told(tmp_path):
    a, b = two_arms(tmp_path, settings={"learning_rate": 1e-3})
    found = experiments.compare(a, b)
    row = only(found, arm="all")
    assert (
        f"accuracy of all is {row['difference']:.3f} higher ({row['low']:+.3f} to {row['high']:+.3f}, paired, n 40, 3 seeds)"
        in found.sentence
    )
    assert "whether accuracy differs cannot be told for filtered (" in found.sentence
    assert "The one thing that was changed, learning_rate (0.0001 to 0.001), mattered." in found.sentence
    assert found.changes(found.experiments[1]) == {"learning_rate": ("0.0001", "0.001")}
    assert found.settings.to_pylist() == [{"setting": "learning_rate", "id of a": "0.0001", "id of b": "0.001"}]


def test_what_changed_nothing_cannot_be_told_to_matter(tmp_path):
    a, b = two_arms(tmp_path, all=0.5, settings={"learning_rate": 1e-3})
    assert "cannot be told to matter" in experiments.compare(a, b).sentence


def test_what_one_seed_shows_is_said_to_hold_for_it_alone(tmp_path):
    right = np.random.default_rng(0).random((1, 40)) < 0.9
    a = training(tmp_path / "a", cells(np.zeros((1, 40))))
    b = training(tmp_path / "b", cells(right), settings={"learning_rate": 1})
    said = "mattered for these very models; whether it would with another seed is not known."
    assert said in experiments.compare(a, b).sentence


def test_a_difference_is_not_laid_to_one_of_several_changes(tmp_path):
    data = {"train": "cccc", "held_out": "bbbb", "source": "elsewhere"}
    a, b = two_arms(tmp_path, settings={"learning_rate": 1e-3, "data": data}, prompts=("p@1#x",), name="other name")
    found = experiments.compare(a, b)
    assert set(found.changes(found.experiments[1])) == {"learning_rate", "data"}  # its prompts are those of its data
    assert "They differ in data and learning_rate: the difference cannot be laid to one of these." in found.sentence
    assert "mattered" not in found.sentence


def test_equal_settings_and_other_verdicts_are_no_change(tmp_path):
    a, b = two_arms(tmp_path, settings={"verdict": "helps", "reason": "It beat its controls."})
    found = experiments.compare(a, b)
    assert "Both were made with the same settings, so a difference is chance or was not written down." in found.sentence
    assert len(found.settings) == 0 and "b found of its own data: helps. It beat its controls." in found.notes()


@pytest.mark.parametrize(
    ("change", "words"), [(-1.0, "1.000 lower, which is better"), (1.0, "1.000 higher, which is worse")]
)
def test_of_a_loss_lower_is_better_in_words_and_no_sign_is_turned(tmp_path, change, words):
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 20))
    noise -= noise.mean()
    a = training(tmp_path / "a", cells(np.zeros((2, 20)), metric="loss"), settings={"primary_metric": "loss"})
    b = training(tmp_path / "b", cells(noise + change, metric="loss"), settings={"primary_metric": "loss"})
    found = experiments.compare(a, b)
    assert only(found)["difference"] == pytest.approx(change) and f"loss of all is {words}" in found.sentence
    assert "Lower is better of loss; a difference above 0 is worse." in found.notes()
    assert experiments.is_lower_better("eval_loss") and not experiments.is_lower_better("accuracy")


def test_a_training_is_judged_by_the_metric_that_its_settings_name_and_its_repetition_is_left_out(tmp_path):
    scores = [score("all", "accuracy", 0.6, 0.1), score("all", "margin", 2.0, 0.5), score("all", "all", 0.6, 0.1)]
    a, b = training(tmp_path / "a", scores=scores), training(tmp_path / "b", scores=scores)
    found = experiments.compare(a, b)
    assert [row["metric"] for row in found.metrics.to_pylist()] == ["accuracy", "margin"] * 2
    assert [row["is_primary"] for row in found.differences.to_pylist()] == [True, False]
    c = training(tmp_path / "c", scores=scores, settings={"primary_metric": "margin"})
    other = experiments.compare(a, c)
    assert not any(other.differences["is_primary"]) and "judged by margin, the other by accuracy" in other.sentence


# --- other kinds ----------------------------------------------------------------------------------------------------


def test_searches_are_compared_by_role_on_held_out_examples(tmp_path):
    experiments.write(tmp_path / "a", search("a"))
    made = search("b", prompts=("rag/question@3#c",), settings={"method": "mipro", "seed": 3, "answers": 7})
    made = replace(made, scores=[
        {**row, "prompt": row["prompt"].replace("@2#b", "@3#c"), "value": row["value"] + 0.1 * ("@2" in row["prompt"])}
        for row in (*made.scores, {**made.scores[1], "split": "dev", "value": 0.0})
    ])  # fmt: skip
    experiments.write(tmp_path / "b", made)
    found = experiments.compare(tmp_path / "a", tmp_path / "b")
    best = only(found, metric="all", arm="rag/question@3#c")
    assert best["baseline_arm"] == "rag/question@2#b" and best["difference"] == pytest.approx(0.1)
    assert only(found, arm="rag/question@1#a")["difference"] == 0
    assert not any(found.differences["is_paired"]) and len(found.differences) == 3  # base, found and its part "parsed"
    assert set(found.changes(found.experiments[1])) == {"method"}  # the prompt that came out is no reason
    assert "rag/question@3#c (against rag/question@2#b)" in found.sentence


def test_runs_are_compared_by_what_was_kept(tmp_path):
    for name, bad in (("a", 12), ("b", 1)):
        run = go(tmp_path / name, 40, settings={"seed": name})
        run.mark([Verdict(record.id, "any", at >= bad) for at, record in enumerate(run.records)])
    found = experiments.compare(tmp_path / "a", tmp_path / "b")
    kept = only(found, metric="kept")
    assert kept["difference"] == pytest.approx((39 - 28) / 40) and kept["is_primary"] and not kept["is_paired"]
    assert found.sentence.startswith("b against a: kept of ") and "changed, seed (a to b), mattered." in found.sentence
    assert {row["what"] for row in found.links.to_pylist()} == {"run", "prompt"}


def test_experiments_of_several_kinds_are_refused(tmp_path):
    go(tmp_path / "run", 3)
    with pytest.raises(InputError, match=r"no score in common: generation and training\..*find\(root\)\.compare"):
        experiments.compare(tmp_path / "run", training(tmp_path / "a"))


# --- links ----------------------------------------------------------------------------------------------------------


def test_links_lead_to_prompts_data_runs_and_adapters(tmp_path, monkeypatch):
    from workbench import prompts

    own = prompts.load("rag/question@1").id
    a = training(tmp_path / "a", prompts=(own, "gone@1#0", f"{own[:-4]}0000"))
    adapter = a / "arms" / "length-only" / "seed-2" / "adapter" / "adapter_config.json"
    adapter.parent.mkdir(parents=True)
    adapter.write_text("{}")
    b = training(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    links = [row for row in experiments.compare(a, b).links.to_pylist() if row["experiment"] == "id of a"]
    named = {(row["what"], row["name"]): row["path"] for row in links}
    assert named[("run", "dpo of tiny@1")] == "a" and named[("prompt", "gone@1#0")] == ""
    assert named[("prompt", own)].endswith("prompts/files/rag/question@1.json")
    assert named[("prompt", f"{own[:-4]}0000")] == ""  # the file is of other words than were sent
    assert named[("data", "train aaaa")] == named[("data", "held_out bbbb")] == "data/pairs"
    assert named[("adapter", "length-only/seed-2/adapter")] == "a/arms/length-only/seed-2/adapter"


# --- what cannot be compared ----------------------------------------------------------------------------------------


def test_one_experiment_one_twice_and_a_strange_baseline_are_refused(tmp_path):
    a, b, c = (training(tmp_path / name) for name in "abc")
    for given in ((), (a,)):
        with pytest.raises(InputError, match=f"takes two experiments or more, got {len(given)}"):
            experiments.compare(*given)
    with pytest.raises(InputError, match="id of a is given twice"):
        experiments.compare(a, b, a)
    shutil.copytree(a, tmp_path / "copy")
    with pytest.raises(InputError, match="one folder is a copy"):
        experiments.compare(a, tmp_path / "copy")
    with pytest.raises(InputError, match="the baseline 'id of c' is none of id of a and id of b"):
        experiments.compare(a, b, baseline=c)
    with pytest.raises(InputError, match="level must be between"):
        experiments.compare(a, b, level=95)


def test_a_folder_without_an_experiment_is_named_with_the_reason(tmp_path):
    a = training(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "nowhere"):
        with pytest.raises(StoreError, match=rf"{wrong} holds no experiment\. Give a folder with a run\.json"):
            experiments.compare(a, tmp_path / wrong)
    with pytest.raises(StoreError, match="holds no experiment"):  # a folder above one is not the one
        experiments.compare(a, tmp_path)
    b = training(tmp_path / "b")
    (b / "experiment.json").write_text("{")
    with pytest.raises(
        StoreError, match=r"b holds no experiment that can be read: .*experiment\.json is no experiment"
    ):
        experiments.compare(a, b)


DAMAGE = {
    "cut off": (lambda table, path: path.write_bytes(path.read_bytes()[:-30]), "is no whole table"),
    "empty": (lambda table, path: path.write_bytes(b""), "is no whole table"),
    "without groups": (lambda table, path: pq.write_table(table.drop_columns("group"), path), "is no whole table"),
    "values of text": (lambda table, path: pq.write_table(table.set_column(5, "value", [["x"] * len(table)]), path), "other types"),
    "an item without a name": (lambda table, path: pq.write_table(table.set_column(2, "item", [pa.array([None] * len(table), pa.string())]), path), "rows without item"),
    "a value that is none": (lambda table, path: pq.write_table(table.set_column(5, "value", [[math.nan] * len(table)]), path), "has the value nan"),
    "an item twice": (lambda table, path: pq.write_table(pa.concat_tables([table, table[:1]]), path), "item 0 .*is there twice"),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_table_of_items_is_said_and_never_passed_over(tmp_path, how):
    a, b = two_arms(tmp_path)
    damage, says = DAMAGE[how]
    damage(pq.read_table(b / "items.parquet"), b / "items.parquet")
    with pytest.raises(StoreError, match=says):
        experiments.compare(a, b)


def test_what_is_unfinished_or_has_no_metric_in_common_is_compared_as_far_as_it_is(tmp_path):
    a = training(tmp_path / "a", scores=[score("all", "accuracy", 0.6, 0.1)])
    b = training(tmp_path / "b", scores=[], stopped="unfinished", settings={"learning_rate": 1})
    found = experiments.compare(a, b)
    assert len(found.differences) == 0 and found.settings["setting"] == ["learning_rate"]
    assert found.sentence == "b and a cannot be compared: b is unfinished and has no score yet."
    assert "b is unfinished: its numbers may change." in found.notes()
    c = training(tmp_path / "c", scores=[score("filtered", "accuracy", 0.6, 0.1)], stopped="Disk full.")
    found = experiments.compare(a, c)
    assert found.sentence == "c and a cannot be compared: no arm of both has accuracy."
    assert "c stopped early: Disk full." in found.notes()


def test_items_of_an_unfinished_training_are_compared_before_its_scores_are_there(tmp_path):
    a = training(tmp_path / "a", cells(np.zeros((1, 9))))
    b = training(tmp_path / "b", cells(np.ones((1, 9))), scores=[], stopped="unfinished")
    assert only(experiments.compare(a, b))["difference"] == 1.0


# --- how it looks ---------------------------------------------------------------------------------------------------


def test_a_comparison_shows_itself_in_text_and_html_with_names_of_folders_and_inert_markup(tmp_path):
    a, b = two_arms(tmp_path, settings={"note": "<img src=x onerror=alert(1)>"}, is_offline=True)
    found = experiments.compare(a, b)
    for shown in (repr(found), found._repr_html_()):
        assert found.sentence[:60] in shown and "settings that differ" in shown and "paired, n 40, 3 seeds" in shown
        assert "offline rules, no model" in shown
    assert "<img" not in found._repr_html_() and found.labels == {"id of a": "a", "id of b": "b"}
    same = experiments.compare(training(tmp_path / "x" / "dpo", id="1"), training(tmp_path / "y" / "dpo", id="2"))
    assert same.labels == {"1": "1", "2": "2"}


def test_experiments_as_find_gives_them_compare_as_their_folders_do(tmp_path, monkeypatch):
    a, b = two_arms(tmp_path)
    found = experiments.find(tmp_path)
    by_object = experiments.compare(found["id of a"], found["id of b"])
    assert by_object.differences.to_pylist() == experiments.compare(a, b).differences.to_pylist()
    never_read = replace(found["id of b"], folder=type(a)())
    monkeypatch.chdir(b)  # items that lie here are of no experiment that was not read from here
    assert not any(experiments.compare(a, never_read).differences["is_paired"])


# --- steps ----------------------------------------------------------------------------------------------------------


def log(folder, arm, seed, lines, end="\n"):
    path = folder / "arms" / arm / f"seed-{seed}" / "steps.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)


def test_steps_of_all_arms_and_seeds_are_one_table(tmp_path):
    a = training(tmp_path / "a", settings={"arms": ["all", "few good"]})
    log(a, "few-good", 1, [{"step": 10, "steps": 20, "seconds": 1.5, "tokens": 300, "loss": 0.5, "rewards/margins": 1}])
    log(
        a,
        "half-twice",
        0,
        [{"step": 10, "steps": 20, "loss": math.nan, "note": "text", "is_good": True}, "", {"step": 20, "loss": 2}],
    )
    log(a, "own-arm", 0, [])
    rows = experiments.steps(a).to_pylist()
    assert [(row["arm"], row["is_control"], row["seed"], row["step"]) for row in rows] == [
        ("few good", False, 1, 10), ("half twice", True, 0, 10), ("half twice", True, 0, 20),
    ]  # fmt: skip
    assert list(rows[0].values()) == ["a", "few good", False, 1, 10, 20, 1.5, 300, 0.5, 1.0]
    assert math.isnan(rows[1]["loss"]) and rows[2]["rewards/margins"] is None and "note" not in rows[1]


def test_what_a_step_logged_on_several_lines_is_one_row_and_later_lines_hold(tmp_path):
    log(
        tmp_path,
        "all",
        0,
        [{"step": 2, "loss": 2}, {"step": 1, "loss": 3}, {"step": 2, "eval_loss": 4}, {"step": 1, "loss": 5}],
    )
    rows = experiments.steps(tmp_path).to_pylist()
    assert [(row["step"], row["loss"], row["eval_loss"]) for row in rows] == [(1, 5, None), (2, 2, 4)]


def test_a_last_line_cut_off_by_a_kill_is_left_out_at_any_place(tmp_path):
    whole, last = json.dumps({"step": 1, "loss": 0.5}), json.dumps({"step": 2, "loss": 0.25})
    for cut in range(len(last) + 1):
        log(tmp_path, "all", 0, [whole, last[:cut]], end="")
        assert experiments.steps(tmp_path)["step"] == ([1, 2] if cut == len(last) else [1])


@pytest.mark.parametrize("wrong", ['{"step": 1, "lo', "[1]", "7", '{"loss": 1}', '{"step": "1"}', '{"step": NaN}'])
def test_any_other_line_that_is_no_step_is_named(tmp_path, wrong):
    log(tmp_path, "all", 3, [{"step": 1}, wrong, {"step": 2}])
    with pytest.raises(StoreError, match=r"line 2 of .*steps\.jsonl is no step.*Delete the folder seed-3"):
        experiments.steps(tmp_path)


def test_nothing_logged_is_an_empty_table_and_a_missing_folder_is_refused(tmp_path):
    assert len(experiments.steps(tmp_path)) == 0 and "loss" in experiments.steps(tmp_path).columns
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        experiments.steps(tmp_path / "nowhere")
    log(tmp_path, "all", "x", [{"step": 1}])
    with pytest.raises(StoreError, match="names no seed"):
        experiments.steps(tmp_path)


# --- from a terminal ------------------------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_a_comparison_by_ids_or_folders(tmp_path):
    a, b = two_arms(tmp_path)
    call = lambda *words: CliRunner().invoke(app, ["experiments", *map(str, words)])
    assert call(tmp_path).output.strip() == repr(experiments.find(tmp_path))
    for pair in ((a, b), ("id of a", "id of b"), (a, "id of b")):
        assert call(tmp_path, "--compare", *pair).output.strip() == repr(experiments.compare(a, b))
    for wrong in ((tmp_path / "nowhere",), (tmp_path, "--compare", a, a), (tmp_path, "--compare", a, "who")):
        done = call(*wrong)
        assert done.exit_code == 2 and done.output.startswith("error: ")
