"""Duplicates: which records say the same, and which one of them stays.

    found = dedup.minhash(records, threshold=0.8, best=lambda record: record.score)
    found.clusters, found.borderline(), found.at(0.9)

`exact` finds the same text, `minhash` texts that share most of their words, `similar` texts that mean the same. Of
every group one survives; each other one gets a failed verdict that names it. Never both of a pair: distilabel 1.5.3
drops every row that has a neighbour, and so both of two near-duplicates. `minhash` and `similar` join exact copies
too. To run one after another, or after other checks, give it what those kept, or let `best` rank what they failed last:
else a record that survives here and fails there takes its whole cluster along."""

from workbench.quality.dedup.exact_copies import Duplicates, exact
from workbench.quality.dedup.groups import Removed, by_kind
from workbench.quality.dedup.minhashing import minhash
from workbench.quality.dedup.near import NearDuplicates
from workbench.quality.dedup.similarity import similar
from workbench.quality.dedup.texts import KEYS, normalise

__all__ = ["KEYS", "Duplicates", "NearDuplicates", "Removed", "by_kind", "exact", "minhash", "normalise", "similar"]
