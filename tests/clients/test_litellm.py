"""litellm, unmodified, in an environment of its own since it pins its own versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from refsample.generation.model import Model
from tests.clients.asked import ANIMAL, ASK, FORMAT, ONCE, TOOL, WORD
from tests.clients.live import KEY, missing, need

# Its own, about its own code.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    need("litellm", missing("litellm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # read at import: else it asks the network for prices
        import litellm

        litellm.telemetry = False
        yield litellm


@pytest.fixture(scope="module")
def where(url: str) -> dict[str, Any]:
    return {"api_base": f"{url}/v1", "api_key": KEY, "num_retries": 0, "timeout": 120, "seed": 1}


def test_completions(litellm: Any, where: dict[str, Any], model: Model) -> None:
    fields = {"model": "text-completion-openai/tiny", "prompt": ONCE, "max_tokens": 8, **where}
    answer = litellm.text_completion(**fields, logprobs=2)
    direct = model.generate(ONCE, seed=1, max_tokens=8).text
    assert answer.choices[0].text == direct
    assert "".join(answer.choices[0].logprobs.tokens) == direct
    streamed = litellm.text_completion(**fields, stream=True)
    assert "".join(chunk.choices[0].text or "" for chunk in streamed if chunk.choices) == direct


def test_chat_with_logprobs(litellm: Any, where: dict[str, Any], model: Model) -> None:
    answer = litellm.completion(
        model="openai/tiny", messages=ASK, max_tokens=12, logprobs=True, top_logprobs=2, **where
    )
    (choice,) = answer.choices
    assert choice.message.content == model.generate(ASK, seed=1, max_tokens=12).text
    assert choice.logprobs.content and len(choice.logprobs.content[0].top_logprobs) == 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_in_a_stream(litellm: Any, where: dict[str, Any], model: Model) -> None:
    fields = {"model": "openai/tiny", "messages": ASK, "max_tokens": 12, **where}
    chunks = list(litellm.completion(**fields, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == model.generate(ASK, seed=1, max_tokens=12).text
    assert litellm.stream_chunk_builder(chunks).usage.completion_tokens > 0


def test_tools_whole_and_streamed(litellm: Any, where: dict[str, Any]) -> None:
    fields = {"model": "openai/tiny", "messages": ASK, "max_tokens": 200, "tools": [TOOL], "tool_choice": "required",
              "parallel_tool_calls": False, **where}  # fmt: skip
    (call,) = litellm.completion(**fields).choices[0].message.tool_calls
    jsonschema.validate(json.loads(call.function.arguments), WORD)
    folded = litellm.stream_chunk_builder(list(litellm.completion(**fields, stream=True)))
    (again,) = folded.choices[0].message.tool_calls
    assert (again.function.name, again.function.arguments) == ("look_up", call.function.arguments)


def test_schema(litellm: Any, where: dict[str, Any]) -> None:
    answer = litellm.completion(model="openai/tiny", messages=ASK, max_tokens=200, response_format=FORMAT, **where)
    jsonschema.validate(json.loads(answer.choices[0].message.content), ANIMAL)


def test_refusals(litellm: Any, where: dict[str, Any]) -> None:
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(model="openai/tiny", messages=ASK, temperature=3, **where)
    with pytest.raises(litellm.AuthenticationError) as caught:
        litellm.completion(model="openai/tiny", messages=ASK, **{**where, "api_key": "another"})
    assert KEY not in str(caught.value)
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/gpt-4o", messages=ASK, **where)
