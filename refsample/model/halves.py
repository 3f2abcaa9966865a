"""bfloat16 and float16 as torch rounds a transformers model that runs in them, with eager attention.

Every operation is computed in float32, in our order, and rounded where torch's result is: so an operation here is a
float32 one and `to`, the rounding of the type. Values are float32 in memory; matrices are held as bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.numerics import FLOAT32, Arithmetic, map_weights
from refsample.model.quantise import to_f16
from refsample.model.weights import NOTHING, Weights
from refsample_kernels.attention import attention_bf16
from refsample_kernels.lanes import to_bf16, widen
from refsample_kernels.linear import apply_linear
from refsample_kernels.moe import route
from refsample_kernels.norm import layer_norm, rms_norm

Array = NDArray[Any]
Rounding = Callable[[Array], Array]


def _bits_bf16(array: Array) -> Array:
    """As they are where the file is bfloat16."""
    if array.dtype == np.uint16:
        return array
    made: Array = (to_bf16(widen(array)).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return made


def _bits_f16(array: Array) -> Array:
    """As they are where the file is float16; else what is beyond 65504 becomes infinite."""
    if array.dtype == np.int16:
        return array
    with np.errstate(over="ignore"):
        return widen(array).astype(np.float16).view(np.int16)


def _prepare(bits: Rounding, to: Rounding, weights: Weights) -> Weights:
    return map_weights(weights, bits, to)


def _linear(to: Rounding, x: Array, weight: Array, bias: Array, out: Array) -> None:
    """x [N, in] W^T + b in float32, the result [N, out] rounded."""
    apply_linear(x, weight, bias, out)
    out[...] = to(out)


def _rms_norm(to: Rounding, x: Array, weight: Array, eps: float, out: Array) -> None:
    """Rows [N, C] are rounded before the weight [C] and after it."""
    rms_norm(x, np.ones_like(weight), eps, out)
    out[...] = to(to(out) * weight)


def _rms_norm_once(to: Rounding, x: Array, weight: Array, eps: float, out: Array) -> None:
    """Rows [N, C] are rounded after the weight [C] alone."""
    rms_norm(x, weight, eps, out)
    out[...] = to(out)


def _layer_norm(to: Rounding, x: Array, weight: Array, bias: Array, eps: float, out: Array) -> None:
    """Rows [N, C] are rounded at the end: torch's own kernel computes in float32."""
    layer_norm(x, weight, bias, eps, out)
    out[...] = to(out)


def _rotate(to: Rounding, x: Array, cos: Array, sin: Array, out: Array) -> None:
    """Both products are rounded before they are added."""
    c, s = to(cos)[:, None, :], to(sin)[:, None, :]  # [T, 1, R/2]
    half = cos.shape[1]
    low, high = x[:, :, :half], x[:, :, half : 2 * half]  # [T, H, R/2]
    out[:, :, :half] = to(to(low * c) - to(high * s))
    out[:, :, half : 2 * half] = to(to(high * c) + to(low * s))
    out[:, :, 2 * half :] = x[:, :, 2 * half :]


def _activation(to: Rounding, exact: Callable[[Array, Array], None], x: Array, out: Array) -> None:
    """An activation [N, F] computed in float32 and rounded."""
    exact(x, out)
    out[...] = to(out)


def _rotate_once(to: Rounding, x: Array, cos: Array, sin: Array, out: Array) -> None:
    """Turned in float32 by float32 angles, and rounded."""
    FLOAT32.rotate(x, cos, sin, out)
    out[...] = to(out)


def _gelu_new(to: Rounding, x: Array, out: Array) -> None:
    """transformers' NewGELU: Python's operations on tensors, each rounded; x and out [N, F]."""
    inner = to(x + to(np.float32(0.044715) * to(to(x * x) * x)))
    bent = to(np.tanh(to(np.float32(math.sqrt(2 / math.pi)) * inner).astype(np.float64)).astype(np.float32))
    out[...] = to(to(np.float32(0.5) * x) * to(np.float32(1) + bent))


def _gelu_fast(to: Rounding, x: Array, out: Array) -> None:
    """transformers' FastGELU, in the same way."""
    square = to(to(np.float32(0.044715) * x) * x)
    inner = to(to(x * np.float32(0.7978845608)) * to(np.float32(1) + square))
    bent = to(np.tanh(inner.astype(np.float64)).astype(np.float32))
    out[...] = to(to(np.float32(0.5) * x) * to(np.float32(1) + bent))


def _soft_cap(to: Rounding, x: Array, cap: float, out: Array) -> None:
    """Quotient, tanh and product [N, V] are rounded each."""
    FLOAT32.soft_cap(to((x / np.float32(cap)).astype(np.float32)), 1.0, out)
    out[...] = to(to(out) * np.float32(cap))


def _attention_f16(
    q: Array, keys: Array, values: Array, start: int, scale: float, window: int, cap: float, out: Array
) -> None:
    """Rounded after q.k, after the scale, in each step of the cap, after the softmax (itself in float64) and at the
    end. By whole products, not by a kernel of its own: `linear` sums each element in a fixed order, and the zeros of
    keys that a row does not see change no sum.
    """
    rows, heads, width = q.shape
    end, group = start + rows, heads // len(keys)
    if rows > 1 and not np.isfinite(values[:, :end]).all():  # 0 * inf would reach rows that do not see it
        for t in range(rows):
            _attention_f16(q[t : t + 1], keys, values, start + t, scale, window, cap, out[t : t + 1])
        return
    age = np.arange(start, end)[:, None] - np.arange(end)  # [T, S]
    seen = np.repeat((age >= 0) & ((age < window) if window else True), group, axis=0)  # [T G, S]
    for kv in range(len(keys)):
        mine = slice(kv * group, (kv + 1) * group)
        scores = np.empty((rows * group, end), np.float32)  # [T G, S]
        mine_q = np.ascontiguousarray(q[:, mine]).reshape(-1, width)  # [T G, D]
        apply_linear(mine_q, np.ascontiguousarray(keys[kv, :, :end].T), NOTHING, scores)
        with np.errstate(invalid="ignore"):  # a score that overflowed makes NaN of its row, as there
            scores = to_f16(to_f16(scores) * np.float32(scale))
            if cap:
                bent = np.empty_like(scores)
                _soft_cap(to_f16, scores, cap, bent)
                scores = bent
            scores = np.where(seen, scores, np.float32(-np.inf))
            powers = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64))
            shares = to_f16((powers / np.cumsum(powers, axis=1)[:, -1:]).astype(np.float32))  # summed in turn
        mixed = np.empty((rows * group, width), np.float32)  # [T G, D]
        apply_linear(shares, np.ascontiguousarray(values[kv, :end].T), NOTHING, mixed)
        out[:, mine] = to_f16(mixed).reshape(rows, group, width)


def _half(name: str, to: Rounding, bits: Rounding, attention: Callable[..., None], about: str) -> Arithmetic:
    return Arithmetic(
        name=name,
        dtype=np.float32,
        prepare=partial(_prepare, bits, to),
        linear=partial(_linear, to),
        low_rank=apply_linear,
        rms_norm=partial(_rms_norm, to),
        rms_norm_once=partial(_rms_norm_once, to),
        layer_norm=partial(_layer_norm, to),
        rotate=partial(_rotate, to),
        rotate_once=partial(_rotate_once, to),
        activations={kind: partial(_activation, to, exact) for kind, exact in FLOAT32.activations.items()}
        | {"gelu_new": partial(_gelu_new, to), "gelu_fast": partial(_gelu_fast, to)},
        attention=attention,
        route=route,
        soft_cap=partial(_soft_cap, to),
        settle=to,
        about=about,
    )


BF16 = _half("bf16", to_bf16, _bits_bf16, attention_bf16, "weights and activations in bfloat16")
F16 = _half("f16", to_f16, _bits_f16, _attention_f16, "weights and activations in float16, beyond 65504 infinite")
