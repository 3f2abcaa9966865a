"""What `score --stream-layers` tells a person: how far it is, how long it will take, when it would help."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from refsample.cli.terminal import Progress, note

if TYPE_CHECKING:
    from refsample.generation.model import Model
    from refsample.generation.streaming import Passed

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of a container, in either version of cgroups."""


class Estimate:
    """Seconds that are left, by the speed since the first layer's end: the first one waits for disk and compiler."""

    def __init__(self) -> None:
        self._since: tuple[float, float] | None = None
        self._places = 0
        self._last: tuple[int, int] | None = None

    def __call__(self, passed: Passed, now: float) -> float | None:
        """None until a second layer has been measured."""
        place = (passed.wave, passed.layer)
        if place != self._last:
            self._last, self._places = place, self._places + 1
            if self._places == 2:  # the first layer of this run is done
                self._since = now, passed.work
        if self._since is None or self._places < 3 or now <= self._since[0]:
            return None
        speed = (passed.work - self._since[1]) / (now - self._since[0])
        return (passed.to_do - passed.work) / speed if speed > 0 else None


@contextmanager
def watching(quiet: bool, resume: str | None) -> Iterator[Callable[[Passed], None]]:
    """A callback that keeps a line on stderr, where that is a terminal; Ctrl-C says where the state is."""
    started, estimate, progress = time.monotonic(), Estimate(), Progress()
    shown = sys.stderr.isatty() and not quiet
    seen = False

    def watch(passed: Passed) -> None:
        nonlocal seen
        if not seen and (passed.layer or passed.wave):
            note(f"goes on after layer {passed.layer} of {passed.layers}")
        seen = True
        now = time.monotonic()
        left = estimate(passed, now)
        if shown:
            progress(*described(passed, now - started, left))

    try:
        yield watch
    except KeyboardInterrupt:
        progress.clear()
        if resume is not None and seen:
            note(f"what is done is kept in {resume}: the same command goes on from there")
        raise
    finally:
        progress.clear()


def described(passed: Passed, gone: float, left: float | None) -> tuple[str, str]:
    """The phase, and what is said of it."""
    whole = passed.layer == passed.layers
    phase = "logits" if whole else f"layer {passed.layer + 1} of {passed.layers}"
    if passed.waves > 1:
        phase = f"pass {passed.wave + 1} of {passed.waves}, {phase}"
    told = "measuring" if left is None else f"about {clock(left)} left"
    read = f"{passed.read / 1e9:.1f} of {passed.to_read / 1e9:.1f} GB read"
    return phase, f"{read}, {passed.work / max(passed.to_do, 1):.0%} done, {clock(gone)} gone, {told}"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def hint(model: Model) -> None:
    """A line for whoever is about to read a model again and again that memory cannot hold."""
    weights = sum(path.stat().st_size for path in model.folder.glob("*.safetensors"))
    free = available()
    if free is not None and weights > free:
        much = f"the weights take {weights / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free"
        note(f"{much}: --stream-layers reads each layer once for all transcripts")


def available() -> int | None:
    """Bytes of memory that this process can hope for; None where the system does not say."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        found.append(int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) * 1024)
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(path.read_text(encoding="ascii")))
    return min(found, default=None)
