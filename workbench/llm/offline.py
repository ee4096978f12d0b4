"""Offline: a client without a model. It writes by rules, deterministically, so that everything runs without a network.

It reads only the messages of a request, as a model would (`offline_rules.request`): the data between the prompt's tags, the few
plain settings, and the output format asked for. What it writes is classical text processing over that data (the other
modules of `offline_rules`): it shows that everything works, and is no data to train on. It knows English only, and follows no
order found in the data.

Demonstrations before the request change one thing, how often it goes wrong: its rates move towards the share of faults in
what it is shown (`offline_rules.skill`). So a search for good demonstrations finds better ones here, by the same path as with a
model, and bad ones do harm. How an instruction is worded changes nothing but the draw, so no search for words can gain."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import CallFailed, ClientError
from workbench.llm.client import Choice, Completion, Price, Request, Sampling, metered
from workbench.llm.offline_rules import around, completions, judging, naming, personas, proposals, questions, values
from workbench.llm.offline_rules.request import Asked, Demonstration, Output, read
from workbench.llm.offline_rules.skill import SKILLS, Skill, learned

VERSION = 1


def fingerprint(*files: Path) -> str:
    """Return 12 hex digits of the SHA-256 over the files' bytes."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


# Read when the rules are loaded, not when a client is made: an edit in between would name rules that are not running.
_RULES = fingerprint(Path(__file__), *sorted((Path(__file__).parent / "offline_rules").glob("*.py")))


class Offline:
    """A client that answers by rules: "strong", "fair" or "weak", in this order of quality, to test judges of quality.

    The same request always gets the same text, and another `sample` gets another draw. The endpoint holds a hash of the
    rules' source, so that edited rules never meet old answers in a ledger. It has no tokenizer: its token counts are
    counts of words between white space, and `max_tokens` is held to them. It costs nothing.

        >>> Offline()
        Offline('offline-rules@1')"""

    def __init__(self, variant: str = "strong", *, sampling: Sampling = Sampling()):  # noqa: B008  frozen
        if variant not in SKILLS:
            raise ClientError(f"there is no offline variant {variant!r}. Use one of {', '.join(SKILLS)}.")
        self._skill = SKILLS[variant]
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

    def _write(self, request: Request, asked: Asked, sampling: Sampling, choice: int) -> str:
        # A repair draws as its original did, so that it is the same answer in a readable form.
        drawn = [asked.messages, self.model, request.sample, sampling.seed, choice]
        rng = random.Random(hashlib.sha256(json.dumps(drawn).encode()).digest())
        task = _task(asked)
        skill = (
            learned(self._skill, [task.faults(shown) for shown in asked.demonstrations]) if task.faults else Skill("")
        )
        answer = asked.formatted(_fields(asked, task, skill, rng))
        if rng.random() < skill.broken and not asked.is_repair:
            answer = _broken(answer, asked)
        for stop in sampling.stop or ():
            answer = answer.partition(stop)[0] if stop else answer
        return answer

    def __repr__(self) -> str:
        return f"Offline({self.model!r})"


def _count(texts: Iterable[str]) -> int:
    return sum(len(each.split()) for each in texts)


@dataclass(frozen=True)
class _Task:
    """A rule and the outputs and inputs by which its requests are known. `faults` reads them off a demonstration; None for
    the requests of optimisers, which are never answered with faults: their search would test nothing but those."""

    outputs: Set[str]
    inputs: Set[str]
    write: Callable[[Asked, Skill, random.Random], Mapping[str, object]]
    faults: Callable[[Demonstration], Mapping[str, bool]] | None


_NONE: Set[str] = frozenset()
# The first whose outputs are all asked for, with all its inputs.
_TASKS = (
    _Task({"question", "answer", "evidence"}, _NONE, questions.question, questions.question_faults),
    _Task({"quote", "answerable"}, _NONE, questions.answerable, questions.answerable_faults),
    _Task({"interest", "persona"}, _NONE, personas.persona, personas.persona_faults),
    *(_Task(*rule) for rule in around.TASKS),
    *(_Task(outputs, inputs, write, judging.faults) for outputs, inputs, write in judging.TASKS),
    *(_Task(outputs, inputs, write, naming.name_faults) for outputs, inputs, write in naming.TASKS),
    *(_Task(outputs, inputs, write, None) for outputs, inputs, write in proposals.TASKS),
)
# Where no output is asked for, the message is an instruction to answer.
_OPEN = _Task(_NONE, _NONE, completions.completion, lambda shown: {})
_UNKNOWN = _Task(_NONE, _NONE, lambda *_: {}, lambda shown: {"broken": shown.outputs is None})


def _task(asked: Asked) -> _Task:
    given = asked.given.data.keys() | asked.given.plain.keys()
    given |= {re.sub(r"_\d+$", "", name) for name in given}  # a tag that its value holds has a number
    if not asked.outputs:
        return _OPEN
    fits = lambda task: task.outputs <= asked.outputs.keys() and task.inputs <= given
    return next((task for task in _TASKS if fits(task)), _UNKNOWN)


def _fields(asked: Asked, task: _Task, skill: Skill, rng: random.Random) -> dict[str, object]:
    """The value of each output, by the rule for this set of outputs; extracts of the data where there is none."""
    names = asked.outputs.keys() or ("text",)
    found = {
        name: values.fitted(value, asked.outputs.get(name, Output()))
        for name, value in task.write(asked, skill, rng).items()
    }
    return {
        name: found[name] if found.get(name) is not None else values.extract(asked, name, at, rng)
        for at, name in enumerate(names)
    }


def _broken(answer: str, asked: Asked) -> str:
    """The answer as a careless model gives it: without its last field, or cut off."""
    last = answer.rfind("[[ ## ", 0, answer.rfind("[[ ## "))
    return answer[:last].rstrip() if last >= 0 and not asked.is_json else answer[: len(answer) // 2]
