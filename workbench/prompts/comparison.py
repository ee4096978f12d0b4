"""Score a prompt on examples, and say whether another one does better: the same inputs, paired, with an interval.

    first = comparison.score(prompts.load("rag/question@1"), held_out, client=ledger)
    versus = comparison.compare(["rag/question@1", "rag/question@2"], held_out, client=ledger)
    versus.sentence, versus.table(), versus.examples(5)

An example is asked once, by the very request of the generator (workbench.llm.ask) and without its repair, so that the
share that could be read counts first answers. A model that refuses scores 0; a server that is down scores nothing, and
ends the call."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench import _html, intervals
from workbench._background import progress_bar
from workbench.errors import BudgetExhausted, CallFailed, InputError, PromptError
from workbench.intervals import Interval
from workbench.llm import Budget, Client, Completion, Ledger, answers
from workbench.llm.client import request_key
from workbench.prompts import library
from workbench.prompts._asking import Asking
from workbench.prompts.examples import Example, Examples
from workbench.prompts.library import FOLDER, Prompt
from workbench.prompts.programs import inputs
from workbench.prompts.tasks import Task, program_of
from workbench.quality.metrics import Scored
from workbench.records import Failure, Record, content_hash
from workbench.runner import Stopped

OFFLINE = "offline rules, no model"


# --- one prompt -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Scores:
    """What a prompt scored on each example, in their order, (examples,) each.

    `models` are the models as answered, none twice; `requests` are the ledger's keys."""

    prompt: Prompt
    examples: Examples
    outcomes: tuple[Record | Failure, ...]
    scored: tuple[Scored, ...]
    models: tuple[str, ...]
    requests: tuple[str, ...]

    @property
    def value(self) -> float:
        """The mean score, 0 to 1."""
        return sum(self.of("all")) / len(self.scored)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(example.group for example in self.examples)

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, Failure))

    @property
    def is_offline(self) -> bool:
        """True when the rule-based offline writer answered, and no model did."""
        return any(model.startswith("offline-rules@") for model in self.models)

    def of(self, part: str) -> list[float]:
        """Return the scores of one part, or of "all" together, (examples,)."""
        return [each.value if part == "all" else each.parts[part] for each in self.scored]

    def interval(self, level: float = 0.95) -> Interval:
        """Return the mean with its interval, documents resampled whole. Raises InputError for examples of one document."""
        return intervals.mean(self.of("all"), groups=self.groups, level=level)

    def parts(self, level: float = 0.95) -> dict[str, Interval]:
        """Return the mean of each part of the metric with its interval, as `interval` does."""
        return {part: intervals.mean(self.of(part), groups=self.groups, level=level) for part in self.scored[0].parts}

    def __repr__(self) -> str:
        return f"{self.prompt.ref} scores {self._shown('all')}: {self._about}"

    @property
    def _about(self) -> str:
        return ", ".join(filter(None, [_count(self.examples), _losses(self), f"by {_by([self])}"]))

    def _shown(self, part: str) -> str:
        if len(set(self.groups)) < 2:
            return f"{sum(self.of(part)) / len(self.scored):.2f} (no interval: one document)"
        found = intervals.mean(self.of(part), groups=self.groups)
        return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"

    def _repr_html_(self) -> str:
        rows = [(part, self._shown(part)) for part in ("all", *self.scored[0].parts)]
        return _html.card(self.prompt.id, self._about, _html.html_table(["part", "mean (95% interval)"], rows))


def score(
    prompt: str | Prompt,
    examples: Examples,
    *,
    client: Client,
    budget: Budget | None = None,
    concurrency: int = 32,
    progress: bool = True,
    run: str = "",
) -> Scores:
    """Return what a prompt scores on every example, each asked once.

    What a model does to a request (OF_THE_MODEL) is a Failure and scores 0. Raises CallFailed when connection, server or
    budget ends it, and Stopped at the stop button: what finished is in the ledger, where the client is one, and the same
    call goes on. Raises PromptError for a prompt that does not fit the examples, before anything is sent where it can."""
    prompt = prompt if isinstance(prompt, Prompt) else library.load(prompt)
    _check_fit(prompt, examples)
    requests = [
        dataclasses.replace(answers.request(client, prompt, example.values), run=run, budget=budget)
        for example in examples
    ]
    keys = tuple(request_key(client, request) for request in requests)
    metric = examples.metric.asked_by(prompt)
    models: dict[int, str] = {}
    outcomes: dict[int, Record | Failure] = {}
    scored: dict[int, Scored] = {}
    total = 0.0
    with progress_bar(prompt.ref, len(examples), "examples", is_wanted=progress) as bar:

        def take(at: int, came: Completion | CallFailed) -> None:
            nonlocal total
            if isinstance(came, CallFailed):
                fields: Any = Failure(came.reason, came.detail, raw=came.raw, cost=came.cost)
            else:
                models[at], fields = came.model, prompt.parse(came.text)
            if isinstance(fields, Failure):
                fields = dataclasses.replace(fields, requests=(keys[at],))
            outcomes[at] = _outcome(prompt, examples, examples[at], fields)
            scored[at] = metric(outcomes[at])
            total += scored[at].value
            if bar is not None:
                bar.set_postfix_str(f"mean {total / len(scored):.3f}", refresh=False)
                bar.update()

        asking = Asking(client, requests, concurrency)
        asking.wait(take)
    if asking.error is not None:
        raise _explained(asking.error, prompt, f"{len(scored):,} of {len(examples):,}", client)
    if asking.is_stopped or len(scored) < len(examples):
        raise Stopped(f"{prompt.ref}: {len(scored):,} of {len(examples):,} examples were answered. {_kept(client)}")
    in_order = range(len(examples))
    return Scores(
        prompt, examples, tuple(outcomes[at] for at in in_order), tuple(scored[at] for at in in_order),
        tuple(dict.fromkeys(models[at] for at in sorted(models))), keys,
    )  # fmt: skip


def seen_in(prompt: Prompt, examples: Examples) -> str:
    """Return what a prompt has of these examples, as a sentence: it was searched for on their documents, or shows one of
    them as a demonstration. Empty when it never saw them."""
    data = prompt.made_by.get("data", {})
    learnt = {group for part in ("train", "dev") for group in data.get(part, {}).get("documents", ())}
    if met := {each.group for each in examples if group_hash(each.group) in learnt}:
        return f"{prompt.ref} was searched for on {len(met):,} of the documents that these examples are of."
    if prompt.is_program:
        demonstrations = program_of(prompt)["demos"]
        names = tuple(prompt.variables)
        shown = {content_hash([demo.get(name) for name in names]) for demo in demonstrations}
        task = Task.of(prompt)
        found = [
            each for each in examples if content_hash([inputs(task, each.values)[name] for name in names]) in shown
        ]
        if found:
            return f"{prompt.ref} shows {len(found):,} of these examples as a demonstration."
    return ""


def group_hash(group: str) -> str:
    """Return what a prompt's header says of a group of examples: a name may be a person's."""
    return content_hash(group)[:12]


def _check_fit(prompt: Prompt, examples: Examples) -> None:
    """Raise when the prompt cannot be asked with what the examples give."""
    if not len(examples):
        raise InputError(f"there is no example to ask {prompt.ref} with. Make some from documents, or split less off.")
    for example in examples:
        if example.values.keys() != prompt.variables.keys():
            raise PromptError(
                f"{prompt.ref} takes {', '.join(prompt.variables)}; the examples give {', '.join(example.values)}. Use the examples made for this prompt, or a version that takes the same."
            )


def _outcome(prompt: Prompt, examples: Examples, example: Example, fields: Any) -> Record | Failure:
    try:
        return examples.outcome(example, fields)
    except KeyError as error:
        if not error.args or error.args[0] in prompt.outputs:
            raise
        raise PromptError(
            f"{prompt.ref} gives {', '.join(prompt.outputs)}; to read its answers the examples need {error.args[0]!r}. Compare versions that give the same fields."
        ) from None


def _explained(error: BaseException, prompt: Prompt, how_many: str, client: Client) -> BaseException:
    """The error that ended the scoring, and what to do."""
    if not isinstance(error, CallFailed):
        return error
    detail = f"{error.detail} An outage is no score, so {prompt.ref} has none: {how_many} examples were answered. {_kept(client)}"
    said = (
        BudgetExhausted(detail)
        if isinstance(error, BudgetExhausted)
        else CallFailed(error.reason, detail, raw=error.raw, fatal=error.fatal, attempts=error.attempts)
    )
    said.key, said.__cause__ = error.key, error
    return said


def _kept(client: Client) -> str:
    if isinstance(client, Ledger):
        return f"They are in {client.path.name}: make the same call again, and only the rest is sent."
    return "Without a ledger they are lost: give client=llm.Ledger(client, path) to keep them."


# --- several prompts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Pair:
    """Two prompts on the same examples: the other one less the baseline, in all and in each part of the metric."""

    baseline: Scores
    other: Scores
    level: float = 0.95

    @cached_property
    def differences(self) -> dict[str, Interval]:
        """The mean difference with its interval, of "all" and then of each part; documents are resampled whole."""
        return {part: self._paired(part) for part in ("all", *self.baseline.scored[0].parts)}

    def _paired(self, part: str) -> Interval:
        groups = self.baseline.groups
        return intervals.paired(self.baseline.of(part), self.other.of(part), groups=groups, level=self.level)

    @property
    def difference(self) -> Interval:
        return self.differences["all"]

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "cannot tell"."""
        return _verdict(self.difference, len(set(self.baseline.groups)))

    @property
    def sentence(self) -> str:
        """What can be said of the two, in one sentence, and in a second one what to doubt it for."""
        first, second, found = self.baseline.prompt.ref, self.other.prompt.ref, self.difference
        count, groups = _count(self.baseline.examples), len(set(self.baseline.groups))
        if self.verdict == "cannot tell":
            size, low, high = _numbers(found.value, found.low, found.high, sign="+")
            said = f"Cannot tell whether {second} scores more or less than {first}: {size} ({low} to {high}, {count})"
            if groups < intervals.FEW:
                said += f". Of fewer than {intervals.FEW} documents no interval can be trusted: add documents."
            elif self.needed:
                many = float(f"{self.needed:.2g}")
                said += f"; about {many:,.0f} examples would be needed to see a difference of this size."
            else:
                said += "."
        else:
            ends = sorted((abs(found.low), abs(found.high)))
            size, low, high = _numbers(abs(found.value), *ends)
            said = f"{second} scores {size} {'more' if found.value > 0 else 'less'} than {first} ({low} to {high}, {count})."
        return said + (f" Answered by the {OFFLINE}." if self.baseline.is_offline or self.other.is_offline else "")

    @cached_property
    def needed(self) -> int | None:
        """About how many examples would show a difference of this size four times in five; None where there is none."""
        scores = self.baseline.of("all"), self.other.of("all")
        return intervals.needed(*scores, groups=self.baseline.groups, level=self.level)

    def __repr__(self) -> str:
        return self.sentence


def between(baseline: Scores, other: Scores, *, level: float = 0.95) -> Pair:
    """Return the pair of two prompts' scores. Raises InputError when they are of other examples or by another metric, and
    PromptError when both are of one version: a sentence could not tell them apart."""
    if baseline.prompt.ref == other.prompt.ref:
        raise PromptError(f"both scores are of {other.prompt.ref}. Compare two versions; save a draft as the next one.")
    a, b = baseline.examples, other.examples
    if a.sha256 != b.sha256 or a.scoring != b.scoring:
        raise InputError(
            f"{baseline.prompt.ref} was scored on {a!r} by {a.metric.name}, {other.prompt.ref} on {b!r} by {b.metric.name}. Score both on the same examples by the same metric."
        )
    return Pair(baseline, other, level)


@dataclass(frozen=True, repr=False)
class Comparison:
    """Each further prompt against the first, the baseline. With several, each interval is wider (Bonferroni), so that
    `level` holds for all of them together."""

    pairs: tuple[Pair, ...]
    level: float = 0.95

    @classmethod
    def of(cls, scores: Sequence[Scores], *, level: float = 0.95) -> "Comparison":
        """Return the comparison of scores on the same examples, the first being the baseline."""
        if len(scores) < 2:
            raise InputError("a comparison takes the scores of two prompts or more; the first is the baseline.")
        first, *others = scores
        each = 1 - (1 - level) / len(others)
        return cls(tuple(between(first, other, level=each) for other in others), level)

    @property
    def scores(self) -> tuple[Scores, ...]:
        """The baseline's, then the others'."""
        return (self.pairs[0].baseline, *(pair.other for pair in self.pairs))

    @property
    def is_offline(self) -> bool:
        """True when the rule-based offline writer answered."""
        return any(each.is_offline for each in self.scores)

    @property
    def sentence(self) -> str:
        """What can be said, computed: a sentence or two for each prompt but the first."""
        return " ".join(pair.sentence for pair in self.pairs)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each prompt but the first and each part, "all" before the parts."""
        return [
            {
                "prompt": pair.other.prompt.ref, "baseline": pair.baseline.prompt.ref, "part": part,
                "baseline_value": sum(pair.baseline.of(part)) / found.n, "value": sum(pair.other.of(part)) / found.n,
                "difference": found.value, "low": found.low, "high": found.high,
                "n": found.n, "groups": len(set(pair.baseline.groups)), "verdict": _verdict(found, len(set(pair.baseline.groups))),
            }
            for pair in self.pairs for part, found in pair.differences.items()
        ]  # fmt: skip

    def table(self) -> Any:
        """Return the rows as a pyarrow table."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.rows())

    def examples(self, count: int = 5, *, prompt: str | Prompt | None = None) -> "Contrasts":
        """Return the inputs on which a prompt (the second, unless named) differs most from the first, with both answers."""
        refs = [pair.other.prompt.ref for pair in self.pairs]
        wanted = refs[0] if prompt is None else prompt.ref if isinstance(prompt, Prompt) else prompt
        if wanted not in refs:
            raise InputError(f"{wanted!r} is not compared here; name one of {', '.join(refs)}.")
        pair = self.pairs[refs.index(wanted)]
        before, after = pair.baseline.of("all"), pair.other.of("all")
        differing = [at for at in range(len(before)) if before[at] != after[at]]
        differing.sort(key=lambda at: -abs(after[at] - before[at]))
        return Contrasts(pair, tuple(differing[:count]), len(differing))

    def notes(self) -> list[str]:
        """Return what a reader has to know beside the numbers, a line each."""
        said = ["The verdict is that of all; single parts are exploratory."]
        if len(self.pairs) > 1:
            said.append(
                f"{len(self.pairs)} prompts are compared with one: intervals are wider, so that {self.level * 100:.4g}% holds for all of them together (Bonferroni)."
            )
        said += [f"{each.prompt.ref}: {lost}." for each in self.scores if (lost := _losses(each))]
        return said

    def _lines(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows as people read them."""
        columns = [
            "prompt",
            "part",
            "baseline",
            "score",
            "difference",
            f"{self.pairs[0].level * 100:.4g}% interval",
            "verdict",
        ]
        if len(self.pairs) == 1:
            columns = columns[1:]
        return columns, [
            [
                *([row["prompt"]] if len(self.pairs) > 1 else []), row["part"],
                f"{row['baseline_value']:.3f}", f"{row['value']:.3f}", f"{row['difference']:+.3f}",
                f"{row['low']:+.3f} to {row['high']:+.3f}", row["verdict"],
            ]
            for row in self.rows()
        ]  # fmt: skip

    @property
    def _title(self) -> str:
        return f"{', '.join(pair.other.prompt.ref for pair in self.pairs)} against {self.pairs[0].baseline.prompt.ref}"

    def __repr__(self) -> str:
        columns, rows = self._lines()
        head = f"{self._title}: {_count(self.scores[0].examples)}, by {_by(self.scores)}"
        return "\n".join([head, _html.text_table(columns, rows), self.sentence, *self.notes()])

    def _repr_html_(self) -> str:
        columns, rows = self._lines()
        note = f"{_count(self.scores[0].examples)}, by {_by(self.scores)}"
        sentences = "".join(f"<p style='margin:6px 0'>{_html.escaped(pair.sentence, 2000)}</p>" for pair in self.pairs)
        body = sentences + _html.html_table(columns, rows, note="\n".join(self.notes()))
        return _html.card(self._title, note, body)


@dataclass(frozen=True, repr=False)
class Contrasts:
    """Inputs that two prompts answer with different scores, the most different first; `total` differ at all."""

    pair: Pair
    places: tuple[int, ...]
    total: int

    def __len__(self) -> int:
        return len(self.places)

    def _line(self) -> str:
        refs = f"{self.pair.baseline.prompt.ref} and {self.pair.other.prompt.ref}"
        whole = len(self.pair.baseline.scored)
        return f"{refs} score differently on {self.total:,} of {whole:,} inputs" + (
            f"; the {len(self):,} most different" if len(self) < self.total else ""
        )

    def _changes(self, at: int) -> str:
        before, after = self.pair.baseline.scored[at], self.pair.other.scored[at]
        rows = [
            ("all", before.value, after.value),
            *((name, was, after.parts[name]) for name, was in before.parts.items()),
        ]
        return "\n".join(f"{name} {was:.2f} → {now:.2f}" for name, was, now in rows if was != now)

    def _cells(self) -> list[tuple[str, str, str, str]]:
        """(input, the baseline's answer, the other's, what changed in score), a row an input."""
        sides = self.pair.baseline, self.pair.other
        return [
            (
                "\n".join(f"{name}: {text}" for name, text in sides[0].examples[at].values.items()),
                *(_answer(side.outcomes[at]) for side in sides), self._changes(at),
            )
            for at in self.places
        ]  # fmt: skip

    def __repr__(self) -> str:
        names = "input", self.pair.baseline.prompt.ref, self.pair.other.prompt.ref, "scores"
        blocks = ["\n".join(f"[{name}] {text}" for name, text in zip(names, row, strict=True)) for row in self._cells()]
        return "\n\n".join([f"{self._line()}.", *blocks])

    def _repr_html_(self) -> str:
        cell = "padding:4px 14px 4px 0;text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
        names = "input", self.pair.baseline.prompt.ref, self.pair.other.prompt.ref, "scores"
        widths = "26%", "30%", "30%", "14%"
        head = "".join(
            f"<th style='{cell};width:{width};opacity:.65;font-weight:normal'>{_html.escaped(name)}</th>"
            for name, width in zip(names, widths, strict=True)
        )
        body = "".join(
            "<tr style='background:transparent;border-top:1px solid var(--jp-border-color2,#8884)'>"
            + "".join(f"<td style='{cell}'>{_html.escaped(text, 700)}</td>" for text in row[:-1])
            + f"<td style='{cell};white-space:pre'>{_html.escaped(row[-1])}</td></tr>"
            for row in self._cells()
        )  # fmt: skip
        table = f"<table style='border-collapse:collapse'><tr>{head}</tr>{body}</table>" if self.places else ""
        return _html.card(self._line(), "", table)


def compare(
    prompts: Sequence[str | Prompt],
    examples: Examples,
    *,
    client: Client,
    budget: Budget | None = None,
    folder: str | os.PathLike[str] = FOLDER,
    level: float = 0.95,
) -> Comparison:
    """Return each further prompt against the first, all asked the same examples; a name@version is loaded from `folder`.

    Everything that cannot be compared is refused before anything is sent: PromptError for prompts that do not fit the
    examples or come twice, InputError for fewer than two prompts or examples of one document. Raises what `score` raises."""
    if isinstance(prompts, str | Prompt) or len(prompts) < 2:
        raise InputError("a comparison takes a list of two prompts or more; the first is the baseline.")
    loaded = [each if isinstance(each, Prompt) else library.load(each, folder=folder) for each in prompts]
    for each in loaded:
        _check_fit(each, examples)
        if [other.ref for other in loaded].count(each.ref) > 1:
            raise PromptError(f"{each.ref} is there twice. Name each version once; save one of two drafts as the next.")
        if known := seen_in(each, examples):
            raise InputError(f"{known} Compare on examples that it never saw, such as the held-out part of its split.")
    if len({example.group for example in examples}) < 2:
        raise InputError(
            f"{examples!r} are of one document, and no interval can be given for others. Make examples from several documents."
        )
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, such as 0.95, got {level}.")
    return Comparison.of([score(each, examples, client=client, budget=budget) for each in loaded], level=level)


# --- words ------------------------------------------------------------------------------------------------------------


def _verdict(found: Interval, groups: int) -> str:
    if groups < intervals.FEW or not found.excludes_zero:
        return "cannot tell"  # of few groups the interval is too narrow: it would decide one null in five
    return "better" if found.value > 0 else "worse"


def _count(examples: Examples) -> str:
    groups = len({example.group for example in examples})
    return f"{len(examples):,} example{'s'[: len(examples) != 1]} of {groups:,} document{'s'[: groups != 1]}"


def _losses(scores: Scores) -> str:
    """Its failures by reason; empty where there are none."""
    reasons = Counter(failure.reason for failure in scores.failures).most_common()
    shown = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
    return f"{len(scores.failures):,} failed ({shown})" if reasons else ""


def _by(scores: Sequence[Scores]) -> str:
    models = dict.fromkeys(model for each in scores for model in each.models)
    return (", ".join(models) or "nobody: no answer was usable") + (
        f" [{OFFLINE}]" if any(each.is_offline for each in scores) else ""
    )


def _answer(outcome: Record | Failure) -> str:
    """What came of an answer, as a reader reads it."""
    if isinstance(outcome, Failure):
        return f"{outcome.reason}: {outcome.detail}" + (f"\n\n{outcome.raw}" if outcome.raw else "")
    texts = {name: getattr(outcome, name) for name in outcome.text_fields}
    return "\n\n".join(f"{name}: {text}" for name, text in texts.items() if text)


def _numbers(*values: float, sign: str = "") -> list[str]:
    """The values with two decimals, or with as many as keep those that are not zero from looking it, up to four."""
    digits = next((d for d in (2, 3) if all(round(abs(value), d) or not value for value in values)), 4)
    return [f"{value:{sign}.{digits}f}" for value in values]
