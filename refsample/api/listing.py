"""What there is: health, the models in the provider's form, an index of paths. Knows no request body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from refsample import __version__
from refsample.api.catalog import known_name
from refsample.api.site import Site
from refsample.errors import UnknownModelError

if TYPE_CHECKING:
    from refsample.generation.model import Model


def health(site: Site) -> Response:
    """GET /health: needs no key."""
    return site.respond(200, {"status": "ok", "models": list(site.shared.models)})


async def model_list(site: Site, request: Request) -> Response:
    """GET on the provider's list of models: a list object of cards, or the bare names."""
    names = list(site.shared.models)
    if site.page.models_shape == "names":
        return site.respond(200, names)
    return site.respond(200, {"object": "list", "data": [_card(site, name) for name in names]})


async def model_card(site: Site, request: Request) -> Response:
    """GET on one model, by any name that a request may use for it."""
    asked = request.path_params["name"]
    name = known_name(asked, site.shared.models, site.page)
    if name is None:
        raise UnknownModelError(asked, tuple(site.shared.models))
    return site.respond(200, _card(site, name))


def _card(site: Site, name: str) -> dict[str, Any]:
    """OpenAI's card; an adapter's also names the model it sits on, as vLLM's does."""
    models = site.shared.models
    base = models[name].base
    card = {"id": name, "object": "model", "created": site.shared.created, "owned_by": "refsample"}
    return card if base is None else {**card, "parent": _served_as(base, models)}


def _served_as(model: Model, models: Mapping[str, Model]) -> str:
    return next((name for name, one in models.items() if one is model), model.name)


def index(sites: Sequence[Site]) -> Response:
    """GET /: what is served where; needs no key, and names nothing that the paths do not tell."""
    serves = [
        {
            "spec": site.page.name,
            "title": site.page.title,
            "strict": site.strict,
            "prefix": site.prefix,
            "paths": {
                **{name: site.prefix + endpoint.path for name, endpoint in site.page.endpoints.items()},
                **({"models": site.prefix + site.page.models_path} if site.page.models_path else {}),
                **{name: f"{site.prefix}/{name}" for name in ("tokenize", "detokenize", "health")},
            },
        }
        for site in sites
    ]
    return sites[0].respond(200, {"refsample": __version__, "serves": serves})
