"""Matrix product with a weight in the type of its file: out = x W^T + b. It knows nothing of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel
from refsample_kernels.lanes import widen
from refsample_kernels.memory import in_lines, keep, unlocked
from refsample_kernels.sums import HIGHEST
from refsample_kernels.team import Team, finish, join, next_turn
from refsample_kernels.thin import FEW, lay, portion, room_of, thin
from refsample_kernels.tiles import PANEL, pack_rows, packed_rows, product, rows_together, slab_of, whole

Floats = NDArray[Any]


def define_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """out[n, m] = sum_c x[n, c] weight[m, c] + bias[m]; x [N, C], weight [M, C], bias [M] or [0] for none, out [N, M].

    weight is float32, uint16 (bfloat16 bits) or int16 (float16 bits). A weight whose rows are longer than x is an error
    of the caller.
    """
    product = x.astype(np.float64) @ widen(weight).astype(np.float64).T  # [N, M]
    out[...] = product + bias if bias.size else product


def _most(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> int:
    return int(x.shape[0] * weight.size) // 100_000  # a run of some 8 us


def _room(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> int:
    return packed_rows(len(x)) * whole(x.shape[1], 16)


@kernel(define_linear, most=_most, loops=2, room=_room)
def linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats, work: Floats, team: Team) -> None:
    """See `define_linear`; each element is summed in sixteen lanes along C, whatever stands beside it.

    For many rows: they are laid out anew first.
    """
    rows, width = x.shape
    columns = weight.shape[0]
    flat_x, flat_w, flat_out, packed = unlocked(x), unlocked(weight), unlocked(out), unlocked(work)
    part, high, taken = join(team), slab_of(rows), 0
    turns = packed_rows(rows) // HIGHEST
    while True:
        turn = next_turn(team, 0, part, turns)
        if turn < 0:
            break
        taken += 1
        for n in range(turn * HIGHEST, turn * HIGHEST + HIGHEST):
            pack_rows(flat_x, min(n, rows - 1) * width, n, rows, width, high, packed)
    finish(team, 0, taken, turns)
    panels, step = (columns + PANEL - 1) // PANEL, rows_together(rows, width)
    turns, taken = (rows + step - 1) // step * panels, 0
    while True:
        turn = next_turn(team, 1, part, turns)
        if turn < 0:
            break
        taken += 1
        left = turn % panels * PANEL
        product(
            packed, rows, width, turn // panels * step, flat_w, bias, left, min(columns, left + PANEL), flat_out, 0,
            columns,
        )  # fmt: skip
    finish(team, 1, taken, turns)


def define_linear_few(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """`define_linear`, N up to `thin.FEW`."""
    define_linear(x, weight, bias, out)


@kernel(define_linear_few, most=_most, loops=1)
def linear_few(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats, team: Team) -> None:
    """See `define_linear_few`; the bits are those of `linear`."""
    flat_x, flat_w, flat_out = unlocked(x), unlocked(weight), unlocked(out)
    rows, width = x.shape
    columns = weight.shape[0]
    stretch = portion(width, weight.itemsize)
    turns, taken, part = (columns + stretch - 1) // stretch, 0, join(team)
    room = np.empty(room_of(rows, width), np.float32)
    laid = in_lines(room)
    while True:
        turn = next_turn(team, 0, part, turns)
        if turn < 0:
            break
        taken += 1
        if taken == 1:
            lay(flat_x, rows, width, flat_w, laid)
        left, right = turn * stretch, min(columns, turn * stretch + stretch)
        thin(laid, rows, width, flat_w, bias, left, right, flat_out, columns)
    keep(room)
    finish(team, 0, taken, turns)


def apply_linear(x: Floats, weight: NDArray[Any], bias: Floats, out: Floats) -> None:
    """`define_linear` by the kernel that suits the number of rows. Each is compiled when it is first needed."""
    (linear_few if len(x) <= FEW else linear)(x, weight, bias, out)
