"""Judgements of texts that are there: duels in both orders, and ratings in each dimension, by a judge that is to be checked.

    texts = imports.pandalm(folder).instructions                 # several answers to each prompt
    run = runner.run(judgement.make, judgement.plan(texts), client=judge, out="data/runs/judged")
    votes = store.query("SELECT * FROM vote", run=run)

The rules of asking are `llm.judge`'s. For completions that are still to be written there is `recipes.preference`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from workbench.errors import InputError
from workbench.llm import Client, to
from workbench.llm.judge import DIMENSIONS, MOST_TEXTS, compare, rate, ratings, vote
from workbench.records import Failure, Instruction, Rating, Vote, content_hash
from workbench.runner import Plan


@dataclass(frozen=True)
class Task:
    """Answers to one prompt, in their order, and what is asked of them: a rating in `dimension`, or "" which is better."""

    texts: tuple[Instruction, ...]
    dimension: str
    judge: str
    seed: int


def plan(
    texts: Sequence[Instruction],
    *,
    dimensions: Sequence[str] = DIMENSIONS,
    duels: bool = True,
    judge: str = "",
    seed: int = 0,
) -> Plan:
    """Return a plan that judges the answers to each prompt: each two of them in a duel, all of them in each dimension.

    Texts are answers to the same prompt where instruction and input are equal; blank answers, and texts that a prompt has
    twice, are judged once or not at all. `judge` names a member of a pool. Raises InputError when no prompt has two answers,
    and for more answers to one prompt than a judge can rate at once."""
    if unknown := set(dimensions) - set(DIMENSIONS):
        raise InputError(f"there is no dimension {min(unknown)!r}. Use some of {', '.join(DIMENSIONS)}.")
    by_prompt: dict[tuple[str, str], dict[str, Instruction]] = {}
    for text in texts:
        if text.output and text.output.strip():
            by_prompt.setdefault((text.instruction, text.input), {}).setdefault(text.output.strip(), text)
    groups = [tuple(answers.values()) for answers in by_prompt.values() if len(answers) > 1]
    if not groups:
        raise InputError(
            f"none of {len(texts):,} texts shares its prompt with another. A judge compares answers to one prompt."
        )
    if dimensions and (most := max(map(len, groups))) > MOST_TEXTS:
        raise InputError(
            f"a prompt has {most} answers, and a judge rates {MOST_TEXTS} at once. Give fewer, or dimensions=()."
        )

    def draw() -> Iterator[Task]:
        for group in groups:
            if duels:
                yield from (Task(pair, "", judge, seed) for pair in combinations(group, 2))
            yield from (Task(group, dimension, judge, seed) for dimension in dimensions)

    total = sum((len(g) * (len(g) - 1) // 2 if duels else 0) + len(dimensions) for g in groups)
    settings = {
        "recipe": "judgement", "dimensions": list(dimensions), "duels": duels, "judge": judge, "seed": seed, "prompts": len(groups),
        "texts": content_hash(sorted(text.id for text in texts)),
    }  # fmt: skip
    return Plan(draw, total=total, settings=settings)


async def make(task: Task, client: Client) -> list[Rating] | Vote | Failure:
    """Return the vote of a duel, or a rating of each text; a Failure ("parse", "rating") where the judge broke the rules."""
    judge = to(client, task.judge) if task.judge else client
    asked = task.texts[0].asked
    written = [text.output or "" for text in task.texts]
    if task.dimension:
        marks = await rate(judge, asked, written, dimension=task.dimension, seed=task.seed)
        return (
            marks
            if isinstance(marks, Failure)
            else ratings(marks, [text.id for text in task.texts], recipe="judgement")
        )
    duel = await compare(judge, asked, *written)
    return duel if isinstance(duel, Failure) else vote(duel, task.texts[0].id, task.texts[1].id, recipe="judgement")
