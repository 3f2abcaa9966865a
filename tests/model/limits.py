"""Mutated folders read one by one under limits of time and memory. It knows nothing of what is mutated."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from refsample.errors import ModelError
from tests.model.mutate import Mutation, remove

Attempt = Callable[[], list[str]]
"""Reads the folder; what is wrong about a load, nothing if it is right. Errors come out as they are."""
SECONDS, BYTES = 20, 2**30
"""What reading one folder may take at most: far more than it does, far less than a hang or a size believed."""
LONGEST = 800
OTHERS = ("tensor ", "is not JSON", "not a tokenizer", "rope", "layer_types", "short_factor", "rotary_pct")
"""What an error may name in place of a key: the file is none, or a tensor or another key does not go with it."""


class Hang(BaseException):
    """Reading took too long."""


@contextmanager
def limits() -> Iterator[None]:
    """Time and memory, those that Python's own exceptions can tell of."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    old = resource.getrlimit(resource.RLIMIT_AS)
    try:
        if sys.platform == "linux":
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, old[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(folder: Path, mutations: Iterable[Mutation], attempt: Attempt) -> None:
    """Each mutation made, read and taken back; AssertionError with all that went wrong."""
    made, wrong = list(mutations), []
    for mutation in made:
        path = folder / mutation.file
        kept = path.read_bytes() if path.exists() else None
        try:
            remove(path)
            mutation.change(path)
            wrong += [f"{mutation.file}: {mutation.what}: {fault}" for fault in _outcome(folder, mutation, attempt)]
        finally:
            remove(path)
            if kept is not None:
                path.write_bytes(kept)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(made)}:", *wrong])


def _outcome(folder: Path, mutation: Mutation, attempt: Attempt) -> list[str]:
    try:
        with limits():
            faults = attempt()
    except ModelError as error:
        return _about(str(error), folder, mutation)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # MemoryError, Hang, the panic of a library in Rust: a crash of any kind
        return [f"{type(error).__name__}: {str(error)[:300]}"]
    return ["loaded"] if mutation.must_fail else faults


def _about(text: str, folder: Path, mutation: Mutation) -> list[str]:
    """What is wrong with the text of an error: one line that can be written, with the file and the key."""
    faults = []
    if not text.isprintable() or len(text) > LONGEST:
        faults.append(f"not one short line: {text[:1000]!r}")
    if str(folder) not in text:
        faults.append(f"names no file: {text}")
    if mutation.names and not any(name in text for name in (*mutation.names, *OTHERS)):
        faults.append(f"names none of {mutation.names}: {text}")
    return faults
