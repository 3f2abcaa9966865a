"""The operations of `lanes` as machine vectors: numba intrinsics that emit LLVM. It knows nothing of kernels.

The vector type is <16 x float> on every machine (two registers on AVX2, four on NEON) and no fast-math flag is set, so
no compiler pass may change the order of a sum.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

WIDTH = 16
LOG2E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693359375, -2.12194440e-4
EXP_TERMS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)  # Taylor, |r| <= ln2/2: truncation 5e-9


class Emit:
    """Types and small pieces of IR shared by the intrinsics, for vectors of `width` lanes."""

    def __init__(self, numba: Any, ir: Any, width: int = WIDTH, name: str = "refsample_lanes") -> None:
        self.ir, self.numba, self.types, self.width = ir, numba, numba.core.types, width
        self.vector = ir.VectorType(ir.FloatType(), width)
        self.ints = ir.VectorType(ir.IntType(32), width)
        self.halves = ir.VectorType(ir.IntType(16), width)
        self.type = lane_type(numba, self.vector, name)

    def target(self) -> tuple[Any, ...]:
        """Triple, processor and its features that code is made for."""
        cpu: Any = import_module("numba.core.registry").cpu_target
        return tuple(cpu.target_context.codegen().magic_tuple())

    def floats(self, value: float) -> Any:
        return self.ir.Constant(self.vector, [value] * self.width)

    def integers(self, value: int) -> Any:
        return self.ir.Constant(self.ints, [value] * self.width)

    def call(self, builder: Any, name: str, result: Any, *args: Any) -> Any:
        """Call the LLVM intrinsic `name`."""
        kind = self.ir.FunctionType(result, [a.type for a in args])
        return builder.call(self.numba.core.cgutils.get_or_insert_function(builder.module, kind, name), args)

    def broadcast(self, builder: Any, scalar: Any) -> Any:
        kind = self.ir.VectorType(scalar.type, self.width)
        one = builder.insert_element(self.ir.Constant(kind, self.ir.Undefined), scalar, self.ir.IntType(32)(0))
        return builder.shuffle_vector(one, self.ir.Constant(kind, self.ir.Undefined), self.integers(0))

    def below(self, builder: Any, n: Any) -> Any:
        """Mask of the lanes below n (a signed integer of any width)."""
        wide = builder.sext(n, self.ir.IntType(64)) if n.type.width < 64 else n
        kind = self.ir.VectorType(self.ir.IntType(64), self.width)
        return builder.icmp_signed("<", self.ir.Constant(kind, list(range(self.width))), self.broadcast(builder, wide))

    def fold(self, builder: Any, v: Any, combine: Any) -> Any:
        """Combine the upper half with the lower until one lane is left."""
        count = self.width
        while count > 1:
            count //= 2
            kind = self.ir.VectorType(self.ir.IntType(32), count)
            nothing = self.ir.Constant(v.type, self.ir.Undefined)
            low = builder.shuffle_vector(v, nothing, self.ir.Constant(kind, list(range(count))))
            high = builder.shuffle_vector(v, nothing, self.ir.Constant(kind, list(range(count, 2 * count))))
            v = combine(low, high)
        return builder.extract_element(v, self.ir.IntType(32)(0))

    def address(self, context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())

    def widened(self, context: Any, builder: Any, dtype: Any, raw: Any) -> Any:
        """float32 lanes from what was loaded: floats, bfloat16 bits (uint16) or float16 bits (int16)."""
        if dtype == self.types.float32:
            return raw
        wide = builder.zext(raw, self.ints)
        if dtype == self.types.uint16:
            return builder.bitcast(builder.shl(wide, self.integers(16)), self.vector)
        target = ",".join(str(part) for part in self.target())
        if "+f16c" in target or target.startswith(("aarch64", "arm64")):
            halves = builder.bitcast(raw, self.ir.VectorType(self.ir.HalfType(), self.width))
            return builder.fpext(halves, self.vector)
        # by integers: LLVM would call a function that is not there on processors without the instruction
        sign = builder.shl(builder.and_(wide, self.integers(0x8000)), self.integers(16))
        size = builder.shl(builder.and_(wide, self.integers(0x7FFF)), self.integers(13))
        value = builder.fmul(builder.bitcast(size, self.vector), self.floats(2.0**112))  # exact, subnormals too
        special = builder.icmp_unsigned(">=", size, self.integers(0x0F800000))  # infinity and NaN
        ends = builder.bitcast(builder.or_(size, self.integers(0x7F800000)), self.vector)
        bits = builder.bitcast(builder.select(special, ends, value), self.ints)
        return builder.bitcast(builder.or_(bits, sign), self.vector)

    def raw_kind(self, dtype: Any) -> tuple[Any, str, int]:
        """(vector type in memory, its name in LLVM, bytes per element); TypeError for a type no kernel holds."""
        if dtype == self.types.float32:
            return self.vector, f"v{self.width}f32", 4
        if dtype in (self.types.uint16, self.types.int16):
            return self.halves, f"v{self.width}i16", 2
        raise TypeError(f"lanes hold float32, uint16 or int16, not {dtype}")


def lane_type(numba: Any, vector: Any, name: str) -> Any:
    """numba's type of a lane value, mapped to the LLVM vector."""
    extending = import_module("numba.extending")
    primitive: Any = extending.models.PrimitiveModel

    class LaneType(numba.core.types.Type):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name=name)

    @extending.register_model(LaneType)
    class LaneModel(primitive):  # type: ignore[misc]
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, vector)

    return LaneType()


def intrinsics(numba: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of OPERATIONS."""
    import_module("numba.core.cgutils")
    emit = Emit(numba, import_module("llvmlite.ir"))
    intrinsic = import_module("numba.extending").intrinsic
    wides = import_module("refsample_kernels.wides_llvm").wide_intrinsics(emit, intrinsic)  # it imports this file
    strip = import_module("refsample_kernels.strips_llvm").strip_of(emit)
    strips = import_module("refsample_kernels.strips_llvm").strip_intrinsics(strip, intrinsic)
    spaced = import_module("refsample_kernels.spaced_llvm").spaced_intrinsics(emit, strip, intrinsic)
    team = import_module("refsample_kernels.team_llvm").team_intrinsics(emit, intrinsic)
    sums = import_module("refsample_kernels.sums_llvm").sum_intrinsics(emit, strip, intrinsic)
    own = {**memory(emit, intrinsic), **arithmetic(emit, intrinsic), **_folds(emit, intrinsic)}
    return {**own, **wides, **strips, **spaced, **sums, **team}


def memory(e: Emit, intrinsic: Any) -> dict[str, Any]:
    size, void = e.types.intp, e.types.void

    @intrinsic  # type: ignore[untyped-decorator]
    def spread(context: Any, value: Any) -> Any:
        return e.type(e.types.float32), lambda c, b, sig, args: e.broadcast(b, args[0])

    @intrinsic  # type: ignore[untyped-decorator]
    def spread_at(context: Any, held: Any, i: Any) -> Any:
        if held.dtype != e.types.float32:
            raise TypeError(f"spread_at takes float32, not {held.dtype}")

        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            where = e.address(c, b, sig.args[0], args[0], args[1], e.ir.FloatType())
            return e.broadcast(b, b.load(where))

        return e.type(held, size), code

    @intrinsic  # type: ignore[untyped-decorator]
    def load(context: Any, held: Any, i: Any) -> Any:
        return e.type(held, size), loading(e, held)

    @intrinsic  # type: ignore[untyped-decorator]
    def load_part(context: Any, held: Any, i: Any, n: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            kind, name, align = e.raw_kind(held.dtype)
            where = e.address(c, b, sig.args[0], args[0], args[1], kind)
            zero = e.ir.Constant(kind, None)
            call = f"llvm.masked.load.{name}.p0"
            raw = e.call(b, call, kind, where, e.ir.IntType(32)(align), e.below(b, args[2]), zero)
            return e.widened(c, b, held.dtype, raw)

        return e.type(held, size, size), code

    @intrinsic  # type: ignore[untyped-decorator]
    def store(context: Any, out: Any, i: Any, v: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            done = b.store(args[2], e.address(c, b, sig.args[0], args[0], args[1], e.vector))
            done.align = 4
            return c.get_dummy_value()

        return void(out, size, e.type), code

    @intrinsic  # type: ignore[untyped-decorator]
    def store_part(context: Any, out: Any, i: Any, n: Any, v: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            where = e.address(c, b, sig.args[0], args[0], args[1], e.vector)
            name = f"llvm.masked.store.v{e.width}f32.p0"
            e.call(b, name, e.ir.VoidType(), args[3], where, e.ir.IntType(32)(4), e.below(b, args[2]))
            return c.get_dummy_value()

        return void(out, size, size, e.type), code

    made = {"spread": spread, "spread_at": spread_at, "load": load, "load_part": load_part}
    return made | {"store": store, "store_part": store_part}


def loading(e: Emit, held: Any) -> Any:
    """Code of `load`."""

    def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
        kind, _, align = e.raw_kind(held.dtype)
        raw = b.load(e.address(c, b, sig.args[0], args[0], args[1], kind))
        raw.align = align
        return e.widened(c, b, held.dtype, raw)

    return code


def arithmetic(e: Emit, intrinsic: Any) -> dict[str, Any]:
    one, size = e.type, e.types.intp

    def binary(name: str) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def operation(context: Any, a: Any, b: Any) -> Any:
            return one(one, one), lambda c, builder, sig, args: getattr(builder, name)(*args)

        return operation

    @intrinsic  # type: ignore[untyped-decorator]
    def fma(context: Any, x: Any, y: Any, z: Any) -> Any:
        return one(one, one, one), lambda c, b, sig, args: e.call(b, f"llvm.fma.v{e.width}f32", e.vector, *args)

    @intrinsic  # type: ignore[untyped-decorator]
    def larger(context: Any, x: Any, y: Any) -> Any:
        return one(one, one), lambda c, b, sig, args: b.select(b.fcmp_ordered(">", *args), *args)

    @intrinsic  # type: ignore[untyped-decorator]
    def below(context: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return b.select(b.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

        return one(one, one, one, one), code

    @intrinsic  # type: ignore[untyped-decorator]
    def first(context: Any, v: Any, n: Any, other: Any) -> Any:
        return one(one, size, one), lambda c, b, sig, args: b.select(e.below(b, args[1]), args[0], args[2])

    @intrinsic  # type: ignore[untyped-decorator]
    def exp(context: Any, v: Any) -> Any:
        return one(one), lambda c, b, sig, args: _exp(e, b, args[0])

    @intrinsic  # type: ignore[untyped-decorator]
    def to_bf16(context: Any, v: Any) -> Any:
        return one(one), lambda c, b, sig, args: _to_bf16(e, b, args[0])

    made = {"fma": fma, "larger": larger, "below": below, "first": first, "exp": exp, "to_bf16": to_bf16}
    return made | {"add": binary("fadd"), "sub": binary("fsub"), "mul": binary("fmul"), "div": binary("fdiv")}


def _exp(e: Emit, b: Any, x: Any) -> Any:
    """e^x = 2^n e^r with n = round(x / ln2), r = x - n ln2 in two parts, e^r by Horner."""
    low, high = e.floats(-87.3), e.floats(88.0)
    held = b.select(b.fcmp_ordered(">", x, low), x, low)
    held = b.select(b.fcmp_ordered("<", held, high), held, high)
    n = e.call(b, "llvm.rint.v16f32", e.vector, b.fmul(held, e.floats(LOG2E)))
    minus = b.fneg(n)
    r = e.call(b, "llvm.fma.v16f32", e.vector, minus, e.floats(LN2_HIGH), held)
    r = e.call(b, "llvm.fma.v16f32", e.vector, minus, e.floats(LN2_LOW), r)
    value = e.floats(EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        value = e.call(b, "llvm.fma.v16f32", e.vector, value, r, e.floats(term))
    power = b.shl(b.add(b.fptosi(n, e.ints), e.integers(127)), e.integers(23))
    value = b.fmul(value, b.bitcast(power, e.vector))
    value = b.select(b.fcmp_ordered("<", x, low), e.floats(0.0), value)
    return b.select(b.fcmp_unordered("uno", x, x), x, value)


def _to_bf16(e: Emit, b: Any, x: Any) -> Any:
    bits = b.bitcast(x, e.ints)
    odd = b.and_(b.lshr(bits, e.integers(16)), e.integers(1))
    rounded = b.and_(b.add(b.add(bits, e.integers(0x7FFF)), odd), e.integers(0xFFFF0000))
    special = b.icmp_unsigned("==", b.and_(bits, e.integers(0x7F800000)), e.integers(0x7F800000))
    return b.select(special, x, b.bitcast(rounded, e.vector))


def _folds(e: Emit, intrinsic: Any) -> dict[str, Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def total(context: Any, v: Any) -> Any:
        return e.types.float32(e.type), lambda c, b, sig, args: e.fold(b, args[0], b.fadd)

    @intrinsic  # type: ignore[untyped-decorator]
    def largest(context: Any, v: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return e.fold(b, args[0], lambda low, high: b.select(b.fcmp_ordered(">", low, high), low, high))

        return e.types.float32(e.type), code

    @intrinsic  # type: ignore[untyped-decorator]
    def four_totals(context: Any, held: Any, i: Any, out: Any, o: Any) -> Any:
        return e.types.void(held, e.types.intp, out, e.types.intp), four_folds(e, halved)

    return {"total": total, "four_totals": four_totals, "largest": largest}


def four_folds(e: Emit, halve: Any) -> Any:
    """Code that folds four vectors held[i:i+64] by adding, into out[o:o+4]; `halve` makes of two of them lanes 0..3,
    each plus that eight places on, of both side by side, and lanes 4..7 likewise."""

    def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
        v = []
        for number in range(4):
            index = b.add(args[1], e.ir.IntType(64)(e.width * number))
            v.append(b.load(e.address(c, b, sig.args[0], args[0], index, e.vector)))
            v[-1].align = 4
        pairs = [b.fadd(*halve(e, b, v[n], v[n + 1])) for n in (0, 2)]  # lanes 0..3 of two vectors
        twos = joined(e, b, pairs[0], pairs[1], [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
        made = joined(e, b, twos, twos, [0, 4, 2, 6], [1, 5, 3, 7])
        b.store(made, e.address(c, b, sig.args[2], args[2], args[3], made.type)).align = 4
        return c.get_dummy_value()

    return code


def joined(e: Emit, b: Any, x: Any, y: Any, low: list[int], high: list[int]) -> Any:
    """Sums of the places `low` and `high` in two vectors one after the other."""
    return b.fadd(*picked(e, b, x, y, low, high))


def picked(e: Emit, b: Any, x: Any, y: Any, *places: list[int]) -> list[Any]:
    """Vectors of such places in two vectors one after the other."""
    word = e.ir.IntType(32)
    return [b.shuffle_vector(x, y, e.ir.Constant(e.ir.VectorType(word, len(at)), at)) for at in places]


def halved(e: Emit, b: Any, x: Any, y: Any) -> list[Any]:
    """See `four_folds`."""
    eights = [joined(e, b, one, one, list(range(8)), list(range(8, 16))) for one in (x, y)]
    return picked(e, b, *eights, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])
