"""Few rows through a matrix as it lies, one row of it after another: its memory is the limit. Helpers of kernels.

Each element is summed in the sixteen lanes of `lanes`, so it has the bits that it has in the tiles of `tiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import fma, four_totals, load, load_part, spread, store, total
from refsample_kernels.strips import prefetch

Floats = NDArray[Any]
FEW = 12
"""More rows are worth packing."""
PORTION = 32768
"""Bytes of a matrix that a thread takes at a time, about."""
AHEAD = 1024
"""Bytes of the matrix that are asked of memory before they are needed: what a processor does by itself ends at every
page."""


@helper
def portion(width: int, item: int) -> int:
    """How many rows of a matrix a thread takes at a time, of `width` elements of so many bytes."""
    return max(1, PORTION // (16 * width * item)) * 16


@helper
def thin(
    x: Floats, rows: int, width: int, w: NDArray[Any], bias: Floats, left: int, right: int, out: Floats, columns: int
) -> None:
    """Columns left..right-1 of out [rows, columns]: x [rows, width] times those rows of w [columns, width], and their
    bias unless it is [0]; arrays are flat."""
    m = left
    if rows == 1:
        sums = np.empty(4 * 16, np.float32)
        while m + 4 <= right:
            _across(x, w, m * width, width, out, m, sums)
            m += 4
    while m < right:
        for n in range(0, rows - rows % 4, 4):
            _four_rows(x, n * width, w, m * width, width, out, n * columns + m, columns)
        n = rows - rows % 4
        if rows % 4 > 1:
            _two_rows(x, n * width, w, m * width, width, out, n * columns + m, columns)
        if rows % 2:
            out[(rows - 1) * columns + m] = _one_row(x, (rows - 1) * width, w, m * width, width)
        m += 1
    if bias.shape[0]:
        for n in range(rows):
            for m in range(left, right):
                out[n * columns + m] += bias[m]


@helper
def _across(x: Floats, w: NDArray[Any], j: int, width: int, out: Floats, o: int, sums: Floats) -> None:
    """x [width] times four rows of w: while one sum waits for its last product the others go on. The next four rows are
    asked of memory meanwhile, in the order in which they lie."""
    a = b = c = d = spread(np.float32(0))
    ahead = j + 4 * width
    for k in range(0, width - 15, 16):
        prefetch(w, ahead + 4 * k)
        prefetch(w, ahead + 4 * k + 32)
        if w.itemsize == 4:
            prefetch(w, ahead + 4 * k + 16)
            prefetch(w, ahead + 4 * k + 48)
        v = load(x, k)
        a, b = fma(load(w, j + k), v, a), fma(load(w, j + width + k), v, b)
        c, d = fma(load(w, j + 2 * width + k), v, c), fma(load(w, j + 3 * width + k), v, d)
    rest = width % 16
    if rest:
        k = width - rest
        v = load_part(x, k, rest)
        a, b = fma(load_part(w, j + k, rest), v, a), fma(load_part(w, j + width + k, rest), v, b)
        c, d = fma(load_part(w, j + 2 * width + k, rest), v, c), fma(load_part(w, j + 3 * width + k, rest), v, d)
    store(sums, 0, a)
    store(sums, 16, b)
    store(sums, 32, c)
    store(sums, 48, d)
    four_totals(sums, 0, out, o)


@helper
def _one_row(x: Floats, i: int, w: NDArray[Any], j: int, width: int) -> Any:
    sums, ahead = spread(np.float32(0)), j + AHEAD // w.itemsize
    for k in range(0, width - 15, 16):
        prefetch(w, ahead + k)
        sums = fma(load(w, j + k), load(x, i + k), sums)
    rest = width % 16
    if rest:
        k = width - rest
        sums = fma(load_part(w, j + k, rest), load_part(x, i + k, rest), sums)
    return total(sums)


@helper
def _two_rows(x: Floats, i: int, w: NDArray[Any], j: int, width: int, out: Floats, o: int, step: int) -> None:
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
def _four_rows(x: Floats, i: int, w: NDArray[Any], j: int, width: int, out: Floats, o: int, step: int) -> None:
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
