"""Causal attention of one sequence over its cache, heads in groups. It knows nothing of projections.

Keys are held transposed, [K, D, S]: sixteen neighbouring keys fill the lanes, so a score is one lane's own sum over D.
Blocks of keys are anchored at absolute position, and a row's block that reaches beyond the row, or before its window,
is cut before it enters the sums: a row gives the same bits whatever was stored after it and however the rows came.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.heads import cap_bf16, lowest_key, many_rows, mix, one_row, scores_of, softmax
from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import (
    div,
    load,
    load_part,
    mul,
    spread,
    store,
    store_part,
    to_bf16,
)
from refsample_kernels.memory import unlocked
from refsample_kernels.team import Team, finish, join, next_turn

Floats = NDArray[Any]
TOGETHER = 48
"""Rows that share what they read: a multiple of 6."""


def define_attention(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats
) -> None:
    """Row t attends keys 0..start+t; q and out [T, H, D], keys [K, D, S], values [K, S, D], S >= start + T.

    H is a multiple of K: query head h reads key/value head h // (H / K). Softmax of scale * q.k in natural base.
    window > 0: only the last `window` keys, the row's own among them. cap > 0: scores s become cap tanh(s / cap).
    """
    rows, heads, _ = q.shape
    group = heads // keys.shape[0]
    for t in range(rows):
        count = start + t + 1
        low = max(0, count - window) if window else 0
        for h in range(heads):
            scores = q[t, h].astype(np.float64) @ keys[h // group, :, low:count] * scale  # [<= S]
            if cap:
                scores = cap * np.tanh(scores / cap)
            weights = np.exp(scores - scores.max())
            out[t, h] = weights @ values[h // group, low:count] / weights.sum()


def _most(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats
) -> int:
    keys_read = min(start + q.shape[0], window) if window else start + q.shape[0]
    return int(q.size * keys_read) // 50_000  # a run of some 8 us


@kernel(define_attention, most=_most, loops=1)
def attention(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats, team: Team
) -> None:
    """See `define_attention`; S a multiple of 16. Whatever lies beyond the last row's key is read but never used."""
    rows, heads, width = q.shape
    group, room = heads // keys.shape[0], keys.shape[2]
    flat_q, flat_k, flat_v, flat_out = unlocked(q), unlocked(keys), unlocked(values), unlocked(out)
    tasks, taken, part = heads * pieces_of(rows, width, start, window), 0, join(team)
    while True:
        turn = next_turn(team, 0, part, tasks)
        if turn < 0:
            break
        taken += 1
        task = task_of(turn, tasks)
        piece(flat_q, flat_k, flat_v, flat_out, rows, heads, group, width, room, start, scale, window, cap, task)
    finish(team, 0, taken, tasks)


@helper
def shared_rows(rows: int, width: int, start: int, window: int) -> int:
    """How many of the rows share what they read: a multiple of 6; none where a window cuts, or heads are no multiple of
    sixteen wide."""
    return rows - rows % 6 if width % 16 == 0 and (window == 0 or start + rows <= window) else 0


@helper
def pieces_of(rows: int, width: int, start: int, window: int) -> int:
    """In how many pieces the rows are attended: those that share, TOGETHER at a time, then the others one by one."""
    shared = shared_rows(rows, width, start, window)
    return (shared + TOGETHER - 1) // TOGETHER + rows - shared


@helper
def piece(
    q: Floats, keys: Floats, values: Floats, out: Floats, rows: int, heads: int, group: int, width: int, room: int,
    start: int, scale: float, window: int, cap: float, task: int,
) -> None:  # fmt: skip
    """The head task % heads of the piece task // heads of the rows; arrays are flat."""
    number, h = task // heads, task % heads
    base, shared = h // group * width * room, shared_rows(rows, width, start, window)
    t = TOGETHER * number
    if t < shared:
        i, sixes = (t * heads + h) * width, min(TOGETHER, shared - t) // 6
        step, count = heads * width, start + t + 1
        many_rows(q, i, step, keys, values, base, width, room, count, sixes, scale, cap, out)
    else:
        t = shared + number - (shared + TOGETHER - 1) // TOGETHER
        i = (t * heads + h) * width
        one_row(q, i, keys, values, base, width, room, start + t + 1, scale, window, cap, out)


@helper
def task_of(turn: int, tasks: int) -> int:
    """Which piece and head (task = piece H + head) a turn of the loop takes: short beside long ones, even shares."""
    return turn // 2 if turn % 2 == 0 else tasks - 1 - turn // 2


def define_attention_bf16(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats
) -> None:
    """`define_attention` rounded to bfloat16 where transformers' eager attention rounds, in bfloat16 all through:
    after q.k, after the scale, in each step of the cap, after the softmax (itself in float32) and at the end."""
    rows, heads, _ = q.shape
    group = heads // keys.shape[0]
    for t in range(rows):
        count = start + t + 1
        low = max(0, count - window) if window else 0
        for h in range(heads):
            products = (q[t, h].astype(np.float64) @ keys[h // group, :, low:count]).astype(np.float32)  # [<= S]
            scores = to_bf16(to_bf16(products) * np.float32(scale))
            if cap:
                bent = np.tanh(to_bf16(scores / np.float32(cap)).astype(np.float64)).astype(np.float32)
                scores = to_bf16(to_bf16(bent) * np.float32(cap))
            weights = np.exp(scores.astype(np.float64) - scores.max())
            shares = to_bf16((weights / weights.sum()).astype(np.float32)).astype(np.float64)
            out[t, h] = to_bf16((shares @ values[h // group, low:count]).astype(np.float32))


@kernel(define_attention_bf16, most=_most, loops=1)
def attention_bf16(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats, team: Team
) -> None:
    """See `define_attention_bf16`; S a multiple of 16."""
    rows, heads, width = q.shape
    group, room = heads // keys.shape[0], keys.shape[2]
    flat_q, flat_k, flat_v, flat_out = unlocked(q), unlocked(keys), unlocked(values), unlocked(out)
    tasks, taken, part = rows * heads, 0, join(team)
    while True:
        turn = next_turn(team, 0, part, tasks)
        if turn < 0:
            break
        taken += 1
        task = task_of(turn, tasks)
        h, count = task % heads, start + task // heads + 1
        low = lowest_key(count, window)
        head = low // 16 * 16  # keys are read from this one on
        weights = np.empty((count - head + 15) // 16 * 16, np.float32)  # [S - head]
        base, o = (h // group) * width * room, task * width
        scores_of(flat_q, o, flat_k, base + head, width, room, np.float32(1), weights, weights.size)
        for s in range(0, weights.size, 16):
            store(weights, s, to_bf16(mul(to_bf16(load(weights, s)), spread(np.float32(scale)))))
        if cap > 0:
            cap_bf16(weights, np.float32(cap))
        mass = spread(softmax(weights, 0, weights.size, low - head, count - head))
        for s in range(0, weights.size, 16):
            store(weights, s, to_bf16(div(load(weights, s), mass)))
        mix(weights, count - head, flat_v, base + head * width, width, np.float32(1), flat_out, o)
        for d in range(0, width, 16):
            store_part(flat_out, o + d, width - d, to_bf16(load_part(flat_out, o + d, width - d)))
    finish(team, 0, taken, tasks)
