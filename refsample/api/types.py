"""A request that passed the door, as frozen data. Knows nothing of HTTP, models or how it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from refsample.generation.sequence import GenerationParams
from refsample.spec.provider import EndpointSpec, ProviderSpec


class _Unset(Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = _Unset.UNSET
"""A field that was not sent: neither null nor its default."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The checked fields of a body, under the library's names."""

    values: Mapping[str, Any]
    """Library's name -> value; None where null was sent; absent where nothing was sent."""
    names: Mapping[str, str]
    """Library's name -> the field's name as the user wrote it."""
    ignored: tuple[str, ...]
    """Fields without effect, as the user wrote them, sorted."""

    def sent(self, name: str) -> Any:
        """The value, None for a null, UNSET where it was not sent."""
        return self.values.get(name, UNSET)

    def value(self, name: str, default: Any = None) -> Any:
        """The value, or `default` where null or nothing was sent."""
        found = self.sent(name)
        return default if found is UNSET or found is None else found

    def name(self, name: str) -> str:
        """What the user called this field."""
        return self.names.get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One checked request."""

    provider: ProviderSpec
    endpoint: EndpointSpec
    fields: Fields
    model: str | None
    """None where the body left it out, which only a call in process may."""
    prompts: tuple[str | tuple[int, ...] | None, ...]
    """Completions: texts, token ids, or None for the beginning of a new document. Empty for a chat."""
    messages: tuple[Mapping[str, str], ...]
    """Chat: role and text of each turn."""
    generation: GenerationParams
    best_of: int
    """Choices drawn per prompt; generation.n of them are answered."""
    echo: bool
    suffix: str | None
    stream: bool
    include_usage: bool
    strict: bool
    ignored: tuple[str, ...]
