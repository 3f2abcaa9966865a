"""POST /v1/chat/completions in process: a body in, OpenAI's answer out. Knows no HTTP and no streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from refsample.api import tokens
from refsample.api.answer import Job, collect
from refsample.api.completions import head, tail, whole
from refsample.generation.behaviour import Behaviour
from refsample.generation.sequence import TokenEvent
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

    `model` in the body may be left out. Raises ParameterError (a bad field), ContextLengthError, SpecError.
    """
    job = whole(model, body, spec, "chat", behaviour, strict)
    return chat_completion(job, job.events)


def chat_completion(job: Job, events: Iterable[TokenEvent]) -> dict[str, Any]:
    """The answer that a job's events make."""
    choices, sampled = collect(job, events)
    answered = [
        {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": chat_logprobs(job, choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(choices)
    ]
    return {**head(job, job.request.endpoint.object), "choices": answered, **tail(job, sampled)}


def chat_logprobs(job: Job, rows: Iterable[Any]) -> dict[str, Any] | None:
    """The `logprobs` object of rows; null where none were asked for."""
    if job.params.logprobs is None:
        return None
    content = tokens.chat(rows, job.params.logprobs, job.model.tokenizer, job.behaviour.semantics)
    return {"content": content, "refusal": None}
