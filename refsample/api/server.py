"""The API as an ASGI app, and ways to serve it: until interrupted, or in a thread on loopback. Knows no request."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote

from refsample.api.answer import default_behaviour
from refsample.api.site import Site, generating, guarded, health, model_card, model_list
from refsample.errors import MissingExtraError, ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.spec.provider import ProviderSpec, provider

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ModuleNotFoundError as error:
    raise MissingExtraError("server", error.name or "starlette") from None

if TYPE_CHECKING:
    from refsample.generation.model import Model

MAX_BODY = 8 << 20
"""Bytes of the largest body that is read: many times any context in token ids."""
_PATH = "/:@!$&'()*+,;=-._~"
"""What stays as it is where a path is shown; the rest, line breaks too, is percent-encoded."""


def create_app(
    models: Mapping[str, Model],
    spec: str | ProviderSpec = "openai",
    *,
    behaviour: Behaviour | None = None,
    strict: bool = False,
    api_key: str | None = None,
    max_body: int = MAX_BODY,
) -> Starlette:
    """The ASGI app that serves `models` (by the names that requests use) as the provider `spec` does.

    `behaviour`: how answers come about; None: honestly, as the provider's engine does. `api_key`: ask for it as the
    provider's page says; None: everyone is served. `max_body`: bytes. Raises SpecError.
    """
    page = provider(spec) if isinstance(spec, str) else spec
    served = default_behaviour(page) if behaviour is None else behaviour
    site = Site(dict(models), page, served, strict, api_key, max_body, int(time.time()))
    endpoints = [(endpoint.path, guarded(site, generating(endpoint)), "POST") for endpoint in page.endpoints.values()]
    lists = [("/v1/models", model_list), ("/v1/models/{name:path}", model_card)]
    paths = [*endpoints, *((path, guarded(site, handler), "GET") for path, handler in lists)]
    short = [(path[3:], handler, method) for path, handler, method in paths if path.startswith("/v1/")]
    routes = [Route(path, handler, methods=[method]) for path, handler, method in (*paths, *short)]

    async def healthy(request: Request) -> Response:
        return health(site)

    routes.append(Route("/health", healthy, methods=["GET"]))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = quote(request.scope["path"], safe=_PATH)
        where = f"{request.method} {path}"
        if error.status_code == 405:
            return site.fail("method", f"this path does not take the method of {where}", headers=error.headers)
        return site.fail("unknown_path", f"unknown URL: {where}")

    async def crash(request: Request, error: Exception) -> Response:
        # starlette raises the error again once this is sent, so the traceback goes to the log and to nobody else;
        # uvicorn then closes the connection, which a client that keeps connections has to be told
        message = "the server had an error while it processed the request"
        return site.fail("internal", message, headers={"connection": "close"})

    app = Starlette(routes=routes, exception_handlers={HTTPException: http_error, Exception: crash})
    app.router.redirect_slashes = False
    app.state.site = site
    return app


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
        app.state.site.closing.set()
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
