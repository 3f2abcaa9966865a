"""The layers of a model as kernels take them that go through all layers in one call. It knows nothing of whole passes.

For float32 and the commonest of blocks: root mean square norms before both halves, a gated feed-forward, no norms in
between. Every bit is that of `Transformer.block`, which tests hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.batch import Batch
from refsample.model.config import ModelConfig
from refsample.model.families import TANH_LIKE
from refsample.model.weights import Layer, Projection
from refsample_kernels.layers_few import layers_few
from refsample_kernels.layers_many import layers_many
from refsample_kernels.memory import address_of
from refsample_kernels.stack import GELU, GELU_TANH, HEAD_WIDTH, KV_HEADS, SILU, Table
from refsample_kernels.thin import FEW

ACTIVATIONS = {"silu": SILU, "gelu": GELU, **dict.fromkeys(TANH_LIKE, GELU_TANH)}


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Some layers of a model; `refsample_kernels.stack` says what the arrays hold."""

    layers: Sequence[Layer]
    """Whose arrays the addresses are those of."""
    first: int
    """Number of the first of them."""
    matrices: Table
    settings: Table
    scales: NDArray[np.float64]
    sizes: Table
    eps: float
    cap: float
    sample: NDArray[Any]


def stack_of(config: ModelConfig, layers: Sequence[Layer], first: int = 0) -> Stack | None:
    """Layers from number `first` on; None where they are not of that kind."""
    if config.family.norm != "rms" or config.parallel or config.residual_scale != 1:
        return None
    if not all(_suits(layer) for layer in layers) or len({layer.q.weight.dtype for layer in layers}) != 1:
        return None
    numbers = range(first, first + len(layers))
    ropes = [config.layer_ropes[n] for n in numbers]
    return Stack(
        layers=layers,
        first=first,
        matrices=np.array([_addresses(layer) for layer in layers], np.int64),
        settings=np.array(
            [
                (config.windows[n] or 0, -1 if rope is None else rope)
                for n, rope in zip(numbers, ropes, strict=True)
            ],
            np.int64,
        ),
        scales=np.array([config.attention_scales[n] for n in numbers], np.float64),
        sizes=np.array(
            [config.heads, config.kv_heads, config.head_width, _rows(layers[0].gate), ACTIVATIONS[config.activation]],
            np.int64,
        ),
        eps=config.norm_eps,
        cap=config.attention_cap or 0.0,
        sample=np.empty(0, layers[0].q.weight.dtype),
    )  # fmt: skip


def run(stack: Stack, x: NDArray[Any], batch: Batch) -> None:
    """All layers on x [N, C], in place; new keys and values go into the caches."""
    texts = np.empty((len(batch.caches), 6), np.int64)
    for text, span, cache in zip(texts, batch.spans, batch.caches, strict=True):
        keys = _from(stack, cache.keys, cache.keys.shape[2], batch.first)
        values = _from(stack, cache.values, cache.values.shape[3], batch.first)
        text[:] = span.start, span.stop - span.start, cache.length, cache.keys.shape[3], keys, values
    cos, sin = (_side_by_side([pair[which] for pair in batch.turns], len(x)) for which in (0, 1))
    (layers_few if len(x) <= FEW else layers_many)(
        x, stack.matrices, stack.settings, stack.scales, stack.sizes, texts, cos, sin, stack.eps, stack.cap,
        stack.sample,
    )  # fmt: skip  # fmt: skip


def _from(stack: Stack, held: NDArray[Any], width: int, first: int) -> int:
    """Where keys [L, K, D, S] or values [L, K, S, D] of a cache that begins with layer `first` begin for this stack."""
    begin, end = stack.first - first, stack.first - first + len(stack.matrices)
    same = stack.sizes[KV_HEADS] == held.shape[1] and stack.sizes[HEAD_WIDTH] == width
    if not same or held.dtype != np.float32 or begin < 0 or end > len(held):
        raise ValueError(f"cache: {held.dtype} {held.shape} is that of another model")
    return address_of(held[begin:end])


def _side_by_side(turns: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    """Cosines, or sines, of all rotary settings [N, R/2], as one array."""
    if len(turns) == 1:
        return turns[0][None]
    return np.stack(turns) if turns else np.empty((0, rows, 0), np.float32)


def _rows(part: Projection | None) -> int:
    assert part is not None  # `_suits` saw it
    return len(part.weight)


def _suits(layer: Layer) -> bool:
    between = (layer.attention_out_norm, layer.mlp_out_norm, layer.q_norm, layer.k_norm, layer.mixture)
    before = (layer.attention_norm, layer.mlp_norm, layer.gate, layer.up, layer.down)
    if any(part is not None for part in between) or any(part is None for part in before):
        return False
    return len({part.weight.dtype for part in _matrices(layer)}) == 1


def _matrices(layer: Layer) -> tuple[Projection, ...]:
    assert layer.gate and layer.up and layer.down
    return (layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down)


def _addresses(layer: Layer) -> list[int]:
    """A row of `matrices`."""
    assert layer.attention_norm and layer.mlp_norm
    parts = _matrices(layer)
    held = [layer.attention_norm.weight, *(part.weight for part in parts[:4])]
    held += [layer.mlp_norm.weight, *(part.weight for part in parts[4:])]
    return [address_of(array) for array in held] + [address_of(p.bias) if p.bias.size else 0 for p in parts]
