"""The products of a layer for few rows, with what goes before and after them: a token costs few calls. Kernels.

A norm, the matrices that read what it gives, and what is done with the result element by element are one kernel: it has
one stretch of work for all threads, and nothing waits in memory in between. Every element is computed as the single
kernels compute it (`norm`, `linear`, `activation`), so it has the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.activation import (
    define_gelu,
    define_gelu_tanh,
    define_silu,
    gelu_lanes,
    gelu_tanh_lanes,
    silu_lanes,
)
from refsample_kernels.jit import helper, kernel, prange
from refsample_kernels.lanes import load_part, mul, store_part
from refsample_kernels.linear import define_linear
from refsample_kernels.norm import define_rms_norm, rms_norm
from refsample_kernels.thin import STRETCH, thin

Floats = NDArray[Any]
SILU, GELU, GELU_TANH = 0, 1, 2
"""Activations, as numbers that a kernel takes."""


def define_project(
    x: Floats, norm: Floats, eps: float, wq: NDArray[Any], wk: NDArray[Any], wv: NDArray[Any], bq: Floats, bk: Floats,
    bv: Floats, q: Floats, k: Floats, v: Floats,
) -> None:  # fmt: skip
    """The root mean square norm of x [N, C] by its weight [C], times three matrices [.., C], each with its bias or [0]
    for none, to q, k, v [N, ..]."""
    normed = np.empty(x.shape, np.float64)  # [N, C]
    define_rms_norm(x, norm, eps, normed)
    for weight, bias, out in ((wq, bq, q), (wk, bk, k), (wv, bv, v)):
        define_linear(normed, weight, bias, out)


def _small_project(x: Floats, norm: Floats, eps: float, wq: NDArray[Any], *rest: Any) -> bool:
    return bool(x.shape[0] * wq.size < 64_000)


@kernel(define_project, parallel=True, small=_small_project)
def project(
    x: Floats, norm: Floats, eps: float, wq: NDArray[Any], wk: NDArray[Any], wv: NDArray[Any], bq: Floats, bk: Floats,
    bv: Floats, q: Floats, k: Floats, v: Floats,
) -> None:  # fmt: skip
    """See `define_project`; N up to `thin.FEW`."""
    normed = np.empty_like(x)  # [N, C]
    rms_norm(x, norm, eps, normed)
    flat_x, flat_q, flat_k, flat_v = normed.reshape(-1), wq.reshape(-1), wk.reshape(-1), wv.reshape(-1)
    out_q, out_k, out_v = q.reshape(-1), k.reshape(-1), v.reshape(-1)
    rows, width = x.shape
    first, second, third = q.shape[1], k.shape[1], v.shape[1]
    for turn in prange((first + second + third + STRETCH - 1) // STRETCH):
        left, right = turn * STRETCH, turn * STRETCH + STRETCH  # of all columns side by side
        if left < first:
            thin(flat_x, rows, width, flat_q, bq, left, min(right, first), out_q, first)
        left, right = left - first, right - first
        if left < second and right > 0:
            thin(flat_x, rows, width, flat_k, bk, max(0, left), min(right, second), out_k, second)
        left, right = left - second, right - second
        if left < third and right > 0:
            thin(flat_x, rows, width, flat_v, bv, max(0, left), min(right, third), out_v, third)


def define_gated(
    x: Floats, norm: Floats, eps: float, gate: NDArray[Any], up: NDArray[Any], gate_bias: Floats, up_bias: Floats,
    activation: int, out: Floats,
) -> None:  # fmt: skip
    """act(gate n) * (up n) of the root mean square norm n of x [N, C] by its weight [C]; gate and up [F, C], biases [F]
    or [0], out [N, F]. activation: SILU, GELU or GELU_TANH."""
    normed = np.empty(x.shape, np.float64)  # [N, C]
    define_rms_norm(x, norm, eps, normed)
    inner, wide, bent = (np.empty(out.shape, np.float64) for _ in range(3))  # [N, F]
    define_linear(normed, gate, gate_bias, inner)
    define_linear(normed, up, up_bias, wide)
    (define_silu, define_gelu, define_gelu_tanh)[activation](inner, bent)
    out[...] = bent * wide


def _small_gated(x: Floats, norm: Floats, eps: float, gate: NDArray[Any], *rest: Any) -> bool:
    return bool(x.shape[0] * gate.size < 100_000)


@kernel(define_gated, parallel=True, small=_small_gated)
def gated(
    x: Floats, norm: Floats, eps: float, gate: NDArray[Any], up: NDArray[Any], gate_bias: Floats, up_bias: Floats,
    activation: int, out: Floats,
) -> None:  # fmt: skip
    """See `define_gated`; N up to `thin.FEW`."""
    normed = np.empty_like(x)  # [N, C]
    rms_norm(x, norm, eps, normed)
    flat_x, flat_gate, flat_up, flat_out = normed.reshape(-1), gate.reshape(-1), up.reshape(-1), out.reshape(-1)
    rows, width = x.shape
    columns = out.shape[1]
    wide = np.empty(rows * columns, np.float32)  # [N, F]
    for turn in prange((columns + STRETCH - 1) // STRETCH):
        left, right = turn * STRETCH, min(columns, turn * STRETCH + STRETCH)
        thin(flat_x, rows, width, flat_gate, gate_bias, left, right, flat_out, columns)
        thin(flat_x, rows, width, flat_up, up_bias, left, right, wide, columns)
        for n in range(rows):
            i = n * columns + left
            bent = _bent(load_part(flat_out, i, right - left), activation)
            store_part(flat_out, i, right - left, mul(bent, load_part(wide, i, right - left)))


@helper
def _bent(v: Any, activation: int) -> Any:
    if activation == SILU:
        return silu_lanes(v)
    if activation == GELU:
        return gelu_lanes(v)
    return gelu_tanh_lanes(v)


def define_add_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """out += x W^T + b, as `define_linear`."""
    product = np.empty(out.shape, np.float64)  # [N, M]
    define_linear(x, weight, bias, product)
    out += product


def _small_add_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> bool:
    return bool(x.shape[0] * weight.size < 100_000)


@kernel(define_add_linear, parallel=True, small=_small_add_linear)
def add_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """See `define_add_linear`; N up to `thin.FEW`."""
    flat_x, flat_w, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
    rows, width = x.shape
    columns = out.shape[1]
    made = np.empty(rows * columns, np.float32)  # [N, M]
    for turn in prange((columns + STRETCH - 1) // STRETCH):
        left, right = turn * STRETCH, min(columns, turn * STRETCH + STRETCH)
        thin(flat_x, rows, width, flat_w, bias, left, right, made, columns)
        for n in range(rows):
            for m in range(left, right):
                flat_out[n * columns + m] += made[n * columns + m]
