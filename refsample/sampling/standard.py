"""The steps that every engine has some of: bias, penalties, temperature, min_p, top_k, top_p. One record each.

They know neither their order nor what comes before or after them: which step runs when is the engine file's business
(`Semantics.order`), and the pipeline's.
"""

from __future__ import annotations

import numpy as np

from refsample.sampling.context import (
    Context,
    Floats,
    State,
    Step,
    cooled,
    cut,
    effective_temperature,
    is_greedy,
    seen,
)  # fmt: skip
from refsample_kernels import penalties, truncate


def _mask(state: State, context: Context) -> Floats:
    params = context.params
    legal = state.logits.copy() if context.allowed is None else cut(state.logits, context.allowed)  # [V]
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
    penalty = context.params.frequency_penalty
    if context.semantics.frequency_form == "relative" and ids.size:
        penalty /= float(counts.sum())
    return penalties.frequency(state.logits, ids, counts, penalty)


def _presence(state: State, context: Context) -> Floats:
    ids, _ = seen(context, context.semantics.additive_scope)
    return penalties.presence(state.logits, ids, context.params.presence_penalty)


def _temperature(state: State, context: Context) -> Floats:
    return cooled(state.logits, effective_temperature(context.params, context.semantics))


def _scales(context: Context) -> bool:
    fixed = context.params.dynatemp_range == 0.0
    return fixed and effective_temperature(context.params, context.semantics) not in (0.0, 1.0)


def _greedy(state: State, context: Context) -> Floats:
    if context.semantics.greedy_ties == "all":
        return cut(state.logits, state.logits == state.logits.max())
    return cut(state.logits, truncate.keep_greedy(state.logits))


def _min_p(state: State, context: Context) -> Floats:
    rules = context.semantics
    kept = truncate.keep_min_p(state.logits, context.params.min_p, rules.min_p_form, rules.min_tokens_to_keep)
    return cut(state.logits, kept)


def top_k_places(context: Context) -> int:
    """How many ranks top_k leaves."""
    return max(context.params.top_k, context.semantics.min_tokens_to_keep)


def _top_k(state: State, context: Context) -> Floats:
    ties = "all" if context.semantics.top_k_ties == "keep_all" else "low_id"
    return cut(state.logits, truncate.keep_ranked(state.logits, top_k_places(context), ties))


def top_p_whole(state: State, context: Context) -> float | None:
    """The mass that top_p is relative to, where the best that is left weighs 1; None: that of what is left."""
    joint = context.semantics.top_p_base == "joint"
    return truncate.mass_beside(state.uncut, float(state.logits.max())) if joint else None


def _top_p(state: State, context: Context) -> Floats:
    p, rules = context.params.top_p, context.semantics
    whole = top_p_whole(state, context)
    kept = truncate.keep_top_p(state.logits, p, rules.top_p_rule, rules.top_p_ties, rules.min_tokens_to_keep, whole)
    return cut(state.logits, kept)


PAGE = "OpenAI's API page"
STANDARD: tuple[Step, ...] = (
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
         _scales, _temperature),
    Step("min_p", "truncate", ("min_p",), "0", "Nguyen et al. 2024, Min-p sampling",
         lambda c: c.params.min_p > 0.0, _min_p),
    Step("top_k", "truncate", ("top_k",), "0, -1", "Fan, Lewis, Dauphin 2018, section 5.4",
         lambda c: c.params.top_k > 0, _top_k),
    Step("top_p", "truncate", ("top_p",), "1", "Holtzman et al. 2019, nucleus sampling",
         lambda c: c.params.top_p < 1.0, _top_p),
)  # fmt: skip
