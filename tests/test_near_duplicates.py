"""Near-duplicates: what brute force finds is found, one of every cluster stays, and no order of rows changes that."""

import csv
import itertools
import json
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_dedup import groups_of, persona, personas
from workbench import embed, plots
from workbench.errors import InputError, RecordError
from workbench.quality import dedup
from workbench.quality.dedup import minhashing, near
from workbench.records import Document, Instruction, Label, Persona, Preference, Provenance, kept

BOTH = [dedup.minhash, dedup.similar]


def connected(ids, pairs):
    """Groups of two or more, by walking: no union-find."""
    beside = {}
    for a, b in pairs:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    found, seen = set(), set()
    for start in beside:
        if start not in seen:
            group, todo = {start}, [start]
            while todo:
                fresh = beside[todo.pop()] - group
                group |= fresh
                todo += fresh
            seen |= group
            found.add(frozenset(ids[at] for at in group))
    return found


def grams(text, size):
    words = re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+", text)  # some rows are Chinese
    return frozenset(zip(*(words[at:] for at in range(min(size, len(words)))), strict=False))


def jaccard(a, b):
    return len(a & b) / len(a | b)


def pairs_of(texts, size, floor):
    """{(i, j): Jaccard} of all pairs of texts from `floor` on: every text's n-grams times every other's."""
    from scipy.sparse import csr_array

    sets, column = [grams(text, size) for text in texts], {}
    cells = [(row, column.setdefault(gram, len(column))) for row, members in enumerate(sets) for gram in members]
    matrix = csr_array((np.ones(len(cells), np.int32), tuple(zip(*cells, strict=True))), (len(sets), len(column)))
    shared, sizes = (matrix @ matrix.T).toarray(), np.array([len(members) for members in sets])
    values = shared / (sizes[:, None] + sizes - shared)
    return {
        (i, j): values[i, j] for i, j in zip(*map(np.ndarray.tolist, np.nonzero(values >= floor)), strict=True) if i < j
    }


def edited(texts, seed, share=0.4):
    """Texts and edited copies of some of them: words dropped, replaced, swapped, and copies of copies."""
    rng = random.Random(seed)
    vocabulary = sorted({word for text in texts for word in text.split()})
    found = list(texts)
    for _ in range(int(share * len(texts))):
        words = rng.choice(found).split()
        for _ in range(rng.randrange(0, 4)):
            at = rng.randrange(len(words))
            words[at : at + 1] = rng.choice([[], [rng.choice(vocabulary)], [words[at], words[at - 1]]])
            words = words or ["nothing"]
        found.append(" ".join(words))
    rng.shuffle(found)
    return found


@pytest.fixture(scope="module")
def hub(shared):
    """The texts of 5,000 real personas."""
    with (shared / "persona_hub" / "tool.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line)["input persona"] for line in file]


@pytest.fixture(scope="module")
def rows(hub):
    """5,000 rows: 3,600 real personas, and edits of them."""
    return [dedup.normalise(text) for text in edited(hub[:3600], 1)][:5000]


@pytest.fixture(scope="module")
def few(bundled):
    """1,200 rows: sentences of the bundled documents, and as many edits of them."""
    lines = {dedup.normalise(line) for document in bundled for line in re.split(r"[.!?]\s|\n", document.text)}
    lines = sorted(line for line in lines if 8 <= len(line.split()) <= 40)[:600]
    return [dedup.normalise(text) for text in edited(lines, 2, share=1.0)]


# --- real data with a known answer


@pytest.mark.parametrize("ngram", [1, 2, 5])
@pytest.mark.parametrize("threshold", [0.6, 0.7])
def test_two_hundred_articles_in_five_templates_are_two_hundred_clusters_of_five(shared, ngram, threshold):
    files = sorted((shared / "t0_template_neardups").glob("multi_news_*.jsonl"))
    names = [file.stem for file in files if "reverse_task" not in file.stem]
    assert len(names) == 5
    records, article = [], {}
    for name in names:
        lines = (shared / "t0_template_neardups" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        for at, line in enumerate(lines):
            records.append(Document(json.loads(line)["prompt"], path=name, provenance=Provenance(f"{name}-{at}")))
            article[records[-1].id] = at
    found = dedup.minhash(records, threshold=threshold, ngram=ngram)
    assert found.clusters["size"].to_pylist() == [5] * 200
    assert all(len({article[member] for member in group}) == 1 for group in groups_of(found))
    assert len(kept(records, found)) == 200


def test_real_personas_have_no_pair_that_shares_six_words_of_ten(hub):
    found = dedup.minhash(personas(hub), threshold=0.6, ngram=1)
    assert len(found) == 5000 and not found.failed and found.clusters.num_rows == 0
    assert found.at(0.5).failed and found.borderline().num_rows >= 1  # and some that share five


def test_the_default_embedder_agrees_with_people_as_far_as_its_thresholds_say(shared):
    from scipy.stats import spearmanr

    with (shared / "stsb" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        left, right, scores = zip(*csv.reader(file), strict=True)
    cosine = (embed.texts(left) * embed.texts(right)).sum(axis=1)
    people = np.array(scores, float)
    assert spearmanr(cosine, people)[0] == pytest.approx(0.68, abs=0.005)
    assert (people[cosine >= 0.9] >= 4).mean() == pytest.approx(0.91, abs=0.005)
    assert (people[cosine >= 0.8] >= 4).mean() == pytest.approx(0.69, abs=0.005)
    assert all(figure in dedup.similar.__doc__ for figure in ("0.68", "91%", "69%"))


# --- against brute force


@pytest.mark.parametrize("ngram, threshold", [(1, 0.7), (2, 0.6), (3, 0.5)])
def test_minhash_on_five_thousand_rows_finds_what_comparing_every_pair_finds(rows, ngram, threshold):
    records = personas(rows)
    ids = [record.id for record in records]
    pairs = pairs_of(rows, ngram, threshold - 0.1)
    found = dedup.minhash(records, threshold=threshold, ngram=ngram)
    for at in (threshold, threshold + 0.05, 0.8, 0.9, 0.99):
        wanted = connected(
            ids, [pair for pair, value in pairs.items() if value >= at or rows[pair[0]] == rows[pair[1]]]
        )
        assert groups_of(found.at(at)) == wanted and len(wanted) > 100
    assert connected(ids, [pair for pair in pairs if rows[pair[0]] == rows[pair[1]]]) == groups_of(found.at(1.0))


def test_similar_on_five_thousand_rows_finds_what_comparing_every_pair_finds(rows):
    records = personas(rows)
    ids = [record.id for record in records]
    vectors = embed.texts(rows).astype(np.float64)
    cosines = np.triu(vectors @ vectors.T, 1)
    found = dedup.similar(records, threshold=0.8)
    for at in (0.7, 0.8, 0.85, 0.95):
        assert not (abs(cosines - at) < 1e-6).any()  # none so near that rounding decides
        wanted = connected(ids, zip(*map(np.ndarray.tolist, np.nonzero(cosines >= at)), strict=True))
        assert groups_of(found.at(at)) == wanted and len(wanted) > 100


def test_scores_and_borderline_pairs_are_true_similarities(few):
    records = personas(few)
    text = {record.id: record.text for record in records}
    found = dedup.minhash(records, threshold=0.6)
    for row in found.borderline(60).to_pylist():
        true = jaccard(grams(row["left_text"], 2), grams(row["right_text"], 2))
        assert row["similarity"] == pytest.approx(true, abs=1e-12) and row["is_joined"] == (true >= 0.6)
    assert found.borderline(60).num_rows == 60 and sum(found.borderline(60)["is_joined"].to_pylist()) == 30
    direct = [verdict for verdict in found.failed if " by way of " not in verdict.detail]
    for verdict in direct:
        assert verdict.score == jaccard(grams(text[verdict.record_id], 2), grams(text[verdict.survivor_id], 2))
    for verdict in found.failed[::10]:
        joined = [group for group in groups_of(found.at(verdict.score)) if verdict.record_id in group]
        assert verdict.survivor_id in joined[0]
        if verdict.score < 1 and found.floor < verdict.score + 1e-9 < 1:
            apart = [group for group in groups_of(found.at(verdict.score + 1e-9)) if verdict.record_id in group]
            assert not apart or verdict.survivor_id not in apart[0]


def test_minima_agree_as_often_as_sets_are_alike():
    """Against the definition: the share of equal minima estimates the Jaccard similarity without bias."""
    rng = random.Random(0)
    for wanted in (0.2, 0.5, 0.8):
        estimates, trues = [], []
        for at in range(40):
            shared = [f"s{at}x{i}" for i in range(round(60 * wanted))]
            own = [[f"{side}{at}x{i}" for i in range((60 - len(shared)) // 2)] for side in "ab"]
            pair = minhashing._Shingled(1, 1, 256)
            for side in own:
                words = shared + side
                rng.shuffle(words)
                pair.add((" ".join(words),))
            pair._read()
            keys = np.array(pair.keys)  # (256, 2): bands of one row, of which a key is a minimum
            estimates.append((keys[:, 0] == keys[:, 1]).mean())
            trues.append(len(shared) / (len(shared) + sum(map(len, own))))
        error = math.sqrt(np.mean(trues) * (1 - np.mean(trues)) / (256 * 40))
        assert abs(np.mean(estimates) - np.mean(trues)) < 4 * error
        assert np.std(np.array(estimates) - trues) < 1.4 * math.sqrt(np.mean(trues) * (1 - np.mean(trues)) / 256)


@pytest.mark.parametrize("threshold, permutations", [(0.8, 128), (0.5, 128), (0.9, 64), (0.8, 256), (0.2, 128)])
def test_bands_find_nearly_all_pairs_at_the_floor_and_never_more_bands_than_needed(threshold, permutations):
    found = dedup.minhash(personas(["one two"]), threshold=threshold, permutations=permutations)
    assert found.floor == round(threshold - 0.1, 9)
    assert found.recall(found.floor) >= 0.98 and found.recall(threshold) >= found.recall(found.floor)
    rows = minhashing._rows_per_band(found.floor, permutations)
    bands = permutations // (rows + 1)
    assert 1 - (1 - found.floor ** (rows + 1)) ** bands < 0.98
    if (threshold, permutations) == (0.8, 128):
        assert f"{found.recall(0.8):.3%}" == "99.995%" and "99.995%" in dedup.minhash.__doc__


def test_what_recall_promises_is_kept():
    """400 pairs exactly at the floor and 400 at the threshold: as many are found as said, within chance."""
    for similarity, words in ((0.7, (7, 3)), (0.8, (8, 2))):
        texts = []
        for at in range(400):
            shared = [f"s{at}x{i}" for i in range(10 * words[0])]
            texts += [" ".join(shared + [f"l{at}x{i}" for i in range(5 * words[1])])]
            texts += [" ".join(shared + [f"r{at}x{i}" for i in range(5 * words[1])])]
        found = dedup.minhash(personas(texts), threshold=0.8, ngram=1)
        rate = found.at(similarity).clusters.num_rows / 400
        expected = found.recall(similarity)
        assert abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / 400) + 1 / 400


# --- order of rows, and who stays

FEW = st.lists(
    st.sampled_from([
        "a baker in lyon who bakes bread", "A baker in Lyon, who bakes bread!", "a baker in lyon who bakes buns",
        "a baker in nice who bakes buns", "bread bakes who lyon in baker a", "a pilot", "A pilot.", "?", "", "pilot a",
    ]),
    max_size=14,
)  # fmt: skip


@pytest.mark.parametrize("search", BOTH)
@settings(max_examples=60, deadline=None)
@given(texts=FEW)
def test_at_one_only_the_same_texts_are_joined_as_exact_does(search, texts):
    records = personas(texts)
    one, other = search(records, threshold=1.0), dedup.exact(records)
    said = [(v.record_id, v.passed, v.score, v.reason, v.detail, v.survivor_id) for v in one]
    assert said == [(v.record_id, v.passed, v.score, v.reason, v.detail, v.survivor_id) for v in other]
    assert one.clusters == other.clusters and one.repeats == other.repeats
    assert kept(records, one) == kept(records, other)
    if texts:
        assert search(records, threshold=0.5).at(1.0).items == one.items


def test_the_same_words_in_another_order_are_not_the_same_text():
    records = personas(["man bites dog", "dog bites man", "dog dog bites man"])
    assert not dedup.minhash(records, threshold=1.0, ngram=1).failed
    assert len(dedup.minhash(records, threshold=0.99, ngram=1).failed) == 2
    assert not dedup.minhash(records, threshold=0.99, ngram=2).failed


@pytest.mark.parametrize("search", BOTH)
def test_the_order_of_the_rows_changes_no_cluster_no_pair_and_no_best(search, few):
    records = personas(few)
    points = {record.id: random.Random(record.id).random() for record in records}
    best = lambda record: points[record.id]
    one = search(records, threshold=0.7, best=best)
    assert len(one.failed) > 100
    for seed in range(3):
        shuffled = random.Random(seed).sample(records, len(records))
        other = search(shuffled, threshold=0.7, best=best)
        assert groups_of(other) == groups_of(one)
        said = ["similarity", "is_joined", "left_text", "right_text"]  # of copies, the first in the order is named
        assert other.borderline(50).select(said) == one.borderline(50).select(said)
        assert {v.record_id: v for v in other} == {v.record_id: v for v in one}
        assert other.sweep() == one.sweep()
        first = search(shuffled, threshold=0.7)
        assert groups_of(first) == groups_of(one)
        place = {record.id: at for at, record in enumerate(shuffled)}
        assert all(min(group, key=place.get) in first.clusters["survivor"].to_pylist() for group in groups_of(first))


@pytest.mark.parametrize("search", BOTH)
@settings(max_examples=40, deadline=None)
@given(texts=FEW, threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_exactly_one_of_every_cluster_survives(search, texts, threshold):
    records = personas(texts)
    found = search(records, threshold=threshold, best=lambda record: len(record.text))
    stays = kept(records, found)
    assert [v.record_id for v in found] == [record.id for record in records]
    text = {record.id: record.text for record in records}
    for cluster in found.clusters.to_pylist():
        members = cluster["members"]
        assert {record.id for record in stays} & set(members) == {cluster["survivor"]} and members[0] == cluster[
            "survivor"
        ]
        assert len(text[cluster["survivor"]]) == max(len(text[member]) for member in members)
    assert {v.survivor_id for v in found.failed} <= {record.id for record in stays}
    assert len(stays) + len(found.failed) == len(records)
    assert not search(stays, threshold=threshold).failed  # nothing is left to remove


def test_the_best_stays_and_of_equals_the_first():
    texts = ["a cook of soups in a small town", "A cook of soups in a small town!", "a cook of soups in a small city"]
    records = personas(texts)
    for best, survivor in (
        (None, 0),
        (lambda r: len(r.text), 1),
        (lambda r: 0, 0),
        (lambda r: "city" in r.text or -1.5, 2),
    ):
        if survivor == 2:
            best = lambda record: 1.0 if "city" in record.text else -math.inf
        found = dedup.minhash(records, threshold=0.7, best=best)
        assert kept(records, found) == [records[survivor]]
        assert {v.survivor_id for v in found.failed} == {records[survivor].id}


def test_a_chain_is_one_cluster_and_the_verdict_says_so():
    words = [f"w{at}" for at in range(30)]
    records = personas([" ".join(words[at : at + 20]) for at in (0, 2, 4)])
    found = dedup.minhash(records, threshold=0.8, ngram=1)  # 18 of 22 words, and 16 of 24 from end to end
    assert (
        found.clusters["size"].to_pylist() == [3]
        and jaccard(grams(records[0].text, 1), grams(records[2].text, 1)) < 0.8
    )
    assert [v.score for v in found.failed] == [18 / 22, 18 / 22]
    assert (
        f"0.818 like {records[0].id}: " in found[1].detail and f"{records[0].id} by way of 1 other: " in found[2].detail
    )


def test_verdicts_carry_cluster_survivor_and_reason():
    records = personas(["a b c d e f g h", "A b c d e f g h!", "a b c d e f g x", "unlike all the others here"])
    found = dedup.minhash(records, threshold=0.7, ngram=1)
    table = found.table().to_pylist()
    assert [row["cluster"] for row in table] == [0, 0, 0, None]
    assert [row["reason"] for row in table] == ["", "duplicate", "near_duplicate", ""]
    assert [row["survivor_id"] for row in table] == ["", records[0].id, records[0].id, ""]
    assert {row["check"] for row in table} == {"near_duplicate"}
    assert repr(found) == "dedup.minhash at 0.7: 4 records, 2 failed (1 duplicate, 1 near_duplicate)"
    assert dedup.similar(records, threshold=0.6).failed.by_reason() == {"duplicate": 1, "similar": 1}


# --- another threshold


@pytest.mark.parametrize("search", BOTH)
def test_at_gives_what_a_search_at_that_threshold_gives(search, few):
    records = personas(few[:600])
    found = search(records, threshold=0.7)
    for threshold in (0.7, 0.75, 0.8, 0.93, 1.0):
        other, same = search(records, threshold=threshold), found.at(threshold)
        assert other.items == same.items and other.clusters == same.clusters and other.name == same.name
        assert same.at(0.6).items == found.at(0.6).items


def test_at_compares_nothing_again(few, monkeypatch):
    found = dedup.minhash(personas(few[:300]), threshold=0.7)
    monkeypatch.setattr(minhashing, "_Shingled", None)
    monkeypatch.setattr(embed, "texts", None)
    assert len(found.at(0.65).failed) >= len(found.failed) >= len(found.at(0.9).failed) > 0


def test_the_sweep_says_what_at_removes_at_each_threshold(few):
    found = dedup.minhash(personas(few), threshold=0.6)
    sweep = found.sweep().to_pylist()
    assert [row["threshold"] for row in sweep] == [round(0.5 + at / 100, 2) for at in range(51)]
    for row in sweep[::5]:
        there = found.at(row["threshold"])
        sizes = there.clusters["size"].to_pylist()
        assert row["removed"] == len(there.failed) and row["clusters"] == len(sizes)
        assert row["largest"] == max(sizes, default=0)


def test_the_plot_of_the_sweep_draws_it_and_its_title_is_computed(few):
    records = personas(few[:600])
    found = dedup.minhash(records, threshold=0.7)
    figure, sweep = plots.dedup_sweep(found), found.sweep().to_pydict()
    drawn = [trace for trace in figure.data if trace.mode == "lines" and len(trace.x) > 2]
    assert list(drawn[0].x) == sweep["threshold"] and list(drawn[0].y) == sweep["removed"]
    title = figure.layout.title.text.replace("<br>", " ")
    here, copies = len(found.failed), len(found.at(1.0).failed)
    assert (
        title.startswith(f"dedup.minhash at 0.7 removes {here} of 600 records") and f"{copies} of them copies" in title
    )
    assert title.endswith(f"at 0.6 it would remove {len(found.at(0.6).failed)}")
    assert plots.dedup_sweep(found.at(0.9)).layout.title.text != figure.layout.title.text
    offline = [Persona("a cook", provenance=Provenance("t", model="offline-rules@1"))]
    notes = [note.text for note in plots.dedup_sweep(dedup.minhash(offline)).layout.annotations]
    assert notes == [plots.OFFLINE_NOTE]
    with pytest.raises(InputError, match="at least one record"):
        plots.dedup_sweep(dedup.minhash([]))


# --- what is compared


def test_fields_are_compared_apart():
    assert not dedup.minhash(
        [Preference("hi you", "yes of course", "no way"), Preference("hi you", "no way", "yes of course")]
    ).failed
    one, other = Instruction("sum up", "a text"), Instruction("sum up a", "text")
    assert not dedup.minhash([one, other], threshold=0.9, ngram=1).failed
    labels = [Label("my card is lost", "card"), Label("my cash is lost", "card")]
    assert not dedup.minhash(labels).failed and dedup.minhash(labels, fields="label").failed
    with pytest.raises(InputError, match=r"no field 'lable'.*text, label"):
        dedup.minhash(labels, fields=("lable",))


def test_scripts_without_blanks_are_compared_by_character():
    texts = ["我今天早上在里昂的面包店买了三个面包", "我今天早上在里昂的面包店买了两个面包"]
    assert dedup.minhash(personas(texts), threshold=0.7).failed
    assert not dedup.minhash(personas([texts[0], "他明天晚上去巴黎看一场很长的电影"]), threshold=0.5).failed


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("nothing", [None, math.nan, "", "  \n"])
def test_records_without_a_text_are_duplicates_of_nothing(search, nothing):
    found = search([persona(nothing, "a"), persona(nothing, "b"), persona("A baker")], threshold=0.5)
    assert not found.failed and len(found) == 3 and found.borderline().num_rows == 0
    assert not search([persona(nothing)]).failed


@pytest.mark.parametrize("ngram", [2, 5])
def test_a_text_shorter_than_the_ngram_is_one_ngram(ngram):
    found = dedup.minhash(personas(["baker", "Baker!", "pilot", "baker pilot"]), ngram=ngram, threshold=0.2)
    assert groups_of(found) == {frozenset(found[at].record_id for at in (0, 1))}
    longer = ["one two three four", "one two three five"]
    assert len(groups_of(dedup.minhash(personas(longer), ngram=9, threshold=0.2))) == 0


@pytest.mark.parametrize("search", BOTH)
def test_the_same_id_twice_is_a_repeat_and_does_not_take_itself_along(search):
    a, b = persona("a baker of bread in lyon"), persona("A baker of bread in Lyon!")
    found = search([a, a, b, a, b], threshold=0.8)
    assert found.repeats == 3 and [v.passed for v in found] == [True, False] and found.at(0.75).repeats == 3
    assert kept([a, a, b, a, b], found) == [a] and "3 further copies of the same id" in repr(found)


@pytest.mark.parametrize("search", BOTH)
def test_no_records_give_no_verdicts_and_two_kinds_are_refused(search):
    found = search([])
    assert len(found) == 0 and found.clusters.num_rows == 0 and found.borderline().num_rows == 0
    assert found.sweep()["removed"].to_pylist()[0] == 0 and len(found.at(1.0)) == 0
    with pytest.raises(RecordError, match="Label, Persona"):
        search([persona("A baker"), Label("A baker", "x")])


# --- what is refused


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("threshold", [0, 0.1, -0.5, 1.01, 80, math.nan, "0.8", None, True])
def test_what_is_no_threshold_is_refused_with_what_came(search, threshold):
    with pytest.raises(InputError, match=r"from 0\.2 to 1 .*got") as caught:
        search(personas(["a", "b"]), threshold=threshold)
    assert repr(threshold) in str(caught.value)
    assert ("give 0.8" in str(caught.value)) == (threshold == 80)


@pytest.mark.parametrize("threshold", [0.69, 1.1, math.nan, "1"])
def test_at_below_the_floor_says_what_to_run(threshold):
    with pytest.raises(InputError, match=r"from 0\.7 .*to 1, got .*dedup\.minhash\(records, threshold="):
        dedup.minhash(personas(["a", "b"])).at(threshold)


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("score", [math.nan, None, "high", True])
def test_a_score_that_cannot_be_compared_names_its_record(search, score):
    records = personas(["a baker", "a pilot"])
    with pytest.raises(InputError, match=f"best gives .*{records[1].id}"):
        search(records, best=lambda record: score if record is records[1] else 1.0)
    with pytest.raises(InputError, match="best is a function"):
        search(records, best={records[0].id: 1.0})


@pytest.mark.parametrize(
    "given", [{"ngram": 0}, {"ngram": 2.0}, {"ngram": True}, {"permutations": 0}, {"permutations": "128"}]
)
def test_sizes_that_are_no_whole_numbers_are_refused(given):
    with pytest.raises(InputError, match=f"{next(iter(given))} must be a whole number"):
        dedup.minhash(personas(["a", "b"]), **given)


def test_too_few_permutations_say_how_many_are_needed():
    with pytest.raises(InputError, match=r"2 permutations cannot find .* 0\.2.* at least 18"):
        dedup.minhash(personas(["a", "b"]), threshold=0.3, permutations=2)
    assert dedup.minhash(personas(["a", "b"]), threshold=0.3, permutations=18).recall(0.2) >= 0.98


@pytest.mark.parametrize("count", [0, 1, 2.5, True, "all"])
def test_a_count_of_borderline_pairs_must_allow_some(count):
    with pytest.raises(InputError, match="count must be a whole number from 2"):
        dedup.minhash(personas(["a", "b"])).borderline(count)


@pytest.mark.parametrize(("count", "threshold"), [(2, 0.8), (7, 0.8), (7, 0.99), (7, 0.71), (1000, 0.8)])
def test_as_many_borderline_pairs_come_as_asked_for_where_there_are_as_many(few, count, threshold):
    found = dedup.minhash(personas(few), threshold=0.8).at(threshold)
    pairs = found.borderline(count).to_pydict()
    similarities = found.search.links.similarity.tolist()
    assert len(pairs["left"]) == min(count, len(similarities))
    assert pairs["is_joined"] == [similarity >= threshold for similarity in pairs["similarity"]]
    joined = sum(similarity >= threshold for similarity in similarities)
    half = max(0, min(joined - count // 2, len(similarities) - count))
    assert pairs["similarity"] == similarities[half : half + count]  # neighbours in the order of similarity


def test_more_texts_and_pairs_than_fit_a_chunk_make_no_difference(monkeypatch):
    texts = [f"{' '.join(f'w{at}x{i}' for i in range(20))} {side}" for at in range(60) for side in "ab"]
    texts += [f"the same start of every row number {at} of them all" for at in range(90)]
    records = personas(texts)
    wanted = dedup.minhash(records, threshold=0.6)
    assert wanted.clusters.num_rows == 61
    monkeypatch.setattr(minhashing, "_CHUNK", 7)
    monkeypatch.setattr(minhashing, "_CANDIDATES", 11)
    monkeypatch.setattr(minhashing, "_CHARACTERS", 300)
    monkeypatch.setattr(minhashing, "_GRAMS", 100)
    monkeypatch.setattr("workbench.quality.dedup.near._PAIRS", 1)
    assert dedup.minhash(records, threshold=0.6).items == wanted.items
    monkeypatch.setattr("workbench.quality.dedup.near._PENDING", 13)
    monkeypatch.setattr("workbench.quality.dedup.similarity._BLOCK", 17)
    assert dedup.minhash(records, threshold=0.6).items == wanted.items
    ids = [record.id for record in records]
    vectors = embed.texts(texts)
    wanted = connected(
        ids, [p for p in itertools.combinations(range(len(texts)), 2) if vectors[p[0]] @ vectors[p[1]] >= 0.7]
    )
    assert groups_of(dedup.similar(records, threshold=0.7)) == wanted


def test_long_texts_are_read_and_compared_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(minhashing, "_CHARACTERS", 3_000)
    at_once, grams_of = [], minhashing._grams
    monkeypatch.setattr(minhashing, "_grams", lambda texts, size: at_once.append(len(texts)) or grams_of(texts, size))
    texts = [" ".join(f"w{at}x{i}" for i in range(150)) for at in range(20)]  # of about 1,000 characters
    assert len(dedup.minhash(personas(texts))) == 20 and sum(at_once) == 20 and max(at_once) <= 4


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60))
def test_pairs_are_compared_in_pieces_of_so_many_ngrams_or_one_pair(sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhashing, "_GRAMS", 30)
        patch.setattr(minhashing, "_CHUNK", 8)
        pieces = [sizes[some] for some in minhashing._pieces(np.array(sizes, np.int64))]
    assert list(itertools.chain.from_iterable(pieces)) == sizes
    assert all(len(piece) == 1 or (len(piece) <= 8 and sum(piece) <= 30) for piece in pieces)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.sampled_from([0.5, 0.6, 0.7, 0.8])), max_size=60))
def test_the_forest_joins_at_every_threshold_what_all_pairs_join(pairs):
    pairs, found = [pair for pair in pairs if pair[0] != pair[1]], near.Forest(np.arange(12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "_PAIRS", 1)  # pairs within a group are left out as soon as can be
        for part in (pairs[:40], pairs[40:]):
            found.add(*(np.array([pair[at] for pair in part], [np.int64, np.int64, float][at]) for at in range(3)))
        links = list(found.links())
    assert len(links) < 12
    for threshold in (0.5, 0.6, 0.7, 0.8):
        of = lambda rows, least=threshold: connected(range(12), [(a, b) for a, b, value in rows if value >= least])
        assert of(links) == of(pairs)


@pytest.mark.parametrize("search", [dedup.exact, *BOTH])
def test_texts_that_are_no_records_are_refused_with_what_to_make_of_them(search):
    with pytest.raises(InputError, match=r"dedup compares records, got str\. Make records of texts: Document"):
        search(["a baker", "a pilot"])
