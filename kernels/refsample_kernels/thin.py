"""Few rows through a matrix as it lies: of one row its memory is the limit, of many the sums. Helpers of kernels.

Each element is summed in the sixteen lanes of `lanes`, so it has the bits that it has in the tiles of `tiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import fma, load, load_part, spread, store
from refsample_kernels.memory import LEAD, in_lines, keep
from refsample_kernels.shelves import SHELF, group_of, shelf, sums_of
from refsample_kernels.spaced import four_totals_from, in_order, line_of, load_from
from refsample_kernels.strips import prefetch
from refsample_kernels.sums import ACROSS
from refsample_kernels.tiles import whole

Floats = NDArray[Any]
FEW = 48
"""Of more rows it pays to lay out the matrix too."""
LINES = 16
"""So far ahead memory is asked for, in its lines of 64 bytes."""
PORTION = 65536
"""Bytes of a matrix that a thread takes at a time, about."""


@helper
def portion(width: int, item: int) -> int:
    """How many rows of a matrix a thread takes at a time, of `width` elements of so many bytes."""
    return max(1, PORTION // (SHELF * width * item)) * SHELF


@helper
def room_of(rows: int, width: int) -> int:
    """So many floats are `rows` when they are laid out, and some more so that they begin a line (`in_lines`)."""
    return whole(rows, group_of(rows)) * whole(width, 16) + LEAD


@helper
def _begin_of(n: int, group: int, wide: int) -> int:
    """Where row n begins among rows of `wide` that are laid out."""
    return n // group * group * wide + n % group * 16


@helper
def lay(x: Floats, rows: int, width: int, w: NDArray[Any], laid: Floats) -> None:
    """x [rows, width] in the order of w's sixteens, by which the rows of a group take turns. Zeros beyond a row, and
    for rows that a tile has more."""
    wide, group = whole(width, 16), group_of(rows)
    for n in range(whole(rows, group)):
        o, i, found = _begin_of(n, group, wide), n * width, width if n < rows else 0
        for k in range(0, wide, 16):
            v = load(x, i + k) if k + 16 <= found else load_part(x, i + k, found - k)
            store(laid, o + k * group, in_order(v, w))


@helper
def thin(
    laid: Floats, rows: int, width: int, w: NDArray[Any], bias: Floats, left: int, right: int, out: Floats,
    columns: int,
) -> None:  # fmt: skip
    """Columns left..right-1 of out [rows, columns]: the rows of `lay` times those of w [columns, width], and their bias
    unless it is [0]; arrays are flat."""
    room = np.empty(sums_of(rows, width, w.itemsize) + LEAD, np.float32)
    sums = in_lines(room)
    last = right - (right - left) % (ACROSS if rows > 1 else 2 * ACROSS)
    if rows > 1:
        for first in range(left, last, SHELF):
            shelf(laid, rows, whole(width, 16), w, first, min(last, first + SHELF), width, out, columns, sums)
    elif rows == 1:
        _streams(laid, w, left, last, width, out, sums)
    for m in range(last, right, ACROSS):
        _left_over(laid, rows, w, m, min(ACROSS, right - m), width, out, columns, sums)
    if bias.shape[0]:
        for n in range(rows):
            for m in range(left, right):
                out[n * columns + m] += bias[m]
    keep(room)


@helper
def _streams(laid: Floats, w: NDArray[Any], left: int, right: int, width: int, out: Floats, sums: Floats) -> None:
    """One row times the rows left..right-1 of w, a multiple of eight: both halves side by side, each read from its
    beginning to its end. Memory sends two such streams sooner than rows that take turns, and while one sum waits for
    its last product the other goes on. Where a half ends it asks for what comes behind the other, which is next."""
    half, ahead = (right - left) // 2, LINES * line_of(w)
    for m in range(left, left + half, ACROSS):
        for n in range(ACROSS):
            j, k = (m + n) * width, 0
            f = j + half * width
            near = width if m + n + 1 < left + half else max(0, width - ahead)
            a = b = spread(np.float32(0))
            for end, far in ((near, ahead), (width, ahead + half * width)):
                while k + 16 <= end:
                    prefetch(w, j + k + far)
                    prefetch(w, f + k + far)
                    v = load(laid, k)
                    a, b = fma(load_from(w, j + k), v, a), fma(load_from(w, f + k), v, b)
                    k += 16
            store(sums, 16 * n, a)
            store(sums, 16 * (ACROSS + n), b)
            if width % 16:
                _last(laid, k, w, j, width, sums, 16 * n)
                _last(laid, k, w, f, width, sums, 16 * (ACROSS + n))
        four_totals_from(sums, 0, out, m, w)
        four_totals_from(sums, 16 * ACROSS, out, m + half, w)


@helper
def _left_over(
    laid: Floats, rows: int, w: NDArray[Any], m: int, found: int, width: int, out: Floats, columns: int, sums: Floats
) -> None:
    """The rows of `lay` times the `found` rows of w from m on, at most four. It is seldom needed, so it is short rather
    than quick."""
    wide, group = whole(width, 16), group_of(rows)
    for column in range(ACROSS):  # four are folded, however many there are
        store(sums, 16 * column, spread(np.float32(0)))
    for n in range(rows):
        for column in range(found):
            a, i, j = spread(np.float32(0)), _begin_of(n, group, wide), (m + column) * width
            for k in range(0, width - 15, 16):
                a = fma(load_from(w, j + k), load(laid, i), a)
                i += 16 * group
            store(sums, 16 * column, a)
            if width % 16:
                _last(laid, i, w, j, width, sums, 16 * column)
        four_totals_from(sums, 0, sums, 16 * ACROSS, w)
        for column in range(found):
            out[n * columns + m + column] = sums[16 * ACROSS + column]


@helper
def _last(laid: Floats, i: int, w: NDArray[Any], j: int, width: int, sums: Floats, s: int) -> None:
    """What is left of a row behind its whole sixteens, onto its sums."""
    rest = width % 16
    v = in_order(load_part(w, j + width - rest, rest), w)
    store(sums, s, fma(v, load(laid, i), load(sums, s)))
