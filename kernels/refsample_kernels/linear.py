"""Matrix product with a weight in the type of its file: out = x W^T + b. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper, kernel, prange
from refsample_kernels.lanes import fma, load, load_part, spread, total, widen
from refsample_kernels.strips import prefetch
from refsample_kernels.tiles import DEPTH, HIGH, PANEL, SLAB, SLABS, pack_rows, panel, whole

Floats = NDArray[Any]
FEW = 8
"""Up to so many rows go through the weights as they lie, row by row; more are worth packing (see `tiles`)."""
BLOCK = 64
"""Columns that a thread takes at a time where rows are few."""
AHEAD = 1024
"""Bytes of the weights that are asked of memory before they are needed: what a processor does by itself ends at every
page."""


def define_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """out[n, m] = sum_c x[n, c] weight[m, c] + bias[m]; x [N, C], weight [M, C], bias [M] or [0] for none, out [N, M].

    weight is float32, uint16 (bfloat16 bits) or int16 (float16 bits). A weight whose rows are longer than x is an error
    of the caller.
    """
    product = x.astype(np.float64) @ widen(weight).astype(np.float64).T  # [N, M]
    out[...] = product + bias if bias.size else product


def _small(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> bool:
    return bool(x.shape[0] * weight.size < 200_000)  # a serial run of some 15 us


@kernel(define_linear, parallel=True, small=_small)
def linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """See `define_linear`; each element is summed in sixteen lanes along C, whatever stands beside it."""
    rows, width = x.shape
    columns = weight.shape[0]
    flat_x, flat_w, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
    if rows <= FEW:
        for turn in prange((columns + BLOCK - 1) // BLOCK):
            for m in range(turn * BLOCK, min(columns, turn * BLOCK + BLOCK)):
                for n in range(0, rows - rows % 4, 4):
                    _four(flat_x, n * width, flat_w, m * width, width, out, n, m)
                if rows % 4 > 1:
                    _two(flat_x, (rows - rows % 4) * width, flat_w, m * width, width, out, rows - rows % 4, m)
                if rows % 2:
                    out[rows - 1, m] = _one(flat_x, (rows - 1) * width, flat_w, m * width, width)
                if bias.shape[0]:
                    for n in range(rows):
                        out[n, m] += bias[m]
    else:
        slabs = (rows + SLAB - 1) // SLAB
        high = whole((rows + slabs - 1) // slabs, HIGH)  # rows of a slab
        packed = np.empty(slabs * high * whole(width, 16), np.float32)
        for n in prange(slabs * high):
            pack_rows(flat_x, n, rows, width, high, packed)
        each = SLABS if width <= DEPTH else 1
        panels = (columns + PANEL - 1) // PANEL
        for turn in prange((slabs + each - 1) // each * panels):
            first, left = turn // panels * each, turn % panels * PANEL
            last, right = min(slabs, first + each), min(columns, left + PANEL)
            panel(packed, first, last, high, rows, flat_w, left, right, width, flat_out, columns)
            if bias.shape[0]:
                for n in range(first * high, min(rows, last * high)):
                    for m in range(left, right):
                        out[n, m] += bias[m]


@helper
def _one(x: Floats, i: int, w: NDArray[Any], j: int, width: int) -> Any:
    sums = spread(np.float32(0))
    for k in range(0, width - 31, 32):
        prefetch(w, j + k + AHEAD // w.itemsize)
        sums = fma(load(w, j + k), load(x, i + k), sums)
        sums = fma(load(w, j + k + 16), load(x, i + k + 16), sums)
    for k in range(width - width % 32, width, 16):
        sums = fma(load_part(w, j + k, width - k), load_part(x, i + k, width - k), sums)
    return total(sums)


@helper
def _two(x: Floats, i: int, w: NDArray[Any], j: int, width: int, out: Floats, n: int, m: int) -> None:
    a = b = spread(np.float32(0))
    for k in range(0, width - 15, 16):
        prefetch(w, j + k + AHEAD // w.itemsize)
        v = load(w, j + k)
        a, b = fma(v, load(x, i + k), a), fma(v, load(x, i + width + k), b)
    rest = width % 16
    if rest:
        k = width - rest
        v = load_part(w, j + k, rest)
        a, b = fma(v, load_part(x, i + k, rest), a), fma(v, load_part(x, i + width + k, rest), b)
    out[n, m], out[n + 1, m] = total(a), total(b)


@helper
def _four(x: Floats, i: int, w: NDArray[Any], j: int, width: int, out: Floats, n: int, m: int) -> None:
    a = b = c = d = spread(np.float32(0))
    for k in range(0, width - 15, 16):
        prefetch(w, j + k + AHEAD // w.itemsize)
        v = load(w, j + k)
        a, b = fma(v, load(x, i + k), a), fma(v, load(x, i + width + k), b)
        c, d = fma(v, load(x, i + 2 * width + k), c), fma(v, load(x, i + 3 * width + k), d)
    rest = width % 16
    if rest:
        k = width - rest
        v = load_part(w, j + k, rest)
        a, b = fma(v, load_part(x, i + k, rest), a), fma(v, load_part(x, i + width + k, rest), b)
        c, d = fma(v, load_part(x, i + 2 * width + k, rest), c), fma(v, load_part(x, i + 3 * width + k, rest), d)
    out[n, m], out[n + 1, m], out[n + 2, m], out[n + 3, m] = total(a), total(b), total(c), total(d)
