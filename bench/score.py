"""Scoring many texts, side by side with transformers: equal first, then timed beside matrix products.

    python -m bench.score --peers-python PYTHON --work DIR --out bench/results/score.json

Random weights of shape B, random texts that have nothing in common. refsample goes through `score_many`, which gives
rank and entropy of each token too; transformers computes in float32 its log-softmax alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import folders, samples, shapes, table
from bench.limits import machine
from bench.workers import Machine, MissingEngine, Worker, room, show

ENGINES = {"refsample bf16": ("refsample", "bf16"), "transformers f32": ("hf", "f32")}
OURS = "refsample bf16"
BOUND = 1e-4
"""Nats that two engines' logprobs may differ by."""


def differ(engines: dict[str, Worker], texts: list[list[int]], out: Path) -> dict[str, float]:
    """Nats by which each engine's logprobs differ from ours at most."""
    found, ours = {}, None
    for name, engine in engines.items():
        engine.ask("score", texts=texts, out=str(out))
        logprobs = np.load(out)
        ours = logprobs if ours is None else ours
        found[name] = float(np.abs(logprobs - ours).max())
    return found


def measured(engines: dict[str, Worker], limits: Machine, asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Differences, and where they are none rows of figures."""
    shape, out = shapes.SHAPES["B"], work / "logprobs.npy"
    texts = np.random.default_rng(asked.seed).integers(3, shape.vocabulary, (asked.texts, asked.tokens)).tolist()
    apart = differ(engines, texts[:4], out)
    report: dict[str, Any] = {"differences": apart, "score": []}
    if max(apart.values()) > BOUND:
        return report
    use = shapes.prefill_flops(shape, asked.tokens, asked.tokens) / asked.tokens
    for threads in (2, 1):
        turns: dict[str, samples.Turn] = {}
        for name, engine in engines.items():
            engine.ask("threads", count=threads)

            def turn(engine: Worker = engine) -> tuple[float, float, float]:
                got = engine.ask("score", texts=texts, out=str(out))
                return got["tokens"] / got["seconds"], use, got["seconds"]

            turns[name] = turn
        probe = partial(limits.peak, threads)
        found = samples.taken(turns, probe, asked.rounds, lambda name: asked.allowance)
        report["score"] += samples.rows(found, OURS, threads=threads)
        for row in report["score"][-len(engines) :]:
            show(f"{threads} threads, {row['engine']}: {row['rate']:.0f} tokens/s, {row['share']:.0%} of sgemm")
    return report


def main() -> None:
    """Run it; exit code 1 where logprobs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--allowance", type=float, default=25.0, help="seconds that an engine has for one figure")
    parser.add_argument("--work", type=Path, help="folder of the weights, kept; else one that vanishes")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": {},
        "texts": asked.texts, "tokens": asked.tokens,
    }  # fmt: skip
    with room(asked.work) as work, ExitStack() as stack:
        folder = folders.made(shapes.SHAPES["B"], work, asked.seed)
        engines: dict[str, Worker] = {}
        for name, (kind, file) in ENGINES.items():
            python = sys.executable if kind == "refsample" else asked.peers_python
            try:
                engines[name] = stack.enter_context(Worker(kind, str(folder), file, python=python))
            except MissingEngine as missing:
                show(f"without {name}, which is not installed ({missing})")
                continue
            report["versions"] |= engines[name].versions
        limits = Machine(work, (1, 2), 0)
        stack.callback(limits.close)
        report |= measured(engines, limits, asked, work)
    if not report["score"]:
        sys.exit(f"logprobs differ: {report['differences']}")
    print(table.score(report))
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
