"""Bodies that come slowly, in part or not at all: nobody is waited for when the server stops or the size is clear."""

from __future__ import annotations

import logging
import socket
import threading
from urllib.parse import urlsplit

import pytest

from refsample.api.server import LocalServer, create_app
from refsample.generation.model import Model


def begun(url: str, head: str, body: bytes = b"") -> socket.socket:
    """A connection that has sent so much and goes on waiting."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), timeout=30)
    connection.sendall(f"POST /v1/completions HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode() + body)
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up, or the body is there."""
    data = b""
    while part := connection.recv(65536):
        data += part
        if data.endswith(b"}"):
            break
    return data


def test_half_a_body_holds_up_no_stop(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = LocalServer(create_app({"tiny": model}))
    url = server.__enter__()
    with begun(url, "content-length: 500", b'{"model": ') as connection:
        ended = threading.Timer(0.5, server.__exit__, (None, None, None))
        ended.start()
        said = answer(connection)
        ended.join()
    assert said.startswith(b"HTTP/1.1 500 ") and b"the server is stopping" in said
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_size_that_is_declared_is_refused_at_once(model: Model) -> None:
    with LocalServer(create_app({"tiny": model}, max_body=1000)) as url:
        with begun(url, "content-length: 1001") as connection:  # not a byte of it is sent
            assert answer(connection).startswith(b"HTTP/1.1 413 ")
        with begun(url, "content-length: 10", b"123456789") as connection:
            connection.sendall(b"0")
            assert b"must be a JSON object" in answer(connection)


def test_a_client_that_leaves_in_the_middle_is_let_go(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with LocalServer(create_app({"tiny": model})) as url:
        begun(url, "content-length: 500", b'{"model": ').close()
        with begun(url, "content-length: 2", b"{}") as connection:
            assert answer(connection).startswith(b"HTTP/1.1 400 ")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
