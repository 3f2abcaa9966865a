"""A program of steps as numbers, and what each step does to single logits or keeps of a ranking. Helpers of `choose`.

They know no rows. Where a float64 sum in another order could decide another way they say UNDECIDED.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.inverse import UNDECIDED, mass_of
from refsample_kernels.jit import helper
from refsample_kernels.penalties import FARTHEST
from refsample_kernels.truncate import ROUNDING

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

BIAS, REPETITION, FREQUENCY, PRESENCE, GREEDY, TEMPERATURE, MIN_P, TOP_K, TOP_P, LOG_MIN_P = range(10)
"""The steps of a program, and the places of what each needs in `numbers` (of MIN_P the natural log too) and `rules`."""
TIES, GT, JOINT, PROBABILITY, RELATIVE = 1, 2, 4, 8, 16
"""Bits of `rules`: ties are not broken by the lowest id; top_p keeps what is at p; is of all before top_k; min_p
compares probabilities; the frequency penalty is of the share."""
MOST, PROBE = 256, 128
"""Ranks that are listed: at most for top_k, and for a top_p or min_p without one. What reaches deeper is `deep`'s."""
SURE, DOUBT = 2e-13, 1e-11
"""How far two sums of one mass may lie apart: a share of a few tokens that is nearer to p than SURE is at p, any share
that is nearer than DOUBT undecided (`doubt_of`: for a large vocabulary farther)."""


@helper
def adjust(changed: Floats, bias: Floats, repeats: Ids, counts: Ids, program: Ids, numbers: Floats, rules: Ids) -> None:
    """The steps that change single logits, on changed [K]; the same operations as in `penalties`."""
    tokens = 0
    for j in range(counts.size):
        tokens += counts[j]
    for j in range(changed.size):
        value = changed[j]
        if bias[j] == -np.inf:
            value = -np.inf
        for p in range(program.size):
            step, amount = program[p], numbers[program[p]]
            if value == -np.inf or step > PRESENCE:
                break
            if step == BIAS:
                value += bias[j]
            elif step == REPETITION and repeats[j] > 0:
                value = value / amount if value > 0.0 else value * amount
                value = min(max(value, -FARTHEST), FARTHEST)
            elif step == FREQUENCY and counts[j] > 0:
                share = amount / tokens if rules[FREQUENCY] & RELATIVE else amount
                value = min(max(value - min(max(share * counts[j], -FARTHEST), FARTHEST), -FARTHEST), FARTHEST)
            elif step == PRESENCE and counts[j] > 0:
                value = min(max(value - min(max(amount, -FARTHEST), FARTHEST), -FARTHEST), FARTHEST)
        changed[j] = value


@helper
def wanted(program: Ids, numbers: Floats) -> int:
    """How many ranks the steps need to be listed, the one behind the last cut included."""
    ranks = 0
    for p in range(program.size):
        step = program[p]
        if step == TOP_K:  # what another step keeps beyond it does not matter
            return min(int(numbers[TOP_K]), MOST) + 1
        if step in (MIN_P, TOP_P):
            ranks = PROBE + 1
        elif step == GREEDY:
            ranks = max(ranks, 2)
    return ranks


@helper
def reach(
    step: int, values: Floats, n: int, whole: bool, cut: bool, lanes: F32, changed: Floats, warm: float,
    numbers: Floats, rules: Ids, least: int,
) -> int:  # fmt: skip
    """How many of values [n], descending, a step keeps; n: all of them; UNDECIDED where rounding would decide."""
    if step == GREEDY:
        return 1
    if step == TOP_K:
        return min(n, int(numbers[TOP_K]))
    if step == MIN_P:
        return min(n, max(least, _reach_min_p(values, n, numbers, rules)))
    if cut and (rules[TOP_P] & JOINT or not whole):
        return UNDECIDED
    mass = 0.0
    if whole:
        for i in range(n):
            mass += math.exp(values[i] - values[0])
    else:
        mass = mass_of(lanes, warm, values[0])
        for j in range(changed.size):
            mass += math.exp(changed[j] / warm - values[0])
    above = 0.0
    for i in range(n):
        stays = keeps(above / mass, numbers[TOP_P], (rules[TOP_P] & GT) > 0, SURE, doubt_of(lanes.size))
        if stays < 0:
            return UNDECIDED
        if stays == 0 and i >= least:
            return i
        above += math.exp(values[i] - values[0])
    return n


@helper
def doubt_of(size: int) -> float:
    """How far running sums of so many numbers may lie apart."""
    return max(DOUBT, size * 2.0**-51)


@helper
def keeps(share: float, p: float, gt: bool, sure: float, doubt: float) -> int:
    """Whether top_p keeps a token with such a share of the mass above it: 1, 0, or UNDECIDED where rounding decides.

    Nearer than `sure` the share is at p.
    """
    if sure < abs(share - p) < doubt:
        return UNDECIDED
    return int(share <= p + ROUNDING) if gt else int(share < p - ROUNDING)


@helper
def _reach_min_p(values: Floats, n: int, numbers: Floats, rules: Ids) -> int:
    edge = values[0] + (numbers[LOG_MIN_P] - ROUNDING)
    for i in range(n):
        if rules[MIN_P] & PROBABILITY:
            share = math.exp(values[i] - values[0]) / (numbers[MIN_P] * (1.0 - ROUNDING))
            if abs(share - 1.0) < SURE:
                return UNDECIDED
            if share < 1.0:
                return i
        elif values[i] < edge:
            return i
    return n
