"""What an arithmetic to run a model with is, the exact ones, and bfloat16 as torch rounds it.

It knows nothing of the forward pass; `Transformer` calls the operations of one Arithmetic. The other emulations, and
the table of all, are in `emulations.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
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
Product = Callable[[Array, Array, Array, Array], None]
"""(x [N, in], weight [out, in], bias [out] or [0], out [N, out])"""


def as_is(value: Any) -> Any:
    """What an arithmetic does where it does nothing."""
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Operations with the signatures of the kernels, and how weights are made ready for them."""

    name: str
    dtype: Any
    """Type of activations and cache."""
    prepare: Callable[[Weights], Weights]
    linear: Product
    low_rank: Product
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
    keep: Callable[[Array], Array] = as_is
    """New keys or values [N, K, D] -> what the cache holds of them; each token and head by itself."""
    head: Product | None = None
    """The product with the head, where that is another than `linear`."""
    about: str = ""
    """What is rounded, and how: one line for a person."""


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


FLOAT32 = Arithmetic(
    name="float32",
    dtype=np.float32,
    prepare=as_is,
    linear=linear,
    low_rank=linear,
    rms_norm=rms_norm,
    rotate=rotate,
    silu_gate=silu_gate,
    attention=attention,
    settle=as_is,
    about="float32 sums in our order: the reference",
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
    settle=as_is,
    about="the definitions, in float64: the truth",
)


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
    about="weights and activations in bfloat16",
)
"""Weights and activations in bfloat16, rounded where torch rounds a transformers model run in that type with eager
attention; sums are float32, in our order."""
