"""Arithmetics to run a model with: the exact ones, and emulations that round where others round.

It knows nothing of the forward pass; `Transformer` calls the operations of one Arithmetic. An emulation is a hypothesis
about somebody else's numbers, and the source of error bars; it is not a way to be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from refsample_kernels.activation import define_silu_gate, silu_gate
from refsample_kernels.attention import attention, define_attention
from refsample_kernels.lanes import widen
from refsample_kernels.linear import define_linear, linear
from refsample_kernels.norm import define_rms_norm, rms_norm
from refsample_kernels.rope import define_rotate, rotate

from refsample.model.weights import Layer, Projection, Weights

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Operations with the signatures of the kernels, and how weights are made ready for them."""

    name: str
    dtype: Any
    """Type of activations and cache."""
    prepare: Callable[[Weights], Weights]
    linear: Callable[[Array, Array, Array, Array], None]
    rms_norm: Callable[[Array, Array, float, Array], None]
    rotate: Callable[[Array, Array, Array, Array], None]
    silu_gate: Callable[[Array, Array, Array], None]
    attention: Callable[[Array, Array, Array, int, float, Array], None]
    settle: Callable[[Array], Array]
    """Rounds embeddings and residual sums to what the arithmetic can hold."""


def _as_is(value: Any) -> Any:
    return value


def map_weights(weights: Weights, matrix: Callable[[Array], Array], vector: Callable[[Array], Array]) -> Weights:
    """Every matrix (embedding and head too) and every vector (norms, biases) put through a function; ties stay."""

    def projection(p: Projection) -> Projection:
        return Projection(matrix(p.weight), vector(p.bias))

    layers = []
    for layer in weights.layers:
        parts = {f.name: getattr(layer, f.name) for f in fields(Layer)}
        made = {name: projection(p) if isinstance(p, Projection) else vector(p) for name, p in parts.items()}
        layers.append(Layer(**made))
    embedding = matrix(weights.embedding)
    tied = weights.head.weight is weights.embedding
    head = Projection(embedding if tied else matrix(weights.head.weight), vector(weights.head.bias))
    return Weights(embedding, tuple(layers), vector(weights.final_norm), head)


def _float64(weights: Weights) -> Weights:
    def wide(array: Array) -> Array:
        return widen(array).astype(np.float64)

    return map_weights(weights, wide, wide)


FLOAT32 = Arithmetic(
    name="float32",
    dtype=np.float32,
    prepare=_as_is,
    linear=linear,
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
    rms_norm=define_rms_norm,
    rotate=define_rotate,
    silu_gate=define_silu_gate,
    attention=define_attention,
    settle=_as_is,
)

ARITHMETICS: Mapping[str, Arithmetic] = {a.name: a for a in (FLOAT32, FLOAT64)}
