"""The map to draw on: rows are looked at, found, kept, dropped, labelled and sent to review."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from workbench import store
from workbench._colours import Shades, shades
from workbench._html import GREY, escaped
from workbench.clusters import NOISE, Map
from workbench.errors import InputError, require
from workbench.quality import Verdicts, by_hand
from workbench.runs import Run
from workbench.widgets._parts import STYLE, attempt, grid, said

_SHOWN_ROWS, _SHOWN_VALUES, _SHOWN_WORDS = 50, 12, 6
_CARD_CHARACTERS, _NAME_CHARACTERS = 400, 40
_NO_CLUSTER = "in no cluster"
_NO_COLOURS = ("id", "text", "x", "y", "label", "nearest")  # of a map's table: no column that says something by colour
_MEMORY = (
    "In memory only: give run= to widgets.map, or put them into a run's folder with by_hand.add(view.decisions, run)."
)
# The names on the dots are a picture, which knows no theme: dark with a light edge, and in a dark page the other way round.
_MAP_STYLE = """<style>
body[data-jp-theme-light="false"] .sdw-map canvas + canvas { filter: invert(1) }
.sdw-map .sdw-grid td { max-width: 260px }
.sdw-map .sdw-grid td:first-child { min-width: 200px; overflow-wrap: anywhere }
.sdw-map .widget-html-content { width: 100%; min-width: 0 }
</style>"""
_UNDONE = {"keep": "kept", "drop": "dropped", "label": "labelled"}


def map(
    found: Map,
    *,
    run: Run | None = None,
    color: str = "cluster",
    columns: Any = None,
    on_review: Callable[[Any], Any] | None = None,
) -> "MapView":
    """Return a map to pan, zoom and draw on, with a table of the selected rows, and buttons that keep, drop and label them.
    Plain calls do the same:

        view.select(ids); view.search("text"); view.selection; view.selected
        by_hand.drop(view.selection, run); by_hand.label(view.selection, run, "teacher")

    What is decided goes into the folder of `run` at once; without one it is `view.decisions`, in memory. `color` is a column
    of the map's table or of `columns`, which are a dict, table or query's rows: matched by `id` where they have one, else a
    row for each of the map's, in its order. `on_review` takes the selected records, without a run their ids.

    Raises RecordError when a row of the map is no record of the run, and InputError for columns that do not fit."""
    return MapView(found, run, color, columns, on_review)


class MapView:
    """What `map` returns: `found` and `run` as given, `table` the rows with all their columns, `decisions` what was decided by
    hand, `before` what the records of the last click or undo had before it, `box` the widget, `scatter` its dots."""

    def __init__(self, found: Map, run: Run | None, color: str, columns: Any, on_review: Callable[[Any], Any] | None):
        library, widgets = require("jscatter", extra="notebook"), require("ipywidgets", extra="notebook")
        if run is not None:
            by_hand.check_ids(found.ids, run)
        self.found, self.run, self.on_review = found, run, on_review
        self.table = _with_columns(found.table(), columns)
        self.decisions = Verdicts((), "by_hand") if run is None else by_hand.decided(run)
        self.before = Verdicts((), "by_hand")
        self._places = {each: at for at, each in enumerate(found.ids)}
        self._chosen = np.empty(0, np.int64)  # places, in the map's order
        self._clicks: list[tuple[str, tuple[str, ...], Verdicts]] = []
        self._is_drawing = False
        self._shades = {
            name: shades(self.table.column(name), found.xy, name=name)
            for name in self.table.column_names
            if name not in _NO_COLOURS
        }
        if color not in self._shades:
            raise InputError(
                f"no column {color!r} to colour by; there are {', '.join(self._shades)}. Add it by columns=."
            )

        self._frame = _frame(found, self._shades)
        self.scatter = _scatter(library, self._frame, found)
        self.scatter.widget.observe(self._hear, names="selection")
        self._make_controls(widgets, color)
        self.box = self._laid_out(widgets)
        self.color(color)
        self._show_rows()
        self._show_chosen()

    def _make_controls(self, widgets: Any, color: str) -> None:
        def button(text: str, work: Callable[[], None]) -> Any:
            made = widgets.Button(description=text, layout={"width": "auto"})
            made.on_click(lambda _: work())
            return made

        self.color_box = widgets.Dropdown(
            options=list(self._shades), value=color, description="colour", style={"description_width": "initial"}
        )
        self.color_box.observe(lambda change: self.color(change["new"]), names="value")
        self.cluster_box = widgets.Dropdown(
            options=_cluster_options(self.found), description="cluster", style={"description_width": "initial"}
        )
        self.cluster_box.observe(lambda change: self.pick(change["new"]), names="value")
        self.search_box = widgets.Text(placeholder="search the texts", continuous_update=False)
        self.search_box.observe(lambda change: self.search(change["new"]), names="value")
        self.find_button = button("Find", lambda: self.search(self.search_box.value))
        self.label_box = widgets.Text(placeholder="teacher")
        self.dropped_box = widgets.Checkbox(description="show dropped rows", indent=False)
        self.dropped_box.observe(lambda _: self._show_rows(), names="value")

        self.keep_button, self.drop_button = button("Keep", self.keep), button("Drop", self.drop)
        self.label_button, self.undo_button = button("Label", self.label), button("Undo", self.undo)
        self.send_button = button("Send to review", self.send)
        if self.on_review is None:
            self.send_button.disabled = True
            self.send_button.tooltip = f"Give widgets.map on_review=, a function of {self._review_what}."
        self._count, self._rows, self._legend, self._said = (widgets.HTML() for _ in range(4))
        for each, width in (
            (self.color_box, "220px"), (self.cluster_box, "300px"), (self.search_box, "220px"),
            (self.label_box, "150px"), (self.dropped_box, "160px"),
        ):  # fmt: skip
            each.layout.width = width

    def _laid_out(self, widgets: Any) -> Any:
        wrapped = {"flex_flow": "row wrap", "align_items": "center"}
        box = widgets.VBox([
            widgets.HTML(_header(self.found, self.run)),
            widgets.HBox([self.color_box, self.cluster_box, self.search_box, self.find_button], layout=wrapped),
            # No HBox: in a flex box the dots shrink to a sliver.
            widgets.GridBox(
                [self.scatter.show(), widgets.VBox([self._count, self._rows], layout={"min_width": "0", "overflow": "hidden"})],
                layout={"grid_template_columns": "minmax(0,3fr) minmax(0,2fr)", "grid_gap": "12px", "width": "100%"},
            ),
            self._legend,
            widgets.HBox(
                [self.keep_button, self.drop_button, self.label_box, self.label_button, self.undo_button,
                 self.dropped_box, self.send_button], layout=wrapped,
            ),
            self._said,
        ])  # fmt: skip
        box.add_class("sdw-map")
        return box

    # --- what is selected

    @property
    def selection(self) -> tuple[str, ...]:
        """The ids of the selected rows, in the map's order."""
        return tuple(self.found.ids[at] for at in self._chosen)

    @property
    def selected(self) -> pa.Table:
        """The selected rows, in the map's order, with all their columns."""
        return self.table.take(pa.array(self._chosen))

    def select(self, ids: Iterable[str]) -> None:
        """Select these rows and no others, on the map too. Raises InputError for an id that is not on the map."""
        ids = [ids] if isinstance(ids, str) else list(ids)
        if odd := [each for each in ids if each not in self._places]:
            raise InputError(
                f"{len(odd):,} of {len(ids):,} ids are not on the map, such as {odd[0]!r}. Its ids: found.ids."
            )
        self._choose(np.array(sorted({self._places[each] for each in ids}), np.int64))

    def pick(self, number: int | None) -> None:
        """Select the rows of a cluster that are shown, by its number; NOISE those of none; None changes nothing."""
        if number is not None:
            self._choose_shown(np.array(self.found.members(number), np.int64), "are in it")

    def search(self, text: str) -> int:
        """Select the rows that are shown and have `text` in theirs, in capitals or not, and return how many those are."""
        wanted = text.strip().casefold()
        texts = self.found.texts if wanted else ()
        places = np.array([at for at, each in enumerate(texts) if wanted in each.casefold()], np.int64)
        return self._choose_shown(
            places, f"have {text.strip()!r} in their text" if wanted else "match: nothing is searched for"
        )

    def _choose_shown(self, places: np.ndarray, what: str) -> int:
        is_hidden = self._is_dropped[places] & (not self.dropped_box.value)
        hidden = f", and {is_hidden.sum():,} more that are dropped and not shown" if is_hidden.any() else ""
        self._choose(places[~is_hidden])
        self._said.value = said(f"{len(self._chosen):,} of {len(self.found):,} rows {what}{hidden}.")
        return len(self._chosen)

    def _choose(self, places: np.ndarray) -> None:
        self._chosen = places
        self._draw_chosen()
        self._show_chosen()

    def _hear(self, change: Mapping[str, Any]) -> None:
        """What was drawn around or clicked, in the order it is drawn in."""
        if self._is_drawing:
            return
        self._chosen = np.unique(np.asarray([] if change["new"] is None else change["new"], np.int64))
        self._show_chosen()

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        self._is_drawing = True
        try:
            yield
        finally:
            self._is_drawing = False

    def _draw_chosen(self) -> None:
        """Mark the selected rows on the map. Filtering unmarks them there and tells nobody, so they are unmarked first: what
        the map is thought to show already would not be sent."""
        with self._drawing():
            self.scatter.selection([])
            self.scatter.selection(self._chosen)

    # --- what is decided

    def keep(self) -> None:
        """Keep the selected rows."""
        self._decide("keep")

    def drop(self) -> None:
        """Drop the selected rows: they vanish from the map and from run.kept()."""
        self._decide("drop")

    def label(self, name: str | None = None) -> None:
        """Call the selected rows `name`, by default what is typed into the box."""
        self._decide("label", self.label_box.value if name is None else name)

    def undo(self) -> None:
        """Take back the last click, and select its rows: they have again what they had before."""

        def work() -> str:
            if not self._clicks:
                raise InputError("nothing was decided on this map. What was decided before: by_hand.undo(ids, run).")
            verb, ids, before = self._clicks.pop()
            self.decisions, self.before = by_hand.undo(ids, self._where, to=before), before
            self._show_rows()
            self.select(ids)
            had = len({each.record_id for each in before})
            again = f"; {had:,} have again what they had before" if had else ""
            also = ", to=view.before" if had else ""
            return self._told(f"{len(ids):,} rows are not {_UNDONE[verb]} any more{again}", "undo", also)

        self._said.value = attempt(work)

    def _decide(self, verb: str, *name: str) -> None:
        def work() -> str:
            ids = self.selection
            if not ids:
                raise InputError("no row is selected. Draw around some, search, pick a cluster, or view.select(ids).")
            older = self.decisions if self.run is None else by_hand.decided(self.run)
            chosen = set(ids)
            before = Verdicts([each for each in older if each.record_id in chosen], "by_hand")
            self.decisions, self.before = getattr(by_hand, verb)(ids, self._where, *name), before
            self._clicks.append((verb, ids, before))
            self._show_rows()
            self._show_chosen()
            as_what = "".join(f" as {each.strip()!r}" for each in name)
            return self._told(f"{len(ids):,} rows {_UNDONE[verb]}{as_what}", verb, as_what.replace(" as", ",", 1))

        self._said.value = attempt(work)

    @property
    def _where(self) -> Run | Verdicts:
        return self.decisions if self.run is None else self.run

    def _told(self, what: str, verb: str, also: str) -> str:
        if self.run is not None:
            return said(f"{what}. {self._so_far}, in the run's folder.", f"by_hand.{verb}(view.selection, run{also})")
        call = f"decisions = by_hand.{verb}(view.selection, decisions{also})"
        return said(f"{what}. {self._so_far}. {_MEMORY}", call)

    @property
    def _so_far(self) -> str:
        """What is decided by now, the most frequent first."""
        counts = Counter(_word(each) for each in self.decisions).most_common()
        more = [f"{len(counts) - _SHOWN_WORDS:,} more labels"] if len(counts) > _SHOWN_WORDS else []
        return ", ".join([*(f"{count:,} {word}" for word, count in counts[:_SHOWN_WORDS]), *more]) or "0 decided"

    # --- review

    @property
    def _review_what(self) -> str:
        return "the ids of the selected rows" if self.run is None else "the selected records"

    def send(self) -> None:
        """Give the selected records to `on_review`, without a run their ids, and show what it returned, or why it failed."""

        def work() -> str:
            if self.on_review is None:
                raise InputError(f"nobody to send to. Give widgets.map on_review=, a function of {self._review_what}.")
            if not self.selection:
                raise InputError("no row is selected, so there is nothing to send.")
            wanted = self._records()
            try:
                answer = self.on_review(wanted)
            except Exception as error:  # of somebody else's function; nobody would see it
                return said(f"Not sent: {type(error).__name__}: {error}", kind="sdw-error")
            told = f"{len(wanted):,} sent" + ("" if answer is None else f": {answer}")
            return said(told, f"on_review({'records' if self.run else 'view.selection'})")

        self._said.value = attempt(work)

    def _records(self) -> list[Any]:
        """The selected records; without a run their ids."""
        if self.run is None:
            return list(self.selection)
        by_id = {record.id: record for record in self.run.records}
        return [by_id[each] for each in self.selection]

    # --- what is shown

    def color(self, name: str) -> None:
        """Colour the rows by a column. Raises InputError for one that is not there."""
        if name not in self._shades:
            raise InputError(f"no column {name!r} to colour by; there are {', '.join(self._shades)}.")
        shaded = self._shades[name]
        used = [shaded.colours[slot] for slot in np.unique(shaded.slots)]
        other = "membership" if name in ("cluster", "category") else name  # which the card has anyway
        values = self.table.column(other).to_pylist()
        self._frame["value"] = [f"{other}: {_short(value)}" for value in values]  # the card reads its row as it opens
        self.scatter.color(by=_shade_column(self._shades, name), map=used)
        self.color_box.value = name
        self._legend.value = _legend(name, shaded)
        self._show_chosen()

    @property
    def _is_dropped(self) -> np.ndarray:
        """(n,), the rows that a person dropped."""
        dropped = {each.record_id for each in self.decisions if not each.passed}
        return np.array([each in dropped for each in self.found.ids], bool)

    def _show_rows(self) -> None:
        """Hide the dropped rows, or show them again."""
        shown = np.flatnonzero(~self._is_dropped)
        if self.dropped_box.value or len(shown) == len(self.found):
            self.scatter.filter(None)
        else:
            # A map that is drawn anew takes an empty filter for none. No row has this number.
            self.scatter.filter(shown if len(shown) else [len(self.found)])
        self._draw_chosen()

    def _show_chosen(self) -> None:
        """The table beside the map: the first selected rows, and what was decided about them."""
        count = len(self._chosen)
        first = f", the first {_SHOWN_ROWS}" if count > _SHOWN_ROWS else ""
        self._count.value = said(f"{count:,} of {len(self.found):,} rows selected{first}:" if count else (
            "No row is selected. Draw around some: the toolbar beside the map has a lasso and a box."
        ))  # fmt: skip
        if not count:
            self._rows.value = ""
            return
        shown = self.table.take(pa.array(self._chosen[:_SHOWN_ROWS]))
        words: dict[str, list[str]] = {}
        for each in self.decisions:
            words.setdefault(each.record_id, []).append(_word(each))
        decided = pa.array([", ".join(words.get(each, ())) for each in shown.column("id").to_pylist()], pa.string())
        names = dict.fromkeys(["text", "cluster", self.color_box.value])
        rows = shown.select(list(names)).add_column(1, "decided", decided)
        self._rows.value = grid(store.Rows(rows))

    def __repr__(self) -> str:
        rows = f"{len(self.found):,} rows in {len(self.found.clusters):,} clusters"
        return f"Map of {rows}: {len(self._chosen):,} selected; {self._so_far}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        # The text is what is seen where no widget can be drawn, as on GitHub.
        return {**self.box._repr_mimebundle_(**options), "text/plain": repr(self)}


def _word(verdict: Any) -> str:
    if verdict.check == by_hand.LABEL:
        return repr(verdict.detail)
    return "kept" if verdict.passed else "dropped"


def _short(value: Any, most: int = 80) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _with_columns(table: pa.Table, columns: Any) -> pa.Table:
    """The map's table with other columns beside its own."""
    if columns is None:
        return table
    try:
        given = pa.table(dict(columns)) if isinstance(columns, Mapping) else store.as_table(columns)
    except (pa.ArrowException, TypeError) as error:
        raise InputError(
            f"columns= is no table: {error}. Give {{name: values}}, a table or the rows of a query."
        ) from None
    if "id" in given.column_names:
        ids = given.column("id").to_pylist()
        if len(set(ids)) < len(ids):
            raise InputError("columns= has an id twice. Give one row for each.")
        at = {each: place for place, each in enumerate(ids)}
        given = given.drop_columns("id").take(
            pa.array([at.get(each) for each in table.column("id").to_pylist()], pa.int64())
        )
    elif len(given) != len(table):
        raise InputError(
            f"columns= has {len(given):,} rows and the map {len(table):,}. Give one for each, or a column id."
        )
    if taken := [name for name in given.column_names if name in (*table.column_names, "decided")]:
        raise InputError(f"the map has a column {taken[0]!r} of its own. Give yours another name.")
    for name in given.column_names:
        table = table.append_column(name, given.column(name))
    return table


def _shade_column(among: Mapping[str, Shades], name: str) -> str:
    return f"shade {list(among).index(name)}"


def _frame(found: Map, among: Mapping[str, Shades]) -> Any:
    """What the dots are drawn from: places, texts for the card, and for each column that may colour them its shades."""
    pandas = require("pandas", extra="notebook")
    table = found.table()
    named = lambda name: [_short(each or _NO_CLUSTER, _NAME_CHARACTERS) for each in table.column(name).to_pylist()]
    columns = {
        "x": found.xy[:, 0], "y": found.xy[:, 1], "text": [_short(text, _CARD_CHARACTERS) for text in found.texts],
        "cluster": named("cluster"), "category": named("category"), "value": [""] * len(found),
    }  # fmt: skip
    # A column of its own for each: one that changed would not be drawn again.
    columns |= {_shade_column(among, name): pandas.Categorical(each.slots) for name, each in among.items()}
    return pandas.DataFrame(columns)


def _scatter(library: Any, frame: Any, found: Map) -> Any:
    low, high = found.xy.min(axis=0), found.xy.max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2 or 1.0
    scales = [(float(each - half), float(each + half)) for each in middle]  # one unit is as long on both axes
    made = library.Scatter(
        data=frame, x="x", y="y", x_scale=scales[0], y_scale=scales[1], height=460, axes=False, reticle=False,
        background_color=(1, 1, 1, 0), size=float(np.clip(60 / len(found) ** 0.3, 2, 8)), opacity=0.8, opacity_unselected=0.2,
        mouse_mode="lasso", tooltip=True, tooltip_properties=["cluster", "category", "value"], tooltip_histograms=False,
        tooltip_preview="text", tooltip_preview_text_lines=6,
        # A lasso that ends as near to its start as this counts as a click, and selects the one dot that is there.
        lasso_min_dist=0.5,
    )  # fmt: skip
    # Pixels; a selected dot would be twice as large else.
    made.options(regl_scatterplot_options={"pointSizeSelected": 1, "pointOutlineWidth": 0})
    if not found.clusters:  # it knows no map without a name
        return made
    return made.label(
        by="cluster", exclude=[_NO_CLUSTER], positioning="center_of_mass", size=12,
        color="#222222", shadow_color="#FFFFFF",
    )  # fmt: skip


def _cluster_options(found: Map) -> list[tuple[str, int | None]]:
    largest = sorted(found.clusters, key=lambda each: (-each.size, each.number))
    options = [(f"{_short(each.name, _NAME_CHARACTERS)} ({each.size:,})", each.number) for each in largest]
    return [("select one …", None), *options, (f"{_NO_CLUSTER} ({(found.labels == NOISE).sum():,})", NOISE)]


def _header(found: Map, run: Run | None) -> str:
    note = " <span class='sdw-soft'>offline rules, no model</span>" if run is not None and run.is_offline else ""
    rows = f"{len(found):,} rows in {len(found.clusters):,} clusters, {found.noise:.0%} in none"
    what = "Dots near each other are alike; distances across the map and the sizes of gaps mean nothing."
    return f"{STYLE}{_MAP_STYLE}<div class='sdw'><b>{rows}</b>{note} <span class='sdw-soft'>{what}</span></div>"


def _legend(name: str, shaded: Shades) -> str:
    """What the colours mean."""
    chip = lambda colour, text: (
        f"<span style='display:inline-block;margin-right:14px'><span style='color:{colour}'>●</span> {escaped(text, 60)}</span> "
    )
    if shaded.ends is not None:
        steps = ",".join(shaded.colours[:-1])
        bar = f"<span style='display:inline-block;width:160px;height:10px;background:linear-gradient(to right,{steps})'></span>"
        parts = [f"{escaped(f'{shaded.ends[0]:.3g}')} {bar} {escaped(f'{shaded.ends[1]:.3g}')} &nbsp; "]
    else:
        first = shaded.values[:_SHOWN_VALUES]
        parts = [chip(shaded.colour(at), f"{value} ({count:,})") for at, (value, count) in enumerate(first)]
        if (more := len(shaded.values) - len(first)) > 0:
            parts.append(
                f"<span class='sdw-soft'>and {more:,} more; one colour stands for several, far from each other</span> "
            )
    if shaded.without:
        parts.append(chip(GREY, f"none ({shaded.without:,})"))
    return f"<div class='sdw'><b>{escaped(name, 60)}</b> &nbsp; {''.join(parts)}</div>"
