"""What may have changed in a loaded config for each key that changed in its file, written down apart from the loader.

A key that is in no table must not load at all unless it is off; a value of the wrong type must not load; and a value
that loads is found again in the config, and nothing else is different.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from refsample.model.config import ModelConfig
from refsample.model.rope import RopeSettings

GONE: Any = object()
"""The value of a key that is not there."""
OFF = (None, False, "", [], {})
HARMLESS = {
    "initializer_range", "use_cache", "transformers_version", "router_aux_loss_coef", "output_router_logits", "n_ctx",
    "embd_pdrop",
}  # fmt: skip
ALIASES = {
    "n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_inner": "intermediate_size", "n_positions": "max_position_embeddings", "layer_norm_epsilon": "rms_norm_eps",
    "layer_norm_eps": "rms_norm_eps", "norm_epsilon": "rms_norm_eps", "activation_function": "hidden_act",
    "hidden_activation": "hidden_act", "rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor",
    "num_kv_heads": "num_key_value_heads", "num_local_experts": "num_experts", "torch_dtype": "dtype",
}  # fmt: skip
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
}  # fmt: skip
FAMILY_OF = {"full_attention": 0, "sliding_attention": 1}


def whole(v: Any) -> bool:
    return type(v) is int and v >= 1


def real(v: Any) -> bool:
    return type(v) in (int, float) and 0 < v < 3.5e38


def flag(v: Any) -> bool:
    return v is None or type(v) is bool


def ids(v: Any) -> bool:
    held = v if isinstance(v, list) else [] if v is None else [v]
    return all(type(one) is int and one >= 0 for one in held)


def listed(v: Any) -> list[int]:
    return list(v) if isinstance(v, list) else [] if v is None else [v]


def null_or(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or kind(v)


@dataclass(frozen=True, slots=True)
class Rule:
    """Of one key: which values may load, how the config shows one, and which of its fields may differ."""

    kind: Callable[[Any], bool]
    shows: Callable[[Any, ModelConfig, Mapping[str, Any]], bool]
    fields: frozenset[str]
    needed: bool = False


def rule(kind: Callable[[Any], bool], shows: Callable[..., bool], names: str, needed: bool = False) -> Rule:
    return Rule(kind, shows, frozenset(names.split()), needed)


def field(kind: Callable[[Any], bool], name: str, more: str = "", needed: bool = False) -> Rule:
    """A key that a field of the config has as it is."""
    return rule(kind, lambda v, c, raw: getattr(c, name) == v, f"{name} {more}", needed)


def _windows(v: Any, c: ModelConfig, raw: Mapping[str, Any]) -> bool:
    return all(width in (None, raw.get("sliding_window", 4096)) for width in c.windows)


def _same_as(kinds: Any, c: ModelConfig) -> bool:
    return kinds is None or [width is not None for width in c.windows] == [k == "sliding_attention" for k in kinds]


RULES: Mapping[str, Rule] = {
    "vocab_size": field(whole, "vocab_size", needed=True),
    "hidden_size": field(whole, "width", needed=True),
    "intermediate_size": field(whole, "feed_forward"),
    "num_hidden_layers": field(whole, "layers", needed=True),
    "num_attention_heads": field(whole, "heads", "kv_heads head_width attention_scales ropes", needed=True),
    "num_key_value_heads": rule(null_or(whole), lambda v, c, raw: c.kv_heads == (v or c.heads), "kv_heads"),
    "head_dim": rule(
        null_or(whole), lambda v, c, raw: c.head_width == (v or c.width // c.heads), "head_width attention_scales ropes"
    ),
    "max_position_embeddings": rule(
        whole, lambda v, c, raw: c.max_position == (2 * v if c.rope and c.rope.kind == "dynamic" else v),
        "max_position ropes",
    ),
    "rms_norm_eps": field(real, "norm_eps"),
    "hidden_act": rule(
        lambda v: isinstance(v, str) and v in ACTIVATIONS, lambda v, c, raw: c.activation == ACTIVATIONS[v],
        "activation",
    ),
    "tie_word_embeddings": rule(flag, lambda v, c, raw: c.tied == bool(v), "tied"),
    "attention_bias": rule(flag, lambda v, c, raw: c.attention_bias == bool(v), "attention_bias"),
    "mlp_bias": rule(flag, lambda v, c, raw: c.mlp_bias == bool(v), "mlp_bias"),
    "use_bias": rule(flag, lambda v, c, raw: c.mlp_bias == c.attention_bias == bool(v), "attention_bias mlp_bias"),
    "bias": rule(flag, lambda v, c, raw: c.mlp_bias == c.attention_bias == bool(v), "attention_bias mlp_bias"),
    "alibi": rule(lambda v: v is None or v == 0, lambda v, c, raw: True, ""),
    "use_parallel_residual": rule(flag, lambda v, c, raw: c.parallel == bool(v), "parallel"),
    "parallel_attn": rule(lambda v: type(v) is bool, lambda v, c, raw: c.parallel == v, "parallel family"),
    "new_decoder_architecture": rule(
        lambda v: type(v) is bool, lambda v, c, raw: ("mlp_norm" in c.family.norms) == v, "kv_heads family"
    ),
    "num_ln_in_parallel_attn": rule(lambda v: v is None or v == 2, lambda v, c, raw: True, ""),
    "multi_query": rule(flag, lambda v, c, raw: c.kv_heads == (1 if v else c.heads), "kv_heads"),
    "qk_layernorm": rule(lambda v: type(v) is bool, lambda v, c, raw: ("q_norm" in c.family.norms) == v, "family"),
    "sliding_window": rule(null_or(whole), _windows, "windows layer_ropes"),
    "use_sliding_window": rule(flag, lambda v, c, raw: v or set(c.windows) == {None}, "windows"),
    "max_window_layers": rule(
        lambda v: type(v) is int and v >= 0,
        lambda v, c, raw: [w is None for w in c.windows] == [n < v for n in range(c.layers)], "windows",
    ),
    "layer_types": rule(
        lambda v: v is None or isinstance(v, list) and all(isinstance(k, str) and k in FAMILY_OF for k in v),
        lambda v, c, raw: _same_as(v, c), "windows layer_ropes",
    ),
    "sliding_window_pattern": rule(
        whole,
        lambda v, c, raw: [w is None for w in c.windows] == [(n + 1) % (v or 1) == 0 for n in range(c.layers)],
        "windows layer_ropes",
    ),
    "no_rope_layers": rule(
        lambda v: v is None or isinstance(v, list) and all(one in (0, 1) for one in v),
        lambda v, c, raw: v is None or [turn is not None for turn in c.layer_ropes] == v, "layer_ropes",
    ),
    "no_rope_layer_interval": rule(null_or(whole), lambda v, c, raw: True, ""),
    "query_pre_attn_scalar": rule(real, lambda v, c, raw: set(c.attention_scales) == {v**-0.5}, "attention_scales"),
    "attn_logit_softcapping": field(null_or(real), "attention_cap"),
    "final_logit_softcapping": field(null_or(real), "final_cap"),
    "embedding_multiplier": field(real, "embedding_scale"),
    "residual_multiplier": field(real, "residual_scale"),
    "logits_scaling": field(real, "logits_scale"),
    "attention_multiplier": rule(real, lambda v, c, raw: set(c.attention_scales) == {v}, "attention_scales"),
    "scale_attn_weights": rule(flag, lambda v, c, raw: (c.attention_scales[0] == 1) == (not v), "attention_scales"),
    "scale_attn_by_inverse_layer_idx": rule(
        flag, lambda v, c, raw: (c.attention_scales[1] == c.attention_scales[0] / 2) == bool(v), "attention_scales"
    ),
    "num_experts": rule(whole, lambda v, c, raw: c.experts.count == v, "experts"),
    "num_experts_per_tok": rule(whole, lambda v, c, raw: c.experts.per_token == v, "experts"),
    "moe_intermediate_size": rule(
        whole, lambda v, c, raw: c.experts.width == v, "experts"
    ),
    "decoder_sparse_step": rule(
        whole, lambda v, c, raw: c.experts.layers == (False, 2 % v == 0), "experts"
    ),
    "mlp_only_layers": rule(
        lambda v: v is None or isinstance(v, list) and all(type(n) is int and n in (0, 1) for n in v),
        lambda v, c, raw: c.experts.layers == tuple(n not in (v or []) for n in range(c.layers)), "experts",
    ),
    "norm_topk_prob": rule(flag, lambda v, c, raw: c.experts.normalise == bool(v), "experts"),
    "bos_token_id": rule(ids, lambda v, c, raw: c.bos_token_id == next(iter(listed(v)), None), "bos_token_id"),
    "eos_token_id": rule(ids, lambda v, c, raw: set(c.eos_token_ids) >= set(listed(v)), "eos_token_ids"),
    "dtype": rule(
        lambda v: v is None or v in ("bfloat16", "float32", "torch.bfloat16", "torch.float32"),
        lambda v, c, raw: c.dtype == (v and v.removeprefix("torch.")), "dtype",
    ),
    "rope_theta": rule(lambda v: v is None or real(v) and v > 1, lambda v, c, raw: c.ropes[-1].theta == v, "ropes"),
    "partial_rotary_factor": rule(
        lambda v: v is None or real(v) and v <= 1, lambda v, c, raw: c.rope.width == int(c.head_width * v), "ropes"
    ),
    "original_max_position_embeddings": rule(
        lambda v: v is None or real(v) and v % 1 == 0,
        lambda v, c, raw: c.rope.original_max_position_embeddings == v, "ropes",
    ),
    "model_type": rule(lambda v: isinstance(v, str), lambda v, c, raw: c.model_type == v, "model_type", needed=True),
    "rope_parameters": rule(lambda v: v is None or isinstance(v, dict), lambda v, c, raw: True, "ropes max_position"),
    "rope_scaling": rule(lambda v: v is None or isinstance(v, dict), lambda v, c, raw: True, "ropes max_position"),
}  # fmt: skip
_NO_NULL_SHOWN = {"rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}  # null: as left out
_ROPE_NUMBERS = {
    "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
}  # fmt: skip


def strict(text: bytes) -> dict[str, Any] | None:
    """JSON of an object as its standard has it, no key twice; None for anything else. Only NaN and its kin are let in,
    which the readers refuse where they are read."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same type."""
    return repr(a) == repr(b)


def config_faults(old: Mapping[str, Any], new: Mapping[str, Any], before: ModelConfig, after: ModelConfig) -> list[str]:
    """What is wrong about a config that loaded from `new`, where `before` is what `old` gave."""
    faults, may_differ = [], set[str]()
    for key in sorted({*old, *new}):
        value = new.get(key, GONE)
        if same(value, old.get(key, GONE)) or key in HARMLESS:
            continue
        if key == "hidden_act" and "hidden_activation" in new:  # Gemma's own name wins
            continue
        found = RULES.get(ALIASES.get(key, key)) if key in old else None
        if found is None:
            if value is not GONE and value not in OFF:
                faults.append(f"the unknown {key} was let through")
            continue
        may_differ |= found.fields
        if value is GONE:
            faults += [f"{key} may not be missing"] if found.needed else []
        elif not found.kind(value):
            faults.append(f"{key} of the wrong kind was let through")
        elif not (value is None and ALIASES.get(key, key) in _NO_NULL_SHOWN) and not found.shows(value, after, new):
            faults.append(f"{key} is not what the config has")
        elif key in ("rope_parameters", "rope_scaling"):
            faults += _rope_faults(value or {}, after)
    differing = {f.name for f in fields(ModelConfig) if getattr(before, f.name) != getattr(after, f.name)}
    return faults + [f"{name} changed" for name in sorted(differing - may_differ)]


def _rope_faults(table: Mapping[str, Any], after: ModelConfig) -> list[str]:
    """Of rope_parameters, for each of its kinds of layers where it has them."""
    if any(isinstance(table.get(kind), dict) for kind in FAMILY_OF):
        if not set(table) <= set(FAMILY_OF):
            return ["settings for all layers beside those for some"]
        return [f for kind, one in table.items() for f in _faults_of_one(one or {}, after.ropes[FAMILY_OF[kind]])]
    return _faults_of_one(table, after.ropes[0])


def _faults_of_one(table: Mapping[str, Any], rope: RopeSettings) -> list[str]:
    faults = []
    for key, value in table.items():
        if key in _ROPE_NUMBERS:
            dynamic = rope.kind == "dynamic" and key == "original_max_position_embeddings"
            good = value is None or real(value) and (dynamic or getattr(rope, key) == value)
        elif key == "rope_theta":
            good = value is None or real(value) and value > 1 and rope.theta == value
        elif key == "rope_type":
            good = rope.kind == value
        elif key == "truncate":
            good = type(value) is bool and rope.truncate == value
        elif key in ("short_factor", "long_factor"):
            good = value is None or isinstance(value, list) and list(getattr(rope, key) or ()) == value
        else:
            good = False
        faults += [] if good else [f"{key} of the rope settings was let through"]
    return faults
