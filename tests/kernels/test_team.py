"""Threads that share loops: every turn is taken once, whoever comes, and nobody goes on before all are done."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample_kernels.hands import call_too, new_team
from refsample_kernels.jit import Kernel, jit_disabled
from refsample_kernels.team import Team, finish, join, next_turn


def define_sums(out: NDArray[Any], turns: int) -> None:
    """out[0, t] = t + 1; out[1] = their running sums from the end; turns == out.shape[1]."""
    out[0] = np.arange(1, turns + 1)
    out[1] = np.cumsum(out[0, ::-1])[::-1]


def _loops(out: NDArray[Any], turns: int) -> int:
    return 2


def sums(out: NDArray[Any], turns: int, team: Team) -> None:
    """`define_sums`: a turn of the second loop reads what all turns of the first wrote."""
    part, taken = join(team), 0
    while True:
        turn = next_turn(team, 0, part, turns)
        if turn < 0:
            break
        out[0, turn] += turn + 1
        taken += 1
    finish(team, 0, taken, turns)
    taken = 0
    while True:
        turn = next_turn(team, 1, part, turns)
        if turn < 0:
            break
        for n in range(turn, turns):
            out[1, turn] += out[0, n]
        taken += 1
    finish(team, 1, taken, turns)


team_sums = Kernel(sums, define_sums, _loops, None, None)


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 9))
def test_every_turn_is_taken_once_however_many_come(turns: int, parts: int, come: int) -> None:
    """Also fewer threads than parts, and more."""
    run = team_sums.function if jit_disabled() else team_sums.compiled()
    come = 1 if jit_disabled() else come  # operations are atomic in machine code alone
    out, want, team = np.zeros((2, turns)), np.empty((2, turns)), new_team(parts, 2)
    define_sums(want, turns)
    threads = [threading.Thread(target=run, args=(out, turns, team)) for _ in range(come - 1)]
    for thread in threads:
        thread.start()
    run(out, turns, team)
    np.testing.assert_array_equal(out, want)  # before the others are waited for
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(out, want)


@pytest.mark.skipif(jit_disabled(), reason="no threads with the JIT off")
def test_who_comes_late_changes_nothing() -> None:
    run, team = team_sums.compiled(), new_team(2, 2)
    out = np.zeros((2, 50))
    run(out, 50, team)
    before = out.copy()
    run(out, 50, team)
    np.testing.assert_array_equal(out, before)


def test_what_others_are_given_is_called() -> None:
    done = threading.Semaphore(0)
    call_too(done.release, (), 3)
    assert all(done.acquire(timeout=60) for _ in range(3))
