"""How far an honest engine's logits may lie from the reference's, position by position, and other precisions' too.

Every position has its own error bar: the difference that honest bf16 kernels make to the reference's own logits there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.oracle import HONEST, HONEST_SCALES, OTHER_MODEL, TWIN, Hypothesis, Oracle, precision_of

OTHER_SIGMA = 3.0
"""Logit error (nats, rms) of a model that is not this one."""
KERNELS: Mapping[str, float] = {f"kernels_x{scale:g}": scale for scale in HONEST_SCALES}
"""Honest configurations beside the emulated one: its error bars, this many times as wide."""

Rows = Mapping[str, NDArray[np.float32]]


def rows_of(oracle: Oracle, ids: tuple[int, ...], start: int) -> Rows:
    """Raw logits [T, V] of the positions that predict ids[start:], for each precision among the hypotheses."""
    precisions = {precision_of(h.behaviour) for h in (*oracle.nulls, *oracle.faults) if h.behaviour is not None}
    return {p: oracle.all_logits(ids, p)[start - 1 : len(ids) - 1] for p in sorted(precisions)}


def sigmas_of(oracle: Oracle, rows: Rows) -> dict[str, list[float]]:
    """Logit error expected at each position: that of honest kernels, and of each other precision (pooled)."""
    honest, count = rows[HONEST], len(rows[HONEST])
    base = [oracle.noise(honest[t], rows[TWIN][t]) for t in range(count)]
    result = {HONEST: base, OTHER_MODEL: [OTHER_SIGMA] * count}
    for precision in rows.keys() - {HONEST, TWIN}:
        pooled = math.sqrt(float(np.mean([oracle.noise(honest[t], rows[precision][t]) ** 2 for t in range(count)])))
        result[precision] = [math.hypot(pooled, b) for b in base]
    return result


def scale_of(hypothesis: Hypothesis) -> str:
    """Which entry of `sigmas_of` a hypothesis stands for."""
    if hypothesis.behaviour is None:
        return OTHER_MODEL
    return precision_of(hypothesis.behaviour)
