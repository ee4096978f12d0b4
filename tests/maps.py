"""A map made of places on paper, without UMAP: clusters in rows, some rows of none, and texts with markup in them."""

import numpy as np

from tests.kinds import EVIL
from workbench import runner
from workbench.clusters import NOISE, Category, Cluster, Map, Settings
from workbench.llm import Scripted
from workbench.records import Instruction

NAMES = (
    "bread, oven",
    "river, flood",
    "queue, worker",
    "loan, bank",
    "<b>bold</b>, $x$",
    "tooth, jaw",
    "wool, loom",
    "sail, mast",
)


def texts(rows):
    """What each row says: its number, and markup in every fifth."""
    return [f"Text {at} of {NAMES[at % len(NAMES)]} {EVIL if at % 5 == 0 else ''}".strip() for at in range(rows)]


def made(rows=200, *, ids=(), count=8, seed=0):
    """A map of `count` clusters and one row in eleven of none."""
    rng = np.random.default_rng(seed)
    labels = np.where(np.arange(rows) % 11 == 10, NOISE, np.arange(rows) % count).astype(np.int32)
    centres = np.column_stack(
        [np.cos(2 * np.pi * np.arange(count) / count), np.sin(2 * np.pi * np.arange(count) / count)]
    )
    xy = (
        6 * centres[np.arange(rows) % count]
        + rng.standard_normal((rows, 2)) * np.where(labels == NOISE, 4, 0.8)[:, None]
    )
    names = [NAMES[at % len(NAMES)] + (f" {at // len(NAMES)}" if at >= len(NAMES) else "") for at in range(count)]
    sizes = [int((labels == at).sum()) for at in range(count)]
    clusters = [Cluster(at, sizes[at], at % 2, tuple(names[at].split(", ")), names[at]) for at in range(count)]
    categories = [
        Category(at, sum(sizes[at::2]), tuple(range(at, count, 2)), ("a",), ("even", "odd")[at]) for at in range(2)
    ]
    return Map(
        tuple(ids) or tuple(f"row-{at}" for at in range(rows)), tuple(texts(rows)), np.eye(2, dtype=np.float32)[[0] * rows],
        xy.astype(np.float32), labels, (np.arange(rows) % count).astype(np.int32), rng.random(rows).astype(np.float32),
        tuple(clusters), tuple(categories), Settings(),
    )  # fmt: skip


async def make(number, client):
    return [Instruction(f"Text {number}", output="done")]


def run(folder, rows=200):
    """A run of as many records, and its map."""
    done = runner.run(make, range(rows), client=Scripted(""), out=folder, options=runner.Options(progress=False))
    return done, made(rows, ids=[record.id for record in done.records])


# In a page, whether the first map in it has drawn its dots.
HAS_DOTS = """() => {
    const canvas = document.querySelector('.sdw-map canvas');
    if (!canvas?.width) return false;
    const copy = document.createElement('canvas');
    [copy.width, copy.height] = [canvas.width, canvas.height];
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, copy.width, copy.height);
    let seen = 0;
    for (let at = 3; at < data.length; at += 4) seen += data[at] > 0;
    return seen > 500;
}"""
