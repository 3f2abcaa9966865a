"""Probes stay inside every provider's page, honest servers of all pages pass, and their contract faults are named.

Each run is one draw of probes with a fixed seed, in this process; `bench/verifier.py` has the figures over twenty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import refsample
from refsample.api.answer import default_behaviour
from refsample.api.validate import parse
from refsample.conformance.campaign import run
from refsample.conformance.faults import FAULTS, apply, shows
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.oracle import HONEST, Oracle
from refsample.conformance.page import pages_of
from refsample.conformance.report import Report
from refsample.conformance.session import Session, Target
from refsample.conformance.transport import Exchange
from refsample.conformance.verify import plan_for, verify
from refsample.errors import ParameterError
from refsample.generation.model import Model
from refsample.spec.provider import provider, providers

PAGES = tuple(name for name in providers() if name != "openai")
FLAWS = tuple(name for name, fault in FAULTS.items() if fault.flaw)
QUICK = ("contract.*", "law.best_of")
"""Everything that shows a flaw of the contract; whole answers scored as text take longer than the rest together."""


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


class Kept:
    """An endpoint that keeps every body."""

    def __init__(self, inner: LocalEndpoint) -> None:
        self._inner, self.url = inner, inner.url
        self.bodies: list[tuple[str, Mapping[str, Any]]] = []

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        if body is not None:
            self.bodies.append((path, body))
        return self._inner.send(method, path, body)


def asked(name: str, model: Model, *, strict: bool, only: tuple[str, ...] = ()) -> tuple[Kept, Session, Report]:
    """A smoke run against a page served by ourselves: what was sent, and what was found."""
    plan, _ = plan_for(model, name, None, "smoke", 3, frozenset(only), False)
    page = plan.provider
    endpoint = Kept(LocalEndpoint(model, name, strict=strict))
    session = Session(endpoint, Target("tiny", pages_of(page, False), page.models_path), plan.seed)
    honest = default_behaviour(page)
    oracle = Oracle(model, apply([], honest).__class__(semantics=honest.semantics, precision=HONEST))
    return endpoint, session, run(session, oracle, plan)


def in_page(name: str, path: str, body: Mapping[str, Any], model: Model) -> str | None:
    """Why the page, as printed, does not let a body pass; None where it does."""
    page = provider(name)
    endpoint = next(e for e in page.endpoints.values() if e.path == path)
    try:
        parse(body, page, endpoint.name, strict=True, model=model)
    except ParameterError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", providers())
def test_every_probe_but_those_about_edges_is_one_that_the_page_takes(tiny: Model, name: str) -> None:
    only = () if name != "visioncraft" else ("contract.*", "model.*", "law.order")
    endpoint, session, _ = asked(name, tiny, strict=False, only=only)
    inside = [(path, body) for path, body in endpoint.bodies if not any(body is edge for edge in session.edges)]
    wrong = {why for path, body in inside if (why := in_page(name, path, body, tiny)) is not None}
    assert wrong == set()
    assert len(inside) > 20 and len(session.edges) > 3
    assert any(in_page(name, path, body, tiny) for path, body in endpoint.bodies)  # the edges do break the page


@pytest.mark.parametrize("name", [n for n in providers() if n != "visioncraft"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_page_served_as_meant_or_as_printed_is_consistent(tiny: Model, name: str, strict: bool) -> None:
    _, _, report = asked(name, tiny, strict=strict)
    assert [(c.id, c.evidence) for c in report.checks if c.verdict in ("inconsistent", "inconclusive")] == []
    assert report.verdict == "consistent"
    statuses = {f"{line.endpoint}.{line.name}": line.status for line in report.parameters}
    assert statuses.items() >= {f"{e.kind}.temperature": "honoured" for e in provider(name).endpoints.values()}.items()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("fault", FLAWS)
def test_a_fault_of_the_contract_is_found_and_named_where_the_page_shows_it(
    tiny: Model, name: str, fault: str
) -> None:
    page = provider(name)
    shown = shows(FAULTS[fault], page)
    if not shown:
        pytest.skip(f"{name} has no field that shows {fault}")
    endpoint = LocalEndpoint(tiny, name, apply([fault], default_behaviour(page)))
    only = (*QUICK, "model.greedy") if fault == "eos_not_counted" else QUICK
    report = verify(endpoint, tiny, name, profile="smoke", seed=3, model="tiny", only=only)
    assert report.contract == "inconsistent"
    assert report.faults[0].name == fault and report.faults[0].posterior > 0.99


def test_what_a_page_can_show_follows_from_its_fields() -> None:
    """Read off the pages by hand, not by the code."""
    cannot = {
        "visioncraft": {"min_p_ignored", "logit_bias_ignored", "best_of_ignored", "stop_text_kept", "seed_ignored",
                        "usage_first_choice", "logprobs_shape_swapped", "top_logprobs_n", "greedy_n_refused",
                        "logprobs_after_temperature", "choices_copied"},
        "novita": {"stop_text_kept", "role_chunk_missing"},  # its page says that the stop text is kept
        "empower": {"top_k_ignored", "min_p_ignored", "logit_bias_ignored", "best_of_ignored", "stop_text_kept",
                    "seed_ignored", "logprobs_shape_swapped", "top_logprobs_n", "logprobs_after_temperature",
                    "repetition_penalty_ignored", "greedy_n_refused"},  # its engine, vLLM, is known to refuse that
        "openai": set(),
    }  # fmt: skip
    for name, hidden in cannot.items():
        assert {f.name for f in FAULTS.values() if not shows(f, provider(name))} == hidden
