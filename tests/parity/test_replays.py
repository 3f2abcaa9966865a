"""Replayed draws against the engines' own, a thousand and more seeded steps each."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refsample.sampling.replays import (
    DOMAIN64,
    MASK,
    llamacpp_mt19937,
    llamacpp_uniforms,
    murmur3,
    sglang_det,
    torch_race,
    torch_uniforms,
)  # fmt: skip

pytestmark = pytest.mark.parity

SEEDS, STEPS = (0, 1, 42, 1234, 2**32 - 2), 250


def test_transformers_on_a_cpu() -> None:
    """torch.multinomial, which `generate` calls, with the stream going on from step to step."""
    torch = pytest.importorskip("torch")
    random, size = np.random.default_rng(3), 97
    for seed in SEEDS:
        torch.manual_seed(seed)
        us = torch_uniforms(seed, STEPS * size).reshape(STEPS, size)
        for step in range(STEPS):
            logits = torch.from_numpy(random.standard_normal(size).astype(np.float32) * 3)
            probs = torch.softmax(logits, dim=-1)
            assert int(torch.multinomial(probs[None], 1)) == torch_race(probs.numpy(), us[step])


def test_llamacpp() -> None:
    """llama_sampler_init_dist over a list that top_k has sorted, and over one in the order of the vocabulary."""
    pytest.importorskip("xllamacpp")
    from bench.peers.llamacpp import LIBRARY, TokenArray, TokenData

    LIBRARY.llama_sampler_init_dist.restype = ctypes.c_void_p
    LIBRARY.llama_sampler_init_dist.argtypes = (ctypes.c_uint32,)
    random, size = np.random.default_rng(4), 50
    for seed in SEEDS:
        sampler = LIBRARY.llama_sampler_init_dist(seed)
        us = llamacpp_uniforms(seed, STEPS)
        for step in range(STEPS):
            logits = (random.standard_normal(size) * 3).astype(np.float32)
            if step % 2:
                logits[::-1].sort()
            data = (TokenData * size)(*(TokenData(i, float(logits[i]), 0.0) for i in range(size)))
            candidates = TokenArray(data, size, -1, bool(step % 2))
            LIBRARY.llama_sampler_apply(sampler, ctypes.byref(candidates))
            assert candidates.selected == llamacpp_mt19937(logits, us[step])
        LIBRARY.llama_sampler_free(sampler)


class Wide(int):
    """An integer with the one method of Triton's values that the mixing functions call."""

    def to(self, kind: object) -> Wide:
        return Wide(self % 2**32) if kind == "uint32" else self


def _keeping(name: str) -> Any:
    return lambda self, *other: Wide(getattr(int, name)(self, *other))


for _name in ("__add__", "__mul__", "__and__", "__or__", "__xor__", "__lshift__", "__rshift__"):
    setattr(Wide, _name, _keeping(_name))


def test_sglang_deterministic() -> None:
    """multinomial_with_seed out of the wheel, over the mixing functions of its kernel run on plain integers."""
    torch = pytest.importorskip("torch")
    if find_spec("sglang") is None:
        pytest.skip("no sglang here")
    from bench.peers.files import folder, functions

    scope: dict[str, Any] = {"torch": torch, "tl": SimpleNamespace(uint32="uint32", uint64="uint64")}
    kernel = folder("sglang") / "kernels" / "ops" / "sampling" / "murmur_hash.py"
    functions(kernel, ("rotl32", "fmix32", "murmur3_mix"), scope)
    functions(folder("sglang") / "srt" / "layers" / "sampler.py", ("multinomial_with_seed",), scope)

    def hashed(seed: Any, positions: Any, columns: Any) -> Any:
        whole, place = int(seed[0]), int(positions[0])
        state = Wide(0)
        for key in (whole & MASK, whole >> 32 & MASK, place):
            state = scope["murmur3_mix"](state, Wide(key))
        words = [scope["fmix32"](scope["murmur3_mix"](state, Wide(column)) ^ 16) for column in columns]
        return torch.tensor([[int(word) for word in words]])

    scope["murmur_hash32"] = hashed
    random, size = np.random.default_rng(5), 20
    for seed in (*SEEDS, 2**40 + 17):
        ours = murmur3(seed, 3, np.arange(size)).tolist()
        assert hashed([seed], [3], range(size))[0].tolist() == ours
        for position in range(STEPS):
            logprobs = np.log(random.dirichlet(np.ones(size)))
            theirs = scope["multinomial_with_seed"](
                torch.from_numpy(logprobs)[None], torch.tensor([seed]), torch.tensor([position])
            )
            assert int(theirs) == sglang_det(logprobs, seed, position)


def test_the_hash_of_vllm() -> None:
    """Its mixing functions on 32-bit integers; the kernel around them needs a GPU."""
    if find_spec("vllm") is None:
        pytest.skip("no vllm here")
    from bench.peers.files import folder, functions

    scope: dict[str, Any] = {}
    names = ("_murmur3_rotl32", "_murmur3_mix", "_murmur3_fmix32")
    functions(folder("vllm") / "v1" / "worker" / "gpu" / "sample" / "gumbel.py", names, scope)
    with np.errstate(over="ignore"):
        for seed in (*SEEDS, 2**40 + 17):
            for domain in (0, DOMAIN64):
                state = np.uint32(domain)
                for key in (seed & MASK, seed >> 32 & MASK, 11):
                    state = scope["_murmur3_mix"](state, np.uint32(key))
                for token in range(50):
                    word = scope["_murmur3_fmix32"](scope["_murmur3_mix"](state, np.uint32(token)) ^ np.uint32(16))
                    assert word == murmur3(seed, 11, np.arange(50), domain)[token]
