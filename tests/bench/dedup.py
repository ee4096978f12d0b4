"""`python -m tests.bench.dedup [rows]`: how long near-duplicates take in 100,000 texts of 50 words, beside other tools,
and what 1,000,000 of them take here.

One row in ten is an edit of another row. The truth is the true Jaccard similarity of a row's words with those of the row it
was made from; "wrong" are rows removed that are as near to no other, "missed" rows that should have gone and are there.
Every tool runs in a process of its own, the peers in environments made on the first run; embeddings are made before."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.__main__ import ROOT, Failed, Tool, interpreter
from workbench import embed

LARGE = 1_000_000
WORDS, VOCABULARY, THRESHOLD = 50, 30_000, 0.8
TOOLS = [
    (Tool("workbench, minhash", "dedup_ours"), "minhash"),
    (Tool("datasketch, verified by us", "dedup_datasketch", ("datasketch==2.0.0",)), "verified"),
    (Tool("datasketch, as documented", "dedup_datasketch", ("datasketch==2.0.0",)), "plain"),
    (Tool("text-dedup", "dedup_text_dedup", ("text-dedup==0.4.0", "setuptools<81")), "minhash"),
    (Tool("workbench, similar", "dedup_ours"), "similar"),
    (Tool("semhash", "dedup_semhash", ("semhash==0.5.0",)), "similar"),
]


def made(rows: int) -> tuple[list[str], dict[int, int]]:
    """Texts in a random order, and for each edited copy the place of its original."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(10, VOCABULARY + 10)  # Zipf's law, without its first ten words
    bounds = np.cumsum(chances / chances.sum())
    words = np.searchsorted(bounds[:-1], rng.random((rows, WORDS)))
    copies = rng.permutation(rows)[: rows // 5]
    pairs = dict(zip(copies[::2].tolist(), copies[1::2].tolist(), strict=False))
    for copy, original in pairs.items():
        words[copy] = words[original]
        changed = rng.integers(0, 13)  # from the same text to a Jaccard similarity of about 0.6
        words[copy, rng.permutation(WORDS)[:changed]] = rng.integers(0, VOCABULARY, changed)
    return [" ".join(f"w{word}" for word in row) for row in words.tolist()], pairs


def measured(tool: Tool, way: str, folder: Path, threshold: float) -> dict:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    command = [interpreter(tool), "-m", f"tests.bench.peers.{tool.module}", str(folder), str(threshold), way]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=1800)
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["no message"])[-1][:160])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(
        f"{'tool':30}{'rows':>10}{'s':>8}{'CPU s':>8}{'MB':>8}{'of these before':>17}{'removed':>9}{'wrong':>7}{'missed':>8}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for size in (rows, LARGE if rows == 100_000 else 10 * rows):
            texts, pairs = made(size)
            (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
            sets = {at: set(texts[at].split()) for pair in pairs.items() for at in pair}
            alike = {(a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs.items()}
            if size == rows:
                vectors = embed.texts(texts)
                np.save(folder / "vectors.npy", vectors)
            cosine = {(a, b): float(vectors[a] @ vectors[b]) for a, b in pairs.items()} if size == rows else {}
            for tool, way in TOOLS if size == rows else TOOLS[:1]:
                threshold, truth = (0.9, cosine) if way == "similar" else (THRESHOLD, alike)
                true = {pair for pair, value in truth.items() if value >= threshold}
                try:
                    found = measured(tool, way, folder, threshold)
                except (Failed, subprocess.TimeoutExpired) as reason:
                    print(f"{tool.name:30}{size:10,}  {reason}")
                    continue
                gone = set(found["removed"])
                missed = sum(not gone & set(pair) for pair in true)
                wrong = len(gone) - (len(true) - missed)
                figures = f"{found['seconds']:8.1f}{found['cpu_seconds']:8.1f}{found['peak_mb']:8,.0f}{found['before_mb']:17,.0f}"
                print(f"{tool.name:30}{size:10,}{figures}{len(gone):9,}{wrong:7,}{missed:8,}", flush=True)


if __name__ == "__main__":
    main()
