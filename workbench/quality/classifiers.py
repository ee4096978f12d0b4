"""A judge of pairs that needs no model behind a server: embeddings, a few plain features, and one linear head.

    judge = PairJudge.train(preferences)                    # or train(votes, texts=completions)
    judge.report                                            # what it is worth on prompts it never saw, next to length
    votes, ratings = judge.votes(pairs), judge.ratings(completions)
    judge.save("data/judges/pandalm"); PairJudge.load("data/judges/pandalm")

A text gets a score for its prompt, and the better score wins, so that swapping two texts swaps the answer and equal texts
tie. A judge knows the prompts that it was trained on, and refuses to judge them: on its own pairs it would look as good as
a person. Hold prompts out to calibrate it (quality.calibration), or go by the report.

It learns what its raters liked about wording and form; it cannot check a fact. Length alone goes far in most sets of
pairs, so the report says what length alone does, and its verdict is in words."""

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import orjson

from workbench import _html, intervals, store
from workbench import embed as embedding
from workbench.errors import InputError, require
from workbench.intervals import Interval
from workbench.quality import agreement
from workbench.quality.agreement import Texts
from workbench.quality.checks import quoted, words
from workbench.records import Instruction, Preference, Provenance, Rating, Vote, content_hash, one_kind

PLAIN = ("log_characters", "log_lines", "distinct_words", "prompt_words_said")
BASELINES = ("length alone", "majority side")
# The best of 0.01 to 3 on 2,500 of AlpacaEval's GPT-4 labels, a set that the tests do not measure: right about 0.828 of
# its held-out pairs, against 0.819 with 0.3 and 0.795 with 3.
_STRENGTH = 0.1
# A coin that fell on one side a little more often is foretold a little; one control in 40 is surely above 0.5 by luck.
_LEAK = 0.55
_PROBE = ("Name two rivers of Europe.", "The Rhine and the Danube.\nBoth are long.")


@dataclass(frozen=True, repr=False)
class Report:
    """How often a judge is right about pairs of prompts that it was not trained on, 0 to 1, next to simpler rules.

    `accuracy` is by arm: the "judge"; its "embeddings alone" and "plain features alone"; `BASELINES`; and "shuffled
    labels", the whole training repeated on coin tosses, which should give 0.5. `gain` is the judge less each baseline, on
    the same pairs. Intervals resample prompts whole. `length` says which texts "length alone" prefers, "longer" or
    "shorter": like the majority side, whichever is right more often on all of these pairs, which flatters the baseline.
    `ties` had no winner and were left out."""

    accuracy: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    length: str
    pairs: int
    prompts: int
    ties: int

    @property
    def verdict(self) -> str:
        """What the numbers allow to say."""
        control = self.accuracy["shuffled labels"]
        if self.prompts < intervals.FEW:
            return f"too few prompts to tell ({self.prompts} of the {intervals.FEW} that an interval needs)"
        if control.low > _LEAK:
            return f"not to be believed: labels by coin toss are foretold too, {control}"
        named = {"length alone": f"preferring the {self.length} text", "majority side": "always naming the same side"}
        worse = [name for name in BASELINES if self.gain[name].high < 0]
        no_better = [name for name in BASELINES if self.gain[name].low <= 0]
        said = lambda names: " and ".join(f"{named[name]} ({_signed(self.gain[name])})" for name in names)
        if worse or no_better:
            return f"worse than {said(worse)}" if worse else f"no better than {said(no_better)}"
        return f"better than {said(BASELINES)}"

    def __repr__(self) -> str:
        return f"{self._about}: {self.verdict}\n{_html.text_table(_COLUMNS, self._rows)}"

    def _repr_html_(self) -> str:
        return _html.card(self.verdict, self._about, _html.html_table(_COLUMNS, self._rows))

    @property
    def _about(self) -> str:
        return f"{self.pairs:,} pairs of {self.prompts:,} prompts, {self.ties:,} ties left out"

    @property
    def _rows(self) -> list[tuple[str, str, str]]:
        shown = lambda arm: f"{arm} ({self.length})" if arm == "length alone" else arm
        gains = {arm: _signed(found) for arm, found in self.gain.items()}
        return [(shown(arm), str(found), gains.get(arm, "")) for arm, found in self.accuracy.items()]


_COLUMNS = ("on prompts held out", "accuracy", "the judge's gain")


def _signed(found: Interval) -> str:
    return f"{found.value:+.3f}, {found.low:+.3f} to {found.high:+.3f}"


@dataclass(frozen=True, eq=False, repr=False)
class PairJudge:
    """A linear judge: `weights`, (d,), on the features of a text; `embed` names the embedding model.

    A score is in log-odds: a text that scores 1 more than another to the same prompt wins at odds of e to 1. Scores of
    texts to different prompts say nothing about each other. `trained_on` holds hashes of the prompts that it was trained
    on, of a dialogue the first turn."""

    weights: np.ndarray
    embed: str
    report: Report
    trained_on: frozenset[str]

    @classmethod
    def train(
        cls,
        pairs: Sequence[Preference] | Sequence[Vote],
        *,
        texts: Texts = (),
        embed: str | os.PathLike[str] = embedding.HASHING,
        folds: int = 5,
        seed: int = 0,
    ) -> Self:
        """Return a judge trained on all the pairs, with the report of judges trained without the prompts they are asked.

        Votes need `texts`, the records they are about; several on one pair count as their majority. Majorities for a tie,
        and pairs that have none, are left out and counted. Dialogues that open with the same turn ("Human: ...") are one
        prompt, since one goes on where another stops. An empty text is a text. Raises InputError for pairs of fewer
        than 2 prompts, votes that are all for the same side, an id without a text, texts to two prompts, and a pair of
        equal texts that does not tie."""
        if not isinstance(embed, str | os.PathLike):
            raise InputError(
                f"a judge is saved with the name of its embedding model: give a name or a folder, not {embed!r}."
            )
        duels, ties = _duels(pairs, texts, seed)
        groups = [_opening(duel.prompt) for duel in duels]
        if len(set(groups)) < 2:
            raise InputError(
                f"{len(duels)} pairs of {len(set(groups))} prompts show nothing about other prompts. Give pairs of more prompts."
            )
        if folds < 2:
            raise InputError(
                f"folds must be 2 or more, got {folds}: a judge is tried on prompts it was not trained on."
            )
        embed = os.fspath(embed)
        asked = [duel.prompt for duel in duels]
        won, lost = (_features(asked, [getattr(duel, side) for duel in duels], embed) for side in ("won", "lost"))
        report = _held_out(won - lost, duels, min(folds, len(set(groups))), seed, ties)
        return cls(_fitted(won - lost), embed, report, frozenset(map(content_hash, groups)))

    @property
    def rater(self) -> str:
        """Who votes: "pair-judge@" and the hash of what decides."""
        return f"pair-judge@{content_hash([self.embed, PLAIN, self.weights])[:12]}"

    @property
    def plain(self) -> dict[str, float]:
        """The weights of the plain features, in log-odds for 1 more of each."""
        return dict(zip(PLAIN, self.weights[-len(PLAIN) :].tolist(), strict=True))

    def scores(self, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Return the score of each text as an answer to its prompt, (n,), in log-odds."""
        if len(prompts) != len(texts):
            raise InputError(f"{len(prompts):,} prompts and {len(texts):,} texts. Give the prompt of each text.")
        features = _features(prompts, texts, self.embed)
        if features.shape[1] != len(self.weights):
            raise InputError(
                f"{self.rater} has {len(self.weights)} weights, and {self.embed} gives {features.shape[1]} features: the model "
                "was changed. Train a judge on it."
            )
        return features @ self.weights

    def votes(self, pairs: Sequence[tuple[Instruction, Instruction]], *, may_be_trained_on: bool = False) -> list[Vote]:
        """Return a vote on each two completions of one prompt; equal scores tie. Raises InputError for two prompts, and for
        a prompt that it was trained on, unless it `may_be_trained_on`."""
        asked = [_prompt(first, second) for first, second in pairs]
        self._check_unseen(asked, may_be_trained_on)
        scores = self.scores([p for p in asked for _ in "12"], [_text(each) for pair in pairs for each in pair])
        gaps = scores[::2] - scores[1::2]
        return [
            Vote(one.id, other.id, agreement.winner_of(gap), self.rater, provenance=self._made(one.id, other.id))
            for (one, other), gap in zip(pairs, gaps.tolist(), strict=True)
        ]

    def ratings(self, texts: Sequence[Instruction], *, may_be_trained_on: bool = False) -> list[Rating]:
        """Return the score of each completion, in the dimension "preferred"; compare those of one prompt only. Raises
        InputError as `votes` does."""
        self._check_unseen([each.asked for each in texts], may_be_trained_on)
        scores = self.scores([each.asked for each in texts], [_text(each) for each in texts])
        return [
            Rating(each.id, "preferred", score, self.rater, provenance=self._made(each.id))
            for each, score in zip(texts, scores.tolist(), strict=True)
        ]

    def _check_unseen(self, prompts: Sequence[str], may_be_trained_on: bool) -> None:
        seen = {prompt for prompt in prompts if content_hash(_opening(prompt)) in self.trained_on}
        if seen and not may_be_trained_on:
            raise InputError(
                f"{self.rater} was trained on {len(seen):,} of these {len(set(prompts)):,} prompts, such as {quoted(min(seen))}: what it "
                "says of them shows nothing of others. Hold prompts out of its training, or pass may_be_trained_on=True."
            )

    def _made(self, *parents: str) -> Provenance:
        return Provenance("pair_judge", model=self.rater, parents=parents)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write judge.json and weights.npz, and return the folder. Raises StoreError where it cannot be written."""
        folder = Path(folder)
        about = {"rater": self.rater, "embed": self.embed, "plain": PLAIN, "probe": self._probe()}
        about["trained_on"] = sorted(self.trained_on)
        with store.atomically(folder / "weights.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, weights=self.weights)
        with store.atomically(folder / "judge.json") as temporary:
            temporary.write_bytes(orjson.dumps(about | {"report": asdict(self.report)}, option=orjson.OPT_INDENT_2))
        return folder

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the judge of a folder. Raises InputError for one that is not whole, or whose embedding model was changed."""
        folder = Path(folder)
        try:
            about = orjson.loads((folder / "judge.json").read_bytes())
            report = dict(about["report"])
            for name in ("accuracy", "gain"):
                report[name] = {arm: Interval(**found) for arm, found in report[name].items()}
            with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
                judge = cls(arrays["weights"], about["embed"], Report(**report), frozenset(about["trained_on"]))
            is_whole = judge.rater == about["rater"] and np.isfinite(judge.weights).all()
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{folder} holds no whole judge ({type(error).__name__}: {error}). Save it again with PairJudge.save()."
            ) from error
        if not is_whole or not math.isclose(judge._probe(), about["probe"], rel_tol=1e-3, abs_tol=1e-4):
            raise InputError(
                f"the judge in {folder} does not score as it did when it was saved: its weights, the features or the model "
                f"{judge.embed} were changed. Train it again."
            )
        return judge

    def _probe(self) -> float:
        return float(self.scores(_PROBE[:1], _PROBE[1:])[0])

    def __repr__(self) -> str:
        weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in self.plain.items())
        return f"{self.rater} on {self.embed} ({weights}), {self.report!r}"

    def _repr_html_(self) -> str:
        return f"{_html.card(self.rater, f'on {self.embed}', _html.facts(self.plain))}{self.report._repr_html_()}"


# --- what is given ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Duel:
    """A pair with a winner, and whether that stood first."""

    prompt: str
    won: str
    lost: str
    is_first: bool

    @classmethod
    def of(cls, name: str, prompt: str, texts: tuple[str, str], winner: str) -> Self:
        won, lost = texts if winner == "first" else texts[::-1]
        if won.strip() == lost.strip():
            raise InputError(f"{name} calls one of two equal texts better. Leave such pairs out, with their reason.")
        return cls(prompt, won, lost, winner == "first")


def _duels(pairs: Sequence[Preference] | Sequence[Vote], texts: Texts, seed: int) -> tuple[list[_Duel], int]:
    """The pairs that have a winner, and how many have none."""
    kind = one_kind(pairs)
    if kind is Preference:
        return _of_preferences(pairs, seed), 0
    if kind is not Vote:
        raise InputError(f"a judge is trained on Preference or Vote records, got {kind.__name__}.")
    voted = [(pair, agreement.majority(pair.votes.values())) for pair in agreement.pairs(pairs)]
    won = [(pair, winner) for pair, winner in voted if winner in ("first", "second")]
    return _of_votes(won, agreement.by_id(texts)), len(voted) - len(won)


def _of_preferences(pairs: Sequence[Preference], seed: int) -> list[_Duel]:
    # A preference has no sides. Drawn ones, half of each, give the baseline that names a side its 0.5.
    drawn = np.random.default_rng(seed).permutation(len(pairs)) % 2
    duels = []
    for pair, side in zip(pairs, drawn, strict=True):
        texts = (pair.rejected, pair.chosen) if side else (pair.chosen, pair.rejected)
        duels.append(_Duel.of(f"Preference {pair.id}", pair.prompt, texts, "second" if side else "first"))
    return duels


def _of_votes(won: Sequence[tuple[agreement.Pair, str]], known: Mapping[str, Instruction]) -> list[_Duel]:
    if len(won) > 1 and len({winner for _, winner in won}) == 1:
        raise InputError(
            f"all {len(won):,} majorities are for the same side, as of raters that see only the place. Show the texts in a "
            "drawn order; where the winner was put first on purpose, give Preference records, which have no sides."
        )
    duels = []
    for pair, winner in won:
        both = agreement.text_of(known, pair.first), agreement.text_of(known, pair.second)
        name = f"the vote on {pair.first} and {pair.second}"
        duels.append(_Duel.of(name, _prompt(*both), (_text(both[0]), _text(both[1])), winner))
    return duels


def _prompt(first: Instruction, second: Instruction) -> str:
    if first.asked != second.asked:
        raise InputError(f"{first.id} and {second.id} answer two prompts. Pair completions of one.")
    return first.asked


def _opening(prompt: str) -> str:
    """The first turn of a dialogue, as hh-rlhf writes it; any other prompt whole."""
    return prompt.partition("\n\nAssistant:")[0].strip() if prompt.lstrip().startswith("Human:") else prompt


def _text(record: Instruction) -> str:
    if record.output is None:
        raise InputError(f"Instruction {record.id} has no output to judge. Give completions.")
    return record.output


# --- features, the head, and its trial --------------------------------------------------------------------------------


def _features(prompts: Sequence[str], texts: Sequence[str], embed: str) -> np.ndarray:
    """The embedding of each text, its cosine with the prompt's, and PLAIN, (n, d + 1 + 4); an empty text has no direction."""
    both = [*prompts, *texts]
    said = [place for place, text in enumerate(both) if text.strip()]
    vectors = embedding.texts([both[place] for place in said], model=embed)
    unit = np.zeros((len(both), vectors.shape[1]))
    unit[said] = vectors
    asked, answered = unit[: len(prompts)], unit[len(prompts) :]
    cosines = (asked * answered).sum(axis=1, keepdims=True)
    plain = np.array([_plain(*each) for each in zip(prompts, texts, strict=True)]).reshape(-1, len(PLAIN))
    return np.hstack([answered, cosines, plain])


def _plain(prompt: str, text: str) -> tuple[float, float, float, float]:
    said, asked = words(text), set(words(prompt))
    return (
        math.log1p(len(text)),
        math.log1p(text.count("\n")),
        len(set(said)) / max(1, len(said)),
        len(asked.intersection(said)) / max(1, len(asked)),
    )


def _fitted(differences: np.ndarray) -> np.ndarray:
    """The weights that best tell winner from loser: logistic regression on winner minus loser, (pairs, d), no intercept.

    Bradley and Terry 1952, doi:10.1093/biomet/39.3-4.324, with features. Plain features are divided by their own size, so
    that the penalty, which is the same for all, does not depend on their units."""
    head = require("sklearn.linear_model", extra="embed").LogisticRegression
    scale = np.ones(differences.shape[1])
    sizes = np.sqrt((differences**2).mean(axis=0))[-len(PLAIN) :]
    scale[-len(PLAIN) :] = np.where(sizes > 0, sizes, 1.0)
    # A pair and its mirror image say the same, and give the two classes that the library wants; so each counts half.
    given = np.vstack([differences, -differences]) / scale
    side = np.repeat([1, -1], len(differences))
    return head(C=_STRENGTH / 2, fit_intercept=False, max_iter=1000).fit(given, side).coef_[0] / scale


def _held_out(differences: np.ndarray, duels: list[_Duel], folds: int, seed: int, ties: int) -> Report:
    groups = [_opening(duel.prompt) for duel in duels]
    splits = require("sklearn.model_selection", extra="embed").GroupKFold(folds, shuffle=True, random_state=seed)
    parts = list(splits.split(differences, groups=groups))

    def right(rows: np.ndarray) -> np.ndarray:
        """1 where a judge trained on the other prompts is right, 0.5 where it ties, (pairs,)."""
        credit = np.empty(len(rows))
        for train, test in parts:
            credit[test] = _credit(rows[test] @ _fitted(rows[train]))
        return credit

    longer = _credit(np.array([len(duel.won) - len(duel.lost) for duel in duels]))
    is_first = np.array([duel.is_first for duel in duels], dtype=float)
    coin = np.random.default_rng(seed).choice([-1.0, 1.0], len(duels))
    only_plain = differences * (np.arange(differences.shape[1]) >= differences.shape[1] - len(PLAIN))
    credits = {
        "judge": right(differences),
        "embeddings alone": right(differences - only_plain),
        "plain features alone": right(only_plain),
        "length alone": longer if longer.mean() >= 0.5 else 1 - longer,
        "majority side": is_first if is_first.mean() >= 0.5 else 1 - is_first,
        "shuffled labels": right(differences * coin[:, None]),
    }
    return Report(
        {arm: intervals.mean(found, groups=groups) for arm, found in credits.items()},
        {arm: intervals.paired(credits[arm], credits["judge"], groups=groups) for arm in BASELINES},
        "longer" if longer.mean() >= 0.5 else "shorter",
        len(duels),
        len(set(groups)),
        ties,
    )


def _credit(margins: np.ndarray) -> np.ndarray:
    return (margins > 0) + 0.5 * (margins == 0)
