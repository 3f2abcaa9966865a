"""transformers as an engine of `bench.worker`.

    pip install transformers 'torch==2.13.0'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

CACHE_WIDTH = {"bf16": 2, "f32": 4}
AT_ONCE = 16
"""Texts that are scored together."""


class Engine:
    """A folder, and the state of as many sequences as were asked for, all of one length."""

    def __init__(self, path: Path, kind: str) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        kinds = {"bf16": torch.bfloat16, "f32": torch.float32}
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=kinds[kind]).eval()
        self.cache = transformers.DynamicCache()

    def versions(self) -> dict[str, str]:
        """Of both packages."""
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def threads(self, count: int) -> None:
        """Use so many from now on."""
        torch.set_num_threads(count)

    def start(self, sequences: int, room: int, flash: bool) -> None:
        """Fresh states."""
        self.cache = transformers.DynamicCache()

    def keep(self, length: int) -> None:
        """Forget all tokens from position `length` on."""
        held = self.cache.get_seq_length()
        if not length:
            self.cache = transformers.DynamicCache()
        elif held > length:
            self.cache.crop(length - held)  # how many fewer

    def feed(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """New tokens of each sequence, as many of each; logits [sequences, V] after the last of each."""
        with torch.inference_mode():
            out = self.model(
                input_ids=torch.tensor(rows), past_key_values=self.cache, use_cache=True, logits_to_keep=1
            )
            found: NDArray[np.float32] = out.logits[:, -1].float().numpy()
        return found

    def score(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Logprob of every token but the first of texts that are all as long: [texts, T - 1]."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), AT_ONCE):
                ids = torch.tensor(texts[start : start + AT_ONCE])
                logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
                laws = torch.log_softmax(logits.float(), dim=-1)
                found.append(laws.gather(-1, ids[:, 1:, None])[..., 0].double().numpy())
        return np.concatenate(found)
