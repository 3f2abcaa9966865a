"""Streams: chunk shapes, order, usage, and that a joined stream is the whole answer."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsample
from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.stream import stream
from refsample.errors import ParameterError
from refsample.generation.load import load
from refsample.generation.model import Model
from tests.api import schemas
from tests.api.joined import comparable, joined
from tests.generation.scripted import byte, scripted, speaking
from tests.text.vocabularies import byte_level

MODEL = load("tiny")
ASK = [{"role": "user", "content": "Name an animal."}]
USAGE = {"include_usage": True}


def chunks(body: dict[str, Any], is_chat: bool = False) -> list[dict[str, Any]]:
    found = list(stream(MODEL, json.loads(json.dumps(body)), chat=is_chat))
    for chunk in found:
        schemas.check(chunk, schemas.CHAT_CHUNK if is_chat else schemas.COMPLETION_CHUNK)
    return found


def test_front_door() -> None:
    body = {"prompt": "Once", "seed": 1, "max_tokens": 3}
    assert comparable(joined(refsample.stream(MODEL, body))) == comparable(joined(stream(MODEL, body)))


FIELDS = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**40), "max_tokens": st.integers(0, 8)},
    optional={
        "temperature": st.sampled_from([0, 0.7, 2]),
        "n": st.integers(1, 3),
        "stop": st.sampled_from([".", ["e", "an"], "once upon", ["\n", " "]]),
        "top_p": st.sampled_from([0, 0.5, 0.95]),
        "include_stop_str_in_output": st.booleans(),
        "ignore_eos": st.booleans(),
        "logit_bias": st.sampled_from([{}, {"0": 5}, {str(i): 8 for i in range(150, 250)}]),
        "min_p": st.just(0.05),
    },
)
PROMPTS = st.lists(
    st.sampled_from(["Once upon a time", "The cat", "A list of things:\n-", "🐢 Zoë"]), min_size=1, max_size=3
)


@settings(max_examples=25)
@given(fields=FIELDS, prompts=PROMPTS, echo=st.booleans(), logprobs=st.none() | st.integers(0, 5))
def test_joined_completions_are_whole_ones(
    fields: dict[str, Any], prompts: list[str], echo: bool, logprobs: int | None
) -> None:
    body = {**fields, "prompt": prompts, "echo": echo, "logprobs": logprobs}
    whole = complete(MODEL, body)
    assert comparable(joined(chunks({**body, "stream_options": USAGE}))) == comparable(_without_empty(whole))


def _without_empty(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without a token has empty logprobs; its stream has no chunk that could carry them."""
    for choice in answer["choices"]:
        found = choice["logprobs"]
        if found is not None and not found.get("tokens", found.get("content")):
            choice["logprobs"] = None
    return answer


@settings(max_examples=20)
@given(fields=FIELDS, top=st.none() | st.integers(0, 5))
def test_joined_chats_are_whole_ones(fields: dict[str, Any], top: int | None) -> None:
    logprobs = {} if top is None else {"logprobs": True, "top_logprobs": top}
    body = {**fields, "messages": ASK, **logprobs, "max_tokens": max(1, fields["max_tokens"])}
    assert comparable(joined(chunks({**body, "stream_options": USAGE}, True))) == comparable(chat(MODEL, body))


def test_order_of_chat_chunks() -> None:
    found = chunks({"messages": ASK, "n": 2, "seed": 1, "max_tokens": 3, "stream_options": USAGE}, True)
    for index in (0, 1):
        own = [chunk["choices"][0] for chunk in found if chunk["choices"] and chunk["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert all("role" not in part["delta"] and part["finish_reason"] is None for part in own[1:-1])
        assert own[-1]["delta"] == {} and own[-1]["finish_reason"] in ("stop", "length")
    kinds = [bool(chunk["choices"]) for chunk, _ in groupby(found)]
    assert kinds == [True] * (len(kinds) - 1) + [False]


def test_usage_chunk_only_on_request() -> None:
    body = {"prompt": "Once", "seed": 1, "max_tokens": 3}
    assert not any("usage" in chunk for chunk in chunks(body))
    asked = chunks({**body, "stream_options": USAGE})
    assert all(chunk["usage"] is None for chunk in asked[:-1])
    assert asked[-1]["choices"] == [] and asked[-1]["usage"]["completion_tokens"] == 3


def test_only_the_first_chunk_says_how_to_repeat_it() -> None:
    found = chunks({"prompt": "Once", "seed": 9, "max_tokens": 3, "colour": "red"})
    assert found[0]["refsample"] == {"seed": 9, "ignored": ["colour"]}
    assert not any("refsample" in chunk for chunk in found[1:])


def test_a_stream_refuses_before_its_first_chunk() -> None:
    for body in (
        {"prompt": "x", "temperature": 3},
        {"prompt": "x", "max_tokens": 5000},
        [],
        {"prompt": "x", "best_of": 2},
    ):
        with pytest.raises(ParameterError):
            stream(MODEL, body)  # type: ignore[arg-type]  # a list is what a careless caller sends


def test_a_closed_stream_computes_no_more(model: Model) -> None:
    open_stream = stream(MODEL, {"prompt": "Once", "seed": 1, "max_tokens": 900, "ignore_eos": True})
    assert next(open_stream)["choices"]
    open_stream.close()
    with pytest.raises(StopIteration):
        next(open_stream)


def test_no_chunk_splits_a_character(tmp_path: Path) -> None:
    """A model that speaks byte by byte: each character arrives whole, each token has its own logprobs."""
    byte_level(tmp_path)
    text = "a🐢Zoë."
    speaker = scripted(tmp_path, speaking(text, 1))
    body = {"prompt": [byte("x")], "seed": 1, "max_tokens": 40, "logprobs": 0}
    parts = [chunk["choices"][0] for chunk in stream(speaker, body)]
    assert [part["text"] for part in parts if part["text"]] == list(text)
    tokens = [token for part in parts if part["logprobs"] for token in part["logprobs"]["tokens"]]
    assert len(tokens) == len(text.encode()) + 1  # and the end token
    assert comparable(joined(stream(speaker, body))) == comparable(_without_usage(complete(speaker, body)))


def _without_usage(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "usage"}
