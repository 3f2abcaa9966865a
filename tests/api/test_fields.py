"""Fields with rules of their own: objects merged into the body, keys, several names of one limit, counts as floats."""

from __future__ import annotations

from typing import Any

import pytest

from refsample.api.types import Request
from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.spec.provider import provider
from tests.api.malformed import say


def read(body: Any, endpoint: str = "completions", **options: Any) -> Request:
    return parse(body, options.pop("page", provider("openai")), endpoint, **options)


KEY = "sk-do-not-show-me"
TURN = [{"role": "user", "content": "Hi."}]


MERGED = [("nebius", "extra_body", {"messages": TURN}), ("scale", "inference_extra_params", {"prompt": "Hi."})]


@pytest.mark.parametrize(("name", "outer", "prompt"), MERGED)
@pytest.mark.parametrize("strict", [False, True])
def test_merged_objects(name: str, outer: str, prompt: dict[str, Any], strict: bool) -> None:
    page = provider(name)
    endpoint = next(iter(page.endpoints))

    def merged(inside: dict[str, Any], **fields: Any) -> Request:
        return read({**prompt, **fields, outer: inside}, endpoint, page=page, strict=strict)

    assert merged({"top_k": 7}).generation.sampling.top_k == 7
    assert merged({"top_k": 7}, top_k=7).generation.sampling.top_k == 7
    assert merged({"top_k": 7}).ignored == ()
    for body, said in (
        (({"top_k": 7}, {"top_k": 8}), f"{outer}.top_k: is also sent as top_k, with another value"),
        (({"temperature": 9}, {}), f"{outer}.temperature=9: must lie in"),
        (({"top_k": "few"}, {}), f"{outer}.top_k='few': must be"),
    ):
        if strict and name == "scale" and "temperature" in body[0]:  # v4 prints no range for it
            continue
        with pytest.raises(ParameterError) as caught:
            merged(body[0], **body[1])
        assert str(caught.value).startswith(said)
    if not strict:
        assert merged({"colour": "red"}).ignored == (f"{outer}.colour",)


def test_a_key_in_the_body_is_never_repeated() -> None:
    page = provider("visioncraft")
    request = read({"messages": TURN, "token": KEY}, "chat", page=page)
    assert request.ignored == () and KEY not in repr(request)
    for body in ({"messages": TURN, "token": [KEY]}, {"messages": "Hi.", "token": KEY}, {"token": {"a": KEY}}):
        with pytest.raises(ParameterError) as caught:
            read({"messages": TURN, **body}, "chat", page=page)
        assert KEY not in str(caught.value) and KEY not in repr(caught.value.value)
    with pytest.raises(ParameterError) as caught:  # a key where the page has no such field
        read(say(token=KEY), strict=True)
    assert caught.value.parameter == "token" and KEY not in str(caught.value)
    with pytest.raises(ParameterError) as caught:
        read({"prompt": "Hi.", "inference_extra_headers": [KEY]}, page=provider("scale"))
    assert KEY not in str(caught.value)
    request = read({"prompt": "Hi.", "inference_extra_headers": {"x-api-key": KEY}}, page=provider("scale"))
    assert request.ignored == ("inference_extra_headers",) and KEY not in repr(request)


def test_a_key_that_the_page_requires_is_required_over_http_alone() -> None:
    page = provider("visioncraft")
    read({"messages": TURN}, "chat", page=page, strict=True)
    read({"messages": TURN, "model": "m"}, "chat", page=page, model_required=True)
    with pytest.raises(ParameterError, match="token: is required"):
        read({"messages": TURN, "model": "m"}, "chat", page=page, strict=True, model_required=True)


def test_three_names_of_the_token_limit() -> None:
    page = provider("scale")
    names = {"max_tokens": 9, "max_completion_tokens": 5, "max_new_tokens": 7}
    request = read({"prompt": "Hi.", **names}, page=page)
    assert request.generation.max_tokens == 5 and request.ignored == ("max_new_tokens", "max_tokens")
    assert read({"prompt": "Hi.", "max_new_tokens": 5}, page=page).generation.max_tokens == 5
    assert read({"prompt": "Hi."}, page=page).generation.max_tokens == 16
    same = dict.fromkeys(names, 5)
    assert read({"prompt": "Hi.", **same}, page=page, strict=True).ignored == ()
    with pytest.raises(ParameterError, match="means the same as max_tokens"):
        read({"prompt": "Hi.", **names}, page=page, strict=True)


def test_a_count_typed_as_a_float() -> None:
    page = provider("visioncraft")

    def top_k(value: Any, strict: bool = False) -> tuple[int, tuple[str, ...]]:
        request = read({"messages": TURN, "top_k": value}, "chat", page=page, strict=strict)
        return request.generation.sampling.top_k, request.ignored

    assert top_k(50) == top_k(50.0) == top_k(50.0, True) == (50, ())
    assert top_k(3.7) == (3, ("top_k (its fraction)",))
    with pytest.raises(ParameterError, match="whole number"):
        top_k(3.7, True)
    with pytest.raises(ParameterError, match="must lie in 0 <= x <= 99999"):
        top_k(-0.5)


def test_bounds_that_are_not_enforced() -> None:
    """A flaw that a server can have, served on purpose; types are still checked."""
    flaws = frozenset({"bound_not_enforced"})
    assert read(say(temperature=3), flaws=flaws).generation.sampling.temperature == 3
    assert read(say(n=129), flaws=flaws).generation.n == 129
    with pytest.raises(ParameterError, match="finite number"):
        read(say(temperature="hot"), flaws=flaws)


@pytest.mark.parametrize(
    ("body", "whose"),
    [
        ({"top_k": -2}, "vLLM, llama.cpp, SGLang"),
        ({"guided_regex": ""}, "vLLM"),
        ({"temperature": 3}, "OpenAI"),
        ({"verbosity": "low"}, "refsample"),
    ],
)
def test_an_error_says_whose_rule_it_is(body: dict[str, Any], whose: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse({"messages": [{"role": "user", "content": "Hi"}], **body}, provider("openai"), "chat")
    assert caught.value.source == whose
