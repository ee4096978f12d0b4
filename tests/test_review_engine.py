"""Argilla's search without Elasticsearch: the query language, words, vectors; filters and orders through the real server."""

import json
import math
import random
import re
import secrets
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.argilla import Data, between, by, scope, terms
from tests.conftest import ROOT
from workbench.errors import ReviewError

sys.path.append(str(ROOT / "workbench" / "review" / "_server"))  # as in the server's own environment

from embedded_search.query import Group, Not, Term, parse
from embedded_search.text_index import TextIndex
from embedded_search.vectors import VectorIndex

A, B, C = Term("a"), Term("b"), Term("c")


# --- the query language ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "tree"),
    {
        "a": A,
        "a b": Group(A, (("and", B),)),
        "a+b": Group(A, (("and", B),)),
        "a | b": Group(A, (("or", B),)),
        "a | b c": Group(A, (("or", B), ("and", C))),
        "a b | c": Group(A, (("and", B), ("or", C))),
        "a | (b c)": Group(A, (("or", Group(B, (("and", C),))),)),
        "-a": Not(A),
        "--a": A,
        "- a": A,
        "a -b": Group(A, (("and", Not(B)),)),
        "a | -(b c)": Group(A, (("or", Not(Group(B, (("and", C),)))),)),
        "well-known": Term("well-known"),
        '"a  b"': Term("a  b"),
        '"a b"~2 c': Group(Term("a b"), (("and", C),)),
        "a~1": A,
        "a*": Term("a", is_prefix=True),
        "a\\*": Term("a*"),
        "a\\ b": Term("a b"),
        '"a b" | c*': Group(Term("a b"), (("or", Term("c", is_prefix=True)),)),
        # Nothing is an error.
        '"a b': Group(A, (("and", B),)),
        '| a || "b': Group(A, (("or", B),)),
        "a |+ b": Group(A, (("or", B),)),
        "((a": A,
        "a))b": Group(A, (("and", B),)),
        "()": None,
        "* - | + ~ ( ! ?": None,
        "": None,
    }.items(),
)
def test_a_query_is_read_from_left_to_right_and_none_is_an_error(query, tree):
    assert parse(query) == tree


@given(st.text(alphabet='ab\\"*~-+|() \0é東_', max_size=40))
@example("(" * 5_000 + "a" + ")" * 5_000)
@example(" ".join(f"w{at} {'+|'[at % 2]}" for at in range(5_000)))  # a tree of this depth would end Python's stack
@example('"' * 999)
def test_any_text_can_be_searched(query):
    index = texts("a b", "東京 é")
    found = index.search(query)
    assert set(found) <= {"0", "1"} and all(math.isfinite(score) for score in found.values())


# --- words ----------------------------------------------------------------------------------------------------------


def texts(*of):
    index = TextIndex({"text": "text"})
    index.update([], [(str(at), 1, json.dumps({"text": text})) for at, text in enumerate(of)])
    return index


WORDS = ["red", "reddish", "blue", "bluebird", "a", "Élan"]
TERMS = st.one_of(
    st.sampled_from(WORDS).map(lambda word: (word, lambda words: word.lower() in words)),
    st.sampled_from(["re", "blue", "éla"]).map(
        lambda start: (f"{start}*", lambda words: any(w.startswith(start) for w in words))
    ),
    st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)).map(
        lambda two: (
            f'"{two[0]} {two[1]}"',
            lambda words: any(list(map(str.lower, two)) == words[at : at + 2] for at in range(len(words))),
        )
    ),
)


def _combined(inner):
    def fold(first, rest):
        query, holds = first
        for sign, is_not, (other, test) in rest:
            query += f"{sign}{'-' if is_not else ''}{other}"
            holds = _either(sign, holds, (lambda words, test=test: not test(words)) if is_not else test)
        return f"({query})", holds

    return st.builds(
        fold, inner, st.lists(st.tuples(st.sampled_from([" ", "+", " | "]), st.booleans(), inner), max_size=4)
    )


def _either(sign, left, right):
    return (
        (lambda words: left(words) or right(words)) if sign == " | " else (lambda words: left(words) and right(words))
    )


@given(st.recursive(TERMS, _combined, max_leaves=8), st.lists(st.lists(st.sampled_from(WORDS), max_size=5), max_size=6))
def test_what_is_found_is_what_a_reader_would_find(asked, documents):
    query, holds = asked
    found = texts(*map(" ".join, documents)).search(query)
    assert set(found) == {str(at) for at, words in enumerate(documents) if holds([word.lower() for word in words])}


def test_words_may_be_in_different_fields_unless_one_is_named():
    index = TextIndex({"question": "text", "chat": "chat", "card": "custom"})
    chat = [{"role": "user", "content": "and blue"}, {"role": "assistant", "content": None}]
    index.update(
        [], [("r", 1, json.dumps({"question": "red", "chat": chat, "card": {"inside": ["green"]}})), ("s", 1, "{}")]
    )
    assert set(index.search("red blue green")) == {"r"}
    assert index.search("red blue", "chat") == {} and set(index.search("blue", "chat")) == {"r"}
    assert index.search("assistant") == {}  # the role is no text
    assert index.search("red", "absent") == {} and set(index.search("-red")) == {"s"}


@pytest.mark.parametrize(
    ("query", "is_found"),
    {"東京": True, "京都": True, "東都": False, "東京*": True, "カナ": True, "한국": True}.items(),
)
def test_languages_without_blanks_are_found_by_any_part(query, is_found):
    assert bool(texts("私は東京都でカタカナと한국어を学ぶ").search(query)) == is_found


def test_capitals_do_not_count_and_accents_do():
    index = texts("Élan vital", "elan vital")
    assert set(index.search("ÉLAN")) == {"0"} and set(index.search("elan")) == {"1"}


def test_the_better_match_has_the_higher_score():
    scores = texts("wren", "wren and much else that is no bird at all", "wren wren", "owl").search("wren")
    assert scores["2"] > scores["0"] > scores["1"] > 0


def test_a_changed_record_is_found_by_its_new_words_alone_and_a_gone_one_not_at_all():
    index = texts("red", "blue")
    index.update(["1"], [("0", 2, json.dumps({"text": "green"})), ("2", 1, json.dumps({"text": "red \ud800 half"}))])
    assert set(index.search("green")) == {"0"} and set(index.search("red | blue")) == {"2"}
    assert set(index.search("-green")) == {"2"} and index.stamps == {"0": 2, "2": 1}


# --- vectors --------------------------------------------------------------------------------------------------------


def vectors(of):
    index = VectorIndex()
    index.update([], [(f"{at:03}", 1, json.dumps(list(map(float, vector)))) for at, vector in enumerate(of)])
    return index


def test_scores_are_those_of_the_cosine_best_first():
    array = np.random.default_rng(0).normal(size=(200, 16))
    asked = array[7] + 0.1
    cosine = array @ asked / np.linalg.norm(array, axis=1) / np.linalg.norm(asked)
    found = vectors(array).scores(asked.tolist())
    assert [int(name) for name, _ in found] == np.argsort(-cosine).tolist()
    np.testing.assert_allclose([score for _, score in found], np.sort((1 + cosine) / 2)[::-1], atol=1e-6)


def test_vectors_of_zeros_and_of_no_numbers_score_a_half_and_huge_ones_by_their_direction():
    index = vectors([[0, 0], [1e300, 1e300], [1e-300, 0], [math.nan, 0], [math.inf, 1]])
    assert dict(index.scores([1, 1])) == pytest.approx(
        {"000": 0.5, "001": 1, "002": 0.5 + 0.5**1.5, "003": 0.5, "004": 0.5 + 0.5**1.5}
    )
    assert {score for _, score in index.scores([0, 0])} == {0.5}
    assert VectorIndex().scores([1, 2]) == []


def test_vectors_change_come_and_go():
    index = vectors(np.eye(4))
    index.update(["001"], [("000", 2, "[0, 0, 0, 1]"), ("new", 1, "[0, 1, 0, 0]")])
    assert dict(index.scores([0, 0, 0, 1])) == pytest.approx({"000": 1, "003": 1, "002": 0.5, "new": 0.5})
    assert [name for name, _ in index.scores([0, 1, 0, 0])] == [
        "new",
        "000",
        "002",
        "003",
    ]  # equals in the order of ids
    assert index.stamps == {"000": 2, "002": 1, "003": 1, "new": 1}
    index.update(["000", "002", "003", "new"], [])
    assert index.scores([0, 0, 0, 1]) == [] and index.stamps == {}


# --- filters and orders, against plain Python over the same rows ----------------------------------------------------

KINDS = ["news", "fiction", "é", "O'Neil"]
AGENTS = ["judge-a", "judge-b"]


@pytest.fixture(scope="module")
def rows():
    """What was pushed, in plain Python."""
    draw = random.Random(0)
    found = []
    for at in range(120):
        metadata = {}
        if draw.random() < 0.8:
            metadata["durée"] = draw.choice([draw.choice(KINDS), draw.sample(KINDS, 2)])
        if draw.random() < 0.8:
            metadata["n"] = draw.randrange(-5, 6)
        if draw.random() < 0.8:
            metadata['a "b"'] = round(draw.uniform(-1, 1), 3)
        suggestions = {}
        if draw.random() < 0.7:
            suggestions["label"] = (draw.choice(["yes", "no", "maybe"]), round(draw.random(), 2), draw.choice(AGENTS))
        if draw.random() < 0.5:
            suggestions["rating"] = (draw.randrange(1, 6), None, draw.choice(AGENTS))
        responses = {}
        for user in ("anna", "ben"):
            if draw.random() < 0.6:
                values = {"label": draw.choice(["yes", "no", "maybe"]), "rating": draw.randrange(1, 6)}
                responses[user] = (draw.choice(["submitted", "draft", "discarded"]), values)
        words = " ".join(draw.choices(["red", "blue", "green", "wren", "owl"], k=4))
        found.append(
            {"id": f"r{at:03}", "text": words, "metadata": metadata, "suggestions": suggestions, "responses": responses}
        )
    return found


@pytest.fixture(scope="module")
def data(argilla, rows):
    made = Data(
        argilla,
        f"filters {secrets.token_hex(3)}",
        metadata={"durée": "terms", "n": "integer", 'a "b"': "float"},
        submitted=2,
    )
    made.anna, made.ben = made.member("anna"), made.member("ben")
    users = {name: getattr(made, name).get("me")["id"] for name in ("anna", "ben")}
    made.push([
        {
            "external_id": row["id"], "fields": {"text": row["text"]}, "metadata": row["metadata"],
            "suggestions": [
                {"question_id": made.questions[name], "value": value, "score": score, "agent": agent}
                for name, (value, score, agent) in row["suggestions"].items()
            ],
            "responses": [
                {"user_id": users[name], "status": status, "values": {q: {"value": v} for q, v in values.items()}}
                for name, (status, values) in row["responses"].items()
            ],
        }
        for row in rows
    ])  # fmt: skip
    return made


def values_of(row, of, user):
    """All values that a scope, as the API writes it, has in a row."""
    name, property = of.get("question"), of.get("property")
    responses = [response for who, response in row["responses"].items() if user in (None, who)]
    match of["entity"]:
        case "metadata":
            value = row["metadata"].get(of["metadata_property"])
            return value if isinstance(value, list) else [] if value is None else [value]
        case "suggestion":
            if name not in row["suggestions"]:
                return []
            value = row["suggestions"][name][{"value": 0, "score": 1, "agent": 2}[property or "value"]]
            return [] if value is None else [value]
        case "response" if name:
            return [values[name] for _, values in responses]
        case "response":
            return [status for status, _ in responses] or ["pending"]
    return [row["id"]]


def fits(row, condition, user):
    values = values_of(row, condition["scope"], user)
    if condition["type"] == "terms":
        return bool({str(value) for value in values} & {str(value) for value in condition["values"]})
    low, high = condition.get("ge", -math.inf), condition.get("le", math.inf)
    return any(low <= value <= high for value in values if not isinstance(value, str))


def a_condition(draw):
    scopes = [
        (scope("metadata", "durée"), KINDS),
        (scope("metadata", "n"), range(-5, 6)),
        (scope("metadata", 'a "b"'), [-0.5, 0, 0.25]),
        (scope("suggestion", "label", "value"), ["yes", "no"]),
        (scope("suggestion", "label", "score"), [0.2, 0.5, 0.9]),
        (scope("suggestion", "label", "agent"), AGENTS),
        (scope("suggestion", "rating", "value"), range(1, 6)),
        (scope("response", "label"), ["yes", "maybe"]),
        (scope("response", "rating"), range(1, 6)),
        (scope("response", property="status"), ["pending", "submitted", "draft", "discarded"]),
        (scope("record", "external_id"), ["r001", "r050", "nobody"]),
    ]
    of, choices = draw.choice(scopes)
    is_number = not isinstance(choices[0], str)
    if is_number and draw.random() < 0.7:
        low, high = sorted(draw.choices(list(choices), k=2))
        return between(of, *draw.choice([(low, high), (low, None), (None, high)]))
    return terms(of, *draw.sample(list(choices), draw.randrange(1, 3)))


@pytest.mark.parametrize("seed", range(6))
def test_filters_find_what_plain_python_finds(data, rows, seed):
    draw = random.Random(seed)
    for _ in range(25):
        conditions = [a_condition(draw) for _ in range(draw.randrange(1, 4))]
        who = draw.choice([None, "anna", "ben"])
        word = draw.choice([None, None, "red", "-owl"])
        expected = {
            row["id"] for row in rows
            if all(fits(row, condition, who) for condition in conditions)
            and (word is None or (word == "red" and "red" in row["text"]) or (word == "-owl" and "owl" not in row["text"]))
        }  # fmt: skip
        found = data.found(word, filters=conditions, user=who and getattr(data, who))
        assert {item["record"]["external_id"] for item in found["items"]} == expected, (who, word, conditions)
        assert found["total"] == len(expected)


SORTED_BY = [
    scope("metadata", "durée"), scope("metadata", "n"), scope("metadata", 'a "b"'), scope("suggestion", "label", "value"),
    scope("suggestion", "label", "score"), scope("suggestion", "label", "agent"), scope("suggestion", "rating", "value"),
    scope("response", "rating"), scope("response", "label"), scope("record", "external_id"),
]  # fmt: skip


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("of", SORTED_BY, ids=lambda of: " ".join(of.values()))
def test_orders_are_those_of_plain_python_with_what_is_missing_last(data, rows, of, order):
    def key(row):
        values = values_of(row, of, None)
        if not values:
            return None
        if of["entity"] == "response" and not isinstance(values[0], str):
            return sum(values) / len(values)
        return max(values) if order == "desc" else min(values)

    having = sorted((row for row in rows if key(row) is not None), key=key, reverse=order == "desc")
    expected = [key(row) for row in having] + [None] * (len(rows) - len(having))
    by_id = {row["id"]: row for row in rows}
    found = data.search(sort=[by(of, order)])
    assert [key(by_id[name]) for name in found] == pytest.approx(expected) and sorted(found) == sorted(by_id)
    # Equals stay as old first, and pages are cuts of the whole.
    pages = [data.search(sort=[by(of, order)], limit=50, offset=at) for at in range(0, 150, 50)]
    assert [name for page in pages for name in page] == found


def test_records_are_found_by_when_they_came_by_id_and_by_status(data, rows):
    items = data.found()["items"]
    first, last = (items[at]["record"] for at in (0, -1))
    ids = [row["id"] for row in rows]
    times = scope("record", "inserted_at")
    assert data.search(filters=[between(times, first["inserted_at"], last["inserted_at"])]) == ids
    assert data.search(filters=[terms(times, first["inserted_at"])])[0] == ids[0]
    assert (
        data.search(filters=[between(times, high="2001-02")]) == []
        and data.search(filters=[between(times, low="2001")]) == ids
    )
    assert data.search(filters=[between(times, low=f"{first['inserted_at']}+00:00")]) == ids  # in UTC, said or not
    assert data.search(filters=[between(times, low=f"{first['inserted_at']}-05:00")]) == []
    assert data.search(filters=[terms(scope("record", "id"), last["id"], "no-id")]) == [ids[-1]]
    assert data.search(filters=[terms(scope("record", "id"), "no-id")]) == []
    with pytest.raises(ReviewError, match=r"422.*'soon' is no time"):
        data.search(filters=[between(times, low="soon")])


def test_each_annotator_has_an_order_of_their_own_that_stays(data, rows):
    anna, again, ben = (data.search(user=user) for user in (data.anna, data.anna, data.ben))
    assert anna == again and anna != ben and sorted(anna) == sorted(ben) == [row["id"] for row in rows]
    assert data.search() == [row["id"] for row in rows]  # without a user, the oldest first
    pages = [data.search(user=data.anna, limit=50, offset=at) for at in range(0, 150, 50)]
    assert [name for page in pages for name in page] == anna


def test_progress_counts_the_answers_of_one_user_alone(data, rows):
    for name in ("anna", "ben"):
        counts = getattr(data, name).get(f"me/datasets/{data.id}/metrics")["responses"]
        own = [row["responses"][name][0] for row in rows if name in row["responses"]]
        expected = {status: own.count(status) for status in ("submitted", "draft", "discarded")}
        assert {status: counts[status] for status in expected} == expected
        assert counts["pending"] == len(rows) - len(own) and counts["total"] == len(rows)
    progress = data.server.get(f"datasets/{data.id}/progress")
    both = sum(1 for row in rows if [status for status, _ in row["responses"].values()] == ["submitted"] * 2)
    assert (progress["total"], progress["completed"]) == (len(rows), both)


def test_counts_of_metadata_are_those_of_plain_python(data, rows):
    found = {
        each["name"]: data.server.get(f"metadata-properties/{each['id']}/metrics")
        for each in data.server.get(f"me/datasets/{data.id}/metadata-properties")["items"]
    }
    counts = {kind: sum(kind in values_of(row, scope("metadata", "durée"), None) for row in rows) for kind in KINDS}
    assert {each["term"]: each["count"] for each in found["durée"]["values"]} == counts
    for name in ("n", 'a "b"'):
        values = [row["metadata"][name] for row in rows if name in row["metadata"]]
        assert (found[name]["min"], found[name]["max"]) == (min(values), max(values))


# --- what changes, what is odd --------------------------------------------------------------------------------------


def test_what_is_written_changed_or_deleted_is_found_at_once(argilla):
    data = Data(argilla, f"changes {secrets.token_hex(3)}", vectors={"v": 2})
    first = data.push(
        [
            {"external_id": name, "fields": {"text": name}, "vectors": {"v": [1, at]}}
            for at, name in enumerate(["red", "blue"])
        ]
    )
    assert data.search("red") == ["red"] and data.search({"vector": {"name": "v", "value": [1, 1]}}) == ["blue", "red"]
    data.push(
        [
            {"external_id": "red", "fields": {"text": "green"}, "vectors": {"v": [-1, -1]}},
            {"external_id": "new", "fields": {"text": "red"}},
        ]
    )
    assert data.search("red") == ["new"] and data.search("green") == ["red"]
    found = data.found({"vector": {"name": "v", "value": [1, 1]}})["items"]
    assert [(item["record"]["external_id"], round(item["query_score"], 3)) for item in found] == [
        ("blue", 1.0),
        ("red", 0.0),
    ]
    argilla.delete(f"datasets/{data.id}/records", ids=first[1]["id"])
    assert data.search("blue") == [] and data.search("-nothing") == ["red", "new"]
    assert data.search({"vector": {"name": "v", "value": [1, 1]}}) == ["red"]


def test_a_record_is_not_like_itself_and_the_least_like_comes_first_when_asked(argilla):
    data = Data(argilla, f"similar {secrets.token_hex(3)}", vectors={"v": 2}, metadata={"k": "terms"})
    angles = {"a": 0.0, "b": 0.4, "c": 1.2, "d": math.pi}
    items = [
        {
            "external_id": name,
            "fields": {"text": f"{name} bird"},
            "vectors": {"v": [math.cos(angle), math.sin(angle)]},
            "metadata": {"k": name},
        }
        for name, angle in angles.items()
    ]
    ids = {each["external_id"]: each["id"] for each in data.push(items)}
    like = {"name": "v", "record_id": ids["a"]}
    found = data.found({"vector": like})["items"]
    assert [item["record"]["external_id"] for item in found] == ["b", "c", "d"]
    assert [item["query_score"] for item in found] == pytest.approx(
        [(1 + math.cos(angles[name])) / 2 for name in "bcd"], abs=1e-6
    )
    assert data.search({"vector": {**like, "order": "least_similar"}}) == ["d", "c", "b"]
    assert data.search({"vector": like}, limit=1) == ["b"]
    assert data.search({"vector": like, "text": {"q": "c | d"}}) == ["c", "d"]
    assert data.search({"vector": like}, filters=[terms(scope("metadata", "k"), "d", "b")]) == ["b", "d"]


def test_fuzzed_queries_and_filters_never_break_it(argilla):
    """From the outside: whatever is asked, the answer is a page or a refusal in words, and never a dropped connection."""
    data = Data(argilla, f"fuzz {secrets.token_hex(3)}", metadata={"k": "terms", "n": "float"}, vectors={"v": 2})
    data.push(
        [
            {
                "external_id": f"{at}",
                "fields": {"text": "red owl 東京 é"},
                "metadata": {"k": "a", "n": at + 0.5},
                "vectors": {"v": [0, at]},
            }
            for at in range(9)
        ]
    )
    draw = random.Random(0)
    signs = [*'ab*"\\~()+-|\0\u200b\u0301東é🦉 ', "NEAR(", "text:", "f0 :", "AND", "^", "{", "\r\n", "'"]
    for _ in range(400):
        query = "".join(draw.choices(signs, k=draw.randrange(0, 25)))
        body = {"query": {"text": {"q": query, **({"field": "text"} if draw.random() < 0.3 else {})}}}
        found = argilla.post(f"datasets/{data.id}/records/search", body)
        assert 0 <= found["total"] <= 9, query
    odd = [None, "", "nan", "1e999", "x", 2**60, -1, "2025-13-01", {"a": 1}, [1]]
    scopes = [*SORTED_BY[3:9], scope("metadata", "k"), scope("metadata", "n"), scope("response", property="status")]
    scopes += [scope("record", name) for name in ("id", "external_id", "inserted_at", "updated_at", "status")]
    refusals = 0
    for _ in range(200):
        of = draw.choice(scopes)
        low, high = draw.choice(odd), draw.choice(odd)
        if isinstance(low, str) != isinstance(high, str):
            high = None  # Argilla itself compares the two ends, and answers 500 for a number and a text
        filters = [draw.choice([terms(of, low), between(of, low, high)])]
        try:
            data.found(filters=filters)
        except Exception as refusal:
            refusals += 1
            assert re.search(r"answers .* with 422", str(refusal)), (filters, refusal)
    assert 20 < refusals < 180
    assert (
        data.search({"vector": {"name": "v", "value": [1e308, -1e308]}})[0] == "0"
    )  # zeros: 0.5, above what points away


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused_in_words_and_nothing_is_stored(argilla, number):
    import urllib.error
    import urllib.request

    data = Data(argilla, f"numbers {secrets.token_hex(3)}", metadata={"n": "float"}, vectors={"v": 1})
    for part in (f'"metadata": {{"n": {number}}}', f'"vectors": {{"v": [{number}]}}', '"metadata": {"n": "\\ud800"}'):
        body = f'{{"items": [{{"external_id": "x", "fields": {{"text": "x"}}, {part}}}]}}'
        request = urllib.request.Request(
            f"{argilla.url}/api/v1/datasets/{data.id}/records/bulk", body.encode(), method="PUT",
            headers={"X-Argilla-Api-Key": argilla.api_key, "Content-Type": "application/json"},
        )  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request)
        assert refusal.value.code == 422 and re.search(
            "is no number|too large|surrogate", refusal.value.read().decode()
        )
    assert data.search() == []
