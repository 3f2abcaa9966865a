"""All layers for many rows, which is what a prompt is, or many texts at once: a kernel whose threads stay together.

Rows are laid out for the tiles of `tiles` as they are made, and what follows a product is done while it is near.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels import stack
from refsample_kernels.attention import piece, pieces_of, task_of
from refsample_kernels.jit import helper, kernel
from refsample_kernels.lanes import add, load_part, mul, store, store_part
from refsample_kernels.memory import LEAD, held_at, in_lines, keep, unlocked
from refsample_kernels.norm import normed
from refsample_kernels.rope import turned
from refsample_kernels.stack import Floats, Table, bent, bias_at, cached, define_layers, most_threads
from refsample_kernels.sums import HIGHEST
from refsample_kernels.team import Team, finish, join, next_turn
from refsample_kernels.tiles import (
    PANEL,
    SLAB,
    SLABS,
    pack_piece,
    pack_rows,
    packed_rows,
    product,
    rows_together,
    slab_of,
    whole,
)

LOOPS = 9
"""Of a layer."""
BAND = 16
"""Rows that a thread turns and keeps at a time: as many keys as share what processors pass to each other."""


def define_layers_many(
    x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, texts: Table, cos: Floats,
    sin: Floats, eps: float, cap: float, sample: NDArray[Any],
) -> None:  # fmt: skip  # fmt: skip
    """`define_layers`."""
    define_layers(x, matrices, settings, scales, sizes, texts, cos, sin, eps, cap, sample)


def _loops(x: Floats, matrices: Table, *_: object) -> int:
    return LOOPS * len(matrices)


def _room(x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, *_: object) -> int:
    rows, columns = len(x), int(x.shape[1])
    heads, kv_heads, width, inner = (int(n) for n in sizes[:4])
    laid_out = packed_rows(rows) * (whole(max(columns, heads * width), 16) + whole(inner, 16))
    return laid_out + rows * 2 * (heads + kv_heads) * width


@kernel(define_layers_many, most=most_threads, loops=_loops, room=_room)
def layers_many(
    x: Floats, matrices: Table, settings: Table, scales: Floats, sizes: Table, texts: Table, cos: Floats,
    sin: Floats, eps: float, cap: float, sample: NDArray[Any], work: Floats, team: Team,
) -> None:  # fmt: skip  # fmt: skip
    """See `define_layers_many`; each element has the bits of the single kernels (`rms_norm`, `linear`, ...)."""
    rows, columns = x.shape
    heads, kv_heads = sizes[stack.HEADS], sizes[stack.KV_HEADS]
    width, inner = sizes[stack.HEAD_WIDTH], sizes[stack.INNER]
    part = join(team)
    high = slab_of(rows)
    a = packed_rows(rows) * whole(inner, 16)
    b = a + packed_rows(rows) * whole(max(columns, heads * width), 16)
    c = b + rows * heads * width
    d = c + rows * heads * width
    e = d + rows * kv_heads * width
    held = unlocked(work)
    wide, packed, q, mixed, k, v = held[:a], held[a:b], held[b:c], held[c:d], held[d:e], held[e:]
    flat_x, flat_cos, flat_sin = unlocked(x), unlocked(cos), unlocked(sin)
    room = np.empty(2 * SLABS * SLAB * PANEL + LEAD, np.float32)
    spare = in_lines(room)
    for number in range(matrices.shape[0]):
        at, loop = matrices[number], LOOPS * number
        window, which = settings[number, stack.WINDOW], settings[number, stack.ROPE]
        half = cos.shape[2] if which >= 0 else 0
        angle, scale, act = max(which, 0) * rows * cos.shape[2], scales[number], sizes[stack.ACTIVATION]
        out, out_bias, down, down_bias = at[stack.OUT], at[stack.OUT_BIAS], at[stack.DOWN], at[stack.DOWN_BIAS]
        _normed(flat_x, rows, columns, at[stack.NORM], eps, high, packed, team, loop, part)
        _projected(packed, rows, columns, at, sizes, sample, q, k, v, team, loop + 1, part)
        _kept(q, k, v, flat_cos, flat_sin, angle, half, sizes, texts, number, rows, team, loop + 2, part)
        _attended(q, mixed, window, scale, sizes, texts, number, cap, team, loop + 3, part)
        _packed(mixed, rows, heads * width, high, packed, team, loop + 4, part)
        _added(packed, rows, heads * width, sample, out, out_bias, flat_x, columns, spare, team, loop + 5, part)
        _normed(flat_x, rows, columns, at[stack.MLP_NORM], eps, high, packed, team, loop + 6, part)
        _gated(packed, rows, columns, at, inner, act, sample, wide, spare, team, loop + 7, part)
        _added(wide, rows, inner, sample, down, down_bias, flat_x, columns, spare, team, loop + 8, part)
    keep(room)


@helper
def _normed(
    x: Floats, rows: int, width: int, norm: int, eps: float, high: int, packed: Floats, team: Team, loop: int,
    part: int,
) -> None:  # fmt: skip  # fmt: skip
    """The norm of x [rows, width], laid out."""
    room = np.empty(width + LEAD, np.float32)
    row, weight, turns, taken = in_lines(room), held_at(x, norm, width), packed_rows(rows) // HIGHEST, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        for n in range(turn * HIGHEST, turn * HIGHEST + HIGHEST):
            if n < rows:
                normed(x, n * width, width, weight, eps, row, 0)
            pack_rows(row, 0, n, rows, width, high, packed)
    keep(room)
    finish(team, loop, taken, turns)


@helper
def _packed(x: Floats, rows: int, width: int, high: int, packed: Floats, team: Team, loop: int, part: int) -> None:
    """x [rows, width], laid out."""
    turns, taken = packed_rows(rows) // HIGHEST, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        for n in range(turn * HIGHEST, turn * HIGHEST + HIGHEST):
            pack_rows(x, min(n, rows - 1) * width, n, rows, width, high, packed)
    finish(team, loop, taken, turns)


@helper
def _projected(
    packed: Floats, rows: int, width: int, at: Table, sizes: Table, sample: NDArray[Any], q: Floats, k: Floats,
    v: Floats, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """Queries [N, HD], keys and values [N, KD]."""
    wide, narrow = sizes[stack.HEADS] * sizes[stack.HEAD_WIDTH], sizes[stack.KV_HEADS] * sizes[stack.HEAD_WIDTH]
    first, second = (wide + PANEL - 1) // PANEL, (narrow + PANEL - 1) // PANEL
    panels, step = first + 2 * second, rows_together(rows, width)
    turns, taken = (rows + step - 1) // step * panels, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        top, number = turn // panels * step, turn % panels
        out, matrix, bias, columns = q, at[stack.Q], at[stack.Q_BIAS], wide
        if number >= first + second:
            out, matrix, bias, columns, number = v, at[stack.V], at[stack.V_BIAS], narrow, number - first - second
        elif number >= first:
            out, matrix, bias, columns, number = k, at[stack.K], at[stack.K_BIAS], narrow, number - first
        left, weight = number * PANEL, held_at(sample, matrix, columns * width)
        right, added = min(columns, left + PANEL), bias_at(q, bias, 0, columns)
        product(packed, rows, width, top, weight, added, left, right, out, 0, columns)
    finish(team, loop, taken, turns)


@helper
def _kept(
    q: Floats, k: Floats, v: Floats, cos: Floats, sin: Floats, angle: int, half: int, sizes: Table, texts: Table,
    number: int, rows: int, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """Queries turned; keys, turned, and values into the caches."""
    heads, kv_heads, width = sizes[stack.HEADS], sizes[stack.KV_HEADS], sizes[stack.HEAD_WIDTH]
    turns, taken = (rows + BAND - 1) // BAND, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        for g in range(texts.shape[0]):
            begin, slots = texts[g, stack.FIRST], texts[g, stack.SLOTS]
            top, bottom = max(begin, turn * BAND), min(begin + texts[g, stack.ROWS], turn * BAND + BAND)
            keys = cached(q, texts, g, stack.KEYS, number, sizes)
            values = cached(q, texts, g, stack.VALUES, number, sizes)
            position = texts[g, stack.POSITION] + top - begin
            for n in range(top, bottom):
                for h in range(heads):
                    i = (n * heads + h) * width
                    turned(q, i, width, cos, sin, angle + n * half, half, q, i)
                for h in range(kv_heads):
                    i, o = (n * kv_heads + h) * width, (h * slots + position + n - top) * width
                    turned(k, i, width, cos, sin, angle + n * half, half, k, i)
                    for d in range(width):  # slices cost seconds to compile: numba words their errors
                        values[o + d] = v[i + d]
            for d in range(kv_heads * width):  # one place of the band's keys after another: they share a line
                for n in range(top, bottom):
                    keys[d * slots + position + n - top] = k[n * kv_heads * width + d]
    finish(team, loop, taken, turns)


@helper
def _attended(
    q: Floats, out: Floats, window: int, scale: float, sizes: Table, texts: Table, number: int, cap: float,
    team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """Attention of all rows, to out [N, H, D]: a turn is a head of some rows of one text."""
    heads, kv_heads, width = sizes[stack.HEADS], sizes[stack.KV_HEADS], sizes[stack.HEAD_WIDTH]
    turns, taken, ends = 0, 0, np.empty(texts.shape[0], np.int64)
    for g in range(texts.shape[0]):
        turns += heads * pieces_of(texts[g, stack.ROWS], width, texts[g, stack.POSITION], window)
        ends[g] = turns
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        g = 0
        while turn >= ends[g]:
            g += 1
        before = ends[g - 1] if g else 0
        slots, begin, end = texts[g, stack.SLOTS], texts[g, stack.FIRST], texts[g, stack.FIRST] + texts[g, stack.ROWS]
        keys = cached(q, texts, g, stack.KEYS, number, sizes)
        values = cached(q, texts, g, stack.VALUES, number, sizes)
        i, j, start = begin * heads * width, end * heads * width, texts[g, stack.POSITION]
        piece(
            q[i:j], keys, values, out[i:j], texts[g, stack.ROWS], heads, heads // kv_heads, width, slots, start,
            scale, window, cap, task_of(turn - before, ends[g] - before),
        )  # fmt: skip  # fmt: skip
    finish(team, loop, taken, turns)


@helper
def _added(
    packed: Floats, rows: int, width: int, sample: NDArray[Any], matrix: int, bias: int, out: Floats, columns: int,
    spare: Floats, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """out [rows, columns] += packed rows [rows, width] times a matrix."""
    weight, added = held_at(sample, matrix, columns * width), bias_at(spare, bias, 0, columns)
    panels, step = (columns + PANEL - 1) // PANEL, rows_together(rows, width)
    turns, taken = (rows + step - 1) // step * panels, 0
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        top, left = turn // panels * step, turn % panels * PANEL
        right, o = min(columns, left + PANEL), -top * PANEL - left
        bottom = product(packed, rows, width, top, weight, added, left, right, spare, o, PANEL)
        for n in range(top, bottom):
            for m in range(left, right, 16):
                i = n * columns + m
                old, more = load_part(out, i, right - m), load_part(spare, o + n * PANEL + m, right - m)
                store_part(out, i, right - m, add(old, more))
    finish(team, loop, taken, turns)


@helper
def _gated(
    packed: Floats, rows: int, width: int, at: Table, inner: int, activation: int, sample: NDArray[Any], out: Floats,
    spare: Floats, team: Team, loop: int, part: int,
) -> None:  # fmt: skip  # fmt: skip
    """act(gate n) * (up n) [N, F] of packed rows n, laid out as they are."""
    gate, up = held_at(sample, at[stack.GATE], inner * width), held_at(sample, at[stack.UP], inner * width)
    gate_bias, up_bias = bias_at(spare, at[stack.GATE_BIAS], 0, inner), bias_at(spare, at[stack.UP_BIAS], 0, inner)
    panels, step = (inner + PANEL - 1) // PANEL, rows_together(rows, width)
    turns, taken, high = (rows + step - 1) // step * panels, 0, slab_of(rows)
    while True:
        turn = next_turn(team, loop, part, turns)
        if turn < 0:
            break
        taken += 1
        top, left = turn // panels * step, turn % panels * PANEL
        right, o = min(inner, left + PANEL), -top * PANEL - left
        product(packed, rows, width, top, gate, gate_bias, left, right, spare, o, PANEL)
        p = o + SLABS * SLAB * PANEL
        bottom = product(packed, rows, width, top, up, up_bias, left, right, spare, p, PANEL)
        for n in range(top, bottom):
            i, j = o + n * PANEL + left, p + n * PANEL + left
            for m in range(0, right - left, 16):
                made, more = load_part(spare, i + m, right - left - m), load_part(spare, j + m, right - left - m)
                store(spare, i + m, mul(bent(made, activation), more))
            pack_piece(spare, i, right - left, n, left, right - left, inner, high, out)
        for n in range(rows, packed_rows(rows) if bottom == rows else rows):
            pack_piece(spare, 0, 0, n, left, right - left, inner, high, out)
    finish(team, loop, taken, turns)
