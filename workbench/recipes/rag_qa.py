"""Question, answer and quoted evidence for passages of documents; unanswerable controls and hard negatives with them.

A row is only made when its evidence is really in its passage, at offsets that are recorded. A persona changes who asks
and from what angle, never what is true: the answer comes from the passage. An unanswerable control pairs a question with
the passage that looks most like an answer and is none; the model that answers `rag/answerable` is asked to make sure."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench import prompts
from workbench.corpus import Chunk, Corpus, locate
from workbench.errors import InputError
from workbench.llm import Client, ask
from workbench.llm.answers import Answer
from workbench.prompts import Prompt
from workbench.records import QA, Document, Failure, Passage, Persona, Provenance, Span, content_hash
from workbench.runner import Plan

# The first word names the kind; the rest tells a model what is meant.
KINDS = (
    "fact (who, what, which or where)",
    "definition (what something is or means)",
    "number (how many, how much, how long, which limit)",
    "procedure (how something is done)",
    "reason (why something is so, or is done)",
    "condition (what happens when, or under which condition)",
    "comparison (how two things differ, or which one to choose)",
)


# Scripts that set no blanks: a character is a word, or an answer inside a sentence would never be found.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


@dataclass(frozen=True)
class Mix:
    """What a plan is made of: the share of unanswerable controls, hard negatives a row, and the size of passages in
    characters."""

    unanswerable: float = 0.1
    negatives: int = 3
    characters: tuple[int, int] = (500, 1500)


@dataclass(frozen=True)
class Task:
    """One question to ask."""

    chunk: Chunk
    prompt: Prompt
    kind: str
    sample: int
    corpus: Corpus
    negatives: int
    persona: Persona | None = None
    check: Prompt | None = None

    @property
    def is_control(self) -> bool:
        return self.check is not None


def plan(
    documents: Sequence[Document] | Corpus,
    *,
    prompt: Prompt | None = None,
    per_chunk: int = 1,
    personas: Sequence[Persona] = (),
    seed: int = 0,
    mix: Mix = Mix(),
) -> Plan:
    """Return a plan of `per_chunk` questions for every passage, and for every persona where some are given.

    Rounds go over all passages in a shuffled order, so that any first part of the plan is spread over all documents.
    The default prompt is rag/question@1, or rag/persona_question@1 with personas. Raises InputError when there is no
    passage, or when the prompt has no place for a persona that is given."""
    if not 0 <= mix.unanswerable < 1 or mix.negatives < 0 or per_chunk < 1:
        raise InputError(
            f"unanswerable must be in [0, 1), negatives 0 or more, per_chunk 1 or more; got {mix}, per_chunk={per_chunk}."
        )
    prompt = prompt or prompts.load("rag/persona_question@1" if personas else "rag/question@1")
    if ("persona" in prompt.variables) != bool(personas):
        has = "asks for a persona and none is given" if not personas else "has no place for a persona"
        raise InputError(f"{prompt.ref} {has}. Use rag/persona_question@1 with personas, and rag/question@1 without.")
    corpus = documents if isinstance(documents, Corpus) else Corpus.of(documents, characters=mix.characters)
    check = prompts.load("rag/answerable@1")
    rounds = per_chunk * max(1, len(personas))

    def draw() -> Iterator[Task]:
        for number in range(rounds):
            rng = random.Random(f"rag_qa/{seed}/{number}")
            for place in rng.sample(range(len(corpus)), len(corpus)):
                kind, is_control = rng.choice(KINDS), rng.random() < mix.unanswerable
                persona = personas[(place + number) % len(personas)] if personas else None
                yield Task(
                    corpus.chunks[place],
                    prompt,
                    kind,
                    number,
                    corpus,
                    mix.negatives,
                    persona,
                    check if is_control else None,
                )

    settings = {
        "recipe": "rag_qa", "prompt": prompt.id, "seed": seed, "per_chunk": per_chunk, "mix": mix, "personas": len(personas),
        "passages": len(corpus), "documents": content_hash(sorted({chunk.passage.span.document_id for chunk in corpus.chunks})),
    }  # fmt: skip
    return Plan(draw, total=rounds * len(corpus), settings=settings)


async def make(task: Task, client: Client) -> QA | Failure:
    """Return the task's row, or why there is none: "parse", "nothing_to_ask", "evidence", "no_negative", "answerable"."""
    passage = task.chunk.passage
    values = {"section": task.chunk.section, "passage": passage.text, "kind": task.kind}
    if task.persona is not None:
        values["persona"] = task.persona.text
    answer = await ask(client, task.prompt, values, sample=task.sample)
    if isinstance(answer, Failure):
        return answer
    row = read(answer.values, passage)
    if isinstance(row, Failure):
        return replace(row, raw=answer.raw)
    held = (row.evidence, row.answer)
    if task.is_control:
        return await _control(task, row.question, held, answer, client)
    negatives = hard_negatives(row.question, held, passage, task.corpus, task.negatives) if task.negatives else ()
    persona = task.persona.text if task.persona else None
    return replace(
        row, persona=persona, negatives=negatives, provenance=_provenance(task, answer, passage, "reformation")
    )


def read(fields: Mapping[str, str], passage: Passage) -> QA | Failure:
    """Return the bare row that an answer's fields make of a passage, or why there is none: "nothing_to_ask", "evidence"."""
    question, stated, evidence = (fields[name].strip() for name in ("question", "answer", "evidence"))
    if not question or not stated or "NONE" in (question, stated):
        return Failure("nothing_to_ask", "the model found nothing to ask in this passage")
    place = locate(evidence, passage.text)
    if place is not None and len(_WORD.findall(evidence)) < 2:
        return Failure("evidence", f"one word proves nothing: {evidence!r}")
    if place is None:
        return Failure("evidence", f"the evidence is not in the passage: {evidence[:200]!r}")
    span = Span(passage.span.document_id, *(passage.span.start + at for at in place))
    return QA(question, stated, passage.text[slice(*place)], passage, span)


async def _control(task: Task, question: str, held: tuple[str, str], answer: Answer, client: Client) -> QA | Failure:
    """The same question with the passage that looks most like an answer and does not hold it."""
    if not (wrong := hard_negatives(question, held, task.chunk.passage, task.corpus, 1)):
        return Failure(
            "no_negative", "no other passage shares a word with the question and lacks its answer", raw=answer.raw
        )
    assert task.check is not None
    checked = await ask(client, task.check, {"passage": wrong[0].text, "question": question})
    if isinstance(checked, Failure):
        return checked
    if checked["answerable"].strip().lower() != "no":
        return Failure("answerable", f"the control's passage does answer: {checked['quote'][:200]!r}", raw=checked.raw)
    provenance = _provenance(task, answer, wrong[0], "augmentation")
    provenance = replace(
        provenance,
        requests=provenance.requests + tuple(completion.key for completion in checked.completions),
        repaired=provenance.repaired or checked.is_repaired,
    )
    persona = task.persona.text if task.persona else None
    return QA(question, None, None, wrong[0], None, is_answerable=False, persona=persona, provenance=provenance)


def _provenance(task: Task, answer: Answer, passage: Passage, operation: str) -> Provenance:
    parents = dict.fromkeys([passage.span.document_id, task.chunk.passage.span.document_id])
    if task.persona is not None:
        parents[task.persona.id] = None
    return answer.provenance(
        "rag_qa", operation=operation, parents=tuple(parents), source=passage.span,
        seed_kinds=("document", "persona") if task.persona else ("document",),
    )  # fmt: skip


def hard_negatives(
    question: str, held: tuple[str, ...], own: Passage, corpus: Corpus, count: int
) -> tuple[Passage, ...]:
    """Return the passages that BM25 ranks highest for a question, without its own and any that holds one of the texts `held`
    (its evidence and its answer).

    Ranked over the whole corpus; (at most `count`,), hardest first."""
    found: list[Passage] = []
    for depth in (4 * count + 4, len(corpus)):  # the first few are nearly always enough
        ranked = (chunk.passage for chunk in corpus.search(question, depth))
        found = [
            passage for passage in ranked
            if not _overlap(passage.span, own.span) and not any(_holds(passage.text, words) for words in held)
        ][:count]  # fmt: skip
        if len(found) == count:
            break
    return tuple(found)


def _overlap(a: Span, b: Span) -> bool:
    return a.document_id == b.document_id and a.start < b.end and b.start < a.end


def _holds(text: str, words: str | None) -> bool:
    """True when the words stand in the text, whatever their case, marks and white space."""
    if words is None:
        return False
    return (
        _plain(words) in _plain(text) if _WORD.search(words) else words.strip() in text
    )  # an answer such as "->" has no words


def _plain(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "
