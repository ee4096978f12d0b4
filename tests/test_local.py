"""llm.Local over a real (tiny, random) model: answers, batches, seeds, counts, names without paths, and refusals."""

import asyncio
import json
import os
import shutil
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny_model as tiny
from workbench import llm
from workbench.errors import BudgetExhausted, CallFailed, ClientError, MissingLibrary
from workbench.llm import Budget, Price, Request, Sampling
from workbench.llm import local as module

tiny_model = tiny.tiny_model  # the fixture
LONG = Sampling(max_tokens=200)
SAMPLED = Sampling(max_tokens=40, temperature=1.0)
QUESTIONS = [f"Question {i}: how does {('water', 'bread', 'tern')[i % 3]} work?" + " Really" * i for i in range(12)]


def request(text, sampling=Sampling(), **others):  # noqa: B008  frozen
    return Request(({"role": "user", "content": text},), sampling, **others)


def ask(client, *requests):
    """Each request's completion or CallFailed, all asked at once."""

    async def together():
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True)

    return asyncio.run(together())


def ask_while_busy(client, *requests):
    """The same, all of them waiting before the worker turns to the first."""
    idle = threading.Event()

    async def together():
        client._worker.submit(idle.wait)
        tasks = [asyncio.create_task(client.complete(each)) for each in requests]
        while len(client._waiting) < len(requests):  # noqa: ASYNC110  it is a list, and tells nobody
            await asyncio.sleep(0)
        idle.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    try:
        return asyncio.run(together())
    finally:
        idle.set()


def one(client, *args, **others):
    [answer] = ask(client, request(*args, **others))
    if isinstance(answer, BaseException):
        raise answer
    return answer


def shown(result):
    return result.raw if isinstance(result, CallFailed) else result.text


@pytest.fixture(scope="module")
def client(tiny_model):
    return llm.Local(tiny_model, sampling=LONG)


@pytest.fixture(scope="module")
def oracle(tiny_model):
    """What transformers itself answers to each alone: (prompt tokens, completion tokens, text, has it an end)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)

    def answer(question):
        messages = [{"role": "user", "content": question}]
        shape = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
        inputs = tokenizer.apply_chat_template(messages, **shape)
        width = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            made = model.generate(**inputs, do_sample=False, max_new_tokens=200)[0][width:]
        text = tokenizer.decode(made, skip_special_tokens=True)
        return width, len(made), text, made[-1] == tokenizer.eos_token_id

    return {question: answer(question) for question in QUESTIONS}


@pytest.fixture
def copy(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


@pytest.fixture
def batches(monkeypatch):
    """How many requests each call of the model had, and how many tokens it was made to write."""
    seen, real = [], module._Loaded.generate

    def generate(self, batch, longest):
        seen.append((len(batch), longest))
        return real(self, batch, longest)

    monkeypatch.setattr(module._Loaded, "generate", generate)
    return seen


# --- answers --------------------------------------------------------------------------------------------------------


def test_a_batch_of_prompts_of_unequal_length_gives_each_the_text_and_the_tokens_it_gets_alone(client, oracle):
    answers = ask_while_busy(client, *map(request, QUESTIONS))
    for question, got in zip(QUESTIONS, answers, strict=True):
        prompt_tokens, completion_tokens, text, has_end = oracle[question]
        assert shown(got) == text
        assert (got.prompt_tokens, got.completion_tokens) == (prompt_tokens, completion_tokens)
        assert isinstance(got, CallFailed) is not has_end
    ended = [got for got in answers if not isinstance(got, CallFailed)]
    assert len(ended) >= 6 and {got.choices[0].finish for got in ended} == {"stop"}
    assert len({shown(got) for got in answers}) == len(QUESTIONS)  # the whole prompt decides, or this file tests little


def test_requests_that_wait_together_share_a_batch_and_others_do_not_join_it(client, batches):
    ask_while_busy(client, *(request(q, Sampling(max_tokens=n)) for q in QUESTIONS[:8] for n in (5, 6)))
    assert sorted(batches) == [(8, 5), (8, 6)]


def test_the_event_loop_goes_on_while_the_model_loads_and_writes(tiny_model):
    async def count_turns():
        task = asyncio.create_task(llm.Local(tiny_model, sampling=LONG).complete(request(QUESTIONS[0])))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(count_turns()) > 100


def test_an_answer_that_reaches_max_tokens_is_a_failure_with_its_raw_text_and_cost(tiny_model, oracle):
    client = llm.Local(tiny_model, price=Price(1.0, 1.0))
    [failure] = ask(client, request(QUESTIONS[0], Sampling(max_tokens=3)))
    assert isinstance(failure, CallFailed) and failure.reason == "length"
    assert (failure.completion_tokens, failure.cost) == (3, (oracle[QUESTIONS[0]][0] + 3) / 1e6)
    assert failure.raw and oracle[QUESTIONS[0]][2].startswith(failure.raw)


def test_every_stop_text_cuts_the_answer_at_its_first_place_and_nothing_after_it_is_counted(client, oracle):
    question = next(q for q in QUESTIONS if oracle[q][3] and len(oracle[q][2]) > 30)
    text, tokens = oracle[question][2], oracle[question][1]
    stops = {text[at : at + n] for at in range(4, 24, 5) for n in (1, 3, 9)}
    stops = [stop for stop in stops if text[: text.find(stop)].strip()]
    answers = ask(client, *(request(question, Sampling(stop=(stop,))) for stop in stops))
    for stop, answer in zip(stops, answers, strict=True):
        assert (answer.text, answer.choices[0].finish) == (text[: text.find(stop)], "stop")
        assert 0 < answer.completion_tokens < tokens


def test_of_two_stop_texts_in_one_token_the_earlier_one_cuts(client, oracle):
    question = next(q for q in QUESTIONS if oracle[q][3] and len(oracle[q][2]) > 30)
    text = oracle[question][2]
    places = [k for k in range(2, 40) if text.find(text[k]) == k and text.find(text[k + 1]) == k + 1]
    answers = ask(client, *(request(question, Sampling(stop=(text[k + 1], text[k]))) for k in places))
    assert len(places) > 3 and [answer.text for answer in answers] == [text[:k] for k in places]


def test_a_stop_text_ends_each_answer_of_a_batch_and_the_padding_after_it_is_not_counted(client, oracle, batches):
    stop = Sampling(stop=("co",))
    together = ask_while_busy(client, *(request(q, stop) for q in QUESTIONS[:8]))
    assert len(batches) == 1
    alone = [ask(client, request(q, stop))[0] for q in QUESTIONS[:8]]
    assert [(shown(a), a.completion_tokens) for a in together] == [(shown(a), a.completion_tokens) for a in alone]
    assert len({a.completion_tokens for a in together}) > 3
    assert [shown(a) for a in together] == [oracle[q][2].partition("co")[0] for q in QUESTIONS[:8]]


def test_an_answer_with_nothing_before_its_stop_is_empty_and_no_row(client, oracle):
    question = next(q for q in QUESTIONS if oracle[q][2].strip())
    with pytest.raises(CallFailed) as failed:
        one(client, question, Sampling(stop=(oracle[question][2].strip()[0],)))
    assert failed.value.reason == "empty" and failed.value.completion_tokens >= 1


def test_a_seed_and_a_sample_number_decide_a_sampled_answer_whoever_waits_with_it(client):
    draws = [(3, 0), (3, 1), (4, 0)]
    seeded = [request(QUESTIONS[0], replace(SAMPLED, seed=seed), sample=sample) for seed, sample in draws]
    alone = [shown(ask(client, r)[0]) for r in seeded]
    crowd = ask_while_busy(client, *(request(q, SAMPLED) for q in QUESTIONS[:5]), *seeded, *map(request, QUESTIONS[:3]))
    assert [shown(r) for r in crowd[5:8]] == alone
    assert alone[0] != alone[1] == alone[2]  # as in llm.OpenAI, seed + sample is what is drawn with


def test_without_a_seed_each_draw_is_new_and_the_notebooks_own_random_numbers_stay(client):
    import torch

    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        drawn.append(shown(ask(client, request(QUESTIONS[0], SAMPLED))[0]))
        assert torch.equal(torch.get_rng_state(), before)
    assert drawn[0] != drawn[1]


def test_top_p_narrows_a_draw_down_to_the_greedy_answer(client, oracle):
    question = next(q for q in QUESTIONS if oracle[q][3])
    assert one(client, question, Sampling(temperature=1.0, top_p=1e-6)).text == oracle[question][2]


def test_temperature_zero_with_a_seed_is_greedy_and_still_batched(client, oracle, batches):
    requests = [request(q, Sampling(temperature=0, seed=i)) for i, q in enumerate(QUESTIONS[:4])]
    answers = ask_while_busy(client, *requests)
    assert [shown(a) for a in answers] == [oracle[q][2] for q in QUESTIONS[:4]]
    assert len(batches) == 1


def test_a_prompt_longer_than_the_models_window_is_rejected_and_its_neighbours_are_answered(client, oracle):
    question = next(q for q in QUESTIONS if oracle[q][3])
    too_long, fine = ask_while_busy(client, request("water " * tiny.WINDOW), request(question))
    assert (too_long.reason, too_long.fatal) == ("rejected", False) and f"{tiny.WINDOW:,}" in too_long.detail
    assert fine.text == oracle[question][2]


def test_a_prompt_that_nearly_fills_the_window_gets_what_is_left_of_it_alone(client, batches):
    long = Sampling(max_tokens=500)
    nearly_full, _ = ask_while_busy(client, request("and " * 960, long), request("Hi", long))
    left = tiny.WINDOW - nearly_full.prompt_tokens
    assert 0 < left < 500 and sorted(batches) == [(1, left), (1, 500)]
    assert nearly_full.completion_tokens <= left


def test_a_batch_that_does_not_fit_the_memory_is_halved_until_it_does(client, oracle, monkeypatch):
    import torch

    sizes, real = [], module._Loaded.generate

    def generate(self, batch, longest):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, batch, longest)

    monkeypatch.setattr(module._Loaded, "generate", generate)
    answers = ask_while_busy(client, *map(request, QUESTIONS[:7]))
    assert [shown(a) for a in answers] == [oracle[q][2] for q in QUESTIONS[:7]]
    assert sorted(sizes) == [1, 2, 2, 2, 3, 4, 7]


def test_a_text_that_nobody_waits_for_any_more_is_not_written_to_its_end(copy, monkeypatch):
    lengths, begun, generate, read = [], threading.Event(), module._Loaded.generate, module._Loaded.read

    def note_the_beginning(self, *given):
        begun.set()
        return generate(self, *given)

    def note_the_length(self, tokens, *rest):
        lengths.append(len(tokens))
        return read(self, tokens, *rest)

    monkeypatch.setattr(module._Loaded, "generate", note_the_beginning)
    monkeypatch.setattr(module._Loaded, "read", note_the_length)
    endless = {"eos_token_id": 2, "pad_token_id": 0, "min_new_tokens": 900}
    (copy / "generation_config.json").write_text(json.dumps(endless))
    client = llm.Local(copy)

    async def ask_and_cancel():
        tasks = [asyncio.create_task(client.complete(request(q, Sampling(max_tokens=900)))) for q in QUESTIONS[:3]]
        await asyncio.to_thread(begun.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(client._worker.submit(int).result)  # the worker is free again

    asyncio.run(ask_and_cancel())
    assert lengths and all(length < 900 for length in lengths)


def test_a_client_serves_one_event_loop_after_another(client, oracle):
    question = next(q for q in QUESTIONS if oracle[q][3])
    assert {one(client, question).text for _ in range(3)} == {oracle[question][2]}


# --- counting and keeping -------------------------------------------------------------------------------------------


def test_a_budget_of_requests_stops_before_the_request_that_would_pass_it(client):
    budget = Budget(requests=2)
    results = ask(client, *(request(q, Sampling(max_tokens=2), budget=budget) for q in QUESTIONS[:4]))
    assert sum(isinstance(r, BudgetExhausted) for r in results) == 2 and budget.used["requests"] == 2
    assert budget.used["tokens"] == sum(r.prompt_tokens + 2 for r in results if not isinstance(r, BudgetExhausted))


def test_what_is_in_the_ledger_is_not_generated_again_and_a_changed_model_is(client, copy, oracle, tmp_path, batches):
    question = next(q for q in QUESTIONS if oracle[q][3])
    ledger = llm.Ledger(client, tmp_path / "ledger.sqlite")
    first, second = one(ledger, question), one(ledger, question)
    assert (first.is_from_ledger, second.is_from_ledger, second.text) == (False, True, first.text) and len(batches) == 1
    ledger.close()
    edit_weights(copy)
    assert not one(llm.Ledger(llm.Local(copy, sampling=LONG), tmp_path / "ledger.sqlite"), question).is_from_ledger


def edit_weights(folder, byte=-5):
    """Change one byte of the weights, and nothing else."""
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[byte] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


# --- names ----------------------------------------------------------------------------------------------------------


def test_the_endpoint_is_the_content_and_no_path_of_this_machine_gets_into_any_record(client, copy, oracle):
    other = llm.Local(copy, sampling=LONG)
    assert (other.endpoint, other.model) == (client.endpoint, "copy")
    assert len(other.endpoint) == len("local:") + 12
    answer = one(client, next(q for q in QUESTIONS if oracle[q][3]))
    assert (answer.model, answer.endpoint) == ("tiny", client.endpoint)
    assert json.loads(answer.sampling) == {"max_tokens": 200, "sample": 0}
    assert str(copy.parent) not in repr(other) + repr(answer) and os.sep not in client.endpoint


@pytest.mark.parametrize("byte", [-1, -200_000, 5000])
def test_one_byte_of_the_weights_changes_the_endpoint(copy, byte):
    before = llm.Local(copy).endpoint
    edit_weights(copy, byte)
    assert llm.Local(copy).endpoint != before


def test_the_chat_template_and_the_generation_config_change_the_endpoint_and_a_card_does_not(copy):
    endpoints = [llm.Local(copy).endpoint, llm.Local(copy, chat_template=tiny.TEMPLATE + " ").endpoint]
    (copy / "README.md").write_text("A card.")
    assert llm.Local(copy).endpoint == endpoints[0]
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "repetition_penalty": 1.3}))
    endpoints.append(llm.Local(copy).endpoint)
    (copy / "chat_template.jinja").write_text(tiny.TEMPLATE + " ")
    endpoints.append(llm.Local(copy).endpoint)
    assert len(set(endpoints)) == 4


def test_a_folder_that_changes_between_naming_and_loading_is_refused(copy):
    client = llm.Local(copy)
    edit_weights(copy)
    with pytest.raises(ClientError, match="changed after"):
        one(client, "Hi")


def test_a_hub_id_is_resolved_to_its_cached_revision_without_the_network(copy, tmp_path, monkeypatch, oracle):
    pytest.importorskip("huggingface_hub")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--lab--tiny"
    shutil.copytree(copy, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    client = llm.Local("lab/tiny", sampling=LONG)
    assert (client.model, client.endpoint) == ("lab/tiny", f"local:hub:lab/tiny@{revision[:12]}")
    question = next(q for q in QUESTIONS if oracle[q][3])
    assert one(client, question).text == oracle[question][2]
    with pytest.raises(ClientError, match="hf download"):
        llm.Local("lab/absent")


def test_a_folder_is_loaded_without_any_look_at_the_network(tiny_model, monkeypatch):
    reached = []

    def refuse(*address, **_):
        reached.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(CallFailed, match="length"):
        one(llm.Local(tiny_model), QUESTIONS[0], Sampling(max_tokens=1))
    assert reached == []


# --- chat templates -------------------------------------------------------------------------------------------------


def test_a_template_that_refuses_a_system_message_says_so_and_only_to_those_who_sent_one(tiny_model, oracle):
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    client = llm.Local(tiny_model, sampling=LONG, chat_template=strict + tiny.TEMPLATE)
    question = next(q for q in QUESTIONS if oracle[q][3])
    system = Request(({"role": "system", "content": "Be brief."}, {"role": "user", "content": question}))
    refused, fine = ask_while_busy(client, system, request(question))
    assert isinstance(refused, ClientError) and "System role not supported" in str(refused)
    assert fine.text == oracle[question][2]


def test_a_template_that_writes_the_date_writes_the_same_one_every_day(tiny_model, oracle):
    day = "{% set day = strftime_now('%d %b %Y') if strftime_now is defined %}"  # as in Llama 3's
    other = "{% if day != '26 Jul 2024' %}{{ raise_exception('another day: ' ~ day) }}{% endif %}"
    client = llm.Local(tiny_model, sampling=LONG, chat_template=day + other + tiny.TEMPLATE)
    assert shown(ask(client, request(QUESTIONS[0]))[0]) == oracle[QUESTIONS[0]][2]


def test_a_model_without_a_chat_template_asks_for_one_and_takes_it(copy, oracle):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ClientError, match="chat_template="):
        one(llm.Local(copy), "Hi")
    question = next(q for q in QUESTIONS if oracle[q][3])
    assert one(llm.Local(copy, sampling=LONG, chat_template=tiny.TEMPLATE), question).text == oracle[question][2]


# --- refusals -------------------------------------------------------------------------------------------------------


def keep_only(*names):
    def change(folder):
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()

    return change


def replace_weights(name):
    def change(folder):
        (folder / "model.safetensors").rename(folder / name)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (keep_only(), "no config.json"),
        (lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"), "LoRA adapter.*Merge"),
        (keep_only("config.json", "tokenizer.json"), "no weights"),
        (replace_weights("pytorch_model.bin"), "only pytorch_model.bin.*save_pretrained"),
        (replace_weights("tiny.gguf"), "only tiny.gguf.*Ollama"),
        (keep_only("config.json", "model.safetensors"), "no tokenizer.*save_pretrained"),
    ],
)
def test_a_folder_of_the_wrong_files_is_refused_at_once_with_what_to_do(copy, change, said):
    change(copy)
    with pytest.raises(ClientError, match=said):
        llm.Local(copy)


@pytest.mark.parametrize("given", ["no/such/folder", "./nothing", "nothing", "/nowhere/at/all", Path("a/b")])
def test_a_folder_that_is_not_there_is_refused_and_never_looked_for_on_the_hub(given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClientError, match=r"no folder.*folder, or a Hub id"):
        llm.Local(given)


def test_a_file_is_no_folder(copy):
    with pytest.raises(ClientError, match="is a file"):
        llm.Local(copy / "model.safetensors")


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def another_kind(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "clip", "architectures": ["CLIPModel"]}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut_off, "cannot be loaded.*whole"),
        (drop_a_tensor, "lacks 1 of its weights, model.layers.1.mlp.up_proj.weight"),
        (another_kind, "cannot be loaded as a causal language model"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
    ],
)
def test_damaged_or_foreign_weights_are_a_clear_error_and_never_random_numbers(copy, change, said):
    change(copy)
    with pytest.raises(ClientError, match=said):
        one(llm.Local(copy), "Hi")


def test_a_device_that_is_not_there_is_named(tiny_model):
    with pytest.raises(ClientError, match=r"cannot be loaded.*device"):
        one(llm.Local(tiny_model, device="no-such-device"), "Hi")


@pytest.mark.parametrize(
    ("sampling", "others", "said"),
    [
        (Sampling(), {"n": 2}, "one choice a request"),
        (Sampling(json_schema=True), {}, "schema"),
        (Sampling(extra={"top_k": 5}), {}, "top_k"),
        (Sampling(temperature=-1), {}, "temperature"),
        (Sampling(temperature=float("nan")), {}, "temperature"),
        (Sampling(top_p=0.9), {}, "temperature beside it"),
        (Sampling(top_p=0.0, temperature=1.0), {}, "above 0"),
        (Sampling(max_tokens=0), {}, "max_tokens"),
        (Sampling(stop=("",)), {}, "stop"),
        (Sampling(stop="###"), {}, "stop must be a tuple"),
    ],
)
def test_a_parameter_it_cannot_honour_is_refused_and_never_dropped(tiny_model, sampling, others, said):
    with pytest.raises(ClientError, match=said):
        one(llm.Local(tiny_model), "Hi", sampling, **others)
    if not others:
        with pytest.raises(ClientError, match=said):
            llm.Local(tiny_model, sampling=sampling)


def test_a_batch_size_below_one_is_refused(tiny_model):
    with pytest.raises(ClientError, match="batch_size"):
        llm.Local(tiny_model, batch_size=0)


def test_without_transformers_the_error_says_what_to_install(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingLibrary, match=r"synthetic-data-workbench\[local\]"):
        one(llm.Local(tiny_model), "Hi")


def test_the_tiny_model_has_the_same_bytes_each_time_it_is_made(tiny_model, tmp_path):
    again = tiny.make(tmp_path / "again")
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in tiny_model.iterdir()}
