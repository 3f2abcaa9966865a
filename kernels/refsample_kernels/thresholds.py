"""Truncations by one logit: what is at or above it stays. They know logits [V] in float64, and -inf as "cut already".

`min_p` to `mirostat` return the lowest logit that stays, `keep_above` the mask of what does, `entropy` nats.
Probabilities never appear where a difference of logs says the same: a token far below the maximum would round to 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.penalties import FARTHEST
from refsample_kernels.softmax import log_softmax, log_total
from refsample_kernels.truncate import ROUNDING, keep_ranked

Floats = NDArray[np.float64]


def keep_above(logits: Floats, threshold: float, least: int = 1, ties: str = "low_id") -> NDArray[np.bool_]:
    """Mask [V] of the logits >= threshold; where they are fewer than `least`, of the best `least` (`keep_ranked`)."""
    kept: NDArray[np.bool_] = logits >= threshold - ROUNDING
    return kept if np.count_nonzero(kept) >= least else keep_ranked(logits, least, ties)


def entropy(logits: Floats) -> float:
    """-sum p ln p in nats; tokens that are cut, or so far away that their logprob is -inf, add nothing."""
    with np.errstate(over="ignore"):
        logprobs = log_softmax(logits[logits > -np.inf])
    logprobs = logprobs[logprobs > -np.inf]  # [survivors]
    return float(-(np.exp(logprobs) * logprobs).sum())


def min_p(logits: Floats, share: float) -> float:
    """P >= share * max P."""
    return float(logits.max()) + math.log(share)


def top_n_sigma(logits: Floats, n: float) -> float:
    """No farther below the maximum than n standard deviations of the logits (Tang et al. 2024, Top-nσ)."""
    alive = logits[logits > -np.inf]
    with np.errstate(over="ignore"):  # logits so far apart that their squares leave float64: nothing is below that
        return float(alive.max()) - min(n * float(alive.std()), FARTHEST)


def top_a(logits: Floats, a: float) -> float:
    """P >= a * (max P)^2 (text-generation-webui and KoboldAI, after BlinkDL's RWKV-LM)."""
    return math.log(a) + 2.0 * float(logits.max()) - log_total(logits)


def epsilon(logits: Floats, cutoff: float) -> float:
    """P >= cutoff (Hewitt, Manning, Liang 2022, section 4)."""
    return log_total(logits) + math.log(cutoff)


def eta(logits: Floats, cutoff: float) -> float:
    """P >= min(cutoff, sqrt(cutoff) * e^-entropy) (Hewitt, Manning, Liang 2022, section 4)."""
    least = math.log(cutoff)
    return log_total(logits) + min(least, 0.5 * least - entropy(logits))


def mirostat(logits: Floats, mu: float) -> float:
    """-log2 P <= mu (Basu et al. 2020; version 2 as llama.cpp has it)."""
    return log_total(logits) - mu * math.log(2.0)
