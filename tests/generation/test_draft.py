"""A prediction changes no token, whatever it says; where it is right, fewer passes are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsample
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.decode import Events, generate_events
from refsample.generation.draft import AHEAD, Draft, Prediction
from refsample.generation.model import Model
from refsample.generation.sequence import GenerationParams
from refsample.sampling.params import SamplingParams
from refsample.sampling.semantics import resolve
from tests.generation.scripted import ScriptedTransformer, byte, scripted, wandering
from tests.text.vocabularies import byte_level

HONEST = Behaviour(semantics=resolve("reference"))
SAMPLING = SamplingParams(temperature=0.9, repetition_penalty=1.2, frequency_penalty=0.3, top_p=0.95)


@pytest.fixture(scope="module")
def model() -> Model:
    return refsample.load("tiny")


def asked(model: Model, prediction: tuple[int, ...] = (), **changed: object) -> Events:
    values = {"sampling": SAMPLING, "seed": 11, "max_tokens": 40, "logprobs": 3, "ignore_eos": True, **changed}
    params = GenerationParams(prediction=prediction, **values)  # type: ignore[arg-type]  # checked at construction
    return generate_events(model, [model.prompt_ids("Once upon a time")], params, HONEST)


@settings(max_examples=25)
@given(data=st.data())
def test_it_changes_nothing(model: Model, data: st.DataObject) -> None:
    """Right, wrong, cut, with holes and with additions; several choices; ends of all kinds."""
    changed = data.draw(st.fixed_dictionaries({
        "n": st.sampled_from([1, 3]),
        "max_tokens": st.sampled_from([1, 2, 17, 40]),
        "stop": st.sampled_from([(), ("a",)]),
        "ignore_eos": st.booleans(),
        "min_tokens": st.just(0),
    }))  # fmt: skip
    plain = list(asked(model, **changed))
    ids = [event.token_id for event in plain if event.choice == 0]
    guess: list[int] = []
    for token_id in ids:
        guess += data.draw(st.sampled_from([[token_id]] * 6 + [[], [token_id, 7], [9]]))
    events = asked(model, tuple(guess + data.draw(st.lists(st.integers(0, 99), max_size=3))), **changed)
    key = lambda event: (event.choice, event.step)  # noqa: E731
    assert sorted(events, key=key) == sorted(plain, key=key)


def test_a_right_one_is_accepted_and_saves_passes(tmp_path: Path) -> None:
    byte_level(tmp_path)
    model = scripted(tmp_path, wandering())
    transformer = model.transformer
    assert isinstance(transformer, ScriptedTransformer)
    params = GenerationParams(seed=4, max_tokens=30, ignore_eos=True)
    prompt = [(byte("a"), byte("b"))]
    ids = tuple(event.token_id for event in generate_events(model, prompt, params, HONEST))
    before = len(transformer.calls)
    guided = generate_events(model, prompt, replace(params, prediction=ids), HONEST)
    assert tuple(event.token_id for event in guided) == ids
    assert len(transformer.calls) - before == 1 + -(-29 // (AHEAD + 1))
    assert (guided.accepted_prediction, guided.rejected_prediction) == (30, 0)


def test_counts(model: Model) -> None:
    ids = tuple(event.token_id for event in asked(model))
    for guess, accepted in ((ids[:7], 7), (ids[:7] + (1, 2, 3), 7), ((5, *ids[:9]), 7), ((), 0)):
        events = asked(model, guess)
        assert len(list(events)) == 40
        assert (events.accepted_prediction, events.rejected_prediction) == (accepted, len(guess) - accepted)


def test_it_is_taken_up_again_after_a_difference() -> None:
    draft = Draft(Prediction((1, 2, 3, 4, 5, 6)))
    output: list[int] = []
    shown = []
    for token_id in (1, 9, 3, 4, 5):
        output.append(token_id)
        draft.follow(output)
        shown.append(draft.ahead(2))
    assert shown == [(2, 3), (), (), (5, 6), (6,)]
    assert (draft.accepted, draft.rejected) == (2, 4)


def test_the_next_place_of_a_pair_is_found_wherever_it_stands() -> None:
    prediction = Prediction([7, 7, 7, 1, 2, 7, 7])
    assert [prediction.after((7, 7), start) for start in range(7)] == [2, 3, 7, 7, 7, 7, None]
    assert prediction.after((2, 1), 0) is None and Prediction([3]).after((3, 3), 0) is None


def test_ids_outside_the_vocabulary(model: Model) -> None:
    with pytest.raises(ParameterError, match="prediction"):
        asked(model, (1, model.config.vocab_size))
