"""How other engines turn a seed into a token, so that their seeded draws can be repeated. Knows noise, and no law.

Every function is pure: seed and place in, numbers out. Whoever wants a draw brings the logits or probabilities that the
engine has at that point, in its own precision; a draw is at risk where they err by more than the winner's lead.

Sources: vLLM 0.33.0 v1/worker/gpu/sample/gumbel.py; SGLang 0.5.23 srt/layers/sampler.py, multinomial_with_seed;
llama.cpp 0c1e57098 src/llama-sampler.cpp:1150-1223; PyTorch 2.13 MultinomialKernel, CPUGeneratorImpl, exponential_.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Words = NDArray[np.uint32]

WORD, MASK = 1 << 32, (1 << 32) - 1
DOMAIN64 = 0x9E3779B9
"""Domain of vLLM's second hash, for its 53-bit noise."""


def murmur3(seed: int, position: int, columns: NDArray[np.integer], domain: int = 0) -> Words:
    """[N] MurmurHash3 of (low and high word of seed, position, column): the key of vLLM's and SGLang's noise."""
    state = _mixed(np.full(len(columns), domain, dtype=np.uint32), np.uint32(seed & MASK))
    state = _mixed(state, np.uint32(seed >> 32 & MASK))
    state = _mixed(state, np.uint32(position & MASK))
    state = _mixed(state, columns.astype(np.uint32)) ^ np.uint32(16)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ (state >> np.uint32(shift))) * np.uint32(factor)
    return np.asarray(state ^ (state >> np.uint32(16)), dtype=np.uint32)


def _mixed(state: Words, key: Words | np.uint32) -> Words:
    with np.errstate(over="ignore"):  # 32-bit arithmetic wraps, as the hash wants
        key = np.asarray(key, dtype=np.uint32) * np.uint32(0xCC9E2D51)
        key = ((key << np.uint32(15)) | (key >> np.uint32(17))) * np.uint32(0x1B873593)
        state = state ^ key
        state = (state << np.uint32(13)) | (state >> np.uint32(19))
        return np.asarray(state * np.uint32(5) + np.uint32(0xE6546B64), dtype=np.uint32)


def vllm_mrv2(logits: Floats32, seed: int, position: int, float64: bool = False) -> int:
    """The token that vLLM's newer sampler draws: argmax of processed logits [V] and Gumbel noise by token id.

    `position` is that of the last token fed: prompt length - 1 + number of tokens drawn. `float64`: its 53-bit noise.
    Not held against the engine itself, whose kernel needs a GPU: read from its source, with recorded hashes.
    """
    ids = np.arange(logits.size)
    low = murmur3(seed, position, ids).astype(np.uint64)
    if float64:
        high = murmur3(seed, position, ids, DOMAIN64).astype(np.uint64)
        u = (((high << np.uint64(32) | low) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        noise = -np.log(-np.log(np.minimum(u, 1.0 - 2.0**-53)))
        return int(np.argmax(logits.astype(np.float64) + noise))
    halves = (low >> np.uint64(16)).astype(np.float32), (low & np.uint64(0xFFFF)).astype(np.float32)
    u32 = halves[0] * np.float32(2.0**-16) + (halves[1] + np.float32(0.5)) * np.float32(2.0**-32)
    noise32 = (-np.log(-np.log1p(-u32.astype(np.float64)))).astype(np.float32)
    return int(np.argmax(logits + noise32))


def sglang_det(logprobs: Floats, seed: int, position: int) -> int:
    """The column that SGLang draws with deterministic inference from logprobs [V] float64, as it has them there.

    Columns are token ids where no row of the batch has top_k, top_p or min_p, else ranks after its descending sort; the
    seed is 42 where a request gives none.
    """
    with np.errstate(divide="ignore"):
        x = np.log(murmur3(seed, position, np.arange(logprobs.size)) / (WORD - 1))
    return int(np.argmax(-np.log(-np.clip(x, np.finfo(np.float64).min, -(2.0**-32))) + logprobs))


def mt19937(seed: int, count: int) -> Words:
    """[count] The first words of std::mt19937(seed), which torch's generator on a CPU is as well."""
    generator = np.random.MT19937()
    generator._legacy_seeding(seed & MASK)  # the only way to init_genrand, and RandomState's own
    return np.asarray(generator.random_raw(count), dtype=np.uint32)


def llamacpp_uniforms(seed: int, count: int) -> Floats:
    """[count] in [0, 1]: one for each step, even where one candidate is left; a grammar's redraw takes another."""
    words = mt19937(seed, 2 * count).astype(np.float64)
    return np.asarray((words[0::2] + words[1::2] * WORD) / 2.0**64)


def llamacpp_mt19937(logits: Floats32, u: float) -> int:
    """The place in llama.cpp's list of candidates [N], in the list's own order, that u draws."""
    weights = np.exp(logits - logits.max()).astype(np.float64)  # float32 powers, summed as doubles
    running = np.cumsum(weights)
    return int(np.searchsorted(running, running[-1] * u, side="left"))


def torch_uniforms(seed: int, count: int) -> Floats:
    """[count] The 53-bit doubles of torch's CPU generator after manual_seed(seed)."""
    words = mt19937(seed, 2 * count).astype(np.uint64)
    bits = (words[0::2] << np.uint64(32) | words[1::2]) & np.uint64((1 << 53) - 1)
    return np.asarray(bits.astype(np.float64) * 2.0**-53)


def torch_race(probs: NDArray[np.floating], us: Floats) -> int:
    """The token of torch.multinomial(probs [V], 1) on a CPU: argmax(p / q) with q = -ln(1 - u), u [V] by token id."""
    return int(np.argmax(probs / np.asarray(-np.log1p(-us), dtype=probs.dtype)))
