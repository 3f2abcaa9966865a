"""Rotary position embedding, halves layout. It knows nothing of how the angles came about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper, kernel

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
    for t in range(x.shape[0]):
        for h in range(x.shape[1]):
            turned(x, t, h, cos, sin, out, t, h)


@helper
def turned(x: Floats, t: int, h: int, cos: Floats, sin: Floats, out: Floats, a: int, b: int) -> None:
    """Head h of row t, turned, to out[a, b]."""
    half, width = cos.shape[1], x.shape[2]
    for d in range(half):
        low, high = x[t, h, d], x[t, h, d + half]
        out[a, b, d] = low * cos[t, d] - high * sin[t, d]
        out[a, b, d + half] = high * cos[t, d] + low * sin[t, d]
    for d in range(2 * half, width):
        out[a, b, d] = x[t, h, d]
