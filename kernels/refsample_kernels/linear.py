"""Matrix product with a weight in the type of its file: out = x W^T + b. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel, prange
from refsample_kernels.lanes import widen
from refsample_kernels.thin import FEW, STRETCH, thin
from refsample_kernels.tiles import DEPTH, HIGH, PANEL, SLAB, SLABS, pack_rows, panel, whole

Floats = NDArray[Any]


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
    """See `define_linear`; each element is summed in sixteen lanes along C, whatever stands beside it.

    For many rows: they are laid out anew first.
    """
    rows, width = x.shape
    columns = weight.shape[0]
    flat_x, flat_w, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
    slabs = (rows + SLAB - 1) // SLAB
    high = whole((rows + slabs - 1) // slabs, HIGH)  # rows of a slab
    packed = np.empty(slabs * high * whole(width, 16), np.float32)
    for n in prange(slabs * high):
        pack_rows(flat_x, n, rows, width, high, packed)
    each = SLABS if width <= DEPTH else 1
    panels = (columns + PANEL - 1) // PANEL
    for turn in prange((slabs + each - 1) // each * panels):
        first, left = turn // panels * each, turn % panels * PANEL
        last, right = min(slabs, first + each), min(columns, left + PANEL)
        panel(packed, first, last, high, rows, flat_w, left, right, width, flat_out, columns)
        if bias.shape[0]:
            for n in range(first * high, min(rows, last * high)):
                for m in range(left, right):
                    out[n, m] += bias[m]


def define_linear_few(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """`define_linear`, N up to `thin.FEW`."""
    define_linear(x, weight, bias, out)


@kernel(define_linear_few, parallel=True, small=_small)
def linear_few(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """See `define_linear_few`; the bits are those of `linear`."""
    flat_x, flat_w, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
    rows, width = x.shape
    columns = weight.shape[0]
    for turn in prange((columns + STRETCH - 1) // STRETCH):
        left, right = turn * STRETCH, min(columns, turn * STRETCH + STRETCH)
        thin(flat_x, rows, width, flat_w, bias, left, right, flat_out, columns)


def apply_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """`define_linear` by the kernel that suits the number of rows. Each is compiled when it is first needed."""
    (linear_few if len(x) <= FEW else linear)(x, weight, bias, out)
