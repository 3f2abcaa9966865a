"""One head of attention for a row, or for many rows that share what they read. Helpers of `attention`.

Arrays are flat; a head's keys [D, S] begin at `base`, its values [S, D] too, and S is `room`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.activation import tanh
from refsample_kernels.jit import helper
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
    spread_at,
    store,
    store_part,
    sub,
    to_bf16,
    total,
)
from refsample_kernels.memory import LEAD, in_lines, keep

Floats = NDArray[Any]
VALUES = 64
"""Values that many rows are mixed of before the next: an even number, so few that the nearest cache holds them."""


@helper
def one_row(
    q: Floats, i: int, keys: Floats, values: Floats, base: int, width: int, room: int, count: int, scale: float,
    window: int, cap: float, out: Floats,
) -> None:  # fmt: skip
    """One row's query head q[i:i+width] over the first `count` keys of its key/value head, to out[i:i+width]."""
    low = lowest_key(count, window)
    head = low // 16 * 16  # keys are read from this one on
    size = (count - head + 15) // 16 * 16
    weights_room = np.empty(size + LEAD, np.float32)
    weights = in_lines(weights_room)  # [S - head]
    scores_of(q, i, keys, base + head, width, room, np.float32(scale), weights, size)
    if cap > 0:
        cap_scores(weights, 0, size, np.float32(cap))
    mass = softmax(weights, 0, size, low - head, count - head)
    mix(weights, count - head, values, base + head * width, width, mass, out, i)
    keep(weights_room)


@helper
def many_rows(
    q: Floats, i: int, step: int, keys: Floats, values: Floats, base: int, width: int, room: int, count: int,
    sixes: int, scale: float, cap: float, out: Floats,
) -> None:  # fmt: skip
    """`one_row` for six times `sixes` rows, `step` apart from i on, of which the first sees `count` keys and each one
    more than the row before it, without a window; width a multiple of 16. Each row's sums are its own: what they share
    is what is read, one stretch of keys or values after another."""
    rows, size = 6 * sixes, (count + 6 * sixes + 14) // 16 * 16
    weights_room, masses = np.empty(rows * size + LEAD, np.float32), np.empty(rows, np.float32)
    together_room, sums_room = np.empty(16 * width + LEAD, np.float32), np.zeros(rows * 2 * width + LEAD, np.float32)
    weights = in_lines(weights_room)  # [rows, S]
    together = in_lines(together_room)  # [D, 16]: lying apart they would push each other out of the cache
    sums = in_lines(sums_room)  # [rows, 2, D]: of even and of odd keys
    for s in range(0, size, 16):
        for d in range(width):
            store(together, 16 * d, load(keys, base + d * room + s))
        for n in range(0, rows, 6):
            if s < count + n + 5:
                _six_scores(q, i + n * step, step, together, width, np.float32(scale), weights, n * size + s, size)
    for row in range(rows):
        part = (count + row + 15) // 16 * 16
        if cap > 0:
            cap_scores(weights, row * size, part, np.float32(cap))
        masses[row] = softmax(weights, row * size, part, 0, count + row)
    both = count - count % 2  # keys that all rows see, in pairs
    for begin in range(0, both, VALUES):
        keys_now = min(VALUES, both - begin)
        for n in range(0, rows, 6):
            for d in range(0, width, 16):
                for odd in range(2):
                    w, v = n * size + begin + odd, base + (begin + odd) * width + d
                    _six_mixed(weights, w, size, keys_now, values, v, width, sums, (2 * n + odd) * width + d)
    for row in range(rows):
        for d in range(0, width, 16):
            even, other = load(sums, 2 * row * width + d), load(sums, (2 * row + 1) * width + d)
            w, o = row * size, i + row * step + d
            _end(weights, w, both, count + row, values, base + d, width, even, other, masses[row], out, o)
    keep(weights_room)
    keep(together_room)
    keep(sums_room)


@helper
def _six_scores(
    q: Floats, i: int, step: int, keys: Floats, width: int, scale: Any, scores: Floats, w: int, size: int
) -> None:
    """Of six rows with the sixteen keys [D, 16], to where theirs begin in [rows, size]: w for the first."""
    times = spread(scale)
    a = b = c = d = e = f = spread(np.float32(0))
    for k in range(width):
        v, j = load(keys, 16 * k), i + k
        a, b = fma(spread_at(q, j), v, a), fma(spread_at(q, j + step), v, b)
        c, d = fma(spread_at(q, j + 2 * step), v, c), fma(spread_at(q, j + 3 * step), v, d)
        e, f = fma(spread_at(q, j + 4 * step), v, e), fma(spread_at(q, j + 5 * step), v, f)
    store(scores, w, mul(a, times))
    store(scores, w + size, mul(b, times))
    store(scores, w + 2 * size, mul(c, times))
    store(scores, w + 3 * size, mul(d, times))
    store(scores, w + 4 * size, mul(e, times))
    store(scores, w + 5 * size, mul(f, times))


@helper
def _six_mixed(
    weights: Floats, w: int, size: int, count: int, values: Floats, j: int, width: int, sums: Floats, o: int
) -> None:
    """Sixteen columns of `mix` for six rows over every second one of `count` keys, onto their sums from o on."""
    step = 2 * width
    a, b, c = load(sums, o), load(sums, o + step), load(sums, o + 2 * step)
    d, e, f = load(sums, o + 3 * step), load(sums, o + 4 * step), load(sums, o + 5 * step)
    for s in range(0, count, 2):
        v, k = load(values, j + s * width), w + s
        a, b = fma(spread_at(weights, k), v, a), fma(spread_at(weights, k + size), v, b)
        c, d = fma(spread_at(weights, k + 2 * size), v, c), fma(spread_at(weights, k + 3 * size), v, d)
        e, f = fma(spread_at(weights, k + 4 * size), v, e), fma(spread_at(weights, k + 5 * size), v, f)
    store(sums, o, a)
    store(sums, o + step, b)
    store(sums, o + 2 * step, c)
    store(sums, o + 3 * step, d)
    store(sums, o + 4 * step, e)
    store(sums, o + 5 * step, f)


@helper
def _end(
    weights: Floats, w: int, begin: int, count: int, values: Floats, base: int, width: int, even: Any, odd: Any,
    mass: Any, out: Floats, o: int,
) -> None:  # fmt: skip
    """What is left of one row from the even key `begin` on, and the quotient."""
    for s in range(begin, count - 1, 2):
        even = fma(spread_at(weights, w + s), load(values, base + s * width), even)
        odd = fma(spread_at(weights, w + s + 1), load(values, base + (s + 1) * width), odd)
    if count % 2:
        even = fma(spread_at(weights, w + count - 1), load(values, base + (count - 1) * width), even)
    store(out, o, div(add(even, odd), spread(mass)))


@helper
def lowest_key(count: int, window: int) -> int:
    """First key that a row with `count` keys up to its own may see."""
    return count - window if 0 < window < count else 0


@helper
def cap_scores(scores: Floats, i: int, size: int, cap: Any) -> None:
    """cap tanh(score / cap) of scores[i:i+size], which is a multiple of 16."""
    for s in range(i, i + size, 16):
        store(scores, s, mul(tanh(div(load(scores, s), spread(cap))), spread(cap)))


@helper
def cap_bf16(scores: Floats, cap: Any) -> None:
    for s in range(0, scores.size, 16):
        bent = to_bf16(tanh(to_bf16(div(load(scores, s), spread(cap)))))
        store(scores, s, to_bf16(mul(bent, spread(cap))))


@helper
def scores_of(
    q: Floats, i: int, keys: Floats, base: int, width: int, room: int, scale: Any, scores: Floats, size: int
) -> None:
    """The first `size` scores, a multiple of 16, of the head q[i:i+width]."""
    times = spread(scale)
    for s in range(0, size - 63, 64):  # four blocks at once only hide latency: each lane sums alone
        a = b = c = e = spread(np.float32(0))
        for d in range(width):
            v, j = spread_at(q, i + d), base + d * room + s
            a, b = fma(v, load(keys, j), a), fma(v, load(keys, j + 16), b)
            c, e = fma(v, load(keys, j + 32), c), fma(v, load(keys, j + 48), e)
        store(scores, s, mul(a, times))
        store(scores, s + 16, mul(b, times))
        store(scores, s + 32, mul(c, times))
        store(scores, s + 48, mul(e, times))
    for s in range(size - size % 64, size, 16):
        a = spread(np.float32(0))
        for d in range(width):
            a = fma(spread_at(q, i + d), load(keys, base + d * room + s), a)
        store(scores, s, mul(a, times))


@helper
def softmax(scores: Floats, i: int, size: int, low: int, count: int) -> Any:
    """scores[i:i+size] become e^(score - largest), zeros below low (in the first block) and from count on, which lies
    in the last block or at its end; their sum. The size is a multiple of 16."""
    lowest, whole, end = spread(np.float32(-np.inf)), i + count - count % 16, i + size
    most = lowest
    if low > 0:
        store(scores, i, first(lowest, low, load(scores, i)))
    if whole < end:
        store(scores, whole, first(load(scores, whole), i + count - whole, lowest))
    for s in range(i, end, 16):
        most = larger(load(scores, s), most)
    peak = spread(largest(most))
    sums = spread(np.float32(0))
    for s in range(i, end, 16):
        v = exp(sub(load(scores, s), peak))
        store(scores, s, v)
        sums = add(sums, v)
    return total(sums)


@helper
def mix(weights: Floats, count: int, values: Floats, base: int, width: int, mass: Any, out: Floats, o: int) -> None:
    """out = sum_s weights[s] values[s] / mass; even and odd keys are summed apart, then added."""
    over, both, fours = spread(mass), count - count % 2, width - width % 64
    for d in range(0, fours, 64):  # four sixteens at once only hide latency
        a = b = c = e = f = g = h = k = spread(np.float32(0))
        for s in range(0, both, 2):
            j = base + s * width + d
            v = spread_at(weights, s)
            a, b = fma(v, load(values, j), a), fma(v, load(values, j + 16), b)
            c, e = fma(v, load(values, j + 32), c), fma(v, load(values, j + 48), e)
            v, j = spread_at(weights, s + 1), j + width
            f, g = fma(v, load(values, j), f), fma(v, load(values, j + 16), g)
            h, k = fma(v, load(values, j + 32), h), fma(v, load(values, j + 48), k)
        if count % 2:
            v, j = spread_at(weights, both), base + both * width + d
            a, b = fma(v, load(values, j), a), fma(v, load(values, j + 16), b)
            c, e = fma(v, load(values, j + 32), c), fma(v, load(values, j + 48), e)
        store(out, o + d, div(add(a, f), over))
        store(out, o + d + 16, div(add(b, g), over))
        store(out, o + d + 32, div(add(c, h), over))
        store(out, o + d + 48, div(add(e, k), over))
    for d in range(fours, width, 16):
        n = min(16, width - d)
        even = odd = spread(np.float32(0))
        for s in range(0, both, 2):
            j = base + s * width + d
            even = fma(spread_at(weights, s), load_part(values, j, n), even)
            odd = fma(spread_at(weights, s + 1), load_part(values, j + width, n), odd)
        if count % 2:
            even = fma(spread_at(weights, both), load_part(values, base + both * width + d, n), even)
        store_part(out, o + d, n, div(add(even, odd), over))
