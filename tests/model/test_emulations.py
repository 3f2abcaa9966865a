"""Every emulation on a model: what it rounds, that it rounds nothing else, and by how much the logits move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample.model.emulations import ARITHMETICS
from refsample.model.halves import F16
from refsample.model.load import load_transformer
from refsample.model.numerics import Product
from refsample.model.quantise import (
    round_to_fp8,
    round_to_int8,
    round_to_q4_0,
    round_to_q8_0,
    to_e4m3,
    to_f16,
)
from refsample.model.transformer import Transformer
from refsample_kernels.lanes import widen
from tests.factories import write_llama
from tests.house.sources import ROOT

TOKENS = [5, 17, 200, 33, 3, 99]
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
QUANTISED = tuple(name for name in ARITHMETICS if name.startswith(("int", "fp8")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    shape = {"width": 64, "heads": 2, "kv_heads": 1, "attention_bias": True, "tied": False, "layers": 1}
    return load_transformer(write_llama(tmp_path_factory.mktemp("model"), **shape))


def logits(run: Transformer) -> NDArray[Any]:
    return run.forward([(TOKENS, run.new_cache())], rows="all")[0]


def test_names_and_what_is_said_of_them() -> None:
    page = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    for name, arithmetic in ARITHMETICS.items():
        assert arithmetic.name == name and arithmetic.about
        assert f"| `{name}` |" in page, f"docs/numerics.md does not say what {name} is"
    assert {"float32", "float64", "bf16", "int4-g32"} <= set(ARITHMETICS)


@pytest.mark.parametrize("name", QUANTISED)
def test_projections_alone_are_quantised(model: Transformer, name: str) -> None:
    weights, source = model.with_precision(name).weights, model.source
    assert weights.embedding is source.embedding and weights.head.weight is source.head.weight
    (mine,), (theirs,) = weights.layers, source.layers
    for part in PROJECTIONS:
        held, exact = getattr(mine, part), getattr(theirs, part)
        assert not np.array_equal(held.weight, widen(exact.weight)), part
        np.testing.assert_array_equal(held.bias, exact.bias)
    if name == "int8-channel":
        np.testing.assert_array_equal(mine.up.weight, round_to_int8(theirs.up.weight))
    if name == "fp8-cast":
        np.testing.assert_array_equal(mine.up.weight, to_e4m3(theirs.up.weight))


@pytest.mark.parametrize(("name", "function"), [("q8_0", round_to_q8_0), ("q4_0", round_to_q4_0)])
def test_gguf_has_embedding_and_head_too(
    model: Transformer, name: str, function: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    weights, source = model.with_precision(name).weights, model.source
    np.testing.assert_array_equal(weights.embedding, function(source.embedding))
    np.testing.assert_array_equal(weights.head.weight, function(source.head.weight))
    np.testing.assert_array_equal(weights.layers[0].down.weight, function(source.layers[0].down.weight))


def test_a_tied_head_stays_tied(tmp_path_factory: pytest.TempPathFactory) -> None:
    tied = load_transformer(write_llama(tmp_path_factory.mktemp("tied"), layers=1))
    for name in ARITHMETICS:
        weights = tied.with_precision(name).weights
        assert (weights.head.weight is weights.embedding) == (name != "shuffled"), name


class Seen:
    """A product that remembers what it was given."""

    def __init__(self, product: Product) -> None:
        self.product, self.given = product, list[NDArray[Any]]()

    def __call__(self, x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], out: NDArray[Any]) -> None:
        self.given.append(x.copy())
        self.product(x, weight, bias, out)


@pytest.mark.parametrize("name", ["int8-token", "fp8-token"])
def test_tokens_are_rounded_before_projections_and_not_before_the_head(model: Transformer, name: str) -> None:
    run = model.with_precision(name)
    rounded = round_to_int8 if name == "int8-token" else round_to_fp8
    head, rest = Seen(run.arithmetic.head or run.arithmetic.linear), Seen(run.arithmetic.linear)
    want = logits(run)
    got = logits(replace(run, arithmetic=replace(run.arithmetic, head=head, linear=rest)))
    np.testing.assert_array_equal(got, want)
    (x,) = head.given
    exact = np.empty_like(want)
    model.arithmetic.linear(x, run.weights.head.weight, run.weights.head.bias, exact)
    np.testing.assert_array_equal(exact, want)
    first, out = rest.given[0], np.empty((len(TOKENS), 64), np.float32)
    run.arithmetic.linear(first, run.weights.layers[0].q.weight, run.weights.layers[0].q.bias, out)
    plain = np.empty_like(out)
    model.arithmetic.linear(rounded(first), run.weights.layers[0].q.weight, run.weights.layers[0].q.bias, plain)
    np.testing.assert_array_equal(out, plain)
    assert not np.array_equal(rounded(first), first)


@pytest.mark.parametrize(("name", "rounded"), [("kv-int8", round_to_int8), ("kv-fp8", to_e4m3)])
def test_the_cache_holds_rounded_keys_and_values(
    model: Transformer, name: str, rounded: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    run, caches = model.with_precision(name), []
    for one in (model, run):
        caches.append(one.new_cache())
        one.forward([(TOKENS, caches[-1])])
    exact, held = caches
    assert run.weights is model.weights
    end = len(TOKENS)
    for of, into in ((exact.keys[0, :, :, :end].transpose(2, 0, 1), held.keys[0, :, :, :end].transpose(2, 0, 1)),
                     (exact.values[0, :, :end].swapaxes(0, 1), held.values[0, :, :end].swapaxes(0, 1))):  # fmt: skip
        np.testing.assert_array_equal(into, rounded(np.ascontiguousarray(of)))  # [T, K, D]
        assert not np.array_equal(into, of)


def test_another_order_moves_last_bits_alone(model: Transformer) -> None:
    got, want = logits(model.with_precision("shuffled")), logits(model)
    assert not np.array_equal(got, want)
    np.testing.assert_allclose(got, want, atol=1e-5 * float(want.std()))


def test_f16_logits_are_f16_numbers_near_the_exact_ones(model: Transformer) -> None:
    run = model.with_precision("f16")
    cache = run.new_cache()
    got, want = run.forward([(TOKENS, cache)], rows="all")[0], logits(model)
    np.testing.assert_array_equal(got, to_f16(got))
    np.testing.assert_array_equal(cache.keys, to_f16(cache.keys))
    assert run.weights.embedding.dtype == np.int16
    assert 1e-4 < np.sqrt(np.mean((got - want) ** 2)) / want.std() < 4e-3


@pytest.mark.parametrize(("window", "cap"), [(0, 0.0), (5, 0.0), (0, 3.0), (4, 2.0)])
def test_f16_attention_is_attention(model: Transformer, window: int, cap: float) -> None:
    rng = np.random.default_rng(7)
    start, rows = 6, 5
    q, keys, values = (
        to_f16(rng.standard_normal(shape)) for shape in ((rows, 4, 24), (2, 24, 16), (2, 16, 24))
    )  # [T, H, D], [K, D, S], [K, S, D]
    got, want = np.empty_like(q), np.empty_like(q)
    F16.attention(q, keys, values, start, 0.3, window, cap, got)
    model.arithmetic.attention(q, keys, values, start, 0.3, window, cap, want)
    np.testing.assert_allclose(got, want, atol=4e-3)
    np.testing.assert_array_equal(got, to_f16(got))
    singly = np.empty_like(q)
    values[:, start + rows - 1 :] = np.inf  # what a row does not see cannot reach it, not even an overflow
    F16.attention(q, keys, values, start, 0.3, window, cap, singly)
    np.testing.assert_array_equal(singly[:-1], got[:-1])
    assert not np.isfinite(singly[-1]).any()


def test_errors_grow_in_the_order_of_the_precisions(model: Transformer) -> None:
    want = logits(model.with_precision("float64"))
    error = {n: float(np.sqrt(np.mean((logits(model.with_precision(n)) - want) ** 2))) for n in ARITHMETICS}
    for finer, coarser in (
        ("float32", "f16"), ("f16", "bf16"), ("int8-g32", "int4-g32"), ("int8-channel", "int8-token"),
        ("int8-token", "fp8-token"), ("fp8", "fp8-token"), ("int4-g32", "int4-g64"), ("kv-int8", "kv-fp8"),
        ("q8_0", "q4_0"), ("shuffled", "f16"),
    ):  # fmt: skip
        assert error[finer] < error[coarser], (finer, coarser, error)
    assert error["float64"] == 0 and error["shuffled"] < 1e-5
