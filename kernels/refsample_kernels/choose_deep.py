"""Rows where more tokens stay than `choose` lists: the same answers, by passes over the row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.choose import ABOVE, EQUAL, KEPT, SHARE, TOKEN, define_choose, rank_of
from refsample_kernels.deep import ROOM, below_min_p, deep_cut, deeper_of
from refsample_kernels.inverse import NOT_CUT, UNDECIDED, count_kept, draw_all, top_of
from refsample_kernels.jit import helper, kernel
from refsample_kernels.program import (
    GREEDY,
    JOINT,
    LOG_MIN_P,
    MIN_P,
    PRESENCE,
    PROBABILITY,
    TEMPERATURE,
    TOP_P,
    adjust,
)
from refsample_kernels.rank import BLOCK, fill, take_out
from refsample_kernels.team import Team, finish, join, next_turn

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def define_choose_deep(
    rows: F32, which: Ids, us: Floats, starts: Ids, names: Ids, bias: Floats, repeats: Ids, counts: Ids, program: Ids,
    numbers: Floats, rules: Ids, least: int, work: F32, keys: Floats, held: Ids, found: Ids,
) -> None:  # fmt: skip
    """`define_choose` of the rows [N] that `which` names, but for what is listed."""
    nothing, none = np.zeros((len(rows), 0), np.int64), np.zeros((len(rows), 0))
    answers = np.zeros_like(found)
    define_choose(rows, us, starts, names, bias, repeats, counts, program, numbers, rules, least, -1, work, keys, held,
                  answers, nothing, none)  # fmt: skip
    found[which, : EQUAL + 1] = answers[which, : EQUAL + 1]


def _most(rows: F32, which: Ids, *_: object) -> int:
    return min(len(which), len(which) * len(rows[0]) // SHARE)


@kernel(define_choose_deep, most=_most, loops=1)
def choose_deep(
    rows: F32, which: Ids, us: Floats, starts: Ids, names: Ids, bias: Floats, repeats: Ids, counts: Ids, program: Ids,
    numbers: Floats, rules: Ids, least: int, work: F32, keys: Floats, held: Ids, found: Ids,
    team: Team,
) -> None:  # fmt: skip
    """See `define_choose_deep`; found [R, TOKEN] may be UNDECIDED. work, keys and held have a row for each thread."""
    blocks, t, taken = (rows.shape[1] + BLOCK - 1) // BLOCK, join(team), 0
    if t < work.shape[0]:
        lanes, peaks = work[t, : blocks * BLOCK], work[t, blocks * BLOCK : blocks * (BLOCK + 1)]
        raw_peaks = work[t, blocks * (BLOCK + 1) : blocks * (BLOCK + 2)]
        while True:
            n = next_turn(team, 0, t, which.size)
            if n < 0:
                break
            taken += 1
            r = which[n]
            row, first_name, end = rows[r], starts[r], starts[r + 1]
            top = np.float64(fill(row, lanes, peaks))
            changed, rest = keys[t, : end - first_name], keys[t, end - first_name :]
            take_out(row, lanes, peaks, raw_peaks, names[first_name:end], changed)
            adjust(changed, bias[first_name:end], repeats[first_name:end], counts[first_name:end], program, numbers,
                    rules)  # fmt: skip
            token, kept = _decide_deep(
                lanes, peaks, names[first_name:end], changed, program, numbers, rules, least, us[r], rest, held[t]
            )
            found[r, KEPT] = kept
            if token >= 0:
                found[r, ABOVE], found[r, EQUAL] = rank_of(row, raw_peaks, token, top)
                token = token if found[r, EQUAL] else UNDECIDED
            found[r, TOKEN] = token
    finish(team, 0, taken, which.size)


@helper
def _decide_deep(
    lanes: F32, peaks: F32, names: Ids, changed: Floats, program: Ids, numbers: Floats, rules: Ids, least: int,
    u: float, keys: Floats, held: Ids,
) -> tuple[int, int]:  # fmt: skip
    """(token or UNDECIDED, how many were kept) of one row whose extras are taken out of the lanes."""
    top, warm, cut = top_of(peaks, changed), 1.0, NOT_CUT
    for p in range(program.size):
        step = program[p]
        if step <= PRESENCE:
            continue
        if step == TEMPERATURE:
            warm = numbers[TEMPERATURE]
        if step == GREEDY or least > 1 or not abs(top / warm) < 1e300:
            return UNDECIDED, 0
        if step == MIN_P:
            if rules[MIN_P] & PROBABILITY:
                return UNDECIDED, 0
            deeper, sure = below_min_p(top, warm, numbers[LOG_MIN_P])
            if not sure:
                return UNDECIDED, 0
            cut = deeper_of(cut, deeper)
        elif step != TEMPERATURE:
            if step == TOP_P and rules[TOP_P] & JOINT and cut[0] > -np.inf:
                return UNDECIDED, 0
            cut, sure = deep_cut(
                step, lanes, names, changed, warm, top, cut, numbers, rules, held, keys[ROOM:], keys[:ROOM]
            )
            if not sure:
                return UNDECIDED, 0
    token = draw_all(lanes, names, changed, warm, top, cut, u, keys)
    return token, count_kept(lanes, names, changed, cut)
