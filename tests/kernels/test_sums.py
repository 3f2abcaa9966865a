"""Tiles of sums, in machine code and by definition: which elements meet, and what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample_kernels import jit
from refsample_kernels.lanes import load, store
from refsample_kernels.memory import LEAD, in_lines, keep, unlocked
from refsample_kernels.spaced import in_order, strip_apart
from refsample_kernels.strips import strip_load, strip_store, strip_width
from refsample_kernels.sums import ACROSS, HIGHEST, TILE, tile, tile_from, tile_high, tile_totals
from tests.kernels.test_definitions import held

F32 = NDArray[np.float32]
STEPS = 3


def _packed(x: F32, w: F32, sums: F32, out: F32, fresh: bool) -> int:
    """Rows x [high, 48] by w [4, 48], laid out for `tile`; totals to out, six apart."""
    high, n = tile_high(), strip_width()
    a, b = np.empty(HIGHEST * STEPS * 16, np.float32), np.empty(ACROSS * STEPS * 16, np.float32)
    for lane in range(0, 16, n):
        for k in range(STEPS):
            for row in range(high):
                strip_store(a, (k * high + row) * n, strip_load(x, row * STEPS * 16 + 16 * k + lane))
            for column in range(ACROSS):
                strip_store(b, (k * ACROSS + column) * n, strip_load(w, column * STEPS * 16 + 16 * k + lane))
        tile(a, 0, b, 0, STEPS, sums, lane, fresh)
    tile_totals(sums, 0, out, 1, 6)
    return high


packed = jit.Kernel(_packed, _packed, None, None, None)


def _single(a: F32, b: F32, before: F32) -> F32:
    """Sixteen lanes of one sum, as `lanes` has them: rounded once a step, in float64 where that is exact enough."""
    made = before.copy()
    for k in range(0, len(a), 16):
        made = (a[k : k + 16].astype(np.float64) * b[k : k + 16] + made).astype(np.float32)
    return made


@pytest.mark.parametrize("fresh", [True, False])
def test_every_row_meets_every_column(fresh: bool) -> None:
    rng = np.random.default_rng(int(fresh))
    x = rng.integers(-8, 9, (HIGHEST, STEPS * 16)).astype(np.float32)  # whole numbers: every order gives the same bits
    w = rng.integers(-8, 9, (ACROSS, STEPS * 16)).astype(np.float32)
    for run in (packed, _packed):
        sums, out = rng.integers(-99, 99, TILE).astype(np.float32), np.full(1 + 6 * HIGHEST, 7, np.float32)
        before = np.zeros_like(sums) if fresh else sums.copy()
        high = run(x.reshape(-1), w.reshape(-1), sums, out, fresh)
        assert high in (3, 6)
        for row in range(high):
            for column in range(ACROSS):
                place = 16 * (ACROSS * row + column)
                want = _single(x[row], w[column], before[place : place + 16])
                np.testing.assert_array_equal(sums[place : place + 16], want)
                assert out[1 + 6 * row + column] == want.sum()
        assert (out[[0, 5, 6]] == 7).all(), "nothing beside the four totals of a row is written"


def _lying(x: F32, w: NDArray[Any], rows: int, sums: F32, order: F32) -> None:
    """Rows x [rows, 48] by w [4, 48] as it lies behind one element; `order` becomes 0..15 as its sixteens have them."""
    a, step = np.empty(HIGHEST * STEPS * 16, np.float32), strip_width()
    for row in range(rows):
        for k in range(STEPS):
            store(a, (k * rows + row) * 16, in_order(load(x, row * STEPS * 16 + 16 * k), w))
    for lane in range(0, 16, step):
        j = 1 + lane // step * strip_apart(w)
        tile_from(a, lane, rows, rows, w, j, STEPS * 16, STEPS, sums, lane, True, 1 << 30, 16)
    store(order, 0, in_order(load(order, 0), w))


lying = jit.Kernel(_lying, _lying, None, None, None)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("third", range(1, 4))
def test_a_matrix_as_it_lies(third: int, kind: str) -> None:
    rng = np.random.default_rng(third)
    x = rng.integers(-8, 9, (HIGHEST, STEPS * 16)).astype(np.float32)
    w = rng.integers(-8, 9, (ACROSS, STEPS * 16)).astype(np.float32)
    lies = held(np.concatenate([np.full(1, 7, np.float32), w.reshape(-1), np.full(1, 7, np.float32)]), kind)
    for run, high in ((lying, _high()), (_lying, tile_high())):
        rows = high // 3 * third
        sums, order = np.full(TILE, 7, np.float32), np.arange(16, dtype=np.float32)
        run(x.reshape(-1), lies, rows, sums, order)
        for row in range(rows):
            for column in range(ACROSS):
                place = 16 * (ACROSS * row + column)
                want = _single(x[row], w[column], np.zeros(16, np.float32))
                np.testing.assert_array_equal(sums[place : place + 16], want[order.astype(int)])
        assert (sums[16 * ACROSS * rows :] == 7).all(), "no row beyond is written"


def _ask() -> int:
    return tile_high()


_high = jit.Kernel(_ask, _ask, None, None, None)


def _of_lines(given: F32, out: F32) -> int:
    """Writes through views, whose owners live until they are kept; how many elements begin with a line."""
    room, other = np.empty(out.size + LEAD, np.float32), np.empty(out.size, np.float32)
    lines, view = in_lines(room), unlocked(other)
    for i in range(out.size):
        lines[i], view[i] = given[i] + np.float32(1), given[i]
    for i in range(out.size):
        out[i] = lines[i] + view[i]
    keep(room)
    keep(other)
    return in_lines(given).size


of_lines = jit.Kernel(_of_lines, _of_lines, None, None, None)


def test_lines_of_memory() -> None:
    room = in_lines(np.arange(100 + LEAD, dtype=np.float32))
    assert room.size >= 100 and room.ctypes.data % 64 == 0
    for i in range(20):
        for run in (of_lines, _of_lines):
            out = np.zeros(40, np.float32)
            assert run(room[i : i + 40], out) == 40 - (-i % 16)
            np.testing.assert_array_equal(out, 2 * room[i : i + 40] + 1)
