"""The kernel for whole rows: what it answers is what the definition answers, for every engine's standard steps."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.errors import ParameterError
from refsample.sampling import quick
from refsample.sampling.logprobs import token_logprobs
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import decide, draw
from refsample.sampling.semantics import resolve
from refsample.spec.load import engines
from refsample_kernels.jit import jit_disabled

F32 = NDArray[np.float32]
SIZES = [1, 2, 15, 40, 128, 129, 300] if jit_disabled() else [1, 2, 40, 128, 129, 300, 1000, 5000]


def shaped(kind: str, size: int, rng: np.random.Generator) -> F32:
    """Logits [V] of a kind that somebody's sampler has tripped over."""
    noise = rng.standard_normal(size)
    made = {
        "normal": noise * 3.0, "heavy": rng.standard_cauchy(size) * 2.0, "equal": np.full(size, 1.5),
        "ascending": np.arange(size) * 0.01, "descending": -np.arange(size) * 0.01,
        "steps": np.round(noise * 2.0), "narrow": 20.0 + noise * 1e-6, "tiny": noise * 1e-30,
        "holes": np.where(rng.random(size) < 0.6, -np.inf, noise), "huge": noise * 1e30,
    }[kind].astype(np.float32)  # fmt: skip
    made[rng.integers(size)] = 2.0  # never all at -inf
    return made


KINDS = ["normal", "heavy", "equal", "ascending", "descending", "steps", "narrow", "tiny", "holes", "huge"]


def chosen(row: F32, params: SamplingParams, engine: str, u: float, prompt: Any, output: Any, tops: int) -> Any:
    """What the kernel says; None where it leaves it to the definition."""
    program = quick.program(params, resolve(engine), tops)
    if program is None:
        return None
    tally = quick.Tally(program, prompt)
    tally.follow(output)
    return quick.Chooser(program).choose(row[None], np.array([u]), [tally])[0]


def agree(row: F32, params: SamplingParams, engine: str, u: float, prompt: Any, output: Any, tops: int) -> bool:
    """Assert that the kernel says what the definition says; whether it said anything."""
    found = chosen(row, params, engine, u, prompt, output, tops)
    if found is None:
        return False
    semantics = resolve(engine)
    law = decide(row, params, prompt, output, semantics)
    assert found.token_id == draw(law.probs, u)
    assert found.kept == np.count_nonzero(law.support)
    if tops < 0:
        assert found.logprobs is None
        return True
    want = token_logprobs(law, found.token_id, tops, semantics)
    assert (found.logprobs.token_id, found.logprobs.rank) == (want.token_id, want.rank)
    assert [i for i, _ in found.logprobs.top] == [i for i, _ in want.top]
    values, wanted = ([*(v for _, v in one.top), one.logprob] for one in (found.logprobs, want))
    np.testing.assert_allclose(values, wanted, rtol=4e-15, atol=4e-15)
    return True


@st.composite
def cases(draws: st.DrawFn) -> tuple[F32, SamplingParams, str, float, list[int], list[int], int]:
    size = draws(st.sampled_from(SIZES))
    rng = np.random.default_rng(draws(st.integers(0, 2**32)))
    row = shaped(draws(st.sampled_from(KINDS)), size, rng)
    prompt = rng.integers(size, size=draws(st.sampled_from([0, 1, 7, 100]))).tolist()
    output = rng.integers(size, size=draws(st.sampled_from([0, 1, 9, 90]))).tolist()
    some = {
        "temperature": st.sampled_from([0.0, 1e-6, 0.3, 0.8, 1.0, 2.0, 100.0]),
        "top_k": st.sampled_from([0, 1, 2, 50, 300]), "top_p": st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        "repetition_penalty": st.sampled_from([1.0, 1.1, 0.5, 3.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.3, -2.0]), "presence_penalty": st.sampled_from([0.0, 0.7, -1.0]),
    }  # fmt: skip
    given = {name: draws(values) for name, values in some.items() if draws(st.booleans())}
    if size > 2 and draws(st.booleans()):
        ids = rng.integers(size, size=3).tolist()
        given["logit_bias"] = dict(zip(ids, (5.0, -100.0, 0.0), strict=True))
    if size > 40 and draws(st.booleans()):
        given["banned_token_ids"] = tuple(rng.choice(size, 2, replace=False).tolist())
    params = SamplingParams(**given)
    engine = draws(st.sampled_from(sorted(engines())))
    return row, params, engine, draws(st.floats(0.0, 1.0, exclude_max=True)), prompt, output, draws(
        st.sampled_from([-1, 0, 1, 20])
    )


@settings(max_examples=40 if jit_disabled() else 800, deadline=None)
@given(cases())
def test_the_definition(case: Any) -> None:
    row, params, engine, u, prompt, output, tops = case
    try:
        quick.program(params, resolve(engine), tops)
        decide(row, params, prompt, output, resolve(engine))
    except ParameterError:  # no such step in this engine, no token left
        return
    agree(row, params, engine, u, prompt, output, tops)


@pytest.mark.parametrize("settings", [{"top_k": 50, "min_p": 0.05}, {}, {"top_k": 700, "min_p": 0.001}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_it_seldom_asks(kind: str, settings: dict[str, Any]) -> None:
    """Of usual settings the definition decides next to none, whatever the logits are like."""
    size, runs = (200, 5) if jit_disabled() else (3000, 40)
    rng = np.random.default_rng(7)
    params = SamplingParams(
        temperature=0.8, top_p=0.95, repetition_penalty=1.1, frequency_penalty=0.1, presence_penalty=0.2, **settings
    )
    said = 0
    for _ in range(runs):
        row, history = shaped(kind, size, rng), rng.integers(size, size=512).tolist()
        said += agree(row, params, "reference", float(rng.random()), history[:256], history[256:], 20)
    # a list that ends in -inf, a spread that rounding levels, logits equal but for rounding: rightly left
    assert said >= (0 if kind in ("tiny", "huge", "holes") else 0.9 * runs)


def test_rows_side_by_side() -> None:
    """R rows at once are R rows one by one, also where their histories differ in length."""
    rng = np.random.default_rng(3)
    rows = np.stack([shaped("normal", 300, rng) for _ in range(9)])
    params = SamplingParams(temperature=0.9, top_k=20, repetition_penalty=1.3)
    program = quick.program(params, resolve("reference"), 5)
    assert program is not None
    tallies = [quick.Tally(program, rng.integers(300, size=7 * r).tolist()) for r in range(9)]
    us = rng.random(9)
    together: Sequence[Any] = quick.Chooser(program).choose(rows, us, tallies)
    alone = [quick.Chooser(program).choose(rows[r : r + 1], us[r : r + 1], [tallies[r]])[0] for r in range(9)]
    assert together == alone and None not in together


def test_not_a_number_is_left_to_the_definition() -> None:
    for value in (np.nan, np.inf):
        for place in (0, 17, 299):
            row = np.zeros(300, dtype=np.float32)
            row[place] = value
            assert chosen(row, SamplingParams(), "reference", 0.5, [], [], -1) is None


def test_what_it_does_not_have() -> None:
    for params, engine in (({"typical_p": 0.5}, "reference"), ({}, "reference")):
        made = quick.program(SamplingParams(**params), resolve(engine))
        assert (made is None) == bool(params)
    assert quick.program(SamplingParams(allowed_token_ids=(1,)), resolve("reference")) is None
    assert quick.program(SamplingParams(), resolve("reference", {"logprob_stage": "post_penalty"}), 0) is None


def test_a_window_forgets() -> None:
    rules = resolve("llamacpp", {"penalty_window": 3})
    program = quick.program(SamplingParams(repetition_penalty=2.0, frequency_penalty=1.0), rules)
    assert program is not None
    tally = quick.Tally(program, [5, 5, 6])
    tally.follow([7])
    counts = dict(zip(tally.names[: tally.size].tolist(), tally.counts.tolist(), strict=False))
    assert counts == {5: 1, 6: 1, 7: 1}
    tally.follow([7, 7])
    assert tally.counts[: tally.size].tolist() == [0, 1, 2]


@pytest.mark.skipif(jit_disabled(), reason="plain Python takes memory as it goes")
def test_a_step_takes_no_memory_that_grows_with_the_vocabulary() -> None:
    row = shaped("normal", 128_256, np.random.default_rng(1))[None]
    params = SamplingParams(temperature=0.8, top_k=50, top_p=0.95, min_p=0.05, repetition_penalty=1.1)
    program = quick.program(params, resolve("reference"), 20)
    assert program is not None
    tally, chooser, us = quick.Tally(program, range(512)), quick.Chooser(program), np.array([0.3])
    chooser.choose(row, us, [tally])
    tracemalloc.start()
    try:
        for _ in range(3):
            chooser.choose(row, us, [tally])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 64_000
