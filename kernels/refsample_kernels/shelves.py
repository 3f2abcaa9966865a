"""Rows through a few rows of a matrix as it lies: tiles of 3 x 4 sums that stay in registers. Helpers of `thin`.

The matrix is not laid out anew, which would cost more than it saves where rows are few. A shelf is so many rows of it
that the nearest cache holds a stretch of them, while all rows of x go past three by three. Sums are those of `tiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import fma, load, load_part, spread, store
from refsample_kernels.spaced import four_totals_from, in_order, line_of, load_from, strip_apart, strip_from
from refsample_kernels.strips import prefetch, strip_fma, strip_load, strip_store, strip_width, strip_zero
from refsample_kernels.tiles import ACROSS, HIGH, TILE, put_sums, sums_at, whole

Floats = NDArray[Any]
SHELF = 8
"""Rows of the matrix that are read together: a multiple of twice ACROSS, which `thin` wants of one row's portions."""
STRETCH = 1280
"""Bytes of such a row that are read together, about."""


@helper
def stretch_of(width: int, item: int) -> int:
    """Elements of a row that are read together: stretches are few, and about equal."""
    parts = (width * item + STRETCH - 1) // STRETCH
    return whole((width + parts - 1) // parts, 16)


@helper
def sums_of(rows: int, width: int, item: int) -> int:
    """So many sums of `rows` wait in memory for a shelf's next stretch, and sixteen elements behind them."""
    return (TILE if stretch_of(width, item) >= width else whole(rows, HIGH) * SHELF * 16) + 16


@helper
def shelf(
    laid: Floats, rows: int, wide: int, w: NDArray[Any], left: int, right: int, width: int, out: Floats, columns: int,
    sums: Floats,
) -> None:  # fmt: skip
    """Columns left..right-1 of out [rows, columns], at most SHELF and a multiple of ACROSS: rows laid out (`thin.lay`)
    times those rows of w. The next shelf is asked of memory meanwhile."""
    stretch, apart, tiles = stretch_of(width, w.itemsize), strip_apart(w), (rows + HIGH - 1) // HIGH
    hop = (ACROSS * strip_width() + tiles - 1) // tiles  # each three rows ask for their share
    for begin in range(0, width, stretch):
        count = min(stretch, width - begin)
        for n in range(0, rows, HIGH):
            i = n * wide + HIGH * begin
            for m in range(left, right, ACROSS):
                s = 0 if stretch >= width else (n * SHELF + HIGH * (m - left)) * 16
                j, ahead = m * width + begin, (m + SHELF) * width + ACROSS * begin
                steps, part = count // 16, count % 16
                if part == 0 and apart < strip_width() and j + 3 * width + count >= w.size:  # see `strip_from`
                    steps, part = steps - 1, 16
                ahead += n // HIGH * hop * steps * (16 // strip_width())
                if rows - n == 1:
                    _one_row(laid, i, w, j, width, steps, sums, s, begin == 0, ahead, 16 // strip_width() * hop)
                # the call of `_strip` stands once, not in an else of its own for each strip: it is inlined
                for lane in range(0, 16 if rows - n > 1 else 0, strip_width()):
                    at = j + lane // strip_width() * apart
                    _strip(laid, i + lane, w, at, width, steps, sums, s + lane, begin == 0, ahead, hop)
                    ahead += hop * steps
                if part > 0:
                    _rest(laid, i + 16 * HIGH * steps, min(HIGH, rows - n), w, j + 16 * steps, width, part, sums, s)
                if begin + count == width:
                    for row in range(min(HIGH, rows - n)):
                        four_totals_from(sums, s + 16 * ACROSS * row, out, (n + row) * columns + m, w)


@helper
def _strip(
    laid: Floats, i: int, w: NDArray[Any], j: int, width: int, steps: int, sums: Floats, s: int, fresh: bool,
    ahead: int, hop: int,
) -> None:  # fmt: skip
    """One strip in each of so many sixteens of three rows from laid[i] on and four from w[j] on, `width` apart, onto
    the sums that begin at `s`."""
    t, u = s + 64, s + 128
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = strip_zero()
    if not fresh:
        a0, a1, a2, a3 = sums_at(sums, s)
        b0, b1, b2, b3 = sums_at(sums, t)
        c0, c1, c2, c3 = sums_at(sums, u)
    for k in range(0, steps * 16, 16):
        for line in range(0, ACROSS * strip_width(), line_of(w)):
            prefetch(w, ahead + line)
        ahead += hop
        a, b, c = strip_load(laid, i), strip_load(laid, i + 16), strip_load(laid, i + 32)
        v = strip_from(w, j + k)
        a0, b0, c0 = strip_fma(a, v, a0), strip_fma(b, v, b0), strip_fma(c, v, c0)
        v = strip_from(w, j + width + k)
        a1, b1, c1 = strip_fma(a, v, a1), strip_fma(b, v, b1), strip_fma(c, v, c1)
        v = strip_from(w, j + 2 * width + k)
        a2, b2, c2 = strip_fma(a, v, a2), strip_fma(b, v, b2), strip_fma(c, v, c2)
        v = strip_from(w, j + 3 * width + k)
        a3, b3, c3 = strip_fma(a, v, a3), strip_fma(b, v, b3), strip_fma(c, v, c3)
        i += 16 * HIGH
    put_sums(sums, s, a0, a1, a2, a3)
    put_sums(sums, t, b0, b1, b2, b3)
    put_sums(sums, u, c0, c1, c2, c3)


@helper
def _one_row(
    laid: Floats, i: int, w: NDArray[Any], j: int, width: int, steps: int, sums: Floats, s: int, fresh: bool,
    ahead: int, hop: int,
) -> None:  # fmt: skip
    """`_strip` of the first of three rows alone, all its lanes at once."""
    a = b = c = d = spread(np.float32(0))
    if not fresh:
        a, b, c, d = load(sums, s), load(sums, s + 16), load(sums, s + 32), load(sums, s + 48)
    for k in range(j, j + steps * 16, 16):
        for line in range(0, 16 * ACROSS, line_of(w)):
            prefetch(w, ahead + line)
        ahead += hop
        v = load(laid, i)
        a, b = fma(load_from(w, k), v, a), fma(load_from(w, k + width), v, b)
        c, d = fma(load_from(w, k + 2 * width), v, c), fma(load_from(w, k + 3 * width), v, d)
        i += 16 * HIGH
    store(sums, s, a)
    store(sums, s + 16, b)
    store(sums, s + 32, c)
    store(sums, s + 48, d)


@helper
def _rest(
    laid: Floats, i: int, rows: int, w: NDArray[Any], j: int, width: int, part: int, sums: Floats, s: int
) -> None:
    """The first `part` of one more sixteen, nothing beyond them read; it lies at the end of `sums` meanwhile."""
    taken = sums.size - 16
    for column in range(ACROSS):
        store(sums, taken, in_order(load_part(w, j + column * width, part), w))
        for row in range(rows):
            o = s + 16 * (ACROSS * row + column)
            for lane in range(0, 16, strip_width()):
                a, v = strip_load(laid, i + 16 * row + lane), strip_load(sums, taken + lane)
                strip_store(sums, o + lane, strip_fma(a, v, strip_load(sums, o + lane)))
