"""What a step sees and what it is. Knows no step by name.

A step maps logits [V] (float64, -inf = cut) to new logits [V]; it never writes into its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from refsample.errors import ParameterError
from refsample.sampling.params import SamplingParams
from refsample.spec.types import Scope, Semantics

if TYPE_CHECKING:
    from refsample.sampling.own import OwnStep

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Memory:
    """What mirostat knows from the draws before this one."""

    mu: float
    """Bits: more surprising tokens are cut. Finite."""

    def __post_init__(self) -> None:
        if isinstance(self.mu, bool) or not isinstance(self.mu, int | float) or not math.isfinite(self.mu):
            raise ParameterError("state.mu", self.mu, "must be a finite number")


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may look at beside the logits."""

    params: SamplingParams
    semantics: Semantics
    prompt_ids: Sequence[int] | Ids = ()
    output_ids: Sequence[int] | Ids = ()
    allowed: NDArray[np.bool_] | None = None
    """[V] tokens that a grammar lets through here; None: no grammar."""
    memory: Memory | None = None
    """None: nothing was drawn yet."""
    coin: bool = True
    """Whether XTC acts, where it is on: its coin falls anew for each draw."""
    own: tuple[OwnStep, ...] = ()
    """Steps of the user's beside the engine's."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Logits on their way through the pipeline."""

    logits: Floats
    """[V], -inf where a step cut."""
    uncut: Floats
    """[V], the same without the cuts of `truncate` steps; the base of a joint top_p."""
    listed: int
    """Tokens in the list of an engine that takes off what it truncates, but not what it sets to -inf."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what switches it on and what it does."""

    name: str
    kind: Literal["adjust", "greedy", "scale", "truncate"]
    """adjust: changes logits; truncate: only cuts; greedy and scale: the two halves of temperature."""
    parameters: tuple[str, ...]
    """Fields of SamplingParams that it carries out."""
    neutral: str
    """Values at which it does nothing."""
    source: str
    active: Callable[[Context], bool]
    apply: Callable[[State, Context], Floats]


def effective_temperature(params: SamplingParams, semantics: Semantics) -> float:
    """The temperature that acts: raised to the engine's clamp, and 0.0 where the engine takes it as greedy."""
    temperature = params.temperature
    if 0.0 < temperature < semantics.temperature_clamp:
        temperature = semantics.temperature_clamp
    return 0.0 if temperature < semantics.greedy_below else temperature


def is_greedy(context: Context) -> bool:
    """Temperature 0 in the sense of the engine; a dynamic one is not 0, though it may come to be."""
    params = context.params
    return params.dynatemp_range == 0.0 and effective_temperature(params, context.semantics) == 0.0


def history(context: Context, scope: Scope) -> Ids:
    """Ids [N] of the scope, oldest first."""
    output = np.asarray(context.output_ids, dtype=np.int64)
    if scope == "output":
        return output
    both = np.concatenate((np.asarray(context.prompt_ids, dtype=np.int64), output))
    return both[-context.semantics.penalty_window :] if scope == "window" else both


def seen(context: Context, scope: Scope) -> tuple[Ids, Ids]:
    """Distinct ids [K] that occurred in the scope, and how often [K]."""
    ids, counts = np.unique(history(context, scope), return_counts=True)
    return ids, counts.astype(np.int64)


def cut(logits: Floats, kept: NDArray[np.bool_]) -> Floats:
    """[V] logits, -inf where not kept."""
    return np.where(kept, logits, -np.inf)


def cooled(logits: Floats, temperature: float) -> Floats:
    """[V] logits / temperature, for a temperature above 0."""
    out: Floats = logits / temperature
    if np.isfinite(out.max()):
        return out
    # The quotient leaves float64: only differences matter from here on, so measure from the maximum.
    shifted: Floats = (logits - logits.max()) / temperature
    return shifted
