"""Tiles of sums that stay in registers while rows of x pass rows of a matrix: one loop each. No numba here.

A tile is so many rows of x by four rows of the matrix, of which it sums one strip (`strips`) of every sixteen. How many
rows it has depends on the registers that a machine has, and no bit does. These plain functions are the definitions;
`sums_llvm` holds the machine form, in which all sums of a tile are names of registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.lanes import F32, four_totals, operation
from refsample_kernels.spaced import four_totals_from, strip_from
from refsample_kernels.strips import strip_width

ACROSS = 4
"""Matrix rows of a tile."""
HIGHEST = 6
"""Rows of x in the highest tile that there is; every tile's rows divide it."""
TILE = HIGHEST * ACROSS * 16
"""Floats that the sums of a tile take at most: [rows, ACROSS, 16]."""


@operation
def tile_high() -> int:
    """Rows of x in a tile: with four registers for the matrix and one for x, 6 fill 32 of them, 3 fill 16."""
    return 3


@operation
def tile(x: F32, i: int, w: F32, j: int, steps: int, sums: F32, s: int, fresh: bool) -> None:
    """One strip of so many sixteens onto the sums from `s` on, which are zero before where they are `fresh`. Rows of x
    take turns strip by strip from x[i] on, those of the matrix from w[j] on."""
    width, high = strip_width(), tile_high()
    a = x[i : i + steps * high * width].reshape(steps, high, 1, width)
    v = w[j : j + steps * ACROSS * width].reshape(steps, 1, ACROSS, width)
    _sum(a, v, sums, s, fresh)


@operation
def tile_from(
    x: F32, i: int, rows: int, group: int, w: NDArray[Any], j: int, width: int, steps: int, sums: F32, s: int,
    fresh: bool, ahead: int, hop: int,
) -> None:  # fmt: skip
    """`tile` of a third, two thirds or all of its rows and matrix rows as they lie, `width` apart from w[j] on. `group`
    rows of x take turns by whole sixteens. Memory is asked meanwhile: each step four strips from w[ahead] on, `hop`
    further in the next."""
    n = strip_width()
    held = x[i : i + ((steps - 1) * group + rows - 1) * 16 + n]
    a = np.lib.stride_tricks.as_strided(held, (steps, rows, 1, n), (64 * group, 64, 0, 4))
    v = np.empty((steps, 1, ACROSS, n), np.float32)
    for k in range(steps):
        for column in range(ACROSS):
            v[k, 0, column] = strip_from(w, j + 16 * k + column * width)
    _sum(a, v, sums, s, fresh)


@operation
def two_totals(sums: F32, s: int, out: F32, o: int, columns: int, w: NDArray[Any]) -> None:
    """`total` of each sum of two rows of a tile to out[o:o+4] and out[o+columns:...], lanes in the order of w."""
    for row in range(2):
        four_totals_from(sums, s + 16 * ACROSS * row, out, o + row * columns, w)


@operation
def tile_totals(sums: F32, s: int, out: F32, o: int, columns: int) -> None:
    """`total` of each sum of a tile to out[o:o+4] and, `columns` apart, the rows below."""
    for row in range(tile_high()):
        four_totals(sums, s + 16 * ACROSS * row, out, o + row * columns)


def _sum(a: F32, v: F32, sums: F32, s: int, fresh: bool) -> None:
    """a [steps, rows, 1, n] times v [steps, 1, ACROSS, n], step by step."""
    rows, n, lane = a.shape[1], a.shape[3], s % 16
    all_of = sums[s - lane : s - lane + rows * ACROSS * 16].reshape(rows, ACROSS, 16)
    made = np.zeros((rows, ACROSS, n), np.float32) if fresh else all_of[:, :, lane : lane + n].copy()
    for k in range(a.shape[0]):
        made = (a[k].astype(np.float64) * v[k] + made).astype(np.float32)
    all_of[:, :, lane : lane + n] = made
