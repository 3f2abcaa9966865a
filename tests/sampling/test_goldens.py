"""Committed laws from transformers' own processors (made by `tests/data/make_sampler_goldens.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sampling.laws import NOTHING, law_of

CASES = json.loads((Path(__file__).parents[1] / "data" / "sampler_hf.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[str(i) for i in range(len(CASES))])
def test_transformers(case: dict[str, Any]) -> None:
    bias = {int(token): value for token, value in case["params"]["logit_bias"].items()}
    found = law_of(case["logits"], "hf", NOTHING, case["history"], **{**case["params"], "logit_bias": bias})
    expected = np.array(case["probs"])
    assert found.boundary.size == 0, "a golden must be decidable"
    np.testing.assert_array_equal(found.support, expected > 0)
    np.testing.assert_allclose(found.probs, expected, rtol=1e-12, atol=0)


def test_the_goldens_bite() -> None:
    """They are not all one survivor, nor all untouched."""
    sizes = {sum(p > 0 for p in case["probs"]) for case in CASES}
    assert len(sizes) > 5 and min(sizes) == 1 and max(sizes) > 8
