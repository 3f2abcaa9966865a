"""Broken files by name: nearly all once crashed, hung, took all memory or were let through; the rest are their kin."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refsample.errors import CorruptFileError, MismatchError, ModelError, UnsupportedModelError
from refsample.files import read_json_object
from refsample.model.load import load_transformer
from refsample.model.lora import read_adapter
from refsample.text.chat import load_template
from refsample.text.tokenizer import load_tokenizer
from tests.adapters import write_lora
from tests.factories import write_json
from tests.model.headers import joined, split
from tests.model.limits import limits
from tests.model.mutate import dumps
from tests.model.small import CONFIGS, write_family

WEIGHTS = "model.safetensors"
NORM = "model.norm.weight"
Change = Callable[[dict[str, Any]], Any]

# (family, changes to its config, error, what it says)
CONFIG_CASES: list[tuple[str, dict[str, Any], type[ModelError], str]] = [
    ("llama", {"num_hidden_layers": 2**31 - 1}, UnsupportedModelError, "num_hidden_layers=2147483647 is not run"),
    ("llama", {"num_hidden_layers": 2**63}, MismatchError, "num_hidden_layers=9223372036854775808"),
    ("llama", {"hidden_size": 10**400}, MismatchError, "hidden_size=1000"),
    ("gemma2", {"head_dim": 2**62}, MismatchError, "head_dim=4611686018427387904"),
    ("gpt_neox", {"head_dim": 2**30}, MismatchError, "query_key_value.weight has shape [96, 32]"),
    ("falcon_new", {"head_dim": 2**30}, MismatchError, "query_key_value.weight has shape [64, 32]"),
    ("llama_dynamic", {"max_position_embeddings": 10**400}, MismatchError, "max_position_embeddings=1000"),
    ("llama", {"max_position_embeddings": None}, MismatchError, "max_position_embeddings is missing"),
    ("starcoder2", {"norm_epsilon": None}, MismatchError, "norm_epsilon=None must be a positive number"),
    ("granite", {"logits_scaling": None}, MismatchError, "logits_scaling=None"),
    ("gemma2", {"query_pre_attn_scalar": None}, MismatchError, "query_pre_attn_scalar=None"),
    ("mixtral", {"num_local_experts": None}, MismatchError, "num_local_experts is missing"),
    ("qwen3_moe", {"moe_intermediate_size": None}, MismatchError, "moe_intermediate_size is missing"),
    ("qwen3_moe", {"num_experts_per_tok": 5}, MismatchError, "num_experts_per_tok=5 of num_experts=4"),
    ("qwen3_moe", {"mlp_only_layers": ""}, MismatchError, "mlp_only_layers=''"),
    ("qwen3_moe", {"mlp_only_layers": [0, 2]}, MismatchError, "mlp_only_layers=[0, 2]"),
    ("gemma2", {"sliding_window": None}, MismatchError, "sliding_window_pattern gives layers a window"),
    ("qwen3", {"sliding_window": None}, MismatchError, "layer_types gives layers a window"),
    ("qwen3", {"use_sliding_window": False}, MismatchError, "layer_types gives layers a window"),
    ("qwen3", {"layer_types": ["full_attention"]}, MismatchError, "layer_types has 1 entries, there are 2 layers"),
    ("mistral", {"sliding_window": 0}, MismatchError, "sliding_window=0"),
    ("mistral", {"sliding_window": -4}, MismatchError, "sliding_window=-4"),
    ("mistral", {"sliding_window": 4.0}, MismatchError, "sliding_window=4.0"),
    ("gemma2", {"scale_embeddings": "x"}, UnsupportedModelError, "scale_embeddings='x' is no setting"),
    ("llama", {"torch_dtype": "float16"}, MismatchError, "dtype='bfloat16' and torch_dtype='float16' contradict"),
    ("llama", {"dtype": "float16"}, MismatchError, "is bfloat16, config.json says float16"),
    ("phi", {"qk_layernorm": "x"}, MismatchError, "qk_layernorm='x' must be true or false"),
    ("falcon", {"parallel_attn": None}, MismatchError, "parallel_attn=None must be true or false"),
    ("falcon", {"new_decoder_architecture": []}, MismatchError, "new_decoder_architecture=[]"),
    ("falcon_new", {"num_ln_in_parallel_attn": 3}, UnsupportedModelError, "num_ln_in_parallel_attn=3 is not run"),
    ("phi3", {"original_max_position_embeddings": 1}, MismatchError, "must be more than 1 for rope_type=longrope"),
    ("llama", {"eos_token_id": 272}, MismatchError, "eos_token_id=272 must hold ids below vocab_size=272"),
]


@pytest.mark.parametrize(("family", "changes", "error", "said"), CONFIG_CASES)
def test_configs(family: str, changes: dict[str, Any], error: type[ModelError], said: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS[family])
    write_json(folder / "config.json", dict(CONFIGS[family]) | changes)
    with limits(), pytest.raises(error) as caught:
        load_transformer(folder)
    assert said in str(caught.value) and str(folder) in str(caught.value)


def entry(**changes: Any) -> Change:
    return lambda header: header[NORM].update(changes)


def renamed(name: str) -> Change:
    return lambda header: header.update({name: header.pop(NORM)})


def added(shape: list[int]) -> Change:
    return lambda header: header.update(zero={"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]})


HEADER_CASES: dict[str, tuple[Change, type[ModelError], str]] = {
    "a line break in a name": (renamed("a\nb"), MismatchError, NORM),
    "a line break in a name, out of place": (
        lambda h: h.update({"a\nb": h.pop(NORM) | {"data_offsets": [0, 64]}}), CorruptFileError, r"'a\nb'",
    ),
    "a size too long to write": (entry(shape=[10**4000, 10**4000]), CorruptFileError, "is malformed"),
    "more axes than NumPy has": (entry(shape=[1] * 70 + [32]), CorruptFileError, "is malformed"),
    "many huge axes": (entry(shape=[2**47] * 9), CorruptFileError, "is malformed"),
    "nothing in a huge shape": (added([2**40, 0, 2**40]), CorruptFileError, "'zero' is malformed"),
    "offsets too long to write": (entry(data_offsets=[0, 10**4200]), CorruptFileError, "is malformed"),
    "notes that are no texts": (lambda h: h.update(__metadata__={"format": 1}), CorruptFileError, "__metadata__"),
    "notes of half a character": (lambda h: h.update(__metadata__={"format": "\ud800"}), CorruptFileError, "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADER_CASES)
def test_headers(name: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    change, error, said = HEADER_CASES[name]
    header, _, data = split((folder / WEIGHTS).read_bytes())
    change(header)
    (folder / WEIGHTS).write_bytes(joined(dumps(header), data))
    with limits(), pytest.raises(error) as caught:
        load_transformer(folder)
    assert said in str(caught.value) and str(caught.value).isprintable()


def test_a_tensor_twice_and_a_header_in_utf_16(tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    header, text, data = split((folder / WEIGHTS).read_bytes())
    twice = text.rstrip()[:-1] + b", " + dumps({NORM: header[NORM]})[1:]
    for new, said in ((twice, f"'{NORM}' is there twice"), (text.decode().encode("utf-16"), "header is not JSON")):
        (folder / WEIGHTS).write_bytes(joined(new, data))
        with pytest.raises(CorruptFileError, match=said):
            load_transformer(folder)


def test_a_million_keys_and_one_twice(tmp_path: Path) -> None:
    """To find it takes no square of the time."""
    path = tmp_path / "config.json"
    path.write_text("{" + ", ".join(f'"{n}": 0' for n in (*range(10**6), 10**6 - 1)) + "}")
    with limits(), pytest.raises(CorruptFileError, match="'999999' is there twice"):
        read_json_object(path)


def test_a_key_of_a_config_twice(tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    raw = (folder / "config.json").read_text()
    (folder / "config.json").write_text(raw.rstrip()[:-1] + ', "rms_norm_eps": 1e-4}')
    with pytest.raises(CorruptFileError, match="'rms_norm_eps' is there twice"):
        load_transformer(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", WEIGHTS])
def test_a_pipe_is_not_waited_for(file: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with limits(), pytest.raises(CorruptFileError, match=f"{file} is no file"):
        load_transformer(folder)


def test_a_place_in_the_index_that_is_no_text(tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    (folder / WEIGHTS).rename(folder / "5")
    header, _, _ = split((folder / "5").read_bytes())
    places = {name: 5 for name in header if name != "__metadata__"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": places})
    with pytest.raises(CorruptFileError, match=r"is in 5, which is no file name"):
        load_transformer(folder)


def template(added_id: int) -> dict[str, Any]:
    """A post-processor that puts one id before a text."""
    begin = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    ids = {"<s>": {"id": "<s>", "ids": [added_id], "tokens": ["<s>"]}}
    return {"post_processor": {"type": "TemplateProcessing", "single": begin, "pair": begin, "special_tokens": ids}}


def model(**changes: Any) -> Change:
    return lambda table: table["model"].update(changes)


TOKENIZER_CASES: dict[str, tuple[Change, type[ModelError], str]] = {
    "a split by chance": (model(dropout=0.5), UnsupportedModelError, "dropout=0.5"),
    "a panic": (
        lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        CorruptFileError,
        "not a tokenizer: Precompiled",
    ),
    "one id for two pieces": (lambda t: t["model"]["vocab"].update(H=42, I=42), MismatchError, "one id to several"),
    "an id that the model lacks": (lambda t: t.update(template(10**6)), MismatchError, "adds id 1000000"),
}


@pytest.mark.parametrize("name", TOKENIZER_CASES)
def test_tokenizers(name: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    change, error, said = TOKENIZER_CASES[name]
    table = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(table)
    write_json(folder / "tokenizer.json", table)
    with pytest.raises(error, match=said) as caught:
        load_tokenizer(folder, load_transformer(folder).config)
    assert str(folder) in str(caught.value) and str(caught.value).isprintable()


def test_a_text_that_a_tokenizer_cannot_encode(tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    table = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    del table["model"]["vocab"]["H"]
    table["model"] |= {"unk_token": "<unk>"}
    write_json(folder / "tokenizer.json", table)
    tokenizer = load_tokenizer(folder, load_transformer(folder).config)
    assert tokenizer.decode(tokenizer.encode("hi")) == "hi"
    with pytest.raises(CorruptFileError, match=r"cannot encode this text: Unk token"):
        tokenizer.encode("Hi")


@pytest.mark.parametrize("end", [5, True, ["<|endoftext|>"], {"content": None}, {"content": 3}])
@pytest.mark.parametrize("name", ["eos_token", "bos_token"])
def test_a_mark_that_is_no_text(name: str, end: object, tmp_path: Path) -> None:
    folder = write_family(tmp_path, CONFIGS["llama"])
    write_json(folder / "tokenizer_config.json", {name: end})
    with pytest.raises(MismatchError, match=f"tokenizer_config.json: {name}="):
        load_tokenizer(folder, load_transformer(folder).config)


def test_a_folder_for_a_chat_template(tmp_path: Path) -> None:
    (tmp_path / "additional_chat_templates" / "x.jinja").mkdir(parents=True)
    assert load_template(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 10**400}, "r=1000"),
        ({"layers_to_transform": 10**4200}, "layers_to_transform=1000"),
        ({"rank_pattern": {"a\nb": 0}}, r"rank_pattern.a\nb"),
        ({"target_modules": "(?\n"}, "is no regular expression"),
    ],
)
def test_adapters(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    run = load_transformer(write_family(tmp_path / "base", CONFIGS["llama"]))
    folder = write_lora(tmp_path / "lora", **changes)
    with limits(), pytest.raises(MismatchError) as caught:
        read_adapter(folder, run.config, run.source)
    text = str(caught.value)
    assert said in text and text.isprintable() and len(text) < 500


def test_values_of_weights_are_not_read_before_they_are_used(tmp_path: Path) -> None:
    """NaN in a checkpoint is found by whoever reads logits: reading all of a large one to look for it takes minutes."""
    folder = write_family(tmp_path, CONFIGS["llama"])
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:-2] + b"\xff\x7f")  # the last value of the last norm
    run = load_transformer(folder)
    assert np.isnan(run.forward([([1], run.new_cache())])[0]).all()
