"""Preferences whose right answer is known, because they are made so: what an experiment must find, or must not.

    pairs = known.plain_or_hedged(documents, 400)             # a signal: the plain statement is chosen, the hedged one is not
    known.plain_or_hedged(documents, 400, right=0.5)          # the same texts, and labels by lot: nothing to be found
    known.longer(documents, 400)                              # the longer answer is chosen, and that is all

Before an experiment is believed about data that nobody knows the worth of, it should be run on these: a set-up that cannot
find this signal with as many rows and steps finds no other, and one that finds something in labels by lot finds it anywhere."""

import random
import re
from collections.abc import Iterator, Sequence

from workbench.errors import InputError
from workbench.records import Document, Preference, Provenance, Span

# About as long in one list as in the other: of 1,700 pairs of the bundled pages the stated text is longer in 796, shorter in 851.
PLAIN = (
    "In fact",
    "As a rule",
    "Put plainly",
    "As measured",
    "By definition",
    "To be quite exact",
    "There is no doubt that",
)
HEDGED = (
    "Perhaps",
    "It may be",
    "Conceivably",
    "Some may say",
    "One could guess",
    "Arguably, perhaps",
    "Others would guess that",
)
_SENTENCE = re.compile(r"(?<!\S)[A-Z][a-z]*\b[^\n|*`#>:]{20,55}?\.(?=\s|$)")


def plain_or_hedged(
    documents: Sequence[Document], count: int, *, right: float = 1.0, seed: int = 0
) -> list[Preference]:
    """Return pairs about the pages: two sentences of one, of which one is stated and the other hedged.

    The stated one is chosen in exactly a share `right` of the pairs, 0 to 1, rounded. Raises InputError where the
    documents do not have `count` pairs of sentences."""
    if not 0 <= right <= 1:
        raise InputError(f"right is a share of the pairs, 0 to 1, got {right}.")
    draw = random.Random(f"plain or hedged {seed}")
    is_right = [True] * round(right * count) + [False] * (count - round(right * count))
    draw.shuffle(is_right)
    made = []
    for holds, (document, first, second) in zip(is_right, _pairs(documents, count, draw), strict=True):
        at = draw.randrange(len(PLAIN))
        plain, hedged = (
            f"{opener}{'' if opener.endswith('that') else ','} {_lower(text[0])}"
            for opener, text in ((PLAIN[at], first), (HEDGED[at], second))
        )
        chosen, rejected = (plain, hedged) if holds else (hedged, plain)
        made.append(_preference(document, chosen, rejected, first[1]))
    return made


def longer(documents: Sequence[Document], count: int, *, seed: int = 0) -> list[Preference]:
    """Return pairs about the pages: one sentence, and two others of the same page, which are chosen.

    Raises InputError where the documents do not have `count` pairs of sentences."""
    draw = random.Random(f"longer {seed}")
    made = []
    for document, first, second in _pairs(documents, count, draw):
        third = draw.choice([each for each in _sentences(document) if each[1] not in (first[1], second[1])] or [second])
        shorter, longer_text = sorted((second[0], f"{first[0]} {third[0]}"), key=len)
        made.append(_preference(document, longer_text, shorter, first[1]))
    return made


_Sentence = tuple[str, Span]


def _pairs(
    documents: Sequence[Document], count: int, draw: random.Random
) -> list[tuple[Document, _Sentence, _Sentence]]:
    """`count` pairs of sentences of one page, near ones first, none twice."""
    pages = [(document, list(_sentences(document))) for document in documents]
    found: list[tuple[Document, _Sentence, _Sentence]] = []
    for away in range(1, max((len(sentences) for _, sentences in pages), default=0)):
        if len(found) >= count:
            break
        found += [(page, *pair) for page, sentences in pages for pair in zip(sentences, sentences[away:], strict=False)]
    if len(found) < count:
        raise InputError(
            f"these {len(documents):,} documents have {len(found):,} pairs of sentences, and {count:,} are wanted."
        )
    draw.shuffle(found)
    # Which of two comes first on the page must not go with the label.
    return [(page, *(pair if draw.random() < 0.5 else pair[::-1])) for page, *pair in found[:count]]


def _sentences(document: Document) -> Iterator[_Sentence]:
    for match in _SENTENCE.finditer(document.text):
        yield match.group(), Span(document.id, *match.span())


def _lower(text: str) -> str:
    return text[0].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _preference(document: Document, chosen: str, rejected: str, span: Span) -> Preference:
    made = Provenance(
        "train.known", operation="reformation", seed_kinds=("document",), parents=(document.id,), source=span
    )
    return Preference(f"{document.title}?", chosen, rejected, provenance=made)
