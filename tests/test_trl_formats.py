"""Exports for TRL, read by TRL itself: what its loader, its own processing and its trainers make of each file.

Every file comes from `share.export` and is loaded as a user would load it. No data processing may warn: TRL warns where
a row does not say where its prompt ends, and trains on it all the same."""

import logging
import math
import os
import warnings
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import Regex, pre_tokenizers

from tests.test_share import LEARNABLE
from tests.tiny_model import END, tiny_model  # noqa: F401 (a fixture)
from workbench import share, trl_forms
from workbench.records import Preference

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
datasets = pytest.importorskip("datasets", reason="needs the train extra")
trl = pytest.importorskip("trl", reason="needs the train extra")
from trl import data_utils  # noqa: E402

datasets.disable_progress_bars()

# Answers that begin alike or with a blank, braces, line ends, other scripts, role words, an end of turn, a lone mark.
PAIRS = [
    Preference("What colour is the sky?", "It is blue.", "It is green.", 5, 1.5),
    Preference("Say hello", "Hello {name}!", "Hello", 4, 1),
    Preference("Go on, in verse:\n\n", "The sun\n\nis in the\tsky.", "  The sun is not.", 4, 2),
    Preference("Human: who?\n\nAssistant:", "\n\nAssistant: me.\n\nHuman: you?", "\n\nAssistant: no", 3, 2),
    Preference("{prompt} é 🜁\u2028", "}", "{{chosen}}", 3, 1),
    Preference("Say hello", "Good day.", "Go.", 2, 1),
    Preference("user\nassistant\n", "日本語。", "日本", 5, 4),
]
# What TRL sets side by side, by hand: one joint each, and it is the completion's.
TEXTS = [
    ("What colour is the sky?", " It is blue.", " It is green."),
    ("Say hello", " Hello {name}!", " Hello"),
    ("Go on, in verse:", " \n\nThe sun\n\nis in the\tsky.", " \n\n  The sun is not."),
    ("Human: who?\n\nAssistant:", " \n\nAssistant: me.\n\nHuman: you?", " \n\nAssistant: no"),
    ("{prompt} é 🜁", "\u2028}", "\u2028{{chosen}}"),
    ("Say hello", " Good day.", " Go."),
    ("user\nassistant", " \n日本語。", " \n日本"),
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Each format's file as `datasets` loads it."""
    folder = tmp_path_factory.mktemp("trl")
    written = share.export(PAIRS, folder)
    with silent():
        return {format: load(written[format], folder / "cache") for format in SAYS}


SAYS = {
    "preference": ["prompt", "chosen", "rejected", "score_chosen", "score_rejected"],
    "preference_chat": ["prompt", "chosen", "rejected"],
    "unpaired": ["prompt", "completion", "label"],
    "reward": ["chosen", "rejected"],
}


def load(path, cache, **options):
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache), **options)


@contextmanager
def said():
    """Collect what is warned of, in Python's warnings and in the loggers of the libraries."""
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("trl", "transformers", "datasets", "accelerate")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # TRL hands transformers an argument that it has renamed; that is between the two, and not about data.
            warnings.filterwarnings(
                "ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning
            )
            yield found
            found += [str(warning.message) for warning in caught]
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def silent():
    with said() as found:
        yield
    assert found == []


@pytest.fixture(scope="module")
def tokenizer(tiny_model):  # noqa: F811
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


# --- the files


def test_each_file_has_the_columns_that_trl_reads_and_a_row_a_line(loaded):
    assert {format: rows.column_names for format, rows in loaded.items()} == SAYS
    assert [len(rows) for rows in loaded.values()] == [7, 7, 14, 7]
    assert loaded["unpaired"].features["label"].dtype == "bool"


def test_only_the_forms_in_messages_are_conversations_to_trl(loaded):
    found = {format: data_utils.is_conversational(rows[0]) for format, rows in loaded.items()}
    assert found == {"preference": False, "preference_chat": True, "unpaired": False, "reward": True}


def test_trl_takes_the_prompts_as_they_are_given(loaded):
    for format in ("preference", "preference_chat"):
        assert [data_utils.maybe_extract_prompt(row) for row in loaded[format]] == list(loaded[format])


def test_trl_finds_the_prompt_in_a_reward_file_without_a_word_of_the_answers(loaded):
    found = [data_utils.maybe_extract_prompt(row) for row in loaded["reward"]]
    assert found == list(loaded["preference_chat"])
    # Of texts it would not: two answers that begin alike lose their beginning.
    texts = data_utils.extract_prompt({"chosen": "Sky? It is blue.", "rejected": "Sky? It is green."})
    assert texts == {"prompt": "Sky? It is", "chosen": " blue.", "rejected": " green."}


def test_unpaired_holds_what_trl_makes_of_the_pairs(loaded):
    theirs = data_utils.unpair_preference_dataset(loaded["preference"].select_columns(["prompt", "chosen", "rejected"]))
    rows = lambda of: sorted((row["prompt"], row["completion"], row["label"]) for row in of)
    assert rows(loaded["unpaired"]) == rows(theirs)


def test_the_chat_template_sets_each_text_once(loaded, tokenizer):
    turn = "<|im_start|>{}\n{}<|im_end|>\n".format
    with silent():
        rows = [data_utils.maybe_apply_chat_template(row, tokenizer) for row in loaded["preference_chat"]]
        whole = [data_utils.maybe_apply_chat_template(row, tokenizer) for row in loaded["reward"]]
    for row, both, pair in zip(rows, whole, PAIRS, strict=True):
        answers = {"chosen": turn("assistant", pair.chosen), "rejected": turn("assistant", pair.rejected)}
        asked = turn("user", pair.prompt)
        assert both == {name: asked + answer for name, answer in answers.items()}
        # What both answers begin with is of no concern here; TRL gives the same text in two parts.
        assert {name: row["prompt"] + row[name] for name in answers} == both and row["prompt"].startswith(asked)


def test_the_chat_template_sees_the_turns_of_a_dialogue(tokenizer, tmp_path):
    talk = "\n\nSystem: Be brief.\n\nHuman: Hi?\n\nAssistant: Hello\n\nHuman: Bye?\n\nAssistant:"
    written = share.export([Preference(talk, " So long", " No")], tmp_path)
    asked = [("system", "Be brief."), ("user", "Hi?"), ("assistant", "Hello"), ("user", "Bye?")]
    turns = lambda *said: "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)
    wanted = {name: turns(*asked, ("assistant", text)) for name, text in (("chosen", "So long"), ("rejected", "No"))}
    for format in ("preference_chat", "reward"):
        (row,) = load(written[format], tmp_path / "cache")
        found = data_utils.maybe_apply_chat_template(row, tokenizer)
        assert {name: found.get("prompt", "") + found[name] for name in wanted} == wanted
        assert data_utils.maybe_extract_prompt(row)["prompt"] == [
            {"role": role, "content": text} for role, text in asked
        ]
    (row,) = load(written["chat"], tmp_path / "cache")
    assert data_utils.maybe_apply_chat_template(row, tokenizer)["text"] == wanted["chosen"]


def test_scores_of_a_few_pairs_at_the_end_do_not_stop_the_loader(tmp_path):
    pairs = [Preference(f"p{at}", "c", "r") for at in range(40)] + [Preference("last", "c", "r", 5, 1)]
    path = share.export(pairs, tmp_path, formats=["preference"])["preference"]
    rows = load(path, tmp_path / "cache", chunksize=256)  # some lines at a time, as 10 MB are of a real file
    assert rows["prompt"] == [pair.prompt for pair in pairs]
    nulls = tmp_path / "nulls.jsonl"
    nulls.write_text('{"score": null}\n' * 40 + '{"score": 5.0}\n')
    with pytest.raises(datasets.exceptions.DatasetGenerationError):
        load(nulls, tmp_path / "cache", chunksize=256)


# --- the trainers

RUNS = [
    ("preference", "DPO"), ("preference_chat", "DPO"), ("unpaired", "KTO"), ("preference_chat", "KTO"), ("reward", "Reward"),
    ("preference", "Reward"),
]  # fmt: skip


def trainer(method, rows, tokenizer, model, folder):
    """The trainer, its dataset prepared. No setting is about data."""
    import transformers

    kind = "ForSequenceClassification" if method == "Reward" else "ForCausalLM"
    transformers.logging.set_verbosity_error()  # that a reward model's head is new
    policy = getattr(transformers, f"AutoModel{kind}").from_pretrained(
        model, **({"num_labels": 1} if method == "Reward" else {})
    )
    transformers.logging.set_verbosity_warning()
    arguments = getattr(trl, f"{method}Config")(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", max_steps=1,
        per_device_train_batch_size=2, save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    return getattr(trl, f"{method}Trainer")(
        model=policy, args=arguments, train_dataset=rows, processing_class=tokenizer
    )


@pytest.mark.parametrize("format, method", RUNS)
def test_a_trainer_takes_every_text_once_and_in_its_place_without_a_warning(
    format,
    method,
    loaded,
    tokenizer,
    tiny_model,  # noqa: F811
    tmp_path,
):
    with silent():
        made = trainer(method, loaded[format], tokenizer, tiny_model, tmp_path)
        rows = made.train_dataset
        made.train()
    assert math.isfinite(made.state.log_history[0]["loss"])
    decoded = lambda column: [tokenizer.decode(ids) for ids in rows[column]]
    if format == "preference":
        texts = [(prompt, chosen + END, rejected + END) for prompt, chosen, rejected in TEXTS]
    else:
        head, tail = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"
        texts = [(head.format(p.prompt), p.chosen + tail, p.rejected + tail) for p in PAIRS]
    if method == "DPO":
        found = zip(decoded("prompt_ids"), decoded("chosen_ids"), decoded("rejected_ids"), strict=True)
        assert list(found) == texts
    elif method == "Reward":
        found = zip(decoded("chosen_ids"), decoded("rejected_ids"), strict=True)
        assert list(found) == [(prompt + chosen, prompt + rejected) for prompt, chosen, rejected in texts]
    else:
        if format == "unpaired":
            texts = [(prompt, chosen + END, rejected + END) for prompt, chosen, rejected in TEXTS]
        found = zip(decoded("prompt_ids"), decoded("completion_ids"), rows["label"], strict=True)
        assert sorted(found) == sorted(
            (prompt, text, label) for prompt, *both in texts for text, label in zip(both, (True, False), strict=True)
        )


def test_kto_compares_with_completions_to_other_prompts_and_sees_both_labels_in_a_batch(
    loaded,
    tokenizer,
    tiny_model,  # noqa: F811
    tmp_path,
):
    rows = trainer("KTO", loaded["unpaired"], tokenizer, tiny_model, tmp_path).train_dataset
    own = {}
    for prompt, text in zip(rows["prompt"], rows["completion_ids"], strict=True):
        own.setdefault(prompt, []).append(text)
    assert all(
        other not in own[prompt] for prompt, other in zip(rows["prompt"], rows["KL_completion_ids"], strict=True)
    )
    assert rows["label"] == [True, False] * len(PAIRS)


def test_texts_without_a_joint_are_what_trl_warns_of(tokenizer, tiny_model, tmp_path):  # noqa: F811
    """The control: the same words glued together, and this file's way of listening hears it."""
    glued = datasets.Dataset.from_list([{"prompt": "It is th", "chosen": "e sky", "rejected": "no"}])
    with said() as found:
        trainer("DPO", glued, tokenizer, tiny_model, tmp_path)
    assert len(found) == 1 and "The tokenized prompt is not a prefix" in found[0]


# How the two families of byte-level tokenizers cut texts before anything is merged: GPT-2 (also SmolLM, OPT, Pythia), and
# Llama 3 (also Qwen, with other digits). A token never reaches over such a cut.
GPT_2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA_3 = pre_tokenizers.Split(
    Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    behavior="isolated",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LEARNABLE)
def test_no_tokenizer_has_a_token_that_reaches_over_the_joint(pair):
    cuts = lambda cutter, text: [place for _, place in cutter.pre_tokenize_str(text)]
    (line,) = trl_forms.preference([pair])
    for completion, text in ((line["chosen"], pair.chosen), (line["rejected"], pair.rejected)):
        for cutter in (GPT_2, LLAMA_3):
            alone = cuts(cutter, line["prompt"])
            assert cuts(cutter, line["prompt"] + completion)[: len(alone)] == alone
        # Nothing is lost or doubled, and at most one blank is new.
        whole, given = line["prompt"] + completion, pair.prompt + text
        at = len(line["prompt"])
        assert whole == given or (whole[:at] + whole[at + 1 :] == given and whole[at] == " ")
