"""Likelihood evidence: how much better each fault explains what was seen than the honest reference does.

All figures are natural logarithms. For every check and hypothesis j a gain ln(q_j/p) is kept, p being the honest
float32 reference; exp(sum of gains) is an e-value: its expectation under the honest law is at most 1, at any stopping
time (Ville), so P(e >= 1/alpha) <= alpha. A second honest configuration is handled by universal inference: the gains
are reduced by the gain of the best honest one. Sources: verification.md S1, S3, S7, S8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIX = 0.02
"""Share of the honest law mixed into every alternative, so that one token never ends a bet."""
CAP = 8.0
"""Largest gain (nats) from one greedy position."""
FREEDOM = 4.0
"""Degrees of freedom of the residuals' Student t: error bars are estimates, and tails of kernel noise are heavy."""
IMPOSSIBLE = 1e-9
"""Stands for probability 0 in a gain; the verdict of such a token is a proof, not this number."""
PRECISION_HYPOTHESES = frozenset({"weights_int4", "other_model"})
"""Alternatives whose exact recipe is not known: each of their pieces of evidence is averaged with 1."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one check learned. `gains` over faults, `nulls` over other honest configurations, `proofs` in words."""

    gains: Mapping[str, float] = field(default_factory=dict)
    nulls: Mapping[str, float] = field(default_factory=dict)
    proofs: tuple[str, ...] = ()
    observations: int = 0
    decided_after: int | None = None
    """Number of observations after which the check alone would have decided; None: never."""


def bet(q: float, p: float) -> float:
    """ln of the bet factor (1-MIX) q/p + MIX for one observation of honest probability p > 0."""
    return math.log((1 - MIX) * q / p + MIX)


def log_mean_exp(values: Sequence[float]) -> float:
    """ln of the mean of exp(values)."""
    array = np.asarray(values, np.float64)
    top = float(array.max())
    return top + math.log(float(np.exp(array - top).mean()))


def hedge(gain: float) -> float:
    """ln((1 + e^gain) / 2): the average of a bet and of no bet, an e-value like both."""
    return float(np.logaddexp(0.0, gain)) - math.log(2.0)


def total_gains(parts: Sequence[Evidence], *, hedged: bool = True) -> dict[str, float]:
    """Gain of every hypothesis over all parts, less that of the best honest configuration.

    hedged: to accuse, a recipe that is not known is bet on part by part; to rule it out, every part speaks in full.
    """
    names = {name for part in parts for name in part.gains}
    honest = max(
        0.0,
        *(sum(part.nulls.get(null, 0.0) for part in parts) for null in {n for part in parts for n in part.nulls}),
        0.0,
    )
    return {name: sum(_part_gain(name, part, hedged) for part in parts) - honest for name in sorted(names)}


def _part_gain(name: str, part: Evidence, hedged: bool) -> float:
    gain = part.gains.get(name, 0.0)
    return hedge(gain) if hedged and name in PRECISION_HYPOTHESES and name in part.gains else gain


def log_e_value(parts: Sequence[Evidence]) -> float:
    """ln e-value of the parts together: the plain average over the hypotheses (costs ln J nats)."""
    gains = total_gains(parts)
    return log_mean_exp(list(gains.values())) if gains else 0.0


def posterior(parts: Sequence[Evidence]) -> list[tuple[str, float]]:
    """Hypotheses with their share of the likelihood, honest included as "none", most likely first; equal priors."""
    gains = {**total_gains(parts), "none": 0.0}
    norm = log_mean_exp(list(gains.values())) + math.log(len(gains))
    return sorted(((name, math.exp(gain - norm)) for name, gain in gains.items()), key=lambda pair: -pair[1])


class Tally:
    """Gains of one check, added up observation by observation."""

    def __init__(self, hypotheses: Sequence[str], nulls: Sequence[str], threshold: float) -> None:
        self.gains = dict.fromkeys(hypotheses, 0.0)
        self.nulls = dict.fromkeys(nulls, 0.0)
        self.proofs: list[str] = []
        self.observations = 0
        self._threshold, self._decided = threshold, None if hypotheses else 0

    def add(self, gains: Mapping[str, float], nulls: Mapping[str, float], proof: str | None = None) -> None:
        """One observation."""
        for name, gain in gains.items():
            self.gains[name] += gain
        for name, gain in nulls.items():
            self.nulls[name] += gain
        if proof is not None:
            self.proofs.append(proof)
        self.observations += 1
        if self._decided is None and (self.proofs or self._log_e() >= self._threshold):
            self._decided = self.observations

    def _log_e(self) -> float:
        return log_mean_exp(list(self.gains.values())) - max(0.0, *self.nulls.values(), 0.0)

    def evidence(self) -> Evidence:
        return Evidence(
            dict(self.gains), dict(self.nulls), tuple(self.proofs), self.observations, self._decided or None
        )


def log_density(residual: float, sigma: float) -> float:
    """ln density of a residual whose scale is sigma (Student t), without its constant."""
    return -math.log(sigma) - 0.5 * (FREEDOM + 1.0) * math.log1p((residual / sigma) ** 2 / FREEDOM)


def residual_gain(residual: float, sigma: float, base_residual: float, base_sigma: float) -> float:
    """Gain of one position of returned logprobs (S8): each rms residual against its own expected size."""
    return log_density(residual, sigma) - log_density(base_residual, base_sigma)


def flip_probability(margin: float, sigma: float) -> float:
    """P(an engine with rms logit error sigma takes another token where the best leads by `margin` nats) (S7)."""
    return max(IMPOSSIBLE, 0.5 * math.erfc(margin / (2.0 * sigma)))


def flip_gain(flipped: bool, margin: float, sigma: float, base_sigma: float, followed: float = 1.0) -> float:
    """Gain of one greedy position: the token was, or was not, the reference's best.

    followed: the alternative's own probability of that token at temperature 0: below 1 where it does not take it so.
    """
    p = flip_probability(margin, base_sigma)
    stays = max(IMPOSSIBLE, followed * (1.0 - flip_probability(margin, sigma)))
    gain = math.log(max(IMPOSSIBLE, 1.0 - stays) / p) if flipped else math.log(stays) - math.log1p(-p)
    return min(CAP, max(-CAP, gain))
