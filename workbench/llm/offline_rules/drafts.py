"""What the offline writer can ask about a passage: every form of question with its wordings, and the drafts, best first."""

import re
from dataclasses import dataclass
from functools import lru_cache

from workbench.llm.offline_rules import rules
from workbench.llm.offline_rules.text import (
    LONGEST_PASSAGE,
    POINTERS,
    PRONOUNS,
    Sentence,
    bare_words,
    has_anaphora,
    names,
    raised,
    sentences,
)


@dataclass(frozen=True, slots=True)
class Form:
    """A family of questions: its kind, how good it is as a question (0 to 1), and its wordings.

    The wordings are many and different: a set of questions that all open alike teaches a model to open alike."""

    kind: str
    quality: float
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Something to ask: `slots` fill the wordings of the form. `quality` also counts how much its sentence tells."""

    kind: str
    form: str
    slots: dict[str, str]
    answer: str
    sentence: Sentence
    quality: float


FORMS = {
    "what_is": Form("definition", 1.0, (
        "What is {term}?", "What exactly is {term}?", "How is {term} defined?", "What is meant by {term}?",
        "How would you explain {term}?", "What kind of thing is {term}?")),
    "what_are": Form("definition", 1.0, (
        "What are {term}?", "What exactly are {term}?", "How are {term} defined?", "What is meant by {term}?")),
    "term_for": Form("definition", 0.75, (
        "What is {meaning}?", "What would you call {meaning}?", "What can be described as {meaning}?")),
    "why": Form("reason", 1.0, (
        "Why {turned}?", "Why {turned}?", "Why is it that {effect}?", "What is the reason that {effect}?",
        "How come {effect}?", "What explains why {effect}?", "For what reason {turned}?")),
    "why_that": Form("reason", 0.7, (
        "Why is it that {effect}?", "What is the reason that {effect}?", "How come {effect}?",
        "What explains why {effect}?")),
    "at_what_time": Form("condition", 0.9, (
        "When {turned}?", "When exactly {turned}?", "At what point {turned}?", "Under which circumstances {turned}?")),
    "in_case": Form("condition", 0.9, (
        "Under what condition {turned}?", "In which case {turned}?", "When {turned}?", "On what condition {turned}?")),
    "how_long": Form("condition", 0.9, ("How long {turned}?", "Until when {turned}?", "Up to what point {turned}?")),
    "happens_if": Form("condition", 0.85, (
        "What happens {sub} {condition}?", "{sub} {condition}, what happens?", "What is the result {sub} {condition}?",
        "What follows {sub} {condition}?", "What is to be expected {sub} {condition}?",
        "{sub} {condition}, what follows?")),
    "does_if": Form("condition", 0.9, (
        "What {subject} do {sub} {condition}?", "{sub} {condition}, what {subject} do?",
        "How {subject} behave {sub} {condition}?", "{sub} {condition}, how {subject} react?")),
    "happens_to_if": Form("condition", 0.9, (
        "What happens to {subject} {sub} {condition}?", "{sub} {condition}, what becomes of {subject}?",
        "{sub} {condition}, what happens to {subject}?")),
    "advice_if": Form("condition", 0.9, (
        "What should you do {sub} {condition}?", "{sub} {condition}, what should you do?",
        "What is the advice {sub} {condition}?", "{sub} {condition}, what is there to do?")),
    "options_if": Form("condition", 0.85, (
        "What can you do {sub} {condition}?", "{sub} {condition}, what can you do?",
        "What is possible {sub} {condition}?", "Which option is there {sub} {condition}?")),
    "how_to": Form("procedure", 0.95, (
        "How do you {goal}?", "How can you {goal}?", "What is the way to {goal}?", "What should you do to {goal}?",
        "What does it take to {goal}?", "How would one {goal}?")),
    "how": Form("procedure", 0.85, ("How {turned}?", "By what means {turned}?", "In what way {turned}?")),
    "step": Form("procedure", 0.7, (
        "What is step {number} of “{goal}”?", "What do you do at step {number} of “{goal}”?",
        "In “{goal}”, what is step {number}?", "Which action is number {number} in “{goal}”?",
        "“{goal}”: what does step {number} ask for?")),
    "object_and_tail": Form("fact", 0.85, (
        "What {turned}{tail}?", "What exactly {turned}{tail}?", "{lead}, what {turned}?")),
    "object": Form("fact", 0.75, ("What {turned}?", "What exactly {turned}?", "What, precisely, {turned}?")),
    "stranded": Form("fact", 0.75, ("What {turned} {preposition}?", "{preposition} what {turned}?")),
    "subject": Form("fact", 0.6, ("What {predicate}?", "What is it that {predicate}?")),
    "how_many_subject": Form("number", 0.95, ("{asked} {predicate}?",)),
    "how_many": Form("number", 1.0, ("{asked} {turned}?",)),
    "value": Form("number", 1.0, ("What {turned}?", "How much {turned}?", "What exactly {turned}?")),
    "differ": Form("comparison", 1.0, (
        "How do {one} and {other} differ?", "What is the difference between {one} and {other}?",
        "How do {one} and {other} compare?", "What sets {one} apart from {other}?")),
    "than": Form("comparison", 0.9, ("What {turned} than?",)),
    "cloze": Form("fact", 0.3, (
        "What completes this statement: “{gapped}”?", "What is missing here: “{gapped}”?",
        "“{gapped}”: what belongs in the gap?", "Which words are left out of “{gapped}”?",
        "Can you fill the gap in “{gapped}”?", "In “{gapped}”, what does the gap stand for?",
        "How should the gap be filled in “{gapped}”?", "With what would you complete “{gapped}”?",
        "Fill in the blank: “{gapped}”?", "“{gapped}”: which words fill the blank?",
        "Where it says “{gapped}”, what should stand?", "To complete “{gapped}”, what is needed?")),
}  # fmt: skip


def drafts(passage: str, section: str = "") -> tuple[Draft, ...]:
    """Return everything that the rules can ask about a passage, best first."""
    return _drafts(passage[:LONGEST_PASSAGE], section)


@lru_cache(maxsize=256)
def _drafts(passage: str, section: str) -> tuple[Draft, ...]:
    known = names(passage)
    found = []
    for sentence in sentences(passage, section):
        made = rules.everything(sentence, known)
        found += [draft for each in made if _is_askable(draft := _draft(sentence, each, known))]
    return tuple(sorted(found, key=lambda draft: -draft.quality))


def _draft(sentence: Sentence, made: rules.Made, known: frozenset[str]) -> Draft:
    form, slots, answer, factor = made
    if form != "cloze":
        answer = raised(answer.strip(" ,;:"), known)
        answer += "." if len(answer.split()) > 3 and answer[-1] not in ".!?" else ""
    if has_anaphora(answer, within=2) or not POINTERS.isdisjoint(answer.split()):
        factor *= 0.8
    kind, length = FORMS[form].kind, sum(len(value.split()) for value in slots.values())
    if form == "object" and re.search(r"\b(?:mean|refer to|describe|represent|consist of|contain)$", slots["turned"]):
        kind = "definition"
    quality = FORMS[form].quality * factor * (0.6 + sentence.score) - max(0, length - 16) * 0.03
    return Draft(kind, form, slots, answer, sentence, quality)


def _is_askable(draft: Draft) -> bool:
    """Whether the question will stand alone: nothing in it points at something said elsewhere."""
    for value in (*draft.slots.values(), draft.answer):
        if any(value.count(left) != value.count(right) for left, right in ("()", "[]", "“”")) or value.count('"') % 2:
            return False
    for value in draft.slots.values():
        tokens = bare_words(value)
        # "you" is nobody that "it" could point at.
        nearby = tokens if "you" in tokens[:3] else tokens[:3]
        if not POINTERS.isdisjoint(tokens) or not PRONOUNS.isdisjoint(nearby) or len(tokens) > 30:
            return False
    return bool(draft.answer) and not (draft.form.startswith("object") and has_anaphora(draft.answer, within=1))
