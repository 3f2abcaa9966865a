"""config.json in both spellings of transformers, and what it may not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, ModelError, UnsupportedModelError
from refsample.model.config import ModelConfig, read_config
from tests.factories import LLAMA3, YARN, Shape, config_of, write_json


def read(folder: Path, changes: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> ModelConfig:
    """The default config with changes; a change to `...` takes the key away."""
    config = {key: value for key, value in (config_of(Shape()) | changes).items() if value is not ...}
    write_json(folder / "config.json", config)
    if generation is not None:
        write_json(folder / "generation_config.json", dict(generation))
    return read_config(folder)


OLD: Mapping[str, Any] = {"rope_parameters": ...}
LONG: Mapping[str, Any] = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0] * 4}
FACTOR: Mapping[str, Any] = {"rope_type": "linear", "factor": 2.0}
ORIGINAL = "original_max_position_embeddings"


@pytest.mark.parametrize("scaling", [None, LLAMA3, YARN, {"rope_type": "linear", "factor": 2.0}])
def test_old_and_new_rope_spelling_say_the_same(tmp_path: Path, scaling: Mapping[str, Any] | None) -> None:
    new = read(tmp_path, {"rope_parameters": {"rope_theta": 5e5, **(scaling or {"rope_type": "default"})}})
    old = read(tmp_path, {**OLD, "rope_theta": 5e5, "rope_scaling": scaling})
    both = read(tmp_path, {"rope_parameters": {"rope_theta": 5e5, **(scaling or {})}, "rope_theta": 5e5})
    twice = read(tmp_path, {"rope_parameters": {"rope_theta": 5e5, **(scaling or {})}, "rope_scaling": scaling})
    assert new.rope == old.rope == both.rope == twice.rope
    assert new.rope.theta == 5e5 and new.rope.kind == (scaling or {"rope_type": "default"})["rope_type"]


def test_what_may_be_left_out(tmp_path: Path) -> None:
    gone = ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "rope_parameters")
    config = read(tmp_path, dict.fromkeys((*gone, "attention_bias", "mlp_bias", "dtype", "eos_token_id"), ...))
    assert (config.kv_heads, config.norm_eps, config.max_position, config.tied) == (config.heads, 1e-6, 2048, False)
    assert (config.rope.kind, config.rope.theta, config.dtype, config.eos_token_ids) == ("default", 10000.0, None, ())
    assert not config.attention_bias and not config.mlp_bias and config.head_width == 8


@pytest.mark.parametrize(("bos", "want"), [(None, None), (3, 3), ([4, 5], 4), ([], None)])
def test_start_id(tmp_path: Path, bos: object, want: int | None) -> None:
    assert read(tmp_path, {"bos_token_id": bos}).bos_token_id == want


@pytest.mark.parametrize(
    ("eos", "generation", "want"),
    [
        (2, None, (2,)),
        ([5, 3], None, (3, 5)),
        (2, {"eos_token_id": [7, 2]}, (2, 7)),
        (None, {"eos_token_id": 4}, (4,)),
        (None, {}, ()),
    ],
)
def test_end_ids_of_both_files(
    tmp_path: Path, eos: object, generation: Mapping[str, Any] | None, want: tuple[int, ...]
) -> None:
    assert read(tmp_path, {"eos_token_id": eos}, generation).eos_token_ids == want


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model_type": "bert"}, UnsupportedModelError, "model_type='bert'"),
        ({"model_type": ["llama"]}, UnsupportedModelError, "model_type=['llama']"),
        ({"model_type": ...}, MismatchError, "model_type is missing"),
        ({"hidden_act": "quick_gelu"}, UnsupportedModelError, "hidden_act='quick_gelu'"),
        ({"hidden_act": ["silu"]}, UnsupportedModelError, "hidden_act=['silu']"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedModelError, "gptq"),
        ({"dtype": "float8_e4m3fn"}, UnsupportedModelError, "dtype='float8_e4m3fn'"),
        ({"vocab_size": ...}, MismatchError, "vocab_size is missing"),
        ({"vocab_size": 0}, MismatchError, "vocab_size=0"),
        ({"vocab_size": 268.0}, MismatchError, "vocab_size=268.0"),
        ({"num_hidden_layers": "two"}, MismatchError, "num_hidden_layers='two'"),
        ({"num_hidden_layers": True}, MismatchError, "num_hidden_layers=True"),
        ({"num_key_value_heads": 3}, MismatchError, "num_key_value_heads=3"),
        ({"hidden_size": 33}, MismatchError, "hidden_size=33"),
        ({"head_dim": 7}, UnsupportedModelError, "head_dim=7"),
        ({"rms_norm_eps": -1}, MismatchError, "rms_norm_eps=-1"),
        ({"rms_norm_eps": "1e-5"}, MismatchError, "rms_norm_eps='1e-5'"),
        ({"tie_word_embeddings": "yes"}, MismatchError, "tie_word_embeddings='yes'"),
        ({"eos_token_id": 99999}, MismatchError, "eos_token_id=99999"),
        ({"eos_token_id": [0, -1]}, MismatchError, "eos_token_id=[0, -1]"),
        ({"bos_token_id": "<s>"}, MismatchError, "bos_token_id='<s>'"),
        ({"rope_parameters": {"rope_type": "axial", "factor": 2.0}}, UnsupportedModelError, "rope_type='axial'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, MismatchError, "rope_type=dynamic needs factor"),
        ({"rope_parameters": {"rope_type": "longrope"}}, MismatchError, "rope_type=longrope needs short_factor"),
        ({"rope_parameters": LONG | {"short_factor": [1.0]}}, MismatchError, "short_factor holds 1 numbers"),
        ({"rope_parameters": LONG | {"long_factor": [1.0, "a", 2.0, 3.0]}}, MismatchError, "long_factor='a'"),
        ({"use_magic": True}, UnsupportedModelError, "use_magic=True is no setting that refsample knows for llama"),
        ({"sliding_window": 5}, UnsupportedModelError, "sliding_window=5"),
        ({"rope_parameters": {"rope_type": ["x"]}}, UnsupportedModelError, "rope_type"),
        ({"rope_parameters": {"rope_type": "linear"}}, MismatchError, "rope_type=linear needs factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, MismatchError, "needs low_freq_factor"),
        ({"rope_parameters": {"short_factors": [1.0]}}, UnsupportedModelError, "rope setting 'short_factors'"),
        ({"rope_parameters": {"rope_theta": 0}}, MismatchError, "rope_theta=0"),
        ({"rope_parameters": {"rope_theta": 1e4}, "rope_theta": 5e5}, MismatchError, "contradict"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}, "rope_scaling": LLAMA3}, MismatchError, "different"),
        ({"rope_parameters": FACTOR, "rope_scaling": FACTOR | {"factor": 4.0}}, MismatchError, "factor=2.0 and 4.0"),
        ({"rope_parameters": {"rope_type": "default", "type": "linear"}}, MismatchError, "names two types"),
        ({"rope_scaling": FACTOR | {"type": "yarn"}}, MismatchError, "rope_scaling names two types"),
        ({**OLD, "rope_theta": 10**400}, MismatchError, "rope_theta=1000"),
        ({**OLD, "rope_theta": 1e39}, MismatchError, "rope_theta=1e+39"),
        ({**OLD, "rope_theta": 1}, MismatchError, "rope_theta=1 must be more than 1"),
        ({"rope_parameters": YARN | {"rope_theta": 1.0}}, MismatchError, "rope_theta=1 must be more than 1"),
        ({"rope_parameters": YARN | {ORIGINAL: 0.5}}, MismatchError, f"{ORIGINAL}=0.5 must be a positive whole"),
        ({"rope_parameters": YARN | {ORIGINAL: 64.5}}, MismatchError, f"{ORIGINAL}=64.5 must be a positive whole"),
        ({"rope_parameters": YARN | {"factor": 1e-300}}, MismatchError, "factor=1e-300 must be a positive number"),
        ({"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}}, MismatchError, "high_freq_factor=1 must be more"),
        ({"rms_norm_eps": 1e300}, MismatchError, "rms_norm_eps=1e+300"),
        ({"rope_parameters": 3}, MismatchError, "rope_parameters=3"),
        ({"partial_rotary_factor": 0.5}, UnsupportedModelError, "partial_rotary_factor=0.5"),
    ],
)
def test_each_error_names_key_and_value(
    tmp_path: Path, changes: Mapping[str, Any], error: type[ModelError], said: str
) -> None:
    with pytest.raises(error) as caught:
        read(tmp_path, changes)
    text = str(caught.value)
    assert said in text and str(tmp_path / "config.json") in text and "\n" not in text


def test_a_bad_end_id_in_the_other_file_names_that_file(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"generation_config\.json: eos_token_id=999"):
        read(tmp_path, {}, {"eos_token_id": 999})


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "not JSON"), (b"[1]", "holds a list"), (b"\xff\xfe", "cannot be read"), (b"[" * 100_000, "not JSON")],
)
def test_a_damaged_file(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match=said):
        read_config(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"config\.json is missing"):
        read_config(tmp_path)
