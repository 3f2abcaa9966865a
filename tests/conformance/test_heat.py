"""A field is honoured on every route only where it was seen to act there: hot draws, counts of what was read, seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import refsample
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import ParameterLine, Report
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model
from tests.conformance.test_parameters import Altered, Changed

Body = dict[str, Any]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class OnChat(Altered):
    """An endpoint whose chat bodies alone are changed."""

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        if path.endswith("/chat/completions"):
            return super().send(method, path, body)
        assert body is None or isinstance(body, dict)
        return self._inner.send(method, path, body)


def without(name: str) -> Callable[[Body], Body]:
    return lambda body: {key: value for key, value in body.items() if key != name}


def seen(
    endpoint: Any, tiny: Model, spec: str, *only: str, kind: str = "chat"
) -> tuple[Report, dict[str, ParameterLine]]:
    report = verify(endpoint, tiny, spec, profile="smoke", seed=3, model="tiny", only=only)
    return report, {line.name: line for line in report.parameters if line.endpoint == kind}


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k", "min_p"])
def test_a_sampling_field_that_the_second_route_does_not_look_at_is_dropped(tiny: Model, name: str) -> None:
    inner, act = LocalEndpoint(tiny, "openai"), f"contract.chat.act.{name}"
    honest, found = seen(inner, tiny, "openai", act)
    beside = name in ("top_k", "min_p")
    assert honest.checks[0].verdict == "consistent" and (beside or found[name].status == "honoured")
    report, found = seen(OnChat(inner, without(name)), tiny, "openai", act)
    if beside:  # told, and no endpoint is called faulty for it
        assert report.checks[0].verdict == "skipped" and "at the highest temperature gave" in report.checks[0].evidence
    else:
        assert found[name].status == "dropped" and report.contract == "inconsistent"


def test_a_route_that_is_always_greedy_is_blamed_on_temperature_alone(tiny: Model) -> None:
    endpoint = OnChat(LocalEndpoint(tiny, "openai"), lambda body: body | {"temperature": 0})
    _, found = seen(endpoint, tiny, "openai", "contract.chat.act.*")
    assert found["temperature"].status == "dropped" and found["top_p"].status == "unknown"


def test_penalties_are_seen_on_the_second_route_by_their_acts_alone(tiny: Model) -> None:
    inner, name = LocalEndpoint(tiny, "openai"), "presence_penalty"
    for only, status in (("contract.chat.validation.*", "unknown"), ("contract.chat.act.presence*", "honoured")):
        _, found = seen(inner, tiny, "openai", only, "law.*")
        assert found[name].status == status
    assert "taken" not in found[name].observed


def test_without_a_reference_temperature_is_seen_on_the_first_route_too(tiny: Model) -> None:
    inner, statuses = LocalEndpoint(tiny, "novita"), []
    for endpoint in (inner, Changed(inner, "temperature", refuse=False)):
        report = verify(endpoint, None, "novita", profile="smoke", seed=3, model="tiny", only=["contract.*.act.*"])
        statuses += [line.status for line in report.parameters if line.name == "temperature"]
    assert statuses == ["honoured", "dropped"]


def last_alone(body: Body) -> Body:
    return body | ({"messages": body["messages"][-1:]} if "messages" in body else {})


def turns_alone(body: Body) -> Body:
    return body | {"messages": [m for m in body.get("messages", []) if m["role"] != "system"]}


@pytest.mark.parametrize("change", [last_alone, turns_alone])
@pytest.mark.parametrize("spec", ["openai", "empower", "nebius", "visioncraft"])
def test_messages_that_are_not_read_are_found_out(tiny: Model, spec: str, change: Callable[[Body], Body]) -> None:
    inner, act = LocalEndpoint(tiny, spec), "contract.chat.act.messages"
    report, found = seen(OnChat(inner, change), tiny, spec, act)
    assert found["messages"].status == "dropped" and report.contract == "inconsistent"
    report, found = seen(inner, tiny, spec, act)
    assert found["messages"].status == "honoured" and report.contract == "consistent"


def test_a_system_message_may_be_refused_by_a_template(tiny: Model) -> None:
    class Plain(OnChat):
        def send(self, method: str, path: str, body: object = None) -> Exchange:
            if isinstance(body, dict) and any(m["role"] == "system" for m in body.get("messages", [])):
                return Exchange(method, path, body, 400, "application/json", '{"error": {"message": "no system"}}')
            return super().send(method, path, body)

    report, found = seen(Plain(LocalEndpoint(tiny), dict), tiny, "openai", "contract.chat.act.messages")
    assert found["messages"].status == "honoured" and report.contract == "consistent"


def test_a_prompt_that_is_cut_is_found_out(tiny: Model) -> None:
    endpoint = Altered(LocalEndpoint(tiny, "novita"), lambda body: body | {"prompt": body.get("prompt", "")[:20]})
    _, found = seen(endpoint, tiny, "novita", "contract.*.act.prompt", kind="completions")
    assert found["prompt"].status == "dropped"


@pytest.mark.parametrize(("spec", "kind"), [("novita", "completions"), ("openai", "completions"), ("openai", "chat")])
def test_a_seed_that_is_replaced_by_another_is_dropped(tiny: Model, spec: str, kind: str) -> None:
    inner, only = LocalEndpoint(tiny, spec), ("contract.seed", "contract.*.seed_new")
    report, found = seen(Altered(inner, lambda body: body | {"seed": 7}), tiny, spec, *only, kind=kind)
    assert found["seed"].status == "dropped" and report.contract == "inconsistent"
    assert [c.verdict for c in report.checks if c.id == "contract.seed"] == ["consistent"]
    report, found = seen(inner, tiny, spec, *only, kind=kind)
    assert report.contract == "consistent" and found["seed"].status == ("unknown" if kind == "chat" else "honoured")


@pytest.mark.parametrize(("spec", "kind"), [("openai", "chat"), ("scale", "completions")])
def test_a_prediction_has_to_be_counted(tiny: Model, spec: str, kind: str) -> None:
    act = f"contract.{kind}.act.prediction"
    silent = Changed(LocalEndpoint(tiny, spec), "prediction", refuse=False)
    report, found = seen(silent, tiny, spec, act, kind=kind)
    assert found["prediction"].status == "dropped" and report.contract == "inconsistent"
    _, found = seen(LocalEndpoint(tiny, spec), tiny, spec, act, kind=kind)
    assert found["prediction"].status == "honoured"


def test_parallel_calls_are_shown_by_two_calls_alone(tiny: Model) -> None:
    inner, act = LocalEndpoint(tiny, "openai"), "contract.chat.act.parallel_tool_calls"
    _, found = seen(inner, tiny, "openai", act)
    assert found["parallel_tool_calls"].status == "honoured"
    _, found = seen(Altered(inner, lambda body: body | {"parallel_tool_calls": False}), tiny, "openai", act)
    assert found["parallel_tool_calls"].status == "unknown"
    _, found = seen(Changed(inner, "parallel_tool_calls", refuse=False), tiny, "openai", act)
    assert found["parallel_tool_calls"].status == "dropped"


def test_a_model_that_a_route_does_not_look_at_is_found_out_on_that_route(tiny: Model) -> None:
    endpoint = OnChat(LocalEndpoint(tiny, "openai"), lambda body: body | {"model": "tiny"})
    report, found = seen(endpoint, tiny, "openai", "contract.unknown_model")
    assert found["model"].status == "different" and report.contract == "inconsistent"
    _, found = seen(endpoint, tiny, "openai", "contract.unknown_model", kind="completions")
    assert found["model"].status == "honoured"
