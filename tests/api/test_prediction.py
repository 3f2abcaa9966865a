"""A predicted output: it changes no token and is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsample.api.chat import chat
from refsample.errors import ParameterError
from refsample.generation.load import load
from tests.api.pages import ask, text_of

MODEL = load("tiny")


PREDICTED = st.one_of(
    st.just(""),
    st.sampled_from([" there was a little girl", "A cat. A dog.", "\n", "🐢 Zoë"]),
    st.integers(1, 30).map(lambda size: "own" + str(size)),
)


@settings(max_examples=25)
@given(
    predicted=PREDICTED,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 3),
    temperature=st.sampled_from([0, 0.7, 1.5]),
    stop=st.sampled_from([None, ["."], ["e", " a"]]),
)
def test_a_prediction_changes_no_token(
    predicted: str, seed: int, n: int, temperature: float, stop: list[str] | None
) -> None:
    body = ask(seed=seed, n=n, temperature=temperature, stop=stop, logprobs=True, top_logprobs=2, max_tokens=20)
    plain = chat(MODEL, body)
    if predicted.startswith("own"):  # a beginning of the answer itself, then something else
        predicted = text_of(plain)[: int(predicted[3:])] + " or so"
    content = predicted if seed % 2 else [{"type": "text", "text": predicted}]
    helped = chat(MODEL, {**body, "prediction": {"type": "content", "content": content}})
    assert helped["choices"] == plain["choices"]
    details = helped["usage"].pop("completion_tokens_details")
    assert helped["usage"] == plain["usage"] and "completion_tokens_details" not in plain["usage"]
    ids = MODEL.tokenizer.encode(predicted, bos=False)
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] == n * len(ids)


def test_predicted_tokens_are_counted() -> None:
    plain = chat(MODEL, ask(temperature=0, max_tokens=None))
    right = chat(MODEL, ask(temperature=0, max_tokens=None, prediction={"type": "content", "content": text_of(plain)}))
    size = len(MODEL.tokenizer.encode(text_of(plain), bos=False))
    assert right["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": size,
        "rejected_prediction_tokens": 0,
    }
    wrong = chat(MODEL, ask(temperature=0, prediction={"type": "content", "content": "\n\n\n"}))
    assert wrong["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] == 0
    assert wrong["usage"]["completion_tokens_details"]["rejected_prediction_tokens"] > 0


@pytest.mark.parametrize(
    ("prediction", "place"),
    [
        ({"type": "text", "content": "x"}, "prediction.type"),
        ({"content": "x"}, "prediction.type"),
        ({"type": "content"}, "prediction.content"),
        ({"type": "content", "content": 5}, "prediction.content"),
        ({"type": "content", "content": [{"type": "image_url", "text": "x"}]}, "prediction.content[0].type"),
        ({"type": "content", "content": [{"type": "text"}]}, "prediction.content[0].text"),
        ("x", "prediction"),
    ],
)
def test_predictions_that_are_refused(prediction: Any, place: str) -> None:
    with pytest.raises(ParameterError) as caught:
        chat(MODEL, ask(prediction=prediction))
    assert caught.value.parameter == place
