"""Routing of a mixture of experts: which experts a row goes to, with which shares. It knows nothing of experts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.jit import kernel
from refsample_kernels.lanes import add, exp, first, larger, largest, load_part, spread, store_part, sub, total

Floats = NDArray[Any]
Ids = NDArray[np.int64]


def define_route(logits: Floats, normalise: bool, chosen: Ids, shares: Floats) -> None:
    """The k experts with the largest logits of every row, largest first, of equal ones the one with the lower id.

    logits [N, E]; chosen and shares [N, k], k <= E. Shares are the softmax over all experts, with `normalise` divided
    by their sum. (Mixtral, arXiv 2401.04088, section 2.1: the softmax over the chosen ones, the same number.)
    """
    count = chosen.shape[1]
    for n in range(len(logits)):
        wide = logits[n].astype(np.float64)
        weights = np.exp(wide - wide.max())
        chosen[n] = np.argsort(-wide, kind="stable")[:count]
        picked = weights[chosen[n]]
        shares[n] = picked / (picked.sum() if normalise else weights.sum())


@kernel(define_route)
def route(logits: Floats, normalise: bool, chosen: Ids, shares: Floats) -> None:
    """See `define_route`; the sum over all experts runs in sixteen lanes, that over the chosen ones in their order."""
    rows, experts = logits.shape
    count = chosen.shape[1]
    flat = logits.reshape(-1)
    weights = np.empty((experts + 15) // 16 * 16, np.float32)  # [E]
    lowest = spread(np.float32(-np.inf))
    for n in range(rows):
        i = n * experts
        most = lowest
        for e in range(0, experts, 16):
            most = larger(first(load_part(flat, i + e, experts - e), experts - e, lowest), most)
        peak = spread(largest(most))
        sums = spread(np.float32(0))
        for e in range(0, experts, 16):
            v = exp(sub(first(load_part(flat, i + e, experts - e), experts - e, lowest), peak))
            store_part(weights, e, 16, v)
            sums = add(sums, v)
        mass = total(sums)
        for k in range(count):
            best = -1
            for e in range(experts):
                taken = False
                for before in range(k):
                    taken = taken or chosen[n, before] == e
                if not taken and (best < 0 or logits[n, e] > logits[n, best]):
                    best = e
            chosen[n, k] = best
            shares[n, k] = weights[best] / mass
        if normalise:
            mass = np.float32(0)
            for k in range(count):
                mass += shares[n, k]
            for k in range(count):
                shares[n, k] /= mass
