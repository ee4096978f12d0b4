"""A static chat completions server on 127.0.0.1: nginx with a generated config in a folder of its own.

Every POST /v1/chat/completions gets the same answer, so what a run costs is the client's own work.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

MODEL = "bench-model"

ANSWER = (
    "[[ ## question ## ]]\nWhat does the service return when the queue is full?\n\n"
    "[[ ## answer ## ]]\nIt returns status 429.\n\n"
    "[[ ## evidence ## ]]\nWhen the queue is full, the service returns status 429.\n\n"
    "[[ ## completed ## ]]"
)

COMPLETION = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1700000000,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 150, "completion_tokens": 60, "total_tokens": 210},
}

MODELS = {
    "object": "list",
    "data": [{"id": MODEL, "object": "model", "created": 1700000000, "owned_by": "bench"}],
}

CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_max_body_size 64m;
    default_type application/json;
    log_format tick "+";
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        access_log off;
        location = /v1/chat/completions {{ access_log {log}; return 200 {completion}; }}
        location = /v1/models {{ return 200 {models}; }}
        location / {{ return 404 '{{}}'; }}
    }}
}}
"""


class Server:
    """One nginx with one worker, up inside a `with` block.

    With `count=True` each chat request adds one 2-byte line to an unbuffered log, and `requests()`
    tells how many were answered so far; without it there is no log, and no cost of one.
    """

    def __init__(self, count: bool = False):
        self.count = count

    def __enter__(self) -> "Server":
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None:
            raise RuntimeError("nginx is not installed (Debian: apt-get install nginx-light)")
        self.folder = Path(tempfile.mkdtemp(prefix="workbench-bench-nginx-"))
        self.log = self.folder / "requests.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        config = self.folder / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=self.folder,
                port=self.port,
                log=f"{self.log} tick" if self.count else "off",
                completion=_literal(COMPLETION),
                models=_literal(MODELS),
            )
        )
        command = [nginx, "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c", str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def requests(self) -> int:
        """How many chat requests were answered since the start (needs `count=True`)."""
        return os.stat(self.log).st_size // 2

    def _wait(self) -> None:
        """Return once the server answers, within 10 s."""
        deadline = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/models", timeout=2) as response:
                    assert json.load(response) == MODELS
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    error = self.folder / "error.log"
                    raise RuntimeError(f"nginx did not start: {error.read_text() if error.exists() else ''}") from None
                time.sleep(0.02)


def _literal(value: dict) -> str:
    """The JSON of `value` as a quoted string of an nginx config."""
    text = json.dumps(value, separators=(",", ":"))
    assert "$" not in text and len(text) < 4000
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
