"""The operations of `strips` as machine vectors: numba intrinsics that emit LLVM. It knows nothing of kernels."""

from __future__ import annotations

from typing import Any

from refsample_kernels.lanes_llvm import Emit, arithmetic, memory


def strip_of(lanes: Emit) -> Emit:
    """What emits vectors as wide as a register."""
    target = ",".join(str(part) for part in lanes.target())
    width = 16 if "+avx512f" in target else 4 if target.startswith(("aarch64", "arm64")) else 8
    return Emit(lanes.numba, lanes.ir, width, "refsample_strip")


def strip_intrinsics(e: Emit, intrinsic: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of `strips`; those on vectors are those of `lanes`, less wide."""
    width = e.width

    @intrinsic  # type: ignore[untyped-decorator]
    def strip_width(context: Any) -> Any:
        return e.types.intp(), lambda c, b, sig, args: e.ir.IntType(64)(width)

    def asking(nearness: int) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def ask(context: Any, held: Any, i: Any) -> Any:
            def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
                ask_for(e, b, e.address(c, b, sig.args[0], args[0], args[1], e.ir.IntType(8)), nearness)
                return c.get_dummy_value()

            return e.types.void(held, e.types.intp), code

        return ask

    held, sums = memory(e, intrinsic), arithmetic(e, intrinsic)
    made = {"strip_load": held["load"], "strip_load_part": held["load_part"], "strip_store": held["store"]}
    made |= {"strip_fma": sums["fma"], "strip_width": strip_width}
    return made | {"prefetch": asking(3), "prefetch_later": asking(2)}


def ask_for(e: Emit, b: Any, where: Any, nearness: int = 3) -> None:
    """Prefetch what lies there, to be read, to the nearest cache (3) or to the second (2)."""
    word = e.ir.IntType(32)
    e.call(b, "llvm.prefetch.p0", e.ir.VoidType(), where, word(0), word(nearness), word(1))
