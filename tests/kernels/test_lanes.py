"""The machine form of each lane operation against its plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample_kernels import jit, lanes
from refsample_kernels.lanes import (
    add,
    below,
    div,
    exp,
    first,
    fma,
    larger,
    largest,
    load,
    load_part,
    mul,
    spread,
    spread_at,
    store,
    store_part,
    sub,
    to_bf16,
    total,
)

F32 = NDArray[np.float32]


def _three(a: F32, b: F32, c: F32, n: int, out: F32) -> None:
    """Every operation on three vectors, one row of sixteen each."""
    x, y, z = load(a, 0), load(b, 0), load(c, 0)
    store(out, 0, add(x, y))
    store(out, 16, sub(x, y))
    store(out, 32, mul(x, y))
    store(out, 48, div(x, y))
    store(out, 64, fma(x, y, z))
    store(out, 80, larger(x, y))
    store(out, 96, first(x, n, y))
    store(out, 112, exp(x))
    store(out, 128, to_bf16(x))
    store(out, 144, spread(total(x)))
    store(out, 160, spread(largest(x)))
    store(out, 176, load_part(a, 0, n))
    store_part(out, 192, n, x)
    store(out, 208, below(x, y, y, z))
    store(out, 224, add(spread_at(a, 0), spread_at(b, 15)))


three = jit.Kernel(_three, _three, None, None, None)
ROWS = (
    "add",
    "sub",
    "mul",
    "div",
    "fma",
    "larger",
    "first",
    "exp",
    "to_bf16",
    "total",
    "largest",
    "load_part",
    "store",
    "below",
    "spread_at",
)


@pytest.mark.parametrize("n", [0, 1, 7, 15, 16, 40, -3])
@pytest.mark.parametrize("seed", range(4))
def test_operations_are_their_definitions(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal(16).astype(np.float32) * 10.0**seed for _ in range(3))
    got, want = np.full(240, 7, np.float32), np.full(240, 7, np.float32)
    three(a, b, c, n, got)
    _three(a, b, c, n, want)
    for row, name in enumerate(ROWS):
        part = slice(16 * row, 16 * row + 16)
        if name in ("exp", "fma"):  # the plain fma is rounded twice
            np.testing.assert_allclose(got[part], want[part], rtol=3e-7, atol=1e-37, err_msg=name)
        else:
            np.testing.assert_array_equal(got[part], want[part], err_msg=name)


def test_special_values() -> None:
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    a = np.array(
        [-inf, inf, nan, -0.0, 0.0, 88.5, 1e30, -87.2, -87.4, -1e30, 1.0, -1.0, 1e-30, 5.0, 3.4e38, 1e-45], "f4"
    )
    ones, got = np.ones(16, np.float32), np.zeros(240, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        three(a, ones, ones, 16, got)
    powers, rounded = got[112:128], got[128:144]
    assert powers[0] == 0 and powers[8] == 0 and powers[9] == 0, "e^-inf and below float32 is exactly 0"
    assert np.isnan(powers[2]) and np.all(np.isfinite(np.delete(powers, 2)))
    assert powers[3] == powers[4] == 1
    np.testing.assert_allclose(powers[10:14], np.exp(a[10:14].astype(np.float64)), rtol=2e-7)
    assert rounded[0] == -inf and rounded[1] == inf and np.isnan(rounded[2])
    assert rounded[14] == inf, "beyond the largest bfloat16, halfway and up, lies infinity"


def test_exp_is_good_to_an_ulp_over_its_range() -> None:
    grid = np.linspace(-87.3, 88.0, 16 * 4000, dtype=np.float32)
    worst = 0.0
    steps = 4000 if not jit.jit_disabled() else 200
    for i in range(0, 16 * steps, 16):
        v, got = grid[i : i + 16], np.zeros(240, np.float32)
        with np.errstate(over="ignore"):
            three(v, np.ones_like(v), v, 16, got)
        exact = np.exp(np.maximum(v, np.float32(-87.3)).astype(np.float64))
        worst = max(worst, float(np.abs(got[112:128] / exact - 1).max()))
    assert worst < 1.5e-7


def test_bf16_rounds_to_nearest_even() -> None:
    # 1 + 2^-8 lies halfway between 1 and 1 + 2^-7; 1 + 3 * 2^-8 halfway between odd and even
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8], np.float32)
    np.testing.assert_array_equal(lanes.to_bf16(values), np.array([1, 1 + 2**-6, 1 + 2**-7, -1], np.float32))


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_every_half_precision_number_is_widened_exactly(kind: str) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    held = bits if kind == "bfloat16" else bits.view(np.int16)
    want = (bits.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else bits.view(np.float16).astype("f4")
    np.testing.assert_array_equal(lanes.widen(held), want)
    got = np.zeros(2**16, np.float32)
    copy(held, got)
    finite = ~np.isnan(want)
    np.testing.assert_array_equal(got[finite], want[finite])
    assert np.isnan(got[~finite]).all()


def _copy(held: NDArray[np.uint16], out: F32) -> None:
    for i in range(0, out.size, 16):
        store(out, i, load(held, i))


copy = jit.Kernel(_copy, _copy, None, None, None)
