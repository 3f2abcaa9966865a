"""The promise: logits are bitwise the same however tokens are split, batched, threaded or forked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.model.emulations import ARITHMETICS
from refsample.model.load import load_transformer
from refsample.model.transformer import Transformer
from refsample_kernels import jit
from tests.factories import CASES, write_llama
from tests.house.sources import PACKAGES

TOY = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 20, "vocab_size": 268}
few = settings(max_examples=3 if jit.jit_disabled() else 25)
LONGEST = 9 if jit.jit_disabled() else 150
names = st.sampled_from(["toy"] if jit.jit_disabled() else ["toy", *CASES])
# Each that computes in a way of its own; the others differ from these in what their weights are.
PRECISIONS = (
    "float32", "bf16", "f16", "shuffled", "int4-g32", "int8-token", "q8_0", "fp8-token", "kv-int8", "kv-fp8",
)  # fmt: skip
precisions = st.sampled_from(PRECISIONS)
ids = st.lists(st.integers(0, 267), min_size=1, max_size=LONGEST)


@cache
def model(name: str, precision: str = "float32") -> Transformer:
    if precision != "float32":
        return model(name).with_precision(precision)
    folder = Path(mkdtemp(prefix="refsample-test-"))
    return load_transformer(write_llama(folder, **(TOY if name == "toy" else CASES[name])))


def whole(run: Transformer, tokens: list[int]) -> NDArray[Any]:
    """Logits of every position, in one call, alone."""
    return run.forward([(tokens, run.new_cache())], rows="all")[0]


@few
@given(names, precisions, ids, st.data())
def test_splits(name: str, precision: str, tokens: list[int], data: st.DataObject) -> None:
    """Whole = in chunks = token by token, the cache made large at once or grown."""
    run = model(name, precision)
    want = whole(run, tokens)
    cuts = data.draw(st.lists(st.integers(0, len(tokens)), max_size=5))
    edges = sorted({0, len(tokens), *cuts})
    cache_ = run.new_cache(data.draw(st.sampled_from([None, 3, 200])))
    parts = [run.forward([(tokens[a:b], cache_)], rows="all")[0] for a, b in zip(edges, edges[1:], strict=False)]
    np.testing.assert_array_equal(np.concatenate(parts), want)
    singly = run.new_cache()
    steps = [run.forward([([token], singly)])[0] for token in tokens[:20]]
    np.testing.assert_array_equal(np.concatenate(steps), want[:20])


@few
@given(names, precisions, st.lists(ids, min_size=2, max_size=3 if jit.jit_disabled() else 17), st.data())
def test_batches(name: str, precision: str, prompts: list[list[int]], data: st.DataObject) -> None:
    """Beside others, at different lengths and stages of their sequences, every row is what it is alone."""
    run = model(name, precision)
    wants = [whole(run, tokens) for tokens in prompts]
    caches = [run.new_cache() for _ in prompts]
    heads = [data.draw(st.integers(0, len(tokens) - 1)) for tokens in prompts]
    for tokens, cache_, head in zip(prompts, caches, heads, strict=True):
        if head:
            run.forward([(tokens[:head], cache_)])
    segments = [(tokens[head:], cache_) for tokens, cache_, head in zip(prompts, caches, heads, strict=True)]
    for got, want, head in zip(run.forward(segments, rows="all"), wants, heads, strict=True):
        np.testing.assert_array_equal(got, want[head:])


@pytest.mark.parametrize("precision", [name for name in ARITHMETICS if name != "float64"])
def test_every_emulation(precision: str) -> None:
    """At once beside another, and token by token."""
    run = model("toy", precision)
    first, second = [n * n % 268 for n in range(1, 22)], [n * 7 % 268 for n in range(5)]
    want = whole(run, first)
    got, _ = run.forward([(first, run.new_cache()), (second, run.new_cache())], rows="all")
    np.testing.assert_array_equal(got, want)
    singly = run.new_cache()
    np.testing.assert_array_equal(np.concatenate([run.forward([([token], singly)])[0] for token in first]), want)


@few
@given(names, ids, ids, st.data())
def test_forks_and_cuts(name: str, tokens: list[int], others: list[int], data: st.DataObject) -> None:
    """A fork goes on as the original would; what either does stays its own; a cut cache forgets without a trace."""
    run = model(name)
    head = data.draw(st.integers(1, len(tokens)))
    want = whole(run, tokens + others)
    first = run.new_cache()
    run.forward([(tokens[:head], first)])
    second = first.fork()
    run.forward([(others, second)])
    assert (first.length, second.length) == (head, head + len(others))
    got = run.forward([(tokens[head:] + others, first)], rows="all")[0]
    np.testing.assert_array_equal(got, want[head:])
    second.truncate(head)
    got = run.forward([(tokens[head:] + others, second)], rows="all")[0]
    np.testing.assert_array_equal(got, want[head:])
    third = second.fork()
    third.truncate(0)
    np.testing.assert_array_equal(run.forward([(tokens + others, third)], rows="all")[0], want)


@few
@given(names, precisions, ids, ids, st.data())
def test_parts_of_caches(
    name: str, precision: str, tokens: list[int], others: list[int], data: st.DataObject
) -> None:
    """A cache put together from copies of another's runs goes on as the other would, whatever became of that one."""
    run = model(name, precision)
    want = whole(run, tokens + others)
    first, second = run.new_cache(), run.new_cache(data.draw(st.sampled_from([None, 3, 200])))
    run.forward([(tokens, first)])
    cuts = data.draw(st.lists(st.integers(0, len(tokens)), max_size=3))
    edges = sorted({0, len(tokens), *cuts})
    parts = [first.part(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    assert sum(part.nbytes for part in parts) == first.nbytes // first.keys.shape[3] * len(tokens)
    first.truncate(0)
    run.forward([(others, first)])
    last = parts[-1].keys.shape[3]
    keep = data.draw(st.integers(0, last))
    for part in parts[:-1]:
        second.append(part.cut(0, part.keys.shape[3]), part.keys.shape[3])
    second.append(parts[-1], keep)
    head = len(tokens) - last + keep
    got = run.forward([(tokens[head:] + others, second)], rows="all")[0]
    np.testing.assert_array_equal(got, want[head:])


THREADS = """
import sys, threading
from pathlib import Path
from refsample.model.emulations import ARITHMETICS
from refsample.model.load import load_transformer
from refsample_kernels import jit
model, tokens, results = load_transformer(Path(sys.argv[1])), [n * n % 268 for n in range(250)], []
for count in (1, 2):
    jit.set_threads(count)
    for precision in sys.argv[2].split():
        run = model.with_precision(precision)
        results.append(run.forward([(tokens, run.new_cache())], rows="all")[0].tobytes())
half = len(results) // 2
print(jit.threads(), threading.active_count() > 1, *(a == b for a, b in zip(results, results[half:])))
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="no threads with the JIT off")
def test_thread_counts(tmp_path: Path) -> None:
    """In a process of its own, which has two threads whatever this one was started with."""
    folder = write_llama(tmp_path, **CASES["eight_to_one"])
    paths = [str(package.parent) for package in PACKAGES]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(folder), " ".join(PRECISIONS)],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.strip() == " ".join(["2", "True", *("True" for _ in PRECISIONS)]), done.stderr


@pytest.mark.skipif(jit.jit_disabled(), reason="too slow with the JIT off, and nothing to race")
def test_python_threads_share_a_transformer() -> None:
    """Eight threads at once, on a table of angles that is still growing, each get what one alone gets."""
    run = load_transformer(write_llama(Path(mkdtemp(prefix="refsample-test-"))))
    prompts = [np.random.default_rng(n).integers(0, 268, 30 + 25 * n).tolist() for n in range(8)]
    results: dict[int, NDArray[Any]] = {}

    def work(n: int) -> None:
        results[n] = whole(run, prompts[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = model("default")
    for n, tokens in enumerate(prompts):
        np.testing.assert_array_equal(results[n], whole(fresh, tokens))
