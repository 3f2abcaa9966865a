"""Softmax and log-softmax in float64. They know nothing of temperature or of tokens.

-inf is a logit that is cut: its probability is exactly 0 and its logprob -inf. At least one logit must be finite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def log_total(logits: Floats) -> float:
    """ln of the sum of exp over logits [V]."""
    top = logits.max()
    with np.errstate(over="ignore"):
        return float(top + np.log(np.exp(logits - top).sum()))
