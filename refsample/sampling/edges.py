"""How near a cut is to the tokens that it found. Knows every truncating step, not their order.

A decision is undecidable for a token if moving a logit by 1e-6 nat, or a mass by 1e-6, could turn it: another correct
implementation (float32, other summation order) may then decide otherwise. Who knows another's error asks with that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refsample.sampling.context import Context, State
from refsample.sampling.further import (
    mirostat_mu,
    tail_free_walk,
    top_h_walk,
    typical_walk,
    xtc_threshold,
)  # fmt: skip
from refsample.sampling.standard import top_k_places, top_p_whole
from refsample_kernels import thresholds
from refsample_kernels.softmax import log_softmax
from refsample_kernels.truncate import ROUNDING, top_p_count
from refsample_kernels.walks import Walk

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

NEAR = 1e-6
NOBODY: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """How near a cut is to the tokens."""

    margin: float
    unit: Literal["nat", "probability"]
    ids: Ids


NO_EDGE = Edge(math.inf, "nat", NOBODY)


def edge_of(step: str, before: State, context: Context, near: float = NEAR) -> Edge:
    """How near the cut of a step is to the tokens that it found; `ids`: those within `near` of it."""
    return EDGES[step](before, context, near) if step in EDGES else NO_EDGE


def rank_edge(logits: Floats, count: int, near: float = NEAR) -> Edge:
    """The cut between rank `count` and the next: the gap in nats, and who could change sides."""
    if count >= np.count_nonzero(logits > -np.inf):
        return NO_EDGE
    size = logits.size
    ranked = np.partition(logits, (size - count - 1, size - count))
    first_out, last_in = float(ranked[size - count - 1]), float(ranked[size - count])
    gap = last_in - first_out
    if gap > near:
        return Edge(gap, "nat", NOBODY)
    return Edge(gap, "nat", np.flatnonzero((logits >= last_in - near) & (logits <= first_out + near)))


def threshold_edge(logits: Floats, threshold: float, least: int, near: float = NEAR) -> Edge:
    """Tokens near a lowest logit; the maximum itself stays whatever happens, so it is never in question."""
    others = logits < logits.max()  # [V]
    distance = np.abs(logits - threshold)  # [V], inf where cut before
    main = Edge(float(distance[others].min(initial=math.inf)), "nat", np.flatnonzero((distance <= near) & others))
    if np.count_nonzero(logits >= threshold - ROUNDING) >= least:
        return main
    return _joined(rank_edge(logits, least, near), main)


def walk_edge(walk: Walk, near: float = NEAR) -> Edge:
    """Ranks whose decider is about the bound, and those that are placed about where the walk ends."""
    distance = np.abs(walk.deciders - walk.bound)[walk.least :]
    main = NO_EDGE
    if distance.size:
        main = Edge(float(distance.min()), "probability", np.sort(walk.order[walk.least :][distance <= near]))
    count = walk.count
    if count == walk.order.size:
        return main
    last, following = walk.places[count - 1], walk.places[count]
    if following - last > near:
        return main
    tied = (walk.places <= following + near) & (walk.places >= last - near)
    return _joined(main, Edge(0.0, "nat", walk.order[tied]))


def _mass_edge(logits: Floats, p: float, least: int, whole: float | None, near: float) -> Edge:
    """Ranks whose mass above is about p; the first `least` ranks stay whatever p is."""
    order = np.argsort(-logits, kind="stable")[: np.count_nonzero(logits > -np.inf)]  # [survivors], best first
    with np.errstate(over="ignore"):
        weights = np.exp(logits[order] - logits[order[0]])  # [survivors]
    masses = weights / (weights.sum() if whole is None else whole)
    distance = np.abs(np.cumsum(masses)[:-1] - p)[least - 1 :]  # of rank least, least + 1, ...
    if not distance.size:
        return Edge(math.inf, "probability", NOBODY)
    return Edge(float(distance.min()), "probability", np.sort(order[least:][distance <= near]))


def _joined(main: Edge, other: Edge) -> Edge:
    """A cut that can turn on two things (top_p: the mass, a tie at its border); its margin is told for the main one."""
    return Edge(main.margin, main.unit, np.unique(np.concatenate((main.ids, other.ids))))


def _top_p(before: State, context: Context, near: float) -> Edge:
    p, rules, whole = context.params.top_p, context.semantics, top_p_whole(before, context)
    count = max(rules.min_tokens_to_keep, top_p_count(before.logits, p, rules.top_p_rule, whole))
    mass = _mass_edge(before.logits, p, rules.min_tokens_to_keep, whole, near)
    return _joined(mass, rank_edge(before.logits, count, near))


def _xtc(before: State, context: Context, near: float) -> Edge:
    """Logprobs about the threshold: one top choice more or less changes who is the least. And ties of the least."""
    logprobs, threshold = log_softmax(before.logits), xtc_threshold(context)  # [V]
    distance = np.abs(logprobs - threshold)
    margin, ids = float(distance.min()), np.flatnonzero(distance <= near)
    least = logprobs[logprobs > threshold + near].min(initial=math.inf)
    tied = np.flatnonzero(np.abs(logprobs - least) <= near)
    if ids.size or tied.size > 1:
        ids = np.union1d(ids, tied)
    return Edge(margin, "nat", ids)


Measure = Callable[[State, Context, float], Edge]


def _above(threshold: Callable[[State, Context], float]) -> Measure:
    return lambda s, c, near: threshold_edge(s.logits, threshold(s, c), c.semantics.min_tokens_to_keep, near)


EDGES: Mapping[str, Measure] = {
    "greedy": lambda s, _, near: rank_edge(s.logits, 1, near),
    "min_p": _above(lambda s, c: thresholds.min_p(s.logits, c.params.min_p)),
    "top_k": lambda s, c, near: rank_edge(s.logits, top_k_places(c), near),
    "top_p": _top_p,
    "typical_p": lambda s, c, near: walk_edge(typical_walk(s.logits, c), near),
    "top_h": lambda s, c, near: walk_edge(top_h_walk(s.logits, c), near),
    "tail_free": lambda s, c, near: walk_edge(tail_free_walk(s.logits, c), near),
    "top_n_sigma": _above(lambda s, c: thresholds.top_n_sigma(s.logits, c.params.top_n_sigma)),
    "top_a": _above(lambda s, c: thresholds.top_a(s.logits, c.params.top_a)),
    "epsilon": _above(lambda s, c: thresholds.epsilon(s.logits, c.params.epsilon_cutoff)),
    "eta": _above(lambda s, c: thresholds.eta(s.logits, c.params.eta_cutoff)),
    "xtc": _xtc,
    "mirostat": _above(lambda s, c: thresholds.mirostat(s.logits, mirostat_mu(c))),
}
