"""Every provider's answers, whole and in chunks, against the schemas that its file makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.stream import stream
from refsample.errors import ParameterError
from refsample.generation.model import Model
from refsample.spec.provider import provider, providers
from refsample.spec.schemas import answer_schema

DOORS = [(name, endpoint) for name in providers() for endpoint in provider(name).endpoints]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}

# What a request may ask for that shows in its answer; a page takes what it knows, ignores or refuses the rest.
ASKS: dict[str, Mapping[str, Any]] = {
    "nothing": {},
    "choices": {"n": 2, "seed": 3, "temperature": 1, "stop": ["a"]},
    "legacy": {"logprobs": 2, "echo": True},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "tools": {"tools": [TOOL], "tool_choice": "required", "max_tokens": 60},
    "functions": {"functions": [TOOL["function"]], "function_call": {"name": "weather"}, "max_tokens": 60},
    "prediction": {"prediction": {"type": "content", "content": "there was"}},
    "ids": {"return_token_ids": True, "prompt_logprobs": 1},
    "json": {"response_format": {"type": "json_object"}, "seed": 1},
}
# In strict mode unknown fields are refused, so few of them pass; this many at each door.
STRICT = {
    "openai completions": 3,
    "openai chat": 7,
    "visioncraft": 1,
    "nebius": 2,
    "novita": 1,
    "empower": 1,
    "scale": 6,
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("name", "kind"), DOORS)
def test_answers_fit_their_schemas(model: Model, name: str, kind: str, strict: bool) -> None:
    page, answered = provider(name), []
    endpoint = page.endpoints[kind]
    whole = jsonschema.Draft202012Validator(answer_schema(endpoint.response, strict=strict))
    part = jsonschema.Draft202012Validator(answer_schema(endpoint.chunk, strict=strict))
    said: dict[str, Any] = {"prompt": "Once upon"}
    if kind == "chat":
        said = {"messages": [{"role": "user", "content": "Hi."}]}
    for label, asks in ASKS.items():
        body = {**said, "model": "openai/gpt-3.5-turbo-instruct", "max_tokens": 4, **asks}
        body |= {"max_tokens": 128} if name == "visioncraft" else {}
        try:
            made = (chat if kind == "chat" else complete)(model, body, page, strict=strict)
        except ParameterError:
            continue
        whole.validate(made)
        answered.append(label)
        streamed = {key: value for key, value in body.items() if key != "prompt_logprobs"}  # never in a stream
        if "stream_options" in endpoint.parameters and not (strict and endpoint.parameters["stream_options"].extension):
            streamed["stream_options"] = {"include_usage": True}
        chunks = list(stream(model, streamed, page, chat=kind == "chat", strict=strict))
        assert len(chunks) > 1
        for chunk in chunks:
            part.validate(chunk)
    if strict:
        assert len(answered) == STRICT.get(name, STRICT.get(f"{name} {kind}")), answered
    else:
        assert len(answered) >= len(ASKS) - 2, answered


def test_the_schemas_bite(model: Model) -> None:
    made = chat(model, {"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 2}, "nebius")
    schema = answer_schema(provider("nebius").endpoints["chat"].response, strict=False)
    jsonschema.validate(made, schema)
    choice = made["choices"][0]
    for wrong in (
        {**made, "colour": "red"},
        {key: value for key, value in made.items() if key != "usage"},
        {**made, "choices": [{**choice, "finish_reason": "tired"}]},
        {**made, "choices": [{**choice, "message": {**choice["message"], "tool_calls": None}}]},
        {**made, "created": "now"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
