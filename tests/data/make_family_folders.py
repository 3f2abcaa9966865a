"""Writes tests/data/families: a small model of every family as transformers 4 and 5 save it, and 5's logits.

Run twice, in environments of their own (torch 2.13.0 in both), from the root of the checkout:

    python -m tests.data.make_family_folders      with transformers 4.57: writes v4/
    python -m tests.data.make_family_folders      with transformers 5: reads v4/, writes v5/ and logits.npz

So both folders of a family hold the same weights, each as its version names, fuses and describes them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "families"
TOKENS = 40
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 4.0]}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 36}
# Settings as transformers 4 takes them; the model_type stands before the first dash.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": LLAMA3, "rope_theta": 5e5, "attention_bias": True, "eos_token_id": [2, 5]},
    "mistral": {"sliding_window": 11, "rope_theta": 1e5},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1, "tie_word_embeddings": True},
    "qwen3": {
        "head_dim": 8, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    },
    "qwen3_moe": {
        "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True, "head_dim": 6,
        "mlp_only_layers": [0],
    },
    "gemma2": {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 12},
    "gemma3_text": {
        "head_dim": 8, "sliding_window": 7, "num_hidden_layers": 6, "query_pre_attn_scalar": 9,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi3": {"rope_scaling": LONGROPE, "original_max_position_embeddings": 16, "sliding_window": 33},
    "phi": {"partial_rotary_factor": 0.4, "hidden_size": 40, "num_key_value_heads": 4},
    "gpt2": GPT2,
    "gpt_neox": {"rotary_pct": 0.25, "hidden_size": 32},
    "olmo2": {},
    "smollm3": {"num_hidden_layers": 4, "tie_word_embeddings": True},
    "granite": {
        "embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.22, "attention_multiplier": 0.3,
    },
    "starcoder2": {"sliding_window": 13, "use_bias": True},
    "falcon": {"multi_query": True},
    "falcon-new": {"new_decoder_architecture": True, "num_kv_heads": 2, "tie_word_embeddings": False},
}  # fmt: skip


def ids(name: str) -> Any:
    """The tokens whose logits are kept."""
    return np.random.default_rng(sorted(MODELS).index(name)).integers(3, SIZES["vocab_size"], TOKENS)


def write_old(name: str, folder: Path) -> None:
    """A random bfloat16 model, as transformers 4 saves it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type = name.partition("-")[0]
    settings = SIZES | MODELS[name]
    for key in {"gpt2": ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")}.get(
        model_type, ()
    ):
        del settings[key]
    if model_type in ("gpt2", "falcon"):
        for key in ("intermediate_size", "num_key_value_heads"):
            del settings[key]
    if model_type == "gpt_neox":
        del settings["num_key_value_heads"]
    torch.manual_seed(sorted(MODELS).index(name))
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(0, 0.5 if "emb" in key or "wte" in key else 1.2 * value.shape[-1] ** -0.5)
            else:
                norm = ("norm" in key or "ln_" in key) and not key.endswith("bias") and not name.startswith("gemma")
                value.normal_(float(norm), 0.2)
    model.to(torch.bfloat16).save_pretrained(folder)


def write_new(name: str, old: Path, folder: Path) -> Any:
    """The same model as transformers 5 saves it, and its logits [T, V] in float32 and in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(old, dtype=torch.bfloat16).save_pretrained(folder)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
        )
        with torch.no_grad():
            found.append(model(torch.tensor(ids(name)[None])).logits[0].float().numpy())
    return found


def main() -> None:
    """Write the folders that the installed transformers is for."""
    import transformers

    old = transformers.__version__.startswith("4.")
    logits = {}
    for name in MODELS:
        folder = FOLDER / ("v4" if old else "v5") / name
        shutil.rmtree(folder, ignore_errors=True)
        if old:
            write_old(name, folder)
        else:
            logits[name], logits[f"{name}.bf16"] = write_new(name, FOLDER / "v4" / name, folder)
        for path in folder.glob("*.md"):
            path.unlink()
        print(name, json.loads((folder / "config.json").read_text())["model_type"])
    if logits:
        np.savez_compressed(FOLDER / "logits.npz", **logits)


if __name__ == "__main__":
    main()
