"""Offline: a client without a model. It writes by rules, deterministically, so that everything runs without a network.

It reads only the messages of a request, as a model would: the data between the prompt's tags, the few plain settings,
and the output format asked for. What it writes is classical text processing over that data (`_offline_text`): it shows
that everything works, and is no data to train on. It knows English only, and follows no order found in the data."""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.errors import CallFailed, ClientError
from workbench.llm import _offline_text as text
from workbench.llm.client import Choice, Completion, Messages, Price, Request, Sampling, metered

VERSION = 1


@dataclass(frozen=True)
class _Skill:
    """How well a variant does its work: shares between 0 and 1 of the times that each thing goes wrong."""

    name: str
    generic: float = 0.0  # questions that ask for nothing in particular
    cloze: float = 0.0  # gaps to fill where a question could have been asked
    wrong: float = 0.0  # answers and judgements taken from somewhere else
    tidied: float = 0.0  # evidence that is no longer copied character for character
    broken: float = 0.0  # answers that are not in the asked format


_SKILLS = {
    "strong": _Skill(""),
    "fair": _Skill("/fair", generic=0.1, cloze=0.4, wrong=0.1, tidied=0.04, broken=0.02),
    "weak": _Skill("/weak", generic=0.6, cloze=0.3, wrong=0.5, tidied=0.15, broken=0.08),
}


def fingerprint(*files: Path) -> str:
    """Return 12 hex digits of the SHA-256 over the files' bytes."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


# Read when the rules are loaded, not when a client is made: an edit in between would name rules that are not running.
_RULES = fingerprint(Path(__file__), Path(text.__file__))


class Offline:
    """A client that answers by rules: "strong", "fair" or "weak", in this order of quality, to test judges of quality.

    The same request always gets the same text, and another `sample` gets another draw. The endpoint holds a hash of the
    rules' source, so that edited rules never meet old answers in a ledger. It has no tokenizer: its token counts are
    counts of words between white space, and `max_tokens` is held to them. It costs nothing.

        >>> Offline()
        Offline('offline-rules@1')"""

    def __init__(self, variant: str = "strong", *, sampling: Sampling = Sampling()):  # noqa: B008  frozen
        if variant not in _SKILLS:
            raise ClientError(f"there is no offline variant {variant!r}. Use one of {', '.join(_SKILLS)}.")
        self._skill = _SKILLS[variant]
        self.model, self.endpoint = f"offline-rules@{VERSION}{self._skill.name}", f"offline:{_RULES}"
        self.sampling = sampling

    async def complete(self, request: Request) -> Completion:
        return await metered(self, request, Price(0, 0), lambda: self._answer(request))

    async def _answer(self, request: Request) -> Completion:
        sampling = request.sampling.over(self.sampling)
        asked = read(request.messages)
        texts = [self._write(request, asked, sampling, choice) for choice in range(request.n)]
        prompt_tokens, written = _count(m["content"] for m in request.messages), _count(texts)
        limit = (sampling.extra or {}).get("max_completion_tokens") or sampling.max_tokens
        if limit is not None and any(len(each.split()) > limit for each in texts):
            failure = CallFailed("length", f"the answer has more than max_tokens={limit} words", raw=texts[0])
            failure.prompt_tokens, failure.completion_tokens = prompt_tokens, min(written, limit * request.n)
            raise failure
        choices = tuple(Choice(each) for each in texts)
        return Completion(choices, self.model, prompt_tokens=prompt_tokens, completion_tokens=written)

    def _write(self, request: Request, asked: "Asked", sampling: Sampling, choice: int) -> str:
        # A repair draws as its original did, so that it is the same answer in a readable form.
        drawn = [asked.messages, self.model, request.sample, sampling.seed, choice]
        rng = random.Random(hashlib.sha256(json.dumps(drawn).encode()).digest())
        answer = asked.formatted(_fields(asked, self._skill, rng))
        if rng.random() < self._skill.broken and not asked.is_repair:
            answer = _broken(answer, asked)
        for stop in sampling.stop or ():
            answer = answer.partition(stop)[0] if stop else answer
        return answer

    def __repr__(self) -> str:
        return f"Offline({self.model!r})"


def _count(texts: Iterable[str]) -> int:
    return sum(len(each.split()) for each in texts)


# --- reading the prompt ----------------------------------------------------------------------------------------------

_TAG = re.compile(r"^<([A-Za-z]\w*)>\n", re.MULTILINE)
_BLOCK = re.compile(r"^\[\[ ## (\w+) ## \]\]\n", re.MULTILINE)
_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_KEY = re.compile(r'^\s*[-*] ["`](\w+)["`]\s*:\s*(.*)$', re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """What a request asks for: the data between tags, the words around them, and each output with its description."""

    messages: Messages
    data: Mapping[str, str]
    words: str
    outputs: Mapping[str, str]
    is_json: bool
    is_repair: bool

    def get(self, name: str) -> str:
        """Return the data of that name, also where the renderer numbered its tag; "" when there is none."""
        numbered = (value for tag, value in self.data.items() if re.fullmatch(rf"{name}_\d+", tag))
        return self.data[name] if name in self.data else next(numbered, "")

    @property
    def passage(self) -> str:
        """The text to work on: the passage, else the longest data, else the words of the request."""
        if any(re.fullmatch(r"passage(_\d+)?", tag) for tag in self.data):
            return self.get("passage")  # also when it is empty: then there is nothing to write about
        return max(self.data.values(), key=len, default=self.words)

    def setting(self, name: str) -> str:
        """Return a plain setting, such as "reason" of "Wanted kind of question: reason (why ...)."."""
        match = re.search(rf"^Wanted {name}\b[^:\n]*:[ \t]*([^.\n]*)", self.words, re.MULTILINE)
        return match[1].strip().lower() if match else ""

    def formatted(self, fields: Mapping[str, object]) -> str:
        """Return the fields in the asked format; the one text where no format is asked for."""
        if not self.outputs:
            return str(next(iter(fields.values())))
        if self.is_json:
            return json.dumps(fields, ensure_ascii=False)
        shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        blocks = [f"[[ ## {name} ## ]]\n{value}" for name, value in shown.items()]
        return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def read(messages: Messages) -> Asked:
    """Return what the messages ask for; a request to repair an answer asks for what the original asked."""
    is_answered = len(messages) > 2 and messages[-2]["role"] == "assistant"
    is_repair = is_answered and "could not be read" in messages[-1]["content"][:200]
    original = messages[:-2] if is_repair else messages
    last = original[-1]["content"] if original else ""
    data, rest = _data(last)
    system = "\n".join(message["content"] for message in original[:-1] if message["role"] == "system")
    outputs, is_json = _outputs(system, rest)
    outputs = {name: about for name, about in outputs.items() if name not in data}
    return Asked(original, data, rest, outputs, is_json, is_repair)


def _data(content: str) -> tuple[dict[str, str], str]:
    """The values between tags, or under headers as DSPy's ChatAdapter has them, and the text around them.

    Tags are read from the front, each up to its own closing tag, so that tags inside a value are part of the value."""
    data: dict[str, str] = {}
    rest, at = [], 0
    while match := _TAG.search(content, at):
        end = content.find(f"\n</{match[1]}>", match.end() - 1)
        if end < 0:
            rest.append(content[at : match.end()])
            at = match.end()
            continue
        rest.append(content[at : match.start()])
        data[match[1]] = content[match.end() : end]
        at = end + len(match[1]) + 4
    rest.append(content[at:])
    if not data and (blocks := list(_BLOCK.finditer(content))):
        tail = max(content.rfind("\n\nRespond with"), 0) or len(content)
        ends = [match.start() for match in blocks[1:]] + [tail]
        data = {match[1]: content[match.end() : end].strip() for match, end in zip(blocks, ends, strict=True)}
        rest = [content[: blocks[0].start()], content[tail:]]
    return data, "".join(rest)


@lru_cache(maxsize=64)
def _outputs(system: str, user: str) -> tuple[dict[str, str], bool]:
    """Each output field with its description, and whether they are asked for as JSON."""
    instructions = f"{system}\n{user}"
    if "Respond with" in user and (tail := user[user.rfind("Respond with") :]) and "`" in tail:
        names = _HEADER.findall(tail) or re.findall(r"`(\w+)`", tail)
        return {name: "" for name in names if name != "completed"}, not _HEADER.search(tail)
    form = instructions.partition("# Output format")[2].partition("\n# ")[0] or instructions
    if headers := list(_HEADER.finditer(form)):
        ends = [match.start() for match in headers[1:]] + [len(form)]
        found = {match[1]: form[match.end() : end].strip() for match, end in zip(headers, ends, strict=True)}
        return {name: about for name, about in found.items() if name != "completed"}, False
    keys = dict(_KEY.findall(form)) if "JSON" in form else {}
    return keys, bool(keys)


# --- what is written --------------------------------------------------------------------------------------------------


def _fields(asked: Asked, skill: _Skill, rng: random.Random) -> dict[str, object]:
    """The value of each output, by the rule for this set of outputs; extracts of the data where there is none."""
    names = asked.outputs.keys() or ("text",)
    rule = next((rule for wanted, rule in _TASKS if wanted <= set(names)), None)
    found = rule(asked, skill, rng) if rule else {}
    return {name: found[name] if name in found else _extract(asked, name, at, rng) for at, name in enumerate(names)}


def _broken(answer: str, asked: Asked) -> str:
    """The answer as a careless model gives it: without its last field, or cut off."""
    last = answer.rfind("[[ ## ", 0, answer.rfind("[[ ## "))
    return answer[:last].rstrip() if last >= 0 and not asked.is_json else answer[: len(answer) // 2]


_OPTIONS = re.compile(r'"([\w -]+)"')
_RANGE = re.compile(r"(\d+)\s*(?:to|-|–)\s*(\d+)")


def _extract(asked: Asked, name: str, at: int, rng: random.Random) -> object:
    """A plausible value for an output that there is no rule for: one of the options named, a number in the range named,
    else sentences of the longest data."""
    about = asked.outputs.get(name, "")
    if len(options := _OPTIONS.findall(about)) > 1:
        return rng.choice(options)
    if match := re.search(r"\b(true|whether)\b|\b(integer|number|score|rating)\b|\b(list)\b", about, re.IGNORECASE):
        low, high = map(int, scale.groups()) if (scale := _RANGE.search(about)) else (1, 5)
        if match[2]:
            return rng.randint(min(low, high), max(low, high))
        return rng.random() < 0.5 if match[1] else text.phrases(asked.passage)[:3]
    sentences = text.sentences(asked.passage)
    ranked = sorted(sentences, key=lambda sentence: -sentence.score)[:6]
    if ranked:
        return rng.choice(ranked[at::2] or ranked).plain
    return " ".join(text.plain(asked.passage).replace("[[", "").split()[:30]) or "NONE"


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


def _question(asked: Asked, skill: _Skill, rng: random.Random) -> dict[str, object]:
    passage, section, person = asked.passage, asked.get("section"), asked.get("persona")
    drafts = text.drafts(passage, section)
    if not drafts:
        return dict.fromkeys(("question", "answer", "evidence"), "NONE")
    wanted = next((_KINDS[word] for word in re.findall(r"[a-z-]+", asked.setting("kind")) if word in _KINDS), "")
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
    drafts: Sequence[text.Draft], wanted: str, interests: frozenset[str], skill: _Skill, rng: random.Random
) -> text.Draft:
    """One draft: of the wanted kind where there is a good one, and nearer to the person's interests."""
    if rng.random() < skill.cloze:
        drafts = [draft for draft in drafts if draft.form == "cloze"] or drafts
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


def _answer(draft: text.Draft, drafts: Sequence[text.Draft], skill: _Skill, rng: random.Random) -> str:
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
        if not text.is_imperative(title):
            found.append(phrase)
        elif len(tokens) > 1 and tokens[1] in text.DETERMINERS:
            found.append(f"how to {phrase}")
    return list(dict.fromkeys(found))


def _worded(draft: text.Draft, topics: Sequence[str], person: str, rng: random.Random) -> str:
    """The question in one of its form's wordings, made to stand alone, in the voice of the person who asks."""
    wording = rng.choice(text.FORMS[draft.form].wordings)
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


def _answerable(asked: Asked, skill: _Skill, rng: random.Random) -> dict[str, object]:
    """By weighted word overlap: how much of the question one sentence covers, and what the passage lacks altogether."""
    question, sentences = asked.get("question"), _quotable(asked.get("passage"))
    weights = {stem: _weight(stem) for stem in text.content_stems(question) if stem not in _ASKING}
    total = sum(weights.values())
    if not sentences or not total:
        return {"quote": "NONE", "answerable": "no"}
    everywhere = frozenset().union(*(stems for _, stems in sentences))
    coverage = lambda stems: sum(weights[stem] for stem in sorted(weights.keys() & stems)) / total
    quote, stems = max(sentences, key=lambda pair: coverage(pair[1]))
    score = 0.8 * coverage(stems) + 0.2 * coverage(everywhere)
    answerable = "yes" if score >= 0.62 else "partly" if score >= 0.45 else "no"
    if rng.random() < skill.wrong:
        answerable, quote = rng.choice(("yes", "partly", "no")), rng.choice(sentences)[0]
    quote = "NONE" if answerable == "no" else _tidied(quote) if rng.random() < skill.tidied else quote
    return {"quote": quote, "answerable": answerable}


@lru_cache(maxsize=256)
def _quotable(passage: str) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple((sentence.raw, sentence.stems) for sentence in text.sentences(passage))


def _weight(stem: str) -> float:
    """Numbers and names of things tell passages apart, long words more than short ones."""
    return 3.0 if re.search(r"[\d_.]", stem) else 1.0 + min(len(stem), 10) / 10


# --- an invented person -----------------------------------------------------------------------------------------------

# Words of a domain; who works or lives in it; where. The row with most words in common wins; the last is for any.
_DOMAINS = (
    (
        "job queue worker server token database backup retry lease deploy container docker log command port cluster",
        "site reliability engineer|backend developer|database administrator|system administrator|release manager",
        "at a regional hospital group|in a two-person web agency|at a logistics firm|in a city council's IT office",
    ),
    (
        "python api http request response function class code type parameter async json library test client import",
        "web developer|data engineer|teacher of evening programming classes|freelance programmer|test engineer",
        "at a local newspaper|in a school's computer club|at a research institute|at a public transport operator",
    ),
    (
        "bread dough flour yeast loaf oven bake sourdough crust proof salt starter butter recipe kitchen",
        "night-shift baker|apprentice baker|home baker|pastry cook|owner of a small café|food safety inspector",
        "in a market town|in a hotel kitchen|in a mountain village|in a shared kitchen|on a busy high street",
    ),
    (
        "river flow water gauge tide flood rain station discharge weir sample oxygen catchment estuary level",
        "hydrologist|flood warden|river-fly volunteer|water quality technician|canoe instructor|geography teacher",
        "on a lowland catchment|at a county environment office|in an estuary town|in a hill parish",
    ),
    (
        "patient health disease treatment dose doctor clinical symptom drug hospital medical blood",
        "community nurse|pharmacist|physiotherapist|carer for an elderly relative|medical student",
        "in a rural clinic|on a busy ward|in a suburb with one surgery|at a teaching hospital|in a care home",
    ),
    (
        "account payment bank loan tax price market invoice customer contract law court insurance",
        "bookkeeper|credit union adviser|small-shop owner|paralegal|consumer rights volunteer|auditor in training",
        "in a market town|at a housing association|in a family firm|at an advice centre|in a shared office",
    ),
    (
        "plant soil garden seed crop animal species forest climate energy farm",
        "allotment holder|agronomist|park ranger|nursery gardener|energy adviser|biology teacher",
        "on a windy coast|in a city suburb|on a mixed farm|in a nature reserve|at a garden school",
    ),
    (
        "",
        "librarian|secondary-school teacher|museum guide|retired engineer|technical writer|office manager",
        "in a small town|at an evening college|in a busy shared office|in a coastal community|at a local charity",
    ),
)
_RELATIONS = {
    "reader": (
        "who has run into trouble with {one}, has found conflicting advice about {two}, and {habit}",
        "who keeps meeting {one} without quite understanding it, and who must settle what to do about {two} {deadline}",
        "who needs a clear answer about {one} {deadline}, since guessing about {two} went wrong the last time",
    ),
    "writer": (
        "who has spent years with {one}, is often asked about {two}, and {habit}",
        "who keeps notes on {one} for newcomers, has seen most mistakes with {two} at first hand, and {habit}",
        "who was asked to set down what colleagues know of {one}, and who cares most about getting {two} right",
    ),
    "practitioner": (
        "who deals with {one} nearly every day, keeps an eye on {two}, and {habit}",
        "whose ordinary week turns on {one}, and who wants fewer surprises with {two} {deadline}",
        "who answers for {one} on most shifts, follows a fixed routine for {two}, and {habit}",
    ),
    "critic": (
        "who doubts that the usual advice on {one} holds in places with trouble over {two}, and {habit}",
        "who finds most guidance on {one} too narrow because it passes over {two} in daily practice, and {habit}",
        "who would rather keep {one} simple, thinks that too much is made of {two}, and {habit}",
    ),
}
_HABITS = (
    "checks every figure twice before trusting it", "prefers rules that can be explained to a newcomer",
    "has learned the hard way to plan for the worst case", "dislikes surprises late in the day",
    "trains whoever joins next", "writes everything down in a paper notebook", "counts the cost of every extra step",
    "wants to know the reason behind a rule",
)  # fmt: skip
_DEADLINES = (
    "before the end of the week", "before the next inspection", "before handing over to a colleague",
    "before the busy season", "by tomorrow morning", "before the budget is settled",
)  # fmt: skip
_INTERESTS = (
    "getting {one} right in practice", "keeping {one} under control", "the limits of {one}",
    "avoiding mistakes with {one}", "deciding how to treat {one}", "what to expect of {one}",
)  # fmt: skip


def _persona(asked: Asked, skill: _Skill, rng: random.Random) -> dict[str, object]:
    """Somebody from the domain that the words point to, in the wanted relation to what the passage is about."""
    section = asked.get("section")
    phrases = text.phrases(asked.passage)[:8] or text.phrases(section.lower())[:3] or ["practical details"]
    about = [phrase if phrase.endswith("s") else f"the {phrase}" for phrase in phrases]
    one = rng.choice(about)
    two = rng.choice([phrase for phrase in about if phrase != one] or ["the costs"])
    roles, places = _domain(text.content_stems(text.plain(f"{section}\n{asked.passage}"[: text.LONGEST_PASSAGE])))
    role = rng.choice(roles)
    relation = next((name for name in _RELATIONS if name in asked.setting("relation")), "reader")
    concern = rng.choice(_RELATIONS[relation]).format(
        one=one, two=two, habit=rng.choice(_HABITS), deadline=rng.choice(_DEADLINES)
    )
    described = f"{'An' if role[0] in 'aeio' else 'A'} {role} {rng.choice(places)} {concern}."
    if rng.random() < skill.generic:
        described = f"A person who is interested in {one}."  # too thin: no role, no setting, no concern
    return {"interest": rng.choice(_INTERESTS).format(one=one), "persona": described}


def _domain(stems: Sequence[str]) -> tuple[list[str], list[str]]:
    """The roles and places of the domain that most of these words belong to; those for any where few belong to one."""
    common = [sum(stem in _domain_stems(words) for stem in stems) for words, *_ in _DOMAINS]
    _, roles, places = _DOMAINS[common.index(max(common))] if max(common) > 1 else _DOMAINS[-1]
    return roles.split("|"), places.split("|")


@lru_cache(maxsize=32)
def _domain_stems(words: str) -> frozenset[str]:
    return frozenset(text.content_stems(words))


# Which rule writes which outputs; the first whose outputs are all asked for.
_TASKS = (
    ({"question", "answer", "evidence"}, _question),
    ({"quote", "answerable"}, _answerable),
    ({"interest", "persona"}, _persona),
)
