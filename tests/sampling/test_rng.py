"""The stream of uniforms against NumPy's Philox, which other people can call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Philox

from refsample.sampling.rng import effective_seed, fresh_seed, stream_choice, uniform, uniforms
from refsample_kernels.philox import MASK, block, blocks

words = st.integers(0, MASK)


def numpy_block(key: tuple[int, int], counter: tuple[int, int, int, int]) -> list[int]:
    """NumPy raises its 256-bit counter by one before the first block, so it is given one less."""
    whole = sum(word << (64 * place) for place, word in enumerate(counter))
    before = (whole - 1) % (1 << 256)
    state = np.array([(before >> (64 * place)) & MASK for place in range(4)], dtype=np.uint64)
    generator = Philox(key=np.array(key, dtype=np.uint64), counter=state)
    return [int(word) for word in generator.random_raw(4)]


@given(st.tuples(words, words), st.tuples(words, words, words, words))
def test_block_is_numpys(key: tuple[int, int], counter: tuple[int, int, int, int]) -> None:
    assert list(block(key, counter)) == numpy_block(key, counter)


@given(st.lists(st.tuples(st.tuples(words, words), st.tuples(words, words, words, words)), min_size=1, max_size=5))
def test_blocks_are_block(cases: list[tuple[tuple[int, int], tuple[int, int, int, int]]]) -> None:
    keys = np.array([key for key, _ in cases], dtype=np.uint64)
    counters = np.array([counter for _, counter in cases], dtype=np.uint64)
    assert blocks(keys, counters).tolist() == [list(block(*case)) for case in cases]


def test_known_answers_of_random123() -> None:
    """Lines of Random123's kat_vectors for philox4x64 10 rounds: all zeros, all ones."""
    zeros = (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
    ones = (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)
    assert block((0, 0), (0, 0, 0, 0)) == zeros
    assert block((MASK, MASK), (MASK, MASK, MASK, MASK)) == ones


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**20), st.integers(0, 2**40), st.integers(0, 5))
def test_uniform_is_the_written_recipe(seed: int, choice: int, step: int, lane: int) -> None:
    word = numpy_block(((seed + choice) % 2**64, 0), (step, lane, 0, 0))[0]
    u = uniform(seed, choice, step, lane)
    assert u == (word >> 11) / 2**53
    assert 0.0 <= u < 1.0


def test_golden_uniforms() -> None:
    """Fixed for ever: a recorded run must replay on any later version. (NumPy's words, by the recipe above.)"""
    assert uniform(1, 0, 0) == 0.794901327418393
    assert uniform(1, 0, 1) == 0.3035680343067586
    assert uniform(1, 0, 0, 1) == 0.7342410549001281
    assert uniform(2**63 - 1, 0, 0) == 0.14953647867726338


def test_choices_of_one_request_are_neighbouring_seeds() -> None:
    assert uniform(7, 3, 5) == uniform(10, 0, 5) == uniform(10 - 2**64, 0, 5)
    assert len({uniform(7, choice, step, lane) for choice in range(9) for step in range(9) for lane in range(2)}) == 162


def test_uniforms_are_uniform() -> None:
    found = uniforms(2**64 - 3, range(9), 11, 2)
    assert found.tolist() == [uniform(2**64 - 3, choice, 11, 2) for choice in range(9)]
    assert uniforms(1, [], 0).size == 0


def test_equidistribution() -> None:
    """Mean of 20,000 numbers over steps, and over choices: 5 standard errors, a false alarm in 1.7 million."""
    error = 5 * (1 / 12 / 20_000) ** 0.5
    assert abs(uniforms(0, range(20_000), 3).mean() - 0.5) < error
    assert abs(np.mean([uniform(0, 0, step) for step in range(20_000)]) - 0.5) < error


def test_fresh_seeds() -> None:
    seeds = {fresh_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("rule", "expected"), [("seed_plus_choice", 5), ("identical", 5)])
def test_effective_seed(rule: str, expected: int) -> None:
    assert effective_seed(5, rule) == expected  # type: ignore[arg-type]
    assert effective_seed(None, rule) != effective_seed(None, rule)  # type: ignore[arg-type]


def test_ignored_seed_is_fresh() -> None:
    assert len({effective_seed(5, "ignored") for _ in range(3)}) == 3


def test_stream_choice() -> None:
    assert [stream_choice(i, "seed_plus_choice") for i in range(3)] == [0, 1, 2]
    assert [stream_choice(i, "identical") for i in range(3)] == [0, 0, 0]
