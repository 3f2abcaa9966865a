"""Masses of whole rows, and draws by inverse CDF in id order. Helpers of `choose`.

What is drawn is what the definition draws, or UNDECIDED: where u falls so near to the end of a token's share that the
sum could be rounded to the other side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import Lanes, first, load
from refsample_kernels.rank import BLOCK
from refsample_kernels.wides import (
    add_wide,
    exp_from,
    exp_over,
    from_least,
    greater,
    no_wide,
    only_above,
    total_wide,
)

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Cut = tuple[float, int]
"""The first token of the ranking that is dropped: its logit (before temperature) and id."""

UNDECIDED, DEEPER = -1, -2
NOT_CUT = (-np.inf, 0)
"""Below everything that is finite."""
DRAWN = 4e-11
"""A draw nearer than this share of the mass to the end of a token's is undecided; for a large vocabulary farther."""
LARGEST = 3.4028234663852886e38
"""The largest float32."""


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
def top_of(peaks: F32, changed: Floats) -> float:
    """The largest logit of a row."""
    top = -np.inf
    for block in range(peaks.size):
        top = max(top, np.float64(peaks[block]))
    for j in range(changed.size):
        top = max(top, changed[j])
    return top


@helper
def low_of(cut: Cut) -> np.float32:
    """The largest float32 that is not above the logit of a cut."""
    return floor32(cut[0])


@helper
def floor32(value: float) -> np.float32:
    """The largest float32 that is not above a float64."""
    if abs(value) > LARGEST:
        return np.float32(LARGEST if value > 0.0 else -np.inf)
    near = np.float32(value)
    return np.nextafter(near, np.float32(-np.inf)) if np.float64(near) > value else near


@helper
def ties_end(cut: Cut, low: np.float32) -> int:
    """Before which id lanes that equal `low` are kept; 0 where the cut's logit is no float32, so that none ties."""
    return cut[1] if np.float64(low) == cut[0] else 0


@helper
def kept_lanes(lanes: F32, i: int, low: np.float32, end: int) -> Lanes:
    """Lanes i..i+15, -inf where dropped: what is above `low` is kept, and at ids before `end` what equals it."""
    v = load(lanes, i)
    return first(from_least(v, low), end - i, only_above(v, low))


@helper
def is_kept(value: float, name: int, cut: Cut) -> bool:
    """The same for one token."""
    return value > cut[0] or (value == cut[0] and name < cut[1])


@helper
def kept_mass(
    lanes: F32, start: int, stop: int, names: Ids, changed: Floats, warm: float, peak: float, cut: Cut
) -> float:
    """Sum of e^(l / warm - peak) over what is kept of the ids from start to stop, both whole blocks."""
    low = low_of(cut)
    end, sums = ties_end(cut, low), no_wide()
    for i in range(start, stop, 16):
        sums = add_wide(sums, exp_over(kept_lanes(lanes, i, low, end), warm, peak))
    mass = total_wide(sums)
    for j in range(changed.size):
        if start <= names[j] < stop and is_kept(changed[j], names[j], cut):
            mass += math.exp(changed[j] / warm - peak)
    return mass


@helper
def draw_all(
    lanes: F32, names: Ids, changed: Floats, warm: float, top: float, cut: Cut, u: float, masses: Floats
) -> int:
    """Inverse CDF in id order over what is kept of all tokens; `top` is the largest logit."""
    peak, blocks = top / warm, lanes.size // BLOCK
    if not abs(peak) < 1e300:
        return UNDECIDED
    none = changed[:0]
    for block in range(blocks):
        masses[block] = kept_mass(lanes, block * BLOCK, (block + 1) * BLOCK, names, none, warm, peak, cut)
    for j in range(changed.size):
        if is_kept(changed[j], names[j], cut):
            masses[names[j] // BLOCK] += math.exp(changed[j] / warm - peak)
    mass = 0.0
    for block in range(blocks):
        mass += masses[block]
    goal, passed, block = u * mass, 0.0, 0
    while block + 1 < blocks and passed + masses[block] <= goal:
        passed += masses[block]
        block += 1
    for i in range(BLOCK):
        value = np.float64(lanes[block * BLOCK + i])
        masses[blocks + i] = math.exp(value / warm - peak) if is_kept(value, block * BLOCK + i, cut) else 0.0
    for j in range(changed.size):
        if names[j] // BLOCK == block and is_kept(changed[j], names[j], cut):
            masses[blocks + names[j] % BLOCK] = math.exp(changed[j] / warm - peak)
    for i in range(BLOCK):
        before, passed = passed, passed + masses[blocks + i]
        if passed > goal:
            near = max(DRAWN, lanes.size * 2.0**-51) * mass
            sure = passed - goal > near and (goal - before > near or before == 0.0)
            return block * BLOCK + i if sure else UNDECIDED
    return UNDECIDED


@helper
def count_kept(lanes: F32, names: Ids, changed: Floats, cut: Cut) -> int:
    """How many tokens are kept."""
    low = low_of(cut)
    end, count = ties_end(cut, low), 0
    for i in range(0, lanes.size, 16):
        count += greater(kept_lanes(lanes, i, low, end), np.float32(-np.inf))
    for j in range(changed.size):
        count += int(is_kept(changed[j], names[j], cut))
    return count
