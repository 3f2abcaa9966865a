"""A grammar's mask in the sampler: where it cuts, what logprobs see of it, and what is said when nothing is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refsample.errors import ParameterError
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import Distribution, decide, distribution, draws
from refsample.sampling.semantics import resolve
from refsample.spec.types import Stage

INF = np.inf
STAIR = np.log([0.5, 0.3, 0.15, 0.05])


def masked(allowed: Sequence[bool], engine: str = "reference", **params: Any) -> Distribution:
    return distribution(STAIR, SamplingParams(**params), engine=engine, allowed=allowed)


def test_truncation_sees_what_the_grammar_left() -> None:
    """D20: token 0 illegal, k = 2, the mask first: 2/3 and 1/3 on tokens 1 and 2."""
    found = masked([False, True, True, True], top_k=2)
    np.testing.assert_allclose(found.probs, [0, 2 / 3, 1 / 3, 0], rtol=0, atol=1e-15)
    assert found.support.tolist() == [False, True, True, False]
    step = found.trace.step("mask")
    assert (step.active, step.cut.tolist()) == (True, [0])
    assert step.mass_kept == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize(
    ("allowed", "params", "expected"),
    [
        # D20 as it ran on llama.cpp: .375 at once, and .625 times (2/3, 1/3) at the second try.
        ([False, True, True, True], {"top_k": 2}, [0, 0.375 + 0.625 * 2 / 3, 0.625 / 3, 0]),
        ([False, False, True, True], {"top_k": 2}, [0, 0, 0.75, 0.25]),
        ([True, True, False, True], {"top_k": 2}, [0.625, 0.375, 0, 0]),
        ([False, True, True, True], {}, [0, 0.6, 0.3, 0.1]),
        ([False, True, False, True], {"temperature": 0}, [0, 1, 0, 0]),
        ([True, False, True, True], {"temperature": 0}, [1, 0, 0, 0]),
        (
            [False, True, True, True],
            {"top_k": 2, "banned_token_ids": (1,)},
            [0, 0, 0.15 / 0.65 + 0.5 / 0.65 * 0.75, 0.5 / 0.65 * 0.25],
        ),
    ],
)
def test_llamacpp_draws_again(allowed: Sequence[bool], params: Mapping[str, Any], expected: Sequence[float]) -> None:
    """Draw without the grammar; where the token does not fit, the whole chain again behind its mask."""
    found = masked(allowed, "llamacpp", **params)
    np.testing.assert_allclose(found.probs, expected, rtol=0, atol=1e-14)
    assert ((np.array(expected) > 0) == found.support).all()
    by_rule = distribution(
        STAIR, SamplingParams(**params), engine=resolve("llamacpp", {"grammar_rule": "mask"}), allowed=allowed
    )
    cut = distribution(np.where(allowed, STAIR, -INF), SamplingParams(**params), engine="llamacpp")
    np.testing.assert_array_equal(by_rule.probs, cut.probs)


def test_drawing_again_is_two_draws() -> None:
    """The law against the experiment it stands for."""
    random = np.random.default_rng(8)
    logits, allowed = random.standard_normal(12), random.random(12) < 0.5
    asked = SamplingParams(top_p=0.8, temperature=0.7)
    law = distribution(logits, asked, engine="llamacpp", allowed=allowed)
    free = distribution(logits, asked, engine="llamacpp")
    cut = distribution(np.where(allowed, logits, -INF), asked, engine="llamacpp")
    us, again = random.random(200_000), random.random(200_000)
    tokens = draws(free.probs, us)
    tokens = np.where(allowed[tokens], tokens, draws(cut.probs, again))
    found = np.bincount(tokens, minlength=12) / tokens.size
    np.testing.assert_allclose(found, law.probs, rtol=0, atol=0.005)
    assert 0.1 < np.mean(~allowed[draws(free.probs, us)]) < 0.9, "the experiment must draw again"


@given(
    st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=20),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.sampled_from(["reference", "vllm"]),
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.sampled_from([0.0, 0.5, 2.0]),
            "top_k": st.integers(0, 8),
            "top_p": st.sampled_from([0.3, 0.9]),
            "min_p": st.sampled_from([0.1, 0.6]),
            "presence_penalty": st.sampled_from([1.5]),
            "repetition_penalty": st.sampled_from([1.25]),
        },
    ),
)
def test_a_mask_is_a_logit_of_minus_infinity(
    logits: list[float], flags: list[bool], engine: str, params: Mapping[str, Any]
) -> None:
    """Where the mask comes first, the law is that of a model that gives the others no chance, bit for bit."""
    allowed = np.array(flags[: len(logits)])
    assume(allowed.any())
    asked = SamplingParams(**params)
    found = distribution(logits, asked, [0], [0], engine, allowed=allowed)
    plain = distribution(np.where(allowed, logits, -INF), asked, [0], [0], engine)
    np.testing.assert_array_equal(found.probs, plain.probs)
    np.testing.assert_array_equal(found.final, plain.final)
    np.testing.assert_array_equal(found.logits, logits)


@pytest.mark.parametrize(
    ("stage", "logits"),
    [
        ("raw", [0.0, 1.0, 2.0, 3.0]),
        ("raw_grammar", [0.0, 1.0, 2.0, -INF]),
        ("raw_masked", [-INF, 1.0, 2.0, -INF]),
        ("post_penalty", [-INF, 2.0, 2.0, -INF]),
    ],
)
def test_stages_with_a_grammar(stage: Stage, logits: list[float]) -> None:
    """D19: the grammar is in vLLM's raw logprobs, allowed and banned ids are not; llama.cpp's hold neither."""
    asked = SamplingParams(banned_token_ids=(0,), logit_bias={1: 1.0})
    found = distribution([0.0, 1.0, 2.0, 3.0], asked, allowed=[True, True, True, False])
    expected = np.array(logits) - np.log(np.exp(logits).sum())
    np.testing.assert_allclose(found.logprobs(stage), expected, rtol=0, atol=1e-12)
    assert resolve("vllm").logprob_stage == "raw_grammar"
    assert resolve("llamacpp").logprob_stage == "raw"


def test_no_bias_brings_a_token_back() -> None:
    assert masked([True, True, False, True], "vllm", logit_bias={2: 100.0}).probs[2] == 0.0


def test_everything_allowed_is_no_mask() -> None:
    plain = distribution(STAIR, SamplingParams(top_p=0.8))
    np.testing.assert_array_equal(masked([True] * 4, top_p=0.8).probs, plain.probs)


@pytest.mark.parametrize(
    ("allowed", "params", "words"),
    [
        ([False] * 4, {}, "allowed=0: leaves no token that could be drawn"),
        ([True, False, False, False], {"banned_token_ids": (0,)}, "banned_token_ids=.*of the 1 that the grammar"),
        ([True, True, False, False], {"allowed_token_ids": (3,)}, "allowed_token_ids=.*of the 2 that the grammar"),
    ],
)
def test_nothing_left(allowed: list[bool], params: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        masked(allowed, **params)


@pytest.mark.parametrize("allowed", [[True, True], [1, 1, 1, 1], [[True] * 4], "yes", True])
def test_masks_are_checked(allowed: Any) -> None:
    with pytest.raises(ParameterError, match="allowed=.*must be 4 booleans"):
        masked(allowed)


def test_an_engine_without_a_mask_refuses_a_grammar() -> None:
    order = tuple(name for name in resolve("reference").order if name != "mask")
    with pytest.raises(ParameterError, match="allowed=1: this engine has no such step"):
        distribution([0.0, 1.0], None, engine=resolve("reference", {"order": order}), allowed=[True, False])


def test_the_callers_mask_is_copied_at_the_door_only() -> None:
    mask = np.array([True, False, True, True])
    found = distribution(STAIR, None, allowed=mask)
    again = decide(STAIR, SamplingParams(), (), (), resolve("reference"), mask)
    np.testing.assert_array_equal(found.probs, again.probs)
    mask[:] = True
    assert found.trace.step("mask").cut.tolist() == [1]
