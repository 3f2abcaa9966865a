"""Many rows through a matrix: tiles of 3 x 4 sums that stay in registers. Helpers of `linear`.

An element is summed in the sixteen lanes of `lanes`, strip by strip, in blocks of a row's elements: first the first
strips of a block's sixteens, then the next. Rows and columns are laid out ("packed") as a tile reads them, so that all
of it is one stream, which processors fetch ahead by themselves. Where a row has more blocks than one, sums wait in
memory in between. Rows and columns are padded to whole tiles; nobody sees what comes of the padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import four_totals
from refsample_kernels.strips import (
    strip_fma,
    strip_load,
    strip_load_part,
    strip_store,
    strip_width,
    strip_zero,
)

Floats = NDArray[Any]
HIGH, ACROSS = 3, 4
"""Rows and columns of a tile: twelve sums, and what they are made of, fill sixteen registers."""
TILE = HIGH * ACROSS * 16
SLAB, PANEL = 96, 32
"""At most so many rows and columns are multiplied with each other in one go: multiples of HIGH and ACROSS."""
SLABS = 4
"""So many slabs go through a panel in one task: it is packed once for them where a row is one block."""
DEPTH = 1024
"""Elements of a row in a block at most, a multiple of 16."""


@helper
def whole(width: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return (width + unit - 1) // unit * unit


@helper
def slab_of(rows: int) -> int:
    """Rows of a slab: slabs are few, and about equal."""
    slabs = max(1, (rows + SLAB - 1) // SLAB)
    return max(HIGH, whole((rows + slabs - 1) // slabs, HIGH))


@helper
def packed_rows(rows: int) -> int:
    """So many rows become of `rows` when they are packed."""
    return (rows + SLAB - 1) // SLAB * slab_of(rows)


@helper
def rows_together(rows: int, width: int) -> int:
    """So many rows go through a panel in one turn."""
    return slab_of(rows) * (SLABS if width <= DEPTH else 1)


@helper
def product(
    packed: Floats, rows: int, width: int, top: int, weight: NDArray[Any], bias: Floats, left: int, right: int,
    out: Floats, o: int, columns: int,
) -> int:  # fmt: skip
    """The packed rows of one turn, from `top` on, by the matrix rows left..right-1, and their bias: row n by row m to
    out[o + n columns + m]. The end of the rows."""
    high = slab_of(rows)
    bottom = min(rows, top + rows_together(rows, width))
    first, last = top // high, (bottom + high - 1) // high
    panel(packed, first, last, high, rows, weight, left, right, width, out, o, columns)
    if bias.shape[0]:
        for n in range(top, bottom):
            for m in range(left, right):
                out[o + n * columns + m] += bias[m]
    return bottom


@helper
def block_of(width: int) -> int:
    """Elements of a row in one block: blocks are few, and about equal."""
    blocks = (width + DEPTH - 1) // DEPTH
    return whole((width + blocks - 1) // blocks, 16)


@helper
def pack(held: NDArray[Any], i: int, width: int, begin: int, count: int, out: Floats, o: int, step: int) -> None:
    """Elements begin..begin+count-1 of the row held[i:i+width] to out[o], out[o + step], ... strip by strip: first all
    first strips of the sixteens, then all next ones; zeros beyond the row."""
    strip = strip_width()
    inside = max(0, min(count, width - begin)) // 16  # whole sixteens
    for lane in range(0, 16, strip):
        for k in range(inside):
            strip_store(out, o + k * step, strip_load(held, i + begin + k * 16 + lane))
        for k in range(inside, count // 16):
            here = begin + k * 16 + lane
            strip_store(out, o + k * step, strip_load_part(held, i + here, width - here))
        o += count // 16 * step


@helper
def pack_rows(x: Floats, i: int, n: int, rows: int, width: int, high: int, out: Floats) -> None:
    """Row n of [rows, width], which is x[i:i+width], to its places in `out`: slabs of `high` rows, in them block by
    block, in them tile by tile, whose rows take turns strip by strip; zeros beyond the rows."""
    wide, block, strip = whole(width, 16), block_of(width), strip_width()
    top, tile = n // high * high, n // HIGH * HIGH
    for begin in range(0, wide, block):
        count = min(block, wide - begin)
        o = top * wide + high * begin + (tile - top) * count + (n - tile) * strip
        pack(x, i, width if n < rows else 0, begin, count, out, o, HIGH * strip)


@helper
def panel(
    x: Floats, first: int, last: int, high: int, rows: int, weight: NDArray[Any], left: int, right: int, width: int,
    out: Floats, o: int, columns: int,
) -> None:  # fmt: skip
    """The slabs first..last-1 of packed rows by the rows left..right-1 of `weight`: row n by row m to out[o + n columns
    + m]."""
    wide, block = whole(width, 16), block_of(width)
    single = block >= wide
    sums = np.empty(TILE if single else SLAB * PANEL * 16, np.float32)
    packed, edge = np.empty(PANEL * block, np.float32), np.empty(HIGH * ACROSS, np.float32)
    packed[:] = 0
    for slab in range(first, last):
        top, bottom = slab * high, min(rows, slab * high + high)
        for begin in range(0, wide, block):
            count = min(block, wide - begin)
            if slab == first:  # of all slabs, where a row is one block; otherwise there is one slab
                for m in range(left, right):
                    tile = (m - left) // ACROSS * ACROSS
                    j = tile * count + (m - left - tile) * strip_width()
                    pack(weight, m * width, width, begin, count, packed, j, ACROSS * strip_width())
            for n in range(top, bottom, HIGH):
                i = top * wide + high * begin + (n - top) * count
                for m in range(left, right, ACROSS):
                    s = 0 if single else ((n - top) * PANEL + HIGH * (m - left)) * 16
                    _block(x, i, packed, (m - left) * count, count, sums, s, begin == 0)
                    if begin + count == wide:
                        if m + ACROSS <= right and n + HIGH <= bottom:
                            _totals(sums, s, out, o + n * columns + m, columns)
                        else:
                            _totals(sums, s, edge, 0, ACROSS)
                            for row in range(min(HIGH, bottom - n)):
                                for column in range(min(ACROSS, right - m)):
                                    out[o + (n + row) * columns + m + column] = edge[row * ACROSS + column]


@helper
def _block(x: Floats, i: int, w: Floats, j: int, count: int, sums: Floats, s: int, fresh: bool) -> None:
    """All strips of a tile's block of `count` elements of three rows from x[i] and four from w[j] on."""
    for lane in range(0, 16, strip_width()):
        _tile(x, i + lane * count // 16 * HIGH, w, j + lane * count // 16 * ACROSS, count // 16, sums, s + lane, fresh)


@helper
def _totals(sums: Floats, s: int, out: Floats, o: int, columns: int) -> None:
    """Totals of the tile whose sums begin at `s` to out[o:o+4] and the two rows below it."""
    for row in range(HIGH):
        four_totals(sums, s + 16 * ACROSS * row, out, o + row * columns)


@helper
def _tile(x: Floats, i: int, w: Floats, j: int, steps: int, sums: Floats, s: int, fresh: bool) -> None:
    """One strip of three rows and four, which take turns from x[i] and w[j] on, onto the sums that begin at `s`."""
    t, u = s + 64, s + 128
    if fresh:
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = strip_zero()
    else:
        a0, a1, a2, a3 = sums_at(sums, s)
        b0, b1, b2, b3 = sums_at(sums, t)
        c0, c1, c2, c3 = sums_at(sums, u)
    n = strip_width()
    for _ in range(steps):
        a, b, c = strip_load(x, i), strip_load(x, i + n), strip_load(x, i + 2 * n)
        v = strip_load(w, j)
        a0, b0, c0 = strip_fma(a, v, a0), strip_fma(b, v, b0), strip_fma(c, v, c0)
        v = strip_load(w, j + n)
        a1, b1, c1 = strip_fma(a, v, a1), strip_fma(b, v, b1), strip_fma(c, v, c1)
        v = strip_load(w, j + 2 * n)
        a2, b2, c2 = strip_fma(a, v, a2), strip_fma(b, v, b2), strip_fma(c, v, c2)
        v = strip_load(w, j + 3 * n)
        a3, b3, c3 = strip_fma(a, v, a3), strip_fma(b, v, b3), strip_fma(c, v, c3)
        i += HIGH * n
        j += ACROSS * n
    put_sums(sums, s, a0, a1, a2, a3)
    put_sums(sums, t, b0, b1, b2, b3)
    put_sums(sums, u, c0, c1, c2, c3)


@helper
def sums_at(sums: Floats, s: int) -> Any:
    """The strips of four columns in one row of a tile."""
    return strip_load(sums, s), strip_load(sums, s + 16), strip_load(sums, s + 32), strip_load(sums, s + 48)


@helper
def put_sums(sums: Floats, s: int, v0: Any, v1: Any, v2: Any, v3: Any) -> None:
    """Write what `sums_at` reads."""
    strip_store(sums, s, v0)
    strip_store(sums, s + 16, v1)
    strip_store(sums, s + 32, v2)
    strip_store(sums, s + 48, v3)
