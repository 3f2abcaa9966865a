"""Lazy compilation of kernels with numba. It knows nothing of what a kernel computes.

`@kernel(definition)` makes a `Kernel`: a callable that imports numba and compiles at its first call, and that is listed
in `KERNELS` beside its float64 definition. `@helper` marks a plain function that kernels call. Under
NUMBA_DISABLE_JIT=1 both stay plain Python and numba is never imported: only this file and `lanes_llvm` import it, when
the first kernel is compiled.

Kernels are compiled without fastmath: the order of every sum is the order of the source, so a kernel gives the same
bits compiled serially or in parallel. They are the same on every machine too: what kernels compute with are single
operations that IEEE 754 rounds exactly, and exponentials made of them (see `lanes`, `wides`). Only `choose` asks the C
library for exponentials, of few tokens, and takes no decision that an error of theirs could turn.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

from refsample_kernels import lanes
from refsample_kernels.store import cache_at, lean, on_disk, without

P = ParamSpec("P")
R = TypeVar("R")

prange = range
"""A loop whose turns may run in any order; numba's own `prange` once compiled in parallel."""

LOCK = threading.RLock()
"""Held while compiling, and around parallel kernels where numba has only its `workqueue` layer: that layer aborts the
process when two Python threads enter it at once."""

KERNELS: dict[str, tuple[Kernel[..., Any], Callable[..., Any]]] = {}
"""name -> (kernel, its float64 definition); a house test holds that no kernel is missing."""

_HELPERS: dict[FunctionType, Any] = {}  # plain function -> its dispatcher, None until a kernel needs it
_wanted_threads = 0  # 0: what numba says; its own setting is one per Python thread, ours is for the process
_alone = False  # whether parallel kernels would have one thread; settled before the first of them runs
_here = threading.local()  # .threads: what numba was last told in this Python thread; telling it costs microseconds


class Kernel(Generic[P, R]):
    """A jitted function that compiles itself at its first call; `small` says when the serial version is the faster."""

    def __init__(
        self, function: Callable[P, R], definition: Callable[P, R], parallel: bool, small: Callable[..., bool] | None
    ) -> None:
        self.function, self.definition = function, definition
        self.name, self.__doc__ = function.__name__, function.__doc__
        self._parallel, self._small = parallel, small
        self._run: Callable[..., R] = self._first
        self._serial: Callable[..., R] | None = None
        self._many: Callable[..., R] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(*args, **kwargs)

    def _first(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if jit_disabled():
            self._run = self.function
        elif self._parallel:
            threads()  # settles `_alone`
            self._run = self._either if self._small is None else self._smaller(self._small)
        else:
            self._run = self.serial()
        return self._run(*args, **kwargs)

    def serial(self) -> Callable[..., R]:
        """The version that stays in the calling thread (numba's dispatcher, so other kernels may call it)."""
        if self._serial is None:
            with LOCK:
                self._serial = self._serial or _compile(self.function, parallel=False)
        return self._serial

    def ready(self) -> bool:
        """Whether the serial version need not be compiled: it was in this process, or lies on disk."""
        return not jit_disabled() and on_disk(self.serial())

    def _smaller(self, small: Callable[..., bool]) -> Callable[..., R]:
        """What a call does where some are small: hundreds of them make a token, so it is short."""
        serial, many = self.serial(), self._either

        def run(*args: Any, **kwargs: Any) -> R:
            return serial(*args, **kwargs) if small(*args, **kwargs) else many(*args, **kwargs)

        return run

    def _either(self, *args: Any, **kwargs: Any) -> R:
        if _alone:
            return self.serial()(*args, **kwargs)
        if self._many is None:
            with LOCK:
                self._many = self._many or _compile(self.function, parallel=True)
        if _wanted_threads and getattr(_here, "threads", 0) != _wanted_threads:
            _numba().set_num_threads(_wanted_threads)
            _here.threads = _wanted_threads
        if _safe_layer or _layer_is_safe():
            return self._many(*args, **kwargs)
        with LOCK:
            return self._many(*args, **kwargs)


def kernel(
    definition: Callable[P, R], *, parallel: bool = False, small: Callable[..., bool] | None = None
) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Decorator: compile this function when first called and list it in KERNELS beside `definition`.

    `parallel`: its `prange` loops are spread over threads, except where `small(*args)` says that this does not pay.
    """

    def wrap(function: Callable[P, R]) -> Kernel[P, R]:
        made = Kernel(function, definition, parallel, small)
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
    """Use `count` threads in parallel kernels, in the whole process. ValueError beyond what numba was started with."""
    global _wanted_threads, _alone
    most = os.cpu_count() or 1 if jit_disabled() else int(_numba().config.NUMBA_NUM_THREADS)
    if not 1 <= count <= most:
        raise ValueError(f"threads={count}: must be in 1..{most} (NUMBA_NUM_THREADS)")
    _wanted_threads, _alone = count, count == 1


def threads() -> int:
    """How many threads parallel kernels use."""
    global _alone
    count = _wanted_threads or (1 if jit_disabled() else int(_numba().config.NUMBA_NUM_THREADS))
    _alone = count == 1
    return count


_module: Any = None  # numba, once a kernel needs it; asking the import system anew costs more than a small kernel


def _numba() -> Any:
    global _module
    if _module is not None:
        return _module
    # Read by GNU OpenMP when its first thread starts. Threads that spin while another process has the core make a
    # decode step ten times slower; asleep after a thousand turns they cost nothing that was seen on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with LOCK, without("coverage"):  # numba imports it where it is installed, which takes a tenth of a second
        _module = _module or import_module("numba")
    return _module


_safe_layer: bool | None = None  # None until the first parallel run has chosen a layer


def _layer_is_safe() -> bool:
    global _safe_layer
    if _safe_layer is None:
        try:
            _safe_layer = _numba().threading_layer() != "workqueue"
        except ValueError:  # numba: no layer chosen yet, so this call goes through the lock
            return False
    return _safe_layer


def _compile(function: Callable[..., Any], parallel: bool = False, inner: bool = False) -> Any:
    """numba's dispatcher of `function`; `inner`: only kernels call it, so it needs no entry from Python, nor a file."""
    assert isinstance(function, FunctionType)
    numba = _numba()
    options = {"nogil": True, "error_model": "numpy", "fastmath": False, "parallel": parallel}
    if inner:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    scope = dict(function.__globals__)
    made = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    if parallel:  # numba's cache tells functions apart by name and source, not by options
        made.__name__, made.__qualname__ = f"{made.__name__}_parallel", f"{made.__qualname__}_parallel"

    def link() -> None:
        about_to_compile(function.__name__)
        scope.update(_linked(function, numba, parallel))

    with cache_at(numba) as cached:
        dispatcher = numba.njit(cache=cached and not inner, **options)(made)
    return lean(numba, dispatcher, link)


def _linked(function: FunctionType, numba: Any, parallel: bool) -> dict[str, Any]:
    """What a function's names mean when it is compiled: helpers, kernels and lane operations, not the plain ones."""
    found: dict[str, Any] = {}
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if value is prange and name == "prange":
            found[name] = numba.prange if parallel else prange
        elif isinstance(value, Kernel):
            found[name] = value.serial()
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
