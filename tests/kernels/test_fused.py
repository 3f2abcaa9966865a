"""Kernels that do several steps at once: near their definitions, and bit for bit the single kernels in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample_kernels.activation import gelu, gelu_tanh, silu
from refsample_kernels.attend import attend, define_attend
from refsample_kernels.attention import attention
from refsample_kernels.fused import (
    GELU,
    GELU_TANH,
    SILU,
    add_linear,
    define_add_linear,
    define_gated,
    define_project,
    gated,
    project,
)
from refsample_kernels.jit import jit_disabled
from refsample_kernels.linear import apply_linear, linear, linear_few
from refsample_kernels.norm import rms_norm
from refsample_kernels.rope import rotate
from tests.kernels.test_definitions import held, salted, salts, seeds

Array = NDArray[Any]
few = settings(max_examples=5 if jit_disabled() else 40)
rows_of, widths, kinds = st.integers(1, 8), st.integers(1, 70), st.sampled_from(["float32", "float16", "bfloat16"])
bends = st.sampled_from([SILU, GELU, GELU_TANH])
EPS = 1e-5


def empty(*shape: int) -> NDArray[np.float32]:
    return np.full(shape, np.nan, np.float32)


@few
@given(seeds, salts, rows_of, widths, st.tuples(*[st.integers(1, 20)] * 3), st.booleans(), kinds)
def test_project(
    seed: int, salt: str, rows: int, width: int, sizes: tuple[int, int, int], biased: bool, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    x, norm = salted(rng, salt, rows, width), salted(rng, "plain", width)
    weights = [held(salted(rng, salt, size, width), kind) for size in sizes]
    biases = [salted(rng, salt, size if biased else 0) for size in sizes]
    outs, exact = [empty(rows, size) for size in sizes], [np.empty((rows, size)) for size in sizes]
    project(x, norm, EPS, *weights, *biases, *outs)
    define_project(x, norm, EPS, *weights, *biases, *exact)
    normed = empty(rows, width)
    rms_norm(x, norm, EPS, normed)
    for weight, bias, out, want in zip(weights, biases, outs, exact, strict=True):
        single = empty(*out.shape)
        apply_linear(normed, weight, bias, single)
        np.testing.assert_array_equal(out, single)
        assert np.abs(out - want).max() <= 5e-6 * max(1e-30, bound(normed, weight, bias))


def bound(x: Array, weight: Array, bias: Array) -> float:
    """The largest sum of magnitudes that a product has."""
    wide = np.zeros((len(x), len(weight)), np.float32)
    apply_linear(np.abs(x), held_abs(weight), np.abs(bias), wide)
    return float(wide.max())


def held_abs(weight: Array) -> Array:
    return np.abs(weight) if weight.dtype == np.float32 else weight & weight.dtype.type(0x7FFF)


@few
@given(seeds, salts, rows_of, widths, st.integers(1, 40), st.booleans(), kinds, bends)
def test_gated(
    seed: int, salt: str, rows: int, width: int, columns: int, biased: bool, kind: str, activation: int
) -> None:
    rng = np.random.default_rng(seed)
    x, norm = salted(rng, salt, rows, width), salted(rng, "plain", width)
    gate, up = (held(salted(rng, "plain", columns, width), kind) for _ in range(2))
    biases = [salted(rng, "plain", columns if biased else 0) for _ in range(2)]
    out, exact = empty(rows, columns), np.empty((rows, columns))
    gated(x, norm, EPS, gate, up, *biases, activation, out)
    define_gated(x, norm, EPS, gate, up, *biases, activation, exact)
    normed, inner, wide, bent = empty(rows, width), *(empty(rows, columns) for _ in range(3))
    rms_norm(x, norm, EPS, normed)
    apply_linear(normed, gate, biases[0], inner)
    apply_linear(normed, up, biases[1], wide)
    (silu, gelu, gelu_tanh)[activation](inner, bent)
    np.testing.assert_array_equal(out, bent * wide)
    sizes = bound(normed, gate, biases[0]), bound(normed, up, biases[1])
    assert np.abs(out - exact).max() <= 1e-5 * max(1e-30, sizes[0] * sizes[1])


@few
@given(seeds, salts, rows_of, widths, st.integers(1, 40), st.booleans(), kinds)
def test_add_linear(seed: int, salt: str, rows: int, width: int, columns: int, biased: bool, kind: str) -> None:
    rng = np.random.default_rng(seed)
    x, before = salted(rng, salt, rows, width), salted(rng, salt, rows, columns)
    weight, bias = held(salted(rng, salt, columns, width), kind), salted(rng, salt, columns if biased else 0)
    out, exact, single = before.copy(), before.astype(np.float64), empty(rows, columns)
    add_linear(x, weight, bias, out)
    define_add_linear(x, weight, bias, exact)
    apply_linear(x, weight, bias, single)
    np.testing.assert_array_equal(out, before + single)
    assert np.abs(out - exact).max() <= 2e-6 * max(1e-30, bound(x, weight, bias) + float(np.abs(before).max()))


@few
@given(
    seeds,
    salts,
    st.sampled_from([1, 2, 5, 17]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([2, 6, 16, 18]),
    st.sampled_from([0, 1, 15, 16, 40]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0, 3, 20]),
    st.sampled_from([0.0, 5.0]),
)
def test_attend(
    seed: int, salt: str, rows: int, group: int, heads: int, width: int, start: int, turned: float, window: int,
    cap: float,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    q, k = salted(rng, "plain", rows, group * heads, width), salted(rng, "plain", rows, heads, width)
    v, half = salted(rng, salt, rows, heads, width), int(width // 2 * turned)
    angles = rng.uniform(-3, 3, (rows, half))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    room = (start + rows + 15) // 16 * 16
    keys, values = salted(rng, "plain", heads, width, room), salted(rng, salt, heads, room, width)
    apart = [keys.copy(), values.copy()]
    exact = [keys.astype(np.float64), values.astype(np.float64)]
    out, single, want = empty(*q.shape), empty(*q.shape), np.empty(q.shape)
    settings_of = (start, 0.3, window, cap)
    attend(q, k, v, cos, sin, keys, values, *settings_of, out)
    define_attend(q, k, v, cos, sin, *exact, *settings_of, want)
    turned_q, turned_k = empty(*q.shape), empty(*k.shape)
    rotate(q, cos, sin, turned_q)
    rotate(k, cos, sin, turned_k)
    apart[0][:, :, start : start + rows] = turned_k.transpose(1, 2, 0)
    apart[1][:, start : start + rows] = v.transpose(1, 0, 2)
    attention(turned_q, *apart, *settings_of, single)
    np.testing.assert_array_equal(out, single)
    np.testing.assert_array_equal(keys, apart[0])
    np.testing.assert_array_equal(values, apart[1])
    assert np.abs(out - want).max() <= 1e-5 * max(1e-30, float(np.abs(values).max()))


@pytest.mark.parametrize("width", [1, 15, 48, 1000] if jit_disabled() else [1, 15, 48, 1023, 1024, 1040, 2500])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_a_row_has_the_same_bits_in_every_tile(width: int, kind: str) -> None:
    """Alone, among few rows and among many: whole tiles, parts of them, one block of a row or several."""
    rng = np.random.default_rng(width)
    most = 10 if jit_disabled() else 401
    x, weight = salted(rng, "plain", most, width), held(salted(rng, "plain", 35, width), kind)
    nothing, alone = np.empty(0, np.float32), empty(most, 35)
    for n in range(most):
        apply_linear(x[n : n + 1], weight, nothing, alone[n : n + 1])
    for rows in (2, 3, 7, 8, 9, 10) if jit_disabled() else (2, 3, 4, 5, 8, 9, 10, 11, 96, 97, 200, 401):
        for kernel in (linear, linear_few) if rows <= 8 else (linear, apply_linear):
            together = empty(rows, 35)
            kernel(x[:rows], weight, nothing, together)
            np.testing.assert_array_equal(together, alone[:rows])


@pytest.mark.parametrize("rows", [3, 25] if jit_disabled() else [3, 4, 24, 25, 29, 77])
@pytest.mark.parametrize("width", [16, 48])
def test_rows_that_share_what_they_read_have_the_bits_of_rows_alone(rows: int, width: int) -> None:
    """With nothing but NaN behind the last key, in a cache without a place to spare."""
    rng = np.random.default_rng(rows + width)
    heads, group = 2, 3
    for start in (0, 40) if jit_disabled() else (0, 1, 40, 130):
        count = start + rows
        room = (count + 15) // 16 * 16
        q = salted(rng, "plain", rows, heads * group, width)
        keys, values = salted(rng, "plain", heads, width, room), salted(rng, "outliers", heads, room, width)
        keys[:, :, count:], values[:, count:] = np.nan, np.nan
        for window in (0, count, count - 1):
            for cap in (0.0, 5.0):
                together, alone = empty(*q.shape), empty(*q.shape)
                attention(q, keys, values, start, 0.2, window, cap, together)
                for t in range(rows):
                    attention(q[t : t + 1], keys, values, start + t, 0.2, window, cap, alone[t : t + 1])
                np.testing.assert_array_equal(together, alone)
                assert np.isfinite(together).all()
