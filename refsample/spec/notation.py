"""The two notations of provider files, ranges ("0 < x <= 2") and types ("integer[][]"); knows no field by name.

Ranges are written as the pages print them, so open and closed ends stay visible. Types are JSON's, with
`T[]` for an array of T, `map<string,T>` for an object whose values are T and `T?[]` for an array of T or null.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?:({_NUMBER}) (<=?) )?x(?: (<=?) ({_NUMBER}))?")
_SCALARS = ("string", "integer", "number", "boolean", "object")
_MAP = re.compile(r"map<string,(.+)>")


@dataclass(frozen=True, slots=True)
class Range:
    """An interval with open or closed ends; an end that is infinite is always open."""

    low: int | float = -math.inf
    high: int | float = math.inf
    open_low: bool = True
    open_high: bool = True

    def holds(self, value: int | float) -> bool:
        """Whether `value` lies inside; NaN never does."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def about(self, subject: str = "x") -> str:
        """The interval as a sentence part: `0 <= temperature <= 2`."""
        left = "" if self.low == -math.inf else f"{self.low} {'<' if self.open_low else '<='} "
        right = "" if self.high == math.inf else f" {'<' if self.open_high else '<='} {self.high}"
        return f"{left}{subject}{right}"


def parse_range(text: str) -> Range:
    """Range of `0 < x <= 2`, `1 <= x`, `x < 5` or `x`; ValueError where the text is none of these or is empty."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a range such as '0 <= x < 2' or '1 <= x'")
    low, low_sign, high_sign, high = match.groups()
    result = Range(
        low=-math.inf if low is None else _number(low),
        high=math.inf if high is None else _number(high),
        open_low=low_sign != "<=",
        open_high=high_sign != "<=",
    )
    if result.low > result.high or (result.low == result.high and (result.open_low or result.open_high)):
        raise ValueError(f"{text!r} holds no number")
    return result


def _number(text: str) -> int | float:
    # int64 bounds are not floats: they have to stay exact
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def check_type(name: str) -> str:
    """`name` itself if it is a type of this notation, else ValueError."""
    inner = name
    while True:
        if inner.endswith("[]"):
            inner = inner[:-2].removesuffix("?")
        elif found := _MAP.fullmatch(inner):
            inner = found.group(1)
        else:
            break
    if inner not in _SCALARS:
        raise ValueError(f"{name!r} is not a type: one of {', '.join(_SCALARS)}, T[], T?[] or map<string,T>")
    return name


def is_finite_number(value: object) -> bool:
    """A JSON number that is no NaN and no infinity, not even as a double; True and False are not numbers."""
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return False
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fits(value: object, name: str, *, integral: bool = False) -> bool:
    """Whether a JSON value is of type `name`. `integral`: 50.0 is an integer too (never 50.5, never true)."""
    if name.endswith("[]"):
        return isinstance(value, list | tuple) and all(fits(item, name[:-2], integral=integral) for item in value)
    if name.endswith("?"):
        return value is None or fits(value, name[:-1], integral=integral)
    if found := _MAP.fullmatch(name):
        inner = found.group(1)
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and fits(item, inner, integral=integral) for key, item in value.items()
        )
    if name == "string":
        return isinstance(value, str)
    if name == "boolean":
        return isinstance(value, bool)
    if name == "object":
        return isinstance(value, Mapping)
    if name == "number":
        return is_finite_number(value)
    whole = isinstance(value, int) or (integral and isinstance(value, float) and value.is_integer())
    return is_finite_number(value) and whole


def as_integers(value: object) -> object:
    """The same JSON value with every integral float made an int (`{"5": 2.0}` becomes `{"5": 2}`)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [as_integers(item) for item in value]
    if isinstance(value, Mapping):
        return {key: as_integers(item) for key, item in value.items()}
    return value


def same_json(one: object, other: object) -> bool:
    """Equality as JSON sees it: true is not 1, 1.0 is 1, lists and tuples are both arrays."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same_json(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    return one == other
