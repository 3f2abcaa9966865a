"""The operations of `team` and `memory`: numba intrinsics that emit LLVM. It knows nothing of kernels."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from refsample_kernels.lanes_llvm import Emit

_YIELD = 255  # tries between two moments at which the processor is offered to others: some ten microseconds


def team_intrinsics(e: Emit, intrinsic: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of `team`."""
    size, number = e.types.intp, e.ir.IntType(64)

    @intrinsic  # type: ignore[untyped-decorator]
    def fetch_add(context: Any, held: Any, i: Any, n: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return b.atomic_rmw("add", e.address(c, b, sig.args[0], args[0], args[1], number), args[2], "seq_cst")

        return size(held, size, size), code

    @intrinsic  # type: ignore[untyped-decorator]
    def fetch(context: Any, held: Any, i: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return b.load_atomic(e.address(c, b, sig.args[0], args[0], args[1], number), "acquire", 8)

        return size(held, size), code

    @intrinsic  # type: ignore[untyped-decorator]
    def relax(context: Any, tries: Any) -> Any:
        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            target = ",".join(str(part) for part in e.target())
            if target.startswith(("x86_64", "i686")):
                e.call(b, "llvm.x86.sse2.pause", e.ir.VoidType())
            if not sys.platform.startswith("win"):
                often = b.icmp_unsigned("==", b.and_(args[0], number(_YIELD)), number(0))
                with b.if_then(often, likely=False):
                    e.call(b, "sched_yield", e.ir.IntType(32))
            return c.get_dummy_value()

        return e.types.void(size), code

    return {"fetch_add": fetch_add, "fetch": fetch, "relax": relax, **_views(e, intrinsic)}


def _views(e: Emit, intrinsic: Any) -> dict[str, Any]:
    """name -> intrinsic, for every operation of `memory`."""
    arrays: Any = import_module("numba.np.arrayobj")
    size = e.types.intp

    def view(c: Any, b: Any, result: Any, where: Any, count: Any) -> Any:
        made = c.make_array(result)(c, b)
        width = c.get_constant(size, c.get_abi_sizeof(c.get_data_type(result.dtype)))
        arrays.populate_array(made, data=where, shape=[count], strides=[width], itemsize=width, meminfo=None)
        return made._getvalue()

    @intrinsic  # type: ignore[untyped-decorator]
    def held_at(context: Any, like: Any, address: Any, count: Any) -> Any:
        result = e.types.Array(like.dtype, 1, "C")

        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return view(c, b, result, b.inttoptr(args[1], c.get_data_type(result.dtype).as_pointer()), args[2])

        return result(like, size, size), code

    @intrinsic  # type: ignore[untyped-decorator]
    def in_lines(context: Any, held: Any) -> Any:
        if held.dtype != e.types.float32 or held.layout != "C" or held.ndim != 1:
            raise TypeError(f"in_lines takes float32 in a row, not {held}")

        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            given, number = c.make_array(held)(c, b, args[0]), e.ir.IntType(64)
            before = b.and_(b.neg(b.ptrtoint(given.data, number)), number(63))
            first = b.lshr(before, number(2))
            return view(c, b, held, b.gep(given.data, [first]), b.sub(given.nitems, first))

        return held(held), code

    @intrinsic  # type: ignore[untyped-decorator]
    def unlocked(context: Any, held: Any) -> Any:
        if held.layout != "C":
            raise TypeError("a kernel was given an array that is not one piece in row order")
        result = e.types.Array(held.dtype, 1, "C")

        def code(c: Any, b: Any, sig: Any, args: Any) -> Any:
            given = c.make_array(held)(c, b, args[0])
            return view(c, b, result, given.data, given.nitems)

        return result(held), code

    @intrinsic  # type: ignore[untyped-decorator]
    def keep(context: Any, held: Any) -> Any:
        return e.types.void(held), lambda c, b, sig, args: c.get_dummy_value()

    return {"held_at": held_at, "keep": keep, "in_lines": in_lines, "unlocked": unlocked}
