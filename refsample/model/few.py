"""A layer for few rows in a handful of kernels: what a decode step is made of. It knows nothing of whole passes.

`block` is `Transformer.block` once more, for float32 and the commonest of blocks (root mean square norms before both
halves, a gated feed-forward, no norms in between); every bit is the same, which tests hold. Between kernels Python
takes its time, and so do threads that begin and end: a token of a small model has hundreds of such moments. `attended`
serves any number of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.batch import Batch
from refsample.model.config import ModelConfig
from refsample.model.families import TANH_LIKE
from refsample.model.weights import Layer
from refsample_kernels.attend import attend
from refsample_kernels.fused import GELU, GELU_TANH, SILU, add_linear, gated, project

ACTIVATIONS = {"silu": SILU, "gelu": GELU, **dict.fromkeys(TANH_LIKE, GELU_TANH)}


def suits(config: ModelConfig, layer: Layer) -> bool:
    """Whether the layer is of that kind."""
    between = (layer.attention_out_norm, layer.mlp_out_norm, layer.q_norm, layer.k_norm, layer.mixture)
    before = (layer.attention_norm, layer.mlp_norm, layer.gate)
    plain = config.family.norm == "rms" and not config.parallel and config.residual_scale == 1
    return plain and all(part is None for part in between) and all(part is not None for part in before)


def block(config: ModelConfig, layer: Layer, number: int, x: NDArray[Any], batch: Batch) -> None:
    """One layer on x [N, C], N up to `thin.FEW`, in place."""
    c, eps, rows = config, config.norm_eps, len(x)
    assert layer.attention_norm and layer.mlp_norm and layer.gate and layer.up and layer.down  # as `suits` says
    q = np.empty((rows, c.heads, c.head_width), np.float32)  # [N, H, D]
    k = np.empty((rows, c.kv_heads, c.head_width), np.float32)  # [N, K, D]
    v, out = np.empty_like(k), np.empty_like(q)  # [N, K, D], [N, H, D]
    project(
        x, layer.attention_norm.weight, eps, layer.q.weight, layer.k.weight, layer.v.weight,
        layer.q.bias, layer.k.bias, layer.v.bias, q.reshape(rows, -1), k.reshape(rows, -1), v.reshape(rows, -1),
    )  # fmt: skip
    attended(config, number, q, k, v, batch, out)
    add_linear(out.reshape(rows, -1), layer.o.weight, layer.o.bias, x)
    inner = np.empty((rows, len(layer.gate.weight)), np.float32)  # [N, F]
    gate, up, kind = layer.gate, layer.up, ACTIVATIONS[c.activation]
    gated(x, layer.mlp_norm.weight, eps, gate.weight, up.weight, gate.bias, up.bias, kind, inner)
    add_linear(inner, layer.down.weight, layer.down.bias, x)


def attended(
    config: ModelConfig, number: int, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], batch: Batch, out: NDArray[Any]
) -> None:
    """Attention of queries [N, H, D], whose keys and values [N, K, D] go into the caches; out [N, H, D]."""
    which = config.layer_ropes[number]
    nothing = np.empty((len(q), 0), np.float32)
    cos, sin = (nothing, nothing) if which is None else batch.turns[which]
    scale, window, cap = config.attention_scales[number], config.windows[number] or 0, config.attention_cap or 0.0
    for span, cache in zip(batch.spans, batch.caches, strict=True):
        keys, values = cache.keys[number - batch.first], cache.values[number - batch.first]
        attend(
            q[span], k[span], v[span], cos[span], sin[span], keys, values, cache.length, scale, window, cap, out[span]
        )
