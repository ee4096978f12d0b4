"""Personas: invented people from texts (Text-to-Persona), people around them (Persona-to-Persona), and what they ask for.

    first   = runner.run(persona.make, persona.plan(documents, count=100), client=client, out="data/runs/people")
    around  = runner.run(persona.make, persona.relatives(first.kept(), each=2), client=client, out="data/runs/around")
    wanted  = runner.run(persona.make, persona.requests(around.kept(), kinds=("instruction",)), client=client, out="...")

After Ge et al. 2024, arXiv:2406.20094, section 2: somebody stands in some relation to a text, and somebody else in some
relation to them, for up to six rounds. `personas.grow` does the rounds, without duplicates. What personas ask about a
document is `recipes.rag_qa` with `personas=`.

A persona adds variety, never knowledge: nothing it says may enter an answer."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench import prompts
from workbench.corpus import Chunk, Corpus
from workbench.errors import InputError
from workbench.llm import Client, ask
from workbench.prompts import Prompt
from workbench.records import Document, Failure, Instruction, Persona, Record, Trace, content_hash
from workbench.runner import Plan

# To a text. The prompts say what each means.
RELATIONS = ("reader", "practitioner", "critic", "writer")
# Of somebody to somebody else.
TIES = (
    "works with", "serves", "is served by", "teaches", "learns from", "cares for", "checks", "competes with",
    "disagrees with", "lives beside",
)  # fmt: skip

# What personas ask for, and what is drawn for each request.
KINDS: Mapping[str, tuple[str, ...]] = {
    "instruction": ("explain", "plan", "draft", "decide", "check", "find out", "ideas", "rework"),
    "problem": (
        "percentages", "rates and ratios", "units and amounts", "scheduling", "counting", "probability", "geometry",
        "averages", "logical deduction", "best of several choices",
    ),
    "tool_request": ("",),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One person to invent, from a text."""

    chunk: Chunk
    prompt: Prompt
    relation: str
    sample: int


@dataclass(frozen=True)
class Relative:
    """One person to invent, from another."""

    parent: Persona
    prompt: Prompt
    relation: str
    sample: int = 0


@dataclass(frozen=True)
class Request:
    """One thing for a persona to ask for; `tools` is the JSON list of what an assistant has, for a tool_request."""

    persona: Persona
    prompt: Prompt
    kind: str
    wanted: str
    sample: int
    tools: str = ""


def plan(documents: Sequence[Document] | Corpus, *, count: int, prompt: Prompt | None = None, seed: int = 0) -> Plan:
    """Return a plan of `count` personas, spread over the passages in a shuffled order and over the four relations.

    Finer texts give finer people: `Corpus.of(documents, characters=(150, 400))` has fine passages, `Corpus.whole(documents)`
    whole documents, and `Corpus.of(...) + Corpus.whole(...)` both."""
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


def relatives(
    personas: Sequence[Persona],
    *,
    each: int = 1,
    ties: Sequence[str] = TIES,
    prompt: Prompt | None = None,
    seed: int = 0,
) -> Plan:
    """Return a plan of `each` people around every persona, each in another of the `ties`; everybody once before anybody twice.

    The relation of a new persona is its tie to its parent: who "teaches" is a teacher of the parent. Past one of each
    tie, samples of their own are drawn. What is drawn for a persona depends on its id and the seed alone. Raises
    InputError when there is nobody."""
    people = _people(personas)
    check_ties(ties)
    if each < 1:
        raise InputError(f"each must be 1 or more, got {each}.")
    prompt = prompt or prompts.load("persona/from_person@1")

    def draw() -> Iterator[Relative]:
        for number in range(each):
            sample, place = divmod(number, len(ties))
            for parent in people:
                order = random.Random(f"relatives/{seed}/{parent.id}").sample(list(ties), len(ties))
                yield Relative(parent, prompt, order[place], sample)

    settings = {
        "recipe": "persona", "prompt": prompt.id, "seed": seed, "each": each, "ties": list(ties), "parents": len(people),
        "personas": content_hash(sorted(person.id for person in people)),
    }  # fmt: skip
    return Plan(draw, total=each * len(people), settings=settings)


def check_ties(ties: Sequence[str]) -> None:
    """Raise InputError for ties that are no names, or the same name twice: both would be the same request."""
    if isinstance(ties, str) or not ties or len(set(ties)) < len(ties):
        raise InputError(f"ties are different names such as {TIES[:2]}, got {ties!r}.")


def requests(
    personas: Sequence[Persona],
    *,
    kinds: Sequence[str] = ("instruction", "problem"),
    each: int = 1,
    tools: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Plan:
    """Return a plan of `each` requests of every kind for every persona: "instruction", "problem" or "tool_request".

    An instruction or a problem becomes an Instruction without output, a tool request a Trace without steps. `tools` are
    what an assistant has: objects with name, description and perhaps parameters, as functions of the OpenAI API have them,
    or such functions. Raises InputError for an unknown kind, and for a tool_request without tools."""
    people = _people(personas)
    if isinstance(kinds, str) or not kinds or (unknown := set(kinds) - KINDS.keys()):
        raise InputError(
            f"kinds are some of {', '.join(KINDS)}, got {kinds if isinstance(kinds, str) or not kinds else min(unknown)!r}."
        )
    if each < 1 or len(set(kinds)) < len(kinds):
        raise InputError(f"each must be 1 or more, and each kind there once; got {each} and {kinds!r}.")
    listed = _tools(tools) if "tool_request" in kinds else ""
    frozen = {kind: prompts.load(f"persona/{kind}@1") for kind in kinds}

    def draw() -> Iterator[Request]:
        for number in range(each):
            for person in people:
                for kind in kinds:
                    wanted = KINDS[kind]
                    order = random.Random(f"requests/{seed}/{kind}/{person.id}").sample(wanted, len(wanted))
                    sample, place = divmod(number, len(wanted))
                    yield Request(
                        person, frozen[kind], kind, order[place], sample, listed if kind == "tool_request" else ""
                    )

    settings = {
        "recipe": "persona", "prompts": [prompt.id for prompt in frozen.values()], "seed": seed, "each": each, "kinds": list(kinds),
        "personas": content_hash(sorted(person.id for person in people)), "tools": content_hash(listed),
    }  # fmt: skip
    return Plan(draw, total=each * len(people) * len(kinds), settings=settings)


def _people(personas: Sequence[Persona]) -> list[Persona]:
    if odd := next((each for each in personas if not isinstance(each, Persona)), None):
        raise InputError(f"personas are Persona records, got a {type(odd).__name__}: {str(odd)[:100]!r}.")
    # The same words from two texts are two records; one of them is enough to go on from.
    people = list({" ".join(person.text.split()): person for person in reversed(personas)}.values())[::-1]
    if not people:
        raise InputError("there is no persona to go on from. Invent some first: persona.plan(documents, count=100).")
    return people


def _tools(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools as a JSON list of objects with name, description and parameters."""
    if not tools:
        raise InputError(
            "a tool_request needs tools=, the list of what an assistant has, such as "
            '[{"name": "find_trains", "description": "Trains between two stations on a day."}].'
        )
    found = []
    for number, tool in enumerate(tools):
        tool = tool.get("function", tool) if isinstance(tool, Mapping) else {}
        has_text = lambda name, tool=tool: isinstance(tool.get(name), str) and tool[name].strip()
        if missing := [name for name in ("name", "description") if not has_text(name)]:
            raise InputError(f"tool {number} has no {missing[0]!r}: {str(tools[number])[:200]}. Each needs both.")
        takes = tool.get("parameters") or {}
        if not isinstance(takes, Mapping) or not isinstance(takes.get("properties") or {}, Mapping):
            raise InputError(f"the parameters of tool {number} are no JSON schema of an object: {str(takes)[:200]}.")
        found.append({name: tool[name] for name in ("name", "description", "parameters") if name in tool})
    if len({tool["name"] for tool in found}) < len(found):
        raise InputError(f"two tools have the same name: {', '.join(sorted(tool['name'] for tool in found))}.")
    return json.dumps(found, ensure_ascii=False)


# --- one task ---------------------------------------------------------------------------------------------------------


async def make(task: Task | Relative | Request, client: Client) -> Record | Failure:
    """Return the persona, or what it asks for, or why there is none: "parse", "nothing_to_describe", "nothing_to_ask",
    "unknown_tool"."""
    if isinstance(task, Request):
        return await _request(task, client)
    if isinstance(task, Relative):
        values = {"person": task.parent.text, "relation": task.relation}
        seed_kinds, parents, span = ("persona",), (task.parent.id,), None
    else:
        values = {"section": task.chunk.section, "passage": task.chunk.text, "relation": task.relation}
        span = task.chunk.passage.span
        seed_kinds, parents = ("document",), (span.document_id,)
    answer = await ask(client, task.prompt, values, sample=task.sample)
    if isinstance(answer, Failure):
        return answer
    person = read(answer.values, task.relation)
    if isinstance(person, Failure):
        return replace(person, raw=answer.raw)
    return replace(person, provenance=answer.provenance("persona", seed_kinds=seed_kinds, parents=parents, source=span))


def read(fields: Mapping[str, str], relation: str) -> Persona | Failure:
    """Return the persona that an answer's fields describe, or why there is none: "nothing_to_describe"."""
    text = " ".join(fields["persona"].split())
    if _is_none(text):
        return Failure("nothing_to_describe", "the model described nobody")
    return Persona(text, relation)


def _is_none(text: str) -> bool:
    """True for nothing, and for NONE as small models write it: None, NONE., "none"."""
    return text.strip(" .\"'").upper() in ("", "NONE")


_ASKED = {"instruction": "instruction", "problem": "problem", "tool_request": "request"}  # the output that is kept
_GIVEN = {"instruction": "kind", "problem": "skill", "tool_request": "tools"}


async def _request(task: Request, client: Client) -> Record | Failure:
    values = {"persona": task.persona.text, _GIVEN[task.kind]: _listed(task.tools) if task.tools else task.wanted}
    answer = await ask(client, task.prompt, values, sample=task.sample)
    if isinstance(answer, Failure):
        return answer
    text = answer[_ASKED[task.kind]].strip()
    if _is_none(text):
        return Failure("nothing_to_ask", f"the model found no {task.kind} for this person", raw=answer.raw)
    origin = answer.provenance("persona", seed_kinds=("persona",), parents=(task.persona.id,))
    if task.kind != "tool_request":
        return Instruction(text, provenance=origin)
    known = {tool["name"] for tool in json.loads(task.tools)}
    if not answer["needed"] or (odd := [name for name in answer["needed"] if name not in known]):
        said = (
            f"{odd[0]!r} is none of {', '.join(sorted(known))}"
            if answer["needed"]
            else "it says that no tool is needed"
        )
        return Failure("unknown_tool", said, raw=answer.raw)
    return Trace(text, task.tools, (), provenance=origin)


def _listed(tools: str) -> str:
    """The tools as a model reads them: a line each."""
    lines = []
    for tool in json.loads(tools):
        takes = ", ".join((tool.get("parameters") or {}).get("properties") or {})
        lines.append(
            f"- {tool['name']}: {' '.join(str(tool['description']).split())}{f' (takes {takes})' if takes else ''}"
        )
    return "\n".join(lines)
