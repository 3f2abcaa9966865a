"""Cuts that lie deeper than the few best tokens that are listed. Helpers of `choose`.

What is kept is always a beginning of the ranking, so a cut is its first token that is dropped: a logit and an id. The
masses (or numbers) of tokens are sorted into buckets by depth below the best, then those of the one bucket where the
cut lies again, until few tokens or equal ones are left: some passes over the row, whatever the order of its values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.inverse import LARGEST, UNDECIDED, Cut, is_kept, kept_lanes, low_of, ties_end
from refsample_kernels.jit import helper
from refsample_kernels.lanes import store
from refsample_kernels.program import DOUBT, GT, SURE, TIES, TOP_K, TOP_P, doubt_of, keeps
from refsample_kernels.rank import ascends, rank_pairs
from refsample_kernels.truncate import ROUNDING
from refsample_kernels.wides import at_least, exp_over, greater, store_wide

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

BUCKETS, FEW, DEEPEST = 1024, 512, 64.0
"""Buckets of a pass; tokens that are few enough to be sorted; nats below the best that the first pass tells apart."""
ROOM = 4 * BUCKETS
"""Room for mass, number, least and largest logit of each bucket."""


@helper
def below_min_p(top: float, warm: float, log_share: float) -> tuple[Cut, bool]:
    """The cut of min_p in the form of logits, and whether it was found: the largest float64 whose quotient by `warm` is
    below the threshold."""
    edge = top / warm + (log_share - ROUNDING)
    value = edge * warm
    for _ in range(8):
        if value / warm >= edge:
            value = np.nextafter(value, -np.inf)
    for _ in range(8):
        if np.nextafter(value, np.inf) / warm < edge:
            value = np.nextafter(value, np.inf)
    return (value, 0), value / warm < edge <= np.nextafter(value, np.inf) / warm


@helper
def deeper_of(old: Cut, new: Cut) -> Cut:
    """Of two cuts the one that leaves less."""
    if new[0] > old[0] or (new[0] == old[0] and new[1] < old[1]):
        return new
    return old


@helper
def deep_cut(
    step: int, lanes: F32, names: Ids, changed: Floats, warm: float, top: float, cut: Cut, numbers: Floats, rules: Ids,
    ids: Ids, values: Floats, room: Floats,
) -> tuple[Cut, bool]:  # fmt: skip
    """The cut of top_k or top_p among what `cut` has left, and whether it is sure."""
    size = lanes.size
    peak, counting, gt = top / warm, step == TOP_K, (rules[TOP_P] & GT) > 0
    least, most, above = -np.inf, np.inf, 0.0
    low, high = 0.0, DEEPEST
    total = goal = slack = 0.0  # known after the first turn, which sorts all that is kept: no pass of its own
    for turn in range(16):
        _sort_in(lanes, names, changed, warm, peak, cut, (least, most), (low, high), counting, room)
        if turn == 0:
            total = 1.0 if counting else _sum_of(room)
            goal, slack = numbers[step] * total, -0.5 if counting else doubt_of(size) * total
        bucket = 0
        while bucket < BUCKETS and above + room[4 * bucket] <= goal - slack:
            above += room[4 * bucket]
            bucket += 1
        if bucket == BUCKETS:  # all of them stay: none is left that top_k would drop, or rounding hides it
            return cut, counting
        found = int(room[4 * bucket + 1])
        least, most = room[4 * bucket + 2], room[4 * bucket + 3]
        if least == most:
            weight = 1.0 if counting else math.exp(most / warm - peak)
            stay = _of_equal(found, above, weight, total, numbers[step], counting, gt, size)
            if stay < 0 or (0 < stay < found and rules[step] & TIES):
                return cut, False
            return deeper_of(cut, _cut_equal(most, stay, found, lanes, names, changed)), True
        if found <= FEW:
            _collect(lanes, names, changed, cut, least, most, ids, values)
            rank_pairs(ids, values, found, found)
            for i in range(found):
                stays = _stays(above, total, numbers[step], counting, gt, size)
                if stays < 0:
                    return cut, False
                if stays == 0:
                    plain = _is_plain(ids, values, i, found, warm, (rules[step] & TIES) > 0)
                    return deeper_of(cut, (values[i], ids[i])), plain
                above += 1.0 if counting else math.exp(values[i] / warm - peak)
            after = _stays(above, total, numbers[step], counting, gt, size)  # the first of the next bucket
            return deeper_of(cut, (np.nextafter(least, -np.inf), 0)), after == 0
        low, high = peak - most / warm, peak - least / warm
        if not 1e-290 < high - low < 1e290:  # different logits that T has made equal, or a quotient that is no number
            break
    return cut, False


@helper
def _sum_of(room: Floats) -> float:
    """Mass of all buckets."""
    total = 0.0
    for i in range(0, ROOM, 4):
        total += room[i]
    return total


@helper
def _stays(above: float, total: float, goal: float, counting: bool, gt: bool, size: int) -> int:
    """1, 0 or UNDECIDED for a token with so much above it."""
    return int(above < goal) if counting else keeps(above / total, goal, gt, -1.0, doubt_of(size))


@helper
def _of_equal(
    found: int, above: float, weight: float, total: float, goal: float, counting: bool, gt: bool, size: int
) -> int:
    """How many of equal tokens stay; UNDECIDED where rounding would decide. Whole numbers add up without any."""
    near = int((goal * total - above) / weight)
    for n in range(max(0, near - 2), min(found, near + 4) + 1):
        mass = above + n * weight
        exact = above == 0.0 and weight == 1.0 and total == found
        stays = keeps(mass / total, goal, gt, SURE, DOUBT) if exact else _stays(mass, total, goal, counting, gt, size)
        if stays != 1:
            return n if stays == 0 else UNDECIDED
    return UNDECIDED  # what comes after them may stay too


@helper
def _is_plain(ids: Ids, values: Floats, i: int, found: int, warm: float, ties: bool) -> bool:
    """Whether the order around place i, the first that is dropped, is that of ids where T makes logits equal."""
    level = values[i] / warm
    if i == 0 or values[i - 1] / warm != level:
        return True
    first_tied, last_tied = i - 1, i
    while first_tied > 0 and values[first_tied - 1] / warm == level:
        first_tied -= 1
    while last_tied + 1 < found and values[last_tied + 1] / warm == level:
        last_tied += 1
    return not ties and ascends(ids, first_tied, last_tied)


@helper
def _cut_equal(value: float, stay: int, found: int, lanes: F32, names: Ids, changed: Floats) -> Cut:
    """The cut behind the first `stay` of so many equal tokens, by id."""
    if stay == 0 or stay == found:
        return (value if stay == 0 else np.nextafter(value, -np.inf)), 0
    low, high = 0, lanes.size  # the id before which there are so many: by halves
    while high - low > 1:
        middle, before = (low + high) // 2, 0
        for i in range(middle):
            before += int(lanes[i] == value)
        for j in range(changed.size):
            before += int(changed[j] == value and names[j] < middle)
        if before <= stay:
            low = middle
        else:
            high = middle
    return value, low


@helper
def _sort_in(
    lanes: F32, names: Ids, changed: Floats, warm: float, peak: float, cut: Cut, window: tuple[float, float],
    depths: tuple[float, float], counting: bool, room: Floats,
) -> None:  # fmt: skip
    """Fill `room` from the kept tokens whose logits lie in the window; its depths are told apart."""
    for i in range(0, ROOM, 4):
        room[i] = room[i + 1] = 0.0
        room[i + 2], room[i + 3] = np.inf, -np.inf
    low = low_of(cut)
    end, scale = ties_end(cut, low), BUCKETS / (depths[1] - depths[0])
    weights, held = np.empty(16), np.empty(16, np.float32)
    least, most = _around(window[0], window[1])
    for i in range(0, lanes.size, 16):
        v = kept_lanes(lanes, i, low, end)
        if at_least(v, least) == greater(v, most):
            continue
        store(held, 0, v)
        store_wide(weights, 0, exp_over(v, warm, peak))
        for j in range(16):
            value = np.float64(held[j])
            if value > -np.inf and window[0] <= value <= window[1]:
                place = (peak - value / warm - depths[0]) * scale
                _put(room, place, value, 1.0 if counting else weights[j])
    for j in range(changed.size):
        value = changed[j]
        if is_kept(value, names[j], cut) and window[0] <= value <= window[1]:
            place = (peak - value / warm - depths[0]) * scale
            _put(room, place, value, 1.0 if counting else math.exp(value / warm - peak))


@helper
def _around(least: float, most: float) -> tuple[Any, Any]:
    """Two float32 that hold a window between them: a sixteen with nothing there is passed over."""
    low, high = least - abs(least) * 1e-6 - 1e-30, most + abs(most) * 1e-6 + 1e-30
    return np.float32(low if low >= -LARGEST else -np.inf), np.float32(high if high <= LARGEST else np.inf)


@helper
def _put(room: Floats, place: float, value: float, weight: float) -> None:
    """Into a bucket that only falls as the logit grows, so what lies between two of a bucket is in it too."""
    i = 4 * max(0, int(min(place, BUCKETS - 1.0)))
    room[i] += weight
    room[i + 1] += 1.0
    room[i + 2] = min(room[i + 2], value)
    room[i + 3] = max(room[i + 3], value)


@helper
def _collect(
    lanes: F32, names: Ids, changed: Floats, cut: Cut, least: float, most: float, ids: Ids, values: Floats
) -> None:
    """The kept tokens from `least` to `most` into ids and values."""
    found, low = 0, low_of(cut)
    end, held = ties_end(cut, low), np.empty(16, np.float32)
    below, over = _around(least, most)
    for i in range(0, lanes.size, 16):
        v = kept_lanes(lanes, i, low, end)
        if at_least(v, below) == greater(v, over):
            continue
        store(held, 0, v)
        for j in range(16):
            if least <= held[j] <= most:
                ids[found], values[found] = i + j, held[j]
                found += 1
    for j in range(changed.size):
        if least <= changed[j] <= most and is_kept(changed[j], names[j], cut):
            ids[found], values[found] = names[j], changed[j]
            found += 1
