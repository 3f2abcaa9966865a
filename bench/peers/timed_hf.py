"""One step of transformers' own processors, timed: penalty, T, top_k, top_p, min_p, draw, best logprobs. See `hf`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.generation import logits_process as processors


class Chain:
    """The processors in the order of `generate`."""

    def __init__(
        self, settings: Mapping[str, Any], history: Sequence[int], row: NDArray[np.float32], tops: int
    ) -> None:
        torch.set_num_threads(1)
        self.ids, self.row, self.tops = torch.tensor([list(history)]), torch.from_numpy(row)[None], tops
        self.chain = processors.LogitsProcessorList([
            processors.RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]),
            processors.TemperatureLogitsWarper(settings["temperature"]),
            processors.TopKLogitsWarper(settings["top_k"]),
            processors.TopPLogitsWarper(settings["top_p"]),
            processors.MinPLogitsWarper(settings["min_p"]),
        ])  # fmt: skip

    def timed(self) -> float:
        """Microseconds of one step."""
        start = time.perf_counter()
        probs = torch.softmax(self.chain(self.ids, self.row), dim=-1)
        torch.multinomial(probs, 1)
        torch.log_softmax(self.row, dim=-1).topk(self.tops)
        return (time.perf_counter() - start) * 1e6

    def law(self) -> NDArray[np.float64]:
        """[V] probabilities of what it draws from."""
        return torch.softmax(self.chain(self.ids, self.row), dim=-1)[0].numpy().astype(np.float64)
