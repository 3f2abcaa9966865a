"""Every family, from folders that transformers 4.57 and 5.24 wrote, against the logits of transformers itself.

`tests/data/make_family_folders.py` made them; both folders of a name hold the same bfloat16 weights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample.errors import ModelError, UnsupportedModelError
from refsample.model.config import read_config
from refsample.model.load import load_transformer
from refsample.model.rows import FAMILIES
from refsample.model.transformer import Transformer
from tests.data.make_family_folders import FOLDER, MODELS, ids

BOUND = 5e-5
LOGITS = np.load(FOLDER / "logits.npz")


def logits(model: Transformer, tokens: NDArray[Any]) -> NDArray[Any]:
    """Of every position, in one call."""
    return model.forward([(tokens, model.new_cache(len(tokens)))], rows="all")[0]


def test_every_family_is_here() -> None:
    assert {name.partition("-")[0] for name in MODELS} == set(FAMILIES)


@pytest.mark.parametrize("name", MODELS)
def test_both_folders_load_alike_and_give_transformers_logits(name: str) -> None:
    old, new = load_transformer(FOLDER / "v4" / name), load_transformer(FOLDER / "v5" / name)
    assert old.config == new.config
    tokens, want = ids(name), LOGITS[name]
    got = logits(old, tokens)
    np.testing.assert_array_equal(logits(new, tokens), got)
    assert np.abs(got - want).max() <= BOUND * want.std()
    assert np.abs(got - logits(old.with_precision("float64"), tokens)).max() <= BOUND * want.std()


@pytest.mark.parametrize("name", MODELS)
def test_token_by_token_beside_others_the_bits_are_the_same(name: str) -> None:
    model, tokens = load_transformer(FOLDER / "v5" / name), ids(name)
    want = logits(model, tokens)
    mine, other = model.new_cache(len(tokens)), model.new_cache(len(tokens))
    model.forward([(tokens[::-1][:9], other)])
    for n, token in enumerate(tokens):
        segments = [([token], mine), ([n + 3], other)] if n % 2 else [([token], mine)]
        np.testing.assert_array_equal(model.forward(segments)[0], want[n : n + 1])


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_that_of_torch(name: str) -> None:
    """Every logit is the very number that torch gives in bfloat16, eager; sums of another order may turn one rounding
    among the ten thousands of a text, and all that follows it: in one of these models, in its tenth token."""
    model, tokens, want = load_transformer(FOLDER / "v5" / name), ids(name), LOGITS[f"{name}.bf16"]
    got = logits(model.with_precision("bf16"), tokens)
    same = 9 if name == "gemma3_text" else len(tokens)
    np.testing.assert_array_equal(got[:same], want[:same])
    plain = logits(model, tokens)
    assert np.sqrt(np.mean((got - want) ** 2)) < 0.6 * np.sqrt(np.mean((plain - want) ** 2))


@pytest.mark.parametrize("name", MODELS)
def test_emulated_precisions_run_and_differ_by_little(name: str) -> None:
    model, tokens = load_transformer(FOLDER / "v4" / name), ids(name)
    want = logits(model, tokens)
    for precision, most in (("bf16", 0.05), ("int4-g32", 0.8)):
        error = np.abs(logits(model.with_precision(precision), tokens) - want) / want.std()
        assert 1e-4 < np.median(error) < most, precision  # the median: a rounding may send a row to another expert


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_switch_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER / "v5" / name, tmp_path / name))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"use_turbo_attention": 3}), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="use_turbo_attention=3 is no setting that refsample knows for"):
        read_config(folder)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon-new", "mixtral", "phi3"])
def test_every_tensor_is_read(name: str, tmp_path: Path) -> None:
    """Without one of them, whichever, the folder does not load; nor with one more."""
    from safetensors.numpy import save_file

    folder = Path(shutil.copytree(FOLDER / "v5" / name, tmp_path / name))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    whole = {key: np.zeros(shape, np.float32) for key, shape in shapes(FOLDER / "v5" / name).items()}
    for missing in whole:
        save_file({key: value for key, value in whole.items() if key != missing}, folder / "model.safetensors")
        with pytest.raises(ModelError, match="is missing from the weights"):
            load_transformer(folder)
    save_file(whole | {"model.extra": np.zeros(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.extra in the weights"):
        load_transformer(folder)


def test_masks_of_old_checkpoints_are_passed_over(tmp_path: Path) -> None:
    """Pythia's files hold causal masks as U8; one of that type that is read is refused."""
    from safetensors.numpy import save_file

    folder = Path(shutil.copytree(FOLDER / "v5" / "gpt_neox", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}), encoding="utf-8")
    whole = {key: np.zeros(shape, np.float32) for key, shape in shapes(FOLDER / "v5" / "gpt_neox").items()}
    masks = {f"gpt_neox.layers.{n}.attention.bias": np.ones((1, 1, 64, 64), np.uint8) for n in range(2)}
    save_file(whole | masks, folder / "model.safetensors")
    assert load_transformer(folder).config.layers == 2
    save_file(whole | {"embed_out.weight": np.ones((61, 32), np.uint8)}, folder / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match=r"tensor embed_out\.weight is U8"):
        load_transformer(folder)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor."""
    raw = (folder / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


PUBLISHED: dict[str, dict[str, Any]] = {
    "llama": {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"a": 1}},
    "mistral": {"attention_dropout": 0.0, "use_cache": True, "quantization_config": None},
    "mixtral": {"output_router_logits": False, "router_aux_loss_coef": 0.02, "router_jitter_noise": 0.0},
    "qwen2": {"use_mrope": False, "attention_dropout": 0.0},
    "qwen3": {"max_window_layers": 36, "layer_types": ["full_attention", "full_attention"]},
    "qwen3_moe": {"max_window_layers": 48, "output_router_logits": False, "router_aux_loss_coef": 0.001},
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid", "sliding_window_size": 4096},
    "gemma3_text": {"cache_implementation": "hybrid", "sliding_window_pattern": 6},
    "phi3": {"attention_bias": False, "embd_pdrop": 0.1, "full_attn_mod": 1, "interpolate_factor": 1},
    "phi": {"qk_layernorm": False, "resid_pdrop": 0.1},
    "gpt2": {"n_ctx": 1024, "task_specific_params": {"text-generation": {"max_length": 50}}},
    "gpt_neox": {"classifier_dropout": 0.1, "use_cache": True},
    "olmo2": {"clip_qkv": None},
    "smollm3": {"pretraining_tp": 2, "max_window_layers": 28},
    "granite": {"attention_dropout": 0.1},
    "starcoder2": {"mlp_type": "default", "norm_type": "layer_norm", "residual_dropout": 0.1},
    "falcon": {"apply_residual_connection_post_layernorm": False, "hidden_dropout": 0.0, "alibi": False},
    "falcon-new": {"num_ln_in_parallel_attn": None, "auto_map": {"AutoConfig": "x.Y"}},
}
"""Settings that published checkpoints of the families carry beside those that transformers writes today."""


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_published_checkpoints_change_nothing(name: str, tmp_path: Path) -> None:
    raw = json.loads((FOLDER / "v4" / name / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(raw | PUBLISHED[name]), encoding="utf-8")
    assert read_config(tmp_path) == read_config(FOLDER / "v4" / name)
    for switch, value in (("rope_interleaved", True), ("add_cross_attention", True), ("is_causal", False)):
        (tmp_path / "config.json").write_text(json.dumps(raw | {switch: value}), encoding="utf-8")
        with pytest.raises(UnsupportedModelError, match=switch):
            read_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma2", {"sliding_window_pattern": 3}),
        ("mixtral", {"norm_topk_prob": False}),
        ("gpt_neox", {"rope_theta": 5e5}),
        ("gpt_neox", {"partial_rotary_factor": 0.5}),
        ("gemma3_text", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
        ("gemma3_text", {"attn_logit_softcapping": 30.0}),
        ("falcon", {"alibi": True}),
    ],
)
def test_what_transformers_would_read_otherwise_is_refused(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    raw = json.loads((FOLDER / "v4" / name / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(raw | changes), encoding="utf-8")
    with pytest.raises(ModelError, match=next(iter(changes))):
        read_config(tmp_path)
