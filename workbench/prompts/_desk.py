"""The desk between DSPy and our clients: every request of an optimiser goes through the ledger, is counted and budgeted.

DSPy scores 0 whatever raises, outages included. So the desk remembers the first error that is no answer of the model's
(a server that is down, a spent budget, the stop button), ends the search by what DSPy does not catch, and raises it then."""

import asyncio
import contextlib
import dataclasses
import logging
import math
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from workbench._background import StopButton, background_loop, close_unused, using
from workbench.errors import CallFailed, RunError, require
from workbench.llm import Budget, Ledger, Request, Sampling
from workbench.llm.answers import sampling_of
from workbench.prompts import programs
from workbench.prompts._asking import is_of_the_model
from workbench.prompts.examples import Example, Examples
from workbench.prompts.library import Prompt
from workbench.runner import Stopped

_searching = threading.Lock()  # DSPy's logs and streams are the process's: one search at a time
_GRACE_SECONDS = 3.0  # for what is under way when the stop button is pressed


class _Over(BaseException):
    """The search is over, because of `Desk.broken`: no Exception, which DSPy would count as a bad answer and go on."""


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
        self.keys: dict[str, Ledger] = {}  # of every answer that was needed, with the ledger that holds it
        self.lost_proposals = 0  # that nobody could read or that never came; the first instruction stood in for them
        self.models: dict[str, None] = {}  # as answered
        self.candidates: list[Candidate] = []
        self.broken: BaseException | None = None
        self._task, self._examples, self._budget, self._run = programs.Task.of(shape), examples, budget, run
        self._by_inputs: dict[str, Example] = {}
        self._under_way: set[Future[Any]] = set()
        self._has_answered: set[int] = set()
        self._rollout = threading.local()
        self._clients = {id(ledger.client): ledger.client for ledger in (writer, proposer)}
        # As the frozen prompt will be asked: the same parameters, and the same schema where it has one.
        schema = shape.json_schema if shape.is_json else None
        self.writer = self._model(writer, Request((), sampling_of(shape, writer), schema=schema))
        # A proposal must not be the same each time, and is longer than an answer, by which a writer's own limit is set.
        has_limit = proposer is not writer and proposer.sampling.max_tokens is not None
        wanted = Sampling(max_tokens=None if has_limit else 4000, temperature=1.0)
        self._proposes = Request((), wanted)
        self.proposer = self._model(proposer, self._proposes)

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
        if self.broken is not None:
            raise _Over
        try:
            example = self._by_inputs[_key({name: gold[name] for name in self._task.inputs})]
            scored = self._examples.scored(example, {name: _plain(pred[name]) for name in self._task.outputs})
        except BaseException as error:
            self.broken = self.broken or error  # a metric that fails is no score either
            raise _Over from error
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

        Raises CallFailed for what the model did to this request, and what ends the search for everything else."""
        if self.broken is not None:
            raise _Over
        wanted = request.config
        own = Sampling(temperature=wanted.temperature, top_p=wanted.top_p, stop=tuple(wanted.stop or ()) or None)
        draw = getattr(self._rollout, "number", None) or 0
        asked = dataclasses.replace(
            form, messages=_messages(request), sampling=own.over(form.sampling), sample=draw, run=self._run, budget=self._budget
        )  # fmt: skip
        future = asyncio.run_coroutine_threadsafe(ledger.complete(asked), background_loop())
        self._under_way.add(future)
        try:
            answer = future.result()
        except CallFailed as error:
            if error.key and error.reason != "budget":
                self.keys.setdefault(error.key, ledger)
            if not is_of_the_model(error, has_answered=id(ledger) in self._has_answered):
                self.broken = self.broken or error
                raise _Over from error
            if form is not self._proposes:
                raise
            self.lost_proposals += 1
            return _response(request, self._task.instruction)
        except BaseException as error:
            self.broken = self.broken or error
            raise _Over from error
        finally:
            self._under_way.discard(future)
        self._has_answered.add(id(ledger))
        self.keys.setdefault(answer.key, ledger)
        if form is not self._proposes:
            self.models.setdefault(answer.model)
        return _response(request, answer.text, answer.prompt_tokens, answer.completion_tokens)

    # --- the search, in a thread of its own: the calling one shows progress and hears the stop button ---

    def run(
        self, find: Callable[[], Any], *, adapter: str, threads: int, dev: Sequence[Any], tick: Callable[[], None]
    ) -> Any:
        """Return what `find` returns. Raises what ended the search, Stopped at the stop button.

        Each press goes one step: let what is under way finish for 3 seconds, cancel it, leave. Raises RunError while another
        search runs in this process."""
        made: dict[str, Any] = {}

        def work() -> None:
            try:
                dspy = require("dspy", extra="prompts")
                context = dspy.context(
                    lm=self.writer, adapter=self.adapter(adapter), callbacks=[self._keeper(dev)], num_threads=threads
                )
                with context:
                    made["program"] = find()
            except BaseException as error:
                made["error"] = error

        if not _searching.acquire(blocking=False):
            raise RunError(
                "another search runs in this process. Wait for it, or start this one in a process of its own."
            )
        thread = threading.Thread(target=work, name="prompt search", daemon=True)
        step, until = 0, math.inf
        try:
            with StopButton() as button, self._connections(), _quiet():
                thread.start()
                while thread.is_alive() and step < 3:
                    thread.join(0.1)
                    if button.presses > step or time.monotonic() > until:
                        step += 1
                        until = time.monotonic() + _GRACE_SECONDS
                        self.broken = self.broken or self._stopped()
                        for future in tuple(self._under_way) if step > 1 else ():
                            future.cancel()
                    tick()
        except BaseException as error:  # nothing that nobody waits for must go on
            self.broken = self.broken or error
            raise
        finally:
            _searching.release()
        if self.broken is not None:
            raise self.broken.with_traceback(None)
        if "error" in made:
            raise made["error"]
        return made["program"]

    def _stopped(self) -> Stopped:
        return Stopped(
            f"the search was stopped after {len(self.keys):,} answers; they are in {self.ledger.path.name}. Run the same call again to go on."
        )

    def adapter(self, name: str) -> Any:
        """DSPy's adapter, which reads a proposal without its header whole: one such answer would end all of MIPROv2.

        An answer to the task itself is read as the frozen prompt will read it."""
        dspy, own = require("dspy", extra="prompts"), set(self._task.outputs)
        made = programs.adapter(name)

        class Adapter(type(made)):  # type: ignore[misc]
            def parse(self, signature: Any, completion: str) -> dict[str, Any]:
                try:
                    return super().parse(signature, completion)
                except dspy.utils.exceptions.AdapterParseError as error:
                    if own & set(signature.output_fields):
                        error.parsed_result = (
                            None  # DSPy 3.4 trips over a part of an answer, and GEPA then never reads it
                        )
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

    def _keeper(self, dev: Sequence[Any]) -> Any:
        """A DSPy callback that writes down each candidate that was tried on all of dev."""
        dspy, desk = require("dspy", extra="prompts"), self
        whole, under_way = {id(row) for row in dev}, set()

        class Keeper(dspy.utils.callback.BaseCallback):
            def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
                if {id(row) for row in inputs.get("devset") or instance.devset} == whole:
                    under_way.add(call_id)

            def on_evaluate_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
                if call_id in under_way and outputs is not None and desk.broken is None:
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


def _response(request: Any, text: str, prompt_tokens: int | None = 0, completion_tokens: int | None = 0) -> Any:
    """A text as DSPy's Response."""
    lm15 = require("dspy.lm15", extra="prompts")
    return lm15.Response(
        id=None, model=request.model, message=lm15.Message.assistant([lm15.TextPart(text)]), finish_reason="stop",
        usage=lm15.Usage(input_tokens=prompt_tokens or 0, output_tokens=completion_tokens or 0),
    )  # fmt: skip


class _Mute:
    """A stream that drops what threads of the search write; those that were there before write as ever."""

    def __init__(self, stream: Any):
        self._stream, self._before = stream, set(threading.enumerate())

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.current_thread() in self._before else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what optimisers print, log, warn and draw: each answer that cannot be read would be a screen of text."""
    loggers = [logging.getLogger(name) for name in ("dspy", "gepa", "optuna")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(_Mute(sys.stdout)), contextlib.redirect_stderr(_Mute(sys.stderr)):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
