"""Ask a frozen prompt: render, complete, parse, and repair once where the prompt allows it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from workbench.llm.client import Client, Completion, Request, Sampling
from workbench.prompts.library import Prompt
from workbench.records import Failure, Provenance, Span


@dataclass(frozen=True, slots=True)
class Answer:
    """The output fields of a prompt, and the completions they came from; a repair is the last of them."""

    values: Mapping[str, Any]
    completions: tuple[Completion, ...]
    prompt: Prompt

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def is_repaired(self) -> bool:
        return len(self.completions) > 1

    @property
    def raw(self) -> str:
        return self.completions[-1].text

    def provenance(
        self,
        recipe: str,
        *,
        operation: str = "prompting",
        seed_kinds: tuple[str, ...] = (),
        parents: tuple[str, ...] = (),
        source: Span | None = None,
    ) -> Provenance:
        """Return the provenance of a row made from this answer: what was sent and what answered, and nothing else."""
        last = self.completions[-1]
        return Provenance(
            recipe, operation, seed_kinds, self.prompt.id, last.model, last.endpoint, last.sampling,
            tuple(completion.key for completion in self.completions), parents, source, self.is_repaired,
        )  # fmt: skip


async def ask(client: Client, prompt: Prompt, values: Mapping[str, str], *, sample: int = 0) -> Answer | Failure:
    """Return the parsed answer, or a Failure of reason "parse" that holds the raw text.

    An answer that cannot be read is sent back once, with what was wrong, where `prompt.repair` is true; the row then says
    so in its provenance. Raises CallFailed when a request gets no usable answer."""
    messages = prompt.render(**values)
    # What the prompt file asks for (temperature 0 to check an answer, say) wins over the client's defaults.
    sampling = _sampling(prompt.sampling_json, client.sampling.max_tokens is not None)
    request = Request(messages, sampling, sample, schema=prompt.json_schema if prompt.format == "json" else None)
    first = await client.complete(request)
    parsed = prompt.parse(first.text)
    if not isinstance(parsed, Failure):
        return Answer(parsed, (first,), prompt)
    if not prompt.repair:
        return dataclasses.replace(parsed, requests=(first.key,))
    again = prompt.repair_messages(messages, first.text, parsed.detail)
    second = await client.complete(dataclasses.replace(request, messages=again))
    repaired = prompt.parse(second.text)
    if isinstance(repaired, Failure):
        return dataclasses.replace(
            parsed, detail=f"{parsed.detail}; after one repair: {repaired.detail}", requests=(first.key, second.key)
        )
    return Answer(repaired, (first, second), prompt)


@cache
def _sampling(wanted: str, has_own_length: bool) -> Sampling:
    """The prompt's parameters, without its longest answer where the client has one: some models think before they answer."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(wanted).items()}
    return Sampling(**{**values, "max_tokens": None} if has_own_length else values)
