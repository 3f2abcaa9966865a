"""From nothing to the first token: a fresh process each, with kernels compiled before, and for the first time ever.

    python -m bench.startup --shapes A,B --peers-python PYTHON --work DIR

refsample opens the folder with its tokenizer and generates greedily from a text, as a user does; the peers open theirs
without a tokenizer and take as many ids. Seconds of the whole process, medians; `import refsample` inside of one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import folders, shapes
from bench.workers import environment, room, show

TEXT = "Once upon a time"
OURS = (
    "import sys, refsample\n"
    f"print(refsample.load(sys.argv[1]).generate({TEXT!r}, max_tokens=1, temperature=0).token_ids)\n"
)
THEIRS = (
    "import sys\nfrom pathlib import Path\nfrom bench.peers.{module} import Engine\n"
    "engine = Engine(Path(sys.argv[1]), {kind!r})\nengine.threads(2)\nengine.start(1, 256, True)\n"
    f"print(engine.feed([list(range(5, {5 + len(TEXT)}))]).argmax())\n"
)
PEERS = {
    "llama.cpp bf16": ("run_llamacpp", "bf16"), "llama.cpp f32": ("run_llamacpp", "f32"),
    "transformers f32": ("run_hf", "f32"),
}  # fmt: skip
IMPORT = "import time\nstart = time.perf_counter()\nimport refsample\nprint(time.perf_counter() - start)\n"
NOTHING = "print(0)\n"


def process(python: str, code: str, *given: str, **more: str) -> tuple[float, str]:
    """Seconds and output of a fresh process; RuntimeError with its last words where it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [python, "-c", code, *given], capture_output=True, text=True, env=environment(**more), check=False
    )
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return took, done.stdout


def several(python: str, code: str, times: int, *given: str, **more: str) -> list[float]:
    """Seconds of that many processes."""
    return [round(process(python, code, *given, **more)[0], 4) for _ in range(times)]


def ours(folder: Path, work: Path, quick: bool) -> dict[str, list[float]]:
    """Seconds of the first process ever, and of those that find all kernels compiled."""
    found: dict[str, list[float]] = {"first ever": [], "compiled": []}
    for _ in range(1 if quick else 2):
        with tempfile.TemporaryDirectory(dir=work) as kernels:
            found["first ever"] += several(sys.executable, OURS, 1, str(folder), NUMBA_CACHE_DIR=kernels)
            times = 2 if quick else 4
            found["compiled"] += several(sys.executable, OURS, times, str(folder), NUMBA_CACHE_DIR=kernels)
    return found


def peers(folder: Path, python: str, times: int) -> dict[str, list[float]]:
    """Seconds of each peer that is installed; the first process of each, which warms files up, is not counted."""
    found = {}
    for name, (module, kind) in PEERS.items():
        code = THEIRS.format(module=module, kind=kind)
        try:
            process(python, code, str(folder))
        except RuntimeError as error:
            if "ModuleNotFoundError" not in str(error):
                raise
            show(f"start: without {name}, which is not installed")
            continue
        found[name] = several(python, code, 2 if module == "run_hf" else times, str(folder))
    return found


def measured(names: Sequence[str], asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Seconds, every one of them, of imports and of the starts of those shapes."""
    times = 3 if asked.quick else 7
    report: dict[str, Any] = {
        "import refsample": [float(process(sys.executable, IMPORT)[1]) for _ in range(times)],
        "python alone": several(sys.executable, NOTHING, times),
        "shapes": {},
    }
    for name in names:
        shape = shapes.SHAPES[name]
        folder = folders.made(shape, work, asked.seed)
        for kind in ("bf16", "f32"):
            folders.as_gguf(folder, shape, kind)
        found = {f"refsample, {what}": took for what, took in ours(folder, work, asked.quick).items()}
        report["shapes"][name] = found | peers(folder, asked.peers_python, 2 if asked.quick else 4)
        for what, took in report["shapes"][name].items():
            show(f"{name}: start to first token, {what}: {statistics.median(took):.2f} s")
    show(f"import refsample: {statistics.median(report['import refsample']):.3f} s")
    return report


def main() -> None:
    """Measure, and print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="A,B")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    with room(asked.work) as work:
        print(json.dumps(measured(asked.shapes.split(","), asked, work), indent=1))


if __name__ == "__main__":
    main()
