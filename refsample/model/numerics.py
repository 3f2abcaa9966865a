"""What an arithmetic to run a model with is, and the exact ones. It knows nothing of the forward pass.

`Transformer` calls the operations of one Arithmetic; the table of all is in `emulations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.families import TANH_LIKE, Activation
from refsample.model.shelf import Shelf
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
from refsample_kernels.attention import attention, define_attention
from refsample_kernels.lanes import widen
from refsample_kernels.linear import apply_linear, define_linear
from refsample_kernels.moe import define_route, route
from refsample_kernels.norm import define_layer_norm, define_rms_norm, layer_norm, rms_norm
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
    """(x [N, C], weight [C], eps, out [N, C]), rounded before the weight and after it."""
    rms_norm_once: Callable[[Array, Array, float, Array], None]
    """The same, rounded after the weight alone."""
    layer_norm: Callable[[Array, Array, Array, float, Array], None]
    """(x [N, C], weight [C], bias [C] or [0], eps, out [N, C])"""
    rotate: Callable[[Array, Array, Array, Array], None]
    """(x [T, H, D], cos [T, R/2], sin [T, R/2], out [T, H, D])"""
    rotate_once: Callable[[Array, Array, Array, Array], None]
    """The same, rounded at the end alone."""
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
    keep: Callable[[Array], Array] = as_is
    """New keys or values [N, K, D] -> what the cache holds of them; each token and head by itself."""
    head: Product | None = None
    """The product with the head, where that is another than `linear`."""
    router: Product | None = None
    """The product with a router of experts, where that is another than `linear`."""
    about: str = ""
    """What is rounded, and how: one line for a person."""

    @property
    def fused(self) -> bool:
        """Whether kernels that do several of these operations at once (`stack`) give the same bits."""
        own = (self.linear, self.rms_norm, self.rotate, self.rotate_once, self.attention, self.settle, self.keep)
        theirs = (apply_linear, rms_norm, rotate, rotate, attention, as_is, as_is)
        return own == theirs and self.activations == ACTIVATIONS


def map_weights(
    weights: Weights,
    matrix: Callable[[Array], Array],
    vector: Callable[[Array], Array],
    outer: Callable[[Array], Array] | None = None,
) -> Weights:
    """Every matrix and every vector (norms, biases) put through a function; `outer`, where given, takes embedding,
    positions, head and routers instead of `matrix`. A tied head stays tied; layers on a shelf stay there."""
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

    embedding, layers = outer(weights.embedding), weights.layers
    tied = weights.head.weight is weights.embedding
    return Weights(
        embedding=embedding,
        layers=layers.mapped(mapped) if isinstance(layers, Shelf) else tuple(mapped(layer) for layer in layers),
        final_norm=mapped(weights.final_norm),
        head=Projection(embedding if tied else outer(weights.head.weight), vector(weights.head.bias)),
        positions=None if weights.positions is None else outer(weights.positions),
    )


def _float64(weights: Weights) -> Weights:
    def wide(array: Array) -> Array:
        return widen(array).astype(np.float64)

    return map_weights(weights, wide, wide)


ACTIVATIONS: Mapping[Activation, Callable[[Array, Array], None]] = {
    "silu": silu, "gelu": gelu, **dict.fromkeys(TANH_LIKE, gelu_tanh)
}  # fmt: skip

FLOAT32 = Arithmetic(
    name="float32",
    dtype=np.float32,
    prepare=as_is,
    linear=apply_linear,
    low_rank=apply_linear,
    rms_norm=rms_norm,
    rms_norm_once=rms_norm,
    layer_norm=layer_norm,
    rotate=rotate,
    rotate_once=rotate,
    activations=ACTIVATIONS,
    attention=attention,
    route=route,
    soft_cap=soft_cap,
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
    rms_norm_once=define_rms_norm,
    layer_norm=define_layer_norm,
    rotate=define_rotate,
    rotate_once=define_rotate,
    activations={"silu": define_silu, "gelu": define_gelu, **dict.fromkeys(TANH_LIKE, define_gelu_tanh)},
    attention=define_attention,
    route=define_route,
    soft_cap=define_soft_cap,
    settle=as_is,
    about="the definitions, in float64: the truth",
)
