"""What every step did to every token. It knows what a step is, none by name, and not their order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refsample.sampling.context import Context, State, Step
from refsample.sampling.edges import NEAR, NOBODY, edge_of
from refsample_kernels.softmax import softmax

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


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
    """Tokens within `near` of the cut: 1e-6, unless asked otherwise."""


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
        """Tokens within `near` of any cut, ascending."""
        return np.unique(np.concatenate((NOBODY, *(step.undecidable for step in self.steps))))


def record(step: Step, before: State, after: State, context: Context, near: float = NEAR) -> StepTrace:
    """The record of a step that acted; undecidable is what lies within `near` of its cut."""
    alive = after.logits > -np.inf  # [V]
    cut = np.flatnonzero((before.logits > -np.inf) & ~alive)
    mass = float(softmax(before.logits)[alive].sum()) if cut.size else 1.0
    edge = edge_of(step.name, before, context, near)
    return StepTrace(step.name, True, after.logits, cut, mass, edge.margin, edge.unit, edge.ids)


def idle(step: Step, state: State) -> StepTrace:
    """The record of a step that had nothing to do."""
    return StepTrace(step.name, False, state.logits, NOBODY, 1.0, math.inf, "nat", NOBODY)
