"""Arrays by their address: a kernel that goes through all layers takes one table instead of hundreds of arrays.

Whoever makes such a table keeps the arrays alive and has checked their shapes; here nothing is checked any more.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.lanes import operation


def address_of(held: NDArray[Any]) -> int:
    """Where the first element lies. ValueError for an array that is not one piece in row order."""
    if not held.flags.c_contiguous:
        raise ValueError("address_of: the array is not one piece")
    return int(held.__array_interface__["data"][0])


LEAD = 15
"""So many float32 may lie before the first that begins a line of 64 bytes."""


@operation
def in_lines(held: NDArray[np.float32]) -> NDArray[np.float32]:
    """The elements from the first on that begins a line of 64 bytes, so that registers as wide read them in one go. It
    has at least LEAD, of which at most all are left out. They are looked at as by `unlocked`."""
    return held[-address_of(held) % 64 // 4 :]


@operation
def held_at(like: NDArray[Any], address: int, count: int) -> NDArray[Any]:
    """The [count] elements there, of the type of `like`."""
    if count == 0:
        return np.empty(0, like.dtype)
    size = count * like.dtype.itemsize
    return np.frombuffer(memoryview((ctypes.c_char * size).from_address(int(address))), like.dtype)


@operation
def unlocked(held: NDArray[Any]) -> NDArray[Any]:
    """The same elements in a row, as an array that may be written to, so that kernels need no version for others.

    Who looks at them is not counted, which numba does wherever an array goes into a helper, and which makes a processor
    wait for all that it has written: an array that a kernel made itself has to be kept (`keep`) while it is looked at.
    """
    return held.reshape(-1)


@operation
def keep(held: NDArray[Any]) -> None:
    """Nothing, but for the array: it lives until here."""
