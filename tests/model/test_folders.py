"""Folders that load in every layout, and malformed ones: one line each that names what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, ModelError, UnsupportedModelError
from refsample.model.load import fingerprint, load_transformer
from refsample.model.tensors import open_tensors, read_header
from tests.factories import Shape, random_tensors, safetensors_bytes, write_json, write_llama, write_weights

SHAPE = Shape()
WEIGHTS = "model.safetensors"
EMBEDDING = "model.embed_tokens.weight"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None], shape: Shape = SHAPE) -> None:
    """Write the weights again after a change to the tensors by name."""
    tensors: dict[str, Any] = dict(random_tensors(shape))
    change(tensors)
    write_weights(folder, tensors, shape.dtype)


def patch_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of the weight file and leave the data alone."""
    raw = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def patch_config(folder: Path, **changes: Any) -> None:
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes)


def shards(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    """Write the weights as two shards and change the index."""
    (folder / WEIGHTS).unlink()
    write_weights(folder, random_tensors(SHAPE), SHAPE.dtype, shards=2)
    index = folder / "model.safetensors.index.json"
    value = json.loads(index.read_text(encoding="utf-8"))
    change(value["weight_map"])
    write_json(index, value)


def only(folder: Path, name: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(b"something")


def bare(folder: Path, *names: str) -> None:
    """Nothing in the folder but files of these names."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"something")


def cut(folder: Path, length: int) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:length])


def with_length(folder: Path, length: int) -> None:
    (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + (folder / WEIGHTS).read_bytes()[8:])


MALFORMED: dict[str, tuple[Callable[[Path], Any], type[ModelError], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), MissingFileError, "config.json is missing"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), MissingFileError, "model.safetensors is missing"),
    "no folder": (lambda f: shutil.rmtree(f), MissingFileError, "is not a folder"),
    "empty weights": (lambda f: cut(f, 0), CorruptFileError, "0 bytes are too few"),
    "header cut off": (lambda f: cut(f, 100), CorruptFileError, "does not fit into a file of 100 bytes"),
    "header too large": (lambda f: with_length(f, 2**40), CorruptFileError, "does not fit into a file"),
    "header no JSON": (lambda f: with_length(f, 50), CorruptFileError, "header is not JSON"),
    "data cut off": (lambda f: cut(f, -10), CorruptFileError, "model.norm.weight ends at byte"),
    "bytes behind": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"xy"),
        CorruptFileError,
        "2 bytes after the last tensor",
    ),
    "overlap": (
        lambda f: patch_header(f, lambda h: h["model.norm.weight"].update(data_offsets=[0, 64])),
        CorruptFileError,
        "overlaps",
    ),
    "hole": (lambda f: patch_header(f, lambda h: h.pop("model.norm.weight")), CorruptFileError, "64 bytes after"),
    "size and shape": (
        lambda f: patch_header(f, lambda h: h["model.norm.weight"].update(shape=[31])),
        CorruptFileError,
        "tensor model.norm.weight of 62 bytes is given 64",
    ),
    "entry malformed": (
        lambda f: patch_header(f, lambda h: h["model.norm.weight"].update(shape=[-1])),
        CorruptFileError,
        "entry of tensor 'model.norm.weight' is malformed",
    ),
    "unknown type": (
        lambda f: patch_header(f, lambda h: h["model.norm.weight"].update(dtype="Q9")),
        CorruptFileError,
        "unknown type 'Q9'",
    ),
    "type of a wrong type": (
        lambda f: patch_header(f, lambda h: h["model.norm.weight"].update(dtype=["F32"])),
        CorruptFileError,
        "unknown type ['F32']",
    ),
    "integer weights": (
        lambda f: patch_header(f, lambda h: h["model.norm.weight"].update(dtype="I16")),
        UnsupportedModelError,
        "tensor model.norm.weight is I16",
    ),
    "wrong shape": (
        lambda f: rewrite(f, lambda t: t.update({"model.norm.weight": np.ones(31, np.float32)})),
        MismatchError,
        "model.norm.weight has shape [31], config.json says [32]",
    ),
    "wrong type": (
        lambda f: patch_config(f, dtype="float16"),
        MismatchError,
        f"{EMBEDDING} is bfloat16, config.json says float16",
    ),
    "missing tensor": (
        lambda f: rewrite(f, lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        MismatchError,
        "tensor model.layers.1.mlp.up_proj.weight is missing",
    ),
    "left-over tensor": (
        lambda f: rewrite(f, lambda t: t.update({"model.extra": np.ones(3, np.float32)})),
        MismatchError,
        "tensor model.extra in the weights",
    ),
    "left-over block": (lambda f: patch_config(f, num_hidden_layers=1), MismatchError, "and 8 more"),
    "empty tensor": (
        lambda f: rewrite(f, lambda t: t.update({"model.norm.weight": np.ones(0, np.float32)})),
        MismatchError,
        "has shape [0]",
    ),
    "untied without head": (
        lambda f: patch_config(f, tie_word_embeddings=False),
        MismatchError,
        "tensor lm_head.weight is missing",
    ),
    "tied head differs": (
        lambda f: rewrite(f, lambda t: t.update({"lm_head.weight": t[EMBEDDING] + 1})),
        MismatchError,
        "lm_head.weight differs from model.embed_tokens.weight",
    ),
    "only .bin": (lambda f: only(f, "pytorch_model.bin"), UnsupportedModelError, "safe_serialization=True"),
    "only .pth": (lambda f: only(f, "consolidated.00.pth"), UnsupportedModelError, "convert it"),
    "only .gguf": (lambda f: only(f, "model-q4.gguf"), UnsupportedModelError, "GGUF is not read"),
    "bare .bin": (lambda f: bare(f, "pytorch_model.bin"), UnsupportedModelError, "safe_serialization=True"),
    "bare .gguf": (lambda f: bare(f, "a.gguf", "tokenizer.model"), UnsupportedModelError, "GGUF is not read"),
    "bare vocabulary": (lambda f: bare(f, "tokenizer.model"), UnsupportedModelError, "a vocabulary is no model"),
    "bare": (bare, MissingFileError, "config.json is missing, and so is model.safetensors"),
    "a folder for weights": (
        lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).mkdir()),
        CorruptFileError,
        "'model.safetensors' cannot be read: Is a directory",
    ),
    "other name": (lambda f: only(f, "weights.safetensors"), MissingFileError, "only ['weights.safetensors']"),
    "shard missing": (
        lambda f: shards(f, lambda m: m.update({EMBEDDING: "model-00009-of-00009.safetensors"})),
        MissingFileError,
        "'model-00009-of-00009.safetensors', which is missing",
    ),
    "index wrong": (
        lambda f: shards(f, lambda m: m.update({EMBEDDING: "model-00002-of-00002.safetensors"})),
        MissingFileError,
        f"model-00002-of-00002.safetensors holds '{EMBEDDING}', which it does not",
    ),
    "shard with a long name": (
        lambda f: shards(f, lambda m: m.update({EMBEDDING: "x" * 5000})),
        CorruptFileError,
        "cannot be read: File name too long",
    ),
    "shard with a broken name": (
        lambda f: shards(f, lambda m: m.update({EMBEDDING: "a\nb"})),
        MissingFileError,
        "names the file 'a\\nb', which is missing",
    ),
    "index outside": (
        lambda f: shards(f, lambda m: m.update({EMBEDDING: "../model.safetensors"})),
        CorruptFileError,
        "is not a file name of this folder",
    ),
    "index empty": (lambda f: shards(f, lambda m: m.clear()), CorruptFileError, "weight_map is missing"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_folder(name: str, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", SHAPE)
    spoil, error, said = MALFORMED[name]
    spoil(folder)
    with pytest.raises(error) as caught:
        load_transformer(folder)
    text = str(caught.value)
    assert said in text and "\n" not in text and str(folder) in text


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_layout_holds_the_same_numbers(dtype: str, tmp_path: Path) -> None:
    whole = load_transformer(write_llama(tmp_path / "whole", dtype=dtype, tied=False))
    parts = load_transformer(write_llama(tmp_path / "parts", dtype=dtype, tied=False, shards=4))
    held = {"float32": np.float32, "float16": np.int16, "bfloat16": np.uint16}[dtype]
    for a, b in ((whole.weights.embedding, parts.weights.embedding), (whole.weights.head, parts.weights.head)):
        first, second = (x if isinstance(x, np.ndarray) else x.weight for x in (a, b))
        assert first.dtype == held and not first.flags.writeable
        np.testing.assert_array_equal(first, second)


def test_both_files_there_the_single_one_is_taken(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", SHAPE)
    (folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    assert load_transformer(folder).config.layers == 2


def test_a_tied_head_stored_again_is_accepted_if_equal(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", SHAPE)
    rewrite(folder, lambda t: t.update({"lm_head.weight": t[EMBEDDING]}))
    model = load_transformer(folder)
    assert model.weights.head.weight is model.weights.embedding


def test_tensors_of_old_checkpoints_that_nobody_reads_are_accepted(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", SHAPE)
    rewrite(folder, lambda t: t.update({"model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}))
    assert load_transformer(folder).config.layers == 2


def test_half_precision_weights_under_a_float32_config_are_the_same_numbers(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", SHAPE)
    patch_config(folder, dtype="float32")
    assert load_transformer(folder).weights.embedding.dtype == np.uint16


def test_a_header_of_odd_length_is_read(tmp_path: Path) -> None:
    """Nothing in the format aligns the data; the library pads, other writers may not."""
    shape = Shape(dtype="float32")
    folder = write_llama(tmp_path / "model", shape)
    want = open_tensors(folder)[EMBEDDING].data.copy()
    raw = safetensors_bytes(random_tensors(shape), "float32")
    length = int.from_bytes(raw[:8], "little")
    odd = raw[8 : 8 + length].rstrip()
    odd += b" " * (1 - len(odd) % 2)
    (folder / WEIGHTS).write_bytes(len(odd).to_bytes(8, "little") + odd + raw[8 + length :])
    assert read_header(folder / WEIGHTS)[EMBEDDING].begin % 4
    data = open_tensors(folder)[EMBEDDING].data
    assert data.flags.aligned
    np.testing.assert_array_equal(data, want)


def test_the_library_reads_our_test_files(tmp_path: Path) -> None:
    """The factory's writer and safetensors' own reader agree, so the tests above speak of real files."""
    from safetensors.numpy import load_file

    folder = write_llama(tmp_path / "model", dtype="float16")
    theirs = load_file(folder / WEIGHTS)
    ours = open_tensors(folder)
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor.data.view(np.float16), theirs[name])


def test_fingerprint_follows_every_file(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "one", SHAPE)
    first = fingerprint(folder)
    assert len(first) == 64 and fingerprint(write_llama(tmp_path / "two", SHAPE)) == first
    assert fingerprint(write_llama(tmp_path / "three", SHAPE, seed=1)) != first
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert fingerprint(folder) != first, name
        (folder / name).write_bytes(kept)
    assert fingerprint(folder) == first
    seen = {first}
    (folder / "additional_chat_templates").mkdir()
    for name in ("chat_template.jinja", "additional_chat_templates/tool_use.jinja"):
        for text in ("a", "b"):
            (folder / name).write_text(text, encoding="utf-8")
            seen.add(fingerprint(folder))
    assert len(seen) == 5


def test_fingerprint_of_a_large_file_samples_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_llama(tmp_path / "one", SHAPE)
    monkeypatch.setattr("refsample.model.load._WHOLE", 4096)
    monkeypatch.setattr("refsample.model.load._SAMPLE", 256)
    first = fingerprint(folder)
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(raw))
    assert fingerprint(folder) != first
