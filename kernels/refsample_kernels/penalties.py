"""Penalties on the logits of tokens that occurred. They know nothing of what counts as history.

Every function returns a new array [V]; `ids` [K] are distinct. A logit of -inf stays -inf, and a finite one finite,
held in [-FARTHEST, FARTHEST]: no penalty, however absurd, cuts a token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

FARTHEST = 2.0**1021
"""A quarter of the largest float64: differences of two logits are finite too."""


def repetition(logits: Floats, ids: Ids, penalty: float) -> Floats:
    """Divide positive logits by `penalty`, multiply the others by it: both make a token rarer for penalty > 1."""
    old = logits[ids]  # [K]
    with np.errstate(over="ignore"):
        new = np.where(old > 0.0, old / penalty, old * penalty)
    return _put(logits, ids, new)


def frequency(logits: Floats, ids: Ids, counts: Ids, penalty: float) -> Floats:
    """Take `penalty` from a logit for every time its token occurred; counts [K] belong to ids."""
    with np.errstate(over="ignore"):
        taken = np.clip(penalty * counts, -FARTHEST, FARTHEST)  # [K]
        return _put(logits, ids, logits[ids] - taken)


def presence(logits: Floats, ids: Ids, penalty: float) -> Floats:
    """Take `penalty` once from the logit of every token that occurred."""
    return frequency(logits, ids, np.ones_like(ids), penalty)


def _put(logits: Floats, ids: Ids, values: Floats) -> Floats:
    """A copy of logits with values [K] at ids, held in range; -inf stays."""
    out = logits.copy()
    out[ids] = np.where(logits[ids] == -np.inf, -np.inf, np.clip(values, -FARTHEST, FARTHEST))
    return out
