"""Is a set worth training on: it and its controls, trained alike with several seeds, measured on what nobody trained on.

    found = compare.run(pairs, out="data/runs/worth", base="tiny-base", plan=Plan(method="dpo"))
    found                                       # a verdict in words with its reason, each arm, each difference
    compare.run({"all": pairs, "filtered": kept}, out=..., held_out=labelled_by_people)

Everything that decides is written down before anything is trained: arms, seeds, settings, the primary metric, the rows. A
folder keeps to what it was begun with, and the same call goes on where it ended.

Rows are split by document, persona and prompt, so that nothing is on both sides. All arms have the same number of rows, of
steps and of tokens, which is checked before and after; the controls of each seed are drawn anew.

Metrics of pairs, one value a held-out pair:
    probability   that the chosen answer wins, by the reward that training gave each: 1 / (1 + exp(-margin)); of the base 0.5
    margin        chosen less rejected reward; of DPO and ORPO beta times the gain in log-probability over the base, in nats;
                  of a reward model, its reward
    accuracy      1 where the margin is above 0, 0.5 where it is 0
    likelier      1 where the model itself finds the chosen answer likelier than the rejected one; short answers are likelier
and of answers ("sft") `loss`, nats a token of the held-out answer. With `Measures`: `text loss` on texts by people, `answer
characters`, and the score of a task.

`probability` decides by default, not `accuracy`: labels by lot push a model a little one way or the other, and if held-out
pairs are alike, accuracy turns that little into far from a half. Rafailov et al. 2023, arXiv:2305.18290, eq. 5 and 7."""

import contextlib
import os
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench import _html, experiments, intervals, store
from workbench._background import only_writer, progress_bar
from workbench.errors import InputError, RunError
from workbench.experiments import Experiment
from workbench.records import QA, Instruction, Preference, Record, by_id, content_hash, one_kind
from workbench.train import controls, forms, scoring, splits, trl_runs, verdicts
from workbench.train.bases import TINY, Base, load
from workbench.train.controls import Arm
from workbench.train.trl_runs import Settings, Trained
from workbench.train.verdicts import BASE, Finding

PRIMARY = {"dpo": "probability", "orpo": "probability", "reward": "probability", "sft": "loss"}
PAIR_METRICS = ("probability", "margin", "accuracy", "likelier")
LONGER = "chosen is longer"  # of a pair, whatever the model: 1, 0, or 0.5 for equal lengths
TEXT_LOSS, ANSWER_CHARACTERS = "text loss", "answer characters"
_CONTROLS = {
    "pairs": (verdicts.SHUFFLED, verdicts.LENGTH, verdicts.RANDOM, verdicts.TWICE),
    "sft": (verdicts.MISMATCHED, verdicts.TWICE),
}
ITEMS, HELD_OUT = "items.parquet", "held_out.parquet"
_ITEMS = pa.schema([
    ("arm", pa.string()), ("seed", pa.int64()), ("item", pa.string()), ("group", pa.string()), ("metric", pa.string()),
    ("value", pa.float64()),
])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is decided before anything is trained. `seeds` are how many times each arm is trained.

    `primary` is the metric that decides, "" for the method's own (PRIMARY). `controls` names those to train, None for all
    that suit the rows; a set can only be found to help or harm where the controls that the verdict needs were trained.
    `held_out` is the share of rows to measure on where no others are given, `max_held_out` the most of them."""

    method: str = "dpo"
    seeds: int = 3
    primary: str = ""
    controls: tuple[str, ...] | None = None
    settings: Settings = Settings()  # noqa: RUF009  frozen
    held_out: float = 0.3
    max_held_out: int = 500
    level: float = 0.95
    split_seed: int = 0

    def __post_init__(self):
        if self.method not in trl_runs.METHODS:
            raise InputError(f"method {self.method!r} is not one of {', '.join(trl_runs.METHODS)}.")
        known = _CONTROLS["sft" if self.method == "sft" else "pairs"]
        if unknown := set(self.controls or ()) - set(known):
            raise InputError(f"{min(unknown)!r} is no control for {self.method}; there are {', '.join(known)}.")
        if self.seeds < 1 or not 0 < self.held_out < 1 or not 0.5 <= self.level < 1 or self.max_held_out < 2:
            raise InputError(
                f"seeds 1 or more, held_out a share, level 0.5 to 1, max_held_out 2 or more; got {self.seeds}, {self.held_out}, {self.level}, {self.max_held_out}."
            )

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.primary or PRIMARY[self.method]

    @property
    def control_names(self) -> tuple[str, ...]:
        """The controls that are trained."""
        return self.controls if self.controls is not None else _CONTROLS["sft" if self.method == "sft" else "pairs"]


@dataclass(frozen=True)
class Task:
    """Questions with answers that can be checked: the model writes, and `score` (what it wrote, what is wanted) says 0 to 1."""

    name: str
    prompts: Sequence[str]
    wanted: Sequence[str]
    score: Callable[[str, str], float]

    def __post_init__(self):
        if len(self.prompts) != len(self.wanted) or not len(self.prompts):
            raise InputError(
                f"task {self.name!r} has {len(self.prompts):,} prompts and {len(self.wanted):,} answers; give one each."
            )
        if experiments.is_lower_better(self.name) or self.name in (*PAIR_METRICS, ANSWER_CHARACTERS, LONGER):
            raise InputError(
                f"task {self.name!r} has the name of another metric, or of a loss. Call it something else."
            )


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured beside the primary metric: loss on `texts` written by people, how long the answers are that a model
    writes to the first `answers` held-out prompts, and a task. Answers have `max_tokens` at most."""

    texts: Sequence[str] = ()
    answers: int = 0
    task: Task | None = None
    max_tokens: int = 48

    @property
    def content_id(self) -> str:
        task = self.task and [
            self.task.name,
            list(self.task.prompts),
            list(self.task.wanted),
            getattr(self.task.score, "__name__", ""),
        ]
        return content_hash([list(self.texts), self.answers, task, self.max_tokens])


def exact_match(written: str, wanted: str) -> float:
    """Return 1.0 where both are the same but for case, punctuation, articles and blanks, else 0.0.

    Rajpurkar et al. 2016, arXiv:1606.05250 (the rule of SQuAD's evaluation script)."""
    plain = lambda text: " ".join(
        re.sub(r"\b(a|an|the)\b", " ", "".join(each for each in text.lower() if each not in string.punctuation)).split()
    )
    return float(plain(written) == plain(wanted))


@dataclass(frozen=True, repr=False)
class Comparison:
    """What came of an experiment: `findings`, one a treatment; `items`, a row a measurement; the `experiment` as it is filed."""

    folder: Path
    experiment: Experiment
    findings: tuple[Finding, ...]
    items: pa.Table = field(compare=False)

    @property
    def verdict(self) -> str:
        """The verdict on the first treatment."""
        return self.findings[0].verdict

    @property
    def is_offline(self) -> bool:
        """True where rows came from the offline writer, so that figures made of this say it."""
        return self.experiment.is_offline

    @property
    def primary(self) -> str:
        return self.findings[0].primary

    @cached_property
    def arms(self) -> list[dict[str, Any]]:
        """A row an arm by the primary metric: arm, value, low, high, seeds (the mean under each), is_control."""
        return _arms(self.items, self.primary, self.experiment.settings["treatments"])

    def steps(self) -> store.Rows:
        """Return what every training logged; see `experiments.steps`."""
        return experiments.steps(self.folder)

    @property
    def _about(self) -> str:
        settings = self.experiment.settings
        rows, tokens = (settings["equal"][name] for name in ("rows", "tokens"))
        held = settings["held_out"]
        return (
            f"{self.experiment.name}; {rows:,} rows, {tokens:,} tokens an arm and seed; {settings['plan']['seeds']} seeds; "
            f"{held['rows']:,} held-out rows of {held['groups']:,} groups"
        )

    def _rows(self) -> list[tuple[str, str, str]]:
        first = self.findings[0]
        shown = lambda row: (
            f"{row['value']:.3f}" + ("" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})")
        )
        gain = lambda arm: str(found) if (found := first.of(arm)) else ""
        return [(row["arm"], shown(row), gain(row["arm"])) for row in self.arms]

    def __repr__(self) -> str:
        columns = ("arm", self.primary, f"{self.findings[0].treatment} is better by")
        return "\n".join([*map(repr, self.findings), self._about, _html.text_table(columns, self._rows())])

    def _repr_html_(self) -> str:
        columns = ("arm", self.primary, f"{self.findings[0].treatment} is better by")
        said = "".join(
            f"<div><b>{_html.escaped(each.verdict)}</b>: {_html.escaped(each.treatment)}. {_html.escaped(each.reason, 2000)}</div>"
            for each in self.findings
        )
        warning = "The rows were written by the offline rules, not by a model." if self.is_offline else ""
        return _html.card(
            "Worth training on?", self._about, said + _html.html_table(columns, self._rows()), warning=warning
        )


def run(
    treatments: Sequence[Record] | Mapping[str, Sequence[Record]],
    *,
    out: str | os.PathLike[str],
    base: str | os.PathLike[str] | Base = TINY,
    plan: Plan = Plan(),
    held_out: Sequence[Record] = (),
    measures: Measures = Measures(),
) -> Comparison:
    """Return whether these rows are worth training on, by fine-tunes of `base` on them and on their controls.

    `treatments` are records, or several sets of them by name, the first of which the controls are made of: Preference for
    "dpo", "orpo" and "reward"; Instruction with an output or QA for "sft". Sets of several sizes are brought to the size of
    the smallest, at the same number of tokens. `held_out` are rows to measure on, such as people's own answers or votes;
    without them a share of the first treatment's rows is held out.

    Raises InputError for rows that cannot be used, held-out rows that share something with the others, and a folder that
    was begun with other data or another plan; RunError where a training fails; Stopped at the stop button. What was trained
    and measured stays, and the same call goes on."""
    base = base if isinstance(base, Base) else load(base)
    _check_primary(plan, measures)
    prepared = _prepared(treatments, base, plan, held_out)
    for seed in range(plan.seeds):  # before hours of training: some controls cannot be made, or not as long
        for arm in prepared.arms(seed):
            _check_equal(arm, len(arm), sum(map(prepared.count, arm.rows)), prepared)
    with _folder(out) as out:
        begun = _begin(out, prepared, base, plan, measures)
        seen, tables = [], [_measured_base(out, prepared, base, measures)]
        total = plan.seeds * len(prepared.names)
        with progress_bar(begun.name, total, "trainings") as bar:
            for seed in range(plan.seeds):
                for arm in prepared.arms(seed):
                    folder = _arm_folder(out, arm.name, seed)
                    if bar is not None:
                        bar.set_postfix_str(f"{arm.name}, seed {seed}")
                    trained = _train(plan.method)(arm.rows, out=folder, base=base, settings=plan.settings, seed=seed)
                    epochs = trained.settings["epochs"]
                    _check_equal(arm, trained.rows / epochs, trained.tokens / epochs, prepared)
                    tables.append(_measured(folder, trained, arm.name, prepared, base, measures))
                    seen.append(trained)
                    if bar is not None:
                        bar.update()
        return _finish(out, begun, _written(out, tables), seen)


def read(folder: str | os.PathLike[str]) -> Comparison:
    """Return the experiment that finished in this folder. Raises StoreError where there is none, RunError while it is not done."""
    experiment = experiments.read(folder)
    if experiment.kind != "training" or experiment.status != "finished":
        raise RunError(
            f"{folder} holds a {experiment.kind} that is {experiment.status}. The call that began it goes on with it."
        )
    items = store.read_table(Path(folder) / ITEMS)
    return Comparison(Path(folder), experiment, _judge(experiment, items), items)


@contextlib.contextmanager
def _folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Make the folder, and hold it for one experiment."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {out}: {error.strerror}. Give out= a folder that can be written.") from None
    with only_writer(out):
        yield out


# --- rows and arms --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """The rows of each treatment and what they are measured on. As `_prepared` gives it, they have as many rows and tokens each."""

    treatments: Mapping[str, tuple[Record, ...]]
    held_out: tuple[Record, ...]
    groups: tuple[str, ...]
    controls: tuple[str, ...]
    fits: Callable[..., bool]
    count: Callable[[Record], int]
    left_out: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        return *self.treatments, *self.controls

    @property
    def rows(self) -> int:
        return len(next(iter(self.treatments.values())))

    @property
    def tokens(self) -> int:
        """The tokens of an arm in one epoch."""
        return sum(map(self.count, next(iter(self.treatments.values()))))

    def arms(self, seed: int) -> list[Arm]:
        """Every arm that is trained under this seed, the controls drawn for it."""
        first = next(iter(self.treatments.values()))
        tokens = [self.count(row) for row in first]
        make: dict[str, Callable[[], Arm]] = {
            verdicts.SHUFFLED: lambda: controls.shuffled_labels(first, seed=seed),
            verdicts.LENGTH: lambda: controls.length_only(first, seed=seed),
            verdicts.RANDOM: lambda: controls.random_pairs(first, seed=seed, fits=self.fits),
            verdicts.MISMATCHED: lambda: controls.mismatched_answers(first, seed=seed, fits=self.fits),
            verdicts.TWICE: lambda: controls.half_twice(first, seed=seed, tokens=tokens),
        }
        return [
            *(Arm(name, rows, False, "The rows as they are.") for name, rows in self.treatments.items()),
            *(make[name]() for name in self.controls),
        ]


def _check_primary(plan: Plan, measures: Measures) -> None:
    """Raise InputError for a primary metric that will not be measured, or of which neither more nor less is better."""
    beside = [TEXT_LOSS] if measures.texts else []
    beside += [measures.task.name] if measures.task else []
    known = {"sft": ["loss", *beside], "reward": [*PAIR_METRICS[:3]]}.get(plan.method, [*PAIR_METRICS, *beside])
    if plan.metric not in known:
        raise InputError(
            f"{plan.metric!r} cannot decide an experiment of {plan.method}; what can is {', '.join(known)}."
        )


def _check_names(named: Mapping[str, Any]) -> None:
    """Raise InputError where a treatment's name is a control's, or no name of a folder of its own."""
    folder = lambda name: _folder_name(name).lower()  # on some systems one folder whatever the case
    ours = (BASE, *_CONTROLS["pairs"], *_CONTROLS["sft"])
    taken = {folder(name): name for name in ours}
    for name in named:
        if other := taken.get(folder(name)):
            what = "a control" if other in ours else f"a folder that {other!r} has too"
            raise InputError(f"{name!r} is the name of {what}. Call the treatment something else.")
        if not re.fullmatch(r"\w[\w .+-]*", name):
            raise InputError(
                f"treatment {name!r} cannot name a folder: use letters, digits, blanks and . + - _, a letter or digit first."
            )
        taken[folder(name)] = name


def _folder_name(arm: str) -> str:
    return arm.replace(" ", "-")


def _prepared(
    given: Sequence[Record] | Mapping[str, Sequence[Record]], base: Base, plan: Plan, held_out: Sequence[Record]
) -> _Prepared:
    """The treatments at equal rows and tokens, apart from what is held out."""
    apart = _apart(given, base, plan, held_out)
    trained = _equal(apart.treatments, apart.count, verdicts.TWICE in plan.control_names, plan.split_seed)
    (size,) = {len(rows) for rows in trained.values()}
    if size < 4:
        raise InputError(
            f"{size} rows are left to train on, and arms need 4 at least. Give more rows, or hold out fewer."
        )
    too_many = sum(len(rows) - size for rows in apart.treatments.values())
    return replace(apart, treatments=trained, left_out={**apart.left_out, "to_make_arms_equal": too_many})


def _apart(
    given: Sequence[Record] | Mapping[str, Sequence[Record]], base: Base, plan: Plan, held_out: Sequence[Record]
) -> _Prepared:
    """The treatments as they are trained on, without rows that are too long, apart from what is held out."""
    named = dict(given) if isinstance(given, Mapping) else {"all": given}
    if not named or any(not len(rows) for rows in named.values()):
        empty = next((name for name, rows in named.items() if not len(rows)), "all")
        raise InputError(f"treatment {empty!r} has no rows. Give the records to train on.")
    _check_names(named)
    held_out = list(by_id(held_out).values())
    among = [row for rows in (*named.values(), held_out) for row in rows]
    one_kind(among)
    # Split as they were given: an instruction knows no persona, and unanswerable questions share their answer.
    origin = {made.id: row for row, made in zip(among, _as_trained(among), strict=True)}
    origins = lambda rows: [origin[row.id] for row in rows]
    named = {name: _as_trained(rows) for name, rows in named.items()}
    tokenizer, limit = forms.tokenizer(base), plan.settings.length(base)
    cache: dict[str, tuple[int, int]] = {}

    def sizes(row: Record) -> tuple[int, int]:
        """Tokens of a row in one epoch, and of its longest sequence."""
        if row.id not in cache:
            (line,) = forms.lines([row], plan.method, base)
            cache[row.id] = forms.tokens(line, tokenizer), forms.longest(line, tokenizer)
        return cache[row.id]

    def fits(prompt: str, *answers: str) -> bool:
        row = Preference(prompt, *answers) if len(answers) == 2 else Instruction(prompt, output=answers[0])
        return len(set(answers)) == len(answers) and sizes(row)[1] <= limit

    short = lambda rows: tuple(row for row in rows if sizes(row)[1] <= limit)
    left_out = {"too_long": sum(len(rows) - len(short(rows)) for rows in named.values())}
    named = {name: short(rows) for name, rows in named.items()}
    if empty := [name for name, rows in named.items() if not rows]:
        raise InputError(f"every row of {empty[0]!r} is longer than {limit:,} tokens. Give a larger max_length.")
    if len(held_out):
        test = short(_as_trained(held_out))
        left_out["held_out_too_long"] = len(held_out) - len(test)
        pool = [row for rows in named.values() for row in rows]
        if leaks := splits.leaks(origins(pool), origins(test), among=among):
            raise InputError(
                f"{len({leak.held_out for leak in leaks}):,} held-out rows share something with rows to train on; the first: {leaks[0]}. Leave such rows out of one side."
            )
    else:
        parts = splits.split(
            list(by_id(origins(row for rows in named.values() for row in rows)).values()),
            held_out=plan.held_out, seed=plan.split_seed, among=among,
        )  # fmt: skip
        held = {row.id for row in parts.held_out}
        is_held = lambda row: origin[row.id].id in held
        test = tuple(by_id(filter(is_held, next(iter(named.values())))).values())
        named = {name: tuple(row for row in rows if not is_held(row)) for name, rows in named.items()}
    if not test:
        raise InputError("no held-out row is left to measure on. Hold out more, or give held_out=.")
    order = np.random.default_rng(plan.split_seed).permutation(len(test))[: plan.max_held_out]
    left_out["held_out_beyond_max"] = len(test) - len(order)
    groups = splits.groups(origins(test), among=among)  # of all of them: rows may be tied by one that is not measured
    test, groups = (tuple(each[at] for at in sorted(order)) for each in (test, groups))
    return _Prepared(named, test, groups, plan.control_names, fits, lambda row: sizes(row)[0], left_out)


def _as_trained(rows: Sequence[Record]) -> tuple[Record, ...]:
    """QA records as the instructions that are trained on; all others as they are."""
    return tuple(_as_instruction(row) if isinstance(row, QA) else row for row in rows)


def _as_instruction(row: QA) -> Instruction:
    asked, answer = forms.asked_and_answered(row)
    source = row.provenance.source or row.passage.span
    return Instruction(asked, output=answer, provenance=replace(row.provenance, source=source, parents=(row.id,)))


def _equal(
    named: Mapping[str, tuple[Record, ...]], count: Callable[[Record], int], wants_even: bool, seed: int
) -> dict[str, tuple[Record, ...]]:
    """The treatments with as many rows and tokens each; where half of them is to be had twice, both are even."""
    smallest = min(named, key=lambda name: len(named[name]))
    rows = named[smallest]
    if wants_even:
        odd = [row for row in rows if count(row) % 2]
        even = [row for row in rows if count(row) % 2 == 0]
        drop = []
        if len(rows) % 2:
            drop = (odd if len(odd) % 2 else even)[-1:]
        elif len(odd) % 2:
            drop = [*odd[-1:], *even[-1:]]
        dropped = {row.id for row in drop}
        rows = tuple(row for row in rows if row.id not in dropped)
    total = sum(map(count, rows))
    made = {}
    for name, given in named.items():
        if name == smallest or len(rows) < 2:
            made[name] = rows
            continue
        made[name] = controls.subset(
            given, len(rows), seed=seed, tokens=list(map(count, given)), total=total, name=name
        ).rows
        if abs(sum(map(count, made[name])) - total) > 0.001 * total:
            raise InputError(
                f"{len(rows):,} rows of {name!r} cannot be brought to the {total:,} tokens of {smallest!r}: its rows are of other lengths. "
                "Compare sets whose rows are about as long."
            )
    return made


def _check_equal(arm: Arm, rows: float, tokens: float, prepared: _Prepared) -> None:
    """Raise RunError where an arm has not as many rows and tokens in an epoch as the others. Steps follow from the rows."""
    # Dealt to another prompt, an answer's first token may merge with the prompt's last one.
    if rows != prepared.rows or abs(tokens - prepared.tokens) > max(1, 0.001 * prepared.tokens):
        raise RunError(
            f"arm {arm.name!r} has {rows:,.0f} rows and {tokens:,.0f} tokens an epoch, and the others {prepared.rows:,} and "
            f"{prepared.tokens:,}. Their difference would not be the data's. Give more rows, or leave it out of controls=."
        )


def _train(method: str) -> Callable[..., Trained]:
    return {"sft": trl_runs.sft, "dpo": trl_runs.dpo, "orpo": trl_runs.orpo, "reward": trl_runs.reward}[method]


def _arm_folder(out: Path, arm: str, seed: int) -> Path:
    return out / "arms" / arm.replace(" ", "-") / f"seed-{seed}"


# --- the experiment's file ------------------------------------------------------------------------------------------


def _begin(out: Path, prepared: _Prepared, base: Base, plan: Plan, measures: Measures) -> Experiment:
    """Write down what was decided, and return it; keep to what is there."""
    made = [row.provenance for rows in prepared.treatments.values() for row in rows]
    settings = trl_runs.with_rate(plan.settings, plan.method, base)
    registered = {
        "primary_metric": plan.metric, "method": plan.method, "plan": {**asdict(plan), "settings": asdict(settings)},
        "base": {"name": base.name, "sha256": base.sha256}, "treatments": list(prepared.treatments),
        "arms": [BASE, *prepared.names],
        "data": {**{name: content_hash([row.id for row in rows]) for name, rows in prepared.treatments.items()},
                 "held_out": content_hash([row.id for row in prepared.held_out])},
        "equal": {"rows": prepared.rows, "tokens": prepared.tokens},
        "held_out": {"rows": len(prepared.held_out), "groups": len(set(prepared.groups))},
        "left_out": dict(prepared.left_out), "measures": measures.content_id,
    }  # fmt: skip
    begun = Experiment(
        id=content_hash([registered, str(out.resolve())]), kind="training", name=f"{plan.method} of {base.name}",
        started=datetime.now(UTC).isoformat(timespec="seconds"), stopped="unfinished", model=base.name,
        prompts=sorted({each.prompt for each in made if each.prompt}), is_offline=any(each.is_offline for each in made),
        settings=registered, folder=out,
    )  # fmt: skip
    return _begun(out, begun, prepared.held_out)


def _begun(out: Path, begun: Experiment, held_out: Sequence[Record]) -> Experiment:
    """Write the experiment and its held-out rows; where it was begun before, as it was, from then on."""
    is_finished = False
    if (out / experiments.FILE).exists():
        before = experiments.read(out)
        differing = [name for name, value in begun.settings.items() if before.settings.get(name) != value]
        if before.kind != "training" or differing:
            raise InputError(
                f"{out} was begun with another {', '.join(differing) or 'kind of experiment'}. An experiment keeps to what was decided before "
                "it: give this one a folder of its own, or delete that one."
            )
        begun, is_finished = replace(begun, started=before.started), before.status == "finished"
    store.write(list(held_out), out / HELD_OUT)
    if not is_finished:  # or a second call that is stopped would leave what was done as undone
        experiments.write(out, begun)
    return begun


def _finish(out: Path, begun: Experiment, items: pa.Table, trained: Sequence[Trained]) -> Comparison:
    findings = _judge(begun, items)
    about = {
        "verdict": findings[0].verdict,
        "reason": findings[0].reason,
        "verdicts": {each.treatment: each.verdict for each in findings},
        "reasons": {each.treatment: each.reason for each in findings},
    }
    done = _done(replace(begun, records=begun.settings["equal"]["rows"]), items, trained, about)
    experiments.write(out, done)
    return Comparison(out, done, findings, items)


def _written(out: Path, tables: Sequence[pa.Table]) -> pa.Table:
    """All items in one table, which is written."""
    items = pa.concat_tables(tables)
    with store.atomically(out / ITEMS) as temporary:
        pq.write_table(items, temporary)
    return items


def _done(begun: Experiment, items: pa.Table, trained: Sequence[Trained], about: Mapping[str, Any]) -> Experiment:
    """The experiment with its scores, that of the first treatment that was trained for "all", and with what they took."""
    treatments, primary = begun.settings["treatments"], begun.settings["primary_metric"]
    metrics = [primary, *(name for name in dict.fromkeys(items["metric"].to_pylist()) if name != primary)]
    scores = [
        {
            "split": "held_out",
            "part": metric,
            "prompt": row["arm"],
            **{name: row[name] for name in ("value", "low", "high", "n")},
        }
        for metric in metrics
        for row in _arms(items, metric, treatments)
    ]
    first = [row for name in treatments for row in scores if (row["part"], row["prompt"]) == (primary, name)][:1]
    took = {
        "device": trained[0].device, "memory_mb": max(each.memory_mb for each in trained), "libraries": dict(trained[0].libraries),
    } if trained else {}  # fmt: skip
    return replace(
        begun, stopped="", seconds=round(sum(each.seconds for each in trained), 1),
        scores=[*({**row, "part": "all"} for row in first), *scores], settings={**begun.settings, **about, **took},
    )  # fmt: skip


def _judge(experiment: Experiment, items: pa.Table) -> tuple[Finding, ...]:
    of_lengths = items.filter(pc.equal(items["metric"], LONGER))
    longer = dict(zip(*(of_lengths[name].to_pylist() for name in ("item", "value")), strict=True)) or None
    settings = experiment.settings
    return verdicts.judge(
        items,
        settings["treatments"],
        primary=settings["primary_metric"],
        longer=longer,
        level=settings["plan"]["level"],
    )


def _arms(items: pa.Table, metric: str, treatments: Sequence[str]) -> list[dict[str, Any]]:
    """A row an arm that was measured by this metric: the mean, its interval over seeds and groups, the mean of each seed."""
    found: dict[str, dict[Any, dict[str, tuple[float, str]]]] = {}
    columns = (items[name].to_pylist() for name in ("arm", "seed", "item", "group", "metric", "value"))
    for arm, seed, item, group, of, value in zip(*columns, strict=True):
        if of == metric:
            found.setdefault(arm, {}).setdefault(seed, {})[item] = (value, group)
    rows = []
    for arm, seeds in found.items():
        names = sorted(next(iter(seeds.values())))
        values = np.array([[seeds[seed][name][0] for name in names] for seed in seeds])
        groups = [next(iter(seeds.values()))[name][1] for name in names]
        between = None
        if len(set(groups)) > 1 and arm == BASE:
            between = intervals.mean(values[0].tolist(), groups=groups)
        elif len(set(groups)) > 1 and len(values) > 1:
            between = intervals.crossed(values, groups=groups)
        rows.append({
            "arm": arm, "value": float(values.mean()), "low": between and between.low, "high": between and between.high,
            "n": values.shape[1], "seeds": values.mean(axis=1).tolist() if arm != BASE else [],
            "is_control": arm not in treatments,
        })  # fmt: skip
    return rows


# --- measuring ------------------------------------------------------------------------------------------------------


def _measured_base(out: Path, prepared: _Prepared, base: Base, measures: Measures) -> pa.Table:
    """The untouched base's items. Its log-probabilities are kept beside them, since every arm's margin is against them."""
    folder = out / "arms" / BASE
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(prepared, measures, base.sha256)
    are_pairs = isinstance(prepared.held_out[0], Preference)
    if (kept := _kept(folder, key)) is not None and (not are_pairs or (folder / "log_probs.npy").exists()):
        return kept
    with scoring.opened(base) as model:
        values = {}
        if are_pairs:
            found = model.log_probs(prepared.held_out)
            half = np.full(len(found), 0.5)
            values = {"probability": half, "margin": half * 0, "accuracy": half, "likelier": _first_wins(found)}
            lengths = np.array([[len(row.chosen), len(row.rejected)] for row in prepared.held_out])
            values[LONGER] = _first_wins(lengths)
            np.save(folder / "log_probs.npy", found)
        else:
            values["loss"] = model.answer_losses(prepared.held_out)
        return _keep(folder, key, BASE, None, prepared, values, _others(model, prepared, measures))


def _measured(
    folder: Path, trained: Trained, arm: str, prepared: _Prepared, base: Base, measures: Measures
) -> pa.Table:
    key = _key(prepared, measures, trained.key)
    if (kept := _kept(folder, key)) is not None:
        return kept
    with scoring.opened(trained, base=base) as model:
        if trained.method == "sft":
            values = {"loss": model.answer_losses(prepared.held_out)}
            return _keep(folder, key, arm, trained.seed, prepared, values, _others(model, prepared, measures))
        if trained.method == "reward":
            rewards = model.rewards(prepared.held_out)
            margin, likelier = rewards[:, 0] - rewards[:, 1], {}
        else:
            found = model.log_probs(prepared.held_out)
            gained = found - np.load(folder.parents[1] / BASE / "log_probs.npy")
            margin, likelier = (
                trained.settings["beta"] * (gained[:, 0] - gained[:, 1]),
                {"likelier": _first_wins(found)},
            )
        accuracy = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
        values = {
            "probability": 1 / (1 + np.exp(-np.clip(margin, -500, 500))),
            "margin": margin,
            "accuracy": accuracy,
            **likelier,
        }
        others = [] if trained.method == "reward" else _others(model, prepared, measures)
        return _keep(folder, key, arm, trained.seed, prepared, values, others)


def _first_wins(found: np.ndarray) -> np.ndarray:
    return np.where(found[:, 0] > found[:, 1], 1.0, np.where(found[:, 0] == found[:, 1], 0.5, 0.0))


def _others(model: scoring.Model, prepared: _Prepared, measures: Measures) -> list[tuple[str, str, str, float]]:
    """(item, group, metric, value) of what is measured beside the held-out rows; texts and questions are groups of their own."""
    rows = []
    if texts := list(dict.fromkeys(measures.texts)):
        ids = [content_hash(text) for text in texts]
        rows += [(item, item, TEXT_LOSS, value) for item, value in zip(ids, model.losses(texts), strict=True)]
    if measures.answers:
        some = prepared.held_out[: measures.answers]
        asked = [row.prompt if isinstance(row, Preference) else row.asked for row in some]
        written = model.write(asked, max_tokens=measures.max_tokens)
        groups = prepared.groups[: measures.answers]
        rows += [
            (row.id, group, ANSWER_CHARACTERS, float(len(text)))
            for row, group, text in zip(some, groups, written, strict=True)
        ]
    if (task := measures.task) is not None:
        written = model.write(task.prompts, max_tokens=measures.max_tokens)
        for at, (text, wanted) in enumerate(zip(written, task.wanted, strict=True)):
            item = f"{task.name} {at}"
            rows.append((item, item, task.name, float(task.score(text, wanted))))
    return rows


def _key(prepared: _Prepared, measures: Measures, of: str) -> str:
    return content_hash([of, [row.id for row in prepared.held_out], list(prepared.groups), measures.content_id])


def _kept(folder: Path, key: str) -> pa.Table | None:
    try:
        table = pq.read_table(folder / "measured.parquet")
    except (FileNotFoundError, pa.ArrowException):  # a damaged one is measured again
        return None
    return table.replace_schema_metadata(None) if (table.schema.metadata or {}).get(b"key") == key.encode() else None


def _keep(
    folder: Path,
    key: str,
    arm: str,
    seed: int | None,
    prepared: _Prepared,
    values: Mapping[str, np.ndarray],
    others: Sequence[tuple[str, str, str, float]],
) -> pa.Table:
    rows = [
        (arm, seed, row.id, group, metric, float(value))
        for metric, found in values.items()
        for row, group, value in zip(prepared.held_out, prepared.groups, found, strict=True)
    ]
    rows += [(arm, seed, *other) for other in others]
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            name: pa.array(column, kind)
            for (name, kind), column in zip([(f.name, f.type) for f in _ITEMS], columns, strict=True)
        }
    )
    with store.atomically(folder / "measured.parquet") as temporary:
        pq.write_table(table.replace_schema_metadata({"key": key}), temporary)
    return table
