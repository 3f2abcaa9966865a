"""Masses of whole rows, and draws by inverse CDF in id order. Helpers of `choose`.

What is drawn is what the definition draws, or UNDECIDED: where u falls so near to the end of a token's share that the
sum could be rounded to the other side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import load
from refsample_kernels.rank import BLOCK
from refsample_kernels.wides import add_wide, exp_from, exp_over, no_wide, total_wide

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

UNDECIDED = -1
DRAWN = 4e-11
"""A draw nearer than this share of the mass to the end of a token's is undecided."""


@helper
def mass_of(lanes: F32, temperature: float, peak: float) -> float:
    """Sum of e^(l / temperature - peak)."""
    sums = no_wide()
    if temperature == 1.0:
        for i in range(0, lanes.size, 16):
            sums = add_wide(sums, exp_from(load(lanes, i), peak))
    else:
        for i in range(0, lanes.size, 16):
            sums = add_wide(sums, exp_over(load(lanes, i), temperature, peak))
    return total_wide(sums)


@helper
def draw_few(ids: Ids, values: Floats, n: int, u: float) -> int:
    """Inverse CDF in id order over n ranked tokens; ids are put in id order, values become weights."""
    peak = values[0]
    for p in range(1, n):
        value, name, i = values[p], ids[p], p
        while i > 0 and ids[i - 1] > name:
            ids[i], values[i] = ids[i - 1], values[i - 1]
            i -= 1
        ids[i], values[i] = name, value
    mass = 0.0
    for i in range(n):
        values[i] = math.exp(values[i] - peak)
        mass += values[i]
    goal, passed = u * mass, 0.0
    for i in range(n):
        before, passed = passed, passed + values[i]
        if passed > goal:
            near = min(passed - goal if i + 1 < n else mass, goal - before if before > 0.0 else mass)
            return ids[i] if near > DRAWN * mass else UNDECIDED
    return UNDECIDED


@helper
def draw_all(
    lanes: F32, peaks: F32, names: Ids, changed: Floats, warm: float, u: float, masses: Floats
) -> int:
    """Inverse CDF in id order over all tokens."""
    peak = -np.inf
    for block in range(peaks.size):
        peak = max(peak, np.float64(peaks[block]) / warm)
    for j in range(changed.size):
        peak = max(peak, changed[j] / warm)
    if not abs(peak) < 1e300:
        return UNDECIDED
    for block in range(peaks.size):
        masses[block] = mass_of(lanes[block * BLOCK : (block + 1) * BLOCK], warm, peak)
    for j in range(changed.size):
        masses[names[j] // BLOCK] += math.exp(changed[j] / warm - peak)
    mass = masses[: peaks.size].sum()
    goal, passed, block = u * mass, 0.0, 0
    while block + 1 < peaks.size and passed + masses[block] <= goal:
        passed += masses[block]
        block += 1
    weights = masses[peaks.size : peaks.size + BLOCK]
    for i in range(BLOCK):
        weights[i] = math.exp(np.float64(lanes[block * BLOCK + i]) / warm - peak)
    for j in range(changed.size):
        if names[j] // BLOCK == block:
            weights[names[j] % BLOCK] = math.exp(changed[j] / warm - peak)
    for i in range(BLOCK):
        before, passed = passed, passed + weights[i]
        if passed > goal:
            sure = passed - goal > DRAWN * mass and (goal - before > DRAWN * mass or before == 0.0)
            return block * BLOCK + i if sure else UNDECIDED
    return UNDECIDED
