"""Truncations that walk down a ranking until a running sum says stop. They know logits [V], and -inf as "cut already".

A walk is data: who comes when, and for each the number that decides on it; `count` and `keep` carry it out, and a trace
can tell how near each decision was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.penalties import FARTHEST
from refsample_kernels.softmax import log_softmax
from refsample_kernels.thresholds import entropy
from refsample_kernels.truncate import ROUNDING

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

FLAT = 1e-6
"""A sum of curvatures up to this is that of a straight line: every rank then counts alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A ranking of the survivors and what decides how far it is walked."""

    order: Ids
    """[N] ids, first to stay first."""
    deciders: Floats
    """[N] ascending; a rank stays while its own is within `bound`."""
    bound: float
    inclusive: bool
    """Whether a decider equal to the bound stays."""
    least: int
    """Ranks that stay whatever the deciders say."""
    places: Floats
    """[N] by what the ranks are ordered, ascending."""

    @property
    def count(self) -> int:
        """How many ranks stay."""
        side, slack = ("right", ROUNDING) if self.inclusive else ("left", -ROUNDING)
        within = int(np.searchsorted(self.deciders, self.bound + slack, side=side))  # type: ignore[call-overload]
        return min(max(self.least, within), self.order.size)


def keep(walk: Walk, size: int, ties: str = "low_id") -> NDArray[np.bool_]:
    """Mask [size] of the ranks that stay; ties "all": with those that are placed like the last of them."""
    count = walk.count
    if ties == "all":
        count = int(np.searchsorted(walk.places, walk.places[count - 1] + ROUNDING, side="right"))
    kept = np.zeros(size, dtype=np.bool_)  # [V]
    kept[walk.order[:count]] = True
    return kept


def typical(logits: Floats, p: float, rule: str, least: int = 1) -> Walk:
    """By distance of the surprise from the entropy, down to mass p: reached ("ge") or passed ("gt").

    Meister et al. 2022, Locally typical sampling, section 3.
    """
    ids = np.flatnonzero(logits > -np.inf)  # [N]
    logprobs = log_softmax(logits[ids])
    distance = np.abs(logprobs + entropy(logits))  # of -ln p from the entropy
    order = np.argsort(distance, kind="stable")
    masses = np.exp(logprobs[order])
    before = np.concatenate(([0.0], np.cumsum(masses)[:-1]))
    return Walk(ids[order], before, p, rule == "gt", least, distance[order])


def top_h(logits: Floats, share: float, ranks: int = 0, least: int = 1) -> Walk:
    """The best tokens whose entropy terms add up to at most `share` of the entropy, of the best `ranks` (0: of all).

    Top-H decoding, arXiv 2509.02510, as transformers' TopHLogitsWarper has it.
    """
    order = _ranked(logits)[: ranks or None]  # [N]
    logprobs = np.maximum(log_softmax(logits[order]), -FARTHEST)  # finite: 0 times -inf is no number
    terms = -np.exp(logprobs) * logprobs
    return Walk(order, np.cumsum(terms), share * float(terms.sum()), True, least, -logits[order])


def tail_free(logits: Floats, z: float, least: int = 1) -> Walk:
    """The best tokens down to where the share z of the curvature of the sorted probabilities is behind.

    Bricken, Tail free sampling, 2019, as llama.cpp had it until October 2024: rank i falls by the curvature up to it.
    """
    order = _ranked(logits)  # [N]
    if order.size <= least + 2:
        return Walk(order, np.zeros(order.size), z, True, order.size, -logits[order])
    curvature = np.abs(np.diff(np.exp(log_softmax(logits[order])), n=2))  # [N - 2]
    total = float(curvature.sum())
    shares = curvature / total if total > FLAT else np.full(curvature.size, 1.0 / curvature.size)
    deciders = np.concatenate((np.cumsum(shares), (np.inf, np.inf)))  # the last two ranks have no curvature
    return Walk(order, deciders, z, True, least, -logits[order])


def _ranked(logits: Floats) -> Ids:
    """Ids that are not cut, best first, equal ones by id."""
    order = np.argsort(-logits, kind="stable")
    return order[: np.count_nonzero(logits > -np.inf)].astype(np.int64)
