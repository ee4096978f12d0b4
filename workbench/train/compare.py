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

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workbench import _html, experiments, store
from workbench._background import progress_bar
from workbench.errors import RunError
from workbench.experiments import Experiment
from workbench.records import Record, content_hash
from workbench.train import _machine, arms, filing, measuring, trl_runs, verdicts
from workbench.train.arms import Prepared
from workbench.train.bases import TINY, Base, load
from workbench.train.plans import LONGER, PAIR_METRICS, PRIMARY, Measures, Plan, Task, check_primary, exact_match
from workbench.train.trl_runs import Trained
from workbench.train.verdicts import BASE, Finding

__all__ = ["PAIR_METRICS", "PRIMARY", "Comparison", "Measures", "Plan", "Task", "exact_match", "read", "run"]


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
        return measuring.by_arm(self.items, self.primary, self.experiment.settings["treatments"])

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
    plan: Plan = Plan(),  # noqa: B008  frozen
    held_out: Sequence[Record] = (),
    measures: Measures = Measures(),  # noqa: B008  frozen
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
    check_primary(plan, measures)
    prepared = arms.prepared(treatments, base, plan, held_out)
    for seed in range(plan.seeds):  # before hours of training: some controls cannot be made, or not as long
        for arm in prepared.arms(seed):
            arms.check_equal(arm, len(arm), sum(map(prepared.count, arm.rows)), prepared)
    with _machine.held(out) as out:
        begun = _begin(out, prepared, base, plan, measures)
        seen, tables = [], [measuring.measured_base(out, prepared, base, measures)]
        total = plan.seeds * len(prepared.names)
        with progress_bar(begun.name, total, "trainings") as bar:
            for seed in range(plan.seeds):
                for arm in prepared.arms(seed):
                    folder = arms.arm_folder(out, arm.name, seed)
                    if bar is not None:
                        bar.set_postfix_str(f"{arm.name}, seed {seed}")
                    trained = trl_runs.METHODS[plan.method](
                        arm.rows, out=folder, base=base, settings=plan.settings, seed=seed
                    )
                    epochs = trained.settings["epochs"]
                    arms.check_equal(arm, trained.rows / epochs, trained.tokens / epochs, prepared)
                    tables.append(measuring.measured(folder, trained, arm.name, prepared, base, measures))
                    seen.append(trained)
                    if bar is not None:
                        bar.update()
        return _finish(out, begun, filing.written(out, tables), seen)


def read(folder: str | os.PathLike[str]) -> Comparison:
    """Return the experiment that finished in this folder. Raises StoreError where there is none, RunError while it is not done."""
    experiment = experiments.read(folder)
    if experiment.kind != "training" or experiment.status != "finished":
        raise RunError(
            f"{folder} holds a {experiment.kind} that is {experiment.status}. The call that began it goes on with it."
        )
    if "sizes" in experiment.settings:
        raise RunError(f"{folder} holds a learning curve. Read it with learning.read({str(folder)!r}).")
    items = store.read_table(Path(folder) / filing.ITEMS)
    return Comparison(Path(folder), experiment, _judge(experiment, items), items)


# --- the experiment's file ------------------------------------------------------------------------------------------


def _begin(out: Path, prepared: Prepared, base: Base, plan: Plan, measures: Measures) -> Experiment:
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
    return filing.begun_in(out, begun, prepared.held_out)


def _finish(out: Path, begun: Experiment, items: pa.Table, trained: Sequence[Trained]) -> Comparison:
    findings = _judge(begun, items)
    about = {
        "verdict": findings[0].verdict,
        "reason": findings[0].reason,
        "verdicts": {each.treatment: each.verdict for each in findings},
        "reasons": {each.treatment: each.reason for each in findings},
    }
    done = filing.scored(replace(begun, records=begun.settings["equal"]["rows"]), items, trained, about)
    experiments.write(out, done)
    return Comparison(out, done, findings, items)


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
