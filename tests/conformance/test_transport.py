"""The HTTP endpoint against a real server on loopback: retries, errors, no key in the record; and the recording."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from refsample.conformance.transport import Exchange, HttpEndpoint, Recorder, Recording
from refsample.errors import EndpointError, RecordError

SEEN: list[tuple[str, str | None]] = []


class Busy(BaseHTTPRequestHandler):
    """Answers 429 once for each path, then echoes the body."""

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        SEEN.append((self.path, self.headers.get("authorization")))
        first = sum(path == self.path for path, _ in SEEN) == 1
        self.send_response(429 if first else 200)
        if first:
            self.send_header("retry-after", "0")
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def busy() -> Iterator[str]:
    SEEN.clear()
    server = HTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_busy_answer_is_tried_again_and_the_key_is_not_recorded(busy: str) -> None:
    endpoint = HttpEndpoint(busy + "/v1/", "very-secret")
    recorder = Recorder(endpoint)
    exchange = recorder.send("POST", "/v1/completions", {"prompt": "é"})
    endpoint.close()
    assert (exchange.status, exchange.attempts, exchange.content_type) == (200, 2, "application/json")
    assert exchange.json() == {"prompt": "é"}
    assert SEEN == [("/v1/completions", "Bearer very-secret")] * 2
    assert "very-secret" not in repr(recorder.exchanges)


def test_a_kept_connection_that_the_server_dropped_is_opened_again() -> None:
    """As llama.cpp does after a stream: it keeps the connection by its headers and closes it all the same."""
    listener = socket.create_server(("127.0.0.1", 0))
    questions: list[bytes] = []

    def answer_once_a_connection(count: int) -> None:
        for _ in range(count):
            connection, _address = listener.accept()
            with connection:
                questions.append(connection.recv(65536))
                if len(questions) != 2:
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        listener.close()

    thread = threading.Thread(target=answer_once_a_connection, args=(3,))
    thread.start()
    endpoint = HttpEndpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=10.0)
    assert endpoint.send("GET", "/one").status == 200
    second = endpoint.send("GET", "/two")
    assert (second.status, second.attempts) == (200, 2)
    thread.join()
    with pytest.raises(EndpointError, match="GET .*/three failed"):
        endpoint.send("GET", "/three")
    endpoint.close()
    assert [question.split()[1] for question in questions] == [b"/one", b"/two", b"/two"]


def test_only_line_ends_end_a_line_of_a_stream() -> None:
    text = 'data: {"text":"a\u2028b\x85c"}\r\n\r\ndata: 1\rdata: 2\n\ndata: [DONE]\n\n'
    exchange = Exchange("POST", "/a", None, 200, "text/event-stream", text)
    assert exchange.events() == ['{"text":"a\u2028b\x85c"}', "1\n2", "[DONE]"]


def test_nobody_there() -> None:
    endpoint = HttpEndpoint("http://127.0.0.1:9", timeout_s=2.0)
    with pytest.raises(EndpointError, match="GET http://127.0.0.1:9/v1/models failed"):
        endpoint.send("GET", "/v1/models")
    endpoint.close()


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8000", ""])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(EndpointError, match="http"):
        HttpEndpoint(url)


def test_a_recording_answers_in_order_and_refuses_another_question() -> None:
    one = Exchange("POST", "/a", {"x": 1}, 200, "application/json", json.dumps({"y": 2}))
    recording = Recording("http://recorded", [one])
    assert recording.send("POST", "/a", {"x": 1}).json() == {"y": 2}
    with pytest.raises(RecordError, match="ends after 1 exchanges"):
        recording.send("POST", "/a", {"x": 1})
    with pytest.raises(RecordError, match="exchange 0 of the record is POST /a"):
        Recording("http://recorded", [one]).send("POST", "/a", {"x": 2})
