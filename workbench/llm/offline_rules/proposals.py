"""What the offline writer answers to DSPy's optimisers when they ask for instructions, or for notes on data and program.

A proposal is the instruction that was given, whole, and a short section of what to mind; there is one such section, of five
lines at most, however often it is proposed anew. For GEPA it holds the feedback that came most often, for MIPROv2 one more
rule that fits any task. Since the wording of an instruction changes nothing about how the rules write, no proposal can do
better than another: what a search over them finds is luck, and scores on held-out examples should say so."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.request import Asked
from workbench.llm.offline_rules.skill import Skill

_MOST = 5
_LONGEST_FEEDBACK = 2000  # characters that are read of one
_HEADING = "# Mind especially"
_SECTION = re.compile(rf"\n*^{_HEADING}\n(.*?)(?=^# |\Z)", re.MULTILINE | re.DOTALL)
_RULES = (
    "Read all of the input before you write the first word.",
    "Check every output against the input once more before you finish.",
    "Take names, numbers and quotations over exactly as they stand.",
    "Leave out whatever the input does not state.",
    "Be specific: name the thing, the number or the condition itself.",
    "Keep each output as short as its description allows.",
    "Where several choices are good, take the one that is easiest to verify.",
    "Follow the form that is asked for, and add nothing to it.",
)
_FORM = "Give every output field, in the asked form."
_PRAISE = re.compile(
    r"(?:nothing|no (?:fault|problem)s?|good|correct|right|perfect|well done|ok|okay)\b", re.IGNORECASE
)
_PART = re.compile(r"^[a-z]\w*: ")  # the name of the metric's part, before what it says
# What was quoted from one example has no place in an instruction for all of them; one or two words may be the point.
_QUOTE = re.compile(r"“(?:[^“”]|“[^“”]*”)*”|\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")
_ONLY_SHOWN = re.compile(r"(?:: |,? (?:unlike|as in) (?:\w+: )?)“…”")
_FEEDBACK = re.compile(r"^#+ *(?:\d+\. )?Feedback:?[ \t]*\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^[ \t]*(\[\[ ## \w+ ## \]\])", re.MULTILINE)
_LIMIT = re.compile(r"at most (\d+) characters")


# --- instructions -----------------------------------------------------------------------------------------------------


def reflected(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """GEPA: the current instruction, and the feedback that its examples got most often."""
    noted: Counter[str] = Counter()
    wording: dict[str, str] = {}
    for feedback in _feedback(asked.given.get("examples_with_feedback")):
        own = {_key(line): line for line in feedback}
        noted.update(own.keys())
        wording = own | wording
    lines = [wording[key] for key, _ in noted.most_common()]
    written = _shown(_with(asked.given.get("current_instruction"), lines, asked.given.get("length_limit")), asked)
    return {"new_instruction": written, "improved_instruction": written}


def shortened(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """GEPA: as many whole lines of the instruction as the limit has room for."""
    kept = _within(asked.given.get("instruction"), asked.given.get("length_limit"))
    return {"shortened_instruction": _shown(kept, asked)}


def proposed(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """MIPROv2: the basic instruction, and one general rule that it does not have yet."""
    instruction = asked.given.get("basic_instruction")
    fresh = [rule for rule in _RULES if rule not in instruction] or [*_RULES]
    return {"proposed_instruction": _shown(_with(instruction, [rng.choice(fresh)]), asked)}


def _shown(instruction: str, asked: Asked) -> str:
    """The instruction in a form that can be answered: under headers, a line that is one would end it there."""
    return instruction if asked.is_json else _HEADER.sub(r"`\1`", instruction)


def _with(instruction: str, lines: Iterable[str], limit: str = "") -> str:
    """The instruction with these lines to mind before those that it has, the first five; none twice."""
    before = [
        line.removeprefix("- ").strip() for match in _SECTION.finditer(instruction) for line in match[1].split("\n")
    ]
    body = _SECTION.sub("\n\n", instruction).strip()
    kept: dict[str, str] = {}
    for line in [*lines, *filter(None, before)]:
        if _key(line) not in _key(body):
            kept.setdefault(_key(line), line)
    section = [f"- {line}" for line in list(kept.values())[:_MOST]]
    return _within("\n".join([body, "", _HEADING, *section]) if section else body, limit)


def _within(instruction: str, limit: str) -> str:
    """The instruction, or as many of its first lines as the limit allows; cut off where not even one fits."""
    match = _LIMIT.search(limit)
    most = int(match[1]) if match else len(instruction)
    lines = instruction.split("\n")
    while len(lines) > 1 and len("\n".join(lines).strip()) > most:
        lines.pop()
    kept = "\n".join(lines).strip().removesuffix(_HEADING).strip()
    return kept[:most].strip()


def _key(line: str) -> str:
    """What makes two lines the same advice: their words, whatever the numbers and quotations in them."""
    return " ".join(re.sub(r"\d+|“[^”]*”", " ", line.lower()).split())


def _feedback(examples: str) -> list[list[str]]:
    """The sentences of each example's feedback; of an answer that could not be read, one that says so."""
    try:
        found = [str(each.get("Feedback", "")) for each in json.loads(examples)]
    except (ValueError, AttributeError, TypeError):
        found = _FEEDBACK.findall(examples)
    is_unread = lambda feedback: feedback.startswith("parse: ") or "failed to parse" in feedback
    return [[_FORM] if is_unread(feedback) else _sentences(feedback) for feedback in found]


def _sentences(feedback: str) -> list[str]:
    """The sentences that say something to mind, without what they quote of their example."""
    found = []
    masked = _QUOTE.sub(lambda quote: quote[0] if len(quote[0].split()) < 3 else "“…”", feedback[:_LONGEST_FEEDBACK])
    for line in masked.split("\n"):
        for sentence in re.split(r"(?<=[.!?])\s+(?=\W?[A-Z])", _PART.sub("", line.strip(" \t-*"))):
            if sentence.endswith(":"):
                return found  # what follows is shown, and says nothing by itself
            said, *details = re.split(r"(?=[:;] )", _ONLY_SHOWN.sub("", sentence).rstrip("."))
            sentence = said + _QUOTE.sub("“…”", "".join(details))
            is_whole = sentence.count("“") == sentence.count("”")
            if is_whole and 3 <= len(sentence.split()) <= 40 and not _PRAISE.match(sentence):
                found.append(text.raised(sentence if sentence[-1] in "!?" else f"{sentence}."))
    return found


# --- notes on data and program ----------------------------------------------------------------------------------------


def observed(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """MIPROv2: how many examples there are, their inputs, and the words that they have most of; nothing the second time."""
    if asked.given.get("prior_observations"):
        return {"observations": "COMPLETE"}
    examples = asked.given.get("examples")
    inputs = dict.fromkeys(
        name for keys in re.findall(r"input_keys=\{([^{}]*)\}", examples) for name in re.findall(r"\w+", keys)
    )
    count = len(re.findall(r"input_keys=\{", examples))
    topics = text.phrases(examples.replace("\\n", "\n"))[:3]
    about = f" Words that come up often are {_listed(topics)}." if topics else ""
    return {"observations": f"These are {count} examples, each with {_listed([*inputs]) or 'some values'}.{about}"}


def summed_up(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """MIPROv2: the first two sentences of the observations."""
    sentences = re.split(r"(?<=[.!?])\s+", asked.given.get("observations").strip())
    return {"summary": " ".join(sentences[:2])}


def described(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """MIPROv2: what the program, or the module of it, takes and gives, by the names of its fields."""
    module = asked.given.get("module")
    match = re.search(r"([\w, ]{1,400})\)? -> ([\w, ]{1,400})", module or asked.given.get("program_code"))
    takes, gives = ([*filter(None, re.split(r"\W+", part))] for part in match.groups()) if match else ([], [])
    said = f"It takes {_listed(takes)}, and gives {_listed(gives)}." if match else "It asks a language model."
    return {"program_description": said, "module_description": said}


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# Which rule writes which outputs, where these inputs are given.
TASKS = (
    ({"new_instruction"}, {"current_instruction", "examples_with_feedback"}, reflected),
    ({"improved_instruction"}, {"current_instruction", "examples_with_feedback"}, reflected),
    ({"shortened_instruction"}, {"instruction", "length_limit"}, shortened),
    ({"proposed_instruction"}, {"basic_instruction"}, proposed),
    ({"observations"}, {"examples"}, observed),
    ({"summary"}, {"observations"}, summed_up),
    ({"program_description"}, {"program_code"}, described),
    ({"module_description"}, {"program_code"}, described),
)
