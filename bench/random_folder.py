"""A checkpoint of random weights of any Llama shape, in bfloat16 shards, written one layer at a time: no sparse files.

Weights lie in +-[2^-e-1, 2^-e), where 2^-e is near the root of the inputs' number, so activations stay near one.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refsample import tiny

U16 = NDArray[np.uint16]
ONE = np.uint16(0x3F80)
"""1.0 in bfloat16."""
SHARD = 2_000_000_000
"""Bytes that a shard holds at least, but the last."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes as config.json names them; the defaults are Llama 2 7B's."""

    num_hidden_layers: int = 32
    hidden_size: int = 4096
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    intermediate_size: int = 11008
    vocab_size: int = 32_000

    @property
    def layer(self) -> int:
        """Parameters of a layer's matrices."""
        c, head = self.hidden_size, self.hidden_size // self.num_attention_heads
        return 2 * c * c + 2 * c * self.num_key_value_heads * head + 3 * c * self.intermediate_size

    @property
    def head(self) -> int:
        """Parameters of the head."""
        return self.vocab_size * self.hidden_size


def tensors(shape: Shape) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes: what lies before the layers, each layer, what lies behind them."""
    c, f, vocab = shape.hidden_size, shape.intermediate_size, shape.vocab_size
    k = shape.num_key_value_heads * (c // shape.num_attention_heads)
    yield {"model.embed_tokens.weight": (vocab, c)}
    for n in range(shape.num_hidden_layers):
        at = f"model.layers.{n}."
        yield {
            f"{at}input_layernorm.weight": (c,),
            f"{at}self_attn.q_proj.weight": (c, c),
            f"{at}self_attn.k_proj.weight": (k, c),
            f"{at}self_attn.v_proj.weight": (k, c),
            f"{at}self_attn.o_proj.weight": (c, c),
            f"{at}post_attention_layernorm.weight": (c,),
            f"{at}mlp.gate_proj.weight": (f, c),
            f"{at}mlp.up_proj.weight": (f, c),
            f"{at}mlp.down_proj.weight": (c, f),
        }
    yield {"model.norm.weight": (c,), "lm_head.weight": (vocab, c)}


def write_folder(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """All files of a model; a folder that is there already and whole is left as it is. The folder comes back."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **asdict(shape), "hidden_act": "silu",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "dtype": "bfloat16",
        "bos_token_id": None, "eos_token_id": 0, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
    }  # fmt: skip
    index = folder / "model.safetensors.index.json"
    if index.exists() and json.loads((folder / "config.json").read_text(encoding="utf-8")) == config:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny.FOLDER / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for part in tensors(shape):
        if size(shards[-1]) >= SHARD:
            shards.append({})
        shards[-1] |= part
    rng, places = np.random.Generator(np.random.SFC64(seed)), {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / name, shard, rng)
        places |= dict.fromkeys(shard, name)
    whole = {"metadata": {"total_size": sum(map(size, shards))}, "weight_map": places}
    index.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")  # last: it says that the rest is there
    return folder


def size(shard: dict[str, tuple[int, ...]]) -> int:
    """Bytes of its tensors."""
    return sum(2 * math.prod(shape) for shape in shard.values())


def write_shard(path: Path, shard: dict[str, tuple[int, ...]], rng: np.random.Generator) -> None:
    """One file, tensor by tensor."""
    header, end = {}, 0
    for name, shape in shard.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shard.items():
            file.write(values(name, shape, rng).data)


def values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> U16:
    """Bit patterns: ones for a norm, else random signs and fractions, and one of two exponents."""
    if len(shape) == 1:
        return np.full(shape, ONE, np.uint16)
    width = 1 if name == "model.embed_tokens.weight" else shape[1]
    low = 127 - round(math.log2(width) / 2) - 1
    bits = np.frombuffer(rng.bytes(2 * math.prod(shape)), np.uint16)
    made: U16 = (bits & np.uint16(0x807F)) | (np.uint16(low << 7) + (bits & np.uint16(0x0080)))
    return made
