"""SGLang's torch-native sampler functions, out of the wheel's Python files.

    pip install 'torch==2.13.0' && pip install --no-deps sglang==0.5.23
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.peers.cases import Case
from bench.peers.files import folder, functions, version
from refsample.sampling.pipeline import Distribution

ENGINE = "sglang"
VERSION = version("sglang")
PATH = "srt/sampling and srt/layers/sampler.py, pytorch backend, float32 on a CPU"
OVERRIDES: dict[str, object] = {}
PARAMETERS = frozenset({
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "logit_bias",
})  # fmt: skip

ROOT = folder("sglang") / "srt"
SCOPE: dict[str, Any] = {"torch": torch}
functions(ROOT / "sampling/penaltylib/repetition_penalty.py", ("apply_scaling_penalties",), SCOPE)
functions(ROOT / "sampling/sampling_batch_info.py", (
    "SamplingBatchInfo._apply_pre_grammar_logits_transforms", "SamplingBatchInfo._apply_post_grammar_logits_transforms",
), SCOPE)  # fmt: skip
functions(ROOT / "layers/sampler.py", ("top_k_top_p_min_p_sampling_from_probs_torch",), SCOPE)
FREQUENCY: dict[str, Any] = {"torch": torch}
functions(ROOT / "sampling/penaltylib/frequency_penalty.py", (
    "BatchedFrequencyPenalizer._cumulate_output_tokens",), FREQUENCY)  # fmt: skip
PRESENCE: dict[str, Any] = {"torch": torch}
functions(ROOT / "sampling/penaltylib/presence_penalty.py", (
    "BatchedPresencePenalizer._cumulate_output_tokens",), PRESENCE)  # fmt: skip
REPETITION: dict[str, Any] = {"torch": torch}
functions(ROOT / "sampling/penaltylib/repetition_penalty.py", (
    "BatchedRepetitionPenalizer._cumulate_output_tokens",), REPETITION)  # fmt: skip


def fits(one: Case) -> bool:
    """Whether the engine can be asked this."""
    return True


def error(one: Case, law: Distribution) -> float:
    """frequency_penalty is added up in float32, once for every token: each sum is rounded."""
    most = max((one.output_ids.count(token) for token in set(one.output_ids)), default=0)
    temperature = one.params["temperature"] if one.params["temperature"] >= 1e-6 else 1.0
    return most * abs(one.params["frequency_penalty"]) * most * 2.0**-24 / temperature


def doubtful(law: Distribution, one: Case, near: float, apart: NDArray[np.int64]) -> bool:
    """top_p = 1 cuts as well: a rounded sum of masses may pass 1, and everything behind it falls."""
    return one.params["top_p"] == 1.0 and float(law.probs[apart].sum()) <= near


def _row(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float32)


def law(
    logits: NDArray[np.float32], params: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> NDArray[np.float64]:
    """Probabilities [V] of the next token, in the order of apply_logits_bias and Sampler.forward."""
    size, rows = logits.size, torch.from_numpy(logits.copy())[None]
    frequency = SimpleNamespace(cumulated_frequency_penalties=torch.zeros(1, size),
                                frequency_penalties=_row(params["frequency_penalty"]))  # fmt: skip
    presence = SimpleNamespace(cumulated_presence_penalties=torch.zeros(1, size),
                               presence_penalties=_row(params["presence_penalty"]))  # fmt: skip
    repetition = SimpleNamespace(cumulated_repetition_penalties=torch.ones(1, size),
                                 repetition_penalties=_row(params["repetition_penalty"]))  # fmt: skip
    for token in output_ids:
        one = torch.tensor([token])
        FREQUENCY["_cumulate_output_tokens"](frequency, one)
        PRESENCE["_cumulate_output_tokens"](presence, one)
        REPETITION["_cumulate_output_tokens"](repetition, one)
    bias = torch.zeros(1, size)
    for token, value in params["logit_bias"].items():
        bias[0, token] = value
    info = SimpleNamespace(
        acc_additive_penalties=-frequency.cumulated_frequency_penalties - presence.cumulated_presence_penalties,
        acc_scaling_penalties=repetition.cumulated_repetition_penalties,
        penalizer_orchestrator=None,
        logit_bias=bias,
    )
    SCOPE["_apply_pre_grammar_logits_transforms"](info, rows)
    SCOPE["_apply_post_grammar_logits_transforms"](info, rows)
    greedy = params["temperature"] < 1e-6  # SamplingParams: T = 1 and top_k = 1 (sampling_params.py:244-248)
    rows.div_(_row(1.0 if greedy else params["temperature"]))
    probs = torch.softmax(rows, dim=-1)
    _, weights, order, _ = SCOPE["top_k_top_p_min_p_sampling_from_probs_torch"](
        probs, torch.tensor([1 if greedy else params["top_k"] or size]), torch.tensor([params["top_p"]]),
        torch.tensor([params["min_p"]]), params["min_p"] > 0.0, None, None, return_filtered_probs=True,
    )  # fmt: skip
    found = np.zeros(size)
    found[order[0].numpy()] = weights[0].double().numpy()
    return found / found.sum()
