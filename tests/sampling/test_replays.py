"""Replays of other engines' draws, against numbers that do not come from here."""

from __future__ import annotations

import numpy as np
import pytest

from refsample.sampling.replays import (
    llamacpp_mt19937,
    llamacpp_uniforms,
    mt19937,
    murmur3,
    sglang_det,
    torch_race,
    torch_uniforms,
    vllm_mrv2,
)  # fmt: skip


def test_mt19937_of_the_standard() -> None:
    """C++ fixes the 10000th word of a default-constructed std::mt19937 (seed 5489): [rand.predef]."""
    assert int(mt19937(5489, 10_000)[-1]) == 4123659995


def plain_murmur3(data: bytes, seed: int) -> int:
    """MurmurHash3_x86_32, as its author published it, for whole blocks of four bytes."""
    state = seed
    for place in range(0, len(data), 4):
        key = int.from_bytes(data[place : place + 4], "little") * 0xCC9E2D51 % 2**32
        key = (key << 15 | key >> 17) % 2**32 * 0x1B873593 % 2**32
        state ^= key
        state = ((state << 13 | state >> 19) % 2**32 * 5 + 0xE6546B64) % 2**32
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B % 2**32
    state = (state ^ state >> 13) * 0xC2B2AE35 % 2**32
    return state ^ state >> 16


def test_murmur3() -> None:
    """The published function over 16 bytes; 'aaaa' of seed 0x9747b28c is a known value of it."""
    assert plain_murmur3(b"aaaa", 0x9747B28C) == 0x5A97808A
    for seed in (0, 42, 2**40 + 17, 2**64 - 1):
        for position in (0, 7, 2**31):
            for domain in (0, 0x9E3779B9):
                words = murmur3(seed, position, np.arange(5), domain).tolist()
                data = [seed.to_bytes(8, "little") + position.to_bytes(4, "little") + i.to_bytes(4, "little")
                        for i in range(5)]  # fmt: skip
                assert words == [plain_murmur3(one, domain) for one in data]


def test_the_two_engines_take_opposite_tails() -> None:
    """A large hash is a large noise for SGLang and a small one for vLLM: equal seeds, other tokens."""
    noise = murmur3(42, 9, np.arange(200))
    flat = np.zeros(200)
    assert sglang_det(flat, 42, 9) == int(np.argmax(noise))
    assert vllm_mrv2(flat.astype(np.float32), 42, 9) == int(np.argmin(noise))


@pytest.mark.parametrize("float64", [False, True])
def test_laws_of_the_replays(float64: bool) -> None:
    """20,000 positions each; a chi-square of 4 degrees passes 23.5 with a chance of 1e-4."""
    probs = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    counts = np.zeros((2, 5))
    for position in range(20_000):
        counts[0, vllm_mrv2(np.log(probs).astype(np.float32), 7, position, float64)] += 1
        counts[1, sglang_det(np.log(probs), 7, position)] += 1
    assert (((counts - 20_000 * probs) ** 2 / (20_000 * probs)).sum(axis=1) < 23.5).all()


def test_llamacpp_walks_its_list() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.25], dtype=np.float32))
    found = [llamacpp_mt19937(logits, u) for u in (0.0, 0.5, 0.5 + 1e-9, 0.75 + 1e-9, 1.0)]
    assert found == [0, 0, 1, 2, 2]
    a, b, c, d = mt19937(1, 4).tolist()
    assert llamacpp_uniforms(1, 2).tolist() == [(a + b * 2**32) / 2**64, (c + d * 2**32) / 2**64]


def test_torch_race() -> None:
    """p / q, the largest; u near 0 is a small q and wins."""
    assert torch_race(np.array([0.5, 0.5]), np.array([0.2, 0.1])) == 1
    assert torch_race(np.array([0.5, 0.0]), np.array([0.9, 0.1])) == 0
    words = mt19937(3, 2).tolist()
    assert torch_uniforms(3, 1)[0] == ((words[0] << 32 | words[1]) % 2**53) / 2**53
