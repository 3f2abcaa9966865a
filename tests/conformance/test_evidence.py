"""Likelihood evidence: hand-worked figures, and the false-alarm rate that the thresholds promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.conformance.evidence import (
    CAP,
    MIX,
    Evidence,
    Tally,
    bet,
    flip_gain,
    flip_probability,
    hedge,
    log_e_value,
    log_mean_exp,
    posterior,
    residual_gain,
    total_gains,
)


@pytest.mark.parametrize(
    ("q", "p", "factor"),
    [(0.5, 0.5, 1.0), (0.0, 0.5, 0.02), (1.0, 0.5, 0.98 * 2 + 0.02), (0.2, 0.1, 0.98 * 2 + 0.02)],
)
def test_bet_is_the_mixed_likelihood_ratio(q: float, p: float, factor: float) -> None:
    assert bet(q, p) == pytest.approx(math.log(factor), abs=1e-12)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6), st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6))
def test_a_bet_is_fair_under_the_honest_law(p: list[float], q: list[float]) -> None:
    honest = np.array(p) / sum(p)
    other = np.array(q[: len(p)]) + 1e-3
    other /= other.sum()
    expected = sum(a * math.exp(bet(b, a)) for a, b in zip(honest, other, strict=True))
    assert expected == pytest.approx(1.0, abs=1e-9)


def test_log_mean_exp_does_not_overflow() -> None:
    assert log_mean_exp([1000.0, 1000.0]) == pytest.approx(1000.0)
    assert log_mean_exp([0.0, math.log(3.0)]) == pytest.approx(math.log(2.0))


def test_a_hedge_loses_at_most_half() -> None:
    assert hedge(-1e6) == pytest.approx(-math.log(2.0))
    assert hedge(0.0) == pytest.approx(0.0)
    assert hedge(100.0) == pytest.approx(100.0 - math.log(2.0))


def test_gains_are_reduced_by_the_best_honest_configuration() -> None:
    parts = [Evidence({"top_k_ignored": 5.0}, {"bf16": 2.0}), Evidence({"top_k_ignored": 3.0}, {"bf16": -1.0})]
    assert total_gains(parts) == {"top_k_ignored": 5.0 + 3.0 - 1.0}
    assert total_gains([Evidence({"top_k_ignored": 5.0}, {"bf16": -2.0})]) == {"top_k_ignored": 5.0}


def test_unknown_recipes_are_hedged_part_by_part() -> None:
    parts = [Evidence({"weights_int4": 40.0}), Evidence({"weights_int4": -200.0})]
    assert total_gains(parts)["weights_int4"] == pytest.approx(40.0 - 2 * math.log(2.0))
    assert total_gains(parts, hedged=False)["weights_int4"] == pytest.approx(-160.0)


def test_e_value_is_the_average_and_the_posterior_names_the_best() -> None:
    part = Evidence({"a": math.log(8.0), "b": math.log(2.0)})
    assert math.exp(log_e_value([part])) == pytest.approx(5.0)
    ranked = posterior([part])
    assert [name for name, _ in ranked] == ["a", "b", "none"]
    assert [share for _, share in ranked] == pytest.approx([8 / 11, 2 / 11, 1 / 11])


def test_no_evidence_decides_nothing() -> None:
    assert log_e_value([]) == 0.0
    assert posterior([]) == [("none", 1.0)]


def test_a_tally_knows_when_it_would_have_decided() -> None:
    tally = Tally(["fault"], [], math.log(100.0))
    for _ in range(10):
        tally.add({"fault": math.log(2.0)}, {})
    assert tally.evidence().decided_after == 7  # 2^7 = 128 is the first power of two over 100
    proof = Tally(["fault"], [], math.log(100.0))
    proof.add({"fault": 0.0}, {}, "outside the support")
    assert proof.evidence().decided_after == 1
    assert Tally(["fault"], [], 1.0).evidence().decided_after is None


def test_flip_probability_is_the_normal_tail() -> None:
    # Q(1.96) = 0.025: two logits with error sigma differ with error sqrt(2) sigma.
    assert flip_probability(1.959964 * math.sqrt(2.0) * 0.1, 0.1) == pytest.approx(0.025, rel=1e-4)
    assert flip_probability(0.0, 0.1) == pytest.approx(0.5)
    assert flip_probability(50.0, 0.1) > 0.0


@given(st.floats(0.0, 20.0), st.floats(1e-3, 1.0), st.floats(1e-3, 4.0))
def test_gains_of_magnitude_tests_are_capped_and_fair(margin: float, base: float, sigma: float) -> None:
    up, down = flip_gain(True, margin, sigma, base), flip_gain(False, margin, sigma, base)
    assert -CAP <= down <= CAP and -CAP <= up <= CAP
    p = flip_probability(margin, base)
    assert p * math.exp(up) + (1 - p) * math.exp(down) <= 1.0 + 1e-6 or up == -CAP or down == -CAP


def test_a_residual_is_held_against_its_error_bar() -> None:
    assert residual_gain(0.0, 0.1, 0.0, 0.1) == 0.0
    # thirty times the honest error, once that of the fault: ln(.01/.3) + 2.5 (ln(1 + 900/4) - ln(1 + 1/4))
    assert residual_gain(0.3, 0.3, 0.3, 0.01) == pytest.approx(-3.4012 + 2.5 * (5.4205 - 0.2231), abs=1e-3)
    assert residual_gain(0.0, 0.3, 0.0, 0.01) == pytest.approx(math.log(0.01 / 0.3))


def test_false_alarms_stay_at_the_stated_rate() -> None:
    """2,000 honest runs of 300 draws, looked at after every draw: P(e ever reaches 100) <= 0.01 by Ville.

    The count is binomial with p <= .01: more than 36 alarms have a chance below 1e-3 under that bound.
    """
    rng = np.random.default_rng(7)
    p = np.array([0.4, 0.3, 0.2, 0.1])
    others = [np.array([0.55, 0.25, 0.15, 0.05]), np.array([0.3, 0.3, 0.2, 0.2]), np.array([0.5, 0.5, 0.0, 0.0])]
    factors = np.stack([np.log((1 - MIX) * q / p + MIX) for q in others])  # [J, V]
    draws = rng.choice(4, size=(2000, 300), p=p)
    paths = factors[:, draws].cumsum(axis=-1)  # [J, runs, draws]
    e = np.exp(paths).mean(axis=0).max(axis=-1)
    assert int((e >= 100.0).sum()) <= 36
    served = rng.choice(4, size=(200, 300), p=others[0])
    found = np.exp(factors[:, served].cumsum(axis=-1)).mean(axis=0).max(axis=-1) >= 100.0
    assert found.mean() > 0.9
