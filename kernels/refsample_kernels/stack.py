"""What a stack of decoder layers is to the kernels that go through all of it: tables of numbers. It knows no loops.

A row of `matrices` holds the addresses of one layer's arrays, 0 for a bias that is not there; a row of `settings` what
else differs between layers. `refsample/model/stack.py` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.activation import (
    define_gelu,
    define_gelu_tanh,
    define_silu,
    gelu_lanes,
    gelu_tanh_lanes,
    silu_lanes,
)  # fmt: skip
from refsample_kernels.attention import define_attention
from refsample_kernels.jit import helper
from refsample_kernels.linear import define_linear
from refsample_kernels.memory import held_at
from refsample_kernels.norm import define_rms_norm
from refsample_kernels.rope import define_rotate

Floats = NDArray[Any]
Table = NDArray[np.int64]
NORM, Q, K, V, OUT, MLP_NORM, GATE, UP, DOWN = range(9)
Q_BIAS, K_BIAS, V_BIAS, OUT_BIAS, GATE_BIAS, UP_BIAS, DOWN_BIAS = range(9, 16)
"""Columns of `matrices`."""
WINDOW, ROPE = range(2)
"""Columns of `settings`: keys that a row sees, 0 for all; which of the rotary settings, -1 for none."""
HEADS, KV_HEADS, HEAD_WIDTH, INNER, ACTIVATION = range(5)
"""Places in `sizes`."""
FIRST, ROWS, POSITION, SLOTS, KEYS, VALUES = range(6)
"""Columns of `texts`, a row of which says where rows of x belong that follow each other in one text: the first of them,
how many there are and the first one's position; of their cache the slots S, and where the keys [K, D, S] and values
[K, S, D] of the first layer lie. Those of the next layers follow."""
SILU, GELU, GELU_TANH = 0, 1, 2
"""Activations, as numbers that a kernel takes."""


@helper
def bent(v: Any, activation: int) -> Any:
    """Sixteen lanes through an activation."""
    if activation == SILU:
        return silu_lanes(v)
    if activation == GELU:
        return gelu_lanes(v)
    return gelu_tanh_lanes(v)


@helper
def bias_at(like: Floats, address: int, first: int, count: int) -> Floats:
    """Elements of a bias from `first` on, [0] where it is not there."""
    return held_at(like, address + 4 * first, count if address else 0)


def most_threads(x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, *_: object) -> int:
    """How many threads pay, by the work of a layer's longest loop."""
    return int(x.size * sizes[INNER]) // 50_000  # a run of some 8 us


@helper
def cached(like: Floats, texts: Table, g: int, column: int, number: int, sizes: Table) -> Floats:
    """A text's keys [K, D, S] or values [K, S, D] of layer `number`, flat."""
    size = sizes[KV_HEADS] * sizes[HEAD_WIDTH] * texts[g, SLOTS]
    return held_at(like, texts[g, column] + 4 * number * size, size)


@dataclass(frozen=True, slots=True)
class _Tables:
    """All that a definition takes out of the tables for one layer, in float64 where it computes."""

    matrices: Table
    sizes: Table
    sample: NDArray[Any]
    width: int

    def norm(self, number: int, column: int) -> Floats:
        """The weight of a norm, [C]."""
        return held_at(np.empty(0, np.float32), self.matrices[number, column], self.width)

    def linear(self, x: Floats, number: int, matrix: int, bias: int, columns: int) -> Floats:
        """x [N, ..] through a matrix of a layer, [N, columns]."""
        at, out = self.matrices[number], np.empty((len(x), columns))
        weight = held_at(self.sample, at[matrix], columns * x.shape[1]).reshape(columns, -1)
        define_linear(x, weight, held_at(np.empty(0, np.float32), at[bias], columns if at[bias] else 0), out)
        return out


def define_layers(
    x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, texts: Table, cos: Floats,
    sin: Floats, eps: float, cap: float, sample: NDArray[Any],
) -> None:  # fmt: skip  # fmt: skip
    """Decoder layers on rows x [N, C], in place: x += o(attention(norm x)), then x += down(act(gate n) * up n) with n =
    norm x, norms root mean square. A row's keys and values go to its place in its cache; it sees them and those before.

    matrices [L, 16], settings [L, 2], scales [L] of attention's scores, sizes [5], texts [G, 6]: see this file. cos and
    sin [R, N, D/2 or less]: of each rotary setting. cap: of scores, 0 for none. `sample` has the type of all matrices.
    """
    heads, kv_heads, width, inner, activation = (int(n) for n in sizes)
    stack, rows = _Tables(matrices, sizes, sample, x.shape[1]), len(x)
    f32 = np.empty(0, np.float32)
    for number in range(len(matrices)):
        n = np.empty(x.shape)
        define_rms_norm(x, stack.norm(number, NORM), eps, n)
        q = stack.linear(n, number, Q, Q_BIAS, heads * width).reshape(rows, heads, width)
        k = stack.linear(n, number, K, K_BIAS, kv_heads * width).reshape(rows, kv_heads, width)
        v = stack.linear(n, number, V, V_BIAS, kv_heads * width).reshape(rows, kv_heads, width)
        which = settings[number, ROPE]
        if which >= 0:
            q, k = _rotated(q, cos[which], sin[which]), _rotated(k, cos[which], sin[which])
        out = np.empty(q.shape)
        for first, count, start, slots, keys_at, values_at in texts.tolist():
            size, span, places = kv_heads * width * slots, slice(first, first + count), slice(start, start + count)
            keys = held_at(f32, keys_at + 4 * number * size, size).reshape(kv_heads, width, slots)
            values = held_at(f32, values_at + 4 * number * size, size).reshape(kv_heads, slots, width)
            keys[:, :, places], values[:, places] = k[span].transpose(1, 2, 0), v[span].transpose(1, 0, 2)
            window = int(settings[number, WINDOW])
            define_attention(q[span], keys, values, start, scales[number], window, cap, out[span])
        x += stack.linear(out.reshape(rows, -1), number, OUT, OUT_BIAS, x.shape[1])
        define_rms_norm(x, stack.norm(number, MLP_NORM), eps, n)
        gate = stack.linear(n, number, GATE, GATE_BIAS, inner)
        curve = np.empty(gate.shape)
        (define_silu, define_gelu, define_gelu_tanh)[activation](gate, curve)
        wide = curve * stack.linear(n, number, UP, UP_BIAS, inner)
        x += stack.linear(wide, number, DOWN, DOWN_BIAS, x.shape[1])


def _rotated(x: Floats, cos: Floats, sin: Floats) -> Floats:
    out = np.empty(x.shape)
    define_rotate(x, cos, sin, out)
    return out
