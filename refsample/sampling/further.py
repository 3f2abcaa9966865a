"""The steps that only some engines have: repeats, shapes of the distribution, chance and memory. One record each.

Like those of `standard` they know neither their order nor each other.
"""

from __future__ import annotations

import math

import numpy as np

from refsample.sampling.context import Context, Floats, Memory, State, Step, cooled, cut, history
from refsample_kernels import repeats, thresholds, walks
from refsample_kernels.penalties import FARTHEST
from refsample_kernels.softmax import log_softmax
from refsample_kernels.truncate import ROUNDING, keep_greedy, keep_ranked
from refsample_kernels.walks import Walk


def _no_repeat_ngram(state: State, context: Context) -> Floats:
    ids = history(context, "prompt_and_output").tolist()
    out = state.logits.copy()
    out[list(repeats.completing(ids, context.params.no_repeat_ngram_size))] = -np.inf
    return out


def _dry(state: State, context: Context) -> Floats:
    params, ids = context.params, history(context, "prompt_and_output").tolist()
    if params.dry_penalty_last_n >= 0:
        ids = ids[-params.dry_penalty_last_n :]
    out = state.logits.copy()
    for token, length in repeats.dry(ids, params.dry_allowed_length, params.dry_sequence_breakers).items():
        if out[token] > -np.inf:
            taken = repeats.dry_penalty(length, params.dry_multiplier, params.dry_base, params.dry_allowed_length)
            out[token] = max(out[token] - taken, -FARTHEST)
    return out


def dynamic_temperature(state: State, context: Context) -> float:
    """Between temperature - range and temperature + range, by the share of the largest entropy; 1 for one token."""
    params, logits, alive = context.params, state.logits, np.count_nonzero(state.logits > -np.inf)
    if alive == 1:
        return 1.0
    count = state.listed if context.semantics.dynatemp_base == "listed" else alive
    low = max(0.0, params.temperature - params.dynatemp_range)
    high = params.temperature + params.dynatemp_range
    share = min(1.0, max(0.0, thresholds.entropy(logits) / math.log(count)))
    return float(low + (high - low) * share**params.dynatemp_exponent)


def _dynamic_temperature(state: State, context: Context) -> Floats:
    temperature = dynamic_temperature(state, context)
    if temperature == 0.0:
        return cut(state.logits, keep_greedy(state.logits))
    return cooled(state.logits, temperature)


def typical_walk(logits: Floats, context: Context) -> Walk:
    """The walk of typical_p under the engine's rule."""
    rules = context.semantics
    return walks.typical(logits, context.params.typical_p, rules.typical_rule, rules.min_tokens_to_keep)


def top_h_walk(logits: Floats, context: Context) -> Walk:
    """The walk of top_h."""
    rules = context.semantics
    return walks.top_h(logits, context.params.top_h, rules.top_h_ranks, rules.min_tokens_to_keep)


def tail_free_walk(logits: Floats, context: Context) -> Walk:
    """The walk of tfs_z."""
    return walks.tail_free(logits, context.params.tfs_z, context.semantics.min_tokens_to_keep)


def _typical_p(state: State, context: Context) -> Floats:
    walk = typical_walk(state.logits, context)
    return cut(state.logits, walks.keep(walk, state.logits.size, context.semantics.typical_ties))


def _top_h(state: State, context: Context) -> Floats:
    return cut(state.logits, walks.keep(top_h_walk(state.logits, context), state.logits.size))


def _tail_free(state: State, context: Context) -> Floats:
    return cut(state.logits, walks.keep(tail_free_walk(state.logits, context), state.logits.size))


def _above(logits: Floats, threshold: float, context: Context, ties: str = "low_id") -> Floats:
    return cut(logits, thresholds.keep_above(logits, threshold, context.semantics.min_tokens_to_keep, ties))


def mirostat_mu(context: Context) -> float:
    """The state of mirostat: at first twice the surprise that is aimed at."""
    return min(FARTHEST, 2.0 * context.params.mirostat_tau) if context.memory is None else context.memory.mu


def mirostat_after(probability: float, context: Context) -> Memory:
    """The state after a draw of a token of this probability: mu - eta * (surprise - tau)."""
    miss = -math.log2(probability) - context.params.mirostat_tau
    moved = mirostat_mu(context) - context.params.mirostat_eta * miss
    return Memory(max(-FARTHEST, min(FARTHEST, moved)))


def xtc_threshold(context: Context) -> float:
    """Lowest logprob of a top choice; finite, so that a distance from it is a number."""
    threshold = context.params.xtc_threshold
    return math.log(threshold) if threshold else -FARTHEST


def _xtc(state: State, context: Context) -> Floats:
    """Without the top choices, but for the least of them."""
    logprobs, threshold = log_softmax(state.logits), xtc_threshold(context)  # [V]
    alive = logprobs > -np.inf
    strict = context.semantics.xtc_rule == "gt"
    top = alive & ((logprobs > threshold + ROUNDING) if strict else (logprobs >= threshold - ROUNDING))  # [V]
    count = int(np.count_nonzero(top))
    left = int(np.count_nonzero(alive)) - count + 1
    if count < 2 or left < context.semantics.min_tokens_to_keep:
        return state.logits
    if context.semantics.xtc_ties == "all":
        return cut(state.logits, ~top | (state.logits == state.logits[top].min()))
    return cut(state.logits, ~keep_ranked(state.logits, count - 1))


HEWITT, LLAMACPP = "Hewitt, Manning, Liang 2022, Truncation sampling as language model desmoothing", "llama.cpp"
FURTHER: tuple[Step, ...] = (
    Step("no_repeat_ngram", "adjust", ("no_repeat_ngram_size",), "0", "Paulus, Xiong, Socher 2017, section 2.5",
         lambda c: c.params.no_repeat_ngram_size > 0, _no_repeat_ngram),
    Step("dry", "adjust", ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
                           "dry_sequence_breakers"), "multiplier 0", "DRY, p-e-w 2024, as in llama.cpp",
         lambda c: c.params.dry_multiplier > 0.0 and c.params.dry_penalty_last_n != 0, _dry),
    Step("dynamic_temperature", "scale", ("dynatemp_range", "dynatemp_exponent"), "range 0", LLAMACPP,
         lambda c: c.params.dynatemp_range > 0.0, _dynamic_temperature),
    Step("typical_p", "truncate", ("typical_p",), "1", "Meister et al. 2022, Locally typical sampling",
         lambda c: c.params.typical_p < 1.0, _typical_p),
    Step("top_h", "truncate", ("top_h",), "0", "Top-H decoding, arXiv 2509.02510",
         lambda c: c.params.top_h > 0.0, _top_h),
    Step("top_n_sigma", "truncate", ("top_n_sigma",), "0 and below", "Tang et al. 2024, Top-nσ",
         lambda c: c.params.top_n_sigma > 0.0,
         lambda s, c: _above(s.logits, thresholds.top_n_sigma(s.logits, c.params.top_n_sigma), c)),
    Step("tail_free", "truncate", ("tfs_z",), "1", "Bricken 2019, Tail free sampling",
         lambda c: c.params.tfs_z < 1.0, _tail_free),
    Step("top_a", "truncate", ("top_a",), "0", "BlinkDL, RWKV-LM",
         lambda c: c.params.top_a > 0.0, lambda s, c: _above(s.logits, thresholds.top_a(s.logits, c.params.top_a), c)),
    Step("epsilon", "truncate", ("epsilon_cutoff",), "0", HEWITT, lambda c: c.params.epsilon_cutoff > 0.0,
         lambda s, c: _above(s.logits, thresholds.epsilon(s.logits, c.params.epsilon_cutoff), c,
                             c.semantics.floor_ties)),
    Step("eta", "truncate", ("eta_cutoff",), "0", HEWITT, lambda c: c.params.eta_cutoff > 0.0,
         lambda s, c: _above(s.logits, thresholds.eta(s.logits, c.params.eta_cutoff), c)),
    Step("xtc", "truncate", ("xtc_probability", "xtc_threshold"), "probability 0", "Exclude top choices, p-e-w 2024",
         lambda c: c.params.xtc_probability > 0.0 and c.coin, _xtc),
    Step("mirostat", "truncate", ("mirostat", "mirostat_tau", "mirostat_eta"), "0", "Basu et al. 2020, Mirostat",
         lambda c: c.params.mirostat == 2,
         lambda s, c: _above(s.logits, thresholds.mirostat(s.logits, mirostat_mu(c)), c)),
)  # fmt: skip
