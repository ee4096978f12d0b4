"""The desk between DSPy and our clients: every request of an optimiser goes through the ledger, is counted and budgeted.

DSPy scores 0 whatever raises, outages included. So the desk remembers the first error that is no answer of the model's
(a server that is down, a spent budget, the stop button), lets nothing else be asked, and raises it once DSPy is done."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench._background import StopButton, background_loop, close_unused, using
from workbench.errors import CallFailed, require
from workbench.llm import Budget, Ledger, Request, Sampling
from workbench.llm.answers import sampling_of
from workbench.prompts import programs
from workbench.prompts._asking import OF_THE_MODEL
from workbench.prompts.examples import Example, Examples
from workbench.prompts.library import Prompt
from workbench.runner import Stopped


@dataclass(frozen=True)
class Candidate:
    """A program that was tried on every dev example: the requests asked by then, its mean score, the best so far."""

    requests: int
    score: float
    best: float


class Desk:
    """What one search asks, by whom, for how much, and how its candidates did on dev."""

    def __init__(
        self, shape: Prompt, examples: Examples, *, writer: Ledger, proposer: Ledger, budget: Budget | None, run: str
    ):
        self.ledger = writer
        self.keys: dict[str, None] = {}  # of the ledger, in the order first asked
        self.models: dict[str, None] = {}  # as answered
        self.candidates: list[Candidate] = []
        self.broken: BaseException | None = None
        self._task, self._examples, self._budget, self._run = programs.Task.of(shape), examples, budget, run
        self._by_inputs: dict[str, Example] = {}
        self._under_way: set[Future[Any]] = set()
        self._lock, self._rollout = threading.Lock(), threading.local()
        self._clients = {id(ledger.client): ledger.client for ledger in (writer, proposer)}
        # As the frozen prompt will be asked: the same parameters, and the same schema where it has one.
        schema = shape.json_schema if shape.is_json else None
        self.writer = self._model(writer, Request((), sampling_of(shape, writer), schema=schema))
        # A proposal must not be the same each time, and is longer than an answer, by which a writer's own limit is set.
        has_limit = proposer is not writer and proposer.sampling.max_tokens is not None
        wanted = Sampling(max_tokens=None if has_limit else 4000, temperature=1.0)
        self.proposer = self._model(proposer, Request((), wanted))

    # --- what DSPy is given ---

    def rows(self, part: Examples) -> list[Any]:
        """The examples as DSPy's, with nothing in them but inputs and known outputs: proposers show them to models whole."""
        dspy = require("dspy", extra="prompts")
        made = []
        for example in part:
            inputs = programs.inputs(self._task, example.values)
            self._by_inputs[_key(inputs)] = example
            made.append(dspy.Example(**inputs, **example.outputs).with_inputs(*inputs))
        return made

    def metric(self, gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        """Return our metric's value; to GEPA, which names the predictor, with its feedback."""
        try:
            example = self._by_inputs[_key({name: gold[name] for name in self._task.inputs})]
            scored = self._examples.scored(example, {name: _plain(pred[name]) for name in self._task.outputs})
        except BaseException as error:
            self.broken = self.broken or error  # a metric that fails is no score either
            raise
        if pred_name is None:
            return scored.value
        dspy = require("dspy", extra="prompts")
        return dspy.Prediction(score=scored.value, feedback=scored.feedback or "Nothing to mend.")

    def _model(self, ledger: Ledger, form: Request) -> Any:
        """A dspy.LM that asks our client; its name is neutral, so that DSPy takes it for no model that it treats specially."""
        dspy, rollout = require("dspy", extra="prompts"), self._rollout

        class LM(dspy.LM):
            def __call__(self, *args: Any, **options: Any) -> Any:
                # DSPy drops the number of the draw before its engine sees the request.
                rollout.number = options.get("rollout_id", self.kwargs.get("rollout_id"))
                return super().__call__(*args, **options)

        return LM("workbench/client", engine=_Engine(self, ledger, form), cache=False, num_retries=0)

    # --- asking ---

    def complete(self, ledger: Ledger, form: Request, request: Any) -> Any:
        """Answer DSPy's request in the form of ours, in whatever thread it comes.

        Raises CallFailed; after an outage, the same error again."""
        if self.broken is not None:
            raise self.broken
        wanted = request.config
        own = Sampling(temperature=wanted.temperature, top_p=wanted.top_p, stop=tuple(wanted.stop or ()) or None)
        draw = getattr(self._rollout, "number", None) or 0
        asked = dataclasses.replace(
            form,
            messages=_messages(request),
            sampling=own.over(form.sampling),
            sample=draw,
            run=self._run,
            budget=self._budget,
        )
        future = asyncio.run_coroutine_threadsafe(ledger.complete(asked), background_loop())
        self._under_way.add(future)
        try:
            answer = future.result()
        except CallFailed as error:
            if error.key:
                self.keys.setdefault(error.key)
            if error.reason not in OF_THE_MODEL:
                self.broken = self.broken or error
            raise
        except BaseException as error:
            self.broken = self.broken or error
            raise
        finally:
            self._under_way.discard(future)
        with self._lock:
            self.keys.setdefault(answer.key)
            if ledger is self.ledger:
                self.models.setdefault(answer.model)
        lm15 = require("dspy.lm15", extra="prompts")
        return lm15.Response(
            id=None, model=request.model, message=lm15.Message.assistant([lm15.TextPart(answer.text)]), finish_reason="stop",
            usage=lm15.Usage(input_tokens=answer.prompt_tokens or 0, output_tokens=answer.completion_tokens or 0),
        )  # fmt: skip

    # --- the search, in a thread of its own: the calling one shows progress and hears the stop button ---

    def run(self, find: Callable[[], Any], *, adapter: str, threads: int, dev: int, tick: Callable[[], None]) -> Any:
        """Return what `find` returns. Raises what ended the search, Stopped at the stop button."""
        made: dict[str, Any] = {}

        def work() -> None:
            try:
                dspy = require("dspy", extra="prompts")
                context = dspy.context(
                    lm=self.writer, adapter=self._adapter(adapter), callbacks=[self._keeper(dev)], num_threads=threads
                )
                with _quiet(), context:
                    made["program"] = find()
            except BaseException as error:
                made["error"] = error

        thread = threading.Thread(target=work, name="prompt search", daemon=True)
        with StopButton() as button, self._connections():
            thread.start()
            while thread.is_alive():
                thread.join(0.1)
                if button.presses and self.broken is None:
                    self.broken = Stopped(
                        f"the search was stopped after {len(self.keys):,} requests; what was answered is in "
                        f"{self.ledger.path.name}. Run the same call again to go on."
                    )
                if button.presses > 1:
                    for future in tuple(self._under_way):
                        future.cancel()
                tick()
        if self.broken is not None:
            raise self.broken
        if "error" in made:
            raise made["error"]
        return made["program"]

    def _adapter(self, name: str) -> Any:
        """DSPy's adapter, which reads a proposal without its header whole: one such answer would end all of MIPROv2.

        An answer to the task itself is read as the frozen prompt will read it."""
        dspy, own = require("dspy", extra="prompts"), set(self._task.outputs)
        made = programs.adapter(name)

        class Adapter(type(made)):  # type: ignore[misc]
            def parse(self, signature: Any, completion: str) -> dict[str, Any]:
                try:
                    return super().parse(signature, completion)
                except dspy.utils.exceptions.AdapterParseError:
                    if own & set(signature.output_fields):
                        raise
                    return dict.fromkeys(signature.output_fields, completion.strip())

        made.__class__ = Adapter
        return made

    @contextlib.contextmanager
    def _connections(self) -> Iterator[None]:
        """Keep the clients' connections for the search, and close them behind it."""
        using.update(list(self._clients))
        try:
            yield
        finally:
            for client in self._clients.values():
                asyncio.run_coroutine_threadsafe(close_unused(client), background_loop()).result()

    def _keeper(self, dev: int) -> Any:
        """A DSPy callback that writes down each candidate that was tried on all of dev."""
        dspy, desk = require("dspy", extra="prompts"), self
        sizes: dict[str, int] = {}

        class Keeper(dspy.utils.callback.BaseCallback):
            def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
                sizes[call_id] = len(inputs.get("devset") or instance.devset)

            def on_evaluate_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
                if sizes.pop(call_id, 0) == dev and outputs is not None and desk.broken is None:
                    scores = [getattr(score, "score", score) for _, _, score in outputs.results]
                    score = sum(scores) / len(scores)
                    best = max([score, *(candidate.best for candidate in desk.candidates[-1:])])
                    desk.candidates.append(Candidate(len(desk.keys), score, best))

        return Keeper()


class _Engine:
    """DSPy's one-call contract for whoever answers: complete(Request) -> Response."""

    def __init__(self, desk: Desk, ledger: Ledger, form: Request):
        self._desk, self._ledger, self._form = desk, ledger, form

    def complete(self, request: Any) -> Any:
        return self._desk.complete(self._ledger, self._form, request)

    def __deepcopy__(self, memo: Any) -> "_Engine":
        return self  # DSPy copies programs; there is one desk


def _messages(request: Any) -> tuple[dict[str, str], ...]:
    """DSPy's request as the messages it was made of."""
    system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
    first = ({"role": "system", "content": system},) if system else ()
    return (*first, *({"role": message.role, "content": message.text or ""} for message in request.messages))


def _key(inputs: Mapping[str, Any]) -> str:
    return repr(sorted(inputs.items()))


def _plain(value: Any) -> Any:
    """A field's value as JSON has it, as a frozen prompt's parser gives it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what optimisers print, log, warn and draw: each answer that cannot be read would be a screen of text."""
    loggers = [logging.getLogger(name) for name in ("dspy", "gepa", "optuna")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
