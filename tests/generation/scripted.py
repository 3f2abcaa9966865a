"""A model whose logits a test chooses: a plain function of the ids so far. Real tokenizer, real sampler, no weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from refsample.generation.model import Model
from refsample.text.chat import load_template
from refsample.text.tokenizer import load_tokenizer

Logits = Callable[[tuple[int, ...]], NDArray[np.float64]]


@dataclass
class ScriptedPart:
    ids: list[int]

    @property
    def nbytes(self) -> int:
        return 8 * len(self.ids)

    def cut(self, start: int, stop: int) -> ScriptedPart:
        return ScriptedPart(self.ids[start:stop])


@dataclass
class ScriptedCache:
    ids: list[int] = field(default_factory=list)
    forks: list[int] = field(default_factory=list)
    """Shared by all forks of one cache: one entry a fork."""

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return 0

    def part(self, start: int, stop: int) -> ScriptedPart:
        return ScriptedPart(self.ids[start:stop])

    def append(self, part: ScriptedPart, count: int) -> None:
        self.ids += part.ids[:count]

    def fork(self, capacity: int = 0) -> ScriptedCache:
        self.forks.append(self.length)
        return ScriptedCache(list(self.ids), self.forks)

    def truncate(self, length: int) -> None:
        del self.ids[length:]


@dataclass
class ScriptedTransformer:
    """Speaks the interface of `refsample.model.transformer.Transformer` and counts its calls."""

    law: Logits
    config: SimpleNamespace
    precision: str = "float32"
    calls: list[int] = field(default_factory=list)
    """Number of segments of each forward call."""
    caches: list[ScriptedCache] = field(default_factory=list)
    weights: object = field(default_factory=lambda: SimpleNamespace(layers=()))
    adapter: None = None

    def new_cache(self, capacity: int | None = None, declared: int | None = None) -> ScriptedCache:
        self.caches.append(ScriptedCache())
        return self.caches[-1]

    def forward(
        self,
        segments: Sequence[tuple[Sequence[int], ScriptedCache]],
        rows: str = "last",
        adapters: Sequence[None] | None = None,
    ) -> list[NDArray[np.float32]]:
        self.calls.append(len(segments))
        out = []
        for ids, cache in segments:
            found = []
            for token_id in ids:
                cache.ids.append(token_id)
                found.append(self.law(tuple(cache.ids)))
            out.append(np.array(found if rows == "all" else found[-1:], dtype=np.float32))
        return out

    def with_precision(self, name: str) -> ScriptedTransformer:
        return ScriptedTransformer(lambda ids: -self.law(ids), self.config, name)


def scripted(folder: Path, law: Logits, *, vocab_size: int = 259, max_position: int = 64) -> Model:
    """A Model around `law`; `folder` holds a tokenizer (see tests.text.vocabularies)."""
    config = SimpleNamespace(ropes=(), vocab_size=vocab_size, max_position=max_position, eos_token_ids=(0,))
    return Model(
        name="scripted",
        folder=folder,
        transformer=ScriptedTransformer(law, config),  # type: ignore[arg-type]
        tokenizer=load_tokenizer(folder, config),
        template=load_template(folder),
        config=config,  # type: ignore[arg-type]
        fingerprint="scripted",
    )


def byte(character: str) -> int:
    """Id of an ASCII character in the byte-level test vocabulary."""
    return 3 + ord(character)


def speaking(text: str, prompt_length: int, vocab_size: int = 259) -> Logits:
    """Logits that all but force `text` byte by byte after a prompt, then the end id."""
    script = [*(3 + b for b in text.encode()), 0]

    def law(ids: tuple[int, ...]) -> NDArray[np.float64]:
        place = min(max(len(ids) - prompt_length, 0), len(script) - 1)
        logits = np.zeros(vocab_size)  # [V]
        logits[script[place]] = 60.0
        return logits

    return law


def wandering(vocab_size: int = 259, scale: float = 1.5, end: float = 2.0) -> Logits:
    """Logits that depend on the whole history in a fixed, irregular way; the end id comes now and then."""

    def law(ids: tuple[int, ...]) -> NDArray[np.float64]:
        state = sum((i + 1) * (k + 3) ** 2 for k, i in enumerate(ids)) % 1_000_003
        logits = scale * np.sin(np.arange(vocab_size) * 0.731 + state * 0.017)  # [V]
        logits[0] = end * np.cos(state * 0.37)
        return logits

    return law
