"""The machine form of each strip operation against its plain definition; a strip is as wide as a register."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample_kernels import jit
from refsample_kernels.lanes import four_totals, load, store, total
from refsample_kernels.strips import (
    prefetch,
    prefetch_later,
    strip_fma,
    strip_load,
    strip_load_part,
    strip_store,
    strip_width,
)

F32 = NDArray[np.float32]


def _each(held: NDArray[Any], b: F32, n: int, out: F32) -> int:
    """Every operation, sixteen lanes of each in as many strips as they take."""
    width = strip_width()
    prefetch(held, 1 << 40)
    prefetch_later(held, 1 << 40)
    for i in range(0, 16, width):
        strip_store(out, i, strip_load(held, i))
        strip_store(out, 16 + i, strip_load_part(held, i, n - i))
        strip_store(out, 32 + i, strip_fma(strip_load(held, i), strip_load(b, i), strip_load(b, 16 + i)))
    return width


each = jit.Kernel(_each, _each, None, None, None)


@pytest.mark.parametrize("n", [-3, 0, 1, 7, 8, 15, 16, 40])
@pytest.mark.parametrize("kind", ["float32", "uint16", "int16"])
def test_operations_are_their_definitions(n: int, kind: str) -> None:
    rng = np.random.default_rng(n + 5)
    held = rng.standard_normal(16).astype(np.float32)
    if kind != "float32":
        held = rng.integers(0, 0x4000, 16).astype(kind)
    b, got, want = rng.standard_normal(32).astype(np.float32), np.full(48, 7, "f4"), np.full(48, 7, "f4")
    width = each(held, b, n, got)
    _each(held, b, n, want)
    assert width in (4, 8, 16)
    np.testing.assert_array_equal(got[:32], want[:32])
    np.testing.assert_allclose(got[32:], want[32:], rtol=3e-7, atol=1e-6)  # the plain fma is rounded twice


def _fold(held: F32, four: F32, single: F32) -> None:
    four_totals(held, 1, four, 2)
    for number in range(4):
        single[number] = total(load(held, 1 + 16 * number))
    store(four, 6, load(held, 0))


fold = jit.Kernel(_fold, _fold, None, None, None)


def test_four_totals_are_four_times_total() -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e30, 1e-30):
        held = (rng.standard_normal(80) * scale).astype(np.float32)
        four, plain, single = np.zeros(24, np.float32), np.zeros(24, np.float32), np.zeros(4, np.float32)
        fold(held, four, single)
        _fold(held, plain, np.zeros(4, np.float32))
        np.testing.assert_array_equal(four[2:6], single)
        np.testing.assert_array_equal(four, plain)
        assert not four[:2].any()
