"""The order of a sixteen, which a matrix's type decides: all operations agree on it, in machine code too."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample_kernels import jit
from refsample_kernels.lanes import four_totals, load, store
from refsample_kernels.linear import linear, linear_few
from refsample_kernels.spaced import four_totals_from, in_order, line_of, load_from, strip_apart, strip_from
from refsample_kernels.strips import strip_store, strip_width
from tests.kernels.test_definitions import held

F32 = NDArray[np.float32]


def _each(w: NDArray[Any], out: F32, sums: F32) -> int:
    """Sixteens from w[1] on: as loaded, as put in order, in strips; and the totals of four in order."""
    store(out, 0, load_from(w, 1))
    store(out, 16, in_order(load(w, 1), w))
    for lane in range(0, 16, strip_width()):
        strip_store(out, 32 + lane, strip_from(w, 1 + lane // strip_width() * strip_apart(w)))
    for number in range(4):
        store(sums, 16 * number, load_from(w, 16 * number))
    four_totals_from(sums, 0, out, 48, w)
    for number in range(4):
        store(sums, 16 * number, load(w, 16 * number))
    four_totals(sums, 0, out, 52)
    return line_of(w)


each = jit.Kernel(_each, _each, None, None, None)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_one_order(kind: str) -> None:
    w = held(np.random.default_rng(2).standard_normal(80).astype(np.float32), kind)
    for run in (each, _each):
        out = np.zeros(56, np.float32)
        assert run(w, out, np.empty(64, np.float32)) == 64 // w.itemsize
        np.testing.assert_array_equal(out[16:32], out[:16])
        np.testing.assert_array_equal(out[32:48], out[:16])
        np.testing.assert_array_equal(out[48:52], out[52:])
        assert out[48:52].any() and len({*out[:16]}) == 16


@pytest.mark.skipif(os.name != "posix", reason="mprotect is POSIX")
@pytest.mark.parametrize("rows", [1, 2, 3, 48])
@pytest.mark.parametrize(("columns", "width"), [(8, 32), (8, 16), (7, 16), (5, 30), (4, 688), (3, 700), (8, 1100)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_nothing_behind_a_matrix_is_read(kind: str, columns: int, width: int, rows: int) -> None:
    """It ends where the process's memory ends."""
    library, page, room = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE, 1 << 16
    memory, rng = mmap.mmap(-1, room + page), np.random.default_rng(rows)
    x = rng.standard_normal((rows, width)).astype(np.float32)
    values = held(rng.standard_normal((columns, width)).astype(np.float32), kind)
    wall = ctypes.c_void_p(np.frombuffer(memory, np.uint8)[room:].ctypes.data)
    weight: NDArray[Any] = np.frombuffer(memory, values.dtype, values.size, room - values.nbytes)
    weight[:] = values.reshape(-1)
    weight = weight.reshape(columns, width)
    few, many = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32)
    assert library.mprotect(wall, ctypes.c_size_t(page), 0) == 0
    try:
        linear_few(x, weight, np.empty(0, np.float32), few)
        linear(x, weight, np.empty(0, np.float32), many)
    finally:
        assert library.mprotect(wall, ctypes.c_size_t(page), 3) == 0
    np.testing.assert_array_equal(few, many)
