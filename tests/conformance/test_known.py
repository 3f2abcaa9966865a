"""Documented differences of the engine files name checks that exist, and a documented failure does not count."""

from fnmatch import fnmatchcase

import pytest

import refsample
from refsample.conformance.campaign import _documented
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.probes import SETTINGS
from refsample.conformance.report import Check
from refsample.conformance.verify import verify
from refsample.spec.load import engine, engines
from refsample.spec.provider import provider

FAILING_ONLY = tuple(
    f"contract.{kind}.{name}"
    for kind in ("completions", "chat")
    for name in ("n_range", "nulls.n", "takes_ends.top_p")
)
"""Checks that appear only where something is wrong; so do those of single fields."""


@pytest.fixture(scope="module")
def ids() -> set[str]:
    report = verify(LocalEndpoint(refsample.load("tiny")), None, profile="smoke", seed=0)
    fields = {f"contract.{e.kind}.{group}.{path.replace('[]', '')}" for group in ("shape", "logprobs_fields")
              for e in provider("openai").endpoints.values() for path in e.response}  # fmt: skip
    return {check.id for check in report.checks} | set(FAILING_ONLY) | fields | {setting.id for setting in SETTINGS}


@pytest.mark.parametrize("name", engines())
def test_every_documented_difference_names_a_check(name: str, ids: set[str]) -> None:
    for difference in engine(name).known:
        assert any(fnmatchcase(check, difference.check) for check in ids), difference.check


def test_a_documented_difference_is_known_and_any_other_counts() -> None:
    known = engine("llamacpp").known
    echo = Check("contract.completions.echo", "contract", "", "inconsistent", "")
    assert _documented(echo, known).verdict == "known" and "ignored" in (_documented(echo, known).known or "")
    stop = Check("contract.completions.stop", "contract", "", "inconsistent", "")
    assert _documented(stop, known).verdict == "inconsistent"
    fine = Check("contract.completions.echo", "contract", "", "consistent", "")
    assert _documented(fine, known) == fine
