"""What every step did to every token, and how near each decision was. It knows the steps, not their order.

A decision is undecidable for a token if moving a logit by 1e-6 nat, or a mass by 1e-6, could turn it: another correct
implementation (float32, other summation order) may then decide otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refsample.sampling.steps import Context, State, Step, top_k_places, top_p_total
from refsample_kernels.softmax import log_total, softmax
from refsample_kernels.truncate import ROUNDING, top_p_count

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

NEAR = 1e-6
NOBODY: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class StepTrace:
    """One step of one decision."""

    name: str
    active: bool
    """False: its parameter is neutral, nothing happened."""
    logits: Floats
    """[V] after the step."""
    cut: Ids
    """Tokens that this step took out."""
    mass_kept: float
    """Share of the probability before the step that was on tokens it kept."""
    margin: float
    """Distance from the cut to the nearest token's decision; inf where nothing was in question."""
    margin_unit: Literal["nat", "probability"]
    undecidable: Ids
    """Tokens within 1e-6 of the cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The whole way of one decision, in the engine's order, with the steps that did nothing."""

    logits: Floats
    """[V] as they came from the model."""
    steps: tuple[StepTrace, ...]

    def step(self, name: str) -> StepTrace:
        """The record of a step of the engine's order. Raises KeyError."""
        return {step.name: step for step in self.steps}[name]

    @property
    def undecidable(self) -> Ids:
        """Tokens within 1e-6 of any cut, ascending."""
        return np.unique(np.concatenate((NOBODY, *(step.undecidable for step in self.steps))))


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """How near a cut is to the tokens."""

    margin: float
    unit: Literal["nat", "probability"]
    ids: Ids


NO_EDGE = Edge(math.inf, "nat", NOBODY)


def record(step: Step, before: State, after: State, context: Context) -> StepTrace:
    """The record of a step that acted."""
    alive = after.logits > -np.inf  # [V]
    cut = np.flatnonzero((before.logits > -np.inf) & ~alive)
    mass = float(softmax(before.logits)[alive].sum()) if cut.size else 1.0
    edge = edge_of(step, before, context)
    return StepTrace(step.name, True, after.logits, cut, mass, edge.margin, edge.unit, edge.ids)


def idle(step: Step, state: State) -> StepTrace:
    """The record of a step that had nothing to do."""
    return StepTrace(step.name, False, state.logits, NOBODY, 1.0, math.inf, "nat", NOBODY)


def edge_of(step: Step, before: State, context: Context) -> Edge:
    """How near the cut of a step is to the tokens that it found."""
    params, rules = context.params, context.semantics
    if step.name == "greedy":
        return rank_edge(before.logits, 1)
    if step.name == "top_k":
        return rank_edge(before.logits, top_k_places(context))
    if step.name == "min_p":
        return _min_p_edge(before.logits, params.min_p, rules.min_tokens_to_keep)
    if step.name == "top_p":
        total = top_p_total(before, context)
        count = max(rules.min_tokens_to_keep, top_p_count(before.logits, params.top_p, rules.top_p_rule, total))
        mass = _mass_edge(before.logits, params.top_p, rules.min_tokens_to_keep, total)
        return _joined(mass, rank_edge(before.logits, count))
    return NO_EDGE


def rank_edge(logits: Floats, count: int) -> Edge:
    """The cut between rank `count` and the next: the gap in nats, and who could change sides."""
    if count >= np.count_nonzero(logits > -np.inf):
        return NO_EDGE
    size = logits.size
    ranked = np.partition(logits, (size - count - 1, size - count))
    first_out, last_in = float(ranked[size - count - 1]), float(ranked[size - count])
    gap = last_in - first_out
    if gap > NEAR:
        return Edge(gap, "nat", NOBODY)
    return Edge(gap, "nat", np.flatnonzero((logits >= last_in - NEAR) & (logits <= first_out + NEAR)))


def _min_p_edge(logits: Floats, min_p: float, least: int) -> Edge:
    """Tokens near the threshold; the maximum itself stays whatever happens, so it is never in question."""
    threshold = logits.max() + math.log(min_p)
    others = logits < logits.max()  # [V]
    distance = np.abs(logits - threshold)  # [V], inf where cut before
    near = Edge(float(distance[others].min(initial=math.inf)), "nat", np.flatnonzero((distance <= NEAR) & others))
    if np.count_nonzero(logits >= threshold - ROUNDING) >= least:
        return near
    return _joined(rank_edge(logits, least), near)


def _mass_edge(logits: Floats, p: float, least: int, total: float | None) -> Edge:
    """Ranks whose mass above is about p; the first `least` ranks stay whatever p is."""
    order = np.argsort(-logits, kind="stable")[: np.count_nonzero(logits > -np.inf)]  # [survivors], best first
    base = log_total(logits) if total is None else total
    masses = np.exp(logits[order] - base)  # [survivors]
    distance = np.abs(np.cumsum(masses)[:-1] - p)[least - 1 :]  # of rank least, least + 1, ...
    if not distance.size:
        return Edge(math.inf, "probability", NOBODY)
    return Edge(float(distance.min()), "probability", np.sort(order[least:][distance <= NEAR]))


def _joined(main: Edge, other: Edge) -> Edge:
    """A cut that can turn on two things (top_p: the mass, a tie at its border); its margin is told for the main one."""
    return Edge(main.margin, main.unit, np.unique(np.concatenate((main.ids, other.ids))))


