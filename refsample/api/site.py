"""What happens to one HTTP request: key, body, answer, errors. Knows nothing of routes, sockets or sampling.

The event loop never computes: each answer is made in a worker thread, one token at a time under its model's lock, so
that answers take turns and health checks stay prompt. No answer depends on load. Where a client goes away, work stops.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refsample.api.answer import Job, ready
from refsample.api.chat import chat_completion
from refsample.api.completions import completion
from refsample.api.errors import error_body, failure
from refsample.api.stream import chunks
from refsample.api.wire import dumps, loads
from refsample.errors import MissingExtraError, RefsampleError, UnknownModelError
from refsample.generation.behaviour import Behaviour
from refsample.generation.sequence import TokenEvent
from refsample.spec.provider import EndpointSpec, ProviderSpec

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response, StreamingResponse
except ModuleNotFoundError as error:
    raise MissingExtraError("server", error.name or "starlette") from None

if TYPE_CHECKING:
    from refsample.generation.model import Model

STOPPING = "the server is stopping"
"""What a client is told whose answer is not finished any more."""

_log = logging.getLogger("refsample.server")


class _Gone(Exception):
    """The client hung up, or the server stops: nobody waits for this answer. Never leaves this module."""


@dataclass(frozen=True, slots=True)
class Site:
    """What all requests share."""

    models: Mapping[str, Model]
    page: ProviderSpec
    behaviour: Behaviour
    strict: bool
    api_key: str | None
    max_body: int
    created: int
    closing: threading.Event = field(default_factory=threading.Event)
    locks: dict[int, threading.Lock] = field(default_factory=dict)
    """By the identity of a model: one model may be served under several names."""

    def __post_init__(self) -> None:
        for model in self.models.values():
            self.locks[id(model)] = threading.Lock()

    def respond(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
        return Response(dumps(body), status, {**_request_id(), **(headers or {})}, "application/json")

    def fail(
        self, kind: str, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        return self.respond(*failure(kind, message, self.page, code=code), headers)

    def locked(self, job: Job, gone: threading.Event) -> Iterator[TokenEvent]:
        """The events of a job, each computed while no other thread computes on that model."""
        lock = self.locks[id(job.model)]
        while True:
            with lock:
                if gone.is_set() or self.closing.is_set():
                    job.events.close()
                    raise _Gone
                event = next(job.events, None)
            if event is None:
                return
            yield event


def _request_id() -> dict[str, str]:
    return {"x-request-id": f"req_{secrets.token_hex(16)}"}


Handler = Callable[[Request], Awaitable[Response]]


def guarded(site: Site, inner: Callable[[Site, Request], Awaitable[Response]]) -> Handler:
    """A handler behind the key, whose refusals are answered in the provider's shape."""

    async def handler(request: Request) -> Response:
        if site.api_key is not None and not _has_key(site, request):
            message = f"no valid API key: send {site.page.auth.header}: {site.page.auth.scheme} KEY".replace(
                ":  ", ": "
            )
            return site.fail("unauthorized", message, headers={"www-authenticate": site.page.auth.scheme or "ApiKey"})
        try:
            return await inner(site, request)
        except RefsampleError as error:
            status, body = error_body(error, site.page)
            if status >= 500:
                _log.error("%s %s: %s", request.method, request.url.path, error)
            return site.respond(status, body)
        except _Gone:
            return site.fail("internal", STOPPING)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; 499 as nginx logs a client that closed

    return handler


def _has_key(site: Site, request: Request) -> bool:
    sent = request.headers.get(site.page.auth.header, "")
    scheme, _, key = sent.rpartition(" ")
    fits = scheme.strip().lower() == site.page.auth.scheme.lower()
    # starlette reads a header's bytes as Latin-1; clients send a key outside ASCII as UTF-8
    return fits and hmac.compare_digest(key.encode("latin-1"), (site.api_key or "").encode())


def health(site: Site) -> Response:
    """GET /health: needs no key."""
    return site.respond(200, {"status": "ok", "models": list(site.models)})


async def model_list(site: Site, request: Request) -> Response:
    """GET /v1/models."""
    return site.respond(200, {"object": "list", "data": [_card(site, name) for name in site.models]})


async def model_card(site: Site, request: Request) -> Response:
    """GET /v1/models/{name}."""
    name = request.path_params["name"]
    if name not in site.models:
        raise UnknownModelError(name, tuple(site.models))
    return site.respond(200, _card(site, name))


def _card(site: Site, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": site.created, "owned_by": "refsample"}


def generating(endpoint: EndpointSpec) -> Callable[[Site, Request], Awaitable[Response]]:
    """The handler of one generating endpoint."""

    async def generate(site: Site, request: Request) -> Response:
        data = await _body(site, request)
        if data is None:
            return site.fail("too_large", f"the body is larger than {site.max_body} bytes")
        job = await run_in_threadpool(_ready, site, endpoint, data)
        gone = threading.Event()
        if job.request.stream:
            headers = {**_request_id(), "cache-control": "no-cache"}
            return StreamingResponse(_frames(site, job, gone), 200, headers, "text/event-stream")
        make = chat_completion if endpoint.kind == "chat" else completion
        watcher = asyncio.create_task(_watch(request, gone))
        try:
            return site.respond(200, await run_in_threadpool(make, job, site.locked(job, gone)))
        finally:
            gone.set()
            watcher.cancel()

    return generate


async def _body(site: Site, request: Request) -> bytes | None:
    """The whole body; None if it is too large, which is known before all of it is read."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > site.max_body:
            return None
    return bytes(data)


def _ready(site: Site, endpoint: EndpointSpec, data: bytes) -> Job:
    """Everything that can refuse a request. Runs in a worker thread: long prompts take time to encode."""
    return ready(site.models, loads(data), site.page, endpoint, site.behaviour, strict=site.strict)


async def _watch(request: Request, gone: threading.Event) -> None:
    """Sets `gone` when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def _frames(site: Site, job: Job, gone: threading.Event) -> AsyncIterator[bytes]:
    """The answer as server-sent events. An error after the first byte comes as a last data line, as vLLM does."""
    answer = chunks(job, site.locked(job, gone))
    try:
        while (chunk := await run_in_threadpool(next, answer, None)) is not None:
            yield b"data: " + dumps(chunk) + b"\n\n"
        yield b"data: [DONE]\n\n"
    except RefsampleError as error:
        yield b"data: " + dumps(error_body(error, site.page)[1]) + b"\n\n"
    except _Gone:
        yield b"data: " + dumps(failure("internal", STOPPING, site.page)[1]) + b"\n\n"
    finally:
        gone.set()
