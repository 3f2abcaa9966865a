"""One machine register of the sixteen lanes: what keeps a matrix product's sums in registers. No numba here.

Lanes are independent until `total` folds them, so a product may run through the first lanes of its sums, then through
the next: the bits are those of all sixteen together. A strip has 16 lanes with AVX-512, 4 on ARM, else 8.
These plain functions are the definitions; `strips_llvm` holds the machine form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.lanes import F32, operation, widen

Strip = NDArray[np.float32]
_PLAIN = 8


@operation
def strip_width() -> int:
    """How many lanes a strip has: a divisor of sixteen."""
    return _PLAIN


@operation
def strip_load(held: NDArray[Any], i: int) -> Strip:
    """Elements from i on, widened exactly."""
    return widen(held[i : i + _PLAIN]).astype(np.float32)


@operation
def strip_load_part(held: NDArray[Any], i: int, n: int) -> Strip:
    """The first n of them, then zeros; n may be anything, memory outside is not touched."""
    out = np.zeros(_PLAIN, np.float32)
    count = min(max(n, 0), _PLAIN)
    out[:count] = widen(held[i : i + count])
    return out


@operation
def strip_store(out: F32, i: int, v: Strip) -> None:
    """Write all lanes from out[i] on."""
    out[i : i + _PLAIN] = v


@operation
def strip_fma(a: Strip, b: Strip, c: Strip) -> Strip:
    """a * b + c, rounded as `lanes.fma`."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


@operation
def prefetch(held: NDArray[Any], i: int) -> None:
    """Ask for the memory of element i, which may lie beyond the array."""


@operation
def prefetch_later(held: NDArray[Any], i: int) -> None:
    """`prefetch` of what is needed so late that the nearest cache would lose it: the second one keeps it."""
