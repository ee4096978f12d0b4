"""Near-duplicates by meaning: every pair of embeddings is compared."""

import os
from collections.abc import Sequence

import numpy as np

from workbench import embed
from workbench.quality.dedup.near import Best, Forest, NearDuplicates, Search, Texts, floor_of, scores_of
from workbench.quality.dedup.texts import field_text
from workbench.records import Record

_BLOCK = 2048  # rows compared with as many at once: 16 MB of cosines


def similar(
    records: Sequence[Record],
    *,
    threshold: float = 0.9,
    model: str | os.PathLike[str] | embed.Endpoint = embed.HASHING,
    cache: str | os.PathLike[str] | None = None,
    best: Best | None = None,
    fields: Sequence[str] | None = None,
) -> NearDuplicates:
    """Return a verdict per distinct id: failed where another record has nearly the same embedding, and survives.

    Two records are joined when the cosine of their embeddings is at least `threshold`; `model` and `cache` are those of
    `embed.texts`, which reads the fields as they stand, a line each. Clusters, survivors (`best`), fields, and what happens
    at 1.0 and to records without text are as in `minhash`.

    A threshold belongs to a model. The default one knows words, not meaning: its Spearman correlation with people on
    STS-B's test half is 0.68 (all-MiniLM-L6-v2: 0.82), and of that half's pairs with a cosine of 0.9 or more people
    gave 91% a 4 or 5 of 5 (the same, or but for details); at 0.8, 69%.

    Every pair is compared: exact, and time grows with the square of the rows. 10,000 texts of 50 words take about 4 s,
    100,000 two minutes of two cores and 0.3 GB (the records not counted). Raises what `minhash` and `embed.texts` raise."""
    floor = floor_of(threshold)
    texts = Texts.of(records, fields, each=lambda parts: None)
    scores = scores_of(texts.records, best)
    # In the order of their hashes, so that sums run alike and a cosine has the same bits whatever the order of the rows.
    order = np.argsort(texts.rank)
    raw = _raw(texts)
    vectors = embed.texts([raw[at] for at in order.tolist()], model=model, cache=cache)
    forest = Forest(texts.rank)
    for top in range(0, len(vectors), _BLOCK):
        for start in range(top, len(vectors), _BLOCK):
            cosines = embed.similarity(vectors[top : top + _BLOCK], vectors[start : start + _BLOCK])
            left, right = np.nonzero(np.triu(cosines, 1) >= floor if top == start else cosines >= floor)
            forest.add(order[left + top], order[right + start], cosines[left, right].astype(np.float64))
    return Search("dedup.similar", "similar", floor, texts, forest.links(), scores, lambda similarity: 1.0).at(
        threshold
    )


def _raw(texts: Texts) -> list[str]:
    """What is embedded of each text: its fields as they stand; of copies the least by code points, in any order of rows."""
    found = [""] * len(texts.first)
    for record, at in zip(texts.records, texts.text.tolist(), strict=True):
        if at >= 0:
            said = "\n".join(field_text(getattr(record, name)) for name in texts.fields).strip()
            found[at] = min(found[at] or said, said)
    return found
