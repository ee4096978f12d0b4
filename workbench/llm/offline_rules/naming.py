"""The offline writer as a namer of groups: the phrases and words that most of the shown texts share, and the neighbours do not.

"weak" and "fair" name some groups by what they share with their neighbours, at their skill's rate of `generic`."""

import random
import re
from collections import Counter
from collections.abc import Mapping

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.request import Asked, Demonstration
from workbench.llm.offline_rules.skill import Skill

_ITEM = re.compile(r"^\d+\. ", re.MULTILINE)
_MOST = 3  # words of a name
_TOO_WIDE = ("General questions", "Various topics", "Other things")


def name(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """A name of up to three words, and how many of the shown texts say them."""
    # Of a group only its name: the description says in other words what the name does.
    groups = [item.partition(":")[0] for item in _items(asked.given.get("clusters"))]
    members = _items(asked.given.get("members")) or groups
    others = Counter(stem for item in _items(asked.given.get("others")) for stem in set(_stems(item)))
    said = Counter(stem for item in members for stem in set(_stems(item)))
    # Counted by a program over all of the group, where they are given.
    hints = set(_stems(asked.given.get("keywords")))
    worth = {stem: (1 + (stem in hints)) * count / (1 + others[stem]) for stem, count in said.items()}
    chosen = sorted(worth, key=lambda stem: (-worth[stem], stem))[:_MOST]
    words = [_written(stem, members) for stem in chosen]
    if rng.random() < skill.generic:
        return {"name": rng.choice(_TOO_WIDE), "description": "These texts are about several things."}
    if not words:
        return {"name": "No words in common", "description": "These texts share no words."}
    count = sum(1 for item in members if set(chosen) & set(_stems(item)))
    listed = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return {"name": text.raised(", ".join(words))[:60], "description": f"{count} of {len(members)} speak of {listed}."}


def name_faults(shown: Demonstration) -> Mapping[str, bool]:
    """Return which faults a demonstrated name has: a generic one would fit any group."""
    outputs = shown.outputs or {}
    is_generic = outputs.get("name") in _TOO_WIDE
    return {"broken": shown.outputs is None} | ({"generic": is_generic} if "name" in outputs else {})


def _items(listed: str) -> list[str]:
    return [item.strip() for item in _ITEM.split(listed[: text.LONGEST_PASSAGE]) if item.strip() not in ("", "(none)")]


def _stems(item: str) -> list[str]:
    return [stem for stem in text.content_stems(item) if len(stem) > 2 and stem.isalpha()]


def _written(stem: str, members: list[str]) -> str:
    """The form in which the texts write a word most often."""
    forms = Counter(word.lower() for item in members for word in text.words(item) if text.stem(word) == stem)
    return min(forms, key=lambda form: (-forms[form], form))


# Which rule writes which outputs, where these inputs are given.
TASKS = (
    ({"name", "description"}, {"members"}, name),
    ({"name", "description"}, {"clusters"}, name),
)
