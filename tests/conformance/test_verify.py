"""The verifier against endpoints of known honesty: in this process, on the embedded model, seeded.

Each fault run is one draw of probes; the acceptance figures over twenty and a hundred seeds are in
`bench/verifier.py`. An honest run alarms with probability at most 0.01; these seeds are fixed, so it never flickers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import refsample
from refsample.conformance.faults import apply
from refsample.conformance.judge import judge
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import verify
from refsample.errors import EndpointError, ParameterError, RecordError
from refsample.generation.behaviour import Behaviour
from refsample.generation.model import Model
from refsample.spec.load import engine

HONEST = Behaviour(semantics=engine("reference").semantics)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


def smoke(endpoint: Any, model: Model | None, **more: Any) -> Report:
    return verify(endpoint, model, profile="smoke", seed=3, **more)


def ids(report: Report, verdict: str) -> set[str]:
    return {check.id for check in report.checks if check.verdict == verdict}


@pytest.mark.parametrize("seed", range(3))
def test_honest_bf16_kernels_are_consistent(tiny: Model, seed: int) -> None:
    endpoint = LocalEndpoint(tiny, behaviour=replace(HONEST, precision="bf16"))
    report = verify(endpoint, tiny, profile="smoke", seed=seed, only=["model.*", "law.*"])
    assert (report.model, report.law) == ("consistent", "consistent")


def test_the_same_seed_asks_and_judges_the_same(tiny: Model) -> None:
    one, two = (smoke(LocalEndpoint(tiny), tiny, only=["law.top_p", "model.greedy"]) for _ in range(2))
    assert one == two
    assert ids(one, "consistent") == {"law.top_p", "model.greedy"}


def test_a_check_alone_repeats_what_it_did_in_the_whole_run(tiny: Model) -> None:
    endpoint = LocalEndpoint(tiny, behaviour=apply(["top_k_ignored"], HONEST))
    whole, alone = smoke(endpoint, tiny), smoke(endpoint, tiny, only=["law.top_k"])
    of = {c.id: c for c in whole.checks}
    assert (of["law.top_k"].evidence, of["law.top_k"].verdict) == (alone.checks[0].evidence, alone.checks[0].verdict)


def test_a_record_is_judged_to_the_same_report(tiny: Model, tmp_path: Path) -> None:
    endpoint = LocalEndpoint(tiny, behaviour=apply(["min_p_ignored"], HONEST))
    report = verify(endpoint, "tiny", profile="smoke", seed=5, out=tmp_path / "run")
    assert report.endpoint_model == "tiny"
    assert judge(tmp_path / "run") == report
    with pytest.raises(RecordError, match="holds a record already"):
        verify(endpoint, "tiny", profile="smoke", seed=5, out=tmp_path / "run")


def test_without_a_reference_only_what_the_endpoint_says_of_itself_counts(tiny: Model) -> None:
    report = smoke(LocalEndpoint(tiny), None)
    assert report.verdict == "consistent" and report.reference is None
    for name in ("top_k_ignored", "top_p_ignored", "min_p_ignored"):
        found = smoke(LocalEndpoint(tiny, behaviour=apply([name], HONEST)), None)
        assert found.verdict == "inconsistent"
        field = name.removesuffix("_ignored")
        second = {"contract.chat.act.top_p"} if field == "top_p" else set()  # the other two are beside the page
        assert ids(found, "inconsistent") == {f"law.self.{field}"} | second


class Poorer:
    """An endpoint that takes less: no n, no logprobs, no seed, no completions route, as asked."""

    def __init__(self, inner: LocalEndpoint, refused: Mapping[str, Any], closed: frozenset[str] = frozenset()) -> None:
        self._inner, self._refused, self._closed = inner, refused, closed
        self.url = inner.url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        text = '{"error": {"message": "not here", "type": "invalid_request_error", "param": null, "code": null}}'
        if path in self._closed:
            return Exchange(method, path, body, 404, "application/json", text)
        for name, allowed in self._refused.items():
            if body is not None and body.get(name) not in (None, allowed):
                return Exchange(method, path, body, 400, "application/json", text)
        return self._inner.send(method, path, body)


def test_probes_adapt_to_one_choice_and_no_logprobs(tiny: Model) -> None:
    endpoint = Poorer(LocalEndpoint(tiny, behaviour=apply(["top_p_ignored"], HONEST)), {"n": 1, "logprobs": None})
    report = smoke(endpoint, tiny)
    assert report.law == "inconsistent" and report.faults[0][0] == "top_p_ignored"
    assert {"model.logprobs", "law.transcripts", "contract.logprobs_stage"} <= ids(report, "skipped")
    assert "contract.completions.n_range" in ids(report, "inconsistent")


def test_a_refused_field_is_skipped_with_the_reason(tiny: Model) -> None:
    report = smoke(Poorer(LocalEndpoint(tiny), {"min_p": None, "seed": None}), tiny)
    skipped = {c.id: c.evidence for c in report.checks if c.verdict == "skipped"}
    assert "min_p: HTTP 400: not here" in skipped["law.min_p"]
    assert "contract.seed" in skipped
    broken = {"contract.completions.takes.seed", "contract.chat.takes.seed"}  # min_p is beside this page
    assert ids(report, "inconsistent") == broken and report.contract == "inconsistent"
    assert smoke(Poorer(LocalEndpoint(tiny), {"min_p": None}), tiny).verdict == "consistent"


def test_an_endpoint_with_chat_alone(tiny: Model) -> None:
    closed = frozenset({"/v1/completions"})
    assert smoke(Poorer(LocalEndpoint(tiny), {}, closed), tiny).verdict == "consistent"
    faulty = LocalEndpoint(tiny, behaviour=apply(["temperature_after_top_p"], HONEST))
    report = smoke(Poorer(faulty, {}, closed), tiny)
    assert report.law == "inconsistent" and report.faults[0][0] == "temperature_after_top_p"


def test_nothing_answers(tiny: Model) -> None:
    endpoint = Poorer(LocalEndpoint(tiny), {}, frozenset({"/v1/completions", "/v1/chat/completions"}))
    with pytest.raises(EndpointError, match="answers no completion for model 'tiny': /v1/completions: HTTP 404"):
        smoke(endpoint, tiny)


def test_a_token_budget_is_kept_and_what_was_not_seen_is_not_called_consistent(tiny: Model) -> None:
    report = smoke(LocalEndpoint(tiny), tiny, max_tokens=300)
    assert report.verdict == "inconclusive"
    assert report.tokens < 500


@pytest.mark.parametrize("budget", [1, 2, 10])
def test_finding_out_what_is_taken_keeps_to_the_budget_too(tiny: Model, budget: int) -> None:
    report = smoke(LocalEndpoint(tiny), tiny, max_tokens=budget)
    assert report.verdict == "inconclusive" and report.tokens <= budget + 12
    assert budget > 1 or report.tokens == 1


class WithItsNames:
    """An endpoint that calls a field as llama.cpp does."""

    def __init__(self, inner: LocalEndpoint) -> None:
        self._inner, self.url = inner, inner.url

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        names = {"repeat_penalty": "repetition_penalty"}
        sent = None if body is None else {names.get(name, name): value for name, value in body.items()}
        return replace(self._inner.send(method, path, sent), body=body)


def test_rules_are_those_of_the_engine_that_is_claimed(tiny: Model) -> None:
    """Our own server under llama.cpp's rules and names, its logprobs where llama.cpp has them."""
    rules = Behaviour(semantics=engine("llamacpp").semantics)
    server = WithItsNames(LocalEndpoint(tiny, behaviour=rules))
    report = smoke(server, tiny, engine="llamacpp", only=["law.*", "model.*"])
    assert (report.model, report.law) == ("consistent", "consistent")
    other = smoke(LocalEndpoint(tiny, behaviour=rules), tiny, engine="reference", only=["law.*", "model.*"])
    assert other.law == "inconsistent"


@pytest.mark.parametrize(("field", "value"), [("profile", "huge"), ("spec", "nobody"), ("engine", "nobody")])
def test_a_wrong_claim_is_named(tiny: Model, field: str, value: str) -> None:
    with pytest.raises((ParameterError, refsample.errors.RefsampleError), match=value):
        verify(LocalEndpoint(tiny), tiny, **{field: value})  # type: ignore[arg-type]
