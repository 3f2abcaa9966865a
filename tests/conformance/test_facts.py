"""What answers and streams say of themselves: an honest endpoint is believed, each untruth is found by its check."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

import refsample
from refsample.conformance.facts import related
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model

FACTS = ("model_name", "created", "top_logprobs_count", "text_offset", "bytes", "stream_type", "stream_ids",
         "stream_created", "stream_n", "stream_logprobs", "prompt_tokens", "choices", "stream_done")  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class Answering:
    """An endpoint whose answers are changed on the way back."""

    def __init__(self, inner: LocalEndpoint, change: Callable[[Exchange], Exchange]) -> None:
        self._inner, self._change, self.url = inner, change, inner.url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        return self._change(self._inner.send(method, path, body))


def each(change: Callable[[dict[str, Any]], Any]) -> Callable[[Exchange], Exchange]:
    """The same change to a whole answer and to every chunk of a stream."""

    def changed(exchange: Exchange) -> Exchange:
        if exchange.status != 200 or exchange.method != "POST":
            return exchange
        if exchange.content_type != "text/event-stream":
            return replace(exchange, text=json.dumps(shown(exchange.text)))
        return replace(exchange, text="".join(f"data: {one}\n\n" for one in map(event, exchange.events())))

    def shown(text: str) -> Any:
        value = json.loads(text)
        change(value)
        return value

    def event(payload: str) -> str:
        return payload if payload == "[DONE]" else json.dumps(shown(payload))

    return changed


def streams(change: Callable[[Exchange], Exchange]) -> Callable[[Exchange], Exchange]:
    return lambda exchange: change(exchange) if exchange.content_type == "text/event-stream" else exchange


def entries(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for c in value["choices"] for e in ((c.get("logprobs") or {}).get("content") or [])]


def legacy(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [c["logprobs"] for c in value["choices"] if "tokens" in (c.get("logprobs") or {})]


def other_model(value: dict[str, Any]) -> None:
    value["model"] = "another"


def milliseconds(value: dict[str, Any]) -> None:
    value["created"] *= 1000


def two_hidden_tokens(value: dict[str, Any]) -> None:
    if value.get("usage"):
        value["usage"]["prompt_tokens"] += 2


def twice_as_long(value: dict[str, Any]) -> None:
    if value.get("usage"):
        value["usage"]["prompt_tokens"] *= 2


def offsets_in_tokens(value: dict[str, Any]) -> None:
    for block in legacy(value):
        block["text_offset"] = list(range(len(block["tokens"])))


def bytes_of_another(value: dict[str, Any]) -> None:
    for entry in entries(value):
        entry["bytes"] = [*entry["bytes"], 32]


def few_alternatives(value: dict[str, Any]) -> None:
    for entry in entries(value):
        entry["top_logprobs"] = entry["top_logprobs"][:3]


def few_in_objects(value: dict[str, Any]) -> None:
    for block in legacy(value):
        block["top_logprobs"] = [dict(list(top.items())[:3]) for top in block["top_logprobs"]]


def without_logprobs(value: dict[str, Any]) -> None:
    for choice in value["choices"]:
        choice["logprobs"] = None


def one_choice(value: dict[str, Any]) -> None:
    value["choices"] = [choice for choice in value["choices"] if choice["index"] == 0]


def renamed(exchange: Exchange) -> Exchange:
    counts = iter(range(10_000))
    return each(lambda value: value.update(id=f"chatcmpl-{next(counts)}"))(exchange)


def ticking(exchange: Exchange) -> Exchange:
    counts = iter(range(10_000))
    return each(lambda value: value.update(created=value["created"] + next(counts)))(exchange)


def called_json(exchange: Exchange) -> Exchange:
    return replace(exchange, content_type="application/json")


def done_twice(exchange: Exchange) -> Exchange:
    return replace(exchange, text=exchange.text + "data: [DONE]\n\n")


def judged(inner: LocalEndpoint, tiny: Model, change: Callable[[Exchange], Exchange] | None, spec: str) -> Report:
    endpoint = inner if change is None else Answering(inner, change)
    only = [f"contract.*.{name}" for name in FACTS]
    return verify(endpoint, tiny, spec, profile="smoke", seed=3, model="tiny", only=only)


@pytest.mark.parametrize(("spec", "check", "change"), [
    ("openai", "chat.model_name", each(other_model)),
    ("nebius", "chat.created", each(milliseconds)),
    ("novita", "completions.prompt_tokens", each(two_hidden_tokens)),
    ("visioncraft", "chat.prompt_tokens", each(twice_as_long)),
    ("novita", "completions.text_offset", each(offsets_in_tokens)),
    ("nebius", "chat.bytes", each(bytes_of_another)),
    ("nebius", "chat.top_logprobs_count", each(few_alternatives)),
    ("openai", "completions.top_logprobs_count", each(few_in_objects)),
    ("empower", "chat.stream_type", streams(called_json)),
    ("scale", "completions.stream_done", streams(done_twice)),
    ("openai", "chat.stream_ids", streams(renamed)),
    ("visioncraft", "chat.stream_created", streams(ticking)),
    ("novita", "completions.stream_n", streams(each(one_choice))),
    ("openai", "chat.stream_logprobs", streams(each(without_logprobs))),
])  # fmt: skip
def test_an_untrue_fact_is_found_by_its_check(
    tiny: Model, spec: str, check: str, change: Callable[[Exchange], Exchange]
) -> None:
    inner = LocalEndpoint(tiny, spec)
    honest = judged(inner, tiny, None, spec)
    assert {c.verdict for c in honest.checks} <= {"consistent", "skipped"}
    assert f"contract.{check}" in {c.id for c in honest.checks if c.verdict == "consistent"}
    found = judged(inner, tiny, change, spec)
    assert f"contract.{check}" in {c.id for c in found.checks if c.verdict == "inconsistent"}
    assert all(c.reproduce for c in found.checks if c.verdict == "inconsistent")
    assert found.contract == "inconsistent"


def test_fewer_alternatives_than_asked_for_are_not_honoured(tiny: Model) -> None:
    found = judged(LocalEndpoint(tiny, "nebius"), tiny, each(few_alternatives), "nebius")
    assert {p.name: p.status for p in found.parameters}["top_logprobs"] == "different"


def test_the_most_alternatives_of_the_page_may_not_be_refused(tiny: Model) -> None:
    def small(exchange: Exchange) -> Exchange:
        if (exchange.body or {}).get("top_logprobs", 0) <= 5:
            return exchange
        return replace(exchange, status=400, text='{"message": "at most 5"}')

    found = judged(LocalEndpoint(tiny, "nebius"), tiny, small, "nebius")
    assert "contract.chat.top_logprobs_count" in {c.id for c in found.checks if c.verdict == "inconsistent"}
    assert {p.name: p.status for p in found.parameters}["top_logprobs"] == "rejected"


def test_always_as_many_prompt_tokens_more_of_a_chat_are_a_template(tiny: Model) -> None:
    found = judged(LocalEndpoint(tiny, "nebius"), tiny, each(two_hidden_tokens), "nebius")
    (check,) = [c for c in found.checks if c.id == "contract.chat.prompt_tokens"]
    assert check.verdict == "skipped" and "another template" in check.evidence
    assert found.contract == "consistent"


def test_a_route_that_answers_without_choices_is_broken_and_one_that_is_not_there_is_told(tiny: Model) -> None:
    def chat(change: Callable[[Exchange], Exchange]) -> Callable[[Exchange], Exchange]:
        return lambda exchange: change(exchange) if exchange.path.endswith("chat/completions") else exchange

    broken = judged(LocalEndpoint(tiny), tiny, chat(each(lambda value: value.pop("choices"))), "openai")
    (check,) = [c for c in broken.checks if c.id == "contract.chat.choices"]
    assert check.verdict == "inconsistent" and "without choices" in check.evidence
    absent = judged(LocalEndpoint(tiny), tiny, chat(lambda exchange: replace(exchange, status=404)), "openai")
    (check,) = [c for c in absent.checks if c.id == "contract.chat.choices"]
    assert check.verdict == "skipped" and absent.contract == "consistent"


@pytest.mark.parametrize(("asked", "said", "same"), [
    ("gpt-4o", "gpt-4o-2024-08-06", True),
    ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", True),
    ("openai/gpt-4/mine", "gpt-4", True),
    ("openai/gpt-4/mine", "mine", True),
    ("llama", "/models/llama", True),
    ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B", False),
    ("deepseek-v3", "qwen3", False),
])  # fmt: skip
def test_names_of_one_model(asked: str, said: str, same: bool) -> None:
    assert related(asked, said) is related(said, asked) is same


def test_a_served_name_is_told(tiny: Model) -> None:
    found = judged(LocalEndpoint(tiny), tiny, each(lambda value: value.update(model="tiny-2026-01-01")), "openai")
    told = [c for c in found.checks if c.id.endswith("model_name")]
    assert {c.verdict for c in told} == {"skipped"} and "tiny-2026-01-01" in told[0].evidence
    assert found.contract == "consistent"
