"""Search for a better prompt with DSPy, and freeze what was found as the next version.

    split = examples.rag_question(documents, count=120).split()
    found = optimize.search("rag/question@1", split, client=client, out="data/prompts", method=optimize.Bootstrap())
    found.prompt, found.comparison

Everything is asked through the client's own ledger, so that a search that was killed goes on where it ended, within one
budget. The winner is chosen by the dev examples; whether it is better is said by the held-out ones, which no optimiser
saw. The instruction that DSPy starts from is the base prompt's own."""

import dataclasses
import os
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import _html, experiments, store
from workbench._background import only_writer, progress_bar
from workbench.errors import BudgetExhausted, InputError, PromptError, RunError, StoreError, WorkbenchError, require
from workbench.experiments import Experiment
from workbench.intervals import Interval
from workbench.llm import Budget, Client, Ledger
from workbench.prompts import comparison, library, programs
from workbench.prompts._desk import Candidate, Desk
from workbench.prompts.comparison import Comparison, Scores
from workbench.prompts.examples import Examples, Split
from workbench.prompts.library import Prompt
from workbench.records import content_hash

_NEVER = 10**9  # errors that DSPy may count: an unreadable answer scores 0, and an outage ends the search by itself


@dataclass(frozen=True)
class Settings:
    """How to search: the form that is sent and frozen ("chat" or "json": DSPy's ChatAdapter or JSONAdapter; None: that of
    the base prompt), the seed, the requests under way at once, a cap for everything that is asked, and who proposes
    instructions (None: the client)."""

    adapter: str | None = None
    seed: int = 0
    concurrency: int = 8
    budget: Budget | None = None
    proposer: Client | None = None
    progress: bool = True

    def __post_init__(self):
        if self.concurrency < 1:
            raise InputError(f"concurrency must be 1 or more, got {self.concurrency}.")


# --- methods ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AsWritten:
    """No search: the base prompt's instruction in the adapter's form. The control that a search has to beat."""

    proposes = False

    def most_requests(self, train: int, dev: int) -> int:
        return 0

    def find(self, program: Any, train: list[Any], dev: list[Any], desk: Desk, settings: Settings) -> Any:
        return program


@dataclass(frozen=True)
class Bootstrap:
    """BootstrapFewShotWithRandomSearch (Khattab et al. 2023, arXiv:2310.03714): the program's own good answers become its
    demonstrations, and `candidates` random sets of up to `demonstrations` of them are tried on all of dev.

    Only an answer that scores `min_score` or more may demonstrate; a training example is drawn up to `rounds` times."""

    demonstrations: int = 4
    candidates: int = 8
    min_score: float = 0.9
    rounds: int = 1
    proposes = False

    def __post_init__(self):
        _check(self)

    def most_requests(self, train: int, dev: int) -> int:
        """An upper bound: every candidate on dev, every training example once a round."""
        return (self.candidates + 2) * dev + self.rounds * train

    def find(self, program: Any, train: list[Any], dev: list[Any], desk: Desk, settings: Settings) -> Any:
        teleprompt = require("dspy.teleprompt", extra="prompts")
        return teleprompt.BootstrapFewShotWithRandomSearch(
            metric=desk.metric, metric_threshold=self.min_score, max_bootstrapped_demos=self.demonstrations,
            max_labeled_demos=0, max_rounds=self.rounds, num_candidate_programs=self.candidates,
            num_threads=settings.concurrency, max_errors=_NEVER,
        ).compile(program, trainset=train, valset=dev)  # fmt: skip


@dataclass(frozen=True)
class MIPRO:
    """MIPROv2 (Opsahl-Ong et al. 2024, arXiv:2406.11695): sets of demonstrations as in Bootstrap and instructions that a
    model proposes, combined by Bayesian search over `trials` evaluations on all of dev."""

    demonstrations: int = 3
    candidates: int = 4
    trials: int = 10
    min_score: float = 0.9
    proposes = True

    def __post_init__(self):
        _check(self)

    def most_requests(self, train: int, dev: int) -> int:
        """An upper bound: the trials and the first program on dev, the demonstrations, the proposals."""
        return (self.trials + 2) * dev + train + 2 * self.candidates + 12

    def find(self, program: Any, train: list[Any], dev: list[Any], desk: Desk, settings: Settings) -> Any:
        teleprompt = require("dspy.teleprompt", extra="prompts")
        require("optuna", extra="prompts")
        return teleprompt.MIPROv2(
            metric=desk.metric, prompt_model=desk.proposer, task_model=desk.writer, auto=None, max_labeled_demos=0,
            num_candidates=self.candidates, max_bootstrapped_demos=self.demonstrations, metric_threshold=self.min_score,
            num_threads=settings.concurrency, max_errors=_NEVER, seed=settings.seed + 1,  # it takes 0 for no seed at all
        ).compile(
            program, trainset=train, valset=dev, num_trials=self.trials, minibatch=False,
            program_aware_proposer=False,  # it would show the model DSPy's own source code
        )  # fmt: skip


@dataclass(frozen=True)
class GEPA:
    """GEPA (Agrawal et al. 2025, arXiv:2507.19457): a model reads what went wrong, in the words of the metric's feedback,
    and rewrites the instruction; the Pareto front over dev decides which one is built on.

    `metric_calls` answers may be scored; each reflection reads `minibatch` of them."""

    metric_calls: int = 300
    minibatch: int = 3
    proposes = True

    def __post_init__(self):
        _check(self)

    def most_requests(self, train: int, dev: int) -> int:
        """An upper bound: the answers, the last evaluation begun within them, the reflections."""
        return self.metric_calls + dev + 2 * self.minibatch + self.metric_calls // self.minibatch

    def find(self, program: Any, train: list[Any], dev: list[Any], desk: Desk, settings: Settings) -> Any:
        teleprompt = require("dspy.teleprompt", extra="prompts")
        return teleprompt.GEPA(
            metric=desk.metric, reflection_lm=desk.proposer, max_metric_calls=self.metric_calls, seed=settings.seed,
            reflection_minibatch_size=self.minibatch, add_format_failure_as_feedback=True, num_threads=settings.concurrency,
            use_merge=False, warn_on_score_mismatch=False,  # one predictor: there is nothing to merge
            # DSPy's own would drop every proposal that is not JSON, and say nothing.
            instruction_proposer=require("dspy.teleprompt.gepa.instruction_proposal", extra="prompts").InstructionProposer(
                adapter=desk.adapter("json")
            ),
        ).compile(program, trainset=train, valset=dev)  # fmt: skip


Method = AsWritten | Bootstrap | MIPRO | GEPA


def _check(method: Any) -> None:
    """Raise InputError for a count below 1 or a score that is no score: DSPy would fail in the middle of the search."""
    for name, value in vars(method).items():
        fits = (
            isinstance(value, int | float) and 0 <= value <= 1
            if name == "min_score"
            else isinstance(value, int) and value >= 1
        )
        if not fits:
            wanted = "between 0 and 1" if name == "min_score" else "1 or more"
            raise InputError(f"{type(method).__name__}: {name} must be {wanted}, got {value!r}.")


# --- the search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """What came of a search: the new version and its file, the comparison with the base on held-out examples, and every
    candidate that was tried on all of dev."""

    prompt: Prompt
    base: Prompt
    path: Path
    comparison: Comparison
    candidates: tuple[Candidate, ...]
    experiment: Experiment

    @property
    def overfit(self) -> float:
        """The gain on dev, by which it was chosen, less the gain on held-out examples; above 0 dev was too optimistic."""
        scores = self.prompt.scores
        gains = {part: scores[part]["value"] - scores["base"][part]["value"] for part in ("dev", "held_out")}
        return gains["dev"] - gains["held_out"]

    @property
    def is_offline(self) -> bool:
        """True when the rule-based offline writer answered, and no model did."""
        return self.experiment.is_offline

    def _shown(self) -> dict[str, str]:
        scores = self.prompt.scores
        part = lambda name: f"{scores['base'][name]['value']:.3f} → {scores[name]['value']:.3f}"
        cost = self.prompt.made_by["cost"]
        return {
            "dev": part("dev"), "held out": part("held_out"), "answers": f"{self.prompt.made_by['answers']:,}",
            "cost": "unknown (no price)" if cost is None else f"${cost:.2f}",
        }  # fmt: skip

    @property
    def _note(self) -> str:
        made = self.prompt.made_by
        offline = ", offline rules, no model" if made["is_offline"] else ""
        lost = f", {made['lost_proposals']:,} proposals never came" if made.get("lost_proposals") else ""
        return f"by {made['method']} from {self.base.ref}{offline}{lost}"

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._shown().items())
        return f"{self.prompt.ref} {self._note}: {facts}\n{self.comparison.sentence}"

    def _repr_html_(self) -> str:
        body = _html.facts(self._shown() | {"model": self.experiment.model}) + self.comparison._repr_html_()
        return _html.card(self.prompt.id, self._note, body)


def search(
    prompt: str | Prompt,
    examples: Split,
    *,
    client: Client,
    out: str | os.PathLike[str],
    method: Method = Bootstrap(),
    settings: Settings = Settings(),
) -> Search:
    """Return the next version of a prompt, frozen, with its scores on dev and held-out examples.

    A ref is looked up in `out/prompts` too, which gets the new file; `out/searches` gets the experiment and
    `out/ledger.sqlite` the answers, unless the client is a ledger. The same search gives the same version again, out of the
    ledger. Raises BudgetExhausted or CallFailed when budget or server end it early, Stopped at the stop button: what was
    answered is kept, and the same call goes on. Raises InputError for held-out examples that the base has seen."""
    if not isinstance(examples, Split):
        raise InputError(
            f"a search takes a Split of examples, got {type(examples).__name__}. Make one: examples.split()."
        )
    if not isinstance(method, Method):
        raise InputError(f"method is one of AsWritten(), Bootstrap(), MIPRO() and GEPA(), got {method!r}.")
    out, base = Path(out), prompt
    if isinstance(prompt, str):
        base = library.load(
            prompt, folder=out / "prompts" if prompt in library.names(folder=out / "prompts") else library.FOLDER
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "prompts").mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write into {out}: {error.strerror}. Name a folder for what is found.") from None
    work = _Work(base, examples, client, method, settings, out)
    try:
        with only_writer(work.folder):
            return work.done()
    finally:
        work.close()


class _Work:
    """One search: what it is of, and where it is kept."""

    def __init__(self, base: Prompt, split: Split, client: Client, method: Method, settings: Settings, out: Path):
        self.base, self.split, self.method, self.settings = base, split, method, settings
        self.task = programs.Task.of(base)
        self.form = settings.adapter or ("json" if base.is_json else "chat")
        for name, part in (("dev", split.dev), ("held-out", split.held_out)):
            if len({example.group for example in part}) < 2:
                raise InputError(
                    f"the {name} examples are of one document, which has no interval. Take examples from more documents, or split otherwise."
                )
        if known := comparison.seen_in(base, split.held_out):
            raise InputError(
                f"{known} It would be judged by what it has seen: go on with the split that it was found with."
            )
        self._own: list[Ledger] = []
        self.ledger = self._ledger(client, out / "ledger.sqlite")
        self.proposer = self.ledger if settings.proposer is None else self._ledger(settings.proposer, self.ledger.path)
        # Everything that decides what is found: the same search has the same id.
        self.id = content_hash([base.id, self._how(), [_sender(self.ledger), _sender(self.proposer)]])
        self.prompts, self.folder = out / "prompts", out / "searches" / self.id
        self.folder.mkdir(parents=True, exist_ok=True)
        self.desk = Desk(
            self._frozen(programs.thaw(base), 1, {}, {}), split.dev, writer=self.ledger, proposer=self.proposer,
            budget=settings.budget, run=self.id,
        )  # fmt: skip
        self._before = self._read_before()
        self.started, self._clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()

    def _ledger(self, client: Client, path: Path) -> Ledger:
        if isinstance(client, Ledger):
            return client
        self._own.append(Ledger(client, path))
        return self._own[-1]

    def close(self) -> None:
        for ledger in self._own:
            ledger.close()

    def done(self) -> Search:
        # What ended well stays in the table until it ends well again.
        was_finished = self._before is not None and not self._before.stopped
        if not was_finished:
            experiments.write(self.folder, self._experiment("unfinished"))
        try:
            program = self._found()
            prompt, path, versus = self._kept(program)
        except BaseException as error:
            if not was_finished:
                experiments.write(self.folder, self._experiment(str(error) or type(error).__name__))
            raise
        experiment = self._experiment("", prompt)
        experiments.write(self.folder, experiment)
        candidates = tuple(self.desk.candidates)
        with store.atomically(self.folder / "candidates.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist([vars(candidate) for candidate in candidates]), temporary)
        return Search(prompt, self.base, path, versus, candidates, experiment)

    def _read_before(self) -> Experiment | None:
        """The experiment as an earlier call left it; None where there is none that can be read."""
        try:
            return experiments.read(self.folder)
        except StoreError:
            return None

    def _found(self) -> Any:
        train, dev = self.desk.rows(self.split.train), self.desk.rows(self.split.dev)
        random.Random(f"search/{self.settings.seed}").shuffle(train)  # some methods take the first that are good enough
        start = programs.thaw(self.base)
        name, most = type(self.method).__name__, self.method.most_requests(len(train), len(dev))
        with progress_bar(f"{name} {self.base.ref}", most, "requests", is_wanted=self.settings.progress) as bar:

            def tick() -> None:
                if bar is not None:
                    bar.n = min(most, len(self.desk.keys))
                    bar.set_postfix_str(_so_far(self.desk.candidates))

            try:
                return self.desk.run(
                    lambda: self.method.find(start, train, dev, self.desk, self.settings),
                    adapter=self.form, threads=self.settings.concurrency, dev=dev, tick=tick,
                )  # fmt: skip
            except BudgetExhausted as error:
                raise self._over_budget(error) from None
            except (WorkbenchError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise RunError(
                    f"DSPy's {name} gave up on {self.base.ref}: {type(error).__name__}: {error}. What was answered is in {self.ledger.path}."
                ) from error

    def _kept(self, program: Any) -> tuple[Prompt, Path, Comparison]:
        """The program frozen as the next version, scored with its base as the generator would send them, and saved."""
        draft = self._frozen(program, self._next_version(), {}, {})
        if self.base.is_program:
            # A search begins without the base's demonstrations, and may end below where the base was.
            start = self._frozen(programs.thaw(self.base), draft.version, {}, {})
            if self._score(start, self.split.dev).value >= self._score(draft, self.split.dev).value:
                program, draft = programs.thaw(self.base), start
        parts = {"dev": self.split.dev, "held_out": self.split.held_out}
        of = {
            who: {name: self._score(prompt, part) for name, part in parts.items()}
            for who, prompt in (("base", self.base), ("new", draft))
        }
        shown = {who: {name: _numbers(scores) for name, scores in parts.items()} for who, parts in of.items()}
        before, after = of["base"]["held_out"], of["new"]["held_out"]
        pair = comparison.between(before, after)
        difference = {**_interval(pair.difference), "documents": len(set(before.groups)), "verdict": pair.verdict}
        prompt, path = self._saved(program, {**shown["new"], "base": shown["base"], "difference": difference})
        return prompt, path, Comparison.of([before, dataclasses.replace(after, prompt=prompt)])

    def _score(self, prompt: Prompt, part: Examples) -> Scores:
        """Score as the generator would ask, and count what was asked."""
        s = self.settings
        try:
            scores = comparison.score(
                prompt,
                part,
                client=self.ledger,
                budget=s.budget,
                run=self.id,
                concurrency=s.concurrency,
                progress=s.progress,
            )
        except BudgetExhausted as error:
            raise self._over_budget(error) from None
        self.desk.keys.update(dict.fromkeys(scores.requests, self.ledger))
        self.desk.models.update(dict.fromkeys(scores.models))
        return scores

    def _frozen(self, program: Any, version: int, made_by: dict[str, Any], scores: dict[str, Any]) -> Prompt:
        return programs.freeze(program, self.task, adapter=self.form, version=version, made_by=made_by, scores=scores)

    def _versions(self) -> dict[int, Path]:
        """The folder of every version of the prompt, by number."""
        refs = [(ref.rpartition("@")[2], folder) for folder in (library.FOLDER, self.prompts)
                for ref in library.names(folder=folder) if ref.rpartition("@")[0] == self.base.name]  # fmt: skip
        return {int(number): folder for number, folder in refs if number.isdecimal()}

    def _next_version(self) -> int:
        return 1 + max([self.base.version, *self._versions()])

    def _saved(self, program: Any, scores: dict[str, Any]) -> tuple[Prompt, Path]:
        """Save the next free version. The same search that found the same messages before finds its version again, with
        the scores of then: asked often enough, an answer that failed once would come out better some day."""
        made_by = {**self._how(), "base": self.base.id, "search": self.id, **self._account()}
        for number in (number for number, folder in self._versions().items() if folder == self.prompts):
            found = self._frozen(program, number, {}, {})
            old = self._readable(number)
            if old is not None and (old.made_by.get("search"), old.messages) == (self.id, found.messages):
                return old, self.prompts / f"{old.ref}.json"
        while True:
            prompt = self._frozen(program, self._next_version(), made_by, scores)
            try:
                return prompt, prompt.save(self.prompts)
            except PromptError:
                if not (self.prompts / f"{prompt.ref}.json").exists():
                    raise
                # Another search took this number a moment ago.

    def _readable(self, number: int) -> Prompt | None:
        """The version of that number, None where its file is damaged: it is none of this search's."""
        try:
            return library.load(f"{self.base.name}@{number}", folder=self.prompts)
        except PromptError:
            return None

    def _how(self) -> dict[str, Any]:
        """The method, its settings and the data, as the prompt's header says them."""
        parts = {"train": self.split.train, "dev": self.split.dev, "held_out": self.split.held_out}
        data = {
            name: {"examples": len(part), "groups": len({example.group for example in part}), "sha256": part.sha256}
            for name, part in parts.items()
        }
        for name in ("train", "dev"):  # so that nobody takes them for unseen; what the base has seen counts too
            before = self.base.made_by.get("data", {}).get(name, {}).get("documents", ())
            data[name]["documents"] = sorted({comparison.group_hash(row.group) for row in parts[name]} | {*before})
        metric = self.split.dev.metric
        return {
            "method": type(self.method).__name__,
            "settings": {**vars(self.method), "adapter": self.form, "seed": self.settings.seed},
            "data": data, "metric": {"name": metric.name, "sha256": metric.content_id}, "scoring": self.split.dev.scoring,
            "dspy": require("dspy", extra="prompts").__version__,
        }  # fmt: skip

    def _account(self) -> dict[str, Any]:
        """Who answered, and what it took: `answers` needed, their tokens and their cost, whoever paid for them first, and
        the `requests` that this search sent for them."""
        ledgers = {id(ledger): ledger for ledger in (self.ledger, self.proposer)}
        keys = {place: [key for key, of in self.desk.keys.items() if of is ledger] for place, ledger in ledgers.items()}
        paid = [ledger.account(keys[place]) for place, ledger in ledgers.items()]
        files = {ledger.path.resolve(): ledger for ledger in ledgers.values()}
        costs = [each["cost"] for each in paid]
        return {
            "model": ", ".join(self.desk.models), "endpoint": self.ledger.endpoint, "sampling": self.ledger.sampling.sent(),
            "is_offline": self.ledger.model.startswith("offline-rules@"),
            "proposer": self.proposer.model if self.method.proposes else "",
            **({"lost_proposals": self.desk.lost_proposals} if self.desk.lost_proposals else {}),
            "answers": len(self.desk.keys), "requests": sum(ledger.spent(self.id)["requests"] for ledger in files.values()),
            "prompt_tokens": sum(each["prompt_tokens"] for each in paid),
            "completion_tokens": sum(each["completion_tokens"] for each in paid),
            "cost": None if None in costs else sum(costs),
        }  # fmt: skip

    def _experiment(self, stopped: str, prompt: Prompt | None = None) -> Experiment:
        """What the table says of this search: what was sent and paid for it, in all its sessions."""
        account, before = self._account(), self._before
        files = {ledger.path.resolve(): ledger for ledger in (self.ledger, self.proposer)}
        spent = [ledger.spent(self.id) for ledger in files.values()]
        paid = {
            name: sum(each[name] for each in spent)
            for name in ("requests", "prompt_tokens", "completion_tokens", "cost")
        }
        if any(each["unpriced"] for each in spent):
            paid["cost"] = None
        told = ("proposer", "sampling", "answers", "lost_proposals")
        return Experiment(
            id=self.id, kind="optimization", name=prompt.ref if prompt else self.base.name, base=self.base.id,
            prompts=(prompt.id,) if prompt else (), started=before.started if before else self.started,
            seconds=time.monotonic() - self._clock + (before.seconds if before else 0.0), stopped=stopped[:500],
            settings={**self._how(), **{name: account[name] for name in told if name in account}},
            scores=_rows(prompt, self.base) if prompt else (),
            **{name: account[name] for name in ("model", "endpoint", "is_offline")}, **paid,
        )  # fmt: skip

    def _over_budget(self, error: BudgetExhausted) -> BudgetExhausted:
        most = self.method.most_requests(len(self.split.train), len(self.split.dev))
        scoring = 2 * (len(self.split.dev) + len(self.split.held_out))
        return BudgetExhausted(
            f"{error.detail} This search takes up to {most:,} requests and up to {scoring:,} for the scores; {len(self.desk.keys):,} answers are there."
        )


def _sender(client: Client) -> list[Any]:
    return [client.model, client.endpoint, client.sampling.sent()]


def _so_far(candidates: list[Candidate]) -> str:
    if not candidates:
        return "no candidate scored yet"
    return f"{len(candidates)} candidates, best {candidates[-1].best:.3f} on dev, the first {candidates[0].score:.3f}"


def _interval(interval: Interval) -> dict[str, float | int]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def _numbers(scores: Scores) -> dict[str, Any]:
    parts = {name: _interval(interval) for name, interval in scores.parts().items()}
    return {**_interval(scores.interval()), "parts": parts}


def _rows(prompt: Prompt, base: Prompt) -> tuple[dict[str, Any], ...]:
    """The header's scores, a row per split, part and prompt."""
    found = []
    for who, scores in ((prompt, prompt.scores), (base, prompt.scores["base"])):
        for split in ("dev", "held_out"):
            parts = {"all": scores[split], **scores[split]["parts"]}
            found += [
                {"split": split, "part": part, "prompt": who.id, **{k: row[k] for k in ("value", "low", "high", "n")}}
                for part, row in parts.items()
            ]
    return tuple(found)
