"""Which records have a vector that is like another: one matrix in memory for each kind of vector."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class VectorIndex:
    """Unit vectors by record id. `stamps` says which state of each record is in."""

    def __init__(self) -> None:
        self.stamps: dict[str, Any] = {}
        # Both are replaced together and never changed, so a search in another thread sees ids that fit their rows.
        self._held: tuple[list[str], np.ndarray] = ([], np.zeros((0, 0), np.float32))

    def update(self, gone: Iterable[str], changed: Iterable[tuple[str, Any, str]]) -> None:
        """Forget some records by id, and take in others as (id, stamp, vector in JSON)."""
        ids, matrix = self._held
        new = {record: (stamp, json.loads(vector)) for record, stamp, vector in changed}
        left_out = new.keys() | gone
        kept = [at for at, record in enumerate(ids) if record not in left_out]
        ids = [ids[at] for at in kept] + list(new)
        parts = ([matrix[kept]] if kept else []) + ([unit([vector for _, vector in new.values()])] if new else [])
        order = sorted(range(len(ids)), key=ids.__getitem__)
        self._held = [ids[at] for at in order], np.vstack(parts)[order] if parts else np.zeros((0, 0), np.float32)
        for record in left_out:
            self.stamps.pop(record, None)
        self.stamps.update({record: stamp for record, (stamp, _) in new.items()})

    def scores(self, vector: Sequence[float]) -> list[tuple[str, float]]:
        """Return (record id, score) of all, best first and equals by id: 1 for the same direction, 0.5 for a right angle or a vector of
        zeros, 0 for the opposite, as Elasticsearch scores the cosine."""
        ids, matrix = self._held
        if not ids:
            return []
        scores = (1.0 + matrix @ unit([vector])[0]) / 2.0
        return [(ids[at], float(scores[at])) for at in np.argsort(-scores, kind="stable")]


def unit(vectors: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the vectors (n, d) as float32 of length 1. One of zeros stays one, and so does what is no number."""
    array = np.nan_to_num(np.array(vectors, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(array).max(axis=1, keepdims=True, initial=0.0)
    array = np.divide(array, largest, out=np.zeros_like(array), where=largest > 0)  # or the squares of 1e200 overflow
    length = np.linalg.norm(array, axis=1, keepdims=True)
    return np.divide(array, length, out=np.zeros_like(array), where=length > 0).astype(np.float32)
