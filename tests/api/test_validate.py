"""The door: what it refuses, what it lets through and what it makes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.api.types import UNSET, Request
from refsample.api.validate import parse
from refsample.api.wire import _object
from refsample.errors import ContextLengthError, ParameterError, SpecError
from refsample.generation.model import Model
from refsample.spec.notation import Range
from refsample.spec.provider import ProviderSpec, Reading, provider, providers
from tests.api.malformed import ASK, MALFORMED, SAY, ask, say

PAGE = provider("openai")
ABOUT_CONTEXT = ("exceed the context",)


def read(body: Any, endpoint: str = "completions", **options: Any) -> Request:
    return parse(body, options.pop("page", PAGE), endpoint, **options)


@pytest.mark.parametrize(("endpoint", "body", "parameter", "message"), MALFORMED)
def test_refused(model: Model, endpoint: str, body: Any, parameter: str, message: str) -> None:
    if any(part in message for part in ABOUT_CONTEXT):
        from refsample.api.answer import default_behaviour, prepare

        with pytest.raises(ContextLengthError) as long:
            prepare(model, read(body, endpoint, model=model), default_behaviour(PAGE))
        caught: Any = long
    else:
        with pytest.raises(ParameterError) as wrong:
            read(body, endpoint, model=model)
        caught = wrong
        assert caught.value.source.startswith(("OpenAI", "vLLM", "refsample"))
    assert caught.value.parameter == parameter
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_absent_null_and_default_differ() -> None:
    request = read(say(temperature=None, top_p=0.5))
    assert request.fields.sent("temperature") is None
    assert request.fields.sent("seed") is UNSET and not UNSET
    assert request.fields.sent("top_p") == 0.5
    assert request.generation.sampling.temperature == 1.0
    assert repr(UNSET) == "UNSET"


def test_defaults_are_the_page_s() -> None:
    request = read({"prompt": "Hi"})
    assert request.generation.max_tokens == 16
    assert (request.generation.n, request.best_of, request.stream, request.echo) == (1, 1, False, False)
    assert request.generation.logprobs is None and request.generation.seed is None
    assert read({"messages": ASK["messages"]}, "chat").generation.max_tokens is None
    assert read(say(max_tokens=None)).generation.max_tokens == 16


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("ab", ("ab",)),
        (["ab", "c"], ("ab", "c")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (None, (None,)),
    ],
)
def test_prompt_forms(prompt: Any, wanted: Any) -> None:
    assert read({"prompt": prompt}).prompts == wanted


def test_everything_arrives() -> None:
    sampled = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.2}
    sampled |= {"presence_penalty": -1, "frequency_penalty": 2, "logit_bias": {"5": -100, "6": 3}}
    ended = {"stop": ["a", "b"], "stop_token_ids": [4], "ignore_eos": True, "min_tokens": 1}
    shown = {"logprobs": 0, "best_of": 4, "echo": True, "include_stop_str_in_output": True}
    body = say(n=2, seed=-(2**63), user="me", model="tiny", **sampled, **ended, **shown)
    request = read(body)
    made, sampling = request.generation, request.generation.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 7, 0.1)
    assert (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1.2, -1.0, 2.0)
    assert dict(sampling.logit_bias) == {5: -100.0, 6: 3.0}
    assert (made.n, made.seed, made.stop, made.stop_token_ids) == (2, -(2**63), ("a", "b"), (4,))
    assert (made.ignore_eos, made.min_tokens, made.logprobs, made.include_stop) == (True, 1, 0, True)
    assert (request.best_of, request.echo, request.model, request.ignored) == (4, True, "tiny", ())


@pytest.mark.parametrize(("best_of", "n", "wanted"), [(0, 3, 3), (None, 3, 3), (3, 3, 3), (20, 3, 20)])
def test_best_of(best_of: int | None, n: int, wanted: int) -> None:
    assert read(say(best_of=best_of, n=n)).best_of == wanted


@pytest.mark.parametrize(
    ("endpoint", "body", "parameter"),
    [
        ("completions", say(prompt=["a"] * 17, n=128), "prompt"),
        ("completions", say(prompt=[[5]] * 2049), "prompt"),
        ("completions", say(prompt=["a"] * 103, best_of=20), "prompt"),
        ("completions", say(n=3000), "n"),
        ("completions", say(best_of=3000), "best_of"),
        ("chat", ask(n=3000), "n"),
    ],
)
def test_one_request_gets_so_many_choices(endpoint: str, body: Any, parameter: str) -> None:
    page = PAGE
    if parameter != "prompt":  # a page may print any bound, or none
        page = changed(parameter, endpoint, printed=Range(0, math.inf), effective=Range(0, math.inf))
    with pytest.raises(ParameterError, match="one request gets 2048 at most") as caught:
        read(body, endpoint, page=page)
    assert caught.value.parameter == parameter


def test_as_many_choices_as_one_request_gets() -> None:
    assert len(read(say(prompt=["a"] * 16, n=128)).prompts) == 16


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [({}, None), ({"logprobs": False}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 3}, 3)],
)
def test_chat_logprobs(fields: dict[str, Any], wanted: int | None) -> None:
    assert read(ask(**fields), "chat").generation.logprobs == wanted


def test_seed_minus_one_is_a_fresh_one() -> None:
    assert read(say(seed=-1)).generation.seed is None
    assert read(say(seed=0)).generation.seed == 0


def test_two_names_of_one_field() -> None:
    assert read(ask(max_tokens=None, max_completion_tokens=3), "chat").generation.max_tokens == 3
    assert read(ask(max_completion_tokens=2), "chat").generation.max_tokens == 2


def test_messages_become_turns() -> None:
    parts = [{"type": "text", "text": "Name "}, {"type": "text", "text": "an animal."}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts, "name": "Zoë"}]
    request = read({"messages": messages}, "chat")
    assert request.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name an animal."},
    )
    assert request.ignored == ("messages[1].name",)


def test_what_has_no_effect_is_listed() -> None:
    body = ask(
        colour="red", metadata={"a": "b"}, store=True, service_tier="flex", stream=True, foo=None,
        stream_options={"include_usage": True, "include_obfuscation": True, "bar": 1},
    )  # fmt: skip
    wanted = (
        "colour", "foo", "metadata", "service_tier", "store", "stream_options.bar",
        "stream_options.include_obfuscation",
    )  # fmt: skip
    assert read(body, "chat").ignored == wanted


def test_neutral_values_ask_for_nothing() -> None:
    neutral = {
        "tools": [], "functions": [], "tool_choice": "none", "function_call": "auto", "parallel_tool_calls": True,
        "response_format": {"type": "text"}, "modalities": ["text"], "audio": None, "prediction": None,
        "reasoning_effort": None, "verbosity": "medium", "store": False, "service_tier": "auto", "metadata": {},
        "web_search_options": None, "user": "me", "safety_identifier": "me",
    }  # fmt: skip
    assert read(ask(**neutral), "chat").ignored == ()


@pytest.mark.parametrize("extra", [{"top_k": 5}, {"colour": "red"}, {"stream": True, "stream_options": {"bar": 1}}])
def test_strict_knows_only_the_page(extra: dict[str, Any]) -> None:
    assert read(say(**extra)).generation.max_tokens == 2
    with pytest.raises(ParameterError, match="is not a parameter of this endpoint") as caught:
        read(say(**extra), strict=True)
    assert caught.value.code == "unknown_parameter"


def test_strict_takes_the_printed_side() -> None:
    read(say(best_of=2, n=2))
    with pytest.raises(ParameterError, match="greater than n"):
        read(say(best_of=2, n=2), strict=True)
    read(say(best_of=3, n=2), strict=True)
    read(say(logit_bias={"5": 2.0}))
    with pytest.raises(ParameterError, match="integers"):
        read(say(logit_bias={"5": 2.0}), strict=True)


def test_counts_without_a_printed_bound_have_a_meaning_all_the_same() -> None:
    """Where a page prints no range, or one with 0, strict mode takes what it prints but repairs nothing."""
    tried = 0
    for name, endpoint in DOORS:
        page = provider(name)
        for record in page.endpoints[endpoint].parameters.values():
            count = {"n": 0, "max_tokens": -5}.get(record.means)
            outside = record.printed is not None and not record.printed.holds(count or 0)
            if count is None or record.extension or outside:
                continue
            body = say(temperature=1) if endpoint == "completions" else ask(temperature=1)
            body = {key: value for key, value in body.items() if key != "max_tokens"}
            with pytest.raises(ParameterError, match="must be at least") as caught:
                read({**body, record.name: count}, endpoint, page=page, strict=True)
            assert (caught.value.parameter, caught.value.source) == (record.name, "refsample")
            tried += 1
    assert tried > 8
    assert read({"prompt": "Hi", "best_of": 0}, page=provider("scale"), strict=True).best_of == 1  # not sent (C11)


def changed(parameter: str, endpoint: str = "completions", **changes: Any) -> ProviderSpec:
    """OpenAI's page with one record changed."""
    old = PAGE.endpoints[endpoint]
    records = {**old.parameters, parameter: replace(old.parameters[parameter], **changes)}
    return replace(PAGE, endpoints={**PAGE.endpoints, endpoint: replace(old, parameters=records)})


def test_open_ends_and_both_ranges() -> None:
    page = changed("temperature", printed=Range(0, 2, True, True), effective=Range(0, 2, False, False))
    assert read(say(temperature=0), page=page).generation.sampling.temperature == 0
    for edge in (0, 2):
        with pytest.raises(ParameterError, match="0 < x < 2"):
            read(say(temperature=edge), page=page, strict=True)
    assert read(say(temperature=1.999), page=page, strict=True).generation.sampling.temperature == 1.999


def test_integral_floats_where_a_record_says_so() -> None:
    page = changed("top_k", integral=True)
    assert read(say(top_k=50.0), page=page).generation.sampling.top_k == 50
    with pytest.raises(ParameterError, match="must be an integer"):
        read(say(top_k=50.5), page=page)


def test_other_readings_of_a_behaviour() -> None:
    def reading(name: str, effective: str) -> ProviderSpec:
        value = Reading(printed=effective, effective=effective, source="test", grade="C")
        return replace(PAGE, behaviours={**PAGE.behaviours, name: value})

    assert read(SAY, page=reading("stop_text", "kept")).generation.include_stop
    assert not read(say(include_stop_str_in_output=False), page=reading("stop_text", "kept")).generation.include_stop
    assert read(say(stream=True), page=reading("usage_chunk", "always")).include_usage
    with pytest.raises(ParameterError, match="with temperature 0"):
        read(say(n=2, temperature=0), page=reading("greedy_n", "refused"))


def test_an_endpoint_that_the_provider_lacks() -> None:
    page = replace(PAGE, endpoints={"chat": PAGE.endpoints["chat"]})
    with pytest.raises(SpecError, match="no endpoint 'completions'"):
        read(SAY, page=page)


class Name(str):
    """A name that counts how often names were compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return self


def test_many_names_are_not_compared_with_each_other() -> None:
    """Neither the names of an object of which one comes twice, nor those of functions."""
    names = [Name(f"name{index}") for index in (*range(300), 299)]
    Name.compared = 0
    with pytest.raises(ParameterError, match="'name299' twice"):
        _object([(name, 1) for name in names])
    with pytest.raises(ParameterError, match="the name of two functions"):
        read(ask(functions=[{"name": name} for name in names]), "chat")
    assert 0 < Name.compared < 10 * len(names)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
DOORS = [(name, endpoint) for name in providers() for endpoint in provider(name).endpoints]
NAMES = sorted({name for door in DOORS for name in provider(door[0]).endpoints[door[1]].parameters})


@given(
    body=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), VALUES, max_size=4) | VALUES,
    door=st.sampled_from(DOORS),
    strict=st.booleans(),
    flaws=st.sampled_from([frozenset(), frozenset({"bound_not_enforced"})]),
)
def test_any_body_is_read_or_refused_in_one_line(
    body: Any, door: tuple[str, str], strict: bool, flaws: frozenset[str]
) -> None:
    page, endpoint = provider(door[0]), door[1]
    if isinstance(body, dict):
        usual = {**SAY} if endpoint == "completions" else {**ASK}
        body = {**usual, **({"max_tokens": 128} if page.name == "visioncraft" else {}), **body}
    try:
        request = read(body, endpoint, page=page, strict=strict, flaws=flaws)
    except ParameterError as error:
        assert str(error).isprintable()
    else:
        assert request.endpoint.name == endpoint
