"""Kernels of the sampler at the ends of float64: absurd numbers cut nothing by accident and warn of nothing."""

from __future__ import annotations

import numpy as np
import pytest

from refsample_kernels.penalties import FARTHEST, frequency, presence, repetition
from refsample_kernels.truncate import keep_top_p, mass_beside, top_p_count

LOGITS = np.array([2.0, -1.0, 0.0, -np.inf])
EVERY = np.arange(4)
COUNTS = np.array([1, 2, 3, 2])


@pytest.mark.parametrize("penalty", [1e308, -1e308, 1e-308, 5.0, -5.0, 1.7e308, -1.7e308])
def test_penalties_leave_the_support_alone(penalty: float) -> None:
    results = [frequency(LOGITS, EVERY, COUNTS, penalty), presence(LOGITS, EVERY, penalty)]
    results.append(presence(results[0], EVERY, penalty))
    results.extend(repetition(array, EVERY, abs(penalty)) for array in (LOGITS, *results[:2]))
    for result in results:
        np.testing.assert_array_equal(np.isfinite(result), [True, True, True, False])
        assert result[3] == -np.inf and np.abs(result[:3]).max() <= FARTHEST
        assert np.isfinite(np.subtract.outer(result[:3], result[:3])).all()


def test_penalties_by_hand() -> None:
    np.testing.assert_array_equal(frequency(LOGITS, EVERY, COUNTS, 0.5), [1.5, -2.0, -1.5, -np.inf])
    np.testing.assert_array_equal(presence(LOGITS, EVERY[1:], 0.5), [2.0, -1.5, -0.5, -np.inf])
    np.testing.assert_array_equal(repetition(LOGITS, EVERY, 2.0), [1.0, -2.0, 0.0, -np.inf])
    np.testing.assert_array_equal(LOGITS, [2.0, -1.0, 0.0, -np.inf])


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("distance", [800.0, 1e300])
def test_top_p_of_a_base_far_above_keeps_everything(size: int, distance: float) -> None:
    """A joint base may hold a token that was cut and then raised: what is left has no mass worth the name."""
    logits = np.linspace(0.0, -1.0, size)
    whole = mass_beside(np.array([distance, *logits]), 0.0)
    assert top_p_count(logits, 0.5, "ge", whole) == size
    assert keep_top_p(logits, 0.5, "ge", "low_id", whole=whole).all()


def test_mass_beside() -> None:
    assert mass_beside(np.array([7.0, 7.0, 7.0]), 7.0) == 3.0
    assert mass_beside(np.array([3e20] * 7), 3e20) == 7.0
    assert 0.0 < mass_beside(np.array([-600.0]), 0.0) < mass_beside(np.full(9, 1e9), 0.0) < np.finfo(np.float64).max
