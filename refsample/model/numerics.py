"""Arithmetics to run a model with: the exact ones, and emulations that round where others round.

It knows nothing of the forward pass; `Transformer` calls the operations of one Arithmetic. An emulation is a hypothesis
about somebody else's numbers, and the source of error bars; it is not a way to be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.weights import Layer, Projection, Weights
from refsample_kernels.activation import define_silu_gate, silu_gate
from refsample_kernels.attention import attention, attention_bf16, define_attention
from refsample_kernels.lanes import to_bf16, widen
from refsample_kernels.linear import define_linear, linear
from refsample_kernels.norm import define_rms_norm, rms_norm
from refsample_kernels.rope import define_rotate, rotate

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Operations with the signatures of the kernels, and how weights are made ready for them."""

    name: str
    dtype: Any
    """Type of activations and cache."""
    prepare: Callable[[Weights], Weights]
    linear: Callable[[Array, Array, Array, Array], None]
    """(x [N, in], weight [out, in], bias [out] or [0], out [N, out])"""
    low_rank: Callable[[Array, Array, Array, Array], None]
    """The same for the factors of an adapter, which no emulation rounds: what they add is rounded with the sum alone,
    as PEFT does, whose factors stay float32 beside a base in bfloat16 or 4 bits."""
    rms_norm: Callable[[Array, Array, float, Array], None]
    """(x [N, C], weight [C], eps, out [N, C])"""
    rotate: Callable[[Array, Array, Array, Array], None]
    """(x [T, H, D], cos [T, D/2], sin [T, D/2], out [T, H, D])"""
    silu_gate: Callable[[Array, Array, Array], None]
    """(gate [N, F], up [N, F], out [N, F])"""
    attention: Callable[[Array, Array, Array, int, float, Array], None]
    """(q [T, H, D], keys [K, D, S], values [K, S, D], start, scale, out [T, H, D])"""
    settle: Callable[[Array], Array]
    """Rounds embeddings and residual sums to what the arithmetic can hold."""


def _as_is(value: Any) -> Any:
    return value


def map_weights(
    weights: Weights,
    matrix: Callable[[Array], Array],
    vector: Callable[[Array], Array],
    outer: Callable[[Array], Array] | None = None,
) -> Weights:
    """Every matrix and every vector (norms, biases) put through a function; `outer`, where given, takes embedding and
    head instead of `matrix`. A tied head stays tied."""

    def projection(p: Projection) -> Projection:
        return Projection(matrix(p.weight), vector(p.bias))

    layers = []
    for layer in weights.layers:
        parts = {f.name: getattr(layer, f.name) for f in fields(Layer)}
        made: dict[str, Any] = {}
        for name, part in parts.items():
            made[name] = projection(part) if isinstance(part, Projection) else vector(part)
        layers.append(Layer(**made))
    outer = outer or matrix
    embedding = outer(weights.embedding)
    tied = weights.head.weight is weights.embedding
    head = Projection(embedding if tied else outer(weights.head.weight), vector(weights.head.bias))
    return Weights(embedding, tuple(layers), vector(weights.final_norm), head)


def _float64(weights: Weights) -> Weights:
    def wide(array: Array) -> Array:
        return widen(array).astype(np.float64)

    return map_weights(weights, wide, wide)


def _bf16(weights: Weights) -> Weights:
    """Matrices as bfloat16 bits (as they are where the file is bfloat16), vectors rounded."""

    def bits(array: Array) -> Array:
        if array.dtype == np.uint16:
            return array
        made: Array = (to_bf16(widen(array)).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        return made

    return map_weights(weights, bits, to_bf16)


def round_to_int4(matrix: Array, group: int = 32) -> Array:
    """What a matrix [out, in] becomes in symmetric 4-bit weights, as float32.

    Along the input dimension every group of 32 shares one float32 scale = largest magnitude / 7; each weight is rounded
    to the nearest of the fifteen multiples -7..7, ties to even. A last group may be shorter.
    """
    values = widen(matrix).astype(np.float32)
    rows, width = values.shape
    padded = np.zeros((rows, -(-width // group) * group), np.float32)  # [out, in rounded up to whole groups]
    padded[:, :width] = values
    groups = padded.reshape(rows, -1, group)  # [out, groups, 32]
    scale = np.abs(groups).max(axis=2, keepdims=True) / np.float32(7)  # [out, groups, 1]
    steps = np.rint(np.divide(groups, scale, out=np.zeros_like(groups), where=scale > 0))  # [out, groups, 32]
    return np.ascontiguousarray((steps * scale).reshape(rows, -1)[:, :width])


def _int4(weights: Weights) -> Weights:
    """Projections of the blocks in 4 bits; embedding, head, norms and biases as they are (as GPTQ and AWQ leave them).

    The result is float32 in memory: twice a bfloat16 file, four bytes a weight.
    """
    return map_weights(weights, round_to_int4, _as_is, outer=_as_is)


FLOAT32 = Arithmetic(
    name="float32",
    dtype=np.float32,
    prepare=_as_is,
    linear=linear,
    low_rank=linear,
    rms_norm=rms_norm,
    rotate=rotate,
    silu_gate=silu_gate,
    attention=attention,
    settle=_as_is,
)

FLOAT64 = Arithmetic(
    name="float64",
    dtype=np.float64,
    prepare=_float64,
    linear=define_linear,
    low_rank=define_linear,
    rms_norm=define_rms_norm,
    rotate=define_rotate,
    silu_gate=define_silu_gate,
    attention=define_attention,
    settle=_as_is,
)

INT4 = replace(FLOAT32, name="int4-g32", prepare=_int4)


def _linear_bf16(x: Array, weight: Array, bias: Array, out: Array) -> None:
    """x [N, in] W^T + b in float32, the result [N, out] rounded."""
    linear(x, weight, bias, out)
    out[...] = to_bf16(out)


def _rms_norm_bf16(x: Array, weight: Array, eps: float, out: Array) -> None:
    """Rows [N, C] are rounded before the weight [C] and after it."""
    rms_norm(x, np.ones_like(weight), eps, out)
    out[...] = to_bf16(to_bf16(out) * weight)


def _rotate_bf16(x: Array, cos: Array, sin: Array, out: Array) -> None:
    """Both products are rounded before they are added."""
    c, s = to_bf16(cos)[:, None, :], to_bf16(sin)[:, None, :]  # [T, 1, D/2]
    half = x.shape[2] // 2
    low, high = x[:, :, :half], x[:, :, half:]  # [T, H, D/2]
    out[:, :, :half] = to_bf16(to_bf16(low * c) - to_bf16(high * s))
    out[:, :, half:] = to_bf16(to_bf16(high * c) + to_bf16(low * s))


def _silu_gate_bf16(gate: Array, up: Array, out: Array) -> None:
    """The activation [N, F] is rounded before the product and after it."""
    silu_gate(gate, np.ones_like(gate), out)
    out[...] = to_bf16(to_bf16(out) * up)


BF16 = Arithmetic(
    name="bf16",
    dtype=np.float32,
    prepare=_bf16,
    linear=_linear_bf16,
    low_rank=linear,
    rms_norm=_rms_norm_bf16,
    rotate=_rotate_bf16,
    silu_gate=_silu_gate_bf16,
    attention=attention_bf16,
    settle=to_bf16,
)
"""Weights and activations in bfloat16, rounded where torch rounds a transformers model run in that type with eager
attention; sums are float32, in our order."""

ARITHMETICS: Mapping[str, Arithmetic] = {a.name: a for a in (FLOAT32, FLOAT64, INT4, BF16)}
