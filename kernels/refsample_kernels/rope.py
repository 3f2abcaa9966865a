"""Rotary position embedding, halves layout. It knows nothing of how the angles came about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import add, load_part, mul, store_part, sub

Floats = NDArray[Any]


def define_rotate(x: Floats, cos: Floats, sin: Floats, out: Floats) -> None:
    """Turn the pairs (d, d + R/2) of every head by its row's angle; x and out [T, H, D], cos and sin [T, R/2].

    R <= D: what lies beyond R stays. Layout of Hugging Face's Llama checkpoints: out = x cos + rotate_half(x) sin. out
    must not be x.
    """
    half = cos.shape[1]
    low, high = x[:, :, :half].astype(np.float64), x[:, :, half : 2 * half].astype(np.float64)  # [T, H, R/2]
    c, s = cos[:, None, :], sin[:, None, :]  # [T, 1, R/2]
    out[...] = np.concatenate([low * c - high * s, high * c + low * s, x[:, :, 2 * half :]], axis=2)


@kernel(define_rotate)
def rotate(x: Floats, cos: Floats, sin: Floats, out: Floats) -> None:
    """See `define_rotate`; every product and sum is rounded by itself."""
    flat_x, flat_cos, flat_sin, flat_out = x.reshape(-1), cos.reshape(-1), sin.reshape(-1), out.reshape(-1)
    rows, heads, width = x.shape
    half = cos.shape[1]
    for t in range(rows):
        for i in range(t * heads * width, (t + 1) * heads * width, width):
            turned(flat_x, i, width, flat_cos, flat_sin, t * half, half, flat_out, i)


@helper
def turned(x: Floats, i: int, width: int, cos: Floats, sin: Floats, c: int, half: int, out: Floats, o: int) -> None:
    """The head x[i:i+width], turned by the `half` angles from c on, to out[o:o+width], which may be x[i:i+width]."""
    for d in range(0, half, 16):
        n = half - d
        low, high = load_part(x, i + d, n), load_part(x, i + half + d, n)
        a, b = load_part(cos, c + d, n), load_part(sin, c + d, n)
        store_part(out, o + d, n, sub(mul(low, a), mul(high, b)))
        store_part(out, o + half + d, n, add(mul(high, a), mul(low, b)))
    for d in range(2 * half, width):
        out[o + d] = x[i + d]
