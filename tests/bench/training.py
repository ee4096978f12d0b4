"""`python -m tests.bench.training [verdicts | speed | hh | curve] ...`: what the verdict says where the answer is known, what trainings cost.

verdicts    20 experiments each of a known signal, of labels by lot and of length alone; those that are done are read again
speed       seconds and memory of each method on 2 cores, and tokens/s beside TRL's own script on the same model and data
hh          one experiment on real pairs of people (needs the shared data beside the project)
curve       what 10, 100, 500 and 1,000 rows of a known signal buy

Results go to data/results/training; the folders of trainings to data/runs/bench."""

import argparse
import json
import sys
from pathlib import Path

from workbench import store
from workbench.train import compare, known
from workbench.train.trl_runs import Settings

ROOT = Path(__file__).parents[2]
RESULTS, RUNS = ROOT / "data" / "results" / "training", ROOT / "data" / "runs" / "bench"
EXPERIMENTS, PAIRS = 20, 120
# 11 steps of 8 pairs an arm and seed, at twice the default rate: enough for the signal, and 60 experiments in an hour.
PLAN = {
    "settings": Settings(learning_rate=2e-3, batch_size=8),
    "controls": ("shuffled labels", "length only", "random pairs"),
}
KINDS = {
    "signal": lambda pages, seed: known.plain_or_hedged(pages, PAIRS, seed=seed),
    "labels by lot": lambda pages, seed: known.plain_or_hedged(pages, PAIRS, right=0.5, seed=seed),
    "length": lambda pages, seed: known.longer(pages, PAIRS, seed=seed),
}


def verdicts(kinds: list[str], seeds: range) -> None:
    pages = store.documents(ROOT / "data" / "documents")
    for kind in kinds:
        for seed in seeds:
            folder = RUNS / kind.replace(" ", "-") / str(seed)
            found = compare.run(KINDS[kind](pages, seed), out=folder, plan=compare.Plan(split_seed=seed, **PLAN))
            print(kind, seed, found.findings[0], flush=True)


def collect() -> None:
    """Write what the finished experiments found, judged again by the code as it is."""
    rows = []
    for kind in KINDS:
        for folder in sorted(
            (RUNS / kind.replace(" ", "-")).glob("*/items.parquet"), key=lambda path: int(path.parent.name)
        ):
            found = compare.read(folder.parent)
            differences = {
                each["control"]: [each["difference"], each["low"], each["high"]]
                for each in found.findings[0].table().to_pylist()
                if each["is_primary"]
            }
            rows.append(
                {
                    "kind": kind,
                    "seed": int(folder.parent.name),
                    "verdict": found.verdict,
                    "reason": found.findings[0].reason,
                    "differences": differences,
                }
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "verdicts.json").write_text(json.dumps(rows, indent=1) + "\n")
    for kind in KINDS:
        said = [row["verdict"] for row in rows if row["kind"] == kind]
        print(kind, {each: said.count(each) for each in sorted(set(said))}, "of", len(said))


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("part", choices=["verdicts", "collect"])
    asked.add_argument("--kinds", nargs="*", default=list(KINDS))
    asked.add_argument("--seeds", nargs=2, type=int, default=[0, EXPERIMENTS])
    given = asked.parse_args()
    if given.part == "verdicts":
        verdicts(given.kinds, range(*given.seeds))
    collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
