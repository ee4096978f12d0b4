"""Texts to unit vectors, offline by default, each text computed once.

>>> vectors = embed.texts(["a cat", "two cats", "a tax return"])
>>> embed.similarity(vectors, vectors)"""

import hashlib
import http.client
import json
import math
import os
import random
import re
import sqlite3
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from workbench.errors import CallFailed, ClientError, InputError, StoreError, require
from workbench.llm.client import key_from_environment
from workbench.records import content_hash

HASHING = "hashing-384@1"
Encode = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server's `/embeddings`; `base_url` ends before that.

    The key comes from the environment variable `api_key_env`. `dimensions` is sent where it is set."""

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    dimensions: int | None = None
    timeout_seconds: float = 120.0
    max_attempts: int = 5

    def __post_init__(self):
        parts = urlsplit(self.base_url)
        is_secret = parts.username or parts.password or parts.query or parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or is_secret:
            raise ClientError(
                "base_url must be an http(s) address without user, key or query, such as http://127.0.0.1:8000/v1; "
                "a key goes into the environment."
            )
        if not self.model:
            raise ClientError("model is empty. Name one that the server lists under GET /models.")


def texts(
    texts: Iterable[str],
    *,
    model: str | os.PathLike[str] | Endpoint = HASHING,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Return one float32 unit vector for each text, (n, d), in their order.

    `model` is "hashing-384@1", the name or folder of a sentence-transformers model (which reads a text up to its
    max_seq_length), or an `Endpoint`. A vector of zeros becomes (1, 1, ...) / sqrt(d): every row has length one.

    hashing-384@1 is *lexical*: it knows words and their pieces, and neither synonyms nor other languages. It needs no
    network, no library and no fit, and gives the same bytes on every machine. On STS-B's test half its Spearman
    correlation with people is 0.68 (all-MiniLM-L6-v2: 0.82). Unrelated texts of 20 words come out at 0.07 +- 0.12, of
    200 words at 0.22 +- 0.11: long texts share frequent pieces.

    `cache` is a SQLite file, made where there is none, keyed by the model's identity (a folder's content, a Hub
    revision, an address) and the text's SHA-256: what is in it is not computed again. Equal texts are computed once.

    Raises InputError for what is no text or an empty one, with its position, and for a model that is not there;
    StoreError for a damaged cache; CallFailed when an endpoint gives no answer."""
    given = _checked(texts)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    identity, encode = _encoder(model, batch_size)
    if not given:
        return encode([])
    unique = list(dict.fromkeys(given))
    # An endpoint's answer is written down before the next is paid for; a model here sorts a chunk by length.
    step = batch_size if isinstance(model, Endpoint) else 16 * batch_size
    with closing(_Cache(cache)) as store:
        keys = [hashlib.sha256(_bytes(text)).digest() for text in unique] if cache is not None else []
        known = store.get(identity, keys)
        vectors = np.empty((len(unique), 0), np.float32)
        missing = [place for place in range(len(unique)) if not keys or keys[place] not in known]
        for start in range(0, len(missing), step):
            places = missing[start : start + step]
            block = _unit(encode([unique[place] for place in places]))
            vectors = _sized(vectors, block.shape[1], identity)
            vectors[places] = block
            store.put(identity, [keys[place] for place in places] if keys else [], block)
        for place, key in enumerate(keys):
            if (raw := known.get(key)) is not None:
                vectors = _sized(vectors, len(raw) // 4, identity)
                vectors[place] = np.frombuffer(raw, "<f4")
    if len(unique) == len(given):
        return vectors
    at = {text: place for place, text in enumerate(unique)}
    return vectors[[at[text] for text in given]]


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `a` with each row of `b`, -1 to 1.

    Unit vectors, (n, d) and (m, d), give (n, m); one vector (d,) loses its axis. Raises InputError when d differs."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape[-1:] != b.shape[-1:] or not a.ndim or not b.ndim:
        raise InputError(f"vectors of shapes {a.shape} and {b.shape} cannot be compared. Use one model for both.")
    return np.clip(a @ b.T, -1.0, 1.0)


def _checked(given: Iterable[str]) -> list[str]:
    if isinstance(given, str):
        raise InputError("texts is one text; give a list of them: [text].")
    values = given.to_pylist() if hasattr(given, "to_pylist") else list(given)  # an Arrow column gives its own scalars
    for position, text in enumerate(values):
        if not isinstance(text, str):
            raise InputError(
                f"texts[{position}] is {text!r:.80} ({type(text).__name__}), not a text. "
                "Leave such rows out, with their reason."
            )
        if not text.strip():
            raise InputError(f"texts[{position}] is empty. Leave such rows out, with their reason.")
    return values


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, np.float64)
    if not np.isfinite(wide).all():
        raise InputError("the model gave a vector that is not finite: its weights are broken. Use another model.")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.full_like(wide, 1 / math.sqrt(max(1, wide.shape[1])))
    return np.divide(wide, lengths, out=unit, where=lengths > 0).astype(np.float32)


def _sized(vectors: np.ndarray, dimensions: int, identity: str) -> np.ndarray:
    if vectors.shape[1] == 0:
        return np.empty((len(vectors), dimensions), np.float32)
    if vectors.shape[1] != dimensions:
        raise StoreError(
            f"vectors of {identity} have {vectors.shape[1]} and {dimensions} dimensions, so they come from two models. "
            "Start a new cache file, or give the other model another name."
        )
    return vectors


def _encoder(model: str | os.PathLike[str] | Endpoint, batch_size: int) -> tuple[str, Encode]:
    """The model's identity, and a function from texts to vectors (of no texts, to (0, d))."""
    if isinstance(model, Endpoint):
        return f"{model.base_url.rstrip('/')}#{model.model}#{model.dimensions or ''}", partial(_ask, model)
    if model == HASHING:
        return HASHING, _hashed
    return _sentence_transformer(model, batch_size)


# --- hashing-384@1 --------------------------------------------------------------------------------------------------

# Frequent words that say little: a fixed list, for there is no corpus to count in.
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the and or but nor if then than so as of at by for from in into on onto to with without about over
        under up down out off is are was were be been being am do does did done has have had having will would shall
        should can could may might must i me my we us our you your he him his she her hers it its they them their this
        that these those there here what which who whom whose not no some any all each every both either neither one s
        t also just very too such only own same how when where why while because more most other""",
    )
)
# Tuned on STS-B's dev half. Multiples of a power of two, so that sums are exact in any order and on any machine.
_STOP_WEIGHT, _PIECE_WEIGHT, _PAIR_WEIGHT, _PAIR_STOP_WEIGHT, _PIECES = 1 / 8, 3 / 8, 1 / 4, 1 / 2, (3, 4, 5)
_MOST_WORDS_KEPT = 50_000  # 75 MB


def _digest(feature: str) -> bytes:
    """A feature's row of a fixed random sign matrix, as 384 bits: BLAKE2b, seeded with the model's name.

    A random projection keeps cosines to about 1 / sqrt(384) = 0.05: Achlioptas 2003, doi:10.1016/S0022-0000(03)00025-4.
    """
    return hashlib.blake2b(_bytes(feature), digest_size=48, person=HASHING.encode()).digest()


@lru_cache(_MOST_WORDS_KEPT)
def _word(word: str) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """A word's vector (384,), its digest (48,), and 1 if it is a stop word.

    The vector sums the word's own signs and, with less weight, those of its pieces of 3 to 5 characters."""
    marked = f"<{word}>"
    pieces = b"".join(_digest(f"c{marked[i : i + n]}") for n in _PIECES for i in range(len(marked) - n + 1))
    digest = np.frombuffer(_digest(f"w{word}"), np.uint8)
    bits = np.unpackbits(np.frombuffer(pieces, np.uint8).reshape(-1, 48), axis=1)
    parts = 2.0 * bits.sum(0, dtype=np.int32) - len(bits)
    is_stop = word in _STOP_WORDS
    vector = (2.0 * np.unpackbits(digest) - 1 + _PIECE_WEIGHT * parts) * (_STOP_WEIGHT if is_stop else 1)
    return vector.astype(np.float32), digest, np.float32(is_stop)


def _hashed(given: list[str]) -> np.ndarray:
    place: dict[str, int] = {}
    rows = [np.array([place.setdefault(word, len(place)) for word in _words(text)], np.int64) for text in given]
    vectors = np.zeros((len(given), 384), np.float32)
    if not place:
        return vectors
    own, digests, are_stops = (np.array(column) for column in zip(*map(_word, place), strict=True))
    for vector, words in zip(vectors, rows, strict=True):
        found, counts = np.unique(words, return_counts=True)
        vector += _often(counts) @ own[found]
        pairs, counts = np.unique(words[:-1] * len(place) + words[1:], return_counts=True)
        first, second = np.divmod(pairs, len(place))
        # The exclusive or of two words' bits is as random as either; turned by a byte, so that "a b" is not "b a".
        bits = np.unpackbits(digests[first] ^ np.roll(digests[second], 1, axis=1), axis=1)
        weights = _often(counts) * _PAIR_WEIGHT * _PAIR_STOP_WEIGHT ** (are_stops[first] + are_stops[second])
        vector += 2 * (weights @ bits.astype(np.float32)) - weights.sum()
    return vectors


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    # At most 64 characters: a run of a million (base64) is no word. Without any word, each sign is one.
    return re.findall(r"\w{1,64}", folded) or re.findall(r"\S", folded)


def _often(counts: np.ndarray) -> np.ndarray:
    """How much a word counts that stands there once, twice, ...: 1, 1.6875, ... (1 + log, to a sixteenth)."""
    return np.round((1 + np.log(counts)) * 16).astype(np.float32) / 16


# --- sentence-transformers ------------------------------------------------------------------------------------------


def _sentence_transformer(model: str | os.PathLike[str], batch_size: int) -> tuple[str, Encode]:
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "modules.json").is_file():
            raise InputError(
                f"{model} has no modules.json, so it is no sentence-transformers model. "
                "SentenceTransformer(...).save(...) makes such a folder."
            )
        found = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
        deciding = [(name, path, path.stat()) for name, path in found if not re.search(r"(^|/)\.|\.md$", name)]
        sums = [[name, _sha256(path, stat.st_size, stat.st_mtime_ns)] for name, path, stat in deciding]
        source, revision, identity = str(folder), None, f"local:{content_hash(sums)[:12]}"
    elif isinstance(model, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        hub = require("huggingface_hub", extra="embed")
        try:
            revision = Path(hub.hf_hub_download(model, "modules.json")).parent.name
        except Exception as error:
            raise InputError(
                f"there is no folder {model}, and no sentence-transformers model of that Hub id: {_first_line(error)}. "
                f"Check the name; offline, fetch it once with: hf download {model}"
            ) from error
        source, identity = model, f"hub:{model}@{revision[:12]}"
    else:
        raise InputError(
            f"there is no embedding model {model!r}. Give {HASHING!r}, the name (owner/name) or folder of a "
            "sentence-transformers model, or embed.Endpoint(...)."
        )

    def encode(given: list[str]) -> np.ndarray:
        options = {"batch_size": batch_size, "show_progress_bar": False, "convert_to_numpy": True}
        return _loaded(source, revision, identity).encode(given or ["none"], **options)[: len(given)]

    return identity, encode


@lru_cache(1)  # until another is asked for, or the same folder with other files
def _loaded(source: str, revision: str | None, identity: str) -> Any:
    library = require("sentence_transformers", extra="embed")
    bars = require("transformers", extra="embed").utils.logging
    was_on = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    here = {"local_files_only": revision is None, "trust_remote_code": False}
    try:
        return library.SentenceTransformer(source, revision=revision, **here)
    except Exception as error:
        raise InputError(
            f"the sentence-transformers model {source} cannot be loaded: {_first_line(error)}. "
            "Check that all of its files are there and whole."
        ) from error
    finally:
        if was_on:
            bars.enable_progress_bar()


@lru_cache(10_000)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")


# --- an endpoint ----------------------------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:  # it would carry the key to another host
        return None


def _ask(endpoint: Endpoint, given: list[str]) -> np.ndarray:
    """The server's vectors. Errors that may pass are tried `max_attempts` times, then raised as CallFailed."""
    if not given:
        return np.empty((0, endpoint.dimensions or 0), np.float32)
    body: dict[str, Any] = {"model": endpoint.model, "input": given, "encoding_format": "float"}
    if endpoint.dimensions:
        body["dimensions"] = endpoint.dimensions
    for attempt in range(1, endpoint.max_attempts + 1):
        try:
            return _vectors(_post(endpoint, json.dumps(body).encode()), len(given))
        except CallFailed as error:
            error.attempts = attempt
            if error.reason in ("rejected", "bad_response") or attempt == endpoint.max_attempts:
                raise
            backoff = min(60.0, 0.5 * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
            time.sleep(backoff if error.retry_after_seconds is None else error.retry_after_seconds)
    raise ClientError(f"max_attempts must be at least 1, got {endpoint.max_attempts}.")


def _post(endpoint: Endpoint, body: bytes) -> bytes:
    key = key_from_environment(endpoint.api_key_env)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(endpoint.base_url.rstrip("/") + "/embeddings", body, headers)
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))  # no proxy, as in llm.OpenAI
    try:
        with opener.open(request, timeout=endpoint.timeout_seconds) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        text = text.replace(key, "***") if key else text
        may_pass = error.code == 429 or error.code >= 500
        reason = "rate_limited" if error.code == 429 else "server_error" if may_pass else "rejected"
        said = f"{endpoint.base_url} answered {error.code}: {' '.join(text.split())[:300]}"
        failure = CallFailed(reason, said, raw=text[:4000], fatal=not may_pass)
        after = error.headers.get("Retry-After", "")
        failure.retry_after_seconds = float(after) if after.isdigit() else None
        raise failure from None
    except (OSError, http.client.HTTPException) as error:
        is_slow = isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)
        raise CallFailed("timeout" if is_slow else "connection", f"{endpoint.base_url}: {_first_line(error)}") from None


def _vectors(raw: bytes, count: int) -> np.ndarray:
    try:
        rows = sorted(json.loads(raw)["data"], key=lambda row: row["index"])
        vectors = np.array([row["embedding"] for row in rows], np.float32)
        if [row["index"] for row in rows] != list(range(count)) or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError(f"{len(rows)} vectors came for {count} texts, or they are not finite rows of one length")
    except (ValueError, KeyError, TypeError) as error:
        shown = raw[:4000].decode("utf-8", "replace")
        raise CallFailed("bad_response", f"no list of embeddings: {type(error).__name__} {error}", raw=shown) from None
    return vectors


# --- the cache ------------------------------------------------------------------------------------------------------

_APPLICATION_ID = 0x5D_57_45_31  # "SDW embeddings 1", in SQLite's header, so that a foreign file is known as one


class _Cache:
    """Vectors by (model, SHA-256 of the text), as little-endian float32; without a path, nothing is kept."""

    def __init__(self, path: str | os.PathLike[str] | None):
        self.path = None if path is None else Path(path)
        self._database: sqlite3.Connection | None = None
        if self.path is not None:
            try:
                self._database = self._open(self.path)
            except (OSError, sqlite3.Error) as error:
                raise self._explained(error) from error

    def _open(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=60)
        try:
            application = database.execute("PRAGMA application_id").fetchone()[0]
            is_new = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not is_new and application != _APPLICATION_ID:
                raise StoreError(f"{path} is a SQLite file of another program. Give the cache a path of its own.")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            if is_new:
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                columns = "model TEXT, text BLOB, vector BLOB, PRIMARY KEY (model, text)"
                database.execute(f"CREATE TABLE IF NOT EXISTS vectors ({columns})")
            return database
        except BaseException:
            database.close()
            raise

    def get(self, identity: str, keys: list[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        try:
            for start in range(0, len(keys) if self._database else 0, 500):
                some = keys[start : start + 500]
                marks = ",".join("?" * len(some))
                sql = f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})"
                found.update(self._database.execute(sql, (identity, *some)))
        except sqlite3.Error as error:
            raise self._explained(error) from error
        if not all(map(_is_whole, found.values())):
            raise self._explained(ValueError("a vector in it is damaged"))
        return found

    def put(self, identity: str, keys: list[bytes], vectors: np.ndarray) -> None:
        if self._database is None:
            return
        rows = ((identity, key, row.tobytes()) for key, row in zip(keys, vectors.astype("<f4"), strict=True))
        try:
            with self._database:
                self._database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _explained(self, error: Exception) -> StoreError:
        said = f"embedding cache {self.path}: {error}."
        if "full" in str(error) or getattr(error, "errno", None) == 28:
            return StoreError(f"{said} Free some space and run again: what was computed is kept.")
        return StoreError(
            f"{said} It holds only what can be computed again: delete it (and its -wal and -shm files), or give cache= "
            "another path in a folder that can be written."
        )


def _is_whole(raw: Any) -> bool:
    """True for the bytes of a float32 vector of length one."""
    return isinstance(raw, bytes) and len(raw) % 4 == 0 and abs(np.linalg.norm(np.frombuffer(raw, "<f4")) - 1) < 1e-3
