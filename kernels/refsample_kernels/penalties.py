"""Penalties on the logits of tokens that occurred. They know nothing of what counts as history.

Every function returns a new array [V]; `ids` [K] are distinct. A logit of -inf stays -inf.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def repetition(logits: Floats, ids: Ids, penalty: float) -> Floats:
    """Divide positive logits by `penalty`, multiply the others by it: both make a token rarer for penalty > 1."""
    out = logits.copy()
    old = logits[ids]  # [K]
    out[ids] = np.where(old > 0.0, old / penalty, old * penalty)
    return out


def frequency(logits: Floats, ids: Ids, counts: Ids, penalty: float) -> Floats:
    """Take `penalty` from a logit for every time its token occurred; counts [K] belong to ids."""
    out = logits.copy()
    out[ids] -= penalty * counts
    return out


def presence(logits: Floats, ids: Ids, penalty: float) -> Floats:
    """Take `penalty` once from the logit of every token that occurred."""
    out = logits.copy()
    out[ids] -= penalty
    return out
