"""Logprobs: the five stages, ranks, lists of alternatives, and how -inf is shown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.errors import ParameterError
from refsample.sampling.logprobs import from_values, rendered, token_logprobs
from refsample.sampling.semantics import resolve
from refsample.spec.types import STAGES, Stage
from refsample_kernels.topn import top_n
from tests.sampling.laws import NOTHING, law, law_of

REFERENCE = resolve("reference")
VLLM_LIST = resolve("reference", {"top_logprobs_rule": "sampled_first_cut_n_plus_1"})
INF = np.inf


def log_softmax(logits: list[float]) -> np.ndarray:
    array = np.array(logits)
    return array - np.log(np.exp(array - array.max()).sum()) - array.max()


ALL = {"banned_token_ids": (4,), "logit_bias": {0: 1.0}, "presence_penalty": 2.0, "temperature": 0.5, "top_k": 2}
# Token 3 was emitted once.
BY_STAGE: Mapping[Stage, list[float]] = {
    "raw": [3.0, 2.0, 1.0, 4.0, 0.0],
    "raw_grammar": [3.0, 2.0, 1.0, 4.0, 0.0],
    "raw_masked": [3.0, 2.0, 1.0, 4.0, -INF],
    "post_penalty": [4.0, 2.0, 1.0, 2.0, -INF],
    "post_temperature": [8.0, 4.0, 2.0, 4.0, -INF],
    "post_truncation": [8.0, 4.0, -INF, -INF, -INF],
}


@pytest.mark.parametrize("stage", STAGES)
def test_stages(stage: Stage) -> None:
    dist = law_of([3.0, 2.0, 1.0, 4.0, 0.0], output=[3], **ALL)
    np.testing.assert_allclose(dist.logprobs(stage), log_softmax(BY_STAGE[stage]), rtol=0, atol=1e-12)
    by_engine = law_of([3.0, 2.0, 1.0, 4.0, 0.0], overrides={"logprob_stage": stage}, output=[3], **ALL)
    np.testing.assert_array_equal(by_engine.logprobs(), dist.logprobs(stage))


def test_last_stage_is_the_law() -> None:
    dist = law_of([3.0, 2.0, 1.0, 4.0, 0.0], output=[3], **ALL)
    np.testing.assert_allclose(np.exp(dist.logprobs("post_truncation")), dist.probs, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(dist.logprobs("raw"), dist.raw_logprobs)


def test_a_stage_is_a_place_in_the_order() -> None:
    """Where temperature comes last, what is read after it is cut already."""
    dist = law((0.4, 0.3, 0.2, 0.1), "llamacpp", temperature=0.5, top_p=0.5)
    np.testing.assert_allclose(np.exp(dist.logprobs("post_temperature")), (0.64, 0.36, 0, 0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.exp(dist.logprobs("post_penalty")), (0.4, 0.3, 0.2, 0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stage", STAGES)
def test_greedy_logprobs_are_at_temperature_one(stage: Stage) -> None:
    """D18: an engine that reads logprobs late does not divide by 0 and does not cut."""
    dist = law_of([3.0, 2.0, 1.0], temperature=0, top_k=1, top_p=0.1)
    assert dist.probs.tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(dist.logprobs(stage), log_softmax([3.0, 2.0, 1.0]), rtol=0, atol=1e-12)


def test_greedy_logprobs_see_penalties() -> None:
    dist = law_of([3.0, 2.0, 1.0], output=[0], temperature=0, presence_penalty=2.0)
    assert dist.probs.tolist() == [0.0, 1.0, 0.0]
    np.testing.assert_allclose(dist.logprobs("post_temperature"), log_softmax([1.0, 2.0, 1.0]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dist.logprobs("raw"), log_softmax([3.0, 2.0, 1.0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("engine", "overrides"), [("llamacpp", NOTHING), ("vllm", {"greedy_logprobs": "collapsed"})])
def test_greedy_logprobs_collapsed(engine: str, overrides: Mapping[str, object]) -> None:
    dist = law_of([3.0, 2.0, 1.0], engine, overrides, temperature=0)
    assert dist.logprobs("post_truncation").tolist() == [0.0, -INF, -INF]
    assert dist.logprobs("post_temperature").tolist() == [0.0, -INF, -INF]
    np.testing.assert_allclose(dist.logprobs("post_penalty"), log_softmax([3.0, 2.0, 1.0]), rtol=0, atol=1e-12)


def test_an_unknown_stage() -> None:
    with pytest.raises(ParameterError, match="logprob_stage='cooked': must be one of raw, "):
        law((0.5, 0.5)).logprobs("cooked")  # type: ignore[arg-type]


VALUES = np.log([0.1, 0.3, 0.2, 0.3, 0.1])


@pytest.mark.parametrize(
    ("token", "strict", "ge"), [(0, 4, 5), (1, 1, 2), (2, 3, 3), (3, 1, 2), (4, 4, 5)]
)
def test_ranks(token: int, strict: int, ge: int) -> None:
    assert from_values(VALUES, token, 0, REFERENCE).rank == strict
    assert from_values(VALUES, token, 0, resolve("vllm")).rank == ge


@pytest.mark.parametrize(
    ("token", "n", "ranked", "sampled_first"),
    [
        (1, 0, [], [1]),
        (1, 1, [1], [1]),
        (3, 1, [1], [3, 1]),
        (1, 2, [1, 3], [1, 3]),
        (4, 2, [1, 3], [4, 1, 3]),
        (4, 4, [1, 3, 2, 0], [4, 1, 3, 2, 0]),
        (4, 5, [1, 3, 2, 0, 4], [4, 1, 3, 2, 0]),
        (4, 20, [1, 3, 2, 0, 4], [4, 1, 3, 2, 0]),
    ],
)
def test_alternatives(token: int, n: int, ranked: list[int], sampled_first: list[int]) -> None:
    found = from_values(VALUES, token, n, REFERENCE)
    assert [i for i, _ in found.top] == ranked
    assert [i for i, _ in from_values(VALUES, token, n, VLLM_LIST).top] == sampled_first
    assert all(value == VALUES[i] for i, value in found.top)
    assert (found.token_id, found.logprob) == (token, VALUES[token])


def test_token_logprobs_reads_the_engines_stage() -> None:
    dist = law((0.4, 0.3, 0.2, 0.1), temperature=0.5, top_k=2)
    late = resolve("reference", {"logprob_stage": "post_truncation"})
    np.testing.assert_allclose(token_logprobs(dist, 1, 1, REFERENCE).logprob, np.log(0.3), rtol=0, atol=1e-12)
    found = token_logprobs(dist, 1, 3, late)
    np.testing.assert_allclose(found.logprob, np.log(0.36), rtol=0, atol=1e-12)
    assert [i for i, _ in found.top] == [0, 1, 2]
    assert found.top[2][1] == -INF


@pytest.mark.parametrize(
    ("engine", "value", "shown"),
    [
        ("reference", -INF, -9999.0),
        ("reference", -1e5, -9999.0),
        ("reference", -2.5, -2.5),
        ("vllm", -INF, -9999.0),
        ("llamacpp", -INF, float(np.finfo(np.float32).min)),
        ("llamacpp", -1e5, -1e5),
    ],
)
def test_rendering(engine: str, value: float, shown: float) -> None:
    assert rendered(value, resolve(engine)) == shown


@given(
    st.lists(st.sampled_from([-INF, -2.0, -1.0, 0.0, 3.5]), min_size=1, max_size=25), st.integers(0, 30)
)
def test_top_n_is_a_sort(values: list[float], n: int) -> None:
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:n]
    assert top_n(np.array(values), n).tolist() == expected
