"""Compiled kernels on disk: where numba keeps them, and how one is read without the parts of numba that compile.

It knows nothing of what a kernel computes, and is handed numba by `jit`.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def source_hash() -> str:
    """Hash of all kernel sources: numba's cache does not see a change in a function of another file."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled kernels are kept: NUMBA_CACHE_DIR, else the user's cache folder; never beside the sources.

    RuntimeError for a user without a home folder.
    """
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root = Path(given) if given else Path.home() / ".cache"
    return root / "refsample" / source_hash()


_folder: Path | None = None  # of this process, once it was made; hashing the sources for each kernel would take longer


@contextmanager
def cache_at(numba: Any) -> Iterator[bool]:
    """numba's cache folder set to ours while a dispatcher is made; False where no folder can be written."""
    global _folder
    before, writable = numba.config.CACHE_DIR, _folder is not None
    try:
        if _folder is None:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
            _folder = folder if writable else None
    except (OSError, RuntimeError):  # RuntimeError: a user without a home folder
        pass
    if writable:
        numba.config.CACHE_DIR = str(_folder)
    try:
        yield writable
    finally:
        numba.config.CACHE_DIR = before


@contextmanager
def without(package: str) -> Iterator[None]:
    """Inside, importing a package that is not imported yet says that it is not there."""
    idle = package not in sys.modules
    if idle:
        sys.modules[package] = None  # type: ignore[assignment]  # the import system's own way of saying so
    try:
        yield
    finally:
        if idle:
            del sys.modules[package]


def lean(numba: Any, dispatcher: Any, link: Callable[[], None]) -> Any:
    """The dispatcher, made to read machine code from disk without the modules that numba imports for compiling: they
    take longer than all else of a start. When there is nothing to read, `link` is called before it compiles."""
    memory = numba.core.runtime.rtsys  # allocation and reference counts, which machine code does need
    dispatcher._cache = _Cache(dispatcher._cache, memory.initialize, link)
    dispatcher._compilation_chain_init_hook = _nothing  # it looks for extensions; before compiling numba does so anyway
    return dispatcher


def keeps() -> bool:
    """Whether what is compiled is kept; settled when the first kernel is made."""
    return _folder is not None


def on_disk(dispatcher: Any) -> bool:
    """Whether machine code of a dispatcher, for arguments of whatever types, was made or lies on disk."""
    name, folder = dispatcher.py_func.__qualname__, dispatcher.stats.cache_path
    return bool(dispatcher.overloads) or (folder is not None and any(Path(folder).glob(f"*.{name}-*.nbi")))


def _nothing() -> None:
    pass


class _Cache:
    """A dispatcher's cache, of which numba asks for machine code before it compiles."""

    def __init__(self, cache: Any, prepare: Callable[[Any], None], link: Callable[[], None]) -> None:
        self._cache, self._prepare, self._link = cache, prepare, link
        if hasattr(cache, "_cache_file"):  # numba's NullCache, of what is not kept, has none
            _sealed(cache._cache_file)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """numba's compiled function, or None: then numba refreshes `target` and compiles."""
        target.refresh = lambda: self._prepare(target)
        try:
            found = self._cache.load_overload(signature, target)
        finally:
            del target.refresh
        if found is None:
            self._link()
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        """Keep what was compiled; where there is no room for it the next process compiles again."""
        with suppress(OSError):
            self._cache.save_overload(signature, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def _sealed(files: Any) -> None:
    """Make numba's files of one function end with a hash of what they hold. One that is damaged is as if it were not
    there: machine code with a wrong bit in it would run."""
    write, index, data = files._open_for_write, files._load_index, files._load_data

    @contextmanager
    def open_for_write(path: str) -> Iterator[io.BytesIO]:
        held = io.BytesIO()
        yield held
        with write(path) as file:
            file.write(held.getvalue() + hashlib.sha256(held.getvalue()).digest())

    def load_data(name: str) -> Any:
        if not _whole(files._data_path(name)):
            raise OSError("damaged")  # numba goes on as without it
        return data(name)

    files._open_for_write, files._load_data = open_for_write, load_data
    files._load_index = lambda: index() if _whole(files._index_path) else {}


def _whole(path: str) -> bool:
    """Whether a file ends with the hash of what stands before; bytes behind a pickle do not disturb its reader."""
    try:
        held = Path(path).read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(held[:-32]).digest() == held[-32:]
