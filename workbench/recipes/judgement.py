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
from workbench.llm.judge import DIMENSIONS, MOST_TEXTS, compare, rate, ratings, same_family_warning, vote
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
    twice, are judged once or not at all. More answers to a prompt than a judge can rate at once are rated in equal parts.
    `judge` names a member of a pool. Raises InputError when no prompt has two answers."""
    if unknown := set(dimensions) - set(DIMENSIONS):
        raise InputError(f"there is no dimension {min(unknown)!r}. Use some of {', '.join(DIMENSIONS)}.")
    by_prompt: dict[tuple[str, str], dict[str, Instruction]] = {}
    written = [text for text in texts if text.output and text.output.strip()]
    for text in written:
        by_prompt.setdefault((text.instruction, text.input), {}).setdefault((text.output or "").strip(), text)
    groups = [tuple(answers.values()) for answers in by_prompt.values() if len(answers) > 1]
    left_out = {
        "blank": len(texts) - len(written),
        "repeated": len(written) - sum(map(len, by_prompt.values())),
        "alone": len(by_prompt) - len(groups),
    }
    if not groups:
        raise InputError(
            f"none of {len(texts):,} texts shares its prompt with another. A judge compares answers to one prompt."
        )

    def draw() -> Iterator[Task]:
        for group in groups:
            if duels:
                yield from (Task(pair, "", judge, seed) for pair in combinations(group, 2))
            yield from (Task(part, dimension, judge, seed) for part in _parts(group) for dimension in dimensions)

    total = sum((len(g) * (len(g) - 1) // 2 if duels else 0) + len(dimensions) * len(_parts(g)) for g in groups)
    settings = {
        "recipe": "judgement", "dimensions": list(dimensions), "duels": duels, "judge": judge, "seed": seed, "prompts": len(groups),
        "texts": content_hash(sorted(text.id for text in texts)),
    }  # fmt: skip
    models = tuple(dict.fromkeys(text.provenance.model for group in groups for text in group if text.provenance.model))

    def notes(client: Client) -> list[str]:
        said = [f"{count:,} {_LEFT_OUT[name]}." for name, count in left_out.items() if count]
        family = same_family_warning((to(client, judge) if judge else client).model, models)
        return [*said, family] if family else said

    return Plan(draw, total=total, settings=settings | left_out, notes=notes)


def _parts(group: tuple[Instruction, ...]) -> list[tuple[Instruction, ...]]:
    count = -(-len(group) // MOST_TEXTS)
    return [group[len(group) * at // count : len(group) * (at + 1) // count] for at in range(count)]


_LEFT_OUT = {
    "blank": "texts are blank and not judged",
    "repeated": "texts say the same as another one to their prompt, and are not judged again",
    "alone": "texts are the only one to their prompt, and not judged",
}


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
