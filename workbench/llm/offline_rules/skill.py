"""How well a variant of the offline writer does its work, and what demonstrations change about that.

A model copies what it is shown. The rules do so in the one way that can be checked: each fault that a writer makes has a
rate, and a writer that sees demonstrations moves its rates towards how often the faults occur in them. Good
demonstrations make it better, bad ones make it worse, and any writer can be misled. Nothing else of a demonstration is
used: its text is never copied. How an instruction is worded changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# What a variant's own rates count for, in demonstrations: after two that are seen, both count the same.
PRIOR_WEIGHT = 2
FAULTS = ("generic", "cloze", "wrong", "tidied", "broken")


@dataclass(frozen=True)
class Skill:
    """How well a variant does its work: shares between 0 and 1 of the times that each thing goes wrong."""

    name: str
    generic: float = 0.0  # questions that ask for nothing in particular
    cloze: float = 0.0  # gaps to fill where a question could have been asked
    wrong: float = 0.0  # answers and judgements taken from somewhere else
    tidied: float = 0.0  # evidence that is no longer copied character for character
    broken: float = 0.0  # answers that are not in the asked format
    demonstrations: int = 0  # how many were seen


SKILLS = {
    "strong": Skill(""),
    "fair": Skill("/fair", generic=0.1, cloze=0.4, wrong=0.1, tidied=0.04, broken=0.02),
    "weak": Skill("/weak", generic=0.6, cloze=0.3, wrong=0.5, tidied=0.15, broken=0.08),
}


def learned(skill: Skill, shown: Sequence[Mapping[str, bool]]) -> Skill:
    """Return the skill after demonstrations, given for each of them which faults it has; a fault that a demonstration
    cannot show is left out of its mapping.

    Each rate is the mean of the Beta distribution that a prior of PRIOR_WEIGHT with the skill's own rate as its mean has
    after the demonstrations (the rule of succession, generalised; Gelman et al. 2013, Bayesian Data Analysis, 2.4)."""
    rates = {}
    for fault in FAULTS:
        seen = [each[fault] for each in shown if fault in each]
        rates[fault] = (getattr(skill, fault) * PRIOR_WEIGHT + sum(seen)) / (PRIOR_WEIGHT + len(seen))
    return replace(skill, demonstrations=len(shown), **rates)
