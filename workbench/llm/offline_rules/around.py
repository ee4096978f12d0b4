"""The offline writer on people: somebody who stands in a relation to a person, and what a person asks for.

People and requests are put together from lists, by the domain that the words of a description point to. They show that
everything works and have nothing to say; a problem can be solved, since its numbers are all there."""

import random
import re
from collections.abc import Callable, Mapping, Set

from workbench.llm.offline_rules import text
from workbench.llm.offline_rules.personas import DEADLINES, DOMAINS, HABITS, domain_of, persona_faults
from workbench.llm.offline_rules.request import Asked, Demonstration
from workbench.llm.offline_rules.skill import Skill

# Of somebody to somebody else: whether they share a field of work, what joins them, and what concerns the new one.
_TIES = {
    "works with": (True, "share a shift and its paperwork", "who takes over where others leave {one}, and {habit}"),
    "is served by": (False, "depends on what the other does", "who relies on others for {one}, understands little of {two}, and {habit}"),
    "serves": (False, "keeps something running for the other", "who is called when {one} gives trouble, and who {habit}"),
    "teaches": (True, "once taught the other", "who explains {one} to newcomers, repeats the same lesson on {two}, and {habit}"),
    "learns from": (True, "is being trained by the other", "who is new to {one}, has been warned about {two}, and wants to stand alone {deadline}"),
    "cares for": (False, "looks after the other's family", "who looks after people at home between shifts, hears much about {one}, and {habit}"),
    "checks": (True, "inspects what the other does", "who signs off {one} for others, has seen too many shortcuts with {two}, and {habit}"),
    "competes with": (True, "wants the same grant", "who wants to be first with {one}, watches what others do about {two}, and {habit}"),
    "disagrees with": (True, "would do it the other way round", "who holds that {one} matters less than {two}, says so in meetings, and {habit}"),
    "lives beside": (False, "share a stairwell", "who has nothing to do with the neighbours' work, worries about {one}, and must see to {two} {deadline}"),
}  # fmt: skip


def relative(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """Somebody else in the wanted relation, of the same field of work or of another, with a concern of that field."""
    wanted = asked.given.setting("relation")
    tie = next((name for name in _TIES if wanted.startswith(name)), "works with")
    is_same_field, link, concern = _TIES[tie]
    roles, places = domain_of(text.content_stems(asked.given.get("person")))
    fields = [field for field in DOMAINS[:-1] if (field[1].split("|") == roles) == is_same_field] or list(DOMAINS[:-1])
    words, roles_there, places_there = rng.choice(fields)
    others = [role for role in roles_there.split("|") if role not in asked.given.get("person")] or roles_there.split(
        "|"
    )
    role = rng.choice(others)
    one, two = rng.sample(words.split(), 2)
    place = rng.choice(places_there.split("|") if rng.random() < 0.7 else places)
    said = concern.format(one=f"the {one}", two=f"the {two}", habit=rng.choice(HABITS), deadline=rng.choice(DEADLINES))
    described = f"{'An' if role[0] in 'aeio' else 'A'} {role} {place} {said}."
    if rng.random() < skill.generic:
        described = f"A person who knows the {role}."
    return {"link": link, "persona": described}


# --- what a person asks for -------------------------------------------------------------------------------------------

_INSTRUCTIONS = {
    "explain": "Explain in plain words how {one} and {two} depend on each other, with one example from a small workplace, in at most {count} sentences.",
    "plan": "I have {count} days and one helper to get {one} in order before an inspection of {two}. Write a checklist for each day, with what can be left out if a day is lost.",
    "draft": "Draft a notice of at most {long} words for people who use {one} every week: {two} will be out of use for {count} days, and they need to know what to do meanwhile.",
    "decide": "I can spend {long} hours on {one} or on {two} this month, and not on both. Which comes first, and what would make you change your mind?",
    "check": "Please look over this plan and say what is missing: 1. list everything to do with {one}; 2. ask {count} people about {two}; 3. change one thing a week and write down what happens.",
    "find out": "For {count} weeks there has been trouble with {one}, mostly in the morning and never on Sundays. What should I look at first, and how can I tell whether {two} is the cause?",
    "ideas": "Give me {count} quite different ideas for getting newcomers interested in {one}, without a budget, none of which takes longer than {two} allows in an afternoon.",
    "rework": "Make this shorter and friendlier for readers in a hurry: \"Everybody who deals with {one} is herewith reminded that {two} must be left in order at the end of the day, and that the list of {count} points is to be signed.\"",
}  # fmt: skip
_PROBLEMS = {
    "percentages": "A store of {one} holds {hundreds} units. One day {tenth}% of them are used, and on the next day half of what is left. How many units are left after the two days? Give a number.",
    "rates and ratios": "Checking {one} takes {small} minutes for every {two} that is involved, and {hour} minutes are free. The last {small} minutes are needed to tidy up. How many can be checked in full? Give a whole number.",
    "units and amounts": "A mixture for {one} takes {small} grams for each litre. A tank of {tens} litres is filled, and a quarter of it is thrown away because of {two}. How many grams are in what is left?",
    "scheduling": "Work on {one} takes {small} hours, work on {two} two hours more, and the second can only begin when the first is done, after a break of half an hour. It begins at 8:00. At what time is everything done?",
    "counting": "A label for {one} has one of {small} letters, then one of {few} digits, then the same letter again or none. How many different labels are there?",
    "probability": "Of {tens} parts for {one}, {small} are faulty. Two are taken at random, one after the other, without putting the first back. What is the probability that both are faulty? Give a fraction.",
    "geometry": "A rectangular plot for {one} is {tens} metres long and {small} metres wide, and a path of one metre runs around it on the outside. What is the area of the path in square metres?",
    "averages": "Over {few} days the mean number of reports on {one} was {tens}. On the next day there were twice as many. What is the mean over all days? Give a fraction in lowest terms.",
    "logical deduction": "Three people look after {one}, {two} and the records, one each. The first does not look after {one}. The second looks after neither {one} nor the records. Who looks after the records: the first, the second or the third?",
    "best of several choices": "One supplier of {one} takes {tens} for delivery and {few} a piece, another nothing for delivery and {small} a piece more than the first. From how many pieces on is the first cheaper? Give a whole number.",
}  # fmt: skip


def instruction(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """A request of the wanted kind, about two things of the person's field of work."""
    one, two = _subjects(asked, rng)
    kind = _wanted(asked, "kind", _INSTRUCTIONS)
    said = _INSTRUCTIONS[kind].format(one=one, two=two, count=rng.randint(3, 9), long=rng.randrange(60, 200, 10))
    return {
        "need": f"help with {one} and {two}",
        "instruction": f"Tell me about {one}." if rng.random() < skill.generic else said,
    }


def problem(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """A problem of the wanted skill with numbers of its own."""
    one, two = _subjects(asked, rng)
    numbers = {
        "hundreds": 100 * rng.randint(2, 19), "tenth": 10 * rng.randint(1, 6), "hour": 15 * rng.randint(4, 12),
        "tens": 4 * rng.randint(5, 20), "small": rng.randint(3, 9), "few": rng.randint(3, 6),
    }  # fmt: skip
    said = _PROBLEMS[_wanted(asked, "skill", _PROBLEMS)].format(one=one, two=two, **numbers)
    return {
        "situation": f"{one}, with numbers",
        "problem": f"How much {one} is needed?" if rng.random() < skill.generic else said,
    }


_TOOL = re.compile(r"^- ([^:\n]+): ([^\n(]+)", re.MULTILINE)


def tool_request(asked: Asked, skill: Skill, rng: random.Random) -> dict[str, object]:
    """What one or two of the tools do, asked for in the words of their descriptions."""
    found = _TOOL.findall(asked.given.get("tools"))
    if not found:
        return {"needed": [], "request": "NONE"}
    chosen = rng.sample(found, min(len(found), rng.choice((1, 1, 2))))
    one, _ = _subjects(asked, rng)
    day, hour = rng.randint(1, 28), rng.randint(7, 20)
    done = " and then this: ".join(about.strip().rstrip(".").lower() for _, about in chosen)
    said = f"For {one} on the {day}th of March at {hour}:00 I need {done}. Give me the result in one line."
    names = [name.strip() for name, _ in chosen]
    return {"needed": ["something_else"] if rng.random() < skill.wrong else names, "request": said}


def _wanted(asked: Asked, name: str, known: Mapping[str, str]) -> str:
    wanted = asked.given.setting(name)
    return next((each for each in known if wanted.startswith(each)), next(iter(known)))


def _subjects(asked: Asked, rng: random.Random) -> tuple[str, str]:
    """Two things of the field of work that the description points to."""
    roles, _ = domain_of(text.content_stems(asked.given.get("persona")))
    words = next((words for words, own, _ in DOMAINS if own.split("|") == roles), "") or DOMAINS[0][0]
    one, two = rng.sample(words.split(), 2)
    return f"the {one}", f"the {two}"


def _form(shown: Demonstration) -> Mapping[str, bool]:
    return {"broken": shown.outputs is None}


Rule = tuple[Set[str], Set[str], Callable[..., Mapping[str, object]], Callable[[Demonstration], Mapping[str, bool]]]
TASKS: tuple[Rule, ...] = (
    ({"link", "persona"}, {"person"}, relative, persona_faults),
    ({"need", "instruction"}, {"persona"}, instruction, _form),
    ({"situation", "problem"}, {"persona"}, problem, _form),
    ({"needed", "request"}, {"tools"}, tool_request, _form),
)
