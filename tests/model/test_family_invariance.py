"""The promise of invariance for other families than Llama: windows, experts, norms, biases and learned positions.

The folders are those that transformers wrote (`tests/data/families`), with room for longer texts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.generation.prefix import LEAST, PrefixCache
from refsample.model.load import load_transformer
from refsample.model.lora import Adapter, LowRank
from refsample.model.transformer import Transformer
from refsample_kernels import jit
from tests.data.make_family_folders import FOLDER, SIZES
from tests.house.sources import PACKAGES

NAMES = ("mistral", "mixtral", "gemma3_text", "gpt2", "gpt_neox", "olmo2", "smollm3", "falcon-new", "qwen3_moe")
CONTEXT = 400
few = settings(max_examples=2 if jit.jit_disabled() else 40)
LONGEST = 9 if jit.jit_disabled() else 60
names = st.sampled_from(NAMES)
ids = st.lists(st.integers(0, SIZES["vocab_size"] - 1), min_size=1, max_size=LONGEST)


@cache
def folder(name: str) -> Path:
    """A folder with a context of 400 tokens; of learned positions there are as many as were written, 64."""
    made = Path(shutil.copytree(FOLDER / "v5" / name, Path(mkdtemp(prefix="refsample-test-")) / name))
    config = json.loads((made / "config.json").read_text(encoding="utf-8"))
    if name != "gpt2":
        config["max_position_embeddings"] = CONTEXT
    (made / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return made


@cache
def model(name: str) -> Transformer:
    return load_transformer(folder(name))


@cache
def adapter(name: str, seed: int) -> Adapter:
    """Random factors for attention's projections of every layer, for head and embedding."""
    config, rng = model(name).config, np.random.default_rng(seed)
    sizes = {slot.field: (slot.out, slot.inp) for slot in config.family.projections if slot.field in "qkvo"}

    def factors(out: int, inp: int, rank: int) -> LowRank:
        down, up = rng.standard_normal((rank, inp)), rng.standard_normal((out, rank))
        return LowRank(down.astype(np.float32), up.astype(np.float32), 0.3)

    layers = tuple(
        {field: factors(config.size(out), config.size(inp), 2 + seed) for field, (out, inp) in sizes.items()}
        for _ in range(config.layers)
    )
    embedding = LowRank(factors(config.vocab_size, 3, 2).up, factors(config.width, 3, 2).up, 0.2)  # [V, r], [C, r]
    return Adapter(layers, embedding, factors(config.vocab_size, config.width, 2 + seed), None)


def fitting(run: Transformer, tokens: list[int]) -> list[int]:
    return tokens[: run.config.max_position]


def whole(run: Transformer, tokens: list[int]) -> NDArray[Any]:
    """Logits of every position, in one call, alone."""
    return run.forward([(tokens, run.new_cache())], rows="all")[0]


@few
@given(names, ids, ids, st.data())
def test_chunks_tokens_and_forks(name: str, tokens: list[int], others: list[int], data: st.DataObject) -> None:
    """Whole = in random chunks = token by token = on a fork of a cache that somebody else went on with."""
    run = model(name)
    tokens = fitting(run, tokens + others)
    want = whole(run, tokens)
    cuts = data.draw(st.lists(st.integers(0, len(tokens)), max_size=6))
    edges, held = sorted({0, len(tokens), *cuts}), run.new_cache()
    parts = [run.forward([(tokens[a:b], held)], rows="all")[0] for a, b in zip(edges, edges[1:], strict=False)]
    np.testing.assert_array_equal(np.concatenate(parts), want)
    singly, half = run.new_cache(), data.draw(st.integers(1, len(tokens)))
    steps = [run.forward([([token], singly)])[0] for token in tokens[:half]]
    np.testing.assert_array_equal(np.concatenate(steps), want[:half])
    fork = singly.fork()
    if half < len(tokens):
        run.forward([([3], singly)])
        np.testing.assert_array_equal(run.forward([(tokens[half:], fork)], rows="all")[0], want[half:])


@few
@given(names, st.sampled_from(["float32", "bf16"]), ids, ids, ids)
def test_kept_prefixes(name: str, precision: str, head: list[int], first: list[int], second: list[int]) -> None:
    """What a text takes over from another that began like it is what it would have computed."""
    run, kept = model(name).with_precision(precision), PrefixCache(1 << 20)
    one, other = (tuple(fitting(run, head + rest)) for rest in (first, second))
    held = run.new_cache()
    run.forward([(one, held)])
    kept.keep(run, one, held)
    own = kept.begun(run, other[:-1], len(other))
    alike = sum(a == b for a, b in zip(one, other[:-1], strict=False)) if own.length else 0
    assert own.length <= alike and (own.length >= LEAST or not own.length)
    got = run.forward([(other[own.length :], own)], rows="all")[0]
    np.testing.assert_array_equal(got, whole(run, list(other))[len(other) - len(got) :])


@few
@given(names, st.lists(ids, min_size=2, max_size=3 if jit.jit_disabled() else 17), st.data())
def test_batches_with_adapters(name: str, prompts: list[list[int]], data: st.DataObject) -> None:
    """Alone = beside up to sixteen others, some under adapter A, some under B, some under none, in one pass."""
    run = model(name)
    prompts = [fitting(run, tokens) for tokens in prompts]
    chosen = [data.draw(st.sampled_from([None, adapter(name, 1), adapter(name, 2)])) for _ in prompts]
    wants = [whole(run.with_adapter(one), tokens) for one, tokens in zip(chosen, prompts, strict=True)]
    heads = [data.draw(st.integers(0, len(tokens) - 1)) for tokens in prompts]
    caches = [run.new_cache() for _ in prompts]
    begun = [(n, tokens[:head]) for n, (tokens, head) in enumerate(zip(prompts, heads, strict=True)) if head]
    if begun:
        run.forward([(part, caches[n]) for n, part in begun], adapters=[chosen[n] for n, _ in begun])
    segments = [(tokens[head:], held) for tokens, held, head in zip(prompts, caches, heads, strict=True)]
    rows = data.draw(st.sampled_from(["last", "all"]))
    got = run.forward(segments, rows, chosen)
    for mine, want, head in zip(got, wants, heads, strict=True):
        np.testing.assert_array_equal(mine, want[head:] if rows == "all" else want[-1:])


def test_adapters_do_change_the_logits() -> None:
    for name in NAMES:
        run = model(name)
        texts = [whole(run.with_adapter(one), [5, 6, 7]) for one in (None, adapter(name, 1), adapter(name, 2))]
        assert len({text.tobytes() for text in texts}) == 3


THREADS = """
import sys
from pathlib import Path
from refsample.model.load import load_transformer
from refsample_kernels import jit
same = []
for folder in sys.argv[1:]:
    run, results = load_transformer(Path(folder)), []
    tokens = [n * n % 61 for n in range(min(300, run.config.max_position))]
    for count in (1, 2):
        jit.set_threads(count)
        results.append(run.forward([(tokens, run.new_cache())], rows="all")[0].tobytes())
    same.append(results[0] == results[1])
print(jit.threads(), all(same), len(same))
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="no threads with the JIT off")
def test_thread_counts() -> None:
    """In a process of its own, which has two threads whatever this one was started with."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(package.parent) for package in PACKAGES)}
    done = subprocess.run(
        [sys.executable, "-c", THREADS, *(str(folder(name)) for name in NAMES)],
        env=env | {"NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.strip() == f"2 True {len(NAMES)}", done.stderr
