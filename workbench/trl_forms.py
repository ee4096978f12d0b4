"""Preferences in the forms that TRL reads, as `share.export` writes them.

    preference       {"prompt", "chosen", "rejected", both scores}   texts, for base models: DPO, ORPO, reward models
    preference_chat  {"prompt", "chosen", "rejected"}                messages, for chat models: DPO, ORPO, KTO, reward models
    unpaired         {"prompt", "completion", "label"}               texts, two lines a pair: KTO
    reward           {"chosen", "rejected"}                          whole conversations, no prompt apart: reward models

In texts TRL sets a completion right behind its prompt, so the two need a joint. It is the completion's, as in TRL's own
examples ("The sky is", " blue."), since tokens reach over it: most tokenizers have one token for a blank with the word
behind it, or for a mark with the line end behind it, and a prompt that ends inside of one is another prompt once an answer
follows. So blanks and line ends at the end of a prompt are moved to the completion, and a completion that does not begin
with a blank then gets one. Nothing else is changed, and nothing is cut.

In messages a prompt of several turns, as hh-rlhf has them and `imports` writes them, is those turns (see `messages`).

https://huggingface.co/docs/trl/dataset_formats; tests/test_trl_formats.py puts each form through TRL's own processing."""

import re
from collections.abc import Sequence
from typing import Any

from workbench.errors import InputError
from workbench.records import Preference

Line = dict[str, Any]
# What tokenizers take for a blank or a line end; Python counts four control characters more.
_SPACE = "".join(each for each in map(chr, range(0x3001)) if each.isspace() and not "\x1c" <= each <= "\x1f")

# A system prompt comes first or is none; "System:" further down is somebody's word.
_MARK = re.compile(r"(?:\A\n\n(?=System:)|\n\n(?=Human:|Assistant:))(System|Human|Assistant):")
_ROLES = {"System": "system", "Human": "user", "Assistant": "assistant"}


def preference(records: Sequence[Preference]) -> list[Line]:
    """Return a line a pair, in texts, with the scores where every pair has both.

    `datasets` takes a column's type from the first rows of a file, and refuses a number after some megabytes of nulls."""
    are_scored = all(None not in (record.score_chosen, record.score_rejected) for record in records)
    return [
        {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        | ({"score_chosen": record.score_chosen, "score_rejected": record.score_rejected} if are_scored else {})
        for record in _checked(records)
        for prompt, chosen, rejected in (side_by_side(record.prompt, record.chosen, record.rejected),)
    ]


def preference_chat(records: Sequence[Preference]) -> list[Line]:
    """Return a line a pair, in messages: what was said before in `prompt`, only the answer in `chosen` and `rejected`."""
    return [
        {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}
        for record in _checked(records)
        for chosen, rejected in ([messages(record.prompt, text) for text in (record.chosen, record.rejected)],)
    ]


def unpaired(records: Sequence[Preference]) -> list[Line]:
    """Return a line for each distinct completion to a prompt, in texts: chosen and rejected ones in turn.

    KTO estimates its KL term from completions to *other* prompts, and takes them from the line before: of pairs in their
    own order, every rejected line would get the chosen completion to its own prompt. And of all that were chosen before
    all that were rejected, as `trl.unpair_preference_dataset` has them, a batch would hold one label only. Pairs of one
    prompt are put together first, so that half the file away is another prompt.

    Raises InputError where a completion is chosen in one pair and rejected in another."""
    order: dict[str, int] = {}
    by_prompt = sorted(_checked(records), key=lambda record: order.setdefault(record.prompt, len(order)))
    texts = [side_by_side(record.prompt, record.chosen, record.rejected) for record in by_prompt]
    chosen = list(dict.fromkeys((prompt, text) for prompt, text, _ in texts))
    rejected = list(dict.fromkeys((prompt, text) for prompt, _, text in texts))
    if both := set(chosen) & set(rejected):
        raise InputError(
            f"{len(both):,} completions are chosen in one pair and rejected in another, and KTO would learn both. Make "
            "the pairs with per_prompt='best', or name the formats without 'unpaired': the others take them as they are."
        )
    away = (len(rejected) + 1) // 2
    rejected = rejected[away:] + rejected[:away]
    placed = [
        ((at + 0.5) / len(some), {"prompt": prompt, "completion": text, "label": label})
        for some, label in ((chosen, True), (rejected, False))
        for at, (prompt, text) in enumerate(some)
    ]
    return _apart([line for _, line in sorted(placed, key=lambda each: each[0])])


def _apart(lines: list[Line]) -> list[Line]:
    """The lines with no prompt twice in a row as far as one of the next hundred of the same label can take the place."""
    for at in range(1, len(lines)):
        before, label = lines[at - 1]["prompt"], lines[at]["label"]
        near = range(at, min(at + 100, len(lines)))
        other = next((n for n in near if lines[n]["prompt"] != before and lines[n]["label"] == label), at)
        lines[at], lines[other] = lines[other], lines[at]
    return lines


def reward(records: Sequence[Preference]) -> list[Line]:
    """Return a line a pair: two conversations with the same first turn.

    In messages, since in texts nothing says where a prompt ends: TRL takes all that both begin with for the prompt, and
    with it the words that the two answers begin with."""
    return [{name: line["prompt"] + line[name] for name in ("chosen", "rejected")} for line in preference_chat(records)]


def side_by_side(asked: str, *answers: str) -> tuple[str, ...]:
    """Return the prompt and its answers such that each answer is to follow the prompt as it is."""
    prompt = asked.rstrip(_SPACE)
    return prompt, *(_after_a_blank(asked[len(prompt) :] + text) for text in answers)


def _after_a_blank(text: str) -> str:
    return text if text[0] in _SPACE and text[0] not in "\r\n" else f" {text}"


def messages(asked: str, answer: str | None = None) -> list[dict[str, str]]:
    """Return what was asked, and the answer where there is one, as messages of system, user and assistant.

    A prompt as hh-rlhf has it, each turn after its mark and "Assistant:" last, is its turns; any other is the user's one.

        >>> messages("\\n\\nHuman: Hi\\n\\nAssistant: Hello\\n\\nHuman: Bye\\n\\nAssistant:", " So long")
        [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'},
         {'role': 'user', 'content': 'Bye'}, {'role': 'assistant', 'content': 'So long'}]

    The blank after a mark goes with it. Turns stay as they came: where two of one role follow each other, templates that
    want them in turn refuse the row. A text that holds such a mark itself is read as turns too."""
    start, *parts = _MARK.split(asked)
    *turns, last = zip(parts[::2], parts[1::2], strict=True) if parts else [("", "")]
    if start or last != ("Assistant", "") or "Human" not in dict(turns):
        said, joint = [("user", asked)], ""
    else:
        said, joint = [(_ROLES[role], text.removeprefix(" ")) for role, text in turns], " "
    said += [] if answer is None else [("assistant", answer.removeprefix(joint))]
    return [{"role": role, "content": text} for role, text in said]


def _checked(records: Sequence[Preference]) -> Sequence[Preference]:
    """The records, all of which a trainer can learn from. Raises InputError, with the id, for the first that it cannot."""
    for record in records:
        texts = {name: getattr(record, name).strip() for name in ("prompt", "chosen", "rejected")}
        empty = [name for name, text in texts.items() if not text]
        if empty or texts["chosen"] == texts["rejected"]:
            wrong = f"its {empty[0]} text is empty" if empty else "chosen and rejected are the same text"
            raise InputError(
                f"Preference {record.id}: {wrong}, and a trainer would learn from it all the same. Leave such pairs out, "
                "with their reason; formats=['csv', 'parquet'] take them as they are."
            )
    return records
