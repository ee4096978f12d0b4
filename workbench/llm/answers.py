"""Ask a frozen prompt: render, complete, parse, and repair once where the prompt allows it."""

import dataclasses
import json
from collections.abc import Callable, Mapping
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


Check = Callable[[Mapping[str, Any]], Failure | None]


async def ask(
    client: Client, prompt: Prompt, values: Mapping[str, str], *, sample: int = 0, check: Check | None = None
) -> Answer | Failure:
    """Return the parsed answer, or a Failure of reason "parse", or of `check`'s, that holds the raw text.

    `check` says of parsed values what is wrong with them, such as a rating outside its scale. An answer that cannot be
    read, or fails the check, is sent back once, with what was wrong, where `prompt.repair` is true; the row then says so
    in its provenance. Raises CallFailed when a request gets no usable answer."""
    asked = request(client, prompt, values, sample=sample)
    first = await client.complete(asked)
    parsed = _read(prompt, first.text, check)
    if not isinstance(parsed, Failure):
        return Answer(parsed, (first,), prompt)
    if not prompt.repair:
        return dataclasses.replace(parsed, requests=(first.key,))
    again = prompt.repair_messages(asked.messages, first.text, parsed.detail)
    second = await client.complete(dataclasses.replace(asked, messages=again))
    repaired = _read(prompt, second.text, check)
    if isinstance(repaired, Failure):
        return dataclasses.replace(
            parsed, detail=f"{parsed.detail}; after one repair: {repaired.detail}", requests=(first.key, second.key)
        )
    return Answer(repaired, (first, second), prompt)


def _read(prompt: Prompt, text: str, check: Check | None) -> dict[str, Any] | Failure:
    values = prompt.parse(text)
    if check is None or isinstance(values, Failure) or (wrong := check(values)) is None:
        return values
    return dataclasses.replace(wrong, detail=f"{prompt.ref}: {wrong.detail}", raw=text)


def request(client: Client, prompt: Prompt, values: Mapping[str, str], *, sample: int = 0) -> Request:
    """Return what `ask` sends first. Raises PromptError when the values are not the prompt's variables."""
    schema = prompt.json_schema if prompt.is_json else None
    return Request(prompt.render(**values), sampling_of(prompt, client), sample, schema=schema)


def sampling_of(prompt: Prompt, client: Client) -> Sampling:
    """Return the parameters that a prompt is asked with: what its file asks for (temperature 0 to check an answer, say)
    wins over the client's defaults."""
    return _sampling(prompt.sampling_json, client.sampling.max_tokens is not None)


@cache
def _sampling(wanted: str, has_own_length: bool) -> Sampling:
    """The prompt's parameters, without its longest answer where the client has one: some models think before they answer."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(wanted).items()}
    return Sampling(**{**values, "max_tokens": None} if has_own_length else values)
