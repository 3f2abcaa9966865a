"""The generating endpoints over HTTP: whole answers, streams, and work that stops when nobody waits. Knows no route.

Requests are computed together by the server's batcher. No answer depends on load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from anyio import to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from refsample.api.answer import Job, check_time, ready
from refsample.api.bell import Bell, bell_here
from refsample.api.errors import error_body, failure, message_of
from refsample.api.response import answered
from refsample.api.site import STOPPING, GoneError, Shared, Site, SiteHandler, json_body, request_id
from refsample.api.stream import Chunk, failed, paced
from refsample.api.wire import dumps
from refsample.errors import RefsampleError
from refsample.generation.batch import BatcherClosed
from refsample.generation.sequence import TokenEvent
from refsample.spec.provider import EndpointSpec


class Flow(Iterator[TokenEvent]):
    """The events of a job for as long as somebody waits for them; then GoneError, or what the job's own time limit
    asks for."""

    __slots__ = ("_job", "_late", "_left", "_shared", "_ticket", "bell")

    def __init__(self, job: Job, shared: Shared, bell: Bell) -> None:
        """Raises BusyError, GoneError."""
        self.bell = bell
        self._job, self._shared, self._left, self._late = job, shared, False, False
        try:
            self._ticket = shared.batcher.submit(job.events)
        except BatcherClosed:
            raise GoneError from None
        if job.request.stream:
            self._ticket.listen(bell.ring)

    def __next__(self) -> TokenEvent:
        try:
            event = next(self._ticket, None)
        except BatcherClosed:
            raise GoneError from None
        self.check()
        if event is not None:
            return event
        if self._late:
            check_time(self._job)
        raise StopIteration

    def now(self) -> Iterator[TokenEvent | None]:
        """The events, and None as long as the next is not there; the bell rings when it may be."""
        while True:
            if not self._ticket.more:
                yield None
                continue
            event = next(self, None)
            if event is None:
                return
            yield event

    async def news(self) -> None:
        """Wait until `now` may have more than None."""
        if not self._ticket.more:  # it may have come while the last frames were sent
            await self.bell.heard()

    def check(self) -> None:
        """Raises GoneError where nobody waits any more."""
        if self._left or self._shared.closing.is_set():
            self._ticket.close()
            raise GoneError

    def stop(self) -> None:
        """Nobody waits any more: no further token is computed. May be called from any thread, at any time."""
        self._left = True
        self._ticket.close()

    @contextmanager
    def watched(self, receive: Receive) -> Iterator[None]:
        """Inside, the work stops when the client hangs up or the job's own time is over, even while it waits for its
        turn; and it stops when this is left."""
        watcher = asyncio.create_task(self._watch(receive))
        timer = None
        if self._job.deadline is not None:
            timer = asyncio.get_running_loop().call_later(self._job.deadline - time.monotonic(), self._expire)
        try:
            yield
        finally:
            self.stop()
            watcher.cancel()
            if timer is not None:
                timer.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stop()

    def _expire(self) -> None:
        self._late = True
        self._ticket.close()


def generating(endpoint: EndpointSpec) -> SiteHandler:
    """The handler of one generating endpoint."""

    async def generate(site: Site, request: Request) -> Response:
        body = await json_body(site, request)
        job, flow = await run_in_threadpool(_begin, site, endpoint, body, bell_here(site.shared.bells))
        if job.request.stream:
            return _EventStream(site, job, flow)
        with flow.watched(request.receive):
            answer = await to_thread.run_sync(answered, job, flow, limiter=site.shared.waiters)
        return site.respond(200, answer)

    return generate


def _begin(site: Site, endpoint: EndpointSpec, body: Any, bell: Bell) -> tuple[Job, Flow]:
    """Everything that can refuse a request. Runs in a worker thread: long prompts take time to encode."""
    job = ready(site.shared.models, body, site.page, endpoint, site.behaviour, strict=site.strict)
    flow = Flow(job, site.shared, bell)
    return replace(job, wanted=flow.check), flow


class _EventStream(StreamingResponse):
    """An answer as server-sent events, whose work stops when the client hangs up, whatever it waits for."""

    def __init__(self, site: Site, job: Job, flow: Flow) -> None:
        headers = {**request_id(), "cache-control": "no-cache"}
        super().__init__(_frames(site, job, flow), 200, headers, "text/event-stream")
        self.flow = flow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.flow.watched(receive):
            await self.stream_response(send)


async def _frames(site: Site, job: Job, flow: Flow) -> AsyncIterator[bytes]:
    """The frames of a stream, those together that are there together. An error after the first byte comes as a last
    data line: in a chunk where the page's chunks have a place for it, else its body alone, as vLLM does."""
    answer, frames = paced(job, flow.now()), list[bytes]()
    try:
        # What stands before the first token may have to be computed, an echo's logprobs.
        going = await to_thread.run_sync(_take, answer, frames, limiter=site.shared.waiters)
        while going:
            if frames:
                yield b"".join(frames)
                frames.clear()
            await flow.news()
            going = _take(answer, frames)
        if "done_missing" not in site.behaviour.flaws:
            frames.append(_frame(b"[DONE]"))
    except RefsampleError as error:
        status, body = error_body(error, site.page)
        frames.append(_frame(dumps(failed(job, status, message_of(error)) or body)))
    except GoneError:
        status, body = failure("internal", STOPPING, site.page)
        frames.append(_frame(dumps(failed(job, status, STOPPING) or body)))
    if frames:
        yield b"".join(frames)


def _take(answer: Iterator[Chunk | None], frames: list[bytes]) -> bool:
    """Put the frames of all chunks that are there into a list; False at the end of the answer."""
    for chunk in answer:
        if chunk is None:
            return True
        frames.append(_frame(dumps(chunk)))
    return False


def _frame(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
