"""Invented people of the offline writer, from the domain that the words of a passage point to."""

import random
import re
from collections.abc import Sequence
from functools import lru_cache

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.request import Asked, Demonstration
from workbench.llm.offline_rules.skill import Skill

# Words of a domain; who works or lives in it; where. The row with most words in common wins; the last is for any.
DOMAINS = (
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
HABITS = (
    "checks every figure twice before trusting it", "prefers rules that can be explained to a newcomer",
    "has learned the hard way to plan for the worst case", "dislikes surprises late in the day",
    "trains whoever joins next", "writes everything down in a paper notebook", "counts the cost of every extra step",
    "wants to know the reason behind a rule",
)  # fmt: skip
DEADLINES = (
    "before the end of the week", "before the next inspection", "before handing over to a colleague",
    "before the busy season", "by tomorrow morning", "before the budget is settled",
)  # fmt: skip
_INTERESTS = (
    "getting {one} right in practice", "keeping {one} under control", "the limits of {one}",
    "avoiding mistakes with {one}", "deciding how to treat {one}", "what to expect of {one}",
)  # fmt: skip


def persona(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """Somebody from the domain that the words point to, in the wanted relation to what the passage is about."""
    section = asked.given.get("section")
    phrases = text.phrases(asked.given.passage)[:8] or text.phrases(section.lower())[:3] or ["practical details"]
    about = [phrase if phrase.endswith("s") else f"the {phrase}" for phrase in phrases]
    one = rng.choice(about)
    two = rng.choice([phrase for phrase in about if phrase != one] or ["the costs"])
    roles, places = domain_of(
        text.content_stems(text.plain(f"{section}\n{asked.given.passage}"[: text.LONGEST_PASSAGE]))
    )
    role = rng.choice(roles)
    relation = next((name for name in _RELATIONS if name in asked.given.setting("relation")), "reader")
    concern = rng.choice(_RELATIONS[relation]).format(
        one=one, two=two, habit=rng.choice(HABITS), deadline=rng.choice(DEADLINES)
    )
    described = f"{'An' if role[0] in 'aeio' else 'A'} {role} {rng.choice(places)} {concern}."
    if rng.random() < skill.generic:
        described = f"A person who is interested in {one}."  # too thin: no role, no setting, no concern
    return {"interest": rng.choice(_INTERESTS).format(one=one), "persona": described}


def domain_of(stems: Sequence[str]) -> tuple[list[str], list[str]]:
    """The roles and places of the domain that most of these words belong to; those for any where few belong to one."""
    common = [sum(stem in _domain_stems(words) for stem in stems) for words, *_ in DOMAINS]
    _, roles, places = DOMAINS[common.index(max(common))] if max(common) > 1 else DOMAINS[-1]
    return roles.split("|"), places.split("|")


@lru_cache(maxsize=32)
def _domain_stems(words: str) -> frozenset[str]:
    return frozenset(text.content_stems(words))


_ANYBODY = re.compile(
    r"(?:an? |the |some )?(?:\w+ )?(?:person|people|someone|somebody|anyone|individual|human|reader|user)\b",
    re.IGNORECASE,
)
_SETTING = re.compile(r"\b(?:in|at|on|from|near|across|around|outside|inside|along)\b")


def persona_faults(shown: Demonstration) -> dict[str, bool]:
    """Return which faults a demonstrated person has: a generic one is anybody, or is nowhere."""
    found, described = {"broken": shown.outputs is None}, (shown.outputs or {}).get("persona", "")
    if described:
        before_concern = re.split(r",? (?:who|whose|that)\b", described)[0]
        found["generic"] = bool(_ANYBODY.match(described)) or not _SETTING.search(before_concern)
    return found
