"""Does a JSON answer have the fields a provider's page promises? Paths and types come from the provider's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refsample.spec.notation import fits
from refsample.spec.provider import FieldSpec

_MISSING = object()


def _at(value: Any, path: str) -> Iterator[Any]:
    """Every value at a path such as `choices[].logprobs.tokens`; _MISSING where the parent has no such key.

    A null or absent parent ends the walk: its own record speaks of it.
    """
    head, _, rest = path.partition(".")
    name, many = head.removesuffix("[]"), head.endswith("[]")
    if not isinstance(value, Mapping):
        return
    found = value.get(name, _MISSING)
    if not rest:
        yield found
        return
    for item in found if many and isinstance(found, list) else [] if many else [found]:
        if item is not _MISSING and item is not None:
            yield from _at(item, rest)


def shape_errors(body: Any, fields: Mapping[str, FieldSpec]) -> list[tuple[str, str]]:
    """(path, problem) of every field that is not as promised; one that is not on the page may be missing."""
    if not isinstance(body, Mapping):
        return [("", "is not a JSON object")]
    errors: list[tuple[str, str]] = []
    for path, spec in fields.items():
        for value in _at(body, path.removesuffix("[]")):
            problem = _problem(value, spec)
            if problem is not None:
                errors.append((path, problem))
                break
    return errors


def _problem(value: Any, spec: FieldSpec) -> str | None:
    if value is _MISSING:
        return "is missing" if spec.required and not spec.extension else None
    if value is None:
        return None if spec.nullable else "is null"
    if not any(fits(value, name) for name in spec.types):
        return f"is {type(value).__name__}, not {' or '.join(spec.types)}"
    if spec.choices and value not in spec.choices:
        return f"is {value!r}, not one of {', '.join(spec.choices)}"
    return None
