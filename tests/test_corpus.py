"""Passages at exact offsets under the right headings, and a search that ranks as BM25 is defined."""

import json
import math
import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from workbench import store
from workbench.corpus import Chunk, Corpus, chunk
from workbench.errors import InputError
from workbench.records import Document, Passage, Span


@pytest.fixture(scope="module", params=["bundled", "fastapi"])
def cut(request):
    """(document, chunks) of the bundled documents, and of 155 real pages: FastAPI's documentation, with admonitions, tabs and code."""
    folder = (
        ROOT / "data" / "documents"
        if request.param == "bundled"
        else request.getfixturevalue("shared") / "docs_fastapi"
    )
    return [(document, chunk(document)) for document in store.documents(folder)]


def words(text):
    return re.findall(r"\w+", text.lower())


def at_hand(texts):
    """A corpus of these texts, one chunk each."""
    return Corpus([Chunk(Passage(text, Span(f"d{at}", 0, len(text)))) for at, text in enumerate(texts)])


# --- cutting


def test_every_span_is_exactly_its_text_in_order_without_overlap_and_within_the_size(cut):
    for document, chunks in cut:
        end = 0
        for piece in chunks:
            span = piece.passage.span
            assert document.text[span.start : span.end] == piece.text and span.document_id == document.id
            assert span.start >= end and len(piece.text) <= 1500 and len(words(piece.text)) >= 12
            end = span.end


def test_every_word_of_a_paragraph_is_in_some_passage(cut):
    checked = 0
    for document, chunks in cut:
        covered = bytearray(len(document.text))
        for piece in chunks:
            span = piece.passage.span
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
        for paragraph in re.finditer(r"(?:.+\n?)+", document.text):
            found = list(re.finditer(r"\w+", paragraph[0]))
            # A list or a code block may leave its opening line to itself, which is too short to be a passage.
            is_prose = re.match(r"[^\W\d]|[*_`\[]+\w", paragraph[0]) and "```" not in paragraph[0]
            if is_prose and len(found) >= 12:
                lost = [word[0] for word in found if not covered[paragraph.start() + word.start()]]
                assert not lost, (document.path, lost)
                checked += 1
    assert checked > 100


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["word ", "Grüße 🜁 ", "a sentence that ends. ", "\n\n", "\n", "# Heading\n\n", "## Deeper\n", "- item\n", "```\n# code\n```\n", "    # code\n",
                                 "| a | b |\n", "> quote\n", "\u2028", "\r\n", "\t", "Under\n=====\n", "<b>", "x" * 40 + " "]), max_size=150),
       st.tuples(st.integers(1, 60), st.integers(0, 200)))  # fmt: skip
def test_spans_are_exact_for_any_text_and_any_size(pieces, sizes):
    document = Document("".join(pieces), title="T")
    low, high = sizes[0], sizes[0] + sizes[1]
    end = 0
    for piece in chunk(document, characters=(low, high)):
        span = piece.passage.span
        assert document.text[span.start : span.end] == piece.text and end <= span.start and len(piece.text) <= high
        assert piece.headings[0] == "T"
        end = span.end


def test_a_long_paragraph_loses_at_most_the_few_words_that_are_left_over_at_a_cut():
    rng = random.Random(0)
    for _ in range(30):
        sentences = [" ".join(f"w{rng.randrange(99)}" for _ in range(rng.randrange(3, 25))) + "." for _ in range(50)]
        text = " ".join(sentences)
        spans = [piece.passage.span for piece in chunk(Document(text))]
        gaps = [
            text[a:b] for a, b in zip([0, *(s.end for s in spans)], [*(s.start for s in spans), len(text)], strict=True)
        ]
        assert len(spans) > 1 and all(len(words(gap)) < 12 for gap in gaps)


def test_small_paragraphs_are_filled_up_and_sections_are_kept_apart_where_they_fit():
    prose = "This paragraph is one sentence of exactly one hundred characters, with the blank and the full stop. "
    text = f"# One\n\n{prose * 6}\n\n## Two\n\n{prose * 6}\n\n## Three\n\n" + "\n\n".join([prose.strip()] * 8)
    chunks = chunk(Document(text, title="One"), characters=(500, 1000))
    assert [piece.headings for piece in chunks] == [("One",), ("One", "Two"), ("One", "Three")]
    assert all(500 <= len(piece.text) <= 1000 for piece in chunks) and chunks[1].text.startswith("## Two\n\n")


def test_pieces_of_fewer_than_12_words_are_no_passage():
    assert chunk(Document("# A heading\n\nOnly these few words are here.")) == []
    assert chunk(Document("")) == [] and chunk(Document(" \n\n")) == []
    eleven, twelve = (
        "one two three four five six seven eight nine ten eleven",
        "one two three four five six seven eight nine ten eleven twelve",
    )
    assert chunk(Document(eleven)) == [] and [piece.text for piece in chunk(Document(twelve))] == [twelve]


@pytest.mark.parametrize("size", [(0, 10), (20, 10), (-5, 5)])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(InputError, match="must be"):
        chunk(Document("text"), characters=size)


# --- headings

FILL = "These are some twelve words or more, so that this section is a passage."
HANDMADE = f"""---
title: In the front matter
---

# The guide {{ #guide }}

{FILL} 1

## Using `max_tokens` and *stop words*

{FILL} 2

```python
# not a heading
## not one either
max_tokens = 3
```

{FILL} 3

    # indented code is no heading

{FILL} 4

### A [link](https://example.org/a_b) to __init__ and `__init__.py`

{FILL} 5

Under lined
-----------

{FILL} 6

#hashtag is no heading

~~~
# no heading
~~~

{FILL} 7

#### Deep ####

{FILL} 8

# Another **part**

{FILL} 9
"""


def test_each_passage_stands_under_its_own_headings_and_a_hash_in_code_is_none():
    chunks = chunk(Document(HANDMADE, title="The guide"), characters=(60, 90))
    under = {}
    for piece in chunks:
        for number in re.findall(r"passage\. (\d)", piece.text):
            under[int(number)] = piece.headings
    using = "Using max_tokens and stop words"
    assert under == {
        1: ("The guide",), 2: ("The guide", using), 3: ("The guide", using), 4: ("The guide", using),
        5: ("The guide", using, "A link to init and __init__.py"), 6: ("The guide", "Under lined"), 7: ("The guide", "Under lined"),
        8: ("The guide", "Under lined", "Deep"), 9: ("The guide", "Another part"),
    }  # fmt: skip


def test_a_passage_that_opens_with_headings_stands_under_the_last_of_them():
    found = chunk(Document(f"# A\n\n## B\n\n### C\n\n{FILL}\n\n## D\n\n{FILL}"), characters=(60, 99))
    assert [(piece.text.split("\n")[0], piece.headings) for piece in found] == [
        ("# A", ("A", "B", "C")),
        ("## D", ("A", "D")),
    ]


def test_the_front_matter_of_a_page_is_no_heading():
    for end in ("\n", "\r\n"):
        text = f"---\ntitle: A page\n# a comment\n---\n\n{FILL}\n\n## Below\n\n{FILL}\n\n---\n\n{FILL}".replace(
            "\n", end
        )
        assert [piece.headings for piece in chunk(Document(text, title="A page"), characters=(60, 99))] == [
            ("A page",),
            *[("A page", "Below")] * 2,
        ]


def test_a_title_that_is_no_heading_stands_first_and_the_section_reads_on_one_line():
    text = f"## Shutting down\n\n{FILL}"
    assert [piece.section for piece in chunk(Document(text, title="Workers"))] == ["Workers > Shutting down"]
    assert [piece.section for piece in chunk(Document(text))] == ["Shutting down"]
    assert [piece.section for piece in chunk(Document(FILL))] == ["(untitled)"] and [
        piece.section for piece in chunk(Document(FILL, title="T"))
    ] == ["T"]


def test_the_headings_of_real_pages_are_their_heading_lines_and_none_comes_out_of_code(cut):
    """Against a scanner of lines that knows fences and nothing else; names are compared by their letters and digits."""

    def plain(name):
        return re.sub(r"[\W_]+", "", re.sub(r"\]\([^)]*\)|\{[^{}]*\}\s*$", "", name))

    for document, chunks in cut:
        known, fence = {plain(document.title)}, ""
        for line in document.text.split("\n"):
            mark = re.match(r" *(`{3,}|~{3,})", line)
            if mark and (not fence or mark[1].startswith(fence)):
                fence = "" if fence else mark[1]
            elif not fence and (heading := re.match(r" {0,3}#+ +(.*)", line)):
                known.add(plain(heading[1]))
        assert {plain(name) for piece in chunks for name in piece.headings} <= known, document.path


# --- search


def brute_force(texts, query):
    """BM25 by the book: k1 = 1.5, b = 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5)), every word of the query counted as often as it comes."""
    bags = [Counter(words(text)) for text in texts]
    mean = sum(bag.total() for bag in bags) / len(bags)
    found = [0.0] * len(bags)
    for word in words(query):
        n = sum(word in bag for bag in bags)
        idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
        for at, bag in enumerate(bags):
            found[at] += idf * bag[word] * 2.5 / (bag[word] + 1.5 * (0.25 + 0.75 * bag.total() / mean))
    return found


BAGS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "Dd", "e_f"]), min_size=1, max_size=6).map(" ".join),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    texts=BAGS,
    query=st.lists(st.sampled_from(["a", "b", "B", "dd", "e_f", "unknown", "?"]), max_size=5).map(" ".join),
    k=st.integers(0, 14),
)
def test_a_search_is_the_whole_ranking_by_score_cut_at_k_with_ties_to_the_earlier(texts, query, k):
    corpus = at_hand(texts)
    scores = corpus.scores(query)
    expected = np.array(brute_force(texts, query))
    # bm25s leaves out the constant factor k1 + 1 = 2.5 as Lucene does, which changes no order.
    assert scores == pytest.approx(expected / 2.5, rel=1e-4, abs=1e-6)
    ranked = sorted((at for at in range(len(texts)) if scores[at] > 0), key=lambda at: (-scores[at], at))
    assert [piece.passage.span.document_id for piece in corpus.search(query, k)] == [f"d{at}" for at in ranked[:k]]


def test_ties_go_to_the_earlier_passage_at_any_cut():
    corpus = at_hand(["x", "cat dog", "cat dog", "y", "cat dog", "cat dog cat", "cat dog"])
    ids = lambda k: [piece.passage.span.document_id for piece in corpus.search("cat", k)]
    assert ids(7) == ["d5", "d1", "d2", "d4", "d6"]
    assert [ids(k) for k in range(6)] == [ids(7)[:k] for k in range(6)]


@pytest.mark.parametrize("query", ["", " ", "???", "unknown words", "\n\t", "🜁"])
def test_a_query_that_shares_no_word_finds_nothing(query):
    corpus = at_hand(["the cat", "a dog"])
    assert corpus.search(query, 5) == [] and corpus.scores(query).tolist() == [0.0, 0.0]


def test_a_query_finds_words_whatever_their_case_and_marks():
    corpus = at_hand(["Der Ärger über STRASSEN.", "max_tokens=3", "nothing"])
    assert corpus.search("ärger?", 1) == [corpus.chunks[0]] and corpus.search("(max_tokens)", 1) == [corpus.chunks[1]]
    assert corpus.search("tokens", 3) == []


def test_retrieval_on_xquad_reaches_the_figures_of_an_independent_bm25(shared):
    """240 paragraphs, 1,190 questions; the figures come from a program of its own (shared/reference/algorithms.md, section 14)."""
    articles = json.loads((shared / "squad_xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    corpus = at_hand([paragraph["context"] for paragraph in paragraphs])
    place = {f"d{at}": at for at in range(len(paragraphs))}
    ranks = []
    for at, paragraph in enumerate(paragraphs):
        for question in paragraph["qas"]:
            found = [place[piece.passage.span.document_id] for piece in corpus.search(question["question"], 10)]
            ranks.append(found.index(at) + 1 if at in found else math.inf)
    assert (len(paragraphs), len(ranks)) == (240, 1190)
    figures = {f"hit@{k}": sum(rank <= k for rank in ranks) / 1190 for k in (1, 3, 5, 10)}
    figures |= {
        "MRR@10": sum(1 / rank for rank in ranks) / 1190,
        "nDCG@10": sum(1 / math.log2(rank + 1) for rank in ranks) / 1190,
    }
    expected = {
        "hit@1": 0.9168,
        "hit@3": 0.9765,
        "hit@5": 0.9857,
        "hit@10": 0.9916,
        "MRR@10": 0.9473,
        "nDCG@10": 0.9584,
    }
    assert {name: round(value, 4) for name, value in figures.items()} == expected


# --- the corpus


def test_a_corpus_without_a_passage_is_refused_with_the_reason():
    for nothing in (
        lambda: Corpus([]),
        lambda: Corpus.of([]),
        lambda: Corpus.of([Document("too short"), Document("")]),
    ):
        with pytest.raises(
            InputError, match=r"no passage to work with: every document is empty or shorter than 12 words"
        ):
            nothing()


def test_a_corpus_says_how_many_passages_of_how_many_documents_it_holds(bundled):
    corpus = Corpus.of(bundled)
    assert repr(corpus) == f"Corpus({len(corpus)} passages of 39 documents)" and len(corpus) == sum(
        len(chunk(document)) for document in bundled
    )
    assert corpus.chunks == Corpus.of(iter(bundled)).chunks


def test_a_corpus_is_known_by_its_passages():
    one, same, other = at_hand(["a b", "c"]), at_hand(["a b", "c"]), at_hand(["a b", "d"])
    assert (
        one.content_id == same.content_id
        and len({one.content_id, other.content_id, at_hand(["c", "a b"]).content_id}) == 3
    )
