"""Draws: inverse CDF in id order, exact at its borders, true to the law in number."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.errors import ParameterError
from refsample.sampling.pipeline import draw, draws
from refsample.sampling.rng import uniforms
from tests.sampling.laws import law

BELOW_ONE = 1.0 - 2.0**-53


def chi_square_tail(x: float, degrees: int) -> float:
    """P(chi-square of an even number of degrees > x), in closed form."""
    return math.exp(-x / 2) * sum((x / 2) ** k / math.factorial(k) for k in range(degrees // 2))


@pytest.mark.parametrize(
    ("u", "token"),
    [(0.0, 1), (0.2499, 1), (0.25, 2), (0.4999, 2), (0.5, 4), (BELOW_ONE, 4)],
)
def test_borders(u: float, token: int) -> None:
    """Ids 0, 3 and 5 have no mass: not even at u = 0, at an inner border, or just below 1."""
    probs = np.array([0.0, 0.25, 0.25, 0.0, 0.5, 0.0])
    assert draw(probs, u) == token


@pytest.mark.parametrize("u", [-1e-9, 1.0, 1.5, math.nan, math.inf])
def test_u_outside(u: float) -> None:
    with pytest.raises(ParameterError, match="u=.*must lie in"):
        draw(np.array([0.5, 0.5]), u)


def test_a_token_of_1e_9_is_drawn() -> None:
    """Not below the resolution of the generator (a 24-bit uniform would never reach it), wherever it stands."""
    for place in range(3):
        probs = np.full(3, 0.5 - 0.5e-9)
        probs[place] = 1e-9
        start = probs[:place].sum()
        inside, before, after = start + 0.5e-9, start - 1e-12, start + 1e-9 + 1e-12
        assert draw(probs, inside) == place
        assert place == 0 or draw(probs, before) == place - 1
        assert place == 2 or draw(probs, after) == place + 1


@given(
    st.lists(st.sampled_from([0.0, 1e-300, 1e-17, 1e-9, 0.1, 1.0]), min_size=1, max_size=30).filter(any),
    st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, BELOW_ONE, 2.0**-53])),
)
def test_never_outside_the_support(weights: list[float], u: float) -> None:
    probs = np.array(weights) / np.sum(weights)
    token = draw(probs, u)
    assert probs[token] > 0.0


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=20))
def test_draws_are_draw(us: list[float]) -> None:
    probs = np.array([0.1, 0.0, 0.6, 0.3])
    assert draws(probs, np.array(us)).tolist() == [draw(probs, u) for u in us]


DRAWS = 1_000_000


@cache
def million() -> NDArray[np.float64]:
    return uniforms(2026, range(DRAWS), 0)


@pytest.mark.parametrize(
    "params",
    [
        {}, {"temperature": 0.5}, {"temperature": 1.7, "top_p": 0.93}, {"min_p": 0.05, "top_k": 11},
        {"xtc_probability": 0.4, "xtc_threshold": 0.1}, {"typical_p": 0.8, "dynatemp_range": 0.4},
        {"mirostat": 2, "mirostat_tau": 1.6},
    ],
    ids=str,
)  # fmt: skip
def test_counts_follow_the_law(params: dict[str, object]) -> None:
    """Chi-square of a million seeded draws at 1e-6 each: a false alarm of any of the 7 in 140,000 choices of seeds."""
    weights = 0.8 ** np.arange(15)
    probs = law(weights / weights.sum(), **params).probs
    counts = np.bincount(draws(probs, million()), minlength=15)
    possible = probs > 0
    assert counts[~possible].sum() == 0
    expected = DRAWS * probs[possible]
    assert expected.min() > 5
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    degrees = np.count_nonzero(possible) - 1
    # An odd number of degrees is raised by one: the test only gets milder.
    assert chi_square_tail(statistic, degrees + degrees % 2) > 1e-6


def test_a_wrong_law_is_seen() -> None:
    """Two tokens in a thousand moved from one to another: the same test rejects it."""
    probs = np.full(10, 0.1)
    moved = probs + 0.002 * (np.arange(10) == 1) - 0.002 * (np.arange(10) == 0)
    counts = np.bincount(draws(moved, million()), minlength=10)
    statistic = float(((counts - DRAWS * probs) ** 2 / (DRAWS * probs)).sum())
    assert chi_square_tail(statistic, 10) < 1e-9
