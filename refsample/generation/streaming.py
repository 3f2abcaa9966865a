"""Known ids through a model that stays on disk: a layer is read once for all sequences. Knows no sampling.

The hidden states [N, C] of all sequences go through one layer after the other; no more than one layer's keys and values
are held. How rows are split changes no bit, and each goes through the same operations as it does in `prefill`, so the
logits are the same, in every arithmetic but float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refsample.generation import prefill
from refsample.generation.forest import NEVER, Path, Stem, planted
from refsample.generation.prefill import Rows, Span, batches, logits_at_once
from refsample.generation.prefix import LEAST, repeatable
from refsample.generation.resume import Kept
from refsample.model.shelf import Shelf

if TYPE_CHECKING:
    from refsample.model.transformer import Transformer
    from refsample.model.weights import Layer

ROOM = 512 << 20
"""Bytes that hidden states and one layer's keys and values take at most, unless a single sequence takes more."""
_SHARE = 0.05
"""Of the time that goes by at most so much goes into saving, after the first layer."""


@dataclass(frozen=True, slots=True)
class Passed:
    """How far the work has come, over all waves of sequences."""

    layer: int
    """Layers that are done, in the present wave."""
    layers: int
    wave: int
    """Number of the present wave, from 0."""
    waves: int
    read: int
    """Bytes of layers read from disk, those of an earlier run included."""
    to_read: int
    """Bytes to be read in all."""
    work: float
    """Products of a row and a weight that are done, in this run."""
    to_do: float
    """Of those that this run had to do."""


@dataclass(slots=True, eq=False)
class Streamed:
    """Waves of sequences on their way through a model, one wave at a time."""

    transformer: Transformer
    waves: Sequence[Sequence[Path]]
    kept: Kept | None = None
    watch: Callable[[Passed], None] | None = None
    layers: Shelf = field(init=False)
    _read: int = 0
    _to_read: int = 0
    _work: float = 0.0
    _to_do: float = 0.0
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of each wave, its rows and those of them whose logits are wanted."""

    def __post_init__(self) -> None:
        assert isinstance(self.transformer.weights.layers, Shelf)
        self.layers = self.transformer.weights.layers
        for wave, paths in enumerate(self.waves):
            stems = [stem for level in _forest(self.transformer, paths) for stem in level]
            self._sizes[wave] = sum(len(stem.ids) for stem in stems), sum(len(_wanted(stem)) for stem in stems)
        if self.kept is not None:  # the last state of each wave, and the file that takes the place of one
            counts = [rows for rows, _ in self._sizes.values()]
            self.kept.check((sum(counts) + max(counts, default=0)) * self.transformer.config.width * self._each)
        numbers = range(len(self.layers))
        for wave, (rows, wanted) in self._sizes.items():
            done = 0 if self.kept is None else self.kept.layers_done(wave)
            self._read += sum(self.layers.size(n) for n in numbers[:done])
            self._to_read += sum(self.layers.size(n) for n in numbers)
            self._to_do += rows * sum(self._layer_work(n) for n in numbers[done:]) + wanted * self._head_work

    def rows(self, wave: int) -> Iterator[Rows]:
        """The wanted rows of a wave's stems, those of a stem in order of position. CorruptFileError, ParameterError."""
        x = self._through_layers(wave)
        self._tell(wave, len(self.layers), 0.0)
        begin = 0
        for level in _forest(self.transformer, self.waves[wave]):
            most, wanted = logits_at_once(self.transformer), ((s, s.first, s.stop) for s in level)
            for batch in batches(wanted, most, most):
                size = _size(batch)
                rows = x[begin : begin + size]  # [n, C]
                logits = self.transformer.head(rows, [slice(0, size)], [self.transformer.adapter])  # [n, V]
                begin += size
                for stem, start, stop in batch:
                    yield Rows(stem, start, logits[: stop - start])
                    logits = logits[stop - start :]
                self._tell(wave, len(self.layers), size * self._head_work)

    def _through_layers(self, wave: int) -> NDArray[Any]:
        """The last hidden states of a wave's wanted rows."""
        run, count = self.transformer, len(self.layers)
        shape = self._sizes[wave][0], run.config.width
        done, x = (0, None) if self.kept is None else self.kept.load(wave)
        if x is None:
            x = np.empty(shape, run.arithmetic.dtype)  # [N, C]
        saved, cost = time.monotonic(), 0.0
        with closing(self.layers.one_by_one(done)) as layers:
            for number, layer in layers:
                self._read += self.layers.size(number)
                self._tell(wave, number, 0.0)
                begin = 0
                for batch in _batches(run, self.waves[wave]):
                    rows = slice(begin, begin + _size(batch))
                    x[rows] = _block(run, layer, number, batch, x[rows])
                    begin = rows.stop
                    self._tell(wave, number, _size(batch) * self._layer_work(number))
                last = number + 1 == count
                if last:
                    x = x[_all_wanted(run, self.waves[wave])]
                now = time.monotonic()
                if self.kept is not None and (last or cost <= _SHARE * (now - saved)):
                    self.kept.save(wave, number + 1, count, x)
                    saved = time.monotonic()
                    cost = saved - now
        return x

    def _tell(self, wave: int, layer: int, work: float) -> None:
        self._work += work
        if self.watch is not None:
            self.watch(
                Passed(
                    layer=layer,
                    layers=len(self.layers),
                    wave=wave,
                    waves=len(self.waves),
                    read=self._read,
                    to_read=self._to_read,
                    work=self._work,
                    to_do=self._to_do,
                )
            )

    def _layer_work(self, number: int) -> float:
        """Weights that a row meets in a layer; of experts those that a router chooses."""
        experts = self.transformer.config.experts
        whole = sum(tensor.data.size for tensor in self.layers.tensors[number])
        mixed = experts is not None and experts.layers[number]
        return whole * experts.per_token / experts.count if experts is not None and mixed else whole

    @property
    def _each(self) -> int:
        return int(np.dtype(self.transformer.arithmetic.dtype).itemsize)

    @property
    def _head_work(self) -> float:
        return float(self.transformer.config.vocab_size * self.transformer.config.width)


def bytes_each(transformer: Transformer) -> int:
    """Bytes that a token takes while it is under way: its hidden state, its keys and values of one layer."""
    c = transformer.config
    return (c.width + 2 * c.kv_heads * c.head_width) * int(np.dtype(transformer.arithmetic.dtype).itemsize)


def _forest(transformer: Transformer, paths: Sequence[Path]) -> list[list[Stem]]:
    """Planted anew for every layer: stems count who has taken their cache."""
    return planted(paths, LEAST if repeatable(transformer) else NEVER)


def _wanted(stem: Stem) -> range:
    return range(stem.first, stem.stop)


def _all_wanted(transformer: Transformer, paths: Sequence[Path]) -> NDArray[np.bool_]:
    """Which of all rows [N] are wanted."""
    stems = (stem for level in _forest(transformer, paths) for stem in level)
    return np.concatenate([np.arange(stem.start, stem.stop) >= stem.first for stem in stems])


def _size(batch: Sequence[Span]) -> int:
    return sum(stop - start for _, start, stop in batch)


def _batches(transformer: Transformer, paths: Sequence[Path]) -> Iterator[list[Span]]:
    """All rows of all stems, in the same order for every layer; the cache of each is there while it is needed."""
    for level in _forest(transformer, paths):
        spans = ((stem, stem.start, stem.stop) for stem in level)
        for batch in batches(spans, prefill.PREFILL_TOKENS, prefill.PREFILL_TOKENS):
            for stem, _, _ in batch:
                if stem.cache is not None:
                    continue
                if stem.above is None:
                    stem.cache = transformer.new_cache(stem.capacity, stem.declared, layers=1)
                else:
                    stem.cache = stem.above.take(stem.capacity)
            yield batch
            for stem, _, stop in batch:
                if stop == stem.stop:
                    stem.heirs -= sum(len(paths[p].ids) == stop for p in stem.members)
                    stem.cache = stem.cache if stem.heirs else None


def _block(transformer: Transformer, layer: Layer, number: int, batch: Sequence[Span], x: NDArray[Any]) -> NDArray[Any]:
    """Rows [n, C] through a layer; before the first one they are looked up."""
    caches = [stem.cache for stem, _, _ in batch if stem.cache is not None]
    lengths = [stop - start for _, start, stop in batch]
    about = transformer.batch(lengths, caches, [transformer.adapter] * len(caches), number)
    if number == 0:
        parts = [stem.ids[start - stem.start : stop - stem.start] for stem, start, stop in batch]
        x = transformer.embed(np.concatenate([np.array(part, np.int64) for part in parts]), about)
    x = transformer.through(layer, number, x, about)
    for length, cache in zip(lengths, caches, strict=True):
        cache.length += length
    return x
