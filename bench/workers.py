"""Workers started, asked and stopped: the caller's side of `bench.worker`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
QUIET = 0.02
"""Seconds before a probe: threads of the engine before it may wait turning until then."""


class MissingEngine(Exception):
    """What is to be measured is not installed there."""


def environment(**more: str) -> dict[str, str]:
    """Of a process that sees this checkout, whatever else is installed, and no network."""
    paths = f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": paths}
    return {**os.environ, **offline, **more}


class Worker:
    """A process of `bench.worker`. MissingEngine where its engine is not installed."""

    def __init__(self, *arguments: str, python: str = sys.executable, **more: str) -> None:
        self.name = " ".join(arguments[:1])
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the worker
        self.process = subprocess.Popen(
            [python, "-m", "bench.worker", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True, encoding="utf-8", cwd=ROOT, env=environment(**more),
        )  # fmt: skip
        try:
            hello = self._answer()
            if "missing" in hello:
                raise MissingEngine(f"{self.name}: {hello['missing']}")
        except BaseException:
            self.close()
            raise
        self.versions: dict[str, str] = hello["versions"]

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """The answer to a command. RuntimeError with the end of its log where the worker died of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError(f"the worker of {self.name} ended:\n{self.log.read()[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """The end of its input is the sign to stop."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Machine:
    """Probes of what the machine can do, for every number of threads; `dram_bytes` 0: matrix products alone."""

    def __init__(self, work: Path, counts: tuple[int, ...], dram_bytes: int) -> None:
        self.dram = Worker("dram", str(work / "dram.bin"), str(dram_bytes)) if dram_bytes else None
        self.products = {
            count: Worker("sgemm", OPENBLAS_NUM_THREADS=str(count), OMP_NUM_THREADS=str(count)) for count in counts
        }

    def read(self, threads: int) -> float:
        """Bytes a second from DRAM."""
        assert self.dram is not None
        time.sleep(QUIET)
        rate: float = self.dram.ask("probe", count=threads)["rate"]
        return rate

    def peak(self, threads: int) -> float:
        """Floating point operations a second, the median of some matrix products."""
        time.sleep(QUIET)
        rates: list[float] = self.products[threads].ask("probe")["rates"]
        return statistics.median(rates)

    def close(self) -> None:
        """Stop them."""
        for one in (self.dram, *self.products.values()):
            if one is not None:
                one.close()


@contextmanager
def room(given: Path | None) -> Iterator[Path]:
    """The folder that was given, made where it is not there; else one that vanishes."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="refsample-bench-") as made:
        yield Path(made)


def show(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
