"""Records as the lines that a trainer reads, and how many tokens of a base's tokenizer they are.

A base with a chat template gets messages, any other base gets texts; both as `share.export` writes them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from workbench import share, trl_forms
from workbench.errors import InputError
from workbench.records import QA, Failure, Instruction, Preference, Record, one_kind
from workbench.train.bases import Base

Line = dict[str, Any]


def tokenizer(base: Base) -> Any:
    """Return the base's tokenizer, with a token for padding where it has none of its own."""
    return _tokenizer(base.folder, base.sha256)


@cache
def _tokenizer(folder: Path, sha256: str) -> Any:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder)
    if found.pad_token is None:
        found.pad_token = found.eos_token
    # Rows that are too long are left out and named by `fitting`; the library would warn of them without saying which.
    found.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return found


def lines(rows: Sequence[Record] | str | os.PathLike[str], method: str, base: Base) -> list[Line]:
    """Return a line a row for this method: prompt and completion for "sft", else prompt, chosen and rejected.

    `rows` are records of one kind or the path of an export in JSON Lines, whose lines are taken as they stand. Raises
    InputError for rows of another kind, and with id or line for one that nothing can be learnt from."""
    if isinstance(rows, str | os.PathLike):
        return _exported(Path(rows), method, base)
    if not len(rows):
        raise InputError("no rows to train on. Give at least one record.")
    kind = one_kind(rows)
    wanted = (Instruction, QA) if method == "sft" else (Preference,)
    if kind not in wanted:
        names = " or ".join(each.__name__ for each in wanted)
        other = " Train on pairs with dpo() or orpo()." if kind is Preference else ""
        raise InputError(f"{method} takes {names} records, got {kind.__name__}.{other}")
    if method == "sft":
        return [_turn(record, base.has_chat_template) for record in rows]
    if base.has_chat_template:
        return trl_forms.preference_chat(rows)
    names = ("prompt", "chosen", "rejected")
    return [{name: line[name] for name in names} for line in trl_forms.preference(rows)]


def asked_and_answered(record: Record) -> tuple[str, str]:
    """Return what is asked and the answer of an Instruction or QA record. Raises InputError where there is no answer."""
    if isinstance(record, QA):
        asked, answer = share.qa_prompt(record), record.answer if record.is_answerable else share.UNANSWERABLE
    else:
        asked, answer = record.asked, record.output
    if not asked.strip() or answer is None or not answer.strip():
        what = "asks nothing" if not asked.strip() else "has no answer"
        raise InputError(f"{type(record).__name__} {record.id} {what}. Leave it out, or have it answered first.")
    return asked, answer


def _turn(record: Record, as_messages: bool) -> Line:
    asked, answer = asked_and_answered(record)
    if not as_messages:
        prompt, completion = trl_forms.side_by_side(asked, answer)
        return {"prompt": prompt, "completion": completion}
    *before, last = trl_forms.messages(asked, answer)
    return {"prompt": before, "completion": [last]}


def _exported(path: Path, method: str, base: Base) -> list[Line]:
    wanted = ("prompt", "completion") if method == "sft" else ("prompt", "chosen", "rejected")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}. Export the records first: share.export(records, folder)."
        ) from None
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            line = orjson.loads(raw)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: {error}. The file was cut off or edited; export it again."
            ) from None
        if method != "sft" and isinstance(line, dict) and {"chosen", "rejected"} == line.keys():
            line = _with_prompt(line)
        if method == "sft" and isinstance(line, dict) and isinstance(line.get("messages"), list) and line["messages"]:
            line = {"prompt": line["messages"][:-1], "completion": line["messages"][-1:]}
        if not isinstance(line, dict) or not set(wanted) <= line.keys():
            raise InputError(
                f"{path}, line {number}: {method} needs {', '.join(wanted)}, got {', '.join(line) if isinstance(line, dict) else type(line).__name__}. "
                f"Export with formats={['chat'] if method == 'sft' else ['preference_chat']}."
            )
        if not all(line[name] for name in wanted):
            raise InputError(f"{path}, line {number}: an empty text. Leave such rows out.")
        turns = [turn for name in wanted if isinstance(line[name], list) for turn in line[name]]
        if not all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns):
            raise InputError(f"{path}, line {number}: a message has no text as its content. Leave such rows out.")
        if turns and not base.has_chat_template:
            raise InputError(
                f"{path}, line {number} is in messages, and {base.name} has no chat template. Export with formats=['preference']."
            )
        found.append({name: line[name] for name in wanted})
    if not found:
        raise InputError(f"{path} holds no line. Export records first: share.export(records, folder).")
    return found


def _with_prompt(line: Line) -> Line:
    """A line of `reward`: two conversations, whose prompt is all but the last turn of either."""
    if not all(isinstance(line[name], list) and len(line[name]) > 1 for name in line):
        return line
    return {"prompt": line["chosen"][:-1], "chosen": line["chosen"][-1:], "rejected": line["rejected"][-1:]}


def encoded(prompt: Any, completion: Any, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens of a prompt and those of the completion behind it, as TRL divides them: where what both begin
    with ends. Texts end with the end-of-text token, messages as the template ends them."""
    if isinstance(completion, str):
        first = tokenizer(prompt)["input_ids"]
        both = tokenizer(
            prompt + completion + ("" if completion.endswith(tokenizer.eos_token) else tokenizer.eos_token)
        )["input_ids"]
    else:
        first = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)
        both = tokenizer.apply_chat_template([*prompt, *completion], tokenize=True, return_dict=False)
    shared = next(
        (at for at, (a, b) in enumerate(zip(first, both, strict=False)) if a != b), min(len(first), len(both))
    )
    return both[:shared], both[shared:]


def tokens(line: Line, tokenizer: Any) -> int:
    """Return how many tokens a model sees of this line in one epoch: of a pair, the prompt twice."""
    return sum(map(sum, _lengths(line, tokenizer)))


def longest(line: Line, tokenizer: Any) -> int:
    """Return the tokens of the prompt with the longest answer."""
    return max(map(sum, _lengths(line, tokenizer)))


def _lengths(line: Line, tokenizer: Any) -> list[tuple[int, int]]:
    answers = [line[name] for name in ("completion", "chosen", "rejected") if name in line]
    return [tuple(map(len, encoded(line["prompt"], answer, tokenizer))) for answer in answers]


def unfit(line: Line, tokenizer: Any, length: int) -> Failure | None:
    """Return why nothing is trained on this line, or None: it is longer than `length` tokens ("too_long"), or a text of it
    holds a control token of the base, which would end a turn or begin another in the middle of it ("control_token")."""
    if (size := longest(line, tokenizer)) > length:
        return Failure("too_long", f"it has {size:,} tokens, more than {length:,}")
    for text in _texts(line):
        if found := next((token for token in _control_tokens(tokenizer) if token in text), None):
            return Failure("control_token", f"a text of it holds {found!r}, a control token of the base", raw=text)
    return None


def _control_tokens(tokenizer: Any) -> list[str]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return sorted({*tokenizer.all_special_tokens, *added})


def _texts(line: Line) -> list[str]:
    said = [line[name] for name in ("prompt", "completion", "chosen", "rejected") if name in line]
    return [text for each in said for text in ([each] if isinstance(each, str) else [turn["content"] for turn in each])]


def fitting(lines: Sequence[Line], tokenizer: Any, length: int) -> tuple[list[int], list[Failure]]:
    """Return the places of the lines that can be trained on, and a Failure for each of the others.

    Raises InputError where none can."""
    found = [unfit(line, tokenizer, length) for line in lines]
    kept = [at for at, failure in enumerate(found) if failure is None]
    dropped = [replace(each, detail=f"row {at}: {each.detail}") for at, each in enumerate(found) if each is not None]
    if not kept:
        raise InputError(
            f"none of {len(lines):,} rows can be trained on; {dropped[0].detail}. Give a larger max_length, or other rows."
        )
    return kept, dropped


def opening(prompt: str, tokenizer: Any, base: Base) -> list[int]:
    """Return the tokens that a model is given to write an answer to this prompt."""
    if base.has_chat_template:
        said = trl_forms.messages(prompt)
        return tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
    return tokenizer(prompt.rstrip())["input_ids"]
