"""Fields of an answer against a provider's records."""

from dataclasses import replace
from typing import Any

import pytest

from refsample.conformance.shape import shape_errors
from refsample.spec.provider import provider

FIELDS = provider("openai").endpoints["completions"].response


def good() -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


def test_a_good_answer_has_no_errors() -> None:
    assert shape_errors(good(), FIELDS) == []


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("id", None, "id is null"),
        ("object", "chat.completion", "object is 'chat.completion', not one of text_completion"),
        ("created", "now", "created is str, not integer"),
        ("choices.0.index", 1.5, r"choices\[\]\.index is float, not integer"),
        ("choices.0.text", None, r"choices\[\]\.text is null"),
        ("choices.0.finish_reason", "eos", r"choices\[\]\.finish_reason is 'eos'"),
        ("usage.total_tokens", "2", r"usage\.total_tokens is str"),
    ],
)
def test_one_wrong_field_is_named(path: str, value: object, error: str) -> None:
    import re

    body = good()
    *parents, last = path.split(".")
    place: Any = body
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value
    errors = [" ".join(e) for e in shape_errors(body, FIELDS)]
    assert any(re.match(error, e) for e in errors), errors
    del place[last]
    assert (path.replace(".0.", "[]."), "is missing") in shape_errors(body, FIELDS)


def test_what_is_no_object() -> None:
    assert shape_errors([1], FIELDS) == [("", "is not a JSON object")]
    optional = {"x.y": replace(FIELDS["id"], name="x.y")}
    assert shape_errors({}, optional) == []  # the parent's own record speaks of a missing parent


def test_what_is_not_on_the_page_may_be_missing_but_not_of_another_type() -> None:
    beside = {"x": replace(FIELDS["id"], name="x", extension=True)}
    assert shape_errors({}, beside) == []
    assert shape_errors({"x": 5}, beside) == [("x", "is int, not string")]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_fingerprint_may_be_null_as_vllm_sends_it(endpoint: str) -> None:
    spec = provider("openai").endpoints[endpoint]
    for fields in (spec.response, spec.chunk):
        assert not [e for e in shape_errors({"system_fingerprint": None}, fields) if e[0] == "system_fingerprint"]
