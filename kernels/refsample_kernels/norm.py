"""Root-mean-square norm of rows. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel
from refsample_kernels.lanes import fma, load, load_part, mul, spread, store, store_part, total

Floats = NDArray[Any]


def define_rms_norm(x: Floats, weight: Floats, eps: float, out: Floats) -> None:
    """out[n] = x[n] / sqrt(mean_c x[n, c]^2 + eps) * weight; x and out [N, C], weight [C]."""
    wide = x.astype(np.float64)
    out[...] = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + eps) * weight


@kernel(define_rms_norm)
def rms_norm(x: Floats, weight: Floats, eps: float, out: Floats) -> None:
    """See `define_rms_norm`; the squares are summed in sixteen lanes."""
    rows, width = x.shape
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    rest = width % 16
    whole = width - rest
    for n in range(rows):
        i = n * width
        sums = spread(np.float32(0))
        for c in range(0, whole, 16):
            v = load(flat_x, i + c)
            sums = fma(v, v, sums)
        if rest:
            v = load_part(flat_x, i + whole, rest)
            sums = fma(v, v, sums)
        mean = total(sums) / np.float32(width)
        scale = spread(np.float32(1) / np.sqrt(np.float32(mean + np.float32(eps))))
        for c in range(0, whole, 16):
            store(flat_out, i + c, mul(mul(load(flat_x, i + c), scale), load(weight, c)))
        if rest:
            v = mul(mul(load_part(flat_x, i + whole, rest), scale), load_part(weight, whole, rest))
            store_part(flat_out, i + whole, rest, v)
