"""`refsample serve` as a process, and a relay that notes what passes through it. Knows no client and no provider."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.house.sources import PACKAGES, ROOT

KEY = "no-real-key-but-a-canary-3f9c1d7e"
"""The one key of these tests: found anywhere in what was written, it has leaked."""
KEY_ENV = "REFSAMPLE_TEST_KEY"
LANE = "REFSAMPLE_CLIENTS_LANE"
"""Set by the clients lane: what a test needs is there, and its absence is a failure."""
NODE_MODULES = ROOT / ".ci-node" / "node_modules"
"""Where the clients lane installs openai-node, pinned by node/package-lock.json."""
LANGUAGE = {"LANG": "C.UTF-8", "PYTHONUTF8": "1"}
_HOP = {"connection", "transfer-encoding", "content-length", "host", "accept-encoding"}


@dataclass(frozen=True, slots=True)
class Served:
    """A server process: where it listens, and the files that take what it says."""

    url: str
    out: Path
    err: Path


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as bytes on the wire."""

    method: str
    path: str
    sent_headers: Mapping[str, str]
    sent: bytes
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request(self) -> Any:
        return json.loads(self.sent)

    @property
    def answer(self) -> Any:
        return json.loads(self.body)


def need(what: str, absent: bool) -> None:
    """Skip where a tool is missing; in the clients lane that is a failure."""
    if absent and os.environ.get(LANE):
        pytest.fail(f"the clients lane lacks {what}")
    if absent:
        pytest.skip(f"no {what} here: `.ci/run clients` has it")


def missing(module: str) -> bool:
    """Whether a Python module is not installed."""
    return importlib.util.find_spec(module) is None


def environ(**more: str) -> dict[str, str]:
    """The environment of a child: this checkout's packages, no proxy, no key but those of `more`."""
    kept = {name: value for name, value in os.environ.items() if not re.search("proxy|api_?key|token", name, re.I)}
    return {**kept, **LANGUAGE, "PYTHONPATH": os.pathsep.join(str(package.parent) for package in PACKAGES), **more}


@contextmanager
def serving(folder: Path, *arguments: str, key: str | None = KEY) -> Iterator[Served]:
    """`refsample serve ARGUMENTS` on a free loopback port, ended by Ctrl-C; its output lies under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    served = Served("", folder / "serve.out", folder / "serve.err")
    secret = {KEY_ENV: key} if key is not None else {}
    asked = ("--api-key-env", KEY_ENV) if key is not None else ()
    command = [sys.executable, "-m", "refsample", "serve", "--port", "0", *asked, *arguments]
    with served.out.open("wb") as out, served.err.open("wb") as err:
        child = subprocess.Popen(command, cwd=ROOT, env=environ(**secret), stdout=out, stderr=err)
        try:
            yield Served(_url_of(child, served.err), served.out, served.err)
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(timeout=30)


def _url_of(child: subprocess.Popen[bytes], err: Path, patience: float = 120) -> str:
    """The address in the server's banner, once it is there."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        said = err.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"http://127\.0\.0\.1:\d+", said):
            return found.group()
        assert child.poll() is None, f"the server ended: {said}"
        time.sleep(0.05)
    raise AssertionError(f"no address after {patience} s: {err.read_text(encoding='utf-8', errors='replace')}")


@contextmanager
def relay(target: str) -> Iterator[tuple[str, list[Exchange]]]:
    """A loopback URL that passes everything to `target`, and the list that the exchanges are noted in."""
    noted: list[Exchange] = []
    host, port = target.removeprefix("http://").split(":")

    class Handler(BaseHTTPRequestHandler):
        timeout = 120

        def _pass(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            onward = http.client.HTTPConnection(host, int(port), timeout=120)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            onward.request(self.command, self.path, sent, headers)
            answer = onward.getresponse()
            body = answer.read()
            onward.close()
            back = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            noted.append(
                Exchange(self.command, self.path, dict(self.headers.items()), sent, answer.status, back, body)
            )
            self.send_response_only(answer.status)
            for name, value in back.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _pass

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: what passes is in the list."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", noted
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
