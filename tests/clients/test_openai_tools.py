"""openai-python live: tools, JSON schema, prediction, and an exception of its own for every refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from refsample.generation.model import Model
from tests.clients.asked import ANIMAL, ASK, FORMAT, ONCE, QUESTION, TOOL, WORD
from tests.clients.live import KEY

FORCED: Any = {"type": "function", "function": {"name": "look_up"}}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120) as made:
        yield made


def forced(**more: Any) -> Any:
    return {"model": "tiny", "messages": ASK, "tools": [TOOL], "tool_choice": FORCED, "seed": 1, **more}


def test_a_tool_is_called(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**forced(max_tokens=100)).choices
    assert choice.finish_reason in ("tool_calls", "stop") and choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.type == "function" and call.function.name == "look_up" and call.id
    jsonschema.validate(json.loads(call.function.arguments), WORD)


def test_the_call_and_its_result_go_back(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**forced(max_tokens=100)).choices
    (call,) = choice.message.tool_calls or []
    result = {"role": "tool", "tool_call_id": call.id, "content": "a small animal"}
    messages: Any = [*ASK, choice.message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(model="tiny", messages=messages, tools=[TOOL], tool_choice="none", seed=1)
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls
    assert answer.usage is not None and answer.usage.prompt_tokens > 50


def test_a_tool_call_in_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**forced(max_tokens=100)).choices[0]
    name, arguments, reasons, ids = "", "", [], set()
    for chunk in client.chat.completions.create(**forced(max_tokens=100), stream=True):
        for choice in chunk.choices:
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for part in choice.delta.tool_calls or []:
                ids |= {part.id} - {None}
                name += (part.function and part.function.name) or ""
                arguments += (part.function and part.function.arguments) or ""
    (call,) = whole.message.tool_calls or []
    assert (name, arguments, reasons) == ("look_up", call.function.arguments, [whole.finish_reason]) and len(ids) == 1


def test_the_client_s_own_stream_helper_folds_calls(client: openai.OpenAI) -> None:
    fields = forced(max_tokens=200, tool_choice="required", parallel_tool_calls=False)
    with client.chat.completions.stream(**fields) as events:
        folded = events.get_final_completion()
    for call in folded.choices[0].message.tool_calls or []:
        jsonschema.validate(json.loads(call.function.arguments), WORD)
    assert folded.choices[0].message.tool_calls


class Animal(BaseModel):
    name: str
    legs: int


def test_a_pydantic_model_is_parsed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="tiny", messages=ASK, response_format=Animal, seed=1, max_tokens=100)
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, Animal)


def test_a_cut_off_is_never_called_valid(client: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="tiny", messages=ASK, response_format=Animal, seed=1, max_tokens=3)


@pytest.mark.parametrize("format", [FORMAT, {"type": "json_object"}], ids=lambda each: each["type"])
def test_formats(client: openai.OpenAI, format: Any) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=ASK, response_format=format, seed=1, max_tokens=200, logprobs=True, top_logprobs=2
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    value = json.loads(choice.message.content or "")
    jsonschema.validate(value, ANIMAL if format is FORMAT else {"type": "object"})
    assert choice.logprobs is not None and choice.logprobs.content


def test_a_prediction_changes_nothing_but_usage(client: openai.OpenAI) -> None:
    fields: Any = {"model": "tiny", "messages": ASK, "seed": 3, "max_tokens": 12, "logprobs": True}
    plain = client.chat.completions.create(**fields)
    text = plain.choices[0].message.content or ""
    predicted = client.chat.completions.create(**fields, prediction={"type": "content", "content": text})
    assert predicted.choices == plain.choices
    assert predicted.usage is not None and predicted.usage.completion_tokens_details is not None
    details = predicted.usage.completion_tokens_details
    assert details.accepted_prediction_tokens and details.rejected_prediction_tokens == 0


@pytest.mark.parametrize(
    ("kind", "status", "fields"),
    [
        (openai.BadRequestError, 400, {"tools": [{"type": "function", "function": {"name": "no good"}}]}),
        (openai.BadRequestError, 400, {"tool_choice": "required"}),
        (openai.BadRequestError, 400, {"response_format": {"type": "yaml"}}),
        (openai.BadRequestError, 400, {"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "wav"}}),
        (openai.BadRequestError, 400, {"stream_options": {"include_usage": True}}),
        (openai.NotFoundError, 404, {"model": "gpt-4o"}),
    ],
)
def test_exceptions_by_status(client: openai.OpenAI, kind: Any, status: int, fields: dict[str, Any]) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "tiny", "messages": ASK, **fields})
    error = caught.value
    assert error.status_code == status and error.request_id and isinstance(error.body, dict)
    assert KEY not in str(error) and KEY not in json.dumps(error.body)


def test_exceptions_of_the_key_and_the_path(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key=f"{KEY}-not").models.list()
    assert caught.value.status_code == 401 and KEY not in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="tiny", prompt=QUESTION)


async def _ten(url: str) -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
        answers = [client.completions.create(model="tiny", prompt=ONCE, seed=n, max_tokens=8) for n in range(10)]
        return [answer.choices[0].text for answer in await asyncio.gather(*answers)]


def test_ten_at_once_are_the_same_as_alone(url: str, model: Model) -> None:
    alone = [model.generate(ONCE, seed=n, max_tokens=8).text for n in range(10)]
    assert asyncio.run(_ten(url)) == alone
