"""Few rows through a matrix as it lies: of one row its memory is the limit, of many the sums. Helpers of kernels.

Each element is summed in the sixteen lanes of `lanes`, so it has the bits that it has in the tiles of `tiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import fma, load, load_part, spread, store
from refsample_kernels.shelves import SHELF, shelf, sums_of
from refsample_kernels.spaced import four_totals_from, in_order, line_of, load_from
from refsample_kernels.strips import prefetch
from refsample_kernels.tiles import ACROSS, HIGH, whole

Floats = NDArray[Any]
FEW = 48
"""Of more rows it pays to lay out the matrix too."""
LONG = 8192
"""Bytes of a row that processors fetch ahead well enough by themselves."""
PORTION = 32768
"""Bytes of a matrix that a thread takes at a time, about."""


@helper
def portion(width: int, item: int) -> int:
    """How many rows of a matrix a thread takes at a time, of `width` elements of so many bytes."""
    return max(1, PORTION // (SHELF * width * item)) * SHELF


@helper
def in_tiles(rows: int) -> int:
    """How many rows they are in whole tiles; one row is none."""
    return whole(rows, HIGH) if rows > 1 else 0


@helper
def room_of(rows: int, width: int) -> int:
    """So many floats are `rows` when they are laid out."""
    return max(rows, in_tiles(rows)) * whole(width, 16)


@helper
def lay(x: Floats, rows: int, width: int, w: NDArray[Any], laid: Floats) -> None:
    """x [rows, width] in the order of w's sixteens: where there are several, three rows take turns. Zeros beyond a row,
    and for the rows that its tile lacks."""
    wide, padded = whole(width, 16), in_tiles(rows)
    step = 16 * HIGH if padded else 16
    for n in range(max(rows, padded)):
        o, size = n // HIGH * HIGH * wide + n % HIGH * 16, width if n < rows else 0
        for k in range(0, wide, 16):
            v = load(x, n * width + k) if k + 16 <= size else load_part(x, n * width + k, size - k)
            store(laid, o + k // 16 * step, in_order(v, w))


@helper
def thin(
    laid: Floats, rows: int, width: int, w: NDArray[Any], bias: Floats, left: int, right: int, out: Floats,
    columns: int,
) -> None:  # fmt: skip
    """Columns left..right-1 of out [rows, columns]: the rows of `lay` times those of w [columns, width], and their bias
    unless it is [0]; arrays are flat."""
    wide, several = whole(width, 16), in_tiles(rows) > 0
    sums = np.empty(sums_of(rows, width, w.itemsize), np.float32)
    for first in range(left, right, SHELF):
        last = min(right, first + SHELF)
        fours = last - (last - first) % ACROSS
        if several:
            shelf(laid, rows, wide, w, first, fours, width, out, columns, sums)
        for left_over in range(fours if several else first, last, ACROSS):  # the one call of `_across`: it is inlined
            found = min(ACROSS, last - left_over)
            for n in range(rows):
                i, step = n // HIGH * HIGH * wide + n % HIGH * 16, 16 * HIGH if several else 16
                _across(laid, i, step, w, left_over * width, width, found, sums)
                for m in range(found):
                    out[n * columns + left_over + m] = sums[16 * ACROSS + m]
    if bias.shape[0]:
        for n in range(rows):
            for m in range(left, right):
                out[n * columns + m] += bias[m]


@helper
def _across(laid: Floats, i: int, step: int, w: NDArray[Any], j: int, width: int, rows: int, sums: Floats) -> None:
    """A row whose sixteens lie `step` apart times four rows of w, of which `rows` are there (else the last again):
    while one sum waits for its last product the others go on. The next four are asked of memory meanwhile, in the order
    in which they lie, unless rows are long. Four totals come behind the sums."""
    a = b = c = d = spread(np.float32(0))
    f, g, h = j + min(1, rows - 1) * width, j + min(2, rows - 1) * width, j + (rows - 1) * width
    ahead, hop = j + ACROSS * width, 16 * ACROSS if width * w.itemsize <= LONG else 0
    for k in range(0, width - 15, 16):
        for line in range(0, 16 * ACROSS, line_of(w)):
            prefetch(w, ahead + line)
        ahead += hop
        v = load(laid, i)
        a, b = fma(load_from(w, j + k), v, a), fma(load_from(w, f + k), v, b)
        c, d = fma(load_from(w, g + k), v, c), fma(load_from(w, h + k), v, d)
        i += step
    store(sums, 0, a)
    store(sums, 16, b)
    store(sums, 32, c)
    store(sums, 48, d)
    if width % 16:
        for s, start in ((0, j), (16, f), (32, g), (48, h)):
            _last(laid, i, w, start, width, sums, s)
    four_totals_from(sums, 0, sums, 16 * ACROSS, w)


@helper
def _last(laid: Floats, i: int, w: NDArray[Any], j: int, width: int, sums: Floats, s: int) -> None:
    """What is left of a row behind its whole sixteens, onto its sums; it is seldom needed, and apart from `_across`, so
    that that is inlined."""
    rest = width % 16
    v = in_order(load_part(w, j + width - rest, rest), w)
    store(sums, s, fma(v, load(laid, i), load(sums, s)))
