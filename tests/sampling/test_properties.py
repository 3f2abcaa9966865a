"""Properties of every law, over all rules at once: ties, -inf, outliers, one-token vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.errors import ParameterError
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import decide, distribution, draw
from refsample.spec.types import STEP_NAMES
from refsample_kernels.truncate import HEAD, ROUNDING, keep_min_p, keep_ranked, keep_top_p
from tests.sampling.laws import law_of

# Quarters make ties common, and sums of them exact.
ordinary = st.integers(-40, 40).map(lambda n: n / 4)
outliers = st.sampled_from([-np.inf, -1e30, 1e30, -700.0, 0.0, 5.0])
logit_lists = st.lists(st.one_of(ordinary, ordinary, ordinary, outliers), min_size=1, max_size=40).filter(
    lambda values: max(values) > -np.inf
)
rule_sets = st.fixed_dictionaries(
    {
        "order": st.permutations(STEP_NAMES),
        "top_k_ties": st.sampled_from(["exact_low_id", "keep_all", "exact_any"]),
        "top_p_rule": st.sampled_from(["ge", "gt"]),
        "top_p_ties": st.sampled_from(["low_id", "high_id", "all"]),
        "top_p_base": st.sampled_from(["sequential", "joint"]),
        "min_p_form": st.sampled_from(["logit", "probability"]),
        "min_tokens_to_keep": st.integers(1, 3),
        "temperature_clamp": st.sampled_from([0.0, 0.01]),
        "greedy_below": st.sampled_from([0.0, 1e-5]),
        "repetition_scope": st.sampled_from(["prompt_and_output", "output", "window"]),
        "additive_scope": st.sampled_from(["prompt_and_output", "output", "window"]),
        "penalty_window": st.integers(1, 5),
        "bias_clamp": st.sampled_from([100.0, np.inf]),
        "greedy_logprobs": st.sampled_from(["temperature_one", "collapsed"]),
        "greedy_ties": st.sampled_from(["low_id", "all"]),
        "frequency_form": st.sampled_from(["count", "relative"]),
        "typical_rule": st.sampled_from(["ge", "gt"]),
        "typical_ties": st.sampled_from(["low_id", "all"]),
        "floor_ties": st.sampled_from(["low_id", "all"]),
        "dynatemp_base": st.sampled_from(["possible", "listed"]),
        "top_h_ranks": st.sampled_from([0, 3, 100]),
        "xtc_rule": st.sampled_from(["ge", "gt"]),
        "xtc_ties": st.sampled_from(["one", "all"]),
    }
)
parameter_sets = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 1e-300, 1e-7, 0.3, 0.5, 1.0, 2.0, 1e9]),
        "top_k": st.integers(-1, 45),
        "top_p": st.one_of(st.sampled_from([0.0, 0.5, 0.75, 1.0]), st.floats(0, 1)),
        "min_p": st.one_of(st.sampled_from([0.0, 0.5, 1.0, 5e-324]), st.floats(0, 1)),
        "repetition_penalty": st.sampled_from([0.5, 1.0, 1.25, 2.0]),
        "presence_penalty": st.sampled_from([-2.0, 0.0, 0.5]),
        "frequency_penalty": st.sampled_from([-0.5, 0.0, 2.0]),
    },
)
further_sets = st.fixed_dictionaries(
    {},
    optional={
        "dry_multiplier": st.sampled_from([0.0, 0.8, 1e6]),
        "dry_allowed_length": st.integers(0, 3),
        "dry_penalty_last_n": st.integers(-1, 6),
        "dynatemp_range": st.sampled_from([0.0, 0.25, 1.0]),
        "dynatemp_exponent": st.sampled_from([0.5, 1.0, 2.0]),
        "typical_p": st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
        "top_h": st.one_of(st.sampled_from([0.0, 0.4, 1.0]), st.floats(0, 1)),
        "top_n_sigma": st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0]),
        "tfs_z": st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
        "top_a": st.one_of(st.sampled_from([0.0, 0.2, 1.0]), st.floats(0, 1)),
        "epsilon_cutoff": st.sampled_from([0.0, 3e-4, 0.1, 0.9]),
        "eta_cutoff": st.sampled_from([0.0, 3e-4, 0.1, 0.9]),
        "xtc_probability": st.sampled_from([0.0, 0.5, 1.0]),
        "xtc_threshold": st.sampled_from([0.0, 0.1, 0.5]),
        "mirostat": st.sampled_from([0, 2]),
        "mirostat_tau": st.sampled_from([0.1, 1.0, 5.0]),
    },
)
Params = Mapping[str, Any]


@settings(max_examples=250)
@given(logit_lists, rule_sets, parameter_sets, further_sets, st.data())
def test_a_law_is_a_law(
    logits: list[float], rules: Params, params: Params, further: Params, data: st.DataObject
) -> None:
    """Sums to 1, never outside what was possible, never empty; the trace and the stages agree with it."""
    ids = st.integers(0, len(logits) - 1)
    prompt, output = data.draw(st.lists(ids, max_size=6)), data.draw(st.lists(ids, max_size=6))
    bias = data.draw(st.dictionaries(ids, st.sampled_from([-100.0, -1.0, 2.0, 100.0]), max_size=3))
    banned = data.draw(st.lists(ids, max_size=3))
    assume(any(value > -np.inf for i, value in enumerate(logits) if i not in banned))
    params = {**params, **further}
    try:
        dist = law_of(
            logits, "reference", rules, prompt, output, logit_bias=bias, banned_token_ids=tuple(banned), **params
        )
    except ParameterError as error:
        # A permuted order may truncate to a banned token before it bans it; nothing else may empty a law.
        assert error.parameter == "banned_token_ids" and banned
        return
    assert abs(dist.probs.sum() - 1.0) < 1e-12
    assert (dist.probs >= 0).all() and dist.support.any()
    assert not dist.support[np.isneginf(logits)].any() and not dist.support[banned].any()
    last = dist.trace.steps[-1].logits
    coin = 0.0 < params.get("xtc_probability", 0.0) < 1.0
    assert coin or ((last > -np.inf) >= dist.support).all()
    late = dist.logprobs("post_truncation")
    hot = params.get("temperature", 1.0) >= 0.01 or params.get("dynatemp_range", 0.0) > 0.0
    if hot or rules["greedy_logprobs"] == "collapsed":
        np.testing.assert_allclose(np.exp(late), dist.probs, rtol=1e-9, atol=1e-12)
    for u in (0.0, 0.3, 1.0 - 2.0**-53):
        assert dist.support[draw(dist.probs, u)]
    again = decide(np.array(logits), dist.context.params, prompt, output, dist.context.semantics)
    np.testing.assert_array_equal(again.probs, dist.probs)


@given(logit_lists, rule_sets, parameter_sets, st.sampled_from([-8.0, 0.25, 1024.0]))
def test_a_constant_changes_nothing(logits: list[float], rules: Params, params: Params, constant: float) -> None:
    """Without the repetition penalty, which knows a zero. (Outliers would swallow the constant.)"""
    assume(max(map(abs, (x for x in logits if x > -np.inf)), default=0.0) < 1e3)
    params = {name: value for name, value in params.items() if name != "repetition_penalty"}
    # Dividing by 0.3 and taking logs round differently elsewhere on the line; keep what is exact.
    params |= {"temperature": 1.0, "min_p": 0.0}
    here = law_of(logits, "reference", rules, [0], [0], **params).probs
    there = law_of(np.array(logits) + constant, "reference", rules, [0], [0], **params).probs
    np.testing.assert_array_equal(here > 0, there > 0)
    np.testing.assert_allclose(here, there, rtol=1e-12, atol=0)


@given(logit_lists, st.permutations(range(40)), rule_sets, parameter_sets)
def test_ids_are_names_only(logits: list[float], shuffle: list[int], rules: Params, params: Params) -> None:
    """Renaming tokens renames the law, where no rule breaks ties by id."""
    rules = {**rules, "top_k_ties": "keep_all", "top_p_ties": "all", "min_tokens_to_keep": 1}
    params = {**params, "temperature": params.get("temperature", 1.0) or 1.0}
    order = [i for i in shuffle if i < len(logits)]
    here = law_of(logits, "reference", rules, **params).probs
    there = law_of([logits[i] for i in order], "reference", rules, **params).probs
    np.testing.assert_allclose(here[order], there, rtol=1e-9, atol=1e-300)


@given(logit_lists, rule_sets, st.sampled_from(["top_k", "top_p", "min_p"]), st.data())
def test_supports_are_nested(logits: list[float], rules: Params, name: str, data: st.DataObject) -> None:
    """A stricter value never lets in a token that a milder one kept out."""
    values = {"top_k": st.integers(1, 45), "top_p": st.floats(0, 1), "min_p": st.floats(0, 1)}[name]
    low, high = sorted((data.draw(values), data.draw(values)))
    tight, loose = (high, low) if name == "min_p" else (low, high)
    inside = law_of(logits, "reference", rules, **{name: tight}).support
    outside = law_of(logits, "reference", rules, **{name: loose}).support
    assert (inside <= outside).all()


@given(logit_lists, st.sampled_from([0.25, 0.5, 0.9]), st.sampled_from([1.5, 3.0]))
def test_temperature_keeps_the_ranking(logits: list[float], cold: float, hot: float) -> None:
    """The maximum grows as it gets colder, and equal tokens stay equal."""
    best = int(np.argmax(logits))
    laws = [law_of(logits, temperature=t).probs for t in (cold, 1.0, hot)]
    assert laws[0][best] >= laws[1][best] - 1e-12 >= laws[2][best] - 2e-12
    for probs in laws:
        assert (np.diff(probs[np.argsort(logits, kind="stable")]) >= 0).all()


@given(logit_lists, rule_sets)
def test_greedy_is_the_limit(logits: list[float], rules: Params) -> None:
    rules = {**rules, "temperature_clamp": 0.0, "greedy_ties": "low_id"}
    probs = law_of(logits, "reference", rules, temperature=0.0).probs
    assert probs[int(np.argmax(logits))] == 1.0


# Plain definitions, written as loops over a ranking, against the partitions that run.
def ranking(logits: NDArray[np.float64], ties: str) -> list[int]:
    sign = -1 if ties == "high_id" else 1
    return sorted(np.flatnonzero(logits > -np.inf).tolist(), key=lambda i: (-logits[i], sign * i))


def with_ties(logits: NDArray[np.float64], kept: list[int], ties: str) -> set[int]:
    return set(np.flatnonzero(logits >= logits[kept[-1]]).tolist()) if ties == "all" else set(kept)


def plain_top_p(logits: NDArray[np.float64], p: float, rule: str, ties: str, least: int) -> set[int]:
    ranked = ranking(logits, ties)
    weights = np.exp(logits - logits.max())
    total, above, kept = weights.sum(), 0.0, []
    for token in ranked:
        fits = above / total < p - ROUNDING if rule == "ge" else above / total <= p + ROUNDING
        if not fits and len(kept) >= least:
            break
        kept.append(token)
        above += weights[token]
    return with_ties(logits, kept, ties)


@pytest.mark.parametrize("size", [1, 2, 7, 40, 2 * HEAD, 2 * HEAD + 1, 9000])
@pytest.mark.parametrize("spread", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("ties", ["low_id", "high_id", "all"])
def test_partitions_are_the_definition(size: int, spread: float, ties: str) -> None:
    """Over sizes that take every path of the search, with ties (logits in steps of 1/8) and cut tokens."""
    random = np.random.default_rng([size, int(spread * 100)])
    logits = np.round(random.standard_normal(size) * spread * 8) / 8
    logits[random.random(size) < 0.1] = -np.inf
    logits[0] = 1.0
    for count in (1, 2, 3, size // 2 + 1, size, size + 5):
        expected = with_ties(logits, ranking(logits, ties)[:count], ties)
        assert set(np.flatnonzero(keep_ranked(logits, count, ties)).tolist()) == expected
    for p in (0.0, 0.1, 0.5, 0.9, 0.999, 0.999999):
        for rule, least in (("ge", 1), ("gt", 3)):
            expected = plain_top_p(logits, p, rule, ties, least)
            assert set(np.flatnonzero(keep_top_p(logits, p, rule, ties, least)).tolist()) == expected
    for form in ("logit", "probability"):
        for min_p in (0.01, 0.5, 1.0):
            bound = min_p * (1 - 2 * ROUNDING)
            expected = set(np.flatnonzero(np.exp(logits - logits.max()) >= bound).tolist())
            assert set(np.flatnonzero(keep_min_p(logits, min_p, form)).tolist()) == expected


def test_inputs_are_left_alone() -> None:
    logits = np.array([1.0, 2.0, 3.0])
    dist = distribution(logits, SamplingParams(temperature=0.5, top_k=2, logit_bias={0: 5.0}))
    before = dist.probs.copy()
    assert logits.tolist() == [1.0, 2.0, 3.0]
    logits[:] = 0.0
    np.testing.assert_array_equal(dist.probs, before)
    assert dist.logits.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        dist.probs[0] = 1.0


@pytest.mark.parametrize("name", ["typical_p", "top_h", "eta_cutoff", "dynatemp_range", "top_n_sigma", "top_a"])
def test_logits_that_leave_float64_between_them(name: str) -> None:
    """1.7e308 and its negative: their difference is infinite, the law is (1, 0, 0) all the same, and nothing warns."""
    dist = law_of([1.7e308, -1.7e308, 0.0], **{name: 0.5})
    assert dist.probs.tolist() == [1.0, 0.0, 0.0]
    assert dist.boundary.size == (2 if name == "top_h" else 0)  # a sure thing has no entropy: all of it is at the bound


def test_both_sides_of_a_mixture_have_boundaries() -> None:
    """A tie that only the idle side of XTC's coin meets, and a hit that only the draw without the grammar meets."""
    coin = law_of(np.log([0.4, 0.4, 0.2]), "mlx", xtc_probability=0.5, top_k=1)
    assert coin.boundary.tolist() == [0, 1]
    stair, allowed = np.log([0.4, 0.3, 0.2, 0.1]), [True, False, False, True]
    free = distribution(stair, {"top_p": 0.7}, engine="llamacpp", allowed=allowed)
    assert free.boundary.tolist() == [2]


def test_float32_logits() -> None:
    logits = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    probs = distribution(logits, SamplingParams()).probs
    assert probs.dtype == np.float64
    np.testing.assert_array_equal(probs, law_of([1.0, 2.0, 3.0]).probs)


def test_underflow_is_not_outside_the_support() -> None:
    """800 nats below no float64 holds the probability; the token was not cut all the same."""
    found = law_of([0.0, -8.0, -np.inf], temperature=0.01)
    assert found.probs.tolist() == [1.0, 0.0, 0.0]
    assert found.support.tolist() == [True, True, False]
    assert found.logprobs("post_truncation").tolist() == [0.0, -800.0, -np.inf]
