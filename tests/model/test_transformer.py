"""The door of `forward`, caches, precisions, and float32 against float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refsample.errors import ContextLengthError, ParameterError
from refsample.model.cache import Cache
from refsample.model.load import load_transformer
from refsample.model.transformer import Transformer
from refsample_kernels.jit import jit_disabled
from tests.factories import CASES, write_llama

SMALL = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 20, "max_position": 40}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    return load_transformer(write_llama(tmp_path_factory.mktemp("model"), **SMALL))


def test_rows(model: Transformer) -> None:
    tokens = [3, 1, 4, 1, 5]
    every = model.forward([(tokens, model.new_cache())], rows="all")
    last = model.forward([(np.array(tokens, np.uint8), model.new_cache()), ([9], model.new_cache())])
    assert every[0].shape == (5, 272) and every[0].dtype == np.float32
    assert [part.shape for part in last] == [(1, 272), (1, 272)]
    np.testing.assert_array_equal(last[0], every[0][-1:])


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "non-empty sequence"),
        ([[1, 2]], "non-empty sequence"),
        ([[1], [2, 3]], "non-empty sequence"),
        ([1.0], "non-empty sequence"),
        ([True], "non-empty sequence"),
        (["a"], "non-empty sequence"),
        ([2**70], "non-empty sequence"),
        ([0, 272], "ids=272: token ids lie in [0, 272)"),
        ([0, -1], "ids=-1: token ids lie in [0, 272)"),
        (np.array([2**63], np.uint64), "token ids lie in [0, 272)"),
    ],
)
def test_ids_are_checked_at_the_door(model: Transformer, ids: Any, said: str) -> None:
    good, bad = model.new_cache(), model.new_cache()
    with pytest.raises(ParameterError) as caught:
        model.forward([([1], good), (ids, bad)])
    assert said in str(caught.value) and caught.value.parameter == "ids"
    assert good.length == bad.length == 0


def test_the_context_ends_where_the_config_says(model: Transformer) -> None:
    cache = model.new_cache()
    model.forward([([1] * 39, cache)])
    with pytest.raises(ContextLengthError, match="41 tokens"):
        model.forward([([1, 2], cache)])
    assert cache.length == 39
    model.forward([([1], cache)])
    assert cache.length == 40


def test_wrong_segments(model: Transformer) -> None:
    cache = model.new_cache()
    with pytest.raises(ParameterError, match="at least one sequence"):
        model.forward([])
    with pytest.raises(ParameterError, match="share one cache"):
        model.forward([([1], cache), ([2], cache)])
    with pytest.raises(ParameterError, match="a cache of float64 given to float32"):
        model.forward([([1], model.with_precision("float64").new_cache())])


def test_cache_lengths(model: Transformer) -> None:
    cache = model.new_cache(7)
    assert cache.keys.shape[3] % 16 == 0 and cache.length == 0
    model.forward([([1, 2, 3], cache)])
    with pytest.raises(ValueError, match="length=4: the cache holds 3"):
        cache.truncate(4)
    with pytest.raises(ContextLengthError, match="41 tokens exceed the context of 40 tokens"):
        cache.reserve(41)
    cache.truncate(0)
    assert cache.length == 0


def test_a_cache_of_another_shape_is_refused(model: Transformer) -> None:
    """Kernels that go through all layers are told addresses: what lies there is checked before."""
    c = model.config
    heads, width, layers = c.kv_heads, c.head_width, c.layers
    for shape in ((layers, heads + 1, width), (layers, heads, width + 2), (layers - 1, heads, width)):
        other = Cache(shape, 256, np.float32, "float32", 16)
        with pytest.raises((ValueError, IndexError)):
            model.forward([([1, 2], other)])


def test_precisions(model: Transformer) -> None:
    assert model.precision == "float32" and model.with_precision("float32") is model
    int4 = model.with_precision("int4-g32")
    back = int4.with_precision("float32")
    assert (int4.precision, back.precision) == ("int4-g32", "float32")
    assert back.weights is model.weights
    with pytest.raises(ParameterError, match=r"precision='fp4': must be one of float32, float64, bf16, f16, shuffled"):
        model.with_precision("fp4")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_float32_is_near_float64(name: str, tmp_path: Path) -> None:
    model = load_transformer(write_llama(tmp_path / name, **CASES[name]))
    tokens = np.random.default_rng(5).integers(0, 268, 20 if jit_disabled() else 256)
    exact = model.with_precision("float64")
    got = model.forward([(tokens, model.new_cache())], rows="all")[0]
    want = exact.forward([(tokens, exact.new_cache())], rows="all")[0]
    assert want.dtype == np.float64
    assert np.abs(got - want).max() <= 5e-5 * want.std()


def test_loading_takes_a_precision(tmp_path: Path) -> None:
    folder = write_llama(tmp_path, **SMALL)
    assert load_transformer(folder, "bf16").precision == "bf16"
    with pytest.raises(ParameterError, match="precision"):
        load_transformer(folder, "float16")
