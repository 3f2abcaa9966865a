"""Rows through a few rows of a matrix as it lies, tile by tile (`sums`). Helpers of `thin`.

The matrix is not laid out anew, which would cost more than it saves where rows are few. A shelf is so many rows of it
that the nearest cache holds a stretch of them, while all rows of x go past tile by tile. Sums are those of `tiles`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import load_part, store
from refsample_kernels.spaced import four_totals_from, in_order, strip_apart
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
def in_thirds(rows: int) -> int:
    """So many rows of x become of `rows`: a tile has a third of its rows, two thirds or all."""
    return whole(rows, tile_high() // 3)


@helper
def group_of(rows: int) -> int:
    """Rows of x that go past together: all, a half or a whole tile; one row goes alone."""
    if rows > 2 * tile_high():
        return tile_high()
    return in_thirds((rows + 1) // 2 if rows > tile_high() else rows) if rows > 1 else 1


@helper
def sums_of(rows: int, width: int, item: int) -> int:
    """So many sums of `rows` wait in memory for a shelf's next stretch, and sixteen elements behind them."""
    return (TILE if stretch_of(width, item) >= width else whole(rows, group_of(rows)) * SHELF * 16) + 16


@helper
def shelf(
    laid: Floats, rows: int, wide: int, w: NDArray[Any], left: int, right: int, width: int, out: Floats, columns: int,
    sums: Floats,
) -> None:  # fmt: skip
    """Columns left..right-1 of out [rows, columns], at most SHELF and a multiple of ACROSS: rows laid out (`thin.lay`)
    times those rows of w. The next shelf is asked of memory meanwhile."""
    stretch, apart, group = stretch_of(width, w.itemsize), strip_apart(w), group_of(rows)
    groups = (rows + group - 1) // group
    hop = (ACROSS * strip_width() + groups - 1) // groups  # each group asks for its share
    for begin in range(0, width, stretch):
        count = min(stretch, width - begin)
        for n in range(0, rows, group):
            i, found = n * wide + group * begin, min(group, rows - n)
            for m in range(left, right, ACROSS):
                s = 0 if stretch >= width else (n * SHELF + group * (m - left)) * 16
                j, ahead = m * width + begin, (m + SHELF) * width + ACROSS * begin
                steps, part = count // 16, count % 16
                if part == 0 and apart < strip_width() and j + 3 * width + count >= w.size:  # see `strip_from`
                    steps, part = steps - 1, 16
                ahead += n // group * hop * steps * (16 // strip_width())
                for lane in range(0, 16, strip_width()):
                    at = j + lane // strip_width() * apart
                    tile_from(
                        laid, i + lane, in_thirds(found), group, w, at, width, steps, sums, s + lane, begin == 0,
                        ahead, hop,
                    )  # fmt: skip
                    ahead += hop * steps
                if part > 0:
                    _rest(laid, i + 16 * group * steps, found, w, j + 16 * steps, width, part, sums, s)
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
