"""The figures of `noise`: by hand on small laws, and on tiny."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from refsample.errors import ContextLengthError, ParameterError
from refsample.generation.load import load
from refsample.generation.model import Model
from refsample.generation.noise import (
    PASSAGES,
    QUANTILES,
    compare,
    default_prompts,
    logit_error,
    measure,
    summary,
    truth_of,
)

PROMPTS = ("Once upon a time there was a small dog. The dog had a red ball.", [5, 17, 200, 33])


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load("tiny")


def test_compare_by_hand() -> None:
    p, q = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]), np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    found = compare(np.log(p), np.log(q).astype(np.float32) + np.float32(3), np.array([1, 0]))
    np.testing.assert_allclose(found[0, :4], [0.25 * math.log(2), 0, 0.25, math.log(2)], rtol=1e-6)
    assert found[0, 4] == pytest.approx(math.log(2) * math.sqrt(2 / 3), rel=1e-6)
    np.testing.assert_allclose(found[1], [0, 1, 0, 0, 0], atol=1e-6)
    assert found[1, 0] >= 0


def test_kl_of_near_laws_keeps_its_digits() -> None:
    """Second order by hand: KL of a shift e of one of two even logits is e^2 / 8."""
    law = np.log(np.array([[0.5, 0.5]]))
    for e in (1e-3, 1e-5, 1e-7):
        assert compare(law, np.array([[e, 0.0]]), np.array([0]))[0, 0] == pytest.approx(e * e / 8, rel=3e-3)


def test_logit_error_knows_no_shift() -> None:
    base = np.array([1.0, 2.0, 3.0, 4.0])
    assert logit_error(base, base + 7) == pytest.approx(0)
    assert logit_error(base, base + [1, -1, 1, -1]) == pytest.approx(1)


def test_positions_that_overflow_are_counted_and_left_out() -> None:
    law = np.log(np.full((3, 2), 0.5))
    rows = np.array([[0, 0], [np.inf, 0], [np.nan, 1]], np.float32)
    one = summary("f16", compare(law, rows, np.array([0, 1, 1])))
    assert (one.positions, one.not_finite, one.kl, one.same_top) == (1, 2, 0.0, 1.0)
    none = summary("f16", compare(law[1:], rows[1:], np.array([0, 1])))
    assert (none.positions, none.not_finite) == (0, 2) and math.isnan(none.kl) and math.isnan(none.dlogp[0])


def test_measure_is_what_the_laws_say(tiny: Model) -> None:
    truth = truth_of(tiny, PROMPTS)
    first = tiny.prompt_ids(PROMPTS[0])
    assert truth.prompts == (first, (5, 17, 200, 33)) and truth.positions == len(first) - 1 + 3
    heard: list[tuple[str, int]] = []
    exact, rough = measure(tiny, truth, ["float64", "int4-g32"], lambda name, done: heard.append((name, done)))
    assert heard == [("float64", 1), ("float64", 2), ("int4-g32", 1), ("int4-g32", 2)]
    assert (exact.kl, exact.kl_max, exact.rms_dp, exact.dlogp, exact.same_top) == (0, 0, 0, (0,) * len(QUANTILES), 1)
    kls, errors = [], []
    for ids in truth.prompts:
        rows = [tiny.transformer_for(name) for name in ("float64", "int4-g32")]
        logits = [run.forward([(ids, run.new_cache())], rows="all")[0][:-1].astype(np.float64) for run in rows]
        p, q = (one - np.log(np.exp(one).sum(axis=1, keepdims=True)) for one in logits)
        kls += (np.exp(p) * (p - q)).sum(axis=1).tolist()
        errors += np.abs(p - q)[np.arange(len(ids) - 1), ids[1:]].tolist()
    assert rough.kl == pytest.approx(np.mean(kls), rel=1e-9) and rough.kl_max == pytest.approx(max(kls), rel=1e-9)
    assert rough.dlogp[-1] == pytest.approx(max(errors)) and rough.dlogp[0] == pytest.approx(np.median(errors))
    assert 1e-4 < rough.kl < 0.1 and rough.positions == truth.positions and rough.not_finite == 0


def test_default_prompts(tiny: Model) -> None:
    mine = default_prompts(tiny)
    assert len(mine) == 32 and default_prompts(tiny) == mine
    assert default_prompts(replace(tiny, folder=tiny.folder / "elsewhere")) == PASSAGES
    assert all(len(tiny.prompt_ids(text)) > 40 for text in PASSAGES)


def test_adapters_are_measured_over_themselves(tiny: Model) -> None:
    over = load("tiny", adapter="pirate")
    (exact, base) = (truth_of(one, PROMPTS) for one in (over, tiny))
    assert not np.array_equal(exact.laws[0], base.laws[0])
    (one,) = measure(over, exact, ["float32"])
    assert one.kl < 1e-10


def test_refusals(tiny: Model) -> None:
    with pytest.raises(ParameterError, match="at least one prompt"):
        truth_of(tiny, [])
    with pytest.raises(ParameterError, match="prompt 2 needs two tokens or more"):
        truth_of(tiny, ["Once upon", [7]])
    with pytest.raises(ContextLengthError, match="1025 tokens"):
        truth_of(tiny, [[7] * 1025])
    truth = truth_of(tiny, [[7, 8]])
    with pytest.raises(ParameterError, match="precision='fp4': must be one of float32"):
        next(measure(tiny, truth, ["bf16", "fp4"]))
