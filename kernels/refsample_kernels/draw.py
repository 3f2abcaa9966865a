"""Drawing from a law by inverse CDF in id order. It knows nothing of where the uniform number comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def draws(probs: Floats, uniforms: Floats) -> NDArray[np.int64]:
    """Ids [N] drawn from probs [V] with uniforms [N] in [0, 1): the first id whose cumulative mass exceeds u.

    An id of probability 0 is never drawn: the cumulative mass does not grow there.
    """
    cumulative = np.cumsum(probs)  # [V]
    # u <= 1 - 2^-53, so u * mass rounds to less than mass: it falls short by more than half a place.
    return np.asarray(np.searchsorted(cumulative, uniforms * cumulative[-1], side="right"), dtype=np.int64)  # [N]
