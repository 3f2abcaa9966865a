"""The operations of `spaced` as machine vectors: numba intrinsics that emit LLVM. It knows nothing of kernels."""

from __future__ import annotations

from typing import Any

from refsample_kernels.lanes_llvm import Emit, four_folds, halved, joined, loading, picked
from refsample_kernels.spaced import SPACED


def spaced_intrinsics(e: Emit, strip: Emit, intrinsic: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of `spaced`; `strip` emits vectors of one register."""
    types, size, half = e.types, e.types.intp, e.ir.VectorType(e.ir.IntType(32), 8)

    def all_of(value: int) -> Any:
        return e.ir.Constant(half, [value] * 8)

    def number(value: int) -> Any:
        return lambda c, b, sig, args: e.ir.Constant(e.ir.IntType(64), value)

    @intrinsic  # type: ignore[untyped-decorator]
    def line_of(context: Any, w: Any) -> Any:
        return size(w), number(64 // e.raw_kind(w.dtype)[2])

    @intrinsic  # type: ignore[untyped-decorator]
    def strip_apart(context: Any, w: Any) -> Any:
        return size(w), number(1 if _is_spaced(strip, w) else strip.width)

    @intrinsic  # type: ignore[untyped-decorator]
    def strip_from(context: Any, w: Any, i: Any) -> Any:
        return strip.type(w, size), from_matrix(strip, w)

    @intrinsic  # type: ignore[untyped-decorator]
    def load_from(context: Any, w: Any, i: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            raw = _pairs_at(e, c, b, sig, args)
            both = (b.shl(raw, all_of(16)), b.and_(raw, all_of(0xFFFF0000)))
            return b.bitcast(b.shuffle_vector(*both, e.ir.Constant(e.ints, list(range(16)))), e.vector)

        return e.type(w, size), code if _is_spaced(strip, w) else loading(e, w)

    @intrinsic  # type: ignore[untyped-decorator]
    def in_order(context: Any, v: Any, w: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            order = e.ir.Constant(e.ints, SPACED)
            return b.shuffle_vector(args[0], args[0], order) if _is_spaced(strip, w) else args[0]

        return e.type(e.type, w), code

    @intrinsic  # type: ignore[untyped-decorator]
    def four_totals_from(context: Any, held: Any, i: Any, out: Any, o: Any, w: Any) -> Any:
        return types.void(held, size, out, size, w), folds_from(e, strip, w)

    made = {"line_of": line_of, "strip_apart": strip_apart, "strip_from": strip_from, "load_from": load_from}
    return made | {"in_order": in_order, "four_totals_from": four_totals_from}


def _is_spaced(strip: Emit, w: Any) -> bool:
    """Whether a sixteen of w is taken as every second element and those in between."""
    return bool(w.dtype == strip.types.uint16 and strip.width == 8)


def _pairs_at(e: Emit, c: Any, b: Any, sig: Any, args: Any) -> Any:
    """Eight times two halves from w[i] on."""
    half = e.ir.VectorType(e.ir.IntType(32), 8)
    raw = b.load(e.address(c, b, sig.args[0], args[0], args[1], half))
    raw.align = 2
    return raw


def from_matrix(strip: Emit, w: Any) -> Any:
    """Code of `strip_from`."""

    def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
        raw = _pairs_at(strip, c, b, sig, args)
        return b.bitcast(b.shl(raw, strip.ir.Constant(raw.type, [16] * 8)), strip.vector)

    return code if _is_spaced(strip, w) else loading(strip, w)


def folds_from(e: Emit, strip: Emit, w: Any) -> Any:
    """Code of `four_totals_from`."""
    return four_folds(e, _halved if _is_spaced(strip, w) else halved)


def _halved(e: Emit, b: Any, x: Any, y: Any) -> list[Any]:
    """`lanes_llvm.halved` of two vectors that are spaced."""
    evens = joined(e, b, x, y, [0, 1, 2, 3, 16, 17, 18, 19], [4, 5, 6, 7, 20, 21, 22, 23])  # lanes 0, 2, 4, 6 of both
    odds = joined(e, b, x, y, [8, 9, 10, 11, 24, 25, 26, 27], [12, 13, 14, 15, 28, 29, 30, 31])
    return picked(e, b, evens, odds, [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15])
