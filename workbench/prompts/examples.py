"""Examples: what a prompt is optimised and compared on, with how its answers are read and scored.

    rows = examples.rag_question(store.documents("data/documents"), count=120)
    rows[0].values, rows.scored(rows[0], fields).feedback
    train, dev, held_out = rows.split()                        # by document: no part knows another's pages

`of_rows` makes them of a table of your own."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, islice, zip_longest
from numbers import Real
from typing import Any

from workbench import _html
from workbench._code import code_fingerprint
from workbench.corpus import Corpus
from workbench.errors import InputError
from workbench.prompts import library
from workbench.prompts.library import Prompt
from workbench.quality.metrics import Metric, Scored, persona_metric, question_metric
from workbench.recipes import persona as persona_recipe
from workbench.recipes import rag_qa
from workbench.records import QA, Document, Failure, Provenance, Record, Span, content_hash


@dataclass(frozen=True)
class Example:
    """What a prompt's variables get, and the group, such as a document, that must not be divided over a split.

    `outputs` are gold fields where somebody wrote them; `source` is what `read` needs besides, and is not compared."""

    values: Mapping[str, str]
    group: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    source: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "values", dict(self.values))
        object.__setattr__(self, "outputs", dict(self.outputs))

    @cached_property
    def id(self) -> str:
        """The hash of values, group and outputs."""
        return content_hash([self.values, self.group, self.outputs])

    def __hash__(self) -> int:
        return hash(self.id)


Read = Callable[[Example, Mapping[str, Any]], Record | Failure]


@dataclass(frozen=True, repr=False)
class Examples(Sequence[Example]):
    """Examples in order, with `read`, which makes a record or a failure of an answer's fields, and the metric for it.

    Raises InputError for examples of different variables, and for two with the same values: an example that is there
    twice counts twice, and could stand on both sides of a split."""

    rows: tuple[Example, ...]
    read: Read
    metric: Metric
    name: str = "examples"

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(self.rows))
        first: dict[str, int] = {}
        for at, row in enumerate(self.rows):
            if row.values.keys() != self.rows[0].values.keys():
                raise InputError(
                    f"{self.name}: example {at} has {', '.join(row.values)}, and the first {', '.join(self.rows[0].values)}. "
                    "All of them go to the same prompt: give them the same variables."
                )
            if (other := first.setdefault(content_hash(row.values), at)) != at:
                raise InputError(f"{self.name}: examples {other} and {at} have the same values. Drop one of them.")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.rows)

    def __getitem__(self, at: Any) -> Any:
        """The example at an index; a slice gives Examples."""
        return replace(self, rows=self.rows[at]) if isinstance(at, slice) else self.rows[at]

    @cached_property
    def sha256(self) -> str:
        """24 hex digits over values, groups and outputs, in order."""
        return content_hash([[row.values, row.group, row.outputs] for row in self.rows])

    @cached_property
    def scoring(self) -> str:
        """The hash of how an answer is read and scored: metric, weights, and the code of both."""
        return content_hash([self.metric.content_id, code_fingerprint(self.read)])

    def outcome(self, example: Example, fields: Mapping[str, Any] | Failure) -> Record | Failure:
        """Return the record that an answer's fields make of an example, or why there is none; a failure stays one."""
        return fields if isinstance(fields, Failure) else self.read(example, fields)

    def scored(self, example: Example, fields: Mapping[str, Any] | Failure) -> Scored:
        """Return the metric of what the fields make of an example."""
        return self.metric(self.outcome(example, fields))

    def split(self, *, train: float = 0.4, dev: float = 0.3, seed: int = 0) -> "Split":
        """Return three parts that share no group: `train` and `dev` of the rows, and the rest held out.

        Groups are shuffled, then cut where the rows come nearest to the shares; rows keep their order. The same seed gives
        the same parts. Raises InputError for shares that leave a part empty, and for fewer than 3 groups."""
        if not (train > 0 and dev > 0 and train + dev < 1):
            raise InputError(
                f"train and dev are shares above 0 that add up to less than 1, so that some rows are held out; got "
                f"train={train}, dev={dev}. The default is 0.4 and 0.3."
            )
        sizes = Counter(row.group for row in self.rows)
        if len(sizes) < 3:
            raise InputError(
                f"{self!r} cannot be split in three: groups stay whole. Give 3 groups (documents) or more."
            )
        groups = sorted(sizes)
        random.Random(f"split/{seed}").shuffle(groups)
        rows_up_to = [0, *accumulate(sizes[group] for group in groups)]
        nearest = lambda share, places: min(places, key=lambda at: abs(rows_up_to[at] - share * len(self)))
        first = nearest(train, range(1, len(groups) - 1))
        second = nearest(train + dev, range(first + 1, len(groups)))
        part = lambda name, chosen: replace(
            self, rows=tuple(row for row in self.rows if row.group in chosen), name=f"{self.name}, {name}"
        )
        return Split(
            part("train", {*groups[:first]}), part("dev", {*groups[first:second]}), part("held out", {*groups[second:]})
        )

    @property
    def _size(self) -> str:
        groups = len({row.group for row in self.rows})
        return f"{len(self):,} example{'' if len(self) == 1 else 's'} of {groups:,} group{'' if groups == 1 else 's'}"

    def __repr__(self) -> str:
        return f"{self.name}: {self._size}"

    def _repr_html_(self) -> str:
        columns = [*(self.rows[0].values if self.rows else ()), "group"]
        rows = [[*row.values.values(), row.group] for row in self.rows[:3]]
        return _html.html_table(columns, rows, len(self), note=f"{self!r}, scored by {self.metric.name}")


@dataclass(frozen=True, repr=False)
class Split:
    """Examples to learn from, to choose by, and to report on: no group and no input is in two, and all are read and scored
    alike. Raises InputError otherwise."""

    train: Examples
    dev: Examples
    held_out: Examples

    def __post_init__(self):
        home: dict[str, str] = {}
        asked: dict[str, str] = {}
        for name, part in zip(("train", "dev", "held_out"), self, strict=True):
            if not part:
                raise InputError(f"{name} is empty. Give more examples, or another share.")
            is_same = part.metric is self.train.metric and part.read is self.train.read  # reading code takes a while
            if not is_same and part.scoring != self.train.scoring:
                raise InputError(f"{name} is read or scored otherwise than train. Make all three by Examples.split().")
            if same := [row for row in part if asked.setdefault(content_hash(row.values), name) != name]:
                where = asked[content_hash(same[0].values)]
                raise InputError(
                    f"{len(same):,} inputs of {name} are in {where} too. Leave them out of one of the two."
                )
            if shared := [row.group for row in part if home.setdefault(row.group, name) != name]:
                raise InputError(
                    f"group {shared[0]} is in {home[shared[0]]} and in {name}: what was learnt there would be tested here. "
                    "Keep groups whole, as Examples.split() does."
                )

    def __iter__(self) -> Iterator[Examples]:
        return iter((self.train, self.dev, self.held_out))

    def __repr__(self) -> str:
        return f"Split({self.train._size} to train on, {self.dev._size} for dev, {self.held_out._size} held out)"

    def _repr_html_(self) -> str:
        total = sum(map(len, self))
        rows = [
            [name, len(part), len({row.group for row in part}), f"{len(part) / total:.0%}", part.sha256]
            for name, part in zip(("train", "dev", "held out"), self, strict=True)
        ]
        return _html.html_table(["part", "examples", "groups", "share", "sha256"], rows, note=self.train.metric.name)


# --- the workbench's own prompts --------------------------------------------------------------------------------------


def rag_question(
    documents: Sequence[Document] | Corpus,
    *,
    count: int,
    prompt: Prompt | None = None,
    seed: int = 0,
    metric: Metric | None = None,
) -> Examples:
    """Return `count` passages to ask a question about, each of a kind drawn as `rag_qa.plan` draws it, grouped by document
    and spread over all documents evenly.

    They suit prompts that take section, passage and kind; `prompt` (rag/question@1) is the one whose words must not come
    back. The metric is `question_metric`. An answer becomes the row that `rag_qa.make` would make, but where the evidence
    is not in the passage: that stays a row, without a span, so that its other parts still count. Each text of a passage is
    drawn once. Raises InputError when there are fewer."""
    prompt = prompt or library.load("rag/question@1")
    corpus = documents if isinstance(documents, Corpus) else Corpus.of(documents)
    tasks = rag_qa.plan(corpus, prompt=prompt, seed=seed, mix=rag_qa.Mix(unanswerable=0.0, negatives=0))
    values = lambda task: {"section": task.chunk.section, "passage": task.chunk.text, "kind": task.kind}
    rows = _drawn(tasks, values, count)
    return Examples(rows, _read_question, metric or question_metric(prompt), prompt.name)


def persona(
    documents: Sequence[Document] | Corpus,
    *,
    count: int,
    prompt: Prompt | None = None,
    seed: int = 0,
    metric: Metric | None = None,
) -> Examples:
    """Return `count` passages to describe a person for, in relations drawn as `persona.plan` does, grouped by document
    and spread over all documents evenly.

    They suit prompts that take section, passage and relation, such as persona/from_text@1; the metric is `persona_metric`.
    Each text of a passage is drawn once. Raises InputError when there are fewer."""
    prompt = prompt or library.load("persona/from_text@1")
    corpus = documents if isinstance(documents, Corpus) else Corpus.of(documents)
    tasks = persona_recipe.plan(corpus, count=len(corpus), prompt=prompt, seed=seed)
    values = lambda task: {"section": task.chunk.section, "passage": task.chunk.text, "relation": task.relation}
    rows = _drawn(tasks, values, count)
    return Examples(rows, _read_persona, metric or persona_metric(prompt), prompt.name)


def _drawn(tasks: Iterable[Any], values: Callable[[Any], dict[str, str]], count: int) -> tuple[Example, ...]:
    """`count` examples in rounds over the documents, one of each a round: a changelog of a thousand passages would be most
    of the examples, and an interval over documents would have few to go by. A text that stands on several pages is drawn
    once, or it would be on both sides of a split."""
    if count < 1:
        raise InputError(f"count must be 1 or more, got {count}.")
    texts: set[str] = set()
    by_document: dict[str, list[Example]] = {}
    for task in tasks:
        if task.chunk.text not in texts:
            texts.add(task.chunk.text)
            document = task.chunk.passage.span.document_id
            by_document.setdefault(document, []).append(Example(values(task), document, source=task.chunk))
    if len(texts) < count:
        raise InputError(
            f"the documents have {len(texts):,} different passages, and {count:,} examples were asked for. "
            f"Give more documents, or count={len(texts)}."
        )
    rounds = zip_longest(*by_document.values())
    return tuple(islice((example for each in rounds for example in each if example is not None), count))


def _read_question(example: Example, fields: Mapping[str, Any]) -> QA | Failure:
    passage = example.source.passage
    row = rag_qa.read(fields, passage)
    if isinstance(row, Failure):
        if row.reason != "evidence":
            return row
        row = QA(fields["question"].strip(), fields["answer"].strip(), fields["evidence"].strip(), passage)
    return replace(row, provenance=_provenance("rag_qa", "reformation", passage.span))


def _read_persona(example: Example, fields: Mapping[str, Any]) -> Record | Failure:
    person = persona_recipe.read(fields, example.values["relation"])
    if isinstance(person, Failure):
        return person
    return replace(person, provenance=_provenance("persona", "prompting", example.source.passage.span))


def _provenance(recipe: str, operation: str, span: Span) -> Provenance:
    """Where the text is from. What was asked and what answered is known to the caller alone, and is not made up here."""
    return Provenance(recipe, operation, ("document",), parents=(span.document_id,), source=span)


# --- any table --------------------------------------------------------------------------------------------------------


def of_rows(
    rows: Sequence[Mapping[str, Any]],
    *,
    variables: Sequence[str],
    group: str,
    read: Read,
    metric: Metric,
    outputs: Sequence[str] = (),
) -> Examples:
    """Return the examples of a table: a row's `variables` are the prompt's, `group` names the column that a split respects.

        labels = {row["text"]: row["label"] for row in rows}
        examples.of_rows(
            rows, variables=["text"], group="author", outputs=["label"],
            read=lambda example, fields: Label(example.values["text"], fields["label"]),
            metric=Metric({"right": lambda record: Score(float(record.label == labels[record.text]))}),
        )

    Columns named in `outputs` are kept as gold fields; all others are left out. Raises InputError for no rows, a missing
    column, a variable that is no text, a group or an output that is None or NaN, and two rows with the same variables."""
    listed = rows.to_pylist() if hasattr(rows, "to_pylist") else list(rows)
    if not listed:
        raise InputError("there are no rows to make examples of. Check what was read or filtered before.")
    if isinstance(variables, str) or not variables:
        raise InputError(f"variables is a list of column names, such as ['text'], got {variables!r}.")
    made = []
    for at, row in enumerate(listed):
        if not isinstance(row, Mapping):
            raise InputError(
                f"row {at} is a {type(row).__name__}, not a mapping. Give df.to_dict('records') of a data frame."
            )
        if missing := [name for name in (*variables, group, *outputs) if name not in row]:
            raise InputError(
                f"row {at} has no {missing[0]!r}; it has {', '.join(map(str, row))}. Name the column as it is."
            )
        if wrong := [name for name in variables if not isinstance(row[name], str)]:
            raise InputError(
                f"row {at}: {wrong[0]} must be text, got {row[wrong[0]]!r:.80}. Turn it into text, or leave the row out."
            )
        if wrong := [name for name in (group, *outputs) if _is_missing(row[name])]:
            raise InputError(f"row {at}: {wrong[0]} is {row[wrong[0]]}. Fill it in, or leave the row out.")
        made.append(Example({n: row[n] for n in variables}, str(row[group]), {n: row[n] for n in outputs}))
    return Examples(tuple(made), read, metric)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and math.isnan(value))
