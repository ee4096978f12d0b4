"""The rows of an experiment: what is trained on, at equal rows, steps and tokens, and what is held out."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import InputError, RunError
from workbench.records import QA, Instruction, Preference, Record, by_id, one_kind
from workbench.train import controls, forms, splits, verdicts
from workbench.train.bases import Base
from workbench.train.controls import Arm
from workbench.train.plans import CONTROLS, Plan
from workbench.train.verdicts import BASE


@dataclass(frozen=True)
class Prepared:
    """The rows of each treatment and what they are measured on. As `prepared` gives it, they have as many rows and tokens each."""

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


def _check_names(named: Mapping[str, Any]) -> None:
    """Raise InputError where a treatment's name is a control's, or no name of a folder of its own."""
    folder = lambda name: _folder_name(name).lower()  # on some systems one folder whatever the case
    ours = (BASE, *CONTROLS["pairs"], *CONTROLS["sft"])
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


def prepared(
    given: Sequence[Record] | Mapping[str, Sequence[Record]], base: Base, plan: Plan, held_out: Sequence[Record]
) -> Prepared:
    """The treatments at equal rows and tokens, apart from what is held out."""
    found = apart(given, base, plan, held_out)
    trained = _equal(found.treatments, found.count, verdicts.TWICE in plan.control_names, plan.split_seed)
    (size,) = {len(rows) for rows in trained.values()}
    if size < 4:
        raise InputError(
            f"{size} rows are left to train on, and arms need 4 at least. Give more rows, or hold out fewer."
        )
    too_many = sum(len(rows) - size for rows in found.treatments.values())
    return replace(found, treatments=trained, left_out={**found.left_out, "to_make_arms_equal": too_many})


def apart(
    given: Sequence[Record] | Mapping[str, Sequence[Record]], base: Base, plan: Plan, held_out: Sequence[Record]
) -> Prepared:
    """The treatments as they are trained on, without those that cannot be, apart from what is held out."""
    named = dict(given) if isinstance(given, Mapping) else {"all": given}
    if not named or any(not len(rows) for rows in named.values()):
        empty = next((name for name, rows in named.items() if not len(rows)), "all")
        raise InputError(f"treatment {empty!r} has no rows. Give the records to train on.")
    _check_names(named)
    held_out = list(by_id(held_out).values())
    among = [row for rows in (*named.values(), held_out) for row in rows]
    one_kind(among)
    # Split as they were given: an instruction knows no persona, and unanswerable questions share their answer.
    origin = {made.id: row for row, made in zip(among, as_trained(among), strict=True)}
    origins = lambda rows: [origin[row.id] for row in rows]
    named = {name: as_trained(rows) for name, rows in named.items()}
    tokenizer, limit = forms.tokenizer(base), plan.settings.length(base)
    known: dict[str, tuple[int, str]] = {}

    def looked_at(row: Record) -> tuple[int, str]:
        """The tokens of a row in one epoch, and why it cannot be trained on, "" where it can."""
        if row.id not in known:
            (line,) = forms.lines([row], plan.method, base)
            unfit = forms.unfit(line, tokenizer, limit)
            known[row.id] = forms.tokens(line, tokenizer), unfit.reason if unfit else ""
        return known[row.id]

    def fits(prompt: str, *answers: str) -> bool:
        row = Preference(prompt, *answers) if len(answers) == 2 else Instruction(prompt, output=answers[0])
        return len(set(answers)) == len(answers) and not looked_at(row)[1]

    fit = lambda rows: tuple(row for row in rows if not looked_at(row)[1])
    left_out: dict[str, int] = dict(
        Counter(why for rows in named.values() for row in rows if (why := looked_at(row)[1]))
    )
    for name, rows in named.items():
        if not fit(rows):
            raise InputError(
                f"no row of {name!r} can be trained on: {looked_at(rows[0])[1]} for the first, at {limit:,} tokens. "
                "Give a larger max_length, or other rows."
            )
    named = {name: fit(rows) for name, rows in named.items()}
    if len(held_out):
        test = fit(as_trained(held_out))
        left_out["held_out_unfit"] = len(held_out) - len(test)
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
    return Prepared(named, test, groups, plan.control_names, fits, lambda row: looked_at(row)[0], left_out)


def as_trained(rows: Sequence[Record]) -> tuple[Record, ...]:
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


def check_equal(arm: Arm, rows: float, tokens: float, prepared: Prepared) -> None:
    """Raise RunError where an arm has not as many rows and tokens in an epoch as the others. Steps follow from the rows."""
    # Dealt to another prompt, an answer's first token may merge with the prompt's last one.
    if rows != prepared.rows or abs(tokens - prepared.tokens) > max(1, 0.001 * prepared.tokens):
        raise RunError(
            f"arm {arm.name!r} has {rows:,.0f} rows and {tokens:,.0f} tokens an epoch, and the others {prepared.rows:,} and "
            f"{prepared.tokens:,}. Their difference would not be the data's. Give more rows, or leave it out of controls=."
        )


def arm_folder(out: Path, arm: str, seed: int) -> Path:
    return out / "arms" / arm.replace(" ", "-") / f"seed-{seed}"
