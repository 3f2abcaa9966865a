"""POST /v1/chat/completions in process: the template, logprobs, length, faults of the template."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import refsample
from refsample.api.answer import default_behaviour
from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.errors import ContextLengthError, ParameterError
from refsample.generation.model import Model
from refsample.spec.provider import provider
from refsample_kernels.softmax import row_log_softmax
from tests.api import schemas
from tests.api.joined import comparable

ASK = [{"role": "user", "content": "Name an animal."}]


def answer(model: Model, messages: Any = ASK, **fields: Any) -> dict[str, Any]:
    body = {"messages": messages, "seed": 1, "max_tokens": 8, **fields}
    result = chat(model, json.loads(json.dumps(body)))
    schemas.check(result, schemas.CHAT)
    return result


def contents(result: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in result["choices"]]


def test_front_door(model: Model) -> None:
    body = {"messages": ASK, "seed": 3, "max_tokens": 4}
    assert comparable(refsample.chat(model, body)) == comparable(chat(model, body))


def test_a_chat_is_its_template_completed(model: Model) -> None:
    assert model.template is not None
    ids = model.tokenizer.encode(model.template.render(ASK), bos=False)
    whole = complete(model, {"prompt": ids, "seed": 1, "max_tokens": 8, "n": 2})
    result = answer(model, n=2)
    assert contents(result) == [choice["text"] for choice in whole["choices"]]
    assert result["usage"] == whole["usage"]


def test_the_end_of_the_answer(model: Model) -> None:
    result = answer(model, temperature=0, max_tokens=None, logprobs=True)
    (choice,) = result["choices"]
    last = choice["logprobs"]["content"][-1]
    assert choice["finish_reason"] == "stop"
    assert last["token"] == "<|endoftext|>" and "<|" not in choice["message"]["content"]
    assert result["usage"]["completion_tokens"] == len(choice["logprobs"]["content"])


def test_not_sent_is_the_room_left(model: Model) -> None:
    words = model.config.max_position - 40
    messages = [{"role": "user", "content": " a" * words}]
    prompt = model.prompt_ids(messages)
    assert 0 < model.config.max_position - len(prompt) < 40, "the prompt has to leave little room"
    result = answer(model, messages, max_tokens=None, ignore_eos=True)
    assert result["usage"]["total_tokens"] == model.config.max_position
    assert result["usage"]["completion_tokens"] == model.config.max_position - len(prompt)
    assert result["choices"][0]["finish_reason"] == "length"


def test_a_conversation_without_room(model: Model) -> None:
    long = [{"role": "user", "content": "a b c d " * 400}]
    with pytest.raises(ContextLengthError, match="messages: .* tokens exceed the context of 1024 tokens") as caught:
        answer(model, long, max_tokens=None)
    assert caught.value.parameter == "messages" and caught.value.code == "context_length_exceeded"


def test_logprobs(model: Model) -> None:
    (choice,) = answer(model, logprobs=True, top_logprobs=4, temperature=1.7)["choices"]
    ids = list(model.prompt_ids(ASK))
    for entry in choice["logprobs"]["content"]:
        raw = row_log_softmax(model.logits(ids)[-1])
        best = [one["logprob"] for one in entry["top_logprobs"]]
        assert best == sorted(raw, reverse=True)[:4]
        assert bytes(entry["bytes"]).decode() == entry["token"]
        (drawn,) = [i for i in range(len(raw)) if model.tokenizer.token_bytes(i) == bytes(entry["bytes"])][:1]
        assert entry["logprob"] == raw[drawn]
        ids.append(drawn)


def test_logprobs_without_alternatives(model: Model) -> None:
    (choice,) = answer(model, logprobs=True)["choices"]
    assert all(entry["top_logprobs"] == [] for entry in choice["logprobs"]["content"])
    assert answer(model)["choices"][0]["logprobs"] is None
    assert contents(answer(model)) == [choice["message"]["content"]]


def test_developer_is_system(model: Model) -> None:
    one, two = (
        answer(model, [{"role": role, "content": "Be brief."}, *ASK], logprobs=True) for role in ("developer", "system")
    )
    assert comparable(one) == comparable(two)


def test_an_assistant_turn_last_is_answered_by_a_new_one(model: Model) -> None:
    result = answer(model, [*ASK, {"role": "assistant", "content": "A cat."}])
    assert model.template is not None
    text = model.template.render([*ASK, {"role": "assistant", "content": "A cat."}])
    assert result["usage"]["prompt_tokens"] == len(model.tokenizer.encode(text, bos=False))


def test_what_a_template_refuses(model: Model) -> None:
    template = model.template
    assert template is not None
    with pytest.raises(ParameterError, match="no chat template"):
        answer(replace(model, template=None))
    behaviour = replace(default_behaviour(provider("openai")), template="none_such")
    with pytest.raises(ParameterError, match="none_such"):
        chat(model, {"messages": ASK}, behaviour=behaviour)


def test_marks_inside_a_message(model: Model) -> None:
    """Text that looks like a mark is read as one, as transformers does; the answer still has its shape."""
    answer(model, [{"role": "user", "content": "<|endoftext|><|user|> Zoë \U0001f422\n\0"}])
