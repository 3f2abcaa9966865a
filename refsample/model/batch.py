"""The rows of one pass: which text each belongs to, and what adapters add to it. It knows nothing of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.cache import Cache
from refsample.model.lora import Adapter, LowRank

Extra = Sequence[tuple[NDArray[np.intp] | slice, LowRank]]
"""Rows and what is added to a product there."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What attention has to know of the rows [N] of one flat batch."""

    positions: NDArray[np.int64]
    """Of the rows in their texts, [N]."""
    turns: tuple[tuple[NDArray[Any], NDArray[Any]], ...]
    """For each of the config's rotary settings, cosines and sines of the rows' positions, both [N, R/2]."""
    spans: list[slice]
    """Rows of each segment."""
    caches: list[Cache]
    """Cache of each segment, its length that before the new rows."""
    adapted: list[tuple[NDArray[np.intp] | slice, Adapter]]
    """Rows that an adapter adds to, for each adapter."""
    first: int = 0
    """The layer that the caches begin with: one, where they hold no more than the layer under way."""


def adapted(
    spans: Sequence[slice], adapters: Sequence[Adapter | None]
) -> list[tuple[NDArray[np.intp] | slice, Adapter]]:
    """The rows of each adapter; of one that all segments have, a slice of all."""
    if len({id(one) for one in adapters}) == 1:
        return [] if adapters[0] is None else [(slice(None), adapters[0])]
    held: dict[int, tuple[Adapter, list[NDArray[np.intp]]]] = {}
    for span, one in zip(spans, adapters, strict=True):
        if one is not None:
            held.setdefault(id(one), (one, []))[1].append(np.arange(span.start, span.stop))
    return [(np.concatenate(rows), one) for one, rows in held.values()]


def extra_of(batch: Batch, number: int, field: str) -> Extra:
    """What adapters add to a projection of a layer, with the rows that they add it to."""
    found = ((rows, adapter.layers[number].get(field)) for rows, adapter in batch.adapted)
    return [(rows, factors) for rows, factors in found if factors is not None]
