"""transformers' own logits processors, in the order in which `generate` builds them.

    pip install 'torch==2.13.0' 'transformers>=5,<6'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import GenerationConfig, PretrainedConfig
from transformers.generation.utils import GenerationMixin

from bench.peers.cases import Case

ENGINE = "hf"
VERSION = transformers.__version__
PATH = "GenerationMixin._get_logits_processor, float32 on a CPU"
OVERRIDES: dict[str, object] = {}
PARAMETERS = frozenset({
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logit_bias", "no_repeat_ngram_size", "typical_p",
    "top_h", "epsilon_cutoff", "eta_cutoff",
})  # fmt: skip
OFF: Mapping[str, object] = {"top_k": 0, "min_p": 0.0, "top_h": 0.0, "logit_bias": {}, "no_repeat_ngram_size": 0}


class Host(GenerationMixin):
    """Nothing but a place for the method that builds the chain."""

    config = PretrainedConfig()


def fits(one: Case) -> bool:
    """`generate` has a prompt of at least one token, which the penalties look at."""
    looks = one.params.get("repetition_penalty", 1.0) != 1.0 or one.params.get("no_repeat_ngram_size", 0)
    return len(one.prompt_ids) > 0 or not looks


@cache
def _config(names: tuple[tuple[str, Any], ...]) -> GenerationConfig:
    config = GenerationConfig(**dict(names))
    config._eos_token_tensor = None
    return config


def law(
    logits: NDArray[np.float32], params: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> NDArray[np.float32]:
    """Probabilities [V] of the next token."""
    bias = params["logit_bias"]
    greedy = params["temperature"] == 0.0  # `transformers serve`: do_sample=False
    fields = {name: None if value == OFF.get(name, "") else value for name, value in params.items()
              if name != "logit_bias"} | {"do_sample": not greedy}  # fmt: skip
    config = _config(tuple(fields.items()))
    config.sequence_bias = [[[token], value] for token, value in bias.items()] or None
    ids = torch.tensor([[*prompt_ids, *output_ids]], dtype=torch.long)
    chain = Host()._get_logits_processor(config, input_ids_seq_length=ids.shape[1], encoder_input_ids=ids)
    scores = chain(ids, torch.from_numpy(logits.copy())[None])
    if greedy:
        scores = torch.full_like(scores, -torch.inf).index_fill(1, scores.argmax(dim=-1), 0.0)
    found: NDArray[np.float32] = torch.softmax(scores, dim=-1)[0].numpy()
    return found
