"""The embedded model does what it is for: right answers, stories that parse, positions wide open and almost certain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

import refsample
from refsample.tiny import evaluate
from refsample.tiny.openings import openings


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    yield refsample.load("tiny")


@pytest.mark.parametrize("prompt", [*evaluate.WIDE, *map(evaluate.as_chat, evaluate.WIDE_QUESTIONS)])
def test_wide_prompts_leave_more_than_three_nats(model: Any, prompt: str) -> None:
    assert evaluate.entropy(model, prompt) > 3.0


@pytest.mark.parametrize("prompt", [*evaluate.NARROW, *map(evaluate.as_chat, evaluate.NARROW_QUESTIONS)])
def test_narrow_prompts_leave_less_than_a_twentieth_of_a_nat(model: Any, prompt: str) -> None:
    assert evaluate.entropy(model, prompt) < 0.05


def test_openings_are_of_the_kind_they_say(model: Any) -> None:
    wide: Counter[str] = Counter()
    for kind, text in islice(openings(0), 200):
        prompt = evaluate.as_chat(text) if kind.startswith("chat") else text
        nats = evaluate.entropy(model, prompt)
        wide[kind] += nats > 2.5 if kind.endswith("wide") else nats < 0.3
    assert min(wide[kind] for kind in ("wide", "narrow", "chat_wide", "chat_narrow")) >= 45, wide  # of 50 each


def test_held_out_questions_are_answered_right(model: Any) -> None:
    """40 of the 200 of the acceptance run, where at least 180 are right."""
    right, wrong = evaluate.questions_right(model, 40, seed=1)
    assert right >= 34, wrong


def test_stories_parse(model: Any) -> None:
    """20 stories at temperature 0.8; the acceptance run asks for 90 of 100."""
    parsed, made = evaluate.stories_parsed(model, 20, seed=1000)
    assert parsed >= 16, made
    assert len(set(made)) == 20


def test_later_positions_are_no_harder(model: Any) -> None:
    early, late = evaluate.held_out_loss(model, 6)
    assert late < early + 0.05  # six windows: the exact figures are in the model card
