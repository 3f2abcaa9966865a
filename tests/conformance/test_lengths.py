"""max_tokens is honoured where it was seen to cut an answer; what a missing cut spoils is blamed on nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

import refsample
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import ParameterLine, Report
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model
from tests.conformance.test_parameters import Altered, Changed

ALL = ("contract.chat.*",)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


def seen(endpoint: Any, model: Model, spec: str, *only: str) -> tuple[Report, dict[str, ParameterLine]]:
    report = verify(endpoint, model, spec, profile="smoke", seed=3, model="tiny", only=only or ALL)
    return report, {line.name: line for line in report.parameters if line.endpoint == "chat"}


@pytest.mark.parametrize("spec", ["openai", "empower", "nebius"])
def test_a_limit_that_is_not_looked_at_is_dropped(tiny: Model, spec: str) -> None:
    """On these chat pages the first prompt's answer ends by itself within six tokens."""
    report, found = seen(Changed(LocalEndpoint(tiny, spec), "max_tokens", refuse=False), tiny, spec)
    assert report.contract == "inconsistent" and found["max_tokens"].status == "dropped"
    blamed = [line.name for line in found.values() if line.status in ("dropped", "different")]
    assert blamed == ["max_tokens"]
    honest, found = seen(LocalEndpoint(tiny, spec), tiny, spec, "contract.chat.max_tokens")
    assert honest.contract == "consistent" and found["max_tokens"].status == "honoured"


def test_an_answer_shorter_than_the_least_limit_shows_nothing(tiny: Model) -> None:
    """This page's least limit is 128, and the model's greedy answers end before."""
    for endpoint in (
        LocalEndpoint(tiny, "visioncraft"),
        Changed(LocalEndpoint(tiny, "visioncraft"), "max_tokens", refuse=False),
    ):
        report, found = seen(endpoint, tiny, "visioncraft", "contract.chat.max_tokens")
        assert found["max_tokens"].status == "unknown"
        assert [check.verdict for check in report.checks] == ["skipped"]


class Endless(Altered):
    """Answers that never end by themselves."""

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        assert isinstance(body, dict)
        answer = self._inner.send("POST", "/v1/chat/completions", body | {"ignore_eos": True})
        return Exchange(method, path, body, answer.status, answer.content_type, answer.text)


def test_a_limit_of_128_is_seen_on_an_answer_that_is_longer(tiny: Model) -> None:
    endpoint = Endless(LocalEndpoint(tiny, "openai"), dict)
    _, found = seen(endpoint, tiny, "visioncraft", "contract.chat.max_tokens")
    assert found["max_tokens"].status == "honoured" and "128 of a longer answer" in found["max_tokens"].observed


@pytest.mark.parametrize("spec", ["openai", "empower"])
def test_a_cut_that_is_called_a_stop_is_different(tiny: Model, spec: str) -> None:
    class Stopped(Altered):
        def send(self, method: str, path: str, body: object = None) -> Exchange:
            answer = super().send(method, path, body)
            if answer.status != 200 or method == "GET" or answer.content_type != "application/json":
                return answer
            told = json.loads(answer.text)
            told["choices"] = [{**choice, "finish_reason": "stop"} for choice in told["choices"]]
            return Exchange(method, path, answer.body, 200, answer.content_type, json.dumps(told))

    endpoint = Stopped(LocalEndpoint(tiny, spec), lambda body: body)
    report, found = seen(endpoint, tiny, spec, "contract.chat.max_tokens")
    assert report.contract == "inconsistent" and found["max_tokens"].status == "different"
