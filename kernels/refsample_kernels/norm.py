"""Norms of rows: root mean square, and mean and variance. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import add, first, fma, load, load_part, mul, spread, store, store_part, sub, total

Floats = NDArray[Any]


def define_rms_norm(x: Floats, weight: Floats, eps: float, out: Floats) -> None:
    """out[n] = x[n] / sqrt(mean_c x[n, c]^2 + eps) * weight; x and out [N, C], weight [C]."""
    wide = x.astype(np.float64)
    out[...] = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + eps) * weight


def define_layer_norm(x: Floats, weight: Floats, bias: Floats, eps: float, out: Floats) -> None:
    """out[n] = (x[n] - mean) / sqrt(variance + eps) * weight + bias; x and out [N, C], weight [C], bias [C] or [0]."""
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + eps) * weight
    out[...] = normed + bias if bias.size else normed


@kernel(define_rms_norm)
def rms_norm(x: Floats, weight: Floats, eps: float, out: Floats) -> None:
    """See `define_rms_norm`; the squares are summed in sixteen lanes."""
    rows, width = x.shape
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    for n in range(rows):
        normed(flat_x, n * width, width, weight, eps, flat_out, n * width)


@helper
def normed(x: Floats, i: int, width: int, weight: Floats, eps: float, out: Floats, o: int) -> None:
    """`rms_norm` of the row x[i:i+width], to out[o:o+width]."""
    rest = width % 16
    whole = width - rest
    sums = spread(np.float32(0))
    for c in range(0, whole, 16):
        v = load(x, i + c)
        sums = fma(v, v, sums)
    if rest:
        v = load_part(x, i + whole, rest)
        sums = fma(v, v, sums)
    mean = total(sums) / np.float32(width)
    scale = spread(np.float32(1) / np.sqrt(np.float32(mean + np.float32(eps))))
    for c in range(0, whole, 16):
        store(out, o + c, mul(mul(load(x, i + c), scale), load(weight, c)))
    if rest:
        v = mul(mul(load_part(x, i + whole, rest), scale), load_part(weight, whole, rest))
        store_part(out, o + whole, rest, v)


@kernel(define_layer_norm)
def layer_norm(x: Floats, weight: Floats, bias: Floats, eps: float, out: Floats) -> None:
    """See `define_layer_norm`; both sums run in sixteen lanes, the squares are those of the centred values."""
    rows, width = x.shape
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    rest = width % 16
    whole = width - rest
    nothing = spread(np.float32(0))
    for n in range(rows):
        i = n * width
        sums = nothing
        for c in range(0, whole, 16):
            sums = add(sums, load(flat_x, i + c))
        if rest:
            sums = add(sums, load_part(flat_x, i + whole, rest))
        mean = spread(total(sums) / np.float32(width))
        squares = nothing
        for c in range(0, whole, 16):
            v = sub(load(flat_x, i + c), mean)
            squares = fma(v, v, squares)
        if rest:
            v = first(sub(load_part(flat_x, i + whole, rest), mean), rest, nothing)
            squares = fma(v, v, squares)
        variance = total(squares) / np.float32(width)
        scale = spread(np.float32(1) / np.sqrt(np.float32(variance + np.float32(eps))))
        for c in range(0, width, 16):
            held = min(16, width - c)
            v = mul(mul(sub(load_part(flat_x, i + c, held), mean), scale), load_part(weight, c, held))
            if bias.shape[0]:
                v = add(v, load_part(bias, c, held))
            store_part(flat_out, i + c, held, v)
