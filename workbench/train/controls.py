"""Controls: the same data broken on purpose. What training on them gains as well, the data's worth is not.

    arms = controls.standard(parts.train, seed=0, tokens=counts)      # "all" and the controls that suit the records
    controls.subset(parts.train, len(kept), seed=0, tokens=counts, total=kept_tokens)   # the control of a filtered arm

Each control has as many rows as the treatment. Those that exchange or deal out texts hold the same texts and so the same
tokens; those that leave rows out are brought to the same number of tokens. Row i has the prompt of the treatment's row i,
where rows are left out as far as it is kept.

A row that a control changed is a new record of the recipe "train.controls", whose parents are the rows it was made of:
first the one whose prompt it has. Prompt, model and requests in its provenance are those of its answers. Scores go with
their texts, and there are none for answers to another prompt. A row that is not changed stays itself."""

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from workbench import _html
from workbench.errors import InputError
from workbench.quality.checks import quoted
from workbench.records import Instruction, Preference, Provenance, Record
from workbench.train.splits import opening

RECIPE = "train.controls"
_SEARCHED = 64  # rows among which the nearest sum is found for sure
_SUMS = 1e9  # its rows cubed times their range of tokens, some 30 MB
_ROUNDS = 16
_TRIES = 64
_NONE = -1
_SHOWN = 3


@dataclass(frozen=True, repr=False)
class Arm:
    """Rows that a base model is fine-tuned on: a treatment, or a control, which is broken on purpose; prints itself.

    `about` says in a sentence what was done to the rows. Raises InputError when there is none."""

    name: str
    rows: tuple[Record, ...]
    is_control: bool
    about: str

    def __post_init__(self):
        if not self.rows:
            raise InputError(f"arm {self.name!r} has no rows to train on. Give some.")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def _size(self) -> str:
        return f"{'control' if self.is_control else 'treatment'}, {len(self):,} rows"

    def __repr__(self) -> str:
        return f"{self.name} ({self._size}): {self.about}"

    def _repr_html_(self) -> str:
        fields = self.rows[0].text_fields
        shown = [[getattr(row, name, "") for name in fields] for row in self.rows[:_SHOWN]]
        return _html.card(self.name, self._size, _html.html_table(fields, shown, len(self), note=self.about))


# --- preferences --------------------------------------------------------------------------------------------------------


def shuffled_labels(rows: Sequence[Preference], *, seed: int) -> Arm:
    """Return the pairs with chosen and rejected exchanged in a random half of them.

    Of n rows exactly n // 2, and no coin a row, so that luck leaves no signal."""
    rows = _checked(rows, Preference)
    exchanged = _half(len(rows), _rng(seed, "shuffled labels"))
    made = tuple(_exchanged(row) if is_drawn else row for row, is_drawn in zip(rows, exchanged, strict=True))
    return Arm("shuffled labels", made, True, "Chosen and rejected are exchanged in a random half of the rows.")


def length_only(rows: Sequence[Preference], *, seed: int, length: Callable[[str], float] = len) -> Arm:
    """Return the pairs with the longer text chosen, in characters or by `length`; equal lengths by a fair coin."""
    rows = _checked(rows, Preference)
    coins = _rng(seed, "length only").random(len(rows)) < 0.5
    gaps = [length(row.chosen) - length(row.rejected) for row in rows]
    made = tuple(
        _exchanged(row) if gap < 0 or (gap == 0 and coin) else row
        for row, gap, coin in zip(rows, gaps, coins, strict=True)
    )
    return Arm("length only", made, True, "The longer text is chosen, whatever was preferred.")


def random_pairs(rows: Sequence[Preference], *, seed: int, fits: Callable[[str, str, str], bool] | None = None) -> Arm:
    """Return the prompts with pairs of answers to other prompts, exchanged in a random half of them (n // 2).

    No pair goes to a prompt that asks what its own asks first (`splits.opening`), and all go where `fits(prompt, chosen,
    rejected)`, such as a limit of tokens, is true; it is called often, so look counts up in it. Raises InputError when
    there is no such way to deal them out."""
    rows = _checked(rows, Preference)
    rng = _rng(seed, "random pairs")
    pairs = [
        (row.rejected, row.chosen) if is_drawn else (row.chosen, row.rejected)
        for row, is_drawn in zip(rows, _half(len(rows), rng), strict=True)
    ]
    of = _dealt([row.prompt for row in rows], pairs, fits, rng)
    made = tuple(
        replace(
            row, chosen=pairs[at][0], rejected=pairs[at][1], score_chosen=None, score_rejected=None,
            provenance=_made(row, rows[at]),
        )
        for row, at in zip(rows, of, strict=True)
    )  # fmt: skip
    return Arm("random pairs", made, True, "Each prompt has the two answers to another prompt, in random order.")


# --- instructions -------------------------------------------------------------------------------------------------------


def mismatched_answers(
    rows: Sequence[Instruction], *, seed: int, fits: Callable[[str, str], bool] | None = None
) -> Arm:
    """Return the instructions with outputs of other instructions, dealt out as by `random_pairs`; `fits(asked, output)`.

    Raises InputError for an instruction without output, and when there is no such way to deal them out."""
    rows = _checked(rows, Instruction)
    answers = [(row.output,) for row in rows]
    of = _dealt([row.asked for row in rows], answers, fits, _rng(seed, "mismatched answers"))
    made = tuple(
        replace(row, output=rows[at].output, provenance=_made(row, rows[at])) for row, at in zip(rows, of, strict=True)
    )
    return Arm("mismatched answers", made, True, "Each instruction has the output of another one.")


# --- any records --------------------------------------------------------------------------------------------------------


def half_twice(rows: Sequence[Record], *, seed: int, tokens: Sequence[int] | None = None) -> Arm:
    """Return a random half of the rows, each twice: n // 2 rows, and where n is odd one more row once.

    With `tokens`, whole numbers, (n,), a half that has as many tokens twice as all rows have, or as near to that as was
    found: the nearest there is of up to 64 rows. `about` says by how much it is off. A row of the half keeps its place."""
    rows = _checked(rows)
    rng = _rng(seed, "half twice")
    counts, places = _counts(tokens, rows), np.arange(len(rows))
    # Which row is once matters for the sum; of many rows, a few are enough to try.
    once = rng.permutation(len(rows))[:_SEARCHED] if len(rows) % 2 else [None]
    best, off = None, None
    for single in once:
        others = places[places != single] if single is not None else places
        aim = (counts.sum() - (0 if single is None else counts[single])) / 2
        half = others[_drawn(counts[others], len(rows) // 2, aim, rng)]
        kept = np.bincount(half, minlength=len(rows)) * 2
        if single is not None:
            kept[single] = 1
        found = int(kept @ counts - counts.sum())
        if best is None or abs(found) < abs(off):
            best, off = kept, found
        if not off:
            break
    second = iter(rng.permutation(np.flatnonzero(best == 2)).tolist())
    made = tuple(row if times else rows[next(second)] for row, times in zip(rows, best, strict=True))
    odd = ", and one more row once" if len(rows) % 2 else ""
    said = "" if tokens is None else _in_tokens(int(counts.sum()) + off, int(counts.sum()), "all rows")
    return Arm("half twice", made, True, f"A random half of the rows, each twice{odd}{said}.")


def subset(
    rows: Sequence[Record],
    n: int,
    *,
    seed: int,
    tokens: Sequence[int] | None = None,
    total: int | None = None,
    name: str = "random subset",
) -> Arm:
    """Return a random n of the rows, in their order: the control of an arm that was filtered or selected from them.

    With `tokens` of the rows, (rows,), and `total`, the tokens of that arm: n rows of as many tokens, or as near to that as
    was found, the nearest there is among up to 64 rows. `about` says by how much it is off."""
    rows = _checked(rows)
    if not 1 <= n <= len(rows):
        raise InputError(f"n={n:,} of {len(rows):,} rows cannot be drawn. Ask for 1 to {len(rows):,}.")
    if (tokens is None) != (total is None):
        raise InputError("tokens of the rows and the total to bring them to go together. Give both, or neither.")
    counts = _counts(tokens, rows)
    kept = _drawn(counts, n, total or 0, _rng(seed, name))
    said = "" if total is None else _in_tokens(int(counts[kept].sum()), total, "the arm it is the control of")
    made = tuple(row for row, is_kept in zip(rows, kept, strict=True) if is_kept)
    return Arm(name, made, True, f"A random {n:,} of {len(rows):,} rows{said}.")


def standard(
    rows: Sequence[Record],
    *,
    seed: int,
    tokens: Sequence[int] | None = None,
    fits: Callable[..., bool] | None = None,
) -> tuple[Arm, ...]:
    """Return the treatment "all", then the controls that suit its kind of record, as their own functions return them.

    Of preferences: shuffled labels, length only, random pairs, half twice; of instructions: mismatched answers, half twice.
    `fits` is called with a prompt and its one or two answers."""
    rows = _checked(rows)
    treatment = Arm("all", rows, False, "The rows as they are.")
    twice = half_twice(rows, seed=seed, tokens=tokens)
    if isinstance(rows[0], Instruction):
        return treatment, mismatched_answers(rows, seed=seed, fits=fits), twice
    broken = shuffled_labels(rows, seed=seed), length_only(rows, seed=seed), random_pairs(rows, seed=seed, fits=fits)
    return treatment, *broken, twice


# --- rows ---------------------------------------------------------------------------------------------------------------


def _checked(rows: Sequence[Record], *kinds: type[Record]) -> tuple[Any, ...]:
    """The rows, which are two or more of one kind that can be trained on."""
    kinds = kinds or (Preference, Instruction)
    wanted = " or ".join(kind.__name__ for kind in kinds)
    given = {type(row) for row in rows}
    if len(rows) < 2:
        raise InputError(
            f"{len(rows)} rows make no control: there is nothing to exchange. Give 2 {wanted} records or more."
        )
    if len(given) > 1 or not given <= set(kinds):
        names = " and ".join(sorted(kind.__name__ for kind in given))
        raise InputError(f"a control is made of {wanted} records of one kind, got {names}. Give those alone.")
    for row in rows:
        if isinstance(row, Instruction) and not (row.output or "").strip():
            raise InputError(f"Instruction {row.id} has no output to learn. Leave such rows out, with their reason.")
    return tuple(rows)


def _made(row: Record, of: Record) -> Provenance:
    """The provenance of a row that has the prompt of `row` and the answers of `of`."""
    parents = tuple(dict.fromkeys((row.id, of.id)))
    return replace(of.provenance, recipe=RECIPE, operation="augmentation", parents=parents)


def _exchanged(row: Preference) -> Preference:
    return replace(
        row, chosen=row.rejected, rejected=row.chosen, score_chosen=row.score_rejected,
        score_rejected=row.score_chosen, provenance=_made(row, row),
    )  # fmt: skip


def _rng(seed: int, name: str) -> np.random.Generator:
    """Draws of its own for each arm: the same half in two controls would make them alike."""
    return np.random.default_rng([seed, *name.encode()])


def _half(n: int, rng: np.random.Generator) -> np.ndarray:
    """True at n // 2 random places, (n,)."""
    return rng.permutation(n) < n // 2


# --- answers dealt to other prompts -------------------------------------------------------------------------------------


def _dealt(
    prompts: Sequence[str],
    answers: Sequence[tuple[str, ...]],
    fits: Callable[..., bool] | None,
    rng: np.random.Generator,
) -> list[int]:
    """For each prompt the place of the answers it gets, a permutation of (n,).

    A random one, in which rows that may not keep theirs exchange them with random rows. Those that find none to exchange
    with are matched along augmenting paths (Kuhn 1955, doi:10.1002/nav.3800020109): if all can be dealt, they are."""
    asked = [opening(prompt) for prompt in prompts]
    n, (common, most) = len(asked), Counter(asked).most_common(1)[0]
    if 2 * most > n:
        raise InputError(
            f"{most:,} of {n:,} rows ask {quoted(common)}, and their answers cannot all go to rows that ask something else. "
            "Add rows of other prompts, or leave some of these out."
        )

    def may(row: int, at: int) -> bool:
        return asked[row] != asked[at] and (fits is None or fits(prompts[row], *answers[at]))

    of = rng.permutation(n)
    for row in range(n):
        if not may(row, of[row]):
            tries = (other for other in rng.integers(0, n, _TRIES) if may(row, of[other]) and may(other, of[row]))
            if (other := next(tries, None)) is not None:
                of[[row, other]] = of[[other, row]]
    waiting = [row for row in range(n) if not may(row, of[row])]
    of[waiting] = _NONE
    allowed = cache(lambda row: np.array([may(row, at) for at in range(n)]))
    for row in waiting:
        if not _found_a_place(row, of, allowed):
            raise InputError(
                f"the answers cannot be dealt out so that all fit: none is left for {quoted(prompts[row])}. Leave out the "
                "longest rows, from all arms, or raise the limit."
            )
    return of.tolist()


def _found_a_place(row: int, of: np.ndarray, allowed: Callable[[int], np.ndarray]) -> bool:
    """Give a row some answers, moving rows that have theirs already where it must be; False when there is no way."""
    holder = np.full(len(of), _NONE)
    holder[of[of != _NONE]] = np.flatnonzero(of != _NONE)
    wanted_by, ahead = np.full(len(of), _NONE), deque([row])
    while ahead:
        wants = ahead.popleft()
        new = np.flatnonzero(allowed(wants) & (wanted_by == _NONE))
        wanted_by[new] = wants
        if len(free := new[holder[new] == _NONE]):
            at = free[0]
            while at != _NONE:  # back along the path: each row takes what it wants and leaves what it had
                wants = wanted_by[at]
                at, of[wants] = of[wants], at
            return True
        ahead.extend(holder[new].tolist())
    return False


# --- tokens -------------------------------------------------------------------------------------------------------------


def _counts(tokens: Sequence[int] | None, rows: Sequence[Record]) -> np.ndarray:
    """The tokens of each row, (n,); all 0 where none are given, so that every draw has the same sum."""
    if tokens is None:
        return np.zeros(len(rows), dtype=np.int64)
    counts = np.asarray(tokens)
    if counts.shape != (len(rows),) or counts.dtype.kind not in "iu" or counts.min() < 0:
        raise InputError(
            f"tokens are one whole number for each of {len(rows):,} rows, in their order and 0 or more; got {counts.dtype} of "
            f"shape {counts.shape}: {tokens!r:.60}. Count what the trainer is given of each row."
        )
    return counts.astype(np.int64)


def _in_tokens(has: int, wanted: int, whose: str) -> str:
    """How many tokens there are against how many were wanted, to go on a sentence with."""
    off = f", {abs(has - wanted):,} {'more' if has > wanted else 'fewer'} than" if has != wanted else ", as many as"
    return f"; {has:,} tokens{off} {whose}"


def _drawn(tokens: np.ndarray, n: int, target: float, rng: np.random.Generator) -> np.ndarray:
    """True at n places, drawn at random and exchanged until their tokens add up to the target as nearly as can be, (rows,).

    Exchanges are random too, as long as each brings the sum nearer; then a search among some rows finds what is missing."""
    kept = rng.permutation(len(tokens)) < n
    for _ in range(_ROUNDS):
        _bring_nearer(kept, tokens, target, rng)
        missing = target - tokens[kept].sum()
        if abs(missing) < 1:
            break
        pool = _pool(tokens, kept, rng)
        inside = kept[pool]
        kept[pool] = _nearest(tokens[pool].tolist(), int(inside.sum()), tokens[pool][inside].sum() + missing)
        if len(pool) == len(tokens):
            break
    return kept


def _bring_nearer(kept: np.ndarray, tokens: np.ndarray, target: float, rng: np.random.Generator) -> None:
    """Exchange random rows, in place, until a round of them brings the sum no nearer to the target."""
    missing, before = target - tokens[kept].sum(), np.inf
    while 1 <= abs(missing) < before:
        before = abs(missing)
        sides = [rng.permutation(np.flatnonzero(side)) for side in (kept, ~kept)]
        pairs = (np.resize(side, max(map(len, sides))).tolist() for side in sides)
        for leaves, comes in zip(*pairs, strict=True):
            step = int(tokens[comes] - tokens[leaves])
            if kept[leaves] and not kept[comes] and abs(missing - step) < abs(missing):
                kept[leaves], kept[comes] = False, True
                missing -= step


def _pool(tokens: np.ndarray, kept: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The places of the rows that an exact search may exchange: kept ones and others, in as many different sizes as can be."""
    most = max(2, min(_SEARCHED, int((_SUMS / (np.ptp(tokens) + 1)) ** (1 / 3))))
    sides = []
    for side in (kept, ~kept):
        places = rng.permutation(np.flatnonzero(side))
        firsts = rng.permutation(np.unique(tokens[places], return_index=True)[1])
        sides.append(np.concatenate([places[firsts], np.delete(places, firsts)]))
    inside, outside = sides
    inside = inside[: max(most // 2, most - len(outside))]
    return rng.permutation(np.concatenate([inside, outside[: most - len(inside)]]))


def _nearest(tokens: Sequence[int], n: int, target: float) -> np.ndarray:
    """True at n of the places, whose sum is the nearest to the target that there is, (rows,).

    By dynamic programming: reached[i][c] has a bit for every sum of c of the first i, above c times the smallest."""
    least = min(tokens)
    reached = [[1] + [0] * n]
    for each in tokens:
        before, more = reached[-1], each - least
        reached.append([1] + [before[c] | before[c - 1] << more for c in range(1, n + 1)])
    sums = reached[-1][n]
    # The set bit next below the target, and the one at it or next above.
    aim = min(max(0, math.floor(target) - n * least), sums.bit_length())
    below, above = (sums & (1 << aim) - 1).bit_length() - 1, sums >> aim
    nearest = [below, aim + (above & -above).bit_length() - 1 if above else below]
    left = min((at for at in nearest if at >= 0), key=lambda at: abs(at + n * least - target))
    chosen = np.zeros(len(tokens), dtype=bool)
    for place in reversed(range(len(tokens))):
        before, more = reached[place], tokens[place] - least
        if n > 0 and left >= more and before[n - 1] >> (left - more) & 1:
            chosen[place] = True
            n, left = n - 1, left - more
    return chosen
