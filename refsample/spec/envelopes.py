"""Bodies of errors as data: which keys each shape has, and what they hold. Knows no failure and no provider.

The server writes bodies by this, the OpenAPI document describes them, the verifier looks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Fact = Literal["message", "type", "param", "code", "reason", "status", "object", "metadata"]
"""message: what went wrong; type, reason: the provider's words for this kind of failure; param: the field, or null;
code: of the very mistake, else of its kind, or null; status: HTTP's; object: that this is an error; metadata: the
field in an object."""

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_SCHEMAS: Final[Mapping[Fact, Mapping[str, Any]]] = {
    "message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL, "reason": _TEXT,
    "status": {"type": "integer"}, "object": {"const": "error"}, "metadata": {"type": "object"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Envelope:
    """One shape."""

    inside: str
    """The key that holds the object of the error; empty: it is the body itself."""
    keys: Mapping[str, Fact]
    unsure: frozenset[str] = frozenset()
    """Keys that no page prints: sent, and not asked of anybody else."""

    def body(self, facts: Mapping[Fact, Any]) -> dict[str, Any]:
        """The body of an error."""
        error = {key: facts[fact] for key, fact in self.keys.items()}
        return {self.inside: error} if self.inside else error

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema: these keys and no other."""
        error = _closed({key: dict(_SCHEMAS[fact]) for key, fact in self.keys.items()})
        return _closed({self.inside: error}) if self.inside else error

    def promised(self) -> tuple[str, ...]:
        """The keys that any server in this shape has."""
        return tuple(key for key in self.keys if key not in self.unsure)


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


ENVELOPES: Final[Mapping[str, Envelope]] = MappingProxyType(
    {
        "openai": Envelope("error", {"message": "message", "type": "type", "param": "param", "code": "code"}),
        "vllm": Envelope(
            "", {"object": "object", "message": "message", "type": "type", "param": "param", "code": "status"}
        ),
        "novita": Envelope(
            "",
            {"code": "status", "reason": "reason", "message": "message", "metadata": "metadata"},
            frozenset({"metadata"}),
        ),
        "scale": Envelope("", {"detail": "message"}),
    }
)
"""By the name that provider files use."""
