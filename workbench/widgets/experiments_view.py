"""Experiments beside each other: chosen from a list, compared, and watched while they train."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import plots
from workbench._html import escaped
from workbench.errors import InputError, require
from workbench.experiments import Compared, Experiment, Experiments, at, compare, find, steps
from workbench.widgets._parts import STYLE, attempt, said

SECONDS = 2.0  # between two looks at what is unfinished
_COMPARE, _CURVES = "Compare", "Curves"
_STEP_COLUMNS = 8  # of a table of steps, before its metrics
_HINT = "Choose two experiments or more to compare, or trainings for their curves: Ctrl or Shift selects several."


def experiments(root: str | Path) -> "ExperimentsView":
    """Return a list of the experiments below a folder, to compare what is chosen and to see it train. Plain calls do the same:

        found = experiments.compare("runs/a", "runs/b")
        plots.differences(found, of=found.experiments)
        plots.training_curves(experiments.steps("runs/a", "runs/b"), of=found.experiments)

    While something that is chosen is unfinished, what is shown is read again every 2 seconds, until `view.close()`. Raises
    InputError when there is no such folder."""
    return ExperimentsView(root)


class ExperimentsView:
    """What `experiments` returns: `found` is the table as it was last read, `chosen` the chosen ones, `compared` what the
    Compare view shows, None where it shows nothing; `box` is the widget, `figure` its plot once there is one."""

    def __init__(self, root: str | Path):
        widgets = require("ipywidgets", extra="notebook")
        self.root, self.found = Path(root), find(root)
        self.compared: Compared | None = None
        self.figure: Any = None
        self._figure_json = ""
        self._turn = threading.RLock()  # clicks and the watching thread take turns
        self._setter: int | None = None  # the thread whose changes are its own, and no click
        self._is_watched, self._closed = False, threading.Event()

        full, narrow = {"width": "auto"}, {"description_width": "initial"}
        self.list_box = widgets.SelectMultiple(
            options=self._options(), rows=min(12, max(4, len(self.found))), layout=full
        )
        self.view_box = widgets.ToggleButtons(options=[_COMPARE, _CURVES], style={"button_width": "90px"})
        self.baseline_box = widgets.Dropdown(description="baseline", style=narrow)
        self.metric_box = widgets.Dropdown(description="metric", options=["loss"], style=narrow)
        self.refresh_button = widgets.Button(description="Refresh", layout={"width": "auto"})
        self.refresh_button.on_click(lambda _: self.refresh())
        for each in (self.list_box, self.view_box, self.baseline_box, self.metric_box):
            each.observe(lambda _: self._setter == threading.get_ident() or self.show(), names="value")
        self._head, self._said, self._shown = (widgets.HTML() for _ in range(3))
        controls = widgets.HBox(
            [self.view_box, self.baseline_box, self.metric_box, self.refresh_button],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        self._place = widgets.VBox()  # of the figure
        self.box = widgets.VBox([self._head, self.list_box, controls, self._shown, self._place, self._said])
        self._head.value = self._header()
        self.show()

    @property
    def chosen(self) -> tuple[Experiment, ...]:
        """The chosen experiments, in the list's order."""
        return tuple(one for one in self.found if one.id in self.list_box.value)

    @property
    def is_live(self) -> bool:
        """True while something that is chosen is unfinished, so that it is read again and again."""
        return not self._closed.is_set() and any(one.status == "unfinished" for one in self.chosen)

    def select(self, *ids: str) -> None:
        """Choose these experiments, and no others. Raises InputError for an id that is not in the list."""
        if odd := [each for each in ids if each not in {one.id for one in self.found}]:
            raise InputError(
                f"there is no experiment {odd[0]!r} below {self.root}. Refresh the list, or look at view.found."
            )
        self.list_box.value = ids

    def refresh(self) -> None:
        """Read the folder again, and show what is chosen as it is now."""
        self._attempt(lambda: self._take(find(self.root)))
        self._watch()

    def show(self) -> None:
        """Show what is chosen in the view that is chosen, or why that cannot be; watch it while it is unfinished."""
        self._attempt(lambda: None)
        self._watch()

    def close(self) -> None:
        """Close the widget, and end what watches for it."""
        self._closed.set()
        self.box.close()

    # --- what is shown

    def _attempt(self, first: Callable[[], None]) -> None:
        with self._turn:
            try:
                self._said.value = attempt(lambda: first() or self._drawn())
            except Exception as error:  # in a thread and in a callback nobody would see it
                self._said.value = said(f"{type(error).__name__}: {error}", kind="sdw-error")

    def _drawn(self) -> str:
        """Draw the view that is chosen, and return what is said below it."""
        is_compared = self.view_box.value == _COMPARE
        self.baseline_box.layout.display = "" if is_compared else "none"
        self.metric_box.layout.display = "none" if is_compared else ""
        self._offer(self.baseline_box, [(one.folder.name or one.name, one.id) for one in self.chosen])
        self.compared, shown, figure, told = None, "", None, said(_HINT)
        try:  # what was shown before is of others, so nothing of it stays when this ends badly
            if self.chosen:
                shown, figure, told = self._comparison() if is_compared else self._curves()
        finally:
            self._shown.value = shown
            self._draw(figure)
        return told

    def _comparison(self) -> tuple[str, Any, str]:
        """The tables, the plot, and what is said below them."""
        names = [repr(str(one.folder)) for one in self.chosen]
        baseline = self.found[self.baseline_box.value]
        also = "" if baseline is self.chosen[0] else f", baseline={str(baseline.folder)!r}"
        call = f"found = experiments.compare({', '.join(names)}{also})"
        self.compared = found = compare(*self.chosen, baseline=baseline)
        if all(low is None for low in found.differences["low"]):
            return found._repr_html_(), None, said(self._note(), call)
        call += "\nplots.show(plots.differences(found, of=found.experiments), found.sentence)"
        return found._repr_html_(), plots.differences(found, of=found.experiments), said(self._note(), call)

    def _curves(self) -> tuple[str, Any, str]:
        """No table, the plot, and what is said below it."""
        folders = [str(one.folder) for one in self.chosen]
        logged = steps(*folders)
        self._offer(self.metric_box, logged.columns[_STEP_COLUMNS:])
        metric = self.metric_box.value
        call = f"""logged = experiments.steps({", ".join(map(repr, folders))})
found = [experiments.at(folder) for folder in ({", ".join(map(repr, folders))},)]
plots.show(plots.training_curves(logged, metric={metric!r}, of=found))"""
        return "", plots.training_curves(logged, metric=metric, of=self.chosen), said(self._note(), call)

    def _offer(self, box: Any, options: list[Any]) -> None:
        """Put the options into a box; what was chosen among them stays so."""
        with self._setting():
            if list(box.options) != options:
                values = [option[1] if isinstance(option, tuple) else option for option in options]
                before, box.options = box.value, options
                box.value = before if before in values else next(iter(values), None)

    def _draw(self, figure: Any) -> None:
        """Draw a figure in the place of the one before; none for None. One widget for all: each new one weighs 5 MB."""
        drawn = "" if figure is None else figure.to_json()
        if drawn == self._figure_json:
            return
        self._figure_json = drawn
        # Its place is hidden, and it stays in it: taken off the page, it would not hear what changes.
        self._place.layout.display = "none" if figure is None else ""
        if figure is None:
            return
        if self.figure is None:
            require("anywidget", extra="notebook")
            self.figure = require("plotly.graph_objects", extra="notebook").FigureWidget(figure)
            self._place.children = [self.figure]
            return
        with self.figure.batch_update():
            self.figure.data = ()
            self.figure.add_traces(figure.data)
            self.figure.layout = figure.layout

    def _note(self) -> str:
        names = [one.folder.name or one.name for one in self.chosen if one.status == "unfinished"]
        return f"{', '.join(names)}: unfinished, read again every {SECONDS:.0f} s." if names else ""

    def _header(self) -> str:
        rows = f"{len(self.found):,} experiment{'' if len(self.found) == 1 else 's'} below {self.root}"
        skipped = "; ".join(f"{folder}: {why}" for folder, why in self.found.skipped[:3])
        more = f"; and {len(self.found.skipped) - 3:,} more" if len(self.found.skipped) > 3 else ""
        fault = said(f"could not be read: {skipped}{more}", kind="sdw-error") if skipped else ""
        return f"{STYLE}<div class='sdw'><b>{escaped(rows)}</b></div>{fault}"

    # --- what is there

    def _options(self) -> list[tuple[str, str]]:
        """A line an experiment: where it is, what it is, how it stands, what it scored."""
        rows = self.found.table().to_pylist()
        shown = lambda row: "no score" if row["score"] is None else f"{row['score']:.3f}"
        return [
            (" · ".join([row["folder"], row["name"], row["kind"], row["status"], shown(row)]), row["id"])
            for row in rows
        ]

    def _take(self, found: Experiments) -> None:
        """Put the table that was read in the place of the one before; what was chosen stays so."""
        chosen, self.found = self.list_box.value, found
        known = {one.id for one in found}
        with self._setting():
            if list(self.list_box.options) != (options := self._options()):
                self.list_box.options = options
                self.list_box.value = [each for each in chosen if each in known]
        self._head.value = self._header()

    @contextmanager
    def _setting(self) -> Iterator[None]:
        before, self._setter = self._setter, threading.get_ident()
        try:
            yield
        finally:
            self._setter = before

    # --- what goes on

    def _watch(self) -> None:
        """Begin to watch what is unfinished, where nobody does."""
        with self._turn:
            if self._is_watched or not self.is_live:
                return
            self._is_watched = True
        threading.Thread(target=self._look, name="experiments", daemon=True).start()

    def _look(self) -> None:
        """Read again what is chosen and unfinished until nothing is, or the widget is closed."""
        while not self._closed.wait(SECONDS) and self.box.comm is not None:
            self._attempt(self._read_unfinished)
            with self._turn:
                if not self.is_live:
                    self._is_watched = False
                    return

    def _read_unfinished(self) -> None:
        ids = {one.id for one in self.chosen if one.status == "unfinished"}
        new = [replace(at(one.folder), folder=one.folder) if one.id in ids else one for one in self.found]
        self._take(replace(self.found, items=tuple(new)))

    def __repr__(self) -> str:
        return f"Experiments below {self.root}: {len(self.found):,}, {len(self.chosen):,} chosen"

    def _repr_mimebundle_(self, **options: Any) -> Mapping[str, Any]:
        # The text is what is seen where no widget can be drawn, as on GitHub.
        return {**self.box._repr_mimebundle_(**options), "text/plain": repr(self)}
