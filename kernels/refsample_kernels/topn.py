"""The N best of V values with a fixed order among equals. It knows nothing of logprobs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_n(values: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Ids [min(n, V)] of the largest values [V], best first, equal ones by ascending id; -inf ranks last."""
    size = values.size
    if n <= 0:
        return np.empty(0, dtype=np.int64)
    if n >= size:
        return np.argsort(-values, kind="stable").astype(np.int64)
    last = np.partition(values, size - n)[size - n]
    above = np.flatnonzero(values > last)
    ids = np.concatenate((above, np.flatnonzero(values == last)[: n - above.size]))  # [n]
    return ids[np.argsort(-values[ids], kind="stable")].astype(np.int64)
