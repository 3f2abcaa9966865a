"""Which model a name means: exact names, then the parts of vendor/model/deployment. Knows no HTTP and no weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from refsample.errors import UnknownModelError
from refsample.spec.provider import ProviderSpec

Served = TypeVar("Served")


def resolve(name: str, models: Mapping[str, Served], page: ProviderSpec, *, any_name: bool = False) -> Served:
    """The model of `models` that a request means by `name`. Raises UnknownModelError.

    Base models and adapters stand in `models` by the names they are served under. `any_name`: a name that is unknown
    means the first of them, as servers that look at no name do.
    """
    found = known_name(name, models, page)
    if found is None and any_name:
        found = next(iter(models), None)
    if found is None:
        raise UnknownModelError(name, tuple(models))
    return models[found]


def known_name(name: str, known: Collection[str], page: ProviderSpec) -> str | None:
    """The one of `known` that `name` means to this provider; None if there is none.

    Where names are `vendor/model` or `vendor/model/deployment`, vendor and deployment may be there or not; since a
    model's own name can hold a "/", the longest known name wins.
    """
    if name in known:
        return name
    if page.model_names != "vendor":
        return None
    return max((part for part in _readings(name) if part in known), key=len, default=None)


def _readings(name: str) -> Iterator[str]:
    """`name` without a vendor before it, without a deployment after it, without both."""
    parts = name.split("/")
    if not all(parts):
        return
    yield "/".join(parts[1:])
    if len(parts) > 2:  # two parts are vendor and model, never a model and its deployment
        yield "/".join(parts[:-1])
        yield "/".join(parts[1:-1])
