"""Which tokens top_k, top_p, min_p and greedy keep. It knows logits [V] in float64, and -inf as "cut already".

Every function returns a mask [V] of what stays, a part of what was finite. Tokens are ranked by logit: two logits that
differ are ranked apart even where their probabilities round to the same number. No full sort is made where a partition
finds the cut.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ROUNDING = 1e-12
"""Masses, and logits at the threshold of min_p, closer than this are equal: sums in float64 err by about as much."""
HIGHEST = 690.0
"""e to this, times any number of tokens, is finite: what lies farther above the maximum counts as this far."""
HEAD = 2048
"""top_p looks for its cut among this many best tokens before it sorts them all."""


def keep_ranked(logits: Floats, count: int, ties: str = "low_id") -> Mask:
    """The `count` best tokens. Ties at the last place: "low_id", "high_id", or "all" of them stay (more than count)."""
    alive: Mask = logits > -np.inf  # [V]
    values = logits[alive]  # [survivors]: partitions are slow among many equal values
    if count >= values.size:
        return alive
    last = np.partition(values, values.size - count)[values.size - count]
    kept: Mask = logits >= last if ties == "all" else logits > last  # [V]
    if ties == "all":
        return kept
    tied = np.flatnonzero(logits == last)
    places = count - np.count_nonzero(kept)
    kept[tied[:places] if ties == "low_id" else tied[-places:]] = True
    return kept


def keep_greedy(logits: Floats) -> Mask:
    """The maximum; among equal ones the lowest id."""
    kept = np.zeros(logits.size, dtype=np.bool_)  # [V]
    kept[logits.argmax()] = True
    return kept


def keep_top_p(logits: Floats, p: float, rule: str, ties: str, least: int = 1, whole: float | None = None) -> Mask:
    """Tokens above which the mass is < p (rule "ge") or <= p ("gt"), but at least `least`.

    `whole` is the mass that shares are relative to (`mass_beside`); None: that of these logits.
    """
    return keep_ranked(logits, max(least, top_p_count(logits, p, rule, whole)), ties)


def top_p_count(logits: Floats, p: float, rule: str, whole: float | None = None) -> int:
    """How many ranks of logits [V] have a mass above them that is < p ("ge") or <= p ("gt"); 0 where p = 0."""
    top = logits.max()
    depths = top - logits[logits > -np.inf]  # [survivors] nats below the maximum
    whole = float(np.exp(-depths).sum()) if whole is None else whole
    if depths.size > 2 * HEAD:
        head = np.sort(np.partition(depths, HEAD)[:HEAD])  # [HEAD]
        above = np.cumsum(np.exp(-head)) / whole
        if above[-1] > p + ROUNDING:
            return _ranks_below(above, p, rule)
    return _ranks_below(np.cumsum(np.exp(-np.sort(depths))) / whole, p, rule)


def mass_beside(logits: Floats, top: float) -> float:
    """The mass of logits [V] where one of `top` weighs 1; each is held where a float ends."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.minimum(logits - top, HIGHEST)).sum())


def _ranks_below(cumulative: Floats, p: float, rule: str) -> int:
    """Ranks whose mass above (the cumulative mass of the rank before) keeps to the rule."""
    above = cumulative[:-1]  # of rank 1, 2, ...; above rank 0 there is nothing
    if rule == "ge":
        return int(p > ROUNDING) + int(np.searchsorted(above, p - ROUNDING, side="left"))
    return 1 + int(np.searchsorted(above, p + ROUNDING, side="right"))


def keep_min_p(logits: Floats, min_p: float, form: str, least: int = 1) -> Mask:
    """Tokens with P >= min_p * max P, but at least `least`; equality stays. 0 < min_p <= 1."""
    top = logits.max()
    if form == "logit":
        kept = logits >= top + (math.log(min_p) - ROUNDING)
    else:
        kept = np.exp(logits - top) >= min_p * (1.0 - ROUNDING)
    return kept if np.count_nonzero(kept) >= least else keep_ranked(logits, least)
