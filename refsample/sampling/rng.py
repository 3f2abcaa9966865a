"""The uniform numbers that draws use: a pure function of seed, choice, step and lane. It holds no state.

Stream: Philox4x64-10, raw key (seed + choice mod 2^64, 0), counter (step, lane, 0, 0); u = (first word >> 11) * 2^-53,
so u lies in [0, 1) on a grid of 2^-53. In NumPy terms the first word is that of
`Philox(key=seed + choice, counter=c)` with c one less than [step, lane, 0, 0] as a 256-bit number.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refsample.spec.types import SeedRule
from refsample_kernels.philox import MASK, block, blocks


def uniform(seed: int, choice: int, step: int, lane: int = 0) -> float:
    """The u in [0, 1) of one decision. Any integer seed (taken mod 2^64); choice, step, lane >= 0."""
    word = block(((seed + choice) & MASK, 0), (step & MASK, lane & MASK, 0, 0))[0]
    return (word >> 11) * 2.0**-53


def uniforms(seed: int, choices: Sequence[int], step: int, lane: int = 0) -> NDArray[np.float64]:
    """`uniform` for many choices of one step -> [N]; the same numbers."""
    keys = np.zeros((len(choices), 2), dtype=np.uint64)  # [N, 2]
    keys[:, 0] = np.array([(seed + choice) & MASK for choice in choices], dtype=np.uint64)
    counters = np.zeros((len(choices), 4), dtype=np.uint64)  # [N, 4]
    counters[:, 0], counters[:, 1] = step & MASK, lane & MASK
    words = blocks(keys, counters)[:, 0]  # [N]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def fresh_seed() -> int:
    """A seed from the operating system: 63 bits, so that it fits a signed 64-bit field."""
    return int.from_bytes(os.urandom(8), "little") >> 1


def effective_seed(seed: int | None, rule: SeedRule) -> int:
    """The seed that a request runs with; a fresh one where none was given or the engine ignores it."""
    return fresh_seed() if seed is None or rule == "ignored" else seed


def stream_choice(choice: int, rule: SeedRule) -> int:
    """The `choice` to pass to `uniform` for choice i of a request: 0 for all where the engine gives all one seed."""
    return 0 if rule == "identical" else choice
