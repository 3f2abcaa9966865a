"""Sixteen float64 side by side: exponentials of float32 lanes, for sums that a float32 would spoil. No numba here.

As in `lanes`, the order of every sum is written down and nothing comes from a C library, so the bits are the same on
every machine. These plain functions are the definitions; `wides_llvm` holds the machine form. Nothing here raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.lanes import WIDTH, Lanes, operation

Wides = NDArray[np.float64]

LOWEST = -708.0
"""e^-708 is about the smallest normal float64: it stands for everything below, e^-inf too, and no sum sees it."""


@operation
def no_wide() -> Wides:
    """Zeros."""
    return np.zeros(WIDTH)


@operation
def exp_from(v: Lanes, peak: float) -> Wides:
    """e^(v - peak) to about one unit in the last place, of differences up to 0; never below e^-708."""
    return _exp(v.astype(np.float64) - peak)


@operation
def exp_over(v: Lanes, temperature: float, peak: float) -> Wides:
    """e^(v / temperature - peak), as `exp_from`."""
    return _exp(v.astype(np.float64) / temperature - peak)


@operation
def add_wide(a: Wides, b: Wides) -> Wides:
    """a + b."""
    return a + b


@operation
def store_wide(out: NDArray[np.float64], i: int, w: Wides) -> None:
    """Write all of them to out[i..i+15]."""
    out[i : i + WIDTH] = w


@operation
def total_wide(w: Wides) -> float:
    """Sum of all: the upper half is added to the lower, four times."""
    while len(w) > 1:
        w = w[: len(w) // 2] + w[len(w) // 2 :]
    return float(w[0])


@operation
def greater(v: Lanes, x: Any) -> int:
    """How many lanes are greater than the float32 x."""
    return int(np.count_nonzero(v > x))


@operation
def at_least(v: Lanes, x: Any) -> int:
    """How many lanes are greater than the float32 x, or equal to it."""
    return int(np.count_nonzero(v >= x))


@operation
def only_above(v: Lanes, x: Any) -> Lanes:
    """v where it is greater than the float32 x, elsewhere -inf."""
    return np.where(v > x, v, np.float32(-np.inf))


@operation
def from_least(v: Lanes, x: Any) -> Lanes:
    """v where it is greater than the float32 x or equal to it, elsewhere -inf."""
    return np.where(v >= x, v, np.float32(-np.inf))


@operation
def keep_nan(v: Lanes, other: Lanes) -> Lanes:
    """v where it is NaN, elsewhere other."""
    return np.where(np.isnan(v), v, other)


def _exp(x: Wides) -> Wides:
    return np.exp(np.maximum(x, LOWEST))
