"""Many rows through a matrix, tile by tile (`sums`). Helpers of `linear`.

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
from refsample_kernels.memory import LEAD, in_lines, keep
from refsample_kernels.spaced import line_of
from refsample_kernels.strips import prefetch_later, strip_load, strip_load_part, strip_store, strip_width
from refsample_kernels.sums import ACROSS, HIGHEST, TILE, tile, tile_high, tile_totals

Floats = NDArray[Any]
SLAB, PANEL = 96, 32
"""At most so many rows and columns are multiplied with each other in one go: multiples of HIGHEST and ACROSS."""
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
    return max(HIGHEST, whole((rows + slabs - 1) // slabs, HIGHEST))


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
    wide, block = whole(width, 16), block_of(width)
    for begin in range(0, wide, block):
        count = min(block, wide - begin)
        o = _place(n, begin, count, wide, high)
        pack(x, i, width if n < rows else 0, begin, count, out, o, tile_high() * strip_width())


@helper
def _place(n: int, begin: int, count: int, wide: int, high: int) -> int:
    """Where row n's block of `count` elements from `begin` on begins among packed rows."""
    top, first = n // high * high, n // tile_high() * tile_high()
    return top * wide + high * begin + (first - top) * count + (n - first) * strip_width()


@helper
def pack_piece(
    x: Floats, i: int, found: int, n: int, m: int, size: int, width: int, high: int, out: Floats
) -> None:
    """Elements m..m+size-1 of row n to their places among those of `pack_rows`: x[i:i+found], zeros where there are
    fewer; m is a multiple of 16."""
    wide, block, step = whole(width, 16), block_of(width), tile_high() * strip_width()
    for k in range(m, m + size, 16):
        begin = k // block * block
        count = min(block, wide - begin)
        o = _place(n, begin, count, wide, high) + (k - begin) // 16 * step
        for lane in range(0, 16, strip_width()):
            strip_store(out, o, strip_load_part(x, i + k - m + lane, found - (k - m) - lane))
            o += count // 16 * step


@helper
def panel(
    x: Floats, first: int, last: int, high: int, rows: int, weight: NDArray[Any], left: int, right: int, width: int,
    out: Floats, o: int, columns: int,
) -> None:  # fmt: skip
    """The slabs first..last-1 of packed rows by the rows left..right-1 of `weight`: row n by row m to out[o + n columns
    + m]. The next panel is asked of memory meanwhile."""
    wide, block, step = whole(width, 16), block_of(width), tile_high()
    single = block >= wide
    packed = TILE if single else SLAB * PANEL * 16  # in `spare`, behind sums
    edge = packed + PANEL * block
    room = np.empty(edge + HIGHEST * ACROSS + LEAD, np.float32)
    spare = in_lines(room)
    if (right - left) % ACROSS:
        spare[:] = 0
    ahead, hop = right * width, _share(min(rows, last * high) - first * high, width, weight)
    for slab in range(first, last):
        top, bottom = slab * high, min(rows, slab * high + high)
        for begin in range(0, wide, block):
            count = min(block, wide - begin)
            if slab == first:  # of all slabs, where a row is one block; otherwise there is one slab
                for m in range(left, right):
                    above = (m - left) // ACROSS * ACROSS
                    j = packed + above * count + (m - left - above) * strip_width()
                    pack(weight, m * width, width, begin, count, spare, j, ACROSS * strip_width())
            for n in range(top, bottom, step):
                i = top * wide + high * begin + (n - top) * count
                for m in range(left, right, ACROSS):
                    s = 0 if single else ((n - top) * PANEL + step * (m - left)) * 16
                    for line in range(0, hop, line_of(weight)):
                        prefetch_later(weight, ahead + line)
                    ahead += hop
                    _block(x, i, spare, packed + (m - left) * count, count, s, begin == 0)
                    if begin + count == wide:
                        if m + ACROSS <= right and n + step <= bottom:
                            tile_totals(spare, s, out, o + n * columns + m, columns)
                        else:
                            tile_totals(spare, s, spare, edge, ACROSS)
                            for row in range(min(step, bottom - n)):
                                for column in range(min(ACROSS, right - m)):
                                    out[o + (n + row) * columns + m + column] = spare[edge + row * ACROSS + column]
    keep(room)


@helper
def _share(rows: int, width: int, weight: NDArray[Any]) -> int:
    """So many elements of the next panel each tile of this one asks for, where so many rows go through it."""
    wide, block = whole(width, 16), block_of(width)
    tiles = (rows + tile_high() - 1) // tile_high() * (PANEL // ACROSS) * (whole(wide, block) // block)
    return whole((PANEL * width + tiles - 1) // tiles, line_of(weight))


@helper
def _block(x: Floats, i: int, spare: Floats, j: int, count: int, s: int, fresh: bool) -> None:
    """All strips of a tile's block of `count` elements: its rows from x[i] on by four from spare[j] on, onto its sums
    from spare[s] on."""
    for lane in range(0, 16, strip_width()):
        at = lane * count // 16
        tile(x, i + at * tile_high(), spare, j + at * ACROSS, count // 16, spare, s + lane, fresh)
