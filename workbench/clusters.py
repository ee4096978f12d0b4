"""A map of texts: what a set is about, in named clusters, with noise left as noise.

    found = clusters.fit(texts)                      # embeddings, UMAP, HDBSCAN; names from keywords
    found                                            # prints its clusters; found.table() is a row per text
    found = clusters.name(found, client=client)      # names by a model, from members that it is shown
    clusters.stability(found)                        # which of them come back with other seeds and fewer rows
    found.assign(["a new text"])                     # where new rows belong
    found.save("data/maps/questions"); clusters.load("data/maps/questions")

The same texts, settings and library versions give the same map, bit for bit, on one machine: the neighbours are exact, UMAP
and HDBSCAN run on one thread, and everything drawn has a seed. Another machine may round otherwise and get another map.

A cluster is where rows are dense (Campello et al. 2013, doi:10.1007/978-3-642-37456-2_14) in what UMAP (McInnes et al. 2018,
arXiv:1802.03426) keeps of who is near whom. Places that are near each other on the 2-d map are alike; distances across it,
and the sizes of gaps, mean nothing."""

import asyncio
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from workbench import _html, embed, store
from workbench._background import background_loop, close_unused, using
from workbench.errors import CallFailed, InputError, WorkbenchError, require
from workbench.llm.answers import Answer, ask
from workbench.llm.client import Client
from workbench.prompts.library import Prompt
from workbench.prompts.library import load as load_prompt
from workbench.records import Failure, content_hash

NOISE = -1
KEYWORDS = 8  # of a cluster
SHOWN_CHARACTERS = 420  # of a member that a model is shown, and kept of a description that it gives
_LONGEST_NAME = 60  # characters


@dataclass(frozen=True)
class Settings:
    """How a map is made. `min_size` is the fewest rows that a cluster has, by default sqrt(rows) / 4 and at least 5.

    `neighbors` is how many of its nearest a row is held to: more give fewer, larger clusters. `dimensions` is what UMAP
    leaves for HDBSCAN, and `min_samples` how many rows must be close for a place to be dense: more give more noise.
    A cluster of more than `max_share` of the rows is taken apart, however dense, since it would say nothing about them; 1.0
    leaves it whole, where one subject may be most of a set. `categories` is how many groups of clusters there are, by default the square root of their number.

    On Banking77 (13,083 questions of 77 kinds) 15 neighbors, 5 dimensions and 5 samples were best of 15 and 30, 5 and
    10, 5 and min_size: with noise in its nearest cluster, an adjusted Rand index of 0.38 and normalised mutual information of
    0.70 with the kinds (k-means that knows of 77: 0.26 and 0.62; random labels: 0.00 and 0.06). HDBSCAN's own default for the
    samples, min_size, joined 500 rows into 4 clusters. Without `max_share` 5,000
    personas of Persona Hub fell into those in English and the 34 others; with it, into 71 clusters, 41% noise."""

    neighbors: int = 15
    dimensions: int = 5
    min_size: int | None = None
    min_samples: int = 5
    max_share: float = 0.5
    categories: int | None = None
    seed: int = 0

    def __post_init__(self):
        least = {"neighbors": 2, "dimensions": 2, "min_size": 2, "min_samples": 1, "categories": 1, "seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            may_be_none = name in ("min_size", "categories") and value is None
            if not may_be_none and (not isinstance(value, int) or isinstance(value, bool) or value < lowest):
                raise InputError(f"Settings: {name} is a whole number of at least {lowest}, got {value!r}.")
        if self.seed >= 2**32:
            raise InputError(f"Settings: seed is below 2**32, got {self.seed}: UMAP takes no larger one.")
        if not isinstance(self.max_share, int | float) or not 0 < self.max_share <= 1:
            raise InputError(
                f"Settings: max_share is a share of the rows, above 0 and at most 1, got {self.max_share!r}."
            )

    def of(self, rows: int) -> "Settings":
        """Return the settings with `min_size` for this many rows."""
        return self if self.min_size is not None else replace(self, min_size=max(5, round(math.sqrt(rows) / 4)))


@dataclass(frozen=True)
class Cluster:
    """Rows that belong together. `keywords` tell it from the others, the most telling first; `named_by` is "keywords" or
    the prompt that asked a model, whose requests `requests` names."""

    number: int
    size: int
    category: int
    keywords: tuple[str, ...]
    name: str
    description: str = ""
    named_by: str = "keywords"
    requests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Category:
    """Clusters that are alike, by number, and the rows in them; named as a Cluster is."""

    number: int
    size: int
    clusters: tuple[int, ...]
    keywords: tuple[str, ...]
    name: str
    description: str = ""
    named_by: str = "keywords"
    requests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assigned:
    """Where new rows belong: `labels`, (m,), NOISE where they belong to none; `nearest`, (m,), the cluster that most of a
    row's neighbours are in all the same, NOISE where there is no cluster at all; `membership`, (m,), 0 to 1, how many of
    them, by nearness; `similarity`, (m,), the cosine with the nearest row of the map; `xy`, (m, 2)."""

    labels: np.ndarray
    nearest: np.ndarray
    membership: np.ndarray
    similarity: np.ndarray
    xy: np.ndarray

    def __repr__(self) -> str:
        return f"Assigned: {len(self.labels):,} rows, {(self.labels == NOISE).mean() if len(self.labels) else 0:.0%} of them noise"


@dataclass(frozen=True, eq=False, repr=False)
class Map:
    """Rows on a map: n texts with their ids, unit vectors (n, d), and `xy` (n, 2) for the eye.

    `labels`, (n,), is the number of a row's cluster, NOISE for none; `nearest`, (n,), its own cluster, or for noise the
    one that most of its neighbours are in; `membership`, (n,), 0 to 1, the share of its neighbours, by nearness, that are
    in `nearest`. `failures` are names that a model was asked for and did not give: those clusters kept their keywords.
    `least_similar` is the cosine with its nearest row that 99 in 100 rows have; `model` the embedding model, "" where
    vectors were given or an endpoint made them."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: np.ndarray
    xy: np.ndarray
    labels: np.ndarray
    nearest: np.ndarray
    membership: np.ndarray
    clusters: tuple[Cluster, ...]
    categories: tuple[Category, ...]
    settings: Settings
    least_similar: float = -1.0
    model: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def noise(self) -> float:
        """The share of rows that belong to no cluster."""
        return float((self.labels == NOISE).mean())

    @cached_property
    def sha256(self) -> str:
        """24 hex digits over where every row is and what every cluster is called."""
        named = [asdict(each) for each in (*self.clusters, *self.categories)]
        return content_hash(
            [self.ids, self.texts, [_digest(getattr(self, name)) for name in _ARRAYS], named, self.least_similar]
        )

    def members(self, number: int) -> list[int]:
        """Return the places of a cluster's rows; of NOISE, the rows of none. Raises InputError for another number."""
        if number != NOISE and not 0 <= number < len(self.clusters):
            raise InputError(f"there is no cluster {number}; there are 0 to {len(self.clusters) - 1}, and NOISE, -1.")
        return np.flatnonzero(self.labels == number).tolist()

    def table(self) -> Any:
        """Return a pyarrow table, a row per text: id, text, x, y, label, cluster and category (names, null for noise),
        nearest, membership."""
        import pyarrow as pa

        names = [*(each.name for each in self.clusters), None]  # NOISE is the last
        groups = [*(self.categories[each.category].name for each in self.clusters), None]
        return pa.table(
            {
                "id": pa.array(self.ids, pa.string()),
                "text": pa.array(self.texts, pa.string()),
                "x": self.xy[:, 0],
                "y": self.xy[:, 1],
                "label": self.labels,
                "cluster": pa.array([names[label] for label in self.labels], pa.string()),
                "category": pa.array([groups[label] for label in self.labels], pa.string()),
                "nearest": self.nearest,
                "membership": self.membership,
            }
        )

    def assign(self, texts: Sequence[str] | None = None, *, vectors: np.ndarray | None = None) -> Assigned:
        """Return where new rows belong, by the rows of the map that are nearest to them; the map stays as it is.

        Its `settings.neighbors` nearest rows vote, each by one over its squared distance, noise among them: so a row that
        is on the map gets the label it has, unless more rows than that are just like it. A row less like its nearest than 99 in 100 rows of the map are like theirs is
        noise. Give `vectors`, (m, d), where the map was made of vectors. Raises InputError when they do not fit."""
        if (texts is None) == (vectors is None):
            raise InputError("assign takes texts or vectors=, one of the two.")
        if vectors is None:
            if not self.model:
                raise InputError(
                    "this map was made of vectors or by an endpoint, and knows no model. Give vectors= of the same one."
                )
            vectors = embed.texts(texts, model=self.model)
        new = _checked(vectors, None)
        if new.shape[1] != self.vectors.shape[1]:
            raise InputError(
                f"the map has vectors of {self.vectors.shape[1]} numbers, and these have {new.shape[1]}. Use one model for both."
            )
        places, similar = _nearest(new, self.vectors, min(self.settings.neighbors, len(self)))
        labels, nearest, membership = _voted(places, similar, self.labels, len(self.clusters))
        weights = _weights(similar)
        xy = np.einsum("mk,mkd->md", weights / weights.sum(axis=1, keepdims=True), self.xy[places])
        similarity = similar.max(axis=1, initial=-1.0)
        labels[similarity < self.least_similar] = NOISE
        return Assigned(labels, nearest, membership, similarity, xy.astype(np.float32))

    # --- files

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write rows.parquet, vectors.npy and map.json, and return the folder. Raises StoreError where it cannot."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = Path(folder)
        table = self.table().select(["id", "text", "x", "y", "label", "nearest", "membership"])
        with store.atomically(folder / "rows.parquet") as temporary:
            pq.write_table(table.cast(pa.schema(table.schema)), temporary)
        with store.atomically(folder / "vectors.npy") as temporary, temporary.open("wb") as file:
            np.save(file, self.vectors, allow_pickle=False)
        about = {
            "settings": asdict(self.settings),
            "least_similar": self.least_similar,
            "model": self.model,
            "libraries": dict(self.libraries),
            "clusters": [asdict(each) for each in self.clusters],
            "categories": [asdict(each) for each in self.categories],
            "failures": [asdict(each) for each in self.failures],
        }
        about["sha256"] = _sealed(self, about)
        with store.atomically(folder / "map.json") as temporary:
            temporary.write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
        return folder

    # --- how it looks

    @property
    def _title(self) -> str:
        return f"{len(self):,} rows in {len(self.clusters):,} clusters, {self.noise:.0%} noise"

    @property
    def _about(self) -> str:
        made = f"{len(self.categories):,} categories; {self.model or 'vectors given'}, seed {self.settings.seed}"
        asked = Counter(each.named_by for each in (*self.clusters, *self.categories))
        named = ", ".join(f"{count:,} named by {how}" for how, count in asked.most_common())
        return "; ".join(filter(None, [made, named]))

    @property
    def _warning(self) -> str:
        if not self.clusters:
            return "No cluster: no place is dense enough. Give more rows, or a smaller min_size or min_samples."
        said = []
        if self.noise >= _MUCH_NOISE and self.settings.max_share < 1:
            said.append(
                f"{self.noise:.0%} of the rows are in no cluster. Where one subject is more than {self.settings.max_share:.0%} of them, "
                "Settings(max_share=1.0) keeps it whole; a smaller min_samples leaves less noise."
            )
        if self.failures:
            first = self.failures[0]
            said.append(
                f"{len(self.failures):,} names were not given and are keywords; the first: {first.reason}: {first.detail}"
            )
        return " ".join(said)

    @property
    def _rows(self) -> list[tuple[int, str, int, str, str]]:
        largest = sorted(self.clusters, key=lambda each: (-each.size, each.number))[:_MOST_SHOWN]
        return [
            (each.number, each.name, each.size, self.categories[each.category].name, ", ".join(each.keywords[:4]))
            for each in largest
        ]

    def __repr__(self) -> str:
        lines = [f"Map: {self._title}", f"  {self._about}", *([f"  {self._warning}"] if self._warning else [])]
        return "\n".join([*lines, _html.text_table(_COLUMNS, self._rows, len(self.clusters))])

    def _repr_html_(self) -> str:
        table = _html.html_table(_COLUMNS, self._rows, len(self.clusters))
        return _html.card(self._title, self._about, table, warning=self._warning)


_COLUMNS = ("cluster", "name", "rows", "category", "keywords")
_MOST_SHOWN = 20
_MUCH_NOISE = 0.4
_ARRAYS = ("vectors", "xy", "labels", "nearest", "membership")


def _digest(array: np.ndarray) -> str:
    return sha256(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _sealed(found: Map, about: Mapping[str, Any]) -> str:
    """A hash of the map and of all that map.json says of it, which JSON gives back as it was."""
    return content_hash([found.sha256, orjson.loads(orjson.dumps(about))])


def load(folder: str | os.PathLike[str]) -> Map:
    """Return the map of a folder. Raises InputError for one that is not whole, or was changed since it was saved."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    try:
        about = orjson.loads((folder / "map.json").read_bytes())
        sealed = about.pop("sha256")
        rows = pq.read_table(folder / "rows.parquet")
        column = lambda name: rows.column(name).to_numpy()
        found = Map(
            tuple(rows.column("id").to_pylist()),
            tuple(rows.column("text").to_pylist()),
            np.load(folder / "vectors.npy", allow_pickle=False),
            np.column_stack([column("x"), column("y")]),
            column("label").copy(),
            column("nearest").copy(),
            column("membership").copy(),
            tuple(Cluster(**_tuples(each)) for each in about["clusters"]),
            tuple(Category(**_tuples(each)) for each in about["categories"]),
            Settings(**about["settings"]),
            float(about["least_similar"]),
            about["model"],
            about["libraries"],
            tuple(Failure(**_tuples(each)) for each in about["failures"]),
        )
        is_whole = _sealed(found, about) == sealed
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        WorkbenchError,
        pa.ArrowException,
    ) as error:
        raise InputError(
            f"{folder} holds no whole map ({type(error).__name__}: {str(error)[:200]}). Save it again with Map.save()."
        ) from error
    if not is_whole:
        raise InputError(f"the map in {folder} is not the one that was saved: a file was changed. Save it again.")
    return found


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


# --- making a map -----------------------------------------------------------------------------------------------------


def fit(
    texts: Sequence[str],
    *,
    ids: Sequence[str] = (),
    vectors: np.ndarray | None = None,
    model: str | os.PathLike[str] | embed.Endpoint = embed.HASHING,
    settings: Settings = Settings(),
) -> Map:
    """Return the map of the texts, clusters named by keywords.

    `ids`, (n,), are the rows' own, kept as text, by default "0", "1", ...; `vectors`, (n, d), are the texts' where they are there
    already, else `model` makes them (`embed.texts`). Raises InputError for fewer than 2 * min_size rows (10 by default),
    for vectors that are not finite, not as many as the texts, or zero, and for ids that are there twice. Takes about 7 s
    of one core for 3,000 rows and 22 s for 10,000, after 10 s to compile; memory grows with the rows, not their square."""
    if isinstance(texts, str):
        raise InputError("texts is one text; give a list of them.")
    texts = tuple(texts)
    if odd := [at for at, text in enumerate(texts) if not isinstance(text, str)]:
        raise InputError(
            f"texts[{odd[0]}] is {texts[odd[0]]!r:.80}, not a text. Leave such rows out, with their reason."
        )
    settings = settings.of(len(texts))
    if len(texts) < 2 * settings.min_size:
        raise InputError(
            f"{len(texts):,} rows are too few for clusters of at least {settings.min_size}: there must be twice as many. "
            "Give more rows, or a smaller Settings(min_size=...)."
        )
    ids = tuple(map(str, ids)) or tuple(map(str, range(len(texts))))
    if len(ids) != len(texts) or len(set(ids)) < len(ids):
        raise InputError(f"{len(texts):,} texts and {len(set(ids)):,} distinct ids. Give each text an id of its own.")
    name = "" if vectors is not None or isinstance(model, embed.Endpoint) else os.fspath(model)
    unit = _checked(embed.texts(texts, model=model) if vectors is None else vectors, len(texts))
    places, similar = _nearest(unit, unit, min(settings.neighbors, len(unit) - 1) + 1)
    labels = _clustered(_embedded(unit, places, similar, settings), settings)
    xy = _embedded(unit, places, similar, settings, for_the_eye=True)
    count = int(labels.max(initial=NOISE)) + 1
    others, near = _without_self(places, similar)
    _, nearest, _ = _voted(others, near, labels, count)
    nearest = np.where(labels == NOISE, nearest, labels).astype(np.int32)
    if count and (lost := np.flatnonzero(nearest == NOISE)).size:
        nearest[lost] = (unit[lost] @ _centres(unit, labels, count).T).argmax(axis=1)
    membership = _share(others, near, labels, nearest)
    category = _categories(_centres(unit, labels, count), settings.categories)
    clusters, categories = _named_by_keywords(texts, labels, category)
    least = float(np.quantile(near[:, 0], 0.01)) - 1e-6  # for rounding
    return Map(
        ids, texts, unit, xy, labels, nearest, membership, clusters, categories, settings, least, name, _libraries()
    )


def _checked(vectors: np.ndarray, rows: int | None) -> np.ndarray:
    given = np.asarray(vectors, np.float32)
    if given.ndim != 2 or (rows is not None and len(given) != rows):
        wanted = "(m, d)" if rows is None else f"({rows:,}, d)"
        raise InputError(f"vectors must be {wanted}, one for each row, got {given.shape}.")
    lengths = np.linalg.norm(given.astype(np.float64), axis=1, keepdims=True)
    if (bad := np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))).size:
        raise InputError(
            f"the vector of row {bad[0]:,} is not finite or is zero ({bad.size:,} of {len(given):,} are). "
            "Leave such rows out, with their reason."
        )
    return np.ascontiguousarray((given / lengths).astype(np.float32))


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("umap-learn", "hdbscan", "numba", "numpy", "scikit-learn")}


def _one_thread() -> Any:
    """Sums in another order give other bits, and more threads add in another order."""
    return require("threadpoolctl", extra="clusters").threadpool_limits(1)


def _nearest(rows: np.ndarray, among: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the `count` most similar of `among` to each row, and their cosines, (m, count) each, nearest first.

    Exact; equal cosines in the order of their places."""
    library = require("sklearn.neighbors", extra="clusters")
    if not len(rows):
        return np.empty((0, 1), np.int64), np.empty((0, 1), np.float32)
    with _one_thread():
        tree = library.NearestNeighbors(n_neighbors=min(count, len(among)), algorithm="brute").fit(among)
        distances, places = tree.kneighbors(rows)
    similar = (1 - distances.astype(np.float32) ** 2 / 2).astype(np.float32)  # of unit vectors
    order = np.lexsort((places, -similar), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(similar, order, 1)


def _without_self(places: np.ndarray, similar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of each row but itself; of many that are just like it, the last stands for it."""
    is_self = places == np.arange(len(places))[:, None]
    is_self[:, -1] |= ~is_self.any(axis=1)
    shape = (len(places), places.shape[1] - 1)
    return places[~is_self].reshape(shape), similar[~is_self].reshape(shape)


def _embedded(
    unit: np.ndarray, places: np.ndarray, similar: np.ndarray, settings: Settings, *, for_the_eye: bool = False
) -> np.ndarray:
    """What UMAP makes of the neighbours: (n, dimensions), or (n, 2) with some room between rows for the eye."""
    umap = require("umap", extra="clusters")
    others, near = _without_self(places, similar)
    # UMAP counts the row itself as the first of its neighbours.
    indices = np.column_stack([np.arange(len(unit)), others])[:, : settings.neighbors]
    distances = np.sqrt(np.maximum(0, 2 - 2 * np.column_stack([np.ones(len(unit), np.float32), near])))
    distances = np.ascontiguousarray(distances[:, : settings.neighbors], np.float32)
    dimensions = 2 if for_the_eye else min(settings.dimensions, len(unit) - 2)
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and that neighbours given allow no transform
        model = umap.UMAP(
            n_neighbors=indices.shape[1],
            n_components=dimensions,
            min_dist=0.1 if for_the_eye else 0.0,
            random_state=settings.seed,
            n_jobs=1,
            precomputed_knn=(np.ascontiguousarray(indices), distances, None),
            force_approximation_algorithm=True,
            # The spectral start needs more rows than dimensions, and rows that differ.
            init="spectral" if len(unit) > 2 * dimensions + 2 and distances.max() > 1e-3 else "random",
        )
        return np.ascontiguousarray(model.fit_transform(unit), np.float32)


def _clustered(places: np.ndarray, settings: Settings) -> np.ndarray:
    """Labels by HDBSCAN, (n,), numbered by the size of the cluster, the largest 0; NOISE for rows of none."""
    hdbscan = require("hdbscan", extra="clusters")
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = hdbscan.HDBSCAN(
            min_cluster_size=settings.min_size,
            min_samples=min(settings.min_samples, len(places) - 1),
            max_cluster_size=int(settings.max_share * len(places)) if settings.max_share < 1 else 0,  # 0 is no limit
            core_dist_n_jobs=1,
        ).fit_predict(places.astype(np.float64))
    sizes = Counter(found[found >= 0].tolist())
    number = {label: at for at, (label, _) in enumerate(sorted(sizes.items(), key=lambda each: (-each[1], each[0])))}
    return np.array([number.get(label, NOISE) for label in found.tolist()], np.int32)


def _weights(similar: np.ndarray) -> np.ndarray:
    return 1 / (np.maximum(0, 2 - 2 * similar.astype(np.float64)) + 1e-6)


def _voted(
    places: np.ndarray, similar: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row the label with most votes among its neighbours, NOISE among them; the cluster with most; and its share."""
    weights, votes = _weights(similar), np.zeros((len(places), count + 1))  # NOISE is the last column
    np.add.at(votes, (np.arange(len(places))[:, None], labels[places]), weights)
    labelled = np.where(votes.argmax(axis=1) == count, NOISE, votes.argmax(axis=1)).astype(np.int32)
    if not count:
        return labelled, labelled.copy(), np.zeros(len(places), np.float32)
    best = votes[:, :count].argmax(axis=1)
    share = votes[np.arange(len(places)), best] / weights.sum(axis=1)
    return labelled, np.where(share > 0, best, NOISE).astype(np.int32), share.astype(np.float32)


def _share(places: np.ndarray, similar: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    weights = _weights(similar)
    is_in = (labels[places] == wanted[:, None]) & (wanted[:, None] != NOISE)
    return ((weights * is_in).sum(axis=1) / weights.sum(axis=1)).astype(np.float32)


def _centres(unit: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The mean direction of each cluster, (count, d)."""
    sums = np.array([unit[labels == number].sum(axis=0, dtype=np.float64) for number in range(count)])
    sums = sums.reshape(count, unit.shape[1])
    return sums / np.maximum(1e-12, np.linalg.norm(sums, axis=1, keepdims=True))


def _categories(centres: np.ndarray, wanted: int | None) -> np.ndarray:
    """The category of each cluster, (clusters,), numbered in the order they come: Ward's tree of the centres, cut."""
    count = min(wanted or round(math.sqrt(len(centres))), len(centres))
    if count <= 1 or len(centres) < 2:
        return np.zeros(len(centres), np.int64)
    hierarchy = require("scipy.cluster.hierarchy", extra="clusters")
    with _one_thread():
        found = hierarchy.fcluster(hierarchy.linkage(centres, "ward"), count, "maxclust").tolist()
    order = {label: at for at, label in enumerate(dict.fromkeys(found))}
    return np.array([order[label] for label in found])


# --- names from keywords ----------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_](?:[\w'’-]*\w)?")
_STOP = frozenset(
    "a about above after again all also am an and any are aren't as at be because been before being below between both "  # noqa: SIM905
    "but by can can't cannot could did didn't do does doesn't doing don't down during each even every few for from further "
    "get gets getting give given go goes going got had has have haven't having he her here hers him his how however i i'd "
    "i'll i'm i've if in into is isn't it it's its itself just know like made make makes many may me might more most much "
    "must my need needs no nor not now of off on once one only or other our ours out over own per please rather same she "
    "should so some such take than that that's the their theirs them then there these they they're this those through to "
    "too under until up upon us use used uses using very via want wants was we we're were what what's when where which "
    "while who whom whose why will with within without won't would yes yet you you're your yours".split()
)


def _terms(text: str) -> list[str]:
    """The words of a text that say something, and those two by two that stand side by side."""
    said = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    telling = [word if word not in _STOP and len(word) > 1 else "" for word in said]
    pairs = [f"{one} {other}" for one, other in pairwise(telling) if one and other and one != other]
    return [*filter(None, telling), *pairs]


def keywords(texts: Sequence[str], labels: Sequence[int], *, count: int = KEYWORDS) -> dict[int, tuple[str, ...]]:
    """Return the most telling words and pairs of words of each label but NOISE, at most `count`, the most telling first.

    By class-based TF-IDF: a term's share of the cluster's terms, times log(1 + mean terms of a cluster / how often the
    term is said in all) (Grootendorst 2022, arXiv:2203.05794). A term counts once in a text, and must be in two texts
    where the cluster has three or more; of terms that begin alike (card, cards, card payment) the first is kept. English
    function words are left out; a cluster that says nothing else has the words that its first text begins with."""
    of: dict[int, Counter[str]] = {}
    first: dict[int, str] = {}
    sizes: Counter[int] = Counter()
    for text, label in zip(texts, labels, strict=True):
        if label != NOISE:
            of.setdefault(int(label), Counter()).update(dict.fromkeys(_terms(text), 1))
            first[int(label)] = first.get(int(label)) or " ".join(text.split()[:4])[:40]
            sizes[int(label)] += 1
    everywhere: Counter[str] = Counter()
    for counts in of.values():  # their sum() would copy what is there for each of them
        everywhere.update(counts)
    mean = everywhere.total() / max(1, len(of))
    found = {}
    for label, counts in sorted(of.items()):
        least, total = 2 if sizes[label] > 2 else 1, counts.total()
        scores = {
            term: said / total * math.log(1 + mean / everywhere[term]) for term, said in counts.items() if said >= least
        }
        kept: dict[str, set[str]] = {}
        for term in sorted(scores, key=lambda term: (-scores[term], term)):
            stems = {word[:5] for word in term.split()}
            if len(kept) < count and not any(stems & other for other in kept.values()):
                kept[term] = stems
        found[label] = tuple(kept) or (first[label] or "no text",)
    return found


def _named_by_keywords(
    texts: Sequence[str], labels: np.ndarray, category: np.ndarray
) -> tuple[tuple[Cluster, ...], tuple[Category, ...]]:
    said = keywords(texts, labels.tolist())
    of_row = np.where(labels == NOISE, NOISE, category[labels] if len(category) else NOISE)
    said_of_category = keywords(texts, of_row.tolist())
    names = _distinct([", ".join(said[number][:3]) for number in sorted(said)], [said[n] for n in sorted(said)])
    groups = sorted(said_of_category)
    group_names = _distinct([", ".join(said_of_category[g][:2]) for g in groups], [said_of_category[g] for g in groups])
    sizes = Counter(labels.tolist())
    clusters = tuple(Cluster(n, sizes[n], int(category[n]), said[n], names[n]) for n in sorted(said))
    held = lambda group: tuple(each.number for each in clusters if each.category == group)
    categories = tuple(
        Category(group, sum(sizes[n] for n in held(group)), held(group), said_of_category[group], group_names[group])
        for group in groups
    )
    return clusters, categories


def _distinct(names: Sequence[str], keywords: Sequence[Sequence[str]]) -> list[str]:
    """The names, where one is there twice with a keyword that it has not, else a number, behind the later ones."""
    taken: set[str] = set()
    found = []
    for name, words in zip(names, keywords, strict=True):
        more = [f"{name} ({word})" for word in words if word.lower() not in name.lower()]
        choices = [name, *more, *(f"{name} ({at})" for at in range(2, len(names) + 2))]
        found.append(next(choice for choice in choices if choice.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


# --- names by a model -------------------------------------------------------------------------------------------------

Named = TypeVar("Named", Cluster, Category)


def name(
    found: Map,
    *,
    client: Client,
    prompt: Prompt | None = None,
    category_prompt: Prompt | None = None,
    members: int = 10,
    concurrency: int = 16,
) -> Map:
    """Return the map with a name and a description from a model for every cluster, then for every category.

    Of each cluster the model sees `members` distinct texts, drawn without replacement by the map's seed, its keywords, and
    two texts of each of the three clusters nearest to it, to tell it from; of a category, its clusters and the other
    categories'. A name that is given twice gets a keyword behind it. What fails, after one repair, keeps its keywords for a
    name and is one of the map's `failures`; a client that was set up wrong or has spent its budget raises. With
    llm.Ledger(client, path) a second call asks nothing again."""
    if members < 1 or concurrency < 1:
        raise InputError(f"members and concurrency must be 1 or more, got {members} and {concurrency}.")
    prompt = prompt or load_prompt("cluster/name@1")
    category_prompt = category_prompt or load_prompt("cluster/category@1")
    centres = _centres(found.vectors, found.labels, len(found.clusters))
    similar = centres @ centres.T - 2 * np.eye(len(centres))
    # Where clusters are few: all the others.
    near = np.argsort(-similar, axis=1, kind="stable")[:, : min(3, max(0, len(centres) - 1))]
    shown = [_drawn(found, each.number, members) for each in found.clusters]
    given = [
        {
            "members": _listed(shown[each.number]),
            "keywords": ", ".join(each.keywords),
            "others": _listed([text for other in near[each.number] for text in shown[other][:2]]) or "(none)",
        }
        for each in found.clusters
    ]
    clusters, failures = _ask_all(client, prompt, given, found.clusters, concurrency)
    about = lambda number: (
        f"{clusters[number].name}: {clusters[number].description or ', '.join(clusters[number].keywords)}"
    )
    given = [
        {
            "clusters": _listed([about(number) for number in each.clusters]),
            "others": _listed(
                [clusters[n].name for other in found.categories if other != each for n in other.clusters[:5]]
            )
            or "(none)",
        }
        for each in found.categories
    ]
    categories, more = _ask_all(client, category_prompt, given, found.categories, concurrency)
    return replace(found, clusters=clusters, categories=categories, failures=(*failures, *more))


def _drawn(found: Map, number: int, count: int) -> list[str]:
    texts = list(dict.fromkeys(" ".join(found.texts[place].split()) for place in found.members(number)))
    places = np.random.default_rng([found.settings.seed, number]).permutation(len(texts))[:count]
    return [
        text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
        for text in (texts[p] for p in places)
    ]


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"{at}. {text}" for at, text in enumerate(texts, 1))


def _ask_all(
    client: Client, prompt: Prompt, given: Sequence[Mapping[str, str]], named: Sequence[Named], concurrency: int
) -> tuple[tuple[Named, ...], list[Failure]]:
    answers = _together(
        client, [lambda values=values: ask(client, prompt, values, check=_wrong_name) for values in given], concurrency
    )
    results, failures = [], []
    for each, answer in zip(named, answers, strict=True):
        if isinstance(answer, Answer):
            description = " ".join(answer["description"].split())[:SHOWN_CHARACTERS]
            own = {"name": " ".join(answer["name"].split()), "description": description}
            keys = tuple(completion.key for completion in answer.completions if completion.key)
            results.append(replace(each, named_by=prompt.id, requests=keys, **own))
        else:
            results.append(each)
            what = f"{type(each).__name__.lower()} {each.number}"
            failures.append(replace(answer, detail=f"{what}: {answer.detail}"))
    names = _distinct([each.name for each in results], [each.keywords for each in results])
    return tuple(replace(each, name=own) for each, own in zip(results, names, strict=True)), failures


def _wrong_name(values: Mapping[str, Any]) -> Failure | None:
    text = values["name"].strip()
    if not text.isprintable() or len(text) > _LONGEST_NAME or not any(map(str.isalnum, text)):
        return Failure("name", f"a name is one line of 1 to {_LONGEST_NAME} characters that show, got {text[:100]!r}")
    return None


def _together(
    client: Client, asks: Sequence[Callable[[], Awaitable[Answer | Failure]]], concurrency: int
) -> list[Answer | Failure]:
    """What all of them give, in their order; a call that fails, unless no other can succeed either, as a Failure."""

    async def drive() -> list[Answer | Failure]:
        gate, own = asyncio.Semaphore(concurrency), getattr(client, "client", client)
        using[id(own)] += 1

        async def one(work: Callable[[], Awaitable[Answer | Failure]]) -> Answer | Failure:
            async with gate:
                try:
                    return await work()
                except CallFailed as error:
                    if error.fatal:
                        raise
                    return Failure(
                        error.reason, error.detail, raw=error.raw, requests=(error.key,) if error.key else ()
                    )

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(work)) for work in asks]
        except* Exception as errors:
            raise errors.exceptions[0] from None
        finally:
            await close_unused(own)
        return [task.result() for task in tasks]

    future = asyncio.run_coroutine_threadsafe(drive(), background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # nothing that nobody waits for must go on
        raise


# --- stability --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Stability:
    """How far a map's clusters come back. `runs` holds a row per run: what was changed ("seed", "rows"), its seed, rows,
    clusters, the share of noise, and the adjusted Rand index (1 the same, 0 by chance) with the map over the shared rows,
    noise as a cluster of its own, and over those that both have in a cluster.

    `clusters` holds for each cluster the mean, over all runs, of its best Jaccard overlap with a cluster of the run; Hennig
    2007 (doi:10.1016/j.csda.2006.11.025) calls 0.75 and more stable, and below 0.5 dissolved."""

    runs: tuple[tuple[str, int, int, int, float, float, float], ...]
    clusters: tuple[float, ...]
    names: tuple[str, ...]

    def _mean(self, what: str) -> str:
        values = [row[5] for row in self.runs if row[0] == what]
        return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "not run"

    @property
    def _title(self) -> str:
        return f"adjusted Rand index {self._mean('seed')} with other seeds, {self._mean('rows')} with fewer rows"

    @property
    def _about(self) -> str:
        stable, gone = sum(value >= 0.75 for value in self.clusters), sum(value < 0.5 for value in self.clusters)
        return (
            f"of {len(self.clusters):,} clusters {stable:,} are stable (0.75 and more), {gone:,} dissolve (below 0.5)"
        )

    def table(self) -> Any:
        """Return a pyarrow table, a row per run."""
        import pyarrow as pa

        return pa.table({name: [row[at] for row in self.runs] for at, name in enumerate(_RUN)})

    def __repr__(self) -> str:
        return f"Stability: {self._title}\n  {self._about}\n{_html.text_table(_RUN, self.runs)}"

    def _repr_html_(self) -> str:
        worst = sorted(zip(self.clusters, self.names, strict=True))[:5]
        least = _html.html_table(("least stable", "overlap"), [(name, f"{value:.2f}") for value, name in worst])
        runs = [[f"{value:.2f}" if isinstance(value, float) else value for value in row] for row in self.runs]
        return _html.card(self._title, self._about, _html.html_table(_RUN, runs) + (least if worst else ""))


_RUN = ("changed", "seed", "rows", "clusters", "noise", "ari", "ari_of_clustered")


def stability(found: Map, *, draws: int = 3, share: float = 0.8) -> Stability:
    """Return how far clusters come back: `draws` times with another seed, and `draws` times with a `share` of the rows.

    Rows are drawn without replacement, since a row that is there twice is a neighbour of itself; `min_size` shrinks with
    them. Each run takes about half as long as the map did. Raises InputError for no draws, and for a share
    that is not below 1 or leaves too few rows."""
    if draws < 1 or not 0 < share < 1:
        raise InputError(f"draws must be 1 or more, and share between 0 and 1, got {draws} and {share}.")
    size, fewer = round(share * len(found)), max(2, round(share * found.settings.min_size))
    if size < 2 * fewer:
        raise InputError(
            f"a share of {share:g} leaves {size:,} of {len(found):,} rows, too few for clusters of {fewer}. Give a larger one."
        )
    rows, overlaps = [], []
    everyone = np.arange(len(found))
    for draw in range(2 * draws):
        seed = found.settings.seed + 1 + draw
        settings, kept = replace(found.settings, seed=seed), everyone
        if draw >= draws:
            drawn = np.random.default_rng(seed).permutation(len(found))[:size]
            kept, settings = np.sort(drawn), replace(settings, min_size=fewer)
        unit = found.vectors[kept]
        places, similar = _nearest(unit, unit, min(settings.neighbors, len(unit) - 1) + 1)
        labels = _clustered(_embedded(unit, places, similar, settings), settings)
        before = found.labels[kept]
        both = (labels != NOISE) & (before != NOISE)
        aris = adjusted_rand(before, labels), adjusted_rand(before[both], labels[both])
        noise = float((labels == NOISE).mean())
        rows.append(
            ("rows" if draw >= draws else "seed", seed, len(kept), int(labels.max(initial=NOISE)) + 1, noise, *aris)
        )
        overlaps.append([_best_overlap(before == each.number, labels) for each in found.clusters])
    mean = np.nanmean(np.array(overlaps), axis=0) if found.clusters else np.empty(0)
    return Stability(tuple(rows), tuple(mean.tolist()), tuple(each.name for each in found.clusters))


def _best_overlap(is_member: np.ndarray, labels: np.ndarray) -> float:
    """The largest Jaccard similarity of a cluster with one of these; NaN when none of its rows was drawn."""
    if not is_member.any():
        return math.nan
    shared = Counter(labels[is_member & (labels != NOISE)].tolist())
    overlap = lambda label, count: count / (is_member.sum() + (labels == label).sum() - count)
    return max((float(overlap(label, count)) for label, count in shared.items()), default=0.0)


def adjusted_rand(a: Sequence[int], b: Sequence[int]) -> float:
    """Return how far two labellings of the same rows agree: 1 the same, 0 as by chance, below 0 less.

    Hubert and Arabie 1985, doi:10.1007/BF01908075. Labels may be any numbers, and NOISE is one of them."""
    if len(a) != len(b):
        raise InputError(f"{len(a):,} labels and {len(b):,}: they must be of the same rows.")
    two = lambda counts: float(sum(int(count) * (int(count) - 1) // 2 for count in counts))
    cells = Counter(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    rows, columns, total = (
        two(Counter(a for a, _ in cells.elements()).values()),
        two(Counter(b for _, b in cells.elements()).values()),
        two([len(a)]),
    )
    expected = rows * columns / total if total else 0.0
    most = (rows + columns) / 2
    return 1.0 if most == expected else (two(cells.values()) - expected) / (most - expected)
