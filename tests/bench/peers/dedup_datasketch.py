"""datasketch: MinHash of the words, MinHashLSH; a row goes when the index already holds one whose words are as alike.

`as documented`: a row goes when the query gives any candidate (as distilabel does it). `verified`: when the true Jaccard of
one reaches the threshold."""

import sys

from datasketch import MinHash, MinHashLSH

from tests.bench.peers import dedup_common as common


def removed(texts: list[str], threshold: float, verified: bool) -> list[int]:
    sets = [set(text.split()) for text in texts]
    index, gone = MinHashLSH(threshold=threshold, num_perm=128), []
    for at, words in enumerate(sets):
        minhash = MinHash(num_perm=128, seed=1)
        minhash.update_batch([word.encode() for word in words])
        near = index.query(minhash)
        if verified:
            near = [other for other in near if len(words & sets[other]) / len(words | sets[other]) >= threshold]
        if near:
            gone.append(at)
        else:
            index.insert(at, minhash)
    return gone


if __name__ == "__main__":
    common.main(lambda texts, threshold: removed(texts, threshold, sys.argv[-1] == "verified"))
