"""openai-python, as it is on the index and without a single retry, against a live server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from refsample.api.server import LocalServer, create_app
from refsample.generation.load import load
from refsample.generation.model import Model

ASK: Any = [{"role": "user", "content": "Name an animal."}]
ONCE = "Once upon a time"


@pytest.fixture(scope="module")
def model() -> Model:
    return load("tiny")


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[openai.OpenAI]:
    with (
        LocalServer(create_app({"tiny": model}, api_key="sk-test")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0, timeout=120) as made,
    ):
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [card.id for card in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"


def test_completions(client: openai.OpenAI, model: Model) -> None:
    answer = client.completions.create(model="tiny", prompt=ONCE, seed=1, max_tokens=8, n=2, logprobs=3, echo=True)
    assert answer.object == "text_completion" and answer.model == "tiny" and answer.id.startswith("cmpl-")
    assert [choice.index for choice in answer.choices] == [0, 1]
    direct = model.generate(ONCE, seed=1, max_tokens=8, n=2)
    assert [choice.text for choice in answer.choices] == [ONCE + choice.text for choice in direct.choices]
    found = answer.choices[0].logprobs
    assert found is not None and found.tokens and found.token_logprobs and found.text_offset and found.top_logprobs
    assert "".join(found.tokens) == answer.choices[0].text
    assert found.token_logprobs[0] is None and found.text_offset[:2] == [0, len(found.tokens[0])]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16
    assert answer.model_extra == {"refsample": {"seed": 1, "ignored": []}}


def test_the_same_seed_twice(client: openai.OpenAI) -> None:
    def ask() -> dict[str, Any]:
        answer = client.completions.create(model="tiny", prompt=ONCE, seed=5, max_tokens=8, temperature=1.5, logprobs=5)
        return answer.model_dump(exclude={"id", "created"})

    assert ask() == ask()


def test_completions_in_a_stream(client: openai.OpenAI) -> None:
    fields: Any = {"model": "tiny", "prompt": [ONCE, "The cat"], "seed": 1, "max_tokens": 8, "logprobs": 1}
    whole = client.completions.create(**fields)
    texts, tokens, reasons, usage = ["", ""], [[], []], {}, None
    for chunk in client.completions.create(**fields, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += (choice.logprobs and choice.logprobs.tokens) or []
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs.tokens for choice in whole.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage


def test_chat(client: openai.OpenAI, model: Model) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=ASK, seed=1, max_completion_tokens=8, logprobs=True, top_logprobs=3, user="me"
    )
    (choice,) = answer.choices
    assert answer.object == "chat.completion" and choice.message.role == "assistant" and choice.message.refusal is None
    assert choice.message.content == model.generate(ASK, seed=1, max_tokens=8).text
    assert choice.logprobs is not None and choice.logprobs.content
    entry = choice.logprobs.content[0]
    assert entry.bytes and bytes(entry.bytes).decode() == entry.token
    values = [best.logprob for best in entry.top_logprobs]
    assert len(values) == 3 and values == sorted(values, reverse=True)


def test_chat_in_a_stream(client: openai.OpenAI) -> None:
    fields: Any = {"model": "tiny", "messages": ASK, "seed": 1, "max_tokens": 8, "n": 2, "logprobs": True}
    whole = client.chat.completions.create(**fields)
    texts, roles, reasons, entries, usage = ["", ""], [0, 0], {}, [0, 0], None
    for chunk in client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}):
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            roles[choice.index] += choice.delta.role == "assistant"
            entries[choice.index] += len((choice.logprobs and choice.logprobs.content) or [])
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices] and roles == [1, 1]
    assert entries == [len(choice.logprobs.content) for choice in whole.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage


def test_the_client_s_own_stream_helper(client: openai.OpenAI) -> None:
    """It folds chunks by its own rules, logprobs included."""
    fields: Any = {"model": "tiny", "messages": ASK, "seed": 1, "max_tokens": 8, "logprobs": True, "top_logprobs": 1}
    with client.chat.completions.stream(**fields) as events:
        folded = events.get_final_completion()
    whole = client.chat.completions.create(**fields)
    assert folded.choices[0].message.content == whole.choices[0].message.content
    assert folded.choices[0].logprobs is not None and whole.choices[0].logprobs is not None
    assert folded.choices[0].logprobs.content == whole.choices[0].logprobs.content


def test_extensions_go_in_the_extra_body(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny", prompt=ONCE, max_tokens=4, extra_body={"top_k": 1, "min_p": 0.1, "colour": "red"}
    )
    greedy = client.completions.create(model="tiny", prompt=ONCE, max_tokens=4, temperature=0)
    assert answer.choices[0].text == greedy.choices[0].text
    assert answer.model_extra is not None and answer.model_extra["refsample"]["ignored"] == ["colour"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"max_tokens": 9999}, "max_tokens", "context_length_exceeded"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias.99999999", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"best_of": 1, "n": 2}, "best_of", "invalid_value"),
    ],
)
def test_bad_requests(client: openai.OpenAI, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "tiny", "prompt": ONCE, **fields})
    error = caught.value
    assert (error.status_code, error.param, error.code, error.type) == (400, param, code, "invalid_request_error")
    assert param in error.message and error.request_id is not None and error.request_id.startswith("req_")


def test_a_refused_stream(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n=0"):
        client.chat.completions.create(model="tiny", messages=ASK, n=0, stream=True)


def test_what_is_not_served(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=ASK, modalities=["text", "audio"])
    assert caught.value.param == "modalities"
    assert caught.value.code == "unsupported_parameter"


def test_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-4") as caught:
        client.completions.create(model="gpt-4", prompt=ONCE)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="tiny", input="x")


def test_a_wrong_key(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="sk-wrong").completions.create(model="tiny", prompt=ONCE)
    assert caught.value.code == "invalid_api_key" and "sk-wrong" not in caught.value.message
