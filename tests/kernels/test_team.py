"""Threads that share loops: every turn is taken once, whoever comes, and nobody goes on before all are done."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample_kernels.hands import CLOSED, call_together, new_team
from refsample_kernels.jit import Kernel, jit_disabled
from refsample_kernels.team import Team, finish, join, next_turn


def define_sums(out: NDArray[Any], turns: int) -> None:
    """out[0, t] = t + 1; out[1] = their running sums from the end; turns == out.shape[1]."""
    out[0] = np.arange(1, turns + 1)
    out[1] = np.cumsum(out[0, ::-1])[::-1]


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


team_sums = Kernel(sums, define_sums, 2, None, None)


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


def test_others_join_and_what_they_raise_is_raised() -> None:
    """In plain Python, where `function` itself says that somebody has come."""
    joined, callers = threading.Barrier(3, timeout=60), []

    def call(team: Team) -> str:
        team[1] += 1
        callers.append(threading.current_thread().name)
        joined.wait()
        return "done"

    assert call_together(call, (), new_team(3, 1)) == "done"
    assert len(set(callers)) == 3

    def fail(team: Team) -> None:
        team[1] += 1
        if threading.current_thread() is threading.main_thread():
            while not team[CLOSED]:
                pass
        else:
            raise MemoryError("of a helper")

    team = new_team(2, 1)
    with pytest.raises(MemoryError, match="of a helper"):
        call_together(fail, (), team)
    assert call_together(call, (), new_team(3, 1)) == "done"  # nobody was lost by that


def test_nobody_comes_to_a_call_that_was_broken_off() -> None:
    came = []

    def broken(team: Team) -> None:
        came.append(threading.current_thread())
        raise KeyboardInterrupt

    for _ in range(20):
        team = new_team(4, 1)
        with pytest.raises(KeyboardInterrupt):
            call_together(broken, (), team)
        assert team[CLOSED]
    done = threading.Event()

    def last(team: Team) -> None:
        team[1] += 1
        if threading.current_thread() is threading.main_thread():
            assert done.wait(60)
        else:
            done.set()

    call_together(last, (), new_team(2, 1))
    assert set(came) == {threading.main_thread()}
