"""OpenAPI documents: valid by the official meta-schema, and as tight as the records they come from."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from refsample.spec.boundaries import COMPANIONS, Case, cases
from refsample.spec.openapi import openapi
from refsample.spec.provider import EndpointSpec, ParameterSpec, ProviderSpec, provider, providers

MODES = [(name, strict) for name in providers() for strict in (False, True)]


@pytest.mark.parametrize(("name", "strict"), MODES)
def test_valid(name: str, strict: bool) -> None:
    page, document = provider(name), openapi(provider(name), strict=strict)
    validate(json.loads(json.dumps(document, allow_nan=False)))
    for endpoint in page.endpoints.values():
        answers = document["paths"][endpoint.path]["post"]["responses"]
        assert {int(status) for status in answers} == {200} | {failure.status for failure in page.errors.values()}
        assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {"/tokenize", "/detokenize", "/health"} <= document["paths"].keys()
    assert (page.models_path in document["paths"]) is bool(page.models_path)


def schema_of(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    """A validator for one of the document's components."""
    whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema.Draft202012Validator(whole)


def body_of(page: ProviderSpec, endpoint: EndpointSpec, parameter: ParameterSpec, case: Case) -> dict[str, Any]:
    """A body that is right but for the one value."""
    asked: Any = [{"role": "user", "content": "Hi."}] if endpoint.kind == "chat" else "Hi."
    body = {"messages" if endpoint.kind == "chat" else "prompt": asked, "model": "m"}
    body |= {auth.name: "key" for auth in page.auth if auth.place == "body"}
    body |= COMPANIONS.get(parameter.means, {})
    if case.value is ...:
        return {name: value for name, value in body.items() if name != parameter.name}
    return {**body, parameter.name: case.value}


def top_level(endpoint: EndpointSpec) -> list[ParameterSpec]:
    return [record for record in endpoint.parameters.values() if not set(".[") & set(record.name)]


@pytest.mark.parametrize(("name", "strict"), MODES)
def test_boundary_cases_fit_or_not(name: str, strict: bool) -> None:
    page = provider(name)
    document = openapi(page, strict=strict)
    for endpoint in page.endpoints.values():
        schema = schema_of(document, f"{endpoint.name.capitalize()}Request")
        for parameter in top_level(endpoint):
            for case in cases(parameter, strict=strict):
                fits = schema.is_valid(body_of(page, endpoint, parameter, case))
                assert fits or case.accepted is not True, f"{parameter.name}: {case} does not fit"
                assert not fits or case.accepted is not False, f"{parameter.name}: {case} fits"


def test_unknown_fields() -> None:
    body = {"model": "m", "prompt": "Hi.", "refsample_unknown": 1}
    for strict in (False, True):
        schema = schema_of(openapi(provider("novita"), strict=strict), "CompletionsRequest")
        assert schema.is_valid(body) is not strict
        assert schema.is_valid({"model": "m", "prompt": "Hi."})


def test_what_lies_inside_objects() -> None:
    schema = schema_of(openapi(provider("openai")), "ChatRequest")
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi."}]}
    tool = {"type": "function", "function": {"name": "f"}}
    assert schema.is_valid({**body, "tools": [tool], "tool_choice": "required"})
    assert schema.is_valid({**body, "tools": [tool], "tool_choice": tool})
    for wrong in (
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "function", "function": {"name": "no spaces"}}]},
        {"tool_choice": "perhaps"},
        {"messages": [{"role": "wizard", "content": "Hi."}]},
        {"messages": [{"content": "Hi."}]},
        {"stream_options": {"include_usage": 1}},
        {"response_format": {"type": "xml"}},
        {"audio": {"voice": "x"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"prediction": {"type": "content", "content": [{"type": "image_url", "text": "x"}]}},
        {"prediction": {"type": "content", "content": [{"type": "text"}]}},
    ):
        assert not schema.is_valid({**body, **wrong}), wrong


def test_a_time_limit_is_above_zero() -> None:
    for strict in (False, True):
        schema = schema_of(openapi(provider("scale"), strict=strict), "CompletionsRequest")
        body = {"model": "m", "prompt": "Hi."}
        assert all(schema.is_valid({**body, "inference_timeout": value}) for value in (0.5, "2.5", None)[: 3 - strict])
        assert not schema.is_valid({**body, "inference_timeout": 0})


def test_keys_where_the_page_wants_them() -> None:
    scale = openapi(provider("scale"))
    assert scale["security"] == [{"x_api_key_header": []}, {"authorization_header": []}]
    assert scale["components"]["securitySchemes"]["x_api_key_header"] == {
        "type": "apiKey", "in": "header", "name": "x-api-key",
    }  # fmt: skip
    assert openapi(provider("scale"), strict=True)["security"] == [{"x_api_key_header": []}]
    assert openapi(provider("visioncraft"))["security"] == [{}, {"authorization_header": []}]
