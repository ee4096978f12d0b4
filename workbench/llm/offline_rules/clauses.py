"""A clause to subject and verb, and into question order, as the offline writer does it: by word lists, without a parser.

Where the rules cannot tell, they give None."""

import re
from dataclasses import dataclass
from functools import lru_cache

from workbench.llm.offline_rules.text import (
    A_BASE,
    A_THIRD,
    ADVERBS,
    ANAPHORA,
    BASE,
    CONJUNCTS,
    DETERMINERS,
    HELPERS,
    PREPOSITIONS,
    SUBORDINATORS,
    THIRD,
    has_anaphora,
    lowered,
    word_set,
)

# --- a clause and its parts -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause that can be turned round: `{helper} {subject} {verb} {rest}` is its question order."""

    subject: str
    helper: str
    verb: str
    rest: str


_VAGUE = re.compile(
    r"(?:the|both|each|either|neither|some|all|most|another|an?)?(?: [a-z]+)?(?: ?(?:other|one|ones|first|second|third"
    r"|last|same|result|rest|two|three|reason|difference|answer|point|choice|change|example|idea|problem|goal|thing|way|part"
    r"|step|advantage|drawback))+s?|everything|nothing|nobody|none|anything|something|all|most|both|each|some|many|others?",
    re.IGNORECASE,
)
_NO_START = word_set("and but or yet let i either neither otherwise instead afterwards later meanwhile next especially")
_HAVE = {"has": "does", "have": "do", "had": "did"}
PARTICIPLE = r"(?:\w{2,}ed|\w+en|kept|held|found|put|set|run|read|built|made|sent|known|drawn|meant|lost|cut)"


@lru_cache(maxsize=4096)
def clause(text: str) -> Clause | None:
    """Return the clause's subject, helper verb and rest; None when the rules cannot tell where the subject ends.

    >>> clause("A worker sends its names")
    Clause(subject='A worker', helper='does', verb='send', rest='its names')"""
    tokens = text.split()
    if len(tokens) < 3 or not _can_start(tokens):
        return None
    for at in range(1, min(10, len(tokens))):
        token, previous = tokens[at].lower(), tokens[at - 1]
        if previous[-1] in ",;:)—–" or previous == "-" or previous[0] == "(" or token in SUBORDINATORS:
            return None
        if token in HELPERS:
            return _with_helper(tokens, at)
        if (found := _with_verb(tokens, at)) is not None:
            return found
    return None


def is_imperative(text: str) -> bool:
    """Whether a clause begins with a verb in its base form, as an instruction does."""
    tokens = text.lower().split()
    if len(tokens) < 2:
        return False
    if tokens[0] in ("never", "always", "don't") or tokens[:2] == ["do", "not"]:
        return True
    is_noun = any(token in HELPERS or token in THIRD or token == "of" for token in tokens[1:3])
    return tokens[0].strip(",") in BASE and not is_noun


def _can_start(tokens: list[str]) -> bool:
    first = tokens[0].lower()
    is_linked = first in PREPOSITIONS or first in SUBORDINATORS or first in CONJUNCTS or first in ADVERBS
    is_vague = first in _NO_START or first in ANAPHORA or tokens[1] == "to"
    return not (is_linked or is_vague or is_imperative(" ".join(tokens[:6])))


def _subject(tokens: list[str], at: int) -> tuple[str, str]:
    """The subject before place `at`, and the adverbs between it and the verb that go along with the verb; "" for both
    where it points at something said elsewhere."""
    end = at
    while end > 1 and tokens[end - 1].lower().strip(",") in CONJUNCTS | ADVERBS:
        end -= 1
    subject = " ".join(tokens[:end])
    is_cut = end > 1 and tokens[end - 1].lower() in ("you", "we", "i")  # "the same way you" is the end of a subject
    if is_cut or has_anaphora(subject) or _VAGUE.fullmatch(subject):
        return "", ""
    return subject, " ".join(token for token in tokens[end:at] if token.lower() in ADVERBS)


def is_plural(subject: str) -> bool:
    """By its head, the last word before the first preposition."""
    tokens = subject.split()
    stop = next((at for at, token in enumerate(tokens) if at and token.lower() in PREPOSITIONS), len(tokens))
    head = tokens[stop - 1]
    has_ending = (head.islower() or len(tokens) == 1) and head.endswith("s") and not head.endswith(("ss", "us", "is"))
    return has_ending or "and" in tokens or head.lower() in ("you", "we", "people", "data", "most", "many")


def _with_helper(tokens: list[str], at: int) -> Clause | None:
    subject, adverbs = _subject(tokens, at)
    helper, rest = tokens[at].lower(), tokens[at + 1 :]
    while rest and rest[0].lower().strip(",") in CONJUNCTS:
        rest = rest[1:]
    if not subject or not rest:
        return None
    first = rest[0].lower()
    if helper == "cannot":
        helper, rest = "can", ["not", *rest]
    elif helper in ("does", "do", "did") and first not in BASE and first != "not":
        adverbs = f"{adverbs} do".strip()
    elif helper in _HAVE and not (re.fullmatch(PARTICIPLE, first) or first in ("not", "never", "been")):
        helper, adverbs = _HAVE[helper], f"{adverbs} have".strip()
    return Clause(subject, helper, adverbs, " ".join(rest))


def _with_verb(tokens: list[str], at: int) -> Clause | None:
    token, following = tokens[at].lower(), tokens[at + 1].lower() if at + 1 < len(tokens) else ""
    if not following or not (token in THIRD or token in BASE):
        return None
    subject, adverbs = _subject(tokens, at)
    last = subject.rpartition(" ")[2].lower()
    if not subject or last in DETERMINERS or last in PREPOSITIONS or last in ("and", "or"):
        return None
    if token in THIRD and not is_plural(subject):
        helper, verb = "does", THIRD[token]
    elif token in BASE and is_plural(subject):
        helper, verb = "do", token
    else:
        return None
    # "The server logs are kept": a second verb soon after means that the first was a noun.
    for word in tokens[at + 1 : at + 6]:
        if word.lower() in SUBORDINATORS or word == "and" or word[-1] in ",;:":
            break
        if word.lower() in HELPERS:
            return None
    is_noun = following in ("of", "and", "or") or following in THIRD
    return None if is_noun else Clause(subject, helper, f"{adverbs} {verb}".strip(), " ".join(tokens[at + 1 :]))


# --- question order ---------------------------------------------------------------------------------------------------

_BREAK = re.compile(
    r",? [—–-] |: |, (?=(?:and|but|so|or|yet|nor|which|who|where|whereas|while|although|though|since|because|as|with"
    r"|including|not|then|unlike|e\.g\.|i\.e\.|even|plus|typically|depending|like|it|they|you|there|we)\b)"
    rf"| and (?=(?:{A_THIRD})\b)|,? \("
)
SECOND_VERB = re.compile(rf",? (?:and|but|or) (?:then |also |\w+ly )?(?:{A_THIRD}|is|are|go)\b|, (?:{A_THIRD})\b")
SECOND_ACTION = re.compile(rf",? and (?:{A_BASE}) (?:it|them|the|a)\b|, (?:{A_BASE}) (?:it|them|the|a)\b")


@lru_cache(maxsize=4096)
def main_clause(text: str) -> str:
    """The main clause: what stands before the first "and", "but", "which", bracket or dash that may end it."""
    return _single(until(_BREAK, text, 3))


def _single(text: str) -> str:
    """The first of two clauses that "and" joins."""
    for match in re.finditer(r",? and ", text):
        if clause(text[match.end() :]) and clause(text[: match.start()]):
            return text[: match.start()]
    return text


def until(end: re.Pattern[str], text: str, least: int) -> str:
    """The text before the first match that has at least that many blanks before it; all of it where there is none."""
    match = next((match for match in end.finditer(text) if text.count(" ", 0, match.start()) >= least), None)
    return text[: match.start()] if match else text


def in_question_order(found: Clause, known: frozenset[str]) -> str:
    """The clause in question order, as it follows "when" or "why"."""
    # "does it rise and falls": what a second verb says is left out.
    match = SECOND_VERB.search(found.rest) if found.helper in ("does", "do") else None
    rest = found.rest[: match.start()] if match else found.rest
    return " ".join(part for part in (found.helper, lowered(found.subject, known), found.verb, rest) if part)


def as_question(text: str, known: frozenset[str]) -> tuple[str, str] | None:
    """A statement or an instruction in question order, and in statement order; None when it cannot be turned."""
    if is_imperative(text):
        advice = text[:1].lower() + text[1:]
        advice = "you should " + ("not " + advice[7:] if advice.startswith("do not ") else advice)
        return advice.replace("you should", "should you", 1), advice
    text = _single(text)
    found = clause(text)
    return (in_question_order(found, known), lowered(text, known)) if found else None
