"""Where a set is thin against a map, what a threshold removes of each kind, and a map from a terminal."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.conftest import ROOT
from workbench import clusters, personas
from workbench.__main__ import app
from workbench.clusters import NOISE, Category, Cluster, Map, Settings
from workbench.errors import InputError
from workbench.quality import dedup, gaps
from workbench.records import Instruction


def a_map(sizes, noise=0):
    labels = np.array([number for number, size in enumerate(sizes) for _ in range(size)] + [NOISE] * noise, np.int32)
    n = len(labels)
    vectors = np.eye(n, dtype=np.float32)
    found = tuple(Cluster(number, size, 0, ("a",), f"name {number} <b>") for number, size in enumerate(sizes))
    return Map(
        tuple(map(str, range(n))), ("x",) * n, vectors, np.zeros((n, 2), np.float32), labels, np.maximum(labels, 0),
        np.ones(n, np.float32), found, (Category(0, sum(sizes), tuple(range(len(sizes))), ("a",), "all"),), Settings(),
    )  # fmt: skip


def test_a_cluster_with_surely_less_than_its_share_is_thin_and_noise_counts_for_nothing():
    found = gaps.against(a_map([50, 30, 20], noise=40), [0] * 70 + [1] * 29 + [2] * 1 + [NOISE] * 10)
    by_number = {each.number: each for each in found.clusters}
    assert [each.number for each in found.clusters] == [2, 1, 0] and [each.number for each in found.thin] == [2]
    assert (found.n, found.outside) == (110, 10)
    assert [by_number[n].expected for n in (0, 1, 2)] == pytest.approx([50, 30, 20])
    assert by_number[2].ratio == pytest.approx(0.05) and by_number[0].ratio == pytest.approx(1.4)
    # Wilson's interval of 1 of 100, by hand: (1 + z²/2) / (100 + z²) ± z sqrt(1 * 99 / 100 + z²/4) / (100 + z²)
    z = 2.393980  # of 1 - 0.05 / 3, two-sided: from the tables
    middle, half = (1 + z * z / 2) / (100 + z * z), z * (0.99 + z * z / 4) ** 0.5 / (100 + z * z)
    assert (by_number[2].low, by_number[2].high) == pytest.approx(((middle - half) / 0.2, (middle + half) / 0.2))
    assert found.ratio[:1] + found.ratio[-1:] == [pytest.approx(1.4), None] and len(found.ratio) == 140
    assert "1 of 3 clusters are thin, 0 have no row" in repr(found) and "&lt;b&gt;" in found._repr_html_()
    assert found.table().num_rows == 3


def test_a_cluster_is_thin_as_soon_as_all_of_its_interval_is_below_its_share():
    found = gaps.against(a_map([50, 50]), [0] * 600 + [1] * 400)
    assert [(each.number, each.is_thin) for each in found.clusters] == [(1, True), (0, False)]
    assert 0.8 < found.clusters[0].high < 1 < found.clusters[1].low


def test_few_rows_prove_no_gap():
    found = gaps.against(a_map([10, 10]), [0, 0, 0])
    assert found.clusters[0].rows == 0 and found.thin == []


@pytest.mark.parametrize(
    "labels, words", [([0, 7], "there is no cluster 7"), ([NOISE] * 3, "none of 3 rows is in a cluster"), ([], "none of 0 rows")]
)  # fmt: skip
def test_labels_that_say_nothing_are_refused(labels, words):
    with pytest.raises(InputError, match=words):
        gaps.against(a_map([5, 5]), labels)


def test_a_map_without_clusters_has_no_gaps():
    with pytest.raises(InputError, match="no cluster"):
        gaps.against(a_map([], noise=5), [NOISE])


def test_a_subject_that_a_set_leaves_out_is_found_by_assigning_it_to_the_map():
    subjects = [
        ["oven", "flour", "loaf", "crust"],
        ["tide", "river", "gauge", "flood"],
        ["loan", "tax", "bank", "rent"],
    ]
    rng = np.random.default_rng(0)
    said = lambda words: (
        f"How does the {rng.choice(words)} change the {rng.choice(words)} beside the {rng.choice(words)}?"
    )
    texts = [said(words) for words in subjects for _ in range(40)]
    found = clusters.fit(texts, settings=Settings(min_size=10))
    asked = [said(words) for words in subjects[:2] for _ in range(60)]
    thin = gaps.against(found, found.assign(asked).nearest).thin
    texts_of = lambda each: {text for text, label in zip(texts, found.labels, strict=True) if label == each.number}
    assert thin and all("loan" in " ".join(texts_of(each)) or "tax" in " ".join(texts_of(each)) for each in thin)
    assert not any("tide" in " ".join(texts_of(each)) for each in thin)


# --- what a threshold removes


@pytest.fixture(scope="module")
def families():
    lines = [json.loads(line) for line in (ROOT / "data" / "duplicates" / "written.jsonl").read_text().splitlines()]
    records = [Instruction(line["text"]) for line in lines]
    return records, {record.id: line["kind"] for record, line in zip(records, lines, strict=True)}


def test_the_bundled_families_have_an_original_a_copy_a_rewording_and_two_cousins_each(families):
    records, kinds = families
    assert len(kinds) == len(records) == 160 and list(kinds.values()) == ["original", "copy", "rewording", "cousin", "cousin"] * 32  # fmt: skip


@pytest.mark.parametrize(
    "search", [lambda r: dedup.minhash(r, threshold=0.5, ngram=2), lambda r: dedup.similar(r, threshold=0.5)]
)
def test_what_is_removed_of_a_kind_is_what_fails_when_searched_anew_at_that_threshold(families, search):
    records, kinds = families
    found = search(records)
    removed = dedup.by_kind(found, kinds, thresholds=[0.45, 0.8, 1.0])
    for threshold in (0.45, 0.8, 1.0):
        failed = [v.record_id for v in found.at(threshold) if not v.passed]
        for kind, row in removed.at(threshold).items():
            assert row.removed == sum(kinds[each] == kind for each in failed) and row.n == (
                64 if kind == "cousin" else 32
            )
    exact = {v.record_id for v in dedup.exact(records) if not v.passed}
    assert sum(row.removed for row in removed.at(1.0).values()) == len(exact)


def test_the_best_threshold_removes_most_of_one_kind_and_least_of_another_and_the_highest_of_equals(families):
    records, kinds = families
    removed = dedup.by_kind(dedup.minhash(records, threshold=0.4, ngram=2), kinds)
    best = removed.best(remove="copy", spare="cousin")
    gain = {
        t: removed.at(t)["copy"].share - removed.at(t)["cousin"].share for t in {row.threshold for row in removed.rows}
    }
    assert gain[best] == pytest.approx(max(gain.values())) and best == max(
        t for t in gain if gain[t] > max(gain.values()) - 1e-9
    )
    assert removed.at(best)["copy"].share > 0.6 and removed.at(best)["cousin"].share < 0.05
    low, high = removed.at(best)["cousin"].interval
    assert low <= removed.at(best)["cousin"].share <= high < 0.1
    assert (
        removed.table().num_rows == len(removed.rows)
        and "cousin" in repr(removed)
        and "cousin" in removed._repr_html_()
    )
    with pytest.raises(InputError, match="no kind 'aunt'"):
        removed.best(remove="aunt", spare="cousin")
    with pytest.raises(InputError, match=r"0\.123 was not tried"):
        removed.at(0.123)
    with pytest.raises(InputError, match="no id of the kinds"):
        dedup.by_kind(dedup.minhash(records), {"nobody": "copy"})


# --- a map from a terminal

ASKED = [f"How does bread number {at} rise in a cold kitchen?" for at in range(12)]
ASKED += [f"When is the tide high in the estuary on day {at}?" for at in range(12)]


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"text": [1.0, float("nan"), None]}, "'text' of rows.parquet holds no text but 1.0. Name a column"),
        ({"text": [[{"role": "user", "content": text}] for text in ASKED]}, "'text' of rows.parquet holds no text but [{'role'"),
        ({"words": ASKED}, "rows.parquet has no column 'text'; it has words"),
        ({"text": ASKED[:3]}, "3 rows are too few"),
        ({"text": [None, " "]}, "left out 2 rows without text"),
        (None, "rows.parquet is a folder. Name a Parquet file"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_refused_in_words(columns, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if columns is None:
        (tmp_path / "rows.parquet").mkdir()
    else:
        pq.write_table(pa.table(columns), "rows.parquet")
    result = CliRunner().invoke(app, ["map", "rows.parquet", "--out", "map"])
    assert result.exit_code == 2 and words in result.output and not (tmp_path / "map").exists()


@pytest.mark.parametrize(
    "ids, left_out, kept",
    [
        (None, [], [*map(str, range(24))]),
        ([None] * 24, [], [*map(str, range(24))]),
        (["a", "a", *range(22)], ["left out 1 rows with an id that was there"], ["a", *map(str, range(22))]),
    ],
)
def test_rows_without_an_id_get_their_number_and_of_an_id_twice_the_first_stays(ids, left_out, kept, tmp_path):
    columns = {"text": ASKED} | ({} if ids is None else {"id": pa.array([each if each is None else str(each) for each in ids], pa.string())})  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    result = CliRunner().invoke(app, ["map", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "map")])
    assert result.exit_code == 0 and [line for line in result.output.splitlines() if "left out" in line] == left_out
    found = clusters.load(tmp_path / "map")
    assert list(found.ids) == kept and found.texts[0] == ASKED[0]


@pytest.mark.parametrize(
    "error, code, words", [(KeyboardInterrupt("41 are kept."), 130, "41 are kept."), (KeyboardInterrupt(), 130, "Stopped."), (InputError("no row."), 2, "error: no row.")]
)  # fmt: skip
def test_a_command_that_is_stopped_or_fails_says_so_in_a_line_with_a_code_of_its_own(
    tmp_path, monkeypatch, error, code, words
):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(personas, "grow", fails)
    result = CliRunner().invoke(app, ["personas", str(ROOT / "data" / "documents"), "--out", str(tmp_path)])
    assert result.exit_code == code and result.output.strip() == words
