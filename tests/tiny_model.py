"""A tiny chat model with random weights, made on the spot: 2 layers, hidden size 64, a byte-level BPE tokenizer of 512
tokens trained on the bundled documents, a chat template. It writes nonsense; what matters is that its answers depend on
the whole prompt, are the same every time, and end: most by an end-of-turn token within 40 tokens."""

from pathlib import Path

import numpy as np
import pytest

DOCUMENTS = Path(__file__).parents[1] / "data" / "documents"
END = "<|im_end|>"
WINDOW = 1024
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_VOCABULARY, _HIDDEN, _END_BIAS = 512, 64, 16.0


def make(folder: Path, *, seed: int = 0) -> Path:
    """Write the model into the folder and return it. The same seed gives the same bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    end = tokenizer.convert_tokens_to_ids(END)
    config = LlamaConfig(
        vocab_size=_VOCABULARY, hidden_size=_HIDDEN, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=WINDOW, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=end, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.float32)
    random = np.random.RandomState(seed)  # whose numbers are promised never to change
    with torch.no_grad():
        for name, weights in sorted(model.named_parameters()):
            if weights.dim() == 2:
                weights.copy_(torch.from_numpy(random.normal(0, 0.25, tuple(weights.shape)).astype("float32")))
            # Nothing writes to channel 0, so that it stays the constant that the embedding gives it ...
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights[0] = 0
        model.model.embed_tokens.weight[:, 0] = 1
        # ... and each token's weight on it is its bias: ends come often, control tokens and broken UTF-8 never.
        bias = torch.full((_VOCABULARY,), -100.0)
        for token, text in ((i, tokenizer.decode([i], skip_special_tokens=True)) for i in range(_VOCABULARY)):
            if text.isascii() and text.isprintable() and text:
                bias[token] = 0
        bias[end] = _END_BIAS
        model.lm_head.weight[:, 0] = bias
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = tokenizer.pad_token_id, end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer():
    """The tokenizer alone, as transformers wraps it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=["<|pad|>", "<|im_start|>", END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator([path.read_text(encoding="utf-8") for path in sorted(DOCUMENTS.rglob("*.md"))[:6]], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token=END, chat_template=TEMPLATE, model_max_length=WINDOW
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """The folder of the tiny model, made once. Read-only: copy it to change it."""
    folder = tmp_path_factory.getbasetemp() / "tiny"
    return folder if folder.exists() else make(folder)
