"""The forward pass: token ids in, logits out. It knows nothing of text, sampling or files.

One flat batch: the new tokens of all segments lie in one array [N, C]; only attention looks at segments one by one.
Each output element depends on its own row alone, so logits are bitwise the same however tokens are split over calls and
whichever sequences stand beside each other (in every arithmetic but float64: BLAS, which it goes through, promises
less).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refsample.checks import room, token_id
from refsample.errors import ParameterError
from refsample.model.cache import Cache
from refsample.model.config import ModelConfig
from refsample.model.emulations import ARITHMETICS
from refsample.model.lora import Adapter, LowRank
from refsample.model.numerics import Arithmetic, Product
from refsample.model.rope import Angles
from refsample.model.weights import Layer, Projection, Weights
from refsample_kernels.lanes import widen

Ids = Sequence[int] | NDArray[Any]
_NO_BIAS = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What attention has to know of the rows [N] of one flat batch."""

    turns: tuple[NDArray[Any], NDArray[Any]]
    """Cosines and sines of the rows' positions, both [N, D/2]."""
    spans: list[slice]
    """Rows of each segment."""
    caches: list[Cache]
    """Cache of each segment, its length that before the new rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """Weights and the arithmetic to run them with; holds no state of any sequence, so threads may share it."""

    config: ModelConfig
    weights: Weights
    """As the arithmetic wants them."""
    source: Weights
    """As the files hold them."""
    arithmetic: Arithmetic
    angles: Angles
    adapter: Adapter | None = None
    """Added to products as they are computed; the weights are those of the base, whoever else runs them."""

    @property
    def precision(self) -> str:
        """Name of the arithmetic, one of ARITHMETICS."""
        return self.arithmetic.name

    def with_precision(self, name: str) -> Transformer:
        """The same model in another arithmetic. ParameterError for a name that is none."""
        if name == self.precision:
            return self
        if name not in ARITHMETICS:
            raise ParameterError("precision", name, f"must be one of {', '.join(ARITHMETICS)}")
        arithmetic = ARITHMETICS[name]
        return replace(self, weights=arithmetic.prepare(self.source), arithmetic=arithmetic)

    def with_adapter(self, adapter: Adapter | None) -> Transformer:
        """The same weights, in the same memory, with this adapter (None: with none) instead of any it had."""
        if adapter is not None and len(adapter.layers) != len(self.weights.layers):
            raise ValueError(f"adapter: of {len(adapter.layers)} layers, the model has {len(self.weights.layers)}")
        return replace(self, adapter=adapter)

    def new_cache(self, capacity: int | None = None) -> Cache:
        """An empty cache; it grows as needed up to config.max_position tokens."""
        c = self.config
        shape = (c.layers, c.kv_heads, c.head_width)
        return Cache(shape, c.max_position, self.arithmetic.dtype, self.precision, capacity or 0)

    def forward(
        self, segments: Sequence[tuple[Ids, Cache]], rows: Literal["last", "all"] = "last"
    ) -> list[NDArray[Any]]:
        """Logits after the new ids [T] of each segment, whose cache takes them up: [1, V] (last) or [T, V] (all).

        They are float32, or float64 in the precision of that name. ParameterError for ids outside the vocabulary,
        ContextLengthError beyond the context; no cache has changed then.
        """
        ids, lengths = _checked(segments, self.config, self.precision)
        spans, start = [], 0
        for length in lengths:
            spans.append(slice(start, start + length))
            start += length
        for length, (_, cache) in zip(lengths, segments, strict=True):
            cache.reserve(cache.length + length)
        positions = np.concatenate(
            [np.arange(cache.length, cache.length + n) for n, (_, cache) in zip(lengths, segments, strict=True)]
        )  # [N]
        caches = [cache for _, cache in segments]
        batch = _Batch(self.angles.at(positions, self.arithmetic.dtype), spans, caches)
        x = self._embed(ids)
        for number, layer in enumerate(self.weights.layers):
            x = self._block(layer, number, x, batch)
        for length, cache in zip(lengths, caches, strict=True):
            cache.length += length
        if rows == "last":
            x = x[[span.stop - 1 for span in spans]]  # [segments, C]
            spans = [slice(n, n + 1) for n in range(len(spans))]
        extra = None if self.adapter is None else self.adapter.head
        normed = self._norm(x, self.weights.final_norm)
        logits = self._linear(normed, self.weights.head, extra, self.arithmetic.head)  # [N, V]
        return [logits[span] for span in spans]

    def _embed(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """ids [N] -> [N, C]."""
        x = self.arithmetic.settle(widen(self.weights.embedding[ids]).astype(self.arithmetic.dtype))  # [N, C]
        if self.adapter is None or self.adapter.embedding is None:
            return x
        extra = self.adapter.embedding
        return self._with_product(x, widen(extra.down[ids]).astype(self.arithmetic.dtype), extra)

    def _block(self, layer: Layer, number: int, x: NDArray[Any], batch: _Batch) -> NDArray[Any]:
        """One layer on x [N, C]."""
        math, settle = self.arithmetic, self.arithmetic.settle
        extra: Mapping[str, LowRank] = {} if self.adapter is None else self.adapter.layers[number]
        normed = self._norm(x, layer.attention_norm)
        mixed = self._attend(layer, number, normed, batch)  # [N, HD]
        x = settle(x + self._linear(mixed, layer.o, extra.get("o")))
        normed = self._norm(x, layer.mlp_norm)
        gate = self._linear(normed, layer.gate, extra.get("gate"))  # [N, F]
        up = self._linear(normed, layer.up, extra.get("up"))  # [N, F]
        gated = np.empty_like(gate)  # [N, F]
        math.silu_gate(gate, up, gated)
        return settle(x + self._linear(gated, layer.down, extra.get("down")))

    def _attend(self, layer: Layer, number: int, x: NDArray[Any], batch: _Batch) -> NDArray[Any]:
        """Attention of the normed rows x [N, C]; their keys and values go into the caches."""
        c, math = self.config, self.arithmetic
        extra: Mapping[str, LowRank] = {} if self.adapter is None else self.adapter.layers[number]
        q = self._linear(x, layer.q, extra.get("q")).reshape(-1, c.heads, c.head_width)  # [N, H, D]
        k = self._linear(x, layer.k, extra.get("k")).reshape(-1, c.kv_heads, c.head_width)  # [N, K, D]
        v = self._linear(x, layer.v, extra.get("v")).reshape(-1, c.kv_heads, c.head_width)  # [N, K, D]
        turned_q, turned_k, out = np.empty_like(q), np.empty_like(k), np.empty_like(q)  # as q, k and q
        math.rotate(q, *batch.turns, turned_q)
        math.rotate(k, *batch.turns, turned_k)
        turned_k, v = math.keep(turned_k), math.keep(v)
        scale = c.head_width**-0.5
        for span, cache in zip(batch.spans, batch.caches, strict=True):
            start, keys, values = cache.length, cache.keys[number], cache.values[number]
            end = start + span.stop - span.start
            keys[:, :, start:end] = turned_k[span].transpose(1, 2, 0)  # [K, D, T]
            values[:, start:end] = v[span].transpose(1, 0, 2)  # [K, T, D]
            math.attention(turned_q[span], keys, values, start, scale, out[span])
        return out.reshape(len(x), -1)  # [N, HD]

    def _linear(
        self, x: NDArray[Any], projection: Projection, extra: LowRank | None = None, product: Product | None = None
    ) -> NDArray[Any]:
        out = np.empty((len(x), len(projection.weight)), self.arithmetic.dtype)  # [N, out]
        (product or self.arithmetic.linear)(x, projection.weight, projection.bias, out)
        if extra is None:
            return out
        inner = np.empty((len(x), len(extra.down)), out.dtype)  # [N, r]
        self.arithmetic.low_rank(x, extra.down, _NO_BIAS, inner)
        return self._with_product(out, inner, extra)

    def _with_product(self, x: NDArray[Any], inner: NDArray[Any], extra: LowRank) -> NDArray[Any]:
        """x [N, out] and what an adapter makes of its inner values [N, r]."""
        product = np.empty_like(x)  # [N, out]
        self.arithmetic.low_rank(inner, extra.up, _NO_BIAS, product)
        return self.arithmetic.settle(x + product.dtype.type(extra.scale) * product)

    def _norm(self, x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        out = np.empty_like(x)  # [N, C]
        self.arithmetic.rms_norm(x, weight, self.config.norm_eps, out)
        return out


def _checked(
    segments: Sequence[tuple[Ids, Cache]], config: ModelConfig, precision: str
) -> tuple[NDArray[np.int64], list[int]]:
    """All ids in one array [N] and how many each segment has, checked: the door before the kernels."""
    if not segments:
        raise ParameterError("segments", (), "must hold at least one sequence")
    if len({id(cache) for _, cache in segments}) != len(segments):
        raise ParameterError("segments", "...", "two of them share one cache")
    parts = []
    for ids, cache in segments:
        if cache.precision != precision:
            raise ParameterError("segments", "...", f"a cache of {cache.precision} given to {precision}")
        part = _array(ids)
        length = cache.length + part.size
        room("ids", ..., f"{length} tokens", length, config.max_position, "the model's config")
        parts.append(part.astype(np.int64))
    flat = np.concatenate(parts)
    for end in (int(flat.min()), int(flat.max())):
        token_id("ids", end, config.vocab_size, "the model's vocabulary")
    return flat, [part.size for part in parts]


def _array(ids: Ids) -> NDArray[Any]:
    """The new ids [T] of one segment. ParameterError for what is no list of whole numbers."""
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of different lengths
        array = np.empty(0)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ParameterError("ids", ids, "must be a non-empty sequence of whole numbers")
    return array
