"""One sampling step, side by side with llama.cpp and transformers on the same logits: equal first, then timed.

Penalties over 512 tokens, T .8, top_k 50, top_p .95, min_p .05, one draw and the 20 best logprobs, on one thread. The
peers do less: llama.cpp's chain lists no logprobs and finds its candidates filled in (that is not timed), transformers
has no presence and frequency penalty. Engines take turns; figures are medians, and what counts is their ratio.

    pip install xllamacpp transformers 'torch==2.13.0'      (peers that are not there are left out)
    python -m bench.sampler --out bench/results/sampler.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from refsample import __version__
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import decide, draw
from refsample.sampling.quick import Chooser, Tally, program
from refsample.sampling.semantics import resolve
from refsample_kernels.jit import set_threads, threads

F32 = NDArray[np.float32]
HISTORY, TOPS = 512, 20
SETTINGS: Mapping[str, Any] = {
    "temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1,
    "frequency_penalty": 0.1, "presence_penalty": 0.2,
}  # fmt: skip
VOCABULARIES = (32_000, 128_256, 151_936)
ROUNDS, TURNS = 15, 20
HF = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
WINDOW: dict[str, dict[str, object]] = {"llamacpp": {"penalty_window": HISTORY}}


def logits(kind: str, size: int, rng: np.random.Generator) -> F32:
    """[V] of a shape: `normal` is what the peers are measured on."""
    made = {
        "normal": lambda: rng.standard_normal(size) * 3.0,
        "ascending": lambda: np.linspace(-20.0, 20.0, size),
        "descending": lambda: np.linspace(20.0, -20.0, size),
        "equal": lambda: np.zeros(size),
        "two values": lambda: rng.integers(2, size=size) * 1.0,
        "heavy tails": lambda: rng.standard_cauchy(size),
        "half at -inf": lambda: np.where(rng.random(size) < 0.5, -np.inf, rng.standard_normal(size)),
    }
    return made[kind]().astype(np.float32)


PATTERNS = ("normal", "ascending", "descending", "equal", "two values", "heavy tails", "half at -inf")


class Ours:
    """refsample's step, and the check that it is the definition's."""

    def __init__(
        self, row: F32, history: Sequence[int], engine: str, settings: Mapping[str, Any], rows: int = 1
    ) -> None:
        self.semantics = resolve(engine, {"logprob_stage": "raw"} | WINDOW.get(engine, {}))
        self.params, self.history = SamplingParams(**settings), history
        made = program(self.params, self.semantics, TOPS)
        assert made is not None
        self.rows = np.stack([np.roll(row, 7 * r) for r in range(rows)])
        self.us = np.random.default_rng(rows).random(rows)
        self.chooser, self.tallies = Chooser(made), [Tally(made, history) for _ in range(rows)]

    def step(self) -> Any:
        """A token for each row."""
        return self.chooser.choose(self.rows, self.us, self.tallies)

    def law(self, row: int = 0) -> Any:
        """The definition's."""
        return decide(self.rows[row], self.params, self.history, (), self.semantics)

    def check(self) -> int:
        """AssertionError where a row's token is not the definition's; how many rows were left to it."""
        found = self.step()
        for r, chosen in enumerate(found):
            assert chosen is None or chosen.token_id == draw(self.law(r).probs, float(self.us[r]))
        return sum(chosen is None for chosen in found)


def median(turn: Callable[[], object], turns: int = TURNS) -> float:
    """Microseconds a turn."""
    took = []
    for _ in range(turns):
        start = time.perf_counter()
        turn()
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e6


def peers(row: F32, history: Sequence[int]) -> dict[str, tuple[Callable[[], float], NDArray[np.float64]]]:
    """Name -> (microseconds of one step, probabilities [V] of its law), of those that are installed."""
    found = {}
    if find_spec("xllamacpp"):
        chain = import_module("bench.peers.timed_llamacpp").Chain(SETTINGS, history, row)
        found["llamacpp"] = (chain.timed, chain.law())
    if find_spec("transformers") and find_spec("torch"):
        chain = import_module("bench.peers.timed_hf").Chain(SETTINGS, history, row, TOPS)
        found["hf"] = (chain.timed, chain.law())
    return found


def side_by_side(size: int) -> dict[str, Any]:
    """One vocabulary: every engine's law is checked, then they take turns."""
    rng = np.random.default_rng(size)
    row, history = logits("normal", size, rng), rng.integers(size, size=HISTORY).tolist()
    ours = Ours(row, history, "reference", SETTINGS)
    left = ours.check()
    others = peers(row, history)
    for name, (_, probs) in others.items():
        settings = SETTINGS if name != "hf" else {k: v for k, v in SETTINGS.items() if k in HF}
        law = Ours(row, history, name, settings).law()
        assert np.array_equal(law.probs > 0, probs > 0), f"{name} keeps other tokens"
        np.testing.assert_allclose(probs, law.probs, rtol=2e-5, atol=1e-7)
    took: dict[str, list[float]] = {name: [] for name in ("refsample", *others)}
    for _ in range(ROUNDS):
        took["refsample"].append(median(ours.step))
        for name, (timed, _) in others.items():
            took[name].append(statistics.median(timed() for _ in range(TURNS)))
    medians = {name: statistics.median(values) for name, values in took.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(took["refsample"], values, strict=True))
        for name, values in took.items() if name != "refsample"
    }  # fmt: skip
    return {"vocabulary": size, "left": left, "microseconds": medians, "ratio": ratios}


def patterns(size: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """Kind of logits -> microseconds a step, the definition's time included where it decides."""
    took = {}
    for kind in PATTERNS:
        rng = np.random.default_rng(1)
        ours = Ours(logits(kind, size, rng), rng.integers(size, size=HISTORY).tolist(), "reference", settings)
        ours.check()

        def step(ours: Ours = ours) -> None:
            if ours.step()[0] is None:
                draw(ours.law().probs, float(ours.us[0]))

        took[kind] = median(step, ROUNDS * 2)
    return took


def many_rows(size: int, rows: int) -> dict[str, Any]:
    """Rows side by side on one thread and on all."""
    rng = np.random.default_rng(2)
    row, history = logits("normal", size, rng), rng.integers(size, size=HISTORY).tolist()
    most, took = threads(), {}
    for count in sorted({1, most}):
        set_threads(count)
        ours = Ours(row, history, "reference", SETTINGS, rows)
        ours.check()
        took[count] = median(ours.step)
    set_threads(most)
    return {"vocabulary": size, "rows": rows, "microseconds": took, "gain": took[1] / took[most], "threads": most}


def show(report: Mapping[str, Any]) -> None:
    """Tables of it all."""
    console = Console()
    table = Table("V", "refsample us", "llama.cpp us", "ratio", "transformers us", "ratio", title="a step, one thread")
    for one in report["side by side"]:
        us, ratio = one["microseconds"], one["ratio"]
        cells = [f"{us['refsample']:.0f}"]
        for name in ("llamacpp", "hf"):
            cells += [f"{us[name]:.0f}", f"{ratio[name]:.3f}"] if name in us else ["-", "-"]
        table.add_row(str(one["vocabulary"]), *cells)
    console.print(table)
    shapes = report["patterns"]
    table = Table("logits", "these settings, us", "top_p .95 alone, us", title=f"refsample, V = {shapes['vocabulary']}")
    for kind, us in shapes["microseconds"].items():
        table.add_row(kind, f"{us:.0f}", f"{shapes['top_p alone'][kind]:.0f}")
    console.print(table)
    rows = report["rows"]
    console.print(f"{rows['rows']} rows of V = {rows['vocabulary']}: {rows['gain']:.2f} times as fast on "
                  f"{rows['threads']} threads as on one")  # fmt: skip


def main() -> None:
    """Run it all; AssertionError where an engine's law is not the expected one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    report: dict[str, Any] = {
        "versions": {"refsample": __version__, "numpy": np.__version__, "numba": numba.__version__},
        "machine": {"processor": platform.processor() or platform.machine(), "threads": threads()},
        "side by side": [side_by_side(size) for size in asked.vocabularies],
        "patterns": {
            "vocabulary": asked.vocabularies[-1],
            "microseconds": patterns(asked.vocabularies[-1], SETTINGS),
            "top_p alone": patterns(asked.vocabularies[-1], {"temperature": 0.8, "top_p": 0.95}),
        },
        "rows": many_rows(min(asked.vocabularies[-1], 128_256), asked.rows),
    }
    show(report)
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
