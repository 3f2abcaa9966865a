"""POST /v1/completions in process: a body in, OpenAI's answer out. Knows no HTTP and no streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from refsample.api import tokens
from refsample.api.answer import Choice, Job, collect, default_behaviour, echo, prepare
from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.sequence import TokenEvent
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

    `model` in the body may be left out. Raises ParameterError (a bad field), ContextLengthError, SpecError.
    """
    job = whole(model, body, spec, "completions", behaviour, strict)
    return completion(job, job.events)


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
    request = parse(body, page, endpoint, strict=strict, model=model)
    if request.stream:
        raise ParameterError("stream", True, "answers whole here; refsample.stream gives chunks")
    return prepare(model, request, behaviour or default_behaviour(page))


def completion(job: Job, events: Iterable[TokenEvent]) -> dict[str, Any]:
    """The answer that a job's events make."""
    choices, sampled = collect(job, events)
    return {**head(job, job.request.endpoint.object), "choices": list(_choices(job, choices)), **tail(job, sampled)}


def head(job: Job, kind: str) -> dict[str, Any]:
    """The fields that answers and chunks begin with."""
    return {
        "id": job.id,
        "object": kind,
        "created": job.created,
        "model": job.request.model or job.model.name,
        "system_fingerprint": job.fingerprint,
    }


def tail(job: Job, sampled: int) -> dict[str, Any]:
    """Usage, and our own key: what was needed to make this answer again, and what of the request had no effect."""
    return {"usage": usage(job, sampled), "refsample": replay(job)}


def usage(job: Job, sampled: int) -> dict[str, int]:
    """Prompt tokens once per prompt; every sampled token, end tokens and unanswered candidates included."""
    prompt = sum(len(ids) for ids in job.prompts)
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def replay(job: Job) -> dict[str, Any]:
    """The extension key `refsample`."""
    return {"seed": job.seed, "ignored": list(job.request.ignored)}


def _choices(job: Job, choices: list[Choice]) -> Iterator[dict[str, Any]]:
    echoed = echo(job)
    for index, choice in enumerate(choices):
        text, rows = echoed[choice.prompt_index] if echoed else ("", [])
        text, rows = text + choice.text, [*rows, *choice.logprobs]
        yield {
            "index": index,
            "text": text,
            "logprobs": legacy_logprobs(job, choice.prompt_index, rows, 0),
            "finish_reason": choice.finish_reason,
        }


def legacy_logprobs(job: Job, prompt_index: int, rows: Iterable[Any], offset: int) -> dict[str, list[Any]] | None:
    """The `logprobs` object of rows; null where none were asked for."""
    if job.params.logprobs is None:
        return None
    return tokens.legacy(rows, job.prompts[prompt_index], job.model.tokenizer, job.behaviour.semantics, offset)
