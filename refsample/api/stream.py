"""Answers as chunks, while they are made. Knows the chunks' shapes, but no HTTP: framing is the server's.

Completions: deltas, then one finish chunk per choice. Chat: a role chunk per choice first. With usage asked for, one
more chunk without choices. A joined stream is the whole answer, text and logprobs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from refsample.api.answer import Job, default_behaviour, echo, prepare
from refsample.api.chat import chat_logprobs
from refsample.api.completions import head, legacy_logprobs, replay, usage
from refsample.api.validate import parse
from refsample.generation.behaviour import Behaviour
from refsample.generation.sequence import TokenEvent
from refsample.spec.provider import ProviderSpec, provider

if TYPE_CHECKING:
    from refsample.generation.model import Model

Chunk = dict[str, Any]


def stream(
    model: Model,
    body: Mapping[str, Any],
    spec: str | ProviderSpec = "openai",
    chat: bool = False,
    *,
    behaviour: Behaviour | None = None,
    strict: bool = False,
) -> Iterator[Chunk]:
    """The chunks that answer `body`, as they come; `stream` need not be set in it. Closing the iterator stops the work.

    Raises at once, before the first chunk is asked for: ParameterError (a bad field), ContextLengthError, SpecError.
    """
    page = provider(spec) if isinstance(spec, str) else spec
    asked = {**body, "stream": True} if isinstance(body, Mapping) else body
    request = parse(asked, page, "chat" if chat else "completions", strict=strict, model=model)
    job = prepare(model, request, behaviour or default_behaviour(page))
    return chunks(job, job.events)


def chunks(job: Job, events: Iterable[TokenEvent]) -> Iterator[Chunk]:
    """The chunks that a job's events make. Only the first carries the key `refsample`."""
    make: Callable[[Job, Iterable[TokenEvent]], Iterator[Chunk]]
    make = _chat_choices if job.request.endpoint.kind == "chat" else _completion_choices
    sampled, first = 0, True

    def counted() -> Iterator[TokenEvent]:
        nonlocal sampled
        for event in events:
            sampled += 1
            yield event

    start = head(job, job.request.endpoint.chunk_object)
    null_usage = {"usage": None} if job.request.include_usage else {}
    for choice in make(job, counted()):
        own = {"refsample": replay(job)} if first else {}
        first = False
        yield {**start, "choices": [choice], **null_usage, **own}
    if job.request.include_usage:
        yield {**start, "choices": [], "usage": usage(job, sampled)}


def _completion_choices(job: Job, events: Iterable[TokenEvent]) -> Iterator[Chunk]:
    n = job.params.n
    offsets = [0] * (len(job.prompts) * n)

    def delta(index: int, text: str, rows: list[Any]) -> Chunk:
        logprobs = legacy_logprobs(job, index // n, rows, offsets[index])
        if logprobs is not None:
            offsets[index] += sum(len(token) for token in logprobs["tokens"])
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}

    def finish(index: int, reason: str) -> Chunk:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    echoed = echo(job)
    for index in range(len(offsets) if echoed else 0):
        yield delta(index, *echoed[index // n])
    open_choices = dict.fromkeys(range(len(offsets)))
    for event in events:
        index = event.prompt_index * n + event.choice
        if event.text or event.logprobs is not None:
            yield delta(index, event.text, [event.logprobs])
        if event.finish_reason is not None:
            del open_choices[index]
            yield finish(index, event.finish_reason)
    for index in open_choices:  # max_tokens = 0: no event at all
        yield finish(index, "length")


def _chat_choices(job: Job, events: Iterable[TokenEvent]) -> Iterator[Chunk]:
    def choice(index: int, delta: Mapping[str, Any], logprobs: Any = None, finish: str | None = None) -> Chunk:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    open_choices = dict.fromkeys(range(job.params.n))
    for index in open_choices:
        yield choice(index, {"role": "assistant", "content": "", "refusal": None})
    for event in events:
        if event.text or event.logprobs is not None:
            rows = [] if event.logprobs is None else [event.logprobs]
            yield choice(event.choice, {"content": event.text}, chat_logprobs(job, rows))
        if event.finish_reason is not None:
            del open_choices[event.choice]
            yield choice(event.choice, {}, None, event.finish_reason)
    for index in open_choices:  # max_tokens = 0: no event at all
        yield choice(index, {}, None, "length")
