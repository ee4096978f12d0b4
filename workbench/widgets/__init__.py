"""Widgets: what plain calls do, with buttons. None has logic of its own.

console = widgets.console(run)        # a query box over the run's tables
console.rows                          # what its last query gave"""

from workbench.widgets.sql_console import Console, console

__all__ = ["Console", "console"]
