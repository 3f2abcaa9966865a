"""mlx-lm's own logits processors and samplers, on a CPU.

    pip install 'mlx[cpu]' mlx-lm
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm import sample_utils
from numpy.typing import NDArray

from bench.peers.cases import Case
from refsample.sampling.pipeline import Distribution

ENGINE = "mlx"
VERSION = version("mlx-lm")
PATH = f"sample_utils.make_logits_processors and make_sampler, float32, mlx {version('mlx')} on a CPU"
OVERRIDES: dict[str, object] = {}
PARAMETERS = frozenset({
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "logit_bias", "xtc_probability", "xtc_threshold",
})  # fmt: skip


def fits(one: Case) -> bool:
    """It refuses a top_k that is not below the vocabulary's size, and gives one side of XTC's coin at a time."""
    coin = 0.0 < one.params.get("xtc_probability", 0.0) < 1.0
    return one.params.get("top_k", 0) < one.logits.size and not coin


def error(one: Case, law: Distribution) -> float:
    """Its sampler gets logprobs, not logits: what float32 loses of the larger of the two is multiplied by 1 / T."""
    temperature = one.params["temperature"]
    if not temperature:
        return 0.0
    largest = float(np.abs(law.logprobs("post_penalty")[law.support]).max())
    return 4.0 * 2.0**-24 * largest / temperature


def law(
    logits: NDArray[np.float32], params: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> NDArray[np.float32]:
    """Probabilities [V] of the next token: what its sampler hands to mx.random.categorical."""
    rows, ids = mx.array(logits)[None], mx.array([*prompt_ids, *output_ids], dtype=mx.int32)
    names = ("repetition_penalty", "presence_penalty", "frequency_penalty")
    penalties = {name: params[name] for name in names if params[name] != (1.0 if name == names[0] else 0.0)}
    for processor in sample_utils.make_logits_processors(params["logit_bias"] or None, **penalties):
        rows = processor(ids, rows)
    rows = rows - mx.logsumexp(rows, keepdims=True)  # generate.py, before the sampler
    caught: list[mx.array] = []
    draw = sample_utils.categorical_sampling
    sample_utils.categorical_sampling = lambda x, temp: caught.append(x * (1.0 / temp)) or mx.argmax(x, axis=-1)
    try:
        drawn = sample_utils.make_sampler(
            temp=params["temperature"], top_p=params["top_p"], min_p=params["min_p"], top_k=params["top_k"],
            xtc_probability=params["xtc_probability"], xtc_threshold=params["xtc_threshold"],
        )(rows)  # fmt: skip
    finally:
        sample_utils.categorical_sampling = draw
    if not caught:  # temperature 0: no sampler but an argmax
        caught.append(mx.where(mx.arange(logits.size) == drawn, 0.0, -mx.inf)[None])
    found: NDArray[np.float32] = np.array(mx.softmax(caught[0], axis=-1))[0]
    assert math.isclose(float(found.sum()), 1.0, rel_tol=1e-4)
    return found
