"""How endpoints fail: what a page prints of it has to be so, what its file infers is told, an answer is no failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

import refsample
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import Check
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.errors import SpecError
from refsample.generation.model import Model
from refsample.spec.load import find, read
from refsample.spec.provider import provider, provider_from, providers

CHECKS = ("contract.unknown_*", "contract.method", "contract.*.error_words")


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class Failing:
    """An endpoint whose failures are changed: statuses, and keys of the error object."""

    def __init__(self, inner: LocalEndpoint, statuses: Mapping[int, int], words: Mapping[str, Any]) -> None:
        self._inner, self._statuses, self._words, self.url = inner, statuses, words, inner.url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        exchange = self._inner.send(method, path, body)
        if exchange.status not in self._statuses:
            return exchange
        error = json.loads(exchange.text)
        inner = error.get("error", error)
        inner.update({key: value for key, value in self._words.items() if key in inner})
        return replace(exchange, status=self._statuses[exchange.status], text=json.dumps(error))


def checks(tiny: Model, spec: str, statuses: Mapping[int, int], words: Mapping[str, Any] | None = None,
           wrap: Callable[..., Any] = Failing) -> dict[str, Check]:  # fmt: skip
    endpoint = wrap(LocalEndpoint(tiny, spec), statuses, words or {})
    report = verify(endpoint, tiny, spec, profile="smoke", seed=3, model="tiny", only=CHECKS)
    return {c.id.removeprefix("contract."): c for c in report.checks}


@pytest.mark.parametrize("name", providers())
def test_an_honest_endpoint_fails_as_its_file_says(tiny: Model, name: str) -> None:
    found = checks(tiny, name, {})
    kinds = {f"{e.kind}.error_words" for e in provider(name).endpoints.values()}
    assert found.keys() == {"unknown_model", "unknown_model_error", "unknown_path", "method", *kinds}
    assert {c.verdict for c in found.values()} == {"consistent"}


@pytest.mark.parametrize(("spec", "status", "verdict"), [
    ("openai", 400, "inconsistent"), ("novita", 400, "inconsistent"),  # their pages print 404
    ("nebius", 400, "skipped"), ("scale", 403, "skipped"),  # inferred
])  # fmt: skip
def test_another_status_of_an_unknown_model_fails_where_the_page_prints_one(
    tiny: Model, spec: str, status: int, verdict: str
) -> None:
    check = checks(tiny, spec, {404: status})["unknown_model_error"]
    assert check.verdict == verdict and f"status {status}, not 404" in check.evidence
    assert (check.reproduce is not None) is (verdict == "inconsistent")


@pytest.mark.parametrize(("spec", "words", "verdict"), [
    ("novita", {"reason": "NO_SUCH_MODEL"}, "inconsistent"),  # its page prints the reason
    ("openai", {"code": "no_such_model"}, "skipped"),  # of OpenAI's, the status alone is printed
    ("nebius", {"type": "ModelError"}, "skipped"),
])  # fmt: skip
def test_other_words_fail_where_the_page_prints_them(
    tiny: Model, spec: str, words: dict[str, str], verdict: str
) -> None:
    check = checks(tiny, spec, {404: 404}, words)["unknown_model_error"]
    assert check.verdict == verdict and repr(*words.values()) in check.evidence


def test_paths_and_methods_that_are_answered_or_crash_are_faults(tiny: Model) -> None:
    for statuses in ({404: 200, 405: 200}, {404: 500, 405: 500}):
        found = checks(tiny, "nebius", statuses)
        assert {found[name].verdict for name in ("unknown_path", "method", "unknown_model")} == {"inconsistent"}
    told = checks(tiny, "nebius", {404: 401, 405: 404})
    assert {told[name].verdict for name in ("unknown_path", "method")} == {"skipped"}
    assert "the page does not print it" in told["method"].evidence
    busy = checks(tiny, "nebius", {404: 429, 405: 429})
    assert {busy[name].verdict for name in ("unknown_path", "method")} == {"skipped"}


def test_bad_values_that_fail_otherwise_are_told(tiny: Model) -> None:
    check = checks(tiny, "nebius", {400: 422}, {"type": "ValueError"})["chat.error_words"]
    assert check.verdict == "skipped" and "status 422, not 400" in check.evidence and "'ValueError'" in check.evidence
    coded = checks(tiny, "openai", {400: 400}, {"code": "bad_temperature"})["chat.error_words"]
    assert coded.verdict == "consistent"  # the code names the very mistake


def test_what_is_printed_of_a_failure_is_one_of_three() -> None:
    assert {f.printed for p in providers() for f in provider(p).errors.values()} == {"nothing", "status", "words"}
    data = read(find("providers", "openai"))
    broken = {**data, "errors": {**data["errors"], "method": {**data["errors"]["method"], "printed": "all"}}}
    with pytest.raises(SpecError, match="errors.method.*printed"):
        provider_from(broken, "mine.toml")
