"""What a judge is worth is measured against people, by published figures and by judges whose faults are known."""

import itertools
import random
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from workbench import imports, intervals, plots, runner
from workbench.errors import InputError
from workbench.llm import Scripted
from workbench.quality import agreement, biases, calibration
from workbench.quality.agreement import by_rating, majority, pairs
from workbench.records import Instruction, Preference, Provenance, Rating, Vote, kept

# --- real data --------------------------------------------------------------------------------------------------------

# AlpacaEval's leaderboard of alpaca_eval_gpt4, in percent; n below 805 where the annotator gave no preference.
LEADERBOARD = {
    "gpt4": (95.2795, 805), "claude-2": (91.3557, 804), "llama-2-70b-chat-hf": (92.6617, 804), "vicuna-13b": (70.4348, 805),
    "phi-2": (30.6633, 799), "alpaca-7b": (26.4596, 805), "text_davinci_001": (15.1741, 804),
}  # fmt: skip


def evaluated(shared, *models):
    folder = shared / "alpaca_eval"
    files = [[folder / part / f"{model}.json" for model in models] for part in ("outputs", "annotations_gpt4")]
    return imports.alpaca_eval(files[0], annotations=files[1])


@pytest.fixture(scope="module")
def pandalm(shared):
    """The texts by id, and the votes of each rater, in the order of the rows."""
    found, votes = imports.pandalm(shared / "pandalm"), defaultdict(list)
    for vote in found.votes:
        votes[vote.rater].append(vote)
    return found.instructions, dict(votes)


def people_of(votes):
    return [vote for name in ("annotator1", "annotator2", "annotator3") for vote in votes[name]]


# --- win rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", LEADERBOARD)
def test_win_rates_equal_the_published_leaderboard(shared, model):
    found = evaluated(shared, model)
    rate = agreement.win_rate(found.votes, model=model, texts=found.instructions)
    assert (round(100 * rate.value, 4), rate.n) == LEADERBOARD[model]
    if model == "gpt4":
        assert round(100 * rate.standard_error, 4) == 0.7163
        assert str(rate) == "gpt4 wins 95.28% (standard error 0.72) of 805"
    loser = agreement.win_rate(found.votes, model="text_davinci_003", texts=found.instructions)
    assert loser.value == pytest.approx(1 - rate.value)


def test_a_win_rate_never_counts_a_vote_on_another_models_equal_text(shared):
    found = evaluated(shared, "gpt4", "alpaca-7b")
    with pytest.raises(InputError, match="cannot be told"):
        agreement.win_rate(found.votes, model="gpt4", texts=found.instructions)
    with pytest.raises(InputError, match="0 votes on texts of 'bard'"):
        agreement.win_rate(found.votes, model="bard", texts=found.instructions)


# --- texts, votes and judges made up for a test -----------------------------------------------------------------------


def texts_of(prompts, each=2, length=lambda prompt, number: 10 + number):
    """Texts of `each` writers on some prompts, their lengths as given."""
    return [
        Instruction(f"prompt {prompt}", output=f"{prompt:04}{number}".ljust(length(prompt, number), "x"))
        for prompt in range(prompts)
        for number in range(each)
    ]


def vote(first, second, winner, rater="judge", **more):
    return Vote(first.id, second.id, winner, rater, **more)


def paired(texts):
    return list(zip(texts[::2], texts[1::2], strict=True))


def rating(text, value, dimension="helpfulness", rater="judge", prompt="judge/helpfulness@1"):
    return Rating(text.id, dimension, value, rater, provenance=Provenance("judge", model=rater, prompt=prompt))


def crowd(texts, truth, wrong=0.05, seed=0, names=("ann", "ben", "cem")):
    """Votes of people who say what is true, but for some slips each."""
    rng = random.Random(seed)
    say = lambda winner: winner if rng.random() >= wrong else rng.choice([w for w in agreement.WINNERS if w != winner])
    return [vote(*pair, say(winner), name) for pair, winner in zip(paired(texts), truth, strict=True) for name in names]


# --- kappas by published and hand-written oracles ---------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "wanted"), [(1, 2, 0.8520), (1, 3, 0.8789), (2, 3, 0.8617)])
def test_cohens_kappas_of_pandalm_equal_the_published_ones(pandalm, a, b, wanted):
    texts, votes = pandalm
    found = agreement.cohen(votes[f"annotator{a}"], votes[f"annotator{b}"], texts=texts)
    assert (round(found.value, 4), found.n) == (wanted, 999)
    alone = agreement.cohen(votes[f"annotator{a}"], votes[f"annotator{b}"])
    assert found.low < alone.low < found.value < alone.high < found.high  # rows of one prompt are alike


def kappa_by_hand(a, b):
    observed = np.mean([x == y for x, y in zip(a, b, strict=True)])
    chance = sum(a.count(winner) / len(a) * b.count(winner) / len(b) for winner in agreement.WINNERS)
    return (observed - chance) / (1 - chance)


def alpha_by_hand(units):
    """By definition: the disagreement within units over that of any two votes, whichever units they are of."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    within = sum(sum(x != y for x, y in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    among = sum(x != y for x, y in itertools.permutations(values, 2)) / (len(values) - 1)
    return 1 - within / among


def fleiss_by_hand(units):
    agreed = np.mean([np.mean([x == y for x, y in itertools.permutations(unit, 2)]) for unit in units])
    values = [value for unit in units for value in unit]
    chance = sum((values.count(winner) / len(values)) ** 2 for winner in agreement.WINNERS)
    return (agreed - chance) / (1 - chance)


OPINIONS = st.lists(st.lists(st.sampled_from(agreement.WINNERS), min_size=3, max_size=3), min_size=4, max_size=30)


@settings(max_examples=25, deadline=None)
@given(OPINIONS, st.data())
def test_kappa_alpha_and_fleiss_are_what_their_definitions_say(opinions, data):
    texts = paired(texts_of(len(opinions)))
    names = ("ann", "ben", "cem")
    votes = [
        vote(*pair, w, name)
        for pair, row in zip(texts, opinions, strict=True)
        for w, name in zip(row, names, strict=True)
    ]
    ann, ben, _ = ([row[at] for row in opinions] for at in range(3))
    values = {value for row in opinions for value in row}
    if len(values) > 1:
        assert agreement.krippendorff_alpha(votes).value == pytest.approx(alpha_by_hand(opinions))
        assert agreement.fleiss(votes).value == pytest.approx(fleiss_by_hand(opinions))
    else:
        with pytest.raises(InputError, match="all votes are the same"):
            agreement.krippendorff_alpha(votes)
    if len({*ann, *ben}) > 1:
        found = agreement.cohen(votes[0::3], votes[1::3])
        assert found.value == pytest.approx(kappa_by_hand(ann, ben))
        assert -1 <= found.low <= found.high <= 1
    kept_votes = data.draw(st.lists(st.sampled_from(votes), min_size=2, unique_by=lambda each: each.id))
    units = [list(pair.votes.values()) for pair in pairs(kept_votes)]
    several = {value for unit in units if len(unit) > 1 for value in unit}
    if len(several) > 1 and sum(len(unit) > 1 for unit in units) > 1:
        assert agreement.krippendorff_alpha(kept_votes).value == pytest.approx(alpha_by_hand(units))


def test_alpha_is_that_of_krippendorffs_own_example():
    # Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section A: two observers, ten units, alpha 0.095.
    one, two = "0100000010", "1110010000"
    votes = []
    for pair, a, b in zip(paired(texts_of(10)), one, two, strict=True):
        votes += [vote(*pair, ("first", "second")[int(value)], name) for value, name in ((a, "meg"), (b, "owen"))]
    assert agreement.krippendorff_alpha(votes).value == pytest.approx(0.095, abs=5e-4)


def test_the_intervals_draws_are_the_statistic_of_resampled_prompts(pandalm):
    """The draws come from sums over prompts; here from resampled rows, by the libraries themselves."""
    from sklearn.metrics import cohen_kappa_score

    texts, votes = pandalm
    prompts = {text.id: f"{text.instruction}\n{text.input}" for text in texts}
    rows = defaultdict(list)
    for a, b in zip(votes["annotator1"], votes["pandalm-7b"], strict=True):
        rows[prompts[a.first]].append((a.winner, b.winner))
    rng, groups, drawn = np.random.default_rng(7), list(rows.values()), []
    for _ in range(150):
        some = [row for at in rng.integers(0, len(groups), len(groups)) for row in groups[at]]
        drawn.append(cohen_kappa_score(*zip(*some, strict=True)))
    found = agreement.cohen(votes["annotator1"], votes["pandalm-7b"], texts=texts)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.03)


def test_prompts_that_all_say_the_same_leave_nothing_open():
    """Whichever prompts are drawn, the statistic is the one that the library gives for all of them."""
    opinions = [("first", "first", "tie"), ("second", "second", "second"), ("tie", "first", "first"), ("tie",) * 3]
    texts, votes = [], []
    for prompt in range(5):
        for number, row in enumerate(opinions):
            pair = [Instruction(f"prompt {prompt}", output=f"{prompt} {number} {side}") for side in "ab"]
            texts += pair
            votes += [vote(*pair, winner, name) for winner, name in zip(row, ("ann", "ben", "cem"), strict=True)]
    for found in (
        agreement.krippendorff_alpha(votes, texts=texts),
        agreement.fleiss(votes, texts=texts),
        agreement.cohen(votes[0::3], votes[2::3], texts=texts),
    ):
        assert 0 < found.value < 1 and (found.low, found.high) == pytest.approx((found.value, found.value))


def test_votes_meet_whichever_text_came_first_and_repeats_meet_in_their_order():
    (a, b), (c, d) = paired(texts_of(2))
    mine = [vote(a, b, "first"), vote(a, b, "second"), vote(c, d, "tie")]
    yours = [vote(b, a, "second", "you"), vote(a, b, "second", "you"), vote(d, c, "tie", "you")]
    together = pairs([*mine, *yours])
    assert [pair.votes["judge"] for pair in together] == ["first", "second", "tie"]
    assert [pair.votes["you"] for pair in together] == ["first", "second", "tie"]
    # Of rows in both orders, a vote belongs to the one in its order, also where another vote is missing.
    both = pairs([vote(a, b, "first"), vote(b, a, "tie"), vote(b, a, "first", "you")])
    assert [pair.votes.get("you") for pair in both] == [None, "first"]


def test_kappa_of_several_raters_or_of_nobody_is_refused():
    texts = paired(texts_of(2))
    ann, ben = ([vote(*pair, "first", name) for pair in texts] for name in ("ann", "ben"))
    with pytest.raises(InputError, match="of ann, ben"):
        agreement.cohen([*ann, *ben], ann)
    with pytest.raises(InputError, match="no pair in common"):
        agreement.cohen(ann[:1], ben[1:])
    with pytest.raises(InputError, match="all votes are the same"):
        agreement.cohen(ann, ben)
    with pytest.raises(InputError, match="no pair has votes of two"):
        agreement.krippendorff_alpha(ann)
    with pytest.raises(InputError, match="all pairs are of one prompt"):
        agreement.cohen([ann[0], replace(ann[0])], [ben[0], replace(ben[0], winner="tie")], texts=[])


def test_a_majority_is_the_single_most_frequent_winner():
    assert majority(["first", "first", "tie"]) == "first"
    assert majority(["first", "second"]) is None and majority(["first", "second", "tie"]) is None
    assert majority([]) is None and majority(["tie"]) == "tie"


# --- calibration by published figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("judge", "wanted", "unanswered"), [("pandalm-7b", 66.77, 0), ("gpt-3.5-turbo", 69.77, 25)])
def test_the_judges_of_pandalm_have_their_published_accuracy(pandalm, judge, wanted, unanswered):
    texts, votes = pandalm
    found = calibration.calibrate(votes[judge], people_of(votes), texts=texts, missing_is_wrong=True)
    assert round(100 * found.accuracy.value, 2) == wanted
    assert (found.pairs, found.undecided, found.unanswered, found.ties) == (999, 0, unanswered, 105)
    assert not found.is_good_enough and found.verdict == "not as good as a person"
    assert (
        found.sentence.startswith(f"{judge} agrees with people in {wanted:.0f}% (")
        and " of 999 pairs" in found.sentence
    )
    without = calibration.calibrate(votes[judge], people_of(votes), texts=texts)
    assert without.accuracy.n == 999 - unanswered


def test_people_agree_with_each_other_by_leaving_one_out(pandalm):
    texts, votes = pandalm
    rows = list(zip(*([each.winner for each in votes[f"annotator{n}"]] for n in (1, 2, 3)), strict=True))
    hits = [row[at] == row[at - 1] for row in rows for at in range(3) if row[at - 1] == row[at - 2]]
    found = calibration.calibrate(votes["pandalm-7b"], people_of(votes), texts=texts).overall
    assert (found.people.value, found.people.n) == (np.mean(hits), len(hits)) == (2637 / 2757, 2757)
    judge = [each.winner for each in votes["pandalm-7b"]]
    its = [
        said == row[at - 1]
        for said, row in zip(judge, rows, strict=True)
        for at in range(3)
        if row[at - 1] == row[at - 2]
    ]
    assert found.difference.value == pytest.approx(np.mean(its) - np.mean(hits))
    assert found.alpha.value == pytest.approx(alpha_by_hand(rows))
    best = [Counter(row).most_common(1)[0][0] for row in rows]
    assert found.kappa.value == pytest.approx(kappa_by_hand(judge, best))


def test_a_person_as_the_judge_is_as_good_as_a_person(pandalm):
    texts, votes = pandalm
    found = calibration.calibrate(votes["annotator1"], [*votes["annotator2"], *votes["annotator3"]], texts=texts)
    assert found.is_good_enough and "as good as a person" in found.sentence
    assert found.undecided == sum(
        a.winner != b.winner for a, b in zip(votes["annotator2"], votes["annotator3"], strict=True)
    )


def test_pandalms_swapped_rows_show_that_its_judges_change_their_minds_and_people_do_not(pandalm):
    texts, votes = pandalm
    flips = {name: biases.position_report(some, texts=texts).flips for name, some in votes.items()}
    assert all(flips[f"annotator{n}"].value <= 0.03 for n in (1, 2, 3))
    assert flips["pandalm-7b"].low > 0.1 and flips["gpt-3.5-turbo"].low > 0.1
    found = calibration.calibrate(votes["pandalm-7b"], people_of(votes), texts=texts)
    assert found.flip_rate == flips["pandalm-7b"]


def test_accuracy_by_length_is_counted_as_said(pandalm):
    texts, votes = pandalm
    length = {text.id: len(text.output) for text in texts}
    rows = list(zip(*(votes[f"annotator{n}"] for n in (1, 2, 3)), votes["pandalm-7b"], strict=True))
    shorter = []
    for *people, judge in rows:
        best = Counter(each.winner for each in people).most_common(1)[0][0]
        more = length[judge.first] - length[judge.second]
        if (best == "first" and more < 0) or (best == "second" and more > 0):
            shorter.append(judge.winner == best)
    found = calibration.calibrate(votes["pandalm-7b"], people_of(votes), texts=texts)
    strata = {stratum.label: stratum.accuracy for stratum in found.by_length}
    accuracy = strata["people prefer the shorter text"]
    assert (accuracy.value, accuracy.n) == (np.mean(shorter), len(shorter))
    thirds = [stratum.accuracy.n for stratum in found.by_length[:3]]
    assert sum(thirds) == 999 and max(thirds) - min(thirds) < 30


# --- calibration of judges whose worth is known -----------------------------------------------------------------------


def scored(texts, truth, right_from, seed=0):
    """Ratings that are right where the two differ by `right_from` or more, and a coin's below; gaps of 0.5 to 4."""
    rng, found = random.Random(seed), []
    for (first, second), winner in zip(paired(texts), truth, strict=True):
        gap = rng.choice([0.5, 1, 1.5, 2, 3, 4])
        says_first = winner == "first" if gap >= right_from else rng.random() < 0.5
        found += [rating(first, 1 + gap * says_first), rating(second, 1 + gap * (not says_first))]
    return found


@pytest.fixture(scope="module")
def known():
    """Texts of 400 prompts and which of each two is better."""
    rng = random.Random(3)
    return texts_of(400), [rng.choice(["first", "second"]) for _ in range(400)]


def test_the_proposed_gap_is_the_one_from_which_on_the_judge_is_right(known):
    texts, truth = known
    found = calibration.calibrate(scored(texts, truth, 2), crowd(texts, truth), texts=texts)
    assert found.min_gap == 2.0 and not found.is_good_enough
    assert [step.at_least for step in found.by_gap] == [0, 0.5, 1, 1.5, 2, 3, 4]
    assert found.why_gap.startswith("from a gap of 2 on (") and "100%" in found.why_gap
    shares = [step.share for step in found.by_gap]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1
    step = next(step for step in found.by_gap if step.at_least == 3)
    of_three = [abs(a.value - b.value) >= 3 for a, b in paired(scored(texts, truth, 2))]
    assert step.share == pytest.approx(sum(of_three) / found.accuracy.n, abs=0.02)


def test_no_gap_is_proposed_for_a_coin_or_for_votes_or_by_one_person_and_it_says_why(known):
    texts, truth = known
    coin = calibration.calibrate(scored(texts, truth, 9), crowd(texts, truth), texts=texts)
    assert coin.min_gap is None and "at none is it shown to be as good as a person" in coin.why_gap
    votes = [vote(*pair, winner) for pair, winner in zip(paired(texts), truth, strict=True)]
    by_votes = calibration.calibrate(votes, crowd(texts, truth), texts=texts)
    assert by_votes.min_gap is None and "gave votes, and no scores" in by_votes.why_gap and by_votes.is_good_enough
    one = calibration.calibrate(scored(texts, truth, 0), crowd(texts, truth, names=("ann",)), texts=texts)
    assert one.min_gap is None and one.overall.people is None and one.alpha is None and not one.is_good_enough
    assert "how far people agree is not known" in one.sentence and "not known" in one.why_gap
    assert one.accuracy.value > 0.9


def test_a_gap_is_never_proposed_on_a_handful_of_prompts(known):
    texts, truth = known
    few = calibration.calibrate(scored(texts[:18], truth[:9], 0), crowd(texts[:18], truth[:9], 0), texts=texts)
    assert few.accuracy.value == 1 and few.min_gap is None and not few.is_good_enough
    assert "9 prompts are too few" in few.sentence
    careless = calibration.calibrate(scored(texts[:18], truth[:9], 0), crowd(texts[:18], truth[:9], 0.3), texts=texts)
    assert careless.overall.difference.low > 0 and not careless.is_good_enough
    # Fifty prompts without one mistake may hide more than the margin; a hundred may not.
    for prompts, is_enough in ((50, False), (100, True)):
        some, true = texts[: 2 * prompts], truth[:prompts]
        found = calibration.calibrate(scored(some, true, 0), crowd(some, true, 0), texts=texts)
        assert found.is_good_enough is is_enough
    assert "too few to tell" in calibration.calibrate(
        scored(texts[:100], truth[:50], 0), crowd(texts[:100], truth[:50], 0), texts=texts
    ).verdict  # fmt: skip


def test_many_gaps_become_a_dozen_steps(known):
    texts, truth = known
    rng = random.Random(0)
    ratings = [rating(text, rng.random()) for text in texts]
    found = calibration.calibrate(ratings, crowd(texts, truth), texts=texts)
    assert 10 <= len(found.by_gap) <= 13 and found.by_gap[0].at_least == 0
    assert all(step.share > 0.05 for step in found.by_gap)


def test_each_dimension_is_compared_with_votes_or_with_the_same_dimension_of_people(known):
    texts, truth = known
    good, coin = scored(texts, truth, 0), scored(texts, truth, 9, seed=5)
    judged = [*good, *(replace(each, dimension="honesty") for each in coin[:700])]
    judged += [replace(each, dimension="honesty", value=None) for each in coin[700:]]
    found = calibration.calibrate(judged, crowd(texts, truth), texts=texts)
    by_name = {each.name: each for each in found.agreements}
    assert list(by_name) == ["overall", "helpfulness", "honesty"] and found.agreement("style") is None
    assert by_name["helpfulness"].accuracy.value > 0.95 and by_name["honesty"].accuracy.high < 0.6
    assert (by_name["helpfulness"].accuracy.n, by_name["honesty"].accuracy.n) == (
        found.accuracy.n,
        pytest.approx(350, abs=5),
    )
    rng = random.Random(1)
    people = [
        replace(
            each,
            rater=name,
            provenance=Provenance("people"),
            value=None if each.value is None else each.value + rng.choice([0, 0.25]),
        )
        for name in ("ann", "ben")
        for each in judged
    ]
    rated = {each.name: each for each in calibration.calibrate(judged, people, texts=texts).agreements}
    assert rated["honesty"].accuracy.value > 0.9 and rated["honesty"].people is not None
    without = [each for each in people if each.dimension != "honesty"]
    assert [each.name for each in calibration.calibrate(judged, without, texts=texts).agreements] == [
        "overall",
        "helpfulness",
    ]


def test_ratings_vote_for_the_higher_mean_of_the_dimensions_that_apply_to_both():
    (a, b), (c, d) = paired(texts_of(2))
    ratings = [
        rating(a, 4), rating(a, None, "honesty"), rating(a, 2, "truthfulness"), rating(b, 3), rating(b, 3, "honesty"),
        rating(c, 5), rating(d, 1), rating(d, None, "honesty"), rating(d, 2), rating(c, 2, rater="other"),
    ]  # fmt: skip
    assert agreement.scores(ratings)["judge"] == {a.id: 3, b.id: 3, c.id: 5, d.id: 1.5}
    # Both were rated in helpfulness alone: 4 and 3. Truthfulness lowers the first's own mean, honesty is not its own.
    votes = by_rating(ratings, texts=[a, b, c, d])
    assert [(v.first, v.second, v.winner) for v in votes] == [(a.id, b.id, "first"), (c.id, d.id, "first")]
    assert [v.winner for v in by_rating(ratings, texts=[a, b, c, d], dimension="honesty")] == []


def test_the_order_in_which_texts_are_written_down_changes_nothing(known):
    texts, truth = known
    judged = [vote(*pair, winner) for pair, winner in zip(paired(texts), reversed(truth), strict=True)]
    people, rng = crowd(texts, truth), random.Random(9)
    turn = lambda each: Vote(each.second, each.first, agreement.SWAPPED[each.winner], each.rater)
    found = calibration.calibrate(judged, people, texts=texts)
    again = calibration.calibrate([turn(v) if rng.random() < 0.5 else v for v in judged], people, texts=texts)
    assert again == found


def test_only_one_judge_with_known_texts_and_enough_prompts_is_calibrated(known):
    texts, truth = known
    people = crowd(texts, truth)
    judged = scored(texts, truth, 0)
    with pytest.raises(InputError, match="one judge at a time"):
        calibration.calibrate([*judged, rating(texts[0], 1, rater="other")], people, texts=texts)
    with pytest.raises(InputError, match="not among the 10 texts"):
        calibration.calibrate(judged, people, texts=texts[:10])
    with pytest.raises(InputError, match="fewer than two prompts in common"):
        calibration.calibrate(judged[:2], people, texts={text.id: text for text in texts})
    some = calibration.calibrate(
        [vote(*pair, "tie") for pair in paired(texts)], crowd(texts[:60], truth[:30]), texts=texts
    )
    assert (some.pairs, some.unmatched) == (30, 370) and "370 votes of the judge on other pairs" in repr(some)


def test_a_dimension_that_applies_to_one_text_alone_moves_neither_the_judge_nor_people(known):
    """The first text is rated in honesty too, low as honesty is; in all that both have it is as its people say."""
    texts, truth = known
    judged = scored(texts, truth, 0)
    honesty = [rating(first, -20, "honesty") for first, _ in paired(texts)]
    people = [replace(each, rater=name, provenance=Provenance("people")) for name in ("ann", "ben") for each in judged]
    odd = [replace(each, rater=name, provenance=Provenance("people")) for name in ("ann", "ben") for each in honesty]
    found = calibration.calibrate([*judged, *honesty], people, texts=texts)
    assert found.accuracy.value == 1 and [step.at_least for step in found.by_gap] == [0, 0.5, 1, 1.5, 2, 3, 4]
    assert calibration.calibrate(judged, [*people, *odd], texts=texts).accuracy.value == 1
    plain, lengths = biases.length_report(judged, texts=texts), biases.length_report([*judged, *honesty], texts=texts)
    assert lengths == plain


def test_pairs_on_which_two_people_differ_are_not_dropped_before_they_are_compared(known):
    texts, truth = known
    people = crowd(texts, truth, 0.3, names=("ann", "ben"))
    found = calibration.calibrate(scored(texts, truth, 0), people, texts=texts)
    assert found.undecided > 100 and found.overall.people.value < 0.7
    assert found.by_gap[0].agreement == replace(found.overall, name="gap 0", kappa=None, alpha=None, asked=())
    assert all(step.agreement.people.value < 0.8 for step in found.by_gap)
    assert found.by_gap[0].share == 1


def test_a_judge_is_never_one_of_the_people_it_is_compared_with(known):
    texts, truth = known
    votes = [vote(*pair, winner) for pair, winner in zip(paired(texts), truth, strict=True)]
    with pytest.raises(InputError, match="judge is among the people"):
        calibration.calibrate(votes, [*crowd(texts, truth), *votes], texts=texts)
    hidden = [replace(each, rater="dora", provenance=Provenance("x", model="judge")) for each in votes]
    with pytest.raises(InputError, match="judge is among the people"):
        calibration.calibrate(votes, [*crowd(texts, truth), *hidden], texts=texts)


def test_a_judge_that_answers_the_easy_pairs_alone_is_not_good_enough(known):
    texts, truth = known
    people = crowd(texts, truth)
    for left, is_enough in ((20, True), (21, False)):  # of 400, so 5% and a little more
        found = calibration.calibrate(scored(texts, truth, 0)[2 * left :], people, texts=texts)
        assert found.unanswered == left and found.is_good_enough is is_enough is (found.min_gap is not None)
        marks = calibration.marks(scored(texts, truth, 0), at_least=2)
        assert bool(found.why_not(marks.judge)) is not is_enough
    assert "it left 5.25% of the pairs unanswered" in found.sentence and "unanswered" in found.why_gap
    assert "unanswered" in found.why_not(marks.judge)
    # A dimension that does not apply is an answer; ratings that are not there are none.
    rated = four_dimensions(texts, truth)
    absent = [replace(r, value=None) if r.dimension == "honesty" and at % 8 < 2 else r for at, r in enumerate(rated)]
    lost = [each for each in absent if each.value is not None]
    for some, share in ((absent, 0), (lost, 0.25)):
        found = calibration.calibrate(some, people, texts=texts)
        assert found.agreement("honesty").unanswered == share and found.overall.unanswered == 0
        assert (
            "in honesty it left 25%" in found.why_not(calibration.Judge("judge", ("judge/honesty@1",)), "honesty")
        ) is bool(share)


def test_a_proposed_gap_says_among_how_many_it_was_chosen(known):
    texts, truth = known
    found = calibration.calibrate(scored(texts, truth, 2), crowd(texts, truth), texts=texts)
    said = "the smallest such of 7 tried on these same pairs"
    assert said in found.why_gap and said in repr(found) and said in found._repr_html_()


def test_votes_without_a_name_are_of_different_people(known):
    texts, truth = known
    named = crowd(texts, truth)
    nameless = [replace(each, rater="") for each in named]
    votes = [vote(*pair, winner) for pair, winner in zip(paired(texts), truth, strict=True)]
    found, wanted = (calibration.calibrate(votes, people, texts=texts) for people in (nameless, named))
    assert (found.overall, found.undecided) == (wanted.overall, wanted.undecided)
    assert "pairs that people without a name voted on" in repr(found)
    both_orders = [vote(*some, "first", "") for a, b in paired(texts)[:9] for some in ((a, b), (b, a))]
    assert biases.position_report(both_orders).flips is None


def test_what_is_empty_is_named(known):
    texts, truth = known
    people = crowd(texts, truth)
    for judged, others, name in (([], people, "judged"), (people, [], "people")):
        with pytest.raises(InputError, match=f"^{name} is empty"):
            calibration.calibrate(judged, others, texts=texts)
    with pytest.raises(InputError, match=r"^judged is empty"):
        biases.length_report([])


# --- what it says, and keeps ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(known):
    texts, truth = known
    judged = [*scored(texts, truth, 2), *(replace(r, dimension="<b>tone</b>") for r in scored(texts, truth, 9, 4))]
    return calibration.calibrate(judged, crowd(texts, truth), texts=texts)


def test_a_calibration_is_read_back_as_it_was_saved(calibrated, tmp_path):
    path = calibrated.save(tmp_path / "run")
    assert path == tmp_path / "run" / "calibration.json"
    assert calibration.load(tmp_path / "run") == calibration.load(path) == calibrated
    assert calibration.load(calibrated.save(tmp_path / "judge.json")).judge.content_id == calibrated.judge.content_id


def test_what_is_no_calibration_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no calibration at"):
        calibration.load(tmp_path)
    for text in ("{", "[]", '{"judge": 3}', "7"):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(InputError, match=r"calibration\.json is no calibration"):
            calibration.load(tmp_path)


def test_a_calibration_prints_its_result_first_and_text_stays_text(calibrated):
    text, html = repr(calibrated), calibrated._repr_html_()
    assert text.startswith(calibrated.sentence) and calibrated.why_gap in text
    assert "score gap from" in text and "people prefer the shorter text" in text and "kappa" in text
    assert "&lt;b&gt;tone" in html and "<b>tone" not in html


def test_the_rules_of_the_offline_writer_are_never_taken_for_a_model(known):
    texts, truth = known
    judged = [
        replace(each, rater="offline-rules@3", provenance=Provenance("judge", model="offline-rules@3"))
        for each in scored(texts, truth, 2)
    ]
    found = calibration.calibrate(judged, crowd(texts, truth), texts=texts)
    assert found.is_offline and "offline rules, no model" in found.sentence
    for figure in (plots.agreement(found), plots.by_gap(found)):
        assert plots.OFFLINE_NOTE in [note.text for note in figure.layout.annotations]


# --- biases -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(shared):
    """Pairs of real texts on the same prompts: of gpt4 and vicuna-13b."""
    found = evaluated(shared, "gpt4", "vicuna-13b")
    by_model = defaultdict(dict)
    for text in found.instructions:
        by_model[text.provenance.model][text.instruction] = text
    ours, theirs = by_model["gpt4"], by_model["vicuna-13b"]
    return found, [(ours[asked], theirs[asked]) for asked in ours if ours[asked].id != theirs[asked].id]


def test_a_judge_that_goes_by_position_is_caught_by_its_flips(answers):
    found, both = answers
    votes = [vote(a, b, "first") for a, b in both] + [vote(b, a, "first") for a, b in both]
    report = biases.position_report(votes, texts=found.instructions)
    assert report.flips.value == 1 and report.is_by_position and "order decides" in report.sentence
    asked_twice = [vote(a, b, "tie", is_flip=True) for a, b in both]
    assert biases.position_report(asked_twice, texts=found.instructions).is_by_position
    assert "100%" in repr(report) and "Position" in report._repr_html_()


def test_a_judge_that_sees_the_texts_alone_never_flips_and_one_order_shows_nothing(answers):
    found, both = answers
    say = lambda a, b: (
        "first" if len(a.output) > len(b.output) else "second" if len(a.output) < len(b.output) else "tie"
    )
    steady = biases.position_report([vote(*pair, say(*pair)) for a, b in both for pair in ((a, b), (b, a))])
    assert steady.flips.value == 0 and steady.flips.high > 0 and not steady.is_by_position
    once = biases.position_report([vote(a, b, "first") for a, b in both])
    assert once.flips is None and not once.is_by_position and "not known" in once.sentence
    # The annotations have the baseline first: that it loses is no bias.
    gpt4 = biases.position_report(found.votes)
    assert gpt4.first_wins.value < 0.5 and not gpt4.is_by_position


def test_a_coin_is_not_caught_as_one_that_goes_by_position(answers):
    rng = random.Random(4)
    votes = [vote(a, b, "tie", is_flip=rng.random() < 0.5) for a, b in answers[1]]
    assert not biases.position_report(votes).is_by_position


def test_a_judge_that_goes_by_length_is_caught_by_the_length_report(answers):
    found, both = answers
    by_votes = biases.length_report(
        [vote(a, b, "first" if len(a.output) > len(b.output) else "second") for a, b in both], texts=found.instructions
    )
    assert by_votes.longer_wins.value == 1 and by_votes.leans_to_longer and by_votes.correlation.low > 0.8
    by_ratings = biases.length_report(
        [rating(text, len(text.output) / 1000) for pair in both for text in pair], texts=found.instructions
    )
    assert by_ratings.longer_wins.value == 1 and by_ratings.correlation.value == pytest.approx(1)
    pairs_of = [sorted(pair, key=lambda text: -len(text.output)) for pair in both]
    preferred = biases.length_report([Preference(a.instruction, a.output, b.output) for a, b in pairs_of])
    assert preferred.leans_to_longer and preferred.correlation.low > 0.8
    assert "The longer text wins in 100%" in repr(preferred) and "Length" in preferred._repr_html_()


def test_a_coin_and_a_judge_that_likes_it_short_do_not_lean_to_longer(answers):
    found, both = answers
    rng = random.Random(2)
    coin = biases.length_report(
        [vote(a, b, rng.choice(["first", "second"])) for a, b in both], texts=found.instructions
    )
    assert not coin.leans_to_longer and coin.correlation.low < 0 < coin.correlation.high
    short = biases.length_report([rating(t, -len(t.output) / 1000) for p in both for t in p], texts=found.instructions)
    assert short.longer_wins.value == 0 and short.correlation.value == pytest.approx(-1)


def test_the_length_correlation_is_spearmans_of_both_orders(answers):
    rng = random.Random(6)
    rows = [Preference(a.instruction, a.output, b.output, rng.randint(1, 5), rng.randint(1, 5)) for a, b in answers[1]]
    score, length = (
        np.array([row.score_chosen - row.score_rejected for row in rows]),
        np.array([len(row.chosen) - len(row.rejected) for row in rows]),
    )
    wanted = spearmanr(np.concatenate([score, -score]), np.concatenate([length, -length])).statistic
    report = biases.length_report(rows)
    assert report.correlation.value == pytest.approx(wanted)
    assert report.ties == sum(score == 0) and report.longer_wins.n == sum((score != 0) & (length != 0))
    assert report.longer_wins.value == pytest.approx(
        np.mean((score > 0)[(score != 0) & (length != 0)] == (length > 0)[(score != 0) & (length != 0)])
    )


def test_too_little_to_tell_is_said_and_not_guessed():
    (a, b), (c, d) = paired(texts_of(2, length=lambda prompt, number: 10))
    report = biases.length_report([vote(a, b, "first"), vote(c, d, "second")], texts=[a, b, c, d])
    assert report.longer_wins is None and report.correlation is None and "do not show" in report.sentence
    assert report.same_length == 2
    assert biases.share([True], ["one"]) is None
    certain = biases.share([True] * 40, [str(at % 20) for at in range(40)])
    assert (certain.low, certain.high) == intervals.wilson(20, 20) and certain.n == 40


def test_pairs_that_need_no_judge_are_not_held_against_it(known):
    texts, truth = known
    blank, twice = Instruction("prompt 0", output=" "), Instruction("prompt 0", output="the same")
    spaced = Instruction("prompt 0", output="the same ")
    people = crowd(texts, truth) + [
        Vote(a.id, b.id, "first", name)
        for a, b in ((texts[0], blank), (twice, spaced))
        for name in ("ann", "ben", "cid")
    ]
    every = [*texts, blank, twice, spaced]
    found = calibration.calibrate(scored(texts, truth, 0), people, texts=every)
    assert found.not_asked == 2 and found.unanswered == 0 and found.is_good_enough
    assert "2 with an empty text or one twice" in repr(found)
    strict = calibration.calibrate(scored(texts, truth, 0), people, texts=every, missing_is_wrong=True)
    assert strict.not_asked == 0 and strict.unanswered == 2 and strict.pairs == found.pairs + 2


def test_a_judge_that_was_asked_once_answers_wherever_people_voted_again(known):
    texts, truth = known
    people = crowd(texts, truth)
    once = [Vote(p.second, p.first, "second" if p.counts[0] > 1 else "first", "judge") for p in pairs(people)]
    again = [*people, *people]
    found = calibration.calibrate(once, again, texts=texts)
    assert (found.pairs, found.unanswered) == (2 * len(once), 0) and found.accuracy.n > len(once)
    by_row = calibration.calibrate([*once, once[0]], again, texts=texts)  # asked row by row, and not about all
    assert by_row.unanswered == len(once) - 1


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_a_judge_that_was_never_compared_may_mark_but_filters_only_by_name_and_says_so(known):
    texts, truth = known
    rated = scored(texts, truth, 2)
    low = sum(each.value < 2 for each in rated)
    marks = calibration.marks(rated, at_least=2)
    assert len(kept(texts, marks)) == 800 and len(marks.low) == low > 100
    assert f"{low} of 800 records rated below 2; marked, not filtered" in repr(marks)
    with pytest.raises(InputError, match=r"never compared with people.*uncalibrated=True"):
        calibration.filtered_by(marks)
    verdicts = calibration.filtered_by(marks, uncalibrated=True)
    assert {verdict.check for verdict in verdicts} == {"judge.uncalibrated"}
    assert "uncalibrated: it was never compared with people" in repr(verdicts)
    assert all("uncalibrated" in verdict.detail for verdict in verdicts)
    assert len(kept(texts, verdicts)) == 800 - len(verdicts.failed) == 800 - low


def test_a_run_that_an_uncalibrated_judge_filtered_says_so_wherever_it_is_shown(tmp_path):
    async def answered(number, client):
        return Instruction("Why?", output=f"Because of {number}.")

    run = runner.run(answered, range(4), client=Scripted(""), out=tmp_path, options=runner.Options(progress=False))
    marks = calibration.marks([rating(text, at) for at, text in enumerate(run.records, 1)], at_least=3)
    assert len(run.mark(marks).kept()) == 4 and not run.warning
    run.mark(calibration.filtered_by(marks, uncalibrated=True))
    said = "Filtered by an uncalibrated judge: it was never compared with people."
    assert len(run.kept()) == 2 and said in repr(run) and said in run._repr_html_()
    assert "judge.uncalibrated: low_rating" in {step.label for step in run.funnel()}


def test_a_judge_that_is_as_good_as_a_person_may_filter_and_says_how_good_it_is(known):
    texts, truth = known
    good = scored(texts, truth, 0)
    found = calibration.calibrate(good, crowd(texts, truth), texts=texts)
    verdicts = calibration.filtered_by(calibration.marks(good, at_least=2), found)
    assert {verdict.check for verdict in verdicts} == {"judge"} and found.sentence in repr(verdicts)


def test_a_calibration_holds_for_its_own_judge_prompts_and_dimensions_alone(known):
    texts, truth = known
    good = scored(texts, truth, 0)
    judged = [*good, *(replace(each, dimension="honesty") for each in scored(texts, truth, 9))]
    found = calibration.calibrate(judged, crowd(texts, truth), texts=texts)
    weak = calibration.calibrate(scored(texts, truth, 4), crowd(texts, truth), texts=texts)
    marks = calibration.marks(judged, at_least=2, dimension="helpfulness")
    assert calibration.filtered_by(marks, found).name.startswith("judge judge agrees")
    refused = [
        (
            calibration.marks(judged, at_least=2, dimension="honesty"),
            found,
            "not shown to be as good as a person: honesty",
        ),
        (calibration.marks(good, at_least=2), weak, "not shown to be as good as a person: overall"),
        (calibration.marks([rating(texts[0], 1, rater="other")], at_least=2), found, "another judge"),
        (calibration.marks([rating(texts[0], 1, prompt="judge/new@1")], at_least=2), weak, "another judge"),
        (calibration.marks([rating(texts[0], 1, "style")], at_least=2, dimension="style"), found, "in style"),
    ]
    for marks, by, why in refused:
        with pytest.raises(InputError, match=why):
            calibration.filtered_by(marks, by)
        assert why in calibration.filtered_by(marks, by, uncalibrated=True).name


def four_dimensions(texts, truth, right_from=0):
    """Ratings in four dimensions, each asked for by a prompt of its own."""
    return [
        replace(each, dimension=name, provenance=replace(each.provenance, prompt=f"judge/{name}@1"))
        for name in ("helpfulness", "honesty", "instruction_following", "truthfulness")
        for each in scored(texts, truth, right_from)
    ]


def test_ratings_in_some_of_the_dimensions_do_not_filter_by_a_calibration_of_all(known):
    texts, truth = known
    judged = four_dimensions(texts, truth)
    found = calibration.calibrate(judged, crowd(texts, truth), texts=texts)
    assert calibration.filtered_by(calibration.marks(judged, at_least=2), found)
    assert found.judge.dimensions == ("helpfulness", "honesty", "instruction_following", "truthfulness")
    honest = [each for each in judged if each.dimension == "honesty"]
    with pytest.raises(
        InputError, match=r"were its ratings in helpfulness, honesty, .*and these are its ratings in honesty\."
    ):
        calibration.filtered_by(calibration.marks(honest, at_least=2), found)
    # In that one dimension they may, whether the others were given or not, and by its own prompt alone.
    for some in (judged, honest):
        assert calibration.filtered_by(calibration.marks(some, at_least=2, dimension="honesty"), found)
    other = [replace(each, provenance=replace(each.provenance, prompt="judge/helpfulness@1")) for each in honest]
    with pytest.raises(InputError, match=r"judge with judge/honesty@1, another judge"):
        calibration.filtered_by(calibration.marks(other, at_least=2, dimension="honesty"), found)
    with pytest.raises(InputError, match="nobody rated 'style'; there are ratings of honesty"):
        calibration.marks(honest, at_least=2, dimension="style")


def test_ratings_with_fewer_prompts_than_the_calibrated_ones_are_another_judges(known):
    texts, truth = known
    judged = [replace(each, provenance=replace(each.provenance, prompt=f"judge/{at % 2}@1"))
              for at, each in enumerate(scored(texts, truth, 0))]  # fmt: skip
    found = calibration.calibrate(judged, crowd(texts, truth), texts=texts)
    assert calibration.filtered_by(calibration.marks(judged, at_least=2), found)
    with pytest.raises(InputError, match="another judge"):
        calibration.filtered_by(calibration.marks(judged[::2], at_least=2), found)


def test_a_calibration_of_one_dimension_filters_by_it_whether_it_is_named_or_not(known):
    texts, truth = known
    good = scored(texts, truth, 0)
    found = calibration.calibrate(good, crowd(texts, truth), texts=texts)
    for dimension in ("", "helpfulness"):
        assert calibration.filtered_by(calibration.marks(good, at_least=2, dimension=dimension), found).name
    votes = [vote(*pair, winner) for pair, winner in zip(paired(texts), truth, strict=True)]
    by_votes = calibration.calibrate(votes, crowd(texts, truth), texts=texts)
    assert "were its votes, and these are its ratings in helpfulness" in by_votes.why_another(found.judge)


def test_a_text_to_which_no_dimension_applies_passes_without_a_score(known):
    texts, _ = known
    rated = [rating(text, value, "honesty") for text, value in zip(texts, (None, 1, 3), strict=False)]
    marks = calibration.marks(rated, at_least=3)
    assert [(mark.reason, mark.score) for mark in marks] == [("", None), ("low_rating", 1.0), ("", 3.0)]
    assert marks[1].detail == "rated 1 by judge, at least 3 is wanted"
    filtered = calibration.filtered_by(marks, uncalibrated=True)
    assert [verdict.passed for verdict in filtered] == [True, False, True]


# --- plots ------------------------------------------------------------------------------------------------------------


def drawn(figure):
    texts = [text for trace in figure.data for text in (trace.text or ())]
    return " ".join([figure.layout.title.text, *(figure.layout.yaxis.ticktext or ()), *texts])


def test_the_agreement_plot_has_judge_and_people_side_by_side(pandalm, calibrated):
    texts, votes = pandalm
    two = [
        calibration.calibrate(votes[name], people_of(votes), texts=texts) for name in ("pandalm-7b", "gpt-3.5-turbo")
    ]
    figure = plots.agreement(two)
    assert (
        figure.layout.title.text
        == "Agreement with people: pandalm-7b 67%, gpt-3.5-turbo 72%; people with each other 96%"
    )
    assert "67%, n 999" in drawn(figure) and "72%, n 974" in drawn(figure) and "kappa, pandalm-7b" in drawn(figure)
    grey = [
        label.strip()
        for label, colour in zip(figure.layout.yaxis.ticktext, figure.data[0].marker.color, strict=True)
        if colour == plots.GREY
    ]
    assert grey == ["people with each other", "alpha, people"] and "96%, n 2,757" in drawn(figure)
    assert "tone" in drawn(plots.agreement(calibrated)) and "<b>tone" not in drawn(plots.agreement(calibrated))
    with pytest.raises(InputError, match="at least one calibration"):
        plots.agreement([])


def test_the_gap_plot_marks_the_proposed_gap_beside_peoples_own_agreement(calibrated, known, pandalm):
    figure = plots.by_gap(calibrated)
    title = figure.layout.title.text.replace("<br>", " ")
    assert title.startswith(f"judge: as good as a person from a score gap of {calibrated.min_gap:g} on (")
    assert f"n {calibrated.accuracy.n}" in drawn(figure) and "people with each other" in drawn(figure)
    dotted = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert [trace.x[0] for trace in dotted] == [calibrated.min_gap]
    texts, truth = known
    coin = calibration.calibrate(scored(texts, truth, 9), crowd(texts, truth), texts=texts)
    assert "at no score gap" in plots.by_gap(coin).layout.title.text
    assert not [trace for trace in plots.by_gap(coin).data if trace.line.dash == "dot"]
    alone = calibration.calibrate(scored(texts, truth, 2), crowd(texts, truth, names=("ann",)), texts=texts)
    assert "people with each other" not in drawn(plots.by_gap(alone))
    _, votes = pandalm
    with pytest.raises(InputError, match="gave no scores"):
        plots.by_gap(calibration.calibrate(votes["pandalm-7b"], people_of(votes), texts=pandalm[0]))
