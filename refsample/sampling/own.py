"""A step that a user writes: a function over logits and history, with a name and a place. Knows no engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from refsample.errors import ParameterError
from refsample.sampling.context import Context, Floats, Ids, State, Step

Function = Callable[[Floats, Ids, Ids], ArrayLike]


@dataclass(frozen=True, slots=True)
class OwnStep:
    """A step beside those of the engine file; it runs at every draw and is traced like them."""

    name: str
    function: Function
    """(logits [V] float64, prompt ids [P] int64, output ids [O]) -> new logits [V]; -inf is cut. All are copies."""
    before: str | None = None
    """Name of the engine's step in front of which it runs; None: after all of them."""
    kind: Literal["adjust", "truncate"] = "adjust"
    """Whether it changes logits, as penalties do, or only cuts: logprobs before truncation leave a cut out."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ParameterError("steps", self.name, "a step needs a name")
        if not callable(self.function):
            raise ParameterError(f"steps.{self.name}", self.function, "must be a function of logits and two histories")
        if self.kind not in ("adjust", "truncate"):
            raise ParameterError(f"steps.{self.name}.kind", self.kind, "must be adjust or truncate")


def as_step(own: OwnStep) -> Step:
    """The step that the pipeline runs. Its result is checked: [V] numbers, no NaN; ParameterError names it."""

    def apply(state: State, context: Context) -> Floats:
        histories = (np.array(ids, dtype=np.int64) for ids in (context.prompt_ids, context.output_ids))  # copies too
        given = own.function(state.logits.copy(), *histories)
        try:
            logits = np.array(given, dtype=np.float64)  # a copy: the function may keep its own
        except (TypeError, ValueError):
            raise ParameterError(f"steps.{own.name}", given, "must return numbers of the shape [V]") from None
        if logits.shape != state.logits.shape or np.isnan(logits).any():
            rule = f"must return {state.logits.size} logits, none of them NaN"
            raise ParameterError(f"steps.{own.name}", logits.shape, rule)
        if own.kind == "truncate" and not np.array_equal(logits[logits > -np.inf], state.logits[logits > -np.inf]):
            raise ParameterError(f"steps.{own.name}", ..., "a step of the kind truncate may only set logits to -inf")
        return logits

    return Step(own.name, own.kind, (), "", "the user's own", lambda _: True, apply)
