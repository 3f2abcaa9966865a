"""The HTTP endpoint against a real server on loopback: retries, errors, no key in the record; and the recording."""

import json
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from refsample.conformance.session import error_text
from refsample.conformance.transport import (
    UNANSWERED,
    Exchange,
    HttpEndpoint,
    Recorder,
    Recording,
    _time_of,
    base_of,
    parse_json,
)
from refsample.errors import EndpointError, ParameterError, RecordError
from refsample.spec.provider import Auth

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
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
    assert exchange.at is not None and abs(exchange.at - time.time()) < 60  # its Date header
    assert SEEN == [("/v1/completions", "Bearer very-secret")] * 2
    assert "very-secret" not in repr(recorder.exchanges)


def test_the_time_of_an_answer_is_its_date_else_now() -> None:
    assert _time_of("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert all(abs(_time_of(odd) - time.time()) < 60 for odd in (None, "", "yesterday"))


@pytest.mark.parametrize("ended_by", ["end of stream", "reset"])
def test_a_kept_connection_that_the_server_dropped_is_opened_again(ended_by: str) -> None:
    """As llama.cpp does after a stream: it keeps the connection by its headers and closes it all the same.

    Which of the two a client sees is a race between its question and the server's close; here the server decides.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10.0)
    questions: list[bytes] = []

    def answer_then_drop() -> None:
        kept, _address = listener.accept()
        with kept:
            questions.append(kept.recv(65536))
            kept.sendall(ANSWER)
            questions.append(kept.recv(65536))
            if ended_by == "reset":
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        fresh, _address = listener.accept()
        with fresh:
            questions.append(fresh.recv(65536))
            fresh.sendall(ANSWER)
        listener.close()

    thread = threading.Thread(target=answer_then_drop, daemon=True)
    thread.start()
    endpoint = HttpEndpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=10.0)
    assert endpoint.send("GET", "/one").status == 200
    second = endpoint.send("GET", "/two")
    assert (second.status, second.attempts) == (200, 2)
    thread.join(10.0)
    with pytest.raises(EndpointError, match="GET .*/three failed"):
        endpoint.send("GET", "/three")
    endpoint.close()
    assert [question.split()[1] for question in questions] == [b"/one", b"/two", b"/two"]


def serve(listener: socket.socket, answers: Sequence[bytes], questions: list[bytes]) -> None:
    """Answer one question a connection."""
    for answer in answers:
        connection, _address = listener.accept()
        with connection:
            question = b""
            while not question.endswith(b"}"):
                question += connection.recv(65536)
            questions.append(question)
            connection.sendall(answer)
    listener.close()


def asked(*answers: bytes) -> tuple[Exchange, bytes]:
    """What a client makes of a server's raw answers to one request, and the last question as it was sent."""
    listener, questions = socket.create_server(("127.0.0.1", 0)), list[bytes]()
    thread = threading.Thread(target=serve, args=(listener, answers, questions), daemon=True)
    thread.start()
    endpoint = HttpEndpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=10.0)
    exchange = endpoint.send("POST", "/v1/completions", {"stop": "\ud83d"})
    endpoint.close()
    thread.join()
    return exchange, questions[-1]


def echoed(key: str, spelled: str, status: bytes = b"200 OK", headers: bytes = b"") -> Exchange:
    """What a client with a key makes of an answer that has `spelled` in its body."""
    listener, questions = socket.create_server(("127.0.0.1", 0)), list[bytes]()
    body = json.dumps({"you sent": "SPOT"}).replace("SPOT", spelled).encode()
    answer = b"HTTP/1.1 %s\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n%s" % (status, len(body), headers, body)
    thread = threading.Thread(target=serve, args=(listener, [answer], questions), daemon=True)
    thread.start()
    endpoint = HttpEndpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", key, timeout_s=10.0)
    exchange = endpoint.send("POST", "/v1/completions", {})
    endpoint.close()
    thread.join()
    assert key.encode() in questions[0]
    return exchange


KEY = 'se/cr"et\\key'


@pytest.mark.parametrize(
    "spelled",
    [
        json.dumps(KEY)[1:-1],
        json.dumps(json.dumps(KEY)[1:-1])[1:-1],
        json.dumps(KEY)[1:-1].replace("/", "\\/"),
        "".join(f"\\u{ord(c):04X}" for c in KEY),
        KEY,
        "se%2Fcr%22et%5ckey",
    ],
)
def test_a_key_that_the_server_sends_back_is_masked(spelled: str) -> None:
    assert echoed(KEY, "Bearer " + spelled).text == '{"you sent": "Bearer ***"}'


def test_a_key_in_a_header_or_a_redirect_is_masked_and_a_word_is_no_key() -> None:
    got = echoed("abcdef", "", headers=b"content-type: text/abcdef\r\n")
    assert got.content_type == "text/***"
    got = echoed("abcdef", "", b"302 Found", b"location: http://h/login?key=abcdef\r\n")
    assert got.text == "to http://h/login?key=***: give that URL"
    assert echoed("token", "5 token").text == '{"you sent": "5 token"}'


def test_an_error_of_the_client_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx2 = pytest.importorskip("httpx2")

    def request(self: Any, method: str, url: str, **more: Any) -> Any:
        raise httpx2.ConnectError(f"sent {self.headers['authorization']}")

    monkeypatch.setattr(httpx2.Client, "request", request)
    with pytest.raises(EndpointError, match=r"failed: sent Bearer \*\*\*$"):
        HttpEndpoint("http://h", "abcdef").send("POST", "/a", {})


def test_a_redirect_says_where_to() -> None:
    head = "HTTP/1.1 307 Temporary Redirect\r\ncontent-length: 0\r\nconnection: close\r\nlocation: "
    got, _ = asked(f"{head}https://elsewhere/v1/completions\r\n\r\n".encode())
    assert error_text(got) == "HTTP 307 to https://elsewhere/v1/completions: give that URL"
    got, _ = asked(f"{head}/v1/completions/\r\n\r\n".encode())
    assert error_text(got).endswith("/v1/completions/: give that URL") and "to http://127.0.0.1:" in error_text(got)


FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


def test_a_late_answer_is_an_exchange_and_five_in_a_row_are_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx2 = pytest.importorskip("httpx2")
    late = iter([True, False, *[True] * UNANSWERED])

    def request(self: Any, method: str, url: str, **more: Any) -> Any:
        if next(late):
            raise httpx2.ReadTimeout("timed out")
        return httpx2.Response(200, content=b"{}")

    monkeypatch.setattr(httpx2.Client, "request", request)
    endpoint = HttpEndpoint("http://h")
    got = [endpoint.send("POST", "/a", {"x": 1}) for _ in range(1 + UNANSWERED)]
    assert [exchange.status for exchange in got] == [0, 200, *[0] * (UNANSWERED - 1)]
    assert got[0] == Exchange("POST", "/a", {"x": 1}, 0, "", "POST http://h/a failed: timed out")
    with pytest.raises(EndpointError, match="POST http://h/a failed: timed out"):
        endpoint.send("POST", "/a", {"x": 1})
    endpoint.close()


@pytest.mark.parametrize("charset", ["rot13", "hex", "utf-16", "nonsense"])
def test_answers_are_utf_8_whatever_the_header_says(charset: str) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset={charset}\r\nconnection: close\r\n"
    body = '{"é": 1}'.encode() + b"\xff"
    got, sent = asked(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert got.text == '{"é": 1}\ufffd' and got.content_type == "application/json"
    assert sent.endswith(b'{"stop": "\\ud83d"}'), "half of a surrogate pair is sent escaped"


def test_a_wait_that_is_no_number_of_seconds_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("refsample.conformance.transport.time.sleep", waits.append)
    head = "HTTP/1.1 429 Busy\r\ncontent-length: 0\r\nconnection: close\r\nretry-after: "
    got, _ = asked(*(f"{head}{after}\r\n\r\n".encode() for after in ("²", "٣", "9" * 400)), FINE)
    assert got.attempts == 4
    assert waits == [1.0, 2.0, 30.0]


@pytest.mark.parametrize("key", ["sécret", "secret\n", "sec\tret", " secret"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ParameterError, match="api_key: must be printable ASCII") as caught:
        HttpEndpoint("http://127.0.0.1:9", key)
    assert "ret" not in str(caught.value)


def test_json_of_strangers() -> None:
    assert parse_json('{"a": "x\\ud83dy\\ude00", "\\udc00": "\\ud83d\\ude00", "b": "\\\\ud83d"}') == {
        "a": "x\ufffdy\ufffd", "\ufffd": "\U0001f600", "b": "\\ud83d",
    }  # fmt: skip
    assert math.isnan(parse_json("NaN"))
    assert parse_json("[" * 100_000) is None
    assert parse_json("9" * 5000) is None


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


def test_a_recorder_hands_on_each_exchange_as_it_comes_and_a_recording_notices_the_rest() -> None:
    one = Exchange("POST", "/a", None, 200, "application/json", "{}")
    kept: list[Exchange] = []
    recording = Recording("http://recorded", [one, one])
    recorder = Recorder(recording, kept.append)
    recorder.send("POST", "/a")
    assert kept == [one] == recorder.exchanges
    with pytest.raises(RecordError, match="has 2 exchanges and this version asks for 1"):
        recording.finish()
    recorder.send("POST", "/a")
    recording.finish()
    assert kept == [one, one]


@pytest.mark.parametrize(
    ("url", "paths", "base"),
    [
        ("http://h/v1", ["/v1/completions"], "http://h"),
        ("http://h/", ["/openai/v1/completions"], "http://h"),
        ("http://h/novita/openai/v1", ["/openai/v1/completions"], "http://h/novita"),
        ("http://h/openai/v1/completions", ["/openai/v1/completions"], "http://h"),
        ("http://h/v1", ["/openai/v1/completions"], "http://h"),
        ("http://h/v4/beta", ["/v4/beta/completions"], "http://h"),
        ("http://h/x", ["/v1/completions"], "http://h/x"),
    ],
)
def test_a_url_may_hold_the_beginning_of_a_path(url: str, paths: list[str], base: str) -> None:
    assert base_of(url, paths) == base


@pytest.mark.parametrize(
    ("place", "name", "scheme", "header", "field"),
    [
        ("header", "authorization", "Bearer", "Bearer s3cret", None),
        ("header", "x-api-key", "", "s3cret", None),
        ("body", "token", "", None, "s3cret"),
    ],
)
def test_the_key_goes_where_the_page_wants_it_and_nowhere_else(
    place: Any, name: str, scheme: str, header: str | None, field: str | None
) -> None:
    seen: list[tuple[str | None, Any]] = []

    class Keys(Busy):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append((self.headers.get(name), body.get(name)))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    httpd = HTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        auth = Auth(place=place, name=name, scheme=scheme, printed=True, required=False)
        endpoint = HttpEndpoint(f"http://127.0.0.1:{httpd.server_port}", "s3cret", auth=auth, timeout_s=30.0)
        exchange = endpoint.send("POST", "/v1/completions", {"model": "m"})
        endpoint.close()
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join(timeout=10)
    assert seen == [(header, field)]
    assert "s3cret" not in json.dumps(asdict(exchange)) and exchange.body == {"model": "m"}
