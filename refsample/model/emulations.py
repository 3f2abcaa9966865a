"""The arithmetics by name: each emulation rounds where others round, over the exact operations of `numerics.py`.

An emulation is a hypothesis about somebody else's numbers, and the source of error bars; it is not a way to be fast.
Unless its line says otherwise, what is quantised are the projections of the blocks; embedding, head, norms and biases
stay as they are, as packers leave them (GPTQ, AWQ, compressed-tensors), and sums are float32 in our order. Quantised
weights are float32 in memory: twice a bfloat16 file, four bytes a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model import quantise
from refsample.model.halves import BF16, F16
from refsample.model.numerics import FLOAT32, FLOAT64, Arithmetic, as_is, map_weights
from refsample.model.weights import Projection, Weights
from refsample_kernels.attention import attention
from refsample_kernels.linear import apply_linear
from refsample_kernels.norm import layer_norm, rms_norm

Array = NDArray[Any]
Rounding = Callable[[Array], Array]


# --- quantised weights, activations, cache --------------------------------------------------------------------------


def _projections(rounded: Rounding, weights: Weights) -> Weights:
    return map_weights(weights, rounded, as_is, outer=as_is)


def _with_outer(rounded: Rounding, weights: Weights) -> Weights:
    """Projections, embedding and head; routers and learned positions stay, as GGUF keeps them in float32."""
    embedding = rounded(weights.embedding)
    tied = weights.head.weight is weights.embedding
    head = Projection(embedding if tied else rounded(weights.head.weight), weights.head.bias)
    return replace(_projections(rounded, weights), embedding=embedding, head=head)


def _linear_of(rounded: Rounding, x: Array, weight: Array, bias: Array, out: Array) -> None:
    """x [N, in] rounded, each row by itself, then x W^T + b."""
    apply_linear(rounded(x), weight, bias, out)


def _weights(name: str, rounded: Rounding, about: str) -> Arithmetic:
    """Projections rounded; activations are not."""
    return replace(FLOAT32, name=name, prepare=partial(_projections, rounded), about=about)


def _with_tokens(name: str, rounded: Rounding, about: str) -> Arithmetic:
    """The same, and each projection's input rounded token by token (dynamically, as W8A8 kernels do)."""
    return replace(
        FLOAT32,
        name=name,
        prepare=partial(_projections, rounded),
        linear=partial(_linear_of, rounded),
        head=apply_linear,
        router=apply_linear,
        about=about,
    )


def _gguf(name: str, rounded: Rounding, about: str) -> Arithmetic:
    """Embedding and head rounded too, and products as llama.cpp's CPU backend makes them: it rounds the other side to
    Q8_0 first, whatever the type of the weights."""
    product = partial(_linear_of, quantise.round_to_q8_0)
    made = _weights(name, rounded, about)
    return replace(made, prepare=partial(_with_outer, rounded), linear=product, router=apply_linear)


# --- another order of sums ------------------------------------------------------------------------------------------


def _order(width: int) -> NDArray[np.intp]:
    """A fixed shuffle of 0..width-1: by multiples of 2^32 / golden ratio (Knuth 6.4), modulo 2^32."""
    return np.argsort(np.arange(width, dtype=np.uint64) * np.uint64(2654435769) % np.uint64(2**32), kind="stable")


def _shuffle(array: Array) -> Array:
    """The last axis in that order."""
    return np.ascontiguousarray(array[..., _order(array.shape[-1])])


def _shuffled(weights: Weights) -> Weights:
    """Columns of every matrix that is multiplied with in that order: products find them so."""
    moved = map_weights(weights, _shuffle, as_is)
    return replace(moved, embedding=weights.embedding, positions=weights.positions)


def _rms_norm_shuffled(x: Array, weight: Array, eps: float, out: Array) -> None:
    """The squares are summed in the other order."""
    made = np.empty_like(out)
    rms_norm(_shuffle(x), _shuffle(weight), eps, made)
    out[:, _order(x.shape[1])] = made


def _layer_norm_shuffled(x: Array, weight: Array, bias: Array, eps: float, out: Array) -> None:
    """The same."""
    made = np.empty_like(out)
    layer_norm(_shuffle(x), _shuffle(weight), _shuffle(bias), eps, made)
    out[:, _order(x.shape[1])] = made


def _attention_shuffled(
    q: Array, keys: Array, values: Array, start: int, scale: float, window: int, cap: float, out: Array
) -> None:
    """On a cache whose channels lie in the other order: q.k is summed in it. Sums over keys stay as they are."""
    made = np.empty_like(out)
    attention(_shuffle(q), keys, values, start, scale, window, cap, made)
    out[..., _order(q.shape[2])] = made


# --- the table ------------------------------------------------------------------------------------------------------


SHUFFLED = replace(
    FLOAT32,
    name="shuffled",
    prepare=_shuffled,
    linear=partial(_linear_of, _shuffle),
    rms_norm=_rms_norm_shuffled,
    rms_norm_once=_rms_norm_shuffled,
    layer_norm=_layer_norm_shuffled,
    attention=_attention_shuffled,
    keep=_shuffle,
    about="float32, channels summed in another fixed order",
)


def _int4(group: int) -> tuple[Arithmetic, ...]:
    return (
        _weights(f"int4-g{group}", partial(quantise.round_to_int4, group=group),
                 f"weights in 15 levels, {group} a scale"),
        _weights(f"int4-g{group}-full", partial(quantise.round_to_int4_full, group=group),
                 f"weights in 16 levels, {group} a scale: compressed-tensors' W4A16"),
        _weights(f"int4-g{group}-clipped", partial(quantise.round_to_int4_clipped, group=group),
                 f"int4-g{group}-full, each scale clipped to the least squared error"),
    )  # fmt: skip


ARITHMETICS: Mapping[str, Arithmetic] = {
    a.name: a
    for a in (
        FLOAT32,
        FLOAT64,
        BF16,
        F16,
        SHUFFLED,
        _weights("int8-channel", quantise.round_to_int8, "weights in int8, a scale per output channel"),
        _weights("int8-g32", partial(quantise.round_to_int8, group=32), "weights in int8, 32 a scale"),
        _with_tokens("int8-token", quantise.round_to_int8, "W8A8: int8-channel, and inputs in int8, a scale a token"),
        _gguf("q8_0", quantise.round_to_q8_0, "GGUF Q8_0, embedding and head too; inputs in Q8_0 as in llama.cpp"),
        *(arithmetic for group in (32, 64, 128) for arithmetic in _int4(group)),
        _gguf("q4_0", quantise.round_to_q4_0, "GGUF Q4_0, embedding and head too; inputs in Q8_0 as in llama.cpp"),
        _weights("fp8", quantise.round_to_fp8, "weights in FP8 E4M3, a scale per output channel"),
        _weights("fp8-tensor", partial(quantise.round_to_fp8, scale="tensor"), "weights in FP8 E4M3, a scale a matrix"),
        _weights("fp8-cast", partial(quantise.round_to_fp8, scale="none"), "weights in FP8 E4M3 without any scale"),
        _with_tokens("fp8-token", quantise.round_to_fp8, "fp8, and inputs in FP8 E4M3, a scale a token"),
        replace(FLOAT32, name="kv-int8", keep=quantise.round_to_int8,
                about="keys and values in int8, a scale per token and head"),
        replace(FLOAT32, name="kv-fp8", keep=partial(quantise.round_to_fp8, scale="none"),
                about="keys and values in FP8 E4M3, scale 1 (vLLM's default)"),
    )
}  # fmt: skip
"""Every arithmetic by name."""
