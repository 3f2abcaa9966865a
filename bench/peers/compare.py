"""Other engines' own sampling code against our definition of it, over random cases.

    python -m bench.peers.compare hf --cases 5000
    python -m bench.peers.compare hf vllm sglang mlx llamacpp --cases 5000 --out bench/results/peers.jsonl

Each engine is a module here that says how its environment is set up. A case agrees if the supports are equal and
|d ln p| <= 1e-6 + 4 * 2^-24 * max|l / T| on them, and what the engine's module says that it loses beside that. Where a
token lies nearer to a cut than the engine's float32 can tell, a support that differs is undecided: counted, shown, no
mismatch. Exit code 1 where any case does not agree.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.cases import Case, case
from refsample.errors import ParameterError
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import Distribution, distribution
from refsample.sampling.semantics import resolve
from refsample.spec.types import Semantics

ENGINES = ("hf", "vllm", "sglang", "mlx", "llamacpp")
ULP = 2.0**-24
SHOWN = 5


def error_of(law: Distribution, one: Case, engine: ModuleType) -> float:
    """What float32 can hold of ln p, and what the engine says that it loses beside that."""
    finite = np.concatenate([step.logits[np.isfinite(step.logits)] for step in law.trace.steps])
    own: float = engine.error(one, law) if hasattr(engine, "error") else 0.0
    return 1e-6 + 4.0 * ULP * float(np.abs(finite).max(initial=1.0)) + own


def undecided(law: Distribution, one: Case, engine: ModuleType, bound: float, apart: NDArray[np.int64]) -> bool:
    """Whether a cut is too near for float32; masses are sums of V numbers of it."""
    near = bound + one.logits.size * ULP
    if law.boundary_within(near).size:
        return True
    return hasattr(engine, "doubtful") and bool(engine.doubtful(law, one, near, apart))


def verdict(one: Case, engine: ModuleType, rules: Semantics) -> tuple[str, float, str]:
    """(agrees | undecided | mismatch | empty, largest |d ln p|, what to say of a mismatch)."""
    try:
        law = distribution(one.logits, SamplingParams(**one.params), one.prompt_ids, one.output_ids, rules)
    except ParameterError as error:  # bans of every token: ours is a refusal, theirs NaN
        assert "leaves no token" in error.rule, error
        return "empty", 0.0, ""
    theirs = np.asarray(engine.law(one.logits, one.params, one.prompt_ids, one.output_ids), dtype=np.float64)  # [V]
    bound = error_of(law, one, engine)
    ours, other = law.probs > np.finfo(np.float32).tiny, theirs > np.finfo(np.float32).tiny  # below, float32 has 0
    common, apart = ours & other, np.flatnonzero(ours != other)
    worst = float(np.abs(np.log(law.probs[common]) - np.log(theirs[common])).max(initial=0.0))
    if not apart.size and worst <= bound:
        return "agrees", worst, ""
    # with one support numbers are wrong or right, but where a near cut has moved a temperature that hangs on all of it
    if (apart.size or one.params.get("dynatemp_range")) and undecided(law, one, engine, bound, apart):
        return "undecided", 0.0, ""
    if apart.size:
        sizes = f"ours has {np.count_nonzero(ours)}, theirs {np.count_nonzero(other)}"
        return "mismatch", 0.0, f"support: {sizes}, apart {apart[:5].tolist()}"
    return "mismatch", worst, f"|d ln p| {worst:.3g} > {bound:.3g}"


def compare(name: str, count: int, seed: int) -> dict[str, Any]:
    """The row of one engine."""
    engine = importlib.import_module(f"bench.peers.{name}")
    rules = resolve(engine.ENGINE, engine.OVERRIDES)
    random = np.random.default_rng(seed)
    tally, worst, start = {"agrees": 0, "undecided": 0, "mismatch": 0}, 0.0, time.perf_counter()
    place = 0
    while sum(tally.values()) < count:
        one, place = case(random, engine.PARAMETERS), place + 1
        if not engine.fits(one):
            continue
        found, error, said = verdict(one, engine, rules)
        if found == "empty":
            continue
        tally[found] += 1
        worst = max(worst, error)
        if said and tally["mismatch"] <= SHOWN:
            acting = {k: v for k, v in one.params.items() if v != getattr(SamplingParams(), k)}
            print(f"{name} case {place}: {said}; V={one.logits.size} {acting} "
                  f"history {len(one.prompt_ids)}+{len(one.output_ids)}")  # fmt: skip
    return {"engine": name, "version": engine.VERSION, "path": engine.PATH, "cases": sum(tally.values()), **tally,
            "worst": worst, "overrides": engine.OVERRIDES, "seed": seed,
            "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="other engines' own sampling code against ours")
    parser.add_argument("engines", nargs="+", choices=ENGINES)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [compare(name, options.cases, options.seed) for name in options.engines]
    for row in rows:
        print(f"{row['engine']} {row['version']} ({row['path']}): {row['cases']} cases, {row['agrees']} agree, "
              f"{row['undecided']} undecided, {row['mismatch']} mismatches, worst |d ln p| {row['worst']:.2e}, "
              f"{row['seconds']} s")  # fmt: skip
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    return int(any(row["mismatch"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
