"""Rows through a few rows of a matrix as it lies, tile by tile (`sums`). Helpers of `thin`.

The matrix is not laid out anew, which would cost more than it saves where rows are few. A shelf is so many rows of it
that the nearest cache holds a stretch of them, while all rows of x go past tile by tile. Sums are those of `tiles`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import load, load_part, store
from refsample_kernels.spaced import four_totals_from, in_order, line_of, strip_apart
from refsample_kernels.strips import strip_fma, strip_load, strip_store, strip_width
from refsample_kernels.sums import ACROSS, TILE, tile_from, tile_high, two_totals
from refsample_kernels.tiles import whole

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
def group_of(rows: int) -> int:
    """Rows of x that go past together: groups are few, and about equal."""
    groups = max(1, (rows + tile_high() - 1) // tile_high())
    return max(1, (rows + groups - 1) // groups)


@helper
def sums_of(rows: int, width: int, item: int) -> int:
    """So many sums of `rows` wait in memory for a shelf's next stretch, and sixteen elements behind them."""
    return (TILE if stretch_of(width, item) >= width else whole(rows, group_of(rows)) * SHELF * 16) + 16


@helper
def widens(rows: int, w: NDArray[Any]) -> bool:
    """Whether it pays to widen a shelf first, because several groups need its floats and each widening takes time."""
    return rows > 2 * tile_high() and line_of(w) > 16 and strip_apart(w) == strip_width()


@helper
def shelf(
    laid: Floats, rows: int, wide: int, w: NDArray[Any], left: int, right: int, width: int, out: Floats, columns: int,
    sums: Floats, floats: Floats,
) -> None:  # fmt: skip
    """Columns left..right-1 of out [rows, columns], at most SHELF and a multiple of ACROSS: rows laid out (`thin.lay`)
    times those rows of w. The next shelf is asked of memory meanwhile. `floats` has room for a stretch of a shelf."""
    stretch, apart, group = stretch_of(width, w.itemsize), strip_apart(w), group_of(rows)
    groups, widened = (rows + group - 1) // group, widens(rows, w)
    hop = (ACROSS * strip_width() + groups - 1) // groups  # each group asks for its share
    for begin in range(0, width, stretch):
        count = min(stretch, width - begin)
        steps, part = count // 16, count % 16
        if widened:
            for m in range(left, right):
                for k in range(0, 16 * steps, 16):
                    store(floats, (m - left) * stretch + k, load(w, m * width + begin + k))
        for n in range(0, rows, group):
            i, found = n * wide + group * begin, min(group, rows - n)
            for m in range(left, right, ACROSS):
                s = 0 if stretch >= width else (n * SHELF + group * (m - left)) * 16
                j, ahead = m * width + begin, (m + SHELF) * width + ACROSS * begin
                whole_ones, rest = steps, part
                if part == 0 and apart < strip_width() and j + 3 * width + count >= w.size:  # see `strip_from`
                    whole_ones, rest = steps - 1, 16
                ahead += n // group * hop * steps * (16 // strip_width())
                for lane in range(0, 16, strip_width()):
                    if widened:
                        tile_from(
                            laid, i + lane, found, group, floats, (m - left) * stretch + lane, stretch, whole_ones,
                            sums, s + lane, begin == 0, w, ahead, hop,
                        )  # fmt: skip
                    else:
                        at = j + lane // strip_width() * apart
                        tile_from(
                            laid, i + lane, found, group, w, at, width, whole_ones, sums, s + lane, begin == 0, w,
                            ahead, hop,
                        )  # fmt: skip
                    ahead += hop * whole_ones
                if rest > 0:
                    _rest(laid, i + 16 * group * whole_ones, found, w, j + 16 * whole_ones, width, rest, sums, s)
                if begin + count == width:
                    _totals(sums, s, found, out, n * columns + m, columns, w)


@helper
def _totals(sums: Floats, s: int, rows: int, out: Floats, o: int, columns: int, w: NDArray[Any]) -> None:
    """Totals of so many rows of four sums, to out[o:o+4] and below."""
    for row in range(0, rows - 1, 2):
        two_totals(sums, s + 16 * ACROSS * row, out, o + row * columns, columns, w)
    if rows % 2:
        four_totals_from(sums, s + 16 * ACROSS * (rows - 1), out, o + (rows - 1) * columns, w)


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
