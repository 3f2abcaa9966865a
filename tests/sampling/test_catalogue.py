"""The divergence catalogue: where engines differ, with the numbers that tell them apart.

Expected numbers are worked by hand from each
engine's rule (numbers D01 and so on are those of the catalogue).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.sampling.laws import NOTHING, law, law_of

Row = tuple[str, str, Mapping[str, object], Sequence[float], Mapping[str, object], Sequence[float]]

FLASHINFER = {"top_k_ties": "keep_all", "top_p_ties": "all"}

STAIR, TIED, DYADIC = (0.4, 0.3, 0.2, 0.1), (0.4, 0.2, 0.2, 0.2), (0.5, 0.25, 0.125, 0.125)
D01, D02 = {"temperature": 0.5, "top_p": 0.5}, {"temperature": 2, "min_p": 0.4}
D03, D04, D05, D06 = {"top_k": 2}, {"top_p": 0.5}, {"top_k": 2, "top_p": 0.5}, {"top_p": 0.69, "min_p": 0.35}
ROOTS = np.sqrt([0.5, 0.3, 0.15]) / np.sqrt([0.5, 0.3, 0.15]).sum()

SUPPORTS: Sequence[Row] = [
    ("D01 T first", "reference", NOTHING, STAIR, D01, (1, 0, 0, 0)),
    ("D01 T first", "vllm", NOTHING, STAIR, D01, (1, 0, 0, 0)),
    ("D01 T first", "hf", NOTHING, STAIR, D01, (1, 0, 0, 0)),
    ("D01 T last", "llamacpp", NOTHING, STAIR, D01, (0.64, 0.36, 0, 0)),
    ("D01 T last", "mlx", NOTHING, STAIR, D01, (0.64, 0.36, 0, 0)),
    ("D02 T first", "reference", NOTHING, (0.5, 0.3, 0.15, 0.05), D02, (*ROOTS, 0)),
    ("D02 T first", "vllm", NOTHING, (0.5, 0.3, 0.15, 0.05), D02, (*ROOTS, 0)),
    ("D02 T last", "llamacpp", NOTHING, (0.5, 0.3, 0.15, 0.05), D02, (0.5635083, 0.4364917, 0, 0)),
    ("D03 exactly k", "reference", NOTHING, TIED, D03, (2 / 3, 1 / 3, 0, 0)),
    ("D03 exactly k", "vllm", NOTHING, TIED, D03, (2 / 3, 1 / 3, 0, 0)),
    ("D03 exactly k", "llamacpp", NOTHING, TIED, D03, (2 / 3, 1 / 3, 0, 0)),
    ("D03 all ties", "hf", NOTHING, TIED, D03, TIED),
    ("D03 all ties, flashinfer", "vllm", FLASHINFER, TIED, D03, TIED),
    ("D04 mass above < p", "reference", NOTHING, DYADIC, D04, (1, 0, 0, 0)),
    ("D04 mass above < p", "vllm", NOTHING, DYADIC, D04, (1, 0, 0, 0)),
    ("D04 mass above < p", "llamacpp", NOTHING, DYADIC, D04, (1, 0, 0, 0)),
    ("D04 mass above <= p", "sglang", NOTHING, DYADIC, D04, (2 / 3, 1 / 3, 0, 0)),
    ("D05 sequential", "reference", NOTHING, STAIR, D05, (1, 0, 0, 0)),
    ("D05 sequential", "vllm", NOTHING, STAIR, D05, (1, 0, 0, 0)),
    ("D05 sequential", "llamacpp", NOTHING, STAIR, D05, (1, 0, 0, 0)),
    ("D05 joint", "sglang", NOTHING, STAIR, D05, (4 / 7, 3 / 7, 0, 0)),
    ("D05 joint", "mlx", NOTHING, STAIR, D05, (4 / 7, 3 / 7, 0, 0)),
    ("D06 min_p first", "reference", NOTHING, (0.5, 0.2, 0.15, 0.15), D06, (1, 0, 0, 0)),
    ("D06 min_p first", "vllm", NOTHING, (0.5, 0.2, 0.15, 0.15), D06, (1, 0, 0, 0)),
    ("D06 min_p later", "llamacpp", NOTHING, (0.5, 0.2, 0.15, 0.15), D06, (5 / 7, 2 / 7, 0, 0)),
    ("D06 min_p later", "hf", NOTHING, (0.5, 0.2, 0.15, 0.15), D06, (5 / 7, 2 / 7, 0, 0)),
    ("D07 lowest id", "reference", NOTHING, (0.4, 0.3, 0.3), D04, (4 / 7, 3 / 7, 0)),
    ("D07 lowest id", "vllm", NOTHING, (0.4, 0.3, 0.3), D04, (4 / 7, 3 / 7, 0)),
    ("D07 highest id", "hf", NOTHING, (0.4, 0.3, 0.3), D04, (4 / 7, 0, 3 / 7)),
    # text-generation-inference, which no index carries: by hand from its source
    ("D01 T first", "tgi", NOTHING, STAIR, D01, (1, 0, 0, 0)),
    ("D03 all ties", "tgi", NOTHING, TIED, D03, TIED),
    ("D04 mass above < p", "tgi", NOTHING, DYADIC, D04, (1, 0, 0, 0)),
    ("D05 sequential", "tgi", NOTHING, STAIR, D05, (1, 0, 0, 0)),
    ("D07 highest id", "tgi", NOTHING, (0.4, 0.3, 0.3), D04, (4 / 7, 0, 3 / 7)),
    ("typical, mass reached", "tgi", NOTHING, DYADIC, {"typical_p": 0.75}, (2 / 3, 1 / 3, 0, 0)),
    ("typical, all ties", "tgi", NOTHING, DYADIC, {"typical_p": 0.8}, DYADIC),
    ("top_p before typical", "tgi", NOTHING, DYADIC, {"top_p": 0.7, "typical_p": 0.5}, (1, 0, 0, 0)),
    ("D07 all, flashinfer", "vllm", FLASHINFER, (0.4, 0.3, 0.3), D04, (0.4, 0.3, 0.3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "engine", "overrides", "probs", "params", "expected"), SUPPORTS,
                         ids=[f"{row[0]} {row[1]}" for row in SUPPORTS])  # fmt: skip
def test_truncation(
    name: str, engine: str, overrides: Mapping[str, object], probs: Sequence[float],
    params: Mapping[str, object], expected: Sequence[float],
) -> None:  # fmt: skip
    found = law(probs, engine, overrides, **params).probs
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    assert ((found > 0) == (np.array(expected) > 0)).all()


LOGITS: Sequence[tuple[str, str, Mapping[str, object], float, Mapping[str, object], float]] = [
    ("D08 bias first", "reference", NOTHING, 2.0, {"logit_bias": {0: -5.0}, "repetition_penalty": 2}, -6.0),
    ("D08 bias first", "vllm", NOTHING, 2.0, {"logit_bias": {0: -5.0}, "repetition_penalty": 2}, -6.0),
    ("D08 bias first", "llamacpp", NOTHING, 2.0, {"logit_bias": {0: -5.0}, "repetition_penalty": 2}, -6.0),
    ("D08 penalty first", "sglang", NOTHING, 2.0, {"logit_bias": {0: -5.0}, "repetition_penalty": 2}, -4.0),
    ("D09 rep first", "reference", NOTHING, 1.0, {"repetition_penalty": 2, "frequency_penalty": 0.5}, 0.0),
    ("D09 rep first", "llamacpp", NOTHING, -1.0, {"repetition_penalty": 2, "frequency_penalty": 0.5}, -2.5),
    ("D09 additive first", "sglang", NOTHING, 1.0,
     {"repetition_penalty": 2, "frequency_penalty": 0.5}, 0.25),
    ("D09 additive first", "sglang", NOTHING, -1.0,
     {"repetition_penalty": 2, "frequency_penalty": 0.5}, -3.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "engine", "overrides", "logit", "params", "expected"), LOGITS,
                         ids=[f"{row[0]} {row[1]} {row[3]}" for row in LOGITS])  # fmt: skip
def test_order_of_adjustments(
    name: str, engine: str, overrides: Mapping[str, object], logit: float, params: Mapping[str, object], expected: float
) -> None:
    """Token 0 was emitted once; its logit before temperature. Token 1 stays at 0 and measures it."""
    logprobs = law_of([logit, 0.0], engine, overrides, output=[0], **params).logprobs("post_penalty")
    np.testing.assert_allclose(logprobs[0] - logprobs[1], expected, rtol=0, atol=1e-12)


# D10, D11: engine, where token 0 occurred (prompt, output), odds of token 0 after penalty as a logit change from 1.0.
SCOPES: Sequence[tuple[str, str, Mapping[str, object], list[int], list[int], Mapping[str, object], float]] = [
    ("D10 sees the prompt", "reference", NOTHING, [0], [], {"repetition_penalty": 2}, 0.5),
    ("D10 sees the prompt", "vllm", NOTHING, [0], [], {"repetition_penalty": 2}, 0.5),
    ("D10 sees the prompt", "tgi", NOTHING, [0], [], {"repetition_penalty": 2}, 0.5),
    ("D10 repetition, then a share of the prompt too", "tgi", NOTHING, [0, 2], [2, 2],
     {"repetition_penalty": 2, "frequency_penalty": 1}, 0.25),
    ("D10 output only", "sglang", NOTHING, [0], [], {"repetition_penalty": 2}, 1.0),
    ("D10 64 back", "llamacpp", NOTHING, [0] + [2] * 63, [], {"repetition_penalty": 2}, 0.5),
    ("D10 65 back", "llamacpp", NOTHING, [0] + [2] * 64, [], {"repetition_penalty": 2}, 1.0),
    ("D10 64 back over both", "llamacpp", NOTHING, [0] + [2] * 60, [2] * 3, {"repetition_penalty": 2}, 0.5),
    ("D10 65 back over both", "llamacpp", NOTHING, [0] + [2] * 60, [2] * 4, {"repetition_penalty": 2}, 1.0),
    ("D10 65 back in the output", "llamacpp", NOTHING, [0], [0] + [2] * 64, {"repetition_penalty": 2}, 1.0),
    ("D10 21 back", "mlx", NOTHING, [0] + [2] * 20, [], {"repetition_penalty": 2}, 1.0),
    ("D11 output only", "reference", NOTHING, [0], [], {"presence_penalty": 2}, 1.0),
    ("D11 output only", "vllm", NOTHING, [0], [], {"presence_penalty": 2}, 1.0),
    ("D11 prompt too", "llamacpp", NOTHING, [0], [], {"presence_penalty": 2}, -1.0),
    ("D11 prompt too", "mlx", NOTHING, [0], [], {"presence_penalty": 2}, -1.0),
    ("D12 counts the window", "llamacpp", NOTHING, [0, 0] + [2] * 62, [0], {"frequency_penalty": 1}, -1.0),
    ("D12 a share, c=1", "tgi", NOTHING, [], [0], {"frequency_penalty": 1}, 0.0),
    ("D12 a share, c=2 of 4", "tgi", NOTHING, [2], [0, 2, 0], {"frequency_penalty": 1}, 0.5),
    ("D12 a share, c=3 of 3", "tgi", NOTHING, [], [0, 0, 0], {"frequency_penalty": 1}, 0.0),
    ("D12 c=1", "vllm", NOTHING, [0], [0], {"frequency_penalty": 1}, 0.0),
    ("D12 c=2", "vllm", NOTHING, [0], [0, 2, 0], {"frequency_penalty": 1}, -1.0),
    ("D12 c=3", "vllm", NOTHING, [0], [0, 0, 0], {"frequency_penalty": 1}, -2.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "engine", "overrides", "prompt", "output", "params", "expected"), SCOPES,
                         ids=[f"{row[0]} {row[1]}" for row in SCOPES])  # fmt: skip
def test_scope_of_penalties(
    name: str, engine: str, overrides: Mapping[str, object], prompt: list[int], output: list[int],
    params: Mapping[str, object], expected: float,
) -> None:  # fmt: skip
    dist = law_of([1.0, 0.0, -np.inf], engine, overrides, prompt, output, **params)
    np.testing.assert_allclose(np.log(dist.probs[0] / dist.probs[1]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("engine", "temperature", "expected"),
    [
        ("vllm", 0.001, 1 / (1 + np.exp(-1.0))),  # D15: raised to 0.01
        ("vllm", 1e-7, 1 / (1 + np.exp(-1.0))),
        ("vllm", 0.0, 1.0),
        ("vllm", 0.02, 1 / (1 + np.exp(-0.5))),
        ("reference", 0.001, 1 / (1 + np.exp(-10.0))),
        ("llamacpp", 0.001, 1 / (1 + np.exp(-10.0))),
    ],
)
def test_tiny_temperature(engine: str, temperature: float, expected: float) -> None:
    found = law_of([0.01, 0.0], engine, temperature=temperature).probs[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_greedy_below() -> None:
    """SGLang takes temperatures below 1e-6 as greedy; 1e-6 itself is not."""
    assert law_of([1e-6, 0.0], "sglang", NOTHING, temperature=9e-7).probs[1] == 0.0
    assert law_of([1e-6, 0.0], "sglang", NOTHING, temperature=1e-6).probs[1] > 0.2


def test_bias_clamp() -> None:
    assert law_of([0.0, 0.0], "llamacpp", logit_bias={0: -np.inf}).probs.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(law_of([0.0, 0.0], "vllm", logit_bias={0: -np.inf}).probs[0], np.exp(-100.0), rtol=1e-9)
    assert law_of([0.0, 0.0], "llamacpp", logit_bias={0: 200.0, 1: 100.0}).probs[1] < 1e-40


@pytest.mark.parametrize(("p", "left"), [(0.5, 1), (0.54, 2)])
def test_joint_base_is_heated_too(p: float, left: int) -> None:
    """top_k, then T = .5, then a joint top_p: of (16, 9, 4, 1) / 30, not of (.4, .3, .2, .1), nor of (16, 9) / 25."""
    rules = {"order": ("greedy", "top_k", "temperature", "top_p"), "top_p_base": "joint"}
    found = law(STAIR, "reference", rules, top_k=2, temperature=0.5, top_p=p).probs
    assert np.count_nonzero(found) == left


@pytest.mark.parametrize("form", ["logit", "probability"])
def test_min_p_equality_stays_in_both_forms(form: str) -> None:
    for probs, min_p, left in ((STAIR, 0.5, 3), (STAIR, 0.25, 4), ((0.7, 0.21, 0.07, 0.02), 0.1, 3)):
        assert np.count_nonzero(law(probs, overrides={"min_p_form": form}, min_p=min_p).probs) == left


def test_min_tokens_to_keep() -> None:
    """HF's beams keep two; each filter on its own."""
    two = {"min_tokens_to_keep": 2}
    for params in ({"top_k": 1}, {"top_p": 0.1}, {"min_p": 1.0}):
        found = law(STAIR, "reference", two, **params).probs
        np.testing.assert_allclose(found, (4 / 7, 3 / 7, 0, 0), rtol=0, atol=1e-12)
