"""Decoding, prefill, memory and start, side by side with llama.cpp and transformers: equal first, then timed.

Random weights in bfloat16 files, the same for all. Engines are processes of their own and take turns. Right before and
after each sample its limit is probed: reading a memory-mapped file for decoding, single precision matrix products for
batches and prefill, with the same number of threads. Compared are samples of one round, in decoding those beside limits
within 15 %.

    pip install xllamacpp transformers 'torch==2.13.0'      (peers that are not there are left out)
    python -m bench.runtime --peers-python PYTHON --work DIR --out bench/results/runtime.json

Exit code 1, and nothing timed, where logits differ. `python -m bench.table --write` puts the tables into README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench import equal, folders, samples, shapes, startup
from bench.limits import machine
from bench.workers import Machine, MissingEngine, Worker, room, show

OURS = "refsample bf16"
NAMES = {"refsample": "refsample", "llamacpp": "llama.cpp", "hf": "transformers"}
CACHES = {"refsample bf16": 4, "llama.cpp bf16": 2, "llama.cpp f32": 4, "transformers bf16": 2, "transformers f32": 4}
"""Bytes of an element of the keys and values."""
PROMPT, TOKENS, SECONDS, ROOM = 32, 64, 2.0, 256
BATCH, STEPS = 32, 12
PARTS = ("decode", "batch", "prefill", "rss", "start")
UNFUSED = {("llama.cpp f32", "decode"), ("llama.cpp f32", "batch")}
"""Where llama.cpp is faster without its fused attention; elsewhere it has it, as by default."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    decode: float = 14.0
    """Seconds that an engine has for one figure."""
    prefill: float = 8.0
    slow: float = 6.0
    """The same, for transformers."""
    long: tuple[tuple[str, int], ...] = (("A", 2), ("B", 2), ("C", 2), ("D", 2), ("A", 1), ("B", 1))
    """Shapes and threads of which 2048 tokens are prefilled."""
    patience: float = 1.0
    """Times the seconds above."""

    def allowed(self, decodes: bool) -> Callable[[str], float]:
        """Engine -> its seconds."""
        most, slow = (self.patience * one for one in (self.decode if decodes else self.prefill, self.slow))
        return lambda engine: min(most, slow) if engine.startswith("transformers") else most


QUICK = Plan(2, 4.0, 4.0, 3.0, (("A", 2), ("B", 2)))


@dataclass(frozen=True, slots=True)
class Bench:
    """Engines of one shape, and what they are measured with."""

    name: str
    shape: shapes.Shape
    engines: Mapping[str, Worker]
    limits: Machine
    plan: Plan
    work: Path
    anew: Mapping[str, Callable[[], Worker]]
    """Each engine once more, in a process that has done nothing yet."""

    def ids(self, *size: int, seed: int) -> Any:
        """Random ids."""
        return np.random.default_rng(seed).integers(3, self.shape.vocabulary, size).tolist()

    def bits(self, engine: str) -> int:
        """Bytes of a weight in its file."""
        return 4 if engine.endswith("f32") else 2

    def threads(self, count: int) -> None:
        """For all engines."""
        for engine in self.engines.values():
            engine.ask("threads", count=count)


def variants(name: str) -> list[tuple[str, str]]:
    """Engines of a shape and their files; D in float32 would need 4.4 GB twice over."""
    kinds = ("bf16",) if name == "D" else ("bf16", "f32")
    return [("refsample", "bf16"), *(("llamacpp", k) for k in kinds), *(("hf", k) for k in kinds)]


@contextmanager
def opened(name: str, asked: argparse.Namespace, limits: Machine, work: Path) -> Iterator[Bench]:
    """The engines that are installed, with the weights of a shape."""
    shape = shapes.SHAPES[name]
    show(f"{name}: {shape.like}, weights")
    folder = folders.made(shape, work, asked.seed)
    with ExitStack() as stack:
        engines: dict[str, Worker] = {}
        anew: dict[str, Callable[[], Worker]] = {}
        for engine, kind in variants(name):
            label = f"{NAMES[engine]} {kind}"
            python = sys.executable if engine == "refsample" else asked.peers_python
            if engine == "llamacpp":
                folders.as_gguf(folder, shape, kind)
            anew[label] = partial(Worker, engine, str(folder), kind, python=python)
            try:
                engines[label] = stack.enter_context(anew[label]())
            except MissingEngine as missing:
                show(f"{name}: without {label}, which is not installed ({missing})")
        plan = QUICK if asked.quick else Plan()
        yield Bench(name, shape, engines, limits, replace(plan, patience=asked.patience), work, anew)


def checks(bench: Bench) -> list[dict[str, Any]]:
    """Every engine's logits beside ours: decoding, a batch, a prefill; each as it is timed."""
    cases: list[tuple[str, Any, int, Sequence[str]]] = [
        ("decode", bench.ids(1, PROMPT, seed=1), 4, tuple(bench.engines)),
        ("prefill", bench.ids(1, 512, seed=2), 0, prefilling(bench)),
    ]
    if bench.name == "B":
        cases.insert(1, ("batch", bench.ids(BATCH, PROMPT, seed=3), 1, batching(bench)))
    found, out = [], bench.work / "logits.npy"
    for part, prompts, steps, engines in cases:
        ours, forced = None, None
        for engine in engines:
            fused = (engine, part) not in UNFUSED
            more = {"forced": forced, "flash": fused, "room": 768, "out": str(out)}
            answer = bench.engines[engine].ask("check", prompts=prompts, steps=steps, **more)
            logits = np.load(out)
            if ours is None or forced is None:
                ours, forced = logits, answer["tokens"]
            kind = "f32 fused" if fused and engine == "llama.cpp f32" else engine.split()[1]
            row = equal.compared(ours, logits, kind)
            found.append({"engine": engine, "part": part, **row})
            said = "equal" if row["equal"] else "DIFFERS"
            show(f"{bench.name}: {part}, {engine}: {said}, rms {row['rms']:.1e}, greatest {row['greatest']:.1e} std")
    return found


def prefilling(bench: Bench) -> list[str]:
    """Engines whose prefill is measured."""
    return [name for name in bench.engines if name != "transformers bf16"]


batching = prefilling


def decode(bench: Bench, threads: int) -> list[dict[str, Any]]:
    """Batch 1."""
    bench.threads(threads)
    prompts = bench.ids(1, PROMPT, seed=1)
    turns: dict[str, samples.Turn] = {}
    for name, engine in bench.engines.items():
        engine.ask("open", prompts=prompts, room=ROOM, flash=(name, "decode") not in UNFUSED)

        def turn(name: str = name, engine: Worker = engine) -> tuple[float, float, float]:
            got = engine.ask("decode", tokens=TOKENS, seconds=SECONDS)
            use = shapes.decode_bytes(bench.shape, got["place"], bench.bits(name), CACHES[name])
            return got["tokens"] / got["seconds"], use, got["seconds"]

        turns[name] = turn
    found = samples.taken(turns, lambda: bench.limits.read(threads), bench.plan.rounds, bench.plan.allowed(True))
    return told(bench, "decode", samples.rows(found, OURS, flips=True, threads=threads))


def memory(bench: Bench) -> dict[str, dict[str, int]]:
    """What fresh processes have resident that take a prompt and decode: `memory` of `bench.worker`."""
    found = {}
    for name in bench.engines:
        with bench.anew[name]() as engine:
            engine.ask("threads", count=2)
            engine.ask("open", prompts=bench.ids(1, PROMPT, seed=1), room=ROOM, flash=(name, "decode") not in UNFUSED)
            engine.ask("decode", tokens=TOKENS, seconds=SECONDS)
            found[name] = engine.ask("memory")
    return found


def batch(bench: Bench, threads: int) -> list[dict[str, Any]]:
    """BATCH sequences, a token further at a time."""
    bench.threads(threads)
    prompts = bench.ids(BATCH, PROMPT, seed=3)
    turns: dict[str, samples.Turn] = {}
    for name in batching(bench):
        engine = bench.engines[name]
        engine.ask("open", prompts=prompts, room=ROOM, flash=(name, "batch") not in UNFUSED)

        def turn(engine: Worker = engine) -> tuple[float, float, float]:
            got = engine.ask("decode", tokens=STEPS, seconds=SECONDS)
            return BATCH * got["tokens"] / got["seconds"], shapes.step_flops(bench.shape), got["seconds"]

        turns[name] = turn
    found = samples.taken(turns, lambda: bench.limits.peak(threads), bench.plan.rounds, bench.plan.allowed(False))
    return told(bench, f"batch {BATCH}", samples.rows(found, OURS, threads=threads))


def prefill(bench: Bench, tokens: int, threads: int) -> list[dict[str, Any]]:
    """A prompt at once, logits of its last row."""
    bench.threads(threads)
    ids, use = bench.ids(tokens, seed=tokens), shapes.prefill_flops(bench.shape, tokens) / tokens
    turns: dict[str, samples.Turn] = {}
    for name in prefilling(bench):
        engine = bench.engines[name]
        engine.ask("open", prompts=[ids[:PROMPT]], room=tokens, flash=(name, "prefill") not in UNFUSED)

        def turn(engine: Worker = engine) -> tuple[float, float, float]:
            got = engine.ask("prefill", ids=ids)
            return got["tokens"] / got["seconds"], use, got["seconds"]

        turns[name] = turn
    found = samples.taken(turns, lambda: bench.limits.peak(threads), bench.plan.rounds, bench.plan.allowed(False))
    return told(bench, f"prefill {tokens}", samples.rows(found, OURS, threads=threads, tokens=tokens))


def told(bench: Bench, what: str, made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, shown."""
    for row in made:
        beside = f", refsample is {row['ratio']:.2f} times as fast" if row.get("ratio") else ""
        show(f"{bench.name}: {what}, {row['threads']} threads, {row['engine']}: {row['rate']:.1f} tok/s, "
             f"{row['share']:.0%} of {row['limit'] / 1e9:.1f} G/s{beside} ({len(row['samples'])} samples)")  # fmt: skip
    return made


def measured(bench: Bench, only: Sequence[str]) -> dict[str, Any]:
    """Everything about one shape."""
    report: dict[str, Any] = {"shape": asdict(bench.shape), "checks": checks(bench)}
    if not all(row["equal"] for row in report["checks"]):
        return report
    if "decode" in only:
        report["decode"] = decode(bench, 2) + decode(bench, 1)
    if "rss" in only:
        report["memory"] = memory(bench)
    if "batch" in only and bench.name == "B":
        report["batch"] = batch(bench, 2) + batch(bench, 1)
    if "prefill" in only:
        report["prefill"] = prefill(bench, 512, 2) + prefill(bench, 512, 1)
        for threads in (2, 1):
            if (bench.name, threads) in bench.plan.long:
                report["prefill"] += prefill(bench, 2048, threads)
    return report


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(shapes.SHAPES), help="of A, B, C, D")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--work", type=Path, help="folder of the weights, kept; else one that vanishes")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--dram-bytes", type=int, default=2 << 30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=1.0, help="times as many seconds for each figure")
    parser.add_argument("--quick", action="store_true", help="few samples")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    asked.shapes, asked.only = asked.shapes.split(","), asked.only.split(",")
    for given, known in ((asked.shapes, shapes.SHAPES), (asked.only, PARTS)):
        if not set(given) <= set(known):
            parser.error(f"{', '.join(given)}: must be of {', '.join(known)}")
    return asked


def run(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The report; it ends at the first shape whose logits differ."""
    begun = time.perf_counter()
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": {}, "quick": asked.quick, "shapes": {},
    }  # fmt: skip
    timed = set(asked.only) - {"start"}
    if timed:
        limits = Machine(work, (1, 2), asked.dram_bytes)
        for name in asked.shapes:
            with opened(name, asked, limits, work) as bench:
                report["shapes"][name] = measured(bench, asked.only)
                for engine in bench.engines.values():
                    report["versions"] |= engine.versions
            if not all(row["equal"] for row in report["shapes"][name]["checks"]):
                break
        limits.close()
    if "start" in asked.only:
        report["start"] = startup.measured([n for n in asked.shapes if n in "AB"], asked, work)
    report["seconds"] = round(time.perf_counter() - begun)
    return report


def main() -> None:
    """Run it; exit code 1 where results differ."""
    asked = arguments()
    with room(asked.work) as work:
        report = run(asked, work)
    if asked.out:  # before anything else can fail
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    table = import_module("bench.table")
    print(table.runtime(report))
    wrong = [
        f"{name}: {row['part']} of {row['engine']} differs: {row}"
        for name, one in report["shapes"].items() for row in one["checks"] if not row["equal"]
    ]  # fmt: skip
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
