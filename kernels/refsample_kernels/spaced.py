"""Sixteen elements of a matrix in the order in which they are soonest floats. It knows nothing of numba or of kernels.

Two bfloat16 numbers lie in the 32 bits of one float: the upper is one once the lower half is cleared, the lower once it
is shifted up. So where a register has eight lanes, sixteen of them are taken as every second one and those in between,
"spaced": in two steps instead of six. What they are multiplied with is laid out in the same order first, and totals
know of it: a sum's lanes are those of `lanes`, in other places. Other types, and other registers, stay in order.

`w` everywhere: a flat matrix, whose type decides. These plain functions are the definitions; `spaced_llvm` has the
machine form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.lanes import F32, Lanes, load, operation, total, widen
from refsample_kernels.strips import Strip, strip_load, strip_width

SPACED = [*range(0, 16, 2), *range(1, 16, 2)]
"""Which of sixteen elements stands in which place."""


def _spaced(w: NDArray[Any]) -> bool:
    return w.dtype == np.uint16


@operation
def line_of(w: NDArray[Any]) -> int:
    """Elements in 64 bytes, which memory sends at a time: known when a kernel is compiled, unlike `itemsize`."""
    return 64 // w.itemsize


@operation
def strip_apart(w: NDArray[Any]) -> int:
    """From a sixteen's first strip to its next: so many elements."""
    return 1 if _spaced(w) else strip_width()


@operation
def strip_from(w: NDArray[Any], i: int) -> Strip:
    """The strip that begins at w[i], widened; where it is spaced one element after its last is read too."""
    return widen(w[i : i + 16 : 2]).astype(np.float32) if _spaced(w) else strip_load(w, i)


@operation
def load_from(w: NDArray[Any], i: int) -> Lanes:
    """Elements i..i+15 in their order, widened."""
    return in_order(load(w, i), w)


@operation
def in_order(v: Lanes, w: NDArray[Any]) -> Lanes:
    """Sixteen lanes in the order that a sixteen of w has."""
    return v[SPACED] if _spaced(w) else v


@operation
def four_totals_from(held: F32, i: int, out: F32, o: int, w: NDArray[Any]) -> None:
    """`lanes.four_totals` of sums in that order."""
    for number in range(4):
        sums = held[i + 16 * number : i + 16 * number + 16]
        out[o + number] = total(sums[np.argsort(SPACED)] if _spaced(w) else sums)
