"""A real Argilla on this machine: its environment, how it starts and stops, what it survives, and its page in a browser."""

import concurrent.futures
import json
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests import lab
from tests.argilla import Data, scope, terms
from tests.conftest import ROOT
from workbench.errors import ReviewError
from workbench.review import _environment, server

# --- the environment, made by a stand-in for Python that says what it was asked ---------------------------------------

STAND_IN = """#!/bin/sh
case "$*" in
  *version_info*) echo $VERSION;;
  "-m venv "*) echo venv >> "$ASKED"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
  *"pip install"*) echo pip >> "$ASKED"; echo "Collecting a==1"; [ -z "$FAILS" ] || { echo "ERROR: no route to host"; exit 1; };;
  *launch.py*) echo "first line" >&2; echo "$LAST" >&2; sleep ${SLEEP:-0}; exit 3;;
esac
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A stand-in for Python 3.12; what it was asked to do is in the file `asked`."""
    path = tmp_path / "python"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    for name, value in {
        "WORKBENCH_CACHE": str(tmp_path / "cache"),
        "ASKED": str(tmp_path / "asked"),
        "VERSION": "3 12",
    }.items():
        monkeypatch.setenv(name, value)
    return path


def asked(python):
    path = python.with_name("asked")
    return path.read_text().split() if path.exists() else []


def test_the_environment_is_made_once_and_for_each_python_and_lock(python, monkeypatch):
    made = _environment.environment(python)
    assert made == _environment.environment(python) and asked(python) == ["venv", "pip"]
    assert re.search(r"argilla-2.8.0-py3.12-[0-9a-f]{12}/bin/python$", str(made))
    monkeypatch.setenv("VERSION", "3 13")
    assert _environment.environment(python) != made and asked(python) == ["venv", "pip"] * 2
    lock = python.parent / "server" / "requirements.lock"
    lock.parent.mkdir()
    lock.write_text("argilla-server==9")
    monkeypatch.setattr(_environment, "FOLDER", lock.parent)
    _environment.environment(python)
    assert asked(python) == ["venv", "pip"] * 3


def test_an_environment_that_failed_or_was_cut_off_is_made_from_the_start(python, monkeypatch):
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(ReviewError, match=r"(?s)could not be made .*no route to host.*review\.connect"):
        _environment.environment(python)
    monkeypatch.delenv("FAILS")
    rest = next((python.parent / "cache").glob("argilla-*-????????????")) / "half-written"
    rest.touch()
    interpreter = _environment.environment(python)
    assert not rest.exists() and asked(python) == ["venv", "pip"] * 2
    _environment.forget(interpreter)
    _environment.environment(python)
    assert asked(python) == ["venv", "pip"] * 3


def test_two_at_once_make_one_environment(python):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda _: _environment.environment(python), range(4)))
    assert len(set(made)) == 1 and asked(python) == ["venv", "pip"]


@pytest.mark.parametrize("version", ["3 14", "3 10", "2 7"])
def test_a_python_that_will_not_do_is_refused_in_words(python, monkeypatch, version):
    monkeypatch.setenv("VERSION", version)
    with pytest.raises(
        ReviewError, match=rf"3\.11 to 3\.13, and this is {version.replace(' ', '.')}.*python='python3\.13'"
    ):
        _environment.environment(python)
    assert asked(python) == []


def test_what_is_no_python_is_refused_in_words(tmp_path):
    for path in ("/bin/false", tmp_path / "absent"):
        with pytest.raises(ReviewError, match="is no Python that runs"):
            _environment.environment(path)


def test_the_lock_names_one_version_of_everything_that_is_needed():
    lines = (_environment.FOLDER / "requirements.lock").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}
    assert {"argilla-server", "fakeredis", "click", "uvicorn", "alembic", "numpy"} <= pinned
    assert f"argilla-server=={_environment.ARGILLA}" in lines and all(
        "==" in line for line in lines if not line.startswith("#")
    )


def test_nothing_of_the_workbench_is_imported_in_the_servers_environment():
    for path in _environment.FOLDER.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) workbench", path.read_text(), re.MULTILINE), path


# --- what keeps it from starting --------------------------------------------------------------------------------------


def test_a_database_of_the_environment_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_DATABASE_URL", "postgresql://me:secret@host/db")
    with pytest.raises(ReviewError, match=r"set, to PostgreSQL.*review\.connect") as refusal:
        server.start(tmp_path / "data")
    assert "secret" not in str(refusal.value) and not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ReviewError, match=r"file/data cannot be written: Not a directory"):
        server.start(tmp_path / "file" / "data")


def test_a_start_that_fails_shows_the_last_lines_of_the_log(python, tmp_path, monkeypatch):
    monkeypatch.setenv("LAST", "KeyError: 'odd'")
    with pytest.raises(ReviewError, match=r"(?s)ended while it started.*first line\nKeyError: 'odd'"):
        server.start(tmp_path / "data", python=python)
    monkeypatch.setenv("LAST", "refused: port 1 cannot be had.")
    with pytest.raises(ReviewError, match=r"cannot start: port 1 cannot be had\.$"):
        server.start(tmp_path / "data", python=python)
    monkeypatch.setenv("SLEEP", "60")
    with pytest.raises(ReviewError, match=r"(?s)does not answer after 0.5 s.*timeout_seconds.*port 1"):
        server.start(tmp_path / "data", python=python, timeout_seconds=0.5)


def test_an_environment_that_is_broken_says_so_and_is_made_anew_the_next_time(python, tmp_path, monkeypatch):
    interpreter = _environment.environment(python)
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "import runpy, sys; sys.argv.pop(0); sys.modules[\'fakeredis\'] = None; sys.path.insert(0, \'{_environment.FOLDER}\'); runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"\n')  # fmt: skip
    with pytest.raises(ReviewError, match=r"missing in Argilla's environment \(.*fakeredis.*made anew"):
        server.start(tmp_path / "data", python=python)
    assert not (interpreter.parents[1] / ".ready").exists() and not (tmp_path / "data" / "tmp").exists()


def test_a_port_in_use_is_refused_in_words(argilla, tmp_path):
    port = int(argilla.url.rpartition(":")[2])
    with pytest.raises(ReviewError, match=rf"port {port} cannot be had: Address already in use"):
        server.start(tmp_path, port=port)
    assert not server.status(tmp_path).is_running and not (tmp_path / "tmp").exists()


@pytest.mark.parametrize(
    ("revision", "words"),
    {"1769ee58fbb4": "an older version", "0123456789ab": "a newer version", "": "is no database of Argilla's"}.items(),
)
def test_the_database_of_another_version_is_refused_and_left_as_it_was(argilla, tmp_path, revision, words):
    path = tmp_path / "argilla.db"
    if revision:
        with closing(sqlite3.connect(path)) as db:
            db.executescript(
                f"CREATE TABLE alembic_version(version_num TEXT); INSERT INTO alembic_version VALUES ('{revision}')"
            )
    else:
        path.write_bytes(b"no database at all, but a text of some length" * 99)
    before = path.read_bytes()
    with pytest.raises(ReviewError, match=words):
        server.start(tmp_path)
    assert path.read_bytes() == before


# --- it starts, is found, stops ---------------------------------------------------------------------------------------

START = "import sys; from workbench.review import server; print(server.start(sys.argv[1]).url)"


def started_elsewhere(folder):
    """Start it from another process, which ends at once; return the address."""
    done = subprocess.run(
        [sys.executable, "-c", START, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def listening_of(pid):
    """(address, port) in hexadecimal of each socket of a process that listens, and the other ends of those that are connected."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(path))
        except OSError:
            continue
    listening, remote = set(), set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, other, state, *_, inode = line.split()[:10]
            if f"socket:[{inode}]" in inodes:
                (listening if state == "0A" or table.startswith("udp") else remote).add(
                    local if state == "0A" else other
                )
    return listening, remote


def test_a_server_outlives_who_started_it_is_found_again_and_keeps_all_when_it_is_stopped(argilla, tmp_path):
    folder = tmp_path / "with a blank, % and é?#"
    folder.mkdir(mode=0o755)  # which others may look into
    url = started_elsewhere(folder)
    first = server.start(folder)
    assert not {path.name for path in folder.glob("*.d*") if path.stat().st_mode & 0o077}  # API keys are in there
    assert (folder / ".gitignore").read_text() == "*\n"
    pid = server.status(folder).pid
    assert first.url == url and os.getsid(pid) == pid  # the stop button of a terminal does not reach it
    assert re.search(rf"Argilla at {url} on .*, process {pid} since 20", str(server.status(folder)))
    with pytest.raises(ReviewError, match=r"runs on port \d+, not 1\. Stop it first"):
        server.start(folder, port=1)
    name, password = first.add_user("anna")
    token = login(first, name, password)
    data = Data(first, "kept")
    data.push([{"external_id": "a", "fields": {"text": "a wren"}}])
    assert server.stop(folder).is_running is False and str(server.status(folder)).endswith("its data are there")
    assert {path.name for path in folder.iterdir()} <= {
        ".gitignore",
        "argilla.db",
        "argilla.db-shm",
        "argilla.db-wal",
        "credentials.json",
        "server.lock",
        "server.log",
        "server_id.dat",
    }
    assert (folder / "argilla.db-wal").stat().st_size == 0 if (folder / "argilla.db-wal").exists() else True
    with pytest.raises(ReviewError, match="no whole answer"):
        first.get("me")
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(pid, 0)
            time.sleep(0.1)

    again = server.start(folder)
    try:
        assert (again.url, again.api_key) == (first.url, first.api_key) and server.status(folder).pid != pid
        assert again.add_user("anna") == (name, password)
        assert me(again, token)["username"] == "anna"  # who is logged in stays so
        data.server = again
        assert data.search("wren") == ["a"]
    finally:
        again.stop()
    assert not (folder / "tmp").exists()


def login(of, name, password):
    form = urllib.parse.urlencode({"username": name, "password": password}).encode()
    with urllib.request.urlopen(f"{of.url}/api/v1/token", form) as answer:
        return json.load(answer)["access_token"]


def me(of, token):
    request = urllib.request.Request(f"{of.url}/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_what_a_killed_server_left_is_replaced_and_nobody_else_is_stopped_for_it(tmp_path):
    """A number in server.json means nothing unless the lock is held: it may be somebody else's by now."""
    said = {"pid": os.getpid(), "port": 9, "started": "2025-01-01T00:00:00+00:00"}
    (tmp_path / "server.json").write_text(json.dumps(said))
    (tmp_path / "server.lock").touch()
    (tmp_path / "tmp").mkdir()
    assert not server.status(tmp_path).is_running
    assert not server.stop(tmp_path).is_running  # and we are still here
    assert not (tmp_path / "server.json").exists() and not (tmp_path / "tmp").exists()
    assert str(server.stop(tmp_path / "nothing")).endswith("and there are no data")
    assert not (tmp_path / "nothing").exists()


def test_a_server_that_is_killed_in_the_middle_of_a_push_loses_nothing_and_doubles_nothing(argilla, tmp_path):
    running = server.start(tmp_path)
    pid = server.status(tmp_path).pid
    data = Data(running, "killed", metadata={"n": "integer"}, vectors={"v": 4})
    parts = [
        [
            {
                "external_id": f"{part}-{at}", "fields": {"text": f"record {part} {at}"}, "metadata": {"n": at}, "vectors": {"v": [part, at, 1, 1]},
                "suggestions": [{"question_id": data.questions["label"], "value": "yes", "score": 0.5, "agent": "judge"}],
            }
            for at in range(100)
        ]
        for part in range(12)
    ]  # fmt: skip
    taken = []

    def push():
        for part in parts:
            data.push(part)
            taken.append(part)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        pushing = pool.submit(push)
        while len(taken) < 3:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ReviewError, match="no whole answer"):
            pushing.result(30)
    assert 3 <= len(taken) < len(parts)
    assert (tmp_path / "tmp").exists() and (tmp_path / "server.json").exists()  # it had no time to clean up

    running = data.server = server.start(tmp_path)
    try:
        kept = data.search()
        assert len(kept) % 100 == 0 and {item["external_id"] for part in taken for item in part} <= set(
            kept
        )  # parts are whole
        push()
        assert sorted(data.search(limit=1000) + data.search(limit=1000, offset=1000)) == sorted(
            item["external_id"] for part in parts for item in part
        )
        with closing(sqlite3.connect(tmp_path / "argilla.db")) as db:
            counts = {
                table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("records", "suggestions", "vectors")
            }
            assert counts == dict.fromkeys(counts, 1200) and db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert len(list((tmp_path / "tmp").iterdir())) == 1  # the page of this server; that of the killed one is gone
    finally:
        running.stop()
    assert not (tmp_path / "tmp").exists() and not (tmp_path / "server.json").exists()


def test_two_that_start_it_at_once_get_the_same_server(argilla, tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        urls = set(pool.map(started_elsewhere, [tmp_path] * 3))
    try:
        assert urls == {server.status(tmp_path).url}
    finally:
        server.stop(tmp_path)


# --- who may see what -------------------------------------------------------------------------------------------------


def test_secrets_are_for_this_user_alone_and_in_no_repr(argilla):
    credentials = json.loads((argilla.folder / "credentials.json").read_text())
    for name in ("credentials.json", "server.json"):
        assert (argilla.folder / name).stat().st_mode & 0o777 == 0o600
    assert argilla.folder.stat().st_mode & 0o077 == 0
    for secret in ("password", "api_key", "auth_secret_key"):
        assert len(credentials[secret]) >= 16
        shown = f"{argilla!r} {argilla.rest!r} {server.status(argilla.folder)!r} {(argilla.folder / 'server.log').read_text()}"
        assert credentials[secret] not in shown
        command = Path(f"/proc/{server.status(argilla.folder).pid}/cmdline").read_text()
        assert credentials[secret] not in command


def test_users_are_made_once_and_log_in_with_their_passwords(argilla):
    name = f"user-{secrets.token_hex(3)}"
    made = argilla.add_user(name)
    assert made == argilla.add_user(name) == server.start(argilla.folder).add_user(name)
    assert me(argilla, login(argilla, *made))["role"] == "annotator"
    assert argilla.add_user(name, "another-password") == (name, "another-password")
    login(argilla, name, "another-password")
    with pytest.raises(urllib.error.HTTPError):
        login(argilla, *made)
    assert server.start(argilla.folder).login_link(name) == argilla.login_link(name)
    with pytest.raises(ReviewError, match="there already as annotator, and admin was asked for"):
        argilla.add_user(name, role="admin")
    with pytest.raises(ReviewError, match=r"'boss' is no role\. Roles are annotator, admin, owner"):
        argilla.add_user(name, role="boss")
    with pytest.raises(ReviewError, match=r"422.*at least 8 characters"):
        argilla.add_user(f"{name}-2", "short")


def test_users_that_two_kernels_make_are_known_to_both(argilla, tmp_path):
    names = [f"user-{at}" for at in range(40)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: server._keep_password(tmp_path, name, "a password"), names))
    assert server._credentials(tmp_path)["users"] == dict.fromkeys(names, "a password")

    name, other = f"user-{secrets.token_hex(3)}", server.start(argilla.folder)
    made = argilla.add_user(name)
    assert other.login_link(name) == argilla.login_link(name) and other.add_user(name) == made
    argilla.add_user(name, "another-password")
    assert other.login_link(name) == argilla.login_link(name)


def test_a_link_that_the_page_could_not_read_is_refused_in_words(argilla):
    for name in ("Łukasz", "a:b"):
        argilla.add_user(name)
        with pytest.raises(ReviewError, match=r"no link can log .* in: .*/sign-in"):
            argilla.login_link(name)


def test_a_server_elsewhere_is_used_by_address_and_key(argilla):
    elsewhere = server.connect(argilla.url + "/", argilla.api_key)
    assert elsewhere.get("me") == argilla.get("me") and repr(elsewhere) == f"Argilla at {argilla.url}, as owner"
    with pytest.raises(ReviewError, match=r"password of 'owner' is not known here.*/sign-in"):
        elsewhere.login_link()
    assert elsewhere.add_user("owner", role="owner") == ("owner", "")
    assert argilla.url in elsewhere._repr_html_() and "auth=" not in elsewhere._repr_html_()
    with pytest.raises(ReviewError, match="was started elsewhere"):
        elsewhere.stop()
    with pytest.raises(ReviewError, match="does not know this API key"):
        server.connect(argilla.url, "wrong")
    with pytest.raises(ReviewError, match="no whole answer"):
        server.connect("http://127.0.0.1:9", argilla.api_key)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_it_listens_on_loopback_alone_and_asks_nobody(argilla):
    data = Data(argilla, f"sockets {secrets.token_hex(3)}", vectors={"v": 2})
    data.push([{"external_id": "a", "fields": {"text": "a"}, "vectors": {"v": [1, 0]}}])
    data.search("a")
    status = server.status(argilla.folder)
    listening, remote = listening_of(status.pid)
    assert listening == {f"0100007F:{int(status.url.rpartition(':')[2]):04X}"}
    assert all(address.startswith("0100007F:") for address in remote)
    assert status.megabytes < 450


# --- many at once, jobs, webhooks -------------------------------------------------------------------------------------


def test_ten_annotators_and_a_push_at_once_are_all_served(argilla):
    data = Data(argilla, f"many {secrets.token_hex(3)}", submitted=10)
    records = data.push([{"external_id": f"{at}", "fields": {"text": f"wren number {at}"}} for at in range(10)])
    users = [data.member(f"annotator-{at}") for at in range(10)]

    def annotate(user):
        for record in records:
            assert (
                data.found("wren", user=user, filters=[terms(scope("response", property="status"), "pending")])["total"]
                > 0
            )
            user.post(
                f"records/{record['id']}/responses", {"values": {"label": {"value": "yes"}}, "status": "submitted"}
            )

    def push(part):
        data.push([{"external_id": f"{part}-{at}", "fields": {"text": "owl"}} for at in range(100)])

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        tasks = [pool.submit(annotate, user) for user in users] + [pool.submit(push, part) for part in range(5)]
        # More searches at once than Argilla has connections, each of which needs one of Argilla's and one of the engine's.
        tasks += [pool.submit(data.found, "wren | owl") for _ in range(40)]
        for task in tasks:
            task.result(60)
    status = lambda value: terms(scope("record", "status"), value)
    assert (
        len(data.search(filters=[status("completed")])) == 10 and len(data.search(filters=[status("pending")])) == 500
    )
    for user in users:
        assert user.get(f"me/datasets/{data.id}/metrics")["responses"]["submitted"] == 10


class Listener(BaseHTTPRequestHandler):
    """Takes webhooks, the first of which it answers with 500, and serves one page."""

    events: ClassVar[list[str]] = []
    page = ""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.events.append(body["type"])
        self.send_response(500 if len(self.events) == 1 else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def listening():
    """The address of a Listener."""
    Listener.events.clear()
    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}/"
        listener.shutdown()


def wait_for(is_there, seconds=30):
    deadline = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_jobs_are_done_and_webhooks_delivered_and_tried_again(argilla):
    data = Data(argilla, f"jobs {secrets.token_hex(3)}", submitted=2)
    record = data.push([{"external_id": "a", "fields": {"text": "a"}}])[0]
    with listening() as url:
        body = {"url": url, "events": ["response.created"], "description": "test"}
        hook = argilla.post("webhooks", body)
        argilla.post(
            f"records/{record['id']}/responses", {"values": {"label": {"value": "yes"}}, "status": "submitted"}
        )
        wait_for(lambda: len(Listener.events) == 2)  # refused, and 10 seconds later taken
        assert Listener.events == ["response.created"] * 2
        argilla.delete(f"webhooks/{hook['id']}")
    assert data.search(filters=[terms(scope("record", "status"), "completed")]) == []
    other = Data(argilla, f"jobs {secrets.token_hex(3)}", submitted=2)
    other.push([{"external_id": "b", "fields": {"text": "b"}}])
    argilla.patch(f"datasets/{other.id}", {"distribution": {"strategy": "overlap", "min_submitted": 1}})
    record = other.found()["items"][0]["record"]
    argilla.post(f"records/{record['id']}/responses", {"values": {"label": {"value": "yes"}}, "status": "submitted"})
    assert other.search(filters=[terms(scope("record", "status"), "completed")]) == ["b"]


# --- the page ---------------------------------------------------------------------------------------------------------


@lab.needs_browser
def test_the_link_logs_in_and_the_page_searches_answers_and_asks_nobody_elsewhere(argilla, tmp_path):
    data = Data(argilla, "Birds of the garden", vectors={"v": 2})
    items = [
        {"external_id": f"{at}", "fields": {"text": f"a wren on branch {at}"}, "vectors": {"v": [1, at]}}
        for at in range(5)
    ]
    data.push([*items, {"external_id": "owl", "fields": {"text": "one owl"}, "vectors": {"v": [1, 0.1]}}])
    anna = data.member("anna")
    with lab.browser() as page, listening() as url:
        Listener.page = anna._repr_html_()
        page.goto(url)  # as in a notebook: inside a frame of another server's page
        frame = page.frame_locator("iframe")
        frame.get_by_text("Birds of the garden").first.wait_for(timeout=30_000)
        page.screenshot(path=tmp_path / "1-frame.png")

        data.member("Zoë")
        page.context.clear_cookies()
        page.goto(argilla.login_link("Zoë"))
        page.get_by_text("Birds of the garden").first.wait_for(timeout=30_000)
        page.evaluate("localStorage.clear()")
        page.context.clear_cookies()
        page.goto(argilla.login_link("anna"))
        page.get_by_text("Birds of the garden").first.wait_for(timeout=30_000)
        page.goto(f"{argilla.url}/dataset/{data.id}/annotation-mode")
        page.get_by_text("a wren on branch").or_(page.get_by_text("one owl")).first.wait_for(timeout=30_000)
        page.locator(".search-area__icon").first.click()
        page.get_by_placeholder("Introduce a query").fill("owl")
        page.keyboard.press("Enter")
        page.get_by_text("one owl").first.wait_for(timeout=15_000)
        page.get_by_text("1 of 1").wait_for(timeout=15_000)
        page.screenshot(path=tmp_path / "2-found.png")
        page.get_by_text("maybe", exact=True).first.click()
        page.get_by_role("button", name=re.compile("submit", re.IGNORECASE)).first.click()
        wait_for(lambda: anna.get(f"me/datasets/{data.id}/metrics")["responses"]["submitted"] == 1)
        page.screenshot(path=tmp_path / "3-answered.png")
        page.goto(f"{argilla.url}/dataset/{data.id}/annotation-mode")
        page.get_by_role("button", name="Find similar").first.click()
        page.get_by_text("1 of 5").or_(page.get_by_text("Similar")).first.wait_for(timeout=15_000)
        page.wait_for_timeout(1_000)
        page.screenshot(path=tmp_path / "4-similar.png")
        assert page.outside == []
    answered = [
        item for item in argilla.get(f"datasets/{data.id}/records", include="responses")["items"] if item["responses"]
    ]
    assert [(item["external_id"], item["responses"][0]["values"]) for item in answered] == [
        ("owl", {"label": {"value": "maybe"}})
    ]
