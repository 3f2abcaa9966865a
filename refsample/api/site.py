"""What happens to every HTTP request: key, body, refusals in the provider's shape. Knows no route and no sampling.

One `Shared` per server: models, the batcher that computes for all of them, limits. One `Site` per provider that is
served. The event loop never computes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from anyio import CapacityLimiter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from refsample.api import keys
from refsample.api.bell import Bells
from refsample.api.errors import error_body, failure, kind_of
from refsample.api.wire import dumps, loads
from refsample.errors import BusyError, ParameterError, RefsampleError
from refsample.generation.batch import Batcher
from refsample.generation.behaviour import Behaviour
from refsample.mask import masker
from refsample.spec.provider import ProviderSpec

if TYPE_CHECKING:
    from refsample.generation.model import Model

STOPPING = "the server is stopping"
"""What a client is told whose answer is not finished any more."""
RETRY_AFTER = "1"
"""Seconds until a client that was told to come back may do so; answers take about as long."""
STOP_CHECK_S = 0.2
"""How often a body that does not come is left to see whether the server stops."""
_PATH = "/:@!$&'()*+,;=-._~"
"""What stays as it is where a path is shown; the rest, line breaks too, is percent-encoded."""

_log = logging.getLogger("refsample.server")


class GoneError(Exception):
    """The client hung up, or the server stops: nobody waits for this answer. Never leaves the server."""


class TooLargeError(Exception):
    """A body beyond the limit. Never leaves the server."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all providers of one server share."""

    models: Mapping[str, Model]
    """By the names that requests use; adapters beside the models they sit on."""
    api_key: str | None = field(repr=False)
    max_body: int
    created: int
    batcher: Batcher
    closing: threading.Event = field(default_factory=threading.Event)
    bells: Bells = field(default_factory=Bells, repr=False)
    """What wakes the streams of an event loop."""
    waiters: CapacityLimiter = field(init=False)
    """Threads that wait for whole answers: one for each request that the batcher may hold."""
    masked: Callable[[str], str] = field(init=False, repr=False)
    """A line for a log, or an error, with the server's own key left out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "masked", masker(self.api_key))
        held = self.batcher.max_live + self.batcher.max_waiting
        object.__setattr__(self, "waiters", CapacityLimiter(held))

    def close(self) -> None:
        """End what is under way at its next token; nothing new is begun."""
        self.closing.set()
        self.batcher.close()


@dataclass(frozen=True, slots=True)
class Site:
    """One provider, served under one prefix."""

    shared: Shared
    prefix: str
    """What all its paths begin with: `/name`, or nothing."""
    page: ProviderSpec
    behaviour: Behaviour
    strict: bool

    def respond(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
        if status >= 400:  # an error repeats what was sent, in the wrong place perhaps the key
            body = _told(body, self.shared.masked)
        return Response(dumps(body), status, {**request_id(), **(headers or {})}, "application/json")

    def fail(
        self, kind: str, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        return self.respond(*failure(kind, message, self.page, code=code), headers)


def _told(body: Any, masked: Callable[[str], str]) -> Any:
    """An error's body with what it says of the request masked; the provider's own words stay."""
    if isinstance(body, dict):
        said = ("message", "detail", "param")
        return {k: masked(v) if k in said and isinstance(v, str) else _told(v, masked) for k, v in body.items()}
    return body


def request_id() -> dict[str, str]:
    """The header that names an answer."""
    return {"x-request-id": f"req_{secrets.token_hex(16)}"}


Handler = Callable[[Request], Awaitable[Response]]
SiteHandler = Callable[[Site, Request], Awaitable[Response]]


def guarded(site: Site, inner: SiteHandler) -> Handler:
    """A handler behind the key, whose refusals are answered in the provider's shape."""

    async def handler(request: Request) -> Response:
        response = await _answered(site, request, inner)
        _log.info("%s -> %d", site.shared.masked(where(request)), response.status_code)
        return response

    return handler


async def _answered(site: Site, request: Request, inner: SiteHandler) -> Response:
    try:
        if not await _is_known(site, request):
            message, challenge = keys.refusal(keys.places(site.page, strict=site.strict))
            return site.fail("unauthorized", message, headers=challenge)
        return await inner(site, request)
    except RefsampleError as error:
        status, body = error_body(error, site.page)
        if kind_of(error) == "internal":
            _log.error("%s", site.shared.masked(f"{where(request)}: {error}"))
        return site.respond(status, body, {"retry-after": RETRY_AFTER} if isinstance(error, BusyError) else None)
    except TooLargeError:
        return site.fail("too_large", f"the body is larger than {site.shared.max_body} bytes")
    except GoneError:
        return site.fail("internal", STOPPING)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it; 499 as nginx logs a client that closed


async def _is_known(site: Site, request: Request) -> bool:
    key = site.shared.api_key
    accepted = keys.places(site.page, strict=site.strict)
    if key is None:
        required = site.strict and any(place.required for place in accepted)
        return not required or keys.shown(request.headers, accepted)
    if keys.in_headers(request.headers, accepted, key):
        return True
    # a body is read for a stranger only where the page lets the key be in it
    in_body = request.method == "POST" and any(place.place == "body" for place in accepted)
    return in_body and keys.in_body(await json_body(site, request), accepted, key)


async def json_body(site: Site, request: Request) -> Any:
    """The value of the body, read once. Raises TooLargeError before all of it is read, ParameterError for no JSON."""
    if not hasattr(request.state, "body"):
        _check_headers(site, request)
        request.state.body = await run_in_threadpool(loads, await _read(site.shared, request))
    return request.state.body


async def _read(shared: Shared, request: Request) -> bytes:
    """The bytes of the body. Raises TooLargeError, ClientDisconnect, and GoneError once the server stops: a client may
    take its time to send them."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > shared.max_body:
        raise TooLargeError
    data, waiting = bytearray(), asyncio.ensure_future(request.receive())
    try:
        while not shared.closing.is_set():
            if not (await asyncio.wait({waiting}, timeout=STOP_CHECK_S))[0]:
                continue
            message = waiting.result()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            data += message.get("body", b"")
            if len(data) > shared.max_body:
                raise TooLargeError
            if not message.get("more_body", False):
                return bytes(data)
            waiting = asyncio.ensure_future(request.receive())
    finally:
        waiting.cancel()
    raise GoneError


def _check_headers(site: Site, request: Request) -> None:
    """ParameterError where the page asks for a header, and strict mode holds requests to the page."""
    for header in site.page.headers if site.strict else ():
        sent = request.headers.get(header.name)
        if sent is None or sent.partition(";")[0].strip().lower() != header.value:
            raise ParameterError(header.name, ... if sent is None else sent, f"must be {header.value}", site.page.title)


def where(request: Request) -> str:
    """Method and path for a message: one line, without the query."""
    return f"{request.method} {quote(request.scope['path'], safe=_PATH)}"
