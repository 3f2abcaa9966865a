"""POST /v1/completions in process: a body in, the provider's answer out. Knows no HTTP and no streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refsample.api.answer import Job, default_behaviour, prepare
from refsample.api.response import answered
from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.spec.provider import ProviderSpec, provider

if TYPE_CHECKING:
    from refsample.generation.model import Model


def complete(
    model: Model,
    body: Mapping[str, Any],
    spec: str | ProviderSpec = "openai",
    *,
    behaviour: Behaviour | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """The answer to `body` (as POST /v1/completions takes it) as a dict (as it answers).

    `model` in the body may be left out. Raises ParameterError (a bad field), ContextLengthError, RequestTimeoutError,
    SpecError.
    """
    job = whole(model, body, spec, "completions", behaviour, strict)
    return answered(job, job.events)


def whole(
    model: Model,
    body: Mapping[str, Any],
    spec: str | ProviderSpec,
    endpoint: str,
    behaviour: Behaviour | None,
    strict: bool,
) -> Job:
    """The job of a body that is to be answered whole, not in chunks."""
    page = provider(spec) if isinstance(spec, str) else spec
    served = behaviour or default_behaviour(page, strict=strict)
    request = parse(body, page, endpoint, strict=strict, model=model, flaws=served.flaws)
    if request.stream:
        raise ParameterError("stream", True, "answers whole here; refsample.stream gives chunks")
    return prepare(model, request, served)
