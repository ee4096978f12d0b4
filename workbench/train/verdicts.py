"""What an experiment of arms and seeds allows to say of data: `helps`, `no evidence`, `harms`, `confounded by length`.

    found = verdicts.judge(items, ["all"], primary="probability", longer=longer)
    found[0].verdict, found[0].reason, found[0].table()

To help, the data must do better on the primary metric than every control: than the untouched base (or training does
nothing), than the same rows with labels by lot or answers of others (or any fine-tuning would do), and of preferences also
than preferring the longer text, and where held-out pairs are weighed so that the longer text is chosen in half of them (or
length would do). Where the shorter one is chosen in most, and the longer one too seldom to weigh by, nothing tells such data
from preferring the shorter. That all must be beaten needs no correction: a claim of "all" at a level errs no oftener than
one of its parts (Berger 1982, doi:10.2307/1267823). Several treatments are several claims: their intervals are widened, the
level over their number (Bonferroni).

Of 1,000 experiments with noise each, with 3 and 5 seeds on 12 and 40 groups, `helps` or `confounded by length` was said of at
most 0.8% and `harms` of 0.4 to 3.7%, the most where data by lot push all held-out rows a common way (tests/test_verdicts.py).

Intervals are over seeds and groups of held-out rows at once (`intervals.crossed`). What is judged is one draw of data; how
far data by lot move a model is seen in the arm whose labels are dealt out anew under each seed, and that is counted in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from workbench import _html, intervals
from workbench.errors import InputError
from workbench.experiments import CONTROLS, is_lower_better
from workbench.intervals import Interval, Needed

BASE, SHUFFLED, LENGTH, RANDOM, TWICE, MISMATCHED = CONTROLS
VERDICTS = ("helps", "no evidence", "harms", "confounded by length")
BALANCED = "base, lengths balanced"
# Whose data are dealt out anew under each seed: how far they lie apart is how far luck with data goes.
_BY_LOT = (SHUFFLED, MISMATCHED)
_MUST_BE_BEATEN = (BASE, SHUFFLED, RANDOM, MISMATCHED)
_EITHER_SIDE = 5  # groups where the longer text is chosen, and as many where it is not: fewer are not balanced by


@dataclass(frozen=True)
class Difference:
    """How much better than a control a treatment did: `interval` of the paired difference, signed so that more is better."""

    treatment: str
    control: str
    metric: str
    interval: Interval
    p: float

    def __str__(self) -> str:
        found = self.interval
        return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


@dataclass(frozen=True, repr=False)
class Finding:
    """What can be said of one treatment: one of VERDICTS, why, and the differences it rests on (and others, of no weight).

    `needed` is about how many seeds and held-out rows would tell its smallest gain over a control that it must beat; None
    where that is no gain."""

    treatment: str
    verdict: str
    reason: str
    primary: str
    differences: tuple[Difference, ...]
    needed: Needed | None

    def of(self, control: str, metric: str = "") -> Difference | None:
        """Return the difference from this control on this metric, by default the primary one; None where there is none."""
        wanted = (control, metric or self.primary)
        return next((each for each in self.differences if (each.control, each.metric) == wanted), None)

    def table(self) -> pa.Table:
        """Return a row a difference: treatment, control, metric, difference, low, high, n, p, is_primary."""
        return pa.Table.from_pylist([
            {
                "treatment": each.treatment, "control": each.control, "metric": each.metric, "difference": each.interval.value,
                "low": each.interval.low, "high": each.interval.high, "n": each.interval.n, "p": each.p,
                "is_primary": each.metric == self.primary,
            }
            for each in self.differences
        ])  # fmt: skip

    def __repr__(self) -> str:
        return f"{self.treatment}: {self.verdict}. {self.reason}"

    def _repr_html_(self) -> str:
        rows = [(each.control, each.metric, str(each)) for each in self.differences]
        table = _html.html_table(("against", "by", "difference, more is better but for characters"), rows)
        return _html.card(
            f"{self.treatment}: {self.verdict}", "", f"<div>{_html.escaped(self.reason, 2000)}</div>{table}"
        )


def judge(
    items: pa.Table,
    treatments: Sequence[str],
    *,
    primary: str,
    longer: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> tuple[Finding, ...]:
    """Return a finding for each treatment.

    `items` has a row a measurement: arm, seed (null for the untouched base), item, group, metric, value. `longer` says of
    each held-out pair whether its chosen text is the longer one: 1, 0, or 0.5 for equal lengths; None where there are no
    pairs. Raises InputError for arms that were not measured, or on other items than the rest."""
    measured = _Measured(items)
    if missing := [arm for arm in (BASE, *treatments) if (arm, primary) not in measured.values]:
        raise InputError(f"arm {missing[0]!r} has no {primary!r} among its items; arms are {', '.join(measured.arms)}.")
    level = 1 - (1 - level) / len(treatments)
    return tuple(_judged(measured, arm, treatments, primary, longer, level) for arm in treatments)


class _Measured:
    """The items as a matrix for each arm and metric, (seeds, items), signed so that more is better."""

    def __init__(self, items: pa.Table):
        self.values: dict[tuple[str, str], np.ndarray] = {}
        self.groups: dict[str, list[str]] = {}
        self.items: dict[str, list[str]] = {}
        found: dict[tuple[str, str], dict[Any, dict[str, float]]] = {}
        groups: dict[str, dict[str, str]] = {}
        for arm, seed, item, group, metric, value in zip(
            *(items[name].to_pylist() for name in ("arm", "seed", "item", "group", "metric", "value")), strict=True
        ):
            found.setdefault((arm, metric), {}).setdefault(seed, {})[item] = value
            groups.setdefault(metric, {})[item] = group
        for metric, of in groups.items():
            self.items[metric], self.groups[metric] = sorted(of), [of[item] for item in sorted(of)]
        self.arms = tuple(dict.fromkeys(arm for arm, _ in found))
        for (arm, metric), seeds in found.items():
            for seed, values in seeds.items():
                if len(values) != len(self.items[metric]):
                    raise InputError(
                        f"{arm!r}, seed {seed}, was measured on {len(values):,} of {len(self.items[metric]):,} items by {metric!r}. "
                        "Measure every arm on the same items."
                    )
            sign = -1 if is_lower_better(metric) else 1
            order = sorted(seeds, key=lambda seed: (seed is not None, seed))
            self.values[arm, metric] = sign * np.array(
                [[seeds[seed][item] for item in self.items[metric]] for seed in order]
            )

    def less(self, arm: str, control: str, metric: str) -> np.ndarray:
        """The arm's values less the control's, (seeds, items)."""
        ours, theirs = self.values[arm, metric], self.values[control, metric]
        if len(theirs) != (1 if control == BASE else len(ours)):
            raise InputError(
                f"{arm!r} has {len(ours)} seeds and {control!r} {len(theirs)}. Train both with the same seeds."
            )
        return ours - theirs

    def draws(self, control: str, metric: str, weights: np.ndarray | None = None) -> Sequence[float]:
        """The means that data drawn by lot gave, one a seed; none where the control is no lottery and none was run."""
        if control not in _MUST_BE_BEATEN:
            return ()
        arm = next((arm for arm in (control, *_BY_LOT) if arm != BASE and (arm, metric) in self.values), None)
        means = np.average(self.values[arm, metric], axis=1, weights=weights).tolist() if arm else []
        return means if len(means) > 1 else ()

    def difference(self, arm: str, control: str, metric: str, level: float) -> Difference:
        differences, groups, draws = self.less(arm, control, metric), self.groups[metric], self.draws(control, metric)
        found = intervals.crossed(differences, groups=groups, level=level, draws=draws)
        return Difference(arm, control, metric, found, intervals.crossed_p(differences, groups=groups, draws=draws))

    def balanced(self, arm: str, metric: str, longer: Mapping[str, float], level: float) -> Difference | None:
        """The gain over the base where the longer text is chosen in half of the pairs, by weight; None where it cannot be.

        The mean of the two sides' means. Its variance is found from linearized values: the mean, plus each difference
        less its side's mean, weighted (post-stratification: Särndal et al. 1992, Model Assisted Survey Sampling, 7.6)."""
        sides, groups = self.sides(metric, longer), np.array(self.groups[metric])
        masks = [sides == side for side in (0.0, 1.0)]
        if min(len(set(groups[mask])) for mask in masks) < _EITHER_SIDE:
            return None
        weights = sum(0.5 / mask.mean() * mask for mask in masks)
        differences = self.less(arm, BASE, metric)
        means = [differences[:, mask].mean(axis=1, keepdims=True) for mask in masks]
        of_side = sum(mean * mask for mean, mask in zip(means, masks, strict=True))
        linear = sum(means) / 2 + weights * (differences - of_side)
        draws = self.draws(BASE, metric, weights)
        found = intervals.crossed(linear, groups=groups.tolist(), level=level, draws=draws)
        return Difference(
            arm, BALANCED, metric, found, intervals.crossed_p(linear, groups=groups.tolist(), draws=draws)
        )

    def sides(self, metric: str, longer: Mapping[str, float]) -> np.ndarray:
        """For each item 1, 0 or 0.5 as in `longer`; items that are no pairs are of no side."""
        return np.array([longer.get(item, 0.5) for item in self.items[metric]])

    def mostly_shorter(self, metric: str, longer: Mapping[str, float]) -> str:
        """Words where the shorter text is chosen more often: preferring the longer one, the length arm, is no control of that."""
        sides, groups = self.sides(metric, longer), np.array(self.groups[metric])
        if sides.mean() >= 0.5:
            return ""
        return (
            f"the shorter text is chosen in {(sides == 0).sum():,} of {len(sides):,} held-out pairs and the longer one in pairs of "
            f"{len(set(groups[sides == 1]))} groups, too few to balance by ({_EITHER_SIDE} at least)"
        )


def _judged(
    measured: _Measured,
    arm: str,
    treatments: Sequence[str],
    primary: str,
    longer: Mapping[str, float] | None,
    level: float,
) -> Finding:
    seeds, groups = len(measured.values[arm, primary]), len(set(measured.groups[primary]))
    if seeds < 2 or groups < intervals.FEW:
        why = "one seed shows nothing about other seeds: train with 3 or more" if seeds < 2 else (
            f"{groups} groups of held-out rows are too few to tell ({intervals.FEW} at least): hold out rows of more documents or prompts"
        )  # fmt: skip
        return Finding(arm, "no evidence", f"{why[0].upper()}{why[1:]}.", primary, (), None)
    others = [other for other in measured.arms if other != arm and (other not in treatments or other == treatments[0])]
    metrics = [primary, *(metric for metric in measured.groups if metric != primary)]
    found = [
        measured.difference(arm, other, metric, level)
        for metric in metrics
        for other in others
        if {(arm, metric), (other, metric)} <= measured.values.keys() and len(set(measured.groups[metric])) > 1
    ]
    of = {each.control: each for each in found if each.metric == primary}
    balanced = measured.balanced(arm, primary, longer, level) if longer else None
    if balanced is not None:
        of[BALANCED] = balanced
        found.insert(len(of) - 1, balanced)
    shorter = measured.mostly_shorter(primary, longer) if longer and balanced is None else ""
    verdict, reason, least = _decided(of, primary, longer is not None, shorter)
    needed = None
    if least is not None and of[least].interval.value > 0:
        needed = intervals.seeds_and_items(
            measured.less(arm, least, primary),
            groups=measured.groups[primary],
            level=level,
            draws=measured.draws(least, primary),
        )
        reason += f" {str(needed)[0].upper()}{str(needed)[1:]}." if verdict == "no evidence" else ""
    return Finding(arm, verdict, reason, primary, tuple(found), needed)


def _decided(of: Mapping[str, Difference], primary: str, are_pairs: bool, shorter: str) -> tuple[str, str, str | None]:
    """The verdict, the reason, and the control that it was hardest to beat where more seeds or rows may show that."""
    base, lot = of[BASE], next((of[arm] for arm in _BY_LOT if arm in of), None)
    if lot is None:
        reason = (
            f"No arm with {SHUFFLED if are_pairs else MISMATCHED} was trained, so any fine-tuning may do what this did"
        )
        return "no evidence", f"{reason} (by {primary}, {base} over the untouched base). Train one.", None
    if base.interval.high < 0:
        not_worse = lot.interval.high >= 0
        reason = f"By {primary} it is worse than the untouched base, {base}"
        reason += f"; than with {lot.control} {'it is not shown to be' if not_worse else 'too'}, {lot}"
        return "harms", f"{reason}{', so that any such training may do it' if not_worse else ''}.", None
    must = [control for control in _MUST_BE_BEATEN if control in of]
    lost = [control for control in must if of[control].interval.low <= 0]
    hardest = min(must, key=lambda control: of[control].interval.low)
    if lost:
        reason = f"By {primary} its gain over {_named(hardest)} cannot be told from none, {of[hardest]}"
        if of[hardest].interval.high < 0:
            reason = f"By {primary} it is worse than {_named(hardest)}, {of[hardest]}"
        beaten = [control for control in must if control not in lost]
        reason += f"; over {_listed(beaten, of)} it is shown" if beaten else ""
        return "no evidence", f"{reason}.", hardest
    gains = f"By {primary} it gains over {_listed(must, of)}"
    if not are_pairs:
        return "helps", f"{gains}.", hardest
    if LENGTH not in of:
        return (
            "no evidence",
            f"{gains}, and no arm with {LENGTH} was trained, so length may be all there is to it. Train one.",
            hardest,
        )
    if of[LENGTH].interval.low <= 0:
        return "confounded by length", f"{gains}, but not over preferring the longer text, {of[LENGTH]}.", LENGTH
    if BALANCED in of and of[BALANCED].interval.low <= 0:
        return (
            "confounded by length",
            f"{gains}, but not where the longer text is chosen in half of the pairs, {of[BALANCED]}.",
            None,
        )
    if shorter:
        return (
            "confounded by length",
            f"{gains}, but {shorter}, so that preferring the shorter one may be all there is to it.",
            None,
        )
    said = _listed([LENGTH, *([BALANCED] if BALANCED in of else [])], of)
    return "helps", f"{gains}, and over {said}.", min([*must, LENGTH], key=lambda control: of[control].interval.low)


def _named(control: str) -> str:
    return {
        BASE: "the untouched base",
        LENGTH: "preferring the longer text",
        BALANCED: "the base where lengths are balanced",
    }.get(control, control)


def _listed(controls: Sequence[str], of: Mapping[str, Difference]) -> str:
    said = [f"{_named(control)} {of[control]}" for control in controls]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
