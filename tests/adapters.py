"""Random LoRA folders in PEFT's layout over the folders of `tests.factories`. Knows nothing of what is tested."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.factories import Shape, random_tensors, safetensors_bytes, write_json

PREFIX = "base_model.model."
EMBEDDING = "model.embed_tokens"
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def modules(names: tuple[str, ...], layers: range) -> list[str]:
    """Full names of projections in some blocks."""
    return [f"model.layers.{layer}.{name}" for layer in layers for name in names]


def factors(shape: Shape, ranks: Mapping[str, int], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Tensors by PEFT's names for modules and their ranks, large enough that an adapter moves logits by about one."""
    rng = np.random.RandomState(seed)
    base = random_tensors(shape)
    made: dict[str, NDArray[np.float32]] = {}
    for module, rank in ranks.items():
        name = "model.embed_tokens" if module == "lm_head" and shape.tied else module
        out, inp = base[f"{name}.weight"].shape
        if module == EMBEDDING:
            names, (out, inp) = ("lora_embedding_A", "lora_embedding_B"), (inp, out)
        else:
            names = ("lora_A.weight", "lora_B.weight")
        spread = 1.0 if module == EMBEDDING else inp**-0.5
        made[f"{PREFIX}{module}.{names[0]}"] = (spread * rng.standard_normal((rank, inp))).astype(np.float32)
        made[f"{PREFIX}{module}.{names[1]}"] = (0.5 * rank**-0.5 * rng.standard_normal((out, rank))).astype(np.float32)
    return made


def write_adapter(
    folder: Path, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any], dtype: str = "float32"
) -> Path:
    """Both files of an adapter; the folder comes back."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "task_type": "CAUSAL_LM", **config})
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
    return folder


def write_lora(folder: Path, shape: Shape | None = None, rank: int = 4, seed: int = 0, **config: Any) -> Path:
    """A random adapter of all projections of the default shape."""
    shape = shape or Shape()
    names = modules((*ATTENTION, *MLP), range(shape.layers))
    tensors = factors(shape, dict.fromkeys(names, rank), seed)
    return write_adapter(folder, tensors, {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear", **config})
