"""Agreement of people is measured, settled and planned as hand computations, libraries and published tables say."""

import itertools
import math
import random
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import kinds
from workbench import imports, intervals
from workbench.errors import InputError, MissingLibrary
from workbench.intervals import Interval
from workbench.quality import agreement as of_votes
from workbench.records import Instruction, Label, Preference, Rating, Verdict, Vote
from workbench.review import agreement
from workbench.review._wire import Suggestion
from workbench.review.questions import Question, is_turned, text_ids
from workbench.review.responses import Response, Responses

AT = "2026-01-01T00:00:00+00:00"
USEFUL = Question("useful", "How useful?", "rating", ("1", "2", "3", "4", "5"))


def given_by(answers, question="good", status="submitted"):
    """Responses of {person: [answer to record r0, r1, ...]}; None is no answer."""
    return Responses(
        Response(f"r{at}", question, value, person, status, AT)
        for person, values in answers.items()
        for at, value in enumerate(values)
        if value is not None
    )


def says(letters, judge="judge"):
    """What a judge says, a letter a record as for people."""
    return [Suggestion(each.record_id, each.question, each.value, judge) for each in yes_no(judge=letters)]


def yes_no(**people):
    """Responses of people by name, a letter a record: y, n, or - for none."""
    words = {"y": "yes", "n": "no", "-": None}
    return given_by({person: [words[letter] for letter in letters] for person, letters in people.items()})


# --- how far they agree -----------------------------------------------------------------------------------------------


def test_kappa_of_two_people_is_that_of_a_hand_computation():
    # 20 times yes and yes, 5 yes and no, 10 no and yes, 15 no and no: observed 0.7, by chance 0.5, so kappa is 0.4.
    found = agreement.measure(yes_no(ann="y" * 25 + "n" * 25, ben="y" * 20 + "n" * 5 + "y" * 10 + "n" * 15)).of("good")
    assert (found.kappa.value, found.same.value, found.records) == (pytest.approx(0.4), pytest.approx(0.7), 50)
    assert found.people == ("ann", "ben") and found.kappa.low < 0.4 < found.kappa.high
    (pair,) = agreement.between(yes_no(ann="y" * 25 + "n" * 25, ben="y" * 20 + "n" * 5 + "y" * 10 + "n" * 15))
    assert (pair.first, pair.second, pair.kappa, pair.same) == ("ann", "ben", found.kappa, found.same)


# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section D: four observers, twelve units, some missing.
KRIPPENDORFF = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None], "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None], "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}  # fmt: skip


def test_alpha_is_krippendorffs_own_for_labels_and_for_ratings():
    labels = {
        person: [None if each is None else f"class {each}" for each in row] for person, row in KRIPPENDORFF.items()
    }
    nominal = agreement.measure(given_by(labels)).of("good").alpha
    ordinal = agreement.measure(given_by(KRIPPENDORFF)).of("good").alpha
    assert (round(nominal.value, 3), round(ordinal.value, 3), nominal.n) == (0.743, 0.815, 11)
    assert ordinal.low < 0.815 < ordinal.high


def alpha_by_hand(units, is_ordinal):
    """Krippendorff's alpha from all ordered pairs of values within units and between any two values, in fractions."""
    units = [unit for unit in units if len(unit) > 1]
    values = sorted(value for unit in units for value in unit)
    count = Counter(values)

    def apart(a, b):
        if not is_ordinal:
            return Fraction(a != b)
        low, high = sorted((a, b))
        within = sum(n for value, n in count.items() if low <= value <= high)
        return Fraction(2 * within - count[a] - count[b], 2) ** 2

    observed = sum(sum(apart(a, b) for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    expected = sum(apart(a, b) for a, b in itertools.permutations(values, 2)) / Fraction(len(values) - 1)
    return 1 - observed / expected


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.none() | st.integers(1, 5), min_size=3, max_size=3), min_size=3, max_size=15), st.booleans()
)
def test_alpha_is_what_its_definition_says_with_answers_missing(rows, is_ordinal):
    name = (lambda value: value) if is_ordinal else (lambda value: value and f"class {value}")
    responses = given_by({person: [name(row[at]) for row in rows] for at, person in enumerate(("ann", "ben", "cem"))})
    units = [[value for value in row if value is not None] for row in rows]
    several = [unit for unit in units if len(unit) > 1]
    if not any(units):
        with pytest.raises(InputError, match="no answer was submitted"):
            agreement.measure(responses)
        return
    found = agreement.measure(responses).of("good")
    assert found.records == len(several)
    if len(several) < 2 or len({value for unit in several for value in unit}) < 2:
        assert found.alpha is None and found.reading == "not known"
    else:
        assert found.alpha.value == pytest.approx(float(alpha_by_hand(units, is_ordinal)))
        assert found.alpha.low <= found.alpha.high <= 1


def test_the_draws_of_ordinal_alpha_are_the_librarys_on_resampled_records():
    import krippendorff

    rng = random.Random(3)
    truth = [rng.randint(1, 5) for _ in range(40)]
    rows = [[min(5, max(1, true + rng.choice((-1, 0, 0, 0, 1)))) for _ in range(3)] for true in truth]
    found = agreement.measure(given_by({f"p{at}": [row[at] for row in rows] for at in range(3)})).of("good").alpha
    draw, drawn = np.random.default_rng(11), []
    for _ in range(300):
        some = np.array([rows[at] for at in draw.integers(0, 40, 40)]).T
        drawn.append(krippendorff.alpha(some, level_of_measurement="ordinal"))
    assert found.value == pytest.approx(krippendorff.alpha(np.array(rows).T, level_of_measurement="ordinal"))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.03)


def test_groups_that_are_all_alike_leave_nothing_open():
    """Whichever are drawn, alpha and kappa are those of all."""
    ann, ben, cem = [1, 2, 3, 4, 5], [1, 3, 3, 5, 4], [2, 2, 3, 4, 5]
    groups = {f"r{at}": f"document {at // 5}" for at in range(30)}
    found = agreement.measure(given_by({"ann": ann * 6, "ben": ben * 6, "cem": cem * 6}), groups=groups).of("good")
    for each in (found.alpha, found.kappa, found.same):
        assert 0 < each.value < 1 and (each.low, each.high) == pytest.approx((each.value, each.value))


# Fleiss 1971, doi:10.1037/h0031619, as the field's textbooks have it: 10 records, 14 people, 5 classes, kappa 0.210.
FLEISS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1), (7, 7, 0, 0, 0), (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def test_kappa_of_more_people_is_fleiss_over_the_records_that_most_answered():
    responses = [
        Response(f"r{at}", "good", f"class {label}", f"p{person}", "submitted", AT)
        for at, counts in enumerate(FLEISS)
        for person, label in enumerate(label for label, count in enumerate(counts) for _ in range(count))
    ]
    assert round(agreement.measure(Responses(responses)).of("good").kappa.value, 3) == 0.210
    for count in (5, 15):
        more = [Response("more", "good", f"class {at % 5}", f"p{at}", "submitted", AT) for at in range(count)]
        found = agreement.measure(Responses([*responses, *more])).of("good")
        assert round(found.kappa.value, 3) == 0.210 and found.kappa.n == 10 and found.records == 11


@pytest.fixture(scope="module")
def pandalm(shared):
    """People's answers, a judge's, and the prompt of each record, a record for each row of the set."""
    found = imports.pandalm(shared / "pandalm")
    texts, given, rows = {text.id: text for text in found.instructions}, Counter(), []
    groups = {}
    for vote in found.votes:
        record = f"row {given[vote.rater]}"
        given[vote.rater] += 1
        groups[record] = texts[vote.first].asked
        rows.append(Response(record, "better", vote.winner, vote.rater, "submitted", AT))
    people = Responses(row for row in rows if row.annotator.startswith("annotator"))
    judge = [
        Suggestion(row.record_id, "better", row.value, "pandalm-7b") for row in rows if row.annotator == "pandalm-7b"
    ]
    return people, judge, groups, found


def test_the_people_of_pandalm_agree_as_published(pandalm):
    people, judge, groups, found = pandalm
    pairs = agreement.between(people, groups=groups)
    assert [round(pair.kappa.value, 3) for pair in pairs] == [0.852, 0.879, 0.862]
    votes = {name: [vote for vote in found.votes if vote.rater == name] for name in people.annotators}
    assert pairs[0].kappa == of_votes.cohen(votes["annotator1"], votes["annotator2"], texts=found.instructions)
    together = agreement.measure(people, judge=judge, groups=groups).of("better")
    every = [vote for some in votes.values() for vote in some]
    assert together.alpha == of_votes.krippendorff_alpha(every, texts=found.instructions)
    assert together.kappa == of_votes.fleiss(every, texts=found.instructions)
    assert (round(100 * together.judge.value, 2), together.judge.n) == (66.77, 999)  # its published accuracy
    assert (round(together.person.value, 4), together.person.n) == (round(2637 / 2757, 4), 2757)
    assert together.difference.high < 0 and together.reading == "reliable"


def test_a_judge_is_held_against_majorities_and_a_person_against_those_of_the_others():
    people = yes_no(ann="yyyyyyyynnnn", ben="yyyyyyynnnnn", cem="yyyyyyyynnnn")
    found = agreement.measure(people, judge=says("yyyyyynnnnnn"))
    good = found.of("good")
    assert (good.judge.value, good.judge.n) == (10 / 12, 12)
    # On record 7 ben stands against two, and for each of those the other two are tied: of 34 held against others, one is off.
    assert (good.person.value, good.person.n) == (pytest.approx(33 / 34), 34)
    assert good.difference.value == pytest.approx(30 / 34 - 33 / 34)
    assert good.judge_kappa.value == pytest.approx((10 / 12 - 0.5) / 0.5)
    assert "judge with people" in repr(found) and "83%" in repr(found)


def test_ratings_are_held_against_the_median_and_labels_against_the_majority():
    people = given_by({"ann": [1, 2, 3, 4, 5, 5], "ben": [1, 2, 3, 4, 5, 4]}, "useful")
    judge = [Suggestion(f"r{at}", "useful", value, "judge") for at, value in enumerate([1, 2, 3, 4, 5, 4.5])]
    found = agreement.measure(people, judge=judge, questions=[USEFUL]).of("useful")
    assert found.judge_alpha.value == 1.0 and found.judge.value == 1.0 and found.judge_kappa is None
    assert found.alpha.value == pytest.approx(
        float(alpha_by_hand([[1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [5, 4]], True))
    )


def test_agreement_of_a_cluster_is_that_of_its_records_alone():
    people = yes_no(ann="yynnyynnyyyy", ben="yynnyynnnnnn")
    clusters = {f"r{at}": "easy" if at < 8 else "hard" for at in range(11)}
    found = agreement.measure(people, clusters=clusters)
    assert [(each.cluster, each.records) for each in found] == [
        ("", 12),
        ("easy", 8),
        ("hard", 3),
        ("in no cluster", 1),
    ]
    assert found.of("good", "easy").kappa.value == 1.0 and found.of("good", "easy").same.value == 1.0
    assert found.of("good", "easy").same.low < 0.8  # eight of eight do not show that all would
    hard = found.of("good", "hard")
    assert hard.same.value == 0.0 and hard.kappa.value == 0.0 and hard.alpha.value < 0
    assert hard.reading == "3 records are too few to tell"
    alone = found.of("good", "in no cluster")
    assert (alone.same, alone.alpha, alone.kappa, alone.person) == (None,) * 4 and alone.reading == "not known"
    assert "easy" in repr(found) and "<td" in found._repr_html_()


def test_records_of_one_group_are_resampled_together():
    people = given_by({"ann": ["yes", "no"] * 40, "ben": (["yes", "no"] * 3 + ["no", "yes"]) * 10})
    groups = {f"r{at}": f"document {at // 8}" for at in range(80)}
    alike = agreement.measure(people, groups=groups).of("good")
    apart = agreement.measure(people).of("good")
    assert alike.same.value == apart.same.value == 0.75
    assert alike.same.low == alike.same.high and apart.same.low < 0.7 < 0.8 < apart.same.high
    assert alike.groups == 10 and alike.reading == "not shown to be reliable" and apart.groups == 80
    few = agreement.measure(people, groups={f"r{at}": f"document {at // 16}" for at in range(80)}).of("good")
    assert few.reading == "5 groups are too few to tell"
    assert alike.alpha.low == pytest.approx(alike.alpha.high) and apart.alpha.low < 0.4


def test_of_a_judge_that_was_asked_in_both_orders_the_order_that_people_see_counts():
    records = [Preference("p", f"good {at}", f"bad {at}") for at in range(6)]
    ids = [text_ids(each) for each in records]
    votes = [vote for a, b in ids for vote in (Vote(a, b, "first", "judge"), Vote(b, a, "first", "judge"))]
    people = Responses(
        [Response(each.id, "better", "first", who, "submitted", AT) for each in records for who in ("ann", "ben")]
    )
    for rows in (votes, votes[::-1]):  # whichever came last
        assert {each.value for each in agreement.judged(rows, records)} == {"first"}
        assert agreement.measure(people, judge=agreement.judged(rows, records)).of("better").judge.value == 1
    turned = [Vote(b, a, "first", "judge") for a, b in ids]  # asked in that order alone
    assert [each.value for each in agreement.judged(turned, records)] == ["second"] * 6


def test_what_does_not_count_is_left_out_and_counted():
    rows = [*yes_no(ann="yyn", ben="yn-")]
    rows += [Response("r9", "good", "yes", "ann", "draft", AT), Response("r8", "good", None, "ben", "discarded", AT)]
    rows.append(Response("r7", "good", None, "ann", "draft", AT))  # left open, or taken back
    found = agreement.measure(Responses(rows), judge=says("y"))
    assert found.left_out == {
        "drafts": 1, "discarded answers": 1, "answers that nobody else gave one beside": 1,
        "answered records without the judge's": 2,
    }  # fmt: skip
    assert found.of("good").records == 2
    assert "Left out: drafts: 1; discarded answers: 1;" in repr(found) and "Left out" in found._repr_html_()


def test_texts_are_not_compared_and_a_choice_of_several_is_the_same_in_any_order():
    questions = [
        Question("why", "Why?", "text"), Question("topics", "Topics?", "multi_label", ("a", "b", "c")),
        Question("order", "Order?", "ranking", ("a", "b")),
    ]  # fmt: skip
    rows = []
    for at in range(4):
        for person in ("ann", "ben"):
            swap = slice(None, None, -1 if person == "ben" else 1)
            rows.append(Response(f"r{at}", "why", f"{person} {at}", person, "submitted", AT))
            rows.append(Response(f"r{at}", "topics", ("a", "bc"[at % 2])[swap], person, "submitted", AT))
            rows.append(Response(f"r{at}", "order", ("a", "b")[swap], person, "submitted", AT))
    found = agreement.measure(Responses(rows), questions=questions)
    assert [each.question for each in found] == ["topics", "order"]
    assert found.of("topics").same.value == 1.0 and found.of("topics").alpha.value == 1.0
    assert found.of("order").same.value == 0.0
    with pytest.raises(InputError, match="nobody was asked 'why'; there are topics, order"):
        found.of("why")


def test_answers_that_cannot_be_measured_are_refused_in_words():
    with pytest.raises(InputError, match="no answer was submitted"):
        agreement.measure(given_by({"ann": ["yes"]}, status="draft"))
    people = yes_no(ann="yn", ben="yn")
    with pytest.raises(InputError, match="'good' is answered by judge, other"):
        agreement.measure(people, judge=[*says("y-"), *says("-n", "other")])
    with pytest.raises(InputError, match="ann is among the people"):
        agreement.measure(people, judge=says("yn", "ann"))
    with pytest.raises(InputError, match="'useful' is a rating, and 'many' is no number"):
        agreement.measure(given_by({"ann": [1, "many"], "ben": [1, 2]}, "useful"), questions=[USEFUL])


def test_names_are_text_in_what_is_drawn():
    rows = [
        Response(f"r{at}", kinds.EVIL, "yn"[at % 2], kinds.EVIL + "ab"[at // 8], "submitted", AT) for at in range(16)
    ]
    people = Responses(
        [*rows, *(Response(f"r{at}", kinds.EVIL, kinds.EVIL, f"c{kinds.EVIL}", "submitted", AT) for at in range(8))]
    )
    clusters = {f"r{at}": kinds.EVIL for at in range(4)}
    for shown in (
        agreement.measure(people, clusters=clusters),
        agreement.adjudication(people),
        agreement.consensus(people),
    ):
        assert "<script" not in shown._repr_html_() and "<img" not in shown._repr_html_()
        assert "&lt;script" in shown._repr_html_()


# --- a judge's rows as answers ----------------------------------------------------------------------------------------


def test_a_judges_ratings_votes_and_verdicts_become_answers():
    pairs = [Preference(f"ask {at}", "good", "bad") for at in range(4)]
    assert {is_turned(pair) for pair in pairs} == {True, False}
    votes = []
    for at, pair in enumerate(pairs):
        first, second = text_ids(pair)
        votes.append(Vote(*((first, second) if at % 2 else (second, first)), "second", "judge"))
    votes += [Vote(*text_ids(pairs[0]), "tie", "judge"), Vote("other", "texts", "first", "judge")]
    found = agreement.judged(votes, pairs)
    assert [(each.record_id, each.question, each.value, each.agent) for each in found] == [
        *((pair.id, "better", ("first", "second")[at % 2], "judge") for at, pair in enumerate(pairs) if at),
        (pairs[0].id, "better", "tie", "judge"),  # in the order that people see, so the other one does not count
    ]  # fmt: skip
    ratings = [
        Rating(pairs[0].id, "useful", 4.5, "judge"), Rating(pairs[1].id, "useful", None, "judge"),
        Rating(text_ids(pairs[2])[1], "honesty", 2, "judge"), Rating("unknown", "useful", 3, "judge"),
    ]  # fmt: skip
    assert [(each.record_id, each.question, each.value) for each in agreement.judged(ratings, pairs)] == [
        (pairs[0].id, "useful", 4.5), (pairs[2].id, "honesty_second", 2.0),
    ]  # fmt: skip
    verdicts = [Verdict(pairs[0].id, "support", True), Verdict(pairs[1].id, "support", False, reason="contradicted")]
    found = agreement.judged([*verdicts, Verdict("unknown", "support", True)], pairs, question="supported")
    assert [(each.question, each.value, each.agent) for each in found] == [
        ("supported", "yes", "support"), ("supported", "no", "support"),
    ]  # fmt: skip


# --- what they disagree on --------------------------------------------------------------------------------------------


def test_the_queue_has_disagreements_alone_the_furthest_apart_first():
    rows = [
        *yes_no(ann="yyyn", ben="yyny", cem="y-yy"), *given_by({"ann": [1, 2, 5], "ben": [5, 3, 5], "cem": [5, 3, 5]}, "useful"),
    ]  # fmt: skip
    queue = agreement.adjudication(Responses(rows))
    assert [(each.record_id, each.question, round(each.dispute, 3), each.is_tied) for each in queue] == [
        ("r2", "good", 0.667, False), ("r3", "good", 0.667, False), ("r0", "useful", 0.667, False), ("r1", "useful", 0.167, False),
    ]  # fmt: skip
    assert queue[0].answers == {"ann": "yes", "ben": "no", "cem": "yes"} and queue.record_ids == (
        "r2",
        "r3",
        "r0",
        "r1",
    )
    assert queue.answered == 4 and "4 of 4 records" in repr(queue) and len(queue[:2]) == 2
    two = agreement.adjudication(Responses([*rows, *yes_no(ann="----y", ben="----n")]))
    assert two[0].record_id == "r4" and two[0].is_tied and two[0].dispute == 1.0


def test_what_was_decided_leaves_the_queue_and_the_queue_gives_records_in_its_order():
    records = [Label(f"text {at}", "x") for at in range(3)]
    named = {f"r{at}": record.id for at, record in enumerate(records)}
    people = Responses(
        Response(named[row.record_id], row.question, row.value, row.annotator, row.status, row.at)
        for row in yes_no(ann="yyy", ben="nyn", cem="y-n")
    )
    queue = agreement.adjudication(people)
    assert queue.of(records) == [records[0], records[2]]
    decided = Responses([Response(records[0].id, "good", "no", "zoe", "submitted", AT)])
    assert agreement.adjudication(people, decided=decided).of(records) == [records[2]]
    draft = Responses([Response(records[0].id, "good", "no", "zoe", "draft", AT)])
    assert len(agreement.adjudication(people, decided=draft)) == 2
    assert len(agreement.adjudication(yes_no(ann="yy", ben="yy"))) == 0


# --- what they say together -------------------------------------------------------------------------------------------


def test_a_majority_settles_and_a_tie_stays_a_tie_and_is_said():
    found = agreement.consensus(yes_no(ann="yyn", ben="yny", cem="nyn", dan="--y"))
    assert [(each.value, each.tied, each.people) for each in found] == [
        ("yes", (), 3),
        ("yes", (), 3),
        (None, ("no", "yes"), 4),
    ]
    assert [round(each.share, 3) for each in found] == [0.667, 0.667, 0.5]
    assert "2 of 3 answers are settled (people by majority); 1 tied, which stay open." in repr(found)
    assert found.value("r2", "good") is None and [each.record_id for each in found.ties] == ["r2"]
    assert found.weights == {}


def test_ratings_give_the_median():
    found = agreement.consensus(given_by({"ann": [1, 1, 5], "ben": [5, 2, 5], "cem": [5, None, 1]}, "useful"))
    assert [each.value for each in found] == [5, 1.5, 5] and not found.ties


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=9))
def test_the_median_of_equal_weights_is_the_median(values):
    found = agreement.consensus(given_by({f"p{at}": [value] for at, value in enumerate(values)}, "useful"))
    assert found[0].value == np.median(values)


def test_a_weight_is_how_near_a_person_is_to_the_others_and_the_heavier_side_of_a_tie_wins():
    # Dan is against the three others ten times; on record 10 two stand against two, so each of the four is off there.
    people = yes_no(ann="yyyyynnnnny-", ben="yyyyynnnnny-", cem="yyyyynnnnnn-", dan="nnnnnyyyyyn-", eve="-----------y")
    found = agreement.consensus(people, method="weighted")
    near = {"ann": 10, "ben": 10, "cem": 10, "dan": 0}
    wanted = {person: (hits + 1) / (11 + 2) for person, hits in near.items()} | {"eve": 1 / 2}
    assert found.weights["good"] == pytest.approx(wanted)
    assert found.value("r10", "good") == "yes" and found[10].share == pytest.approx(22 / 34) and not found.ties
    assert agreement.consensus(people).value("r10", "good") is None
    assert "What each person counts: good: ann 0.85" in repr(found)


def test_weights_of_ratings_fall_with_the_distance():
    people = given_by({"ann": [1, 5, 2], "ben": [1, 5, 2], "cem": [5, 1, 3]}, "useful")
    found = agreement.consensus(people, method="weighted")
    # Cem is 4, 4 and 1 of 4 from what ann and ben say; they are half of each from the middle between them and cem.
    assert found.weights["useful"] == pytest.approx(
        {"cem": (0.75 + 1) / 5, "ann": (0.5 + 0.5 + 0.875 + 1) / 5, "ben": 2.875 / 5}
    )
    assert [each.value for each in found] == [1, 5, 2]


# --- Dawid and Skene --------------------------------------------------------------------------------------------------

# Dawid and Skene 1979, doi:10.2307/2346806, table 1: what five anaesthetists say of 45 patients, the first of them three times.
PATIENTS = """
111 1 1 1 1, 333 4 3 3 4, 112 2 1 2 2, 222 3 1 2 1, 222 3 2 2 2, 222 3 3 2 2, 122 2 1 1 1, 333 3 4 3 3, 222 2 2 2 3,
232 2 2 2 3, 444 4 4 4 4, 222 3 3 4 3, 111 1 1 1 1, 222 3 2 1 2, 121 1 1 1 1, 111 2 1 1 1, 111 1 1 1 1, 111 1 1 1 1,
222 2 2 2 1, 222 1 3 2 2, 222 2 2 2 2, 222 2 2 2 1, 222 3 2 2 2, 221 2 2 2 2, 111 1 1 1 1, 111 1 1 1 1, 232 2 2 2 2,
111 1 1 1 1, 111 1 1 1 1, 112 1 1 2 1, 111 1 1 1 1, 333 3 2 3 3, 111 1 1 1 1, 222 2 2 2 2, 222 3 2 3 2, 433 4 3 4 3,
221 2 2 3 2, 232 3 2 3 3, 333 3 4 3 2, 111 1 1 1 1, 111 1 1 1 1, 121 2 1 1 1, 232 2 2 2 2, 121 1 1 1 1, 222 2 2 2 2
"""
CASES = [patient.split() for patient in PATIENTS.replace("\n", " ").strip().split(", ")]
ROWS = [
    (f"patient {at}", f"observer {person}", int(said) - 1)
    for at, case in enumerate(CASES, 1)
    for person, answers in enumerate(case, 1)
    for said in answers
]


def em_by_hand(rows, classes, steps=100):
    """The paper's equations 2.3 to 2.5 in their own order, over dictionaries."""
    records, people = (list(dict.fromkeys(row[at] for row in rows)) for at in (0, 1))
    chances = {
        record: np.bincount([said for r, _, said in rows if r == record], minlength=classes) for record in records
    }
    chances = {record: each / each.sum() for record, each in chances.items()}
    for _ in range(steps):
        priors = sum(chances.values()) / len(records)
        errors = {person: np.zeros((classes, classes)) for person in people}
        for record, person, said in rows:
            errors[person][:, said] += chances[record]
        errors = {person: each / np.maximum(each.sum(axis=1, keepdims=True), 1e-300) for person, each in errors.items()}
        likely = {record: priors.copy() for record in records}
        for record, person, said in rows:
            likely[record] = likely[record] * errors[person][:, said]
        chances = {record: each / each.sum() for record, each in likely.items()}
    return chances, priors, errors


@pytest.fixture(scope="module")
def crowdkit():
    return pytest.importorskip("crowdkit.aggregation", reason="needs crowd-kit: pip install -e .[review]")


def test_dawid_and_skene_give_what_they_published(crowdkit):
    chances, priors, errors = agreement.dawid_skene(ROWS)
    assert [round(each, 2) for each in priors] == [0.40, 0.42, 0.11, 0.07]  # table 2
    first = [[round(errors["observer 1"].get((true, said), 0.0), 2) for said in range(4)] for true in range(4)]
    assert first == [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]  # table 3
    published = [[1, 0, 0, 0], [0, 0, 0, 1], *[[0, 1, 0, 0]] * 4]  # table 4, the first six patients
    assert [[round(each, 2) for each in chances[f"patient {at}"]] for at in range(1, 7)] == published


def test_dawid_and_skene_are_their_equations(crowdkit):
    by_hand, priors, errors = em_by_hand(ROWS, 4)
    chances, its_priors, its_errors = agreement.dawid_skene(ROWS)
    for record, wanted in by_hand.items():
        assert chances[record] == pytest.approx(wanted, abs=1e-6)
    assert its_priors == pytest.approx(priors, abs=1e-6)
    for person, table in errors.items():
        found = [[its_errors[person].get((true, said), 0.0) for said in range(4)] for true in range(4)]
        assert np.allclose(found, table, atol=1e-6)


def test_dawid_and_skene_know_who_errs_where_a_majority_does_not(crowdkit):
    rng = random.Random(5)
    truth = [rng.choice(["yes", "no"]) for _ in range(200)]
    other = {"yes": "no", "no": "yes"}
    right = {"ann": 0.95, "ben": 0.95, "cem": 0.5, "dan": 0.5, "eve": 0.5}
    people = given_by({
        person: [true if rng.random() < chance else other[true] for true in truth] for person, chance in right.items()
    })  # fmt: skip
    hits = {}
    for method in ("majority", "weighted", "dawid_skene"):
        found = agreement.consensus(people, method=method)
        hits[method] = sum(found.value(f"r{at}", "good") == true for at, true in enumerate(truth))
    assert hits["majority"] < 185 < 188 <= hits["dawid_skene"]
    weights = found.weights["good"]
    assert weights["ann"] == pytest.approx(0.95, abs=0.05) and weights["ben"] == pytest.approx(0.95, abs=0.05)
    assert max(weights[person] for person in ("cem", "dan", "eve")) < 0.65


def test_dawid_and_skene_leave_tied_what_nothing_tells_apart(crowdkit):
    people = yes_no(ann="yyyyynnnnnyyynnn", ben="yyyyynnnnnnnnyyy")
    found = agreement.consensus(people, method="dawid_skene")
    assert len(found.ties) == 6 and "10 of 16 answers are settled (people by Dawid and Skene); 6 tied" in repr(found)
    assert {frozenset(each.tied) for each in found.ties} == {frozenset(["yes", "no"])}


def test_dawid_and_skene_of_answers_that_are_all_the_same_settle_them():
    found = agreement.consensus(yes_no(ann="yy", ben="yy"), method="dawid_skene")
    assert [each.value for each in found] == ["yes", "yes"] and found[0].share == 1.0


def test_dawid_and_skene_agree_with_people_who_agree(pandalm, crowdkit):
    people, _, _, _ = pandalm
    by_majority, by_both = (agreement.consensus(people, method=method) for method in ("majority", "dawid_skene"))
    assert sum(a.value == b.value for a, b in zip(by_majority, by_both, strict=True)) >= 990
    assert min(by_both.weights["better"].values()) > 0.93


def test_without_the_library_a_majority_still_stands_and_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)
    people = yes_no(ann="yn", ben="yy")
    assert len(agreement.consensus(people)) == 2
    with pytest.raises(MissingLibrary, match="'review' extra"):
        agreement.consensus(people, method="dawid_skene")


# --- what is made of it -----------------------------------------------------------------------------------------------


def test_what_one_person_decided_holds_and_the_rest_is_as_people_say():
    people, decided = yes_no(ann="yyn", ben="yny"), yes_no(zoe="-yn--y")
    found = agreement.consensus(people, decided=decided)
    assert [(each.record_id, each.value, each.by) for each in found] == [
        ("r0", "yes", ""), ("r1", "yes", "zoe"), ("r2", "no", "zoe"), ("r5", "yes", "zoe"),
    ]  # fmt: skip
    assert not found.ties and "3 decided by one" in repr(found)
    with pytest.raises(InputError, match="ann, ben all decided 'good' about r0"):
        agreement.consensus(people, decided=people)
    with pytest.raises(InputError, match="'best' is no method; there are majority, weighted, dawid_skene"):
        agreement.consensus(people, method="best")


def test_verdicts_pass_what_people_accept_and_reject_or_leave_undecided_the_rest(tmp_path):
    run = kinds.run(tmp_path / "run", count=10)
    ids = [record.id for record in run.records if isinstance(record, Preference)][:5]
    rows = []
    for person, answers, numbers in (("ann", "yynny", [1, 2, 3, 4, 5]), ("ben", "ynnyy", [1, 4, 3, 4, 5])):
        for at, (letter, number) in enumerate(zip(answers, numbers, strict=True)):
            rows.append(Response(ids[at], "good", {"y": "yes", "n": "no"}[letter], person, "submitted", AT))
            rows.append(Response(ids[at], "useful", number, person, "submitted", AT))
    found = agreement.consensus(Responses(rows))
    verdicts = found.verdicts({"good": "yes", "useful": 3})
    of = lambda check: [(each.passed, each.reason) for each in verdicts if each.check == check]
    assert of("people.good") == [
        (True, ""),
        (False, "undecided"),
        (False, "rejected"),
        (False, "undecided"),
        (True, ""),
    ]
    assert of("people.useful") == [(False, "rejected"), (True, ""), (True, ""), (True, ""), (True, "")]
    assert (
        verdicts[0].detail == "yes, 100% of the answers, 2 people"
        and "tied: yes and no, 2 people" in verdicts[1].detail
    )
    run.mark(verdicts)
    assert {path.stem for path in (run.folder / "verdicts").iterdir()} == {"people.good", "people.useful"}
    kept = {record.id for record in run.kept()}
    assert [each in kept for each in ids] == [False, False, False, False, True]
    several = found.verdicts({"good": ("yes", "no")}, name="panel")
    assert [each.check for each in several] == ["panel.good"] * 5 and several.by_reason() == {"undecided": 2}
    with pytest.raises(InputError, match="nobody answered 'funny'; there are answers to good, useful"):
        found.verdicts({"funny": "yes"})


def test_what_people_say_becomes_votes_and_ratings_of_the_texts_that_they_saw():
    pairs = [Preference(f"ask {at}", f"good {at}", f"bad {at}") for at in range(3)]
    answers = {"ann": ["first", "second", "tie"], "ben": ["first", "second", "first"]}
    numbers = {"ann": [1, 4, 5], "ben": [2, 4, 5]}
    people = Responses(
        Response(pairs[at].id, question, value, person, "submitted", AT)
        for question, said in (("better", answers), ("honesty_second", numbers), ("useful", numbers))
        for person, values in said.items()
        for at, value in enumerate(values)
    )
    found = agreement.consensus(people)
    votes = found.votes(pairs)
    assert [vote.winner for vote in votes] == [
        "first",
        "second",
    ]  # where people are tied there is no vote, for a tie neither
    assert (votes[0].first, votes[0].second) == text_ids(pairs[0]) and votes[0].rater == "people by majority"
    ratings = found.ratings(pairs)
    assert [(each.subject, each.dimension, each.value) for each in ratings] == [
        *((text_ids(pair)[1], "honesty", value) for pair, value in zip(pairs, (1.5, 4.0, 5.0), strict=True)),
        *((pair.id, "useful", value) for pair, value in zip(pairs, (1.5, 4.0, 5.0), strict=True)),
    ]  # fmt: skip
    assert {each.rater for each in ratings} == {"people by majority"}


def test_what_people_say_becomes_labels():
    texts = [
        Label("same", "law"),
        Label("other", "law"),
        Instruction("bare"),
        Label("tied", "law"),
        Label("nobody", "law"),
    ]
    said = {"ann": ["law", "tax", "tax", "law"], "ben": ["law", "tax", "tax", "tax"]}
    people = Responses(
        Response(texts[at].id, "topic", value, person, "submitted", AT)
        for person, values in said.items()
        for at, value in enumerate(values)
    )
    labels = agreement.consensus(people).labels(texts, question="topic")
    assert labels[0] is texts[0] and [(each.text, each.label) for each in labels[1:]] == [
        ("other", "tax"),
        ("bare", "tax"),
    ]
    assert [each.provenance.parents for each in labels[1:]] == [(texts[1].id,), (texts[2].id,)]
    with pytest.raises(InputError, match="a Rating has no text to label"):
        rating = Rating("r0", "useful", 3)
        row = Response(rating.id, "topic", "law", "ann", "submitted", AT)
        agreement.consensus(Responses([row])).labels([rating], question="topic")


def test_a_value_is_asked_for_by_record_and_question():
    found = agreement.consensus(yes_no(ann="yn"))
    assert found.value("r1", "good") == "no" and len(found[:1]) == 1
    with pytest.raises(InputError, match="nobody answered 'good' about r7"):
        found.value("r7", "good")


# --- how many more ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "width"), [(0.5, 0.1), (0.9, 0.1), (0.8, 0.2), (0.0, 0.05), (1.0, 0.05), (0.67, 0.06)]
)
def test_a_share_needs_the_smallest_number_whose_wilson_interval_is_narrow_enough(share, width):
    def width_of(n):
        z2 = 1.959963984540054**2
        low, high = (
            (share + z2 / (2 * n) + sign * math.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2)) / (1 + z2 / n)
            for sign in (-1, 1)
        )
        return high - low

    n = agreement.needed(share, width)
    assert width_of(n) <= width < width_of(n - 1)
    if share in (0.0, 0.5, 1.0) and (share * n).is_integer():
        low, high = intervals.wilson(int(share * n), n)
        assert high - low == pytest.approx(width_of(n))
    assert agreement.needed(share, width, level=0.99) > n > agreement.needed(share, width, level=0.8)


def test_half_the_width_needs_four_times_the_records():
    found = Interval(0.7, 0.6, 0.8, 100)
    assert agreement.needed(found, 0.1) == 300 and agreement.needed(found, 0.2) == 0 == agreement.needed(found, 0.5)
    with pytest.raises(InputError, match="no width"):
        agreement.needed(Interval(1.0, 1.0, 1.0, 10), 0.1)
    for width in (0, -1, 2, float("nan")):
        with pytest.raises(InputError, match="a width is how far"):
            agreement.needed(found, width)
    with pytest.raises(InputError, match="a share is between 0 and 1"):
        agreement.needed(1.2, 0.1)


def test_as_many_more_records_as_are_needed_give_about_that_width():
    def two_people(count, seed):
        rng = random.Random(seed)
        truth = [rng.choice("yn") for _ in range(count)]
        say = lambda true: true if rng.random() < 0.9 else "yn"["yn".index(true) - 1]
        return yes_no(ann="".join(map(say, truth)), ben="".join(map(say, truth)))

    few = agreement.measure(two_people(120, 1)).of("good").kappa
    more = agreement.needed(few, 0.12)
    many = [agreement.measure(two_people(120 + more, seed)).of("good").kappa for seed in range(3)]
    assert np.mean([each.high - each.low for each in many]) == pytest.approx(0.12, rel=0.15)
