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

from refsample.model.families import Activation
from refsample.model.weights import Mixture, Norm, Projection, Weights
from refsample_kernels.activation import (
    define_gelu,
    define_gelu_tanh,
    define_silu,
    define_soft_cap,
    gelu,
    gelu_tanh,
    silu,
    soft_cap,
)
from refsample_kernels.attention import attention, attention_bf16, define_attention
from refsample_kernels.lanes import to_bf16, widen
from refsample_kernels.linear import define_linear, linear
from refsample_kernels.moe import define_route, route
from refsample_kernels.norm import define_layer_norm, define_rms_norm, layer_norm, rms_norm
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
    """(x [N, C], weight [C], eps, out [N, C]), rounded before the weight and after it."""
    rms_norm_once: Callable[[Array, Array, float, Array], None]
    """The same, rounded after the weight alone."""
    layer_norm: Callable[[Array, Array, Array, float, Array], None]
    """(x [N, C], weight [C], bias [C] or [0], eps, out [N, C])"""
    rotate: Callable[[Array, Array, Array, Array], None]
    """(x [T, H, D], cos [T, R/2], sin [T, R/2], out [T, H, D])"""
    activations: Mapping[Activation, Callable[[Array, Array], None]]
    """(x [N, F], out [N, F])"""
    attention: Callable[[Array, Array, Array, int, float, int, float, Array], None]
    """(q [T, H, D], keys [K, D, S], values [K, S, D], start, scale, window or 0, cap or 0, out [T, H, D])"""
    route: Callable[[Array, bool, Array, Array], None]
    """(logits [N, E], normalise, chosen [N, k], shares [N, k])"""
    soft_cap: Callable[[Array, float, Array], None]
    """(x [N, V], cap, out [N, V])"""
    settle: Callable[[Array], Array]
    """Rounds embeddings, sums and products by a number to what the arithmetic can hold."""


def _as_is(value: Any) -> Any:
    return value


def map_weights(
    weights: Weights,
    matrix: Callable[[Array], Array],
    vector: Callable[[Array], Array],
    outer: Callable[[Array], Array] | None = None,
) -> Weights:
    """Every matrix and every vector (norms, biases) put through a function; `outer`, where given, takes embedding,
    positions, head and routers instead of `matrix`. A tied head stays tied."""
    outer = outer or matrix

    def mapped(part: Any, matrix: Callable[[Array], Array] = matrix) -> Any:
        if part is None:
            return None
        if isinstance(part, Projection):
            return Projection(matrix(part.weight), vector(part.bias))
        if isinstance(part, Norm):
            return Norm(vector(part.weight), vector(part.bias))
        if isinstance(part, Mixture):
            return Mixture(mapped(part.router, outer), tuple(mapped(expert) for expert in part.experts))
        return type(part)(**{f.name: mapped(getattr(part, f.name)) for f in fields(part)})

    embedding = outer(weights.embedding)
    tied = weights.head.weight is weights.embedding
    return Weights(
        embedding=embedding,
        layers=tuple(mapped(layer) for layer in weights.layers),
        final_norm=mapped(weights.final_norm),
        head=Projection(embedding if tied else outer(weights.head.weight), vector(weights.head.bias)),
        positions=None if weights.positions is None else outer(weights.positions),
    )


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
    rms_norm_once=rms_norm,
    layer_norm=layer_norm,
    rotate=rotate,
    activations={"silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh},
    attention=attention,
    route=route,
    soft_cap=soft_cap,
    settle=_as_is,
)

FLOAT64 = Arithmetic(
    name="float64",
    dtype=np.float64,
    prepare=_float64,
    linear=define_linear,
    low_rank=define_linear,
    rms_norm=define_rms_norm,
    rms_norm_once=define_rms_norm,
    layer_norm=define_layer_norm,
    rotate=define_rotate,
    activations={"silu": define_silu, "gelu": define_gelu, "gelu_tanh": define_gelu_tanh},
    attention=define_attention,
    route=define_route,
    soft_cap=define_soft_cap,
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


def _rms_norm_once_bf16(x: Array, weight: Array, eps: float, out: Array) -> None:
    """Rows [N, C] are rounded after the weight [C] alone."""
    rms_norm(x, weight, eps, out)
    out[...] = to_bf16(out)


def _layer_norm_bf16(x: Array, weight: Array, bias: Array, eps: float, out: Array) -> None:
    """Rows [N, C] are rounded at the end: torch's own kernel computes in float32."""
    layer_norm(x, weight, bias, eps, out)
    out[...] = to_bf16(out)


def _rotate_bf16(x: Array, cos: Array, sin: Array, out: Array) -> None:
    """Both products are rounded before they are added."""
    c, s = to_bf16(cos)[:, None, :], to_bf16(sin)[:, None, :]  # [T, 1, R/2]
    half = cos.shape[1]
    low, high = x[:, :, :half], x[:, :, half : 2 * half]  # [T, H, R/2]
    out[:, :, :half] = to_bf16(to_bf16(low * c) - to_bf16(high * s))
    out[:, :, half : 2 * half] = to_bf16(to_bf16(high * c) + to_bf16(low * s))
    out[:, :, 2 * half :] = x[:, :, 2 * half :]


def _rounded_bf16(activation: Callable[[Array, Array], None]) -> Callable[[Array, Array], None]:
    """An activation [N, F] computed in float32 and rounded."""

    def rounded(x: Array, out: Array) -> None:
        activation(x, out)
        out[...] = to_bf16(out)

    return rounded


def _route_bf16(logits: Array, normalise: bool, chosen: Array, shares: Array) -> None:
    """Shares [N, k] are computed in float32 and rounded."""
    route(logits, normalise, chosen, shares)
    shares[...] = to_bf16(shares)


def _soft_cap_bf16(x: Array, cap: float, out: Array) -> None:
    """Quotient, tanh and product [N, V] are rounded each."""
    soft_cap(to_bf16((x / np.float32(cap)).astype(np.float32)), 1.0, out)
    out[...] = to_bf16(to_bf16(out) * np.float32(cap))


BF16 = Arithmetic(
    name="bf16",
    dtype=np.float32,
    prepare=_bf16,
    linear=_linear_bf16,
    low_rank=linear,
    rms_norm=_rms_norm_bf16,
    rms_norm_once=_rms_norm_once_bf16,
    layer_norm=_layer_norm_bf16,
    rotate=_rotate_bf16,
    activations={name: _rounded_bf16(made) for name, made in FLOAT32.activations.items()},
    attention=attention_bf16,
    route=_route_bf16,
    soft_cap=_soft_cap_bf16,
    settle=to_bf16,
)
"""Weights and activations in bfloat16, rounded where torch rounds a transformers model run in that type with eager
attention; sums are float32, in our order."""

ARITHMETICS: Mapping[str, Arithmetic] = {a.name: a for a in (FLOAT32, FLOAT64, INT4, BF16)}
