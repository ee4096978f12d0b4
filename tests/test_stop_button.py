"""The notebook's stop button: what was under way is kept, nothing is sent twice, and the same cell goes on."""

import time
from collections import Counter

import pytest

from tests import lab, tasks
from tests.servers import serving
from workbench import llm, runner
from workbench.runner import Options

pytest.importorskip("ipykernel", reason="needs ipykernel: pip install -e .[notebook]")

TASKS = 400


def setup(server):
    client = f"client = llm.OpenAI({server.url!r}, 'test-model', price=llm.Price(1000, 1000))"
    return f"import asyncio\nfrom tests import tasks\nfrom workbench import llm, runner\n{client}"


def cell(out, count=TASKS):
    return f"run = runner.run(tasks.make, tasks.tasks({count}), client=client, out={str(out)!r})"


def wait_for(server, count, seconds=20):
    deadline = time.monotonic() + seconds
    while server.count < count:
        assert time.monotonic() < deadline, f"{server.count} requests came, {count} were waited for"
        time.sleep(0.002)


def times_asked(server):
    """How many tasks were asked how often: {1: 400} when each was asked once."""
    return Counter(Counter(body["messages"][-1]["content"] for body in server.bodies).values())


def uninterrupted(server, out, count=TASKS):
    client = llm.OpenAI(server.url, "test-model", price=llm.Price(1000, 1000))
    return runner.run(tasks.make, tasks.tasks(count), client=client, out=out, options=Options(progress=False))


def assert_equal(run, whole):
    assert run.records == whole.records and run.failures == whole.failures
    assert [record.provenance for record in run.records] == [record.provenance for record in whole.records]


def test_the_stop_button_keeps_what_was_under_way_and_the_same_cell_goes_on(tmp_path):
    with serving(tasks.echo, seconds=0.25) as server, lab.kernel(tmp_path / "home") as kernel:
        assert kernel.run(setup(server)).error == ""
        under_way = kernel.start(cell(tmp_path / "out"))
        wait_for(server, 100)
        kernel.interrupt()
        stopped = kernel.finish(under_way)
        assert stopped.error == "Stopped" and "run the same call again to go on" in stopped.error_text
        assert issubclass(runner.Stopped, KeyboardInterrupt)
        assert stopped.traceback == f"Stopped: {stopped.error_text}"  # and no line of the runner's own
        kept = runner.load(tmp_path / "out")
        assert 100 <= kept.record_count == server.count < TASKS and f"{server.count} records" in stopped.error_text

        assert kernel.run("6 * 7").shown == [{"text/plain": "42"}]
        again = kernel.run(cell(tmp_path / "out"))
        assert again.error == "" and again.stderr == stopped.stderr == ""
        assert times_asked(server) == {1: TASKS}
        assert kernel.run("run.record_count, run.stopped").shown == [{"text/plain": f"({TASKS}, '')"}]
        assert_equal(runner.load(tmp_path / "out"), uninterrupted(server, tmp_path / "whole"))
        kernel.stop()
        assert kernel.log == ""


def test_a_stop_at_any_moment_leaves_no_run_behind(tmp_path):
    with serving(tasks.echo, seconds=0.05) as server, lab.kernel(tmp_path / "home") as kernel:
        kernel.run(setup(server))
        # None: at the first request, which the first time in a kernel is while or just after the bar's libraries load.
        for seconds in (None, 0, 0.01, 0.02, 0.04, 0.08, 0.16):
            under_way = kernel.start(cell(tmp_path / "out", count=1000))
            wait_for(server, 1) if seconds is None else time.sleep(seconds)
            kernel.interrupt()
            stopped = kernel.finish(under_way)
            # Python may drop an interrupt that comes before the run has begun.
            assert stopped.error == "Stopped" or seconds is not None
            sent = server.count
            time.sleep(0.1)
            assert server.count == sent and server.under_way == 0
        assert kernel.run(cell(tmp_path / "out", count=1000)).error == ""
        assert times_asked(server) == {1: 1000}


def test_an_answer_slower_than_the_grace_is_given_up_and_asked_again(tmp_path):
    slow = {10, 50, 90}
    with serving(tasks.echo, seconds=0.05, fault=lambda number, body: "hang" if number in slow else None) as server:
        with lab.kernel(tmp_path / "home") as kernel:
            kernel.run(setup(server))
            under_way = kernel.start(cell(tmp_path / "out"))
            wait_for(server, 150)
            kernel.interrupt()
            started = time.monotonic()
            stopped = kernel.finish(under_way)
            assert runner._GRACE_SECONDS - 0.5 < time.monotonic() - started < runner._GRACE_SECONDS + 2
            # The count was taken after everything that finished had been written down, not while it was.
            assert stopped.error == "Stopped" and f"{server.count - len(slow)} records" in stopped.error_text
            assert runner.load(tmp_path / "out").record_count == server.count - len(slow)
            assert kernel.run(cell(tmp_path / "out")).error == ""
            assert times_asked(server) == {1: TASKS - len(slow), 2: len(slow)}
            assert_equal(runner.load(tmp_path / "out"), uninterrupted(server, tmp_path / "whole"))
            kernel.stop()
            assert kernel.log == ""


def test_a_plain_call_works_in_cells_that_await_while_the_kernels_own_loop_runs(tmp_path):
    with serving(tasks.echo) as server, lab.kernel(tmp_path / "home") as kernel:
        kernel.run(setup(server))
        before = "later = asyncio.create_task(asyncio.sleep(0.3, 'later'))\nawait asyncio.sleep(0.01, 'before')"
        assert kernel.run(before).shown == [{"text/plain": "'before'"}]
        assert kernel.run(f"{cell(tmp_path / 'plain')}\nrun.record_count").shown[-1] == {"text/plain": f"{TASKS}"}
        # The same in a cell that awaits itself, before and after the call.
        around = f"await asyncio.sleep(0.01)\n{cell(tmp_path / 'around')}\nawait asyncio.sleep(0.01, run.record_count)"
        assert kernel.run(around).shown[-1] == {"text/plain": f"{TASKS}"}
        assert kernel.run("await later").shown == [{"text/plain": "'later'"}]
        assert times_asked(server) == {2: TASKS}
        kernel.stop()
        assert kernel.log == ""


def test_the_stop_button_works_in_a_cell_with_await(tmp_path):
    with serving(tasks.echo, seconds=0.1) as server, lab.kernel(tmp_path / "home") as kernel:
        kernel.run(setup(server))
        source = "await asyncio.sleep(0.01)\n" + cell(tmp_path / "out")
        under_way = kernel.start(source)
        wait_for(server, 100)
        kernel.interrupt()
        assert kernel.finish(under_way).error == "Stopped" and server.count < TASKS
        assert kernel.run(source).error == ""
        assert times_asked(server) == {1: TASKS}
        before = "import signal\nawait asyncio.sleep(0)\nkernels_own = signal.getsignal(signal.SIGINT)\n"
        after = kernel.run(before + cell(tmp_path / "out") + "\nsignal.getsignal(signal.SIGINT) is kernels_own")
        assert after.shown[-1] == {"text/plain": "True"}


@lab.needs_browser
def test_in_jupyterlab_the_bar_shows_the_button_stops_and_the_card_is_drawn(tmp_path):
    def answer(body):
        text = tasks.echo(body)
        return "I had rather not say." if text.endswith("7") else text  # one in ten is no answer that can be used

    with serving(answer, seconds=0.6) as server, lab.jupyterlab(tmp_path / "home") as jupyter, lab.browser() as page:
        count = 1000  # so many that a slow browser still finds the run going on
        notebook = jupyter.open(page, "stop", [setup(server), cell(tmp_path / "out", count) + "\nrun"])
        notebook.run_all()
        bar = notebook.cell(1).locator(".jupyter-widgets.widget-hbox")
        bar.get_by_text("records").wait_for(timeout=20_000)
        while server.count < 130:
            page.wait_for_timeout(20)
        page.screenshot(path=tmp_path / "1-bar.png")
        said = bar.inner_text().replace("\u2007", " ")  # tqdm's spaces
        assert all(word in said for word in (f"/{count}", "tasks/s", "records", "failed", "tokens", "$"))

        notebook.press("interrupt-kernel")
        notebook.wait_for(1)
        notebook.cell(1).get_by_text("run the same call again to go on").wait_for(timeout=5000)
        page.screenshot(path=tmp_path / "2-stopped.png")
        assert notebook.outputs(1)[-1]["ename"] == "Stopped" and server.count < count

        notebook.run(1)
        notebook.wait_for(1)
        card = notebook.cell(1).locator(".jp-OutputArea-executeResult")
        card.get_by_text("records made").wait_for(timeout=5000)
        bar.wait_for(state="detached", timeout=5000)  # a run that is complete leaves no bar, and none in red
        page.screenshot(path=tmp_path / "3-card.png")
        labels = ("tasks asked", "failed: parse", "records made")
        asked, lost, made = (
            card.locator("tr", has_text=label).last.locator("div > div").bounding_box() for label in labels
        )
        assert made["width"] == pytest.approx(0.9 * asked["width"], abs=2) and asked["width"] > 300
        assert lost["x"] == pytest.approx(made["x"] + made["width"], abs=2)  # the loss hangs where the records end
        assert {output["output_type"] for output in notebook.outputs(1)} == {"display_data", "execute_result"}
        assert times_asked(server) == {1: count}
        assert page.outside == []
