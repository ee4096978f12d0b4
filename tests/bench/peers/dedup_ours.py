"""workbench: dedup.minhash or dedup.similar; the records are made before the clock starts."""

import sys
from pathlib import Path

import numpy as np

from tests.bench.peers import dedup_common as common
from workbench import embed
from workbench.quality import dedup
from workbench.records import Persona, Provenance


def main() -> None:
    records = []

    def prepare(texts: list[str], folder: Path) -> None:
        records.extend(Persona(text, provenance=Provenance("t", parents=(str(at),))) for at, text in enumerate(texts))
        if sys.argv[-1] == "similar":
            vectors = dict(zip(texts, np.load(folder / "vectors.npy"), strict=True))
            embed.texts = lambda texts, **_: np.stack([vectors[text] for text in texts])

    def removed(texts: list[str], threshold: float) -> list[int]:
        if sys.argv[-1] == "similar":
            found = dedup.similar(records, threshold=threshold)
        else:
            found = dedup.minhash(records, threshold=threshold, ngram=1)
        return [at for at, verdict in enumerate(found) if not verdict.passed]

    common.main(removed, prepare)


if __name__ == "__main__":
    main()
