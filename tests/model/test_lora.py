"""Adapters: what they add, what stays the base's, what is refused, and that no bit depends on the company."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, ModelError, UnsupportedModelError
from refsample.model.load import adapter_fingerprint, load_transformer
from refsample.model.lora import read_adapter
from refsample.model.transformer import Transformer
from refsample_kernels import jit
from tests.adapters import ATTENTION, EMBEDDING, MLP, PREFIX, factors, modules, write_adapter, write_lora
from tests.factories import Shape, config_of, random_tensors, write_json, write_llama, write_weights

SHAPE = Shape(dtype="float32")
ALL = (*ATTENTION, *MLP)
BOTH = range(2)
few = settings(max_examples=2 if jit.jit_disabled() else 15)
IDS = [n * n % 268 for n in range(9 if jit.jit_disabled() else 40)]


def over(base: Transformer, folder: Path) -> Transformer:
    return base.with_adapter(read_adapter(folder, base.config, base.source))


def logits(run: Transformer, ids: list[int]) -> NDArray[Any]:
    return run.forward([(ids, run.new_cache())], rows="all")[0]


# (module -> rank, module -> scale, config): the scales are worked out by hand.
CASES: dict[str, tuple[dict[str, int], Callable[[str], float], dict[str, Any]]] = {
    "two_names": (
        dict.fromkeys(modules(("self_attn.q_proj", "self_attn.v_proj"), BOTH), 4), lambda _: 2.0,
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    ),
    "all_linear": (
        dict.fromkeys(modules(ALL, BOTH), 3), lambda _: 5 / 3,
        {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "lora_dropout": 0.1, "init_lora_weights": "gaussian"},
    ),
    "root": (
        dict.fromkeys(modules(ALL, BOTH), 9), lambda _: 2.0,
        {"r": 9, "lora_alpha": 6, "use_rslora": True, "target_modules": [name.split(".")[1] for name in ALL]},
    ),
    "expression": (
        dict.fromkeys(modules(MLP, range(1, 2)), 2), lambda _: 1.5,
        {"r": 2, "lora_alpha": 3, "target_modules": r"model\.layers\.1\.mlp\..*_proj"},
    ),
    "one_layer": (
        dict.fromkeys(modules(("self_attn.k_proj",), range(1, 2)), 20), lambda _: 0.5,
        {
            "r": 20, "lora_alpha": 10, "target_modules": ["k_proj"],
            "layers_to_transform": [1], "layers_pattern": "layers",
        },
    ),
    "patterns": (
        {name: 6 if "o_proj" in name else 1 if ".0.mlp" in name else 4 for name in modules(ALL, BOTH)},
        lambda name: (12 if "layers.1." in name else 8) / (6 if "o_proj" in name else 1 if ".0.mlp" in name else 4),
        {
            "r": 4, "lora_alpha": 8, "target_modules": "all-linear",
            "rank_pattern": {"o_proj": 6, r"0\.mlp\.[a-z_]*": 1}, "alpha_pattern": {r"layers\.1\..*": 12},
        },
    ),
    "excluded": (
        dict.fromkeys(modules(ATTENTION, BOTH), 4), lambda _: 2.0,
        {
            "r": 4, "lora_alpha": 8, "target_modules": "all-linear",
            "exclude_modules": ["gate_proj", "up_proj", "down_proj"],
        },
    ),
}  # fmt: skip


def merged(folder: Path, adapter: Mapping[str, NDArray[Any]], scale: Callable[[str], float]) -> Transformer:
    """The base with the products added to its weights: other arithmetic, the same function."""
    tensors = random_tensors(SHAPE)
    for name, down in adapter.items():
        if ".lora_A." in name:
            module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            product = adapter[name.replace("lora_A", "lora_B")].astype(np.float64) @ down
            tensors[f"{module}.weight"] = (tensors[f"{module}.weight"] + scale(module) * product).astype(np.float32)
    folder.mkdir()
    write_json(folder / "config.json", config_of(SHAPE))
    write_weights(folder, tensors, "float32")
    return load_transformer(folder)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_is_the_product_of_the_factors_that_is_added(name: str, dtype: str, tmp_path: Path) -> None:
    ranks, scale, config = CASES[name]
    tensors = {n: (8 * t).round() / 8 for n, t in factors(SHAPE, ranks).items()}  # exact in every type
    base = load_transformer(write_llama(tmp_path / "base", SHAPE))
    run = over(base, write_adapter(tmp_path / "lora", tensors, config, dtype))
    want = logits(merged(tmp_path / "merged", tensors, scale), IDS)
    bound = 5e-5 * want.std()
    assert np.abs(want - logits(base, IDS)).max() > 100 * bound
    assert np.abs(logits(run, IDS) - want).max() <= bound
    assert np.abs(logits(run.with_precision("float64"), IDS) - want).max() <= bound


def test_embedding_and_head(tmp_path: Path) -> None:
    """Both over one tied matrix, which stays as it is for the other use; copies of it, as PEFT saves them, are read."""
    tensors = factors(SHAPE, {EMBEDDING: 3, "lm_head": 2})
    matrix = random_tensors(SHAPE)[f"{EMBEDDING}.weight"]
    tensors |= {f"{PREFIX}{EMBEDDING}.base_layer.weight": matrix, f"{PREFIX}lm_head.weight": matrix}
    names = ["embed_tokens", "lm_head"]
    folder = write_adapter(tmp_path / "lora", tensors, {"r": 3, "rank_pattern": {"lm_head": 2}, "lora_alpha": 6,
                                                        "target_modules": names})  # fmt: skip
    base = load_transformer(write_llama(tmp_path / "base", SHAPE))
    run = over(base, folder)
    a, b = (tensors[f"{PREFIX}{EMBEDDING}.lora_embedding_{side}"] for side in "AB")
    c, d = (tensors[f"{PREFIX}lm_head.lora_{side}.weight"] for side in "AB")
    raw = random_tensors(SHAPE)
    raw |= {f"{EMBEDDING}.weight": matrix + 2 * (b @ a).T, "lm_head.weight": matrix + 3 * (d @ c)}
    (tmp_path / "merged").mkdir()
    write_json(tmp_path / "merged" / "config.json", config_of(SHAPE) | {"tie_word_embeddings": False})
    write_weights(tmp_path / "merged", raw, "float32")
    want = logits(load_transformer(tmp_path / "merged"), IDS)
    assert np.abs(logits(run, IDS) - want).max() <= 5e-5 * want.std()
    tensors[f"{PREFIX}lm_head.weight"] = matrix + 1
    write_adapter(folder, tensors, {"r": 3, "rank_pattern": {"lm_head": 2}, "target_modules": names})
    with pytest.raises(UnsupportedModelError, match="not that of the base"):
        over(base, folder)


def test_the_base_lends_its_memory_and_stays_as_it_is(tmp_path: Path) -> None:
    base = load_transformer(write_llama(tmp_path / "base"))
    before = logits(base, IDS)
    run = over(base, write_lora(tmp_path / "lora"))
    assert run.weights is base.weights and run.source is base.source
    for ours, theirs in zip(run.weights.layers, base.weights.layers, strict=True):
        assert np.shares_memory(ours.q.weight, theirs.q.weight) and np.shares_memory(
            ours.down.weight, theirs.down.weight
        )
    assert not np.array_equal(logits(run, IDS), before)
    np.testing.assert_array_equal(logits(base, IDS), before)
    np.testing.assert_array_equal(logits(run.with_adapter(None), IDS), before)


def test_emulations_round_the_sum_and_not_the_factors(tmp_path: Path) -> None:
    """int4-g32 differs from float32 by the base alone; every value in bf16 is one of bfloat16."""
    base = load_transformer(write_llama(tmp_path / "base"))
    adapter = read_adapter(write_lora(tmp_path / "lora"), base.config, base.source)
    for precision in ("int4-g32", "bf16"):
        first = base.with_adapter(adapter).with_precision(precision)
        second = base.with_precision(precision).with_adapter(adapter)
        np.testing.assert_array_equal(logits(first, IDS), logits(second, IDS))
        assert not np.array_equal(logits(first, IDS), logits(base.with_precision(precision), IDS))
    bits = logits(base.with_precision("bf16").with_adapter(adapter), IDS).view(np.uint32)
    assert not (bits & 0xFFFF).any()


@cache
def family() -> dict[str, Transformer]:
    """A base and two adapters over it."""
    folder = Path(mkdtemp(prefix="refsample-test-"))
    base = load_transformer(write_llama(folder / "base"))
    first = over(base, write_lora(folder / "first", seed=1))
    return {"base": base, "first": first, "second": over(base, write_lora(folder / "second", rank=17, seed=2))}


ids = st.lists(st.integers(0, 267), min_size=1, max_size=9 if jit.jit_disabled() else 90)


@few
@given(st.sampled_from(["first", "second"]), st.sampled_from(["float32", "bf16", "int4-g32"]), ids, ids, st.data())
def test_no_bit_depends_on_splits_and_company(
    name: str, precision: str, tokens: list[int], others: list[int], data: st.DataObject
) -> None:
    run = family()[name].with_precision(precision)
    want = logits(run, tokens)
    edges = sorted({0, len(tokens), *data.draw(st.lists(st.integers(0, len(tokens)), max_size=3))})
    held = run.new_cache()
    parts = []
    for a, b in zip(edges, edges[1:], strict=False):
        company = [(others, run.new_cache())] * data.draw(st.integers(0, 1))
        parts.append(run.forward([*company, (tokens[a:b], held)], rows="all")[-1])
    np.testing.assert_array_equal(np.concatenate(parts), want)


@pytest.mark.skipif(jit.jit_disabled(), reason="no threads with the JIT off")
def test_no_bit_depends_on_threads() -> None:
    tokens = [n * n % 268 for n in range(200)]
    before = jit.threads()
    try:
        several = logits(family()["second"], tokens)
        jit.set_threads(1)
        np.testing.assert_array_equal(logits(family()["second"], tokens), several)
    finally:
        jit.set_threads(before)


GOOD = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
Q = f"{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight"
WRONG_CONFIGS: list[tuple[dict[str, Any], type[ModelError], str]] = [
    ({"peft_type": "IA3"}, UnsupportedModelError, "peft_type='IA3'"),
    ({"use_dora": True}, UnsupportedModelError, "use_dora=True: this switch is not run"),
    ({"bias": "lora_only"}, UnsupportedModelError, "bias='lora_only'"),
    ({"lora_bias": True}, UnsupportedModelError, "lora_bias"),
    ({"modules_to_save": ["lm_head"]}, UnsupportedModelError, "modules_to_save"),
    ({"layer_replication": [[0, 2]]}, UnsupportedModelError, "layer_replication"),
    ({"trainable_token_indices": [1]}, UnsupportedModelError, "trainable_token_indices"),
    ({"target_parameters": ["x"]}, UnsupportedModelError, "target_parameters"),
    ({"a_switch_of_tomorrow": 1}, UnsupportedModelError, "a_switch_of_tomorrow"),
    ({"init_lora_weights": "pissa"}, UnsupportedModelError, "init_lora_weights='pissa'"),
    ({"r": 0}, MismatchError, "r=0 must be a positive whole number"),
    ({"r": True}, MismatchError, "r=True"),
    ({"lora_alpha": "8"}, MismatchError, "lora_alpha='8' must be a number"),
    ({"use_rslora": "yes"}, MismatchError, "use_rslora='yes'"),
    ({"rank_pattern": {"q_proj": 0}}, MismatchError, r"rank_pattern\.q_proj=0"),
    ({"rank_pattern": {"(": 1}}, MismatchError, r"rank_pattern '\(\(\)' is no regular expression"),
    ({"alpha_pattern": {"(?i)Q": 1}}, MismatchError, r"alpha_pattern '\(\(\?i\)Q\)' is no regular expression"),
    ({"layers_to_transform": 1, "layers_pattern": ["["]}, MismatchError, r"layers_pattern '\(\[\)' is no regular"),
    ({"rank_pattern": ["q_proj"]}, MismatchError, "rank_pattern=.* is not an object"),
    ({"target_modules": 3}, MismatchError, "target_modules=3 must be a text or a list"),
    ({"target_modules": None}, MismatchError, r"target_modules=\(\) fits no module"),
    ({"target_modules": "*"}, MismatchError, r"target_modules '\*' is no regular expression"),
    ({"target_modules": "c_attn"}, MismatchError, "target_modules='c_attn' fits no module"),
    ({"target_modules": ["q_proj", "c_attn"]}, MismatchError, "target_modules names 'c_attn'"),
    ({"layers_to_transform": 2}, MismatchError, "layers_to_transform=2: the last layer of the base is 1"),
    ({"layers_to_transform": ["1"]}, MismatchError, "layers_to_transform"),
    ({"r": 5}, MismatchError, r"lora_A.weight has shape \[4, 32\], rank 5 over the base makes \[5, 32\]"),
    ({"target_modules": ["q_proj", "o_proj"]}, MismatchError, "o_proj.lora_A.weight is missing"),
    ({"layers_to_transform": [0]}, MismatchError, r"layers\.1\..*which adapter_config.json does not adapt"),
]


@cache
def base() -> Transformer:
    return load_transformer(write_llama(Path(mkdtemp(prefix="refsample-test-"))))


@pytest.mark.parametrize(("change", "error", "said"), WRONG_CONFIGS)
def test_configs_that_are_refused(change: dict[str, Any], error: type[ModelError], said: str, tmp_path: Path) -> None:
    tensors = factors(Shape(), dict.fromkeys(modules(("self_attn.q_proj",), BOTH), 4))
    write_adapter(tmp_path, tensors, GOOD)
    assert over(base(), tmp_path).adapter is not None
    write_adapter(tmp_path, tensors, GOOD | change)
    with pytest.raises(error, match=said) as caught:
        over(base(), tmp_path)
    assert type(caught.value) is error and "\n" not in str(caught.value)


def test_files_that_are_refused(tmp_path: Path) -> None:
    def refused(error: type[ModelError], said: str) -> None:
        with pytest.raises(error, match=said) as caught:
            over(base(), tmp_path / "lora")
        assert type(caught.value) is error

    refused(MissingFileError, "lora is not a folder")
    tensors = factors(Shape(), dict.fromkeys(modules(("self_attn.q_proj",), BOTH), 4))
    folder = write_adapter(tmp_path / "lora", tensors, GOOD)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(UnsupportedModelError, "only adapter_model.bin.*safe_serialization")
    (folder / "adapter_model.bin").unlink()
    refused(MissingFileError, "adapter_model.safetensors is missing")
    (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    refused(CorruptFileError, "header")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").mkdir()
    refused(CorruptFileError, "cannot be read")
    (folder / "adapter_model.safetensors").rmdir()
    write_adapter(folder, tensors | {f"{PREFIX}model.layers.7.mlp.up_proj.lora_A.weight": tensors[Q]}, GOOD)
    refused(MismatchError, "layers.7.*the base has no module for")
    write_adapter(folder, {n: t[:, :3] if n == Q else t for n, t in tensors.items()}, GOOD)
    refused(MismatchError, r"has shape \[4, 3\]")
    write_adapter(folder, {n: t * np.float32("nan") if n == Q else t for n, t in tensors.items()}, GOOD)
    refused(CorruptFileError, "q_proj.lora_A.weight holds NaN or infinity")
    (folder / "adapter_config.json").write_text("[]")
    refused(CorruptFileError, "not a JSON object")
    (folder / "adapter_config.json").unlink()
    refused(MissingFileError, "no adapter in PEFT's layout")


def test_the_base_that_it_was_trained_over_is_kept(tmp_path: Path) -> None:
    adapter = read_adapter(write_lora(tmp_path, base_model_name_or_path="org/elsewhere"), base().config, base().source)
    assert adapter.base == "org/elsewhere"


def test_an_adapter_of_another_depth_is_no_adapter_of_this_model(tmp_path: Path) -> None:
    deep = load_transformer(write_llama(tmp_path / "deep", layers=3))
    adapter = read_adapter(write_lora(tmp_path / "lora", Shape(layers=3)), deep.config, deep.source)
    with pytest.raises(ValueError, match="of 3 layers, the model has 2"):
        base().with_adapter(adapter)


def test_the_fingerprint_covers_base_and_both_files(tmp_path: Path) -> None:
    folder = write_lora(tmp_path)
    prints = [adapter_fingerprint("a", folder), adapter_fingerprint("b", folder)]
    write_lora(tmp_path, lora_alpha=9)
    prints.append(adapter_fingerprint("a", folder))
    write_lora(tmp_path, lora_alpha=9, seed=1)
    prints.append(adapter_fingerprint("a", folder))
    assert len(set(prints)) == 4
    write_lora(tmp_path)
    assert adapter_fingerprint("a", folder) == prints[0]
