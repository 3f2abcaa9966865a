"""What the sampler tests share: a law from given probabilities. Knows no expected value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import Distribution, distribution
from refsample.sampling.semantics import resolve

NOTHING: Mapping[str, object] = {}


def law(
    probs: Sequence[float],
    engine: str = "reference",
    overrides: Mapping[str, object] = NOTHING,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    **params: object,
) -> Distribution:
    """Distribution of a model whose probabilities are `probs` (0 is a logit of -inf)."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probs, dtype=np.float64))
    return law_of(logits, engine, overrides, prompt, output, **params)


def law_of(
    logits: Sequence[float] | NDArray[np.float64],
    engine: str = "reference",
    overrides: Mapping[str, object] = NOTHING,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    **params: object,
) -> Distribution:
    """Distribution of a model with these logits."""
    wanted = SamplingParams(**params)  # type: ignore[arg-type]
    return distribution(logits, wanted, prompt, output, engine=resolve(engine, overrides))


def support(dist: Distribution) -> tuple[int, ...]:
    """Ids that can be drawn."""
    return tuple(np.flatnonzero(dist.support).tolist())
