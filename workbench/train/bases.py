"""The model that a training starts from: any transformers folder or Hub id, or the one that the workbench makes itself.

    base = bases.load("tiny-base")                       # made once, offline, on the CPU; then from the user's cache
    base = bases.load("HuggingFaceTB/SmolLM2-135M-Instruct")     # or a folder

`tiny-base@1` is a Llama of 2.2 million parameters, 4 layers wide 192, with a byte-level tokenizer of 2,048 tokens, both
trained on the bundled documents alone and on nothing else. It knows a little about bread, rivers and a job queue, in
English, and follows a chat template. It is there so that every notebook and test trains for real; what holds for it need
not hold for a model that anybody would use, which is why its name stands in every result."""

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from workbench import store
from workbench._background import progress_bar
from workbench.errors import InputError, RunError, require
from workbench.records import content_hash
from workbench.train import _machine

TINY = "tiny-base@1"
DOCUMENTS = Path(__file__).parents[2] / "data" / "documents"

# What decides tiny-base's weights, beside the documents. Change any of it and the N of tiny-base@N must rise with it.
_VOCABULARY, _WINDOW, _LENGTH, _BATCH, _EPOCHS, _RATE, _SEED = 2048, 512, 128, 16, 3, 3e-3, 0
_SHAPE = {
    "vocab_size": _VOCABULARY, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": _WINDOW, "tie_word_embeddings": True,
    # Of 0.02, the default, nothing topical is learned in so few steps.
    "initializer_range": 0.05,
}  # fmt: skip
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
# The generation marks tell TRL which tokens are the assistant's.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What decides a log-probability. How a model would like to be sampled (generation_config.json) is not followed.
_DECIDING = (
    "config.json", "*.safetensors", "tokenizer*", "chat_template*", "vocab.*", "merges.txt", "*.model", "added_tokens.json",
    "special_tokens_map.json",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A model to start from: its `name` as results show it, its `folder` on this machine, and the hash of its bytes.

    `sha256` is over every file that decides what it computes: 24 hex digits. `window` is the most tokens that it reads."""

    name: str
    folder: Path
    sha256: str
    parameters: int
    window: int
    has_chat_template: bool

    def __repr__(self) -> str:
        return f"{self.name}: {self.parameters / 1e6:,.1f} million parameters, {self.window:,} tokens at most, {self.sha256}"


def load(path_or_hub_id: str | os.PathLike[str] = TINY) -> Base:
    """Return the base model of a folder or Hub id; of "tiny-base" the workbench's own, made now where it is not there yet.

    Raises ClientError for what is no causal language model in safetensors with a tokenizer, and InputError for a version
    of tiny-base that this workbench does not make."""
    if isinstance(path_or_hub_id, str) and path_or_hub_id.partition("@")[0] == "tiny-base":
        if path_or_hub_id not in ("tiny-base", TINY):
            raise InputError(
                f"this workbench makes {TINY}, not {path_or_hub_id}. Use {TINY}, or the folder of that one."
            )
        return _described(TINY, tiny())
    from workbench.llm import local

    folder, revision = local.find(path_or_hub_id)
    folder = folder or local.fetch(path_or_hub_id, revision)
    name = f"{path_or_hub_id}@{revision[:12]}" if revision else folder.name
    return _described(name, folder)


def _described(name: str, folder: Path) -> Base:
    from safetensors import safe_open

    files = sorted({path for pattern in _DECIDING for path in folder.glob(pattern)})
    hashed = [(path.name, _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)) for path in files]
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            shapes = [weights.get_slice(key).get_shape() for key in weights.keys()]  # noqa: SIM118  no mapping
        for shape in shapes:
            size = 1
            for side in shape:
                size *= side
            count += size
    config = orjson.loads((folder / "config.json").read_bytes())
    settings = folder / "tokenizer_config.json"
    has_template = (folder / "chat_template.jinja").exists() or (
        settings.exists() and bool(orjson.loads(settings.read_bytes()).get("chat_template"))
    )
    window = config.get("max_position_embeddings") or config.get("n_positions") or 1024
    return Base(name, folder, content_hash(hashed), count, int(window), has_template)


@cache  # by size and time too: a base is described for every training of an experiment
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- tiny-base ------------------------------------------------------------------------------------------------------


def tiny(*, documents: str | os.PathLike[str] = DOCUMENTS, progress: bool = True) -> Path:
    """Return the folder of tiny-base, made now on one core of the CPU if the user's cache does not hold it.

    It lies below $XDG_CACHE_HOME (~/.cache) by the hash of the documents and of how it is made. The same machine makes the
    same bytes. Raises InputError where the documents are absent, RunError where the cache cannot be written."""
    texts = [document.text for document in store.documents(documents)]
    made_of = content_hash([TINY, _SHAPE, _LENGTH, _BATCH, _EPOCHS, _RATE, _SEED, TEMPLATE, texts])
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "synthetic-data-workbench").expanduser()
    folder = root / f"{TINY}-{made_of[:12]}"
    if (folder / "made.json").exists():
        return folder
    require("torch", extra="train"), require("transformers", extra="train")
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=root, prefix=".tiny-base-"))
    except OSError as error:
        raise RunError(
            f"cannot make {TINY} below {root}: {error.strerror}. Set XDG_CACHE_HOME to a folder that can be written."
        ) from None
    try:
        _make(texts, temporary, progress)
        (temporary / "made.json").write_bytes(orjson.dumps({"name": TINY, "made_of": made_of}))
        # Two processes may have made it at once; both made the same, and the first one's stays.
        if not folder.exists():
            temporary.rename(folder)
    except OSError as error:
        raise RunError(
            f"cannot write {TINY} to {root}: {error.strerror}. Free some space (20 MB) and try again."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _make(texts: list[str], folder: Path, progress: bool) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(texts)
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True  # rows are cut below
    rows = list(_rows(texts, tokenizer))
    config = LlamaConfig(
        **_SHAPE, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with _machine.alone():
        torch.manual_seed(_SEED)
        model = LlamaForCausalLM(config)
        steps = _EPOCHS * (len(rows) // _BATCH)
        optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.1)
        with progress_bar(f"making {TINY}, once", steps, "steps", is_wanted=progress) as bar:
            for at in range(steps):
                if at % (len(rows) // _BATCH) == 0:
                    random.Random(at).shuffle(rows)
                start = at % (len(rows) // _BATCH) * _BATCH
                batch = torch.tensor(rows[start : start + _BATCH])
                model(batch, labels=batch).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                if bar is not None:
                    bar.update()
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _tokenizer(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[PAD, START, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, chat_template=TEMPLATE, model_max_length=_WINDOW
    )


def _rows(texts: list[str], tokenizer: Any) -> Iterator[list[int]]:
    """Rows of `_LENGTH` tokens: the pages as they are, and their sections as answers to their headings, end to end."""
    pages: list[int] = []
    for text in texts:
        pages += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    chats: list[int] = []
    for asked, said in (turn for text in texts for turn in _turns(text)):
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        chats += tokenizer.apply_chat_template(messages, return_dict=False)
    for tokens in (pages, chats):
        yield from (tokens[at : at + _LENGTH] for at in range(0, len(tokens) - _LENGTH + 1, _LENGTH))


def _turns(text: str) -> Iterator[tuple[str, str]]:
    """A page's paragraphs, each as what somebody says when asked about the page and the section."""
    title, section = "", ""
    for block in text.split("\n\n"):
        if block.startswith("# "):
            title = block[2:].strip()
        elif block.startswith("#"):
            section = block.lstrip("#").strip()
        elif block.strip() and block.lstrip()[0].isalpha():
            yield (f"{title}: {section}" if section else title), block.strip()
