"""Helpers compiled as parts of kernels: what only they call needs no machine code of its own.

numba makes machine code of every function, and optimises it, before it is put into those that call it and all of them
are optimised together. Of a helper the first is never run, and takes a third of the time. It is handed numba by `jit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def compile_as(numba: Any, dispatcher: Any, part: bool) -> None:
    """Make a dispatcher compile a part of others, or a whole function, whatever it is compiled for."""
    plain = dispatcher._compiler.compile

    def compiling(args: Any, result: Any) -> Any:
        with _libraries(numba, part):
            return plain(args, result)

    dispatcher._compiler.compile = compiling


@contextmanager
def _libraries(numba: Any, part: bool) -> Iterator[None]:
    """What numba keeps a function in while it is compiled: one that stays without machine code, or its own. numba holds
    its lock meanwhile, so no other thread compiles."""
    generator = numba.core.registry.cpu_target.target_context.codegen()
    before = {name: vars(generator).get(name) for name in ("_library_class", "set_env")}
    for name in before:
        vars(generator).pop(name, None)
    if part:
        generator._library_class = _part_of(type(generator)._library_class)
        generator.set_env = _nothing  # what a function would need to be called from Python
    try:
        yield
    finally:
        for name, value in before.items():
            vars(generator).pop(name, None)
            if value is not None:
                setattr(generator, name, value)


def _part_of(library: Any) -> Any:
    """numba's library of functions, without machine code."""
    if library not in _parts:

        class Part(library):  # type: ignore[misc]
            def _finalize_final_module(self) -> None:
                self._finalize_dynamic_globals()
                self._verify_declare_only_symbols()
                self._finalized = True

        _parts[library] = Part
    return _parts[library]


_parts: dict[Any, Any] = {}


def _nothing(*_: Any) -> None:
    pass
