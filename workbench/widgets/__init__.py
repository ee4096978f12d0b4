"""Widgets: what plain calls do, with buttons. None has logic of its own.

console = widgets.console(run)        # a query box over the run's tables
console.rows                          # what its last query gave
view = widgets.map(found, run=run)    # a map to draw on: rows are looked at, kept, dropped, labelled
view.selection                        # the ids of the rows that are selected"""

from workbench.widgets.map_view import MapView, map
from workbench.widgets.sql_console import Console, console

__all__ = ["Console", "MapView", "console", "map"]
