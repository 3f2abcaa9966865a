"""Folders of random weights in Hugging Face layout, and the same weights as GGUF for llama.cpp. Knows no engine.

Weights are bfloat16, normal with variance 1 / rows in, so activations neither grow nor vanish. Tensors are written one
after the other, so a model larger than memory can be made. The same shape and seed write the same bytes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bench.shapes import Shape
from refsample.text.pieces import byte_alphabet

CONTEXT, EPSILON = 4096, 1e-5
THETA = {"llama": 10_000.0, "qwen2": 1_000_000.0}
PIECE = 1 << 22
"""Elements that are made at a time."""
GGUF_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
WHOLE_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
GGML_TYPES = {"f32": 0, "bf16": 30}
ALIGNMENT = 32


def tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of the folder."""
    wide, narrow, inner = shape.width, shape.kv_width, shape.inner
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, wide)}
    for n in range(shape.layers):
        layer = {
            "input_layernorm.weight": (wide,), "self_attn.q_proj.weight": (wide, wide),
            "self_attn.k_proj.weight": (narrow, wide), "self_attn.v_proj.weight": (narrow, wide),
            "self_attn.o_proj.weight": (wide, wide), "post_attention_layernorm.weight": (wide,),
            "mlp.gate_proj.weight": (inner, wide), "mlp.up_proj.weight": (inner, wide),
            "mlp.down_proj.weight": (wide, inner),
        }  # fmt: skip
        if shape.family == "qwen2":
            layer |= {f"self_attn.{p}_proj.bias": (wide if p == "q" else narrow,) for p in "qkv"}
        found |= {f"model.layers.{n}.{name}": size for name, size in layer.items()}
    found["model.norm.weight"] = (wide,)
    if not shape.tied:
        found["lm_head.weight"] = (shape.vocabulary, wide)
    return found


def config(shape: Shape) -> dict[str, Any]:
    """config.json."""
    kinds = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
    return {
        "architectures": [kinds[shape.family]], "model_type": shape.family, "vocab_size": shape.vocabulary,
        "hidden_size": shape.width, "intermediate_size": shape.inner, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON, "rope_theta": THETA[shape.family],
        "tie_word_embeddings": shape.tied, "bos_token_id": None, "eos_token_id": 0, "torch_dtype": "bfloat16",
    }  # fmt: skip


def made(shape: Shape, work: Path, seed: int = 0) -> Path:
    """The folder of that shape in `work`: the one that is there, else a new one."""
    folder = work / f"{shape.like}-{seed}"
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, shape.vocabulary)
    _write_weights(folder / "model.safetensors", tensors(shape), seed)
    (folder / "config.json").write_text(json.dumps(config(shape)), encoding="utf-8")
    return folder


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    """Byte-level BPE without merges: 256 pieces of one byte, and pieces that no text comes to."""
    pieces = {piece: n for n, piece in enumerate([*byte_alphabet()][:vocabulary])}
    pieces |= {f"<{n}>": n for n in range(len(pieces), vocabulary)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    file: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": pieces, "merges": [],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")


def _write_weights(path: Path, sizes: dict[str, tuple[int, ...]], seed: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in sizes.items():
        start, end = end, end + 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, (name, size) in enumerate(sizes.items()):
            for values in _random(np.random.default_rng((seed, number)), name, size):
                file.write(narrow(values).tobytes())
    os.replace(unfinished, path)


def _random(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    count = int(np.prod(size))
    for start in range(0, count, PIECE):
        values = rng.standard_normal(min(PIECE, count - start), np.float32)
        if len(size) == 2:
            yield values * np.float32(size[1] ** -0.5)
        else:
            yield values * np.float32(0.1) + np.float32(name.endswith("norm.weight"))


def narrow(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def as_gguf(folder: Path, shape: Shape, kind: str) -> Path:
    """The same weights as one GGUF file, matrices in bf16 or f32 and the rest in f32; without a vocabulary."""
    path = folder / f"{kind}.gguf"
    if path.exists():
        return path
    with (folder / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    data = np.memmap(folder / "model.safetensors", np.uint16, "r", offset=8 + length)
    unfinished, sizes = path.with_suffix(".part"), tensors(shape)
    with unfinished.open("wb") as out:
        _write_gguf_header(out, shape, sizes, kind)
        for name, size in sizes.items():
            start, end = (place // 2 for place in entries[name]["data_offsets"])
            _write_gguf_tensor(out, _turned(name, data[start:end].reshape(size), shape), kind)
    os.replace(unfinished, path)
    return path


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _write_gguf_header(file: IO[bytes], shape: Shape, sizes: dict[str, tuple[int, ...]], kind: str) -> None:
    numbers = {
        "context_length": CONTEXT, "embedding_length": shape.width, "block_count": shape.layers,
        "feed_forward_length": shape.inner, "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads, "rope.dimension_count": shape.head_width,
        "vocab_size": shape.vocabulary, "attention.layer_norm_rms_epsilon": EPSILON,
        "rope.freq_base": THETA[shape.family],
    }  # fmt: skip
    values = [
        _text(key) + struct.pack("<I", 8) + _text(value)
        for key, value in (("general.architecture", shape.family), ("tokenizer.ggml.model", "no_vocab"))
    ]
    for key, number in numbers.items():
        packed = struct.pack("<If", 6, number) if isinstance(number, float) else struct.pack("<II", 4, number)
        values.append(_text(f"{shape.family}.{key}") + packed)
    places, start = [], 0
    for name, size in sizes.items():
        held = kind if len(size) == 2 else "f32"
        places.append(
            _text(gguf_name(name)) + struct.pack(f"<I{len(size)}QIQ", len(size), *size[::-1], GGML_TYPES[held], start)
        )
        bytes_held = int(np.prod(size)) * (2 if held == "bf16" else 4)
        start += bytes_held + -bytes_held % ALIGNMENT
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(places), len(values)) + b"".join(values + places))
    file.write(b"\0" * (-file.tell() % ALIGNMENT))


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    stem, kind = name.rsplit(".", 1)
    if stem in WHOLE_NAMES:
        return f"{WHOLE_NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.{kind}"


def _turned(name: str, values: NDArray[np.uint16], shape: Shape) -> NDArray[np.uint16]:
    """Queries and keys of a llama as llama.cpp rotates them: neighbours (2i, 2i + 1) instead of halves (i, i + D/2)."""
    if shape.family != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return values
    halves = values.reshape(-1, 2, shape.head_width // 2, shape.width)  # [H, 2, D/2, C]
    return halves.swapaxes(1, 2).reshape(values.shape)


def _write_gguf_tensor(file: IO[bytes], values: NDArray[np.uint16], kind: str) -> None:
    flat, begun = values.reshape(-1), file.tell()
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE]
        if kind == "f32" or values.ndim == 1:
            file.write((piece.astype(np.uint32) << 16).tobytes())
        else:
            file.write(piece.tobytes())
    file.write(b"\0" * (-(file.tell() - begun) % ALIGNMENT))
