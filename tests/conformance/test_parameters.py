"""The parameter report: what a page's field is said to be, expected to be, and seen to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refsample
from refsample.api.answer import default_behaviour
from refsample.conformance.bias import HOTTEST, holds_up_to
from refsample.conformance.faults import apply
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import ParameterLine
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model
from refsample.spec.provider import provider, providers


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class Changed:
    """An endpoint that refuses a field, or does not look at it."""

    def __init__(self, inner: LocalEndpoint, field: str, *, refuse: bool) -> None:
        self._inner, self._field, self._refuse, self.url = inner, field, refuse, inner.url

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        assert body is None or isinstance(body, dict)
        if body is not None and self._field in body:
            if self._refuse:
                text = '{"error": {"message": "not here", "type": "", "param": null, "code": null}}'
                return Exchange(method, path, body, 400, "application/json", text)
            answer = self._inner.send(method, path, {k: v for k, v in body.items() if k != self._field})
            return Exchange(method, path, body, answer.status, answer.content_type, answer.text)
        return self._inner.send(method, path, body)


def lines(endpoint: object, tiny: Model, spec: str, *only: str) -> dict[str, ParameterLine]:
    report = verify(endpoint, tiny, spec, profile="smoke", seed=3, model="tiny", only=only)  # type: ignore[arg-type]
    return {line.name: line for line in report.parameters}


def test_page_expected_and_observed_side_by_side(tiny: Model) -> None:
    found = lines(LocalEndpoint(tiny, "empower"), tiny, "empower", "contract.*", "law.top_p", "law.temperature_*")
    temperature = found["temperature"]
    assert "0 < x < 2" in temperature.page and "0 <= x <= 2" in temperature.expected
    assert "0 taken" in temperature.observed and "2 taken" in temperature.observed
    assert temperature.status == "honoured"
    assert {found[n].status for n in ("model", "messages", "max_tokens", "n", "stream", "top_p", "ignore_eos")} == {
        "honoured"
    }
    assert "top_k" not in found and "seed" not in found  # not on the page


def test_an_end_that_the_page_prints_as_open_may_be_refused(tiny: Model) -> None:
    report = verify(LocalEndpoint(tiny, "empower", strict=True), tiny, "empower", profile="smoke", seed=3, model="tiny")
    line = next(line for line in report.parameters if line.name == "temperature")
    assert "0 refused" in line.observed and line.status == "honoured"
    assert report.contract == "consistent"


def test_a_parameter_without_effect_is_dropped(tiny: Model) -> None:
    endpoint = LocalEndpoint(tiny, "novita", apply(["top_p_ignored"], default_behaviour(provider("novita"))))
    found = lines(endpoint, tiny, "novita", "law.*")
    assert found["top_p"].status == "dropped" and found["min_p"].status == "honoured"
    silent = Changed(LocalEndpoint(tiny, "empower"), "ignore_eos", refuse=False)
    assert lines(silent, tiny, "empower", "contract.chat.act.*")["ignore_eos"].status == "dropped"


def test_a_parameter_of_the_page_that_is_refused_is_rejected(tiny: Model) -> None:
    found = lines(Changed(LocalEndpoint(tiny, "novita"), "min_p", refuse=True), tiny, "novita", "law.*")
    assert found["min_p"].status == "rejected" and "not here" in found["min_p"].observed
    guided = Changed(LocalEndpoint(tiny, "nebius"), "guided_json", refuse=True)
    assert lines(guided, tiny, "nebius", "contract.chat.act.*")["guided_json"].status == "rejected"


def test_bounds_that_are_not_kept_are_told_as_different(tiny: Model) -> None:
    behaviour = apply(["bound_not_enforced"], default_behaviour(provider("novita")))
    found = lines(LocalEndpoint(tiny, "novita", behaviour), tiny, "novita", "contract.completions.validation.*")
    assert found["temperature"].status == "different" and "3 gave an answer" in found["temperature"].observed


def test_what_nothing_showed_is_unknown(tiny: Model) -> None:
    found = lines(LocalEndpoint(tiny, "novita"), tiny, "novita", "contract.seed")
    assert found["seed"].status == "honoured" and found["echo" if "echo" in found else "logit_bias"].status == "unknown"


ACTS = "contract.*.act."
SHOWN = ("contract.*", "law.*")
UNSEEN = {
    "scale": {"completions.parallel_tool_calls"},  # its answers have no place for calls, so none can be counted
}


class Altered:
    """An endpoint whose bodies are changed on the way to it."""

    def __init__(self, inner: LocalEndpoint, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._inner, self._change, self.url = inner, change, inner.url

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        assert body is None or isinstance(body, dict)
        answer = self._inner.send(method, path, None if body is None else self._change(dict(body)))
        return Exchange(method, path, body, answer.status, answer.content_type, answer.text)


@pytest.mark.parametrize("name", [n for n in providers() if n != "visioncraft"])
def test_no_parameter_of_a_page_stays_unknown(tiny: Model, name: str) -> None:
    report = verify(LocalEndpoint(tiny, name), tiny, name, profile="smoke", seed=3, model="tiny", only=SHOWN)
    unseen = {f"{line.endpoint}.{line.name}": line.status for line in report.parameters if line.status != "honoured"}
    assert unseen == dict.fromkeys(UNSEEN.get(name, ()), "unknown")
    assert [c.id for c in report.checks if c.verdict == "inconsistent"] == []
    page = provider(name)
    names = {(e.kind, p.name) for e in page.endpoints.values() for p in e.parameters.values() if "[]" not in p.name}
    assert {(line.endpoint, line.name) for line in report.parameters} <= names


DROPPED = [
    ("scale", "stop_sequences", "dropped"), ("scale", "return_token_log_probs", "dropped"),
    ("scale", "max_new_tokens", "dropped"), ("scale", "inference_timeout", "dropped"), ("scale", "suffix", "dropped"),
    ("scale", "tool_choice", "dropped"), ("scale", "logit_bias", "dropped"), ("scale", "audio", "different"),
    ("scale", "modalities", "different"), ("openai", "tool_choice", "dropped"), ("openai", "logit_bias", "dropped"),
    ("openai", "verbosity", "different"), ("openai", "response_format", "dropped"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "status"), DROPPED)
def test_a_server_that_does_not_look_at_a_field_is_found_out(tiny: Model, name: str, field: str, status: str) -> None:
    inner = LocalEndpoint(tiny, name)
    assert lines(inner, tiny, name, ACTS + field)[field].status == "honoured"
    silent = Changed(inner, field, refuse=False)
    assert lines(silent, tiny, name, ACTS + field)[field].status == status


def test_a_field_inside_another_is_shown_with_it(tiny: Model) -> None:
    inner = ("response_format.type", "response_format.json_schema", "response_format.json_schema.name")
    found = lines(LocalEndpoint(tiny, "nebius"), tiny, "nebius", ACTS + "response_format.json_schema")
    assert {found[name].status for name in inner} == {"honoured"} and "tool_choice.type" not in found  # not on the page
    silent = lines(Changed(LocalEndpoint(tiny, "nebius"), "response_format", refuse=False), tiny, "nebius",
                   ACTS + "response_format.json_schema")  # fmt: skip
    assert {silent[name].status for name in inner} == {"dropped"}


def test_the_named_function_is_the_one_called(tiny: Model) -> None:
    def any_of_them(body: dict[str, Any]) -> dict[str, Any]:
        return body | ({"tool_choice": "required"} if isinstance(body.get("tool_choice"), dict) else {})

    found = lines(Altered(LocalEndpoint(tiny), any_of_them), tiny, "openai", ACTS + "tool_choice*")
    assert found["tool_choice"].status == "honoured" and found["tool_choice.function.name"].status == "dropped"
    honest = lines(LocalEndpoint(tiny), tiny, "openai", ACTS + "tool_choice*")
    assert honest["tool_choice.function.name"].status == "honoured"


def test_a_field_without_effect_has_none(tiny: Model) -> None:
    def by_user(body: dict[str, Any]) -> dict[str, Any]:
        return body | ({"prompt": "The cat has two red"} if "user" in body else {})

    endpoint = Altered(LocalEndpoint(tiny, "scale"), by_user)
    report = verify(endpoint, tiny, "scale", profile="smoke", seed=3, model="tiny", only=[ACTS + "user"])
    assert {line.name: line.status for line in report.parameters}["user"] == "different"
    assert report.contract == "inconsistent"
    refused = Changed(LocalEndpoint(tiny, "scale"), "user", refuse=True)
    assert lines(refused, tiny, "scale", ACTS + "user")["user"].status == "rejected"


def test_a_refusal_has_to_name_the_field(tiny: Model) -> None:
    found = lines(Changed(LocalEndpoint(tiny, "scale"), "audio", refuse=True), tiny, "scale", ACTS + "audio")
    assert found["audio"].status == "different" and "without its name" in found["audio"].observed


def test_a_field_kept_for_other_models_may_be_refused(tiny: Model) -> None:
    strict = lines(LocalEndpoint(tiny, "scale", strict=True), tiny, "scale", ACTS + "suffix", ACTS + "tools")
    assert {strict[name].status for name in ("suffix", "tools")} == {"honoured"}
    assert "kept for */gpt-3.5-turbo-instruct" in strict["suffix"].observed
    refused = lines(Changed(LocalEndpoint(tiny), "suffix", refuse=True), tiny, "openai", ACTS + "suffix")
    assert refused["suffix"].status == "rejected"  # that page keeps it for nobody


def test_a_finite_bias_holds_up_to_a_temperature() -> None:
    """Two tokens: the one selected loses 1e-6 to the other at (bias - gap) / ln(1e6); the banned one likewise."""
    heat = math.log(1e6 - 1.0)
    even = np.zeros((1, 2))
    assert math.isclose(holds_up_to(even, 0, 1, -100, 100), 100 / heat, rel_tol=1e-6)
    behind = np.array([[30.0, 0.0]])
    assert math.isclose(holds_up_to(behind, 0, 1, -100, 100), 70 / heat, rel_tol=1e-6)
    assert math.isclose(holds_up_to(np.array([[0.0, 30.0]]), 0, 1, -60, 1e6), 90 / heat, rel_tol=1e-6)
    assert holds_up_to(behind, 0, 1, -100, 20) == 0.0 and holds_up_to(even, 0, 1, -1e6, 1e6) == HOTTEST


def test_how_far_a_bias_holds_is_in_the_line_of_logit_bias(tiny: Model) -> None:
    found = lines(LocalEndpoint(tiny, "novita"), tiny, "novita", ACTS + "logit_bias")["logit_bias"]
    assert found.status == "honoured" and "all of the page's range (up to 2)" in found.observed

    def weak(body: dict[str, Any]) -> dict[str, Any]:
        bias = {key: value / 20 for key, value in body.get("logit_bias", {}).items()}
        return body | ({"logit_bias": {k: int(v) for k, v in bias.items()}} if bias else {})

    faint = lines(Altered(LocalEndpoint(tiny, "novita"), weak), tiny, "novita", ACTS + "logit_bias")["logit_bias"]
    assert faint.status == "dropped"


def test_a_key_in_the_body_is_taken_or_refused_as_a_key(tiny: Model) -> None:
    endpoint = LocalEndpoint(tiny, "visioncraft")
    assert lines(endpoint, tiny, "visioncraft", ACTS + "token")["token"].status == "honoured"
    refused = Changed(endpoint, "token", refuse=True)
    assert lines(refused, tiny, "visioncraft", ACTS + "token")["token"].status == "rejected"
