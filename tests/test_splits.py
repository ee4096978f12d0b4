"""Splits: no group is on both sides, whichever way its rows are tied; and what ties them is said."""

import json
import re
from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import imports
from workbench.errors import InputError
from workbench.quality import classifiers
from workbench.records import QA, Document, Instruction, Passage, Persona, Preference, Provenance, Span, by_id
from workbench.train import splits


def pair(prompt, chosen="", rejected="", *, parents=(), document=""):
    source = Span(document, 0, 1) if document else None
    return Preference(prompt, chosen, rejected, provenance=Provenance("made", parents=tuple(parents), source=source))


def answered(prompt, output="", **origin):
    return Instruction(prompt, output=output, provenance=pair("", **origin).provenance)


def unrelated(count, start=0):
    return [pair(f"prompt {at}", f"good {at}", f"bad {at}") for at in range(start, start + count)]


# --- an oracle that knows neither keys nor a union-find: two rows at a time, from their fields


def same(one, other):
    plain = lambda text: re.sub(r"\s+", " ", text or "").strip().lower()
    return plain(one) == plain(other) != ""


def ancestors(row, known, depth=8):
    """Ids of the row and of all it comes from, by trying parents of parents again and again."""
    found = {row.id}
    for _ in range(depth):
        for id in list(found & known.keys()):
            origin = known[id].provenance
            found |= {*origin.parents, *([origin.source.document_id] if origin.source else [])}
            if isinstance(known[id], QA):
                found.add(known[id].passage.span.document_id)
    return found


def texts(row):
    if isinstance(row, Preference):
        return row.prompt, [row.chosen, row.rejected]
    return (row.question, [row.answer]) if isinstance(row, QA) else (row.asked, [row.output])


def share(one, other, known):
    """Whether two rows share something, each thing looked at by itself."""
    lines = ancestors(one, known), ancestors(other, known)
    people = [[known[id].text for id in line if isinstance(known.get(id), Persona)] for line in lines]
    for persons, row in zip(people, (one, other), strict=True):
        persons += [row.persona] if isinstance(row, QA) else []
    (first, learnt), (second, learnt_too) = texts(one), texts(other)
    return (
        bool(lines[0] & lines[1])
        or any(same(a, b) for a, b in product(*people))
        or same(first, second)
        or any(same(a, b) for a, b in product(learnt, learnt_too))
    )


def components(rows, known):
    """The rows' groups by walking from row to row, as sets of ids."""
    distinct = list(by_id(rows).values())
    near = {row.id: {row.id} for row in distinct}
    for one, other in combinations(distinct, 2):
        if share(one, other, known):
            near[one.id].add(other.id)
            near[other.id].add(one.id)
    found = []
    while near:
        group, ahead = set(), [min(near)]
        while ahead:
            id = ahead.pop()
            if id not in group:
                group.add(id)
                ahead += near[id]
        found.append(group)
        near = {id: others for id, others in near.items() if id not in group}
    return found


DOCUMENTS = [Document(f"page {at}") for at in range(3)]
PEOPLE = [Persona("A baker"), Persona("a  BAKER", "reader"), Persona("A nurse")]
PEOPLE += [Persona("A pilot", provenance=Provenance("persona", parents=(PEOPLE[0].id,)))]
PEOPLE += [Persona("A judge", provenance=Provenance("persona", source=Span(DOCUMENTS[0].id, 0, 4)))]
PEOPLE += [Persona("A poet", provenance=Provenance("persona", parents=(PEOPLE[3].id, "lost")))]
ASKED = [Instruction(f"seed {at}", provenance=Provenance("persona", parents=(PEOPLE[at].id,))) for at in range(6)]
AMONG = [*DOCUMENTS, *PEOPLE, *ASKED]
ORIGINS = st.lists(st.sampled_from([each.id for each in AMONG] + ["lost", "gone"]), max_size=1)


@st.composite
def some_rows(draw):
    """Rows that are tied now and then, each way: enough different texts that not all become one group."""
    made = []
    for _ in range(draw(st.integers(2, 9))):
        word = lambda: draw(st.sampled_from(["", "x", " X", *(f"w{at}" for at in range(60))]))
        prompt = draw(st.sampled_from(["Why?", "why? ", *(f"ask {at}" for at in range(25))]))
        origin = {"parents": draw(ORIGINS) if draw(st.booleans()) else ()}
        origin["document"] = draw(st.sampled_from(["", "", "", "elsewhere", DOCUMENTS[1].id]))
        if draw(st.booleans()):
            made.append(pair(prompt, word(), word(), **origin))
        elif draw(st.booleans()):
            made.append(answered(prompt, word(), **origin))
        else:
            passage = Passage("p", Span(draw(st.sampled_from(["one", "two", DOCUMENTS[2].id])), 0, 1))
            persona = draw(st.sampled_from([None, None, "A nurse"]))
            made.append(QA(prompt, word(), None, passage, persona=persona, provenance=pair("", **origin).provenance))
        if draw(st.booleans()) and draw(st.booleans()):  # a row made of a row
            made.append(pair(f"of {len(made)}", f"c{len(made)}", f"r{len(made)}", parents=(made[0].id,)))
    return made


@given(some_rows())
def test_groups_are_what_comparing_the_rows_two_by_two_gives_and_are_named_by_their_smallest_id(rows):
    by_name = {}
    for row, name in zip(rows, splits.groups(rows, among=AMONG), strict=True):
        by_name.setdefault(name, set()).add(row.id)
    assert all(name == min(ids) for name, ids in by_name.items())
    wanted = components(rows, by_id([*rows, *AMONG]))
    assert sorted(map(sorted, by_name.values())) == sorted(map(sorted, wanted))


@given(some_rows(), st.randoms(use_true_random=False), st.integers(0, 5), st.sampled_from([0.1, 0.3, 0.5, 0.8]))
def test_a_split_shares_nothing_loses_nothing_and_does_not_depend_on_the_order_of_the_rows(
    rows, random, seed, share_of
):
    known, names = by_id([*rows, *AMONG]), splits.groups(rows, among=AMONG)
    if len(set(names)) < 2:
        with pytest.raises(InputError, match=r"cannot be split|are one group"):
            splits.split(rows, among=AMONG)
        return
    found = splits.split(rows, held_out=share_of, seed=seed, among=AMONG)
    assert not [(a, b) for a, b in product(found.train, found.held_out) if share(a, b, known)]
    assert splits.leaks(found.train, found.held_out, among=AMONG) == []
    assert found.train and found.held_out
    sides = [[row for row in rows if row in side] for side in (found.train, found.held_out)]
    assert sides == [list(found.train), list(found.held_out)] and sum(map(len, sides)) == len(rows)
    assert found.groups == {row.id: name for row, name in zip(rows, names, strict=True)}
    turned = list(rows)
    random.shuffle(turned)
    again = splits.split(turned, held_out=share_of, seed=seed, among=AMONG)
    assert Counter(row.id for row in again.held_out) == Counter(row.id for row in found.held_out)
    assert again.groups == found.groups and again.ties == found.ties


@given(some_rows(), st.data())
def test_leaks_of_any_two_parts_are_the_pairs_that_share_something(rows, data):
    train = [row for row in rows if data.draw(st.booleans())]
    held_out = [row for row in rows if row not in train]
    if not train or not held_out:
        return
    known = by_id([*rows, *AMONG])
    found = splits.leaks(train, held_out, among=AMONG)
    leaking = {other.id for one, other in product(train, held_out) if share(one, other, known)}
    assert {leak.held_out for leak in found} == leaking
    for leak in found:
        assert share(known[leak.train], known[leak.held_out], known)


# --- what ties


TIES = {
    "a document": ("document", pair("a", document="d"), pair("b", document="d")),
    "a document that one names as a parent": ("document", pair("a", document="d"), pair("b", parents=["d"])),
    "a document that is given and that text was taken of nowhere": (
        "document", pair("a", parents=[DOCUMENTS[2].id]), pair("b", parents=[DOCUMENTS[2].id]),
    ),
    "a document behind a persona": ("document", pair("a", parents=[PEOPLE[4].id]), pair("b", document=DOCUMENTS[0].id)),
    "a document behind an instruction's persona": (
        "document", pair("a", parents=[ASKED[4].id]), pair("b", parents=[DOCUMENTS[0].id]),
    ),
    "a persona": ("persona", pair("a", parents=[PEOPLE[2].id]), pair("b", parents=[PEOPLE[2].id])),
    "a persona in the same words": ("persona", pair("a", parents=[PEOPLE[0].id]), pair("b", parents=[PEOPLE[1].id])),
    "a persona behind an instruction": ("persona", pair("a", parents=[ASKED[2].id]), pair("b", parents=[PEOPLE[2].id])),
    "a persona two generations back": ("persona", pair("a", parents=[PEOPLE[5].id]), pair("b", parents=[PEOPLE[1].id])),
    "a persona that a QA names": (
        "persona", pair("a", parents=[PEOPLE[2].id]),
        QA("b", None, None, Passage("p", Span("d", 0, 1)), persona="a nurse"),
    ),
    "a passage's document": (
        "document", pair("a", parents=["d"]), QA("b", None, None, Passage("p", Span("d", 0, 1))),
    ),
    "a parent that nobody gave": ("parent", pair("a", parents=["x", "lost"]), answered("b", parents=["lost"])),
    "a row made of the other": ("parent", pair("a"), pair("b", parents=[pair("a").id])),
    "a prompt": ("prompt", pair("Why so?", "1", "2"), pair(" why  SO?", "3", "4")),
    "a prompt with its input": ("prompt", pair("Sum up\n\nthis"), Instruction("Sum up", "this", "done")),
    "a dialogue that goes on": (
        "prompt", pair("\n\nHuman: Hi there\n\nAssistant:"),
        pair("\n\nHuman: Hi there\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:"),
    ),
    "a dialogue and its bare question": ("prompt", pair("\n\nHuman: Hi there\n\nAssistant:"), pair("hi there")),
    "a dialogue under a system prompt": (
        "prompt", pair("\n\nSystem: Be kind\n\nHuman: Hi\n\nAssistant:"), pair("\n\nHuman: Hi\n\nAssistant: Yes?"),
    ),
    "a text chosen here and rejected there": ("text", pair("a", "Yes", "No"), pair("b", "Perhaps", " yes\n")),
    "a text learnt in another kind": ("text", pair("a", "Yes", "No"), answered("b", "NO")),
}  # fmt: skip


@pytest.mark.parametrize("case", TIES)
def test_two_rows_are_tied_together_by(case):
    kind, one, other = TIES[case]
    rows = [one, other, *unrelated(2)]
    names = splits.groups(rows, among=AMONG)
    assert names[0] == names[1] and len(set(names)) == 3
    ties = splits.split(rows, among=AMONG).ties
    assert ties == {**dict.fromkeys(splits.KINDS, 0), kind: 2}
    (leak,) = splits.leaks([one], [other], among=AMONG)
    assert (leak.kind, leak.train, leak.held_out) == (kind, one.id, other.id)


APART = {
    "an empty answer": (pair("a", "", "x"), pair("b", "", "y")),
    "an answer that is the other's prompt": (pair("a", "yes", "x"), pair("yes", "z", "y")),
    "a question in the middle of a text": (pair("Say Human: a"), pair("Name Human: a")),
    "a system prompt alone": (
        pair("\n\nSystem: Be kind\n\nHuman: Hi\n\nAssistant:"), pair("\n\nSystem: Be kind\n\nHuman: Bye\n\nAssistant:"),
    ),
    "what a later turn asks": (
        pair("\n\nHuman: Hi\n\nAssistant: So\n\nHuman: Bye\n\nAssistant:"), pair("\n\nHuman: Bye\n\nAssistant:"),
    ),
    "a persona's relation": (pair("a", parents=[Persona("A", "reader").id]), pair("b", parents=[Persona("B", "reader").id])),
}  # fmt: skip


@pytest.mark.parametrize("case", APART)
def test_two_rows_are_not_tied_together_by(case):
    assert len(set(splits.groups(APART[case], among=AMONG))) == 2


def test_ties_go_on_from_row_to_row():
    chain = [pair(f"{at}", f"text {at}", f"text {at + 1}") for at in range(50)]
    assert len(set(splits.groups([*chain, *unrelated(1)]))) == 2
    assert len(set(splits.groups([*chain[:20], *chain[21:]]))) == 2  # one link less


def test_identical_rows_stay_together_and_are_counted_but_are_no_tie():
    rows = unrelated(4) * 3
    found = splits.split(rows, held_out=0.5)
    assert (len(found.train), len(found.held_out)) == (6, 6) and not any(found.ties.values())
    assert not {row.id for row in found.train} & {row.id for row in found.held_out}
    for seed in range(5):
        found = splits.split([*unrelated(1) * 10, *unrelated(10, start=1)], held_out=0.5, seed=seed)
        assert len(found.held_out) == 10


def test_parents_that_were_not_given_are_counted():
    rows = [pair("a", parents=["gone", "lost"]), pair("b", parents=["gone", PEOPLE[5].id]), pair("c", document="d")]
    assert splits.split([*rows, *unrelated(1)], among=AMONG).unknown == 2  # a poet's other parent is "lost" too
    assert "3 parents were not given in among" in repr(splits.split([*rows, *unrelated(1)]))
    assert "parents" not in repr(splits.split(unrelated(3)))


# --- how much is held out


@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=12),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
def test_the_share_is_off_by_half_a_group_at_most_where_there_is_another_to_choose(sizes, wanted, seed):
    rows = [pair(f"ask {at}", f"good {at} {n}", f"bad {at} {n}") for at, size in enumerate(sizes) for n in range(size)]
    found = splits.split(rows, held_out=wanted, seed=seed)
    trained = Counter(found.groups[row.id] for row in found.train)
    held = Counter(found.groups[row.id] for row in found.held_out)
    off = len(found.held_out) - wanted * len(rows)
    assert -off <= min(trained.values()) / (1 if len(trained) == 1 else 2) + 1e-9
    assert off <= (len(found.held_out) if len(held) == 1 else max(held.values()) / 2) + 1e-9
    if off > 0 and len(held) == 1:
        assert held.total() == min(sizes) or off <= held.total() / 2


def test_other_seeds_hold_out_other_rows_each_about_as_often():
    rows = unrelated(20)
    counts = Counter(row.id for seed in range(200) for row in splits.split(rows, seed=seed).held_out)
    assert len(counts) == 20 and counts.total() == 200 * 20 * 0.3
    assert min(counts.values()) > 35 and max(counts.values()) < 85  # 60 wanted, 4 standard errors


def test_large_groups_are_held_out_too():
    rows = [*unrelated(10), *(pair(f"ask {at // 5}", f"c {at}", f"r {at}") for at in range(20))]
    held = [splits.split(rows, seed=seed).held_out for seed in range(100)]
    counts = Counter(row.prompt for some in held for row in some if row.prompt.startswith("ask"))
    assert all(len(some) == 9 for some in held) and min(counts[f"ask {at}"] for at in range(4)) > 5 * 15


def test_size_draws_whole_groups_first():
    rows = [pair(f"ask {at // 5}", f"good {at}", f"bad {at}") for at in range(200)]
    found = splits.split(rows, size=50, seed=1)
    assert (len(found.train), len(found.held_out)) == (35, 15)
    assert set(Counter(found.groups.values()).values()) == {5} and found.ties["prompt"] == 50
    assert found.groups.keys() != splits.split(rows, size=50, seed=2).groups.keys()


# --- what is said


def test_rows_that_are_all_one_group_are_refused_with_what_ties_them():
    rows = [pair(f"prompt {at // 4}", f"c {at}", f"r {at}", document="page-one") for at in range(40)]
    with pytest.raises(InputError) as error:
        splits.split(rows)
    assert "all 40 rows are one group" in str(error.value)
    assert "40 share a document with another (40 of them page-one)" in str(error.value)
    assert "40 share a prompt with another (4 of them “prompt 0”)" in str(error.value)
    assert "text" not in str(error.value) and "persona with" not in str(error.value)


@pytest.mark.parametrize(
    "given, options, said",
    [
        ([], {}, "no rows to split"),
        (unrelated(1), {}, r"one record \(1 rows\)"),
        (unrelated(1) * 5, {}, r"one record \(5 rows\)"),
        ([*unrelated(3), Persona("A")], {}, "got a Persona"),
        (unrelated(3), {"held_out": 0}, "between 0 and 1, got 0"),
        (unrelated(3), {"held_out": 1}, "between 0 and 1, got 1"),
        (unrelated(3), {"held_out": 100}, "got 100"),
        (unrelated(3), {"held_out": float("nan")}, "got nan"),
        (unrelated(3), {"size": 4}, "2 to 3 here, got 4"),
        (unrelated(3), {"size": 1}, "2 to 3 here, got 1"),
        (
            [pair("a", f"c{at}", f"r{at}") for at in range(9)] + unrelated(1),
            {"size": 2},
            "size=2 drew one group of 1 rows",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(given, options, said):
    with pytest.raises(InputError, match=said):
        splits.split(given, **options)


def test_a_split_prints_itself():
    rows = [*unrelated(8), pair("Prompt  0", "other", "text"), pair("last", "x", "y")]
    found = splits.split(rows, held_out=0.3, seed=1)
    sides = f"{len(found.train)} rows of {len(found.train) - (rows[8] in found.train)} groups"
    assert repr(found).startswith(f"Split({sides} (70%) to train on, 3 rows of")
    assert "tied together: 2 rows by prompt; 2 in the largest group)" in repr(found)
    html = splits.split([*rows, pair("<b>", "c", "d")])._repr_html_()
    assert "held out" in html and "<b>Split</b>" in html
    assert "tied together: none; 1 in the largest group" in repr(splits.split(unrelated(4)))


def test_a_leak_names_what_is_shared():
    one, other = pair("a", "The same answer", "r", document="d"), pair("b", "x", "the SAME answer", document="d")
    later = pair("c", "the same answer", "s")
    found = splits.leaks([*unrelated(3), one, one, later], [other, *unrelated(3, start=3)])
    assert [str(leak) for leak in found] == [
        f"document d is in train (row {one.id}) and held out (row {other.id})",
        f"text “the same answer” is in train (row {one.id}) and held out (row {other.id})",
    ]


# --- real rows


def test_on_hh_rlhf_dialogues_that_open_alike_stay_together_and_nothing_leaks(shared):
    rows = imports.hh_rlhf(shared / "hh_rlhf_harmless" / "test.jsonl.gz").preferences
    found = splits.split(rows, held_out=0.3, seed=0)
    assert abs(len(found.held_out) - 0.3 * len(rows)) < 1 and splits.leaks(found.train, found.held_out) == []
    by_opening = {}
    for row in rows:
        by_opening.setdefault(classifiers._opening(row.prompt), set()).add(found.groups[row.id])
    assert all(len(names) == 1 for names in by_opening.values()) and len(by_opening) < len(rows)
    train = [set(map(splits._folded, (row.chosen, row.rejected))) for row in found.train]
    held = [set(map(splits._folded, (row.chosen, row.rejected))) for row in found.held_out]
    assert not [1 for one, other in product(train, held) if not one.isdisjoint(other)]
    at_random = splits.leaks(rows[::2], rows[1::2])
    assert Counter(leak.kind for leak in at_random).keys() == {"prompt", "text"} and len(at_random) > 100


def test_on_the_bundled_pairs_prompts_are_the_groups(request):
    lines = (request.config.rootpath / "data" / "pairs" / "written.jsonl").read_text().splitlines()
    made = [json.loads(line) for line in lines]
    rows = [answered(each["instruction"], text) for each in made for text in each["generations"]]
    found = splits.split(rows, held_out=0.25)
    assert (len(found.train), len(found.held_out), found.ties["prompt"]) == (90, 30, 120)
    assert not {row.asked for row in found.train} & {row.asked for row in found.held_out}
