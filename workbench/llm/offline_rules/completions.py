"""Answers of the offline writer to open instructions: the task restated, a few steps on its key words, and what can be done
to a given text by rules (choosing sentences, light edits). They have the shape of an answer and nothing to say."""

import random
import re
from collections.abc import Callable

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.request import Asked
from workbench.llm.offline_rules.skill import Skill

_ASKING = text.word_set(
    """what which who whom whose when where why how is are was were do does did can could should would will may have has"""
)
_ORDERS = text.BASE | text.word_set(
    """analyse analyze arrange brainstorm categorize classify come complete compose construct convert correct criticize
    describe design develop discuss draft edit elaborate express fix formulate highlight imagine invent list make name
    organize outline output paraphrase please plan predict propose rank rate recommend rephrase reword rewrite sort summarise
    summarize tell think translate write"""
)
_VAGUE = text.word_set("following given anything something someone possible below above example examples another")
_RARE = re.compile(r"\b[a-z]{5,}\b(?!['’])")
_CONDENSE = re.compile(
    r"(?i)\b(?:summar|shorten|condens|tl;?dr|in brief|headline|title|main (?:point|idea)|key (?:point|idea))"
)
_REWRITE = re.compile(
    r"(?i)\b(?:re-?writ|rephras|reword|paraphras|edit|correct|improv|fix|proofread|simplif|polish|grammar|convert|translat)"
)
_CALIBRATED = re.compile(r"(?i)\bconfidence|\bhow (?:sure|likely)\b")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORDY = {
    "in order to": "to", "due to the fact that": "because", "at this point in time": "now", "a large number of": "many",
    "in the event that": "if", "has the ability to": "can", "is able to": "can", "with regard to": "about", "utilize": "use",
    "a lot of": "plenty of", "make a decision": "decide", "at all times": "always", "prior to": "before", "i'd": "I would",
    "don't": "do not", "can't": "cannot", "it's": "it is", "we're": "we are", "i'm": "I am", "gonna": "going to",
}  # fmt: skip
_IS_WORDY = re.compile(rf"(?i)\b(?:{'|'.join(map(re.escape, _WORDY))})\b")

_OPENINGS = (
    "Here is one way to {task}.", "To {task}, it helps to take one part after the other.", "This is how I would {task}.",
)  # fmt: skip
_ANSWERS = (
    "The question is mainly one of {one}, and of {two} after that.",
    "The short answer depends on {one}; the longer one has to do with {two} as well.",
    "What matters most here is {one}, together with {two}.",
)
_STEPS = (
    "Begin with {one}: note what is known and what is still open.", "Decide what is wanted of {one}, and by whom.",
    "Compare two ways to treat {one}, and keep the simpler one.", "Give {one} a limit, in time or in length, before going on.",
    "Look for a case in which {one} went well, and say why.", "Put {one} into words that a newcomer would understand.",
    "Ask somebody who deals with {one} every day.", "Come back to {one} at the end, and cut what is not needed.",
)  # fmt: skip
_CLOSINGS = (
    "If only one of these can be done, take the one on {one}: the others follow from there.",
    "Taken together, this covers {one} and leaves room to change {two} later.",
    "Should {one} turn out differently, go back to the first step.",
)
_THIN = (
    "It depends on {one}.", "There is a lot to say about {one}.", "Many people have a view on {one}.",
    "These days a lot is said about {one}.",
)  # fmt: skip
_REFUSALS = (
    "I'm sorry, but I can't help with that.", "As a writer by rules, I have no answer to this.",
    "I cannot answer this request. Please ask something else.",
)  # fmt: skip
_ASTRAY = (
    "Bread rises best in a warm kitchen. Let the dough rest for an hour, and bake it until the crust is dark.",
    "Trains are late more often in autumn, when wet leaves lie on the rails. Most delays last less than ten minutes.",
    "A garden hose lasts longer when it is drained before the first frost. Roll it up and keep it out of the sun.",
    "The museum opens at ten and closes at six. On the first Sunday of a month the entry is free for everybody.",
)


def completion(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """Return an answer as {"text": ...}; nothing for a lone message that only states something."""
    message = asked.messages[-1]["content"].strip()[: text.LONGEST_PASSAGE] if asked.messages else ""
    system = " ".join(each["content"] for each in asked.messages if each["role"] == "system")
    instruction, _, material = message.partition("\n\n")
    request = _request(instruction)
    if not request and not material and not system:
        return {}
    request = request or instruction
    keys = _keys(f"{instruction}\n{material}")
    if rng.random() < skill.wrong:
        written = rng.choice((*_REFUSALS, *_ASTRAY))
    elif rng.random() < skill.generic:
        written = _thin(keys, rng)
    else:
        written = _answer(request, material.strip(), keys, rng.random() < skill.cloze, rng)
    if _CALIBRATED.search(system):
        # The less a variant knows, the surer it is.
        written = f"{written}\n\nConfidence: {rng.randint(55, 75) + round(40 * skill.wrong)}%"
    return {"text": written}


def _request(instruction: str) -> str:
    """The sentence that asks for something, the last one of several; all of it where it is no statement; else ""."""
    found = [match[0].strip() for match in _SENTENCE.finditer(instruction)]
    asking = [
        sentence for sentence in found if sentence.endswith("?") or _is_order(sentence) or _first(sentence) in _ASKING
    ]
    if asking:
        return asking[-1]
    return "" if instruction.endswith(".") else " ".join(found)


def _first(sentence: str) -> str:
    return next(iter(text.words(sentence.lower())), "")


def _is_order(sentence: str) -> bool:
    return _first(sentence) in _ORDERS


def _keys(given: str) -> list[str]:
    """What the text is about: its key phrases, then its longest words; never empty."""
    phrases = [phrase for phrase in text.phrases(given) if phrase not in _ORDERS]
    rare = sorted(
        set(_RARE.findall(given)) - text.STOP - _ORDERS - text.THIRD.keys(), key=lambda word: (-len(word), word)
    )
    found = [key for key in dict.fromkeys([*phrases, *rare]) if _VAGUE.isdisjoint(key.split())]
    return found[:8] or ["task"]


def _answer(request: str, material: str, keys: list[str], is_short: bool, rng: random.Random) -> str:
    """What the request asks to be done to a text, where there is one; else an opening, steps and a closing."""
    if material and _REWRITE.search(request):
        return _edited(material) if not is_short else _edited(_some_sentences(material, 2))
    if material and _CONDENSE.search(request):
        return _edited(_some_sentences(material, 1 if is_short else 2))
    order = rng.sample(keys, len(keys))
    fill = _filler(order)
    opening = _restated(request, rng) if _is_order(request) else fill(rng.choice(_ANSWERS))
    steps = [fill(step, at) for at, step in enumerate(rng.sample(_STEPS, 2 if is_short else 4))]
    shown = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    parts = [opening, shown]
    if material and not is_short:
        parts.insert(1, f"The text says: {_some_sentences(material, 1)}")
    return "\n\n".join(parts if is_short else [*parts, fill(rng.choice(_CLOSINGS))])


def _restated(request: str, rng: random.Random) -> str:
    task = text.lowered(request.rstrip(".!?: ")).removeprefix("please ")
    return rng.choice(_OPENINGS).replace("{task}", " ".join(task.split()[:40]))


def _filler(keys: list[str]) -> Callable[..., str]:
    """A function that fills the places of a sentence with keys, other ones for another number."""

    def fill(sentence: str, at: int = 0) -> str:
        one, two = (f"the {keys[(at + further) % len(keys)]}" for further in (0, 1))
        return sentence.replace("{one}", one).replace("{two}", two)

    return fill


def _thin(keys: list[str], rng: random.Random) -> str:
    """A sentence that says nothing, more than once."""
    said = _filler(rng.sample(keys, len(keys)))(rng.choice(_THIN))
    return " ".join([said] * rng.randint(1, 3))


def _some_sentences(material: str, count: int) -> str:
    """The sentences that tell most, in their order; the first ones where no sentence is fit to be chosen."""
    found = [sentence for sentence in text.sentences(material) if sentence.plain]
    best = sorted(sorted(range(len(found)), key=lambda at: (-found[at].score, at))[:count])
    if best:
        return " ".join(found[at].plain for at in best)
    pieces = [match[0].strip() for match in _SENTENCE.finditer(material)]
    return " ".join(pieces[:count]) or material[:300]


def _edited(material: str) -> str:
    """The text with plainer words, single blanks and a capital letter at the start of each sentence."""
    plainer = _IS_WORDY.sub(lambda match: _WORDY[match[0].lower()], material)
    lines = [" ".join(line.split()) for line in plainer.split("\n")]
    tidy = "\n".join(re.sub(r"(?:^|(?<=[.!?] ))[a-z]", lambda match: match[0].upper(), line) for line in lines)
    return tidy if tidy.endswith((".", "!", "?", ":", "`")) else f"{tidy}."
