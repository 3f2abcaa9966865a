"""Python threads that wait for kernels to help with. They know nothing of what a kernel computes.

A kernel lets Python's lock go, so that several of them run at once. Its threads share its work by turns (`team`):
nobody waits for a thread that is late, or that is not there because the process was forked.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 16
"""Counters of a team are so far apart (128 bytes) that no two share what processors pass to each other."""

JOINED, CLOSED = 1, 2
"""Places in a team beside [0]: how many threads have come, and whether one of them gave up."""


class Job:
    """A call that other threads may join while it lasts."""

    __slots__ = ("args", "error", "function", "team")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], team: NDArray[np.int64]) -> None:
        self.function, self.args, self.team = function, args, team
        self.error: BaseException | None = None


_jobs: SimpleQueue[Job] = SimpleQueue()
_count = 0  # threads that wait for jobs, or do one
_lock = threading.Lock()


def new_team(parts: int, loops: int) -> NDArray[np.int64]:
    """Counters of a kernel with so many loops, one after another, each cut into so many parts."""
    team = np.zeros(LINE * (1 + loops * (parts + 1)), np.int64)
    team[0] = parts
    return team


def call_together(function: Callable[..., Any], args: tuple[Any, ...], team: NDArray[np.int64]) -> Any:
    """function(*args, team), which other threads join, one for each further part of the team.

    They come once this thread is inside, so none of them compiles, and none comes when it has left: there a team has
    no turn left, or is closed. What one of them raises is raised here.
    """
    job = Job(function, (*args, team), team)
    others = int(team[0]) - 1
    if _count < others:
        _more(others)
    for _ in range(others):
        _jobs.put(job)
    try:
        result = function(*job.args)
    except BaseException:
        team[CLOSED] = 1
        raise
    finally:
        job.args = ()
    if job.error is not None:
        raise job.error
    return result


def _more(count: int) -> None:
    global _count
    with _lock:
        for number in range(_count, count):
            thread = threading.Thread(target=_help, args=(_jobs,), name=f"refsample-{number + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads to be had, or Python ends: kernels do with those that there are
                return
            _count += 1


def _help(jobs: SimpleQueue[Job]) -> None:
    while True:
        job = jobs.get()
        tries = 0
        while job.args and not job.team[JOINED]:
            tries += 1
            time.sleep(0 if tries < 100 else 1e-3)  # longer only where the caller has to compile
        _join(job)
        del job  # it holds arrays


def _join(job: Job) -> None:
    args = job.args
    if args:
        try:
            job.function(*args)
        except BaseException as error:  # noqa: BLE001  raised again for the caller
            job.error = error  # first: the caller looks for it once the team is closed
            job.team[CLOSED] = 1


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _count, _jobs, _lock
    _count, _jobs, _lock = 0, SimpleQueue(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
