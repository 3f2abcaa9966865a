"""The endpoint in this process: it answers as `refsample serve` does, and hides no bug of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refsample.api.completions import complete
from refsample.conformance.local import LocalEndpoint
from refsample.generation.load import load
from refsample.generation.model import Model

ONCE = {"model": "tiny", "prompt": "Once upon a time", "seed": 1, "max_tokens": 4}


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load("tiny")


def test_it_answers_what_the_library_does(tiny: Model) -> None:
    exchange = LocalEndpoint(tiny).send("POST", "/v1/completions", ONCE)
    assert (exchange.status, exchange.content_type) == (200, "application/json")
    assert json.loads(exchange.text)["choices"] == complete(tiny, ONCE)["choices"]


def test_a_chat_as_a_stream(tiny: Model) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 2, "stream": True}
    exchange = LocalEndpoint(tiny).send("POST", "/v1/chat/completions", body)
    assert exchange.content_type == "text/event-stream"
    first, *_, last = exchange.text.strip().split("\n\n")
    assert json.loads(first.removeprefix("data: "))["object"] == "chat.completion.chunk" and last == "data: [DONE]"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/embeddings", {}, 404, "unknown_url"),
        ("GET", "/v1/completions", None, 405, "method_not_supported"),
        ("POST", "/v1/completions", {**ONCE, "model": "gpt-4"}, 404, "model_not_found"),
        ("POST", "/v1/completions", {"prompt": "x"}, 400, "missing_required_parameter"),
        ("POST", "/v1/completions", {**ONCE, "model": None}, 400, "invalid_type"),
        ("POST", "/v1/completions", {**ONCE, "stream": "yes"}, 400, "invalid_type"),
    ],
)
def test_refusals(tiny: Model, method: str, path: str, body: dict[str, Any] | None, status: int, code: str) -> None:
    exchange = LocalEndpoint(tiny).send(method, path, body)
    assert (exchange.status, json.loads(exchange.text)["error"]["code"]) == (status, code)


def test_its_models(tiny: Model) -> None:
    (card,) = json.loads(LocalEndpoint(tiny).send("GET", "/v1/models").text)["data"]
    assert card["id"] == "tiny"


@pytest.mark.parametrize("bug", [KeyError("x"), IndexError("x")])
def test_a_bug_is_no_unknown_path(tiny: Model, bug: LookupError, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise bug

    monkeypatch.setattr("refsample.conformance.local.answered", broken)
    with pytest.raises(type(bug)):
        LocalEndpoint(tiny).send("POST", "/v1/completions", ONCE)
