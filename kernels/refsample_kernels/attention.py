"""Causal attention of one sequence over its cache, heads in groups. It knows nothing of projections.

Keys are held transposed, [K, D, S]: sixteen neighbouring keys fill the lanes, so a score is one lane's own sum over D.
Blocks of keys are anchored at absolute position, and a row's block that reaches beyond the row, or before its window,
is cut before it enters the sums: a row gives the same bits whatever was stored after it and however the rows came.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.activation import tanh
from refsample_kernels.jit import helper, kernel, prange
from refsample_kernels.lanes import (
    add,
    div,
    exp,
    first,
    fma,
    larger,
    largest,
    load,
    load_part,
    mul,
    spread,
    store,
    store_part,
    sub,
    to_bf16,
    total,
)

Floats = NDArray[Any]


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


def _small(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats
) -> bool:
    keys_read = min(start + q.shape[0], window) if window else start + q.shape[0]
    return bool(q.size * keys_read < 100_000)  # a serial run of some 15 us


@kernel(define_attention, parallel=True, small=_small)
def attention(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats
) -> None:
    """See `define_attention`; S a multiple of 16. Whatever lies beyond the last row's key is read but never used."""
    rows, heads, width = q.shape
    group, room = heads // keys.shape[0], keys.shape[2]
    flat_q, flat_k, flat_v, flat_out = q.reshape(-1), keys.reshape(-1), values.reshape(-1), out.reshape(-1)
    for turn in prange(rows * heads):
        task = task_of(turn, rows * heads)
        base, count = task % heads // group * width * room, start + task // heads + 1
        one_head(flat_q, task * width, flat_k, flat_v, base, width, room, count, scale, window, cap, flat_out)


@helper
def one_head(
    q: Floats, i: int, keys: Floats, values: Floats, base: int, width: int, room: int, count: int, scale: float,
    window: int, cap: float, out: Floats,
) -> None:  # fmt: skip
    """One row's query head q[i:i+width] over the first `count` keys of its key/value head, to out[i:i+width]."""
    low = _lowest(count, window)
    head = low // 16 * 16  # keys are read from this one on
    weights = np.empty((count - head + 15) // 16 * 16, np.float32)  # [S - head]
    _scores(q, i, keys, base + head, width, room, np.float32(scale), weights)
    if cap > 0:
        _cap(weights, np.float32(cap))
    mass = _softmax(weights, low - head, count - head)
    _mix(weights, count - head, values, base + head * width, width, mass, out, i)


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


@kernel(define_attention_bf16, parallel=True, small=_small)
def attention_bf16(
    q: Floats, keys: Floats, values: Floats, start: int, scale: float, window: int, cap: float, out: Floats
) -> None:
    """See `define_attention_bf16`; S a multiple of 16."""
    rows, heads, width = q.shape
    group, room = heads // keys.shape[0], keys.shape[2]
    flat_q, flat_k, flat_v, flat_out = q.reshape(-1), keys.reshape(-1), values.reshape(-1), out.reshape(-1)
    for turn in prange(rows * heads):
        task = task_of(turn, rows * heads)
        h, count = task % heads, start + task // heads + 1
        low = _lowest(count, window)
        head = low // 16 * 16  # keys are read from this one on
        weights = np.empty((count - head + 15) // 16 * 16, np.float32)  # [S - head]
        base, o = (h // group) * width * room, task * width
        _scores(flat_q, o, flat_k, base + head, width, room, np.float32(1), weights)
        for s in range(0, weights.size, 16):
            store(weights, s, to_bf16(mul(to_bf16(load(weights, s)), spread(np.float32(scale)))))
        if cap > 0:
            _cap_bf16(weights, np.float32(cap))
        mass = spread(_softmax(weights, low - head, count - head))
        for s in range(0, weights.size, 16):
            store(weights, s, to_bf16(div(load(weights, s), mass)))
        _mix(weights, count - head, flat_v, base + head * width, width, np.float32(1), flat_out, o)
        for d in range(0, width, 16):
            store_part(flat_out, o + d, width - d, to_bf16(load_part(flat_out, o + d, width - d)))


@helper
def _lowest(count: int, window: int) -> int:
    """First key that a row with `count` keys up to its own may see."""
    return count - window if 0 < window < count else 0


@helper
def _cap(scores: Floats, cap: Any) -> None:
    for s in range(0, scores.size, 16):
        store(scores, s, mul(tanh(div(load(scores, s), spread(cap))), spread(cap)))


@helper
def _cap_bf16(scores: Floats, cap: Any) -> None:
    for s in range(0, scores.size, 16):
        bent = to_bf16(tanh(to_bf16(div(load(scores, s), spread(cap)))))
        store(scores, s, to_bf16(mul(bent, spread(cap))))


@helper
def task_of(turn: int, tasks: int) -> int:
    """Which row and head (task = row H + head) a turn of the loop takes: short rows beside long ones, even shares."""
    return turn // 2 if turn % 2 == 0 else tasks - 1 - turn // 2


@helper
def _scores(q: Floats, i: int, keys: Floats, base: int, width: int, room: int, scale: Any, scores: Floats) -> None:
    for s in range(0, scores.size - 63, 64):  # four blocks at once only hide latency: each lane sums alone
        a = b = c = e = spread(np.float32(0))
        for d in range(width):
            v, j = spread(q[i + d]), base + d * room + s
            a, b = fma(v, load(keys, j), a), fma(v, load(keys, j + 16), b)
            c, e = fma(v, load(keys, j + 32), c), fma(v, load(keys, j + 48), e)
        store(scores, s, mul(a, spread(scale)))
        store(scores, s + 16, mul(b, spread(scale)))
        store(scores, s + 32, mul(c, spread(scale)))
        store(scores, s + 48, mul(e, spread(scale)))
    for s in range(scores.size - scores.size % 64, scores.size, 16):
        a = spread(np.float32(0))
        for d in range(width):
            a = fma(spread(q[i + d]), load(keys, base + d * room + s), a)
        store(scores, s, mul(a, spread(scale)))


@helper
def _softmax(scores: Floats, low: int, count: int) -> Any:
    """Scores become e^(score - largest), zeros below low (in the first block) and from count on; their sum."""
    lowest = spread(np.float32(-np.inf))
    most = lowest
    if low > 0:
        store(scores, 0, first(lowest, low, load(scores, 0)))
    for s in range(0, scores.size, 16):
        most = larger(first(load(scores, s), count - s, lowest), most)
    peak = spread(largest(most))
    sums = spread(np.float32(0))
    for s in range(0, scores.size, 16):
        v = exp(sub(first(load(scores, s), count - s, lowest), peak))
        store(scores, s, v)
        sums = add(sums, v)
    return total(sums)


@helper
def _mix(weights: Floats, count: int, values: Floats, base: int, width: int, mass: Any, out: Floats, o: int) -> None:
    """out = sum_s weights[s] values[s] / mass; even and odd keys are summed apart, then added."""
    for d in range(0, width, 16):
        n = min(16, width - d)
        even = odd = spread(np.float32(0))
        for s in range(0, count - 1, 2):
            j = base + s * width + d
            if n == 16:
                even = fma(spread(weights[s]), load(values, j), even)
                odd = fma(spread(weights[s + 1]), load(values, j + width), odd)
            else:
                even = fma(spread(weights[s]), load_part(values, j, n), even)
                odd = fma(spread(weights[s + 1]), load_part(values, j + width, n), odd)
        if count % 2:
            j = base + (count - 1) * width + d
            even = fma(spread(weights[count - 1]), load_part(values, j, n), even)
        store_part(out, o + d, n, div(add(even, odd), spread(mass)))
