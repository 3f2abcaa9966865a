"""Answers under load are the answers alone: many clients, some hang up; mixed parameters; adapters side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from bench.load import load, questions
from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.server import LocalServer, create_app
from refsample.generation.load import load as open_model
from refsample.generation.model import Model
from tests.api.doors import PATHS
from tests.api.joined import comparable
from tests.api.test_server_work import until

CLIENTS, STREAMS = 16, 12


@pytest.fixture(scope="module")
def models(model: Model) -> Mapping[str, Model]:
    return {"tiny": model, "pirate": open_model("tiny", adapter="pirate")}


@pytest.fixture(scope="module")
def app(models: Mapping[str, Model]) -> Starlette:
    return create_app(models)


@pytest.fixture(scope="module")
def client(app: Starlette) -> Iterator[httpx2.Client]:
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=60) as made:
        yield made


def test_many_clients_of_whom_some_hang_up(models: Mapping[str, Model]) -> None:
    asked = questions(models, 24, seed=1)
    app = create_app(models)
    with LocalServer(app) as url:
        tally = load(url, asked, CLIENTS, lambda count: count < STREAMS, patience=60)
        assert tally.wrong == []
        assert tally.answered + tally.left == CLIENTS * STREAMS
        assert tally.left > CLIENTS and tally.answered > CLIENTS
        assert until(lambda: app.state.shared.batcher.load == (0, 0)), "work that nobody waits for"
        assert until(lambda: app.state.shared.waiters.borrowed_tokens == 0), "a thread that still waits"


def test_the_load_notices_what_is_wrong(models: Mapping[str, Model], client: httpx2.Client) -> None:
    (question,) = questions(models, 1, seed=2)
    for expected in (question.expected[:-1], (*question.expected, "{}"), question.expected[::-1]):
        wrong = replace(question, expected=expected)
        tally = load(str(client.base_url), [wrong], 1, lambda count: count < 4, patience=60)
        assert tally.wrong and tally.answered


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A request of either endpoint to either model."""
    body: dict[str, Any] = {
        "model": draw(st.sampled_from(("tiny", "pirate"))),
        "seed": draw(st.integers(0, 2**40)),
        "max_tokens": draw(st.integers(1, 12)),
        "temperature": draw(st.sampled_from((0, 0.5, 1, 1.7))),
        "top_p": draw(st.sampled_from((1, 0.9, 0.3))),
        "n": draw(st.integers(1, 3)),
    }
    body |= draw(
        st.sampled_from(
            (
                {},
                {"top_k": 7},
                {"min_p": 0.02},
                {"presence_penalty": 1.0},
                {"repetition_penalty": 1.3},
                {"stop": ["e"]},
                {"logit_bias": {"65": 5}},
                {"ignore_eos": True, "min_tokens": 1},
            )
        )
    )
    text = draw(st.sampled_from(("Once upon a time", "The", "Name an animal.", "a b c d e f g h")))
    if draw(st.booleans()):
        return {**body, "messages": [{"role": "user", "content": text}], "logprobs": True, "top_logprobs": 3}
    return {**body, "prompt": text, "logprobs": 3, "echo": draw(st.booleans())}


@settings(max_examples=25)
@given(asked=st.lists(bodies(), min_size=2, max_size=8))
def test_together_is_alone(models: Mapping[str, Model], client: httpx2.Client, asked: list[dict[str, Any]]) -> None:
    """Text and logprobs, bit by bit, whatever is asked at the same time."""
    start = threading.Barrier(len(asked), timeout=30)

    def ask(body: dict[str, Any]) -> dict[str, Any]:
        start.wait()
        answer: dict[str, Any] = client.post(PATHS["chat" if "messages" in body else "completions"], json=body).json()
        return answer

    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(ask, asked))
    for body, answer in zip(asked, answers, strict=True):
        alone = chat if "messages" in body else complete
        assert comparable(answer) == comparable(alone(models[body["model"]], body))


def test_adapters_are_listed_with_their_base(client: httpx2.Client) -> None:
    cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
    assert cards["pirate"]["parent"] == "tiny" and "parent" not in cards["tiny"]
    assert client.get("/v1/models/pirate").json() == cards["pirate"]
