"""langchain-openai, unmodified: both of its models, streams, logprobs, tools, structured output."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from refsample.generation.model import Model
from tests.clients.asked import ANIMAL, ASK, ONCE, QUESTION, TOOL, WORD
from tests.clients.live import KEY, missing, need


@pytest.fixture(scope="module")
def langchain() -> Any:
    need("langchain-openai", missing("langchain_openai"))
    import langchain_openai

    return langchain_openai


@pytest.fixture(scope="module")
def chat(langchain: Any, url: str) -> Any:
    return langchain.ChatOpenAI(
        base_url=f"{url}/v1", api_key=KEY, model="tiny", seed=1, max_completion_tokens=200, max_retries=0, timeout=120
    )


def test_completions_whole_and_streamed(langchain: Any, url: str, model: Model) -> None:
    settings = {"seed": 1, "max_tokens": 8, "temperature": 1, "top_p": 1}
    llm = langchain.OpenAI(base_url=f"{url}/v1", api_key=KEY, model="tiny", **settings)
    direct = model.generate(ONCE, seed=1, max_tokens=8).text
    assert llm.invoke(ONCE) == direct
    parts = list(llm.stream(ONCE))
    assert "".join(parts) == direct and len(parts) > 2
    assert [row[0].text for row in llm.generate([ONCE, ONCE]).generations] == [direct, direct]


def test_chat_with_logprobs(chat: Any, model: Model) -> None:
    answer = chat.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert answer.content == model.generate(ASK, seed=1, max_tokens=200).text
    entries = answer.response_metadata["logprobs"]["content"]
    assert entries and all(len(entry["top_logprobs"]) == 2 for entry in entries)
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_chat_in_a_stream(chat: Any) -> None:
    chunks = list(chat.stream(QUESTION, stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == chat.invoke(QUESTION).content
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1


def test_tools(chat: Any) -> None:
    bound = chat.bind_tools([TOOL], tool_choice="any", parallel_tool_calls=False)
    (call,) = bound.invoke(QUESTION).tool_calls
    assert call["name"] == "look_up"
    jsonschema.validate(call["args"], WORD)
    streamed: Any = None
    for chunk in bound.stream(QUESTION):
        streamed = chunk if streamed is None else streamed + chunk
    assert [each["args"] for each in streamed.tool_calls] == [call["args"]]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: Any, method: str) -> None:
    schema = {"title": "animal", "description": "An animal.", **ANIMAL}
    jsonschema.validate(chat.with_structured_output(schema, method=method).invoke(QUESTION), ANIMAL)


def test_a_refusal(chat: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat.bind(temperature=3).invoke(QUESTION)
