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
    store,
    store_part,
    sub,
    to_bf16,
    total,
)

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
    weights = np.empty((count - head + 15) // 16 * 16, np.float32)  # [S - head]
    scores_of(q, i, keys, base + head, width, room, np.float32(scale), weights)
    if cap > 0:
        cap_scores(weights, np.float32(cap))
    mass = softmax(weights, low - head, count - head)
    mix(weights, count - head, values, base + head * width, width, mass, out, i)


@helper
def many_rows(
    q: Floats, i: int, step: int, keys: Floats, values: Floats, base: int, width: int, room: int, count: int,
    triples: int, scale: float, cap: float, out: Floats,
) -> None:  # fmt: skip
    """`one_row` for three times `triples` rows, `step` apart from i on, of which the first sees `count` keys and each
    one more than the row before it, without a window; width a multiple of 16. Each row's sums are its own: what they
    share is what is read, one stretch of keys or values after another."""
    rows, size = 3 * triples, (count + 3 * triples + 14) // 16 * 16
    weights, masses = np.empty(rows * size, np.float32), np.empty(rows, np.float32)  # [rows, S], [rows]
    for s in range(0, size, 32):
        for n in range(triples):
            if s < count + 3 * n + 2:
                w, here = 3 * n * size + s, i + 3 * n * step
                _three_scores(
                    q, here, step, keys, base + s, width, room, np.float32(scale), weights, w, size, s + 32 <= size
                )
    for row in range(rows):
        part = weights[row * size : row * size + (count + row + 15) // 16 * 16]
        if cap > 0:
            cap_scores(part, np.float32(cap))
        masses[row] = softmax(part, 0, count + row)
    sums = np.zeros(rows * 2 * width, np.float32)  # [rows, 2, D]: of even and of odd keys
    both = count - count % 2  # keys that all rows see, in pairs
    for begin in range(0, both, VALUES):
        for n in range(triples):
            for d in range(0, width, 16):
                w, v, o = 3 * n * size + begin, base + begin * width + d, 6 * n * width + d
                _three_mixed(weights, w, size, min(VALUES, both - begin), values, v, width, sums, o)
    for row in range(rows):
        for d in range(0, width, 16):
            even, odd = load(sums, 2 * row * width + d), load(sums, (2 * row + 1) * width + d)
            w, o = row * size, i + row * step + d
            _end(weights, w, both, count + row, values, base + d, width, even, odd, masses[row], out, o)


@helper
def _three_scores(
    q: Floats, i: int, step: int, keys: Floats, j: int, width: int, room: int, scale: Any, scores: Floats, w: int,
    size: int, wide: bool,
) -> None:  # fmt: skip
    """Of three rows with the 32 keys from j on, or with 16."""
    times = spread(scale)
    a = b = c = d = e = f = spread(np.float32(0))
    if wide:
        for k in range(width):
            left, right = load(keys, j + k * room), load(keys, j + k * room + 16)
            v = spread(q[i + k])
            a, b = fma(v, left, a), fma(v, right, b)
            v = spread(q[i + step + k])
            c, d = fma(v, left, c), fma(v, right, d)
            v = spread(q[i + 2 * step + k])
            e, f = fma(v, left, e), fma(v, right, f)
        store(scores, w + 16, mul(b, times))
        store(scores, w + size + 16, mul(d, times))
        store(scores, w + 2 * size + 16, mul(f, times))
    else:
        for k in range(width):
            left = load(keys, j + k * room)
            a, c = fma(spread(q[i + k]), left, a), fma(spread(q[i + step + k]), left, c)
            e = fma(spread(q[i + 2 * step + k]), left, e)
    store(scores, w, mul(a, times))
    store(scores, w + size, mul(c, times))
    store(scores, w + 2 * size, mul(e, times))


@helper
def _three_mixed(
    weights: Floats, w: int, size: int, count: int, values: Floats, j: int, width: int, sums: Floats, o: int
) -> None:
    """Sixteen columns of `mix` for three rows over an even number of keys, onto their sums from o on."""
    a, b = load(sums, o), load(sums, o + width)
    c, d = load(sums, o + 2 * width), load(sums, o + 3 * width)
    e, f = load(sums, o + 4 * width), load(sums, o + 5 * width)
    for s in range(0, count, 2):
        v, u = load(values, j + s * width), load(values, j + (s + 1) * width)
        a, b = fma(spread(weights[w + s]), v, a), fma(spread(weights[w + s + 1]), u, b)
        c, d = fma(spread(weights[w + size + s]), v, c), fma(spread(weights[w + size + s + 1]), u, d)
        e, f = fma(spread(weights[w + 2 * size + s]), v, e), fma(spread(weights[w + 2 * size + s + 1]), u, f)
    store(sums, o, a)
    store(sums, o + width, b)
    store(sums, o + 2 * width, c)
    store(sums, o + 3 * width, d)
    store(sums, o + 4 * width, e)
    store(sums, o + 5 * width, f)


@helper
def _end(
    weights: Floats, w: int, begin: int, count: int, values: Floats, base: int, width: int, even: Any, odd: Any,
    mass: Any, out: Floats, o: int,
) -> None:  # fmt: skip
    """What is left of one row from the even key `begin` on, and the quotient."""
    for s in range(begin, count - 1, 2):
        even = fma(spread(weights[w + s]), load(values, base + s * width), even)
        odd = fma(spread(weights[w + s + 1]), load(values, base + (s + 1) * width), odd)
    if count % 2:
        even = fma(spread(weights[w + count - 1]), load(values, base + (count - 1) * width), even)
    store(out, o, div(add(even, odd), spread(mass)))


@helper
def lowest_key(count: int, window: int) -> int:
    """First key that a row with `count` keys up to its own may see."""
    return count - window if 0 < window < count else 0


@helper
def cap_scores(scores: Floats, cap: Any) -> None:
    for s in range(0, scores.size, 16):
        store(scores, s, mul(tanh(div(load(scores, s), spread(cap))), spread(cap)))


@helper
def cap_bf16(scores: Floats, cap: Any) -> None:
    for s in range(0, scores.size, 16):
        bent = to_bf16(tanh(to_bf16(div(load(scores, s), spread(cap)))))
        store(scores, s, to_bf16(mul(bent, spread(cap))))


@helper
def scores_of(q: Floats, i: int, keys: Floats, base: int, width: int, room: int, scale: Any, scores: Floats) -> None:
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
def softmax(scores: Floats, low: int, count: int) -> Any:
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
def mix(weights: Floats, count: int, values: Floats, base: int, width: int, mass: Any, out: Floats, o: int) -> None:
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
