"""Every fault, one at a time, is found and named first.

Each run is one draw of probes with a fixed seed; `bench/verifier.py` has the figures over twenty seeds.
"""

from __future__ import annotations

import pytest

import refsample
from refsample.conformance.faults import FAULTS, apply
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.verify import verify
from refsample.generation.behaviour import Behaviour
from refsample.generation.model import Model
from refsample.spec.load import engine

HONEST = Behaviour(semantics=engine("reference").semantics)
NEEDS_MORE = {"temperature_plus_10", "temperature_minus_10", "hidden_top_p", "hidden_top_k"}
"""Small effects: 300 to 600 draws tell them (verification.md section 9), a smoke run has fewer."""


@pytest.fixture(scope="module")
def tiny() -> Model:
    return refsample.load("tiny")


def test_an_honest_endpoint_is_consistent_and_every_fault_is_excluded(tiny: Model) -> None:
    report = verify(LocalEndpoint(tiny), tiny, profile="smoke", seed=3)
    assert (report.verdict, report.model, report.law, report.contract) == ("consistent",) * 4
    assert report.faults == () and not [check for check in report.checks if check.verdict == "inconsistent"]
    assert {entry["name"] for entry in report.excluded} >= set(FAULTS) - NEEDS_MORE - {"other_defaults"}
    assert report.requests < 340 and report.tokens < 3300
    data = report.to_dict()
    assert {"verdict", "model", "law", "contract", "checks", "faults", "excluded", "requests", "tokens"} <= data.keys()
    assert {"spec", "engine", "reference"} <= data.keys()
    assert data["reference"] == "tiny" and data["seed"] == 3


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_named_first(tiny: Model, name: str) -> None:
    profile = "standard" if name in NEEDS_MORE else "smoke"
    report = verify(LocalEndpoint(tiny, behaviour=apply([name], HONEST)), tiny, profile=profile, seed=3)
    assert report.verdict == "inconsistent"
    assert report.faults[0].name == name and report.faults[0].posterior > 0.99
    area = FAULTS[name].area
    assert getattr(report, area) == "inconsistent"
    failed = [check for check in report.checks if check.verdict == "inconsistent"]
    # draws of one token show no penalty on the output: the act along a greedy text does
    assert any(check.area == area or ".act." in check.id for check in failed)
    assert all(check.reproduce or check.id.endswith(("error_body", "error_param")) for check in failed)
