"""Random little folders of any family of the table, for tests. It knows nothing of what is tested with them.

`write_family(folder, config)` takes a config.json as a dict and writes the tensors that the family's row asks for, next
to the tokenizer of `tests.factories`. The same call writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.model.config import ModelConfig, read_config
from tests.factories import LLAMA3, VOCABULARY, YARN, write_json, write_tokenizer, write_weights

ROWS = VOCABULARY + 4
_SIZES: Mapping[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 0,
    "dtype": "bfloat16", "initializer_range": 0.02, "use_cache": True, "transformers_version": "5.24.0",
}  # fmt: skip
_PLAIN_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5}
_ROTARY = _GROUPED | _PLAIN_ROPE
_MOE = {"num_experts_per_tok": 2, "num_hidden_layers": 2}
_GPT2 = {
    "model_type": "gpt2", "vocab_size": ROWS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48,
    "n_positions": 64, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False, "tie_word_embeddings": True, "eos_token_id": 0, "torch_dtype": "bfloat16",
    "n_ctx": 64, "embd_pdrop": 0.1,
}  # fmt: skip
_FALCON = {
    "model_type": "falcon", "vocab_size": ROWS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "layer_norm_epsilon": 1e-5, "bias": False, "alibi": False, "eos_token_id": 0, "dtype": "bfloat16",
    "rope_theta": 10000.0,
}  # fmt: skip
_LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 3.0, 4.0],
}  # fmt: skip

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "llama": {"model_type": "llama", **_ROTARY, "attention_bias": False, "mlp_bias": False},
    "llama_llama3": {"model_type": "llama", **_GROUPED, "rope_parameters": {"rope_theta": 5e5, **LLAMA3}},
    "llama_yarn_old": {
        "model_type": "llama", **_GROUPED, "rope_theta": 5e5,
        "rope_scaling": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 1.1},
    },
    "llama_dynamic": {
        "model_type": "llama", **_GROUPED, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0},
        "head_dim": 8,
    },
    "mistral": {"model_type": "mistral", **_ROTARY, "sliding_window": 4, "head_dim": 8},
    "mixtral": {"model_type": "mixtral", **_ROTARY, **_MOE, "num_local_experts": 3, "router_aux_loss_coef": 0.02},
    "qwen2": {
        "model_type": "qwen2", **_ROTARY, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1,
    },
    "qwen3": {
        "model_type": "qwen3", **_ROTARY, "head_dim": 10, "attention_bias": False, "use_sliding_window": True,
        "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"],
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe", **_ROTARY, **_MOE, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 24,
        "decoder_sparse_step": 1, "mlp_only_layers": [0], "norm_topk_prob": True, "output_router_logits": False,
    },
    "gemma2": {
        "model_type": "gemma2", **_GROUPED, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 8,
        "sliding_window": 4, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "rope_theta": 10000.0,
    },
    "gemma3_text": {
        "model_type": "gemma3_text", **_GROUPED, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 8,
        "sliding_window": 4, "query_pre_attn_scalar": 16, "sliding_window_pattern": 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "phi3": {
        "model_type": "phi3", **_GROUPED, "original_max_position_embeddings": 64, "sliding_window": None,
        "rope_parameters": _LONGROPE,
    },
    "olmo2": {"model_type": "olmo2", **_ROTARY, "attention_bias": False},
    "smollm3": {
        "model_type": "smollm3", **_ROTARY, "no_rope_layers": [1, 0], "no_rope_layer_interval": 2,
        "use_sliding_window": False,
    },
    "granite": {
        "model_type": "granite", **_ROTARY, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
        "attention_multiplier": 0.25, "logits_scaling": 4.0,
    },
    "phi": {
        "model_type": "phi", **_SIZES, "tie_word_embeddings": False, "num_key_value_heads": 4,
        "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "qk_layernorm": False,
        "rope_theta": 10000.0,
    },
    "gpt2": _GPT2,
    "gpt_neox": {
        "model_type": "gpt_neox", **_SIZES, "tie_word_embeddings": False, "hidden_act": "gelu",
        "layer_norm_eps": 1e-5, "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": True,
        "attention_bias": True,
    },
    "starcoder2": {
        "model_type": "starcoder2", **_SIZES, **_PLAIN_ROPE, "num_key_value_heads": 2,
        "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5, "use_bias": True, "sliding_window": 4,
    },
    "falcon": _FALCON | {"multi_query": True, "parallel_attn": True, "new_decoder_architecture": False},
    "falcon_new": _FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 2},
}  # fmt: skip
"""Every family of the table, some with more than one rotary variant; config.json as transformers writes it."""


def write_family(folder: Path, config: Mapping[str, Any], seed: int = 0) -> Path:
    """A folder of bfloat16 weights for a config.json; the folder comes back."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", dict(config))
    write_json(folder / "generation_config.json", {"eos_token_id": [0, 1], "do_sample": True})
    write_tokenizer(folder, 256)
    write_weights(folder, random_family(read_config(folder), seed), "bfloat16")
    return folder


def random_family(c: ModelConfig, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Checkpoint names -> random values, one tensor for each that the family's row names."""
    rng, family = np.random.RandomState(seed), c.family
    made: dict[str, NDArray[np.float32]] = {}

    def matrix(name: str, out: int, inp: int, turned: bool = False) -> None:
        values = (rng.standard_normal((out, inp)) / np.sqrt(inp)).astype(np.float32)
        made[name] = np.ascontiguousarray(values.T) if turned else values

    def vector(name: str, size: int, centre: float) -> None:
        made[name] = (centre + 0.1 * rng.standard_normal(size)).astype(np.float32)

    def norm(name: str, letters: str) -> None:
        vector(f"{name}.weight", c.size(letters), float(family.norm != "rms_plus_one"))
        if family.norm == "layer":
            vector(f"{name}.bias", c.size(letters), 0.0)

    matrix(family.embedding, c.vocab_size, c.width)
    if family.positions is not None:
        matrix(family.positions, c.max_position, c.width)
    for layer in range(c.layers):
        prefix = family.block.format(layer=layer)
        mixed = c.experts is not None and c.experts.layers[layer]
        slots = [slot for slot in family.projections if not (mixed and slot.field in ("gate", "up", "down"))]
        for tensor in dict.fromkeys(slot.tensor for slot in slots):
            parts = [slot for slot in slots if slot.tensor == tensor]
            out = sum(c.size(slot.out) for slot in parts)
            matrix(f"{prefix}{tensor}.weight", out, c.size(parts[0].inp), family.transposed)
            bias = parts[0].bias
            if bias if isinstance(bias, bool) else getattr(c, bias):
                vector(f"{prefix}{tensor}.bias", out, 0.0)
        for name, letters in family.norms.values():
            norm(prefix + name, letters)
        if mixed and c.experts is not None and family.experts is not None:
            matrix(f"{prefix}{family.experts.router}.weight", c.experts.count, c.width)
            for number in range(c.experts.count):
                for name, out, inp in (
                    (family.experts.gate, c.experts.width, c.width),
                    (family.experts.up, c.experts.width, c.width),
                    (family.experts.down, c.width, c.experts.width),
                ):
                    matrix(f"{prefix}{name.format(expert=number)}.weight", out, inp)
    norm(family.final_norm, "C")
    if not c.tied:
        matrix(family.head, c.vocab_size, c.width)
    if family.head_bias:
        vector(family.head.removesuffix("weight") + "bias", c.vocab_size, 0.0)
    return made
