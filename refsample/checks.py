"""Checks that every door makes in the same words: whole numbers, token ids, names, room. It knows no parameter."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from refsample.errors import ContextLengthError, ParameterError


def integer(parameter: str, value: object, low: int | None = None, source: str = "refsample") -> int:
    """`value` as an int, at least `low`. True is no integer, 1.0 is none. Raises ParameterError."""
    if type(value) is int:
        number = value
    elif isinstance(value, bool):
        raise ParameterError(parameter, value, "must be an integer", source)
    else:
        try:
            number = operator.index(value)  # type: ignore[arg-type]  # that is what is being tested
        except TypeError:
            raise ParameterError(parameter, value, "must be an integer", source) from None
    if low is not None and number < low:
        raise ParameterError(parameter, value, f"must be at least {low}", source)
    return number


def token_id(parameter: str, value: object, vocab_size: int, source: str = "refsample") -> int:
    """One id of a vocabulary. Raises ParameterError."""
    number = integer(parameter, value, source=source)
    if not 0 <= number < vocab_size:
        raise ParameterError(parameter, number, f"token ids lie in [0, {vocab_size})", source)
    return number


def token_ids(parameter: str, values: object, vocab_size: int, source: str = "refsample") -> tuple[int, ...]:
    """A list of ids of a vocabulary. Raises ParameterError."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ParameterError(parameter, values, "must be a list of token ids", source)
    return tuple(token_id(parameter, value, vocab_size, source) for value in values)


def known_names(values: Mapping[str, object], known: Collection[str], source: str) -> None:
    """Refuses a name that is not `known`, with the nearest one. Raises ParameterError."""
    for name, value in values.items():
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            rule = "no such parameter" + (f"; did you mean {near[0]}?" if near else "")
            raise ParameterError(str(name), value, rule, source, "unknown_parameter")


def room(parameter: str, value: object, counted: str, needed: int, context: int, source: str) -> None:
    """Refuses more tokens than a context holds; `counted` says what `needed` is. Raises ContextLengthError."""
    if needed > context:
        rule = f"{counted} exceed the context of {context} tokens"
        raise ContextLengthError(parameter, value, rule, source, "context_length_exceeded")
