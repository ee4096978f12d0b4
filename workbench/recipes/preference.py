"""Completions of several models for each prompt, each under a principle, then rated by a judge in every dimension.

After UltraFeedback (Cui et al. 2023, arXiv:2310.01377): `each` different writers of a pool answer a prompt, once each, and
each completion has a principle of its own, in one of several wordings. The judge sees all completions of a prompt at once,
in a shuffled order, one dimension at a time (`llm.judge`). Where its published code and its description differ, the
description is followed: the principles have the shares that it states for ShareGPT and UltraChat. Pairs are another
step: `quality.pairs`.

    pool = llm.Pool(small=..., medium=..., large=..., huge=..., judge=...)
    plan = preference.plan("prompts.txt", writers=("small", "medium", "large", "huge"))
    run = runner.run(preference.make, plan, client=pool, out="data/runs/preference")"""

import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from workbench import prompts, store
from workbench.errors import CallFailed, InputError
from workbench.llm import Client, ask, to
from workbench.llm.judge import DIMENSIONS, MOST_TEXTS, Marks, rate, ratings, same_family_warning
from workbench.prompts import Prompt
from workbench.records import Failure, Instruction, Rating, Record, by_id, content_hash
from workbench.runner import Plan

# The frozen prompts of each principle: the same in other words, so that no model learns one sentence by heart.
PRINCIPLES: dict[str, tuple[str, ...]] = {
    name: tuple(f"preference/{name}_{number}@1" for number in range(1, count + 1))
    for name, count in (("helpfulness", 4), ("honesty", 4), ("truthfulness", 4), ("verbalized_calibration", 3))
}
BARE = "preference/bare@1"  # the prompt alone, for models that know no system message


@dataclass(frozen=True)
class Style:
    """Under which principles completions are written: how often each is drawn, the share of honesty that asks for stated
    confidence instead (`calibrated`), and the writers that get no system message and so no principle."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: {"helpfulness": 0.6, "truthfulness": 0.2, "honesty": 0.2}
    )
    calibrated: float = 0.1
    without_system: tuple[str, ...] = ()

    def __post_init__(self):
        if unknown := self.weights.keys() - PRINCIPLES.keys():
            raise InputError(f"there is no principle {min(unknown)!r}; there are {', '.join(PRINCIPLES)}.")
        if not sum(self.weights.values()) > 0 or min(self.weights.values()) < 0 or not 0 <= self.calibrated <= 1:
            raise InputError(
                f"weights are zero or more and not all zero, calibrated is a share; got {dict(self.weights)} and {self.calibrated}."
            )


@dataclass(frozen=True)
class Writer:
    """A member of the pool, and what it is told for one prompt; the principle is "" without a system message."""

    name: str
    principle: str
    prompt: Prompt


@dataclass(frozen=True)
class Task:
    """One prompt with its writers, and how their completions are judged."""

    instruction: Instruction
    writers: tuple[Writer, ...]
    judge: str
    dimensions: tuple[str, ...]
    seed: int


def plan(
    instructions: Sequence[Instruction] | str | os.PathLike[str],
    *,
    writers: Sequence[str],
    each: int = 4,
    judge: str = "judge",
    dimensions: Sequence[str] = DIMENSIONS,
    seed: int = 0,
    style: Style = Style(),
) -> Plan:
    """Return a plan of one task a prompt: `each` different ones of the `writers`, by their names in the pool.

    `instructions` are records, whose outputs are ignored, or a file: .txt with a prompt a line, .jsonl or .parquet with
    "instruction" or "prompt" and perhaps "input". Blank prompts and repeated ones are left out, and the run says how
    many. What is drawn for a prompt depends on its text and the seed, not on the prompts around it. Raises InputError for
    fewer writers than `each`, and when there is no prompt."""
    _check_names(writers, each, judge, dimensions, style)
    given = _read(Path(instructions)) if isinstance(instructions, str | os.PathLike) else list(instructions)
    kept, left_out = _distinct(given)
    if not kept:
        raise InputError(f"there is no prompt: {len(given):,} were given and all are blank. Give some text to answer.")
    frozen = {name: tuple(map(prompts.load, refs)) for name, refs in PRINCIPLES.items()}
    bare = prompts.load(BARE)

    def draw() -> Iterator[Task]:
        for instruction in kept:
            rng = random.Random(f"preference/{seed}/{instruction.asked.strip()}")
            told = []
            for name in rng.sample(list(writers), each):
                principle = _principle(style, rng)
                writer = Writer(name, principle, rng.choice(frozen[principle]))
                told.append(Writer(name, "", bare) if name in style.without_system else writer)
            yield Task(instruction, tuple(told), judge, tuple(dimensions), rng.getrandbits(32))

    settings = {
        "recipe": "preference", "writers": list(writers), "each": each, "judge": judge, "dimensions": list(dimensions), "seed": seed,
        "weights": dict(style.weights), "calibrated": style.calibrated, "without_system": list(style.without_system),
        "prompts": len(kept), "instructions": content_hash(sorted(instruction.id for instruction in kept)), **left_out,
    }  # fmt: skip
    return Plan(draw, total=len(kept), settings=settings, notes=lambda client: _notes(settings, client))


def _check_names(writers: Sequence[str], each: int, judge: str, dimensions: Sequence[str], style: Style) -> None:
    if isinstance(writers, str) or len(set(writers)) < len(writers):
        raise InputError(
            f"writers are different names of a pool's members, such as ('small', 'large'); got {writers!r}."
        )
    if not 2 <= each <= MOST_TEXTS:
        raise InputError(f"each={each}: a judge compares 2 to {MOST_TEXTS} completions of a prompt. Ask for as many.")
    if len(writers) < each:
        raise InputError(
            f"each={each} needs {each} different writers, and there are {len(writers)}: {', '.join(writers) or 'none'}. "
            "Add members to the pool and name them here, or ask for fewer completions of a prompt."
        )
    if judge in writers:
        raise InputError(
            f"{judge!r} is to judge and to write. A judge that rates its own text is no judge: name another."
        )
    if isinstance(dimensions, str) or not dimensions or len(set(dimensions)) < len(dimensions):
        raise InputError(f"dimensions are different names, such as {DIMENSIONS[:2]}; got {dimensions!r}.")
    if unknown := set(dimensions) - set(DIMENSIONS):
        raise InputError(f"there is no dimension {min(unknown)!r}. Use some of {', '.join(DIMENSIONS)}.")
    if unknown := set(style.without_system) - set(writers):
        raise InputError(f"without_system names {min(unknown)!r}, which is no writer; there are {', '.join(writers)}.")


def _principle(style: Style, rng: random.Random) -> str:
    (drawn,) = rng.choices(list(style.weights), list(style.weights.values()))
    return "verbalized_calibration" if rng.random() < style.calibrated and drawn == "honesty" else drawn


def _notes(settings: Mapping[str, Any], client: Client) -> list[str]:
    """What to know of a run: prompts that were left out, and a judge of the family of a writer.

    Raises ClientError when the client has no member of a name that the plan asks for."""
    found = [
        f"{settings[name]:,} of the prompts given {'is' if settings[name] == 1 else 'are'} {what}"
        for name, what in (("blank", "blank and left out."), ("repeated", "there more than once, and asked once."))
        if settings[name]
    ]
    family = same_family_warning(
        to(client, settings["judge"]).model, [to(client, name).model for name in settings["writers"]]
    )
    return [*found, family] if family else found


async def make(task: Task, client: Client) -> list[Record | Failure]:
    """Return the completions of a prompt, then their ratings, then what was lost; a loss never takes the others with it.

    A Rating is of a completion (`subject`) by the judge, None where the dimension does not apply to it. The principle of a
    completion is in its provenance: `principle_of`. Reasons: those of a request ("timeout", "length", ...), "parse" and
    the judge's own, and "too_few" where fewer than 2 different completions are left and nothing is judged. Raises
    CallFailed when no writer could be reached, or none may be asked any more."""
    judging = to(client, task.judge)  # before anything is paid for: a pool may lack a judge
    outcomes = [await _completion(task, writer, client) for writer in task.writers]
    completions = [outcome for outcome in outcomes if isinstance(outcome, Instruction)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if not completions and all(loss.reason in CallFailed.REASONS and not loss.raw for loss in lost):
        raise CallFailed(lost[-1].reason, f"none of {len(lost)} writers answered; {lost[-1].detail}")
    texts = list(by_id(completions).values())  # two writers may have written the same
    if len(texts) < 2:
        same = ", all with the same text" if len(completions) > 1 else ""
        too_few = f"{len(completions)} of {len(task.writers)} writers gave a completion{same}: nothing to compare"
        return [*completions, *lost, Failure("too_few", too_few)]
    rated: list[Rating] = []
    for dimension in task.dimensions:
        marks = await _judged(task, texts, dimension, judging)
        if isinstance(marks, Failure):
            lost.append(marks)
        else:
            rated += ratings(marks, [text.id for text in texts], recipe="preference")
    return [*completions, *rated, *lost]


async def _completion(task: Task, writer: Writer, client: Client) -> Instruction | Failure:
    try:
        answer = await ask(to(client, writer.name), writer.prompt, {"instruction": task.instruction.asked})
    except CallFailed as error:
        answer = _as_failure(error)
    if isinstance(answer, Failure):
        return replace(answer, detail=f"{writer.name}: {answer.detail}")
    origin = answer.provenance(
        "preference", operation="distillation", seed_kinds=("instruction",), parents=(task.instruction.id,)
    )
    return Instruction(task.instruction.instruction, task.instruction.input, answer["answer"], provenance=origin)


async def _judged(task: Task, texts: Sequence[Instruction], dimension: str, judging: Client) -> Marks | Failure:
    written = [text.output or "" for text in texts]
    try:
        marks = await rate(judging, task.instruction.asked, written, dimension=dimension, seed=task.seed)
    except CallFailed as error:
        marks = _as_failure(error)
    return replace(marks, detail=f"{dimension}: {marks.detail}") if isinstance(marks, Failure) else marks


def _as_failure(error: CallFailed) -> Failure:
    if error.fatal:
        raise error  # no other request can succeed either: the run is to stop
    return Failure(error.reason, error.detail, raw=error.raw)


def principle_of(completion: Record) -> str:
    """Return the principle under which a completion was written, "" where there was none."""
    found = re.match(r"preference/(\w+)_\d+@", completion.provenance.prompt)
    return found[1] if found else ""


# --- prompts given ----------------------------------------------------------------------------------------------------


def _distinct(given: Sequence[Instruction]) -> tuple[list[Instruction], dict[str, int]]:
    """The prompts that have some text, the first of each text, and how many were blank and how many repeated."""
    if other := next((each for each in given if not isinstance(each, Instruction)), None):
        raise InputError(f"prompts are Instruction records or the path of a file, got a {type(other).__name__}.")
    there = [each for each in given if each.asked.strip()]
    first: dict[str, Instruction] = {}
    for each in there:
        first.setdefault(each.asked.strip(), each)
    return list(first.values()), {"blank": len(given) - len(there), "repeated": len(there) - len(first)}


def _read(path: Path) -> list[Instruction]:
    """The prompts of a file, in order, blank ones too."""
    if path.suffix == ".parquet":
        table = store.read_table(path)
        if "provenance" in table.column_names:
            return store.read(path)  # records of the workbench keep their ids
        return [_of_row(row, f"{path}, row {number}") for number, row in enumerate(table.to_pylist(), 1)]
    if path.suffix not in (".txt", ".jsonl"):
        raise InputError(
            f"{path}: prompts are read from .txt (one a line), .jsonl and .parquet files. Convert it first."
        )
    lines = _lines(path)
    if path.suffix == ".txt":
        return [Instruction(line.strip()) for line in lines]
    return [
        _of_row(_object(line, f"{path}, line {number}"), f"{path}, line {number}") if line.strip() else Instruction("")
        for number, line in enumerate(lines, 1)
    ]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}). Convert it, for example with iconv.") from None
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")  # splitlines() would cut at U+2028, which is text


def _object(line: str, where: str) -> Any:
    try:
        return orjson.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}. Mend it, or leave the line out.") from None


def _of_row(row: Any, where: str) -> Instruction:
    """The prompt of a row that has "instruction" or "prompt" and perhaps "input"; other columns are somebody else's."""
    row = row if isinstance(row, dict) else {}
    name = next((name for name in ("instruction", "prompt") if name in row), "")
    if not name:
        raise InputError(f"{where} has no 'instruction' and no 'prompt'; it has {', '.join(row) or 'no columns'}.")
    found = {field: "" if row.get(field) is None else row[field] for field in (name, "input")}
    if wrong := [field for field, value in found.items() if not isinstance(value, str)]:
        raise InputError(
            f"{where}: {wrong[0]} must be text, got {type(found[wrong[0]]).__name__}. A conversation is no prompt here: give its last question."
        )
    return Instruction(found[name], found["input"])
