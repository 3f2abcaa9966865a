"""Threads that do one kernel together: they share the turns of its loops and wait for each other in between.

A kernel of many short loops spends more time on threads that begin and end than on its work. Here all of them call the
kernel itself, with the same arguments and one `team`, an array of counters that are zero before the call: [0] is how
many parts a loop is cut into, one for each thread that was asked to come. A thread takes turns of its own part of a
loop, then of what the others have left. So none is waited for that has not come, or comes late, or has lost its
processor between two turns: whoever is there does all of it. One that gives up within a turn closes the team, and all
of them leave.

A turn writes what no other turn of its loop reads or writes, so who takes it changes no bit. These plain functions are
the definitions of the three atomic operations; `team_llvm` holds the machine form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.hands import CLOSED, JOINED, LINE
from refsample_kernels.jit import helper
from refsample_kernels.lanes import operation

Team = NDArray[np.int64]


@operation
def fetch_add(held: Team, i: int, n: int) -> int:
    """held[i], to which n is added at the same moment."""
    before = int(held[i])
    held[i] += n
    return before


@operation
def fetch(held: Team, i: int) -> int:
    """held[i] as all threads see it, and with it all that they wrote before they set it."""
    return int(held[i])


@operation
def relax(tries: int) -> None:
    """Wait a moment; from time to time let another thread have the processor."""


@helper
def join(team: Team) -> int:
    """The part that this thread begins with."""
    return int(fetch_add(team, JOINED, 1) % team[0])


@helper
def next_turn(team: Team, loop: int, part: int, turns: int) -> int:
    """A turn of the loop that nobody has had, -1 when there is none left."""
    if fetch(team, CLOSED):
        return -1
    parts = team[0]
    counter = LINE * (1 + loop * (parts + 1))
    for step in range(parts):
        other = (part + step) % parts
        begin, end = turns * other // parts, turns * (other + 1) // parts
        here = counter + LINE * (1 + other)
        if begin + fetch(team, here) < end:
            turn = begin + fetch_add(team, here, 1)
            if turn < end:
                return int(turn)
    return -1


@helper
def finish(team: Team, loop: int, taken: int, turns: int) -> None:
    """This thread took so many turns and found no more: wait until all of them are done."""
    counter = LINE * (1 + loop * (team[0] + 1))
    if taken:
        fetch_add(team, counter, taken)
    tries = 0
    while fetch(team, counter) < turns and not fetch(team, CLOSED):
        tries += 1
        relax(tries)
