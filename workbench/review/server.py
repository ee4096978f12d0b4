"""A real Argilla for people to look at records: its own page and API on this machine, without Docker, Elasticsearch or Redis.

    server = review.start()                      # data/argilla; the first time, its environment is made
    server                                       # in a notebook: the link to log in, and the page itself
    server.add_user("anna")                      # ("anna", her password)
    server.login_link("anna")                    # for her alone: it holds the password
    server.get("me/datasets")                    # its REST API, as paths below /api/v1
    server.stop()                                # or review.stop(), from any process

It goes on when the kernel ends, and `start` finds it again. What it holds stays in its folder: argilla.db, the credentials
(for this user's eyes only), and a log. It listens on 127.0.0.1 and asks nobody for anything. An Argilla that runs elsewhere,
with Elasticsearch or in a Hugging Face Space, is used the same way: `review.connect(url, api_key)`."""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench import _html
from workbench.errors import ReviewError
from workbench.review import _environment
from workbench.review._rest import Rest

OWNER = "owner"
ROLES = ("annotator", "admin", "owner")
_STEP = 0.1  # seconds between two looks


@dataclass(frozen=True)
class Server:
    """A server that answers. `owner` is the user whose key is used; `folder` is where its data are, None where it is elsewhere."""

    rest: Rest = field(repr=False)
    owner: str
    folder: Path | None = None
    passwords: dict[str, str] = field(default_factory=dict, repr=False)  # of those users whose password is known

    @property
    def url(self) -> str:
        return self.rest.url

    @property
    def api_key(self) -> str:
        return self.rest.api_key

    def get(self, path: str, **params: Any) -> Any:
        """Return what the server has at a path below /api/v1. This and the others raise ReviewError with what it said instead."""
        return self.rest.get(path, **params)

    def post(self, path: str, body: Any = None) -> Any:
        return self.rest.post(path, body)

    def put(self, path: str, body: Any = None) -> Any:
        return self.rest.put(path, body)

    def patch(self, path: str, body: Any = None) -> Any:
        return self.rest.patch(path, body)

    def delete(self, path: str, **params: Any) -> Any:
        return self.rest.delete(path, **params)

    def add_user(self, name: str, password: str = "", role: str = "annotator") -> tuple[str, str]:
        """Return the name and password of a user, who is made where there is none of that name.

        Without a `password` (8 characters and more) a new user gets one at random. One who is there keeps the old one,
        which comes back as "" where it is not known, unless another is given. Raises ReviewError for a role of another
        name, or another than the user has."""
        if role not in ROLES:
            raise ReviewError(f"{role!r} is no role. Roles are {', '.join(ROLES)}.")
        there = {user["username"]: user for user in self.get("users")["items"]}.get(name)
        if there is not None and there["role"] != role:
            raise ReviewError(
                f"{name!r} is there already as {there['role']}, and {role} was asked for. Take another name."
            )
        if there is None:
            password = password or secrets.token_urlsafe(9)
            self.post("users", {"username": name, "first_name": name, "password": password, "role": role})
        elif password and password != self._password(name):
            self.patch(f"users/{there['id']}", {"password": password})
        else:
            return name, self._password(name)
        self.passwords[name] = password
        if self.folder is not None:
            _keep_password(self.folder, name, password)
        return name, password

    def login_link(self, user: str | None = None) -> str:
        """Return an address that logs a user in, by default the owner. It holds the password: give it to that user only.

        Raises ReviewError when the password is not known."""
        name = user or self.owner
        if not (password := self._password(name)):
            raise ReviewError(
                f"the password of {name!r} is not known here. Make the user, or set a password: server.add_user({name!r}, password=...). "
                f"The page to type it into is {self.url}/sign-in."
            )
        # The page reads one byte as one letter, and takes what stands between the first two colons for the password.
        both = f"{name}:{password}"
        if both.count(":") > 1 or any(ord(letter) > 255 for letter in both):
            raise ReviewError(
                f"no link can log {name!r} in: the page reads no colon in it and no letter beyond ÿ. Log in at {self.url}/sign-in."
            )
        token = base64.b64encode(both.encode("latin-1")).decode()
        return f"{self.url}/sign-in?auth={urllib.parse.quote(token)}"

    def _password(self, name: str) -> str:
        """The password of a user, "" where it is not known. Another kernel may have made, or changed, it since."""
        with contextlib.suppress(OSError):  # the folder is gone
            if self.folder is not None:
                self.passwords.update(_credentials(self.folder)["users"])
        return self.passwords.get(name, "")

    def stop(self) -> None:
        """Stop the server; its data stay. Raises ReviewError when it is not one of this machine's folders."""
        if self.folder is None:
            raise ReviewError(f"{self.url} was started elsewhere, and is stopped there.")
        stop(self.folder)

    def __repr__(self) -> str:
        where = f", data in {self.folder}" if self.folder else ""
        return f"Argilla at {self.url}, as {self.owner}{where}"

    def _repr_html_(self) -> str:
        address, who = _html.escaped(self.url), ""
        if self.owner in self.passwords:
            address = _html.escaped(self.login_link(), 2_000)
            who = f", logged in as {_html.escaped(self.owner)}: clear this output before you share the notebook"
        note = (
            f"<div><a href='{address}' target='_blank' rel='noreferrer'>Open in a tab</a>{who}. "
            "Annotators have links of their own: <code>server.login_link(&quot;anna&quot;)</code></div>"
        )
        frame = f"<iframe src='{address}' width='100%' height='720' style='border:1px solid var(--jp-border-color1,#bbb)'></iframe>"
        return _html.card("Argilla", self.url, note) + frame


@dataclass(frozen=True)
class Status:
    """Whether a server runs on a folder; `url` is "" when none does. `megabytes` of memory are 0 where they cannot be read."""

    folder: Path
    url: str = ""
    pid: int = 0
    started: datetime | None = None
    megabytes: int = 0

    @property
    def is_running(self) -> bool:
        return bool(self.url)

    def __repr__(self) -> str:
        if not self.is_running:
            has = "its data are there" if (self.folder / "argilla.db").exists() else "and there are no data"
            return f"no Argilla runs on {self.folder}; {has}"
        memory = f", {self.megabytes} MB" if self.megabytes else ""
        return f"Argilla at {self.url} on {self.folder}, process {self.pid} since {self.started:%Y-%m-%d %H:%M} UTC{memory}"


def start(
    folder: str | os.PathLike[str] = "data/argilla",
    *,
    port: int = 0,
    python: str | os.PathLike[str] = "",
    timeout_seconds: float = 180.0,
) -> Server:
    """Return the server whose data are in `folder`: the one that runs, or one that is started and answers.

    `port` 0 is the port it had last, if that is free, else any. Its environment is made first where there is none, by
    default with this Python (see `_environment.environment`). Raises ReviewError, with the last lines of its log, when it
    does not answer in `timeout_seconds`: the port is in use, the folder cannot be written, the database is another
    version's, PostgreSQL is asked for, or something in its environment is broken."""
    folder = Path(folder).absolute()
    _refuse_another_database(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not any(folder.iterdir()):
            (folder / ".gitignore").write_text("*\n")  # wherever the folder is, no commit takes passwords along
        credentials = _credentials(folder)
        with _lock(folder):
            pass
    except OSError as error:
        raise ReviewError(
            f"{error.filename or folder} cannot be written: {error.strerror}. Give a folder that can: review.start(folder)."
        ) from error
    running = _wait(folder, None, timeout_seconds)
    if running is None:
        interpreter = _environment.environment(python)
        process = _launch(interpreter, folder, port or _last_free_port(credentials))
        running = _wait(folder, process, timeout_seconds)
        if running is None:
            raise _why_not(folder, interpreter)
    if port and running["port"] != port:
        raise ReviewError(
            f"the server of {folder} runs on port {running['port']}, not {port}. Stop it first: review.stop({str(folder)!r})."
        )
    credentials = _credentials(folder, port=running["port"])
    rest = Rest(f"http://127.0.0.1:{running['port']}", credentials["api_key"])
    return Server(
        rest, credentials["owner"], folder, {credentials["owner"]: credentials["password"], **credentials["users"]}
    )


def connect(url: str, api_key: str, *, headers: Mapping[str, str] | None = None) -> Server:
    """Return a server that runs elsewhere. `headers` go with every request; a private Space asks for an Authorization.

    Raises ReviewError when it cannot be reached, is no Argilla, or does not know the key."""
    rest = Rest(url, api_key, headers or {})
    me = rest.get("me")
    if not isinstance(me, dict) or "username" not in me:
        raise ReviewError(
            f"{rest.url} does not say who the key belongs to, so it is no Argilla server. Check the address."
        )
    return Server(rest, me["username"])


def stop(folder: str | os.PathLike[str] = "data/argilla", *, timeout_seconds: float = 15.0) -> Status:
    """Stop the folder's server, if one runs, and return the status after. Its temporary files go, its data stay."""
    folder = Path(folder).absolute()
    running, deadline = _running(folder), time.monotonic() + timeout_seconds
    while running is None and _is_held(folder) and time.monotonic() < deadline:  # it is just being started
        time.sleep(_STEP)
        running = _running(folder)
    if running is not None:
        for how, seconds in ((signal.SIGTERM, timeout_seconds), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running["pid"], how)
            deadline = time.monotonic() + seconds
            while _is_held(folder) and time.monotonic() < deadline:
                time.sleep(_STEP)
        if (child := _children.pop(running["pid"], None)) is not None:
            child.poll()
        if _is_held(folder):
            raise ReviewError(
                f"the server of {folder}, process {running['pid']}, does not end. Ask its owner to stop it."
            )
    if folder.is_dir():
        with _lock(folder) as is_free:
            if is_free:
                shutil.rmtree(folder / "tmp", ignore_errors=True)
                (folder / "server.json").unlink(missing_ok=True)
    return Status(folder)


def status(folder: str | os.PathLike[str] = "data/argilla") -> Status:
    """Return whether a server runs on the folder, and where."""
    folder = Path(folder).absolute()
    running = _running(folder)
    if running is None:
        return Status(folder)
    started = datetime.fromisoformat(running["started"])
    return Status(folder, f"http://127.0.0.1:{running['port']}", running["pid"], started, _megabytes(running["pid"]))


# --- the process ----------------------------------------------------------------------------------------------------


_children: dict[int, subprocess.Popen] = {}  # servers that this process started: it has to see them end


def _launch(interpreter: Path, folder: Path, port: int) -> subprocess.Popen:
    command = [str(interpreter), str(_environment.FOLDER / "launch.py"), str(folder), str(port)]
    with _lock(folder) as is_free:
        if is_free:
            (folder / "server.json").unlink(missing_ok=True)  # of a server that was killed
            (folder / "server.log").write_bytes(b"")
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_variables(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # neither the stop button nor the kernel's end reaches it
        )
    _children[process.pid] = process
    return process


def _variables(folder: Path) -> dict[str, str]:
    """The environment of the server: this one's without what would lead it elsewhere."""
    # Those of Python would show it other packages than its own, or keep it from writing bytecode and double the time of a start.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("ARGILLA_", "PYTHON"))}
    return {
        **ours,
        "PYTHONPATH": str(_environment.FOLDER),
        "TMPDIR": str(folder / "tmp"),
        "ARGILLA_HOME_PATH": str(folder),
        # Relative to the working folder, so that no sign in the path can be mistaken for one of the address.
        "ARGILLA_DATABASE_URL": "sqlite+aiosqlite:///argilla.db?check_same_thread=False",
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
        "ARGILLA_SEARCH_ENGINE": "embedded",
        # A new one at each start would log every browser out.
        "ARGILLA_AUTH_SECRET_KEY": _credentials(folder)["auth_secret_key"],
        "ARGILLA_CORS_ORIGINS": "[]",  # the page is its own; no other needs to read what is here
        "ARGILLA_DOCS_ENABLED": "false",  # that page loads its code from elsewhere
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _wait(folder: Path, process: subprocess.Popen | None, seconds: float) -> dict[str, Any] | None:
    """Return what server.json says, once the server that it speaks of answers; None when neither a server holds the folder
    nor the process is about to."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        running = _running(folder)
        if running is not None and _answers(running["port"]):
            return running
        is_starting = process is not None and process.poll() is None
        if not is_starting and not _is_held(folder):
            return None
        time.sleep(_STEP)
    if process is not None:
        process.terminate()
    raise ReviewError(
        f"the server of {folder} does not answer after {seconds:g} s. Give it more: review.start(timeout_seconds=...). The last "
        f"lines of its log:\n{_last_lines(folder)}"
    )


def _why_not(folder: Path, interpreter: Path) -> ReviewError:
    last = _last_lines(folder)
    words = last.rpartition("\n")[2]
    if words.startswith("refused: "):
        return ReviewError(f"the server of {folder} cannot start: {words.removeprefix('refused: ')}")
    if words.startswith("broken: "):
        _environment.forget(interpreter)
        return ReviewError(
            f"something is missing in Argilla's environment ({words.removeprefix('broken: ')}). It is made anew when you call "
            "review.start() again."
        )
    return ReviewError(f"the server of {folder} ended while it started. The last lines of its log:\n{last}")


def _answers(port: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v1/version")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _last_lines(folder: Path, count: int = 12) -> str:
    text = (folder / "server.log").read_text(errors="replace")
    return "\n".join(text.rstrip().splitlines()[-count:])


def _megabytes(pid: int) -> int:
    """The resident memory of a process, 0 where there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:")), 0)


# --- what is in the folder ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Yield whether nobody else holds the folder's lock, and hold it meanwhile. A server holds it as long as it lives, so
    neither a file that a killed one left nor another process that got its number is taken for a server."""
    with (folder / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_held(folder: Path) -> bool:
    if not (folder / "server.lock").exists():
        return False
    with _lock(folder) as is_free:
        return not is_free


def _running(folder: Path) -> dict[str, Any] | None:
    """What server.json says, None where no server holds the folder or it has not said it yet."""
    if not _is_held(folder):
        return None
    try:
        return json.loads((folder / "server.json").read_bytes())
    except FileNotFoundError:
        return None


def _credentials(folder: Path, **changed: Any) -> dict[str, Any]:
    """The owner's name, password and key, the passwords of users, the key that sessions are signed with, and the last port;
    made where there are none, and kept with what is changed, of the users those that are given."""
    path = folder / "credentials.json"
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # two kernels at once would each write what the other does not know
        try:
            found = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            found = {}
        made = {
            "owner": OWNER, "password": secrets.token_urlsafe(12), "api_key": secrets.token_urlsafe(48),
            "auth_secret_key": secrets.token_hex(32), "users": {}, "port": 0,
        }  # fmt: skip
        wanted = {**made, **found, **changed}
        wanted["users"] = {**found.get("users", {}), **changed.get("users", {})}
        if wanted != found:
            _write(path, wanted)
        return wanted
    finally:
        os.close(handle)


def _keep_password(folder: Path, name: str, password: str) -> None:
    _credentials(folder, users={name: password})


def _write(path: Path, value: Any) -> None:
    """Write JSON that only this user may read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(value, file)
    unfinished.replace(path)


def _last_free_port(credentials: dict[str, Any]) -> int:
    """The port the server had last, so that bookmarks and logins stay good; 0 for any, when it is taken."""
    import socket

    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", credentials["port"]))
        except OSError:
            return 0
    return credentials["port"]


def _refuse_another_database(folder: Path) -> None:
    url = os.environ.get("ARGILLA_DATABASE_URL", "")
    if url:
        kind = "PostgreSQL" if url.startswith("postgres") else url.partition(":")[0]
        raise ReviewError(
            f"ARGILLA_DATABASE_URL is set, to {kind}, and this server keeps its data in {folder / 'argilla.db'} alone. Unset it "
            "(del os.environ['ARGILLA_DATABASE_URL']), or use the server of that database: review.connect(url, api_key)."
        )
