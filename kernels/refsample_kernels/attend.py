"""New queries, keys and values of a sequence: turned, kept in its cache, attended. It knows nothing of projections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.attention import define_attention, piece, pieces_of, small_attention, task_of
from refsample_kernels.jit import helper, kernel, prange
from refsample_kernels.rope import define_rotate, turned

Floats = NDArray[Any]
MANY = 16
"""From so many rows on it pays to spread over threads what comes before attention."""


def define_attend(
    q: Floats, k: Floats, v: Floats, cos: Floats, sin: Floats, keys: Floats, values: Floats, start: int, scale: float,
    window: int, cap: float, out: Floats,
) -> None:  # fmt: skip
    """`define_rotate` of q [T, H, D] and k [T, K, D] by cos and sin [T, R/2]; k and v [T, K, D] to their places start..
    in keys [K, D, S] and values [K, S, D]; then `define_attention`, to out [T, H, D]. R = 0: nothing is turned."""
    end = start + len(q)
    turned_q, turned_k = np.empty(q.shape, np.float64), np.empty(k.shape, np.float64)  # [T, H, D], [T, K, D]
    define_rotate(q, cos, sin, turned_q)
    define_rotate(k, cos, sin, turned_k)
    keys[:, :, start:end] = turned_k.transpose(1, 2, 0)  # [K, D, T]
    values[:, start:end] = v.transpose(1, 0, 2)  # [K, T, D]
    define_attention(turned_q, keys, values, start, scale, window, cap, out)


def _small(
    q: Floats, k: Floats, v: Floats, cos: Floats, sin: Floats, keys: Floats, values: Floats, start: int, scale: float,
    window: int, cap: float, out: Floats,
) -> bool:  # fmt: skip
    return small_attention(q, start, window)


@kernel(define_attend, parallel=True, small=_small)
def attend(
    q: Floats, k: Floats, v: Floats, cos: Floats, sin: Floats, keys: Floats, values: Floats, start: int, scale: float,
    window: int, cap: float, out: Floats,
) -> None:  # fmt: skip
    """See `define_attend`; S a multiple of 16. Whatever lies beyond the last row's key is read but never used."""
    rows, heads, width = q.shape
    group, room = heads // keys.shape[0], keys.shape[2]
    held = np.empty_like(q)  # [T, H, D], turned
    if rows < MANY:
        for t in range(rows):
            _kept(q, k, v, cos, sin, keys, values, start, t, held)
    else:
        for t in prange(rows):
            _kept(q, k, v, cos, sin, keys, values, start, t, held)
    flat_q, flat_k, flat_v, flat_out = held.reshape(-1), keys.reshape(-1), values.reshape(-1), out.reshape(-1)
    tasks = heads * pieces_of(rows, width, start, window)
    for turn in prange(tasks):
        task = task_of(turn, tasks)
        piece(flat_q, flat_k, flat_v, flat_out, rows, heads, group, width, room, start, scale, window, cap, task)


@helper
def _kept(
    q: Floats, k: Floats, v: Floats, cos: Floats, sin: Floats, keys: Floats, values: Floats, start: int, t: int,
    held: Floats,
) -> None:  # fmt: skip
    """Row t: its queries, turned, to `held`, its keys, turned, and its values to the cache."""
    for h in range(q.shape[1]):
        turned(q, t, h, cos, sin, held, t, h)
    row = np.empty((1, 1, q.shape[2]), np.float32)  # [1, 1, D]
    for h in range(k.shape[1]):
        turned(k, t, h, cos, sin, row, 0, 0)
        for d in range(q.shape[2]):
            keys[h, d, start + t] = row[0, 0, d]
            values[h, start + t, d] = v[t, h, d]
