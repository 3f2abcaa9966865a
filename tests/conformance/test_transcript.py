"""Answers of real servers, in the shapes that were seen, folded into one form."""

import json
from typing import Any

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
    assert (choice.text, choice.finish_reason, choice.logprobs_shape) == (" ab", "length", "completions")
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
