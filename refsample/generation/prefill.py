"""Known ids through the transformer, many sequences together: what they share goes through once. Knows no sampling.

How ids are split over passes, and what stands beside them, changes no bit of any logit; the bounds below only hold the
memory that a pass takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from refsample.generation.forest import NEVER, Path, Stem, planted
from refsample.generation.prefix import LEAST, PrefixCache, repeatable

if TYPE_CHECKING:
    from refsample.model.cache import Cache
    from refsample.model.transformer import Transformer

RESERVED = 256
"""Places kept free in a fresh cache; it grows when an answer gets longer."""
PREFILL_TOKENS = 2048
"""So many tokens go through the transformer together; more would only cost memory."""
LOGITS_BYTES = 64 << 20
"""So much memory the logits of one pass take at most, if that is room for one row."""
Prefilled = tuple["Cache", NDArray[np.float32]]
"""A prompt's cache, and the raw logits [V] after its last id."""
Span = tuple[Stem, int, int]
"""A stem, the first position of it, and the one after the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Logits of consecutive positions of a stem."""

    stem: Stem
    position: int
    """Of the first row."""
    logits: NDArray[np.float32]
    """[n, V]"""


def groups(prompts: Sequence[tuple[int, ...]], wanted: Sequence[int]) -> Iterator[list[int]]:
    """Those of the wanted indices of prompts that are prefilled together."""
    group: list[int] = []
    size = 0
    for p in wanted:
        if group and size + len(prompts[p]) > PREFILL_TOKENS:
            yield group
            group, size = [], 0
        group.append(p)
        size += len(prompts[p])
    if group:
        yield group


def prefilled(
    transformer: Transformer, prompts: Sequence[tuple[int, ...]], limits: Sequence[int], prefixes: PrefixCache
) -> list[Prefilled]:
    """What becomes of each prompt; its cache is declared to get up to so many tokens more."""
    both = list(zip(prompts, limits, strict=True))
    paths = [Path(ids, len(ids) - 1, min(limit, RESERVED), len(ids) + limit) for ids, limit in both]
    rows: dict[int, NDArray[np.float32]] = {}
    caches: dict[int, Cache] = {}
    for found in grow(transformer, paths, prefixes):
        if isinstance(found, Rows):
            ending = [p for p in found.stem.members if 0 <= paths[p].first - found.position < len(found.logits)]
            rows.update({p: found.logits[paths[p].first - found.position] for p in ending})
        else:
            p, caches[p] = found
            prefixes.keep(transformer, prompts[p], caches[p])
    return [(caches[p], rows[p]) for p in range(len(paths))]


def grow(transformer: Transformer, paths: Sequence[Path], prefixes: PrefixCache) -> Iterator[Rows | tuple[int, Cache]]:
    """Rows of every stem in order of position, from its `first` on; after those of a path's last stem, (its index, its
    cache), which holds all its ids."""
    for level in planted(paths, LEAST if repeatable(transformer) else NEVER):
        heads, tails = [], []
        for stem in level:
            if stem.above is None:
                known = stem.ids[: stem.first]
                stem.cache = prefixes.begun(transformer, known, stem.capacity, stem.declared)
            else:
                stem.cache = stem.above.take(stem.capacity)
            place = stem.cache.length
            edge = place if stem.first == place and stem.stop > place + 1 else min(stem.first + 1, stem.stop)
            heads.append((stem, place, edge))
            tails.append((stem, edge, stem.stop))
        for found in _passes(transformer, heads, "last"):
            if found.position >= found.stem.first:
                yield found
        yield from _passes(transformer, tails, "all")
        for stem in level:
            for p in stem.members:
                if len(paths[p].ids) == stem.stop:
                    yield p, stem.take(stem.capacity)


def _passes(transformer: Transformer, spans: Sequence[Span], rows: Literal["last", "all"]) -> Iterator[Rows]:
    """What (stem, start, stop) are new through the transformer, as many tokens and rows at a time as there may be."""
    most = logits_at_once(transformer)
    tokens = PREFILL_TOKENS if rows == "last" else min(PREFILL_TOKENS, most)
    for batch in batches(spans, tokens, most):
        yield from _through(transformer, batch, rows)


def logits_at_once(transformer: Transformer) -> int:
    """Of how many rows the logits are made together."""
    width = 8 if transformer.precision == "float64" else 4
    return max(1, LOGITS_BYTES // (transformer.config.vocab_size * width))


def batches(spans: Iterable[Span], tokens: int, most: int) -> Iterator[list[Span]]:
    """What goes through together: at most so many tokens, of at most so many stems; a long span comes in parts."""
    batch: list[Span] = []
    size = 0
    for stem, start, stop in spans:
        while start < stop:
            end = min(stop, start + tokens - size)
            batch.append((stem, start, end))
            size, start = size + end - start, end
            if size == tokens or len(batch) == most:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _through(transformer: Transformer, batch: Sequence[Span], rows: Literal["last", "all"]) -> Iterator[Rows]:
    segments = []
    for stem, start, stop in batch:
        assert stem.cache is not None
        segments.append((stem.ids[start - stem.start : stop - stem.start], stem.cache))
    for (stem, _, stop), logits in zip(batch, transformer.forward(segments, rows), strict=True):
        yield Rows(stem, stop - len(logits), logits)
