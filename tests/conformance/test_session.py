"""What a request cost, what a refusal says, and which model is asked for, whatever an endpoint sends."""

import json
import subprocess
from typing import Any

import pytest

from refsample.conformance.page import pages_of
from refsample.conformance.session import Session, Target, error_text, first_model, tokens_of
from refsample.conformance.transport import Exchange, Recording
from refsample.errors import EndpointError
from refsample.spec.provider import provider

CHOICES = [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}]


def exchange(body: Any, answer: Any, status: int = 200) -> Exchange:
    return Exchange("POST", "/v1/completions", body, status, "application/json", json.dumps(answer))


def stream(body: Any, *events: Any) -> Exchange:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Exchange("POST", "/v1/completions", body, 200, "text/event-stream", text)


def test_tokens_are_counted_by_usage_and_else_by_what_was_asked_for() -> None:
    asked = {"max_tokens": 7, "n": 2}
    assert tokens_of(exchange(asked, {"choices": CHOICES, "usage": {"completion_tokens": 5}})) == 5
    for usage in (None, {}, {"completion_tokens": "5"}, {"completion_tokens": float("nan")}):
        assert tokens_of(exchange(asked, {"choices": CHOICES, "usage": usage})) == 14
    assert tokens_of(exchange({"max_tokens": 7}, {"choices": CHOICES})) == 14
    assert tokens_of(exchange({"max_tokens": "hot"}, {"choices": CHOICES[:1]})) == 1
    assert tokens_of(exchange(asked, "no answer that can be read")) == 14


def test_streams_cost_tokens_too() -> None:
    asked = {"max_tokens": 7, "stream": True}
    assert tokens_of(stream(asked, {"choices": CHOICES[:1]}, {"choices": [], "usage": {"completion_tokens": 3}})) == 3
    assert tokens_of(stream(asked, {"choices": CHOICES[:1]})) == 7
    assert tokens_of(stream(asked, "broken")) == 7


def test_refusals_are_free_and_late_answers_are_not() -> None:
    assert tokens_of(exchange({"max_tokens": 7}, {"error": "no"}, 400)) == 0
    assert tokens_of(Exchange("GET", "/v1/models", None, 200, "application/json", "{}")) == 0
    late = Exchange("POST", "/v1/completions", {"max_tokens": 7}, 0, "", "ReadTimeout")
    assert tokens_of(late) == 7
    assert error_text(late) == "no answer: ReadTimeout"


@pytest.mark.parametrize("body", ["5", "[]", '{"data": 5}', '{"data": {"id": "m"}}', '{"data": [5, {"id": 5}]}', "NaN"])
def test_a_list_of_models_that_is_none(body: str) -> None:
    listing = Exchange("GET", "/v1/models", None, 200, "application/json", body)
    with pytest.raises(EndpointError, match="lists no model"):
        first_model(Recording("http://recorded", [listing]))


def test_names_and_errors_can_be_printed() -> None:
    listing = Exchange("GET", "/v1/models", None, 200, "application/json", '{"data": [{"id": "a\\ud83d"}]}')
    assert first_model(Recording("http://recorded", [listing])) == "a\ufffd"
    refusal = Exchange("POST", "/", {}, 400, "application/json", '{"error": {"message": "no \\ud83d"}}')
    assert error_text(refusal) == "HTTP 400: no \ufffd"
    session = Session(Recording("http://recorded", []), Target("m", pages_of(provider("openai"))), 0)
    assert session.curl("completions", {"stop": ["\ud83d", "é"]}).encode("ascii")


@pytest.mark.parametrize(
    ("spec", "kind", "key"),
    [
        ("openai", "completions", '-H "authorization: Bearer $KEY"'),
        ("scale", "completions", '-H "x-api-key: $KEY"'),
        ("visioncraft", "chat", """"token": "'"$KEY"'"}'"""),
    ],
)
def test_the_command_that_repeats_a_request_has_the_key_where_the_page_wants_it(spec: str, kind: Any, key: str) -> None:
    session = Session(Recording("http://recorded", []), Target("m", pages_of(provider(spec))), 0)
    command = session.curl(kind, {"model": "m", "x": "it's"})
    assert key in command
    told = subprocess.run(
        ["bash", "-c", command.replace("curl -s", "printf '%s\\n'")], env={"KEY": "k"}, capture_output=True, text=True,
        timeout=30, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert json.loads(told[-1]) == {"model": "m", "x": "it's", **({"token": "k"} if spec == "visioncraft" else {})}
