"""Writes sampler_hf.json: laws computed by transformers' own logits processors. Needs torch and transformers.

Run in the root of the checkout: python -m tests.data.make_sampler_goldens
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("sampler_hf.json")
CHOICES: Mapping[str, Sequence[Any]] = {
    "temperature": (0.3, 0.7, 1.0, 1.6),
    "top_k": (0, 1, 4, 9),
    "top_p": (1.0, 0.3, 0.8, 0.97),
    "min_p": (0.0, 0.05, 0.3),
    "repetition_penalty": (1.0, 0.8, 1.5),
    "logit_bias": ({}, {2: 3.0, 5: -4.0}),
}


def cases(count: int, seed: int) -> list[dict[str, Any]]:
    """Random logits [16], a history of five tokens, and one value of every parameter."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        params = {name: values[int(random.integers(len(values)))] for name, values in CHOICES.items()}
        logits = np.round(random.standard_normal(16) * 1.5, 3).tolist()
        made.append({"logits": logits, "history": random.integers(0, 16, 5).tolist(), "params": params})
    return made


def law(logits: Sequence[float], history: Sequence[int], params: Mapping[str, Any]) -> list[float]:
    """Probabilities [V] in the order of `generate`: bias, repetition, temperature, top_k, top_p, min_p."""
    import torch
    from transformers.generation import logits_process as hf

    chain = hf.LogitsProcessorList()
    if params["logit_bias"]:
        bias = [[[token], value] for token, value in params["logit_bias"].items()]
        chain.append(hf.SequenceBiasLogitsProcessor(bias))
    if params["repetition_penalty"] != 1.0:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(params["repetition_penalty"]))
    if params["temperature"] != 1.0:
        chain.append(hf.TemperatureLogitsWarper(params["temperature"]))
    if params["top_k"]:
        chain.append(hf.TopKLogitsWarper(params["top_k"]))
    if params["top_p"] < 1.0:
        chain.append(hf.TopPLogitsWarper(params["top_p"]))
    if params["min_p"]:
        chain.append(hf.MinPLogitsWarper(params["min_p"]))
    scores = torch.tensor([list(logits)], dtype=torch.float64)
    found = torch.softmax(chain(torch.tensor([list(history)]), scores), dim=-1)[0]
    return [float(p) for p in found]


def main() -> None:
    """Write the file."""
    made = [{**case, "probs": law(**case)} for case in cases(60, 2)]
    lines = ",\n".join(json.dumps(case) for case in made)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
