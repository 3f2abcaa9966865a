"""Helpers compiled as parts of kernels: what only they call needs no machine code of its own.

numba makes machine code of every function, before it is put into those that call it and all of them are optimised and
made machine code of together. That of a helper is never run, and takes long: without it a first start took 13 seconds
where it had taken 20. It is handed numba by `jit`, of which it uses private names: they are the same from 0.60 to 0.68,
and a test (`test_jit`) sees whether they still do what they should.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any


def compile_as(numba: Any, dispatcher: Any, part: bool) -> None:
    """Make a dispatcher compile a part of others, or a whole function, whatever it is compiled for. What it reads from
    disk, while a helper that calls it is compiled, is whole."""
    compiles, reads = dispatcher._compiler.compile, dispatcher._cache.load_overload

    def compiling(args: Any, result: Any) -> Any:
        with _libraries(numba, part):
            return compiles(args, result)

    def reading(signature: Any, target: Any) -> Any:
        with _libraries(numba, False):
            return reads(signature, target)

    dispatcher._compiler.compile, dispatcher._cache.load_overload = compiling, reading


@contextmanager
def _libraries(numba: Any, part: bool) -> Iterator[None]:
    """What numba keeps this thread's functions in, while it holds its lock: libraries without machine code, or its
    own."""
    generator, thread = _generator(numba), get_ident()
    before = vars(generator).pop("create_library", None)
    if part:
        whole, kind = generator.create_library, _part_of(generator._library_class)

        def create_library(name: str, **given: Any) -> Any:
            return kind(generator, name, **given) if get_ident() == thread else whole(name, **given)

        generator.create_library = create_library
    try:
        yield
    finally:
        vars(generator).pop("create_library", None)
        if before is not None:
            generator.create_library = before


def whole_again(numba: Any) -> None:
    """A forked child: no thread goes on with what it compiled in the parent."""
    vars(_generator(numba)).pop("create_library", None)


def _generator(numba: Any) -> Any:
    return numba.core.registry.cpu_target.target_context.codegen()


_parts: dict[Any, Any] = {}


def _part_of(library: Any) -> Any:
    """numba's class of libraries, without machine code."""
    if library not in _parts:

        class Part(library):  # type: ignore[misc]
            def _finalize_final_module(self) -> None:
                self._finalize_dynamic_globals()
                self._verify_declare_only_symbols()
                self._finalized = True

            @property
            def codegen(self) -> Any:
                return _Silent(self._codegen)

        _parts[library] = Part
    return _parts[library]


class _Silent:
    """numba's generator of code, which a part has nothing to tell of how Python would call it."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def set_env(self, name: str, value: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)
