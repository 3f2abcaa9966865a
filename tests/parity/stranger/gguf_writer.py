"""Writes a Llama folder in Hugging Face layout as one GGUF file for llama.cpp; knows nothing of refsample.

An independent reading of the folder on purpose: it shares no line with `refsample.model`, so the two cannot err as
one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from numpy.typing import NDArray

Quant = Literal["F32", "Q8_0", "Q4_0"]

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def convert(folder: Path, out: Path, quant: Quant = "F32") -> Path:
    """Write `folder` (config.json, *.safetensors, tokenizer.json with byte-level BPE) to the file `out`; returns `out`.

    F32 widens every weight exactly. The others quantise every matrix whose rows divide by 32, the embedding (and with
    it a tied head) included: llama.cpp takes it there. Norms stay F32. ValueError for what this writer does not know.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config["model_type"] != "llama":
        raise ValueError(f"model_type {config['model_type']!r}: this writer knows llama only")
    writer = gguf.GGUFWriter(str(out), "llama")
    _write_config(writer, folder, config)
    _write_tokenizer(writer, folder, config)
    for name, values in sorted(_tensors(folder).items()):
        renamed = _gguf_name(name)
        if renamed is None or (renamed == "output.weight" and config.get("tie_word_embeddings")):
            continue
        _write_tensor(writer, renamed, _rope_layout(name, values, config), quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _write_config(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0), "rope_type": "default"}
    if config.get("rope_scaling") or rope.get("rope_type", "default") != "default":
        raise ValueError("this writer knows plain rotary embeddings only")
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    """Pieces in id order with llama.cpp's token types; its "gpt-2" pre-tokenizer is the ByteLevel regex of GPT-2."""
    file = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    model, before = file["model"], file["pre_tokenizer"]
    if model["type"] != "BPE" or before["type"] != "ByteLevel" or not before["use_regex"] or before["add_prefix_space"]:
        raise ValueError("this writer knows GPT-2's byte-level BPE only")
    pieces = {index: piece for piece, index in model["vocab"].items()}
    special = {entry["id"] for entry in file["added_tokens"] if entry["special"]}
    pieces |= {entry["id"]: entry["content"] for entry in file["added_tokens"]}
    tokens, types = [], []
    for index in range(config["vocab_size"]):
        tokens.append(pieces.get(index, f"[PAD{index}]"))
        kind = gguf.TokenType.NORMAL if index in pieces else gguf.TokenType.UNUSED
        types.append(gguf.TokenType.CONTROL if index in special else kind)
    # tokenizers wrote a merge as "a b" first and as ["a", "b"] since 0.20.
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    ends = config["eos_token_id"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ends[0] if isinstance(ends, list) else ends)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    template = _chat_template(folder)
    if template is not None:
        writer.add_chat_template(template)


def _chat_template(folder: Path) -> str | None:
    own_file = folder / "chat_template.jinja"
    if own_file.exists():
        return own_file.read_text("utf-8")
    settings = folder / "tokenizer_config.json"
    template = json.loads(settings.read_text("utf-8")).get("chat_template") if settings.exists() else None
    if template is not None and not isinstance(template, str):
        raise ValueError("this writer knows one chat template, not named ones")
    return template


def _tensors(folder: Path) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= _read_safetensors(path)
    return found


def _read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every tensor widened to float32; read by hand because NumPy has no bfloat16."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        data = raw[start + first : start + last]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
        found[name] = values.reshape(entry["shape"])
    return found


def _gguf_name(name: str) -> str | None:
    """llama.cpp's name of a tensor; None for one that it computes itself."""
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    if name.endswith("rotary_emb.inv_freq"):
        return None
    _, _, layer, rest = name.split(".", 3)
    stem, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{_LAYER_NAMES[stem]}.{kind}"


def _rope_layout(name: str, values: NDArray[np.float32], config: dict[str, Any]) -> NDArray[np.float32]:
    """Rows of q and k from halves (i, i + D/2) to neighbours (2i, 2i + 1), as llama.cpp rotates; others unchanged."""
    heads = config["num_attention_heads"]
    if ".k_proj." in name:
        heads = config.get("num_key_value_heads") or heads
    elif ".q_proj." not in name:
        return values
    halves = values.reshape(heads, 2, -1, *values.shape[1:])  # [H, 2, D/2, C]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _write_tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float32], quant: Quant) -> None:
    if quant != "F32" and values.ndim == 2 and values.shape[1] % 32 == 0:
        kind = gguf.GGMLQuantizationType[quant]
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values)
