"""A model larger than memory scored from disk: in a child process held to so much memory, then killed and resumed.

The checkpoint is made on the spot (Llama 2 7B's shape, random bfloat16, in shards). 64 transcripts of 128 tokens are
scored once without a stop; then again, killed with SIGKILL after half of the layers, and resumed: the numbers have to
be the same, bit for bit. Before each child the files leave the page cache. Beside it, in the same run: sgemm of NumPy's
BLAS, whose rate times what has to be multiplied is the matrix bound, and a cold read of the files. The memory limit is
a cgroup's (v1 or v2, swap off), which counts page cache too; without the right to make one it is RLIMIT_DATA, which
holds anonymous memory alone, and the table says so.

    PYTHONPATH=.:kernels python -m bench.streaming --folder FOLDER --out bench/results/streaming.json
    PYTHONPATH=.:kernels python -m bench.streaming --folder FOLDER --layers 4 --transcripts 8       (a try)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np

from bench.random_folder import Shape, write_folder
from refsample import __version__
from refsample.render import columns

PIECE = 8 << 20
COLD_BYTES = 4 << 30
"""So much of the files is read to measure the disk."""


def child(folder: Path, state: Path | None, count: int, tokens: int, threads: int) -> None:
    """Score, telling how far it is, a JSON object a line."""
    import refsample
    from refsample.generation.scoring import Transcript, score_many
    from refsample.generation.streaming import Passed
    from refsample_kernels.jit import set_threads

    set_threads(threads)
    rng = np.random.default_rng(0)
    started = time.monotonic()
    model = refsample.load(folder, stream_layers=True)
    vocab = model.config.vocab_size
    items = [Transcript(tuple(rng.integers(0, vocab, tokens).tolist()), 1) for _ in range(count)]

    def watch(passed: Passed) -> None:
        say(layer=passed.layer, seconds=time.monotonic() - started, anonymous=anonymous())

    found = list(score_many(model, items, resume=state, watch=watch))
    numbers = [[(t.raw_logprob.hex(), t.rank, t.entropy.hex()) for t in one.tokens] for one in found]
    total = float(np.mean([one.raw_total / len(one.tokens) for one in found]))
    say(seconds=time.monotonic() - started, numbers=numbers, mean=total, anonymous=anonymous())


def say(**told: Any) -> None:
    """One line to whoever started this process."""
    print(json.dumps(told), flush=True)


def anonymous() -> int:
    """Bytes of memory of this process that no file stands behind."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


@dataclass(slots=True)
class Run:
    """What one child said."""

    seconds: float = 0.0
    layers: list[tuple[int, float]] = field(default_factory=list)
    """Each layer's number and when it began, in seconds from the start."""
    anonymous: int = 0
    peak: int = 0
    """Bytes as the limit counts them; 0 where it does not count."""
    numbers: Any = None
    mean: float = 0.0
    code: int = 0


VERSIONS = {
    "v2": ("", "memory.max", "memory.swap.max", "memory.peak"),
    "v1": ("memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"),
}
"""Of cgroups: the folder, and the files for limit, swap and peak."""


@contextmanager
def limited(limit: int) -> Iterator[tuple[str, Callable[[], object], Callable[[], int]]]:
    """(which limit, what a child does to be under it, peak so far)."""
    version, place = next(((v, made) for v in VERSIONS if (made := cgroup(v)) is not None), ("", Path()))
    if not version:
        yield "RLIMIT_DATA, anonymous memory alone", lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit,) * 2), int
        return
    _, most, swap, peak = VERSIONS[version]
    try:
        (place / most).write_text(str(limit), encoding="ascii")
        if (place / swap).exists():
            (place / swap).write_text("0" if version == "v2" else str(limit), encoding="ascii")
        yield (
            f"cgroup {version}, page cache counted",
            lambda: (place / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii"),
            lambda: int((place / peak).read_text(encoding="ascii")),
        )
    finally:
        place.rmdir()


def cgroup(version: str) -> Path | None:
    """A new group of this version that can limit memory; None where there is none to be had."""
    folder, most, *_ = VERSIONS[version]
    place = Path("/sys/fs/cgroup") / folder / f"refsample-bench-{os.getpid()}"
    try:
        place.mkdir()
    except OSError:
        return None
    if (place / most).exists():
        return place
    place.rmdir()
    return None


def run_child(asked: argparse.Namespace, state: Path | None, enter: Callable[[], object], kill_after: int = -1) -> Run:
    """One child to its end, or killed when this layer begins."""
    drop(asked.folder)
    command = [sys.executable, "-m", "bench.streaming", "--child", "--folder", str(asked.folder), "--tokens",
               str(asked.tokens), "--transcripts", str(asked.transcripts), "--threads", str(asked.threads)]  # fmt: skip
    if state is not None:
        command += ["--state", str(state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=enter)
    assert process.stdout is not None
    run, before = Run(), -1
    for line in process.stdout:
        told = json.loads(line)
        run.seconds, run.anonymous = told["seconds"], max(run.anonymous, told["anonymous"])
        if told.get("layer", before) != before:
            before = told["layer"]
            run.layers.append((before, told["seconds"]))
            print(f"  layer {before} at {told['seconds']:.1f} s", file=sys.stderr, flush=True)
            if before == kill_after:
                process.send_signal(signal.SIGKILL)
        run.numbers, run.mean = told.get("numbers"), told.get("mean", 0.0)
    run.code = process.wait()
    return run


def drop(folder: Path) -> None:
    """The files leave the page cache."""
    for path in folder.glob("*.safetensors"):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def disk_speed(folder: Path) -> float:
    """Bytes a second of a cold read, one file after the other."""
    drop(folder)
    scratch, done, started = memoryview(bytearray(PIECE)), 0, time.monotonic()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while done < COLD_BYTES and (got := file.readinto(scratch)):
                done += got
    seconds = time.monotonic() - started
    drop(folder)
    return done / seconds


def sgemm_rate(threads: int) -> float:
    """FLOP/s of NumPy's BLAS, in a process of its own, since it looks for its threads when it is loaded."""
    command = [sys.executable, "-m", "bench.streaming", "--folder", ".", "--sgemm"]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


def sgemm() -> float:
    """FLOP/s at the shape of a projection, the median of ten."""
    a, b = np.ones((2048, 4096), np.float32), np.ones((4096, 4096), np.float32)
    out, rates = np.empty((2048, 4096), np.float32), []
    for _ in range(11):
        started = time.monotonic()
        np.matmul(a, b, out=out)
        rates.append(2 * 2048 * 4096 * 4096 / (time.monotonic() - started))
    return statistics.median(rates[1:])


def warm(threads: int) -> None:
    """Compile the kernels, outside any limit: they are kept on disk."""
    small = argparse.Namespace(folder=None, tokens=40, transcripts=2, threads=threads)
    with tempfile.TemporaryDirectory() as place:
        small.folder = write_folder(Path(place), Shape(2, 256, 4, 4, 512, 4096))
        if run_child(small, None, lambda: None).code:
            raise SystemExit("the child that compiles failed")


def measured(asked: argparse.Namespace, shape: Shape) -> dict[str, Any]:
    """Everything, as JSON has it. AssertionError where numbers differ."""
    warm(asked.threads)
    rows = asked.transcripts * (asked.tokens - 1)  # nothing follows the last token
    size = sum(path.stat().st_size for path in asked.folder.glob("*.safetensors"))
    rate, disk = sgemm_rate(asked.threads), disk_speed(asked.folder)
    limit = int(asked.memory * 2**30)
    with limited(limit) as (which, enter, peak):
        whole = run_child(asked, None, enter)
        whole.peak = peak()
        if whole.code:
            raise SystemExit(f"the child ended with {whole.code}")
        with tempfile.TemporaryDirectory(dir=asked.folder.parent) as place:
            state = Path(place) / "state"
            killed = run_child(asked, state, enter, shape.num_hidden_layers // 2)
            kept = sum(path.stat().st_size for path in state.iterdir())
            resumed = run_child(asked, state, enter)
            assert killed.code == -signal.SIGKILL and not state.exists()
    assert resumed.code == 0 and resumed.numbers == whole.numbers, "resumed, the numbers are others"
    rate = max(rate, sgemm_rate(asked.threads))
    matrix = 2 * rows * (shape.num_hidden_layers * shape.layer + shape.head) / rate
    return {
        "versions": {"refsample": __version__, "numpy": np.__version__, "numba": numba.__version__,
                     "python": platform.python_version(), "linux": platform.release()},
        "machine": {"processor": processor(), "threads": asked.threads, "memory": memory(),
                    "sgemm GFLOP/s": rate / 1e9, "disk GB/s": disk / 1e9},
        "model": {"layers": shape.num_hidden_layers, "width": shape.hidden_size, "bytes": size,
                  "matrix parameters": shape.num_hidden_layers * shape.layer + shape.head},
        "transcripts": asked.transcripts, "tokens each": asked.tokens, "mean logprob": whole.mean,
        "limit": {"bytes": limit, "by": which, "peak": whole.peak, "peak anonymous": whole.anonymous},
        "seconds": whole.seconds, "layers began at": whole.layers,
        "tokens/s": asked.transcripts * asked.tokens / whole.seconds,
        "matrix bound seconds": matrix, "share of the matrix bound": matrix / whole.seconds,
        "disk bound seconds": size / disk, "share of the disk bound": size / disk / whole.seconds,
        "killed": {"after layer": killed.layers[-1][0], "seconds": killed.seconds, "state bytes": kept,
                   "resumed at layer": resumed.layers[0][0], "resumed seconds": resumed.seconds, "same bits": True},
    }  # fmt: skip


def processor() -> str:
    """Its name, where the system gives it."""
    with suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="ascii") as file:
        return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    return platform.processor() or platform.machine()


def memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def show(report: dict[str, Any]) -> None:
    """A small table."""
    limit, killed, model = report["limit"], report["killed"], report["model"]
    rows = (
        ("weights", f"{model['bytes'] / 1e9:.2f} GB in {limit['bytes'] / 2**30:.1f} GiB of memory"),
        ("transcripts", f"{report['transcripts']} of {report['tokens each']} tokens"),
        ("time", f"{report['seconds']:.1f} s, {report['tokens/s']:.1f} tokens/s"),
        ("share of the matrix bound", f"{report['share of the matrix bound']:.1%} "
                                      f"(sgemm {report['machine']['sgemm GFLOP/s']:.0f} GFLOP/s)"),
        ("share of the disk bound", f"{report['share of the disk bound']:.1%} "
                                    f"(cold read {report['machine']['disk GB/s']:.2f} GB/s)"),
        ("peak memory", f"{limit['peak'] / 2**20:.0f} MiB ({limit['by']}), "
                        f"{limit['peak anonymous'] / 2**20:.0f} MiB anonymous"),
        ("killed, resumed", f"after layer {killed['after layer']}, at layer {killed['resumed at layer']} "
                            f"({killed['resumed seconds']:.1f} s more): the same bits"),
    )  # fmt: skip
    print("\n".join(columns(list(rows))))


def main() -> None:
    """Make the model, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the checkpoint is made, or lies already")
    for name, number in (("layers", 32), ("width", 4096), ("heads", 32), ("kv-heads", 32), ("feed-forward", 11008),
                         ("vocabulary", 32_000), ("transcripts", 64), ("tokens", 128), ("threads", 2)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--memory", type=float, default=3.0, help="GiB that the child may use")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--remove", action="store_true", help="take the checkpoint away in the end")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sgemm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.folder, asked.state, asked.transcripts, asked.tokens, asked.threads)
        return
    if asked.sgemm:
        print(sgemm())
        return
    shape = Shape(asked.layers, asked.width, asked.heads, asked.kv_heads, asked.feed_forward, asked.vocabulary)
    write_folder(asked.folder, shape)
    report = measured(asked, shape)
    show(report)
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if asked.remove:
        shutil.rmtree(asked.folder)


if __name__ == "__main__":
    main()
