"""How the verifier talks to an endpoint: over HTTP, or to a recording. It knows nothing of what is asked or why.

Every request and answer becomes an `Exchange`; a list of exchanges is the whole record of a run, so a run can be
judged again with no endpoint (`Recording`). Keys travel in headers and are never part of an exchange, not even where
the server sends them back.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin

from refsample.errors import EndpointError, MissingExtraError, ParameterError, RecordError
from refsample.mask import masker
from refsample.spec.provider import Auth

if TYPE_CHECKING:
    import httpx2

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
RETRIED = frozenset({429, 502, 503, 504})
ATTEMPTS = 5
LONGEST_WAIT_S = 30.0
BEARER = Auth(place="header", name="authorization", scheme="Bearer", printed=True, required=False)
UNANSWERED = 5
"""Requests in a row that may run out of time before the endpoint counts as gone."""


def parse_json(text: str) -> Any:
    """Text of an endpoint as JSON, or None where it is none (or nested too deep to be read).

    Half of a surrogate pair, which JSON can escape and UTF-8 cannot hold, becomes U+FFFD: what is read here is sent
    back in stop strings and printed in reports.
    """
    try:
        value = json.loads(text)
        if _ESCAPED_SURROGATE.search(text):
            # Whole pairs are one character by now, so every surrogate left is half of one.
            value = json.loads(_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return None
    return value


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came back, as text.

    Status 0 where no answer came in time, `text` says so; of a redirect it says where to.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None
    status: int
    content_type: str
    text: str
    attempts: int = 1
    at: int | None = field(default=None, compare=False)
    """Unix time of the answer: as its Date header says, else by the clock here; None where nobody looked."""

    def json(self) -> Any:
        """The answer as JSON, or None where it is not JSON."""
        return parse_json(self.text)

    def events(self) -> list[str]:
        """The `data:` payloads of a server-sent event stream, in order (WHATWG framing, any newline)."""
        payloads: list[str] = []
        lines: list[str] = []
        # Not splitlines: U+2028 and its like are text here.
        for line in [*re.split("\r\n|\r|\n", self.text), ""]:
            if line.startswith("data:"):
                lines.append(line[5:].removeprefix(" "))
            elif not line and lines:
                payloads.append("\n".join(lines))
                lines = []
        return payloads


class Endpoint(Protocol):
    """Whatever can be asked: a live server, an application in this process, a recording."""

    @property
    def url(self) -> str: ...

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange: ...


def base_of(url: str, paths: Iterable[str]) -> str:
    """The part of a URL that comes before a provider's paths: it may be given with or without their first parts."""
    url = url.rstrip("/")
    split = [path.split("/") for path in paths]
    ends = {"/".join(parts[:size]) for parts in split for size in range(2, len(parts) + 1)}
    return url.removesuffix(max((end for end in (*ends, "/v1") if url.endswith(end)), key=len, default=""))


class HttpEndpoint:
    """A server reached over HTTP; `url` with or without the beginning of its `paths`, such as /v1.

    `auth`: where the key goes. One that goes into the body is put there on the way, so no exchange ever holds it.
    `bare`: where it goes in a request that has no body, if `auth` is in the body. `headers`: others the page wants.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 120.0,
        paths: Iterable[str] = (),
        auth: Auth = BEARER,
        bare: Auth | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError("verify", "httpx2") from error
        self._url = base_of(url, paths)
        if api_key and not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
            # Not in the words of the client, which show the key.
            raise ParameterError("api_key", ..., "must be printable ASCII with no space around it: it goes in a header")
        key = {auth.name: f"{auth.scheme} {api_key}".strip()} if api_key and auth.place == "header" else {}
        headers = {**(headers or {}), **key}
        self._secret = {auth.name: api_key} if api_key and auth.place == "body" else {}
        self._bare = {bare.name: f"{bare.scheme} {api_key}".strip()} if api_key and bare and self._secret else {}
        self._masked = masker(api_key)
        try:
            self._client: httpx2.Client = httpx2.Client(headers=headers, timeout=timeout_s, trust_env=True)
            parts = httpx2.URL(self._url)
        except httpx2.InvalidURL as error:
            raise EndpointError(f"{url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https"):
            raise EndpointError(f"{url!r} is not an http or https URL: write it as http://HOST:PORT")
        if parts.userinfo or parts.query or parts.fragment:  # not shown: there may be a password in it
            raise EndpointError("the URL holds a user, a query or a fragment: write it as http://HOST:PORT/v1, "
                                "and name the variable of the key with --api-key-env")  # fmt: skip
        self._error = httpx2.HTTPError
        self._dropped = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)
        self._late = httpx2.TimeoutException
        self._unanswered = 0

    @property
    def url(self) -> str:
        return self._url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        """One request; busy answers (429, 502-504) are tried again up to five times, as Retry-After asks.

        A connection that ends without an answer is tried again once. A request that runs out of time is an exchange of
        status 0, so that one slow answer does not end a run. EndpointError where no answer comes, or five in a row
        run out of time.
        """
        # Not json=: it writes unescaped text, which half of a surrogate pair cannot be.
        content = None if body is None else json.dumps({**body, **self._secret}).encode()
        headers = self._bare if body is None else {"content-type": "application/json"}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._client.request(method, self._url + path, content=content, headers=headers)
            except self._error as error:
                # A server may close a kept connection just as it is used again (llama.cpp does after a stream).
                if attempt == 1 and isinstance(error, self._dropped):
                    continue
                said = self._masked(f"{method} {self._url}{path} failed: {str(error) or type(error).__name__}")
                self._unanswered += 1
                if isinstance(error, self._late) and self._unanswered < UNANSWERED:
                    return Exchange(method, path, body, 0, "", said, attempt)
                raise EndpointError(said) from error
            self._unanswered = 0
            if response.status_code not in RETRIED or attempt == ATTEMPTS:
                break
            time.sleep(min(LONGEST_WAIT_S, _retry_after(response.headers.get("retry-after"), attempt)))
        # Not response.text: JSON and event streams are UTF-8, and the charset of a header may name any codec.
        text = response.content.decode("utf-8", "replace")
        status, there = response.status_code, response.headers.get("location")
        if there and 300 <= status < 400:
            text = f"to {urljoin(self._url + path, there)}: give that URL"
        kind = self._masked(response.headers.get("content-type", "").split(";")[0].strip())
        at = _time_of(response.headers.get("date"))
        return Exchange(method, path, body, status, kind, self._masked(text), attempt, at)

    def close(self) -> None:
        self._client.close()


def _retry_after(header: str | None, attempt: int) -> float:
    """Seconds to wait: the server's own figure where it gives one in seconds, else 1, 2, 4, ..."""
    given = header is not None and header.isascii() and header.isdigit()
    return float(header or 0) if given else float(2 ** (attempt - 1))


def _time_of(date: str | None) -> int:
    """Unix time of a Date header, else of now."""
    try:
        return int(parsedate_to_datetime(date).timestamp()) if date else int(time.time())
    except (ValueError, OverflowError):
        return int(time.time())


class Recorder:
    """An endpoint that keeps everything that passes through it; `keep` is given each exchange as it comes."""

    def __init__(self, endpoint: Endpoint, keep: Callable[[Exchange], None] | None = None) -> None:
        self._endpoint, self._keep = endpoint, keep
        self.exchanges: list[Exchange] = []

    @property
    def url(self) -> str:
        return self._endpoint.url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        exchange = self._endpoint.send(method, path, body)
        self.exchanges.append(exchange)
        if self._keep is not None:
            self._keep(exchange)
        return exchange


class Recording:
    """A recorded run, answered again in the same order; a request that differs from the record is an error."""

    def __init__(self, url: str, exchanges: Sequence[Exchange]) -> None:
        self._url, self._exchanges, self._next = url, exchanges, 0

    @property
    def url(self) -> str:
        return self._url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        if self._next >= len(self._exchanges):
            raise RecordError(f"the record ends after {len(self._exchanges)} exchanges; {method} {path} is not in it")
        exchange = self._exchanges[self._next]
        if (exchange.method, exchange.path, exchange.body) != (method, path, body):
            raise RecordError(
                f"exchange {self._next} of the record is {exchange.method} {exchange.path} with another "
                "body than this version asks: judge it with the version that recorded it"
            )
        self._next += 1
        return exchange

    def finish(self) -> None:
        """Raises RecordError where exchanges are left that nobody asked for."""
        if self._next < len(self._exchanges):
            raise RecordError(
                f"the record has {len(self._exchanges)} exchanges and this version asks for {self._next}: judge it "
                "with the version that recorded it"
            )
