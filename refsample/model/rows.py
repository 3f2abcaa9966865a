"""The table of model families: one row for each `model_type` that refsample runs. It holds data and nothing else.

Names, defaults and layouts are those of transformers 5.24's configuration and modelling files; `docs/families.md` says
how a row is added. Here are the families with root-mean-square norms and gated feed-forwards, in `rows_plain` the
others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refsample.model.families import ExpertNames, Family, Slot
from refsample.model.rows_plain import PLAIN

_ATTENTION = (
    Slot("q", "self_attn.q_proj", "HD", "C", "attention_bias"),
    Slot("k", "self_attn.k_proj", "KD", "C", "attention_bias"),
    Slot("v", "self_attn.v_proj", "KD", "C", "attention_bias"),
    Slot("o", "self_attn.o_proj", "C", "HD", "attention_bias"),
)
_MLP = (
    Slot("gate", "mlp.gate_proj", "F", "C", "mlp_bias"),
    Slot("up", "mlp.up_proj", "F", "C", "mlp_bias"),
    Slot("down", "mlp.down_proj", "C", "F", "mlp_bias"),
)
_QKV_BIASED = tuple(replace(slot, bias=slot.field != "o") for slot in _ATTENTION)
_BEFORE = {"attention_norm": ("input_layernorm", "C"), "mlp_norm": ("post_attention_layernorm", "C")}
_BEFORE_AND_AFTER = {
    "attention_norm": ("input_layernorm", "C"),
    "attention_out_norm": ("post_attention_layernorm", "C"),
    "mlp_norm": ("pre_feedforward_layernorm", "C"),
    "mlp_out_norm": ("post_feedforward_layernorm", "C"),
}
_HEAD_NORMS = {"q_norm": ("self_attn.q_norm", "D"), "k_norm": ("self_attn.k_norm", "D")}

LLAMA = Family(
    model_type="llama",
    norms=_BEFORE,
    projections=(*_ATTENTION, *_MLP),
    harmless=frozenset({"pretraining_tp"}),
    left_over=("model.layers.*.self_attn.rotary_emb.inv_freq",),
)

MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    defaults={"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    fixed={"attention_bias": (False,), "mlp_bias": (False,)},
    windows="all",
)

MIXTRAL = replace(
    MISTRAL,
    model_type="mixtral",
    names={"num_experts": "num_local_experts"},
    defaults={
        "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
        "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True, "sliding_window": None,
    },
    fixed={"attention_bias": (False,), "mlp_bias": (False,), "norm_topk_prob": (True,)},
    harmless=frozenset({"output_router_logits", "router_aux_loss_coef", "router_jitter_noise"}),
    projections=_ATTENTION,
    experts=ExpertNames(
        router="block_sparse_moe.gate",
        gate="block_sparse_moe.experts.{expert}.w1",
        up="block_sparse_moe.experts.{expert}.w3",
        down="block_sparse_moe.experts.{expert}.w2",
    ),
)  # fmt: skip

QWEN2 = replace(
    LLAMA,
    model_type="qwen2",
    defaults={
        "max_position_embeddings": 32768, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28,
    },
    fixed={"attention_bias": (False,), "mlp_bias": (False,)},
    projections=(*_QKV_BIASED, *_MLP),
    windows="late",
)  # fmt: skip

QWEN3 = replace(
    QWEN2,
    model_type="qwen3",
    defaults=dict(QWEN2.defaults) | {"head_dim": 128},
    fixed={"mlp_bias": (False,)},
    norms=_BEFORE | _HEAD_NORMS,
    projections=(*_ATTENTION, *_MLP),
)

QWEN3_MOE = replace(
    QWEN3,
    model_type="qwen3_moe",
    names={"num_experts": ("num_experts", "num_local_experts")},
    defaults={
        "num_key_value_heads": 4, "max_position_embeddings": 32768, "use_sliding_window": False, "sliding_window": 4096,
        "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": False, "mlp_only_layers": None,
        "moe_intermediate_size": 768, "decoder_sparse_step": 1,
    },
    harmless=frozenset({"output_router_logits", "router_aux_loss_coef", "max_window_layers"}),
    windows="used",
    shares_settled=True,
    experts=ExpertNames(
        router="mlp.gate",
        gate="mlp.experts.{expert}.gate_proj",
        up="mlp.experts.{expert}.up_proj",
        down="mlp.experts.{expert}.down_proj",
    ),
)  # fmt: skip

GEMMA2 = replace(
    LLAMA,
    model_type="gemma2",
    names={"hidden_act": "hidden_activation"},
    defaults={
        "num_key_value_heads": 4, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192,
        "tie_word_embeddings": True, "sliding_window": 4096, "sliding_window_pattern": 2, "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "scale_embeddings": True,
    },
    fixed={
        "mlp_bias": (False,), "use_bidirectional_attention": (False,), "sliding_window_pattern": (2,),
    },
    scale_settled=True,
    harmless=frozenset({"hidden_act", "cache_implementation", "sliding_window_size"}),
    windows="pattern",
    norm="rms_plus_one",
    norms=_BEFORE_AND_AFTER,
)  # fmt: skip

GEMMA3 = replace(
    GEMMA2,
    model_type="gemma3_text",
    defaults=dict(GEMMA2.defaults) | {
        "max_position_embeddings": 131072, "sliding_window_pattern": 6, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
    },
    fixed={  # transformers reads a soft cap of attention, and does nothing with it
        "mlp_bias": (False,), "use_bidirectional_attention": (False,), "attn_logit_softcapping": (None,),
    },
    harmless=GEMMA2.harmless | {"_sliding_window_pattern"},
    local_rope=True,
    norms=_BEFORE_AND_AFTER | _HEAD_NORMS,
)  # fmt: skip

PHI3 = replace(
    LLAMA,
    model_type="phi3",
    defaults={
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096,
        "sliding_window": None, "partial_rotary_factor": 1.0,
    },
    fixed={
        "attention_bias": (False,), "mlp_bias": (False,), "lm_head_bias": (False,), "full_attn_mod": (1,),
        "interpolate_factor": (1,),
    },
    harmless=frozenset({"resid_pdrop", "embd_pdrop"}),
    projections=(
        Slot("q", "self_attn.qkv_proj", "HD", "C", fused="rows"),
        Slot("k", "self_attn.qkv_proj", "KD", "C", fused="rows"),
        Slot("v", "self_attn.qkv_proj", "KD", "C", fused="rows"),
        Slot("o", "self_attn.o_proj", "C", "HD"),
        Slot("gate", "mlp.gate_up_proj", "F", "C", fused="rows"),
        Slot("up", "mlp.gate_up_proj", "F", "C", fused="rows"),
        Slot("down", "mlp.down_proj", "C", "F"),
    ),
    windows="all",
)  # fmt: skip

OLMO2 = replace(
    LLAMA,
    model_type="olmo2",
    rotary_once=True,
    defaults={"rms_norm_eps": 1e-5},
    fixed={"mlp_bias": (False,)},
    norm="rms_once",
    norms={
        "attention_out_norm": ("post_attention_layernorm", "C"),
        "mlp_out_norm": ("post_feedforward_layernorm", "C"),
        "q_norm": ("self_attn.q_norm", "HD"),
        "k_norm": ("self_attn.k_norm", "KD"),
    },
)

SMOLLM3 = replace(
    LLAMA,
    model_type="smollm3",
    defaults={
        "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 2e6, "tie_word_embeddings": True,
        "use_sliding_window": False, "sliding_window": None, "no_rope_layers": None, "no_rope_layer_interval": 4,
    },
    harmless=frozenset({"pretraining_tp", "max_window_layers"}),
    windows="without_rope",
)  # fmt: skip

GRANITE = replace(
    LLAMA,
    model_type="granite",
    defaults={
        "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0,
    },
)  # fmt: skip

ROWS = (
    LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN3, QWEN3_MOE, GEMMA2, GEMMA3, PHI3, OLMO2, SMOLLM3, GRANITE, *PLAIN,
)  # fmt: skip
"""Every row; of those with one model_type the first whose `when` fits is taken."""

FAMILIES: Mapping[str, tuple[Family, ...]] = {
    name: tuple(row for row in ROWS if row.model_type == name) for name in dict.fromkeys(row.model_type for row in ROWS)
}
"""model_type -> its rows."""
