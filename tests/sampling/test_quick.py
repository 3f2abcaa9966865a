"""The kernel for whole rows: what it answers is what the definition answers, for every engine's standard steps."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
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
from refsample.spec.types import Semantics
from refsample_kernels import choose, choose_deep
from refsample_kernels.jit import jit_disabled

F32 = NDArray[np.float32]
REFERENCE = resolve("reference")
SIZES = [1, 2, 15, 40, 128, 129, 300] if jit_disabled() else [1, 2, 40, 128, 129, 300, 1000, 5000]


def shaped(kind: str, size: int, rng: np.random.Generator) -> F32:
    """Logits [V] of a kind that somebody's sampler has tripped over."""
    noise = rng.standard_normal(size)
    made = {
        "normal": noise * 3.0, "heavy": rng.standard_cauchy(size) * 2.0, "equal": np.full(size, 1.5),
        "zeros": np.zeros(size),
        "ascending": np.arange(size) * 0.01, "descending": -np.arange(size) * 0.01,
        "steps": np.round(noise * 2.0), "narrow": 20.0 + noise * 1e-6, "tiny": noise * 1e-30,
        "holes": np.where(rng.random(size) < 0.6, -np.inf, noise), "huge": noise * 1e30,
    }[kind].astype(np.float32)  # fmt: skip
    made[rng.integers(size)] = 2.0  # never all at -inf
    return made


KINDS = ["normal", "heavy", "equal", "zeros", "ascending", "descending", "steps", "narrow", "tiny", "holes", "huge"]


def chosen(row: F32, params: SamplingParams, rules: Semantics, u: float, prompt: Any, output: Any, tops: int) -> Any:
    """What the kernel says; None where it leaves it to the definition."""
    program = quick.program(params, rules, tops)
    if program is None:
        return None
    tally = quick.Tally(program, prompt)
    tally.follow(output)
    return quick.Chooser(program).choose(row[None], np.array([u]), [tally])[0]


def agree(
    row: F32, params: SamplingParams, semantics: Semantics, u: float, prompt: Any, output: Any, tops: int
) -> bool:
    """Assert that the kernel says what the definition says; whether it said anything."""
    found = chosen(row, params, semantics, u, prompt, output, tops)
    if found is None:
        return False
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


STEPS = ("greedy", "temperature", "min_p", "top_k", "top_p")
VALUES: dict[str, list[Any]] = {
    "temperature": [0.0, 1e-6, 0.3, 0.8, 1.0, 2.0, 100.0], "top_k": [0, 1, 2, 50, 256, 257, 300, 700],
    "top_p": [0.0, 1e-12, 0.1, 0.25, 0.5, 0.75, 0.95, 0.9999, 1.0 - 1e-13], "min_p": [0.0, 1e-6, 0.05, 0.5, 1.0],
    "repetition_penalty": [1.0, 1.1, 0.5, 3.0], "frequency_penalty": [0.0, 0.3, -2.0],
    "presence_penalty": [0.0, 0.7, -1.0],
}  # fmt: skip
RULES: dict[str, list[Any]] = {
    "top_p_rule": ["ge", "gt"], "top_p_base": ["joint", "sequential"], "top_p_ties": ["low_id", "high_id", "all"],
    "top_k_ties": ["keep_all", "exact_low_id"], "min_p_form": ["logit", "probability"],
    "min_tokens_to_keep": [1, 2, 300], "rank_rule": ["strict", "ge"], "repetition_scope": ["output"],
    "frequency_form": ["relative"],
}  # fmt: skip


@st.composite
def cases(draws: st.DrawFn) -> tuple[F32, SamplingParams, Semantics, float, list[int], list[int], int]:
    """A row, parameters, rules (an engine's, some changed, the order of its filters too), u, history, logprobs."""
    size = draws(st.sampled_from(SIZES))
    rng = np.random.default_rng(draws(st.integers(0, 2**32)))
    row = shaped(draws(st.sampled_from(KINDS)), size, rng)
    prompt = rng.integers(size, size=draws(st.sampled_from([0, 1, 7, 100]))).tolist()
    output = rng.integers(size, size=draws(st.sampled_from([0, 1, 9, 90]))).tolist()
    given = {name: draws(st.sampled_from(values)) for name, values in VALUES.items() if draws(st.booleans())}
    if size > 2 and draws(st.booleans()):
        given["logit_bias"] = dict(zip(rng.integers(size, size=3).tolist(), (5.0, -100.0, 0.0), strict=True))
    if size > 40 and draws(st.booleans()):
        given["banned_token_ids"] = tuple(rng.choice(size, 2, replace=False).tolist())
    rules = {name: draws(st.sampled_from(values)) for name, values in RULES.items() if draws(st.integers(0, 3)) == 0}
    if draws(st.integers(0, 3)) == 0:
        adjust = ("mask", "logit_bias", "repetition", "frequency", "presence")
        rules["order"] = [*adjust, *draws(st.permutations(STEPS))]
    semantics = resolve(draws(st.sampled_from(sorted(engines()))), {**rules, "logprob_stage": "raw"})
    u = draws(st.floats(0.0, 1.0, exclude_max=True))
    return row, SamplingParams(**given), semantics, u, prompt, output, draws(st.sampled_from([-1, 0, 1, 20]))


SAID = {True: 0, False: 0}
"""How many of the cases below the kernel answered."""


@settings(max_examples=60 if jit_disabled() else 1500, deadline=None)
@given(cases())
def check_cases(case: Any) -> None:
    row, params, semantics, u, prompt, output, tops = case
    try:
        quick.program(params, semantics, tops)
        decide(row, params, prompt, output, semantics)
    except ParameterError:  # no such step in this engine, no token left
        return
    SAID[agree(row, params, semantics, u, prompt, output, tops)] += 1


def test_the_definition() -> None:
    """Whatever the rules are; and most cases, far from usual ones as they are, it does not leave to the definition."""
    check_cases()
    assert SAID[True] > 0.6 * sum(SAID.values()) > 20


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
        said += agree(row, params, REFERENCE, float(rng.random()), history[:256], history[256:], 20)
    # a list of logprobs that ends in -inf, logits that rounding levels: rightly left
    assert said >= (0.9 * runs if kind not in ("tiny", "huge", "holes") else 0.0) and said <= runs


def test_programs_with_the_same_key_say_the_same() -> None:
    """Seeds, biases and bans are not in it; whatever else decides is."""
    reference, vllm = resolve("reference"), resolve("vllm")
    base = SamplingParams(temperature=0.8, top_p=0.9)
    key = keyed(base, reference)
    assert keyed(SamplingParams(temperature=0.8, top_p=0.9), reference) == key
    others = [
        keyed(SamplingParams(temperature=0.8, top_p=0.91), reference),
        keyed(SamplingParams(temperature=0.81, top_p=0.9), reference),
        keyed(SamplingParams(temperature=0.8, top_p=0.9, top_k=7), reference),
        keyed(base, reference, 3), keyed(base, reference, 0), keyed(base, vllm),
        keyed(base, replace(reference, min_tokens_to_keep=2)),
    ]  # fmt: skip
    found = [key, *others]
    assert all(found.count(one) == 1 for one in found)


def keyed(params: SamplingParams, semantics: Semantics, tops: int = -1) -> tuple[object, ...]:
    made = quick.program(params, semantics, tops)
    assert made is not None
    return made.key


@pytest.mark.parametrize("share", [1, 1 << 20], ids=["threads", "one thread"])
@pytest.mark.parametrize("cut", [{"top_k": 20}, {"top_p": 0.99}], ids=["choose", "choose_deep"])
def test_rows_side_by_side(cut: dict[str, Any], share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """R rows at once are R rows one by one, also where their histories differ in length."""
    for module in (choose, choose_deep):
        monkeypatch.setattr(module, "SHARE", share)
    rng = np.random.default_rng(3)
    rows = np.stack([shaped("normal", 300, rng) for _ in range(9)])
    params = SamplingParams(temperature=0.9, repetition_penalty=1.3, **cut)
    program = quick.program(params, resolve("reference"), 5)
    assert program is not None
    tallies = [quick.Tally(program, rng.integers(300, size=7 * r).tolist()) for r in range(9)]
    us = rng.random(9)
    together: Sequence[Any] = quick.Chooser(program).choose(rows, us, tallies)
    alone = [quick.Chooser(program).choose(rows[r : r + 1], us[r : r + 1], [tallies[r]])[0] for r in range(9)]
    assert together == alone and None not in together


def test_the_first_rows_do_not_wait_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "_left", None)
    monkeypatch.setattr(quick, "PATIENCE", 5)
    monkeypatch.setattr(type(choose.choose), "ready", lambda kernel: False)
    assert not quick.pays(9, quick.LARGE - 1)
    assert [quick.pays(2, quick.LARGE) for _ in range(4)] == [False, False, True, True]
    monkeypatch.setattr(quick, "_left", None)
    monkeypatch.setattr(type(choose.choose), "ready", lambda kernel: True)
    assert quick.pays(1, 2)


def test_not_a_number_is_left_to_the_definition() -> None:
    for value in (np.nan, np.inf):
        for place in (0, 17, 299):
            row = np.zeros(300, dtype=np.float32)
            row[place] = value
            assert chosen(row, SamplingParams(), REFERENCE, 0.5, [], [], -1) is None


def test_what_it_does_not_have() -> None:
    assert quick.program(SamplingParams(), REFERENCE) is not None
    assert quick.program(SamplingParams(typical_p=0.5), REFERENCE) is None
    assert quick.program(SamplingParams(allowed_token_ids=(1,)), REFERENCE) is None
    assert quick.program(SamplingParams(), resolve("reference", {"logprob_stage": "post_penalty"}), 0) is None
    late = resolve("reference", {"order": ["temperature", "top_k", "mask"]})
    assert quick.program(SamplingParams(top_k=2, banned_token_ids=(1,)), late) is None


DEEP: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (np.zeros(3000), {"top_k": 1000, "top_p": 0.9995}, {}),  # ties that top_k has cut stay cut
    (np.repeat([0.0, -1.0], [1000, 2000]), {"top_p": 1000.0 / (1000.0 + 2000.0 * np.exp(-1.0))}, {"top_p_rule": "gt"}),
    (np.repeat([5.0, -300.0], [1, 2999]), {"top_k": 700, "temperature": 0.01, "repetition_penalty": 1e306}, {}),
    (np.repeat([3e20, -5.0], [2, 998]), {"top_p": 0.8}, {"top_p_base": "joint"}),
    (np.zeros(1000), {"top_p": 0.5, "top_k": 3}, {"order": ["top_p", "top_k"], "top_p_ties": "high_id"}),
    (np.array([1e-3] * 300), {"min_p": 1.0, "temperature": 1e9}, {}),
    (np.linspace(0.0, -1e-38, 400), {"top_k": 300, "temperature": 100.0}, {}),
]


@pytest.mark.parametrize(("row", "given", "rules"), DEEP)
def test_what_it_once_got_wrong(row: Any, given: dict[str, Any], rules: dict[str, Any]) -> None:
    params, semantics = SamplingParams(**given), resolve("reference", rules)
    for u in (0.1, 0.37, 0.8, 0.999):
        agree(row.astype(np.float32), params, semantics, u, [0], [], -1)


def test_rows_are_taken_together_only_where_they_lie_together() -> None:
    block = np.zeros((4, 7), np.float32)
    rows = [block[i : i + 1] for i in range(4)]
    found = quick.together(rows[1:3])
    assert found is not None and found.shape == (2, 7) and np.shares_memory(found, block)
    for apart in (rows[::2], [rows[1], rows[0]], [row.copy() for row in rows], [row.astype(float) for row in rows]):
        assert quick.together(apart) is None
    assert quick.together([np.zeros(15, np.float32)[:14].reshape(2, 7)[i : i + 1] for i in range(2)]) is None


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
