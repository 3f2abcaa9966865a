"""Lazy compilation of kernels with numba. It knows nothing of what a kernel computes.

`@kernel(definition)` makes a `Kernel`: a callable that imports numba and compiles at its first call, and that is listed
in `KERNELS` beside its float64 definition. `@helper` marks a plain function that kernels call. Under
NUMBA_DISABLE_JIT=1 both stay plain Python and numba is never imported: only this file, `lanes_llvm` and `team_llvm`
import it, when the first kernel is compiled.

numba compiles for one thread; several are several callers of one kernel (see `team`). Kernels are compiled without
fastmath: the order of every sum is the order of the source, so any number of threads gives the same bits. They are the
same on every machine too: what kernels compute with are single operations that IEEE 754 rounds exactly, and
exponentials made of them (see `lanes`, `wides`). Only `choose` asks the C library for exponentials, of few tokens, and
takes no decision that an error of theirs could turn.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from refsample_kernels import lanes
from refsample_kernels.hands import call_together, new_team
from refsample_kernels.memory import LEAD, in_lines
from refsample_kernels.parts import compile_as, whole_again
from refsample_kernels.store import cache_at, lean, on_disk, without

P = ParamSpec("P")
R = TypeVar("R")

LOCK = threading.RLock()
"""Held while dispatchers are made."""

KERNELS: dict[str, tuple[Kernel[..., Any], Callable[..., Any]]] = {}
"""name -> (kernel, its float64 definition); a house test holds that no kernel is missing."""

_HELPERS: dict[FunctionType, Any] = {}  # plain function -> its dispatcher, None until a kernel needs it
_wanted_threads = 0  # 0: as many as there may be


class Kernel(Generic[P, R]):
    """A jitted function that compiles itself at its first call."""

    def __init__(
        self, function: Callable[..., R], definition: Callable[P, R], loops: Callable[..., int] | int | None,
        room: Callable[..., int] | None, most: Callable[..., int] | None,
    ) -> None:  # fmt: skip
        self.function, self.definition = function, definition
        self.name, self.__doc__ = function.__name__, function.__doc__
        self._loops, self._room, self._most = loops, room, most
        self._run: Callable[..., R] = self._first
        self._compiled: Callable[..., R] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(*args, **kwargs)

    def _first(self, *args: P.args, **kwargs: P.kwargs) -> R:
        run = self.function if jit_disabled() else self.compiled()
        self._run = run if self._loops is None else self._together(run, self._loops)
        return self._run(*args, **kwargs)

    def compiled(self) -> Callable[..., R]:
        """numba's dispatcher, which other kernels may call."""
        if self._compiled is None:
            with LOCK:
                self._compiled = self._compiled or _compile(self.function)
        return self._compiled

    def ready(self) -> bool:
        """Whether it need not be compiled: it was in this process, or lies on disk."""
        return not jit_disabled() and on_disk(self.compiled())

    def _together(self, run: Callable[..., R], loops: Callable[..., int] | int) -> Callable[P, R]:
        """What calls the function in several threads, with the same arguments, room for all of them, and one team."""
        room, most = self._room, self._most
        names = self.function.__code__.co_varnames

        def share(*args: P.args, **kwargs: P.kwargs) -> R:
            given = (*args, *(kwargs[name] for name in names[len(args) : len(args) + len(kwargs)]))
            parts = threads()
            if parts > 1 and most is not None:
                parts = max(1, min(parts, most(*given)))
            team = new_team(parts, loops if isinstance(loops, int) else loops(*given))
            if room is not None:
                given = (*given, in_lines(np.empty(room(*given) + LEAD, np.float32)))
            return call_together(run, given, team) if parts > 1 else run(*given, team)

        return share


def kernel(
    definition: Callable[P, R], *, loops: Callable[..., int] | int | None = None,
    room: Callable[..., int] | None = None, most: Callable[..., int] | None = None,
) -> Callable[[Callable[..., R]], Kernel[P, R]]:  # fmt: skip
    """Decorator: compile this function when first called and list it in KERNELS beside `definition`.

    `loops`: how many loops threads share, or what says so of the arguments; the function takes their team as one
    argument more. `room`: how many float32 they need in common; they come as an argument before it. `most`: how many
    threads pay, by the amount of work.
    """

    def wrap(function: Callable[..., R]) -> Kernel[P, R]:
        made = Kernel(function, definition, loops, room, most)
        if made.name in KERNELS:
            raise ValueError(f"two kernels are named {made.name}")
        KERNELS[made.name] = (made, definition)
        return made

    return wrap


F = TypeVar("F", bound=Callable[..., Any])


def helper(function: F) -> F:
    """Decorator: a plain function that kernels call; it stays a plain function to everyone else."""
    assert isinstance(function, FunctionType)
    _HELPERS[function] = None
    return function


def jit_disabled() -> bool:
    """Whether NUMBA_DISABLE_JIT asks for plain Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def set_threads(count: int) -> None:
    """Use `count` threads in kernels, in the whole process. ValueError beyond what there may be."""
    global _wanted_threads
    most = _most_threads()
    if not 1 <= count <= most:
        raise ValueError(f"threads={count}: must be in 1..{most} (NUMBA_NUM_THREADS)")
    _wanted_threads = count


def threads() -> int:
    """How many threads kernels use."""
    return 1 if jit_disabled() else _wanted_threads or _most_threads()  # in plain Python turns are not atomic


@cache
def _most_threads() -> int:
    """As numba has it: NUMBA_NUM_THREADS, else the processors that this process may use."""
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    if given:
        if not given.isdecimal() or not int(given):
            raise ValueError(f"NUMBA_NUM_THREADS={given}: must be a whole number from 1 on")
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unlock() -> None:
    """A forked child: whoever held a lock in its parent is not there."""
    global LOCK
    LOCK = threading.RLock()
    if _module is not None:
        _module.core.compiler_lock.global_compiler_lock._lock = threading.RLock()
        whole_again(_module)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


_module: Any = None  # numba, once a kernel needs it; asking the import system anew costs more than a small kernel


def _numba() -> Any:
    global _module
    if _module is not None:
        return _module
    if not os.environ.get("NUMBA_NUM_THREADS", "set"):
        del os.environ["NUMBA_NUM_THREADS"]  # empty: numba would complain at length, and then do as without it
    with LOCK, without("coverage"):  # numba imports it where it is installed, which takes a tenth of a second
        _module = _module or import_module("numba")
    return _module


def _compile(function: Callable[..., Any], inner: bool = False) -> Any:
    """numba's dispatcher of `function`; `inner`: only kernels call it, so it needs no entry from Python, nor a file."""
    assert isinstance(function, FunctionType)
    numba = _numba()
    options = {"nogil": True, "error_model": "numpy", "fastmath": False}
    if inner:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    scope = dict(function.__globals__)
    made = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__

    def link() -> None:
        about_to_compile(function.__name__)
        scope.update(_linked(function, numba))

    with cache_at(numba) as cached:
        dispatcher = numba.njit(cache=cached and not inner, **options)(made)
    made_lean = lean(numba, _one_for_all_numbers(numba, dispatcher) if inner else dispatcher, link)
    compile_as(numba, made_lean, part=inner)
    return made_lean


def _one_for_all_numbers(numba: Any, dispatcher: Any) -> Any:
    """The dispatcher of a helper, made not to compile it once more for each number that is written in a call."""
    found, plain = dispatcher.get_call_template, numba.core.types.unliteral

    def get_call_template(args: Any, kws: Any) -> Any:
        return found(tuple(plain(arg) for arg in args), {name: plain(arg) for name, arg in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher


def _linked(function: FunctionType, numba: Any) -> dict[str, Any]:
    """What a function's names mean when it is compiled: helpers, kernels and lane operations, not the plain ones."""
    found: dict[str, Any] = {}
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, Kernel):
            found[name] = value.compiled()
        elif isinstance(value, FunctionType) and value in _HELPERS:
            if _HELPERS[value] is None:
                _HELPERS[value] = _compile(value, inner=True)
            found[name] = _HELPERS[value]
        elif isinstance(value, FunctionType) and value in lanes.OPERATIONS:
            found[name] = _intrinsics(numba)[value.__name__]
    return found


_told: Callable[[str], None] | None = None


def tell(told: Callable[[str], None] | None) -> None:
    """Call `told(name)` before each function that has to be compiled; it should be quick. None: nobody is told."""
    global _told
    _told = told


def about_to_compile(name: str) -> None:
    """Tell whoever wants to know."""
    if _told is not None:
        _told(name)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


_lane_intrinsics: dict[str, Any] = {}


def _intrinsics(numba: Any) -> dict[str, Any]:
    if not _lane_intrinsics:
        emitter = import_module("refsample_kernels.lanes_llvm")
        _lane_intrinsics.update(emitter.intrinsics(numba))
    return _lane_intrinsics
