"""Values at and around what a parameter's record allows, with what is to become of them. Knows no request and no model.

A tester sends them one at a time; what else a body then needs is in `COMPANIONS`. Whether a value is taken may hang on
more than the record (the model's context, another field): then the case says None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from refsample.spec.notation import fits
from refsample.spec.records import ParameterSpec

STEP: Final = 0.001
"""One unit of a number that is no integer."""
CONTEXT: Final = 256
"""Tokens that any model has room for."""
LARGEST: Final = 2**53
"""Beyond this not every client and server can write one unit more."""
COMPANIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "top_logprobs": {"logprobs": True},
        "stream_options": {"stream": True},
    }
)
"""Library's name of a field -> fields without which it is refused whatever its value."""
_SAMPLES: Final = ("text", 7, 1.5, True, {"refsample": 1}, ["text"], [7])
"""One value of each kind, for what is of no allowed type."""


@dataclass(frozen=True, slots=True)
class Case:
    """One value of a parameter; `...` stands for not sending it."""

    value: Any
    accepted: bool | None
    """None: more than the record decides."""
    why: str
    disputed: bool = False
    """The page as printed and as read disagree on it, so an endpoint may do either."""


def cases(parameter: ParameterSpec, *, strict: bool = False) -> tuple[Case, ...]:
    """The boundary cases of a top-level parameter, as the page is read or, `strict`, as it is printed."""
    if strict and parameter.extension:
        return (Case(..., True, "not on the page"),)
    required = parameter.printed_required if strict else parameter.required
    nullable = parameter.printed_nullable if strict else parameter.nullable
    found = [
        Case(..., not required, "absent", parameter.required != parameter.printed_required),
        Case(None, nullable, "null", parameter.nullable != parameter.printed_nullable),
        *_types(parameter, strict),
        *_bounds(parameter, strict),
        *_lengths(parameter, strict),
        *_choices(parameter.printed_choices if strict else parameter.choices),
    ]
    if parameter.support == "refused":
        found = [case for case in found if case.value in (..., None) or case.accepted is False]
        found += [Case(value, True, "asks for nothing") for value in parameter.neutral]
    return tuple(found)


def _allowed(parameter: ParameterSpec, strict: bool) -> tuple[str, ...]:
    return parameter.printed_types if strict else parameter.types


def _is_of(parameter: ParameterSpec, value: object, strict: bool) -> bool:
    return any(fits(value, name, integral=parameter.integral) for name in _allowed(parameter, strict))


def _types(parameter: ParameterSpec, strict: bool) -> Iterator[Case]:
    for value in _SAMPLES:
        if not _is_of(parameter, value, strict):
            yield Case(value, False, "wrong type", _is_of(parameter, value, not strict))
    if parameter.truncated:
        yield Case(3.0, True, "a count as a float")
        yield Case(3.5, not strict, "a count with a fraction", True)


def _bounds(parameter: ParameterSpec, strict: bool) -> Iterator[Case]:
    """Each finite end, one unit inside and one outside."""
    printed = parameter.printed or parameter.effective
    used, other = (printed, parameter.effective) if strict else (parameter.effective, printed)
    if used is None or other is None:
        return
    names = _allowed(parameter, strict)
    whole = parameter.truncated or "number" not in names
    if not parameter.truncated and not {"integer", "number", "map<string,integer>"} & set(names):
        return
    ends = {end for bounds in (used, other) for end in (bounds.low, bounds.high) if abs(end) < LARGEST}
    unit = 1 if whole else STEP
    for value in sorted({value for end in ends for value in (end - unit, end, end + unit)}):
        inside = used.holds(value)
        asked: Any = {"5": value} if "map<string,integer>" in names else value
        accepted = None if inside and _hangs(parameter, value) else inside
        yield Case(asked, accepted, f"{value} in {used.about()}", inside != other.holds(value))


def _hangs(parameter: ParameterSpec, value: float) -> bool:
    """Whether something else than the range decides: the model's context, n beside best_of, how long an answer takes,
    or what has a meaning at all where a page prints no range."""
    if parameter.effective is not None and not parameter.effective.holds(value):
        return True
    if parameter.means == "inference_timeout":
        return True
    return (parameter.means == "max_tokens" and value > CONTEXT) or (parameter.means == "best_of" and value == 1)


def _lengths(parameter: ParameterSpec, strict: bool) -> Iterator[Case]:
    """Arrays as long as is allowed and one entry longer or shorter; strings alike."""
    names = _allowed(parameter, strict)
    disputed = names != _allowed(parameter, not strict)
    if parameter.length is not None and "string[]" in names:
        low, high = int(parameter.length.low), parameter.length.high
        for count in {low - 1, low} | ({int(high), int(high) + 1} if high < LARGEST else set()):
            entries = [f"<{index}>" for index in range(count)]
            yield Case(entries, parameter.length.holds(count), f"{count} entries", disputed)
    if parameter.item_length is not None and "string" in names and parameter.item_length.low > 0:
        yield Case("", False, "no character")


def _choices(choices: tuple[str, ...]) -> Iterator[Case]:
    for choice in choices:
        yield Case(choice, None, f"{choice} is one of the choices")
    if choices:
        yield Case("refsample-no-such-choice", False, "none of the choices")
