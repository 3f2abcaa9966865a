"""Random little Llama folders in Hugging Face layout, for tests. Knows nothing of what is tested with them.

`write_llama(folder, ...)` writes config.json, generation_config.json, the weights (single file or shards) and a
byte-level tokenizer with a chat template. The same call writes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>")
MERGES = ("t h", "th e", "Ġ the", "i n", "a n", "Ġ a", "e r", "o n")
"""Few enough that text is mostly bytes, enough that a token can hold several letters and a leading space."""
VOCABULARY = len(SPECIAL) + 256 + len(MERGES)
TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FORMAT_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_PRECISE = YARN | {"truncate": False, "mscale": 0.7, "mscale_all_dim": 1.0, "beta_fast": 16.0, "beta_slow": 2.0}
LINEAR = {"rope_type": "linear", "factor": 4.0}

CASES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "one_to_one": {"kv_heads": 4, "seed": 1},
    "four_to_one": {"heads": 8, "kv_heads": 2, "width": 64, "tied": False, "seed": 2},
    "eight_to_one": {"heads": 8, "kv_heads": 1, "width": 64, "seed": 3},
    "wide_heads": {"head_width": 20, "seed": 4},
    "biases": {"attention_bias": True, "mlp_bias": True, "dtype": "float16", "seed": 5},
    "float32": {"dtype": "float32", "theta": 5e5, "tied": False, "seed": 6},
    "float16_sharded": {"dtype": "float16", "shards": 3, "seed": 7},
    "llama3": {"rope": LLAMA3, "theta": 5e5, "seed": 8},
    "llama3_old_sharded": {"rope": LLAMA3, "theta": 5e5, "old_rope": True, "shards": 2, "seed": 9},
    "linear_old": {"rope": LINEAR, "old_rope": True, "seed": 10},
    "linear": {"rope": LINEAR, "seed": 11},
    "yarn": {"rope": YARN, "seed": 12},
    "yarn_precise_old": {"rope": YARN_PRECISE, "old_rope": True, "dtype": "float32", "seed": 13},
    "odd_sizes": {"width": 36, "heads": 6, "kv_heads": 3, "feed_forward": 50, "layers": 3, "seed": 14},
}
"""Changes to `Shape`: what the issue names, each read by goldens and by the parity lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a random model looks like; the defaults are grouped-query 2:1, tied, bfloat16."""

    seed: int = 0
    vocab_size: int = VOCABULARY + 4
    """A few rows more than the tokenizer has pieces, as real checkpoints pad theirs."""
    layers: int = 2
    width: int = 32
    heads: int = 4
    kv_heads: int = 2
    head_width: int | None = None
    """None: width / heads, and config.json does not name it."""
    feed_forward: int = 48
    max_position: int = 256
    tied: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    theta: float = 10000.0
    rope: Mapping[str, Any] | None = None
    """Scaling without theta; None: none."""
    old_rope: bool = False
    """True: written as transformers 4 does, rope_theta and rope_scaling."""
    dtype: str = "bfloat16"
    shards: int = 1
    eos: int | Sequence[int] = 0


def write_llama(folder: Path, shape: Shape | None = None, /, **changes: Any) -> Path:
    """Write a random model folder of a shape (given, or the default with changes); the folder comes back."""
    shape = replace(shape or Shape(), **changes)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_of(shape))
    eos = shape.eos if isinstance(shape.eos, int) else list(shape.eos)
    write_json(folder / "generation_config.json", {"eos_token_id": eos, "do_sample": True})
    write_weights(folder, random_tensors(shape), shape.dtype, shape.shards)
    write_tokenizer(folder, shape.max_position)
    return folder


def config_of(shape: Shape) -> dict[str, Any]:
    """config.json as transformers writes it."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.max_position,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": shape.tied,
        "attention_bias": shape.attention_bias,
        "mlp_bias": shape.mlp_bias,
        "bos_token_id": None,
        "eos_token_id": shape.eos if isinstance(shape.eos, int) else list(shape.eos),
    }
    if shape.head_width is not None:
        config["head_dim"] = shape.head_width
    if shape.old_rope:
        scaling = dict(shape.rope) if shape.rope else None
        return config | {"rope_theta": shape.theta, "rope_scaling": scaling, "torch_dtype": shape.dtype}
    rope = {"rope_theta": shape.theta, **(shape.rope or {"rope_type": "default"})}
    return config | {"rope_parameters": rope, "dtype": shape.dtype}


def random_tensors(shape: Shape) -> dict[str, NDArray[np.float32]]:
    """Checkpoint names -> random values, scaled so that activations stay near one and logits differ by several nats."""
    rng = np.random.RandomState(shape.seed)  # its streams are frozen for good, unlike those of default_rng
    width, head = shape.width, shape.head_width or shape.width // shape.heads

    def matrix(out: int, inp: int) -> NDArray[np.float32]:
        return (rng.standard_normal((out, inp)) / np.sqrt(inp)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return (1 + 0.1 * rng.standard_normal(width)).astype(np.float32)

    def bias(size: int) -> NDArray[np.float32]:
        return (0.2 * rng.standard_normal(size)).astype(np.float32)

    query, key, inner = shape.heads * head, shape.kv_heads * head, shape.feed_forward
    tensors = {"model.embed_tokens.weight": (0.5 * rng.standard_normal((shape.vocab_size, width))).astype(np.float32)}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for name, out, inp, biased in (
            ("self_attn.q_proj", query, width, shape.attention_bias),
            ("self_attn.k_proj", key, width, shape.attention_bias),
            ("self_attn.v_proj", key, width, shape.attention_bias),
            ("self_attn.o_proj", width, query, shape.attention_bias),
            ("mlp.gate_proj", inner, width, shape.mlp_bias),
            ("mlp.up_proj", inner, width, shape.mlp_bias),
            ("mlp.down_proj", width, inner, shape.mlp_bias),
        ):
            tensors[f"{prefix}{name}.weight"] = matrix(out, inp)
            if biased:
                tensors[f"{prefix}{name}.bias"] = bias(out)
        tensors[f"{prefix}input_layernorm.weight"] = norm()
        tensors[f"{prefix}post_attention_layernorm.weight"] = norm()
    tensors["model.norm.weight"] = norm()
    if not shape.tied:
        tensors["lm_head.weight"] = (0.5 * rng.standard_normal((shape.vocab_size, width))).astype(np.float32)
    return tensors


def write_weights(folder: Path, tensors: Mapping[str, NDArray[Any]], dtype: str, shards: int = 1) -> None:
    """model.safetensors, or shards and their index."""
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
        return
    names, places = list(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        (folder / file).write_bytes(safetensors_bytes(part, dtype))
        places.update(dict.fromkeys(part, file))
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def safetensors_bytes(tensors: Mapping[str, NDArray[Any]], dtype: str) -> bytes:
    """A safetensors file, its header padded to eight bytes as the library does."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, values in tensors.items():
        data = encoded(values, dtype)
        header[name] = {
            "dtype": FORMAT_NAMES[dtype],
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def encoded(values: NDArray[Any], dtype: str) -> bytes:
    """The values in a type of the format, rounded to nearest even."""
    if dtype == "float32":
        return values.astype("<f4").tobytes()
    if dtype == "float16":
        return values.astype("<f2").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def write_tokenizer(folder: Path, max_position: int = 256) -> None:
    """Byte-level BPE in GPT-2's manner: specials, the 256 bytes, a few merges; ids in this order."""
    vocabulary = {piece: i for i, piece in enumerate((*SPECIAL, *byte_pieces(), *(m.replace(" ", "") for m in MERGES)))}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocabulary,
        "merges": list(MERGES),
    }
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": text, **marks} for i, text in enumerate(SPECIAL)],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": model,
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": SPECIAL[0],
            "model_max_length": max_position,
            "clean_up_tokenization_spaces": False,
            "chat_template": TEMPLATE,
        },
    )


def byte_pieces() -> list[str]:
    """The 256 bytes as byte-level vocabularies write them: printable Latin-1 as itself, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    pieces, spare = [], 0x100
    for byte in range(256):
        if byte in printable:
            pieces.append(chr(byte))
        else:
            pieces.append(chr(spare))
            spare += 1
    return pieces


def write_json(path: Path, value: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
