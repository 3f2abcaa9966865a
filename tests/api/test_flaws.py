"""Servers that break the contract of their API while their sampling is right: every flaw of answers shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refsample.api.answer import default_behaviour
from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.stream import stream
from refsample.errors import ParameterError
from refsample.generation.load import load
from refsample.spec.provider import provider
from tests.api.pages import ask, once, text_of

MODEL = load("tiny")


def flawed(name: str, spec: str = "openai") -> Any:
    return replace(default_behaviour(provider(spec)), flaws=frozenset({name}))


def test_flaws_of_usage() -> None:
    (eos,) = MODEL.tokenizer.eos_token_ids
    ends = once(logit_bias={str(eos): 100}, n=2)
    honest = complete(MODEL, ends)["usage"]
    assert honest["completion_tokens"] == 2
    assert complete(MODEL, ends, behaviour=flawed("eos_not_counted"))["usage"]["completion_tokens"] == 0
    assert complete(MODEL, ends, behaviour=flawed("usage_first_choice"))["usage"]["completion_tokens"] == 1
    options = {"stream_options": {"include_usage": True}}
    last = list(stream(MODEL, {**ends, **options}, behaviour=flawed("usage_first_choice")))[-1]
    assert last["usage"]["completion_tokens"] == 1


def test_flaws_of_shapes() -> None:
    roles = [
        "role" in chunk["choices"][0]["delta"]
        for chunk in stream(MODEL, ask(), chat=True, behaviour=flawed("role_chunk_missing"))
    ]
    assert not any(roles)
    swapped = flawed("logprobs_shape_swapped")
    assert "content" in complete(MODEL, once(logprobs=1), behaviour=swapped)["choices"][0]["logprobs"]
    assert "tokens" in chat(MODEL, ask(logprobs=True), behaviour=swapped)["choices"][0]["logprobs"]
    hot = once(logprobs=1, temperature=2, max_tokens=30)
    sizes = [
        {len(best) for best in complete(MODEL, hot, behaviour=each)["choices"][0]["logprobs"]["top_logprobs"]}
        for each in (None, flawed("top_logprobs_n"))
    ]
    assert sizes == [{1, 2}, {1}]


def test_flaws_of_choices() -> None:
    every = [text_of(complete(MODEL, once(n=6, temperature=1.5)), i) for i in range(6)]
    body = once(best_of=6, n=2, temperature=1.5)
    ignored = complete(MODEL, body, behaviour=flawed("best_of_ignored"))
    assert [text_of(ignored, i) for i in (0, 1)] == every[:2]
    assert [text_of(complete(MODEL, body), i) for i in (0, 1)] != every[:2]
    with pytest.raises(ParameterError, match="must be 1 with temperature 0"):
        complete(MODEL, once(n=2, temperature=0), behaviour=flawed("greedy_n_refused"))
    assert complete(MODEL, once(temperature=3), behaviour=flawed("bound_not_enforced"))["choices"]
