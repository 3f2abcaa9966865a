"""Errors travel: between processes and through copies, with text and attributes."""

from __future__ import annotations

import copy
import pickle

import pytest

from refsample import errors
from refsample.errors import RefsampleError, shorten

MADE: dict[str, RefsampleError] = {
    "ParameterError": errors.ParameterError("top_p", 2.0, "must be in [0, 1]", "the page", "bad"),
    "ContextLengthError": errors.ContextLengthError("prompt", ..., "too long"),
    "UnknownModelError": errors.UnknownModelError("x", ("tiny",), "no such folder"),
    "RequestTimeoutError": errors.RequestTimeoutError(0.5),
    "MissingExtraError": errors.MissingExtraError("server", "starlette"),
}
EVERY = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RefsampleError)]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_pickled_and_copied(kind: type[RefsampleError]) -> None:
    error = MADE.get(kind.__name__) or kind("one line")
    back = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in (*back, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind and str(other) == str(error)
        assert vars(other) == vars(error) and other.args == error.args


def test_a_value_of_any_size_is_one_short_line() -> None:
    assert shorten("a\nb") == r"'a\nb'" and len(shorten("x" * 1000)) == 80
    assert shorten(10**5000) == "<int too long to write>"
