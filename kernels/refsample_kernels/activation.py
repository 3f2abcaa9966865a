"""Gated activations of the feed-forward layer. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel
from refsample_kernels.lanes import add, div, exp, load, load_part, mul, spread, store, store_part, sub

Floats = NDArray[Any]


def define_silu_gate(gate: Floats, up: Floats, out: Floats) -> None:
    """out = gate / (1 + e^-gate) * up, element by element; all [N, F]."""
    wide = gate.astype(np.float64)
    with np.errstate(over="ignore"):  # e^-gate = inf gives the right 0
        out[...] = wide / (1.0 + np.exp(-wide)) * up


@kernel(define_silu_gate)
def silu_gate(gate: Floats, up: Floats, out: Floats) -> None:
    """See `define_silu_gate`; every element goes through the same operations."""
    flat_gate, flat_up, flat_out = gate.reshape(-1), up.reshape(-1), out.reshape(-1)
    zero, one = spread(np.float32(0)), spread(np.float32(1))
    count = flat_gate.size
    rest = count % 16
    for i in range(0, count - rest, 16):
        v = load(flat_gate, i)
        store(flat_out, i, mul(div(v, add(one, exp(sub(zero, v)))), load(flat_up, i)))
    if rest:
        i = count - rest
        v = load_part(flat_gate, i, rest)
        v = mul(div(v, add(one, exp(sub(zero, v)))), load_part(flat_up, i, rest))
        store_part(flat_out, i, rest, v)
