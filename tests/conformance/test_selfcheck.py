"""The filters on an endpoint's own logprobs: hand-worked tokens, and values that are no logprobs at all."""

import pytest

from refsample.conformance.selfcheck import FILTERS
from refsample.conformance.transcript import Reported, ReportedToken

RULES = {rule.name: rule for rule in FILTERS}


def token(own: float | None, *top: float | None) -> ReportedToken:
    return ReportedToken(Reported("a", None, own), tuple(Reported("b", None, value) for value in top))


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("top_k", token(-3.0, -1.0, -2.0, -3.0), token(-4.0, -1.0, -2.0, -3.0)),
        ("top_p", token(-1.5, -1.5, -2.0), token(-2.0, -1.0, -2.0)),
        ("min_p", token(-1.6, -1.0), token(-1.8, -1.0)),
    ],
)
def test_a_token_outside_the_filter_is_told(name: str, inside: ReportedToken, outside: ReportedToken) -> None:
    assert RULES[name].outside(inside) is None
    assert RULES[name].outside(outside)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("own", [1000.0, 1e308, 0.0])
def test_logprobs_far_above_zero_are_held_at_zero(name: str, own: float) -> None:
    assert RULES[name].outside(token(own, 1000.0, 1e308, 1000.0)) is None


def test_values_above_zero_do_not_hide_a_token_outside() -> None:
    found = [rule.outside(token(-1000.0, 1000.0, 1000.0, 1000.0)) for rule in FILTERS]
    assert found == [
        "rank over 3: -1000.000 below 0.000",
        "mass 3.000 lies above it, top_p was 0.3",
        "0.000 of the largest probability, min_p was 0.5",
    ]
