"""Concurrent requests computed together: each is the same as alone; ends, limits and what goes wrong stay its own."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refsample
from refsample.errors import BusyError, ParameterError
from refsample.generation import batch
from refsample.generation.batch import Batcher, BatcherClosed, Ticket
from refsample.generation.behaviour import Behaviour
from refsample.generation.decode import Events, generate_events
from refsample.generation.model import Model
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.generation.work import Work
from refsample.sampling import quick
from refsample.sampling.params import SamplingParams
from refsample.sampling.semantics import resolve
from tests.generation.scripted import byte, scripted, wandering
from tests.text.vocabularies import byte_level

HONEST = Behaviour(semantics=resolve("reference"))


@pytest.fixture(scope="module")
def model() -> Model:
    return refsample.load("tiny")


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(max_live=24, max_waiting=64)
    yield made
    made.close()


def events(model: Model, number: int) -> Events:
    """Requests that differ in everything that could be mixed up."""
    prompts = ["Once upon a time", "1 + 2 =", "The little dog"][: 1 + number % 3]
    sampling = SamplingParams(temperature=0.6 + number % 5 / 4, top_k=number % 4 * 7, frequency_penalty=number % 2)
    ids = [model.prompt_ids(prompt) for prompt in prompts]
    guess = tuple(model.tokenizer.encode(", there was a little dog named Tim.")) if number % 4 == 3 else ()
    params = GenerationParams(
        sampling=sampling, seed=number, n=1 + number % 2, max_tokens=5 + number % 17,
        logprobs=number % 3 or None, prediction=guess, stop=("the",) if number % 6 == 5 else (),
    )  # fmt: skip
    behaviour = HONEST if number % 7 else Behaviour(semantics=HONEST.semantics, precision="int4-g32")
    return generate_events(model, ids, params, behaviour)


def alike(model: Model) -> list[Events]:
    """Four requests that differ in their seed, and a ban, alone, and one that lies in between."""
    kinds = [SamplingParams(top_p=0.9)] * 2 + [SamplingParams(top_p=0.9, banned_token_ids=(5,))]
    kinds += [SamplingParams(top_p=0.5), SamplingParams(top_p=0.9)]
    made = [GenerationParams(sampling=kind, seed=n, max_tokens=9) for n, kind in enumerate(kinds)]
    return [generate_events(model, [model.prompt_ids("The cat")], params, HONEST) for params in made]


def until(true: Callable[[], bool]) -> None:
    """Waits for another thread, a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def by_choice(found: Sequence[TokenEvent]) -> dict[tuple[int, int], list[TokenEvent]]:
    split: dict[tuple[int, int], list[TokenEvent]] = {}
    for event in found:
        split.setdefault((event.prompt_index, event.choice), []).append(event)
    return split


def test_every_request_is_the_same_as_alone(monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher) -> None:
    monkeypatch.setattr(quick, "_left", 0)  # the sampler's kernel is asked from the first token on
    alone = [by_choice(list(events(model, number))) for number in range(40)]
    with ThreadPoolExecutor(40) as pool:
        together = list(pool.map(lambda number: list(batcher.submit(events(model, number))), range(40)))
    assert [by_choice(found) for found in together] == alone
    assert batcher.load == (0, 0)


def test_a_closed_request_stops_and_the_others_go_on(model: Model, batcher: Batcher) -> None:
    long = GenerationParams(seed=3, max_tokens=600, sampling=SamplingParams(temperature=3.0), ignore_eos=True)
    ids = [model.prompt_ids("Once")]
    first, second = (batcher.submit(generate_events(model, ids, long, HONEST)) for _ in range(2))
    other = batcher.submit(events(model, 8))
    next(first)
    next(second)
    first.close()
    assert list(first) == []
    del second
    until(lambda: batcher.load[0] <= 1)
    assert by_choice(list(other)) == by_choice(list(events(model, 8)))
    until(lambda: batcher.load == (0, 0))


def test_no_more_than_the_limit_wait(model: Model) -> None:
    batcher = Batcher(max_live=1, max_waiting=2)
    long = GenerationParams(seed=3, max_tokens=900, sampling=SamplingParams(temperature=3.0), ignore_eos=True)

    def submit() -> Iterator[TokenEvent]:
        return batcher.submit(generate_events(model, [model.prompt_ids("Once")], long, HONEST))

    running = submit()
    next(running)
    waiting = [submit(), submit()]
    with pytest.raises(BusyError, match="2 requests wait"):
        submit()
    waiting.pop().close()  # type: ignore[attr-defined]  # a Ticket
    waiting.append(submit())
    batcher.close()
    for ticket in (running, *waiting):
        with pytest.raises(BatcherClosed):
            list(ticket)
    with pytest.raises(BatcherClosed):
        submit()


def test_without_a_queue_a_free_place_serves(model: Model) -> None:
    batcher = Batcher(max_live=2, max_waiting=0)
    long = GenerationParams(seed=3, max_tokens=900, sampling=SamplingParams(temperature=3.0), ignore_eos=True)
    tickets = [batcher.submit(generate_events(model, [model.prompt_ids("Once")], long, HONEST)) for _ in range(2)]
    for ticket in tickets:
        next(ticket)
    with pytest.raises(BusyError):
        batcher.submit(events(model, 1))
    for ticket in tickets:
        ticket.close()
    until(lambda: batcher.load == (0, 0))
    assert list(batcher.submit(events(model, 0))) == list(events(model, 0))
    batcher.close()


def test_more_choices_than_the_limit_run_by_themselves(model: Model) -> None:
    batcher = Batcher(max_live=2)
    params = GenerationParams(seed=1, n=9, max_tokens=6)
    found = [generate_events(model, [model.prompt_ids("Once")], params, HONEST) for _ in range(2)]
    assert list(batcher.submit(found[0])) == list(found[1])
    batcher.close()


def test_a_request_of_very_many_choices_holds_nobody_up(model: Model) -> None:
    """A newcomer shares the passes with it, and neither has another token, or another order, than alone."""
    batcher = Batcher(max_live=8)

    def many() -> Events:
        hot = SamplingParams(temperature=1.5)
        params = GenerationParams(sampling=hot, seed=3, n=40, max_tokens=20, ignore_eos=True)
        return generate_events(model, [model.prompt_ids("Once"), model.prompt_ids("The cat")], params, HONEST)

    first = batcher.submit(many())
    begun = [next(first)]
    small = list(batcher.submit(events(model, 1)))
    assert batcher.load[0] == 1  # a pass had four of its eighty choices, so it is far from its end
    assert by_choice(small) == by_choice(list(events(model, 1)))
    second = batcher.submit(many())  # beside the first, half of a pass each
    alone = list(many())
    assert [*begun, *first] == alone and list(second) == alone
    batcher.close()


def test_what_goes_wrong_in_one_request_is_told_to_it_alone(tmp_path: Path, model: Model, batcher: Batcher) -> None:
    byte_level(tmp_path)

    def broken(ids: Sequence[int]) -> np.ndarray:
        logits = wandering()(ids)
        return logits if len(ids) < 6 else np.full_like(logits, np.nan)

    bad = scripted(tmp_path, broken)
    params = GenerationParams(seed=5, max_tokens=50, ignore_eos=True)
    ticket = batcher.submit(generate_events(bad, [(byte("a"), byte("b"))], params, HONEST))
    other = batcher.submit(events(model, 4))
    with pytest.raises(ParameterError, match="logits"):
        list(ticket)
    assert by_choice(list(other)) == by_choice(list(events(model, 4)))


def test_a_fault_of_ours_in_one_request_is_told_to_it_alone(
    monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher
) -> None:
    """In its first token and in a later one."""
    bad: Work | None = None

    def broken(name: str) -> Callable[..., Iterator[TokenEvent]]:
        sound = getattr(Work, name)

        def made(self: Work, *args: Any, **more: Any) -> Iterator[TokenEvent]:
            yield from sound(self, *args, **more)
            if self is bad:
                raise ZeroDivisionError("a fault of ours")

        def asked(self: Work, *args: Any) -> Any:
            return 1 / 0 if self is bad else sound(self, *args)

        return asked if name == "ask" else made

    for name in ("start", "take", "ask"):
        with monkeypatch.context() as patch:
            patch.setattr(Work, name, broken(name))
            beside = batcher.submit(events(model, 4))
            failing = events(model, 2)
            bad = failing.work
            with pytest.raises(ZeroDivisionError):
                list(batcher.submit(failing))
            assert by_choice(list(beside)) == by_choice(list(events(model, 4)))


def test_what_is_alike_is_computed_together(monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher) -> None:
    """Prompts that wait go through in one pass; the rows of requests with the same parameters are one call of the
    sampler's kernel, others are not among them. Every token is the one that the request has alone."""
    calls: list[int] = []
    choose, passed = quick.Chooser.choose, batch.prefilled

    def counted(self: quick.Chooser, rows: Any, us: Any, tallies: Any) -> Any:
        calls.append(len(rows))
        return choose(self, rows, us, tallies)

    monkeypatch.setattr(quick, "_left", 0)
    alone = [by_choice(list(one)) for one in alike(model)]
    prompts: list[int] = []
    monkeypatch.setattr(quick.Chooser, "choose", counted)
    monkeypatch.setattr(batch, "prefilled", lambda t, ids, *rest: prompts.append(len(ids)) or passed(t, ids, *rest))
    with batcher._changed:  # nothing begins before all wait
        tickets = [batcher.submit(one) for one in alike(model)]
    assert [by_choice(list(ticket)) for ticket in tickets] == alone
    assert prompts == [5]
    assert calls[:8] == [1, 1, 1, 1, 1, 3, 1, 1]  # first tokens come one by one


def test_every_row_is_counted_once(monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher) -> None:
    """Until the sampler's kernel pays: alone, and side by side."""
    monkeypatch.setattr(quick, "LARGE", 1)
    for run in (lambda one: list(one), lambda one: list(batcher.submit(one))):
        for one in alike(model):
            monkeypatch.setattr(quick, "_left", 1000)
            tokens = len(run(one))
            assert quick._left == 1000 - (tokens - 1)  # the first one does not count


def test_a_pass_that_fails_is_tried_by_each(monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher) -> None:
    """Whose fault it is hears of it, the others go on; a fault of nobody's is not passed over."""
    tries: list[int] = []

    def failing(transformer: Any, prompts: Any, *rest: Any) -> Any:
        tries.append(len(prompts))
        raise ZeroDivisionError("of one of them")

    def broken(self: Work, *args: Any, **more: Any) -> Iterator[TokenEvent]:
        yield from sound(self, *args, **more)
        if self is bad.work:
            raise ZeroDivisionError("its own")

    sound, bad = Work.start, events(model, 2)
    monkeypatch.setattr(batch, "prefilled", failing)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with monkeypatch.context() as patch:
        patch.setattr(Work, "start", broken)
        with batcher._changed:
            tickets = [batcher.submit(events(model, 1)), batcher.submit(bad), batcher.submit(events(model, 4))]
        with pytest.raises(ZeroDivisionError, match="its own"):
            list(tickets[1])
        assert by_choice(list(tickets[0])) == by_choice(list(events(model, 1)))
        assert by_choice(list(tickets[2])) == by_choice(list(events(model, 4)))
    with batcher._changed:
        tickets = [batcher.submit(events(model, number)) for number in (1, 2)]
    for ticket in tickets:
        with pytest.raises(ZeroDivisionError, match="of one of them"):
            list(ticket)
    assert tries == [7, 5]


def test_an_answer_that_fails_is_told_to_whom_it_is_of(
    monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher
) -> None:
    choose = quick.Chooser.choose

    def failing(self: quick.Chooser, rows: Any, us: Any, tallies: Sequence[quick.Tally]) -> Any:
        if any(tally.program.context.params.top_p == 0.5 for tally in tallies):
            raise ZeroDivisionError("of one of them")
        return choose(self, rows, us, tallies)

    monkeypatch.setattr(quick, "_left", 0)
    alone = [by_choice(list(one)) for one in alike(model)]
    monkeypatch.setattr(quick.Chooser, "choose", failing)
    with batcher._changed:
        tickets = [batcher.submit(one) for one in alike(model)]
    for number, ticket in enumerate(tickets):
        if number == 3:
            with pytest.raises(ZeroDivisionError):
                list(ticket)
        else:
            assert by_choice(list(ticket)) == alone[number]


def test_nothing_of_the_last_prompts_is_kept(
    monkeypatch: pytest.MonkeyPatch, model: Model, batcher: Batcher
) -> None:
    """Caches and logits go with the requests that they were of, while the batcher waits for others."""
    kept: list[weakref.ref[Any]] = []
    passed = batch.prefilled

    def noted(*args: Any) -> Any:
        made = passed(*args)
        kept.extend(weakref.ref(row.base if row.base is not None else row) for _, row in made)
        return made

    monkeypatch.setattr(batch, "prefilled", noted)
    with batcher._changed:
        tickets = [batcher.submit(one) for one in alike(model)]
    for ticket in tickets:
        list(ticket)
    del tickets, ticket
    until(lambda: batcher.load == (0, 0))
    until(lambda: not any(ref() is not None for ref in kept))
    assert len(kept) == 5


def test_a_crash_reaches_whoever_waits_and_is_not_the_end(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    batcher = Batcher()
    with monkeypatch.context() as patch:
        patch.setattr(Batcher, "_step", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(batcher.submit(events(model, 1)))
    assert by_choice(list(batcher.submit(events(model, 4)))) == by_choice(list(events(model, 4)))
    batcher.close()


def test_who_listens_is_called_once_for_all(model: Model, batcher: Batcher) -> None:
    """After each step those of all requests that are equal are called once; `more` is true at the end."""
    calls: list[tuple[int, int]] = []
    tickets: list[Ticket] = []

    def ring() -> None:
        calls.append(batcher.load)

    step, gate = batcher._step, threading.Event()

    def gated() -> None:
        gate.wait(60)
        step()
        calls.append((-1, -1))

    batcher._step = gated  # type: ignore[method-assign]
    for number in (1, 2, 4):
        tickets.append(batcher.submit(events(model, number)))
        tickets[-1].listen(ring)
    gate.set()
    until(lambda: batcher.load == (0, 0) and calls[-1] == (0, 0))
    assert all(ticket.more for ticket in tickets)
    steps = [place for place, call in enumerate(calls) if call == (-1, -1)]
    assert all(calls[place + 1] != (-1, -1) for place in steps)
    assert len(calls) <= 2 * len(steps) + len(tickets)
    assert [by_choice(list(t)) for t in tickets] == [by_choice(list(events(model, n))) for n in (1, 2, 4)]
