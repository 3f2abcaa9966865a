"""The logprobs of one answered token: value, rank and the best alternatives. It knows nothing of texts or JSON."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refsample.sampling.pipeline import Distribution
from refsample.spec.types import RankRule, Semantics
from refsample_kernels.topn import top_n


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Values are natural logs at the engine's stage; -inf stays -inf here (see `rendered`)."""

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]
    """(id, logprob) in the order in which the engine lists them."""


def token_logprobs(dist: Distribution, token_id: int, n: int, semantics: Semantics) -> TokenLogprobs:
    """Logprob and rank of a token and the best n alternatives.

    rank_sorted: the n best by value, equal ones by id; the token itself may be missing. ties_expanded: and all that are
    equal to the last of them. sampled_first_cut_n_plus_1: the
    token first, then the others of the n best: n entries, or n + 1 where the token is none of them (an API that lists n
    takes the first n).
    """
    return from_values(dist.logprobs(semantics.logprob_stage), token_id, n, semantics)


def from_values(values: NDArray[np.float64], token_id: int, n: int, semantics: Semantics) -> TokenLogprobs:
    """`token_logprobs` from logprobs [V] that are there already."""
    best = top_n(values, n).tolist()
    if semantics.top_logprobs_rule == "ties_expanded" and best:
        floor = max(values[best[-1]], np.finfo(np.float64).min)  # what is cut ties with nobody
        best = top_n(values, int(np.count_nonzero(values >= floor))).tolist()
    if semantics.top_logprobs_rule == "sampled_first_cut_n_plus_1":
        best = [token_id, *(i for i in best if i != token_id)]
    top = tuple((i, float(values[i])) for i in best)
    return TokenLogprobs(token_id, float(values[token_id]), rank_of(values, token_id, semantics.rank_rule), top)


def rank_of(values: NDArray[np.float64], token_id: int, rule: RankRule) -> int:
    """1 for the best. strict: 1 + count of greater values; ge: count of values that are equal or greater."""
    value = values[token_id]
    if rule == "ge":
        return int(np.count_nonzero(values >= value))
    return 1 + int(np.count_nonzero(values > value))


def rendered(logprob: float, semantics: Semantics) -> float:
    """The number that an answer shows: never below the engine's stand-in for -inf."""
    return max(logprob, semantics.minus_inf)
