"""Plots: a table or a run in, a plotly figure out.

    plots.show(plots.waterfall(run))
    plots.show(plots.proportions(shares, what="Rows verified", of=run), "98% of the rows are verified.")

Titles are computed from the data; n and 95% intervals are drawn; what is tested is blue and controls are grey, with
labels beside their marks; paper is transparent, and text a grey that reads on white and on black. `of` names the run,
runs or records that the numbers come from, so that what the offline rules made says so; None where there are none."""

from workbench._html import ACCENT, GREY
from workbench.plots.diversity import coverage, dedup_sweep, gains, removed, saturation
from workbench.plots.drawing import OFFLINE_NOTE, percent
from workbench.plots.judges import agreement, by_gap
from workbench.plots.learning import learning_curve
from workbench.plots.maps import data_map
from workbench.plots.searches import curves, repeats
from workbench.plots.shares import Scores, Share, forest, proportions, spread, waterfall
from workbench.plots.showing import png, show, svg
from workbench.plots.trainings import arms, differences, training_curves

__all__ = [
    "ACCENT", "GREY", "OFFLINE_NOTE", "Scores", "Share", "agreement", "arms", "by_gap", "coverage", "curves", "data_map", "dedup_sweep", "differences",
    "forest", "gains", "learning_curve", "percent", "png", "proportions", "removed", "repeats", "saturation", "show", "spread", "svg", "training_curves", "waterfall",
]  # fmt: skip
