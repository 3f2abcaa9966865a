"""What the end of a sequence of ids repeats of itself. Knows nothing of logits but how much a repeat may cost them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

LARGEST_LOG = 88.7228391
"""ln of the largest float32: llama.cpp holds the DRY penalty below it, and so does everybody who compares with it."""
FLATTEST = 1.000001
"""Up to this base a DRY penalty hardly grows, and its exponent is not held."""


def completing(ids: Sequence[int], size: int) -> frozenset[int]:
    """Ids that would complete a run of `size` ids that occurred before (transformers' NoRepeatNGramLogitsProcessor)."""
    if len(ids) + 1 < size:
        return frozenset()
    tail = tuple(ids[len(ids) + 1 - size :])
    starts = range(len(ids) + 1 - size)
    return frozenset(ids[i + size - 1] for i in starts if tuple(ids[i : i + size - 1]) == tail)


def suffix_lengths(ids: Sequence[int]) -> list[int]:
    """[N] for every place k > 0 from the end: how long a run that ends k ids before the end equals the end of all.

    The Z algorithm on the reversed sequence: N steps.
    """
    back = list(ids)[::-1]
    size, lengths = len(back), [0] * len(back)
    left = right = 0  # the run [left, right) equals the beginning
    for k in range(1, size):
        known = min(lengths[k - left], right - k) if k < right else 0
        while k + known < size and back[known] == back[k + known]:
            known += 1
        lengths[k] = known
        if k + known > right:
            left, right = k, k + known
    return lengths


def dry(ids: Sequence[int], allowed: int, breakers: Sequence[Sequence[int]]) -> Mapping[int, int]:
    """Id -> length of the longest repeat that it would prolong, of those of at least `allowed` ids.

    Repeats do not reach back across a breaker, and an id that is one by itself is left out. DRY, by p-e-w (2024), as
    llama.cpp has it: of several breakers that begin at one place the longest counts.
    """
    longest = _since_breaker(ids, breakers)
    if len(ids) <= allowed or longest < allowed:
        return {}
    alone = {run[0] for run in breakers if len(run) == 1}
    lengths = suffix_lengths(ids)
    found: dict[int, int] = {}
    for back in range(1, len(ids)):
        length, following = min(lengths[back], longest), ids[len(ids) - back]
        if length >= allowed and following not in alone:
            found[following] = max(found.get(following, 0), length)
    return found


def _since_breaker(ids: Sequence[int], breakers: Sequence[Sequence[int]]) -> int:
    """How many ids come after the last place where a whole breaker stands."""
    size = len(ids)
    by_head: dict[int, list[Sequence[int]]] = {}
    for run in breakers:
        by_head.setdefault(run[0], []).append(run)
    for start in range(size - 1, -1, -1):
        runs = by_head.get(ids[start], ())
        fits = [len(run) for run in runs if list(ids[start : start + len(run)]) == list(run)]
        if fits:
            return size - start - max(fits)
    return size


def dry_penalty(length: int, multiplier: float, base: float, allowed: int) -> float:
    """multiplier * base^(length - allowed), its exponent held where a float32 ends."""
    exponent = length - allowed
    if base > FLATTEST:
        exponent = min(exponent, int(LARGEST_LOG / math.log(base)))
    return multiplier * base**exponent
