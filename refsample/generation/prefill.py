"""Known ids through the transformer, in parts where there are many. Knows nothing of sampling.

How ids are split changes no bit of any logit; it only bounds the memory that a pass takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from refsample.model.cache import Cache
    from refsample.model.transformer import Transformer

PREFILL_TOKENS = 2048
"""So many tokens go through the transformer together; more would only cost memory."""


def groups(prompts: Sequence[tuple[int, ...]], limits: Sequence[int]) -> Iterator[list[int]]:
    """Indices of prompts that are prefilled together; prompts without a token to come are left out."""
    group: list[int] = []
    size = 0
    for p, ids in enumerate(prompts):
        if not limits[p]:
            continue
        if group and size + len(ids) > PREFILL_TOKENS:
            yield group
            group, size = [], 0
        group.append(p)
        size += len(ids)
    if group:
        yield group


def last_rows(
    transformer: Transformer, segments: Sequence[tuple[Sequence[int], Cache]]
) -> list[NDArray[np.float32]]:
    """Raw logits [1, V] after the last id of each segment, whose cache takes the ids up."""
    rests = []
    for ids, cache in segments:
        rest = (len(ids) - 1) // PREFILL_TOKENS * PREFILL_TOKENS
        for start in range(0, rest, PREFILL_TOKENS):
            transformer.forward([(ids[start : start + PREFILL_TOKENS], cache)])
        rests.append((ids[rest:], cache))
    return transformer.forward(rests)


def all_rows(transformer: Transformer, ids: Sequence[int], cache: Cache) -> Iterator[NDArray[np.float32]]:
    """Raw logits [V] after each of `ids` in turn; no more than PREFILL_TOKENS rows are there at a time."""
    for start in range(0, len(ids), PREFILL_TOKENS):
        (rows,) = transformer.forward([(ids[start : start + PREFILL_TOKENS], cache)], rows="all")  # [<= P, V]
        yield from rows


def rows_of(
    transformer: Transformer, prompt: Sequence[int], completion: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """Raw logits [V] that predict each id of a completion after a prompt; of the prompt only its last row is made."""
    cache = transformer.new_cache(len(prompt) + len(completion))
    yield last_rows(transformer, [(prompt, cache)])[0][0]
    yield from all_rows(transformer, completion[:-1], cache)
