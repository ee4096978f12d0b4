"""Imports: existing sets as records, with what could not be used, why, and counts of everything.

    found = imports.alpaca_eval(["outputs/gpt4.json"], annotations=["annotations/gpt4.json"])
    found.instructions, found.votes, found.failures, found.counts

One function a source; each returns an `Imported`. A row that cannot be used is a Failure that says where it stands,
why, and holds the row as it was; a file that cannot be read is an InputError. What comes in was made elsewhere: its
provenance is "given", with the name of the model that wrote it as far as the set states it ("" where it does not)."""

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from workbench._html import card, html_table
from workbench.errors import InputError
from workbench.records import Failure, Instruction, Preference, Provenance, Rating, Record, Vote

ANSWERED = "\n\nAssistant:"  # Anthropic's mark of the turn that is judged
_ROLES = {
    "human": "Human", "user": "Human", "system": "System",
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard"), "Assistant"),
}  # fmt: skip
_WINNERS = {1: "first", 2: "second", 0: "tie", 1.5: "tie"}  # 0 is AlpacaEval's older code of a tie, and PandaLM's
_PANDALM = {"1": 1, "2": 2, "0": 0, "Tie": 0}
_EXAMPLES = 3
_Turns = list[tuple[str, str]]  # role and text of each


@dataclass(frozen=True, repr=False)
class Imported:
    """What a set became: its records by kind, what could not be used and why, and counts; prints itself.

    `counts` starts with the rows read and the records made of them; the others are facts worth knowing, not losses."""

    name: str
    instructions: tuple[Instruction, ...] = ()
    preferences: tuple[Preference, ...] = ()
    votes: tuple[Vote, ...] = ()
    ratings: tuple[Rating, ...] = ()
    failures: tuple[Failure, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_reason(self) -> dict[str, int]:
        """How many failures have each reason, most frequent first."""
        return dict(Counter(failure.reason for failure in self.failures).most_common())

    def __repr__(self) -> str:
        counted = ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.by_reason.items())
        return f"{self.name}: {counted}; {len(self.failures):,} failed{f' ({reasons})' if reasons else ''}"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, Any, str]] = [(what, count, "") for what, count in self.counts.items()]
        for reason, count in self.by_reason.items():
            examples = [failure.detail for failure in self.failures if failure.reason == reason][:_EXAMPLES]
            rows.append((f"failed: {reason}", count, "; ".join(examples)))
        return card(self.name, f"{len(self.failures):,} failed", html_table(["what", "count", "for example"], rows))


# --- sources ----------------------------------------------------------------------------------------------------------


def hh_rlhf(path: str | os.PathLike[str]) -> Imported:
    """Return Anthropic's pairs of dialogues (columns chosen, rejected; .jsonl or .jsonl.gz) as preferences.

    The prompt is all up to and with the last "Assistant:", so that prompt + chosen is the dialogue to the letter.
    Failures: prompts_differ (the dialogues part before the last answer), empty, identical, duplicate, odd_value."""
    into = _Collected("hh_rlhf")
    for row in into.rows(path, [("chosen", "rejected")]):
        if (dialogues := into.texts(row, "chosen", "rejected")) is None:
            continue
        (asked, mark, chosen), (other, _, rejected) = (dialogue.rpartition(ANSWERED) for dialogue in dialogues)
        if not mark:
            into.fail("odd_value", row, f"chosen has no {ANSWERED.strip()!r}")
        elif asked != other:
            into.fail("prompts_differ", row, "the dialogues part before the last answer")
        else:
            into.prefer(row, asked + mark, chosen, rejected)
    return into.done()


def ultrafeedback(path: str | os.PathLike[str]) -> Imported:
    """Return OpenBMB's UltraFeedback (JSON Lines, a prompt and its completions a row) as instructions and ratings.

    Dimensions keep the set's names, 1 to 5; "N/A" is a rating of None: the dimension does not apply. The overall_score
    is not imported: in rows of its authors' earlier code a 1 stands as 10 (2,628 completions, OpenBMB's
    fix_overall_score_issue.py), so make pairs of the four dimensions. Nor are principle, system prompt and critique.
    Failures: missing (a model of `models` without a completion, a completion or a dimension without a rating), empty,
    duplicate, odd_value."""
    into = _Collected("ultrafeedback")
    for row in into.rows(path, [("instruction", "completions")]):
        completions = row.values["completions"]
        if (asked := into.texts(row, "instruction")) is None:
            continue
        if not isinstance(completions, list) or not all(isinstance(each, dict) for each in completions):
            into.fail("odd_value", row, "completions is no list of objects")
            continue
        models = [each.get("model") for each in completions]
        listed = row.values.get("models")
        for model in listed if isinstance(listed, list) else ():
            if model not in models:
                into.fail("missing", row, f"no completion of {model}")
        for number, (each, model) in enumerate(zip(completions, models, strict=True)):
            answer = _Row(f"{row.at}, completion {number}", each)
            if (written := into.texts(answer, "response")) is not None:
                text = into.write(answer, Instruction(asked[0], output=written[0], provenance=_by(model)))
                _aspects(into, answer, text)
    return into.done()


def alpaca(path: str | os.PathLike[str], *, model: str = "") -> Imported:
    """Return instruction, input, output rows (JSON or JSON Lines) as instructions; `model` wrote the outputs.

    An input that is null or not there is an empty one. Failures: empty, duplicate, missing_column, odd_value."""
    into = _Collected("alpaca")
    for row in into.rows(path, [("instruction", "output")]):
        if row.values.get("input") is None:
            row.values["input"] = ""
        given = into.texts(row, "input", may_be_empty=True)
        if given is not None and (texts := into.texts(row, "instruction", "output")) is not None:
            into.write(row, Instruction(texts[0], given[0], texts[1], provenance=_by(model)))
    return into.done()


def sharegpt(path: str | os.PathLike[str], *, model: str = "") -> Imported:
    """Return ShareGPT conversations (`conversations` of from, value) as instructions, as `chat` does."""
    return _conversations(_Collected("sharegpt"), path, "conversations", ("from", "value"), model)


def chat(path: str | os.PathLike[str], *, model: str = "") -> Imported:
    """Return chats (`messages` of role, content) as instructions, one a chat, whose output is the last answer.

    One question with its answer stays as it is. With more turns or a system prompt, the instruction is all that came
    before the last answer, each turn after "Human:", "Assistant:" or "System:" as in hh-rlhf. A row's own `model`
    wrote it, else `model`. Failures: no_answer (the last turn is not the assistant's), empty, duplicate, odd_value
    (another role, such as a tool's; content that is no text)."""
    return _conversations(_Collected("chat"), path, "messages", ("role", "content"), model)


def distilabel(path: str | os.PathLike[str], *, dimension: str = "overall") -> Imported:
    """Return distilabel's columns (JSON, JSON Lines, Parquet) as instructions, ratings and preferences, as they apply.

    Reads instruction or prompt; generation or generations with generation_models, model_names, generation_model or
    model_name; ratings and rationales, which are of `dimension` since no column says of which; chosen and rejected with
    their ratings. Messages are read as `chat` reads them; where chosen and rejected hold more of what came before the
    answer than the prompt does, the pair's prompt is that. Failures: empty (distilabel fills what failed with None),
    missing (no rating), identical and tie (it makes pairs of equal texts and of equal ratings too), no_answer (the last
    turn of chosen or rejected is not the assistant's), prompts_differ (the two answer other turns, or others than the
    prompt's), duplicate, odd_value (such as chosen rated below rejected)."""
    into = _Collected("distilabel")
    asked_as, made_as = ("instruction", "prompt"), (("generations",), ("generation",), ("chosen", "rejected"))
    for row in into.rows(path, [(asked, *made) for made in made_as for asked in asked_as]):
        if (turns := _turns(into, row, asked_as["instruction" not in row.values], last="Human")) is None:
            continue
        if "generations" in row.values or "generation" in row.values:
            _generations(into, row, _asked(turns), dimension)
        if {"chosen", "rejected"} <= row.columns:
            _pair(into, row, turns)
    return into.done()


def alpaca_eval(
    outputs: Sequence[str | os.PathLike[str]], *, annotations: Sequence[str | os.PathLike[str]] = ()
) -> Imported:
    """Return AlpacaEval's outputs of several models as instructions, and its annotations as votes of their annotator.

    A preference of 1 is a vote for the first text, 2 for the second, 0 and 1.5 are ties; null is a failure. A vote
    stands whatever its texts are: those on an empty text, which AlpacaEval puts where a model has no row, and those on
    two identical ones are counted. A text that only an annotation holds is an instruction too, an empty one included,
    so that every vote finds both its texts. Failures: missing (a model has no row for a prompt of any file), empty,
    duplicate, null, odd_value."""
    into = _Collected("alpaca_eval")
    answered: dict[tuple[Path, str], dict[str, None]] = {}
    for path in _paths(outputs):
        for row in into.rows(path, [("instruction", "output", "generator")]):
            if (asked := into.texts(row, "instruction", "generator")) is not None:
                answered.setdefault((path, asked[1]), {})[asked[0]] = None
                if (written := into.texts(row, "output")) is not None:
                    into.write(row, Instruction(asked[0], output=written[0], provenance=_by(asked[1])))
    of_outputs = len(into.kinds[Instruction])
    prompts = {prompt: None for done in answered.values() for prompt in done}
    texts, names = ("output_1", "output_2"), ("instruction", "generator_1", "generator_2", "annotator")
    for path in _paths(annotations):
        for row in into.rows(path, [(*names, *texts, "preference")]):
            named = into.texts(row, *names)
            if named is None or (written := into.texts(row, *texts, may_be_empty=True)) is None:
                continue
            prompts.setdefault(named[0])
            first, second = (
                Instruction(named[0], output=text, provenance=_by(model))
                for text, model in zip(written, named[1:3], strict=True)
            )
            into.vote(row, (first, second), row.values["preference"], named[3], model=named[3])
    into.counts["texts of annotations alone"] = len(into.kinds[Instruction]) - of_outputs
    for (path, generator), done in answered.items():
        for prompt in prompts:
            if prompt not in done:
                into.fail("missing", _Row(path.name, {"instruction": prompt}), f"{generator} has no row for a prompt")
    return into.done()


def pandalm(folder: str | os.PathLike[str]) -> Imported:
    """Return PandaLM's test set (a folder with testset-v1.json) as instructions and votes, its judges' among them.

    Each row has the votes of annotator1 to annotator3 (0 is a tie), then, from each file `<judge>-testset-v1.json`
    beside it, the vote of that judge on the same row ("Tie" and 0 are ties). Rows that say the same were judged again,
    and vote again. A response that is no text is read as its JSON (six are true). Failures: missing (a judge has no
    row), odd_value (such as the 25 answers of gpt-3.5-turbo that stand there as "garbage"), duplicate."""
    into, folder = _Collected("pandalm"), Path(folder)
    people, responses = ("annotator1", "annotator2", "annotator3"), ("response1", "response2")
    pairs: dict[str, tuple[Instruction, Instruction]] = {}
    for row in into.rows(folder / "testset-v1.json", [("idx", "instruction", "input", *responses, "cmp_key", *people)]):
        for name in responses:
            if isinstance(row.values[name], bool | int | float):
                into.counts["responses that are no text"] += 1
                row.values[name] = json.dumps(row.values[name])
        if (texts := into.texts(row, "instruction", "input", *responses, may_be_empty=True)) is None:
            continue
        models = str(row.values["cmp_key"]).split("_")
        if len(models) != 2 or (idx := str(row.values["idx"])) in pairs:
            into.fail(
                "odd_value", row, f"cmp_key {row.values['cmp_key']!r:.60} is no pair, or its idx was there before"
            )
            continue
        pairs[idx] = tuple(
            Instruction(texts[0], texts[1], text, provenance=_by(model))
            for text, model in zip(texts[2:], models, strict=True)
        )
        for name in people:
            into.vote(row, pairs[idx], row.values[name], name)
    for path in sorted(folder.glob("*-testset-v1.json")):
        _judge(into, path, pairs)
    return into.done()


# --- what they share --------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A row, or a part of one, and where it stands; `raw` is what stands there, where values were read from it."""

    at: str
    values: Any
    raw: Any = None

    @property
    def columns(self) -> set[str]:
        return set(self.values)


class _Collected:
    """What has been read so far, and where each record stood first."""

    def __init__(self, name: str):
        self.name = name
        self.counts: Counter[str] = Counter()
        self.kinds: dict[type, list[Any]] = {Instruction: [], Preference: [], Vote: [], Rating: []}
        self.failures: list[Failure] = []
        self.places: dict[tuple[str, str], str] = {}  # (id, model) -> where

    def rows(self, path: str | os.PathLike[str], wanted: Sequence[tuple[str, ...]]) -> Iterator[_Row]:
        """Yield the rows that have all columns of one of the `wanted` sets; the others fail."""
        found = _read(Path(path))
        self.counts["rows"] += len(found)
        there = dict.fromkeys(name for row in found if isinstance(row.values, dict) for name in row.values)
        if not any(set(columns) <= there.keys() for columns in wanted):
            sets = " or ".join(", ".join(columns) for columns in wanted)
            raise InputError(
                f"{path} has the columns {', '.join(there) or '(none: no row is an object)'}; {self.name} needs {sets}. Rename them, or import it as what it is."
            )
        for row in found:
            if not isinstance(row.values, dict):
                self.fail("odd_value", row, "the row is no JSON object")
            elif any(set(columns) <= row.columns for columns in wanted):
                yield _Row(row.at, dict(row.values), row.values)
            else:
                self.fail("missing_column", row, f"the row has {', '.join(row.values)}")

    def texts(self, row: _Row, *names: str, may_be_empty: bool = False) -> list[str] | None:
        """The texts in these columns; None, and a failure, when one is no text, or is blank where it must not be."""
        for name in names:
            value = row.values.get(name)
            if value is None or (not may_be_empty and _is_text(value) and not value.strip()):
                return self.fail("empty", row, f"{name} is empty")
            if not _is_text(value):
                return self.fail("odd_value", row, f"{name} is no text: {value!r:.60}")
        return [row.values[name] for name in names]

    def fail(self, reason: str, row: _Row, detail: str) -> None:
        there = row.values if row.raw is None else row.raw
        raw = json.dumps(there, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
        self.failures.append(Failure(reason, f"{row.at}: {detail}", raw=raw))

    def write(self, row: _Row, record: Instruction) -> Instruction:
        """Keep a completion, and return it; one that was there before is a failure."""
        if (first := self._first(row, record)) is not None:
            self.fail("duplicate", row, f"says what {first} says")
        return record

    def prefer(
        self, row: _Row, prompt: str, chosen: str, rejected: str, *, scores: Sequence[Any] = (None, None)
    ) -> None:
        """Keep a pair that is one: two texts that differ by more than the blanks around them, chosen scored higher where
        there are scores."""
        numbers = [_number(score) for score in scores]
        record = Preference(prompt, chosen, rejected, *numbers)
        if any(number is None and score is not None for number, score in zip(numbers, scores, strict=True)):
            self.fail("odd_value", row, f"the ratings are {scores!r:.60}")
        elif not chosen.strip() or not rejected.strip():
            self.fail("empty", row, f"{'rejected' if chosen.strip() else 'chosen'} has no answer")
        elif chosen.strip() == rejected.strip():
            self.fail("identical", row, "chosen and rejected are the same text")
        elif None not in numbers and numbers[0] == numbers[1]:
            self.fail("tie", row, f"both are rated {numbers[0]:g}")
        elif None not in numbers and numbers[0] < numbers[1]:
            self.fail("odd_value", row, f"chosen is rated {numbers[0]:g}, below rejected with {numbers[1]:g}")
        elif (first := self._first(row, record)) is not None:
            self.fail("duplicate", row, f"says what {first} says")

    def vote(
        self,
        row: _Row,
        pair: tuple[Instruction, ...],
        said: Any,
        rater: str,
        *,
        model: str = "",
        rationale: str = "",
    ) -> None:
        """Keep the two texts and, where `said` is one of `_WINNERS`, the vote."""
        for text in pair:
            self._first(row, text)
        first, second = pair
        is_number = isinstance(said, int | float) and not isinstance(said, bool)
        if said is None:
            self.fail("null", row, f"{rater} gave no preference")
        elif not is_number or said not in _WINNERS:
            self.fail("odd_value", row, f"the vote of {rater} is {said!r:.60}")
        else:
            winner = _WINNERS[said]
            self.counts["ties"] += winner == "tie"
            self.counts["votes on identical texts"] += first.output == second.output
            self.counts["votes on an empty text"] += not all((text.output or "").strip() for text in pair)
            self.kinds[Vote].append(Vote(first.id, second.id, winner, rater, rationale, provenance=_by(model)))

    def rate(self, row: _Row, said: Any, rating: Rating, *, scale: tuple[float, float] = (-math.inf, math.inf)) -> None:
        """Keep a rating whose value is `said`: a number on the scale, or "N/A"."""
        value = _number(said)
        if said in (None, ""):
            self.fail("missing", row, f"no rating of {rating.dimension}")
        elif said == "N/A":
            self.kinds[Rating].append(rating)
        elif value is None or not scale[0] <= value <= scale[1]:
            self.fail("odd_value", row, f"the rating of {rating.dimension} is {said!r:.60}")
        else:
            self.kinds[Rating].append(replace(rating, value=value))

    def _first(self, row: _Row, record: Record) -> str | None:
        """Keep a record that is new, by id and model; else return where it stood first."""
        key = record.id, record.provenance.model
        if key in self.places:
            return self.places[key]
        self.places[key] = row.at
        self.kinds[type(record)].append(record)
        return None

    def done(self) -> Imported:
        kept = {f"{kind.__name__.lower()}s": tuple(found) for kind, found in self.kinds.items()}
        made = {name: len(found) for name, found in kept.items() if found}
        facts = {what: count for what, count in self.counts.items() if count and what != "rows"}
        counts = {"rows": self.counts["rows"], **made, **facts}
        return Imported(self.name, **kept, failures=tuple(self.failures), counts=counts)


def _aspects(into: _Collected, answer: _Row, text: Instruction) -> None:
    """Keep UltraFeedback's ratings of a completion: {dimension: {"Rating": "4", "Rationale": ...}}."""
    aspects = answer.values.get("annotations")
    if not isinstance(aspects, dict) or not aspects:
        into.fail("missing", answer, "the completion has no ratings")
        return
    for dimension, said in aspects.items():
        said = said if isinstance(said, dict) else {"Rating": said}
        why = said.get("Rationale For Rating") or said.get("Rationale")
        rating = Rating(text.id, dimension, None, "gpt-4", why if _is_text(why) else "", provenance=_by("gpt-4"))
        into.rate(answer, said.get("Rating"), rating, scale=(1, 5))


def _conversations(into: _Collected, path: Any, column: str, keys: tuple[str, str], model: str) -> Imported:
    who, what = keys
    for row in into.rows(path, [(column,)]):
        turns = row.values[column]
        if not isinstance(turns, list) or not all(
            isinstance(turn, dict) and _is_text(turn.get(what)) for turn in turns
        ):
            into.fail("odd_value", row, f"{column} is no list of {who} and {what} texts")
        elif strange := [turn.get(who) for turn in turns if str(turn.get(who)).lower() not in _ROLES]:
            into.fail("odd_value", row, f"a turn is of {strange[0]!r:.60}")
        else:
            _converse(into, row, [(_ROLES[turn[who].lower()], turn[what]) for turn in turns], model)
    return into.done()


def _converse(into: _Collected, row: _Row, turns: _Turns, model: str) -> None:
    roles = [role for role, _ in turns]
    if "Human" not in roles or not all(text.strip() for _, text in turns):
        into.fail("empty", row, "nobody asks anything" if "Human" not in roles else "a turn is empty")
    elif roles[-1] != "Assistant":
        into.fail("no_answer", row, f"the last turn is of {roles[-1]}")
    else:
        into.counts["conversations of several turns"] += roles != ["Human", "Assistant"]
        into.write(
            row, Instruction(_asked(turns[:-1]), output=turns[-1][1], provenance=_by(row.values.get("model") or model))
        )


def _asked(turns: _Turns) -> str:
    """What came before an answer, as one text: one question as it is, more turns each after its mark."""
    if [role for role, _ in turns] == ["Human"]:
        return turns[0][1]
    return "".join(f"\n\n{role}: {text}" for role, text in turns) + ANSWERED


def _turns(into: _Collected, row: _Row, name: str, *, last: str) -> _Turns | None:
    """The turns in a column, where a text is one turn; None, and a failure, when they do not end with one of `last`."""
    said = row.values[name]
    if not isinstance(said, list) or not said or not all(isinstance(turn, dict) for turn in said):
        return None if (texts := into.texts(row, name)) is None else [(last, texts[0])]
    roles = [_ROLES.get(str(turn.get("role")).lower(), "") for turn in said]
    if "" in roles:
        return into.fail("odd_value", row, f"a turn of {name} is of {said[roles.index('')].get('role')!r:.60}")
    if roles[-1] != last:
        return into.fail("no_answer" if last == "Assistant" else "odd_value", row, f"{name} ends with {roles[-1]}")
    found = []
    for role, turn in zip(roles, said, strict=True):
        if (texts := into.texts(_Row(f"{row.at}, {name}", turn, row.raw), "content")) is None:
            return None
        found.append((role, texts[0]))
    return found


def _pair(into: _Collected, row: _Row, asked: _Turns) -> None:
    """Keep distilabel's pair of a row. A prompt may be the first or the last of the turns that both answer."""
    sides = "chosen", "rejected"
    both = []
    for name in sides:
        if (turns := _turns(into, row, name, last="Assistant")) is None:
            return
        both.append(turns)
    before = [turns[:-1] for turns in both]
    whole = max(asked, *before, key=len)
    bare = lambda turns: [(role, text.strip()) for role, text in turns]
    ends = lambda turns: bare(turns) == bare(whole[len(whole) - len(turns) :])
    if all(map(ends, before)) and (ends(asked) or bare(asked) == bare(whole[: len(asked)])):
        (_, chosen), (_, rejected) = both[0][-1], both[1][-1]
        scores = [row.values.get(f"{name}_rating") for name in sides]
        into.prefer(row, _asked(whole), chosen, rejected, scores=scores)
    else:
        into.fail("prompts_differ", row, "prompt, chosen and rejected hold other turns before the answer")


def _generations(into: _Collected, row: _Row, asked: str, dimension: str) -> None:
    """Keep distilabel's completions of a row, and their ratings."""
    is_rated = {"generations", "ratings"} <= row.columns
    texts = row.values["generations"] if "generations" in row.values else [row.values["generation"]]
    ratings = row.values["ratings"] if is_rated else None
    # Beside ratings, model_name is the judge's.
    names = ("generation_models", "model_names", "generation_model", *(() if is_rated else ("model_name",)))
    models = next((row.values[name] for name in names if row.values.get(name)), "")
    if not isinstance(texts, list):
        return into.fail("odd_value" if texts else "empty", row, f"generations is {texts!r:.60}")
    if is_rated and ratings is None:
        into.fail("missing", row, "no ratings")
    models = models if isinstance(models, list) else [models] * len(texts)
    columns = [each for each in (texts, models, ratings, row.values.get("rationales")) if each is not None]
    if not all(isinstance(each, list) and len(each) == len(texts) for each in columns):
        return into.fail("odd_value", row, "generations, models, ratings and rationales are not equally many")
    rater = row.values.get("ultrafeedback_model") or row.values.get("model_name") or ""
    whys = row.values.get("rationales") or [None] * len(texts)
    for number, (text, model, why) in enumerate(zip(texts, models, whys, strict=True)):
        answer = _Row(f"{row.at}, generation {number}", {"generation": text}, row.raw)
        if into.texts(answer, "generation") is not None:
            record = into.write(answer, Instruction(asked, output=text, provenance=_by(model)))
            if ratings is not None:
                rating = Rating(record.id, dimension, None, rater, why if _is_text(why) else "", provenance=_by(rater))
                into.rate(answer, ratings[number], rating)


def _judge(into: _Collected, path: Path, pairs: Mapping[str, tuple[Instruction, ...]]) -> None:
    """Keep the votes of one of PandaLM's judges, by idx."""
    judge, seen = path.name.removesuffix("-testset-v1.json"), set()
    for row in into.rows(path, [("idx", "gpt_result"), ("idx", "pandalm_result")]):
        name = "gpt" if "gpt_result" in row.values else "pandalm"
        idx, said = str(row.values["idx"]), row.values[f"{name}_result"]
        if idx in seen or idx not in pairs:
            into.fail(
                "duplicate" if idx in seen else "odd_value", row, f"idx {idx} was there, or is not in the test set"
            )
            continue
        seen.add(idx)
        said = _PANDALM.get(said, said) if isinstance(said, str) else said
        why = str(row.values.get(f"{name}_reason") or "")
        into.vote(row, pairs[idx], said, judge, model=judge, rationale=why)
    for idx in pairs:
        if idx not in seen:
            into.fail("missing", _Row(path.name, {"idx": idx}), f"no row with idx {idx}")


def _paths(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else list(map(Path, paths))


def _by(model: Any) -> Provenance:
    return Provenance("given", model=model if _is_text(model) else "")


def _is_text(value: Any) -> bool:
    """True for a string that can be written: half of a surrogate pair cannot."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def _number(value: Any) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# --- files ------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> list[_Row]:
    """The rows of a file: Parquet, one JSON list where it begins with "[", else JSON Lines; .gz is unpacked.

    Raises InputError when the file is missing, has no rows, or is broken: then with the line."""
    if not path.is_file():
        raise InputError(f"there is no file {path}. Give the path of the file itself.")
    rows = _parquet(path) if path.suffix == ".parquet" else _json(path)
    if not rows:
        raise InputError(f"{path} is empty. Give a file with rows.")
    return rows


def _json(path: Path) -> list[_Row]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path} cannot be read as UTF-8: {error}. Save it as UTF-8, or fetch it again.") from error
    if text.lstrip().startswith("["):
        return _numbered(path, _parsed(path, text, 1))
    lines = enumerate(text.split("\n"), 1)
    return [_Row(f"{path.name}, line {n:,}", _parsed(path, line, n)) for n, line in lines if line.strip()]


def _parsed(path: Path, text: str, line: int) -> Any:
    """The JSON value of a text that starts at this line of the file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1:,}, column {error.colno:,}"
        raise InputError(f"{path} is broken at {where}: {error.msg}. Mend that line, or fetch it again.") from error


def _parquet(path: Path) -> list[_Row]:
    import pyarrow.parquet as parquet

    try:
        return _numbered(path, parquet.read_table(path).to_pylist())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no Parquet file: {error}. Fetch it again.") from error


def _numbered(path: Path, values: Iterable[Any]) -> list[_Row]:
    return [_Row(f"{path.name}, row {number:,}", value) for number, value in enumerate(values)]
