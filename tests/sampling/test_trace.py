"""The trace: who was cut, how much mass stayed, how near the decision was, and who is undecidable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from refsample.sampling.edges import NEAR
from tests.sampling.laws import law, law_of, support

STAIR = (0.4, 0.3, 0.2, 0.1)


def test_a_whole_way() -> None:
    dist = law(STAIR, temperature=0.5, min_p=0.1, top_k=2, top_p=0.5, banned_token_ids=(1,))
    trace = dist.trace
    assert [step.name for step in trace.steps] == list(dist.context.semantics.order)
    acted = {step.name: step for step in trace.steps if step.active}
    assert list(acted) == ["mask", "temperature", "min_p", "top_k", "top_p"]
    assert {name: step.cut.tolist() for name, step in acted.items()} == {
        "mask": [1], "temperature": [], "min_p": [3], "top_k": [], "top_p": [2],
    }  # fmt: skip
    # After the mask (.4, 0, .2, .1), squared: (16, 0, 4, 1) / 21; min_p .1 * 16 = 1.6; top_p: 16 / 20 >= .5.
    expected = {"mask": 0.7, "temperature": 1.0, "min_p": 20 / 21, "top_k": 1.0, "top_p": 0.8}
    assert {name: step.mass_kept for name, step in acted.items()} == pytest.approx(expected, abs=1e-12)
    assert acted["top_p"].margin_unit == "probability"
    assert acted["top_p"].margin == pytest.approx(0.3, abs=1e-12)
    assert acted["min_p"].margin == pytest.approx(math.log(1.6), abs=1e-12)
    assert trace.undecidable.size == 0
    np.testing.assert_array_equal(trace.logits, dist.logits)


def test_idle_steps_pass_the_logits_on() -> None:
    trace = law(STAIR, top_k=2).trace
    idle = trace.step("min_p")
    assert (idle.active, idle.cut.size, idle.mass_kept, idle.margin) == (False, 0, 1.0, math.inf)
    assert trace.step("mask").logits is trace.logits
    np.testing.assert_array_equal(trace.step("top_p").logits, trace.step("top_k").logits)
    with pytest.raises(KeyError):
        trace.step("no such")


D = 4e-7  # less than 1e-6
UNDECIDABLE: Sequence[tuple[str, Sequence[float], Mapping[str, Any], Sequence[int]]] = [
    ("top_k, clear", [3, 2, 1, 0], {"top_k": 2}, []),
    ("top_k, near tie", [3, 2, 2 - D, 0], {"top_k": 2}, [1, 2]),
    ("top_k, exact tie", [3, 2, 2, 2], {"top_k": 2}, [1, 2, 3]),
    ("top_k, tie above the cut", [3, 3, 1, 0], {"top_k": 2}, []),
    ("top_k, tie below the cut", [3, 2, 0, 0], {"top_k": 2}, []),
    ("top_k off the end", [3, 2], {"top_k": 2}, []),
    ("greedy, clear", [1, 3, 2], {"temperature": 0}, []),
    ("greedy, near tie", [3, 1, 3 + D], {"temperature": 0}, [0, 2]),
    ("min_p, at the threshold", np.log([0.4, 0.2, 0.1]), {"min_p": 0.5}, [1]),
    ("min_p, two sides", np.log([0.4, 0.2 * (1 + D), 0.2 * (1 - D), 0.1]), {"min_p": 0.5}, [1, 2]),
    ("min_p=1 never cuts the maximum", [3, 3, 3 - D, 2], {"min_p": 1.0}, [2]),
    ("top_p, clear", np.log(STAIR), {"top_p": 0.5}, []),
    ("top_p, hit exactly", np.log(STAIR), {"top_p": 0.4}, [1]),
    ("top_p, hit nearly", np.log(STAIR), {"top_p": 0.7 + D}, [2]),
    ("top_p, tie at the border", np.log((0.4, 0.3, 0.3)), {"top_p": 0.5}, [1, 2]),
    ("top_p=0 keeps the best whatever", np.log(STAIR), {"top_p": 0.0}, []),
    ("typical_p, hit exactly", np.log(STAIR), {"typical_p": 0.3}, [2]),
    ("typical_p, clear", np.log(STAIR), {"typical_p": 0.25}, []),
    ("top_n_sigma, at the threshold", [2, 0, 0, 2, -4], {"top_n_sigma": 2 / np.std([2, 0, 0, 2, -4])}, [1, 2]),
    ("top_n_sigma, clear", [2, 0, 0, 2, -4], {"top_n_sigma": 1.0}, []),
    ("top_a, at the threshold", np.log((0.5, 0.25, 0.125, 0.125)), {"top_a": 0.5}, [2, 3]),
    ("epsilon, at the threshold", np.log(STAIR), {"epsilon_cutoff": 0.2}, [2]),
    ("eta, at the threshold", np.log((0.9, 0.05, 0.05)), {"eta_cutoff": 0.05}, [1, 2]),
    ("xtc, at the threshold", np.log(STAIR), {"xtc_probability": 0.5, "xtc_threshold": 0.2}, [1, 2]),
    ("xtc, clear", np.log(STAIR), {"xtc_probability": 0.5, "xtc_threshold": 0.25}, []),
    ("mirostat, at the threshold", np.log((0.5, 0.25, 0.25)), {"mirostat": 2, "mirostat_tau": 1.0}, [1, 2]),
    ("two cuts", np.log((0.4, 0.2, 0.2, 0.2)), {"min_p": 0.5, "top_k": 2}, [1, 2, 3]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "logits", "params", "expected"), UNDECIDABLE, ids=[row[0] for row in UNDECIDABLE])
def test_undecidable(name: str, logits: Sequence[float], params: Mapping[str, Any], expected: Sequence[int]) -> None:
    assert law_of(logits, **params).boundary.tolist() == list(expected)


KEPT: Sequence[tuple[Sequence[float], float, float, Sequence[int]]] = [
    ([3, 2, 1, 0], 1.0, 1.0, []),
    ([3, 2, 2 - D, 0], 1.0, D, [1, 2]),
    ([3, 2, 1, 0], math.exp(-1.5), 0.5, []),
    ([3, 2, 1 + D, 0], math.exp(-2.0), D, [2]),
]


@pytest.mark.parametrize(("logits", "min_p", "margin", "expected"), KEPT)
def test_min_p_that_has_to_keep_two(
    logits: Sequence[float], min_p: float, margin: float, expected: Sequence[int]
) -> None:
    """Where the threshold leaves fewer than two, the cut is one between ranks."""
    step = law_of(logits, overrides={"min_tokens_to_keep": 2}, min_p=min_p).trace.step("min_p")
    assert step.margin == pytest.approx(margin, abs=1e-9)
    assert step.undecidable.tolist() == list(expected)


@pytest.mark.parametrize("engine", ["reference", "vllm", "llamacpp"])
def test_whoever_a_small_error_moves_is_undecidable(engine: str) -> None:
    """Logits moved by less than 1e-6 / 2 change the support only among the tokens that the boundary names."""
    random = np.random.default_rng(5)
    moved = 0
    for _ in range(300):
        logits = np.round(random.standard_normal(20) * 4) / 2 + random.integers(0, 2, 20) * D / 4
        floor = float(random.choice([0.0, np.exp(-1.0), np.exp(-2.0)]))
        params = {"top_k": int(random.integers(1, 12)), "min_p": floor}
        dist = law_of(logits, engine, **params)
        other = law_of(logits + random.uniform(-NEAR / 4, NEAR / 4, 20), engine, **params)
        changed = np.flatnonzero(dist.support != other.support)
        assert set(changed.tolist()) <= set(dist.boundary.tolist())
        moved += changed.size > 0
    assert moved > 50, "the experiment must move something"


def test_joint_mass_is_of_the_whole() -> None:
    """D05: with a joint base the distance is measured on the mass before top_k."""
    dist = law(STAIR, overrides={"top_p_base": "joint"}, top_k=2, top_p=0.5)
    assert support(dist) == (0, 1)
    assert dist.trace.step("top_p").margin == pytest.approx(0.1, abs=1e-12)


def test_repr_is_short() -> None:
    assert repr(law(STAIR, top_k=2)) == "Distribution(V=4, support=2, {0: 0.5714, 1: 0.4286, 2: 0, ...})"


def test_a_base_far_above_what_is_left() -> None:
    """800 nats on a token that top_k cut: the joint base leaves no mass to speak of for the others, and no overflow."""
    rules = {"order": ["top_k", "logit_bias", "top_p"], "top_p_base": "joint", "bias_clamp": np.inf}
    found = law_of([2.0, 1.0, 0.0], "reference", rules, top_k=2, top_p=0.5, logit_bias={2: 800.0})
    assert found.support.tolist() == [True, True, False]
    edge = found.trace.step("top_p")
    assert edge.margin == pytest.approx(0.5) and edge.undecidable.size == 0
