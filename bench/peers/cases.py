"""Random cases for samplers: logits, histories, parameters. Knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIZES = (1, 2, 3, 8, 40, 150, 600)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One decision to be made."""

    logits: NDArray[np.float32]
    params: Mapping[str, Any]
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]


def _pick(*values: Any) -> Callable[[Generator, int], Any]:
    return lambda random, size: values[int(random.integers(len(values)))]


def _bias(random: Generator, size: int) -> dict[int, float]:
    ids = random.choice(size, size=min(size, int(random.integers(1, 6))), replace=False)
    return {int(i): float(np.round(random.uniform(-8, 8), 2)) for i in ids}


# Neutral values come up too: every parameter is at times alone.
VALUES: Mapping[str, Callable[[Generator, int], Any]] = {
    "temperature": _pick(1.0, 1.0, 0.2, 0.5, 0.7, 1.3, 2.0, 0.0, 0.005, 5e-7),
    "top_p": _pick(1.0, 1.0, 0.05, 0.3, 0.5, 0.75, 0.9, 0.95, 0.999),
    "top_k": lambda random, size: int(random.choice([0, 0, 1, 2, 5, 20, 50, max(1, size - 1)])),
    "min_p": _pick(0.0, 0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
    "repetition_penalty": _pick(1.0, 1.0, 0.7, 1.1, 1.3, 2.0),
    "presence_penalty": _pick(0.0, 0.0, -1.0, 0.5, 1.5),
    "frequency_penalty": _pick(0.0, 0.0, -0.25, 0.1, 0.5),
    "logit_bias": lambda random, size: _bias(random, size) if random.random() < 0.3 else {},
    "no_repeat_ngram_size": _pick(0, 0, 0, 2, 3),
    "dry_multiplier": _pick(0.0, 0.0, 0.8, 2.0),
    "dry_allowed_length": _pick(1, 2, 3),
    "dry_base": _pick(1.75, 1.1, 1.0),
    "dry_penalty_last_n": _pick(0, 8, 64, 4096),
    "dynatemp_range": _pick(0.0, 0.0, 0.1, 0.5),
    "dynatemp_exponent": _pick(1.0, 0.5, 2.0),
    "typical_p": _pick(1.0, 1.0, 0.2, 0.5, 0.9),
    "top_h": _pick(0.0, 0.0, 0.2, 0.4, 0.8),
    "top_n_sigma": _pick(0.0, 0.0, 0.5, 1.0, 2.0),
    "epsilon_cutoff": _pick(0.0, 0.0, 3e-4, 0.01, 0.2),
    "eta_cutoff": _pick(0.0, 0.0, 3e-4, 0.01, 0.2),
    "xtc_probability": _pick(0.0, 0.0, 1.0),
    "xtc_threshold": _pick(0.05, 0.1, 0.2),
}


def case(random: Generator, parameters: Collection[str]) -> Case:
    """Logits with heavy tails, ties, outliers and -inf; a history of up to 512 tokens; every parameter at once."""
    size = int(random.choice(SIZES))
    kind = int(random.integers(5))
    logits = random.standard_normal(size) * random.choice([0.3, 1.5, 4.0])
    if kind == 1:
        logits = random.standard_t(2, size) * 2.0
    elif kind == 2:
        logits = np.round(logits * 4) / 4  # ties
    elif kind == 3:
        logits[random.integers(size)] += random.choice([-60.0, 15.0, 40.0])
    elif kind == 4:
        logits[random.random(size) < 0.3] = -np.inf
    if not np.isfinite(logits).any():
        logits[0] = 0.0
    split = int(random.choice([0, 1, 7, 60, 512]))
    history = random.zipf(1.6, int(random.choice([0, 1, 12, 80, 512]))) % size
    split = min(split, history.size)
    chosen = {name: VALUES[name](random, size) for name in sorted(parameters)}
    ids = [int(i) for i in history]
    return Case(logits.astype(np.float32), chosen, tuple(ids[:split]), tuple(ids[split:]))
