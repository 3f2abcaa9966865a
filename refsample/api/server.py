"""The API as an ASGI app, and ways to serve it: until interrupted, or in a thread on loopback. Knows no request."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from refsample.api.answer import default_behaviour
from refsample.errors import MissingExtraError, ParameterError
from refsample.generation.batch import Batcher
from refsample.generation.behaviour import Behaviour
from refsample.spec.provider import ProviderSpec, provider

try:  # the modules of the server are in here, since each of them needs starlette
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

    from refsample.api.routes import routes
    from refsample.api.site import Shared, Site, where
except ModuleNotFoundError as error:
    raise MissingExtraError("server", error.name or "starlette") from None

if TYPE_CHECKING:
    from refsample.generation.model import Model

Spec = str | ProviderSpec
MAX_BODY = 8 << 20
"""Bytes of the largest body that is read: many times any context in token ids."""
MAX_LIVE, MAX_WAITING = 64, 256
"""Choices that are computed together, and requests that wait for their turn."""


def create_app(
    models: Mapping[str, Model],
    spec: Spec | Mapping[str, Spec] = "openai",
    *,
    behaviour: Behaviour | Mapping[str, Behaviour] | None = None,
    strict: bool = False,
    api_key: str | None = None,
    max_body: int = MAX_BODY,
    max_live: int = MAX_LIVE,
    max_waiting: int = MAX_WAITING,
) -> Starlette:
    """The ASGI app that serves `models` (by the names that requests use) as the provider `spec` does.

    `spec`: one provider at the root, or prefix -> provider: each under /prefix and its own paths. `behaviour`: how
    answers come about, one for all or one for each prefix; where there is none: honestly, as the provider's engine
    does. `api_key`: ask for it as the provider's page says; None: everyone is served. `max_body`: bytes. `max_live`,
    `max_waiting`: see `Batcher`; a request beyond them is the provider's 429. Raises SpecError, ParameterError.
    """
    served = dict(spec) if isinstance(spec, Mapping) else {"": spec}
    own = behaviour if isinstance(behaviour, Mapping) else dict.fromkeys(served, behaviour)
    if not models or not served:
        raise ParameterError("models" if not models else "spec", {}, "there must be at least one to serve")
    shared = Shared(dict(models), api_key, max_body, int(time.time()), Batcher(max_live, max_waiting))
    sites = []
    for name, wanted in served.items():
        page = provider(wanted) if isinstance(wanted, str) else wanted
        how = own.get(name) or default_behaviour(page, strict=strict)
        sites.append(Site(shared, _prefix(name), page, how, strict))
    app = Starlette(routes=routes(sites), exception_handlers=_handlers(sites))
    app.router.redirect_slashes = False
    app.state.sites, app.state.shared = sites, shared
    return app


def _prefix(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]*", name):
        raise ParameterError("spec", name, "a prefix is made of letters, digits and . _ ~ -")
    return f"/{name}" if name else ""


def _handlers(sites: Sequence[Site]) -> Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]:
    """What answers where no handler of ours does, in the shape of the provider whose prefix the path has."""

    def site_of(request: Request) -> Site:
        path: str = request.scope["path"]
        return next((site for site in sites if site.prefix and f"{path}/".startswith(f"{site.prefix}/")), sites[0])

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            message = f"this path does not take the method of {where(request)}"
            return site_of(request).fail("method", message, headers=error.headers)
        return site_of(request).fail("unknown_path", f"unknown URL: {where(request)}")

    async def crash(request: Request, error: Exception) -> Response:
        # starlette raises the error again once this is sent, so the traceback goes to the log and to nobody else;
        # uvicorn then closes the connection, which a client that keeps connections has to be told
        message = "the server had an error while it processed the request"
        return site_of(request).fail("internal", message, headers={"connection": "close"})

    return {HTTPException: http_error, Exception: crash}


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket; a port that is taken is a ParameterError instead of a traceback."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = found[0]
        bound = socket.socket(family, kind, proto)
    except OSError as error:
        raise ParameterError("host", host, f"cannot be used: {error.strerror}", "the operating system") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # before anybody is told the URL: uvicorn listens some time later
    except OSError as error:
        bound.close()
        rule = f"cannot be bound on {host}: {error.strerror}"
        raise ParameterError("port", port, rule, "the operating system") from None
    return bound


class _Server(uvicorn.Server):
    """uvicorn, but answers under way end at their next token when it is told to stop."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.config.app
        assert isinstance(app, Starlette)
        shared: Shared = app.state.shared
        shared.closing.set()
        await run_in_threadpool(shared.close)
        await super().shutdown(sockets)


def _server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, log_level="warning",
        access_log=False, server_header=False, timeout_graceful_shutdown=5,
    )  # fmt: skip
    return _Server(config)


def run(
    app: Starlette, host: str = "127.0.0.1", port: int = 8000, *, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until interrupted. `ready` is called with the URL once the port is bound (port 0: one that is free)."""
    bound = _bound(host, port)
    with bound:
        if ready is not None:
            ready(_url(bound))
        _server(app).run(sockets=[bound])


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class LocalServer:
    """An app on a free loopback port, in a thread: `with LocalServer(app) as url:` (no /v1 at the end)."""

    def __init__(self, app: Starlette) -> None:
        self._server = _server(app)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> str:
        bound = self._socket = _bound("127.0.0.1", 0)
        run = self._server.run
        self._thread = threading.Thread(target=run, kwargs={"sockets": [bound]}, name="refsample-server", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                bound.close()
                raise RuntimeError("the local server did not start; its log says why")
            time.sleep(0.005)
        return _url(bound)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None and self._socket is not None
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._socket.close()
