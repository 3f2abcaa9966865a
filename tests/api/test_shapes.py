"""Answers in every provider's shape, against what its page prints; and the rule that cuts them out of a superset."""

from __future__ import annotations

import re
from typing import Any

import pytest

from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.shape import fitted, shape_of
from refsample.api.stream import stream
from refsample.generation.load import load
from refsample.spec.provider import FieldSpec

MODEL = load("tiny")
ASK = [{"role": "user", "content": "Name an animal."}]
ONCE = "Once upon a time"
Answer = dict[str, Any]


def field(name: str, **settings: Any) -> FieldSpec:
    usual: dict[str, Any] = {
        "types": ("string",), "printed_types": ("string",), "required": True, "nullable": False, "choices": (),
        "absent": "omit", "extension": False, "meaning": "a", "decisions": (), "source": "test", "grade": "C",
    }  # fmt: skip
    return FieldSpec(name=name, **{**usual, **settings})


def cut(value: Any, *records: FieldSpec, strict: bool = False) -> Any:
    return fitted(value, shape_of({record.name: record for record in records}, strict=strict))


def test_only_recorded_fields_are_kept() -> None:
    value = {"a": 1, "b": {"c": [{"d": 2, "e": 3}], "f": 4}, "g": {"h": 5}}
    records = (field("a"), field("b"), field("b.c"), field("b.c[].d"), field("g"))
    assert cut(value, *records) == {"a": 1, "b": {"c": [{"d": 2}]}, "g": {"h": 5}}


def test_what_stands_where_there_is_nothing() -> None:
    records = (field("null", absent="null"), field("empty", absent="empty"), field("omit"))
    for value in ({}, {"null": None, "empty": None, "omit": None}):
        assert cut(value, *records) == {"null": None, "empty": []}
    assert cut({"x": None, "y": None}, field("x", nullable=True), field("y")) == {"x": None}
    assert cut({"x": 0, "y": "", "z": []}, field("x"), field("y"), field("z")) == {"x": 0, "y": "", "z": []}


def test_a_delta_shows_only_what_came() -> None:
    records = (field("delta"), field("delta.a", absent="null", nullable=True), field("delta.b", absent="empty"))
    assert cut({"delta": {}}, *records) == {"delta": {}}
    assert cut({"delta": {"a": None, "b": "x", "c": 1}}, *records) == {"delta": {"a": None, "b": "x"}}


def test_any_key_keeps_all() -> None:
    assert cut({"top": {"x": 1, "y": 2}}, field("top"), field("top.{key}")) == {"top": {"x": 1, "y": 2}}


def test_strict_answers_have_no_extensions() -> None:
    records = (field("a"), field("b", extension=True, absent="null"))
    assert cut({"a": 1, "b": 2}, *records) == {"a": 1, "b": 2}
    assert cut({"a": 1, "b": 2}, *records, strict=True) == {"a": 1}


def layout(value: Any) -> Any:
    """Keys and kinds of values: what an answer and a page's sample of one have in common."""
    if isinstance(value, dict):
        return {name: layout(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [layout(value[0])] if value else []
    return "number" if isinstance(value, float) else "null" if value is None else type(value).__name__


# The answers that the pages print, word for word where they print one. A system_fingerprint that the page shows as null
# is a string here: a hash.
NEBIUS: Answer = {
    "id": "cmpl-*****",
    "choices": [
        {
            "finish_reason": "stop",
            "index": 0,
            "logprobs": None,
            "message": {"content": "Hello!", "role": "assistant", "function_call": None, "tool_calls": []},
            "stop_reason": None,
        }
    ],
    "created": 1721397089,
    "model": "meta-llama/Meta-Llama-3.1-70B-Instruct",
    "object": "chat.completion",
    "system_fingerprint": "fp",
    "usage": {"completion_tokens": 26, "prompt_tokens": 12, "total_tokens": 38},
}
EMPOWER: Answer = {
    "choices": [
        {"finish_reason": "stop", "index": 0, "logprobs": None, "message": {"content": "Hi", "role": "assistant"}}
    ],
    "created": 1721397089,
    "id": "x",
    "model": "x",
    "usage": {"completion_tokens": 26, "prompt_tokens": 12, "total_tokens": 38},
}
NOVITA: Answer = {
    "choices": [
        {
            "finish_reason": "stop",
            "index": 0,
            "logprobs": {"text_offset": [0], "token_logprobs": [-0.5], "tokens": ["a"], "top_logprobs": [{"a": -0.5}]},
            "text": "a",
        }
    ],
    "created": 1,
    "id": "x",
    "model": "x",
    "object": "text_completion",
    "usage": {"completion_tokens": 26, "prompt_tokens": 12, "total_tokens": 38},
}
VISIONCRAFT: Answer = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "x",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "x"}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": {"completion_tokens": 26, "prompt_tokens": 12, "total_tokens": 38},
}
SCALE_FIELDS = {"choices", "usage", "id", "model", "object", "system_fingerprint", "created"}


def plain(answer: Answer) -> Answer:
    """An answer without our own key, which is on no page."""
    return {name: value for name, value in answer.items() if name != "refsample"}


def test_nebius() -> None:
    body = {"messages": ASK, "max_tokens": 100, "temperature": 1}
    strict = plain(chat(MODEL, body, "nebius", strict=True))
    assert layout(strict) == layout(NEBIUS) and re.fullmatch("cmpl-[0-9a-f]{24}", strict["id"])
    served = plain(chat(MODEL, body, "nebius"))
    assert re.fullmatch("chatcmpl-[0-9a-f]{24}", served["id"])
    (choice,) = served["choices"]
    assert choice["message"]["tool_calls"] == [] and choice["message"]["function_call"] is None
    nulls = {"prompt_logprobs", "prompt_token_ids", "kv_transfer_params", "service_tier"}
    assert {name for name in served if served[name] is None} == nulls
    assert choice["token_ids"] is None and choice["message"]["reasoning_content"] is None
    assert served["usage"]["completion_tokens_details"] is None


def test_nebius_stop_reasons() -> None:
    whole = chat(MODEL, {"messages": ASK, "temperature": 0}, "nebius")["choices"][0]
    assert whole["finish_reason"] == "stop" and whole["stop_reason"] is None
    text = whole["message"]["content"]
    by_text = chat(MODEL, {"messages": ASK, "temperature": 0, "stop": [text[2:4]]}, "nebius")["choices"][0]
    assert by_text["stop_reason"] == text[2:4]
    (first, *_) = MODEL.tokenizer.encode(text, bos=False)
    body = {"messages": ASK, "temperature": 0, "stop_token_ids": [first]}
    assert chat(MODEL, body, "nebius")["choices"][0]["stop_reason"] == first
    last = list(stream(MODEL, body, "nebius", chat=True))[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", first)


def test_empower() -> None:
    body = {"model": "x", "messages": ASK, "max_tokens": 8}
    assert layout(plain(chat(MODEL, body, "empower", strict=True))) == layout(EMPOWER)
    served = plain(chat(MODEL, body, "empower"))
    assert layout(served) == layout({**EMPOWER, "object": "chat.completion"})
    asked = chat(MODEL, {**body, "temperature": 0, "logprobs": True}, "empower")["choices"][0]["logprobs"]
    usual = chat(MODEL, {**body, "temperature": 0, "logprobs": True})["choices"][0]["logprobs"]["content"]
    assert asked == [entry["logprob"] for entry in usual] and len(asked) > 2
    found = stream(MODEL, {**body, "temperature": 0, "logprobs": True}, "empower", chat=True)
    assert [value for chunk in found for value in chunk["choices"][0]["logprobs"] or []] == asked


def test_novita() -> None:
    body = {"model": "x", "prompt": ONCE, "max_tokens": 8}
    for strict in (False, True):
        answer = complete(MODEL, {**body, "logprobs": 1}, "novita", strict=strict)
        logprobs = answer["choices"][0]["logprobs"]
        logprobs["top_logprobs"] = [{"a": max(best.values())} for best in logprobs["top_logprobs"]]
        assert layout(plain(answer)) == layout(NOVITA)
    assert complete(MODEL, body, "novita")["choices"][0]["logprobs"] is None


def test_novita_without_a_limit_fills_the_context() -> None:
    prompt = [MODEL.tokenizer.encode("a")[0]] * (MODEL.config.max_position - 3)
    answer = complete(MODEL, {"prompt": prompt, "logit_bias": {str(MODEL.tokenizer.eos_token_ids[0]): -100}}, "novita")
    assert answer["usage"]["completion_tokens"] == 3


def test_visioncraft() -> None:
    body = {"model": "x", "token": "k", "messages": ASK, "max_tokens": 128}
    answer = chat(MODEL, body, "visioncraft", strict=True)
    assert layout(plain(answer)) == layout(VISIONCRAFT)
    assert "token" not in answer["refsample"]["ignored"]


def test_scale() -> None:
    body = {"model": "x", "prompt": ONCE, "max_tokens": 8, "seed": 1}
    for strict in (False, True):
        answer = plain(complete(MODEL, {**body, "logprobs": True, "top_logprobs": 2}, "scale", strict=strict))
        assert set(answer) == SCALE_FIELDS
        (choice,) = answer["choices"]
        assert {"text", "logprobs", "finish_reason", "index"} <= set(choice) and "message" not in choice
        assert set(choice["logprobs"]["content"][0]) == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2
    asked = {**body, "prediction": {"type": "content", "content": " there was"}}
    details = complete(MODEL, asked, "scale")["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] == 2
    first = next(stream(MODEL, body, "scale"))
    assert first["chunk_type"] == "chunk" and first["choices"][0]["text"]


def test_scale_calls_are_json_in_the_text() -> None:
    schema = {"type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"]}
    tools = [{"type": "function", "function": {"name": "animal", "parameters": schema}}]
    body = {"prompt": ONCE, "max_tokens": 60, "seed": 1, "tools": tools, "tool_choice": "required"}
    (choice,) = complete(MODEL, body, "scale")["choices"]
    assert re.match(r'\{"name": "animal", "arguments": \{"legs": [24]\}\}', choice["text"])
    assert choice["finish_reason"] == "tool_calls" and "tool_calls" not in choice


CHATS = ("openai", "nebius", "empower", "visioncraft")
COMPLETIONS = ("openai", "novita", "scale")


@pytest.mark.parametrize(
    ("name", "is_chat"), [*((name, True) for name in CHATS), *((name, False) for name in COMPLETIONS)]
)
@pytest.mark.parametrize("strict", [False, True])
def test_streams_come_to_the_whole_answer(name: str, is_chat: bool, strict: bool) -> None:
    """With a top_p that leaves one token, for not every page has a seed and not every one prints temperature 0."""
    body: Answer = {"model": "x", "max_tokens": 128, "top_p": 1e-9}
    body |= {"messages": ASK} if is_chat else {"prompt": ONCE}
    if name == "visioncraft":
        body["token"] = "k"
    whole = (chat if is_chat else complete)(MODEL, body, name, strict=strict)
    found = list(stream(MODEL, body, name, is_chat, strict=strict))
    assert all({"id", "choices", "model"} <= set(chunk) for chunk in found)
    always = strict and name == "novita"  # "usage field is included in the very last response chunk" (C13)
    assert [chunk.get("usage") for chunk in found if chunk.get("usage")] == [whole["usage"]] * always
    parts = [choice for chunk in found for choice in chunk["choices"]]
    text = "".join(part["delta"].get("content") or "" if is_chat else part["text"] for part in parts)
    choice = whole["choices"][0]
    assert text == (choice["message"]["content"] if is_chat else choice["text"])
    assert parts[-1]["finish_reason"] == choice["finish_reason"]
    assert {chunk["model"] for chunk in found} == {whole["model"]}
