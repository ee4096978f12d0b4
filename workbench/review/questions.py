"""What people are asked about a record, and what they see of it, whether on the server's page or in the notebook.

    questions.of(QA)                      # supported? correct? useful?
    questions.of("Preference")[:1]        # which is better, and nothing else
    questions.classes(["billing", "delivery"])
    questions.shown(record)               # {"question": "...", "answer": "...", "passage": "..."}

The better text of a preference is never always the first: `shown` turns half of them round, the same half for
everybody, and an answer of "first" means the text that was shown first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import InputError
from workbench.llm.judge import DIMENSIONS, SCALE
from workbench.records import QA, ImagePair, Instruction, Label, Preference, Record, Trace, content_hash

KINDS_OF_QUESTION = ("label", "multi_label", "rating", "ranking", "text")
NAME = re.compile(r"(?=.*[a-z0-9])[a-z0-9_-]{1,200}")  # of a question, metadata or vectors, that Argilla takes
MOST_STEPS = 20  # of a trace, that can be named as the first wrong one
_YES_NO = ("yes", "no")
_WINNERS = ("first", "second", "tie")
_RATINGS = tuple(map(str, SCALE))


@dataclass(frozen=True)
class Question:
    """One question: `kind` is one of "label" (one of the options), "multi_label", "rating", "ranking" and "text".

    `options` of a rating are the numbers as text. An answer is a str for a label or a text, an int for a rating and a
    tuple of options for the other two, a ranking with all of them, the best first. Raises InputError for a question
    that nobody could be asked."""

    name: str
    title: str
    kind: str
    options: tuple[str, ...] = ()
    description: str = ""
    is_required: bool = True

    def __post_init__(self):
        object.__setattr__(self, "options", tuple(self.options))
        if why := self._fault():
            raise InputError(f"question {self.name!r}: {why}.")

    def _fault(self) -> str:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            return "a name is made of small letters, digits, '_' and '-'"
        if self.kind not in KINDS_OF_QUESTION:
            return f"there is no kind {self.kind!r}; there are {', '.join(KINDS_OF_QUESTION)}"
        if not 0 < len(self.title.strip()) <= 500 or len(self.description) > 1000:
            return "it needs a title, of up to 500 characters, and a description has up to 1,000"
        if self.kind == "text":
            return "a text has no options" if self.options else ""
        if not all(isinstance(option, str) and 0 < len(option) <= 200 for option in self.options):
            return "an option is a text of 1 to 200 characters"
        if len(set(self.options)) < max(2, len(self.options)):
            return f"it needs two options or more, each of its own, and has {self.options!r}"
        if self.kind == "rating" and not all(re.fullmatch(r"\d|10", option) for option in self.options):
            return f"a rating is one of some whole numbers from 0 to 10, not of {self.options!r}"
        return ""

    def why_not(self, value: Any) -> str:
        """Return why this value answers the question not, "" when it does."""
        wanted = f"one of {', '.join(self.options)}"
        match self.kind:
            case "text":
                return "" if isinstance(value, str) and value.strip() else "a text is wanted"
            case "label":
                return "" if isinstance(value, str) and value in self.options else f"{wanted} is wanted"
            case "rating":
                return "" if type(value) is int and str(value) in self.options else f"{wanted} is wanted, as a number"
        if not isinstance(value, tuple) or not value or len(set(value)) < len(value) or set(value) - {*self.options}:
            return f"a tuple of some of {', '.join(self.options)} is wanted, each once"
        return "all options are to be ranked" if self.kind == "ranking" and len(value) < len(self.options) else ""


def classes(labels: Sequence[str], *, title: str = "What is it about?") -> tuple[Question, ...]:
    """Return the one question which of these classes a Label's text has. The label that it was given is not shown."""
    return (Question("label", title, "label", tuple(labels), "One class, the one that fits best."),)


def of(kind: type[Record] | str) -> tuple[Question, ...]:
    """Return the questions of a record kind, the most telling first.

    Raises InputError for ratings and votes, which are answers themselves."""
    name = kind if isinstance(kind, str) else kind.__name__
    if name not in _OF_KIND:
        raise InputError(f"there are no questions about a {name}; there are of {', '.join(_OF_KIND)}.")
    return _OF_KIND[name]


def same_text() -> tuple[Question, ...]:
    """Return the question whether a record says the same as the one beside it: for `sampling.borderline`."""
    return (
        Question(
            "same", "Do the two say the same?", "label", _YES_NO,
            "“yes” if one of them could go without a loss: other words alone do not make another text.",
        ),
    )  # fmt: skip


def _yes_no(name: str, title: str, description: str, *, is_required: bool = True) -> Question:
    return Question(name, title, "label", _YES_NO, description, is_required)


_MEANING = {
    "instruction_following": "Does it do what was asked, all of it, in the form that was asked for?",
    "honesty": "Does it claim only as much certainty as it can have? Leave it open where nothing is claimed, as in a poem.",
    "truthfulness": "Is what it says true, and true to the text that was given?",
    "helpfulness": "Is somebody who asked this now better off?",
}


def _ratings(suffix: str = "", of_which: str = "") -> tuple[Question, ...]:
    """The four dimensions that judges rate too (llm.judge), 1 to 5, 5 best."""
    return tuple(
        Question(
            f"{name}{suffix}", f"{name.replace('_', ' ').capitalize()}{of_which}", "rating", _RATINGS,
            f"{_MEANING[name]} 1 is worst, 5 is best.", is_required=False,
        )
        for name in DIMENSIONS
    )  # fmt: skip


def _better(what: str) -> Question:
    return Question(
        "better", f"Which {what} is better?", "label", _WINNERS,
        "“tie” if you would not mind which one you got. Length is no merit.",
    )  # fmt: skip


_OF_KIND: dict[str, tuple[Question, ...]] = {
    "QA": (
        _yes_no(
            "supported", "Does the passage hold the answer up?",
            "“yes” if everything in the answer is said in the passage. With no answer: “yes” if the passage really does not answer the question.",
        ),
        _yes_no(
            "correct", "Is the answer right, and whole?",
            "“yes” if an expert would accept it as it stands. With no answer: “yes” if none should be given.",
        ),
        _yes_no(
            "useful", "Would somebody ask this?",
            "“yes” if the question can be understood without the passage beside it, and its answer is worth knowing.",
        ),
    ),
    "Preference": (_better("answer"), *_ratings("_first", ", of the first"), *_ratings("_second", ", of the second")),
    "Persona": (
        _yes_no("specific", "Could you tell this person from others?", "“yes” if it would not fit half of all people."),
        _yes_no("plausible", "Could this person exist?", "“no” if two things that it says do not go together."),
        _yes_no("fair", "Is it free of clichés that would hurt?", "“no” if somebody of this kind would rightly object."),
    ),
    "Instruction": (
        _yes_no("clear", "Is it clear what is wanted?", "“yes” if two people would set about the same thing."),
        *_ratings(),
    ),
    "Label": (
        _yes_no("correct", "Is the label right?", "“no” if another class fits better."),
        Question("right_label", "Which label is right?", "text", description="Only if the label is wrong.", is_required=False),
    ),
    "Trace": (
        _yes_no("solved", "Was the task done?", "“yes” if whoever gave the task would be content."),
        Question(
            "first_wrong_step", "Which step was the first wrong one?", "label",
            (*map(str, range(1, MOST_STEPS + 1)), "later", "none"),
            "Wrong is a step after which the task can be done no more, or only by taking the step back. Steps are counted from 1.",
        ),
        _yes_no("efficient", "Was every step needed?", "“no” if one could be left out.", is_required=False),
    ),
    "ImagePair": (
        _better("image"),
        Question(
            "fits", "Which shows what was asked for?", "label", ("both", "first", "second", "neither"),
            "Whether it is well made is another question.",
        ),
    ),
    "Document": (_yes_no("usable", "Is it good material?", "“yes” if a careful reader could learn something from it."),),
}  # fmt: skip


# --- what is seen -----------------------------------------------------------------------------------------------------


def shown(record: Record) -> dict[str, str | None]:
    """Return what people see of a record by field, the most telling first; None where the record has nothing.

    The fields are the same for all records of a kind. Of an ImagePair "first" and "second" are paths of images. Raises
    InputError for ratings and votes."""
    of(type(record))
    match record:
        case QA():
            passage = record.passage.text
            return {
                "question": record.question,
                "answer": record.answer,
                "evidence": record.evidence,
                "passage": passage,
            }
        case Preference() | ImagePair():
            first, second = _in_order(record, record.chosen, record.rejected)
            return {"prompt": record.prompt, "first": first, "second": second}
        case Instruction():
            return {"instruction": record.instruction, "input": record.input or None, "output": record.output}
        case Label():
            return {"text": record.text, "label": record.label}
        case Trace():
            return {"task": record.task, "steps": _steps(record), "tools": record.tools or None}
    names = record.text_fields
    return {names[0]: getattr(record, names[0]), **{name: getattr(record, name) or None for name in names[1:]}}


def is_turned(record: Record) -> bool:
    """True when the rejected text of this pair is shown first: by the record's id, so the same for everybody."""
    return int(content_hash(["shown", record.id])[:8], 16) % 2 == 1


def texts(record: Preference) -> tuple[Instruction, Instruction]:
    """Return the two texts of a preference in the order in which they are shown, as records that a judge can rate."""
    return _in_order(record, *(Instruction(record.prompt, output=text) for text in (record.chosen, record.rejected)))


def text_ids(record: Preference | ImagePair) -> tuple[str, str]:
    """Return the ids of the two in the order in which they are shown.

    They are those of the judged texts that a pair was made of (quality.pairs names them as its parents), else of
    `texts`; of images, "<record id>/chosen" and "<record id>/rejected"."""
    parents = record.provenance.parents
    if record.provenance.recipe == "preference" and len(parents) == 2:
        return _in_order(record, *parents)
    if isinstance(record, Preference):
        first, second = texts(record)
        return first.id, second.id
    return _in_order(record, f"{record.id}/chosen", f"{record.id}/rejected")


def _in_order(record: Record, chosen: Any, rejected: Any) -> tuple[Any, Any]:
    return (rejected, chosen) if is_turned(record) else (chosen, rejected)


def _steps(record: Trace) -> str:
    """The steps, numbered as `first_wrong_step` counts them."""
    said = []
    for number, step in enumerate(record.steps, 1):
        calls = f"\ncalls: {step.tool_calls}" if step.tool_calls else ""
        said.append(f"[{number}] {step.role}: {step.content}{calls}")
    return "\n\n".join(said)


_ABOUT: Mapping[str, str] = {
    "QA": "Each record is a question about one passage, and an answer that was written from that passage alone. Some questions are meant to have no answer there: then none is shown.",
    "Preference": "Each record is a prompt and two answers to it. Which of the two stands first is drawn by lot.",
    "Persona": "Each record describes a person, in whose name questions are to be asked. It adds variety, not knowledge.",
    "Instruction": "Each record is an instruction to a model, and what a model made of it, where it has been asked.",
    "Label": "Each record is a text and the class that it was given.",
    "Trace": "Each record is a task and what an agent did for it, step by step: what it said, which tools it called, and what these answered.",
    "ImagePair": "Each record is a prompt and two images made for it. Which of the two stands first is drawn by lot.",
    "Document": "Each record is a text from which questions are to be written.",
}


def guidelines(kind: type[Record] | str, asked: Sequence[Question] | None = None) -> str:
    """Return what to tell people before they begin, as Markdown: what they see, what is asked, and what to do in doubt."""
    name = kind if isinstance(kind, str) else kind.__name__
    asked = of(name) if asked is None else asked
    lines = [
        f"- **{each.title}** {each.description}{'' if each.is_required else ' *(may be left open)*'}" for each in asked
    ]
    return "\n".join([
        "## What you see", "", _ABOUT[name], "",
        "## What is asked", "", *lines, "",
        "## How to go about it", "",
        "- Read all of it before you answer, and answer for yourself: where people differ is what we want to learn.",
        "- A suggestion, where there is one, comes from a model. It is often wrong; change it without hesitation.",
        "- **Discard** a record that cannot be judged: it is cut off, in a language that you do not read, or asks for what you do not know. Do not guess.",
        "- Nothing is final: submitted answers can be changed.",
    ])  # fmt: skip
