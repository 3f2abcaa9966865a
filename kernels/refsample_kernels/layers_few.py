"""All layers for few rows, which is what a decode step is made of: a kernel whose threads stay together.

Each row of a matrix is read once for all rows of x, as it lies (`thin`). Between two loops threads wait less than a
microsecond for each other, so a token costs hardly more than the weights that it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels import stack
from refsample_kernels.heads import one_row
from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import add, load_part, mul, store_part
from refsample_kernels.memory import LEAD, held_at, in_lines, keep, unlocked
from refsample_kernels.norm import rms_norm
from refsample_kernels.rope import turned
from refsample_kernels.stack import Floats, Table, bent, bias_at, cached, define_layers, most_threads
from refsample_kernels.team import Team, finish, join, next_turn
from refsample_kernels.thin import lay, portion, room_of, thin

LOOPS = 5
"""Of a layer."""


def define_layers_few(
    x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, texts: Table, cos: Floats,
    sin: Floats, eps: float, cap: float, sample: NDArray[Any],
) -> None:  # fmt: skip  # fmt: skip
    """`define_layers`, N up to `thin.FEW`; rows of one text stand in the order of their positions."""
    define_layers(x, matrices, settings, scales, sizes, texts, cos, sin, eps, cap, sample)


def _loops(x: Floats, matrices: Table, *_: object) -> int:
    return LOOPS * len(matrices)


def _room(x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, *_: object) -> int:
    heads, _, width, inner, _ = sizes.tolist()
    return len(x) * int(2 * heads * width + inner)


@kernel(define_layers_few, most=most_threads, loops=_loops, room=_room)
def layers_few(
    x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, texts: Table, cos: Floats,
    sin: Floats, eps: float, cap: float, sample: NDArray[Any], work: Floats, team: Team,
) -> None:  # fmt: skip  # fmt: skip
    """See `define_layers_few`; each element has the bits of the single kernels (`rms_norm`, `linear`, ...)."""
    rows, columns = x.shape
    heads, width, inner = sizes[stack.HEADS], sizes[stack.HEAD_WIDTH], sizes[stack.INNER]
    part, places = join(team), places_of(texts, rows)
    size = rows * heads * width
    held = unlocked(work)
    q, mixed, wide = held[:size], held[size : 2 * size], held[2 * size :]  # [N, H, D] twice, [N, F]
    flat_x, flat_cos, flat_sin = unlocked(x), unlocked(cos), unlocked(sin)
    normed, laid_room = np.empty_like(x), np.empty(room_of(rows, max(columns, heads * width, inner)), np.float32)
    spare_room = np.empty(rows * max(columns, inner, width) + LEAD, np.float32)
    laid, spare = in_lines(laid_room), in_lines(spare_room)
    for number in range(matrices.shape[0]):
        at, loop = matrices[number], LOOPS * number
        window, which = settings[number, stack.WINDOW], settings[number, stack.ROPE]
        half = cos.shape[2] if which >= 0 else 0
        angle, scale, act = max(which, 0) * rows * cos.shape[2], scales[number], sizes[stack.ACTIVATION]
        out, out_bias, down, down_bias = at[stack.OUT], at[stack.OUT_BIAS], at[stack.DOWN], at[stack.DOWN_BIAS]
        _project(
            x, at, sizes, places, number, flat_cos, flat_sin, angle, half, eps, sample, q, normed, laid, spare, team,
            loop, part,
        )  # fmt: skip  # fmt: skip
        _attend(q, mixed, window, scale, sizes, places, number, cap, normed, team, loop + 1, part)
        _add(mixed, rows, heads * width, sample, out, out_bias, flat_x, columns, laid, spare, team, loop + 2, part)
        _gate(x, at, inner, act, eps, sample, wide, normed, laid, spare, team, loop + 3, part)
        _add(wide, rows, inner, sample, down, down_bias, flat_x, columns, laid, spare, team, loop + 4, part)
    keep(laid_room)
    keep(spare_room)


@helper
def places_of(texts: Table, rows: int) -> Table:
    """`texts`, each of one row."""
    places = np.empty((rows, texts.shape[1]), np.int64)
    for g in range(texts.shape[0]):
        for t in range(texts[g, stack.ROWS]):
            n = texts[g, stack.FIRST] + t
            for column in range(texts.shape[1]):
                places[n, column] = texts[g, column]
            places[n, stack.POSITION] += t
    return places


@helper
def _project(
    x: Floats, at: Table, sizes: Table, places: Table, number: int, cos: Floats, sin: Floats, c: int, half: int,
    eps: float, sample: NDArray[Any], q: Floats, normed: Floats, laid: Floats, spare: Floats, team: Team, loop: int,
    part: int,
) -> None:  # fmt: skip  # fmt: skip
    """Queries, keys and values of x's norm, head by head; queries and keys turned, keys and values in the caches."""
    rows, columns = x.shape
    heads, kv_heads, width = sizes[stack.HEADS], sizes[stack.KV_HEADS], sizes[stack.HEAD_WIDTH]
    flat, turns = normed.reshape(-1), heads + 2 * kv_heads
    taken = 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        if taken == 1:
            rms_norm(x, held_at(spare, at[stack.NORM], columns), eps, normed)
            lay(flat, rows, columns, sample, laid)
        matrix, bias, h = stack.Q, stack.Q_BIAS, turn
        if turn >= heads + kv_heads:
            matrix, bias, h = stack.V, stack.V_BIAS, turn - heads - kv_heads
        elif turn >= heads:
            matrix, bias, h = stack.K, stack.K_BIAS, turn - heads
        weight = held_at(sample, at[matrix] + h * width * columns * sample.itemsize, width * columns)
        thin(laid, rows, columns, weight, bias_at(spare, at[bias], h * width, width), 0, width, spare, width)
        for n in range(rows):
            angle, slots, position = c + n * half, places[n, stack.SLOTS], places[n, stack.POSITION]
            if matrix == stack.Q:
                turned(spare, n * width, width, cos, sin, angle, half, q, (n * heads + h) * width)
            elif matrix == stack.K:
                keys = cached(spare, places, n, stack.KEYS, number, sizes)
                turned(spare, n * width, width, cos, sin, angle, half, spare, n * width)
                for d in range(width):
                    keys[(h * width + d) * slots + position] = spare[n * width + d]
            else:
                values = cached(spare, places, n, stack.VALUES, number, sizes)
                for d in range(width):
                    values[(h * slots + position) * width + d] = spare[n * width + d]
    finish(team, loop, taken, turns)


@helper
def _attend(
    q: Floats, out: Floats, window: int, scale: float, sizes: Table, places: Table, number: int, cap: float,
    normed: Floats, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """Attention of all rows, to out [N, H, D]: a turn is a head of one row."""
    heads, kv_heads, width = sizes[stack.HEADS], sizes[stack.KV_HEADS], sizes[stack.HEAD_WIDTH]
    turns, like = places.shape[0] * heads, normed.reshape(-1)
    taken = 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        n, h = turn // heads, turn % heads
        slots = places[n, stack.SLOTS]
        keys = cached(like, places, n, stack.KEYS, number, sizes)
        values = cached(like, places, n, stack.VALUES, number, sizes)
        base = h // (heads // kv_heads) * width * slots
        count = places[n, stack.POSITION] + 1
        one_row(q, turn * width, keys, values, base, width, slots, count, scale, window, cap, out)
    finish(team, loop, taken, turns)


@helper
def _add(
    x: Floats, rows: int, width: int, sample: NDArray[Any], matrix: int, bias: int, out: Floats, columns: int,
    laid: Floats, spare: Floats, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """out [rows, columns] += x [rows, width] times a matrix."""
    weight, stretch = held_at(sample, matrix, columns * width), portion(width, sample.itemsize)
    added = bias_at(spare, bias, 0, columns)
    turns, taken = (columns + stretch - 1) // stretch, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        if taken == 1:
            lay(x, rows, width, sample, laid)
        left, right = turn * stretch, min(columns, turn * stretch + stretch)
        thin(laid, rows, width, weight, added, left, right, spare, columns)
        for n in range(rows):
            for m in range(left, right, 16):
                i = n * columns + m
                store_part(out, i, right - m, add(load_part(out, i, right - m), load_part(spare, i, right - m)))
    finish(team, loop, taken, turns)


@helper
def _gate(
    x: Floats, at: Table, inner: int, activation: int, eps: float, sample: NDArray[Any], out: Floats, normed: Floats,
    laid: Floats, spare: Floats, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """out [N, F] = act(gate n) * (up n), n the norm of x."""
    rows, columns = x.shape
    gate, up = held_at(sample, at[stack.GATE], inner * columns), held_at(sample, at[stack.UP], inner * columns)
    gate_bias, up_bias = bias_at(spare, at[stack.GATE_BIAS], 0, inner), bias_at(spare, at[stack.UP_BIAS], 0, inner)
    flat, stretch = normed.reshape(-1), portion(columns, sample.itemsize)
    turns, taken = (inner + stretch - 1) // stretch, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        if taken == 1:
            rms_norm(x, held_at(spare, at[stack.MLP_NORM], columns), eps, normed)
            lay(flat, rows, columns, sample, laid)
        left, right = turn * stretch, min(inner, turn * stretch + stretch)
        thin(laid, rows, columns, gate, gate_bias, left, right, out, inner)
        thin(laid, rows, columns, up, up_bias, left, right, spare, inner)
        for n in range(rows):
            for i in range(n * inner + left, n * inner + right, 16):
                count = n * inner + right - i
                made = bent(load_part(out, i, count), activation)
                store_part(out, i, count, mul(made, load_part(spare, i, count)))
    finish(team, loop, taken, turns)
