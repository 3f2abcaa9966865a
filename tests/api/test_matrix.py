"""The parameter matrix, written out by hand from the five pages, against the provider files and the door.

Nothing that is expected here is taken from the records: see `tests.api.matrix`.
"""

from __future__ import annotations

from typing import Any

import pytest

from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.types import Request
from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.generation.model import Model
from refsample.spec.boundaries import COMPANIONS, cases
from refsample.spec.provider import EndpointSpec, ParameterSpec, ProviderSpec, provider, providers
from tests.api.matrix import ANSWERS, BESIDE, NO_NULL_AT_NOVITA, NULLS, PAGES, RANGES, READINGS, TEXT, TYPED, WHO


def only(name: str) -> tuple[ProviderSpec, EndpointSpec]:
    """A provider of the five and its one endpoint."""
    page = provider(name)
    (endpoint,) = page.endpoints.values()
    return page, endpoint


def asked(name: str, **fields: Any) -> dict[str, Any]:
    """A body that this provider takes in both modes, with these fields on top; `...` takes one away."""
    prompt: dict[str, Any] = {"prompt": "Hi."} if name in TEXT else {"messages": [{"role": "user", "content": "Hi."}]}
    model = "openai/gpt-3.5-turbo-instruct" if name == "scale" else "tiny"  # one that its page keeps no field from
    body = {"model": model, **prompt, **({"token": "key"} if name == "visioncraft" else {}), **fields}
    return {key: value for key, value in body.items() if value is not ...}


def read(name: str, body: dict[str, Any], strict: bool) -> Request:
    page, endpoint = only(name)
    return parse(body, page, endpoint.name, strict=strict, model_required=True)


def taken(name: str, body: dict[str, Any], strict: bool) -> bool:
    try:
        read(name, body, strict)
    except ParameterError:
        return False
    return True


CELLS = [(field, name) for field, row in RANGES.items() for name in row]


def test_the_pages_are_these() -> None:
    assert set(providers()) == {"openai", *PAGES}
    assert {name: (only(name)[1].kind, only(name)[1].path) for name in PAGES} == {
        "visioncraft": ("chat", "/v1/chat/completions"),
        "nebius": ("chat", "/v1/chat/completions"),
        "novita": ("completions", "/openai/v1/completions"),
        "empower": ("chat", "/api/v1/chat/completions"),
        "scale": ("completions", "/v4/beta/completions"),
    }


@pytest.mark.parametrize(("field", "name"), CELLS)
def test_ranges_and_defaults_as_on_the_page(field: str, name: str) -> None:
    printed, effective, default = RANGES[field][name]
    record = only(name)[1].parameters[field]
    assert record.printed is not None and record.effective is not None
    assert (record.printed.about(), record.effective.about(), record.default) == (printed, effective, default)


def holds(expression: str, value: float) -> bool:
    """Whether a range as it is written holds a value: Python reads it, not refsample."""
    return expression == "x" or bool(eval(expression, {"__builtins__": {}}, {"x": value}))


def ends(expression: str) -> list[float]:
    """The numbers of a range as it is written."""
    parts = expression.replace("<=", " ").replace("<", " ").split()
    return [float(part) if "." in part else int(part) for part in parts if part != "x"]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("field", "name"), CELLS)
def test_ends_of_ranges(field: str, name: str, strict: bool) -> None:
    """One unit inside, the end, one unit outside, of what is printed and of what is effective."""
    printed, effective, _ = RANGES[field][name]
    whole = field not in (
        "temperature",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    )
    unit = 1 if whole else 0.005
    expression = printed if strict else effective
    for end in {*ends(printed), *ends(effective)}:
        for value in (end - unit, end, end + unit):
            if value > 500 and field.startswith("max_"):  # how much is too much is the model's to say
                continue
            if strict and not holds(effective, value):  # the page lets it through, the library has no meaning for it
                continue
            extra = COMPANIONS.get(field, {})
            sent = {"5": value} if field == "logit_bias" else value
            beside = 1 if field == "best_of" and name == "novita" and strict else None  # its best_of is above n
            if beside is not None and value == beside:
                continue
            wanted = holds(expression, value)
            assert taken(name, asked(name, **extra, **{field: sent}), strict) is wanted, f"{field}={value}"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("field", WHO)
def test_who_has_the_field(field: str, name: str) -> None:
    on_page, beside, refused = WHO[field]
    record = only(name)[1].parameters.get(field)
    if name not in on_page and name not in beside:
        assert record is None
        if "." not in field:
            assert read(name, asked(name, **{field: "x"}), False).ignored == (field,)
    else:
        assert record is not None and record.extension is (name in beside)
        assert (record.support == "refused") is (name in refused)
    if record is None or record.extension:
        with pytest.raises(ParameterError, match="is not a parameter of this endpoint"):
            read(name, asked(name, stream=True, **nested(field, "x")), True)


def nested(field: str, value: Any) -> dict[str, Any]:
    outer, _, inner = field.partition(".")
    return {outer: {inner: value}} if inner else {field: value}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("field", "name"), [(field, name) for field in TYPED for name in PAGES])
def test_types_null_and_absent(field: str, name: str, strict: bool) -> None:
    on_page, beside, refused = WHO[field]
    if name not in on_page and (strict or name not in beside) or name in refused:
        return
    right, wrong = TYPED[field]
    extra = COMPANIONS.get(field, {})
    assert taken(name, asked(name, **extra, **{field: right}), strict)
    with pytest.raises(ParameterError) as caught:
        read(name, asked(name, **extra, **{field: wrong}), strict)
    assert caught.value.code == "invalid_type" and caught.value.parameter == field
    required = field in ("model", "messages", "prompt") or (field == "token" and strict)
    assert taken(name, asked(name, **extra, **{field: ...}), strict) is not required
    never = field in ("model", "token") or (strict and name == "novita" and field in NO_NULL_AT_NOVITA)
    null = not never and (NULLS[name] or not strict)
    assert taken(name, asked(name, **extra, **{field: None}), strict) is null


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_answers_have_the_keys_of_the_page(model: Model, name: str, strict: bool) -> None:
    page, endpoint = only(name)
    answer = chat if endpoint.kind == "chat" else complete
    body = {**asked(name), "max_tokens": 128 if name == "visioncraft" else 3}
    made = answer(model, body, page, strict=strict)
    choice = made["choices"][0]
    found = (set(made) - {"refsample"}, set(choice), set(choice.get("message", {})), set(made["usage"]))
    beside = BESIDE.get(name, (set(), set(), set(), set())) if not strict else (set(), set(), set(), set())
    assert found == tuple(printed | more for printed, more in zip(ANSWERS[name], beside, strict=True))


@pytest.mark.parametrize(
    ("fields", "mine", "others"),
    [
        (
            {"suffix": "x"},
            ("gpt-3.5-turbo-instruct", "openai/gpt-3.5-turbo-instruct", "openai/gpt-3.5-turbo-instruct/mine"),
            ("gpt-3.5-turbo-instruct/some", "acme/some/gpt-3.5-turbo-instruct"),
        ),
        ({"parallel_tool_calls": True}, ("openai/some", "openai/some/mine"), ("some", "openai", "acme/some/openai")),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            ("anthropic/some", "openai/some"),
            ("acme/anthropic", "acme/some/anthropic"),
        ),
    ],
)
def test_vendors_gate_fields_in_strict_mode(
    fields: dict[str, Any], mine: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """A4: the page keeps these for some vendors' models; the vendor is what stands before the model's name."""
    for model in (*mine, *others):
        assert taken("scale", asked("scale", model=model, **fields), True) is (model in mine), model
        assert taken("scale", asked("scale", model=model, **fields), False)


@pytest.mark.parametrize("name", ["visioncraft", "nebius", "empower"])
def test_roles_that_need_more_than_a_page_prints(name: str) -> None:
    """A strict body cannot name the call that a tool's message answers, so the roles are those that can be sent."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asks = [{"role": "user", "content": "Hi."}, {"role": "assistant", "tool_calls": [call]}]
    tool = asked(name, messages=[*asks, {"role": "tool", "tool_call_id": "1", "content": "5"}])
    assert taken(name, tool, False)
    for role in ("tool", "function", "developer"):
        with pytest.raises(ParameterError, match=r"messages\[0\].role=.*must be one of system, user, assistant "):
            read(name, asked(name, messages=[{"role": role, "content": "Hi."}]), True)


@pytest.mark.parametrize("name", ["novita", "scale", "openai"])
def test_best_of_in_a_stream(name: str) -> None:
    """C12: read as "the best of more than n", printed as "results cannot be streamed"."""
    endpoint = provider(name).endpoints["completions"]
    for best_of, n, effective in ((1, 1, True), (2, 2, True), (3, 2, False), (None, 1, True), (0, 1, True)):
        sent = {key: value for key, value in (("best_of", best_of), ("n", n)) if value is not None}
        body = {"model": "tiny", "prompt": "Hi.", "stream": True, "max_tokens": 3, **sent}
        for strict in (False, True):
            wanted = effective and not (strict and best_of)
            if strict and name == "novita" and n == 1:
                body["n"] = 2  # C1
            if strict and best_of is not None and best_of <= body["n"] and name != "scale":
                continue  # "must be greater than n" says no before it (C10)
            try:
                parse(body, provider(name), endpoint.name, strict=strict, model_required=True)
                found = True
            except ParameterError as error:
                found = False
                assert error.parameter == "best_of"
            assert found is wanted, (best_of, n, strict)


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("stop", ["a"] * 4, ["a"] * 5),
        ("stop", ["a"], []),
        ("stop", "a", ""),
        ("stop_sequences", ["a"] * 4, ["a"] * 5),
        ("guided_choice", ["a"], []),
        ("guided_regex", "a", ""),
        ("messages", [{"role": "user", "content": "Hi."}], []),
        ("messages", [{"role": "user", "content": "Hi."}], [{"role": "wizard", "content": "Hi."}]),
        ("messages", [{"role": "user", "content": "Hi."}], [{"content": "Hi."}]),
        ("prompt", "Hi.", ""),
        ("stream_options", {"include_usage": True}, {"include_usage": "yes"}),
        ("response_format", {"type": "text"}, {"type": "xml"}),
        ("tool_choice", "none", "perhaps"),
        ("modalities", ["text"], ["text", "audio"]),
        ("audio", None, {"voice": "x"}),
    ],
)
@pytest.mark.parametrize("name", PAGES)
def test_lengths_and_what_lies_inside(name: str, field: str, right: Any, wrong: Any) -> None:
    on_page, beside, _ = WHO[field]
    if name in on_page or name in beside:
        extra = COMPANIONS.get(field, {})
        assert taken(name, asked(name, **extra, **{field: right}), False)
        assert not taken(name, asked(name, **extra, **{field: wrong}), False)


@pytest.mark.parametrize("prompt", [["a", "b"], [5, 6], [[5], [6]]])
def test_four_forms_of_a_prompt(prompt: Any) -> None:
    """C17: Novita's text names four where its type says string; Scale takes one text."""
    assert [taken("novita", asked("novita", prompt=prompt), strict) for strict in (False, True)] == [True, False]
    assert [taken("scale", asked("scale", prompt=prompt), strict) for strict in (False, True)] == [False, False]
    assert not taken("novita", asked("novita", prompt=[]), False)


def test_typed_fields_are_all_of_the_matrix() -> None:
    with_structure = {"messages", "prompt", "stream_options", "tools", "tool_choice", "logprobs"}
    unknown_to_all = {field for field, (on_page, beside, _) in WHO.items() if not on_page | beside}
    refused = {"audio", "modalities", "function_call"}
    rows = {field for field in WHO if "." not in field}
    assert rows - set(TYPED) == with_structure | unknown_to_all | refused


@pytest.mark.parametrize("name", PAGES)
def test_readings(name: str) -> None:
    page = provider(name)
    for behaviour, (usual, others) in READINGS.items():
        printed, effective = others.get(name, (usual, usual))
        assert (page.reading(behaviour, strict=True), page.reading(behaviour)) == (printed, effective), behaviour
    assert (page.reading("unknown_fields", strict=True), page.reading("unknown_fields")) == ("refused", "ignored")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", providers())
def test_boundary_cases_at_the_door(name: str, strict: bool) -> None:
    """What `refsample.spec.boundaries` foretells is what the door does."""
    page = provider(name)
    for endpoint in page.endpoints.values():
        for record in endpoint.parameters.values():
            if not set(".[") & set(record.name):
                check_cases(page, endpoint, record, strict)


def check_cases(page: ProviderSpec, endpoint: EndpointSpec, record: ParameterSpec, strict: bool) -> None:
    for case in cases(record, strict=strict):
        prompt = {"messages": ..., "prompt": "Hi."} if endpoint.kind == "completions" else {}
        body = asked("visioncraft" if page.name == "visioncraft" else "nebius", **prompt)
        body |= {**COMPANIONS.get(record.means, {}), record.name: case.value}
        body = {key: value for key, value in body.items() if value is not ...}
        try:
            parse(body, page, endpoint.name, strict=strict, model_required=True)
            accepted = True
        except ParameterError:
            accepted = False
        assert case.accepted in (None, accepted), f"{page.name} {record.name} {case}"
