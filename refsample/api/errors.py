"""Failures as the provider writes them: a status and a body. Knows no HTTP library."""

from __future__ import annotations

from typing import Any

from refsample.errors import ContextLengthError, ParameterError, RefsampleError, UnknownModelError
from refsample.spec.provider import ProviderSpec


def error_body(error: RefsampleError, provider: ProviderSpec) -> tuple[int, dict[str, Any]]:
    """Status and body for an error of the library. What is no user's mistake says nothing of its cause."""
    if isinstance(error, ContextLengthError):
        return failure("context_length", str(error), provider, param=error.parameter)
    if isinstance(error, ParameterError):
        return failure("invalid", str(error), provider, param=error.parameter, code=error.code)
    if isinstance(error, UnknownModelError):
        return failure("unknown_model", str(error), provider, param="model")
    return failure("internal", "the server had an error while it processed the request", provider)


def failure(
    kind: str, message: str, provider: ProviderSpec, *, param: str | None = None, code: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and body for one of the provider's kinds of failure, in OpenAI's nested envelope."""
    record = provider.errors[kind]
    error = {"message": message, "type": record.type, "param": param, "code": code or record.code or None}
    return record.status, {"error": error}
