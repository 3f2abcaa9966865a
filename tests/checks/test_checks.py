"""The checks that all doors share: what they take, and what they say to what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from refsample.checks import integer, known_names, room, token_ids
from refsample.errors import ContextLengthError, ParameterError


def test_what_is_taken() -> None:
    assert [integer("n", value, 0) for value in (0, 3, np.int64(3), np.uint8(3))] == [0, 3, 3, 3]
    assert token_ids("ids", np.array([0, 4]), 5) == (0, 4) and token_ids("ids", (), 5) == ()
    assert all(type(i) is int for i in token_ids("ids", np.array([0, 4]), 5))
    known_names({"top_p": 1}, ("top_p",), "me")
    room("prompt", ..., "5 tokens", 5, 5, "me")


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: integer("n", True), "n=True: must be an integer (rule of refsample)"),
    (lambda: integer("n", 1.0, source="me"), "n=1.0: must be an integer (rule of me)"),
    (lambda: integer("n", np.array([1])), "n=array([1]): must be an integer (rule of refsample)"),
    (lambda: integer("n", -1, 0), "n=-1: must be at least 0 (rule of refsample)"),
    (lambda: token_ids("ids", [1, 5], 5, "me"), "ids=5: token ids lie in [0, 5) (rule of me)"),
    (lambda: token_ids("ids", [-1], 5, "me"), "ids=-1: token ids lie in [0, 5) (rule of me)"),
    (lambda: token_ids("ids", "12", 5), "ids='12': must be a list of token ids (rule of refsample)"),
    (lambda: token_ids("ids", 1, 5), "ids=1: must be a list of token ids (rule of refsample)"),
    (lambda: known_names({"topp": 1}, ("top_p",), "me"),
     "topp=1: no such parameter; did you mean top_p? (rule of me)"),
    (lambda: known_names({"zzz": 1}, ("top_p",), "me"), "zzz=1: no such parameter (rule of me)"),
    (lambda: room("prompt", ..., "6 tokens", 6, 5, "me"),
     "prompt: 6 tokens exceed the context of 5 tokens (rule of me)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_is_refused(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        call()
    assert str(caught.value) == text


def test_the_kind_of_mistake_is_told() -> None:
    with pytest.raises(ContextLengthError) as caught:
        room("prompt", ..., "6 tokens", 6, 5, "me")
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(ParameterError) as unknown:
        known_names({"zzz": 1}, ("top_p",), "me")
    assert unknown.value.code == "unknown_parameter"
