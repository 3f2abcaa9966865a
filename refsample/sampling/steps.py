"""The steps of the sampler, one record each. They know neither their order nor what comes before or after them.

A step maps logits [V] (float64, -inf = cut) to new logits [V]; it never writes into its input. Which step runs when is
the engine file's business (`Semantics.order`), and the pipeline's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refsample.errors import ParameterError
from refsample.sampling.params import SamplingParams
from refsample.spec.types import Scope, Semantics, StepName
from refsample_kernels import penalties, truncate
from refsample_kernels.softmax import log_total

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may look at beside the logits."""

    params: SamplingParams
    semantics: Semantics
    prompt_ids: Sequence[int] | Ids = ()
    output_ids: Sequence[int] | Ids = ()
    allowed: NDArray[np.bool_] | None = None
    """[V] tokens that a grammar lets through here; None: no grammar."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Logits on their way through the pipeline."""

    logits: Floats
    """[V], -inf where a step cut."""
    uncut: Floats
    """[V], the same without the cuts of `truncate` steps; the base of a joint top_p."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what switches it on and what it does."""

    name: StepName
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
    """Temperature 0 in the sense of the engine."""
    return effective_temperature(context.params, context.semantics) == 0.0


def seen(context: Context, scope: Scope) -> tuple[Ids, Ids]:
    """Distinct ids [K] that occurred in the scope, and how often [K]."""
    prompt, output = np.asarray(context.prompt_ids, dtype=np.int64), np.asarray(context.output_ids, dtype=np.int64)
    if scope == "output":
        history = output
    else:
        history = np.concatenate((prompt, output))
        if scope == "window":
            history = history[-context.semantics.penalty_window :]
    ids, counts = np.unique(history, return_counts=True)
    return ids, counts.astype(np.int64)


def _mask(state: State, context: Context) -> Floats:
    params = context.params
    legal = state.logits.copy() if context.allowed is None else _cut(state.logits, context.allowed)  # [V]
    if params.allowed_token_ids is None:
        out = legal
    else:
        allowed = list(params.allowed_token_ids)
        out = np.full(legal.size, -np.inf)  # [V]
        out[allowed] = legal[allowed]
    out[list(params.banned_token_ids)] = -np.inf
    return out


def _masks(context: Context) -> bool:
    params = context.params
    return context.allowed is not None or params.allowed_token_ids is not None or bool(params.banned_token_ids)


def _logit_bias(state: State, context: Context) -> Floats:
    bias, clamp = context.params.logit_bias, context.semantics.bias_clamp
    ids = np.fromiter(bias.keys(), dtype=np.int64, count=len(bias))  # [K]
    values = np.fromiter(bias.values(), dtype=np.float64, count=len(bias))  # [K]
    out = state.logits.copy()
    out[ids] += np.clip(values, -clamp, clamp)
    return out


def _repetition(state: State, context: Context) -> Floats:
    ids, _ = seen(context, context.semantics.repetition_scope)
    return penalties.repetition(state.logits, ids, context.params.repetition_penalty)


def _frequency(state: State, context: Context) -> Floats:
    ids, counts = seen(context, context.semantics.additive_scope)
    return penalties.frequency(state.logits, ids, counts, context.params.frequency_penalty)


def _presence(state: State, context: Context) -> Floats:
    ids, _ = seen(context, context.semantics.additive_scope)
    return penalties.presence(state.logits, ids, context.params.presence_penalty)


def _temperature(state: State, context: Context) -> Floats:
    temperature = effective_temperature(context.params, context.semantics)
    out: Floats = state.logits / temperature
    if np.isfinite(out.max()):
        return out
    # The quotient leaves float64: only differences matter from here on, so measure from the maximum.
    shifted: Floats = (state.logits - state.logits.max()) / temperature
    return shifted


def _cut(logits: Floats, kept: NDArray[np.bool_]) -> Floats:
    return np.where(kept, logits, -np.inf)  # [V]


def _greedy(state: State, context: Context) -> Floats:
    return _cut(state.logits, truncate.keep_greedy(state.logits))


def _min_p(state: State, context: Context) -> Floats:
    rules = context.semantics
    kept = truncate.keep_min_p(state.logits, context.params.min_p, rules.min_p_form, rules.min_tokens_to_keep)
    return _cut(state.logits, kept)


def top_k_places(context: Context) -> int:
    """How many ranks top_k leaves."""
    return max(context.params.top_k, context.semantics.min_tokens_to_keep)


def _top_k(state: State, context: Context) -> Floats:
    ties = "all" if context.semantics.top_k_ties == "keep_all" else "low_id"
    return _cut(state.logits, truncate.keep_ranked(state.logits, top_k_places(context), ties))


def top_p_total(state: State, context: Context) -> float | None:
    """ln of the mass that top_p is relative to; None: what is left before it."""
    return log_total(state.uncut) if context.semantics.top_p_base == "joint" else None


def _top_p(state: State, context: Context) -> Floats:
    p, rules = context.params.top_p, context.semantics
    total = top_p_total(state, context)
    kept = truncate.keep_top_p(state.logits, p, rules.top_p_rule, rules.top_p_ties, rules.min_tokens_to_keep, total)
    return _cut(state.logits, kept)


def _table(*steps: Step) -> Mapping[str, Step]:
    return MappingProxyType({step.name: step for step in steps})


PAGE = "OpenAI's API page"
STEPS: Mapping[str, Step] = _table(
    Step("mask", "adjust", ("allowed_token_ids", "banned_token_ids"), "None, ()", "vLLM allowed_token_ids",
         _masks, _mask),
    Step("logit_bias", "adjust", ("logit_bias",), "{}", PAGE, lambda c: bool(c.params.logit_bias), _logit_bias),
    Step("repetition", "adjust", ("repetition_penalty",), "1", "Keskar et al. 2019, CTRL, section 4.1",
         lambda c: c.params.repetition_penalty != 1.0, _repetition),
    Step("frequency", "adjust", ("frequency_penalty",), "0", PAGE,
         lambda c: c.params.frequency_penalty != 0.0, _frequency),
    Step("presence", "adjust", ("presence_penalty",), "0", PAGE,
         lambda c: c.params.presence_penalty != 0.0, _presence),
    Step("greedy", "greedy", ("temperature",), "> 0", "the limit of temperature -> 0", is_greedy, _greedy),
    Step("temperature", "scale", ("temperature",), "1; 0 is the step greedy", "Ackley, Hinton, Sejnowski 1985",
         lambda c: effective_temperature(c.params, c.semantics) not in (0.0, 1.0), _temperature),
    Step("min_p", "truncate", ("min_p",), "0", "Nguyen et al. 2024, Min-p sampling",
         lambda c: c.params.min_p > 0.0, _min_p),
    Step("top_k", "truncate", ("top_k",), "0, -1", "Fan, Lewis, Dauphin 2018, section 5.4",
         lambda c: c.params.top_k > 0, _top_k),
    Step("top_p", "truncate", ("top_p",), "1", "Holtzman et al. 2019, nucleus sampling",
         lambda c: c.params.top_p < 1.0, _top_p),
)  # fmt: skip
"""Every step there is, by name."""


NEUTRAL = SamplingParams()
GRAMMAR = "allowed"
"""What errors call the mask of a grammar, which is no field of SamplingParams."""


def plan(context: Context) -> tuple[Step, ...]:
    """The steps that will act, in the engine's order.

    Raises ParameterError where a parameter is set whose step the engine does not have: it would be dropped silently.
    """
    steps = tuple(STEPS[name] for name in context.semantics.order if STEPS[name].active(context))
    if len(context.semantics.order) < len(STEPS):
        for step in STEPS.values():
            if step.name not in context.semantics.order and step.active(context):
                name, value = _asked(step, context)
                raise ParameterError(name, value, "this engine has no such step", "the engine")
    return steps


def _asked(step: Step, context: Context) -> tuple[str, object]:
    """The parameter that switched a step on, and its value; for a grammar alone, how many tokens it allows."""
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
    if step.kind == "truncate":
        return State(logits, state.uncut)
    if state.uncut is state.logits:
        return State(logits, logits)
    return State(logits, step.apply(State(state.uncut, state.uncut), context))
