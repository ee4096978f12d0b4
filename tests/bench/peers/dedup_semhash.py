"""semhash: approximate search in embeddings, here those of our default embedder, read from a file and not timed."""

import numpy as np
from semhash import SemHash

from tests.bench.peers import dedup_common as common


def main() -> None:
    vectors = {}

    class Known:
        def encode(self, texts, **_):
            return np.stack([vectors[text] for text in texts])

    def removed(texts: list[str], threshold: float) -> list[int]:
        place = {text: at for at, text in enumerate(texts)}
        found = SemHash.from_records(records=texts, model=Known()).self_deduplicate(threshold=threshold)
        return [place[each.record] for each in found.filtered]

    def prepare(texts: list[str], folder) -> None:
        vectors.update(zip(texts, np.load(folder / "vectors.npy"), strict=True))

    common.main(removed, prepare)


if __name__ == "__main__":
    main()
