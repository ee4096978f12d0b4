"""Three people answer, two through Argilla's own SDK and one by clicks on its page, and what they said comes back by id."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import lab
from workbench import review
from workbench.errors import InputError, ReviewError
from workbench.records import Instruction, Preference, Provenance, Vote
from workbench.review import Response, Responses, replay
from workbench.review.questions import Question

ASKED = (Question("good", "Is it a good request?", "label", ("yes", "no")),)
# By hand. Ana and ben: 3 of 4 the same, half of it by chance: kappa 0.5. All three: of the pairs of answers about a record
# 1, 1/3, 1 and 1/3 are the same; half of all answers are yes, so Fleiss' kappa is (2/3 - 1/2) / (1 - 1/2), and
# Krippendorff's alpha 1 - (1/3) / (2 * 6 * 6 / (12 * 11)).
SAID = {"ana": "yes yes no no", "ben": "yes no no no", "cleo": "yes yes no yes"}
KAPPA_OF_TWO, KAPPA, ALPHA = 0.5, 0.333, 0.389


def first_shown(page, texts):
    """The text that the page shows, once it shows one."""
    page.get_by_text(re.compile("|".join(map(re.escape, texts)))).first.wait_for(timeout=30_000)
    return next(text for text in texts if page.get_by_text(text).first.is_visible())


@lab.needs_browser
@pytest.mark.filterwarnings("ignore")
def test_two_through_the_sdk_and_one_by_clicks_come_back_exactly_and_agree_as_computed_by_hand(argilla, tmp_path):
    sdk = pytest.importorskip("argilla")
    records = [Instruction(f"Plan the day of a {who}.") for who in ("baker", "sailor", "miner", "pilot")]
    vectors = {record.id: [1.0, at / 100] for at, record in enumerate(records)}  # all alike, whichever comes first
    wanted = {
        (record.id, name, value)
        for name, values in SAID.items()
        for record, value in zip(records, values.split(), strict=True)
    }
    pushed = review.push(
        records, argilla, name="requests of three", questions=ASKED, annotators=list(SAID), overlap=3, vectors=vectors
    )
    client = sdk.Argilla(api_url=argilla.url, api_key=argilla.api_key)
    dataset = next(each for each in client.datasets if each.name == "requests of three")
    for name in ("ana", "ben"):
        user = client.users(name)
        values = {record.id: value for record, value in zip(records, SAID[name].split(), strict=True)}
        shown = list(dataset.records(with_responses=True))
        for record in shown:
            record.responses.add(sdk.Response("good", values[record.id], user_id=user.id, status="submitted"))
        dataset.records.log(shown)

    left = {record.instruction: value for record, value in zip(records, SAID["cleo"].split(), strict=True)}
    with lab.browser() as page:
        page.goto(pushed.link("cleo"))
        page.get_by_text("requests of three").first.wait_for(timeout=30_000)
        page.goto(pushed.url)
        first_shown(page, left)
        page.screenshot(path=tmp_path / "1-record.png")
        page.get_by_text("Find similar").first.click()
        page.get_by_text("100%").first.wait_for(timeout=15_000)  # how alike the nearest is
        page.screenshot(path=tmp_path / "2-similar.png")
        page.goto(pushed.url)
        while left:
            text = first_shown(page, left)
            page.wait_for_timeout(500)  # the page draws a record first, and gives it its form a moment later
            page.get_by_text(left.pop(text), exact=True).first.click()
            with page.expect_response(lambda answer: "/responses" in answer.url and answer.request.method != "GET"):
                page.get_by_role("button", name="Submit").first.click()
            page.get_by_text(text).first.wait_for(state="hidden", timeout=15_000)
        page.screenshot(path=tmp_path / "3-done.png")

    answers = review.pull(argilla, "requests of three")
    assert {(each.record_id, each.annotator, each.value) for each in answers.submitted} == wanted and len(answers) == 12
    found = review.agreement.measure(answers, questions=ASKED).of("good")
    (two,) = (
        each
        for each in review.agreement.between(answers, questions=ASKED)
        if {each.first, each.second} == {"ana", "ben"}
    )
    assert round(two.kappa.value, 3) == KAPPA_OF_TWO
    assert (round(found.kappa.value, 3), round(found.alpha.value, 3)) == (KAPPA, ALPHA)


# --- answers that are there already


PAIRS = [
    Preference("Which?", f"this {at}", f"that {at}", provenance=Provenance("preference", parents=(f"a{at}", f"b{at}")))
    for at in range(12)
]
AT = "2026-05-01T12:00:00+00:00"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.sampled_from(["first", "second", "tie"]), st.sampled_from("xy")), unique_by=lambda each: (each[0], each[3])))  # fmt: skip
def test_votes_become_answers_and_votes_again_whichever_text_is_shown_first(drawn):
    """The side that was voted for, by the ids of the texts, is the same there and back."""
    votes = [
        Vote(*((f"b{at}", f"a{at}") if turned else (f"a{at}", f"b{at}")), winner, rater)
        for at, turned, winner, rater in drawn
    ]
    liked = lambda vote: {"first": vote.first, "second": vote.second}.get(vote.winner)
    back = replay.from_votes(votes, PAIRS).votes(PAIRS)
    key = lambda vote: (frozenset((vote.first, vote.second)), vote.rater)
    assert {key(vote): liked(vote) for vote in back} == {key(vote): liked(vote) for vote in votes}


def test_votes_on_other_texts_are_counted_and_of_two_by_one_person_the_later_counts():
    votes = [Vote("a1", "b1", "first", "x"), Vote("zzz", "b1", "first", "x"), Vote("b1", "a1", "first", "x")]
    found = replay.from_votes(votes, PAIRS)
    assert "1 votes are on texts that are not among the records" in repr(found)
    assert [vote.winner if vote.first == "b1" else {"second": "first"}[vote.winner] for vote in found.votes(PAIRS)] == [
        "first"
    ]


def test_answers_are_put_there_as_their_people_and_to_do_it_again_changes_nothing(argilla):
    name, asked = "answers there already", ASKED
    records = [Instruction(f"Count to {at}.") for at in range(150)]  # more than one request takes
    review.push(records, argilla, name=name, questions=asked, annotators=["ida", "jon"], overlap=2)
    said = [Response(record.id, "good", "yes", "ida", "submitted", AT) for record in records]
    said += [
        Response(records[0].id, "good", "no", "jon", "draft", AT),
        Response(records[1].id, "good", None, "jon", "discarded", AT),
    ]
    assert replay.answer(Responses(tuple(said)), argilla, name) == 152
    assert replay.answer(Responses(tuple(said)), argilla, name) == 152
    back = review.pull(argilla, name)
    shown = lambda responses: {(each.record_id, each.annotator, each.value, each.status) for each in responses}
    assert shown(back) == shown(said) and {each.source for each in back} == {"argilla"}


def test_answers_that_fit_nowhere_are_refused_by_name_before_any_is_put(argilla):
    name, record = "answers that fit nowhere", Instruction("Say hello.")
    review.push([record], argilla, name=name, questions=ASKED, annotators=["ida"], overlap=1)
    one = Response(record.id, "good", "yes", "ida", "submitted", AT)
    cases = [
        (Response("nobody", "good", "yes", "ida", "submitted", AT), InputError, "1 records were never pushed"),
        (Response(record.id, "bad", "yes", "ida", "submitted", AT), InputError, "does not ask 'bad'; it asks good"),
        (Response(record.id, "good", "yes", "a stranger", "submitted", AT), ReviewError, "'a stranger' is no user"),
    ]
    for odd, error, words in cases:
        with pytest.raises(error, match=words):
            replay.answer(Responses((one, odd)), argilla, name)
    with pytest.raises(ReviewError, match="1 answers of ida are refused"):
        replay.answer(Responses((Response(record.id, "good", "maybe", "ida", "submitted", AT),)), argilla, name)
    with pytest.raises(ReviewError, match="has no dataset 'nowhere'"):
        replay.answer(Responses((one,)), argilla, "nowhere")
    assert len(review.pull(argilla, name)) == 0
