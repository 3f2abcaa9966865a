"""Softmax and log-softmax in float64. They know nothing of temperature or of tokens.

-inf is a logit that is cut: its probability is exactly 0 and its logprob -inf. At least one logit must be finite.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel
from refsample_kernels.lanes import first, load, load_part, spread
from refsample_kernels.wides import LOWEST, add_wide, exp_from, no_wide, store_wide, total_wide

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    """Probabilities [V] of logits [V]; they sum to 1 within V * 2^-53."""
    with np.errstate(over="ignore"):  # a difference that leaves float64 is -inf, which is what it means: no chance
        weights: Floats = np.exp(logits - logits.max())  # [V]
    weights /= weights.sum()
    return weights


def log_softmax(logits: Floats) -> Floats:
    """Natural logs of the probabilities [V] of logits [V]."""
    with np.errstate(over="ignore"):
        shifted: Floats = logits - logits.max()  # [V]
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def define_row_mass(row: F32, out: Floats) -> None:
    """out[0] = the sum of e^(l - maximum) over a row [V] of float32 logits."""
    out[0] = np.exp(row.astype(np.float64) - float(row.max())).sum()


@kernel(define_row_mass)
def row_mass(row: F32, out: Floats) -> None:
    """See `define_row_mass`; summed in the order of `choose`, so that both give the same bits."""
    peak, size = np.float64(row.max()), row.size
    sums = no_wide()
    for i in range(0, size - size % 16, 16):
        sums = add_wide(sums, exp_from(load(row, i), peak))
    if size % 16:
        n = size % 16
        last = first(load_part(row, size - n, n), n, spread(np.float32(-np.inf)))
        sums = add_wide(sums, exp_from(last, peak))
    out[0] = total_wide(sums)


def define_row_spread(row: F32, out: Floats) -> None:
    """out[0] as `define_row_mass` has it; out[1] = the sum of e^(l - maximum) (maximum - l), nothing for l = -inf."""
    below = float(row.max()) - row[row > -np.inf].astype(np.float64)  # [V] without what is cut
    out[0], out[1] = np.exp(-below).sum(), (np.exp(-below) * below).sum()


@kernel(define_row_spread)
def row_spread(row: F32, out: Floats) -> None:
    """See `define_row_spread`; summed in the order of `row_mass`."""
    peak, size = np.float64(row.max()), row.size
    sums, gaps, held = no_wide(), np.zeros(16), np.zeros(16)
    for i in range(0, size, 16):
        n = min(16, size - i)
        lanes = load(row, i) if n == 16 else first(load_part(row, i, n), n, spread(np.float32(-np.inf)))
        weights = exp_from(lanes, peak)
        sums = add_wide(sums, weights)
        store_wide(held, 0, weights)
        for j in range(n):
            gaps[j] += held[j] * min(peak - np.float64(row[i + j]), -LOWEST)
    out[0], out[1] = total_wide(sums), 0.0
    for gap in gaps:
        out[1] += gap


def row_log_softmax(row: NDArray[np.floating]) -> Floats:
    """`log_softmax` of a row [V] as a model gives it: for float32 the mass has the same bits on every machine."""
    if row.dtype != np.float32:
        return log_softmax(row.astype(np.float64))
    held, out = np.ascontiguousarray(row), np.empty(1)
    row_mass(held, out)
    return _shifted(held, math.log(out[0]))


def row_law(row: NDArray[np.floating]) -> tuple[Floats, float]:
    """`row_log_softmax` of a row [V], and the entropy of its law in nats; for float32 both with fixed bits."""
    if row.dtype != np.float32:
        values = log_softmax(row.astype(np.float64))
        alive = values[values > -np.inf]
        return values, -float((np.exp(alive) * alive).sum())
    held, out = np.ascontiguousarray(row), np.empty(2)
    row_spread(held, out)
    log_mass = math.log(out[0])
    return _shifted(held, log_mass), log_mass + float(out[1] / out[0])


def _shifted(row: F32, log_mass: float) -> Floats:
    shifted: Floats = row.astype(np.float64) - float(row.max())  # [V]
    shifted -= log_mass
    return shifted


def log_total(logits: Floats) -> float:
    """ln of the sum of exp over logits [V]."""
    top = logits.max()
    with np.errstate(over="ignore"):
        return float(top + np.log(np.exp(logits - top).sum()))
