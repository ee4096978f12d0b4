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

https://huggingface.co/docs/trl/dataset_formats; tests/test_trl_formats.py puts each form through TRL's own processing."""

from collections.abc import Sequence
from typing import Any

from workbench.errors import InputError
from workbench.records import Preference

Line = dict[str, Any]
# What tokenizers take for a blank or a line end; Python counts four control characters more.
_SPACE = "".join(each for each in map(chr, range(0x3001)) if each.isspace() and not "\x1c" <= each <= "\x1f")


def preference(records: Sequence[Preference]) -> list[Line]:
    """Return a line a pair, in texts, with the scores where every pair has both.

    `datasets` takes a column's type from the first rows of a file, and refuses a number after some megabytes of nulls."""
    are_scored = all(None not in (record.score_chosen, record.score_rejected) for record in records)
    return [
        {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        | ({"score_chosen": record.score_chosen, "score_rejected": record.score_rejected} if are_scored else {})
        for record in _checked(records)
        for prompt, chosen, rejected in (_side_by_side(record),)
    ]


def preference_chat(records: Sequence[Preference]) -> list[Line]:
    """Return a line a pair, in messages: the user's in `prompt`, only the assistant's in `chosen` and `rejected`."""
    return [
        {
            "prompt": _said("user", record.prompt),
            "chosen": _said("assistant", record.chosen),
            "rejected": _said("assistant", record.rejected),
        }
        for record in _checked(records)
    ]


def unpaired(records: Sequence[Preference]) -> list[Line]:
    """Return two lines a pair, in texts: a pair's chosen completion, then the rejected one of a pair half the file away.

    KTO estimates its KL term from completions to *other* prompts, and takes them from the line before: of pairs in their
    own order, every rejected line would get the chosen completion to its own prompt. And of all that were chosen before
    all that were rejected, as `trl.unpair_preference_dataset` has them, a batch would hold one label only. Pairs of one
    prompt are put together first, so that half the file away is another prompt."""
    order: dict[str, int] = {}
    by_prompt = sorted(_checked(records), key=lambda record: order.setdefault(record.prompt, len(order)))
    texts = [_side_by_side(record) for record in by_prompt]
    away = (len(texts) + 1) // 2
    return [
        {"prompt": prompt, "completion": completion, "label": label}
        for (prompt, chosen, _), (other, _, rejected) in zip(texts, texts[away:] + texts[:away], strict=True)
        for prompt, completion, label in ((prompt, chosen, True), (other, rejected, False))
    ]


def reward(records: Sequence[Preference]) -> list[Line]:
    """Return a line a pair: two conversations with the same first turn.

    In messages, since in texts nothing says where a prompt ends: TRL takes all that both begin with for the prompt, and
    with it the words that the two answers begin with."""
    return [{name: line["prompt"] + line[name] for name in ("chosen", "rejected")} for line in preference_chat(records)]


def _side_by_side(record: Preference) -> tuple[str, str, str]:
    """Prompt, chosen and rejected such that each completion is to follow the prompt as it is."""
    prompt = record.prompt.rstrip(_SPACE)
    chosen, rejected = (record.prompt[len(prompt) :] + text for text in (record.chosen, record.rejected))
    return prompt, _after_a_blank(chosen), _after_a_blank(rejected)


def _after_a_blank(text: str) -> str:
    return text if text[0] in _SPACE and text[0] not in "\r\n" else f" {text}"


def _said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


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
