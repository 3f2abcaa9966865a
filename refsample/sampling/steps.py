"""Every step by name, which of them act, and one step forward. Knows the order only as data.

The steps themselves are in `standard` and `further`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from refsample.errors import ParameterError
from refsample.sampling.context import Context, Floats, State, Step, cooled
from refsample.sampling.further import FURTHER, dynamic_temperature
from refsample.sampling.own import as_step
from refsample.sampling.params import SamplingParams
from refsample.sampling.standard import STANDARD, top_k_places
from refsample.spec.types import StepName

STEPS: Mapping[str, Step] = MappingProxyType({step.name: step for step in (*STANDARD, *FURTHER)})
"""Every step there is, by name."""


NEUTRAL = SamplingParams()
GRAMMAR = "allowed"
"""What errors call the mask of a grammar, which is no field of SamplingParams."""


def order_of(context: Context) -> tuple[StepName, ...]:
    """Names of the engine's steps in their order."""
    rules = context.semantics
    return rules.mirostat_order if context.params.mirostat and rules.mirostat_order else rules.order


def sequence(context: Context) -> tuple[Step, ...]:
    """All steps in the order in which they run, active or not: the engine's, and the user's own at their places.

    Raises ParameterError for an own step whose name is taken or whose place the engine does not have.
    """
    steps = [STEPS[name] for name in order_of(context)]
    for own in context.own:
        names = [step.name for step in steps]
        if own.name in STEPS or own.name in names:
            raise ParameterError("steps", own.name, "a step of this name is there already")
        if own.before is not None and own.before not in names:
            raise ParameterError(f"steps.{own.name}.before", own.before, f"must be one of {', '.join(names)}")
        steps.insert(len(names) if own.before is None else names.index(own.before), as_step(own))
    return tuple(steps)


def plan(context: Context) -> tuple[Step, ...]:
    """The steps that will act, in the order in which they run.

    Raises ParameterError where a parameter is set whose step the engine does not have: it would be dropped silently.
    """
    order = order_of(context)
    acting = {name for name, step in STEPS.items() if step.active(context)}
    for name in (name for name in STEPS if name in acting and name not in order):
        parameter, value = _asked(STEPS[name], context)
        when = " while mirostat is on" if name in context.semantics.order else ""
        raise ParameterError(parameter, value, f"this engine has no such step{when}", "the engine")
    if context.own:
        return tuple(step for step in sequence(context) if step.name in acting or step.name not in STEPS)
    return tuple(STEPS[name] for name in order if name in acting)


def _asked(step: Step, context: Context) -> tuple[str, object]:
    """The parameter that switched a step on, and its value; for a grammar alone, how many tokens it allows."""
    if not step.parameters:
        return f"steps.{step.name}", ...
    given = [name for name in step.parameters if getattr(context.params, name) != getattr(NEUTRAL, name)]
    if not given and step.name == "mask" and context.allowed is not None:
        return GRAMMAR, int(np.count_nonzero(context.allowed))
    name = given[0] if given else step.parameters[0]
    return name, getattr(context.params, name)


def advance(state: State, step: Step, context: Context) -> State:
    """The state after a step. Raises ParameterError where nothing is left, or a logit left the numbers."""
    logits = step.apply(state, context)
    top = logits.max()
    if not np.isfinite(top):
        name, value = _asked(step, context)
        rule = "leaves no token that could be drawn" if top == -np.inf else "drives a logit to infinity"
        if top == -np.inf and step.name == "mask" and context.allowed is not None and name != GRAMMAR:
            rule += f" of the {np.count_nonzero(context.allowed)} that the grammar allows"
        raise ParameterError(name, value, rule)
    listed = _listed(state, step, logits, context)
    if step.kind == "truncate":
        return State(logits, state.uncut, listed)
    return State(logits, _base(state, step, logits, context), listed)


def _base(before: State, step: Step, logits: Floats, context: Context) -> Floats:
    """[V] the logits without cuts after a step that adjusts or scales; only a joint top_p looks at them."""
    if context.semantics.top_p_base != "joint" or before.uncut is before.logits:
        return logits
    if step.name == "dynamic_temperature":  # the same temperature for both: that of what is left
        temperature = dynamic_temperature(before, context)
        return cooled(before.uncut, temperature) if temperature else before.uncut
    return step.apply(replace(before, logits=before.uncut), context)


def _listed(before: State, step: Step, logits: Floats, context: Context) -> int:
    """How many tokens are in the list after a step (see `Semantics.dynatemp_base`)."""
    unread = context.semantics.dynatemp_base == "possible" or context.params.dynatemp_range == 0.0
    if unread or step.kind != "truncate" or step.name == "top_n_sigma":
        return before.listed
    alive = int(np.count_nonzero(logits > -np.inf))
    if step.name == "top_k":
        return max(alive, min(before.listed, top_k_places(context)))
    return before.listed - int(np.count_nonzero(before.logits > -np.inf)) + alive if step.name == "xtc" else alive
