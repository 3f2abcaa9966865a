"""What a row of the table of model families says. It knows nothing of files or arithmetic; the rows are `rows.ROWS`.

A new family is a new row, not a new file: which switches its config may set, how its checkpoint names its tensors, and
in which of the ways that the one forward pass knows its blocks are put together. Sizes are written in the letters of
the design: V vocabulary, C width, H query heads, K key/value heads, D head width, F feed-forward width, X width of an
expert, E experts, P positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "gelu_new", "gelu_fast"]
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_fast",
    "gelu_pytorch_tanh": "gelu_tanh",
}
"""What the names in config.json mean."""
TANH_LIKE: tuple[Activation, ...] = ("gelu_tanh", "gelu_new", "gelu_fast")
"""One function; half precision is rounded in other places of each."""


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
    bias: str | bool = False
    """Whether a bias belongs to it, or the name of the `ModelConfig` switch that says so."""
    fused: Literal["", "rows", "groups"] = ""
    """How slots that name the same tensor share it. rows: one after the other, in the order of the row. groups: per
    key/value head its query heads, its key and its value."""


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """Where a block keeps its router [E, C] and its experts' projections, {expert} the number."""

    router: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What makes a `model_type` of config.json different from the others."""

    model_type: str
    when: Mapping[str, Any] = field(default_factory=dict)
    """Values in config.json that choose this row, where one model_type has several; the first that fits is taken."""

    # config.json
    names: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """How this family writes a setting that Llama's config calls otherwise; of several spellings any."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What a config that leaves a setting out means, where that differs from Llama's; transformers' own defaults."""
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Switches that are run at some values only."""
    repeats: Mapping[str, str] = field(default_factory=dict)
    """Settings that are written beside those that count, and may only say the same."""
    harmless: frozenset[str] = frozenset()
    """Settings of this family that change no logit."""
    inner: int = 0
    """F in widths C where the config leaves it out; 0: it may not."""
    windows: Literal["none", "all", "used", "late", "pattern", "without_rope"] = "none"
    """Which layers see a sliding window, where `layer_types` does not say; see `layers.windows`."""
    rotary_once: bool = False
    """Half precision is rounded after the whole turn, not in each product of it."""
    shares_settled: bool = False
    """Half precision rounds what the router gives."""
    scale_settled: bool = False
    """Half precision rounds the embedding's scale: it is a tensor in the weights' type."""
    local_rope: bool = False
    """Layers with a window have a rotary base of their own."""
    rotary: bool = True

    # the block
    norm: Literal["rms", "rms_once", "rms_plus_one", "layer"] = "rms"
    """Root mean square, or mean and variance. Half precision is rounded before the weight (rms) or after it alone (the
    other two); plus_one: the checkpoint holds the weight less one."""
    norms: Mapping[str, tuple[str, str]]
    """Field of `weights.Layer` -> (name in the checkpoint, its width in letters)."""
    parallel: str | bool = False
    """Attention and feed-forward read the same x; or the name of the `ModelConfig` switch that says so."""
    projections: tuple[Slot, ...]
    """Attention's q, k, v and o; feed-forward's gate (where it is gated), up and down."""
    experts: ExpertNames | None = None
    """In the layers that the config makes sparse, in place of gate, up and down."""

    # the checkpoint
    prefix: str = "model."
    """Before every tensor but the head; a checkpoint of the bare model has it nowhere."""
    block: str = "model.layers.{layer}."
    """Before a block's tensors, {layer} its number."""
    embedding: str = "model.embed_tokens.weight"
    positions: str | None = None
    """Learned positions [P, C]."""
    final_norm: str = "model.norm"
    head: str = "lm_head.weight"
    head_bias: bool = False
    transposed: bool = False
    """Projections are stored [in, out]."""
    left_over: tuple[str, ...] = ()
    """Shell patterns of tensors that old checkpoints carry and nobody reads."""
