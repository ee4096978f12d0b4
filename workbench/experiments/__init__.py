"""Experiments: every generation run, search for a prompt and training as one table, and one against another.

    found = experiments.find("data/runs")
    found.query("SELECT name, model, cost, score FROM experiments WHERE status = 'finished' ORDER BY score DESC")
    experiments.compare(found[0], found[1])               # what differs, what that changed, and what cannot be told
    plots.training_curves(experiments.steps("data/runs/dpo"), of=None)    # while it trains, too

No database stands beside the folders, so nothing can disagree with them: what is deleted is gone, and what is moved is
found where it is. A generation run says in run.json what it was made with, and its shards, verdicts and ledger say the
rest; every other experiment is a folder with an experiment.json, by `write`."""

from workbench.experiments.comparing import Compared, compare
from workbench.experiments.differing import is_lower_better
from workbench.experiments.progress import CONTROLS, STEPS, logged, steps
from workbench.experiments.reading import (
    FILE,
    GENERATION,
    OPTIMIZATION,
    TRAINING,
    Experiment,
    Experiments,
    at,
    find,
    read,
    write,
)

__all__ = [
    "CONTROLS", "FILE", "GENERATION", "OPTIMIZATION", "STEPS", "TRAINING", "Compared", "Experiment", "Experiments", "at", "compare", "find",
    "is_lower_better", "logged", "read", "steps", "write",
]  # fmt: skip
