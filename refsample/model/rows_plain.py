"""Rows of the table of families: those with LayerNorm and a feed-forward of two matrices. Data and nothing else."""

from __future__ import annotations

from dataclasses import replace

from refsample.model.families import Family, Slot

_BEFORE = {"attention_norm": ("input_layernorm", "C"), "mlp_norm": ("post_attention_layernorm", "C")}

PHI = Family(
    model_type="phi",
    names={"rms_norm_eps": "layer_norm_eps"},
    defaults={"hidden_act": "gelu_new", "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "qk_layernorm": False},
    harmless=frozenset({"resid_pdrop", "embd_pdrop"}),
    norm="layer",
    norms={"attention_norm": ("input_layernorm", "C")},
    parallel=True,
    projections=(
        Slot("q", "self_attn.q_proj", "HD", "C", True),
        Slot("k", "self_attn.k_proj", "KD", "C", True),
        Slot("v", "self_attn.v_proj", "KD", "C", True),
        Slot("o", "self_attn.dense", "C", "HD", True),
        Slot("up", "mlp.fc1", "F", "C", True),
        Slot("down", "mlp.fc2", "C", "F", True),
    ),
    final_norm="model.final_layernorm",
    head_bias=True,
)
PHI_NORMED = replace(
    PHI,
    when={"qk_layernorm": True},
    norms=dict(PHI.norms) | {"q_norm": ("self_attn.q_layernorm", "D"), "k_norm": ("self_attn.k_layernorm", "D")},
)

GPT2 = Family(
    model_type="gpt2",
    names={
        "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
        "intermediate_size": "n_inner", "max_position_embeddings": "n_positions", "rms_norm_eps": "layer_norm_epsilon",
        "hidden_act": "activation_function",
    },
    defaults={
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "hidden_act": "gelu_new",
        "tie_word_embeddings": True, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    inner=4,
    fixed={"add_cross_attention": (False,)},
    harmless=frozenset({
        "n_ctx", "resid_pdrop", "embd_pdrop", "attn_pdrop", "reorder_and_upcast_attn", "summary_type",
        "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
    }),
    rotary=False,
    norm="layer",
    norms={"attention_norm": ("ln_1", "C"), "mlp_norm": ("ln_2", "C")},
    projections=(
        Slot("q", "attn.c_attn", "HD", "C", True, "rows"),
        Slot("k", "attn.c_attn", "KD", "C", True, "rows"),
        Slot("v", "attn.c_attn", "KD", "C", True, "rows"),
        Slot("o", "attn.c_proj", "C", "HD", True),
        Slot("up", "mlp.c_fc", "F", "C", True),
        Slot("down", "mlp.c_proj", "C", "F", True),
    ),
    prefix="transformer.",
    block="transformer.h.{layer}.",
    embedding="transformer.wte.weight",
    positions="transformer.wpe.weight",
    final_norm="transformer.ln_f",
    transposed=True,
    left_over=("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"),
)  # fmt: skip

GPT_NEOX = Family(
    model_type="gpt_neox",
    names={
        "rms_norm_eps": "layer_norm_eps", "rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct",
        "parallel_residual": "use_parallel_residual",
    },
    defaults={
        "hidden_act": "gelu", "rms_norm_eps": 1e-5, "rope_theta": 1e4, "partial_rotary_factor": 0.25,
        "parallel_residual": True,
        "attention_bias": True,
    },
    repeats={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    harmless=frozenset({"hidden_dropout", "classifier_dropout", "attention_dropout"}),
    norm="layer",
    norms=_BEFORE,
    parallel="parallel_residual",
    projections=(
        Slot("q", "attention.query_key_value", "HD", "C", "attention_bias", "groups"),
        Slot("k", "attention.query_key_value", "KD", "C", "attention_bias", "groups"),
        Slot("v", "attention.query_key_value", "KD", "C", "attention_bias", "groups"),
        Slot("o", "attention.dense", "C", "HD", "attention_bias"),
        Slot("up", "mlp.dense_h_to_4h", "F", "C", True),
        Slot("down", "mlp.dense_4h_to_h", "C", "F", True),
    ),
    prefix="gpt_neox.",
    block="gpt_neox.layers.{layer}.",
    embedding="gpt_neox.embed_in.weight",
    final_norm="gpt_neox.final_layer_norm",
    head="embed_out.weight",
    left_over=(
        "gpt_neox.layers.*.attention.bias",
        "gpt_neox.layers.*.attention.masked_bias",
        "gpt_neox.layers.*.attention.rotary_emb.inv_freq",
    ),
)  # fmt: skip

STARCODER2 = Family(
    model_type="starcoder2",
    names={"rms_norm_eps": "norm_epsilon", "attention_bias": "use_bias", "mlp_bias": "use_bias"},
    defaults={
        "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
        "sliding_window": None,
    },
    fixed={"mlp_type": ("default",), "norm_type": ("layer_norm",)},
    harmless=frozenset({"residual_dropout", "embedding_dropout"}),
    windows="all",
    norm="layer",
    norms=_BEFORE,
    projections=(
        Slot("q", "self_attn.q_proj", "HD", "C", "attention_bias"),
        Slot("k", "self_attn.k_proj", "KD", "C", "attention_bias"),
        Slot("v", "self_attn.v_proj", "KD", "C", "attention_bias"),
        Slot("o", "self_attn.o_proj", "C", "HD", "attention_bias"),
        Slot("up", "mlp.c_fc", "F", "C", "mlp_bias"),
        Slot("down", "mlp.c_proj", "C", "F", "mlp_bias"),
    ),
)  # fmt: skip

FALCON = Family(
    model_type="falcon",
    names={
        "rms_norm_eps": "layer_norm_epsilon", "num_key_value_heads": "num_kv_heads", "hidden_act": "activation",
        "intermediate_size": "ffn_hidden_size", "attention_bias": "bias", "mlp_bias": "bias",
    },
    defaults={
        "hidden_act": "gelu", "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "multi_query": True,
        "parallel_attn": True, "new_decoder_architecture": False,
    },
    fixed={"alibi": (False,), "apply_residual_connection_post_layernorm": (False,)},
    harmless=frozenset({"hidden_dropout", "num_ln_in_parallel_attn"}),
    inner=4,
    norm="layer",
    norms={"attention_norm": ("input_layernorm", "C")},
    parallel=True,
    projections=(
        Slot("q", "self_attention.query_key_value", "HD", "C", "attention_bias", "groups"),
        Slot("k", "self_attention.query_key_value", "KD", "C", "attention_bias", "groups"),
        Slot("v", "self_attention.query_key_value", "KD", "C", "attention_bias", "groups"),
        Slot("o", "self_attention.dense", "C", "HD", "attention_bias"),
        Slot("up", "mlp.dense_h_to_4h", "F", "C", "mlp_bias"),
        Slot("down", "mlp.dense_4h_to_h", "C", "F", "mlp_bias"),
    ),
    prefix="transformer.",
    block="transformer.h.{layer}.",
    embedding="transformer.word_embeddings.weight",
    final_norm="transformer.ln_f",
)  # fmt: skip
FALCON_IN_TURN = replace(FALCON, when={"parallel_attn": False}, norms=_BEFORE, parallel=False)
FALCON_NEW_ONE_NORM = replace(
    FALCON,
    when={"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
    defaults={name: value for name, value in FALCON.defaults.items() if name != "multi_query"},
    fixed=dict(FALCON.fixed) | {"parallel_attn": (True,), "num_ln_in_parallel_attn": (1, 2)},
    harmless=FALCON.harmless | {"multi_query"},
)
FALCON_NEW = replace(
    FALCON_NEW_ONE_NORM,
    when={"new_decoder_architecture": True},
    norms={"attention_norm": ("ln_attn", "C"), "mlp_norm": ("ln_mlp", "C")},
)

PLAIN = (
    PHI_NORMED, PHI, GPT2, GPT_NEOX, STARCODER2, FALCON_NEW_ONE_NORM, FALCON_NEW, FALCON_IN_TURN, FALCON,
)  # fmt: skip
"""These rows, those with a condition before those without."""
