"""Philox4x64-10: a counter and a key in, four random 64-bit words out. It knows nothing of seeds, tokens or streams.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11), section 4; the constants are
those of Random123. A block is a pure function of (key, counter). NumPy's `Philox` makes the same blocks but adds 1 to
its counter before the first one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
MASK = (1 << 64) - 1
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def block(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The four words of one block, in exact integers. Key and counter words lie in [0, 2^64)."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (right >> 64) ^ c1 ^ k0, right & MASK, (left >> 64) ^ c3 ^ k1, left & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def blocks(keys: Words, counters: Words) -> Words:
    """`block` for many keys [N, 2] and counters [N, 4] -> [N, 4]; 64-bit arithmetic wraps, as the generator wants."""
    k0, k1 = keys[:, 0].copy(), keys[:, 1].copy()  # [N]
    c0, c1, c2, c3 = (counters[:, i].copy() for i in range(4))  # [N]
    for _ in range(ROUNDS):
        high_left, low_left = _multiply(MULTIPLIERS[0], c0)
        high_right, low_right = _multiply(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high_right ^ c1 ^ k0, low_right, high_left ^ c3 ^ k1, low_left
        k0, k1 = k0 + np.uint64(WEYL[0]), k1 + np.uint64(WEYL[1])
    return np.stack((c0, c1, c2, c3), axis=1)  # [N, 4]


def _multiply(constant: int, words: Words) -> tuple[Words, Words]:
    """High and low 64 bits of constant * words [N], by 32-bit halves."""
    a_high, a_low = np.uint64(constant >> 32), np.uint64(constant & 0xFFFFFFFF)
    b_high, b_low = words >> HALF, words & LOW
    low, mid = a_low * b_low, a_high * b_low
    carried = (low >> HALF) + (mid & LOW) + a_low * b_high  # < 2^64: three summands below 2^32, 2^32 and (2^32 - 1)^2
    return a_high * b_high + (mid >> HALF) + (carried >> HALF), np.uint64(constant) * words
