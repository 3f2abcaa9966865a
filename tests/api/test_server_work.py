"""The server's work: computed together, stopped when nobody waits, refused when too many wait, none lost."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import jsonschema
import pytest
from starlette.applications import Starlette

from refsample.api.answer import default_behaviour
from refsample.api.completions import complete
from refsample.api.errors import error_body
from refsample.api.generate import Flow
from refsample.api.server import LocalServer, create_app
from refsample.errors import ParameterError
from refsample.generation.batch import Batcher, Ticket
from refsample.generation.decode import Events
from refsample.generation.model import Model
from refsample.generation.work import Work
from refsample.spec.provider import provider, providers
from refsample.spec.schemas import answer_schema
from tests.api import schemas
from tests.api.doors import ONCE, frames, refused
from tests.api.joined import comparable

LONG = {**ONCE, "max_tokens": 1000, "ignore_eos": True, "n": 16}
"""More tokens than anybody waits for."""
PATIENCE = 20.0


def until(true: Callable[[], bool]) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


class Watched:
    """An app's batcher: what was submitted to it, and a gate before each of its steps."""

    def __init__(self, app: Starlette) -> None:
        self.batcher: Batcher = app.state.shared.batcher
        self.works: list[Work] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        submit, step = self.batcher.submit, self.batcher._step

        def watched_submit(events: Events) -> Ticket:
            self.works.append(events.work)
            return submit(events)

        def gated_step() -> None:
            self.begun.set()
            self.gate.wait(PATIENCE)
            step()

        self.batcher.submit = watched_submit  # type: ignore[method-assign]
        self.batcher._step = gated_step  # type: ignore[method-assign]

    def idle(self) -> bool:
        return self.batcher.load == (0, 0)

    def unfinished(self) -> bool:
        """The first request was cut off in the middle: what it had begun did not come to its end."""
        live = self.works[0].live
        return len(live) > 0 and all(len(choice.output) < 1000 for choice in live)


@pytest.mark.parametrize("streamed", [False, True])
def test_hanging_up_stops_the_work(model: Model, streamed: bool) -> None:
    app = create_app({"tiny": model})
    watched = Watched(app)
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        if streamed:
            with client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response:
                next(response.iter_bytes())
        else:
            watched.gate.clear()
            with ThreadPoolExecutor(1) as pool, httpx2.Client(base_url=url) as leaving:
                pending = pool.submit(leaving.post, "/v1/completions", json=LONG, timeout=httpx2.Timeout(30, read=0.3))
                assert watched.begun.wait(PATIENCE)
                assert isinstance(pending.exception(PATIENCE), httpx2.TimeoutException)
            watched.gate.set()
        assert until(watched.idle) and watched.unfinished()
        assert client.get("/health", timeout=30).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_hanging_up_in_the_queue(model: Model, streamed: bool) -> None:
    app = create_app({"tiny": model}, max_live=1)
    watched = Watched(app)
    watched.gate.clear()
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/completions", json=ONCE)
        assert watched.begun.wait(PATIENCE)
        with pytest.raises(httpx2.TimeoutException):
            body = {**LONG, "stream": streamed}
            client.post("/v1/completions", json=body, timeout=httpx2.Timeout(30, read=0.3))
        waiting = app.state.shared.waiters
        assert until(lambda: waiting.borrowed_tokens == 1), "a thread still waits for an answer that nobody wants"
        watched.gate.set()
        assert first.result(PATIENCE).status_code == 200
        assert until(watched.idle)
        assert sum(len(choice.output) for choice in watched.works[1].live) <= 16, "at most its first tokens"


def test_health_while_the_model_is_busy(model: Model) -> None:
    app = create_app({"tiny": model})
    watched = Watched(app)
    watched.gate.clear()
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/v1/completions", json=ONCE)
        assert watched.begun.wait(PATIENCE)
        assert client.get("/health").status_code == 200
        assert not answer.done()
        watched.gate.set()
        assert answer.result(60).status_code == 200


def test_too_many_wait(model: Model) -> None:
    """One is under way, two wait, the fourth is told to come back; the three get their answers."""
    app = create_app({"tiny": model}, max_live=1, max_waiting=2)
    watched = Watched(app)
    watched.gate.clear()
    bodies = [{**ONCE, "seed": seed} for seed in range(3)]
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(3) as pool:
        pending = [pool.submit(client.post, "/v1/completions", json=bodies[0])]
        assert watched.begun.wait(PATIENCE)
        pending += [pool.submit(client.post, "/v1/completions", json=body) for body in bodies[1:]]
        assert until(lambda: watched.batcher.load == (1, 2))
        for stream in (False, True):
            response = client.post("/v1/completions", json={**ONCE, "stream": stream})
            assert "try again" in refused(response, 429)
            assert int(response.headers["retry-after"]) >= 1
        watched.gate.set()
        for body, answer in zip(bodies, pending, strict=True):
            assert comparable(answer.result(60).json()) == comparable(complete(model, body))
        assert client.post("/v1/completions", json=ONCE).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_leaving_stops_the_work(model: Model, streamed: bool, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app({"tiny": model})
    watched = Watched(app)
    with ThreadPoolExecutor(1) as pool, httpx2.Client(timeout=30) as client:
        with LocalServer(app) as url:
            pending = pool.submit(client.post, f"{url}/v1/completions", json={**LONG, "stream": streamed})
            assert watched.begun.wait(PATIENCE)
        response = pending.result(30)
    assert watched.idle() and watched.unfinished()
    if streamed:
        schemas.check(json.loads(response.text.split("\n\n")[-2].removeprefix("data: ")), schemas.ERROR)
    else:
        assert refused(response, 500) == "the server is stopping"
    failures = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not failures, "stopping is no failure"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")


def test_an_error_inside_a_stream_is_its_last_line(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def events(*_: object) -> Iterator[Any]:
        raise ParameterError("logits", float("nan"), "must not hold NaN or +inf")
        yield

    app = create_app({"tiny": model})
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        monkeypatch.setattr("refsample.api.generate.paced", lambda job, events_: events())
        (line,) = frames(client, "/v1/completions", {**ONCE, "stream": True})
    schemas.check(json.loads(line), schemas.ERROR)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", providers())
def test_an_error_inside_a_stream_has_the_page_s_form(
    model: Model, name: str, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk with the record `error`, where the page's chunks have one; else the body of a refusal."""
    page = provider(name)
    wrong = ParameterError("logits", float("nan"), "must not hold NaN or +inf")

    def broken(self: Flow) -> Any:
        raise wrong

    monkeypatch.setattr(Flow, "__next__", broken)
    app, key = create_app({"tiny": model}, page, strict=strict), {"authorization": "Bearer sk-x"}
    with LocalServer(app) as url, httpx2.Client(base_url=url, headers=key, timeout=30) as client:
        for endpoint in page.endpoints.values():
            said = {"messages": [{"role": "user", "content": "Hi."}]} if endpoint.kind == "chat" else {"prompt": "Hi."}
            keys = {place.name: "sk-x" for place in page.auth if place.place == "body"}
            body = {"model": "tiny", "max_tokens": 128, "temperature": 0.5, "stream": True, **said, **keys}
            last = json.loads(frames(client, endpoint.path, body)[-1])
            if "error" not in endpoint.chunk:
                assert last == error_body(wrong, page)[1]
                continue
            jsonschema.validate(last, answer_schema(endpoint.chunk, strict=strict))
            failure = {"message": str(wrong), "status_code": page.errors["invalid"].status}
            assert (last["choices"], last["error"]) == ([], failure)


def test_a_stream_without_its_end(model: Model) -> None:
    honest = default_behaviour(provider("openai"))
    for behaviour, last in ((honest, True), (replace(honest, flaws=frozenset({"done_missing"})), False)):
        app = create_app({"tiny": model}, behaviour=behaviour)
        with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
            lines = frames(client, "/v1/completions", {**ONCE, "stream": True})
            assert (lines[-1] == "[DONE]") == last and lines.count("[DONE]") == int(last)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crash_of_the_batcher_is_not_the_end(model: Model) -> None:
    """A fault of ours fails the requests under way; the next is served."""
    app = create_app({"tiny": model})
    batcher: Batcher = app.state.shared.batcher
    step = batcher._step

    def broken() -> None:
        batcher._step = step  # type: ignore[method-assign]
        raise ZeroDivisionError("a fault of ours")

    batcher._step = broken  # type: ignore[method-assign]
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=30) as client:
        message = refused(client.post("/v1/completions", json=ONCE), 500)
        assert "ZeroDivision" not in message and "fault of ours" not in message
        assert comparable(client.post("/v1/completions", json=ONCE).json()) == comparable(complete(model, ONCE))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_time_limit_holds_in_the_queue_too(model: Model, streamed: bool) -> None:
    """The provider whose requests carry a time limit: it is over while the batcher stands still."""
    page = provider("scale")
    path = page.endpoints["completions"].path
    app = create_app({"tiny": model}, page)
    watched = Watched(app)
    watched.gate.clear()
    body = {**LONG, "n": 2, "inference_timeout": 0.2, "stream": streamed}
    body.pop("ignore_eos")
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=30) as client:
        response = client.post(path, json=body)
        assert "within its own limit of 0.2 s" in response.text
        assert response.status_code == (200 if streamed else page.errors["timeout"].status)
        watched.gate.set()
        assert until(watched.idle)
        assert client.post(path, json={**ONCE, "inference_timeout": "30"}).status_code == 200
