"""What a model makes of rows it was not trained on: log-probabilities, losses, rewards, and what it writes.

    with scoring.opened(trained) as model:           # or a Base, as it is before any training
        chosen, rejected = model.log_probs(pairs).T  # in nats, summed over the tokens of an answer
        model.losses(texts); model.write(prompts)

A trainer's own evaluation is not used: of DPO it says 0 where the model has not moved (0.5 would be right), and it takes
means over batches, so that a short last batch weighs as much as a full one."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from workbench.errors import InputError, RunError, require
from workbench.records import Preference, Record
from workbench.train import _machine, forms
from workbench.train.bases import Base, load
from workbench.train.trl_runs import Trained

_LARGE = 2_000_000_000  # parameters
_BATCH_TOKENS = 4096  # padding counted


class Model:
    """A loaded model with its tokenizer; see `opened`."""

    def __init__(self, model: Any, base: Base, *, is_reward: bool):
        self.model, self.base, self.is_reward = model, base, is_reward
        self.tokenizer = forms.tokenizer(base)

    def log_probs(self, rows: Sequence[Preference]) -> np.ndarray:
        """Return the log-probability of chosen and rejected answer given the prompt, (rows, 2), in nats.

        Summed over the answer's tokens, its end among them; the whole of each answer, however long."""
        sums, _ = self._answers(
            [(line["prompt"], line[name]) for line in self._pairs(rows) for name in ("chosen", "rejected")]
        )
        return sums.reshape(-1, 2)

    def rewards(self, rows: Sequence[Preference]) -> np.ndarray:
        """Return a reward model's reward of chosen and rejected answer, (rows, 2)."""
        if not self.is_reward:
            raise InputError("only a reward model gives rewards: train one with trl_runs.reward().")
        lines = self._pairs(rows)
        encoded = [
            [*itertools.chain(*forms.encoded(line["prompt"], line[name], self.tokenizer))]
            for line in lines
            for name in ("chosen", "rejected")
        ]
        found = np.empty(len(encoded))
        for places, ids, mask in self._batches(encoded):
            found[places] = self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float().cpu().numpy()
        return found.reshape(-1, 2)

    def answer_losses(self, rows: Sequence[Record]) -> np.ndarray:
        """Return the loss of each row's answer given what is asked, (rows,), in nats a token."""
        lines = forms.lines(rows, "sft", self.base)
        sums, counts = self._answers([(line["prompt"], line["completion"]) for line in lines])
        return -sums / counts

    def losses(self, texts: Sequence[str]) -> np.ndarray:
        """Return the loss of each text by itself, (texts,), in nats a token; perplexity is its exponential.

        A text that is longer than the base reads is taken in pieces, none of which sees the one before."""
        pieces, owners = [], []
        for at, text in enumerate(texts):
            tokens = self.tokenizer(text)["input_ids"]
            if len(tokens) < 2:
                raise InputError(f"text {at} has {len(tokens)} tokens, and a loss needs 2. Leave out empty texts.")
            size = min(self.base.window, 1024)
            for start in range(0, len(tokens) - 1, size - 1):
                pieces.append(tokens[start : start + size])
                owners.append(at)
        sums, counts = self._sums([(piece[:1], piece[1:]) for piece in pieces])
        return -np.bincount(owners, sums, len(texts)) / np.bincount(owners, counts, len(texts))

    def write(self, prompts: Sequence[str], *, max_tokens: int = 64) -> list[str]:
        """Return what the model writes to each prompt, greedily, at most `max_tokens` tokens."""
        import torch
        import transformers

        if self.is_reward:
            raise InputError("a reward model writes nothing. Open a model of sft(), dpo() or orpo().")
        if not 0 < max_tokens < self.base.window:
            raise InputError(f"max_tokens is 1 to {self.base.window - 1:,} of {self.base.name}, got {max_tokens}.")
        wanted = [
            forms.opening(prompt, self.tokenizer, self.base)[-(self.base.window - max_tokens) :] for prompt in prompts
        ]
        found = [""] * len(wanted)
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        for start in range(0, len(wanted), 16):
            some = wanted[start : start + 16]
            size = max(map(len, some))
            pad = self.tokenizer.pad_token_id
            ids = torch.tensor([[pad] * (size - len(each)) + each for each in some], device=self.model.device)
            mask = torch.tensor([[0] * (size - len(each)) + [1] * len(each) for each in some], device=self.model.device)
            # A configuration of our own: what lies in the base's folder may penalise, forbid or sample.
            greedy = transformers.GenerationConfig(
                max_new_tokens=max_tokens, do_sample=False, pad_token_id=pad, eos_token_id=self.tokenizer.eos_token_id
            )
            made = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)
            for at, tokens in enumerate(made[:, size:].tolist()):
                end = next((n for n, token in enumerate(tokens) if token in ends), len(tokens))
                found[start + at] = self.tokenizer.decode(tokens[:end], skip_special_tokens=True).strip()
        return found

    def _pairs(self, rows: Sequence[Preference]) -> list[forms.Line]:
        return forms.lines(rows, "dpo", self.base)

    def _answers(self, turns: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
        return self._sums([forms.encoded(prompt, answer, self.tokenizer) for prompt, answer in turns])

    def _sums(self, encoded: Sequence[tuple[list[int], list[int]]]) -> tuple[np.ndarray, np.ndarray]:
        """The summed log-probability of each second part behind its first, (n,), and how many tokens that are, (n,)."""
        import torch

        sums, counts = np.zeros(len(encoded)), np.array([len(answer) for _, answer in encoded])
        for places, ids, mask in self._batches([first + second for first, second in encoded]):
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            found = torch.gather(logits.log_softmax(-1), 2, ids[:, 1:, None])[..., 0]
            at = torch.arange(1, ids.shape[1], device=ids.device)[None]
            starts = torch.tensor([len(encoded[place][0]) for place in places], device=ids.device)[:, None]
            ends = torch.tensor([sum(map(len, encoded[place])) for place in places], device=ids.device)[:, None]
            sums[places] = torch.where((at >= starts) & (at < ends), found, 0.0).double().sum(1).cpu().numpy()
        return sums, counts

    def _batches(self, encoded: Sequence[list[int]]) -> Iterator[tuple[list[int], Any, Any]]:
        """Places, tokens and mask of rows of about the same length, filled up to the right."""
        import torch

        if (longest := max(map(len, encoded), default=0)) > self.base.window:
            raise InputError(
                f"a row has {longest:,} tokens, and {self.base.name} reads {self.base.window:,}. Leave such rows out."
            )
        order = sorted(range(len(encoded)), key=lambda at: -len(encoded[at]))
        while order:
            size = len(encoded[order[0]])
            places, order = order[: max(1, _BATCH_TOKENS // size)], order[max(1, _BATCH_TOKENS // size) :]
            fill = lambda row, value, size=size: row + [value] * (size - len(row))
            ids = torch.tensor(
                [fill(encoded[at], self.tokenizer.pad_token_id) for at in places], device=self.model.device
            )
            mask = torch.tensor([fill([1] * len(encoded[at]), 0) for at in places], device=self.model.device)
            yield places, ids, mask


@contextlib.contextmanager
def opened(what: Trained | Base, *, base: Base | None = None) -> Iterator[Model]:
    """Yield the model of a training, or a base as it is. `base` saves looking for it again.

    Raises InputError where the base is no longer the one that the training started from."""
    require("torch", extra="train"), require("transformers", extra="train")
    import torch
    import transformers

    is_trained = isinstance(what, Trained)
    if is_trained and not list(what.folder.glob("*.safetensors")):
        raise RunError(f"{what.folder} holds no weights (*.safetensors). Delete the folder and train again.")
    is_adapter = is_trained and (what.folder / "adapter_config.json").exists()
    must_match = is_adapter or base is not None  # all weights of their own need no base
    base = base or (_base_of(what) if is_adapter else load(what.folder)) if is_trained else what
    if is_trained and must_match and base.sha256 != what.base_sha256:
        raise InputError(
            f"{what.folder} was trained from {what.base} with the bytes {what.base_sha256}, and {base.name} has {base.sha256} now. "
            "Train again, or put the old base back."
        )
    is_reward = is_trained and what.method == "reward"
    kind = transformers.AutoModelForSequenceClassification if is_reward else transformers.AutoModelForCausalLM
    more = {"num_labels": 1} if is_reward else {}
    with _machine.alone(), torch.no_grad():
        folder = what.folder if is_trained and not is_adapter else base.folder
        # In bfloat16 a pair's margin is off by some hundredths of a nat; large models must do with that.
        is_large = torch.cuda.is_available() and base.parameters > _LARGE
        dtype = torch.bfloat16 if is_large else torch.float32
        model = kind.from_pretrained(folder, dtype=dtype, **more)
        model.config.pad_token_id = forms.tokenizer(base).pad_token_id
        if is_adapter:
            model = require("peft", extra="train").PeftModel.from_pretrained(model, what.folder)
        model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        yield Model(model, base, is_reward=is_reward)


def _base_of(trained: Trained) -> Base:
    """The base that an adapter names."""
    folder = orjson.loads((trained.folder / "adapter_config.json").read_bytes())["base_model_name_or_path"]
    return replace(load(folder), name=trained.base)


def merged(trained: Trained, out: str | os.PathLike[str]) -> Path:
    """Write the trained model whole, adapter and base in one, with its tokenizer, and return the folder: for `llm.Local`.

    Raises InputError for a reward model, which writes nothing."""
    if trained.method == "reward":
        raise InputError(
            "a reward model writes nothing, so no client can ask it. Score with scoring.opened(trained).rewards()."
        )
    with opened(trained) as model:
        whole = model.model.merge_and_unload() if hasattr(model.model, "merge_and_unload") else model.model
        whole.save_pretrained(out)
        model.tokenizer.save_pretrained(out)
    return Path(out)
