"""Random models of every family, made by transformers: what `test_families` compares and what a new row adds.

Three configs or more a family, odd ones among them: heads that do not divide the width, vocabularies that 64 does not
divide, one layer, windows shorter than the text, tied and untied, with and without biases. Knows nothing of refsample.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

SMALL: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5,
    "original_max_position_embeddings": 128,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "rope_theta": 1e4}


def longrope(pairs: int) -> dict[str, Any]:
    """Factors of a model whose context was stretched from 256 tokens."""
    short = [1.0 + 0.02 * n for n in range(pairs)]
    long = [1.0 + 0.9 * n for n in range(pairs)]
    return {
        "rope_type": "longrope", "short_factor": short, "long_factor": long, "rope_theta": 1e4,
        "original_max_position_embeddings": 256,
    }  # fmt: skip


FALCON: dict[str, Any] = {"intermediate_size": ..., "num_key_value_heads": ...}
GPT2: dict[str, Any] = {
    "hidden_size": ..., "intermediate_size": ..., "num_hidden_layers": ..., "num_attention_heads": ...,
    "num_key_value_heads": ..., "max_position_embeddings": ..., "n_embd": 48, "n_layer": 2, "n_head": 4,
    "n_positions": 1024,
}  # fmt: skip

CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-1-layer-tied": ("llama", {"num_hidden_layers": 1, "tie_word_embeddings": True, "head_dim": 20}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3}),
    "llama-linear": ("llama", {"rope_parameters": LINEAR, "num_key_value_heads": 4}),
    "llama-dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 256}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"sliding_window": 37}),
    "mistral-wide-heads": ("mistral", {"sliding_window": 1, "head_dim": 32, "num_key_value_heads": 1}),
    "mistral-no-window": ("mistral", {"sliding_window": None, "tie_word_embeddings": True, "vocab_size": 131}),
    "mixtral": ("mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "mixtral-window": ("mixtral", {"num_local_experts": 3, "num_experts_per_tok": 3, "sliding_window": 50}),
    "mixtral-1-expert": ("mixtral", {"num_local_experts": 9, "num_experts_per_tok": 1, "head_dim": 16}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": (
        "qwen2", {"use_sliding_window": True, "sliding_window": 33, "max_window_layers": 1, "num_hidden_layers": 3},
    ),
    "qwen2-tied-yarn": ("qwen2", {"tie_word_embeddings": True, "rope_parameters": YARN, "vocab_size": 150}),
    "qwen3": ("qwen3", {"head_dim": 20}),
    "qwen3-biases": ("qwen3", {"attention_bias": True, "num_key_value_heads": 1, "head_dim": 16}),
    "qwen3-tied-1-layer": ("qwen3", {"num_hidden_layers": 1, "tie_word_embeddings": True, "head_dim": 12}),
    "qwen3_moe": (
        "qwen3_moe", {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "head_dim": 12},
    ),
    "qwen3_moe-normalised": (
        "qwen3_moe", {
            "num_experts": 17, "num_experts_per_tok": 4, "moe_intermediate_size": 18, "norm_topk_prob": True,
            "decoder_sparse_step": 2, "num_hidden_layers": 4, "head_dim": 20,
        },
    ),
    "qwen3_moe-window": (
        "qwen3_moe", {
            "num_experts": 4, "num_experts_per_tok": 4, "moe_intermediate_size": 8, "mlp_only_layers": [0],
            "use_sliding_window": True, "sliding_window": 21, "num_hidden_layers": 3, "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "gemma2": ("gemma2", {"head_dim": 16, "sliding_window": 40, "num_hidden_layers": 3, "query_pre_attn_scalar": 24}),
    "gemma2-no-caps": (
        "gemma2", {"head_dim": 12, "attn_logit_softcapping": None, "final_logit_softcapping": None,
                   "tie_word_embeddings": True},
    ),
    "gemma2-tight": (
        "gemma2", {"head_dim": 20, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "sliding_window": 5,
                   "layer_types": ["full_attention", "sliding_attention"], "attention_bias": True},
    ),
    "gemma3": ("gemma3_text", {"head_dim": 16, "sliding_window": 30, "num_hidden_layers": 7}),
    "gemma3-scaled": (
        "gemma3_text", {
            "head_dim": 20, "sliding_window": 64, "tie_word_embeddings": True, "query_pre_attn_scalar": 10,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "gemma3-1-layer": ("gemma3_text", {"head_dim": 12, "sliding_window": 700, "num_hidden_layers": 1}),
    "phi3": ("phi3", {"sliding_window": 45}),
    "phi3-longrope": ("phi3", {"rope_parameters": longrope(6), "original_max_position_embeddings": 256}),
    "phi3-partial": (
        "phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
                 "num_key_value_heads": 4, "tie_word_embeddings": True, "vocab_size": 67},
    ),
    "phi": ("phi", {"num_key_value_heads": 4}),
    "phi-normed": ("phi", {"qk_layernorm": True, "num_hidden_layers": 1}),
    "phi-partial": (
        "phi", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.4},
                "hidden_size": 80, "hidden_act": "gelu"},
    ),
    "gpt2": ("gpt2", GPT2 | {"tie_word_embeddings": True}),
    "gpt2-odd": ("gpt2", GPT2 | {"n_head": 16, "n_inner": 50, "scale_attn_by_inverse_layer_idx": True}),
    "gpt2-1-layer": ("gpt2", GPT2 | {"n_layer": 1, "scale_attn_weights": False, "activation_function": "gelu"}),
    "gpt_neox": ("gpt_neox", {"num_key_value_heads": ..., "hidden_size": 64}),
    "gpt_neox-in-turn": ("gpt_neox", {"num_key_value_heads": ..., "use_parallel_residual": False,
                                      "hidden_size": 32, "tie_word_embeddings": True}),
    "gpt_neox-no-bias": (
        "gpt_neox", {"num_key_value_heads": ..., "attention_bias": False, "hidden_act": "gelu_new", "hidden_size": 64,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}},
    ),
    "olmo2": ("olmo2", {}),
    "olmo2-grouped": ("olmo2", {"num_attention_heads": 6, "num_key_value_heads": 1, "attention_bias": True}),
    "olmo2-1-layer": ("olmo2", {"num_hidden_layers": 1, "tie_word_embeddings": True, "rope_parameters": YARN}),
    "smollm3": ("smollm3", {"num_hidden_layers": 5}),
    "smollm3-window": (
        "smollm3", {"no_rope_layers": [0, 1, 1], "num_hidden_layers": 3, "use_sliding_window": True,
                    "sliding_window": 29, "tie_word_embeddings": True},
    ),
    "smollm3-biases": ("smollm3", {"no_rope_layer_interval": 2, "attention_bias": True, "mlp_bias": True}),
    "granite": (
        "granite", {"embedding_multiplier": 7.0, "logits_scaling": 3.0, "residual_multiplier": 0.4,
                    "attention_multiplier": 0.2},
    ),
    "granite-tied": ("granite", {"attention_multiplier": 0.3, "tie_word_embeddings": True, "vocab_size": 101}),
    "granite-biases": (
        "granite", {"attention_bias": True, "mlp_bias": True, "attention_multiplier": 0.25, "logits_scaling": 0.5,
                    "num_hidden_layers": 1},
    ),
    "starcoder2": ("starcoder2", {"sliding_window": 61}),
    "starcoder2-no-bias": ("starcoder2", {"use_bias": False, "tie_word_embeddings": True}),
    "starcoder2-1-layer": ("starcoder2", {"num_hidden_layers": 1, "num_key_value_heads": 1, "vocab_size": 333}),
    "falcon": ("falcon", FALCON | {"tie_word_embeddings": True}),
    "falcon-in-turn": (
        "falcon", FALCON | {"parallel_attn": False, "multi_query": False, "bias": True, "ffn_hidden_size": 60},
    ),
    "falcon-new": ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-new-one-norm": (
        "falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 4, "num_ln_in_parallel_attn": 1,
                            "num_hidden_layers": 1, "bias": True},
    ),
}  # fmt: skip
"""Name -> (model_type, changes to SMALL; `...` takes a setting out)."""


def config_of(name: str) -> Any:
    """transformers' config of a case."""
    model_type, changes = CASES[name]
    settings = {key: value for key, value in {**SMALL, **changes}.items() if value is not ...}
    return transformers.AutoConfig.for_model(model_type, **settings)


def write_random(name: str, folder: Path, seed: int = 0) -> None:
    """The folder of a random float32 model of a case, as transformers writes it."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config_of(name))
    plus_one = CASES[name][0].startswith("gemma")
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(0, 0.4 if "emb" in key or "wte" in key else 1.2 * value.shape[-1] ** -0.5)
            elif "norm" in key or "ln_" in key:
                value.normal_(0.0 if plus_one or key.endswith("bias") else 1.0, 0.2)
            else:
                value.normal_(0, 0.2)
    model.generation_config = transformers.GenerationConfig()
    model.save_pretrained(folder)
