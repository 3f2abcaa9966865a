"""The operations of `wides` as machine vectors: numba intrinsics that emit LLVM. It knows nothing of kernels."""

from __future__ import annotations

from typing import Any

from refsample_kernels.lanes_llvm import WIDTH, Emit, lane_type
from refsample_kernels.wides import LOWEST

LOG2E, LIFT = 1.4426950408889634, 1.5 * 2.0**52
LN2_HIGH, LN2_LOW = 0.6931467056274414, 4.7493250390316726e-07  # the first ends in 32 zero bits: n times it is exact
EXP_TERMS = (
    2.511003876579685e-08, 2.7632641147321496e-07, 2.755724091544448e-06, 2.4801485478252324e-05,
    0.00019841269890050043, 0.0013888888952318583, 0.0083333333333196, 0.04166666666648808, 0.1666666666666668,
    0.5000000000000019, 1.0, 1.0,
)  # fmt: skip
"""Chebyshev's fit of e^r for |r| <= ln2 / 2, by mpmath: off by 2e-17."""


def wide_intrinsics(e: Emit, intrinsic: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of `wides`."""
    wide = e.ir.VectorType(e.ir.DoubleType(), WIDTH)
    kind, lanes = lane_type(e.numba, wide, "refsample_wides"), e.type
    f64 = e.types.float64

    @intrinsic  # type: ignore[untyped-decorator]
    def exp_from(context: Any, v: Any, peak: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return _exp(e, b, wide, b.fsub(b.fpext(args[0], wide), e.broadcast(b, args[1])))

        return kind(lanes, f64), code

    @intrinsic  # type: ignore[untyped-decorator]
    def exp_over(context: Any, v: Any, temperature: Any, peak: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            cooled = b.fdiv(b.fpext(args[0], wide), e.broadcast(b, args[1]))
            return _exp(e, b, wide, b.fsub(cooled, e.broadcast(b, args[2])))

        return kind(lanes, f64, f64), code

    return {"exp_from": exp_from, "exp_over": exp_over} | _sums(e, intrinsic, wide, kind) | _looks(e, intrinsic)


def _sums(e: Emit, intrinsic: Any, wide: Any, kind: Any) -> dict[str, Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def no_wide(context: Any) -> Any:
        return kind(), lambda c, b, sig, args: e.ir.Constant(wide, [0.0] * WIDTH)

    @intrinsic  # type: ignore[untyped-decorator]
    def add_wide(context: Any, x: Any, y: Any) -> Any:
        return kind(kind, kind), lambda c, b, sig, args: b.fadd(*args)

    @intrinsic  # type: ignore[untyped-decorator]
    def store_wide(context: Any, out: Any, i: Any, w: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            done = b.store(args[2], e.address(c, b, sig.args[0], args[0], args[1], wide))
            done.align = 8
            return c.get_dummy_value()

        return e.types.void(out, e.types.intp, kind), code

    @intrinsic  # type: ignore[untyped-decorator]
    def total_wide(context: Any, w: Any) -> Any:
        return e.types.float64(kind), lambda c, b, sig, args: e.fold(b, args[0], b.fadd)

    return {"no_wide": no_wide, "add_wide": add_wide, "store_wide": store_wide, "total_wide": total_wide}


def _looks(e: Emit, intrinsic: Any) -> dict[str, Any]:
    lanes = e.type

    def counting(relation: str) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def count(context: Any, v: Any, x: Any) -> Any:
            def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
                bits = b.bitcast(b.fcmp_ordered(relation, args[0], e.broadcast(b, args[1])), e.ir.IntType(WIDTH))
                return b.zext(e.call(b, "llvm.ctpop.i16", e.ir.IntType(WIDTH), bits), e.ir.IntType(64))

            return e.types.intp(lanes, e.types.float32), code

        return count

    def filtering(relation: str) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def kept(context: Any, v: Any, x: Any) -> Any:
            def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
                stays = b.fcmp_ordered(relation, args[0], e.broadcast(b, args[1]))
                return b.select(stays, args[0], e.floats(float("-inf")))

            return lanes(lanes, e.types.float32), code

        return kept

    @intrinsic  # type: ignore[untyped-decorator]
    def keep_nan(context: Any, v: Any, other: Any) -> Any:
        return lanes(lanes, lanes), lambda c, b, sig, args: b.select(b.fcmp_unordered("uno", args[0], args[0]), *args)

    counts = {"greater": counting(">"), "at_least": counting(">=")}
    return counts | {"only_above": filtering(">"), "from_least": filtering(">="), "keep_nan": keep_nan}


def _exp(e: Emit, b: Any, wide: Any, x: Any) -> Any:
    """e^x = 2^n e^r with n = round(x / ln2), r = x - n ln2 in two parts, e^r by Horner.

    n + 1.5 * 2^52 holds n in its lowest bits; shifted up they are what the exponent of e^r has to grow by.
    """
    longs = e.ir.VectorType(e.ir.IntType(64), WIDTH)

    def all_of(value: float) -> Any:
        return e.ir.Constant(wide, [value] * WIDTH)

    def fma(x: Any, y: Any, z: Any) -> Any:
        return e.call(b, f"llvm.fma.v{WIDTH}f64", wide, x, y, z)

    held = b.select(b.fcmp_ordered(">", x, all_of(LOWEST)), x, all_of(LOWEST))
    lifted = fma(held, all_of(LOG2E), all_of(LIFT))
    n = b.fsub(lifted, all_of(LIFT))
    r = fma(n, all_of(-LN2_LOW), fma(n, all_of(-LN2_HIGH), held))
    value = all_of(EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        value = fma(value, r, all_of(term))
    power = b.shl(b.bitcast(lifted, longs), e.ir.Constant(longs, [52] * WIDTH))
    return b.bitcast(b.add(b.bitcast(value, longs), power), wide)
