"""Rotary position embedding, halves layout. It knows nothing of how the angles came about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel

Floats = NDArray[Any]


def define_rotate(x: Floats, cos: Floats, sin: Floats, out: Floats) -> None:
    """Turn the pairs (d, d + D/2) of every head by its row's angle; x and out [T, H, D], cos and sin [T, D/2].

    Layout of Hugging Face's Llama checkpoints: out = x cos + rotate_half(x) sin. out must not be x.
    """
    low, high = np.split(x.astype(np.float64), 2, axis=2)  # [T, H, D/2]
    c, s = cos[:, None, :], sin[:, None, :]  # [T, 1, D/2]
    out[...] = np.concatenate([low * c - high * s, high * c + low * s], axis=2)


@kernel(define_rotate)
def rotate(x: Floats, cos: Floats, sin: Floats, out: Floats) -> None:
    """See `define_rotate`; every product and sum is rounded by itself."""
    rows, heads, width = x.shape
    half = width // 2
    for t in range(rows):
        for h in range(heads):
            for d in range(half):
                low, high = x[t, h, d], x[t, h, d + half]
                out[t, h, d] = low * cos[t, d] - high * sin[t, d]
                out[t, h, d + half] = high * cos[t, d] + low * sin[t, d]
