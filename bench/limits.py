"""What the machine can do: DRAM read on a memory-mapped file, single precision matrix products. Knows no engine.

Each is probed in a process of its own (`bench.worker`), beside what is measured against it.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

SIDE = 2048
"""Of the square matrices: 17 GFLOP a product."""
FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx_vnni", "avx512_vnni", "amx_bf16")


@numba.njit(parallel=True, fastmath=True)
def _read(a: NDArray[np.float32], parts: int) -> float:
    """The sum of all; a slice of its own for each part, else it is not vectorised."""
    each, total = a.size // parts, 0.0
    for part in numba.prange(parts):
        b = a[part * each : (part + 1) * each]
        v = np.float32(0.0)
        for i in range(b.size):
            v += b[i]
        total += float(v)
    return total


class Dram:
    """A file of `size` bytes, mapped, whose pages are in memory."""

    def __init__(self, path: Path, size: int) -> None:
        if not path.exists() or path.stat().st_size != size:
            block = np.random.default_rng(0).standard_normal(1 << 22, np.float32)
            with path.open("wb") as file:
                for _ in range(size // block.nbytes):
                    block.tofile(file)
        self.held = np.memmap(path, np.float32, "r")
        for _ in range(2):
            self.probe(1)

    def probe(self, threads: int, passes: int = 3) -> float:
        """Bytes a second, of the fastest pass."""
        numba.set_num_threads(threads)
        took = []
        for _ in range(passes):
            start = time.perf_counter()
            _read(self.held, threads)
            took.append(time.perf_counter() - start)
        return self.held.nbytes / min(took)


class Products:
    """Two matrices of SIDE; NumPy's BLAS takes its number of threads from the environment when it starts."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.a, self.b = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
        self.out = self.a @ self.b

    def probe(self, times: int = 3) -> list[float]:
        """Floating point operations a second, of each product."""
        found = []
        for _ in range(times):
            start = time.perf_counter()
            np.matmul(self.a, self.b, out=self.out)
            found.append(2.0 * SIDE**3 / (time.perf_counter() - start))
        return found


def machine() -> dict[str, Any]:
    """Processor, what of its instruction set matters here, cores and memory."""
    said: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            said.setdefault(name.strip(), value.strip())
    except OSError:  # not a Linux
        pass
    held = set(said.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": said.get("model name") or platform.machine(),
        "family": "/".join(said.get(name, "?") for name in ("cpu family", "model")),
        "flags": [flag for flag in FLAGS if flag in held],
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }
