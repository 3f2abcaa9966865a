"""Sixteen floats side by side, and what can be done with them. It knows nothing of numba or of kernels.

A compiler that vectorises a sum decides itself in which order the terms are added, and decides anew wherever the loop
is inlined. Kernels here write the order down instead: a sum runs in sixteen lanes, lane l takes the terms l, l+16,
l+32, ..., in turn, and `total` folds the lanes in one fixed tree. So the bits do not depend on tile, batch, thread or
machine.

These plain functions are the definitions, on float32 arrays [16]; `lanes_llvm` holds the same operations as machine
vectors, put in their place when a kernel is compiled. Arrays are flat and C-contiguous, `i` is an index into them.
Weights in half precision are held as bit patterns: uint16 holds bfloat16, int16 holds IEEE float16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

WIDTH = 16
Lanes = NDArray[np.float32]
F32 = NDArray[np.float32]
F = TypeVar("F", bound=Callable[..., Any])
OPERATIONS: dict[Callable[..., Any], None] = {}


def operation(function: F) -> F:
    """Decorator: list a function in OPERATIONS; its machine form is put in its place when a kernel is compiled."""
    OPERATIONS[function] = None
    return function


def widen(held: NDArray[Any]) -> NDArray[Any]:
    """Values of an array that may hold bit patterns, exact: uint16 (bfloat16) and int16 (float16) become float32."""
    if held.dtype == np.uint16:
        return (held.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if held.dtype == np.int16:
        return held.view(np.float16).astype(np.float32)
    return held


@operation
def spread(value: Any) -> Lanes:
    """The same number in every lane."""
    return np.full(WIDTH, value, np.float32)


@operation
def spread_at(held: F32, i: int) -> Lanes:
    """Element i in every lane, where it is no negative index: nothing is asked about it."""
    return spread(held[i])


@operation
def load(held: NDArray[Any], i: int) -> Lanes:
    """Elements i..i+15, widened exactly."""
    return widen(held[i : i + WIDTH]).astype(np.float32)


@operation
def load_part(held: NDArray[Any], i: int, n: int) -> Lanes:
    """Elements i..i+n-1, widened, then zeros; n may be anything, memory outside is not touched."""
    out = np.zeros(WIDTH, np.float32)
    count = min(max(n, 0), WIDTH)
    out[:count] = widen(held[i : i + count])
    return out


@operation
def store(out: F32, i: int, v: Lanes) -> None:
    """Write all lanes to out[i..i+15]."""
    out[i : i + WIDTH] = v


@operation
def store_part(out: F32, i: int, n: int, v: Lanes) -> None:
    """Write the first n lanes."""
    count = min(max(n, 0), WIDTH)
    out[i : i + count] = v[:count]


@operation
def add(a: Lanes, b: Lanes) -> Lanes:
    """a + b."""
    return a + b


@operation
def sub(a: Lanes, b: Lanes) -> Lanes:
    """a - b."""
    return a - b


@operation
def mul(a: Lanes, b: Lanes) -> Lanes:
    """a * b, rounded."""
    return a * b


@operation
def div(a: Lanes, b: Lanes) -> Lanes:
    """a / b."""
    return a / b


@operation
def fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """a * b + c, rounded once (here: the product is exact in float64, the sum is rounded there first)."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


@operation
def larger(a: Lanes, b: Lanes) -> Lanes:
    """The larger of the two in each lane, b where either is NaN."""
    return np.where(a > b, a, b)


@operation
def below(a: Lanes, b: Lanes, x: Lanes, y: Lanes) -> Lanes:
    """x where a < b, y elsewhere and where either is NaN."""
    return np.where(a < b, x, y)


@operation
def first(v: Lanes, n: int, other: Lanes) -> Lanes:
    """Lanes below n from v, the rest from other."""
    return np.where(np.arange(WIDTH) < n, v, other)


@operation
def exp(v: Lanes) -> Lanes:
    """e^v to about one unit in the last place; 0 below -87.3 (-inf too), held at e^88 above 88, NaN stays NaN."""
    out = np.exp(np.clip(v, -87.3, 88.0).astype(np.float64)).astype(np.float32)
    return np.where(v < -87.3, np.float32(0), out)


@operation
def to_bf16(v: Lanes) -> Lanes:
    """Rounded to the nearest bfloat16, ties to even; infinities and NaN stay."""
    bits = v.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(v), rounded.view(np.float32), v)


@operation
def total(v: Lanes) -> np.float32:
    """Sum of the lanes: the upper half is added to the lower, four times."""
    while len(v) > 1:
        v = v[: len(v) // 2] + v[len(v) // 2 :]
    return np.float32(v[0])


@operation
def four_totals(held: F32, i: int, out: F32, o: int) -> None:
    """`total` of held[i:i+16], held[i+16:i+32] and the two after them to out[o:o+4]."""
    for number in range(4):
        out[o + number] = total(held[i + 16 * number : i + 16 * number + 16])


@operation
def largest(v: Lanes) -> np.float32:
    """The largest lane."""
    return np.float32(v.max())
