"""The table of paths: every provider under its prefix, and short forms that clients try. Knows no handler's work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from refsample.api.generate import generating
from refsample.api.listing import health, index, model_card, model_list
from refsample.api.site import Handler, Site, guarded
from refsample.api.tokenize import detokenize, tokenize

Path = tuple[str, str, Handler]
"""Method, path without the site's prefix, handler."""


def routes(sites: Sequence[Site]) -> list[Route]:
    """Every route of a server; a path that two of them claim is the first one's."""
    found = [
        Route(site.prefix + path, handler, methods=[method])
        for site in sites
        for method, path, handler in (*_paths(site), *_short(site))
    ]

    async def root(request: Request) -> Response:
        return index(sites)

    return [*found, Route("/", root, methods=["GET"]), *_health(sites)]


def _paths(site: Site) -> Iterator[Path]:
    for endpoint in site.page.endpoints.values():
        yield "POST", endpoint.path, guarded(site, generating(endpoint))
    if site.page.models_path:
        yield "GET", site.page.models_path, guarded(site, model_list)
        yield "GET", site.page.models_path + "/{name:path}", guarded(site, model_card)
    yield "POST", "/tokenize", guarded(site, tokenize)
    yield "POST", "/detokenize", guarded(site, detokenize)


def _short(site: Site) -> Iterator[Path]:
    """The paths without their /v1, for clients that are given a URL without it."""
    for method, path, handler in _paths(site):
        if "/v1/" in path:
            yield method, path.replace("/v1/", "/", 1), handler


def _health(sites: Sequence[Site]) -> Iterator[Route]:
    """GET /health of the server and of each prefix; none needs a key."""

    def route(prefix: str, site: Site) -> Route:
        async def healthy(request: Request) -> Response:
            return health(site)

        return Route(f"{prefix}/health", healthy, methods=["GET"])

    yield route("", sites[0])
    for site in sites:
        if site.prefix:
            yield route(site.prefix, site)
