"""Whether engines give the same logits, before anything is timed. Knows no engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BOUNDS = {"f32": (1e-3, 1e-4), "f32 fused": (0.05, 0.01), "bf16": (0.5, 0.05)}
"""Greatest and root mean square difference of two logits, in standard deviations of the logits.

Weights are the same bfloat16 values everywhere. `bf16` engines round activations to bfloat16, for each product at the
least; `f32 fused` is llama.cpp's fused attention, which rounds to 16 bits inside.
"""


def compared(ours: NDArray[np.float32], theirs: NDArray[np.float32], kind: str) -> dict[str, Any]:
    """How far two arrays of logits [..., V] lie apart, and whether that is within the bounds of `kind`.

    A greedy token of theirs has to be one that ours gives within the same bound of its own best.
    """
    scale = float(ours.std())
    off = np.abs(theirs.astype(np.float64) - ours) / scale
    best = theirs.argmax(axis=-1)[..., None]
    behind = ours.max(axis=-1) - np.take_along_axis(ours, best, axis=-1)[..., 0]
    most, mean = float(off.max()), float(np.sqrt(np.mean(off**2)))
    bound, mean_bound = BOUNDS[kind]
    lost = float(behind.max()) / scale
    return {
        "kind": kind, "greatest": most, "rms": mean, "greedy_behind": lost,
        "same_greedy": float((behind == 0).mean()), "bounds": [bound, mean_bound],
        "equal": bool(most <= bound and mean <= mean_bound and lost <= 2 * bound),
    }  # fmt: skip
