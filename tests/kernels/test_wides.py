"""The machine form of the float64 operations against their plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample_kernels import jit, wides
from refsample_kernels.lanes import load, spread, store
from refsample_kernels.wides import add_wide, at_least, exp_from, exp_over, greater, keep_nan, no_wide, total_wide

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]


def _exps(values: F32, temperature: float, peak: float, out: Floats) -> None:
    """e^(v - peak) and e^(v / T - peak): sixteen equal ones add up exactly."""
    for i in range(values.size):
        out[i, 0] = total_wide(add_wide(no_wide(), exp_from(spread(values[i]), peak))) / 16.0
        out[i, 1] = total_wide(exp_over(spread(values[i]), temperature, peak)) / 16.0


def _looks(values: F32, x: float, counts: NDArray[np.int64], kept: F32) -> None:
    counts[0], counts[1] = greater(load(values, 0), np.float32(x)), at_least(load(values, 0), np.float32(x))
    store(kept, 0, keep_nan(load(values, 0), spread(np.float32(7))))


exps = jit.Kernel(_exps, _exps, None, None, None)
looks = jit.Kernel(_looks, _looks, None, None, None)


@pytest.mark.parametrize("peak", [0.0, 3.25, 88.0])
def test_exponentials_are_good_to_an_ulp(peak: float) -> None:
    values = np.linspace(-600.0, peak, 300 if jit.jit_disabled() else 30_000).astype(np.float32)
    got = np.zeros((values.size, 2))
    exps(values, 1.7, peak, got)
    for v, one, other in zip(values.tolist(), *got.T.tolist(), strict=True):
        assert abs(one / math.exp(v - peak) - 1.0) < 4e-16
        assert v / 1.7 > peak or abs(other / math.exp(v / 1.7 - peak) - 1.0) < 4e-16


def test_far_below_stands_the_smallest() -> None:
    values, got = np.array([-np.inf, -3e38, -709.0], dtype=np.float32), np.zeros((3, 2))
    exps(values, 1.0, 0.0, got)
    np.testing.assert_allclose(got, np.exp(wides.LOWEST), rtol=1e-12)


def test_sums_are_a_fixed_tree() -> None:
    """The upper half is added to the lower: two ones that meet before 2^53 are seen, one alone is lost."""
    assert wides.total_wide(np.array([2.0**53, 1.0, *[0.0] * 14])) == 2.0**53
    assert wides.total_wide(np.array([2.0**53, 1.0, *[0.0] * 7, 1.0, *[0.0] * 6])) == 2.0**53 + 2.0
    assert wides.total_wide(np.array([0.0, 1.0, *[0.0] * 7, 1.0, *[0.0] * 6])) == 2.0


@pytest.mark.parametrize("x", [-np.inf, 0.0, 2.0, np.inf])
def test_looks(x: float) -> None:
    values = np.array([0, 1, 2, 3, -np.inf, np.inf, np.nan, -0.0, 2, 2, 5, -7, 1e-45, 3e38, -3e38, 0.5], np.float32)
    (got, kept), (want, wanted) = [(np.zeros(2, np.int64), np.zeros(16, np.float32)) for _ in range(2)]
    looks(values, x, got, kept)
    _looks(values, x, want, wanted)
    assert got.tolist() == want.tolist() == [np.count_nonzero(values > x), np.count_nonzero(values >= x)]
    np.testing.assert_array_equal(kept, wanted)
    assert np.isnan(kept[6]) and (np.delete(kept, 6) == 7).all()
