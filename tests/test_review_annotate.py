"""Questions, samples, responses, and records to a real Argilla and back, by record id."""

import base64
import contextlib
import http.server
import json
import math
import random
import struct
import threading
import zlib
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import lab
from tests.kinds import EVIL
from workbench import clusters, review, widgets
from workbench.errors import InputError, RecordError, ReviewError, StoreError
from workbench.quality import calibration, dedup, pairs
from workbench.records import (
    QA,
    Document,
    ImagePair,
    Instruction,
    Label,
    Passage,
    Persona,
    Preference,
    Provenance,
    Rating,
    Span,
    Step,
    Trace,
    Verdict,
    Vote,
)
from workbench.review import _dataset, _wire, annotate, questions, replay, sampling
from workbench.review._rest import Rest
from workbench.review.annotate import Suggestion
from workbench.review.questions import Question
from workbench.review.responses import Response, Responses

TIMES = [f"2026-05-01T12:00:{at:02}+00:00" for at in range(60)]


def qa(at, answer="yes", text=""):
    return QA(f"Question {at}? {text}", answer, "it says so", Passage(f"Passage {at} {text}", Span("d", 0, 9)))


def said(record, question, value, who="ana", status="submitted", at=TIMES[0], source="notebook"):
    return Response(getattr(record, "id", record), question, value, who, status, at, source)


ONE_OF_EACH = [
    qa(1), Preference("p", "a", "b"), Persona("a nurse"), Instruction("do", output="done"), Label("text", "x"),
    Trace("task", "[]", (Step("user", "hi"),)), ImagePair("draw", "a.png", "b.png"), Document("text", title="t"),
]  # fmt: skip


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_every_kind_of_record_has_questions_and_guidelines_that_explain_each(record):
    asked = questions.of(type(record))
    assert asked == questions.of(type(record).__name__) and any(each.is_required for each in asked)
    told = questions.guidelines(type(record))
    assert all(each.title in told and each.description in told for each in asked) and len(told) < 10_000
    assert all(isinstance(text, str | None) for text in questions.shown(record).values())
    assert next(iter(questions.shown(record).values())), "the first field is never missing"


@pytest.mark.parametrize("record", [Rating("id", "honesty", 3), Vote("a", "b", "tie")])
def test_what_is_an_answer_itself_is_not_asked_about(record):
    with pytest.raises(InputError, match="there are no questions about a"):
        questions.of(type(record))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "Big Name"}, "small letters"), ({"kind": "span"}, "there is no kind 'span'"), ({"title": " "}, "a title"),
        ({"options": ("a",)}, "two options"), ({"options": ("a", "a")}, "two options"), ({"options": ("a", "")}, "1 to 200"),
        ({"kind": "rating", "options": ("1", "11")}, "from 0 to 10"), ({"kind": "text"}, "a text has no options"),
    ],
)  # fmt: skip
def test_a_question_that_nobody_could_be_asked_is_refused(change, why):
    with pytest.raises(InputError, match=why):
        replace(Question("fine", "Fine?", "label", ("yes", "no")), **change)


@pytest.mark.parametrize(
    ("kind", "options", "good", "bad"),
    [
        ("label", ("a", "b"), ["a"], ["c", None, ("a",), 1]), ("text", (), ["anything"], ["", " ", None, 3]),
        ("rating", ("1", "2"), [1, 2], ["1", 3, True, 1.0, None]),
        ("multi_label", ("a", "b"), [("a",), ("b", "a")], [(), ("a", "a"), ("c",), ["a"], "a"]),
        ("ranking", ("a", "b"), [("b", "a")], [("a",), ("a", "b", "c"), ("a", "a")]),
    ],
)  # fmt: skip
def test_a_question_knows_what_answers_it(kind, options, good, bad):
    asked = Question("q", "Q?", kind, options)
    assert [asked.why_not(value) for value in good] == [""] * len(good)
    assert all(asked.why_not(value) for value in bad)


def test_half_of_the_pairs_are_shown_turned_round_the_same_half_for_everybody():
    some = [Preference(f"prompt {at}", f"good {at}", f"bad {at}") for at in range(600)]
    turned = [questions.is_turned(each) for each in some]
    assert 240 < sum(turned) < 360 and turned == [questions.is_turned(replace(each)) for each in some]
    for each, is_turned in zip(some, turned, strict=True):
        first, second = questions.texts(each)
        assert (first.output == each.rejected) == is_turned == (questions.shown(each)["first"] == each.rejected)
        assert questions.text_ids(each) == (first.id, second.id)


def test_a_pair_made_of_judged_texts_names_those_texts():
    texts = [
        Instruction(f"ask {at // 2}", output=f"text {at}", provenance=Provenance("x", parents=("a",)))
        for at in range(40)
    ]
    made = pairs.from_votes(
        texts, [Vote(a.id, b.id, "first", "judge") for a, b in zip(texts[::2], texts[1::2], strict=True)]
    ).records
    by_id = {text.id: text for text in texts}
    assert len(made) == 20
    for each in made:
        first, second = (by_id[key].output for key in questions.text_ids(each))
        assert questions.shown(each)["first"] == first and questions.shown(each)["second"] == second


def test_the_steps_of_a_trace_are_numbered_as_the_question_counts_them():
    steps = questions.shown(Trace("t", "[]", (Step("user", "hi"), Step("assistant", "", '[{"name": "f"}]'))))["steps"]
    assert steps == '[1] user: hi\n\n[2] assistant: \ncalls: [{"name": "f"}]'


# --- responses --------------------------------------------------------------------------------------------------------

VALUES = st.one_of(st.text(), st.integers(-9, 99), st.lists(st.text(max_size=3), max_size=3).map(tuple))
RESPONSE = st.builds(
    said,
    st.sampled_from(["r1", "r2", "r3"]), st.sampled_from(["better", "q\x00", "日本"]), VALUES, st.sampled_from(["ana", "ben"]),
    st.sampled_from(["submitted", "draft"]), st.sampled_from(TIMES[:5]), st.sampled_from(["argilla", "notebook"]),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(RESPONSE), st.lists(RESPONSE))
def test_merging_keeps_the_latest_of_each_and_nothing_twice(a, b):
    merged = Responses(a).merge(Responses(b))
    latest = {}
    for item in sorted([*a, *b], key=lambda item: item.at):  # stable: of equal times the last one given
        latest[item.key] = item
    assert {item.key: item for item in merged} == latest and len(merged) == len(latest)
    assert merged.merge(merged) == merged == merged.merge(Responses(b)).merge(Responses())


@settings(deadline=None)
@given(st.lists(RESPONSE))
def test_saved_and_loaded_they_are_the_same(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("responses") / "answers.parquet"
    found = Responses(items)
    assert review.load(found.save(path)) == found
    assert [json.loads(each) for each in found.table()["value"].to_pylist()] == [
        list(item.value) if isinstance(item.value, tuple) else item.value for item in found
    ]


def test_times_are_compared_as_moments_whatever_their_zone():
    late, early = (
        said("r", "q", "late", at="2026-05-01T12:30:00Z"),
        said("r", "q", "early", at="2026-05-01T14:00:00+02:00"),
    )
    assert [item.value for item in Responses([late]).merge(Responses([early]))] == ["late"]
    assert early.at == "2026-05-01T12:00:00.000000+00:00"


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026-05-01T12:00:00"}, {"at": "yesterday"}, {"at": None}, {"status": "pending"}, {"source": "elsewhere"},
        {"value": None}, {"value": 0.5}, {"value": True}, {"value": ("a", 1)}, {"record_id": ""}, {"annotator": None},
        {"status": "discarded"},
    ],
)  # fmt: skip
def test_what_is_no_response_is_refused(change):
    with pytest.raises(RecordError):
        replace(said("r", "q", "a"), **change)


def test_a_file_that_holds_no_responses_is_refused_in_words(tmp_path):
    path = Responses([said("r", "q", "a")]).save(tmp_path / "answers.parquet")
    with pytest.raises(StoreError, match="there is no file"):
        review.load(tmp_path / "none.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="no whole Parquet file"):
        review.load(tmp_path / "cut.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="holds no responses: it has the columns id"):
        review.load(tmp_path / "other.parquet")
    table = pq.read_table(path)
    for column, value in (("value", "{broken"), ("status", "maybe")):
        at = table.column_names.index(column)
        pq.write_table(table.set_column(at, column, pa.array([value])), tmp_path / "edited.parquet")
        with pytest.raises(StoreError, match="is no response"):
            review.load(tmp_path / "edited.parquet")


def test_parts_of_responses_and_how_they_look():
    found = Responses([
        said("r", "good", "yes"), said("r", "good", EVIL, "ben"), said("r", "score", 3, "ben", "draft"),
        said("s", "good", None, "cem", "discarded"), said("s", "tags", ("a", "b")),
    ], notes=("one was <lost>",))  # fmt: skip
    assert found.annotators == ("ana", "ben", "cem") and found.questions == ("good", "score", "tags")
    assert len(found.submitted) == 3 and len(found.of("good")) == 3 and found[1:2].annotators == ("ben",)
    assert "5 responses to 2 records by ana, ben, cem: 3 submitted, 1 draft, 1 discarded" in repr(found)
    assert "<img" not in found._repr_html_() and "one was &lt;lost&gt;" in found._repr_html_()
    with pytest.raises(InputError, match="nobody was asked 'godo'; people were asked good, score, tags"):
        found.of("godo")
    assert Responses().of("anything") == Responses() and "none" in repr(Responses())


def test_votes_and_ratings_are_about_the_texts_that_were_shown():
    pair, text = Preference("p", "good", "bad"), Instruction("do", output="done")
    first, second = questions.texts(pair)
    found = Responses([
        said(pair, "better", "second"), said(pair, "better", "tie", "ben"), said(pair, "better", "first", "cem", "draft"),
        said(pair, "honesty_second", 4), said(pair, "honesty_first", 2), said(text, "honesty", 5), said("gone", "better", "first"),
        said("gone", "honesty", 1), said(text, "clear", "yes"), said(text, "overall_first", 1),
    ])  # fmt: skip
    assert found.votes([pair, text]) == [
        Vote(first.id, second.id, "second", "ana"),
        Vote(first.id, second.id, "tie", "ben"),
    ]
    wanted = [
        (second.id, "honesty", 4),
        (first.id, "honesty", 2),
        (text.id, "honesty", 5),
        (text.id, "overall_first", 1),
    ]
    assert found.ratings([pair, text]) == [Rating(key, name, value, "ana") for key, name, value in wanted]


def test_votes_that_are_there_become_answers_to_what_is_shown_and_votes_again():
    some = [Preference("p", f"good {at}", f"bad {at}") for at in range(8)]
    assert {questions.is_turned(each) for each in some} == {True, False}
    other = Preference("p", "bad 0", "good 0")  # the same two texts, said to be the other way round
    for each in some:
        good, bad = (Instruction("p", output=text).id for text in (each.chosen, each.rejected))
        votes = [Vote(good, bad, "first", "ana"), Vote(bad, good, "first", "ben"), Vote(good, "x", "first", "cem")]
        found = replay.from_votes(votes, [*some, other])
        side, unlike = ("second", "first") if questions.is_turned(each) else ("first", "second")
        assert {item.annotator: item.value for item in found if item.record_id == each.id} == {
            "ana": side,
            "ben": unlike,
        }
        assert found.notes == ("1 votes are on texts that are not among the records",)
        winners = {(vote.rater, vote.first if vote.winner == "first" else vote.second) for vote in found.votes([each])}
        assert winners == {("ana", good), ("ben", bad)}
        assert {item.record_id for item in found} == ({each.id, other.id} if each is some[0] else {each.id})


def test_a_judge_is_calibrated_on_the_answers_of_people():
    some = [Preference(f"prompt {at}", f"good {at}", f"bad {at}") for at in range(20)]
    texts = [text for each in some for text in questions.texts(each)]
    better = lambda each: "second" if questions.is_turned(each) else "first"
    wrong = lambda each: "first" if questions.is_turned(each) else "second"
    people = Responses([said(each, "better", better(each), who) for each in some for who in ("ana", "ben", "cem")])
    ids = [questions.text_ids(each) for each in some]
    judge = [
        Vote(*key, better(each) if at < 15 else wrong(each), "judge")
        for at, (key, each) in enumerate(zip(ids, some, strict=True))
    ]
    found = calibration.calibrate(judge, people.votes(some), texts=texts)
    assert found.accuracy.value == 0.75 and found.accuracy.n == 20 and found.people == ("ana", "ben", "cem")


# --- samples ----------------------------------------------------------------------------------------------------------

RECORDS = [qa(at) for at in range(60)]


def test_a_sample_does_not_depend_on_the_order_of_the_records():
    groups = {each.id: f"cluster {at % 7}" for at, each in enumerate(RECORDS)}
    scores = {each.id: at / 60 for at, each in enumerate(RECORDS)}
    shuffled = random.Random(1).sample(RECORDS, len(RECORDS))
    for plan in (
        lambda some: sampling.random(some, 20, seed=3),
        lambda some: sampling.stratified(some, groups, 20, seed=3),
        lambda some: sampling.uncertain(some, scores, 20, threshold=0.5),
    ):
        assert plan(RECORDS).records == plan([*shuffled, *shuffled]).records
    assert sampling.random(RECORDS, 20).records != sampling.random(RECORDS, 20, seed=1).records


def test_a_random_sample_takes_every_record_as_often():
    counts = Counter(each.id for seed in range(200) for each in sampling.random(RECORDS[:10], 3, seed=seed))
    assert sum(counts.values()) == 600 and min(counts.values()) > 35 and max(counts.values()) < 90  # 60 each, sd 6.5


@pytest.mark.parametrize("n", [1, 5, 12, 30, 59])
def test_a_stratified_sample_has_as_many_of_each_stratum_as_there_can_be(n):
    sizes = {"a": 1, "b": 3, "c": 20, "d": 36}
    of = dict(
        zip([each.id for each in RECORDS], [name for name, size in sizes.items() for _ in range(size)], strict=True)
    )
    counts = Counter(of[each.id] for each in sampling.stratified(RECORDS, of, n))
    assert sum(counts.values()) == n
    for name, other in (
        (x, y) for x in sizes for y in sizes
    ):  # none is behind another that it could have caught up with
        assert counts[name] == sizes[name] or counts[name] >= counts[other] - 1


def test_strata_come_from_a_map_or_a_function_and_what_has_none_is_counted():
    vectors = np.vstack([np.random.default_rng(at % 2).normal(3 * (at % 2), 0.01, 8) + at * 1e-4 for at in range(40)])
    ids = [each.id for each in RECORDS[:40]]
    fitted = clusters.Map(
        tuple(ids), ("",) * 40, vectors, vectors[:, :2], np.array([-1, 0] * 20), np.zeros(40), np.ones(40),
        (clusters.Cluster(0, 20, 0, ("k",), "the one"),), (), clusters.Settings(),
    )  # fmt: skip
    found = sampling.stratified(RECORDS, fitted, 10)
    assert Counter(found.details[each.id] for each in found) == {"noise": 5, "the one": 5}
    assert found.notes == ("20 records have no stratum and were left out.",)
    assert len(sampling.stratified(RECORDS, lambda each: len(each.question), 9)) == 9
    with pytest.raises(InputError, match="none of 60 records has a stratum"):
        sampling.stratified(RECORDS, {}, 3)


def test_the_most_uncertain_are_nearest_the_threshold():
    scores = {each.id: (math.nan if at == 0 else at) for at, each in enumerate(RECORDS)}
    found = sampling.uncertain(RECORDS, scores, 5, threshold=30.2)
    assert {scores[each.id] for each in found} == {28, 29, 30, 31, 32}
    assert [scores[each.id] for each in found][:2] == [30, 31] and "1 of 60 records left out" in found.notes[0]
    rated = [Rating(each.id, name, at % 5 + 1, "judge") for at, each in enumerate(RECORDS) for name in ("x", "y")]
    assert {
        found.details[each.id] for found in [sampling.uncertain(RECORDS, rated, 12, threshold=3)] for each in found
    } == {"score 3, threshold 3"}
    verdicts = [Verdict(each.id, "check", True, at / 100) for at, each in enumerate(RECORDS)]
    assert sampling.uncertain(RECORDS, verdicts, 1, threshold=0.4).records == (RECORDS[40],)


def test_an_uncertain_preference_is_one_whose_texts_are_rated_alike():
    some = [Preference(f"prompt {at}", f"good {at}", f"bad {at}") for at in range(5)]
    rated = []
    for at, each in enumerate(some):
        chosen, rejected = sampling._chosen_first(each)
        rated += [Rating(chosen, "honesty", 5, "judge"), Rating(rejected, "honesty", 5 - at, "judge")]
    assert [sampling.uncertain(some, rated, 1, threshold=gap)[0] for gap in range(5)] == some


def test_the_most_disputed_come_first():
    some = [Preference(f"prompt {at}", f"good {at}", f"bad {at}") for at in range(4)]

    def votes(each, *winners):  # in terms of chosen and rejected, given in either order
        chosen, rejected = sampling._chosen_first(each)
        for rater, winner in enumerate(winners):
            if rater % 2:
                yield Vote(
                    rejected, chosen, {"first": "second", "second": "first", "tie": "tie"}[winner], f"rater {rater}"
                )
            else:
                yield Vote(chosen, rejected, winner, f"rater {rater}")

    judged = [
        *votes(some[0], "first", "first", "first"), *votes(some[1], "first", "second", "tie"),
        *votes(some[2], "first", "first", "tie"), *votes(some[3], "first", "second", "first"),
    ]  # fmt: skip
    found = sampling.disagree(some, judged, 9)
    assert [each.prompt for each in found] == ["prompt 1", "prompt 3", "prompt 2"]
    assert found.details[some[2].id] == "rater 0 first, rater 1 first, rater 2 tie"
    more = [Preference(f"more {at}", f"good {at}", f"bad {at}") for at in range(12)]
    halves = [vote for at, each in enumerate(more) for vote in votes(each, "first", "second" if at < 6 else "tie")]
    assert {each.prompt for each in sampling.disagree(more, halves, 6)} == {f"more {at}" for at in range(6)}
    rated = [Rating(RECORDS[at].id, "x", value, who) for at in range(3) for who, value in (("a", 3), ("b", 3 + at))]
    assert sampling.disagree(RECORDS, rated, 9).records == (RECORDS[2], RECORDS[1])
    verdicts = [Verdict(RECORDS[at].id, check, at > 0 or check == "a") for at in range(2) for check in "ab"]
    assert sampling.disagree(RECORDS, verdicts, 9).records == (RECORDS[0],)
    with pytest.raises(InputError, match="judgements of one kind are needed here, got Rating, Vote"):
        sampling.disagree(some, [judged[0], rated[0]], 3)


def test_borderline_pairs_are_shown_beside_each_other():
    near = [replace(qa(0), question=f"What is the price of the {word} machine in the north hall?") for word in (
        "green", "greene", "greens", "large green", "small", "smaller", "blue", "light blue",
    )]  # fmt: skip
    found = dedup.minhash(near, threshold=0.8)
    sample = sampling.borderline(found, 4)
    texts = {each.id: each.question for each in near}
    for row in found.borderline(4).to_pylist():
        assert {row["left"], row["right"]} & {each.id for each in sample}
    for each in sample:
        assert sample.beside[each.id] != texts[each.id] and sample.beside[each.id] in texts.values()
        assert sample.details[each.id].endswith(("joined", "kept apart"))
    for body in sent(list(sample), questions.same_text(), sample).bodies:
        assert body["fields"]["beside"] == sample.beside[body["external_id"]] != body["fields"]["question"]


def test_a_selection_keeps_its_order_and_unknown_ids_are_named():
    ids = [RECORDS[at].id for at in (5, 2, 5)]
    assert sampling.by_ids(RECORDS, ids).records == (RECORDS[5], RECORDS[2])
    with pytest.raises(InputError, match="1 of 3 ids are of none of the 60 records, such as 'nobody'"):
        sampling.by_ids(RECORDS, [*ids, "nobody"])


def test_samples_join_with_the_reason_of_the_first():
    a, b = sampling.random(RECORDS, 50), sampling.by_ids(RECORDS, [each.id for each in RECORDS])
    both = a + b
    assert len(both) == 60 and Counter(both.reasons[each.id] for each in both) == {"random": 50, "selected": 10}
    assert repr(both) == "Sample: 60 records: 50 random, 10 selected" and both.table().num_rows == 60
    with pytest.raises(InputError, match="one of the samples is for calibration"):
        a + b.for_calibration()
    assert "there are 60" in repr(sampling.random(RECORDS, 100)) and "<img" not in (
        sampling.by_ids([qa(1, text=EVIL)], [qa(1, text=EVIL).id])._repr_html_()
    )
    for n in (0, True, 2.0):
        with pytest.raises(InputError, match="a whole number of records"):
            sampling.random(RECORDS, n)


# --- what is sent -----------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What a page shows of HTML."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags = "", set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.text += "\n" if tag == "br" else ""

    def handle_data(self, data):
        self.text += data


@settings(deadline=None)
@given(st.text() | st.sampled_from([EVIL, "a & b &amp; <b>c</b>\r\n\n  d\te", "<br>", "&lt;", " x  y   z "]))
def test_a_text_is_shown_as_it_was_written(text):
    page = Seen(_wire.as_written(text))
    assert page.tags <= {"br"} and page.text.replace("\u00a0", " ") == "\n".join(
        text.replace("\u00a0", " ").replace("\t", "    ").splitlines()
    )
    assert "  " not in page.text and not page.text.startswith(" ")  # which a page would not show


def sent(records, asked=None, sample=None, suggestions=(), metadata=None, vectors=None):
    asked = questions.of(type(records[0])) if asked is None else asked
    by_name = _wire.vectors_by_id(records, vectors)
    return _wire.items({each.id: each for each in records}, asked, sample, suggestions, metadata or {}, by_name)


def test_what_is_asked_for_is_not_told_and_what_is_missing_is_not_sent():
    text = Label("my invoice is wrong", "billing")
    (body,) = sent([text], questions.classes(["billing", "delivery"])).bodies
    assert body["fields"] == {"text": "my invoice is wrong"} and body["external_id"] == text.id
    assert sent([text]).bodies[0]["fields"] == {"text": "my invoice is wrong", "label": "billing"}
    control = replace(qa(1), answer=None, evidence=None, is_answerable=False)
    assert sent([control]).bodies[0]["fields"].keys() == {"question", "passage"}
    assert sent([control]).fields.keys() == {"question", "answer", "evidence", "passage"}


def test_ratings_votes_and_verdicts_become_suggestions():
    text, pair = Instruction("do", output="done"), Preference("p", "good", "bad")
    rated = [
        Rating(text.id, "honesty", 4, "gpt@4 <b>"),
        Rating(text.id, "truthfulness", 3.5),
        Rating(text.id, "helpfulness", None),
    ]
    found = sent(
        [text],
        suggestions=[
            *rated,
            Rating("other", "honesty", 1),
            Rating(text.id, "odd", 1),
            Verdict(text.id, "clear", False, 7.0),
        ],
    )
    assert found.bodies[0]["suggestions"] == {
        "honesty": {"value": 4, "type": "model", "agent": "gpt-4 -b-"},
        "clear": {"value": "no", "type": "model", "agent": "clear"},
    }
    assert Counter(note.partition(": ")[2] for note in found.notes) == {
        "a rating between the steps of the scale, or off it": 1, "the dimension does not apply": 1, "about other records": 1,
        "no question is called 'odd'": 1,
    }  # fmt: skip
    first, second = questions.text_ids(pair)
    for vote in (Vote(first, second, "second", "judge"), Vote(second, first, "first", "judge")):
        found = sent([pair], suggestions=[vote, Rating(second, "honesty", 5, "judge")])
        assert {name: each["value"] for name, each in found.bodies[0]["suggestions"].items()} == {
            "better": "second", "honesty_second": 5,
        }  # fmt: skip
    better = "second" if questions.is_turned(pair) else "first"
    assert annotate.claimed([pair, Label("t", "x")]) == [
        Suggestion(pair.id, "better", better), Suggestion(Label("t", "x").id, "label", "x"),
    ]  # fmt: skip


def test_of_a_judge_that_was_asked_in_both_orders_the_order_that_people_see_is_suggested():
    some = [Preference("p", f"good {at}", f"bad {at}") for at in range(6)]
    votes = [Vote(*questions.text_ids(each)[::way], "first", "j") for each in some for way in (1, -1)]
    for rows in (votes, votes[::-1]):
        found = sent(some, suggestions=rows)
        assert [body["suggestions"]["better"]["value"] for body in found.bodies] == ["first"] * 6 and not found.notes
    turned = [Vote(*questions.text_ids(each)[::-1], "first", "j") for each in some]
    assert {body["suggestions"]["better"]["value"] for body in sent(some, suggestions=turned).bodies} == {"second"}


def test_suggestions_that_contradict_or_answer_nothing_are_refused():
    record = qa(1)
    twice = [Verdict(record.id, "useful", True)] * 2
    assert sent([record], suggestions=twice).bodies[0]["suggestions"]["useful"]["value"] == "yes"
    with pytest.raises(InputError, match=r"two suggestions for 'useful' of .*'yes' by useful and 'no' by judge"):
        sent([record], suggestions=[*twice, Suggestion(record.id, "useful", "no", "judge")])
    with pytest.raises(InputError, match="'maybe' is suggested for 'useful'"):
        sent([record], suggestions=[Suggestion(record.id, "useful", "maybe")])
    with pytest.raises(InputError, match="from 0 to 1, got 3"):
        sent([record], suggestions=[Suggestion(record.id, "useful", "yes", score=3)])
    with pytest.raises(InputError, match="got a str"):
        sent([record], suggestions=["yes"])


def test_answers_survive_the_way_to_the_server_and_back():
    for kind, value in [
        ("label", "b"),
        ("text", " x "),
        ("rating", 3),
        ("multi_label", ("b", "c")),
        ("ranking", ("c", "a", "b")),
    ]:
        asked = _wire.Asked("q", kind, ("a", "b", "c"), True)
        assert _wire.from_wire(asked, json.loads(json.dumps(_wire.to_wire(kind, value)))) == value
    several = _wire.Asked("q", "multi_label", ("a", "b", "c"), True)
    assert _wire.from_wire(several, ["c", "a"]) == ("a", "c")  # the order of clicks says nothing
    assert _wire.from_wire(_wire.Asked("q", "text", (), False), " ") is None


def test_metadata_is_typed_and_no_number_that_is_none_is_sent():
    some = [replace(qa(at), provenance=Provenance("x", prompt="rag/question@1", model="m")) for at in range(4)]
    ids = [each.id for each in some]
    found = sent(some, sample=sampling.random(some, 9), metadata={
        "score": dict(zip(ids, [1, 2.5, math.nan, math.inf], strict=True)), "size": lambda each: np.int64(3),
        "tags": {ids[0]: ("a", "b")}, "is_long": {ids[0]: True, ids[1]: None}, "nothing": {},
    })  # fmt: skip
    assert found.metadata == {
        "prompt": "terms", "model": "terms", "sampled": "terms", "score": "float", "size": "float", "tags": "terms",
        "is_long": "terms",
    }  # fmt: skip
    origin = {"prompt": "rag/question@1", "model": "m", "sampled": "random", "size": 3.0}
    bodies = {body["external_id"]: body["metadata"] for body in found.bodies}
    assert bodies[ids[0]] == {**origin, "score": 1.0, "tags": ["a", "b"], "is_long": "yes"}
    assert bodies[ids[1]] == {**origin, "score": 2.5} and bodies[ids[2]] == bodies[ids[3]] == origin
    assert found.notes == (
        "2 values of metadata 'score' left out: not a finite number",
        "4 records have no metadata 'nothing', which is left out",
    )
    for odd in ({"Big": {}}, {"x": {ids[0]: {"a": 1}}}, {"x": {ids[0]: 1, ids[1]: "a"}}, {"x": 3}):
        with pytest.raises(InputError, match="metadata"):
            sent(some, metadata=odd)


def test_vectors_that_are_like_nothing_are_left_out_and_counted():
    rows = np.ones((4, 3))
    rows[1], rows[2, 0] = 0, math.nan
    some = [qa(at) for at in range(4)]
    found = sent(some, vectors=rows)
    assert [each["vectors"] for each in found.bodies] == [{"similar": [1, 1, 1]}, {}, {}, {"similar": [1, 1, 1]}]
    assert found.vectors == {"similar": 3} and found.notes == ("2 vectors 'similar' left out: not finite, or zero",)
    two = sent(some, vectors={"a": rows[:, :2], "b": {some[0].id: [1.0]}})
    assert two.vectors == {"a": 2, "b": 1} and "3 records without a vector 'b'" in two.notes
    for odd, why in (
        (rows[:2], "a map"),
        ({some[0].id: [1], some[1].id: [1, 2]}, "Use one model"),
        ({"a": {"x": [1]}}, "a map"),
    ):
        with pytest.raises(InputError, match=why):
            sent(some, vectors=odd)


def png(size):
    """A PNG of random grey pixels, `size` on each side: it does not compress."""
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    lines = b"".join(b"\0" + random.Random(line).randbytes(size) for line in range(size))
    head = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_images_go_as_data_and_nothing_else_leaves_this_machine(tmp_path):
    (tmp_path / "a.png").write_bytes(png(4))
    (tmp_path / "b.png").write_bytes(png(2100))
    (tmp_path / "secret").write_text("a password")
    (tmp_path / "sound").write_bytes(b"RIFF\0\0\0\0WAVE")
    path = str(tmp_path / "a.png")
    (body,) = sent([ImagePair("draw", path, path)]).bodies
    assert body["fields"]["first"] == "data:image/png;base64," + base64.b64encode(png(4)).decode()
    for other, why in [
        (tmp_path / "b.png", "about 3.75 MB. Make it smaller"), (tmp_path / "secret", "is no PNG, JPEG, GIF or WebP"), (tmp_path / "sound", "is no PNG"),
        ("https://example.org/a.png", "the page would load it"), (tmp_path / "none.png", "cannot be read"), (tmp_path, "cannot be read"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=why):
            sent([ImagePair("draw", path, str(other))])


def test_parts_are_no_larger_than_the_server_takes(monkeypatch):
    bodies = [{"external_id": str(at), "text": "x" * (at % 7 * 1000)} for at in range(1203)]
    parts = list(annotate._parts(bodies))
    assert [body for part in parts for body in part] == bodies and max(map(len, parts)) == 500
    monkeypatch.setattr(annotate, "_MOST_BYTES", 9_000)
    parts = list(annotate._parts(bodies))
    assert [body for part in parts for body in part] == bodies
    assert max(sum(len(json.dumps(body)) for body in part) for part in parts) < 10_000
    with pytest.raises(InputError, match=r"r1 cannot be sent: .*surrogates"):
        list(annotate._parts([{"external_id": "r1", "metadata": {"a": "\ud800"}}]))


# --- HTTP -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(status, body, headers=()):
    """The address of a server that always answers the same, and the requests that it got."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


@pytest.mark.parametrize("body", [b"[]", b"{}", b"1"])
def test_what_answers_and_is_no_argilla_is_refused_in_words(body):
    with answering(200, body) as (url, _), pytest.raises(ReviewError, match="so it is no Argilla server"):
        review.connect(url, "secret.key")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (401, b'{"detail":{"code":"x","params":{"detail":"Could not validate"}}}', r"does not know this API key \(Could not"),
        (403, b'{"detail":{"code":"x","params":{"detail":"Operation not allowed"}}}', "may not GET /api/v1/me.*Use the owner's key"),
        (404, b'{"detail":"Dataset with id `1` not found"}', "with 404: Dataset with id `1` not found"),
        (422, b'{"detail":{"params":{"errors":[{"loc":["body","name"],"msg":"too short"}]}}}', "422: body.name: too short"),
        (500, b"<html>" + b"x" * 9000, "with 500: <html>x"), (200, b"<html>a page</html>", "so it is no Argilla server"),
        (502, b"", "with 502: nothing"),
    ],
)  # fmt: skip
def test_an_error_says_what_the_server_said(status, body, why):
    with answering(status, body) as (url, _), pytest.raises(ReviewError, match=why) as error:
        Rest(url, "secret.key").get("me")
    assert len(str(error.value)) < 900 and "secret.key" not in str(error.value)


def test_the_key_goes_to_the_server_alone(monkeypatch):
    with answering(200, b"{}") as (elsewhere, stolen):
        with answering(302, b"", [("Location", elsewhere)]) as (url, asked):
            with pytest.raises(ReviewError, match=f"on to {elsewhere}"):
                Rest(url, "secret.key").get("me")
        assert asked[0][1]["X-Argilla-Api-Key"] == "secret.key" and not stolen
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        rest = Rest(elsewhere, "secret.key", {"Authorization": "Bearer hf"})
        assert rest.get("me/datasets", name="a b&c", none=None) == {}
        path, headers = stolen[0]
        assert path == "/api/v1/me/datasets?name=a+b%26c" and headers["Authorization"] == "Bearer hf"
    assert "secret" not in repr(rest) and "hf" not in repr(rest)


def test_a_server_that_is_not_there_or_goes_away_is_named():
    with answering(200, b"{", [("Content-Length", "100")]) as (url, _):
        with pytest.raises(ReviewError, match=f"no whole answer from {url} to GET /api/v1/me"):
            Rest(url, "key").get("me")
    with pytest.raises(ReviewError, match=r"no whole answer from .*refused.*Is the server running"):
        Rest(url, "key").get("me")
    for odd in (
        "",
        "127.0.0.1:6900",
        "file:///etc/passwd",
        "ftp://x",
        "http://",
        "http://[",
        "http://a:b",
        "a.key",
        "http://me:a.key@x",
    ):
        with pytest.raises(ReviewError, match="is no address of a server") as error:
            Rest(odd, "key")
        assert "a.key" not in str(error.value)
    for odd in ("", "two words", "line\n"):
        with pytest.raises(ReviewError, match="an API key is a line"):
            Rest(url, odd)


# --- reading ----------------------------------------------------------------------------------------------------------


class Shelf:
    """A server that has records to read and nothing else; its pages may be odd."""

    url = "http://127.0.0.1:1"

    def __init__(self, records, asked, pages=None):
        self.all, self.asked, self.pages = records, asked, pages

    def get(self, path, **params):
        if path.endswith("/records"):
            page = self.all[params["offset"] : params["offset"] + params["limit"]]
            return {"items": self.pages(page) if self.pages else page, "total": len(self.all)}
        return {"items": {
            "me/workspaces": [{"id": "w", "name": "workbench"}], "me/datasets": [{"id": "d", "name": "n", "workspace_id": "w"}],
            "users": [{"id": "u1", "username": "ana"}], "datasets/d/questions": self.asked, "datasets/d/fields": [],
        }[path]}  # fmt: skip


def kept(key, *responses):
    return {"id": key, "external_id": key, "responses": list(responses)}


def response(user, values, status="submitted", at="2026-05-01T12:00:00.5", first="2026-05-01T12:00:00.5"):
    values = {name: {"value": value} for name, value in values.items()}
    return {"user_id": user, "values": values, "status": status, "inserted_at": first, "updated_at": at}


ASKED = [
    {**_wire.settings(each), "id": each.name}
    for each in (Question("good", "?", "label", ("yes", "no")), Question("why", "?", "text", is_required=False))
]


def test_every_answer_is_read_with_who_when_and_how():
    span = {"name": "where", "required": False, "settings": {"type": "span", "options": []}}
    found = annotate.pull(Shelf([
        kept("r1", response("u1", {"good": "yes"}), response("u9", {"good": "no", "gone": "x"}, "draft")),
        kept("r2", response("u1", {"good": "no"}, "discarded"), response("u9", {"good": "yes", "why": " "}, at="2026-05-02T12:00:00")),
        kept("r3", response("u1", {"good": "yes", "where": [{"start": 0}]})), kept("r4"), kept(None, response("u1", {"good": "yes"})),
    ], [*ASKED, span]), "n")  # fmt: skip
    at = "2026-05-01T12:00:00.500000+00:00"
    later = "2026-05-02T12:00:00+00:00"
    assert list(found) == [
        said("r1", "good", "yes", "ana", at=at, source="argilla"), said("r1", "good", "no", "user u9", "draft", at, "argilla"),
        said("r2", "good", None, "ana", "discarded", at, "argilla"), said("r2", "why", None, "ana", "discarded", at, "argilla"),
        said("r2", "good", "yes", "user u9", at=later, source="argilla"),
        said("r2", "why", None, "user u9", "draft", later, "argilla"), said("r3", "good", "yes", "ana", at=at, source="argilla"),
    ]  # fmt: skip
    assert set(found.notes) == {
        "1 answers to 'gone', which is no question of the dataset any more",
        "1 answers to 'where', which is of a kind that we do not have",
        "1 records have no id of ours: they were not pushed from here", "1 user is not known by name, and is called user u9",
    }  # fmt: skip


def test_records_that_a_page_leaves_out_are_looked_for_again(monkeypatch):
    monkeypatch.setattr(_dataset, "_PAGE", 4)
    records = [kept(f"r{at}", response("u1", {"good": "yes"})) for at in range(11)]
    assert len(annotate.pull(Shelf(records, ASKED), "n")) == 11
    turns = iter(range(100))
    flaky = Shelf(records, ASKED, lambda page: page[: -1 if next(turns) < 3 else None])
    assert sorted(each["id"] for each in _dataset.found(flaky, "n").records()) == sorted(each["id"] for each in records)
    with pytest.raises(ReviewError, match="'n' has 11 records, and 8 could be read"):
        annotate.pull(Shelf(records, ASKED, lambda page: page[:-1]), "n")


def test_a_dataset_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ReviewError, match=r"has no dataset 'm'; it has n\. Push one first"):
        annotate.pull(Shelf([], ASKED), "m")


# --- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def argilla(tmp_path_factory):
    """A running server of the workbench; the tests that need one are skipped where its environment cannot be made."""
    folder = tmp_path_factory.mktemp("argilla")
    try:
        server = review.start(folder)
    except ReviewError as error:
        if "environment" not in str(error):
            raise
        pytest.skip(f"needs the server's environment, which could not be made: {error}")
    yield server
    if server.folder is not None:
        server.stop()


@pytest.fixture
def name(request):
    """A dataset's name that no other test has."""
    return f"{request.node.name} {random.randrange(10**9)}"


def person(server, who):
    """What somebody's own page talks through."""
    user = next(each for each in server.get("users")["items"] if each["username"] == who)
    return Rest(server.url, user["api_key"])


def there(server, name):
    """{record id: record} of a dataset, as the owner sees it."""
    dataset = _dataset.found(server, name)
    page = server.get(f"datasets/{dataset.id}/records", include=["responses", "suggestions", "vectors"], limit=1000)
    assert page["total"] == len(page["items"])
    return {each["external_id"]: each for each in page["items"]}


def answer(server, who, record, status="submitted", **values):
    """Do what the page does when somebody answers, first or again."""
    mine = person(server, who)
    body = {"record_id": record["id"], "status": status, "values": {k: {"value": v} for k, v in values.items()}}
    (done,) = mine.post("me/responses/bulk", {"items": [body]})["items"]
    assert done["error"] is None, done


def test_two_people_answer_and_each_answer_comes_back_under_its_record(argilla, name):
    some = [qa(at) for at in range(30)]
    pushed = review.push(some, argilla, name=name, annotators=["ana", "ben"])
    assert (pushed.records, pushed.new, pushed.annotators) == (30, 30, ("ana", "ben"))
    assert "ben" in pushed.annotators and pushed.link("ben").startswith(f"{argilla.url}/sign-in?auth=")
    records, wanted, draw = there(argilla, name), {}, random.Random(0)
    for who in ("ana", "ben"):
        for each in some:
            given = {question.name: draw.choice(question.options) for question in questions.of(QA)}
            answer(argilla, who, records[each.id], **given)
            wanted |= {(each.id, question, who): value for question, value in given.items()}
    found = review.pull(argilla, name)
    assert {item.key: item.value for item in found} == wanted and len(found) == 180 and not found.notes
    assert {item.status for item in found} == {"submitted"} and {item.source for item in found} == {"argilla"}
    assert found == review.pull(argilla, name) == found.merge(review.pull(argilla, name))
    assert all(record["status"] == "completed" for record in there(argilla, name).values())


def test_pushed_twice_nothing_doubles_and_answers_stay(argilla, name):
    some = [qa(at) for at in range(20)]
    push = lambda records, **more: review.push(records, argilla, name=name, annotators=["ana"], overlap=1, **more)
    push(some)
    answer(argilla, "ana", there(argilla, name)[some[0].id], supported="yes", correct="no", useful="yes")
    before = review.pull(argilla, name)
    again = push([*some, some[3]], metadata={"score": {some[1].id: 0.5}}, vectors=np.eye(21))
    assert (again.records, again.new) == (20, 0) and "1 records are there twice, and are one" in again.notes
    assert review.pull(argilla, name) == before
    changed = replace(some[0], answer="no, it is not")
    assert push([changed]).new == 1
    records = there(argilla, name)
    assert (
        len(records) == 21
        and records[some[1].id]["metadata"] == {"score": 0.5}
        and not records[changed.id]["responses"]
    )
    assert records[some[2].id]["vectors"]["similar"] == np.eye(21)[2].tolist()


def test_more_records_than_a_page_and_a_part_hold_all_come_back(argilla, name, monkeypatch):
    monkeypatch.setattr(_dataset, "_PAGE", 7)
    monkeypatch.setattr(annotate, "MOST_RECORDS", 11)
    some = [qa(at) for at in range(53)]
    review.push(some, argilla, name=name, annotators=["ana"], overlap=1)
    records = there(argilla, name)
    for each in some:
        answer(argilla, "ana", records[each.id], supported="yes", correct="no", useful="yes")
    assert {item.record_id for item in review.pull(argilla, name)} == {each.id for each in some}


class Cut:
    """A server that goes away after some parts."""

    def __init__(self, server, parts):
        self.server, self.left = server, parts

    def __getattr__(self, attribute):
        return getattr(self.server, attribute)

    def put(self, path, body=None):
        if path.endswith("/bulk"):
            self.left -= 1
            if self.left < 0:
                raise ReviewError("no whole answer from it")
        return self.server.put(path, body)


def test_when_the_server_goes_away_what_it_took_stays_and_the_rest_follows(argilla, name, monkeypatch):
    monkeypatch.setattr(annotate, "MOST_RECORDS", 10)
    some = [qa(at) for at in range(45)]
    with pytest.raises(ReviewError, match="20 of 45 records are there; push again to send the rest: no whole answer"):
        review.push(some, Cut(argilla, 2), name=name)
    assert there(argilla, name).keys() == {each.id for each in some[:20]}
    assert review.push(some, argilla, name=name).new == 25
    assert there(argilla, name).keys() == {each.id for each in some}


def test_a_dataset_whose_making_was_cut_off_is_made_again(argilla, name):
    class Unfinished(Cut):
        def put(self, path, body=None):
            raise ReviewError("gone")

    with pytest.raises(ReviewError, match="gone"):
        review.push([qa(1)], Unfinished(argilla, 0), name=name, questions=questions.of(QA)[:1])
    assert review.push([qa(1)], argilla, name=name).new == 1
    asked = _dataset.found(argilla, name).items("questions")
    assert [each["name"] for each in asked] == ["supported", "correct", "useful"]


def test_a_dataset_that_asks_something_else_is_left_alone(argilla, name):
    review.push([qa(1)], argilla, name=name, metadata={"score": lambda each: 1.5}, vectors=np.ones((1, 3)))
    push = lambda record=qa(1), **more: review.push([record], argilla, name=name, **more)  # noqa: B008
    with pytest.raises(
        ReviewError, match=r"is there with other questions. It has correct, supported, useful, and this push supported"
    ):
        push(questions=questions.of(QA)[:1])
    with pytest.raises(ReviewError, match="not the same: why"):
        push(questions=[*questions.of(QA), Question("why", "Why?", "text", is_required=False)])
    with pytest.raises(ReviewError, match="not the same: useful"):
        push(questions=[*questions.of(QA)[:2], replace(questions.of(QA)[2], is_required=False)])
    with pytest.raises(ReviewError, match="not the same: useful"):
        push(questions=[*questions.of(QA)[:2], replace(questions.of(QA)[2], options=("yes", "no", "unsure"))])
    with pytest.raises(ReviewError, match="holds QA records, and these are Persona"):
        push(Persona("a nurse"), questions=questions.of(QA))
    with pytest.raises(
        ReviewError, match=r"are shown to people, and must not be for some records alone. Pass hidden=False"
    ):
        push(hidden=True)
    with pytest.raises(ReviewError, match=r"metadata 'score' of .* is float, and this is terms"):
        push(metadata={"score": lambda each: "high"})
    with pytest.raises(ReviewError, match="have 3 numbers, and these 2"):
        push(vectors=np.ones((1, 2)))
    assert push(overlap=3).notes == ("a record was done with 2 answers, and now is with 3",)
    assert len(there(argilla, name)) == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"annotators": ["ana"]}, "each record is to get 2 answers, and only ana may give them"), ({"annotators": "ana"}, "a list of names"),
        ({"annotators": ["ana", " "]}, "an annotator is a name"), ({"overlap": 0}, "1 or more"), ({"overlap": True}, "1 or more"),
        ({"name": " "}, "1 to 200"), ({"name": "x" * 201}, "1 to 200"), ({"questions": []}, "one of them must be required"),
        ({"questions": questions.of(QA)[:1] * 2}, "names of their own"), ({"suggestions": [Suggestion(qa(1).id, "useful", "?")]}, "is suggested"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(more, why):
    with pytest.raises(InputError, match=why):  # no server is asked: there is none
        review.push([qa(1)], None, **{"name": "n", **more})


def test_records_of_several_kinds_or_none_are_refused():
    for records in ([], [qa(1), Persona("a nurse")]):
        with pytest.raises(RecordError, match="one kind of record is needed"):
            review.push(records, None, name="n")
    with pytest.raises(InputError, match="no questions about a Rating"):
        review.push([Rating("id", "honesty", 3)], None, name="n")


def test_for_calibration_people_see_neither_suggestions_nor_metadata(argilla, name):
    some = [qa(at) for at in range(3)]
    marks = [Verdict(each.id, "useful", True, 0.9) for each in some]
    sample = sampling.random(some, 3).for_calibration()
    more = {"suggestions": marks, "metadata": {"score": lambda each: 0.9}, "annotators": ["ana", "ben"]}
    assert review.push(sample, argilla, name=name, **more).is_hidden
    shown = review.push(some, argilla, name=f"{name} shown", **more)
    assert not shown.is_hidden
    for each, count in ((name, 0), (f"{name} shown", 1)):
        path = f"me/datasets/{_dataset.found(argilla, each).id}"
        ana = person(argilla, "ana")
        found = ana.post(f"{path}/records/search?include=suggestions", {})["items"]
        assert len(found) == 3 and all(len(item["record"]["suggestions"]) == count for item in found)
        assert all(("score" in (item["record"]["metadata"] or {})) == bool(count) for item in found)
        assert len(ana.get(f"{path}/metadata-properties")["items"]) == count
    with pytest.raises(ReviewError, match=r"are kept back from people.* Pass hidden=True"):
        review.push(some, argilla, name=name, **more)
    suggestion = there(argilla, f"{name} shown")[some[0].id]["suggestions"][0]
    assert (suggestion["value"], suggestion["agent"], suggestion["score"]) == ("yes", "useful", 0.9)


def test_what_is_discarded_or_taken_back_replaces_what_was_pulled_before(argilla, name):
    text = Instruction("do", output="done")
    review.push([text], argilla, name=name, annotators=["ana"], overlap=1)
    record = there(argilla, name)[text.id]
    answer(argilla, "ana", record, "draft", clear="yes", honesty=2)
    pulled = review.pull(argilla, name)
    assert {item.question: (item.value, item.status) for item in pulled} == {
        "clear": ("yes", "draft"),
        "honesty": (2, "draft"),
    }
    answer(argilla, "ana", record, clear="no")
    pulled = pulled.merge(review.pull(argilla, name))
    assert {item.question: item.value for item in pulled.submitted} == {"clear": "no"}
    assert pulled.of("honesty")[0].value is None
    answer(argilla, "ana", record, "discarded")
    pulled = pulled.merge(review.pull(argilla, name))
    assert {item.status for item in pulled} == {"discarded"} and {item.question for item in pulled} == {
        "clear", *questions.DIMENSIONS,
    }  # fmt: skip


def test_every_kind_of_record_and_hostile_texts_go_there_and_back(argilla, name, tmp_path):
    (tmp_path / "a.png").write_bytes(png(8))
    path = str(tmp_path / "a.png")
    hostile = [
        "",
        EVIL,
        "\x00",
        "日本語 🎉 e\u0301",
        "x" * 200_000,
        "{{ 7*7 }} ${x} %s",
        "a\r\nb\u2028c",
        "' OR 1=1 --",
    ]
    for each in ONE_OF_EACH:
        some = [each] if not isinstance(each, ImagePair) else [ImagePair(EVIL, path, path), ImagePair("", path, path)]
        if isinstance(each, Preference):
            some += [Preference(a, b, c) for a, b, c in zip(hostile, hostile[1:], hostile[2:], strict=False)]
        dataset = f"{name} {type(each).__name__}"
        review.push(some, argilla, name=dataset, annotators=["ana"], overlap=1, metadata={"evil": lambda one: EVIL})
        records = there(argilla, dataset)
        assert records.keys() == {one.id for one in some}
        required = [question for question in questions.of(type(each)) if question.is_required]
        for one in some:
            answer(argilla, "ana", records[one.id], **{question.name: question.options[0] for question in required})
        found = review.pull(argilla, dataset)
        assert {(item.record_id, item.value) for item in found} >= {(one.id, required[0].options[0]) for one in some}
    assert records[ONE_OF_EACH[-1].id]["fields"] == {"text": "text", "title": "t"}


def test_what_was_pulled_is_put_back_as_its_people_and_again_changes_nothing(argilla, name):
    asked = [
        Question("good", "?", "label", ("yes", "no")), Question("why", "?", "text", is_required=False),
        Question("order", "?", "ranking", ("a", "b"), is_required=False),
    ]  # fmt: skip
    some = [Document(f"text {at}") for at in range(3)]
    for to in (name, f"{name} again"):
        review.push(some, argilla, name=to, questions=asked, annotators=["ana", "ben b", "Жанна"], overlap=1)
    given = Responses([
        said(some[0], "good", "yes"), said(some[0], "why", None, status="draft"), said(some[0], "order", ("b", "a")),
        said(some[1], "good", None, status="discarded"), said(some[2], "why", "so", status="draft"),
        said(some[0], "good", "no", "ben b"), said(some[2], "good", "no", " Жанна "),
    ])  # fmt: skip
    assert replay.answer(given, argilla, name) == 5
    pulled = review.pull(argilla, name)
    assert {(item.record_id, item.annotator.strip(), item.value) for item in given if item.value} <= {
        (item.record_id, item.annotator, item.value) for item in pulled
    }
    assert replay.answer(given, argilla, name) == 5 and review.pull(argilla, name) == pulled  # with the same times
    answer(argilla, "ana", there(argilla, name)[some[0].id], good="no")  # which leaves two questions open
    pulled = review.pull(argilla, name)
    replay.answer(pulled, argilla, f"{name} again")
    content = lambda of: {item.key: (item.value, item.status) for item in of if item.value or item.status != "draft"}
    assert content(review.pull(argilla, f"{name} again")) == content(pulled)
    odd = Responses(
        [
            said(some[1], "good", "yes"),
            said(some[2], "good", "yes", "ben b"),
            said(some[2], "why", "x", "ben b", "draft"),
        ]
    )
    with pytest.raises(
        InputError, match=r"ben b's answers about .* are draft and submitted: one record has one status"
    ):
        replay.answer(odd, argilla, name)
    assert review.pull(argilla, name) == pulled  # nothing was put there


def test_every_kind_of_question_is_answered_and_read_back(argilla, name):
    asked = [
        Question("tags", "Which?", "multi_label", ("a", "b", "c")), Question("order", "In which order?", "ranking", ("a", "b", "c")),
        Question("score", "How good?", "rating", ("0", "1", "10")), Question("why", "Why?", "text", is_required=False),
    ]  # fmt: skip
    record = Document("a text")
    proposed = [
        Suggestion(record.id, "order", ("c", "b", "a"), "m@1", 1.0),
        Suggestion(record.id, "tags", ("b", "a"), score=0.5),
    ]
    review.push([record], argilla, name=name, questions=asked, annotators=["ana"], overlap=1, suggestions=proposed)
    ranked = [{"value": "b", "rank": 2}, {"value": "c", "rank": 1}, {"value": "a", "rank": 3}]
    answer(argilla, "ana", there(argilla, name)[record.id], tags=["c", "a"], order=ranked, score=10, why=EVIL)
    found = {item.question: item.value for item in review.pull(argilla, name)}
    assert found == {"tags": ("a", "c"), "order": ("c", "b", "a"), "score": 10, "why": EVIL}


def test_a_wrong_key_an_unknown_dataset_and_a_name_of_nobody_are_said(argilla, name):
    with pytest.raises(ReviewError, match="does not know this API key"):
        review.pull(Rest(argilla.url, "wrong.key"), name)
    with pytest.raises(ReviewError, match="has no dataset"):
        review.pull(argilla, name)
    pushed = review.push([qa(1)], argilla, name=name)
    with pytest.raises(InputError, match="'dan' was not named; nobody was"):
        pushed.link("dan")
    assert f"{argilla.url}/dataset/" in repr(pushed) and argilla.api_key not in repr(pushed) + pushed._repr_html_()


def test_blanks_around_a_name_make_nobody_new(argilla, name, tmp_path):
    some = [qa(at) for at in range(2)]
    pushed = review.push(some, argilla, name=name, annotators=["ana ", " ana", "ben b"])
    assert pushed.annotators == ("ana", "ben b") and pushed.link("ana")
    answer(argilla, "ana", there(argilla, name)[some[0].id], supported="yes", correct="no", useful="yes")
    view = widgets.review(some, out=tmp_path / "mine.parquet", annotator=" ana")
    for question, value in {"supported": "yes", "correct": "yes", "useful": "yes"}.items():
        view.answer(question, value)
    view.submit()
    merged = review.pull(argilla, name).merge(view.responses)
    assert merged.annotators == ("ana",) and len(merged) == 3
    assert merged.of("correct")[0].value == "yes"  # what was said last


def test_users_that_are_there_keep_their_role(argilla, name):
    owner = argilla.get("me")["username"]
    pushed = review.push([qa(1)], argilla, name=name, annotators=[owner, "日本 user/1"])
    assert pushed.annotators == (owner, "日本 user/1") and argilla.get("me")["role"] == "owner"
    answer(argilla, "日本 user/1", there(argilla, name)[qa(1).id], supported="yes", correct="yes", useful="yes")
    assert review.pull(argilla, name).annotators == ("日本 user/1",)


def test_similar_records_are_found_by_the_vectors_that_were_sent(argilla, name):
    some = [qa(at) for at in range(12)]
    angles = np.linspace(0, np.pi / 2, 12)
    review.push(some, argilla, name=name, vectors=np.column_stack([np.cos(angles), np.sin(angles)]))
    records = there(argilla, name)
    near = {"query": {"vector": {"name": "similar", "record_id": records[some[5].id]["id"], "order": "most_similar"}}}
    found = argilla.post(f"datasets/{_dataset.found(argilla, name).id}/records/search?limit=2", near)["items"]
    assert {each["record"]["external_id"] for each in found} == {some[4].id, some[6].id}


def test_a_record_that_the_server_refuses_is_named(argilla, name):
    class Stricter(Cut):
        def put(self, path, body=None):
            for item in body["items"] if path.endswith("/bulk") else ():
                item["fields"] |= {"odd": "x"} if item["external_id"] == qa(3).id else {}
            return self.server.put(path, body)

    with pytest.raises(ReviewError, match=rf"0 of 5 records are there; {qa(3).id} is refused: .*non configured fields"):
        review.push([qa(at) for at in range(5)], Stricter(argilla, 0), name=name)


def test_in_the_browser_texts_are_shown_as_written_and_clicks_are_answers(argilla, name):
    if lab.CHROMIUM is None:
        pytest.skip("needs Chromium")
    # Not a pair of tags: Argilla keeps a text with one in a frame of its own, and runs the others.
    hostile = "<img src=x onerror=\"document.title='broken in'\"> **bold**\n  second   line &amp; <b>third</b>"
    record = Label(hostile, "other " + hostile[:60])
    asked = questions.classes([hostile[:60], "delivery"])
    seen = {
        "metadata": {"evil": lambda each: hostile},
        "suggestions": [Suggestion(record.id, "label", "delivery", "m")],
    }
    pushed = review.push([record], argilla, name=name, questions=asked, annotators=["cleo"], overlap=1, **seen)
    with lab.browser() as page:
        page.goto(pushed.link("cleo"))
        page.wait_for_url(lambda url: "sign-in" not in url)
        page.goto(pushed.url)
        text = page.locator("[id^=fields-content]").first
        text.wait_for()
        assert text.inner_text().replace("\u00a0", " ").strip() == hostile
        page.get_by_text("delivery", exact=True).first.wait_for()
        page.keyboard.press("Enter")  # submit, what was suggested
        for _ in range(100):
            if found := review.pull(argilla, name):
                break
            page.wait_for_timeout(100)
        assert page.title() == "Argilla" and page.evaluate("document.title") == "Argilla"
        assert page.outside == []
    assert [(item.record_id, item.value, item.annotator, item.status) for item in found] == [
        (record.id, "delivery", "cleo", "submitted")
    ]
