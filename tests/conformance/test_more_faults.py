"""Penalties, defaults, copied choices, cut white space: what one-token draws with every field sent would never show."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import refsample
from refsample.api.answer import default_behaviour
from refsample.conformance.faults import apply
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model
from refsample.spec.provider import provider

Body = dict[str, Any]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class Between:
    """An endpoint whose requests and answers are changed on the way."""

    def __init__(
        self, inner: LocalEndpoint, ask: Callable[[Body], Body] = lambda body: body,
        answer: Callable[[Body], Body] = lambda body: body,
    ) -> None:  # fmt: skip
        self._inner, self._ask, self._answer, self.url = inner, ask, answer, inner.url

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        sent = None if body is None else self._ask(json.loads(json.dumps(body)))
        found = self._inner.send(method, path, sent)
        text = found.text
        if text.startswith("{"):
            text = json.dumps(self._answer(json.loads(text)))
        assert body is None or isinstance(body, dict)
        return Exchange(method, path, body, found.status, found.content_type, text)


def without(*names: str) -> Callable[[Body], Body]:
    """Takes a legal value of these fields and drops it."""

    def change(body: Body) -> Body:
        legal = {n for n in names if isinstance(body.get(n), int | float) and -2 <= body[n] <= 2}
        return {name: value for name, value in body.items() if name not in legal}

    return change


def looked(endpoint: Any, tiny: Model, name: str, *only: str) -> Report:
    return verify(endpoint, tiny, name, profile="smoke", seed=5, model="tiny", only=only)


def statuses(report: Report) -> dict[str, str]:
    """Of the first route, where laws are looked at."""
    route = report.parameters[0].endpoint
    return {line.name: line.status for line in report.parameters if line.endpoint == route}


PENALTIES = ("presence_penalty", "frequency_penalty")


@pytest.mark.parametrize("name", ["visioncraft", "nebius", "novita", "empower", "scale", "openai"])
def test_penalties_that_are_not_applied(tiny: Model, name: str) -> None:
    acts = "contract.*.act.*_penalty"
    honest = looked(LocalEndpoint(tiny, name), tiny, name, acts)
    assert honest.contract == "consistent"
    assert {statuses(honest)[penalty] for penalty in PENALTIES} == {"honoured"}
    report = looked(Between(LocalEndpoint(tiny, name), without(*PENALTIES)), tiny, name, acts)
    assert {statuses(report)[penalty] for penalty in PENALTIES} == {"dropped"}
    assert (report.verdict, report.law, report.faults[0].name) == ("inconsistent", "inconsistent", "penalties_ignored")


@pytest.mark.parametrize("name", ["visioncraft", "novita"])
def test_a_repetition_penalty_that_is_not_applied(tiny: Model, name: str) -> None:
    silent = Between(LocalEndpoint(tiny, name), without("repetition_penalty"))
    report = looked(silent, tiny, name, "contract.*.act.rep*")
    assert statuses(report)["repetition_penalty"] == "dropped"
    assert report.faults[0].name == "repetition_penalty_ignored"


def test_a_penalty_with_another_sign_is_another_penalty(tiny: Model) -> None:
    def turned(body: Body) -> Body:
        return {key: -value if key == "frequency_penalty" else value for key, value in body.items()}

    report = looked(Between(LocalEndpoint(tiny, "novita"), turned), tiny, "novita", "contract.*.act.frequency_penalty")
    assert statuses(report)["frequency_penalty"] in ("different", "dropped")
    assert report.verdict == "inconsistent"


def test_another_models_text_says_nothing_of_penalties(tiny: Model) -> None:
    pirate = refsample.load("tiny", adapter="pirate")
    report = verify(LocalEndpoint(pirate, "novita"), tiny, "novita", profile="smoke", seed=5, model="pirate",
                    only=("contract.*.act.*_penalty",))  # fmt: skip
    assert {statuses(report)[penalty] for penalty in PENALTIES} <= {"unknown", "honoured"}
    assert report.contract != "inconsistent" and not report.faults


def with_temperature(value: float) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        return {"temperature": value, **body} if "top_p" not in body else body

    return change


@pytest.mark.parametrize("name", ["nebius", "novita", "empower", "scale", "openai"])
def test_what_is_not_sent_is_the_pages_default(tiny: Model, name: str) -> None:
    inner = LocalEndpoint(tiny, name)
    assert looked(inner, tiny, name, "law.defaults").law == "consistent"
    cold = looked(Between(inner, with_temperature(0.2)), tiny, name, "law.defaults")
    assert (cold.verdict, cold.faults[0].name) == ("inconsistent", "other_defaults")
    overlaid = LocalEndpoint(tiny, name, apply(["other_defaults"], default_behaviour(provider(name))))
    report = looked(overlaid, tiny, name, "law.*")
    assert report.faults[0].name == "other_defaults"
    assert {check.id for check in report.checks if check.verdict == "inconsistent"} == {"law.defaults"}


def test_whole_texts_tell_of_defaults_too(tiny: Model) -> None:
    """VisionCraft prints 0.7 and 0.9, and lets nobody ask for a single token."""
    name = "visioncraft"
    assert looked(LocalEndpoint(tiny, name), tiny, name, "law.defaults").law == "consistent"
    hot = verify(Between(LocalEndpoint(tiny, name), with_temperature(1.5)), tiny, name, profile="standard", seed=5,
                 model="tiny", only=("law.defaults",))  # fmt: skip
    assert hot.verdict == "inconsistent"


@pytest.mark.parametrize("name", ["nebius", "novita", "empower", "scale", "openai"])
def test_choices_that_are_copies(tiny: Model, name: str) -> None:
    honest = looked(LocalEndpoint(tiny, name), tiny, name, "contract.*.n_drawn", "law.*")
    assert honest.law == honest.contract == "consistent"
    assert any(check.id.endswith("n_drawn") for check in honest.checks)

    def copied(body: Body) -> Body:
        choices = body.get("choices", [])
        copies = [{**choices[0], "index": index} for index in range(len(choices))] if choices else []
        return {**body, "choices": copies} if choices else body

    report = looked(Between(LocalEndpoint(tiny, name), answer=copied), tiny, name, "contract.*.n_drawn", "law.*")
    assert {check.id.rpartition(".")[2] for check in report.checks if check.verdict == "inconsistent"} == {"n_drawn"}
    assert report.faults[0].name == "choices_copied" and statuses(report)["n"] == "different"


def test_texts_without_their_leading_space_are_read_as_such(tiny: Model) -> None:
    def cut(body: Body) -> Body:
        choices = [{**choice, "text": choice["text"].lstrip()} for choice in body.get("choices", [])]
        return {**body, "choices": choices} if choices else body

    report = looked(Between(LocalEndpoint(tiny, "novita"), answer=cut), tiny, "novita", "law.*", "contract.*.lead*")
    assert report.law == "consistent"
    assert any(check.id == "contract.completions.leading_space" for check in report.checks)
