"""Matrix product with a weight in the type of its file: out = x W^T + b. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper, kernel, prange
from refsample_kernels.lanes import fma, load, load_part, spread, total, widen

Floats = NDArray[Any]
BLOCK = 64  # rows and columns of the piece of `out` that a thread takes at a time; a multiple of 4


def define_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """out[n, m] = sum_c x[n, c] weight[m, c] + bias[m]; x [N, C], weight [M, C], bias [M] or [0] for none, out [N, M].

    weight is float32, uint16 (bfloat16 bits) or int16 (float16 bits). A weight whose rows are longer than x is an error
    of the caller.
    """
    product = x.astype(np.float64) @ widen(weight).astype(np.float64).T  # [N, M]
    out[...] = product + bias if bias.size else product


def _small(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> bool:
    return bool(x.shape[0] * weight.size < 200_000)  # a serial run of some 15 us


@kernel(define_linear, parallel=True, small=_small)
def linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """See `define_linear`; each element is summed in sixteen lanes along C, whatever stands beside it."""
    rows, width = x.shape
    columns = weight.shape[0]
    flat_x, flat_w = x.reshape(-1), weight.reshape(-1)
    across = (columns + BLOCK - 1) // BLOCK
    for task in prange((rows + BLOCK - 1) // BLOCK * across):
        top, left = task // across * BLOCK, task % across * BLOCK
        bottom, right = min(rows, top + BLOCK), min(columns, left + BLOCK)
        for m in range(left, right - 3, 4):
            for n in range(top, bottom - 1, 2):
                _tile_2x4(flat_x, n, flat_w, m, width, out)
            if bottom % 2:
                _tile_1x4(flat_x, bottom - 1, flat_w, m, width, out)
        for m in range(right - right % 4, right):
            for n in range(top, bottom):
                out[n, m] = _dot(flat_x, n * width, flat_w, m * width, width)
        if bias.shape[0]:
            for n in range(top, bottom):
                for m in range(left, right):
                    out[n, m] += bias[m]


@helper
def _dot(x: Floats, i: int, w: NDArray[Any], j: int, width: int) -> Any:
    sums = spread(np.float32(0))
    for k in range(0, width - 15, 16):
        sums = fma(load(w, j + k), load(x, i + k), sums)
    rest = width % 16
    if rest:
        k = width - rest
        sums = fma(load_part(w, j + k, rest), load_part(x, i + k, rest), sums)
    return total(sums)


@helper
def _tile_1x4(x: Floats, n: int, w: NDArray[Any], m: int, width: int, out: Floats) -> None:
    i, j = n * width, m * width
    a = b = c = d = spread(np.float32(0))
    for k in range(0, width - 15, 16):
        v = load(x, i + k)
        a = fma(load(w, j + k), v, a)
        b = fma(load(w, j + width + k), v, b)
        c = fma(load(w, j + 2 * width + k), v, c)
        d = fma(load(w, j + 3 * width + k), v, d)
    rest = width % 16
    if rest:
        k = width - rest
        v = load_part(x, i + k, rest)
        a = fma(load_part(w, j + k, rest), v, a)
        b = fma(load_part(w, j + width + k, rest), v, b)
        c = fma(load_part(w, j + 2 * width + k, rest), v, c)
        d = fma(load_part(w, j + 3 * width + k, rest), v, d)
    out[n, m], out[n, m + 1], out[n, m + 2], out[n, m + 3] = total(a), total(b), total(c), total(d)


@helper
def _tile_2x4(x: Floats, n: int, w: NDArray[Any], m: int, width: int, out: Floats) -> None:
    i, j = n * width, m * width
    a = b = c = d = spread(np.float32(0))
    e = f = g = h = spread(np.float32(0))
    for k in range(0, width - 15, 16):
        v, u = load(x, i + k), load(x, i + width + k)
        p = load(w, j + k)
        a, e = fma(p, v, a), fma(p, u, e)
        p = load(w, j + width + k)
        b, f = fma(p, v, b), fma(p, u, f)
        p = load(w, j + 2 * width + k)
        c, g = fma(p, v, c), fma(p, u, g)
        p = load(w, j + 3 * width + k)
        d, h = fma(p, v, d), fma(p, u, h)
    rest = width % 16
    if rest:
        k = width - rest
        v, u = load_part(x, i + k, rest), load_part(x, i + width + k, rest)
        p = load_part(w, j + k, rest)
        a, e = fma(p, v, a), fma(p, u, e)
        p = load_part(w, j + width + k, rest)
        b, f = fma(p, v, b), fma(p, u, f)
        p = load_part(w, j + 2 * width + k, rest)
        c, g = fma(p, v, c), fma(p, u, g)
        p = load_part(w, j + 3 * width + k, rest)
        d, h = fma(p, v, d), fma(p, u, h)
    out[n, m], out[n, m + 1], out[n, m + 2], out[n, m + 3] = total(a), total(b), total(c), total(d)
    out[n + 1, m], out[n + 1, m + 1] = total(e), total(f)
    out[n + 1, m + 2], out[n + 1, m + 3] = total(g), total(h)
