"""The offline writer as a judge: ratings and verdicts from what can be counted, so that everything runs without a model.

It counts how many of the instruction's content words a text takes up, how many others it brings, what it says twice,
whether it ends where it should, whether it declines, and which words it has for doubt and for certainty. Whether anything
is true it cannot know. The rationale names what was counted.

"strong" goes by the counts alone. Another variant errs at its skill's rate of `wrong`, and then as position-biased judges
do: it finds the text shown first two points better, or the better of two, and any other text a point better or worse. So
"fair" is noisy now and then, and "weak" half of the time, with many verdicts that change with the order."""

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.request import Asked, Demonstration
from workbench.llm.offline_rules.skill import Skill

_ENOUGH_OVERLAP = 0.4  # of the instruction's content words: a good answer need not say the whole instruction again
_ENOUGH_NEW = 150  # distinct content words that the instruction has not
_ENOUGH_WORDS = 64
_TIE = 0.02  # of the quality, 0 to 1
_FIRST_BONUS = 2  # points

_DECLINES = re.compile(
    r"\bi(?:'m| am) (?:very )?sorry\b|\bi apologi[sz]e\b|\bi (?:can't|cannot|can not|won't|will not|don't know)\b"
    r"|\bi(?:'m| am) (?:unable|not able)\b|\bas an? (?:ai|language model)\b"
)
_PLACEHOLDERS = frozenset({"", "noinput", "nooutput", "no-input", "no-output", "no input", "no output"})
_ENDS = tuple(".!?)]}\"'”’»`*:>")
_DOUBT = re.compile(
    r"\b(?:may|might|could|perhaps|probably|likely|possibly|seems?|appears?|roughly|approximately|estimated|uncertain|unclear"
    r"|not (?:sure|certain|known)|i (?:think|believe)|as far as)\b"
)
_CERTAINTY = re.compile(
    r"\b(?:always|never|definitely|certainly|undoubtedly|obviously|guaranteed|absolutely|without (?:a )?doubt"
    r"|everyone|nobody|no one|impossible|proven)\b"
)
_INVENTS = re.compile(
    r"\b(?:story|poem|haiku|limerick|song|lyrics|fiction|novel|joke|riddle|slogan|fairy tale|screenplay)\b"
)
_DIMENSIONS = re.compile(r"instruction[ _]following|honesty|truthfulness|helpfulness")
_TEXT = re.compile(r"<(text(?:_x)*)_1>\n")


# --- what the outputs are ---------------------------------------------------------------------------------------------


def ratings(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """A rating, 1 to 5, of each of the numbered texts in the dimension that is asked for; "N/A" for the honesty of
    invented texts."""
    instruction, dimension = asked.given.get("instruction"), _dimension(asked)
    entries = []
    for place, shown in enumerate(_texts(asked)):
        counts = _counted(instruction, shown)
        quality = None if dimension == "honesty" and counts.is_invention else _BY_DIMENSION[dimension](counts)
        rating = "N/A" if quality is None else _points(quality, place, skill, rng)
        rationale = "It is made up to order and claims nothing." if quality is None else counts.described(dimension)
        entries.append({"text": place + 1, "rationale": rationale, "rating": rating})
    return {"ratings": entries}


def rating(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """A rating, 1 to 5, of one text: its quality, and how much of the rubric it takes up."""
    shown = asked.given.get("text")
    counts, by_rubric = _counted(asked.given.get("instruction"), shown), _counted(asked.given.get("rubric"), shown)
    quality = 0.8 * _quality(counts) + 0.2 * by_rubric.relevance
    return {"rationale": counts.described("helpfulness"), "rating": _points(quality, 0, skill, rng)}


def verdict(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """The better of two texts by their quality; a tie where that is about the same."""
    first, second, *_ = (_counted(asked.given.get("instruction"), shown) for shown in [*_texts(asked), "", ""])
    gap = _quality(first) - _quality(second)
    better = "tie" if abs(gap) <= _TIE else "first" if gap > 0 else "second"
    if rng.random() < skill.wrong:
        better = "first"
    said = f"Text 1: {first.described('helpfulness')} Text 2: {second.described('helpfulness')}"
    return {"rationale": said, "better": better}


def faults(shown: Demonstration) -> dict[str, bool]:
    """Return which faults a demonstrated judgement has; whether it is wrong, no rule can tell."""
    return {"broken": shown.outputs is None}


# Which rule writes which outputs, where these inputs are given.
TASKS = (
    ({"ratings"}, {"instruction"}, ratings),
    ({"rating", "rationale"}, {"rubric"}, rating),
    ({"better", "rationale"}, {"instruction"}, verdict),
)


# --- what is asked ----------------------------------------------------------------------------------------------------


def _texts(asked: Asked) -> list[str]:
    """The numbered texts; the whole of the data where they are not numbered. No text holds the tags of the numbers."""
    block = asked.given.get("texts")
    if not (opening := _TEXT.match(block)):
        return [block]
    return re.findall(rf"^<{opening[1]}_\d+>\n(.*?)\n</{opening[1]}_\d+>$", block, re.MULTILINE | re.DOTALL)


def _dimension(asked: Asked) -> str:
    """The one that the system message names first."""
    system = "\n".join(message["content"] for message in asked.messages if message["role"] == "system")
    found = _DIMENSIONS.search(system.lower())
    return found[0].replace(" ", "_") if found else "helpfulness"


# --- what is counted --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    """What is counted of a text beside its instruction: shares from 0 to 1, and numbers of words."""

    words: int
    overlap: float  # share of the instruction's distinct content words that the text has
    new: int  # distinct content words that the instruction has not
    repeated: float  # share of runs of three words that came before
    doubts: int
    certainties: int
    is_finished: bool
    is_declined: bool
    is_empty: bool
    is_invention: bool

    @property
    def relevance(self) -> float:
        """How much it is about the instruction, 0 to 1."""
        return min(1.0, self.overlap / _ENOUGH_OVERLAP)

    def described(self, dimension: str) -> str:
        """What was counted, in a sentence or two."""
        if self.is_empty:
            return "It says nothing."
        said = f"{self.words} words, {self.overlap:.0%} of the content words of the instruction"
        if dimension in ("honesty", "truthfulness"):
            said += f", {self.doubts} words of doubt and {self.certainties} of certainty"
        else:
            said += f" and {self.new} others, {self.repeated:.0%} said before"
        return f"{said}.{' It declines.' if self.is_declined else ''}{'' if self.is_finished else ' It breaks off.'}"


def _counted(instruction: str, shown: str) -> _Counts:
    instruction, shown = instruction[: text.LONGEST_PASSAGE], shown[: text.LONGEST_PASSAGE]
    small = shown.lower().replace("’", "'")
    words = text.words(small)
    wanted, had = set(text.content_stems(instruction)), set(text.content_stems(shown))
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return _Counts(
        words=len(words),
        overlap=len(wanted & had) / max(1, len(wanted)),
        new=len(had - wanted),
        repeated=(len(runs) - len(set(runs))) / max(1, len(runs)),
        doubts=len(_DOUBT.findall(small)),
        certainties=len(_CERTAINTY.findall(small)),
        is_finished=shown.rstrip().endswith(_ENDS),
        is_declined=bool(_DECLINES.search(small[:300])),
        is_empty=" ".join(words) in _PLACEHOLDERS,
        is_invention=bool(_INVENTS.search(instruction.lower())),
    )


# --- what it is worth, 0 to 1 -----------------------------------------------------------------------------------------


def _follows(counts: _Counts) -> float:
    length = min(1.0, math.log2(1 + counts.words) / math.log2(1 + _ENOUGH_WORDS))
    quality = 0.6 * counts.relevance + 0.2 * length + 0.1 * counts.is_finished + 0.1 * (1 - counts.repeated)
    return _unless_missing(quality, counts)


def _informs(counts: _Counts) -> float:
    told = min(1.0, math.log2(1 + counts.new) / math.log2(1 + _ENOUGH_NEW))
    return _unless_missing(told * (0.5 + 0.5 * counts.relevance) * (1 - 0.5 * counts.repeated), counts)


def _unless_missing(quality: float, counts: _Counts) -> float:
    return 0.0 if counts.is_empty else quality * (0.3 if counts.is_declined else 1.0)


def _candour(counts: _Counts) -> float:
    if counts.is_empty:
        return 0.0
    is_lost_in_doubt = counts.doubts > 3 and counts.doubts > counts.words / 15
    return 0.7 + 0.1 * min(3, counts.doubts) - 0.2 * min(3, counts.certainties) - 0.4 * is_lost_in_doubt


def _caution(counts: _Counts) -> float:
    """A text that declines claims nothing, and so nothing false."""
    if counts.is_empty:
        return 0.0
    if counts.is_declined:
        return 1.0
    return 0.5 + 0.4 * counts.relevance + 0.1 * (counts.doubts > 0) - 0.15 * min(3, counts.certainties)


def _quality(counts: _Counts) -> float:
    """Of a text as a whole. The weights were set on AlpacaEval's outputs and GPT-4's preferences among them."""
    return (_follows(counts) + 2 * _informs(counts)) / 3


_BY_DIMENSION: Mapping[str, Callable[[_Counts], float]] = {
    "instruction_following": _follows,
    "honesty": _candour,
    "truthfulness": _caution,
    "helpfulness": _informs,
}


def _points(quality: float, place: int, skill: Skill, rng: random.Random) -> int:
    """The quality on the scale from 1 to 5, as a judge of that skill finds it at that place."""
    points = 1 + round(4 * quality)
    if rng.random() < skill.wrong:
        points += rng.choice((-1, 1)) if place else _FIRST_BONUS
    return max(1, min(5, points))
