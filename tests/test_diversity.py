"""Diversity: each measure against its definition or a published value, intervals that hold, and personas told from vocabulary."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import clusters, embed
from workbench.clusters import NOISE
from workbench.errors import InputError
from workbench.quality import diversity
from workbench.quality.checks import grams, words


def unit(rows, size, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


LABELS = st.lists(st.integers(-1, 5), min_size=2, max_size=30)


# --- measures


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_the_vendi_score_is_n_for_rows_at_right_angles_and_1_for_rows_that_are_alike(n):
    assert diversity.vendi(np.eye(n, 64)) == pytest.approx(n)
    assert diversity.vendi(np.repeat(unit(1, 64), n, axis=0)) == pytest.approx(1)
    both = np.repeat(np.eye(n, 64), 3, axis=0)
    assert diversity.vendi(both) == pytest.approx(n)


@pytest.mark.parametrize(("rows", "size"), [(5, 30), (30, 5), (20, 20)])
def test_the_vendi_score_is_the_entropy_of_the_cosines_eigenvalues(rows, size):
    vectors = unit(rows, size)
    values = np.linalg.eigvalsh(vectors @ vectors.T / rows)
    values = values[values > 1e-12]
    assert diversity.vendi(vectors) == pytest.approx(math.exp(-(values * np.log(values)).sum()))


@given(LABELS)
def test_effective_clusters_are_the_exponential_of_the_entropy(labels):
    own = [label for label in labels if label != NOISE]
    shares = [own.count(label) / len(own) for label in set(own)]
    expected = math.exp(-sum(share * math.log(share) for share in shares)) if own else 0
    assert diversity.effective(labels) == pytest.approx(expected)
    assert diversity.effective(labels) <= diversity.covered(labels) + 1e-9


def test_effective_clusters_of_equal_ones_are_their_number():
    assert diversity.effective([0, 1, 2, 3] * 5) == pytest.approx(4) and diversity.effective([7] * 5) == pytest.approx(
        1
    )
    assert diversity.effective([NOISE] * 3) == 0 == diversity.covered([NOISE] * 3)
    assert diversity.effective([0, 0, 0, 1]) == pytest.approx(4 / 3**0.75)


def test_self_similarity_is_the_mean_cosine_of_all_pairs():
    vectors = unit(12, 6)
    pairs = [float(a @ b) for a, b in combinations(vectors, 2)]
    assert diversity.self_similarity(vectors) == pytest.approx(np.mean(pairs))
    with pytest.raises(InputError, match="one row has no other"):
        diversity.self_similarity(vectors[:1])


@pytest.mark.parametrize(
    "wrong", [np.full((2, 3), np.nan), np.zeros((2, 3)), 2 * np.eye(3), np.empty((0, 3)), np.ones(3)]
)
def test_vectors_that_are_not_of_length_1_are_refused(wrong):
    for of in (diversity.vendi, diversity.self_similarity):
        with pytest.raises(InputError, match=r"length|vectors must be"):
            of(wrong)


def test_distinct_n_is_the_share_of_runs_of_words_that_are_new():
    texts = ["The cat sat.", "the cat sat on the mat", "A dog"]
    assert diversity.distinct(texts) == 7 / 11
    assert diversity.distinct(texts, 2) == 6 / 8
    assert diversity.distinct(["a b c"], 3) == 1.0
    with pytest.raises(InputError, match="there are 0 runs of words"):
        diversity.distinct(["a b"], 3)
    with pytest.raises(InputError, match="there are 11 runs of words, so distinct-n at 12"):
        diversity.distinct(texts, at=12)


def test_distinct_n_at_fewer_runs_is_the_mean_over_all_ways_of_drawing_them():
    runs = [run for text in ("a b a", "b c", "a d") for run in grams(words(text), 1)]
    for at in range(1, 8):
        ways = [len(set(drawn)) / at for drawn in combinations(runs, at)]
        assert diversity.distinct(["a b a", "b c", "a d"], at=at) == pytest.approx(np.mean(ways))


def test_covered_clusters_at_fewer_rows_are_the_mean_over_all_ways_of_drawing_them():
    labels = [0, 0, 0, 1, 1, 2, NOISE, NOISE]
    curve = diversity.coverage(labels, sizes=range(1, 9))
    for size, found in zip(curve.sizes, curve.clusters, strict=True):
        ways = [len(set(drawn) - {NOISE}) for drawn in combinations(labels, size)]
        assert found.value == pytest.approx(np.mean(ways)) and found.low <= found.value <= found.high
    assert curve.clusters[-1].value == diversity.covered(labels) == 3
    assert curve.table().column("rows").to_pylist() == [*range(1, 9)] and "clusters covered" in curve._repr_html_()
    assert diversity.coverage([0] * 500).sizes[0] == 1 and diversity.coverage([0] * 500).sizes[-1] == 500
    with pytest.raises(InputError, match=r"sizes run from 1 to 8, the number of rows, got 1 to 9"):
        diversity.coverage(labels, sizes=[1, 9])
    with pytest.raises(InputError, match="a curve needs 2 rows or more, got 1"):
        diversity.coverage([0])


@settings(max_examples=30)
@given(LABELS)
def test_the_influence_of_a_row_on_covered_clusters_is_what_leaving_it_out_changes(labels):
    size = max(1, len(labels) // 2)
    part = diversity._covered_at(labels, size)
    without = [diversity._covered_at(labels[:at] + labels[at + 1 :], size).value for at in range(len(labels))]
    jackknife = (len(labels) - 1) * (np.mean(without) - np.array(without))
    assert np.allclose(part.influence, jackknife) and part.rows.mean() == pytest.approx(part.value)


@pytest.mark.parametrize("of", ["_vendi", "_effective", "_self_similarity"])
def test_the_influence_of_a_row_is_the_derivative_towards_more_of_it(of):
    """A row that is there 2,001 times for the others' 2,000 moves the measure by its influence over so many."""
    vectors, labels = unit(6, 4), np.array([0, 0, 0, 1, 2, NOISE])
    given = labels if of == "_effective" else vectors
    part, times = getattr(diversity, of)(given), 2000
    many = np.repeat(given, times, axis=0)
    before = getattr(diversity, of)(many).value
    for at in range(6):
        after = getattr(diversity, of)(np.concatenate([many, given[at : at + 1]])).value
        moved = (after - before) * len(many)
        # Pairs of a row with itself count in the repeated set and not in the mean over different rows.
        expected = (
            2 * (float((vectors @ vectors[at]).mean()) - before) if of == "_self_similarity" else part.influence[at]
        )
        assert moved == pytest.approx(expected, abs=0.02)


def test_intervals_hold_the_mean_of_other_sets_of_the_same_size():
    rng = np.random.default_rng(1)
    shares = 1 / np.arange(1, 41)
    centres = rng.standard_normal((40, 16))
    labels = [rng.choice(40, 200, p=shares / shares.sum()) for _ in range(80)]
    noisy = [centres[each] + rng.standard_normal((200, 16)) for each in labels]
    vectors = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in noisy]
    runs = [np.split(each, range(5, 200, 5)) for each in labels]
    for parts in (
        [diversity._covered_at(each, 200) for each in labels],
        [diversity._covered_at(each, 100) for each in labels],
        [diversity._effective(each) for each in labels],
        [diversity._vendi(each) for each in vectors],
        [diversity._self_similarity(each) for each in vectors],
        [diversity._distinct([row.tolist() for row in each], 150) for each in runs],
    ):
        mean = np.mean([part.value for part in parts])
        found = [part.interval(None, 0.95, 0) for part in parts]
        assert np.mean([each.low <= mean <= each.high for each in found]) >= 0.8


# --- personas


def test_a_personas_words_are_taken_out_in_any_form_and_with_the_opening_that_presents_it():
    persona = "A night-shift baker in a market town who distrusts timers."
    bare = diversity.without_persona
    assert bare("As a baker, how long must dough rest?", persona) == "how long must dough rest?"
    assert bare("How long must dough rest in a baker's market?", persona) == "How long must dough rest in a?"
    assert bare("Do timers help bakers at night?", persona) == "Do help at?"
    assert bare("As a rule, how long must dough rest?", persona) == "As a rule, how long must dough rest?"
    assert bare("How long must dough rest?", persona) == "How long must dough rest?"
    assert bare("Baker?", persona) == "" == bare("", persona)
    assert bare("How long?", "") == "How long?"


@pytest.mark.parametrize(
    "text, left",
    [
        (
            "As a baker I wonder how hot an oven should be, and why?",
            "As a I wonder how hot an oven should be, and why?",
        ),
        ("I am a baker and my oven burns the crust, what helps?", "I am a and my oven burns the crust, what helps?"),
        ("For the bridge in the town, what load is safe?", "For the bridge in the, what load is safe?"),
        ("As a baker of eighty who loves rye, how long must dough rest?", "how long must dough rest?"),
        ("I'm a baker. How long must dough rest?", "How long must dough rest?"),
        ("Does a bakery need bakers?", "Does a bakery need?"),
    ],
)
def test_what_is_asked_stays_when_the_personas_words_go(text, left):
    assert diversity.without_persona(text, "A night-shift baker in a market town who distrusts timers.") == left


_SUBJECTS = """
oven crust flour gauge flood tide
loan invoice tax queue worker lease seed soil frost valve pump gasket
"""
NOUNS = _SUBJECTS.split()
ROLES = "baker hydrologist bookkeeper engineer gardener plumber teacher nurse pilot lawyer".split()  # noqa: SIM905


def asked(count, *, topics, roles=0, seed=0):
    """Questions on some of the nouns, with the role of whoever asks named in them or not; and the personas."""
    rng = np.random.default_rng(seed)
    personas = [f"A {ROLES[at % max(1, roles)]} in a quiet valley." for at in range(count)]
    found = []
    for at in range(count):
        one, two = rng.choice(NOUNS[:topics], 2, replace=False)
        opening = f"As a {ROLES[at % roles]} in a quiet valley, what" if roles else "What"
        found.append(f"{opening} does the {one} do to the {two} number {at}?")
    return found, personas


@pytest.fixture(scope="module")
def ground():
    texts, _ = asked(200, topics=len(NOUNS), seed=5)
    return clusters.fit(texts)


def test_personas_that_ask_about_more_buy_diversity(ground):
    with_, personas = asked(80, topics=18, roles=10)
    without, _ = asked(80, topics=4, seed=1)
    found = diversity.compare(with_, without, personas=personas, found=ground)
    assert found.answer.startswith("Personas buy diversity") and found.n == 80 and found.changed == (0.0, 1.0)
    assert found.find(diversity.VENDI, is_stripped=True).gain == 1
    assert (
        found.find(diversity.EFFECTIVE, is_stripped=True).gain == 1 == found.find("distinct-1", is_stripped=True).gain
    )


def test_personas_that_only_add_their_words_buy_vocabulary(ground):
    without, _ = asked(80, topics=4, seed=1)
    with_ = [f"{ROLES[at % 10].title()}s {'abcdefghij'[at % 10] * 4} {text}" for at, text in enumerate(without)]
    personas = [f"{ROLES[at % 10]} {'abcdefghij'[at % 10] * 4}" for at in range(80)]
    found = diversity.compare(with_, without, personas=personas, found=ground)
    assert found.answer.startswith("Personas buy vocabulary, and more is not shown")
    assert found.find(diversity.SIMILAR).gain == 1
    assert found.find(diversity.SIMILAR, is_stripped=True).difference.value == pytest.approx(0, abs=1e-6)
    without_personas = diversity.compare(with_, without, found=ground)
    assert "give personas=" in without_personas.answer


def test_two_equal_sets_show_no_difference_and_openings_that_are_all_the_same_make_a_set_more_alike(ground):
    texts, personas = asked(60, topics=10)
    assert diversity.compare(texts, texts, found=ground).answer.startswith("It is not shown")
    alike, personas = asked(60, topics=10, roles=1)
    found = diversity.compare(alike, texts, personas=personas, found=ground)
    assert found.answer.startswith("Personas make the set more alike") and found.find(diversity.SIMILAR).gain == -1
    assert found.find(diversity.SIMILAR, is_stripped=True).gain == 0


def test_sets_are_compared_at_equal_n_and_at_equal_numbers_of_runs(ground):
    with_, personas = asked(60, topics=10, roles=5)
    without, _ = asked(90, topics=10, seed=2)
    found = diversity.compare(with_, without, personas=personas, found=ground)
    again = diversity.compare(with_, without, personas=personas, found=ground)
    assert found == again and found.n == 60 and all(row.with_.n == row.without.n == 60 for row in found.rows)
    runs = min(
        sum(len(words(text)) for text in texts) for texts in (with_, [without[at] for at in diversity._drawn(90, 60)])
    )
    assert found.find("distinct-1").with_.value == pytest.approx(diversity.distinct(with_, at=runs))
    table = found.table()
    assert table.num_rows == 14 and table.column_names[:3] == ["measure", "stripped", "without_value"]
    assert "with personas" in repr(found) and "with personas" in found._repr_html_()


def test_pairs_of_which_nothing_is_left_are_dropped_and_counted(ground):
    with_, personas = asked(40, topics=10, roles=5)
    without, _ = asked(40, topics=10, seed=2)
    found = diversity.compare(["A quiet valley?", *with_[1:]], without, personas=personas, found=ground)
    assert found.dropped == 1 and "1 pairs had no other words" in repr(found)
    assert {row.with_.n for row in found.rows if row.is_stripped} == {39}


def test_too_few_rows_to_compare_are_refused_with_their_number_and_what_is_not_there_is_said(ground):
    texts, _ = asked(20, topics=10)
    with pytest.raises(InputError, match="there are 4 rows of each set to compare, and 5 or more"):
        diversity.compare(texts[:4], texts)
    alone = ["A baker?"] * 18 + texts[:2]
    with pytest.raises(InputError, match="18 of 20 pairs have a text of the persona's words alone, and the 2 others"):
        diversity.compare(alone, texts, personas=["A baker."] * 20)
    few = diversity.compare(alone, texts, personas=["A baker."] * 20, found=ground)
    assert few.dropped == 18 and few.find(diversity.SIMILAR, is_stripped=True).with_.n == 2
    found = diversity.compare(texts, texts, found=ground)
    with pytest.raises(InputError, match="no 'self-similarity' without the personas' words here; there are none"):
        found.find(diversity.SIMILAR, is_stripped=True)
    with pytest.raises(InputError, match="there is no 'distinct-9' here; there are clusters covered, "):
        found.find("distinct-9")


def test_rows_of_one_document_are_resampled_together(ground):
    with_, _ = asked(60, topics=18)
    without, _ = asked(60, topics=4, seed=1)
    alone = diversity.compare(with_, without, found=ground).find(diversity.SIMILAR).difference
    groups = [str(at // 6) for at in range(60)]
    grouped = diversity.compare(with_, without, groups=groups, found=ground).find(diversity.SIMILAR).difference
    assert grouped.value == pytest.approx(alone.value) and (grouped.low, grouped.high) != (alone.low, alone.high)
    with pytest.raises(InputError, match="groups are of pairs: there are 60, for 60 texts with and 50"):
        diversity.compare(with_, without[:50], groups=groups, found=ground)
    with pytest.raises(InputError, match=r"personas\[59\] is None"):
        diversity.compare(with_, without, personas=["a"] * 59 + [None], found=ground)
    with pytest.raises(InputError, match="60 texts with personas and 2 personas"):
        diversity.compare(with_, without, personas=["a", "b"], found=ground)


def test_a_set_is_measured_on_a_map_of_its_own_where_none_is_given():
    texts, _ = asked(60, topics=10)
    found = diversity.measure(texts)
    vectors = embed.texts(texts)
    assert found[diversity.VENDI].value == pytest.approx(diversity.vendi(vectors))
    assert found[diversity.SIMILAR].value == pytest.approx(diversity.self_similarity(vectors))
    own = clusters.fit(texts, vectors=vectors)
    assert found[diversity.COVERED].value == len(own.clusters)
    assert found["distinct-2"].value == pytest.approx(diversity.distinct(texts, 2))
    assert "Diversity of 60 rows" in repr(found) and "Vendi score" in found._repr_html_()


def test_a_map_of_vectors_must_be_told_its_model_and_another_one_is_refused(ground):
    texts, _ = asked(30, topics=10)
    of_vectors = clusters.fit(ground.texts, vectors=ground.vectors)  # of 384 numbers, as those of many models are
    with pytest.raises(InputError, match=r"made of vectors or by an endpoint, and knows no model\. Give model="):
        diversity.measure(texts, found=of_vectors)
    same = diversity.measure(texts, found=of_vectors, model=embed.HASHING)
    assert same == diversity.measure(texts, found=ground)
    with pytest.raises(InputError, match=r"the map is one of hashing-384@1, and model is owner/other"):
        diversity.compare(texts, texts, found=ground, model="owner/other")
