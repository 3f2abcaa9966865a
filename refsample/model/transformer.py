"""The forward pass: token ids in, logits out. It knows nothing of text, sampling or files.

One flat batch: the new tokens of all segments lie in one array [N, C]; only attention looks at segments one by one.
Each output element depends on its own row alone, so logits are bitwise the same however tokens are split over calls and
whichever sequences stand beside each other (in every arithmetic but float64: BLAS, which it goes through, promises
less).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refsample.checks import room, token_id
from refsample.errors import ParameterError
from refsample.model.batch import Batch, Extra, adapted, extra_of
from refsample.model.cache import Cache
from refsample.model.config import ModelConfig
from refsample.model.emulations import ARITHMETICS
from refsample.model.lora import Adapter, LowRank
from refsample.model.numerics import Arithmetic, Product
from refsample.model.rope import Angles
from refsample.model.stack import Stack, run, stack_of
from refsample.model.weights import NOTHING, Layer, Mixture, Norm, Projection, Weights
from refsample_kernels.lanes import widen

Ids = Sequence[int] | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """Weights and the arithmetic to run them with; holds no state of any sequence, so threads may share it."""

    config: ModelConfig
    weights: Weights
    """As the arithmetic wants them."""
    source: Weights
    """As the files hold them."""
    arithmetic: Arithmetic
    angles: tuple[Angles, ...]
    """For each of the config's rotary settings."""
    adapter: Adapter | None = None
    """Added to products as they are computed; the weights are those of the base, whoever else runs them."""
    stack: Stack | None = field(init=False, repr=False)
    """All layers, for kernels that go through them in one call; None where none does."""

    def __post_init__(self) -> None:
        layers = self.weights.layers
        found = stack_of(self.config, layers) if self.arithmetic.fused and isinstance(layers, tuple) else None
        object.__setattr__(self, "stack", found)

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

    def new_cache(self, capacity: int | None = None, declared: int | None = None, layers: int | None = None) -> Cache:
        """An empty cache with room for `capacity` tokens; it grows as needed up to config.max_position.

        `declared`: how many tokens the text will have in all. Only the angles of rotary variants that go by a text's
        length (dynamic, longrope) depend on it, and what was declared holds to the end. None: `capacity`, without one
        the length of the first pass. `layers`: of how many it holds keys and values; None: of all.
        """
        c = self.config
        shape = (layers or c.layers, c.kv_heads, c.head_width)
        return Cache(shape, c.max_position, self.arithmetic.dtype, self.precision, capacity or 0, declared)

    def forward(
        self,
        segments: Sequence[tuple[Ids, Cache]],
        rows: Literal["last", "all"] = "last",
        adapters: Sequence[Adapter | None] | None = None,
    ) -> list[NDArray[Any]]:
        """Logits after the new ids [T] of each segment, whose cache takes them up: [1, V] (last) or [T, V] (all).

        `adapters`: one for each segment, over the same weights; None: this transformer's for all of them. Logits are
        float32, or float64 in the precision of that name. ParameterError for ids outside the vocabulary,
        ContextLengthError beyond the context; no cache has changed then.
        """
        ids, lengths = _checked(segments, self.config, self.precision)
        caches = [cache for _, cache in segments]
        chosen = [self.adapter] * len(caches) if adapters is None else adapters
        batch = self.batch(lengths, caches, chosen)
        x = self.embed(ids, batch)
        if self.stack is not None and not batch.adapted:
            run(self.stack, x, batch)
        else:
            for number, layer in enumerate(self.weights.layers):
                x = self.through(layer, number, x, batch)
        for length, cache in zip(lengths, caches, strict=True):
            cache.length += length
        spans = batch.spans
        if rows == "last":
            x = x[[span.stop - 1 for span in spans]]  # [segments, C]
            spans = [slice(n, n + 1) for n in range(len(spans))]
        logits = self.head(x, spans, chosen)
        return [logits[span] for span in spans]

    def batch(
        self, lengths: Sequence[int], caches: Sequence[Cache], adapters: Sequence[Adapter | None], first: int = 0
    ) -> Batch:
        """So many new rows for each cache, which has room for them then and is as long as before."""
        spans, start = [], 0
        for length, cache in zip(lengths, caches, strict=True):
            spans.append(slice(start, start + length))
            start += length
            cache.reserve(cache.length + length)
            cache.declared = cache.declared or length
        positions = np.concatenate([np.arange(c.length, c.length + n) for n, c in zip(lengths, caches, strict=True)])
        turns = tuple(self._turns(angles, positions, spans, caches) for angles in self.angles)
        return Batch(positions, turns, spans, list(caches), adapted(spans, adapters), first)

    def _turns(
        self, angles: Angles, positions: NDArray[np.int64], spans: Sequence[slice], caches: Sequence[Cache]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Cosines and sines of the rows, each text by the length that it was declared to have."""
        dtype = self.arithmetic.dtype
        if len({cache.declared for cache in caches}) == 1:
            return angles.at(positions, dtype, caches[0].declared)
        parts = [angles.at(positions[span], dtype, cache.declared) for span, cache in zip(spans, caches, strict=True)]
        return np.concatenate([cos for cos, _ in parts]), np.concatenate([sin for _, sin in parts])

    def embed(self, ids: NDArray[np.int64], batch: Batch) -> NDArray[Any]:
        """ids [N] -> [N, C]."""
        weights, dtype = self.weights, self.arithmetic.dtype
        x = self.arithmetic.settle(widen(weights.embedding[ids]).astype(dtype))  # [N, C]
        for rows, adapter in batch.adapted:
            if adapter.embedding is not None:
                inner = widen(adapter.embedding.down[ids[rows]]).astype(dtype)  # [n, r]
                x[rows] = self._with_product(x[rows], inner, adapter.embedding)
        if weights.positions is not None:
            learned = self.arithmetic.settle(widen(weights.positions[batch.positions]).astype(dtype))  # [N, C]
            x = self.arithmetic.settle(x + learned)
        return self._scaled(x, self.config.embedding_scale, self.config.family.scale_settled)

    def head(self, x: NDArray[Any], spans: Sequence[slice], adapters: Sequence[Adapter | None]) -> NDArray[Any]:
        """Last hidden states [N, C], each span of them with its adapter -> logits [N, V]."""
        c, normed = self.config, self._norm(x, self.weights.final_norm)
        extra = [(rows, one.head) for rows, one in adapted(spans, adapters) if one.head is not None]
        logits = self._linear(normed, self.weights.head, extra, self.arithmetic.head)  # [N, V]
        if c.logits_scale != 1:
            logits = self.arithmetic.settle(logits / logits.dtype.type(c.logits_scale))
        if c.final_cap is None:
            return logits
        capped = np.empty_like(logits)  # [N, V]
        self.arithmetic.soft_cap(logits, c.final_cap, capped)
        return capped

    def _scaled(self, x: NDArray[Any], scale: float, settled: bool = False) -> NDArray[Any]:
        """x times a number of the config; `settled`: which is held in the arithmetic's type too."""
        if scale == 1:
            return x
        factor = np.array([scale], x.dtype)
        return self.arithmetic.settle(x * (self.arithmetic.settle(factor) if settled else factor))

    def through(self, layer: Layer, number: int, x: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """`block`, by a kernel of the whole layer where one suits; x may be changed."""
        stack = stack_of(self.config, (layer,), number) if self.arithmetic.fused and not batch.adapted else None
        if stack is None:
            return self.block(layer, number, x, batch)
        run(stack, x, batch)
        return x

    def block(self, layer: Layer, number: int, x: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """One layer on x [N, C]."""
        settle, scale = self.arithmetic.settle, self.config.residual_scale
        normed = x if layer.attention_norm is None else self._norm(x, layer.attention_norm)
        mixed = self._linear(self._attend(layer, number, normed, batch), layer.o, extra_of(batch, number, "o"))
        if layer.attention_out_norm is not None:
            mixed = self._norm(mixed, layer.attention_out_norm)
        if self.config.parallel:  # the feed-forward reads what attention read, or a norm of its own of it
            read = normed if layer.mlp_norm is None else self._norm(x, layer.mlp_norm)
            return settle(settle(mixed + self._feed_forward(layer, number, read, batch)) + x)
        x = settle(x + self._scaled(mixed, scale))
        read = x if layer.mlp_norm is None else self._norm(x, layer.mlp_norm)
        added = self._feed_forward(layer, number, read, batch)  # [N, C]
        if layer.mlp_out_norm is not None:
            added = self._norm(added, layer.mlp_out_norm)
        return settle(x + self._scaled(added, scale))

    def _feed_forward(self, layer: Layer, number: int, x: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """Of the normed rows x [N, C], through one feed-forward or through experts; [N, C]."""
        if layer.mixture is not None:
            return self._experts(layer.mixture, x)
        assert layer.up is not None and layer.down is not None
        wide = self._linear(x, layer.up, extra_of(batch, number, "up"))  # [N, F]
        gate = None if layer.gate is None else self._linear(x, layer.gate, extra_of(batch, number, "gate"))  # [N, F]
        return self._linear(self._bent(gate, wide), layer.down, extra_of(batch, number, "down"))

    def _bent(self, gate: NDArray[Any] | None, wide: NDArray[Any]) -> NDArray[Any]:
        """act(gate) * wide, without a gate act(wide); all [N, F]."""
        inner = wide if gate is None else gate
        bent = np.empty_like(inner)  # [N, F]
        self.arithmetic.activations[self.config.activation](inner, bent)
        return bent if gate is None else self.arithmetic.settle(bent * wide)

    def _experts(self, mixture: Mixture, x: NDArray[Any]) -> NDArray[Any]:
        """Each row of x [N, C] through the experts that its router chooses, added up in the order of their numbers."""
        experts, settle = self.config.experts, self.arithmetic.settle
        assert experts is not None
        logits = self._linear(x, mixture.router, (), self.arithmetic.router)  # [N, E]
        chosen = np.empty((len(x), experts.per_token), np.int64)  # [N, k]
        shares = np.empty(chosen.shape, x.dtype)  # [N, k]
        self.arithmetic.route(logits, experts.normalise, chosen, shares)
        if self.config.family.shares_settled:
            shares = settle(shares)
        out = np.zeros_like(x)  # [N, C]
        for number in np.unique(chosen):
            rows, places = np.nonzero(chosen == number)
            part, taken = mixture.experts[number], x[rows]  # [n, C]
            bent = self._bent(self._linear(taken, part.gate), self._linear(taken, part.up))  # [n, X]
            made = self._linear(bent, part.down)  # [n, C]
            out[rows] = settle(out[rows] + settle(made * shares[rows, places, None]))
        return out

    def _attend(self, layer: Layer, number: int, x: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """Attention of the normed rows x [N, C]; their keys and values go into the caches. [N, HD]"""
        c, math = self.config, self.arithmetic
        q = self._linear(x, layer.q, extra_of(batch, number, "q"))  # [N, HD]
        k = self._linear(x, layer.k, extra_of(batch, number, "k"))  # [N, KD]
        v = self._linear(x, layer.v, extra_of(batch, number, "v")).reshape(-1, c.kv_heads, c.head_width)  # [N, K, D]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self._head_norm(q, layer.q_norm), self._head_norm(k, layer.k_norm)
        q, k = q.reshape(-1, c.heads, c.head_width), k.reshape(-1, c.kv_heads, c.head_width)  # [N, H, D], [N, K, D]
        out = np.empty_like(q)  # [N, H, D]
        q, k = self._turned(q, number, batch), math.keep(self._turned(k, number, batch))
        v, window, cap = math.keep(v), c.windows[number] or 0, c.attention_cap or 0.0
        for span, cache in zip(batch.spans, batch.caches, strict=True):
            start, keys, values = cache.length, cache.keys[number - batch.first], cache.values[number - batch.first]
            end = start + span.stop - span.start
            keys[:, :, start:end] = k[span].transpose(1, 2, 0)  # [K, D, T]
            values[:, start:end] = v[span].transpose(1, 0, 2)  # [K, T, D]
            math.attention(q[span], keys, values, start, c.attention_scales[number], window, cap, out[span])
        return out.reshape(len(x), -1)

    def _turned(self, x: NDArray[Any], number: int, batch: Batch) -> NDArray[Any]:
        """Queries or keys [N, H, D] with the rotary embedding of a layer, where it has one."""
        which = self.config.layer_ropes[number]
        if which is None:
            return x
        turned = np.empty_like(x)  # [N, H, D]
        rotate = self.arithmetic.rotate_once if self.config.family.rotary_once else self.arithmetic.rotate
        rotate(x, *batch.turns[which], turned)
        return turned

    def _head_norm(self, x: NDArray[Any], norm: Norm) -> NDArray[Any]:
        """A norm over each head of x [N, HD], or over all of them where it is as wide."""
        return self._norm(x.reshape(-1, len(norm.weight)), norm).reshape(x.shape)

    def _linear(
        self, x: NDArray[Any], projection: Projection, extra: Extra = (), product: Product | None = None
    ) -> NDArray[Any]:
        """x [N, in] W^T + b, and in the rows of `extra` what adapters add; [N, out]."""
        out = np.empty((len(x), len(projection.weight)), self.arithmetic.dtype)  # [N, out]
        (product or self.arithmetic.linear)(x, projection.weight, projection.bias, out)
        for rows, factors in extra:
            inner = np.empty((len(x[rows]), len(factors.down)), out.dtype)  # [n, r]
            self.arithmetic.low_rank(x[rows], factors.down, NOTHING, inner)
            out[rows] = self._with_product(out[rows], inner, factors)
        return out

    def _with_product(self, x: NDArray[Any], inner: NDArray[Any], extra: LowRank) -> NDArray[Any]:
        """x [N, out] and what an adapter makes of its inner values [N, r]."""
        product = np.empty_like(x)  # [N, out]
        self.arithmetic.low_rank(inner, extra.up, NOTHING, product)
        return self.arithmetic.settle(x + product.dtype.type(extra.scale) * product)

    def _norm(self, x: NDArray[Any], norm: Norm) -> NDArray[Any]:
        """The family's norm of rows x [N, C]."""
        out, kind, eps = np.empty_like(x), self.config.family.norm, self.config.norm_eps  # [N, C]
        if kind == "layer":
            self.arithmetic.layer_norm(x, norm.weight, norm.bias, eps, out)
        elif kind == "rms":
            self.arithmetic.rms_norm(x, norm.weight, eps, out)
        else:
            weight = norm.weight + norm.weight.dtype.type(1) if kind == "rms_plus_one" else norm.weight
            self.arithmetic.rms_norm_once(x, weight, eps, out)
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
