"""A client over transformers: a chat model from a folder or from the Hub, in this process.

For trying a model, and for a model that was just trained; for throughput let vLLM serve it and use `llm.OpenAI`."""

import asyncio
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import CallFailed, ClientError, MissingLibrary, require
from workbench.llm.client import Choice, Completion, Messages, Price, Request, Sampling, metered
from workbench.records import content_hash

# The files that decide an answer, and no others: a log or a card in the folder changes nothing.
_DECIDING = (
    "config.json", "generation_config.json", "model*.safetensors*", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab.*", "merges.txt", "*.model", "chat_template*",
)  # fmt: skip
_LONGEST_TOKENS = 1024  # of an answer when nobody set max_tokens; it changes no row, because reaching it is a failure
_LINGER_SECONDS = 0.005  # a batch waits for requests that start together; one token of a small model takes longer
# Llama 3's template writes today's date into the prompt. The same request must stay the same prompt, so it is always
# the day that template itself falls back to. As a macro, because transformers hands a template no functions.
_SAME_DAY = "".join(f"|replace('%{c}','{datetime(2024, 7, 26).strftime('%' + c)}')" for c in "aAbBdHIjmMpSyY")
_SAME_DAY = f"{{% macro strftime_now(format) %}}{{{{ format{_SAME_DAY} }}}}{{% endmacro %}}"


class Local:
    """A client of one causal language model in safetensors, loaded when it is first asked.

    Requests that wait together and have equal sampling parameters are generated together, up to `batch_size`, in one
    worker thread. Greedy unless `temperature` is above 0. A sampled request with a seed is generated alone, so that
    seed + sample decides it; without a seed each draw is free. On the CPU weights become float32; elsewhere they keep
    their own type, and then a greedy answer may differ in a near tie with what it shared its batch with.

    `model` is the folder's name or the Hub id. `endpoint` is "local:" and 12 hex digits of the hash of every byte that
    decides an answer, weights and `chat_template` included (1.3 GB a second, less than loading takes; a sample of the
    bytes could miss an edit of one row), or "local:hub:id@revision". A folder never uses the network; a Hub id is
    resolved to a revision now, from the cache alone when HF_HUB_OFFLINE is set, and fetched when first asked.

    Raises ClientError for a folder or id that is no such model, and for parameters it cannot honour."""

    def __init__(
        self,
        path_or_hub_id: str | os.PathLike[str],
        *,
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        batch_size: int = 8,
        device: str | None = None,
        price: Price | None = None,
        chat_template: str | None = None,
    ):
        if batch_size < 1:
            raise ClientError(f"batch_size must be at least 1, got {batch_size}.")
        _refuse_unsupported(sampling)
        self.sampling, self.price = sampling, price
        self._batch_size, self._device, self._chat_template = batch_size, device, chat_template
        self._folder, self._revision = find(path_or_hub_id)
        if self._folder is not None:
            self.model = self._folder.name
            self._stamps = _stamps(self._folder)
            sums = [[path.name, _sha256(path, *stamp)] for path, *stamp in self._stamps]
            self.endpoint = f"local:{content_hash([chat_template, sums])[:12]}"
        else:
            self.model = str(path_or_hub_id)
            template = f"+{content_hash(chat_template)[:8]}" if chat_template else ""
            self.endpoint = f"local:hub:{self.model}@{self._revision[:12]}{template}"
        self._loaded: _Loaded | None = None
        self._waiting: list[_Job] = []
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="workbench-local")

    def __repr__(self) -> str:
        return f"Local({self.model!r}, {self.endpoint!r}, {self._loaded or 'not loaded yet'})"

    async def complete(self, request: Request) -> Completion:
        """Return the answer; raise CallFailed when it is empty, too long, or the prompt does not fit the model."""
        sampling = request.sampling.over(self.sampling)
        _refuse_unsupported(sampling, request.n)
        job = _Job(request.messages, sampling, request.sample)
        return await metered(self, request, self.price, lambda: self._enqueue(job))

    async def _enqueue(self, job: "_Job") -> Completion:
        with self._lock:
            self._waiting.append(job)
        self._worker.submit(self._work)  # once for each job; a batch leaves nothing to do for the others' turns
        return await asyncio.wrap_future(job.answer)

    # --- in the worker thread ---

    def _work(self) -> None:
        if 0 < len(self._waiting) < self._batch_size:
            time.sleep(_LINGER_SECONDS)
        batch = self._next_batch()
        try:
            if batch:
                self._loaded = self._loaded or self._load()
                self._loaded.answer(batch)
        except BaseException as error:  # whatever it is, the one who waits must hear of it
            for job in batch:
                job.settle(error)

    def _next_batch(self) -> "list[_Job]":
        with self._lock:
            waiting = [job for job in self._waiting if not job.answer.cancelled()]
            size = 1 if waiting and waiting[0].is_alone else self._batch_size
            batch = [job for job in waiting if job.group == waiting[0].group][:size]
            self._waiting = [job for job in waiting if job not in batch]
        return batch

    def _load(self) -> "_Loaded":
        require("torch", extra="local")
        require("transformers", extra="local")
        if self._folder is not None:
            loaded = _Loaded.load(self._folder, self.model, self._device, self._chat_template)
            if _stamps(self._folder) != self._stamps:
                raise ClientError(
                    f"the files of {self.model!r} changed after llm.Local(...) was made, "
                    "and its endpoint names the old ones. Make it again."
                )
            return loaded
        folder = fetch(self.model, self._revision)
        _check(folder, self.model)
        return _Loaded.load(folder, self.model, self._device, self._chat_template)


@dataclass(eq=False)
class _Job:
    """One request in the queue; who cancels `answer` has stopped waiting for it."""

    messages: Messages
    sampling: Sampling
    sample: int
    answer: Future[Completion] = field(default_factory=Future)

    @property
    def is_alone(self) -> bool:
        return bool(self.sampling.temperature) and self.sampling.seed is not None

    @property
    def group(self) -> tuple[Any, ...]:
        s = self.sampling
        return (s.temperature or 0, s.top_p, s.max_tokens, s.stop, s.seed if self.is_alone else None)

    def settle(self, result: Completion | BaseException) -> None:
        with suppress(InvalidStateError):  # cancelled meanwhile, or answered before the rest of its batch failed
            if isinstance(result, Completion):
                self.answer.set_result(result)
            else:
                self.answer.set_exception(result)


class _Loaded:
    """A model in memory. Only the worker thread touches it."""

    def __init__(self, name: str, model: Any, tokenizer: Any, chat_template: str):
        self.name, self.model, self.tokenizer, self.chat_template = name, model, tokenizer, chat_template
        own = model.generation_config
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        self.ends = sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None})
        pads = (tokenizer.pad_token_id, own.pad_token_id, *self.ends, 0)
        self.pad = next(token for token in pads if token is not None)
        self.window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        self.longest = own.max_new_tokens or _LONGEST_TOKENS

    def __repr__(self) -> str:
        return f"{self.model.num_parameters():,} parameters on {self.model.device}"

    @classmethod
    def load(cls, folder: Path, name: str, device: str | None, chat_template: str | None) -> "_Loaded":
        """Return the model of a folder. Raises ClientError when files are damaged, incomplete or of another kind."""
        import torch
        import transformers

        try:
            best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
            target = torch.device(device or best)
            here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **here)
            dtype = torch.float32 if target.type == "cpu" else "auto"
            with _no_progress_bars(transformers.utils.logging):
                model, info = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, use_safetensors=True, output_loading_info=True, dtype=dtype, **here
                )
            model = model.to(target).eval()
        except MissingLibrary:
            raise
        except Exception as error:
            raise ClientError(
                f"{name!r} cannot be loaded as a causal language model: {_first_line(error)}. "
                "Check that all of its files are there and whole, and that the device has room for it."
            ) from error
        if missing := sorted(info["missing_keys"]):  # transformers would fill them with random numbers, and only warn
            raise ClientError(
                f"{name!r} lacks {len(missing)} of its weights, {missing[0]} for one. Copy or save the whole model "
                f"again; for a model that writes no text ({model.config.model_type}) there is no llm.Local."
            )
        try:
            template = tokenizer.get_chat_template(chat_template)
        except ValueError as error:
            raise ClientError(
                f"{name!r} has no chat template (a base model?). "
                "Pass the one it was trained with: llm.Local(..., chat_template=...)."
            ) from error
        return cls(name, model, tokenizer, (_SAME_DAY if "strftime_now" in template else "") + template)

    def answer(self, jobs: list[_Job]) -> None:
        """Settle each job with a Completion or a CallFailed."""
        import torch

        longest = jobs[0].sampling.max_tokens or self.longest
        together: list[tuple[_Job, list[int]]] = []
        for job in jobs:
            try:
                prompt = self.prompt(job.messages)
            except ClientError as error:
                job.settle(error)
                continue
            if len(prompt) >= self.window:
                detail = f"the prompt has {len(prompt):,} tokens and the model reads {self.window:,}"
                job.settle(CallFailed("rejected", detail))
            elif len(prompt) + longest > self.window:
                # Alone: padded to a longer neighbour it would have less room than it has.
                self.generate([(job, prompt)], self.window - len(prompt))
            else:
                together.append((job, prompt))
        batches = [together] if together else []
        while batches:
            batch = batches.pop()
            try:
                self.generate(batch, longest)
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                half = len(batch) // 2
                if not half:
                    detail = f"the request does not fit the device's memory: {_first_line(error)}"
                    batch[0][0].settle(CallFailed("rejected", detail))
                batches += [batch[:half], batch[half:]] if half else []

    def prompt(self, messages: Messages) -> list[int]:
        try:
            encoded = self.tokenizer.apply_chat_template(
                list(messages), chat_template=self.chat_template, add_generation_prompt=True, return_dict=True
            )
        except Exception as error:  # jinja's: many templates refuse a system message, or two of a role in a row
            roles = ", ".join(message["role"] for message in messages)
            raise ClientError(
                f"the model's chat template refuses the messages ({roles}): {_first_line(error)}. "
                "Pass another one: llm.Local(..., chat_template=...)."
            ) from error
        return list(encoded["input_ids"])

    def generate(self, batch: list[tuple[_Job, list[int]]], longest: int) -> None:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        sampling, own = batch[0][0].sampling, self.model.generation_config
        # Unset, top_k would become 50 unasked. What the model's own files say (top_k, repetition_penalty) holds.
        drawn = (
            {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": own.top_k or 0}
            if sampling.temperature
            else {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
        )
        config = GenerationConfig(
            max_new_tokens=longest, eos_token_id=self.ends or None, pad_token_id=self.pad, num_beams=1,
            num_return_sequences=1, return_dict_in_generate=False, **drawn,
        )  # fmt: skip
        width = max(len(prompt) for _, prompt in batch)
        ids = torch.tensor([[self.pad] * (width - len(prompt)) + prompt for _, prompt in batch])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for _, prompt in batch])
        stops, lengths = sampling.stop or (), [0] * len(batch)
        # A token shows one byte at least. Some more, because the first token of a piece may lose its space.
        tail = max((len(stop.encode()) for stop in stops), default=0) + 8

        def is_over(made: Any, scores: Any, **_: Any) -> Any:
            if all(job.answer.cancelled() for job, _ in batch):
                return torch.ones(len(batch), dtype=torch.bool, device=made.device)
            for row in range(len(batch)) if stops else ():
                if not lengths[row] and any(stop in self.text(made[row, width:][-tail:]) for stop in stops):
                    lengths[row] = made.shape[1] - width
            return torch.tensor([bool(length) for length in lengths], device=made.device)

        device = self.model.device
        # The notebook's own random numbers stay as they are. Without a seed each process must draw anew: torch starts
        # every process with the same one.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
            if sampling.temperature:
                torch.seed() if sampling.seed is None else torch.manual_seed(sampling.seed + batch[0][0].sample)
            made = self.model.generate(
                ids.to(device), attention_mask=mask.to(device), generation_config=config,
                stopping_criteria=StoppingCriteriaList([is_over]),
            )  # fmt: skip
        for row, (job, prompt) in enumerate(batch):
            job.settle(self.read(made[row, width:].tolist(), lengths[row], job, len(prompt)))

    def read(self, tokens: list[int], length: int, job: _Job, prompt_tokens: int) -> Completion | CallFailed:
        """The answer in one row of a batch, which is padded from where it ended."""
        end = next((place for place, token in enumerate(tokens) if token in self.ends), None)
        tokens = tokens[: length or (len(tokens) if end is None else end + 1)]
        text = self.text(tokens)
        cuts = [place for stop in job.sampling.stop or () if (place := text.find(stop)) >= 0]
        if cuts:
            text = text[: min(cuts)]
        if not cuts and end is None:
            detail = f"the answer has no end after {len(tokens):,} tokens (max_tokens, or the model's {self.window:,})"
            failure = CallFailed("length", detail, raw=text)
        elif not text.strip():
            failure = CallFailed("empty", "the answer is an empty text", raw=text)
        else:
            return Completion((Choice(text),), self.name, prompt_tokens=prompt_tokens, completion_tokens=len(tokens))
        failure.prompt_tokens, failure.completion_tokens = prompt_tokens, len(tokens)
        return failure

    def text(self, tokens: Any) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _refuse_unsupported(sampling: Sampling, n: int = 1) -> None:
    """Raise ClientError for what would otherwise be ignored in silence."""
    got = f"got {sampling.sent()!r}"
    if n != 1:
        raise ClientError(f"llm.Local gives one choice a request, not {n}. Ask {n} times, with sample=0 to {n - 1}.")
    if sampling.json_schema:
        raise ClientError(
            "llm.Local cannot hold an answer to a schema. Leave json_schema out (the prompt's parser checks the "
            "answer), or use llm.OpenAI with a server that can, such as vLLM."
        )
    if sampling.extra:
        raise ClientError(f"llm.Local knows temperature, top_p, max_tokens, seed and stop, and nothing else; {got}.")
    if sampling.temperature is not None and not sampling.temperature >= 0:
        raise ClientError(f"temperature must be 0 (greedy) or more; {got}.")
    if sampling.top_p is not None and (not 0 < sampling.top_p <= 1 or sampling.temperature is None):
        raise ClientError(f"top_p must be above 0 and at most 1, with a temperature beside it; {got}.")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise ClientError(f"max_tokens must be at least 1; {got}.")
    if isinstance(sampling.stop, str) or not all(isinstance(stop, str) and stop for stop in sampling.stop or ()):
        raise ClientError(f"stop must be a tuple of texts that are not empty; {got}.")


# --- files ----------------------------------------------------------------------------------------------------------


def find(given: str | os.PathLike[str]) -> tuple[Path | None, str]:
    """The model's folder, or None and the revision that a Hub id stands for now."""
    folder = Path(given).expanduser()
    if folder.is_dir():
        folder = Path(os.path.abspath(folder))  # "." has a name, and a link keeps its own
        _check(folder, str(given))
        return folder, ""
    if folder.exists():
        raise ClientError(f"{given} is a file. Give the folder that holds config.json, the weights and the tokenizer.")
    if not isinstance(given, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", given):
        raise ClientError(f"there is no folder {given}. Give a model's folder, or a Hub id of the form owner/name.")
    hub = require("huggingface_hub", extra="local")
    try:
        return None, Path(hub.hf_hub_download(given, "config.json")).parent.name
    except Exception as error:
        raise ClientError(
            f"there is no folder {given}, and as a Hub id it cannot be resolved: {_first_line(error)}. "
            "Check the name; offline, the model must be in the Hub cache (fetch it once with: hf download owner/name)."
        ) from error


def fetch(hub_id: str, revision: str) -> Path:
    """The folder of a Hub id in the cache, fetched where that is possible."""
    hub = require("huggingface_hub", extra="local")
    wanted = {"revision": revision, "allow_patterns": list(_DECIDING)}
    try:
        return Path(hub.snapshot_download(hub_id, **wanted))
    except Exception as error:  # offline, a revision that is all there is still asked about: look for it alone
        try:
            return Path(hub.snapshot_download(hub_id, local_files_only=True, **wanted))
        except Exception:
            raise ClientError(f"cannot fetch {hub_id!r} from the Hub: {_first_line(error)}.") from error


def _check(folder: Path, given: str) -> None:
    """Raise ClientError, with what to do, when the folder does not hold a causal language model in safetensors."""
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names and "adapter_config.json" in names:
        raise ClientError(
            f"{given} holds a LoRA adapter, not a model. Merge it first: "
            "peft.AutoPeftModelForCausalLM.from_pretrained(...).merge_and_unload().save_pretrained(...)."
        )
    if "config.json" not in names:
        raise ClientError(
            f"{given} has no config.json, so it is no model's folder. "
            "model.save_pretrained(...) and tokenizer.save_pretrained(...) make one."
        )
    if not any(re.fullmatch(r"model.*\.safetensors", name) for name in names):
        other = [name for name in sorted(names) if name.endswith((".bin", ".gguf", ".pt", ".pth"))]
        raise ClientError(
            f"{given} has no weights that llm.Local reads (model*.safetensors){', only ' + other[0] if other else ''}. "
            "Convert them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...); serve .gguf with Ollama."
        )
    if not any(name in ("tokenizer.json", "vocab.json", "vocab.txt") or name.endswith(".model") for name in names):
        raise ClientError(
            f"{given} has no tokenizer. Put the one it was trained with beside the weights: "
            "tokenizer.save_pretrained(...)."
        )


def _stamps(folder: Path) -> list[tuple[Path, int, int]]:
    """The deciding files with size and time of change, by name."""
    found = sorted({path for pattern in _DECIDING for path in folder.glob(pattern) if path.is_file()})
    return [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in found]


@cache  # by size and time too: the second client of a notebook need not read 16 GB again
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _no_progress_bars(logging: Any) -> Iterator[None]:
    """transformers draws bars on stderr, which would stay in a notebook's output."""
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
