"""Emulated precisions: what is rounded, by how much, and that nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refsample.model.load import load_transformer
from refsample.model.quantise import round_to_int4
from refsample.model.transformer import Transformer
from refsample_kernels.lanes import to_bf16, widen
from tests.factories import write_llama

TOKENS = [5, 17, 200, 33, 3, 99]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    shape = {"width": 64, "heads": 2, "kv_heads": 1, "attention_bias": True, "tied": False, "layers": 1}
    return load_transformer(write_llama(tmp_path_factory.mktemp("model"), **shape))


def test_int4_by_hand() -> None:
    # scale 7/7 = 1: ties go to even; scale 0.7/7; a group of zeros
    row = np.zeros(96, np.float32)
    row[:6] = [7, -7, 0.5, 1.5, -2.5, 3.4]
    row[32:35] = [0.7, 0.26, -0.04]
    got = round_to_int4(row[None])[0]
    np.testing.assert_array_equal(got[:6], [7, -7, 0, 2, -2, 3])
    np.testing.assert_allclose(got[32:35], [0.7, 0.3, 0], rtol=1e-6, atol=1e-9)
    assert not got[64:].any()


def test_int4_takes_fifteen_levels_in_groups_along_the_input(model: Transformer) -> None:
    matrix = model.source.layers[0].gate.weight  # [48, 64]
    got, exact = round_to_int4(matrix).reshape(48, 2, 32), widen(matrix).reshape(48, 2, 32)
    scale = np.abs(exact).max(axis=2, keepdims=True) / 7
    steps = got / scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)
    assert np.abs(steps).max() <= 7.0001 and len(np.unique(np.rint(steps))) == 15
    assert np.all(np.abs(got - exact) <= scale / 2 * 1.00001)


def test_int4_of_a_width_that_no_group_divides() -> None:
    matrix = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
    got = round_to_int4(matrix)
    assert got.shape == (3, 40)
    np.testing.assert_array_equal(got[:, 32:], round_to_int4(matrix[:, 32:]))


def test_int4_touches_the_projections_alone(model: Transformer) -> None:
    weights, source = model.with_precision("int4-g32").weights, model.source
    assert weights.embedding is source.embedding and weights.head.weight is source.head.weight
    np.testing.assert_array_equal(weights.final_norm.weight, source.final_norm.weight)
    for mine, theirs in zip(weights.layers, source.layers, strict=True):
        np.testing.assert_array_equal(mine.attention_norm.weight, theirs.attention_norm.weight)
        np.testing.assert_array_equal(mine.q.bias, theirs.q.bias)
        for name in ("q", "k", "v", "o", "gate", "up", "down"):
            assert not np.array_equal(getattr(mine, name).weight, widen(getattr(theirs, name).weight)), name


def test_bf16_logits_are_bf16_numbers_near_the_exact_ones(model: Transformer) -> None:
    rounded = model.with_precision("bf16")
    cache = rounded.new_cache()
    got = rounded.forward([(TOKENS, cache)], rows="all")[0]
    want = model.forward([(TOKENS, model.new_cache())], rows="all")[0]
    np.testing.assert_array_equal(got, to_bf16(got))
    for held in (cache.keys[..., : len(TOKENS)], cache.values[:, :, : len(TOKENS)]):
        np.testing.assert_array_equal(held, to_bf16(np.ascontiguousarray(held)))
    error = np.sqrt(np.mean((got - want) ** 2)) / want.std()
    assert 1e-3 < error < 0.03, "roundings of 2^-9, some dozen of them in a row"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bf16_rounds_weights_of_wider_files_too(dtype: str, tmp_path: Path) -> None:
    wide = load_transformer(write_llama(tmp_path, dtype=dtype, layers=1))
    weights = wide.with_precision("bf16").weights
    assert weights.embedding.dtype == np.uint16 and weights.head.weight is weights.embedding
    np.testing.assert_array_equal(widen(weights.embedding), to_bf16(widen(wide.source.embedding)))
    np.testing.assert_array_equal(weights.final_norm.weight, to_bf16(wide.source.final_norm.weight))


def test_errors_grow_in_the_order_of_the_precisions(model: Transformer) -> None:
    want = model.forward([(TOKENS, model.new_cache())], rows="all")[0]
    errors = []
    for name in ("float64", "bf16", "int4-g32"):
        run = model.with_precision(name)
        errors.append(float(np.sqrt(np.mean((run.forward([(TOKENS, run.new_cache())], rows="all")[0] - want) ** 2))))
    assert errors[0] < 1e-4 < errors[1] < errors[2]
