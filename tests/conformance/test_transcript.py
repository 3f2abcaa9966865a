"""Answers of real servers, in the shapes that were seen, folded into one form."""

import json
from typing import Any

import pytest

from refsample.conformance.transcript import read_answer, read_stream
from refsample.conformance.transport import Exchange


def exchange(body: Any, status: int = 200) -> Exchange:
    return Exchange("POST", "/v1/completions", {}, status, "application/json", json.dumps(body))


def stream(*events: Any, end: str = "data: [DONE]\n\n", newline: str = "\n") -> Exchange:
    text = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + end
    return Exchange("POST", "/v1/completions", {}, 200, "text/event-stream", text.replace("\n", newline))


def test_completions_logprobs() -> None:
    block = {"tokens": [" a", "b"], "token_logprobs": [-0.5, None], "top_logprobs": [{" a": -0.5, " c": -1.0}, None]}
    body = {"choices": [{"index": 0, "text": " ab", "finish_reason": "length", "logprobs": block}], "usage": {"x": 1}}
    answer = read_answer(exchange(body))
    assert answer is not None and answer.usage == {"x": 1}
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.logprobs_shape) == (" ab", "length", "legacy")
    assert choice.tokens is not None
    assert [t.chosen.logprob for t in choice.tokens] == [-0.5, None]
    assert [(r.text, r.logprob) for r in choice.tokens[0].top] == [(" a", -0.5), (" c", -1.0)]


def test_chat_shape_on_the_completions_route_as_llama_cpp_sends_it() -> None:
    content = [{"id": 5, "token": "é", "bytes": [195, 169], "logprob": -1.5, "top_logprobs": []}]
    body = {"choices": [{"index": 0, "text": "é", "finish_reason": "stop", "logprobs": {"content": content}}]}
    answer = read_answer(exchange(body))
    assert answer is not None and answer.choices[0].tokens is not None
    assert answer.choices[0].logprobs_shape == "chat"
    assert answer.choices[0].tokens[0].chosen.raw == "é".encode()


def test_chat_message_and_choice_order() -> None:
    body = {"choices": [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": None}}]}
    answer = read_answer(exchange(body))
    assert answer is not None
    assert [(c.index, c.text) for c in answer.choices] == [(0, ""), (1, "b")]


def test_what_is_no_answer() -> None:
    assert read_answer(exchange({"error": {"message": "no"}}, 400)) is None
    assert read_answer(exchange({"choices": None})) is None
    assert read_answer(exchange([1])) is None
    assert read_answer(Exchange("POST", "/", {}, 200, "text/html", "<html>")) is None


def test_stream_is_folded_by_index() -> None:
    answer = read_stream(
        stream(
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": None},
            {"choices": [{"index": 1, "delta": {"content": "B"}}]},
            {"choices": [{"index": 0, "delta": {"content": "A"}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"completion_tokens": 2}},
        )
    )
    assert answer is not None
    assert [(c.text, c.finish_reason) for c in answer.choices] == [("A", "stop"), ("B", None)]
    assert answer.done and answer.usage == {"completion_tokens": 2} and answer.usage_events == (0,)


def test_stream_without_done_with_other_newlines_and_usage_in_the_finish_chunk() -> None:
    chunk = {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}], "usage": {"completion_tokens": 1}}
    answer = read_stream(stream(chunk, end="", newline="\r\n"))
    assert answer is not None and not answer.done and answer.usage_events == (1,)
    assert answer.choices[0].text == "x"


def test_broken_stream_is_no_answer() -> None:
    assert read_stream(Exchange("POST", "/", {}, 200, "text/event-stream", "data: {broken\n\n")) is None
    assert read_stream(Exchange("POST", "/", {}, 500, "text/event-stream", "")) is None


@pytest.mark.parametrize("index", [None, "a", "0", float("nan"), [0], True])
def test_an_index_that_is_none_is_the_position(index: Any) -> None:
    choices = [{"index": index, "text": "a"}, {"index": 1, "text": "b"}, {"index": index, "text": "c"}]
    answer, streamed = read_answer(exchange({"choices": choices})), read_stream(stream({"choices": choices}))
    assert answer is not None and [(c.index, c.text) for c in answer.choices] == [(0, "a"), (1, "b"), (2, "c")]
    assert streamed is not None and streamed.choices == answer.choices


@pytest.mark.parametrize("odd", [None, 5, "x", [1], {"content": 5}, {"content": ["a"]}])
def test_a_wrong_type_is_read_as_nothing(odd: Any) -> None:
    fields = {"text": odd, "message": odd, "delta": odd, "finish_reason": odd, "logprobs": odd, "usage": odd}
    for name in fields:
        body = {"choices": [{"index": 0, "text": "t", "finish_reason": "stop", name: odd}, odd]}
        for answer in (read_answer(exchange(body)), read_stream(stream(body, odd if isinstance(odd, dict) else {}))):
            assert answer is not None and len(answer.choices) == 1 + isinstance(odd, dict)
            choice = answer.choices[0]
            assert isinstance(choice.text, str) and isinstance(choice.finish_reason, (str, type(None)))
    assert read_stream(stream({"choices": odd})) == read_stream(stream({}))


@pytest.mark.parametrize(
    "block",
    [
        {"content": ["a"]},
        {"content": [{"token": "a", "top_logprobs": 5}]},
        {"content": [{"token": "a", "top_logprobs": ["x"], "bytes": ["y"], "id": "7", "logprob": "z"}]},
        {"tokens": ["a"], "top_logprobs": [["x"]]},
        {"tokens": [5], "token_logprobs": 5, "top_logprobs": "no"},
    ],
)
def test_logprobs_of_wrong_types_are_tokens_without_a_logprob(block: Any) -> None:
    answer = read_answer(exchange({"choices": [{"index": 0, "text": "a", "logprobs": block}]}))
    assert answer is not None and answer.choices[0].tokens is not None
    (token,) = answer.choices[0].tokens
    assert token.chosen.logprob is None and token.chosen.id is None and token.chosen.raw is None
    assert all(top.logprob is None and top.text == "" for top in token.top)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "true"])
def test_what_is_no_finite_number_is_no_logprob(value: str) -> None:
    chat = '{"content": [{"token": "a", "logprob": %s, "top_logprobs": [{"token": "a", "logprob": %s}]}]}'
    legacy = '{"tokens": ["a"], "token_logprobs": [%s], "top_logprobs": [{"a": %s}]}'
    for block in (chat, legacy):
        body = '{"choices": [{"index": 0, "text": "a", "logprobs": %s}]}' % (block % (value, value))
        answer = read_answer(Exchange("POST", "/", {}, 200, "application/json", body))
        assert answer is not None and answer.choices[0].tokens is not None
        token = answer.choices[0].tokens[0]
        assert (token.chosen.logprob, [top.logprob for top in token.top]) == (None, [None])
