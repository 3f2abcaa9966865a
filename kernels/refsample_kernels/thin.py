"""Few rows through a matrix as it lies, one row of it after another: its memory is the limit. Helpers of kernels.

Each element is summed in the sixteen lanes of `lanes`, so it has the bits that it has in the tiles of `tiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import fma, load, load_part, spread, total
from refsample_kernels.strips import prefetch

Floats = NDArray[Any]
FEW = 8
"""More rows are worth packing."""
STRETCH = 16
"""Rows of a matrix that a thread takes at a time."""
AHEAD = 1024
"""Bytes of the matrix that are asked of memory before they are needed: what a processor does by itself ends at every
page."""


@helper
def thin(x: Floats, rows: int, width: int, w: NDArray[Any], bias: Floats, m: int, out: Floats, columns: int) -> None:
    """Column m of out [rows, columns]: x [rows, width] times row m of w [columns, width], and bias[m] unless bias is
    [0]; arrays are flat."""
    j = m * width
    for n in range(0, rows - rows % 4, 4):
        _four(x, n * width, w, j, width, out, n * columns + m, columns)
    n = rows - rows % 4
    if rows % 4 > 1:
        _two(x, n * width, w, j, width, out, n * columns + m, columns)
    if rows % 2:
        out[(rows - 1) * columns + m] = _one(x, (rows - 1) * width, w, j, width)
    if bias.shape[0]:
        for n in range(rows):
            out[n * columns + m] += bias[m]


@helper
def _one(x: Floats, i: int, w: NDArray[Any], j: int, width: int) -> Any:
    sums, ahead = spread(np.float32(0)), j + AHEAD // w.itemsize
    for k in range(0, width - 31, 32):
        prefetch(w, ahead + k)
        sums = fma(load(w, j + k), load(x, i + k), sums)
        sums = fma(load(w, j + k + 16), load(x, i + k + 16), sums)
    for k in range(width - width % 32, width, 16):
        sums = fma(load_part(w, j + k, width - k), load_part(x, i + k, width - k), sums)
    return total(sums)


@helper
def _two(x: Floats, i: int, w: NDArray[Any], j: int, width: int, out: Floats, o: int, step: int) -> None:
    a = b = spread(np.float32(0))
    ahead = j + AHEAD // w.itemsize
    for k in range(0, width - 15, 16):
        prefetch(w, ahead + k)
        v = load(w, j + k)
        a, b = fma(v, load(x, i + k), a), fma(v, load(x, i + width + k), b)
    rest = width % 16
    if rest:
        k = width - rest
        v = load_part(w, j + k, rest)
        a, b = fma(v, load_part(x, i + k, rest), a), fma(v, load_part(x, i + width + k, rest), b)
    out[o], out[o + step] = total(a), total(b)


@helper
def _four(x: Floats, i: int, w: NDArray[Any], j: int, width: int, out: Floats, o: int, step: int) -> None:
    a = b = c = d = spread(np.float32(0))
    ahead = j + AHEAD // w.itemsize
    for k in range(0, width - 15, 16):
        prefetch(w, ahead + k)
        v = load(w, j + k)
        a, b = fma(v, load(x, i + k), a), fma(v, load(x, i + width + k), b)
        c, d = fma(v, load(x, i + 2 * width + k), c), fma(v, load(x, i + 3 * width + k), d)
    rest = width % 16
    if rest:
        k = width - rest
        v = load_part(w, j + k, rest)
        a, b = fma(v, load_part(x, i + k, rest), a), fma(v, load_part(x, i + width + k, rest), b)
        c, d = fma(v, load_part(x, i + 2 * width + k, rest), c), fma(v, load_part(x, i + 3 * width + k, rest), d)
    out[o], out[o + step], out[o + 2 * step], out[o + 3 * step] = total(a), total(b), total(c), total(d)
