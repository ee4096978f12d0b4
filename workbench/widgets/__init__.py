"""Widgets: what plain calls do, with buttons. None has logic of its own.

console = widgets.console(run)        # a query box over the run's tables
console.rows                          # what its last query gave
view = widgets.map(found, run=run)    # a map to draw on: rows are looked at, kept, dropped, labelled
view.selection                        # the ids of the rows that are selected
view = widgets.review(records, out="answers.parquet", annotator="ann")   # one record at a time, with questions
view.responses                        # what was answered
view = widgets.experiments("data/runs")   # what was run, searched for and trained: compared, and watched while it trains
view.compared                         # what is compared"""

from workbench.widgets.experiments_view import ExperimentsView, experiments
from workbench.widgets.map_view import MapView, map
from workbench.widgets.review_view import ReviewView, review
from workbench.widgets.sql_console import Console, console

__all__ = ["Console", "ExperimentsView", "MapView", "ReviewView", "console", "experiments", "map", "review"]
