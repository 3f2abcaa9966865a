"""From a row of logits to the token, for the standard steps in any order, in few passes over the row.

Penalties touch only the ids that have something to be penalised, filters only the best few, and rows go side by side.
What it answers is what the definition answers: wherever a float64 sum in another order, or an exponential of another
library, could decide another way, it says UNDECIDED and leaves the row to the caller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refsample_kernels import penalties, truncate
from refsample_kernels.deep import ROOM
from refsample_kernels.draw import draws
from refsample_kernels.inverse import (
    DEEPER,
    LARGEST,
    NOT_CUT,
    UNDECIDED,
    count_kept,
    draw_all,
    draw_few,
    mass_of,
    top_of,
)
from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import first, load_part, spread
from refsample_kernels.program import (
    BIAS,
    FREQUENCY,
    GREEDY,
    GT,
    MIN_P,
    MOST,
    PRESENCE,
    PROBABILITY,
    RELATIVE,
    REPETITION,
    TEMPERATURE,
    TIES,
    TOP_K,
    TOP_P,
    adjust,
    reach,
    wanted,
)
from refsample_kernels.rank import BLOCK, ascends, best, fill, take_out
from refsample_kernels.team import Team, finish, join, next_turn
from refsample_kernels.topn import top_n
from refsample_kernels.wides import at_least, greater

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

TOKEN, KEPT, ABOVE, EQUAL, LISTED = range(5)
"""Places of `found`: the token, UNDECIDED or DEEPER, how many tokens were kept, how many raw logits are above the
token's, how many are equal to it (its own too), how many are in `ids`."""


def define_choose(
    rows: F32, us: Floats, starts: Ids, names: Ids, bias: Floats, repeats: Ids, counts: Ids, program: Ids,
    numbers: Floats, rules: Ids, least: int, tops: int, work: F32, keys: Floats, held: Ids, found: Ids, ids: Ids,
    values: Floats,
) -> None:  # fmt: skip
    """One token for each of rows [R, V] with us [R] in [0, 1).

    `names[starts[r]:starts[r + 1]]` are distinct ids of row r, with a bias (-inf: banned), how often each occurred in
    the scope of the repetition penalty, and in that of the other two. `program` is the order of the acting steps.
    `tops` >= 0: write the best `tops` raw logits to ids and values [R, tops + 1], in order, the maximum and the sum of
    e^(l - maximum) to values [R, tops + 1:]. Answers go to found [R, 5]. The rest is room: see `room`.
    """
    for r, row in enumerate(rows.astype(np.float64)):
        part = slice(starts[r], starts[r + 1])
        steps = (program.tolist(), numbers, rules, least)
        final = _define_law(row, names[part], bias[part], repeats[part], counts[part], steps)
        weights = np.exp(final - final.max())
        token = int(draws(weights / weights.sum(), us[r : r + 1])[0])
        above, equal = np.count_nonzero(row > row[token]), np.count_nonzero(row == row[token])
        found[r] = token, np.count_nonzero(final > -np.inf), above, equal, 0
        if tops >= 0:
            order = top_n(row, tops + 1)
            found[r, LISTED] = order.size
            ids[r, : order.size], values[r, : order.size] = order, row[order]
            values[r, tops + 1 :] = row.max(), np.exp(row - row.max()).sum()


def _define_law(
    row: Floats, names: Ids, bias: Floats, repeats: Ids, counts: Ids, steps: tuple[list[int], Floats, Ids, int]
) -> Floats:
    """[V] logits after the last step, -inf where cut."""
    program, numbers, rules, least = steps
    logits = row.copy()
    logits[names[bias == -np.inf]] = -np.inf
    for step in program:
        value, rule = float(numbers[step]), int(rules[step])
        seen, often = names[counts > 0], counts[counts > 0]
        kept = logits > -np.inf
        if step == BIAS:
            logits[names] += np.where(bias > -np.inf, bias, 0.0)
        elif step == REPETITION:
            logits = penalties.repetition(logits, names[repeats > 0], value)
        elif step == FREQUENCY:
            share = value / max(1.0, float(often.sum())) if rule & RELATIVE else value
            logits = penalties.frequency(logits, seen, often, share)
        elif step == PRESENCE:
            logits = penalties.presence(logits, seen, value)
        elif step == GREEDY:
            kept = logits == logits.max() if rule & TIES else truncate.keep_greedy(logits)
        elif step == TEMPERATURE:
            logits = logits / value
        elif step == MIN_P:
            kept = truncate.keep_min_p(logits, value, "probability" if rule & PROBABILITY else "logit", least)
        elif step == TOP_K:
            kept = truncate.keep_ranked(logits, int(value), "all" if rule & TIES else "low_id")
        elif step == TOP_P:
            ties = "all" if rule & TIES else "low_id"
            kept = truncate.keep_top_p(logits, value, "gt" if rule & GT else "ge", ties, least)
        logits = np.where(kept, logits, -np.inf)
    return logits


def room(size: int, extras: int, tops: int) -> tuple[int, int, int]:
    """Room that one thread needs for rows of V = size: elements of `work`, of `keys` and of `held`."""
    blocks = (size + BLOCK - 1) // BLOCK
    ranks = (max(MOST, tops) + 2) * BLOCK + extras
    return blocks * (BLOCK + 2), 2 * blocks + 3 * extras + 2 * ranks + ROOM, ranks


SHARE = 1 << 14
"""Logits for which a further thread pays: it takes some ten microseconds to come."""


def _most(rows: F32, *_: object) -> int:
    return min(len(rows), rows.size // SHARE)  # `work` has room for so many


@kernel(define_choose, most=_most, loops=1)
def choose(
    rows: F32, us: Floats, starts: Ids, names: Ids, bias: Floats, repeats: Ids, counts: Ids, program: Ids,
    numbers: Floats, rules: Ids, least: int, tops: int, work: F32, keys: Floats, held: Ids, found: Ids, ids: Ids,
    values: Floats, team: Team,
) -> None:  # fmt: skip
    """See `define_choose`; found [R, TOKEN] may be UNDECIDED, or DEEPER: `choose_deep` may know.

    work, keys and held have a row for each thread.
    """
    count, size = rows.shape
    blocks = (size + BLOCK - 1) // BLOCK
    t, taken = join(team), 0
    if t < work.shape[0]:
        lanes, peaks = work[t, : blocks * BLOCK], work[t, blocks * BLOCK : blocks * (BLOCK + 1)]
        raw_peaks = work[t, blocks * (BLOCK + 1) : blocks * (BLOCK + 2)]
        while True:
            r = next_turn(team, 0, t, count)
            if r < 0:
                break
            taken += 1
            row, first_name, end = rows[r], starts[r], starts[r + 1]
            top = np.float64(fill(row, lanes, peaks))
            found[r, TOKEN] = UNDECIDED
            if not -np.inf < top < np.inf:  # a NaN as well
                continue
            if tops >= 0:
                listed = best(lanes, peaks, names, bias, 0, tops + 1, keys[t], held[t], keys[t, blocks:])
                found[r, LISTED] = listed
                sure = True
                for place in range(listed):
                    ids[r, place], values[r, place] = held[t, place], keys[t, blocks + place]
                    sure = sure and (place == 0 or _apart(values[r, place - 1], values[r, place], top))
                values[r, tops + 1], values[r, tops + 2] = top, mass_of(lanes, 1.0, top)
                if not sure:
                    continue
            changed, rest = keys[t, : end - first_name], keys[t, end - first_name :]
            take_out(row, lanes, peaks, raw_peaks, names[first_name:end], changed)
            adjust(changed, bias[first_name:end], repeats[first_name:end], counts[first_name:end], program, numbers,
                    rules)  # fmt: skip
            token, kept = _decide(
                lanes, peaks, names[first_name:end], changed, program, numbers, rules, least, us[r], rest, held[t]
            )
            found[r, KEPT] = kept
            if token >= 0 and tops >= 0:
                found[r, ABOVE], found[r, EQUAL] = rank_of(row, raw_peaks, token, top)
                token = token if found[r, EQUAL] else UNDECIDED
            found[r, TOKEN] = token
    finish(team, 0, taken, count)


@helper
def _alone(changed: Floats, warm: float, level: float, lowest: float) -> bool:
    """Whether T makes no other logit, of those that are not listed, equal to the last that is."""
    others = 0
    for j in range(changed.size):
        others += int(changed[j] / warm == level and changed[j] != lowest)
    return warm == 1.0 or (others == 0 and (abs(level) > 1e-290 or (level == 0.0 and warm < 1e100)))


@helper
def _apart(a: float, b: float, top: float) -> bool:
    """Whether the logprobs of two logits differ as they do, and are equal only where they are."""
    return a == b or abs(a - b) > 1e-14 * (abs(top - b) + abs(top) + 64.0)


@helper
def _decide(
    lanes: F32, peaks: F32, names: Ids, changed: Floats, program: Ids, numbers: Floats, rules: Ids, least: int,
    u: float, keys: Floats, held: Ids,
) -> tuple[int, int]:  # fmt: skip
    """(token, UNDECIDED or DEEPER; how many were kept) of one row whose extras are taken out of the lanes."""
    ranks = wanted(program, numbers)
    blocks, extras = peaks.size, changed.size
    values = keys[blocks + extras :]
    listed = 0
    if ranks > 0:
        listed = best(lanes, peaks, names, changed, extras, ranks, keys, held, values)
        if listed == 0:
            return UNDECIDED, 0
    warm, lowest = 1.0, np.inf  # the temperature so far, and the last listed logit before it
    n, whole = listed, listed < ranks  # tokens kept, of those listed; whether no others are
    cut = False  # whether a step has cut; not whole: somewhere beyond the list
    for p in range(program.size):
        step = program[p]
        if step <= PRESENCE:
            continue
        if step == TEMPERATURE:
            warm = numbers[TEMPERATURE]
            lowest = values[n - 1] if n else lowest
            for i in range(n):
                values[i] /= warm
            if n and not abs(values[0]) < 1e300:
                return UNDECIDED, 0
            continue
        stay = reach(step, values, n, whole, cut, lanes, changed, warm, numbers, rules, least)
        if stay < 0:
            return (UNDECIDED if whole else DEEPER), 0
        if stay == n and not whole and rules[step] & TIES:  # a tie at its end may reach into the list
            return DEEPER, 0
        cut = cut or stay < n or not whole
        if stay < n:
            if values[stay - 1] == values[stay]:
                first_tied, last_tied = stay - 1, stay
                while first_tied > 0 and values[first_tied - 1] == values[stay]:
                    first_tied -= 1
                while last_tied + 1 < n and values[last_tied + 1] == values[stay]:
                    last_tied += 1
                if last_tied + 1 == n and not whole and not _alone(changed, warm, values[stay], lowest):
                    return UNDECIDED, 0
                if rules[step] & TIES or not ascends(held, first_tied, last_tied):
                    return UNDECIDED, 0
            n, whole = stay, True
    if whole:
        return draw_few(held, values, n, u), n
    if cut:
        return DEEPER, 0
    token = draw_all(lanes, names, changed, warm, top_of(peaks, changed), NOT_CUT, u, keys)
    return token, count_kept(lanes, names, changed, NOT_CUT)


@helper
def rank_of(row: F32, peaks: F32, token: int, top: float) -> tuple[int, int]:
    """How many raw logits are greater and how many equal; (0, 0) where rounding levels logprobs of different logits."""
    value, size = row[token], row.size
    exact = np.float64(value)
    near = 1e-14 * (abs(top - exact) + abs(top) + 64.0)
    high, low = np.float32(min(exact + near, LARGEST)), np.float32(max(exact - near, -LARGEST))
    above = farther = level = lower = 0
    for block in range(peaks.size):
        if peaks[block] >= low:
            for i in range(block * BLOCK, min(size, block * BLOCK + BLOCK), 16):
                v = first(load_part(row, i, size - i), size - i, spread(np.float32(-np.inf)))
                above, farther = above + greater(v, value), farther + greater(v, high)
                level, lower = level + at_least(v, value), lower + at_least(v, low)
    return (above, level - above) if above == farther and level == lower else (0, 0)
