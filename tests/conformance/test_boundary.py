"""Values at the edges of the records: honest pages take the legal and refuse the illegal, others are found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
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
from refsample.spec.provider import provider, providers

EDGES = ("contract.*.boundary.*", "contract.*.nulls*")


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class Lenient:
    """An endpoint that mends bodies before it reads them, or refuses some of them."""

    def __init__(self, inner: LocalEndpoint, mend: Callable[[dict[str, Any]], dict[str, Any] | int]) -> None:
        self._inner, self._mend, self.url = inner, mend, inner.url
        self.bodies: list[Mapping[str, Any]] = []

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        if body is None:
            return self._inner.send(method, path, body)
        self.bodies.append(body)
        mended = self._mend(dict(body))
        if isinstance(mended, int):
            return Exchange(method, path, body, mended, "application/json", '{"error": {"message": "not so"}}')
        return replace(self._inner.send(method, path, mended), body=body)


def judged(endpoint: object, tiny: Model, spec: str, *only: str) -> Report:
    return verify(endpoint, tiny, spec, profile="smoke", seed=3, model="tiny", only=only or EDGES)  # type: ignore[arg-type]


def failed(report: Report) -> dict[str, str]:
    return {c.id.removeprefix("contract."): c.evidence for c in report.checks if c.verdict == "inconsistent"}


def without(field: str, *allowed: type) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A field whose value is of another type is not looked at."""

    def mend(body: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in body.items() if k != field or v is None or isinstance(v, allowed)}

    return mend


def fewer_stops(body: dict[str, Any]) -> dict[str, Any]:
    stop = body.get("stop")
    return body | ({"stop": stop[:4]} if isinstance(stop, list) else {})


def clipped(body: dict[str, Any]) -> dict[str, Any]:
    bias = body.get("logit_bias")
    mend = {k: max(-100, min(100, v)) for k, v in bias.items()} if isinstance(bias, dict) else bias
    return body | ({"logit_bias": mend} if bias else {})


def any_model(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "model": "tiny"}


def a_prompt(body: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": "Hello", **body}


def a_choice(body: dict[str, Any]) -> dict[str, Any]:
    return body | ({"tool_choice": "auto"} if body.get("tool_choice") == "refsample-no-such-choice" else {})


@pytest.mark.parametrize(("spec", "field", "mend", "said"), [
    ("scale", "completions.boundary.stop", fewer_stops, "'<4>'] gave an answer"),
    ("novita", "completions.boundary.logit_bias", clipped, "{'5': -101} gave an answer; {'5': 101} gave an answer"),
    ("visioncraft", "chat.boundary.model", any_model, "absent gave an answer; 7 gave an answer"),
    ("scale", "completions.boundary.prompt", a_prompt, "absent gave an answer"),
    ("empower", "chat.boundary.ignore_eos", without("ignore_eos", bool), "'text' gave an answer"),
    ("scale", "completions.boundary.response_format", without("response_format", dict), "'text' gave an answer"),
    ("openai", "chat.boundary.tool_choice", a_choice, "'refsample-no-such-choice' gave an answer"),
    ("openai", "chat.boundary.stream_options", without("stream_options", dict), "'text' gave an answer"),
])  # fmt: skip
def test_an_illegal_value_that_is_taken_is_found(
    tiny: Model, spec: str, field: str, mend: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    report = judged(Lenient(LocalEndpoint(tiny, spec), mend), tiny, spec)
    assert said in failed(report)[field] and report.contract == "inconsistent"
    kind, _, name = field.split(".")
    line = next(p for p in report.parameters if (p.endpoint, p.name) == (kind, name))
    assert line.status == "different" and said in line.observed


@pytest.mark.parametrize(("spec", "field", "refuses"), [
    ("nebius", "n", lambda v: isinstance(v, int) and v > 8),
    ("novita", "n", lambda v: isinstance(v, int) and v > 8),
    ("scale", "stop", lambda v: isinstance(v, str)),
    ("openai", "stop", lambda v: isinstance(v, list) and len(v) == 4),
])  # fmt: skip
def test_a_legal_value_that_is_refused_is_rejected(
    tiny: Model, spec: str, field: str, refuses: Callable[[object], bool]
) -> None:
    def mend(body: dict[str, Any]) -> dict[str, Any] | int:
        return 400 if refuses(body.get(field)) else body

    report = judged(Lenient(LocalEndpoint(tiny, spec), mend), tiny, spec)
    assert {name.split(".")[-1] for name in failed(report)} == {field}
    assert {p.status for p in report.parameters if p.name == field} == {"rejected"}
    assert all(c.reproduce for c in report.checks if c.verdict == "inconsistent")


def test_fewer_choices_than_the_most_are_found(tiny: Model) -> None:
    def mend(body: dict[str, Any]) -> dict[str, Any]:
        return body | ({"n": min(body["n"], 8)} if isinstance(body.get("n"), int) else {})

    assert "128 gave 8 choices" in failed(judged(Lenient(LocalEndpoint(tiny, "nebius"), mend), tiny, "nebius"))[
        "chat.boundary.n"
    ]


def test_a_null_that_is_refused_is_found_by_name(tiny: Model) -> None:
    endpoint = Lenient(LocalEndpoint(tiny, "nebius"), lambda b: 400 if "user" in b and b["user"] is None else b)
    report = judged(endpoint, tiny, "nebius", "contract.chat.nulls*")
    assert failed(report) == {"chat.nulls.user": "user: HTTP 400: not so"}
    assert {p.name: p.status for p in report.parameters}["user"] == "different"


def test_a_server_that_fails_over_a_bad_value_is_found_and_a_busy_one_is_not_called_faulty(tiny: Model) -> None:
    def ends(status: int) -> Callable[[dict[str, Any]], dict[str, Any] | int]:
        return lambda body: status if body.get("logprobs") == "text" else body

    only = "contract.chat.boundary.logprobs"
    crash = judged(Lenient(LocalEndpoint(tiny, "nebius"), ends(500)), tiny, "nebius", only)
    assert "HTTP 500" in failed(crash)["chat.boundary.logprobs"]
    busy = judged(Lenient(LocalEndpoint(tiny, "nebius"), ends(429)), tiny, "nebius", only)
    assert (failed(busy), busy.contract) == ({}, "inconclusive")


def test_bounds_of_a_bias_that_are_not_kept_are_found(tiny: Model) -> None:
    faulty = LocalEndpoint(tiny, "novita", apply(["bound_not_enforced"], default_behaviour(provider("novita"))))
    assert "101" in failed(judged(faulty, tiny, "novita"))["completions.boundary.logit_bias"]


def test_what_the_page_prints_otherwise_is_told(tiny: Model) -> None:
    """Nebius prints no range of logit_bias: an endpoint that takes 101 does as printed."""
    report = judged(Lenient(LocalEndpoint(tiny, "nebius"), clipped), tiny, "nebius")
    (check,) = [c for c in report.checks if c.id == "contract.chat.boundary.logit_bias"]
    assert check.verdict == "consistent" and "{'5': 101} taken" in check.evidence


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", providers())
def test_an_honest_page_passes_and_the_requests_are_few(tiny: Model, name: str, strict: bool) -> None:
    if strict and name == "visioncraft":
        pytest.skip("wants a key in every body")
    endpoint = Lenient(LocalEndpoint(tiny, name, strict=strict), lambda body: body)
    judged(endpoint, tiny, name, "contract.unknown_model")
    before = len(endpoint.bodies)
    report = judged(endpoint, tiny, name)
    assert report.contract == "consistent" and {c.verdict for c in report.checks} == {"consistent"}
    assert len(endpoint.bodies) - 2 * before < 60 and report.tokens < 400
