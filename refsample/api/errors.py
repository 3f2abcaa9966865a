"""Failures as the provider writes them: a status and a body. Knows no HTTP library."""

from __future__ import annotations

from typing import Any, Final

from refsample.errors import (
    BusyError,
    ContextLengthError,
    ParameterError,
    RefsampleError,
    RequestTimeoutError,
    UnknownModelError,
)
from refsample.spec.envelopes import ENVELOPES, Fact
from refsample.spec.provider import ProviderSpec

Body = dict[str, Any]

_KINDS: Final = (
    (ContextLengthError, "context_length"),
    (ParameterError, "invalid"),
    (UnknownModelError, "unknown_model"),
    (BusyError, "busy"),
    (RequestTimeoutError, "timeout"),
)
"""The first that fits."""


def kind_of(error: RefsampleError) -> str:
    """Which of the provider's kinds of failure an error of the library is; "internal": no user's mistake."""
    return next((kind for known, kind in _KINDS if isinstance(error, known)), "internal")


def message_of(error: RefsampleError) -> str:
    """What a client is told of an error of the library: what is no user's mistake says nothing of its cause."""
    internal = kind_of(error) == "internal"
    return "the server had an error while it processed the request" if internal else str(error)


def error_body(error: RefsampleError, provider: ProviderSpec) -> tuple[int, Body]:
    """Status and body for an error of the library."""
    kind, message = kind_of(error), message_of(error)
    if isinstance(error, ParameterError):
        own = None if kind == "context_length" else error.code
        return failure(kind, message, provider, param=error.parameter, code=own)
    return failure(kind, message, provider, param="model" if kind == "unknown_model" else None)


def failure(
    kind: str, message: str, provider: ProviderSpec, *, param: str | None = None, code: str | None = None
) -> tuple[int, Body]:
    """Status and body for one of the provider's kinds of failure, in the provider's envelope."""
    record = provider.errors[kind]
    facts: dict[Fact, Any] = {
        "message": message, "type": record.type, "param": param, "code": code or record.code or None,
        "reason": record.code, "status": record.status, "object": "error",
        "metadata": {} if param is None else {"param": param},
    }  # fmt: skip
    return record.status, ENVELOPES[provider.envelope].body(facts)
