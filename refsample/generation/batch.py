"""Concurrent requests computed together: one thread takes every live choice of all of them one token further at a time.

A request's tokens and logprobs are those it has alone: no bit of a row depends on the rows beside it (float64 promises
less). Knows no HTTP.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from refsample.errors import BusyError
from refsample.generation.decode import Events
from refsample.generation.prefill import PREFILL_TOKENS, Prefilled, prefilled
from refsample.generation.quickly import Question, answers
from refsample.generation.sequence import TokenEvent
from refsample.generation.work import Work

T = TypeVar("T")


class BatcherClosed(Exception):
    """The batcher was closed while the request was under way."""


class _Slot:
    """The batcher's side of a request."""

    __slots__ = ("answers", "cancelled", "failed", "ring", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cancelled = False
        """Nobody reads the answers any more."""
        self.failed = False
        self.answers: SimpleQueue[TokenEvent | BaseException | None] = SimpleQueue()
        """Events, then what went wrong or None."""
        self.ring: Callable[[], None] | None = None
        """Called after answers were put; those of several requests that are equal are called once for all."""


class Ticket(Iterator[TokenEvent]):
    """The events of one submitted request. Closing or dropping it stops the work at its next token."""

    __slots__ = ("_slot",)

    def __init__(self, slot: _Slot) -> None:
        self._slot = slot

    def __next__(self) -> TokenEvent:
        if self._slot.cancelled:
            raise StopIteration
        answer = self._slot.answers.get()
        if isinstance(answer, TokenEvent):
            return answer
        self._slot.cancelled = True
        if answer is None:
            raise StopIteration
        raise answer

    @property
    def more(self) -> bool:
        """Whether `next` would not have to wait."""
        return not self._slot.answers.empty()

    def close(self) -> None:
        """Stop: no further token is computed. Whoever waits in `next` is let go."""
        self._slot.cancelled = True
        self._slot.answers.put(None)
        _ring((self._slot,))

    def listen(self, ring: Callable[[], None]) -> None:
        """Call `ring`, from whatever thread, whenever `more` may have come true; it has to be quick."""
        self._slot.ring = ring

    def __del__(self) -> None:
        self._slot.cancelled = True


class Batcher:
    """Takes requests of any models from any thread and computes them together.

    `max_live` choices at most go through a model together. While others are there, no request has more than half of
    them, so one with thousands of choices holds nobody up. `max_waiting` requests wait for their turn, one more is a
    BusyError.
    """

    def __init__(self, max_live: int = 64, max_waiting: int = 256) -> None:
        self.max_live, self.max_waiting = max_live, max_waiting
        self._waiting: deque[_Slot] = deque()
        self._running: list[_Slot] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> tuple[int, int]:
        """(requests under way, requests waiting)."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def submit(self, events: Events) -> Ticket:
        """The events, computed beside those of other requests. BusyError, BatcherClosed."""
        slot = _Slot(events.work)
        with self._changed:
            if self._closed:
                raise BatcherClosed
            if not self._room(slot) and sum(not other.cancelled for other in self._waiting) >= self.max_waiting:
                raise BusyError(f"{self.max_waiting} requests wait already: try again later")
            self._waiting.append(slot)
            if self._thread is None:  # not before there is work: an app that is only looked at starts no thread
                self._thread = threading.Thread(target=self._work, name="refsample-batcher", daemon=True)
                self._thread.start()
            self._changed.notify()
        return Ticket(slot)

    def _room(self, slot: _Slot) -> bool:
        """Whether a request would start at once, so that it never waits."""
        others = [other for other in (*self._running, *self._waiting) if not other.cancelled]
        taken = sum(self._places(other.work.choices) for other in others)
        return taken + self._places(slot.work.choices) <= self.max_live

    def _places(self, choices: int) -> int:
        """How many of the places for choices a request takes up."""
        return min(choices, max(1, self.max_live // 2))

    def close(self) -> None:
        """Stop after the token under way; requests that are not finished get BatcherClosed."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(timeout=30)

    def _work(self) -> None:
        try:
            self._loop()
        finally:  # also where a fault of ours ends it, which goes on as it was: whoever waits has to hear of it
            end = sys.exc_info()[1] or BatcherClosed("the batcher was closed while the request was under way")
            with self._changed:
                self._thread = None  # a fault of ours fails what is under way; the next request begins anew
                left = (*self._running, *self._waiting)
                for slot in left:
                    slot.answers.put(end)
                self._running, self._waiting = [], deque()
            _ring(left)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._running or self._waiting)
                if self._closed:
                    return
                started = self._admit()
            for slots in _side_by_side(started):
                _begin(slots)
            self._step()
            with self._changed:
                told, self._running = self._running, [slot for slot in self._running if _goes_on(slot)]
            _ring(told)

    def _admit(self) -> list[_Slot]:
        """Requests whose turn has come, in the order in which they came."""
        started: list[_Slot] = []
        taken = sum(self._places(len(slot.work.live)) for slot in self._running)
        self._waiting = deque(slot for slot in self._waiting if not slot.cancelled)
        while self._waiting:
            places = self._places(self._waiting[0].work.choices)
            if taken and taken + places > self.max_live:
                break
            taken += places
            started.append(self._waiting.popleft())
        self._running += started
        return started

    def _step(self) -> None:
        """One more token for every live choice whose turn it is; what shares its weights goes through them together."""
        together: dict[tuple[int, str], list[_Slot]] = {}
        most = self.max_live if len(self._running) == 1 else self._places(self.max_live)
        for slot in self._running:
            if slot.work.live and not (slot.cancelled or slot.failed):
                run = slot.work.transformer
                together.setdefault((id(run.weights), run.precision), []).append(slot)  # whatever the adapter
        for slots in together.values():
            parts = [slot.work.segments(most) for slot in slots]
            adapters = [slot.work.transformer.adapter for slot, part in zip(slots, parts, strict=True) for _ in part]
            segments = [segment for part in parts for segment in part]
            rows = slots[0].work.transformer.forward(segments, rows="all", adapters=adapters)
            own = []
            for part in parts:
                own.append(rows[: len(part)])
                rows = rows[len(part) :]
            _take(slots, own)


def _take(slots: Sequence[_Slot], rows: Sequence[Sequence[NDArray[np.float32]]]) -> None:
    """The next tokens of each, from its rows; those that ask the same of the sampler are answered together."""
    asked = [_told(slot, partial(slot.work.ask, its)) for slot, its in zip(slots, rows, strict=True)]
    questions = [one.question if one is not None and isinstance(one.question, Question) else None for one in asked]
    found, fault = _tried(partial(answers, questions))
    for slot, its, one, answer in zip(slots, rows, asked, found or [None] * len(slots), strict=True):
        if one is not None:
            _fill(slot, slot.work.take(its, one, answer))
    _own(fault, slots)


def _begin(slots: Sequence[_Slot]) -> None:
    """Step 0 of each, whose prompts go through the transformer together."""
    made, fault = _tried(partial(_prefilled, slots)) if len(slots) > 1 else (None, None)
    for slot, own in zip(slots, made or [{}] * len(slots), strict=True):
        _fill(slot, slot.work.start(made=own))
        _ring((slot,))
    _own(fault, slots)


def _side_by_side(slots: Iterable[_Slot]) -> Iterable[list[_Slot]]:
    """Those whose prompts go through the same transformer, as many at a time as make one pass. In float64, whose sums
    depend on what stands beside them, each is alone."""
    found: dict[tuple[int, ...], list[_Slot]] = {}
    for slot in slots:
        run = slot.work.transformer
        own = (id(slot),) if run.precision == "float64" else ()
        found.setdefault((id(run), id(slot.work.prefixes), *own), []).append(slot)
    for alike in found.values():
        size, group = 0, list[_Slot]()
        for slot in alike:
            more = sum(len(ids) for _, ids, _ in slot.work.coming)
            if group and size + more > PREFILL_TOKENS:
                yield group
                size, group = 0, []
            size, group = size + more, [*group, slot]
        yield group


def _prefilled(slots: Sequence[_Slot]) -> list[dict[int, Prefilled]]:
    """What became of the waiting prompts of each."""
    coming = [(place, *one) for place, slot in enumerate(slots) for one in slot.work.coming]
    made: list[dict[int, Prefilled]] = [{} for _ in slots]
    work = slots[0].work
    found = prefilled(work.transformer, [ids for *_, ids, _ in coming], [to for *_, to in coming], work.prefixes)
    for (place, p, *_), one in zip(coming, found, strict=True):
        made[place][p] = one
    return made


def _tried(what: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What it gives, or what went wrong."""
    try:
        return what(), None
    except Exception as error:  # noqa: BLE001  # nothing is swallowed: see `_own` and `_told`
        return None, error


def _own(fault: Exception | None, slots: Sequence[_Slot]) -> None:
    """What went wrong for all of them together each has then tried for itself, so whose fault it was has heard of it;
    if all could do it, it is nobody's, and goes on."""
    if fault is not None and not any(slot.failed for slot in slots):
        raise fault


def _told(slot: _Slot, what: Callable[[], T]) -> T | None:
    """What it gives; what goes wrong in one request, a fault of ours as well, is told to that one alone, whose thread
    raises it again."""
    made, fault = _tried(what)
    if fault is not None:
        slot.failed = True
        slot.answers.put(fault)
    return made


def _fill(slot: _Slot, events: Iterator[TokenEvent]) -> None:
    """Hand events on."""

    def put() -> None:
        for event in events:
            if slot.cancelled:
                return
            slot.answers.put(event)

    _told(slot, put)


def _ring(slots: Iterable[_Slot]) -> None:
    for ring in {slot.ring for slot in slots}:
        if ring is not None:
            ring()


def _goes_on(slot: _Slot) -> bool:
    if slot.cancelled or slot.failed:
        return False
    if not slot.work.live:
        slot.answers.put(None)
        return False
    return True
