"""What is decided before anything is trained, and what is measured beside: `compare.Plan` and `compare.Measures`."""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench import experiments
from workbench._code import code_fingerprint
from workbench.errors import InputError
from workbench.records import content_hash
from workbench.train import trl_runs, verdicts
from workbench.train.trl_runs import Settings

PRIMARY = {"dpo": "probability", "orpo": "probability", "reward": "probability", "sft": "loss"}
PAIR_METRICS = ("probability", "margin", "accuracy", "likelier")
LONGER = "chosen is longer"  # of a pair, whatever the model: 1, 0, or 0.5 for equal lengths
TEXT_LOSS, ANSWER_CHARACTERS = "text loss", "answer characters"
CONTROLS = {
    "pairs": (verdicts.SHUFFLED, verdicts.LENGTH, verdicts.RANDOM, verdicts.TWICE),
    "sft": (verdicts.MISMATCHED, verdicts.TWICE),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is decided before anything is trained. `seeds` are how many times each arm is trained.

    `primary` is the metric that decides, "" for the method's own (PRIMARY). `controls` names those to train, None for all
    that suit the rows; a set can only be found to help or harm where the controls that the verdict needs were trained.
    `held_out` is the share of rows to measure on where no others are given, `max_held_out` the most of them."""

    method: str = "dpo"
    seeds: int = 3
    primary: str = ""
    controls: tuple[str, ...] | None = None
    settings: Settings = Settings()  # noqa: RUF009  frozen
    held_out: float = 0.3
    max_held_out: int = 500
    level: float = 0.95
    split_seed: int = 0

    def __post_init__(self):
        if self.method not in trl_runs.METHODS:
            raise InputError(f"method {self.method!r} is not one of {', '.join(trl_runs.METHODS)}.")
        known = CONTROLS["sft" if self.method == "sft" else "pairs"]
        if unknown := set(self.controls or ()) - set(known):
            raise InputError(f"{min(unknown)!r} is no control for {self.method}; there are {', '.join(known)}.")
        if self.seeds < 1 or not 0 < self.held_out < 1 or not 0.5 <= self.level < 1 or self.max_held_out < 2:
            raise InputError(
                f"seeds 1 or more, held_out a share, level 0.5 to 1, max_held_out 2 or more; got {self.seeds}, {self.held_out}, {self.level}, {self.max_held_out}."
            )

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.primary or PRIMARY[self.method]

    @property
    def control_names(self) -> tuple[str, ...]:
        """The controls that are trained."""
        return self.controls if self.controls is not None else CONTROLS["sft" if self.method == "sft" else "pairs"]


@dataclass(frozen=True)
class Task:
    """Questions with answers that can be checked: the model writes, and `score` (what it wrote, what is wanted) says 0 to 1."""

    name: str
    prompts: Sequence[str]
    wanted: Sequence[str]
    score: Callable[[str, str], float]

    def __post_init__(self):
        if len(self.prompts) != len(self.wanted) or not len(self.prompts):
            raise InputError(
                f"task {self.name!r} has {len(self.prompts):,} prompts and {len(self.wanted):,} answers; give one each."
            )
        if experiments.is_lower_better(self.name) or self.name in (*PAIR_METRICS, ANSWER_CHARACTERS, LONGER):
            raise InputError(
                f"task {self.name!r} has the name of another metric, or of a loss. Call it something else."
            )


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured beside the primary metric: loss on `texts` written by people, how long the answers are that a model
    writes to the first `answers` held-out prompts, and a task. Answers have `max_tokens` at most."""

    texts: Sequence[str] = ()
    answers: int = 0
    task: Task | None = None
    max_tokens: int = 48

    @property
    def content_id(self) -> str:
        task = self.task and [
            self.task.name,
            list(self.task.prompts),
            list(self.task.wanted),
            code_fingerprint(self.task.score),
        ]
        return content_hash([list(self.texts), self.answers, task, self.max_tokens])


def exact_match(written: str, wanted: str) -> float:
    """Return 1.0 where both are the same but for case, punctuation, articles and blanks, else 0.0.

    Of a text that is nothing else, such as the answer "A", all is compared: or writing nothing would be right. Rajpurkar et
    al. 2016, arXiv:1606.05250 (the rule of SQuAD's evaluation script)."""
    bare = lambda text: "".join(each for each in text.lower() if each not in string.punctuation)
    plain = lambda text: " ".join(re.sub(r"\b(a|an|the)\b", " ", bare(text)).split()) or " ".join(text.lower().split())
    return float(plain(written) == plain(wanted))


def check_primary(plan: Plan, measures: Measures) -> None:
    """Raise InputError for a primary metric that will not be measured, or of which neither more nor less is better."""
    beside = [TEXT_LOSS] if measures.texts else []
    beside += [measures.task.name] if measures.task else []
    known = {"sft": ["loss", *beside], "reward": [*PAIR_METRICS[:3]]}.get(plan.method, [*PAIR_METRICS, *beside])
    if plan.metric not in known:
        raise InputError(
            f"{plan.metric!r} cannot decide an experiment of {plan.method}; what can is {', '.join(known)}."
        )
