"""POST /v1/chat/completions in process: a body in, the provider's answer out. Knows no HTTP and no streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refsample.api.completions import whole
from refsample.api.response import answered
from refsample.generation.behaviour import Behaviour
from refsample.spec.provider import ProviderSpec

if TYPE_CHECKING:
    from refsample.generation.model import Model


def chat(
    model: Model,
    body: Mapping[str, Any],
    spec: str | ProviderSpec = "openai",
    *,
    behaviour: Behaviour | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """The answer to `body` (as POST /v1/chat/completions takes it) as a dict (as it answers).

    `model` in the body may be left out. Raises ParameterError (a bad field), ContextLengthError, RequestTimeoutError,
    SpecError.
    """
    job = whole(model, body, spec, "chat", behaviour, strict)
    return answered(job, job.events)
