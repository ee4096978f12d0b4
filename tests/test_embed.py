"""embed.texts: unit vectors, the same everywhere, computed once; and what goes wrong with texts, caches and servers."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny_model as tiny
from workbench import embed
from workbench.errors import CallFailed, ClientError, InputError, MissingLibrary, StoreError

TEXTS = [
    "The rating curve turns a water level into a discharge.",
    "A rating curve converts the level of the water to its discharge!",
    "Let the dough rest for an hour, then shape it into two loaves.",
    "Workers take jobs from the queue and renew their lease.",
    "Ein Satz auf Deutsch, mit Umlauten: Äpfel über Öl.",
    "一个中文句子，没有空格。",
    "?!",
]


def cosines(texts, **options):
    vectors = embed.texts(texts, **options)
    return embed.similarity(vectors, vectors)


# --- the default ----------------------------------------------------------------------------------------------------


def test_each_text_becomes_one_float32_unit_vector_in_its_order():
    vectors = embed.texts([*TEXTS, TEXTS[0]])
    assert (vectors.shape, vectors.dtype) == ((8, 384), np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[7], vectors[0]) and len({v.tobytes() for v in vectors}) == 7


def test_the_hashed_vectors_of_version_1_never_change():
    digest = hashlib.sha256(np.round(embed.texts(TEXTS) * 1e4).astype("<i2").tobytes()).hexdigest()
    assert digest[:16] == "dcd93068ed1379ba", "a change of the features is a new version: hashing-384@2"


def test_another_process_with_another_hash_seed_gives_the_same_bytes():
    code = f"from workbench import embed; print(embed.texts({TEXTS!r}).tobytes().hex())"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert bytes.fromhex(told.stdout.strip()) == embed.texts(TEXTS).tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6), st.randoms())
def test_a_vector_depends_on_its_own_text_alone(texts, random):
    shuffled = random.sample(texts, len(texts))
    vectors = embed.texts(texts + shuffled, batch_size=1)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts + shuffled, vectors, strict=True):
        assert embed.texts([text]).tobytes() == vector.tobytes()


def test_like_texts_are_nearer_than_others_and_function_words_say_little():
    near = cosines(TEXTS[:4])
    assert near[0, 1] > 0.4 > 0.25 > max(near[0, 2], near[0, 3], near[1, 2])
    [[_, same_words, same_function_words]] = cosines(["the lease of a worker", "worker lease", "the loaf of a baker"])[
        :1
    ]
    assert same_words > 0.6 > 0.3 > same_function_words


def test_case_and_width_do_not_count_and_the_order_of_words_does():
    near = cosines(["Dog bites man", "dog BITES ｍａｎ", "man bites dog"])
    assert near[0, 1] == pytest.approx(1) and 0.8 < near[0, 2] < 0.99


def test_a_misspelt_word_stays_near_by_its_pieces():
    near = cosines(["fermentation", "fermentaton", "observability"])
    assert near[0, 1] > 0.4 > 0.2 > near[0, 2]


def test_a_run_of_a_million_characters_is_read_in_pieces_of_64():
    assert embed.texts(["x" * 1_000_000]).tobytes() == embed.texts([" ".join(["x" * 64] * 15_625)]).tobytes()


def test_it_agrees_with_people_about_as_well_as_its_docstring_says(shared):
    import csv

    from scipy.stats import spearmanr

    with (shared / "stsb" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        left, right, scores = zip(*csv.reader(file), strict=True)
    found = (embed.texts(left) * embed.texts(right)).sum(axis=1)
    assert spearmanr(found, [float(score) for score in scores])[0] == pytest.approx(0.68, abs=0.01)


def test_similarity_is_the_cosine_of_rows_and_names_shapes_that_do_not_fit():
    a, b = embed.texts(TEXTS[:3]), embed.texts(TEXTS[1:5])
    assert embed.similarity(a, b).shape == (3, 4) and embed.similarity(a[0], b).shape == (4,)
    assert np.allclose(embed.similarity(a, b), a @ b.T, atol=1e-6) and embed.similarity(a, a).max() <= 1
    with pytest.raises(InputError, match=r"\(384,\).*\(3,\)"):
        embed.similarity(a[0], np.ones(3))


# --- what cannot be embedded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", " \n\t", None, float("nan"), 3, b"bytes", ["list"]])
def test_what_is_no_text_or_an_empty_one_is_named_with_its_position(bad):
    with pytest.raises(InputError, match=r"texts\[2\]"):
        embed.texts(["fine", "fine too", bad])


def test_a_single_string_is_not_taken_for_a_list_of_letters():
    with pytest.raises(InputError, match="one text"):
        embed.texts("hello")


def test_no_texts_are_an_empty_table_of_the_models_width(tmp_path):
    assert embed.texts([]).shape == (0, 384)
    assert embed.texts(iter(()), cache=tmp_path / "cache.sqlite").shape == (0, 384)
    assert embed.texts([], model=embed.Endpoint("http://127.0.0.1:9", "m", dimensions=12)).shape == (0, 12)


def test_columns_of_arrow_numpy_and_iterators_are_taken():
    import pyarrow as pa

    wanted = embed.texts(TEXTS[:3]).tobytes()
    for column in (pa.chunked_array([TEXTS[:1], TEXTS[1:3]]), np.array(TEXTS[:3]), iter(TEXTS[:3])):
        assert embed.texts(column).tobytes() == wanted
    with pytest.raises(InputError, match=r"texts\[1\] is None"):
        embed.texts(pa.array(["a", None]))


@pytest.mark.parametrize("model", ["hashing-384@2", "no folder here", "/no/such/folder", Path("also/none")])
def test_an_unknown_model_is_refused_with_what_there_is(model):
    with pytest.raises(InputError, match="hashing-384@1"):
        embed.texts(["a"], model=model)


# --- the cache ------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """The texts that the default model really computed."""
    seen, real = [], embed._hashed
    monkeypatch.setattr(embed, "_hashed", lambda texts: seen.extend(texts) or real(texts))
    return seen


def test_the_second_call_computes_nothing_and_gives_the_same_bytes(tmp_path, counted):
    cache = tmp_path / "made" / "cache.sqlite"
    first = embed.texts(TEXTS, cache=cache)
    assert counted == TEXTS
    assert embed.texts(TEXTS[::-1], cache=str(cache)).tobytes() == first[::-1].tobytes()
    both = embed.texts(["new", *TEXTS], cache=cache)
    assert counted == [*TEXTS, "new"] and both.tobytes() == embed.texts(["new", *TEXTS]).tobytes()


def test_equal_texts_are_computed_once(counted):
    embed.texts(["a", "b", "a", "a", "b"])
    assert counted == ["a", "b"]


def test_more_texts_than_sqlite_takes_in_one_question(tmp_path, counted):
    texts = [f"text number {i}" for i in range(2345)]
    first = embed.texts(texts, cache=tmp_path / "c", batch_size=10)
    assert embed.texts(texts, cache=tmp_path / "c").tobytes() == first.tobytes() and len(counted) == 2345


def test_two_models_do_not_share_vectors(tmp_path, server):
    cache = tmp_path / "cache.sqlite"
    models = [embed.HASHING, embed.Endpoint(server.url, "a"), embed.Endpoint(server.url, "b")]
    models.append(embed.Endpoint(server.url, "b", dimensions=4))
    shapes = [embed.texts(["same"], model=model, cache=cache).shape for model in models for _ in range(2)]
    assert shapes == [(1, 384)] * 2 + [(1, 8)] * 4 + [(1, 4)] * 2
    assert [body["model"] for body in server.bodies] == ["a", "b", "b"]


def damage(what, cache):
    embed.texts([f"text {i}" for i in range(200)], cache=cache)
    with contextlib.closing(sqlite3.connect(cache)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        if what == "shortened":
            database.execute("UPDATE vectors SET vector = substr(vector, 1, 1000)")
        elif what == "scaled":
            database.execute("UPDATE vectors SET vector = zeroblob(1536)")
        elif what == "text":
            database.execute("UPDATE vectors SET vector = 'text'")
        elif what == "foreign":
            database.execute("PRAGMA application_id = 5")
        elif what == "no table":
            database.execute("ALTER TABLE vectors RENAME TO other")
        database.commit()
    raw = cache.read_bytes()
    if what == "cut off":
        cache.write_bytes(raw[: len(raw) // 2])
    elif what == "overwritten":
        cache.write_bytes(raw[:4096] + os.urandom(len(raw) - 4096))
    elif what == "no database":
        cache.write_bytes(b"a table,with commas\n" * 300)


KINDS = ("shortened", "scaled", "text", "foreign", "no table", "cut off", "overwritten", "no database")


@pytest.mark.parametrize("what", KINDS)
def test_a_damaged_cache_is_a_clear_error_with_the_next_move_and_never_a_vector(tmp_path, what):
    cache = tmp_path / "cache.sqlite"
    damage(what, cache)
    with pytest.raises(StoreError, match=r"cache\.sqlite.*(delete it|path of its own)"):
        embed.texts([f"text {i}" for i in range(200)], cache=cache)


def test_a_cache_that_cannot_be_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    for cache in (tmp_path, tmp_path / "file" / "cache.sqlite"):
        with pytest.raises(StoreError, match="cache= another path"):
            embed.texts(["a"], cache=cache)


# --- an endpoint ----------------------------------------------------------------------------------------------------


class Embeddings(ThreadingHTTPServer):
    """A server of embeddings: vectors from the text's hash, in reversed order; `answers` are faults to give first."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.bodies, self.headers, self.answers, self.daemon_threads = [], [], [], True


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.bodies.append(body)
        server.headers.append(dict(self.headers))
        status, headers, answer = 200, {}, None
        if server.answers:
            status, headers, answer = server.answers.pop(0)
        if answer is None:
            width = body.get("dimensions", 8)
            rows = [list(hashlib.sha256(text.encode()).digest()[:width]) for text in body["input"]]
            rows = [[0] * width if text == "zero" else row for text, row in zip(body["input"], rows, strict=True)]
            answer = {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)][::-1]}
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(embed.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Embeddings() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def test_an_endpoints_vectors_come_in_the_order_of_the_texts_whatever_order_it_gives(server):
    vectors = embed.texts(TEXTS, model=embed.Endpoint(server.url + "/", "m"), batch_size=3)
    wanted = np.array([list(hashlib.sha256(text.encode()).digest()[:8]) for text in TEXTS], float)
    assert np.allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert [len(body["input"]) for body in server.bodies] == [3, 3, 1]
    assert server.bodies[0]["model"] == "m" and "Authorization" not in server.headers[0]


def test_a_vector_of_zeros_becomes_the_fixed_unit_vector(server):
    [vector] = embed.texts(["zero"], model=embed.Endpoint(server.url, "m"))
    assert np.allclose(vector, 1 / math.sqrt(8))


def test_the_key_comes_from_the_named_variable_and_is_never_shown(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    model = embed.Endpoint(server.url, "m", api_key_env="MY_KEY")
    embed.texts(["a"], model=model)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret" and "sk-secret" not in repr(model)
    server.answers = [(401, {}, b"wrong key sk-secret")]
    with pytest.raises(CallFailed) as failed:
        embed.texts(["b"], model=model)
    assert (failed.value.reason, failed.value.fatal, len(server.bodies)) == ("rejected", True, 2)
    assert "sk-secret" not in str(failed.value) + failed.value.raw


def test_errors_that_pass_are_tried_again_and_those_that_stay_are_not_hidden(server):
    model = embed.Endpoint(server.url, "m", max_attempts=3)
    server.answers = [(429, {"Retry-After": "0"}, b""), (503, {}, b"busy")]
    assert embed.texts(["a"], model=model).shape == (1, 8) and len(server.bodies) == 3
    server.answers = [(503, {}, b"busy")] * 3
    with pytest.raises(CallFailed) as failed:
        embed.texts(["b"], model=model)
    assert (failed.value.reason, failed.value.attempts) == ("server_error", 3)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>", {"error": "x"}, {"data": []}, {"data": [{"index": 0, "embedding": [1, None]}]},
        {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]},
        {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]},
        b'{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1]}]}',
    ],
)  # fmt: skip
def test_an_answer_that_is_no_list_of_vectors_is_a_bad_response_and_no_guess(server, answer):
    server.answers = [(200, {}, answer)]
    with pytest.raises(CallFailed, match="bad_response") as failed:
        embed.texts(["a", "b"], model=embed.Endpoint(server.url, "m"))
    assert failed.value.raw


def test_a_redirect_is_not_followed_with_the_key(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.answers = [(302, {"Location": server.url + "/elsewhere"}, b"")]
    with pytest.raises(CallFailed, match="302"):
        embed.texts(["a"], model=embed.Endpoint(server.url, "m"))
    assert len(server.bodies) == 1


def test_an_answer_cut_off_and_a_server_that_is_not_there_are_connection_failures(server):
    server.answers = [(200, {"Content-Length": "5000"}, b"{")] * 2
    for url in (server.url, "http://127.0.0.1:9/v1"):
        with pytest.raises(CallFailed, match="connection"):
            embed.texts(["a"], model=embed.Endpoint(url, "m", max_attempts=2, timeout_seconds=0.5))


def test_what_was_paid_for_before_a_failure_is_in_the_cache(server, tmp_path):
    model = embed.Endpoint(server.url, "m")
    server.answers = [(200, {}, None), (400, {}, b"no")]
    with pytest.raises(CallFailed, match="rejected"):
        embed.texts(TEXTS, model=model, cache=tmp_path / "c", batch_size=3)
    embed.texts(TEXTS, model=model, cache=tmp_path / "c")
    assert server.bodies[-1]["input"] == TEXTS[3:]


def test_a_server_that_changes_its_width_under_one_name_is_noticed(server, tmp_path):
    model = embed.Endpoint(server.url, "m")
    embed.texts(["a"], model=model, cache=tmp_path / "c")
    server.answers = [(200, {}, {"data": [{"index": 0, "embedding": [1, 2, 3]}]})]
    with pytest.raises(StoreError, match="two models"):
        embed.texts(["a", "b"], model=model, cache=tmp_path / "c")


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://host", "http://me:pw@host/v1", "https://host/v1?key=sk-1"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(ClientError) as refused:
        embed.Endpoint(url, "m")
    assert "pw" not in str(refused.value) and "sk-1" not in str(refused.value)


# --- sentence-transformers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    """A tiny random BERT with mean pooling, as sentence-transformers saves it, and what it itself says of TEXTS."""
    library = pytest.importorskip("sentence_transformers")
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("st")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=512, pad_token_id=0, **sizes)).save_pretrained(folder / "bert")
    tiny.make_tokenizer().save_pretrained(folder / "bert")
    model = library.SentenceTransformer(str(folder / "bert"), device="cpu")
    model.save(str(folder / "model"))
    return folder / "model", model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)


def test_a_sentence_transformers_folder_gives_what_the_library_gives_and_is_cached_by_content(sentence_model, tmp_path):
    folder, wanted = sentence_model
    cache = tmp_path / "cache.sqlite"
    vectors = embed.texts(TEXTS, model=folder, cache=cache)
    assert np.allclose(vectors, wanted, atol=1e-5) and vectors.dtype == np.float32
    assert embed.texts([], model=folder).shape == (0, 32)
    copy = shutil.copytree(folder, tmp_path / "copy")
    embed._loaded.cache_clear()
    assert embed.texts(TEXTS, model=str(copy), cache=cache).tobytes() == vectors.tobytes()
    assert embed._loaded.cache_info().misses == 0  # the same content elsewhere: nothing was even loaded
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-10:] = bytes(10)
    (copy / "model.safetensors").write_bytes(raw)
    embed.texts(TEXTS, model=copy, cache=cache)
    assert embed._loaded.cache_info().misses == 1
    with contextlib.closing(sqlite3.connect(cache)) as database:
        found = [name for (name,) in database.execute("SELECT DISTINCT model FROM vectors")]
    assert len(found) == 2 and all(name.startswith("local:") and len(name) == 18 for name in found)


def test_a_hub_name_is_its_cached_revision_and_an_unknown_one_says_what_to_do(sentence_model, tmp_path, monkeypatch):
    folder, wanted = sentence_model
    revision = "fedcba9876543210fedcba9876543210fedcba98"
    repository = tmp_path / "hub" / "models--lab--tiny-bert"
    shutil.copytree(folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert np.allclose(embed.texts(TEXTS, model="lab/tiny-bert", cache=tmp_path / "c"), wanted, atol=1e-5)
    with contextlib.closing(sqlite3.connect(tmp_path / "c")) as database:
        [(identity,)] = database.execute("SELECT DISTINCT model FROM vectors")
    assert identity == f"hub:lab/tiny-bert@{revision[:12]}"
    with pytest.raises(InputError, match="hf download lab/absent"):
        embed.texts(["a"], model="lab/absent")


def test_a_folder_that_is_no_sentence_transformers_model_or_a_broken_one_is_refused(sentence_model, tmp_path):
    with pytest.raises(InputError, match=r"no modules\.json"):
        embed.texts(["a"], model=tmp_path)
    broken = shutil.copytree(sentence_model[0], tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"cannot be loaded.*whole"):
        embed.texts(["a"], model=broken)


def test_without_sentence_transformers_the_error_says_what_to_install_and_the_default_still_works(
    sentence_model, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    embed._loaded.cache_clear()
    with pytest.raises(MissingLibrary, match=r"synthetic-data-workbench\[embed\]"):
        embed.texts(["a"], model=sentence_model[0])
    assert embed.texts(["a"]).shape == (1, 384)
