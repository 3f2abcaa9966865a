"""The sampler against transformers' own logits processors, on fresh random cases."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.data.make_sampler_goldens import FILE, cases, law
from tests.sampling.laws import NOTHING, law_of

pytestmark = pytest.mark.parity


def test_random_cases() -> None:
    decided = 0
    for case in cases(1500, 77):
        found = law_of(case["logits"], "hf", NOTHING, case["history"], **case["params"])
        expected = np.array(law(**case))
        if found.boundary.size:
            continue
        decided += 1
        np.testing.assert_array_equal(found.support, expected > 0)
        np.testing.assert_allclose(found.probs, expected, rtol=1e-11, atol=0)
    assert decided > 1400


def test_the_committed_goldens_are_theirs() -> None:
    import json

    for case in json.loads(FILE.read_text(encoding="utf-8")):
        params = {**case["params"], "logit_bias": {int(k): v for k, v in case["params"]["logit_bias"].items()}}
        np.testing.assert_allclose(law(case["logits"], case["history"], params), case["probs"], rtol=1e-12, atol=0)
