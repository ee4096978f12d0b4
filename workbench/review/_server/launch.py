"""The process of the server: argilla-server with the embedded search and its jobs inside, on 127.0.0.1 alone.

    python launch.py FOLDER PORT

It runs in an environment of its own, with the variables that workbench/review/server.py sets. FOLDER holds credentials.json,
and gets argilla.db, the lock that is held while this process lives, and server.json, which says where it listens. When it
cannot start, the last line it prints begins with "refused: " or "broken: "."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

_SECONDS_FOR_LOCK = 2.0  # whoever looks whether a server runs holds the lock for a moment


def main(folder: Path, port: int) -> None:
    os.umask(0o077)  # the database has everybody's API key, and the folder may be one that others can look into
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the temporary files go, whatever is under way
    with only_server(folder), temporary_folder(), listening(port) as server_socket:
        said = folder / "server.json"
        started = datetime.now(UTC).isoformat(timespec="seconds")
        write(said, {"pid": os.getpid(), "port": server_socket.getsockname()[1], "started": started})
        try:
            serve(folder, server_socket)
        finally:
            said.unlink(missing_ok=True)


@contextlib.contextmanager
def only_server(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. It goes with the process, so one that was killed leaves none behind."""
    with (folder / "server.lock").open("w") as lock:
        deadline = time.monotonic() + _SECONDS_FOR_LOCK
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    refuse(f"another server has {folder}")
                time.sleep(0.05)
        yield


@contextlib.contextmanager
def temporary_folder() -> Iterator[None]:
    """Argilla copies its page, 1,333 files, into a new temporary folder at each start and leaves it there."""
    folder = Path(os.environ["TMPDIR"])
    shutil.rmtree(folder, ignore_errors=True)  # of a server that was killed
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket on loopback, taken at once; it answers when the server is ready."""
    with socket.socket() as server_socket:
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
        try:
            server_socket.bind(("127.0.0.1", port))
        except OSError as error:
            refuse(f"port {port} cannot be had: {error.strerror}")
        yield server_socket


def serve(folder: Path, server_socket: socket.socket) -> None:
    try:
        import jobs

        jobs.install()
        import alembic
        import argilla_server
        import changes
        import uvicorn
        from embedded_search import engine  # registers itself
    except ImportError as error:
        print(f"broken: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    changes.apply()
    database(folder / "argilla.db", alembic, engine.COVERING)
    asyncio.run(owner(json.loads((folder / "credentials.json").read_text())))
    jobs.start()
    config = uvicorn.Config(argilla_server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    try:
        uvicorn.Server(config).run(sockets=[server_socket])
    finally:
        with contextlib.closing(sqlite3.connect(folder / "argilla.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that a copy of this one file is whole


def database(path: Path, alembic: Any, indexes: tuple[str, ...]) -> None:
    """Make Argilla's database, or look whether it is one that this version made."""
    import alembic.command
    import alembic.config
    import alembic.script
    from argilla_server._version import __version__
    from argilla_server.database import ALEMBIC_CONFIG_FILE
    from argilla_server.settings import settings

    config = alembic.config.Config(ALEMBIC_CONFIG_FILE)
    revisions = alembic.script.ScriptDirectory.from_config(config)
    if not path.exists():
        # Under another name until it is whole: one that was cut off would look like an older version's.
        unfinished, url = path.with_suffix(".unfinished"), settings.database_url
        unfinished.unlink(missing_ok=True)
        config.config_file_name = None  # or it sets up logging, and silences what is there
        settings.database_url = url.replace(path.name, unfinished.name)
        alembic.command.upgrade(config, "head")
        settings.database_url = url
        with contextlib.closing(sqlite3.connect(unfinished)) as db:
            db.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a bulk
        unfinished.replace(path)
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            found = [revision for (revision,) in db.execute("SELECT version_num FROM alembic_version")]
            if found == [revisions.get_current_head()]:
                path.chmod(0o600)
                for index in indexes:
                    db.execute(index)
                return
    except sqlite3.DatabaseError as error:
        refuse(f"{path} is no database of Argilla's ({error}). Move it away, or give another folder")
    known = {script.revision for script in revisions.walk_revisions()}
    whose = "an older version" if set(found) <= known else "a newer version"
    refuse(
        f"{path} was made by {whose} of Argilla, and this is {__version__}, which would change it for good. "
        "Give another folder, or keep a copy and let that version's own server have it"
    )


async def owner(credentials: dict[str, str]) -> None:
    """Make the owner, or give it the password and key of the credentials, should they have been lost and made anew."""
    from argilla_server.contexts import accounts
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.models import User, UserRole

    name, key = credentials["owner"], credentials["api_key"]
    async with AsyncSessionLocal() as db:
        user = await User.get_by(db, username=name)
        if user is not None and user.api_key == key:
            return
        values = {
            "password_hash": accounts.hash_password(credentials["password"]),
            "api_key": key,
            "role": UserRole.owner,
        }
        if user is not None:
            await user.update(db, **values)
        else:
            await User.create(db, first_name=name, username=name, workspaces=[], **values)


def write(path: Path, value: Any) -> None:
    """Write JSON that only this user may read, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(value, file)
    unfinished.replace(path)


def refuse(why: str) -> NoReturn:
    print(f"refused: {why}.", file=sys.stderr, flush=True)
    sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
