"""The operations of `sums` as machine vectors: numba intrinsics that emit LLVM. It knows nothing of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refsample_kernels.lanes_llvm import Emit, four_folds, halved, loading, picked
from refsample_kernels.spaced_llvm import folds_from, from_matrix
from refsample_kernels.strips_llvm import ask_for
from refsample_kernels.sums import ACROSS, HIGHEST

Loads = Callable[[Any], Any]
"""Code of one load, given the number of the step."""


def high_of(strip: Emit) -> int:
    """Rows of a tile; registers as wide as sixteen lanes or four are 32."""
    return 3 if strip.width == 8 else HIGHEST


def sum_intrinsics(e: Emit, strip: Emit, intrinsic: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of `sums`; `strip` emits vectors of one register."""
    types, size, high = e.types, e.types.intp, high_of(strip)

    @intrinsic  # type: ignore[untyped-decorator]
    def tile_high(context: Any) -> Any:
        return size(), lambda c, b, sig, args: e.ir.Constant(e.ir.IntType(64), high)

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(context: Any, x: Any, i: Any, w: Any, j: Any, steps: Any, sums: Any, s: Any, fresh: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            run = _Run(strip, c, b, sig, args)
            n = strip.width
            rows = [run.strips(loading(strip, x), 0, args[1], row * n, high * n) for row in range(high)]
            columns = [run.strips(loading(strip, w), 2, args[3], column * n, ACROSS * n) for column in range(ACROSS)]
            run.loop(rows, columns, args[4], (5, args[6], args[7]), lambda k: None)
            return c.get_dummy_value()

        return types.void(x, size, w, size, size, sums, size, types.boolean), code

    @intrinsic  # type: ignore[untyped-decorator]
    def tile_from(
        context: Any, x: Any, i: Any, rows: Any, group: Any, w: Any, j: Any, width: Any, steps: Any, sums: Any,
        s: Any, fresh: Any, ahead: Any, hop: Any,
    ) -> Any:  # fmt: skip
        code = _from(strip, loading(strip, x), from_matrix(strip, w), high)
        given = (x, size, size, size, w, size, size, size, sums, size, types.boolean, size, size)
        return types.void(*given), code

    @intrinsic  # type: ignore[untyped-decorator]
    def two_totals(context: Any, sums: Any, s: Any, out: Any, o: Any, columns: Any, w: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            if strip.width == e.width:
                return _eight_folds(e)(c, b, sig, args)
            fold = folds_from(e, strip, w)
            for row in range(2):
                s_row = b.add(args[1], e.ir.IntType(64)(16 * ACROSS * row))
                fold(c, b, sig, [args[0], s_row, args[2], b.add(args[3], args[4]) if row else args[3]])
            return c.get_dummy_value()

        return types.void(sums, size, out, size, size, w), code

    @intrinsic  # type: ignore[untyped-decorator]
    def tile_totals(context: Any, sums: Any, s: Any, out: Any, o: Any, columns: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            together = 2 if strip.width == 16 else 1
            fold = _eight_folds(e) if together == 2 else four_folds(e, halved)
            for row in range(0, high, together):
                s_row = b.add(args[1], e.ir.IntType(64)(16 * ACROSS * row))
                o_row = b.add(args[3], b.mul(args[4], e.ir.IntType(64)(row)))
                fold(c, b, sig, [args[0], s_row, args[2], o_row, args[4]])
            return c.get_dummy_value()

        return types.void(sums, size, out, size, size), code

    made = {"tile_high": tile_high, "tile": tile, "tile_from": tile_from}
    return made | {"two_totals": two_totals, "tile_totals": tile_totals}


class _Run:
    """One call of a tile that is being emitted."""

    def __init__(self, strip: Emit, c: Any, b: Any, sig: Any, args: Any) -> None:
        self.e, self.c, self.b, self.sig, self.args = strip, c, b, sig, args
        self.cgutils: Any = strip.numba.core.cgutils

    def number(self, value: int) -> Any:
        return self.e.ir.Constant(self.e.ir.IntType(64), value)

    def strips(self, code: Any, array: int, first: Any, offset: Any, step: Any) -> Loads:
        """Loads of the strip at first + offset + k step of the argument `array`."""

        def at(k: Any) -> Any:
            b, e = self.b, self.e
            offset_, step_ = (self.number(n) if isinstance(n, int) else n for n in (offset, step))
            index = b.add(b.add(first, b.mul(k, step_)), offset_)
            kind = e.types.void(self.sig.args[array], e.types.intp)
            return code(self.c, b, kind, [self.args[array], index])

        return at

    def loop(self, rows: list[Loads], columns: list[Loads], steps: Any, sums: Any, also: Loads) -> None:
        """So many steps of all rows times all columns; what there is less of stays in registers for a step."""
        b, e, (array, s, fresh) = self.b, self.e, sums
        cells = [[self.cgutils.alloca_once(b, e.vector) for _ in columns] for _ in rows]
        places = {
            (row, column): b.add(s, self.number(16 * (ACROSS * row + column)))
            for row in range(len(rows)) for column in range(len(columns))
        }  # fmt: skip

        def where(place: Any) -> Any:
            return e.address(self.c, b, self.sig.args[array], self.args[array], place, e.vector)

        with b.if_else(fresh) as (zero, given):
            with zero:
                for row, column in places:
                    b.store(e.floats(0.0), cells[row][column])
            with given:
                for (row, column), place in places.items():
                    held = b.load(where(place))
                    held.align = 4
                    b.store(held, cells[row][column])
        with self.cgutils.for_range(b, steps) as turn:
            also(turn.index)
            across = len(columns) > len(rows)
            kept, passing = (rows, columns) if across else (columns, rows)
            held_ones = [one(turn.index) for one in kept]
            for p, one in enumerate(passing):
                v = one(turn.index)
                for h, other in enumerate(held_ones):
                    cell = cells[h][p] if across else cells[p][h]
                    b.store(e.call(b, f"llvm.fma.v{e.width}f32", e.vector, other, v, b.load(cell)), cell)
        for (row, column), place in places.items():
            b.store(b.load(cells[row][column]), where(place)).align = 4


def _from(strip: Emit, loads: Any, from_w: Any, high: int) -> Any:
    """Code of `tile_from`: a loop for each number of rows that there may be."""

    def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
        run = _Run(strip, c, b, sig, args)
        _, i, found, group, _, j, width, steps, _, s, fresh, ahead, hop = args
        line = 64 // strip.raw_kind(sig.args[4].dtype)[2]

        def ask(k: Any) -> None:
            for element in range(0, ACROSS * strip.width, line):
                index = b.add(b.add(ahead, b.mul(k, hop)), run.number(element))
                ask_for(strip, b, strip.address(c, b, sig.args[4], args[4], index, strip.ir.IntType(8)))

        columns = [run.strips(from_w, 4, j, b.mul(width, run.number(n)), 16) for n in range(ACROSS)]
        hop_x, end = b.mul(group, run.number(16)), b.append_basic_block("tiled")
        choice = b.switch(found, end)
        for count in range(high // 3, high + 1, high // 3):
            block = b.append_basic_block(f"rows{count}")
            choice.add_case(run.number(count), block)
            b.position_at_end(block)
            rows = [run.strips(loads, 0, i, 16 * row, hop_x) for row in range(count)]
            run.loop(rows, columns, steps, (8, s, fresh), ask)
            b.branch(end)
        b.position_at_end(end)
        return c.get_dummy_value()

    return code


def _eight_folds(e: Emit) -> Any:
    """Code that folds eight vectors held[s:s+128], where a register holds sixteen lanes: four to out[o:o+4], four to
    out[o+columns:...]. The upper halves of two are added to their lower at once, then of four, then of eight."""
    places = list(range(16))
    lows = [[p for p in places if p & size == 0] for size in (8, 4, 2)]  # of each half, quarter, ... the lower half

    def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
        made = []
        for number in range(8):
            index = b.add(args[1], e.ir.IntType(64)(16 * number))
            made.append(b.load(e.address(c, b, sig.args[0], args[0], index, e.vector)))
            made[-1].align = 4
        for low, size in zip(lows, (8, 4, 2), strict=True):
            both = [[*low, *(p + 16 for p in low)], [p + size for p in (*low, *(p + 16 for p in low))]]
            if size == 2:  # pairs of both stand side by side in each quarter
                both = [[p + q for q in range(0, 16, 4) for p in (x, x + 1, x + 16, x + 17)] for x in (0, 2)]
            made = [b.fadd(*picked(e, b, made[n], made[n + 1], *both)) for n in range(0, len(made), 2)]
        folded = b.fadd(*picked(e, b, made[0], made[0], places, [p ^ 1 for p in places]))
        for row in range(2):
            rows = picked(e, b, folded, folded, [2 * row, 2 * row + 4, 2 * row + 8, 2 * row + 12])[0]
            o = b.add(args[3], b.mul(args[4], e.ir.IntType(64)(row)))
            b.store(rows, e.address(c, b, sig.args[2], args[2], o, rows.type)).align = 4
        return c.get_dummy_value()

    return code
