"""A language model as a judge: ratings in four dimensions, by a rubric, and the better of two texts asked in both orders.

    marks = await judge.rate(client, instruction, texts, dimension="honesty")     # one call over all texts
    duel = await judge.compare(client, instruction, first, second)                # two calls, one in each order
    marks = await judge.score(client, instruction, text, rubric="5: ... 1: ...")  # one text
    records = judge.ratings(marks, [text_record.id, ...])
    vote = judge.vote(duel, first_record.id, second_record.id)

The dimensions are UltraFeedback's (Cui et al. 2023, arXiv:2310.01377). Nothing is guessed: an answer with a rating too few,
too many, out of its place or off its scale is sent back once, and is a Failure after that: of reason "parse" when it
cannot be read, "rating" when it can."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from workbench import intervals
from workbench.errors import InputError, PromptError
from workbench.intervals import Interval
from workbench.llm.answers import Answer, ask
from workbench.llm.client import Client
from workbench.prompts.library import Prompt, load
from workbench.records import Failure, Provenance, Rating, Vote, content_hash

DIMENSIONS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
SCALE = (1, 2, 3, 4, 5)
MOST_TEXTS = 8  # in one call: with more, small models lose count

_MAY_BE_ABSENT = {"honesty"}  # a poem claims nothing
_ABSENT = "N/A"
_SWAPPED = {"first": "second", "second": "first", "tie": "tie"}


# --- what comes back --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rated:
    """What one text got: 1 to 5, or None where the dimension does not apply to it, and why."""

    value: float | None
    rationale: str = ""


@dataclass(frozen=True)
class Marks:
    """A rating for each text, in the order in which the texts were given. `order` is how they were shown: at place k stood
    text `order[k]`."""

    dimension: str
    ratings: tuple[Rated, ...]
    order: tuple[int, ...]
    answer: Answer = field(repr=False)


@dataclass(frozen=True)
class Duel:
    """The better of two texts: "first", "second" or "tie".

    `verdicts` are those of the two orders, both in terms of the texts as given. They differ where `is_flip`, and then
    nobody wins."""

    winner: str
    verdicts: tuple[str, str]
    rationales: tuple[str, str]
    answers: tuple[Answer, Answer] = field(repr=False)

    @property
    def is_flip(self) -> bool:
        return self.verdicts[0] != self.verdicts[1]


# --- asking -----------------------------------------------------------------------------------------------------------


async def rate(
    client: Client,
    instruction: str,
    texts: Sequence[str],
    *,
    dimension: str,
    seed: int = 0,
    prompt: Prompt | None = None,
) -> Marks | Failure:
    """Return a rating of each text in one of DIMENSIONS, from one call over all of them.

    They are shown in an order that `seed`, dimension, instruction and the texts themselves decide: the same texts, given
    in any order, are the same request. Takes 1 to MOST_TEXTS texts. Raises InputError for an empty text, which no judge
    needs to see, and CallFailed when a request gets no usable answer."""
    if dimension not in DIMENSIONS:
        raise InputError(
            f"there is no dimension {dimension!r}. Use one of {', '.join(DIMENSIONS)}, or score() with a rubric."
        )
    if not 1 <= len(texts) <= MOST_TEXTS:
        raise InputError(
            f"a judge rates 1 to {MOST_TEXTS} texts in one call, got {len(texts)}. Rate the rest in another."
        )
    _refuse_empty(instruction=instruction, **{f"text {at}": text for at, text in enumerate(texts)})
    prompt = _fitting(prompt or _load(f"judge/{dimension}@1"), {"instruction", "count", "texts"}, {"ratings"})
    order = sorted(range(len(texts)), key=lambda at: content_hash([seed, dimension, instruction, texts[at]]))
    shown = numbered([texts[at] for at in order], beside=instruction)
    may_be_absent = dimension in _MAY_BE_ABSENT
    answer = await ask(
        client,
        prompt,
        _given(prompt, instruction=instruction, texts=shown, count=str(len(texts))),
        check=lambda values: _wrong_ratings(values["ratings"], len(texts), may_be_absent),
    )
    if isinstance(answer, Failure):
        return answer
    places = {at: place for place, at in enumerate(order)}
    rated = [Rated(_value(entry["rating"], may_be_absent), entry["rationale"]) for entry in answer["ratings"]]
    return Marks(dimension, tuple(rated[places[at]] for at in range(len(texts))), tuple(order), answer)


async def score(
    client: Client, instruction: str, text: str, *, rubric: str, prompt: Prompt | None = None
) -> Marks | Failure:
    """Return the rating of one text, 1 to 5, by a rubric in words of one's own; its dimension is called "rubric"."""
    _refuse_empty(instruction=instruction, text=text, rubric=rubric)
    prompt = _fitting(prompt or _load("judge/rubric@1"), {"instruction", "rubric", "text"}, {"rationale", "rating"})
    values = _given(prompt, instruction=instruction, rubric=rubric, text=text)
    answer = await ask(client, prompt, values, check=lambda values: _wrong_rating(values["rating"], "the text"))
    if isinstance(answer, Failure):
        return answer
    return Marks("rubric", (Rated(_value(answer["rating"]), answer["rationale"]),), (0,), answer)


async def compare(
    client: Client, instruction: str, first: str, second: str, *, prompt: Prompt | None = None
) -> Duel | Failure:
    """Return which of two texts is better, asked in both orders.

    A win counts only when both orders agree, as in MT-bench (Zheng et al. 2023, arXiv:2306.05685): a judge that changes
    its mind with the order, be it from one text to the other or between a text and a tie, says tie with `is_flip`. The
    second order is not asked when the first has failed."""
    _refuse_empty(instruction=instruction, first=first, second=second)
    prompt = _fitting(prompt or _load("judge/pair@1"), {"instruction", "texts"}, {"rationale", "better"})
    answers = []
    for texts in ((first, second), (second, first)):
        values = _given(prompt, instruction=instruction, texts=numbered(texts, beside=instruction))
        answer = await ask(client, prompt, values, check=_wrong_verdict)
        if isinstance(answer, Failure):
            paid = tuple(completion.key for earlier in answers for completion in earlier.completions)
            return dataclasses.replace(answer, requests=(*paid, *answer.requests))
        answers.append(answer)
    as_given, swapped = (_word(answer["better"]) for answer in answers)
    verdicts = (as_given, _SWAPPED[swapped])
    winner = as_given if as_given == verdicts[1] else "tie"
    return Duel(winner, verdicts, (answers[0]["rationale"], answers[1]["rationale"]), (answers[0], answers[1]))


def numbered(texts: Sequence[str], *, beside: str = "") -> str:
    """Return the texts between tags with their numbers, counted from 1: `<text_1>`, or `<text_x_1>` and so on where a text,
    or what stands `beside` them, holds something like such a tag. So no text can end early or add another."""
    held = re.findall(r"<(?:\s*/)?\s*text((?:_x)*)", "\n".join([*texts, beside]), re.IGNORECASE)
    tag = "text" + ("_x" * (max(map(len, held)) // 2 + 1) if held else "")
    return "\n".join(f"<{tag}_{number}>\n{text}\n</{tag}_{number}>" for number, text in enumerate(texts, 1))


@cache
def _load(ref: str) -> Prompt:
    return load(ref)


def _refuse_empty(**texts: str) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            got = "empty" if isinstance(text, str) else f"a {type(text).__name__}"
            raise InputError(f"the judge's {name} is {got}. Leave it out, and count it as a loss of whoever wrote it.")


def _fitting(prompt: Prompt, variables: set[str], outputs: set[str]) -> Prompt:
    """The prompt, when a judge can ask it; it need not say how many texts there are."""
    if not (variables - {"count"} <= prompt.variables.keys() <= variables and outputs <= prompt.outputs.keys()):
        wanted = f"takes {', '.join(sorted(variables))} and gives {', '.join(sorted(outputs))}"
        got = f"takes {', '.join(prompt.variables)} and gives {', '.join(prompt.outputs)}"
        raise PromptError(f"{prompt.ref} {got}; the prompt of this judge {wanted}.")
    return prompt


def _given(prompt: Prompt, **values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name in prompt.variables}


# --- reading ----------------------------------------------------------------------------------------------------------


def _wrong_ratings(entries: Sequence[Any], count: int, may_be_absent: bool) -> Failure | None:
    """What is wrong with a list of ratings; None for one good entry for each text, in order."""
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            return Failure("parse", f"entry {number} of ratings should be an object, got {_short(entry)}")
        if missing := [name for name in ("text", "rationale", "rating") if name not in entry]:
            return Failure("parse", f"entry {number} of ratings lacks {missing[0]!r}")
        if not isinstance(entry["rationale"], str):
            return Failure("parse", f"the rationale of entry {number} should be text, got {_short(entry['rationale'])}")
    if len(entries) != count:
        return Failure("rating", f"there are {len(entries)} ratings for {count} texts")
    for number, entry in enumerate(entries, 1):
        if _whole(entry["text"]) != number:
            return Failure(
                "rating", f"entry {number} should be for text {number}, and says text {_short(entry['text'])}"
            )
        if wrong := _wrong_rating(entry["rating"], f"text {number}", may_be_absent):
            return wrong
    return None


def _wrong_rating(rating: Any, name: str, may_be_absent: bool = False) -> Failure | None:
    if _whole(rating) in SCALE or (may_be_absent and _is_absent(rating)):
        return None
    wanted = f"a whole number from {SCALE[0]} to {SCALE[-1]}" + (f', or "{_ABSENT}"' if may_be_absent else "")
    return Failure("rating", f"the rating of {name} should be {wanted}, got {_short(rating)}")


def _wrong_verdict(values: Mapping[str, Any]) -> Failure | None:
    if _word(values["better"]) in _SWAPPED:
        return None
    return Failure("rating", f'better should be "first", "second" or "tie", got {_short(values["better"])}')


def _value(rating: Any, may_be_absent: bool = False) -> float | None:
    return None if may_be_absent and _is_absent(rating) else float(_whole(rating))


def _whole(value: Any) -> int | None:
    """The whole number that a value is or, as text, spells; None for anything else, such as 4.0 and true."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]\s*", value):
        return int(value)
    return value if type(value) is int else None


def _is_absent(rating: Any) -> bool:
    return isinstance(rating, str) and rating.strip().upper() == _ABSENT


def _word(value: str) -> str:
    return value.strip().lower()


def _short(value: Any) -> str:
    return repr(value)[:60]


# --- records ----------------------------------------------------------------------------------------------------------


def ratings(marks: Marks, subjects: Sequence[str], dimension: str = "", *, recipe: str = "judge") -> list[Rating]:
    """Return the marks as records, one for each text; `subjects` are the ids of the rated records, in the order in which
    the texts were given. `dimension` names what a rubric measures."""
    if len(subjects) != len(marks.ratings):
        raise InputError(f"{len(marks.ratings)} texts were rated, and {len(subjects)} ids are given for them.")
    if dimension not in ("", marks.dimension) and marks.dimension in DIMENSIONS:
        raise InputError(
            f"these are ratings of {marks.dimension}, not of {dimension!r}. Only a rubric's are named here."
        )
    return [
        Rating(
            subject,
            dimension or marks.dimension,
            rated.value,
            rater=marks.answer.completions[-1].model,
            rationale=rated.rationale,
            provenance=marks.answer.provenance(recipe, parents=(subject,)),
        )
        for subject, rated in zip(subjects, marks.ratings, strict=True)
    ]


def vote(duel: Duel, first: str, second: str, *, recipe: str = "judge") -> Vote:
    """Return the duel as a record; `first` and `second` are the ids of the compared records."""
    made = [answer.provenance(recipe, parents=(first, second)) for answer in duel.answers]
    return Vote(
        first,
        second,
        duel.winner,
        rater=" + ".join(dict.fromkeys(each.model for each in made)),
        rationale=f"{duel.rationales[0]}\n\nIn the other order: {duel.rationales[1]}",
        is_flip=duel.is_flip,
        provenance=_joined(*made),
    )


def _joined(one: Provenance, other: Provenance) -> Provenance:
    return dataclasses.replace(one, requests=(*one.requests, *other.requests), repaired=one.repaired or other.repaired)


# --- is it to be trusted? ---------------------------------------------------------------------------------------------


def flip_rate(duels: Iterable[Duel | Vote]) -> Interval:
    """Return the share of duels, or of votes, whose verdict changed with the order, with Wilson's interval.

    Duels count as independent: where a prompt has several, take `biases.position_report`, which knows prompts. Raises InputError when there is none, and for a vote that was not asked for in both orders."""
    flips = [duel.is_flip for duel in duels]
    if not flips or None in flips:
        what = "a vote was not asked for in both orders" if flips else "there are no duels"
        raise InputError(f"{what}, so that there is no flip rate. Give what compare() returned, without its failures.")
    return Interval(sum(flips) / len(flips), *intervals.wilson(sum(flips), len(flips)), len(flips))


# By what a model's name says. "ollama" serves models of every family, and AlpacaEval's annotators are named after it.
_FAMILY = re.compile(
    r"(?P<llama>(?<!o)llama|vicuna|alpaca)|(?P<eleutherai>gpt-?(?:j|neo)|pythia)|(?P<gpt>gpt|davinci|^o[1-9](?![0-9a-z]))|(?P<qwen>qwen|qwq|qvq)"
    r"|(?P<claude>claude)|(?P<mistral>mi[sx]tral|ministral|magistral|codestral|devstral|pixtral|zephyr)|(?P<gemma>gemma)"
    r"|(?P<gemini>gemini)|(?P<deepseek>deepseek)|(?P<phi>\bphi(?=-?\d))"
)


def family(model: str) -> str:
    """Return the family that a model's name points to, such as "llama" of "meta-llama/Llama-3.1-8B-Instruct".

    Where it points to several, the first; where to none that is known, the first word of the name, without its owner: "smollm" of
    "HuggingFaceTB/SmolLM2-135M"; "" for an empty name."""
    return next(iter(_families(model)), "")


def _families(model: str) -> list[str]:
    """All families that a name points to: a distilled model is of its teacher's and of its own."""
    path = model.lower().lstrip("@").partition("@")[0].strip("/ ")
    path = re.sub(r"(?:weighted_)?alpaca_eval_", "", path)
    name = path.rpartition("/")[2]
    for part in (name, path):
        if found := [str(each.lastgroup) for each in _FAMILY.finditer(part)]:
            return found
    word = re.search(r"[^\W\d_]+", name)
    return [word[0] if word else name]


def same_family_warning(judge_model: str, writer_models: Iterable[str]) -> str:
    """Return a sentence on the writers that are of the judge's own family, "" when there is none.

    Judges rate texts of their own kind too high: Panickssery et al. 2024, arXiv:2404.13076."""
    own = {family for family in _families(judge_model) if family}
    related = [model for model in dict.fromkeys(writer_models) if own.intersection(_families(model))]
    if not related:
        return ""
    shared = ", ".join(sorted(own.intersection(*[_families(model) for model in related[:1]])))
    return (
        f"The judge {judge_model} is of the family {shared}, as {', '.join(related)} {'is' if len(related) == 1 else 'are'} among the writers: "
        "judges tend to prefer texts of their own kind. Use a judge of another family, or compare it with people for these writers."
    )
