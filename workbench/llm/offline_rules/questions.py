"""Questions of the offline writer: one question about a passage with its answer and evidence, and whether a passage
answers one. Each task says as well which faults a demonstration of it shows."""

import random
import re
from collections.abc import Sequence
from functools import lru_cache

from workbench.llm.offline_rules import drafts as drafting
from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.clauses import is_imperative
from workbench.llm.offline_rules.request import Asked, Demonstration
from workbench.llm.offline_rules.skill import Skill

# --- a question, its answer and its evidence --------------------------------------------------------------------------

_KIND_WORDS = {
    "fact": "fact factual detail factoid who which where entity",
    "definition": "definition define term concept meaning",
    "number": "number numeric quantity figure count amount",
    "procedure": "procedure procedural how-to steps method how",
    "reason": "reason why cause causal explanation rationale",
    "condition": "condition conditional if when exception edge",
    "comparison": "comparison compare contrast difference versus",
}
_KINDS = {word: kind for kind, synonyms in _KIND_WORDS.items() for word in synonyms.split()}

_GENERIC = (
    "What is said about {topic}?", "What should one know about {topic}?", "Can you tell me about {topic}?",
    "What does the passage say about {topic}?", "What about {topic}?", "Is there anything on {topic}?",
)  # fmt: skip
_SETTINGS = (
    "In {topic}, ", "For {topic}, ", "Within {topic}, ", "On {topic}: ", "Regarding {topic}, ", "About {topic}: ",
    "With regard to {topic}, ", "Concerning {topic}, ", "As for {topic}, ", "{topic}: ", "In connection with {topic}, ",
    "Thinking of {topic}, ", "Speaking of {topic}, ", "With {topic} in mind, ", "Question on {topic}: ",
    "Looking at {topic}, ", "A question on {topic}: ",
)  # fmt: skip
_VOICES = (
    "Before I go on: ", "Just to be sure: ", "I keep wondering: ", "Quick question: ", "What I could not work out: ",
    "In my situation, ", "Can somebody tell me: ", "To get this right, ", "One thing I need to know: ",
    "I want to be certain: ", "Out of curiosity, ", "Help me here: ",
)  # fmt: skip
# Headings made of these words alone name nothing.
_NO_TOPIC = frozenset(
    text.words(
        """intro introduction overview summary recap conclusion notes note example examples details more info faq tip
        information warning technical next steps settings other usage background contents untitled first last about"""
    )
)


def question(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """One question with its answer and its evidence; "NONE" for each where there is nothing to ask."""
    passage, section, person = asked.given.passage, asked.given.get("section"), asked.given.get("persona")
    drafts = drafting.drafts(passage, section)
    if not drafts:
        return dict.fromkeys(("question", "answer", "evidence"), "NONE")
    wanted = next((_KINDS[word] for word in re.findall(r"[a-z-]+", asked.given.setting("kind")) if word in _KINDS), "")
    draft = _chosen(drafts, wanted, frozenset(text.content_stems(person)), skill, rng)
    topics = _topics(section, draft.sentence.heading, passage)
    if skill.generic and rng.random() < skill.generic:
        about = [*topics, *text.phrases(passage)[:3]] or ["it"]
        question = text.raised(rng.choice(_GENERIC).format(topic=rng.choice(about)))
    else:
        question = _worded(draft, topics, person, rng)
    answer = _answer(draft, drafts, skill, rng)
    evidence = _tidied(draft.sentence.raw) if rng.random() < skill.tidied else draft.sentence.raw
    return {"question": question, "answer": answer, "evidence": evidence}


def _chosen(
    drafts: Sequence[drafting.Draft], wanted: str, interests: frozenset[str], skill: Skill, rng: random.Random
) -> drafting.Draft:
    """One draft: of the wanted kind where there is a good one, and nearer to the person's interests."""
    if rng.random() < skill.cloze:
        drafts = [draft for draft in drafts if draft.form == "cloze"] or drafts
    elif skill.demonstrations:  # they settle the form too, or a weak writer would go on drawing gaps
        drafts = [draft for draft in drafts if draft.form != "cloze"] or drafts
    if skill.name == "/weak":
        return rng.choice(drafts)
    good = [draft for draft in drafts if draft.quality > 0.55 and draft.form != "cloze"] or drafts
    fit = [draft for draft in good if draft.kind == wanted] or good
    if len(fit) < 3 and rng.random() < 0.3:
        fit = good  # one or two drafts would soon be asked twice
    near = lambda draft: 0.25 * min(3, len(draft.sentence.stems & interests))
    ranked = sorted(fit, key=lambda draft: -draft.quality - near(draft))
    ranked = ranked[len(ranked) // 3 :] if skill.name == "/fair" else ranked[:8]
    return rng.choices(ranked, [max(0.05, draft.quality + near(draft)) ** 2 for draft in ranked])[0]


def _answer(draft: drafting.Draft, drafts: Sequence[drafting.Draft], skill: Skill, rng: random.Random) -> str:
    if skill.wrong and rng.random() < skill.wrong:
        return rng.choice([other for other in drafts if other.sentence is not draft.sentence] or drafts).answer
    if skill.name == "/fair" and rng.random() < 0.6:
        return draft.sentence.plain  # a little too long: the whole sentence where a part was asked for
    return draft.answer


def _tidied(raw: str) -> str:
    """The quotation as a careless model gives it: without its marks, or else cut short with an ellipsis."""
    tidy = text.plain(raw)
    return tidy if tidy != raw else " ".join(raw.split()[:-2]) + " …"


def _topics(section: str, heading: str, passage: str) -> list[str]:
    """What the question may be said to be about: the nearest headings that name something, written like a phrase."""
    names = text.names(passage)
    found = []
    for title in [heading, *reversed(re.split(" [>›»|] ", text.plain(section[:2000])))]:
        title = re.sub(r" ?\([^()]*\)", "", title).removeprefix("About ")
        tokens = [word.lower() for word in text.words(title)]
        is_bare = not tokens or len(tokens) > 7 or all(word in _NO_TOPIC for word in tokens)
        if is_bare or re.search(r"[?!:;“”\"\[\]{}()/]", title) or text.has_anaphora(title):
            continue
        # "Rating Curves and Manning's Equation" keeps its capitals: nothing says which of them belong to names.
        has_capitals = sum(word[0].isupper() for word in title.split()) > 1
        is_common = title.split()[0].lower().rstrip("s") in passage or not text.content_stems(title.split()[0])
        phrase = text.lowered(title, names) if is_common and not has_capitals else title
        if not is_imperative(title):
            found.append(phrase)
        elif len(tokens) > 1 and tokens[1] in text.DETERMINERS:
            found.append(f"how to {phrase}")
    return list(dict.fromkeys(found))


def _worded(draft: drafting.Draft, topics: Sequence[str], person: str, rng: random.Random) -> str:
    """The question in one of its form's wordings, made to stand alone, in the voice of the person who asks."""
    wording = rng.choice(drafting.FORMS[draft.form].wordings)
    question = wording.format(**draft.slots)
    own = set(text.content_stems(question))
    # A topic that the question names already is idle, and one that names the answer gives it away.
    fresh = [topic for topic in topics if not set(text.content_stems(topic)) <= own]
    fresh = [topic for topic in fresh if draft.answer.lower() not in topic.lower()]
    names_it = any(set(text.content_stems(topic)) & own for topic in topics)
    lead = ""
    if person and rng.random() < 0.4:
        # The same person keeps to a few turns of phrase.
        lead = rng.choice(random.Random(person).sample(_VOICES, 3))
    elif fresh and rng.random() < (0.4 if names_it else 0.85) and len(question.split()) < 34:
        topic = rng.choice(fresh[:2])
        is_clause = re.match(r"(?:how|what|when|where|why|which|if)\b", topic)
        lead = text.raised(rng.choice(_SETTINGS[3:] if is_clause else _SETTINGS).format(topic=topic))
    # A wording's own first word has a capital; what fills a slot has the letters that it keeps inside a sentence.
    if lead:
        return lead + (question if wording.startswith("{") else question[:1].lower() + question[1:])
    return text.raised(question)


# Questions that only make sense beside their passage, or that ask for nothing in particular.
_NAMES_PASSAGE = re.compile(
    r"\b(?:the|this|that) (?:given |above )?(?:passage|text|excerpt|author)\b|\bthis section\b", re.IGNORECASE
)
_ASKS_NOTHING = re.compile("|".join(re.escape(form).replace(r"\{topic\}", ".+") for form in _GENERIC), re.IGNORECASE)


def question_faults(shown: Demonstration) -> dict[str, bool]:
    """Return which faults a demonstrated question has, read off the demonstration itself."""
    outputs = shown.outputs or {}
    question, answer, evidence = (outputs.get(name, "") for name in ("question", "answer", "evidence"))
    found = {"broken": shown.outputs is None}
    if question and question != "NONE":
        found["cloze"] = "____" in question
        found["generic"] = bool(_NAMES_PASSAGE.search(question) or _ASKS_NOTHING.fullmatch(question))
    if evidence and evidence != "NONE":
        found["tidied"] = not _is_quoted(evidence, shown.given.passage)
    source = frozenset(text.content_stems(text.plain(evidence or shown.given.passage)))
    stated = frozenset(text.content_stems(answer)) if answer != "NONE" else frozenset()
    if stated and source:
        found["wrong"] = 2 * len(stated & source) < len(stated)
    return found


def _is_quoted(quote: str, passage: str) -> bool:
    """Whether the words stand in the passage as they are; line breaks are no fault."""
    return " ".join(quote.split()) in " ".join(passage.split())


# --- whether a passage answers a question -----------------------------------------------------------------------------

# Words that belong to the asking and not to what is asked about.
_ASKING = frozenset(
    text.content_stems(
        """exactly precisely happen mean meant called known difference differ compare kind name thing point result
        reason explain explains case condition circumstances follow follows expected number figure statement complete
        completes missing gap blank fill wonder wondering sure question quick certain somebody tell curiosity
        connection subject regarding regard concerning thinking speaking looking mind situation defined describe
        advice possible way take"""
    )
)


def answerable(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """Whether the passage answers the question, and the sentence that does."""
    sentences = _quotable(asked.given.get("passage"))
    verdict, quote = _judged(asked.given.get("question"), sentences)
    if not quote:
        return {"quote": "NONE", "answerable": "no"}
    if rng.random() < skill.wrong:
        verdict, quote = rng.choice(("yes", "partly", "no")), rng.choice(sentences)[0]
    quote = "NONE" if verdict == "no" else _tidied(quote) if rng.random() < skill.tidied else quote
    return {"quote": quote, "answerable": verdict}


def _judged(question: str, sentences: Sequence[tuple[str, frozenset[str]]]) -> tuple[str, str]:
    """By weighted word overlap: how much of the question one sentence covers, and what the passage lacks altogether. The
    verdict, and the sentence; "" where there is nothing to compare."""
    weights = {stem: _weight(stem) for stem in text.content_stems(question) if stem not in _ASKING}
    total = sum(weights.values())
    if not sentences or not total:
        return "no", ""
    everywhere = frozenset().union(*(stems for _, stems in sentences))
    coverage = lambda stems: sum(weights[stem] for stem in sorted(weights.keys() & stems)) / total
    quote, stems = max(sentences, key=lambda pair: coverage(pair[1]))
    score = 0.8 * coverage(stems) + 0.2 * coverage(everywhere)
    return "yes" if score >= 0.62 else "partly" if score >= 0.45 else "no", quote


@lru_cache(maxsize=256)
def _quotable(passage: str) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple((sentence.raw, sentence.stems) for sentence in text.sentences(passage))


def _weight(stem: str) -> float:
    """Numbers and names of things tell passages apart, long words more than short ones."""
    return 3.0 if re.search(r"[\d_.]", stem) else 1.0 + min(len(stem), 10) / 10


def answerable_faults(shown: Demonstration) -> dict[str, bool]:
    """Return which faults a demonstrated judgement has: it is wrong when its verdict and its quotation disagree, and when
    the words of question and passage say the opposite."""
    outputs = shown.outputs or {}
    found = {"broken": shown.outputs is None}
    if outputs.keys() >= {"quote", "answerable"}:
        is_none = outputs["quote"] == "NONE"
        verdict, own = (
            outputs["answerable"].lower(),
            _judged(shown.given.get("question"), _quotable(shown.given.passage)),
        )
        found["wrong"] = is_none != (verdict == "no") or {verdict, own[0]} == {"yes", "no"}
        if not is_none:
            found["tidied"] = not _is_quoted(outputs["quote"], shown.given.passage)
    return found
