"""A field of the page that is refused at a legal value, or logprobs that do not come, break the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import refsample
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.generation.model import Model
from refsample.spec.provider import provider
from tests.conformance.test_parameters import Altered, Changed


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


def checked(endpoint: Any, model: Model, spec: str, *only: str) -> tuple[Report, dict[str, str], dict[str, str]]:
    """A report, its broken checks with their evidence, and the statuses of parameters as KIND.NAME."""
    report = verify(endpoint, model, spec, profile="smoke", seed=3, model="tiny", only=only)
    broken = {check.id: check.evidence for check in report.checks if check.verdict == "inconsistent"}
    return report, broken, {f"{line.endpoint}.{line.name}": line.status for line in report.parameters}


class On:
    """One route of an endpoint refuses a body that `refuses` finds wrong."""

    def __init__(self, inner: LocalEndpoint, route: str, refuses: Callable[[dict[str, Any]], bool], status: int = 400):
        self._inner, self._route, self._refuses, self._status, self.url = inner, route, refuses, status, inner.url

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        if isinstance(body, dict) and path.endswith(self._route) and self._refuses(body):
            text = json.dumps({"error": {"message": "not here", "type": "", "param": None, "code": None}})
            return Exchange(method, path, body, self._status, "application/json", text)
        assert body is None or isinstance(body, dict)
        return self._inner.send(method, path, body)


REFUSED = [
    ("novita", "completions", "top_k"), ("novita", "completions", "seed"), ("novita", "completions", "min_p"),
    ("novita", "completions", "best_of"), ("openai", "v1/completions", "seed"), ("openai", "chat/completions", "seed"),
    ("openai", "chat/completions", "top_p"), ("nebius", "completions", "presence_penalty"),
    ("visioncraft", "completions", "top_k"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "route", "field"), REFUSED)
def test_a_field_that_is_refused_at_a_legal_value_breaks_the_page(
    tiny: Model, spec: str, route: str, field: str
) -> None:
    endpoint = On(LocalEndpoint(tiny, spec), f"/{route}", lambda body: field in body)
    kind = "chat" if route.startswith("chat") or spec in ("nebius", "visioncraft") else "completions"
    report, broken, found = checked(endpoint, tiny, spec, "contract.*.takes", "contract.*.takes.*")
    assert report.contract == "inconsistent" and found[f"{kind}.{field}"] == "rejected"
    assert list(broken) == [f"contract.{kind}.takes.{field}"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_refuses_no_field(tiny: Model, status: int) -> None:
    endpoint = On(LocalEndpoint(tiny, "novita"), "", lambda body: "seed" in body, status)
    report, broken, _ = checked(endpoint, tiny, "novita", "contract.*.takes.*")
    assert broken == {} and report.contract == "inconclusive"


def test_an_end_of_a_range_that_is_refused_breaks_the_page_and_one_that_is_taken_shows_nothing(tiny: Model) -> None:
    only = "contract.chat.validation.*"
    endpoint = On(LocalEndpoint(tiny, "nebius"), "", lambda body: body.get("temperature") == 2)
    _, broken, found = checked(endpoint, tiny, "nebius", only, "contract.chat.takes_ends.*")
    assert list(broken) == ["contract.chat.takes_ends.temperature"] and found["chat.temperature"] == "rejected"
    _, broken, found = checked(LocalEndpoint(tiny, "nebius"), tiny, "nebius", only, "contract.chat.takes_ends.*")
    assert broken == {} and {found["chat.temperature"], found["chat.top_p"]} == {"unknown"}


def test_a_known_difference_of_the_engine_does_not_count(tiny: Model) -> None:
    endpoint = On(LocalEndpoint(tiny, "nebius"), "", lambda body: body.get("top_p") == 0)
    only = ["contract.chat.takes_ends.*", "contract.chat.validation.top_p"]
    marks = {
        name: {c.id: c.verdict for c in verify(endpoint, tiny, "nebius", name, "smoke", model="tiny", only=only).checks}
        for name in ("vllm", "reference")
    }
    assert [marks[n]["contract.chat.takes_ends.top_p"] for n in ("vllm", "reference")] == ["known", "inconsistent"]


def without_logprobs(answer: Exchange) -> Exchange:
    told = json.loads(answer.text)
    told["choices"] = [{**choice, "logprobs": None} for choice in told.get("choices", [])]
    return Exchange("POST", answer.path, answer.body, answer.status, answer.content_type, json.dumps(told))


class Null(Altered):
    """Its logprobs are always null."""

    def send(self, method: str, path: str, body: object = None) -> Exchange:
        answer = super().send(method, path, body)
        plain = answer.status == 200 and method == "POST" and answer.content_type == "application/json"
        return without_logprobs(answer) if plain else answer


@pytest.mark.parametrize("spec", ["openai", "novita", "nebius", "scale"])
def test_logprobs_of_the_page_have_to_come(tiny: Model, spec: str) -> None:
    inner, kind = LocalEndpoint(tiny, spec), provider(spec).endpoints
    first = next(iter(kind.values())).kind
    endpoints = {
        "rejected": Changed(inner, "logprobs", refuse=True),
        "dropped": Changed(inner, "logprobs", refuse=False) if first == "completions" and spec != "scale"
        else Null(inner, dict),
    }  # fmt: skip
    for status, endpoint in endpoints.items():
        report, broken, found = checked(endpoint, tiny, spec, "contract.*.logprobs")
        assert report.contract == "inconsistent" and found[f"{first}.logprobs"] == status
        assert f"contract.{first}.logprobs" in broken
    _, broken, found = checked(inner, tiny, spec, "contract.*logprobs*")
    assert broken == {} and found[f"{first}.logprobs"] == "honoured"


def test_logprobs_beside_the_page_need_not_come(tiny: Model) -> None:
    endpoint = Changed(LocalEndpoint(tiny, "empower"), "logprobs", refuse=True)
    report = verify(endpoint, tiny, "empower", profile="smoke", model="tiny", only=["contract.chat.logprobs"],
                    extensions=True)  # fmt: skip
    assert [check.verdict for check in report.checks] == ["skipped"]


def test_of_two_fields_the_one_that_is_refused_or_dropped_is_named(tiny: Model) -> None:
    inner, only = LocalEndpoint(tiny, "nebius"), ("contract.*.logprobs", "contract.*.top_logprobs")
    _, broken, found = checked(Changed(inner, "top_logprobs", refuse=True), tiny, "nebius", *only)
    assert (found["chat.logprobs"], found["chat.top_logprobs"]) == ("unknown", "rejected")
    assert list(broken) == ["contract.chat.top_logprobs"]
    _, broken, found = checked(Changed(inner, "top_logprobs", refuse=False), tiny, "nebius", *only)
    assert list(broken) == ["contract.chat.top_logprobs"] and found["chat.logprobs"] == "honoured"
