"""Controls: broken as they say, and the same as the treatment in all else: rows, prompts, texts, tokens."""

import json
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import imports
from workbench.errors import InputError
from workbench.records import QA, Instruction, Passage, Persona, Preference, Provenance, Span, from_row, to_row
from workbench.train import controls, splits
from workbench.train.controls import Arm

ORIGIN = Provenance("preference", model="writer-1", prompt="p/x@1#1", requests=("key",), source=Span("doc", 0, 9))


def pair(prompt, chosen, rejected, *scores, origin=ORIGIN):
    return Preference(prompt, chosen, rejected, *scores, provenance=origin)


def pairs(count):
    return [pair(f"prompt {at}", f"good {at}", f"bad {at}", at + 1.0, at / 2) for at in range(count)]


def answers(count):
    return [Instruction(f"ask {at}", output=f"answer {at}", provenance=ORIGIN) for at in range(count)]


WORDS = st.text("ab \n", max_size=5)
PREFERENCES = st.lists(st.builds(pair, st.sampled_from("abcdefgh"), WORDS, WORDS), min_size=2, max_size=14)
DIFFERENT = st.integers(2, 14).map(pairs)
SEEDS = st.integers(0, 2**32)


def both(row):
    return frozenset(Counter((row.chosen, row.rejected)).items())


def scored(row):
    return Counter([(row.chosen, row.score_chosen), (row.rejected, row.score_rejected)])


# --- labels


@given(PREFERENCES, SEEDS)
def test_shuffled_labels_exchange_exactly_half_of_the_rows_and_nothing_else(rows, seed):
    arm = controls.shuffled_labels(rows, seed=seed)
    assert arm == controls.shuffled_labels(rows, seed=seed)
    changed = 0
    for made, row in zip(arm.rows, rows, strict=True):
        assert made.prompt == row.prompt and scored(made) == scored(row)
        if made is not row:
            changed += 1
            assert (made.chosen, made.rejected) == (row.rejected, row.chosen)
    assert changed == len(rows) // 2


def test_each_row_is_exchanged_in_about_half_of_the_seeds():
    rows = pairs(7)
    counts = sum(
        np.array([made is not row for made, row in zip(controls.shuffled_labels(rows, seed=s).rows, rows, strict=True)])
        for s in range(400)
    )
    assert counts.sum() == 400 * 3 and np.all(np.abs(counts / 400 - 3 / 7) < 0.1)  # 4 standard errors


@given(PREFERENCES, SEEDS)
def test_length_only_chooses_the_longer_text_whatever_was_preferred(rows, seed):
    arm = controls.length_only(rows, seed=seed)
    for made, row in zip(arm.rows, rows, strict=True):
        assert len(made.chosen) >= len(made.rejected) and made.prompt == row.prompt and scored(made) == scored(row)
        assert made is row or (made.chosen, made.rejected) == (row.rejected, row.chosen)
        assert made is row or len(row.chosen) <= len(row.rejected)


def test_equal_lengths_fall_either_way_and_a_length_may_be_given():
    rows = [pair(f"prompt {at}", "abc", "xyz") for at in range(400)]
    exchanged = sum(row.chosen == "xyz" for row in controls.length_only(rows, seed=0).rows)
    assert 160 < exchanged < 240
    rows = [pair("a", "x x x", "yyyyyyyyy"), pair("b", "zzzzzzzzz", "x x x")]
    by_words = controls.length_only(rows, seed=0, length=lambda text: len(text.split()))
    assert [row.chosen for row in by_words.rows] == ["x x x", "x x x"]
    assert [row.chosen for row in controls.length_only(rows, seed=0).rows] == ["yyyyyyyyy", "zzzzzzzzz"]


# --- answers dealt to other prompts


def dealt_twos(rows, arm):
    """For each row the row whose pair it got, by texts that are all different."""
    of = {both(row): at for at, row in enumerate(rows)}
    return [of[both(row)] for row in arm.rows]


@given(DIFFERENT, SEEDS)
def test_random_pairs_are_the_same_prompts_and_pairs_none_at_home_half_exchanged_and_without_scores(rows, seed):
    arm = controls.random_pairs(rows, seed=seed)
    assert arm == controls.random_pairs(rows, seed=seed)
    assert [row.prompt for row in arm.rows] == [row.prompt for row in rows]
    of = dealt_twos(rows, arm)
    assert sorted(of) == list(range(len(rows))) and all(at != got for at, got in enumerate(of))
    exchanged = [made.chosen == rows[at].rejected for made, at in zip(arm.rows, of, strict=True)]
    assert sum(exchanged) == len(rows) // 2
    assert {(row.score_chosen, row.score_rejected) for row in arm.rows} == {(None, None)}


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=12), SEEDS)
def test_answers_go_to_another_prompt_wherever_no_prompt_has_more_than_half_of_the_rows(prompts, seed):
    rows = [pair(asked, f"good {at}", f"bad {at}") for at, asked in enumerate(prompts)]
    if 2 * max(Counter(prompts).values()) > len(rows):
        with pytest.raises(InputError, match="cannot all go to rows that ask something else"):
            controls.random_pairs(rows, seed=seed)
    else:
        arm = controls.random_pairs(rows, seed=seed)
        of = dealt_twos(rows, arm)
        assert sorted(of) == list(range(len(rows)))
        assert all(rows[at].prompt != made.prompt for made, at in zip(arm.rows, of, strict=True))


@settings(max_examples=200)
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n)
    ),
    SEEDS,
)
def test_all_rows_fit_wherever_any_way_of_dealing_makes_them_fit(allowed, seed):
    rows = pairs(len(allowed))
    place = lambda text: int(text.split()[1])
    asked = []

    def fits(prompt, chosen, rejected):
        asked.append((chosen, rejected))
        assert place(chosen) == place(rejected)
        return allowed[place(prompt)][place(chosen)]

    numbers = range(len(rows))
    can = any(all(at != to and allowed[at][to] for at, to in enumerate(way)) for way in permutations(numbers))
    if not can:
        with pytest.raises(InputError, match="cannot be dealt out so that all fit"):
            controls.random_pairs(rows, seed=seed, fits=fits)
    else:
        arm = controls.random_pairs(rows, seed=seed, fits=fits)
        of = dealt_twos(rows, arm)
        assert sorted(of) == list(numbers) and all(at != got and allowed[at][got] for at, got in enumerate(of))
        # what fits is asked of the texts as they stand in the arm
        assert {(row.chosen, row.rejected) for row in arm.rows} <= set(asked)


@pytest.mark.parametrize("slack", [5, 30])
def test_many_rows_are_dealt_within_a_limit_of_tokens_that_most_deals_would_pass(slack):
    sizes = np.random.default_rng(0).integers(1, 100, 200)
    rows = [pair("p " * size + str(at), f"g{at} " + "c " * (99 - size), f"b{at}") for at, size in enumerate(sizes)]
    words = {text: len(text.split()) for row in rows for text in (row.prompt, row.chosen, row.rejected)}
    total = lambda prompt, chosen, rejected: words[prompt] + max(words[chosen], words[rejected])
    assert {total(row.prompt, row.chosen, row.rejected) for row in rows} == {101}
    arm = controls.random_pairs(rows, seed=0, fits=lambda *texts: total(*texts) <= 101 + slack)
    assert max(total(row.prompt, row.chosen, row.rejected) for row in arm.rows) <= 101 + slack
    assert sorted(dealt_twos(rows, arm)) == list(range(200))


def test_every_pair_may_come_to_every_other_prompt():
    rows = pairs(5)
    counts = Counter(
        (at, got) for s in range(400) for at, got in enumerate(dealt_twos(rows, controls.random_pairs(rows, seed=s)))
    )
    assert len(counts) == 20 and min(counts.values()) > 60 and max(counts.values()) < 145  # 100 each, if uniform


def test_dialogues_that_open_alike_are_one_prompt_whose_answers_go_elsewhere():
    opens = "\n\nHuman: Hi\n\nAssistant:"
    rows = [pair(opens, "1", "2"), pair(f"{opens} Hello\n\nHuman: So?\n\nAssistant:", "3", "4"), *pairs(2)]
    for seed in range(20):
        of = dealt_twos(rows, controls.random_pairs(rows, seed=seed))
        assert {*of[:2]} == {2, 3}


@given(st.integers(2, 12), SEEDS)
def test_mismatched_answers_are_the_same_instructions_and_outputs_none_at_home(count, seed):
    rows = answers(count)
    arm = controls.mismatched_answers(rows, seed=seed)
    assert [(row.instruction, row.input) for row in arm.rows] == [(row.instruction, row.input) for row in rows]
    assert Counter(row.output for row in arm.rows) == Counter(row.output for row in rows)
    assert all(made.output != row.output for made, row in zip(arm.rows, rows, strict=True))
    assert arm == controls.mismatched_answers(rows, seed=seed)


def test_mismatched_answers_fit_and_an_input_makes_another_prompt():
    rows = [Instruction("Sum up", f"text {at}", f"sum {at}") for at in range(6)]
    by = lambda asked, output: (int(asked[-1]) - int(output[-1])) % 2 == 0
    arm = controls.mismatched_answers(rows, seed=0, fits=by)
    assert all(by(row.asked, row.output) and row.asked[-1] != row.output[-1] for row in arm.rows)
    with pytest.raises(InputError, match="6 of 6 rows ask “sum up”"):
        controls.mismatched_answers([Instruction("Sum up", "", f"sum {at}") for at in range(6)], seed=0)


# --- rows left out


def held(arm, rows):
    """How many times each row is in an arm, (rows,), where no two rows are the same."""
    counts = Counter(row.id for row in arm.rows)
    return np.array([counts[row.id] for row in rows])


TOKENS = st.integers(2, 9).flatmap(lambda n: st.lists(st.integers(0, 30), min_size=n, max_size=n))


@given(TOKENS, SEEDS)
def test_half_twice_is_as_near_in_tokens_as_any_half_is(tokens, seed):
    rows, n = pairs(len(tokens)), len(tokens)
    arm = controls.half_twice(rows, seed=seed, tokens=tokens)
    times = held(arm, rows)
    assert Counter(times.tolist()) == Counter({2: n // 2, 1: n % 2, 0: n // 2}) - Counter()
    every = (2 * sum(half) for half in combinations(tokens, n // 2))
    if n % 2:
        every = (
            2 * sum(half) + tokens[once]
            for once in range(n)
            for half in combinations(tokens[:once] + tokens[once + 1 :], n // 2)
        )
    off = abs(int(times @ tokens) - sum(tokens))
    assert off == min(abs(each - sum(tokens)) for each in every)
    said = f"; {int(times @ tokens):,} tokens, "
    assert said + ("as many as all rows." if off == 0 else f"{off} ") in arm.about
    assert arm == controls.half_twice(rows, seed=seed, tokens=tokens)


@given(TOKENS, SEEDS, st.data())
def test_a_subset_is_as_near_to_the_total_as_any_is(tokens, seed, data):
    rows = pairs(len(tokens))
    n = data.draw(st.integers(1, len(tokens)))
    total = data.draw(st.integers(0, sum(tokens) + 5))
    arm = controls.subset(rows, n, seed=seed, tokens=tokens, total=total)
    times = held(arm, rows)
    assert Counter(times.tolist()) == Counter({1: n, 0: len(rows) - n}) - Counter()
    off = int(times @ tokens) - total
    assert abs(off) == min(abs(sum(some) - total) for some in combinations(tokens, n))
    side = "as many as" if off == 0 else f"{abs(off)} {'more' if off > 0 else 'fewer'} than"
    assert arm.about == f"A random {n} of {len(rows)} rows; {total + off} tokens, {side} the arm it is the control of."
    assert [row for row in rows if row in arm.rows] == list(arm.rows)


@pytest.mark.parametrize("n", [64, 65, 200, 1001])
def test_many_rows_have_the_same_tokens_to_the_last(n):
    rng = np.random.default_rng(n)
    tokens = rng.integers(10, 1500, n)
    tokens[0] += tokens.sum() % 2 if n % 2 == 0 else 0  # twice a half is even
    rows = pairs(n)
    assert held(controls.half_twice(rows, seed=1, tokens=tokens), rows) @ tokens == tokens.sum()
    longer = np.sort(tokens)[n // 3 :]
    total = int(rng.choice(longer, n // 4, replace=False).sum())  # of a selection that likes long rows
    arm = controls.subset(rows, n // 4, seed=1, tokens=tokens.tolist(), total=total)
    assert held(arm, rows) @ tokens == total and len(arm) == n // 4


def test_a_few_rows_of_another_size_are_found_where_they_decide():
    tokens = [10] * 992 + [11] * 8
    arm = controls.subset(pairs(1000), 500, seed=0, tokens=tokens, total=5008)
    assert "as many as" in arm.about
    arm = controls.subset(pairs(1000), 500, seed=0, tokens=tokens, total=5000)
    assert "as many as" in arm.about


@pytest.mark.parametrize("inside", [1, 20, 32, 33, 60, 64])
def test_up_to_64_rows_are_searched_whole(inside):
    tokens, rng = np.random.default_rng(0).integers(0, 3000, 64), np.random.default_rng(1)
    assert sorted(controls._pool(tokens, np.arange(64) < inside, rng)) == list(range(64))
    kept = np.arange(200) < inside
    pool = controls._pool(np.tile(tokens, 4)[:200], kept, rng)
    assert len(set(pool.tolist())) == 64 and kept[pool].sum() == min(inside, 32)


@pytest.mark.parametrize("seed", range(8))
def test_one_row_of_two_thousand_is_found_where_it_decides(seed):
    tokens = [*range(10, 510, 10)] * 40 + [253]
    arm = controls.subset(pairs(2001), 1000, seed=seed, tokens=tokens, total=255_003)
    assert "255,003 tokens, as many as" in arm.about and pairs(2001)[-1] in arm.rows


def test_a_total_that_is_far_away_is_reached_and_not_by_the_extremes_alone():
    rows, tokens = pairs(4000), np.random.default_rng(0).integers(10, 1500, 4000)
    arm = controls.subset(rows, 2000, seed=0, tokens=tokens, total=int(2000 * tokens.mean()) + 400_000)
    times = held(arm, rows)
    assert "as many as" in arm.about
    short, middle, long = (times[some].mean() for some in np.array_split(np.argsort(tokens), 3))
    assert 0.05 < short < middle < long < 0.95


def test_very_different_sizes_cost_no_more_memory_and_are_brought_as_near_as_was_found():
    tokens = np.random.default_rng(0).integers(0, 10**7, 64)
    arm = controls.half_twice(pairs(64), seed=0, tokens=tokens)
    off = abs(int(held(arm, pairs(64)) @ tokens - tokens.sum()))
    assert off < 10**6  # a tenth of one row; the halves as they were drawn are off by tens of millions


def test_every_row_may_be_in_the_half_whatever_its_tokens():
    rows, tokens = pairs(12), [1, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 11]
    counts = sum(held(controls.half_twice(rows, seed=s, tokens=tokens), rows) for s in range(200))
    assert counts.min() > 130 and counts.max() < 270  # 200 each, if all were alike
    assert len({tuple(held(controls.half_twice(rows, seed=s, tokens=tokens), rows)) for s in range(50)}) > 25


@given(DIFFERENT, SEEDS)
def test_half_twice_without_tokens_keeps_each_row_of_the_half_at_its_place(rows, seed):
    arm = controls.half_twice(rows, seed=seed)
    times = held(arm, rows)
    assert Counter(times.tolist()) == Counter({2: len(rows) // 2, 1: len(rows) % 2, 0: len(rows) // 2}) - Counter()
    for place in np.flatnonzero(times):
        assert arm.rows[place] is rows[place]
    assert "tokens" not in arm.about and ("one more row once" in arm.about) == len(rows) % 2


def test_a_subset_may_be_named_and_may_be_all():
    rows = answers(5)
    arm = controls.subset(rows, 5, seed=0, name="random rows")
    assert (arm.name, arm.rows, arm.is_control) == ("random rows", tuple(rows), True)
    assert controls.subset(rows, 2, seed=0).name == "random subset"
    counts = sum(held(controls.subset(rows, 2, seed=s), rows) for s in range(300))
    assert counts.sum() == 600 and counts.min() > 90 and counts.max() < 150  # 120 each


# --- what a record says of itself


def test_a_changed_row_is_a_new_record_that_names_the_rows_it_was_made_of_and_an_unchanged_one_stays():
    rows = pairs(6)
    for arm in (controls.shuffled_labels(rows, seed=0), controls.length_only(rows[::-1], seed=0)):
        originals = {row.prompt: row for row in rows}
        for made in arm.rows:
            row = originals[made.prompt]
            if (made.chosen, made.rejected) == (row.chosen, row.rejected):
                assert made is row
            else:
                said = made.provenance
                assert (said.recipe, said.operation, said.parents) == ("train.controls", "augmentation", (row.id,))
                assert (said.model, said.requests, said.source) == ("writer-1", ("key",), row.provenance.source)
                assert made.id != row.id and from_row(Preference, to_row(made)) == made


def test_answers_to_another_prompt_name_both_rows_and_keep_the_words_on_who_wrote_them():
    rows = [
        pair("a", "1", "2", origin=Provenance("x", model="one")),
        pair("b", "3", "4", origin=Provenance("y", model="two")),
    ]
    made = controls.random_pairs(rows, seed=0).rows
    assert [row.provenance.parents for row in made] == [(rows[0].id, rows[1].id), (rows[1].id, rows[0].id)]
    assert [row.provenance.model for row in made] == ["two", "one"]
    told = [Instruction(f"ask {at}", output=f"{at}", provenance=Provenance("x", model=f"m{at}")) for at in range(2)]
    made = controls.mismatched_answers(told, seed=0).rows
    assert [row.provenance.parents for row in made] == [(told[0].id, told[1].id), (told[1].id, told[0].id)]
    assert [row.provenance.model for row in made] == ["m1", "m0"]


def test_what_the_offline_writer_wrote_is_still_called_so():
    origin = Provenance("preference", model="offline-rules@3")
    rows = [pair(f"prompt {at}", f"good {at}", f"bad {at}", origin=origin) for at in range(6)]
    assert all(row.provenance.is_offline for arm in controls.standard(rows, seed=0) for row in arm.rows)


# --- all of them


def test_the_standard_arms_are_those_of_their_own_functions_the_treatment_first():
    rows = pairs(9)
    tokens = list(range(3, 12))
    near = lambda asked, *texts: max(abs(int(asked[-1]) - int(text[-1])) for text in texts) < 3
    arms = controls.standard(rows, seed=4, tokens=tokens, fits=near)
    assert arms == (
        Arm("all", tuple(rows), False, "The rows as they are."),
        controls.shuffled_labels(rows, seed=4),
        controls.length_only(rows, seed=4),
        controls.random_pairs(rows, seed=4, fits=near),
        controls.half_twice(rows, seed=4, tokens=tokens),
    )
    assert [arm.name for arm in arms] == ["all", "shuffled labels", "length only", "random pairs", "half twice"]
    assert [arm.is_control for arm in arms] == [False, True, True, True, True]
    assert all(near(row.prompt, row.chosen, row.rejected) for row in arms[3].rows)
    told = answers(8)
    fits = lambda asked, output: abs(int(asked[-1]) - int(output[-1])) > 1
    all_told, mismatched, twice = controls.standard(told, seed=4, fits=fits)
    assert (all_told.name, all_told.rows) == ("all", tuple(told))
    assert (
        mismatched == controls.mismatched_answers(told, seed=4, fits=fits) and mismatched.name == "mismatched answers"
    )
    assert twice == controls.half_twice(told, seed=4)


def test_controls_of_one_seed_do_not_draw_alike_and_other_seeds_draw_otherwise():
    rows = pairs(40)
    shuffled, again = (controls.shuffled_labels(rows, seed=s) for s in (0, 1))
    half = controls.half_twice(rows, seed=0)
    exchanged = np.array([made is not row for made, row in zip(shuffled.rows, rows, strict=True)])
    assert 4 < sum(exchanged & (held(half, rows) == 2)) < 16  # 10, if they have nothing in common
    assert shuffled.rows != again.rows


def test_an_arm_prints_itself():
    arm = controls.shuffled_labels(pairs(4), seed=0)
    said = "shuffled labels (control, 4 rows): Chosen and rejected are exchanged in a random half of the rows."
    assert repr(arm) == said and len(arm) == 4
    html = controls.standard([*answers(3), Instruction("<b>", output="x")], seed=0)[0]._repr_html_()
    assert "treatment, 4 rows" in html and "3 of 4 rows" in html and "answer 0" in html and "<b><b>" not in html


PASSAGE = Passage("p", Span("d", 0, 1))


@pytest.mark.parametrize(
    "make, rows, said",
    [
        (controls.shuffled_labels, [], "0 rows make no control"),
        (controls.shuffled_labels, pairs(1), "1 rows make no control"),
        (controls.length_only, answers(3), "made of Preference records of one kind, got Instruction"),
        (controls.random_pairs, [*pairs(2), *answers(2)], "got Instruction and Preference"),
        (controls.random_pairs, pairs(1) * 4, "4 of 4 rows ask “prompt 0”"),
        (controls.mismatched_answers, pairs(3), "made of Instruction records of one kind, got Preference"),
        (controls.mismatched_answers, [*answers(3), Instruction("ask")], "has no output to learn"),
        (controls.half_twice, [*answers(3), Instruction("ask", output=" ")], "has no output to learn"),
        (
            controls.half_twice,
            [Persona("a"), Persona("b")],
            "Preference or Instruction records of one kind, got Persona",
        ),
        (controls.standard, [QA("a", "b", "c", PASSAGE), QA("d", "e", "f", PASSAGE)], "got QA"),
        (controls.standard, [*pairs(2), *answers(2)], "got Instruction and Preference"),
    ],
)
def test_rows_that_make_no_control_are_refused(make, rows, said):
    with pytest.raises(InputError, match=said):
        make(rows, seed=0)


@pytest.mark.parametrize(
    "tokens", [[1, 2], [1.0, 2.0, 3.0], [[1, 2, 3]], [1, -2, 3], [True, False, True], ["1", "2", "3"]]
)
def test_tokens_that_are_no_counts_are_refused(tokens):
    with pytest.raises(InputError, match="tokens are one whole number for each of 3 rows"):
        controls.half_twice(pairs(3), seed=0, tokens=tokens)


def test_a_subset_that_cannot_be_drawn_and_an_arm_without_rows_are_refused():
    for n in (0, 4):
        with pytest.raises(InputError, match="of 3 rows cannot be drawn"):
            controls.subset(pairs(3), n, seed=0)
    for options in ({"tokens": [1, 2, 3]}, {"total": 4}):
        with pytest.raises(InputError, match="Give both, or neither"):
            controls.subset(pairs(3), 2, seed=0, **options)
    with pytest.raises(InputError, match="arm 'filtered' has no rows"):
        Arm("filtered", (), False, "Nothing passed.")


# --- real rows


def test_on_hh_rlhf_all_arms_have_the_same_rows_and_tokens_and_nothing_of_what_is_held_out(shared):
    rows = imports.hh_rlhf(shared / "hh_rlhf_harmless" / "test.jsonl.gz").preferences
    parts = splits.split(rows, held_out=0.3, seed=0)
    words = lambda row: sum(len(text.split()) for text in (row.prompt, row.chosen, row.rejected))
    tokens = [words(row) for row in parts.train]
    limit = 400
    fits = lambda prompt, *texts: len(prompt.split()) + max(len(text.split()) for text in texts) <= limit
    short = [row for row in parts.train if fits(row.prompt, row.chosen, row.rejected)]
    for arm in controls.standard(parts.train, seed=0, tokens=tokens):
        assert len(arm) == len(parts.train)
        assert abs(sum(map(words, arm.rows)) - sum(tokens)) <= sum(tokens) % 2
        assert splits.leaks(arm.rows, parts.held_out, among=parts.train) == []
    assert all(
        fits(row.prompt, row.chosen, row.rejected) for row in controls.random_pairs(short, seed=0, fits=fits).rows
    )
    longer = lambda arm: np.mean([len(row.chosen) >= len(row.rejected) for row in arm.rows])
    by_name = {arm.name: arm for arm in controls.standard(parts.train, seed=0, tokens=tokens)}
    assert longer(by_name["length only"]) == 1 and abs(longer(by_name["shuffled labels"]) - 0.5) < 0.05
    assert abs(longer(by_name["random pairs"]) - 0.5) < 0.05


def test_a_leak_through_the_rows_that_a_control_was_made_of_is_found():
    rows = pairs(6)
    arm = controls.random_pairs(rows, seed=0)
    bare = [
        pair(f"new {row.prompt}", f"new {row.chosen}", "new", origin=Provenance("x", parents=(row.id,))) for row in rows
    ]
    found = splits.leaks(arm.rows, bare[:1], among=rows)
    assert ("parent", rows[0].id) in {(leak.kind, leak.key) for leak in found}


def test_on_the_bundled_pairs_every_control_of_both_kinds_is_made(request):
    lines = (request.config.rootpath / "data" / "pairs" / "written.jsonl").read_text().splitlines()
    made = [json.loads(line) for line in lines]
    chosen = lambda each: each["generations"][:: 1 if each["ratings"][0] else -1]
    preferences = [Preference(each["instruction"], *chosen(each), 1, 0) for each in made]
    told = [Instruction(row.prompt, output=row.chosen) for row in preferences]
    counts = [len(f"{row.prompt} {row.chosen} {row.rejected}".split()) for row in preferences]
    shuffled, by_length = controls.standard(preferences, seed=0, tokens=counts)[1:3]
    assert sum(row.score_chosen == 1 for row in shuffled.rows) == 30
    assert (
        sum(row.score_chosen == 1 for row in by_length.rows) == 30
    )  # the better text is the longer one in half of them
    assert Counter(row.output for row in controls.standard(told, seed=0)[1].rows) == Counter(row.output for row in told)
