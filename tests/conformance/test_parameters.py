"""The parameter report: what a page's field is said to be, expected to be, and seen to do."""

from __future__ import annotations

import pytest

import refsample
from refsample.api.answer import default_behaviour
from refsample.conformance.faults import apply
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import ParameterLine
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model
from refsample.spec.provider import provider


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
