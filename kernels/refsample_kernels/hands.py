"""Python threads that wait for kernels to help with. They know nothing of what a kernel computes.

A kernel lets Python's lock go, so that several of them run at once. Its threads share its work by turns (`team`):
nobody waits for a thread that is late, or that is not there because the process was forked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 16
"""Counters of a team are so far apart (128 bytes) that no two share what processors pass to each other."""

_Job = tuple[Callable[..., Any], tuple[Any, ...]]
_jobs: SimpleQueue[_Job] = SimpleQueue()
_count = 0  # threads that wait for jobs, or do one
_lock = threading.Lock()


def new_team(parts: int, loops: int) -> NDArray[np.int64]:
    """Counters of a kernel with so many loops, one after another, each cut into so many parts."""
    team = np.zeros(LINE * (1 + loops * (parts + 1)), np.int64)
    team[0] = parts
    return team


def call_too(function: Callable[..., Any], args: tuple[Any, ...], count: int) -> None:
    """Let `count` other threads call function(*args), soon; what it returns or raises is theirs."""
    if _count < count:
        _more(count)
    for _ in range(count):
        _jobs.put((function, args))


def _more(count: int) -> None:
    global _count
    with _lock:
        for number in range(_count, count):
            threading.Thread(target=_help, args=(_jobs,), name=f"refsample-{number + 1}", daemon=True).start()
        _count = max(_count, count)


def _help(jobs: SimpleQueue[_Job]) -> None:
    while True:
        function, args = jobs.get()
        function(*args)
        del function, args  # they hold arrays


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _count, _jobs, _lock
    _count, _jobs, _lock = 0, SimpleQueue(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
