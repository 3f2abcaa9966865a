"""Model families as rows of data: which switches a config may set and how a checkpoint names its tensors.

It knows nothing of files or arithmetic. A new family is a new row of FAMILIES, not a new file. Sizes are written in the
letters of the design: V vocabulary, C width, H query heads, K key/value heads, D head width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slot:
    """One projection of a block: where the checkpoint keeps it and which shape it has, [out, in]."""

    field: str
    """Name in `weights.Layer`."""
    tensor: str
    """Name in the checkpoint, without the block's prefix and without .weight / .bias."""
    out: str
    inp: str
    """Sizes as products of letters: "HD" is H times D."""
    bias: str | None
    """Name of the `ModelConfig` switch that says whether a bias belongs to it; None: never one."""


@dataclass(frozen=True, slots=True)
class Family:
    """What makes a `model_type` of config.json different from the others."""

    model_type: str
    block: str
    """Prefix of a block's tensors, {layer} its number."""
    projections: tuple[Slot, ...]
    attention_norm: str
    mlp_norm: str
    embedding: str
    final_norm: str
    head: str
    activations: frozenset[str]
    """Values of hidden_act that mean the gated SiLU."""
    left_over: tuple[str, ...]
    """Shell patterns of tensors that old checkpoints carry and nobody reads."""


_LLAMA = Family(
    model_type="llama",
    block="model.layers.{layer}.",
    projections=(
        Slot("q", "self_attn.q_proj", "HD", "C", "attention_bias"),
        Slot("k", "self_attn.k_proj", "KD", "C", "attention_bias"),
        Slot("v", "self_attn.v_proj", "KD", "C", "attention_bias"),
        Slot("o", "self_attn.o_proj", "C", "HD", "attention_bias"),
        Slot("gate", "mlp.gate_proj", "F", "C", "mlp_bias"),
        Slot("up", "mlp.up_proj", "F", "C", "mlp_bias"),
        Slot("down", "mlp.down_proj", "C", "F", "mlp_bias"),
    ),
    attention_norm="input_layernorm.weight",
    mlp_norm="post_attention_layernorm.weight",
    embedding="model.embed_tokens.weight",
    final_norm="model.norm.weight",
    head="lm_head.weight",
    activations=frozenset({"silu", "swish"}),
    left_over=("model.layers.*.self_attn.rotary_emb.inv_freq",),
)

FAMILIES: Mapping[str, Family] = {_LLAMA.model_type: _LLAMA}
