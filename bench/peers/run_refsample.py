"""refsample itself as an engine of `bench.worker`: the raw runtime, without tokenizer and sampler."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import refsample
from refsample.generation.model import Model
from refsample.model.cache import Cache
from refsample.model.load import load_transformer
from refsample_kernels import jit

CACHE_WIDTH = {"bf16": 4}


class Engine:
    """A folder, and the state of as many sequences as were asked for."""

    def __init__(self, path: Path, kind: str) -> None:
        assert kind == "bf16", "the file's own type"
        self.path, self.transformer = path, load_transformer(path)
        self.caches: list[Cache] = []
        self.model: Model | None = None

    def versions(self) -> dict[str, str]:
        """Of what computes."""
        others = {name: version(name) for name in ("numpy", "numba")}
        return {"refsample": refsample.__version__, "python": platform.python_version(), **others}

    def threads(self, count: int) -> None:
        """Use so many from now on."""
        jit.set_threads(count)

    def start(self, sequences: int, room: int, flash: bool) -> None:
        """Fresh states of that many sequences, with room for `room` tokens each."""
        self.caches = [self.transformer.new_cache(room) for _ in range(sequences)]

    def keep(self, length: int) -> None:
        """Forget all tokens from position `length` on."""
        for cache in self.caches:
            cache.truncate(min(length, cache.length))

    def feed(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """New tokens of each sequence; logits [sequences, V] after the last of each."""
        found = self.transformer.forward(list(zip(rows, self.caches, strict=True)))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def score(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Logprob of every token but the first of each text, all as long: [texts, T - 1]."""
        if self.model is None:
            self.model = refsample.load(self.path, prefix_cache=0)
        scored = refsample.score_many(self.model, [(None, text) for text in texts])
        return np.array([[token.raw_logprob for token in one.tokens] for one in scored])
