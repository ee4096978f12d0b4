"""Fine-tunes with TRL; nothing else in the workbench knows it.

    trained = trl_runs.dpo(pairs, base="tiny-base", out="data/runs/dpo", settings=Settings(epochs=2), seed=0)
    trained                                         # the curve, what was seen, what it took
    trl_runs.sft(instructions, out=...), trl_runs.orpo(pairs, out=...), trl_runs.reward(pairs, out=...)

`rows` are records (Preference; for `sft` Instruction or QA), or the file of an export (`share.export`), whose lines go to
TRL as they stand. A LoRA adapter is trained, or with `lora_rank=0` all weights; on the GPU in bfloat16 where there is one,
else on the CPU in float32 on one thread, where the same seed gives the same bits.

A training belongs to its folder. It writes a checkpoint now and then; killed or stopped, the same call goes on from the
last one and ends with the same numbers. Finished, the same call reads what is there; after any change of rows, base,
settings, seed or libraries it trains again. No row is cut: those that are
longer than `max_length`, or that hold a control token of the base, are left out and named.

https://huggingface.co/docs/trl; DPO: Rafailov et al. 2023, arXiv:2305.18290; ORPO: Hong et al. 2024, arXiv:2403.07691;
LoRA: Hu et al. 2021, arXiv:2106.09685."""

import contextlib
import gc
import inspect
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from workbench import _html, experiments, store
from workbench._background import StopButton, progress_bar
from workbench.errors import InputError, RunError, require
from workbench.records import Failure, Record, content_hash
from workbench.runner import Stopped
from workbench.train import _machine, forms
from workbench.train.bases import TINY, Base, load

FILE = "trained.json"
# (LoRA, all weights) for models that people use, and for those below 10 million parameters, which learn nothing at such
# rates in a few dozen steps. TRL's own defaults for DPO and ORPO, 1e-6, are for all weights of large models.
_RATES = {"sft": (2e-4, 2e-5), "dpo": (2e-5, 1e-6), "orpo": (5e-5, 8e-6), "reward": (1e-4, 1e-5)}
_TINY_RATES = {"sft": (2e-3, 1e-3), "dpo": (1e-3, 3e-4), "orpo": (2e-3, 1e-3), "reward": (2e-3, 1e-3)}
_TINY_PARAMETERS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is trained. Whole epochs, so that arms of the same rows in another order see the same tokens.

    `learning_rate` None is the method's own (see `rate`); it rises over the first tenth of the steps, of 10 or more, and falls as a cosine.
    `lora_rank` 0 trains all weights. `beta` is DPO's temperature or ORPO's weight of the odds. `max_length` is in tokens,
    prompt and answer together, None for the base's window, at most 1,024. A checkpoint every `save_steps` steps. `threads`
    are the CPU's: with another number the sums, and so the last digits, are others."""

    epochs: int = 1
    batch_size: int = 16
    learning_rate: float | None = None
    lora_rank: int = 16
    beta: float = 0.1
    max_length: int | None = None
    save_steps: int = 50
    threads: int = 1

    def __post_init__(self):
        least = {"epochs": 1, "batch_size": 1, "save_steps": 1, "threads": 1, "lora_rank": 0, "max_length": 8}
        for name, low in least.items():
            value = getattr(self, name)
            if (name, value) != ("max_length", None) and (type(value) is not int or value < low):
                raise InputError(f"{name} is a whole number, {low} or more, got {value!r}.")
        for name in ("beta", "learning_rate"):
            value = getattr(self, name)
            if (name, value) != ("learning_rate", None) and (type(value) not in (int, float) or not value > 0):
                raise InputError(f"{name} is a number above 0, got {value!r}.")
        if not math.isfinite(self.beta) or (self.learning_rate or 0) >= 1:
            raise InputError(f"beta is finite and learning_rate below 1, got {self.beta} and {self.learning_rate}.")

    def rate(self, method: str, base: Base) -> float:
        """Return the learning rate that is used: the one that was given, or the method's for a base of this size."""
        rates = _TINY_RATES if base.parameters < _TINY_PARAMETERS else _RATES
        return self.learning_rate or rates[method][self.lora_rank == 0]

    def length(self, base: Base) -> int:
        """Return the most tokens of a row."""
        if self.max_length is not None and self.max_length > base.window:
            raise InputError(f"{base.name} reads {base.window:,} tokens, and max_length is {self.max_length:,}.")
        return self.max_length or min(base.window, 1024)


@dataclass(frozen=True, kw_only=True, repr=False)
class Trained:
    """A finished training: where its adapter or weights lie, on what it was trained, what it saw, what it took.

    `data` is the hash of the rows in their order; `rows`, `steps` and `tokens` are what the model saw, over all epochs, padding
    not counted; `left_out` are rows that were not trained on. `device` is "cpu" or a GPU's name; `memory_mb` the peak of the
    process (on a GPU: of the GPU). `key` is the hash of everything that decides the outcome."""

    method: str
    base: str
    base_sha256: str
    seed: int
    settings: Mapping[str, Any]
    data: str
    rows: int
    steps: int
    tokens: int
    left_out: tuple[Failure, ...] = ()
    seconds: float
    memory_mb: float
    device: str
    libraries: Mapping[str, str]
    key: str
    folder: Path = field(default=Path(), compare=False)

    @property
    def metrics(self) -> pa.Table:
        """One row a logged step: step, steps, seconds, tokens, loss, and what the method logs beside; see `steps`."""
        return steps(self.folder)

    def __repr__(self) -> str:
        return f"{self._title}: {self._about}"

    @property
    def _title(self) -> str:
        return f"{self.method} of {self.base}, seed {self.seed}"

    @property
    def _about(self) -> str:
        said = f"{self.rows:,} rows and {self.tokens:,} tokens in {self.steps:,} steps, {self.seconds:,.1f} s, {self.memory_mb:,.0f} MB, {self.device}"
        losses = [value for value in self.metrics["loss"].to_pylist() if value is not None]
        if losses:
            said += f"; loss {losses[0]:.3f} to {losses[-1]:.3f}"
        return f"{said}; {len(self.left_out):,} rows left out" if self.left_out else said

    def _repr_html_(self) -> str:
        table = self.metrics
        points = [(row["step"], row["loss"]) for row in table.to_pylist() if row["loss"] is not None]
        return _html.card(self._title, self._about, _html.curve(points, "steps", "loss") if points else "")


def sft(
    rows: Sequence[Record] | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    base: str | os.PathLike[str] | Base = TINY,
    settings: Settings = Settings(),
    seed: int = 0,
    progress: bool = True,
) -> Trained:
    """Return the base fine-tuned on answers: the loss is over the tokens of the answer alone, the prompt's are read.

    Takes Instruction records with an output and QA records (an unanswerable question is answered by saying so). Raises
    InputError for rows it cannot learn from, RunError where the training cannot go on, Stopped at the stop button."""
    return _train("sft", rows, Path(out), _base(base), settings, seed, progress)


def dpo(
    rows: Sequence[Record] | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    base: str | os.PathLike[str] | Base = TINY,
    settings: Settings = Settings(),
    seed: int = 0,
    progress: bool = True,
) -> Trained:
    """Return the base trained to prefer the chosen answers to the rejected ones, against itself as the reference.

    Takes Preference records, or an export of them (`preference`, `preference_chat`). Raises as `sft` does. Rafailov et al.
    2023, arXiv:2305.18290, eq. 7."""
    return _train("dpo", rows, Path(out), _base(base), settings, seed, progress)


def orpo(
    rows: Sequence[Record] | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    base: str | os.PathLike[str] | Base = TINY,
    settings: Settings = Settings(),
    seed: int = 0,
    progress: bool = True,
) -> Trained:
    """Return the base trained on the chosen answers and on their odds against the rejected ones, without a reference.

    In TRL's version the likelihood term covers the prompt too, so the loss starts high. Takes and raises what `dpo` does.
    Hong et al. 2024, arXiv:2403.07691, eq. 6."""
    return _train("orpo", rows, Path(out), _base(base), settings, seed, progress)


def reward(
    rows: Sequence[Record] | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    base: str | os.PathLike[str] | Base = TINY,
    settings: Settings = Settings(),
    seed: int = 0,
    progress: bool = True,
) -> Trained:
    """Return a reward model: the base with one number for a head, higher for the chosen answer than for the rejected one.

    Takes and raises what `dpo` does. Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1."""
    return _train("reward", rows, Path(out), _base(base), settings, seed, progress)


METHODS = {"sft": sft, "dpo": dpo, "orpo": orpo, "reward": reward}


def read(folder: str | os.PathLike[str]) -> Trained:
    """Return the training that finished in this folder. Raises RunError where none did."""
    path = Path(folder) / FILE
    try:
        content = orjson.loads(path.read_bytes())
        content["left_out"] = tuple(Failure(**each) for each in content["left_out"])
        return Trained(**content, folder=path.parent)
    except FileNotFoundError:
        raise RunError(
            f"no training finished in {path.parent}: there is no {FILE}. Train with out={str(folder)!r}."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}. Delete {path.parent} and train again.") from None


def steps(folder: str | os.PathLike[str]) -> pa.Table:
    """Return what was logged in this folder so far, one row a logged step; what a kill cut off is left out.

    `seconds` are of training, of all sittings; `tokens` those the model saw, padding not counted; rates, losses and rewards
    are means since the step before, named as TRL names them."""
    rows = _logged(Path(folder) / experiments.STEPS)
    names = list(dict.fromkeys(["step", "steps", "seconds", "tokens", "loss", *(name for row in rows for name in row)]))
    types = {"step": pa.int64(), "steps": pa.int64(), "tokens": pa.int64()}
    return pa.table({name: pa.array([row.get(name) for row in rows], types.get(name, pa.float64())) for name in names})


def _logged(path: Path) -> list[dict[str, Any]]:
    return list(experiments.logged(path)) if path.exists() else []


def _base(base: str | os.PathLike[str] | Base) -> Base:
    return base if isinstance(base, Base) else load(base)


# --- one training ---------------------------------------------------------------------------------------------------


def _train(method: str, rows: Any, out: Path, base: Base, settings: Settings, seed: int, progress: bool) -> Trained:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    require("trl", extra="train"), require("peft", extra="train")
    tokenizer = forms.tokenizer(base)
    lines = forms.lines(rows, method, base)
    kept, left_out = forms.fitting(lines, tokenizer, settings.length(base))
    tokens = sum(forms.tokens(lines[at], tokenizer) for at in kept)
    device, libraries = _machine.made_with()
    lines = [lines[at] for at in kept]
    data = content_hash(lines)
    decides = [method, base.sha256, asdict(with_rate(settings, method, base)), seed, data, libraries, device]
    key = content_hash([*decides, inspect.getsource(_trainer)])  # and how it is set up here: the schedule, the adapter
    with _machine.held(out):
        with contextlib.suppress(RunError):  # one that is damaged is trained again
            if (done := read(out)).key == key and list(out.glob("*.safetensors")):
                return done
        _clear(out, key)
        (out / "key").write_text(key)
        started = time.monotonic()
        with _machine.alone(settings.threads), _Bar(method, base.name, seed, progress) as bar:
            trainer = _trainer(method, lines, base, tokenizer, settings, seed, out)
            seen = _fit(trainer, out, tokens * settings.epochs, bar)
            with _disk(out):
                _save(trainer, tokenizer, base, out)
        logged = _logged(out / experiments.STEPS)
        trained = Trained(
            method=method, base=base.name, base_sha256=base.sha256, seed=seed,
            settings={**asdict(settings), "learning_rate": settings.rate(method, base), "max_length": settings.length(base)},
            data=data, rows=len(lines) * settings.epochs, steps=seen, tokens=tokens * settings.epochs, left_out=tuple(left_out),
            seconds=round(logged[-1]["seconds"] if logged else time.monotonic() - started, 2), memory_mb=round(_machine.memory_mb()),
            device=device, libraries=libraries, key=key, folder=out,
        )  # fmt: skip
        content = {name: value for name, value in asdict(trained).items() if name != "folder"}
        with store.atomically(out / FILE) as temporary:
            temporary.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        for checkpoint in out.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        del trainer
        gc.collect()
        return trained


def _clear(out: Path, key: str) -> None:
    """Remove what another training left in this folder; what belongs to this one stays, to go on from."""
    (out / FILE).unlink(missing_ok=True)
    if (out / "key").exists() and (out / "key").read_text() == key:
        return
    for checkpoint in out.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    for path in (*out.glob("adapter_*"), *out.glob("*.safetensors*"), out / experiments.STEPS):
        path.unlink(missing_ok=True)


def _trainer(
    method: str, lines: list[Any], base: Base, tokenizer: Any, settings: Settings, seed: int, out: Path
) -> Any:
    import datasets
    import torch
    import transformers
    import trl
    from peft import LoraConfig

    has_gpu = torch.cuda.is_available()
    steps = math.ceil(len(lines) / settings.batch_size) * settings.epochs
    # The rate starts at 0, so that the first step teaches nothing: of fewer than 10 that would be too much.
    warmup = math.ceil((steps - 1) / 10) if steps >= 10 else 0
    common: dict[str, Any] = {
        "output_dir": str(out), "use_cpu": not has_gpu, "bf16": has_gpu, "gradient_checkpointing": False, "report_to": "none",
        "num_train_epochs": settings.epochs, "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.rate(method, base), "lr_scheduler_type": "cosine", "warmup_steps": warmup,
        "max_length": settings.length(base), "seed": seed, "data_seed": seed, "disable_tqdm": True, "logging_nan_inf_filter": False, "logging_steps": 1,
        "save_strategy": "steps", "save_steps": settings.save_steps, "save_total_limit": 2, "dataloader_pin_memory": has_gpu,
    }  # fmt: skip
    transformers.set_seed(seed)  # a reward model's head and an adapter's weights are drawn before the trainer sets it
    kind = transformers.AutoModelForSequenceClassification if method == "reward" else transformers.AutoModelForCausalLM
    more = {"num_labels": 1} if method == "reward" else {}
    # All weights in bfloat16 would round small updates away; an adapter's are float32 in any case.
    dtype = torch.bfloat16 if has_gpu and settings.lora_rank else torch.float32
    model = kind.from_pretrained(base.folder, dtype=dtype, **more)
    model.config.pad_token_id = tokenizer.pad_token_id
    if method == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        build, arguments = ORPOTrainer, ORPOConfig(**common, beta=settings.beta)
    elif method == "dpo":
        build, arguments = trl.DPOTrainer, trl.DPOConfig(**common, beta=settings.beta)
    elif method == "sft":
        build, arguments = trl.SFTTrainer, trl.SFTConfig(**common, completion_only_loss=True)
    else:
        build, arguments = trl.RewardTrainer, trl.RewardConfig(**common)
    adapter = None
    if settings.lora_rank:
        adapter = LoraConfig(
            r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules="all-linear",
            task_type="SEQ_CLS" if method == "reward" else "CAUSAL_LM",
            modules_to_save=["score"] if method == "reward" else None,
        )  # fmt: skip
    if has_gpu:
        arguments._n_gpu = (
            1  # with more, transformers would train on as many batches at once, in a fraction of the steps
        )
    trainer = build(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(lines),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    for weights in trainer.model.parameters():
        if weights.requires_grad:  # a reward model's head would be trained in bfloat16, which rounds its updates away
            weights.data = weights.data.float()
    if len(trainer.train_dataset) != len(lines):
        raise RunError(f"TRL took {len(trainer.train_dataset):,} of {len(lines):,} rows, and said nothing.")
    return trainer


def _fit(trainer: Any, out: Path, tokens: int, bar: "_Bar") -> int:
    """Train from the last whole checkpoint on, and return the steps made. Raises Stopped, after a checkpoint."""
    last = _last_checkpoint(out)
    done = int(last.name.partition("-")[2]) if last else 0
    before = [row for row in _logged(out / experiments.STEPS) if row["step"] <= done]
    with (
        _disk(out),
        store.atomically(out / experiments.STEPS) as temporary,
    ):  # a kill in between must not lose what was logged
        temporary.write_bytes(b"".join(_line(row) for row in before))
    with StopButton() as button, (out / experiments.STEPS).open("ab", buffering=0) as log:
        trainer.add_callback(_watcher(log, bar, button, before, tokens))
        with _disk(out):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    if button.presses:
        raise Stopped(
            f"stopped at step {trainer.state.global_step:,} of {trainer.state.max_steps:,}, which is saved in {out}. The same call goes on."
        )
    if not all(math.isfinite(row["loss"]) for row in _logged(out / experiments.STEPS) if row.get("loss") is not None):
        raise RunError(f"the loss in {out} is no number any more. Take a smaller learning_rate.")
    return int(trainer.state.global_step)


@contextlib.contextmanager
def _disk(out: Path) -> Iterator[None]:
    """Turn what the libraries raise where a file cannot be written into a RunError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch says so of a full disk in a RuntimeError, and of everything else in one, too.
        if type(error) is RuntimeError and not re.search(
            "unexpected pos|PytorchStreamWriter|No space left", str(error)
        ):
            raise
        raise RunError(
            f"the training cannot write to {out}: {error}. Free some space; the same call goes on."
        ) from None


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"  # not orjson: a loss may be NaN, and then it must be seen


def _last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that is whole: its state is written last."""
    for path in sorted(out.glob("checkpoint-*"), key=lambda path: -int(path.name.partition("-")[2])):
        with contextlib.suppress(OSError, ValueError):
            orjson.loads((path / "trainer_state.json").read_bytes())
            return path
        shutil.rmtree(path)
    return None


def _watcher(log: Any, bar: "_Bar", button: StopButton, before: list[dict[str, Any]], tokens: int) -> Any:
    """What listens to the trainer: writes each logged step, draws it, and stops at the stop button."""
    from transformers import TrainerCallback

    spent = before[-1]["seconds"] if before else 0.0
    shown = list(before)

    class Watcher(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.monotonic()
            bar.show(shown, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if button.presses:
                control.should_save = control.should_training_stop = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in logs:
                return
            seconds = round(spent + time.monotonic() - self.started, 3)
            part = tokens * state.global_step // state.max_steps
            row = {"step": state.global_step, "steps": state.max_steps, "seconds": seconds, "tokens": part}
            row |= {name: float(value) for name, value in logs.items() if name not in row and name != "num_tokens"}
            row["tokens"] = int(logs.get("num_tokens", part))
            log.write(_line(row))
            shown.append(row)
            bar.show(shown, state.max_steps)

    return Watcher()


def _save(trainer: Any, tokenizer: Any, base: Base, out: Path) -> None:
    trainer.save_model(str(out))
    tokenizer.save_pretrained(out)
    for name in ("README.md", "training_args.bin"):  # a card that knows nothing of the data, and a pickle
        (out / name).unlink(missing_ok=True)
    config = out / "adapter_config.json"
    if config.exists():  # as it is passed it may be relative, and then the adapter finds its base from one folder only
        content = orjson.loads(config.read_bytes())
        config.write_bytes(orjson.dumps({**content, "base_model_name_or_path": str(base.folder.resolve())}))


class _Bar:
    """Progress: a bar in a terminal, in a notebook a bar with the curve below it, which goes when the training ends."""

    def __init__(self, method: str, base: str, seed: int, is_wanted: bool):
        self.label, self.is_wanted, self.handle, self.drawn = f"{method} of {base}, seed {seed}", is_wanted, None, 0.0

    def __enter__(self) -> "_Bar":
        self.context = progress_bar(self.label, None, "steps", is_wanted=self.is_wanted)
        self.bar = self.context.__enter__()
        if self.bar is not None and "ipykernel" in sys.modules:
            from IPython.display import HTML, display

            self.html: Callable[[str], Any] = HTML
            self.handle = display(HTML(""), display_id=True)
        return self

    def show(self, rows: list[dict[str, Any]], steps: int) -> None:
        if self.bar is None:
            return
        done = rows[-1]["step"] if rows else 0
        self.bar.total = steps
        self.bar.update(done - self.bar.n)
        if rows:
            self.bar.set_postfix_str(f"loss {rows[-1]['loss']:.3f}")
        if self.handle is not None and (time.monotonic() - self.drawn > 0.5 or done == steps):
            self.drawn = time.monotonic()
            self.handle.update(
                self.html(_html.curve([(row["step"], row["loss"]) for row in rows], "steps", "loss", steps))
            )

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)
        if self.handle is not None:
            self.handle.update(self.html(""))


def with_rate(settings: Settings, method: str, base: Base) -> Settings:
    """Return the settings with the learning rate and length that this method and base give them, so that they say it."""
    return replace(settings, learning_rate=settings.rate(method, base), max_length=settings.length(base))
