"""Answers as chunks, while they are made. Knows the chunks' shapes, but no HTTP: framing is the server's.

Completions: deltas, then one finish chunk per choice. Chat: a role chunk per choice first. With usage asked for, one
more chunk without choices. A joined stream is the whole answer, text and logprobs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refsample.api.answer import Job, default_behaviour, in_time, prepare
from refsample.api.echoes import echo, of_prompts
from refsample.api.response import head, logprobs, replay, shown
from refsample.api.shape import fitted
from refsample.api.usage import Tally
from refsample.api.validate import parse
from refsample.api.voice import Delta, Voice
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

    Raises at once, before the first chunk is asked for: ParameterError (a bad field), ContextLengthError, SpecError;
    and while it is read: RequestTimeoutError.
    """
    page = provider(spec) if isinstance(spec, str) else spec
    asked = {**body, "stream": True} if isinstance(body, Mapping) else body
    served = behaviour or default_behaviour(page, strict=strict)
    endpoint = "chat" if chat else "completions"
    request = parse(asked, page, endpoint, strict=strict, model=model, flaws=served.flaws)
    job = prepare(model, request, served)
    return chunks(job, job.events)


def chunks(job: Job, events: Iterable[TokenEvent]) -> Iterator[Chunk]:
    """The chunks that a job's events make. Only the first carries the key `refsample`."""
    return (chunk for chunk in paced(job, events) if chunk is not None)


def paced(job: Job, events: Iterable[TokenEvent | None]) -> Iterator[Chunk | None]:
    """The same, of events that say None where the next is not there yet, and so do the chunks."""
    request, tally, chunk = job.request, Tally(job), _chunks_of(job)
    prompts = of_prompts(job)
    once: dict[str, Any] = {**prompts[0]} if len(prompts) == 1 else {}
    parts = _Parts(job, prompts)
    own: Chunk = {"refsample": replay(job)}
    for part in parts.of(tally.counted(in_time(job, events))):
        if part is None:
            yield None
            continue
        yield {**chunk(choices=[part], **once), **own}
        own, once = {}, {}
    if request.include_usage:
        yield chunk(usage=tally.usage())


def failed(job: Job, status: int, message: str) -> Chunk | None:
    """The chunk that ends a stream in an error; None where the page's chunks have no place for one."""
    made = _chunks_of(job)(error={"message": message, "status_code": status})
    return made if "error" in made else None


def _chunks_of(job: Job) -> Callable[..., Chunk]:
    """Makes chunks of a job from what is new in them."""
    request = job.request
    shape = shown(job, request.endpoint.chunk)
    start = {**head(job, request.endpoint.chunk_object), "chunk_type": "chunk", "choices": [], "usage": None}

    def chunk(**new: Any) -> Chunk:
        made: Chunk = fitted({**start, **new}, shape)
        if not request.include_usage:
            made.pop("usage", None)
        return made

    return chunk


@dataclass(slots=True)
class _Line:
    """One choice that is not finished."""

    voice: Voice
    facts: Chunk
    """What its first chunk says of its prompt."""
    offset: int = 0
    """Characters of its tokens so far."""


class _Parts:
    """Makes the one choice that each chunk shows."""

    def __init__(self, job: Job, prompts: list[dict[str, Any]]) -> None:
        self._job, self._n = job, job.params.n
        self._chat = job.request.endpoint.kind == "chat"
        choices = range(len(job.prompts) * self._n)
        self._open = {index: _Line(Voice(job), prompts[index // self._n]) for index in choices}

    def of(self, events: Iterable[TokenEvent | None]) -> Iterator[Chunk | None]:
        if self._chat and "role_chunk_missing" not in self._job.behaviour.flaws:
            for index in self._open:
                yield self._part(index, {"role": "assistant", "content": "", "refusal": None})
        echoed = echo(self._job)
        for index in self._open if echoed else ():
            text, rows = echoed[index // self._n]
            yield self._part(index, {"content": text}, rows)
        for event in events:
            if event is None:
                yield None
                continue
            index = event.prompt_index * self._n + event.choice
            yield from self._said(index, event)
            if event.finish_reason is not None:
                yield from self._finish(index, event.finish_reason, event.stop_reason)
        for index in tuple(self._open):  # max_tokens = 0, or the time is over
            yield from self._finish(index, "length", None)

    def _said(self, index: int, event: TokenEvent) -> Iterator[Chunk]:
        rows = None if event.logprobs is None else [event.logprobs]
        ids: Chunk = {"token_ids": [event.token_id]} if self._job.request.return_token_ids else {}
        deltas = self._open[index].voice.feed(event.text)
        if not deltas and (rows or ids):  # a token without a text of its own
            deltas = [{}] if self._job.request.tools is not None and self._chat else [{"content": ""}]
        for delta in deltas:
            yield {**self._part(index, delta, rows), **ids}
            rows, ids = None, {}

    def _finish(self, index: int, reason: str, stop: str | int | None) -> Iterator[Chunk]:
        rest, said = self._open[index].voice.finish(reason)
        for delta in rest:
            yield self._part(index, delta)
        yield {**self._part(index, {}), "finish_reason": said, "stop_reason": stop}
        del self._open[index]

    def _part(self, index: int, delta: Delta, rows: Iterable[Any] | None = None) -> Chunk:
        line = self._open[index]
        shown = None if rows is None else logprobs(self._job, index // self._n, rows, line.offset)
        if isinstance(shown, dict) and "tokens" in shown:
            line.offset += sum(len(token) for token in shown["tokens"])
        facts, line.facts = line.facts, {}
        said: Chunk = {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        return {**facts, "index": index, **said, "logprobs": shown, "finish_reason": None}
