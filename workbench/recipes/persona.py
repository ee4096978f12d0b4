"""Text-to-Persona: invented people who stand in some relation to a passage (Ge et al. 2024, arXiv:2406.20094, section 2).

A persona adds variety, never knowledge: nothing it says may enter an answer."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench import prompts
from workbench.corpus import Chunk, Corpus
from workbench.errors import InputError
from workbench.llm import Client, ask
from workbench.prompts import Prompt
from workbench.records import Document, Failure, Persona, content_hash
from workbench.runner import Plan

RELATIONS = ("reader", "practitioner", "critic", "writer")


@dataclass(frozen=True)
class Task:
    """One person to invent."""

    chunk: Chunk
    prompt: Prompt
    relation: str
    sample: int


def plan(documents: Sequence[Document] | Corpus, *, count: int, prompt: Prompt | None = None, seed: int = 0) -> Plan:
    """Return a plan of `count` personas, spread over the passages in a shuffled order and over the four relations."""
    if count < 1:
        raise InputError(f"count must be 1 or more, got {count}.")
    prompt = prompt or prompts.load("persona/from_text@1")
    corpus = documents if isinstance(documents, Corpus) else Corpus.of(documents)

    def draw() -> Iterator[Task]:
        order = random.Random(f"persona/{seed}").sample(range(len(corpus)), len(corpus))
        for number in range(count):
            # A second time over the same passages asks for another relation, and draws a sample of its own.
            sample, place = divmod(number, len(corpus))
            yield Task(corpus.chunks[order[place]], prompt, RELATIONS[(place + sample) % len(RELATIONS)], sample)

    settings = {
        "recipe": "persona", "prompt": prompt.id, "seed": seed, "count": count, "passages": len(corpus),
        "documents": content_hash(sorted({chunk.passage.span.document_id for chunk in corpus.chunks})),
    }  # fmt: skip
    return Plan(draw, total=count, settings=settings)


async def make(task: Task, client: Client) -> Persona | Failure:
    """Return the task's persona, or why there is none: "parse", "nothing_to_describe"."""
    values = {"section": task.chunk.section, "passage": task.chunk.text, "relation": task.relation}
    answer = await ask(client, task.prompt, values, sample=task.sample)
    if isinstance(answer, Failure):
        return answer
    person = read(answer.values, task.relation)
    if isinstance(person, Failure):
        return replace(person, raw=answer.raw)
    span = task.chunk.passage.span
    origin = answer.provenance("persona", seed_kinds=("document",), parents=(span.document_id,), source=span)
    return replace(person, provenance=origin)


def read(fields: Mapping[str, str], relation: str) -> Persona | Failure:
    """Return the persona that an answer's fields describe, or why there is none: "nothing_to_describe"."""
    text = " ".join(fields["persona"].split())
    if not text or text == "NONE":
        return Failure("nothing_to_describe", "the model described nobody")
    return Persona(text, relation)
