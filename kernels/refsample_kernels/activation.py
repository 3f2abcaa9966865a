"""Activations of the feed-forward layer and the soft cap of logits, element by element. It knows nothing of layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import (
    add,
    below,
    div,
    exp,
    fma,
    larger,
    load,
    load_part,
    mul,
    spread,
    store,
    store_part,
    sub,
)

Floats = NDArray[Any]
_SLOPE, _CUBE = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel 2016, arXiv 1606.08415
_ROOT = math.sqrt(0.5)
# Our own least-squares fits (Chebyshev nodes). tanh x = x + x^3 P(x^2) below 0.625: 9e-8 relative in float32.
_TANH = (-0.006104952190071344, 0.021003656089305878, -0.05385250598192215, 0.13332782685756683, -0.333333283662796)
# erfc z = e^(-z^2) t P(t) with t = 1 / (1 + z / 2), z >= 0: truncation 2e-8 relative.
_ERFC = (
    0.04240427166223526,
    -0.23019084334373474,
    0.4823717176914215,
    -0.4389159679412842,
    0.11791057884693146,
    -0.05097157508134842,
    0.0903555303812027,
    0.1760634183883667,
    0.24677614867687225,
    0.28210219740867615,
    0.2820945382118225,
)


def define_silu(x: Floats, out: Floats) -> None:
    """out = x / (1 + e^-x); x and out [N, F]."""
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):  # e^-x = inf gives the right 0
        out[...] = wide / (1.0 + np.exp(-wide))


def define_gelu(x: Floats, out: Floats) -> None:
    """out = x / 2 (1 + erf(x / sqrt 2)); x and out [N, F]."""
    flat = [v * 0.5 * math.erfc(-v * _ROOT) for v in x.reshape(-1).tolist()]
    out[...] = np.array(flat).reshape(x.shape)


def define_gelu_tanh(x: Floats, out: Floats) -> None:
    """out = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), written without a difference; x and out [N, F]."""
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):  # as in `define_silu`
        out[...] = wide / (1.0 + np.exp(-2 * _SLOPE * (wide + _CUBE * wide**3)))


def define_soft_cap(x: Floats, cap: float, out: Floats) -> None:
    """out = cap tanh(x / cap); x and out [N, V], cap > 0."""
    out[...] = cap * np.tanh(x.astype(np.float64) / cap)


@kernel(define_silu)
def silu(x: Floats, out: Floats) -> None:
    """See `define_silu`; every element goes through the same operations."""
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    for i in range(0, flat_x.size, 16):
        n = flat_x.size - i
        if n >= 16:
            store(flat_out, i, silu_lanes(load(flat_x, i)))
        else:
            store_part(flat_out, i, n, silu_lanes(load_part(flat_x, i, n)))


@kernel(define_gelu)
def gelu(x: Floats, out: Floats) -> None:
    """See `define_gelu`."""
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    for i in range(0, flat_x.size, 16):
        n = flat_x.size - i
        if n >= 16:
            store(flat_out, i, gelu_lanes(load(flat_x, i)))
        else:
            store_part(flat_out, i, n, gelu_lanes(load_part(flat_x, i, n)))


@kernel(define_gelu_tanh)
def gelu_tanh(x: Floats, out: Floats) -> None:
    """See `define_gelu_tanh`."""
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    for i in range(0, flat_x.size, 16):
        n = flat_x.size - i
        if n >= 16:
            store(flat_out, i, gelu_tanh_lanes(load(flat_x, i)))
        else:
            store_part(flat_out, i, n, gelu_tanh_lanes(load_part(flat_x, i, n)))


@kernel(define_soft_cap)
def soft_cap(x: Floats, cap: float, out: Floats) -> None:
    """See `define_soft_cap`."""
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    most = spread(np.float32(cap))
    for i in range(0, flat_x.size, 16):
        n = flat_x.size - i
        if n >= 16:
            store(flat_out, i, mul(tanh(div(load(flat_x, i), most)), most))
        else:
            store_part(flat_out, i, n, mul(tanh(div(load_part(flat_x, i, n), most)), most))


@helper
def tanh(v: Any) -> Any:
    """Of sixteen lanes: an odd polynomial for small values, so that they keep their last bits, e^2v for the others."""
    zero, one, edge = spread(np.float32(0)), spread(np.float32(1)), spread(np.float32(0.625))
    size = larger(v, sub(zero, v))
    near = below(size, edge, v, zero)  # the polynomial sees nothing that could overflow
    square = mul(near, near)
    terms = spread(np.float32(_TANH[0]))
    for k in range(1, 5):
        terms = fma(terms, square, spread(np.float32(_TANH[k])))
    small = fma(mul(near, square), terms, near)
    large = sub(one, div(spread(np.float32(2)), add(one, exp(add(v, v)))))
    return below(size, edge, small, large)


@helper
def silu_lanes(v: Any) -> Any:
    return div(v, add(spread(np.float32(1)), exp(sub(spread(np.float32(0)), v))))


@helper
def gelu_lanes(v: Any) -> Any:
    """max(v, 0) - |v| erfc(|v| / sqrt 2) / 2, which holds for both signs; from 30 on the second is 0."""
    zero, half, one = spread(np.float32(0)), spread(np.float32(0.5)), spread(np.float32(1))
    most = spread(np.float32(30))
    size = larger(v, sub(zero, v))
    size = below(size, most, size, most)
    z = mul(size, spread(np.float32(_ROOT)))
    t = div(one, fma(z, half, one))
    terms = spread(np.float32(_ERFC[0]))
    for k in range(1, 11):
        terms = fma(terms, t, spread(np.float32(_ERFC[k])))
    tail = mul(mul(exp(sub(zero, mul(z, z))), t), terms)
    return sub(larger(zero, v), mul(mul(size, half), tail))  # zero first: NaN stays NaN


@helper
def gelu_tanh_lanes(v: Any) -> Any:
    """v / (1 + e^-2u); beyond 30 either way u decides nothing more, and its cube could overflow."""
    most, least = spread(np.float32(30)), spread(np.float32(-30))
    held = larger(below(v, most, v, most), least)
    inner = fma(mul(spread(np.float32(_CUBE)), mul(held, held)), held, held)
    return div(v, add(spread(np.float32(1)), exp(mul(spread(np.float32(-2 * _SLOPE)), inner))))
