"""The list of experiments: what it shows is what plain calls give, errors are seen, and what trains is read again until it ends."""

import html
import re
import threading
import time

import pytest

from tests import lab
from tests.test_compared import log, training, two_arms
from workbench import experiments, plots, widgets
from workbench.errors import InputError
from workbench.widgets import experiments_view


@pytest.fixture
def root(tmp_path):
    two_arms(tmp_path, settings={"learning_rate": 1e-3})
    return tmp_path


@pytest.fixture
def view(root, monkeypatch):
    monkeypatch.setattr(experiments_view, "SECONDS", 0.02)
    view = widgets.experiments(root)
    yield view
    view.close()


def words(widget):
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", widget.value, flags=re.DOTALL))


def said(view):
    return " ".join(words(view._said).split())


def is_drawn(view):
    return view._place.layout.display != "none" and view._place.children == (view.figure,)


def watching():
    return [thread for thread in threading.enumerate() if thread.name == "experiments"]


def wait_until(is_so):
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it never was so")


def test_each_experiment_is_a_line_with_what_it_is_how_it_stands_and_what_it_scored(view):
    assert [label for label, _ in view.list_box.options] == [
        f"{name} · dpo of tiny@1 · training · finished · no score" for name in "ab"
    ]
    assert "2 experiments below" in words(view._head) and "Choose two experiments" in said(view)
    assert view.figure is None and view.compared is None and watching() == []


def test_what_is_chosen_is_compared_as_the_call_that_is_shown_compares_it(view, root):
    view.select("id of a", "id of b")
    assert repr(view.compared) == repr(experiments.compare(root / "a", root / "b"))
    assert view._shown.value == view.compared._repr_html_()
    assert f"experiments.compare('{root}/a', '{root}/b') plots.show(plots.differences(" in said(view)
    drawn = plots.differences(view.compared, of=None)
    assert view.figure.layout.title.text == drawn.layout.title.text and len(view.figure.data) == len(drawn.data)
    assert is_drawn(view)
    view.baseline_box.value = "id of b"
    assert view.compared.baseline.id == "id of b" and f"baseline='{root}/b')" in said(view)


def test_curves_are_those_of_the_steps_and_a_metric_can_be_chosen(view, root):
    for seed in range(2):
        log(root / "a", "all", seed, [{"step": at, "steps": 20, "loss": 1 / at, "margin": at} for at in (10, 20)])
    view.select("id of a")
    assert "takes two experiments or more" in said(view) and "sdw-error" in view._said.value
    view.view_box.value = "Curves"
    assert view.figure.layout.title.text == "loss after 20 steps: all 0.05" and "sdw-error" not in view._said.value
    view.metric_box.value = "margin"
    assert view.figure.layout.title.text == "margin after 20 steps: all 20" and "metric='margin'" in said(view)
    log(root / "b", "all", 0, [{"step": 10, "steps": 20, "accuracy": 1}])
    view.select("id of a", "id of b")
    assert view.metric_box.options == ("loss", "accuracy", "margin")
    assert view.metric_box.value == "margin" and view.compared is None
    view.select("id of b")
    assert "no step has logged" in said(view) and not is_drawn(view)


def test_errors_are_shown_and_nothing_of_what_was_shown_before_stays(view, root, monkeypatch):
    view.select("id of a", "id of b")
    path = root / "b" / "items.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    view.refresh()
    assert "items.parquet in b is no whole table" in said(view) and "sdw-error" in view._said.value
    assert view._shown.value == "" and view.compared is None and not is_drawn(view)
    path.write_bytes(whole)
    view.refresh()
    assert view.compared is not None and is_drawn(view)
    monkeypatch.setattr(experiments_view, "compare", lambda *_, **__: 1 / 0)
    view.refresh()
    assert "ZeroDivisionError: division by zero" in said(view)
    with pytest.raises(InputError, match="no experiment 'who' below"):
        view.select("who")
    with pytest.raises(InputError, match="no folder"):
        widgets.experiments(root / "nowhere")


def test_refresh_shows_what_came_and_what_cannot_be_read_and_keeps_what_was_chosen(view, root):
    view.select("id of a", "id of b")
    training(root / "c")
    (root / "broken").mkdir()
    (root / "broken" / "experiment.json").write_text("{")
    view.refresh()
    assert len(view.list_box.options) == 3 and [one.id for one in view.chosen] == ["id of a", "id of b"]
    assert "could not be read: broken:" in words(view._head) and view.compared is not None
    (root / "b" / "experiment.json").unlink()
    view.refresh()
    assert [one.id for one in view.chosen] == ["id of a"]


def test_what_is_unfinished_is_read_again_until_it_is_finished(view, root):
    rows = lambda count: [{"step": at, "steps": 30, "loss": 1.0} for at in range(10, 10 * count + 1, 10)]
    live = training(root / "live", stopped="unfinished")
    log(live, "all", 0, rows(1))
    view.refresh()
    assert watching() == []  # nothing unfinished is chosen
    view.view_box.value = "Curves"
    view.select("id of live")
    assert len(watching()) == 1 and "live: unfinished, read again every" in said(view)
    assert "after 10 of 30 steps" in view.figure.layout.title.text
    log(live, "all", 0, [*rows(2), '{"step": 3'], end="")
    wait_until(lambda: "after 20 of 30 steps" in view.figure.layout.title.text)
    view.show()
    assert len(watching()) == 1
    log(live, "all", 0, rows(3))
    training(root / "live")
    wait_until(lambda: not watching())
    assert "loss after 30 steps" in view.figure.layout.title.text and "read again" not in said(view)
    assert "· finished ·" in dict((value, label) for label, value in view.list_box.options)["id of live"]


@pytest.mark.parametrize("how", ["close", "box.close", "choose another"])
def test_nobody_watches_any_more_when_the_widget_is_closed_or_something_else_is_chosen(view, root, how):
    training(root / "live", stopped="unfinished")
    view.refresh()
    view.select("id of live")
    assert len(watching()) == 1
    {"close": view.close, "box.close": view.box.close, "choose another": lambda: view.select("id of a")}[how]()
    wait_until(lambda: not watching())


def test_closing_ends_the_watching_at_once(root, monkeypatch):
    monkeypatch.setattr(experiments_view, "SECONDS", 3600)
    training(root / "live", stopped="unfinished")
    view = widgets.experiments(root)
    view.select("id of live")
    assert len(watching()) == 1
    view.close()
    wait_until(lambda: not watching())
    view.show()
    assert watching() == []


def test_what_breaks_while_it_is_watched_is_shown_and_watched_further(view, root):
    live = training(root / "live", stopped="unfinished")
    view.refresh()
    view.view_box.value = "Curves"
    view.select("id of live")
    whole = (live / "experiment.json").read_bytes()
    (live / "experiment.json").write_bytes(b"{")
    wait_until(lambda: "holds no experiment that can be read" in said(view))
    (live / "experiment.json").write_bytes(whole)
    wait_until(lambda: "no step has logged" in said(view))
    assert len(watching()) == 1


def test_the_view_shows_itself_and_as_text_where_no_widget_can_be_drawn(view):
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == repr(view) == f"Experiments below {view.root}: 2, 0 chosen"
    assert "application/vnd.jupyter.widget-view+json" in bundle


# --- in JupyterLab


@lab.needs_browser
def test_in_jupyterlab_experiments_are_compared_and_a_training_is_seen_to_go_on(tmp_path):
    root = tmp_path / "runs"
    two_arms(root, settings={"learning_rate": 1e-3})
    live = training(root / "live", stopped="unfinished")
    log(live, "all", 0, [{"step": 10, "steps": 30, "loss": 0.7}])
    cell = f"from workbench import widgets\nview = widgets.experiments({str(root)!r})\nview"
    with lab.jupyterlab(tmp_path / "home") as jupyter, lab.browser() as page:
        notebook = jupyter.open(page, "experiments", [cell])
        notebook.run(0)
        drawn = notebook.cell(0)
        rows = drawn.locator("select[multiple]")
        rows.wait_for(timeout=30_000)
        rows.select_option(index=[0, 1])
        drawn.get_by_text("b against a: accuracy of all is").wait_for(timeout=30_000)
        title = drawn.locator(".gtitle")
        title.wait_for(timeout=30_000)
        assert "accuracy in b: all +" in title.text_content()
        page.screenshot(path=tmp_path / "1-light.png", full_page=True)
        rows.select_option(index=[2])
        drawn.get_by_role("button", name="Curves").click()
        drawn.get_by_text("loss after 10 of 30 steps: all 0.7").wait_for(timeout=15_000)
        log(live, "all", 0, [{"step": at, "steps": 30, "loss": 7 / at} for at in (10, 20)])
        drawn.get_by_text("loss after 20 of 30 steps: all 0.35").wait_for(timeout=15_000)  # nobody clicked
        assert drawn.locator(".js-plotly-plot").count() == 1
        lab.darken(page)
        page.screenshot(path=tmp_path / "2-dark.png")
        colour = drawn.locator("code").first.evaluate("part => getComputedStyle(part).color")
        assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150, colour  # light text on dark paper
        assert page.outside == []
