"""The best of a vocabulary without sorting it: block maxima, a threshold from them, and only what lies above it.

Helpers of `choose`. They know float32 lanes, padded with -inf to whole blocks, and beside them a few float64 values at
ids of their own ("extras": tokens whose logit something changed; the lanes hold -inf there). No order of the input
makes them slow: what is collected is bounded by the blocks that can hold a winner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import helper
from refsample_kernels.lanes import first, larger, largest, load, load_part, spread, store, total
from refsample_kernels.wides import greater, keep_nan

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

BLOCK = 128


@helper
def fill(row: F32, work: F32, peaks: F32) -> Any:
    """Copy row [V] to work [W], padded with -inf, and find its blocks' maxima. Returns the largest; NaN: one is NaN."""
    size = row.size
    lowest, odd = spread(np.float32(-np.inf)), spread(np.float32(0))
    whole = size // BLOCK
    for block in range(peaks.size):
        most = lowest
        for i in range(block * BLOCK, block * BLOCK + BLOCK, 16):
            v = load(row, i) if block < whole else first(load_part(row, i, size - i), size - i, lowest)
            store(work, i, v)
            most, odd = larger(v, most), keep_nan(v, odd)
        peaks[block] = largest(most)
    top = np.float32(-np.inf)
    for block in range(peaks.size):
        top = max(top, peaks[block])
    return total(odd) + top if np.isnan(total(odd)) else top


@helper
def remove(work: F32, peaks: F32, i: int) -> None:
    """Set one element to -inf, and the maximum of its block right."""
    block, old = i // BLOCK, work[i]
    work[i] = np.float32(-np.inf)
    if old == peaks[block]:
        most = spread(np.float32(-np.inf))
        for j in range(block * BLOCK, block * BLOCK + BLOCK, 16):
            most = larger(load(work, j), most)
        peaks[block] = largest(most)


@helper
def take_out(row: F32, work: F32, peaks: F32, raw_peaks: F32, names: Ids, changed: Floats) -> None:
    """Keep the maxima of the blocks as they are, and put the logits of `names` into `changed` instead of the lanes."""
    for block in range(peaks.size):
        raw_peaks[block] = peaks[block]
    for j in range(names.size):
        changed[j] = row[names[j]]
        remove(work, peaks, names[j])


@helper
def kth_largest(values: Floats, n: int, k: int) -> float:
    """The k-th largest of values[:n], 1 <= k <= n, which it reorders. Pivots are drawn: no order is the worst."""
    low, high, drawn = 0, n - 1, 1
    while low < high:
        drawn = (drawn * 1103515245 + 12345) % 2147483648
        pivot = values[low + (drawn >> 8) % (high - low + 1)]
        i, j, p = low, high, low  # [low, i) is greater than the pivot, [i, p) equal to it, (j, high] less
        while p <= j:
            value = values[p]
            if value > pivot:
                values[p], values[i] = values[i], value
                i, p = i + 1, p + 1
            elif value < pivot:
                values[p], values[j] = values[j], value
                j -= 1
            else:
                p += 1
        if k - 1 < i:
            high = i - 1
        elif k - 1 > j:
            low = j + 1
        else:
            return float(pivot)
    return float(values[low])


@helper
def best(
    work: F32, peaks: F32, extra_ids: Ids, extras: Floats, held: int, count: int, keys: Floats, ids: Ids, values: Floats
) -> int:
    """The `count` best of the lanes and the `held` extras into ids and values, best first, equal ones by id.

    Returns how many there are: fewer where fewer are finite. Room: keys [blocks + held], ids and values
    [(count + 1) BLOCK + held].
    """
    blocks = peaks.size
    edge = -np.inf
    if count < blocks + held:
        for block in range(blocks):
            keys[block] = peaks[block]
        for j in range(held):
            keys[blocks + j] = extras[j]
        edge = kth_largest(keys, blocks + held, count)  # so many are at least that large: one of each block
    found = _above(work, peaks, edge, ids, values)
    for j in range(held):
        if extras[j] > edge:
            ids[found], values[found] = extra_ids[j], extras[j]
            found += 1
    if found < count and edge > -np.inf:
        ties = count - found
        found = _equal(work, peaks, edge, ties, found, ids, values)
        for j in range(held):
            if extras[j] == edge:
                ids[found], values[found] = extra_ids[j], extras[j]
                found += 1
    rank_pairs(ids, values, found, count)
    return min(found, count)


@helper
def _below(edge: float) -> Any:
    """A float32 below a float64, near to it: what is not greater than that is not at the edge either."""
    if abs(edge) > 3e38:
        return np.float32(3e38 if edge > 0.0 else -np.inf)
    return np.float32(edge - abs(edge) * 2.0**-22 - 1e-37)


@helper
def _above(work: F32, peaks: F32, edge: float, ids: Ids, values: Floats) -> int:
    found, below = 0, _below(edge)
    for block in range(peaks.size):
        if peaks[block] > edge:
            for i in range(block * BLOCK, block * BLOCK + BLOCK, 16):
                if greater(load(work, i), below):
                    for j in range(i, i + 16):
                        if work[j] > edge:
                            ids[found], values[found] = j, work[j]
                            found += 1
    return found


@helper
def _equal(work: F32, peaks: F32, edge: float, most: int, found: int, ids: Ids, values: Floats) -> int:
    """Append the first `most` that are equal to the edge."""
    end, below = found + most, _below(edge)
    for block in range(peaks.size):
        if peaks[block] >= edge:
            for i in range(block * BLOCK, block * BLOCK + BLOCK, 16):
                if greater(load(work, i), below):
                    for j in range(i, i + 16):
                        if work[j] == edge and found < end:
                            ids[found], values[found] = j, work[j]
                            found += 1
        if found == end:
            break
    return found


@helper
def rank_pairs(ids: Ids, values: Floats, n: int, count: int) -> None:
    """Put the `count` best of n pairs in front, in order."""
    low, high, drawn = 0, n - 1, 1
    while count < n and low < high:
        drawn = (drawn * 1103515245 + 12345) % 2147483648
        pivot = low + (drawn >> 8) % (high - low + 1)
        value, name = values[pivot], ids[pivot]
        _swap(ids, values, pivot, high)
        i = low
        for p in range(low, high):
            if values[p] > value or (values[p] == value and ids[p] < name):
                _swap(ids, values, p, i)
                i += 1
        _swap(ids, values, i, high)
        if i == count - 1 or i == count:
            break
        if i < count:
            low = i + 1
        else:
            high = i - 1
    for p in range(1, min(n, count)):
        value, name, i = values[p], ids[p], p
        while i > 0 and (values[i - 1] < value or (values[i - 1] == value and ids[i - 1] > name)):
            ids[i], values[i] = ids[i - 1], values[i - 1]
            i -= 1
        ids[i], values[i] = name, value


@helper
def ascends(ids: Ids, start: int, last: int) -> bool:
    """Whether ids[start..last] grow: equal values that only a temperature has made equal may be in another order."""
    falls = 0
    for i in range(start, last):
        falls += int(ids[i] > ids[i + 1])
    return falls == 0


@helper
def _swap(ids: Ids, values: Floats, a: int, b: int) -> None:
    ids[a], ids[b] = ids[b], ids[a]
    values[a], values[b] = values[b], values[a]
