"""A step of the user's: where it runs, what the trace says of it, and what it may not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refsample
from refsample.errors import ParameterError
from refsample.sampling.own import OwnStep
from refsample.sampling.pipeline import distribution

STAIR = np.log([0.4, 0.3, 0.2, 0.1])


def lift(logits: Any, prompt: Any, output: Any) -> Any:
    """ln 4 on token 3."""
    logits[3] += np.log(4.0)
    return logits


def test_its_place_decides() -> None:
    """Before T = .5 the lift counts double: (16, 9, 4, 16) / 45; after it once: (16, 9, 4, 4) / 33."""
    before = distribution(STAIR, {"temperature": 0.5}, steps=[OwnStep("lift", lift, before="temperature")])
    after = distribution(STAIR, {"temperature": 0.5}, steps=[OwnStep("lift", lift)])
    np.testing.assert_allclose(before.probs, np.array([16, 9, 4, 16]) / 45, rtol=1e-12)
    np.testing.assert_allclose(after.probs, np.array([16, 9, 4, 4]) / 33, rtol=1e-12)
    np.testing.assert_array_equal(before.logits, STAIR)
    names = [step.name for step in before.trace.steps]
    assert names.index("lift") + 1 == names.index("temperature")
    assert before.trace.step("lift").active and before.trace.step("lift").mass_kept == 1.0
    penalised = np.exp(before.logprobs("post_penalty"))
    np.testing.assert_allclose(penalised, np.array([4, 3, 2, 4]) / 13, rtol=1e-12)


def test_history_and_cuts() -> None:
    def no_echo(logits: Any, prompt: Any, output: Any) -> Any:
        logits[prompt[-1:]] = -np.inf
        logits[output[-1:]] = -np.inf
        return logits

    step = OwnStep("no_echo", no_echo, before="top_k", kind="truncate")
    law = distribution(STAIR, {"top_k": 1}, [0], [1], steps=[step])
    assert law.probs.tolist() == [0, 0, 1, 0]
    assert law.trace.step("no_echo").cut.tolist() == [0, 1]
    assert np.isfinite(law.logprobs("post_temperature")).all()


BAD: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (lambda x, p, o: x[:2], {}, "steps.own=.*must return 4 logits"),
    (lambda x, p, o: x * np.nan, {}, "none of them NaN"),
    (lambda x, p, o: "no", {}, "must return numbers"),
    (lambda x, p, o: x - np.inf, {}, "steps.own: leaves no token"),
    (lambda x, p, o: x + np.inf, {}, "steps.own: drives a logit to infinity"),
    (lambda x, p, o: x + 1, {"kind": "truncate"}, "may only set logits to -inf"),
    (lambda x, p, o: x, {"before": "nothing"}, "steps.own.before='nothing': must be one of mask"),
    (lambda x, p, o: x, {"name": "top_p"}, "is there already"),
]


@pytest.mark.parametrize(("function", "more", "words"), BAD)
def test_what_it_may_not_do(function: Callable[..., Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        distribution(STAIR, {}, steps=[OwnStep(**{"name": "own", "function": function, **more})])


def test_definitions() -> None:
    for given in ({"name": ""}, {"function": 3}, {"kind": "scale"}):
        with pytest.raises(ParameterError, match="steps"):
            OwnStep(**{"name": "own", "function": lift, **given})  # type: ignore[arg-type]
    twice = [OwnStep("own", lift), OwnStep("own", lift)]
    with pytest.raises(ParameterError, match="is there already"):
        distribution(STAIR, {}, steps=twice)


def test_generate() -> None:
    """Only 'e' may be drawn, and the engine has to have the place."""
    model = refsample.load("tiny")
    letter = model.tokenizer.encode("e", bos=False)[0]

    def only(logits: Any, prompt: Any, output: Any) -> Any:
        return np.where(np.arange(logits.size) == letter, logits, -np.inf)

    found = model.generate("Once", steps=[OwnStep("only", only)], max_tokens=3, seed=1)
    assert found.token_ids == (letter,) * 3
    with pytest.raises(ParameterError, match="before='dry'"):
        model.generate("Once", steps=[OwnStep("only", only, before="dry")], engine="vllm", max_tokens=3)
    with pytest.raises(ParameterError, match="OwnStep"):
        model.generate("Once", steps=[only], max_tokens=3)
