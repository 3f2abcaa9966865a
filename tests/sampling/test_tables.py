"""Hand-worked tables: parameter, the model's probabilities, what is left. One line a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.sampling.laws import law, law_of

FLAT, STAIR, TIED, LONG = (0.25,) * 4, (0.4, 0.3, 0.2, 0.1), (0.4, 0.2, 0.2, 0.2), (0.5, 0.25, 0.125, 0.0625, 0.0625)

PARAMETERS: Sequence[tuple[str, Sequence[float], Mapping[str, object], Sequence[float]]] = [
    ("nothing", STAIR, {}, STAIR),
    ("T=1", STAIR, {"temperature": 1}, STAIR),
    ("T=.5 squares", STAIR, {"temperature": 0.5}, (16 / 30, 9 / 30, 4 / 30, 1 / 30)),
    ("T=2 is a root", (0.64, 0.36), {"temperature": 2}, (8 / 14, 6 / 14)),
    ("T=1e13 is flat", STAIR, {"temperature": 1e13}, FLAT),
    ("T=1e300 is flat", STAIR, {"temperature": 1e300}, FLAT),
    ("T=1e-9 is the maximum", STAIR, {"temperature": 1e-9}, (1, 0, 0, 0)),
    ("T=1e-300 does not overflow", STAIR, {"temperature": 1e-300}, (1, 0, 0, 0)),
    ("T=1e-300, two maxima share", (0.4, 0.4, 0.2), {"temperature": 1e-300}, (0.5, 0.5, 0)),
    ("T=0 is the maximum", STAIR, {"temperature": 0}, (1, 0, 0, 0)),
    ("T=0 takes the lowest id of two", (0.2, 0.4, 0.4), {"temperature": 0}, (0, 1, 0)),
    ("T=0 and all filters", STAIR, {"temperature": 0, "top_k": 3, "top_p": 0.1, "min_p": 1.0}, (1, 0, 0, 0)),
    ("top_k=1", STAIR, {"top_k": 1}, (1, 0, 0, 0)),
    ("top_k=2", STAIR, {"top_k": 2}, (4 / 7, 3 / 7, 0, 0)),
    ("top_k=0 is off", STAIR, {"top_k": 0}, STAIR),
    ("top_k=-1 is off", STAIR, {"top_k": -1}, STAIR),
    ("top_k=V", STAIR, {"top_k": 4}, STAIR),
    ("top_k>V", STAIR, {"top_k": 10**9}, STAIR),
    ("top_k ties: exactly k, lowest id", TIED, {"top_k": 2}, (2 / 3, 1 / 3, 0, 0)),
    ("top_k=1 of all equal", FLAT, {"top_k": 1}, (1, 0, 0, 0)),
    ("top_k, fewer than k possible", (0.5, 0.5, 0, 0), {"top_k": 3}, (0.5, 0.5, 0, 0)),
    ("top_p=1 is off", STAIR, {"top_p": 1}, STAIR),
    ("top_p=0 keeps the best", STAIR, {"top_p": 0}, (1, 0, 0, 0)),
    ("top_p=.39", STAIR, {"top_p": 0.39}, (1, 0, 0, 0)),
    ("top_p=.4 is hit exactly", STAIR, {"top_p": 0.4}, (1, 0, 0, 0)),
    ("top_p=.41 keeps the crossing token", STAIR, {"top_p": 0.41}, (4 / 7, 3 / 7, 0, 0)),
    ("top_p=.7 is hit exactly", STAIR, {"top_p": 0.7}, (4 / 7, 3 / 7, 0, 0)),
    ("top_p=.71", STAIR, {"top_p": 0.71}, (4 / 9, 3 / 9, 2 / 9, 0)),
    ("top_p=.95", STAIR, {"top_p": 0.95}, STAIR),
    ("top_p ties: lowest id", TIED, {"top_p": 0.5}, (2 / 3, 1 / 3, 0, 0)),
    ("top_p unsorted input", (0.1, 0.4, 0.2, 0.3), {"top_p": 0.6}, (0, 4 / 7, 0, 3 / 7)),
    ("min_p=0 is off", STAIR, {"min_p": 0}, STAIR),
    ("min_p=.5: equality stays", STAIR, {"min_p": 0.5}, (4 / 9, 3 / 9, 2 / 9, 0)),
    ("min_p=.51", STAIR, {"min_p": 0.51}, (4 / 7, 3 / 7, 0, 0)),
    ("min_p=1 keeps the maxima", (0.4, 0.4, 0.2), {"min_p": 1}, (0.5, 0.5, 0)),
    ("min_p, then top_k, then top_p", LONG, {"min_p": 0.2, "top_k": 2, "top_p": 0.7}, (2 / 3, 1 / 3, 0, 0, 0)),
    ("top_p of what top_k left", STAIR, {"top_k": 2, "top_p": 0.57}, (1, 0, 0, 0)),
    ("top_k, no top_p cut", STAIR, {"top_k": 2, "top_p": 0.58}, (4 / 7, 3 / 7, 0, 0)),
    ("bias ln 2", STAIR, {"logit_bias": {3: np.log(2)}}, (4 / 11, 3 / 11, 2 / 11, 2 / 11)),
    ("bias is clamped at 100", (0.5, 0.5), {"logit_bias": {0: 1e6, 1: 100}}, (0.5, 0.5)),
    ("bias of -inf is clamped too", (0.5, 0.5), {"logit_bias": {0: -np.inf, 1: -100}}, (0.5, 0.5)),
    ("bias cannot raise the impossible", (0.5, 0.5, 0), {"logit_bias": {2: 100}}, (0.5, 0.5, 0)),
    ("allowed", STAIR, {"allowed_token_ids": (1, 3)}, (0, 0.75, 0, 0.25)),
    ("banned", STAIR, {"banned_token_ids": (0,)}, (0, 1 / 2, 1 / 3, 1 / 6)),
    ("allowed and banned", STAIR, {"allowed_token_ids": (0, 1, 2), "banned_token_ids": (0,)}, (0, 0.6, 0.4, 0)),
    ("mask goes before bias", STAIR, {"banned_token_ids": (0,), "logit_bias": {0: 100}}, (0, 1 / 2, 1 / 3, 1 / 6)),
    ("one token", (1.0,), {"temperature": 0.3, "top_k": 5, "top_p": 0.2, "min_p": 0.9}, (1,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "probs", "params", "expected"), PARAMETERS, ids=[case[0] for case in PARAMETERS])
def test_parameter(
    name: str, probs: Sequence[float], params: Mapping[str, object], expected: Sequence[float]
) -> None:
    found = law(probs, **params).probs
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert ((found > 0) == (np.array(expected) > 0)).all()


# logit, its count in the prompt and in the output, parameters -> logit, in the reference engine.
PENALTIES: Sequence[tuple[str, float, int, int, Mapping[str, object], float]] = [
    ("repetition divides above 0", 3.0, 0, 1, {"repetition_penalty": 2}, 1.5),
    ("repetition multiplies below 0", -3.0, 0, 1, {"repetition_penalty": 2}, -6.0),
    ("repetition leaves 0", 0.0, 0, 1, {"repetition_penalty": 2}, 0.0),
    ("repetition acts once", 3.0, 0, 5, {"repetition_penalty": 2}, 1.5),
    ("repetition sees the prompt", 3.0, 1, 0, {"repetition_penalty": 2}, 1.5),
    ("repetition below 1 rewards", 3.0, 0, 1, {"repetition_penalty": 0.5}, 6.0),
    ("repetition leaves the others", 3.0, 0, 0, {"repetition_penalty": 2}, 3.0),
    ("frequency counts", 3.0, 0, 4, {"frequency_penalty": 0.5}, 1.0),
    ("frequency does not see the prompt", 3.0, 4, 0, {"frequency_penalty": 0.5}, 3.0),
    ("frequency below 0 rewards", 3.0, 0, 2, {"frequency_penalty": -0.5}, 4.0),
    ("presence acts once", 3.0, 0, 4, {"presence_penalty": 0.5}, 2.5),
    ("presence does not see the prompt", 3.0, 4, 0, {"presence_penalty": 0.5}, 3.0),
    ("repetition before the additive ones", 3.0, 0, 2,
     {"repetition_penalty": 2, "frequency_penalty": 0.25, "presence_penalty": 0.5}, 0.5),
    ("bias before the penalties", 3.0, 0, 1, {"repetition_penalty": 2, "logit_bias": {1: -5.0}}, -4.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "logit", "prompt", "output", "params", "expected"), PENALTIES,
                         ids=[case[0] for case in PENALTIES])  # fmt: skip
def test_penalty(
    name: str, logit: float, prompt: int, output: int, params: Mapping[str, object], expected: float
) -> None:
    history = {"prompt": [1] * prompt + [2] * 3, "output": [1] * output}
    dist = law_of([0.0, logit, 0.0, -np.inf], **history, **params)  # type: ignore[arg-type]
    adjusted = dist.trace.step("presence").logits
    np.testing.assert_allclose(adjusted[1], expected, rtol=0, atol=1e-12)
    assert adjusted[0] == 0.0
    assert adjusted[3] == -np.inf


def test_penalised_minus_inf_stays() -> None:
    dist = law_of([0.0, -np.inf], output=[1, 1], repetition_penalty=0.5, frequency_penalty=-2, presence_penalty=-2)
    assert dist.probs.tolist() == [1.0, 0.0]
