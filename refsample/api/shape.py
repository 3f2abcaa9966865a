"""Which fields an answer shows, and what stands where there is nothing: the provider's records say it. Knows no models.

Answers are built as a superset of what any provider shows; of that, exactly the recorded fields are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from refsample.spec.provider import FieldSpec

_ANY_KEY: Final = "{key}"
"""A record `x.{key}` says what all values of the object x are, under whatever keys."""
_CHANGES: Final = "delta"
"""An object that shows what came, so a field that did not come is never shown."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The records of one answer as a tree; the root has neither name nor record."""

    name: str
    record: FieldSpec | None
    fields: Mapping[str, Shape]


def shape_of(records: Mapping[str, FieldSpec], *, strict: bool = False) -> Shape:
    """The tree of records whose names are paths such as `choices[].message.content`. `strict`: the page's own only."""
    return _branch("", "", {name: one for name, one in records.items() if not (strict and one.extension)})


def _branch(name: str, path: str, records: Mapping[str, FieldSpec]) -> Shape:
    """The part of the tree at `path`, which is written without the brackets of its own array."""
    inside = (f"{path}.", f"{path}[].") if path else ("",)
    below: dict[str, str] = {}
    for found in records:
        for prefix in inside:
            if found.startswith(prefix):
                step = found.removeprefix(prefix).split(".")[0].removesuffix("[]")
                below[step] = prefix + step
    return Shape(name, records.get(path), {step: _branch(step, whole, records) for step, whole in below.items()})


def fitted(value: Any, shape: Shape) -> Any:
    """`value` with the fields that `shape` has, and no other."""
    if not shape.fields or _ANY_KEY in shape.fields:
        return value
    if isinstance(value, list):
        return [fitted(entry, shape) for entry in value]
    return _object(value, shape) if isinstance(value, Mapping) else value


def _object(value: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, field in shape.fields.items():
        found = value.get(name)
        if found is not None:
            kept[name] = fitted(found, field)
        elif field.record is None or (shape.name == _CHANGES and name not in value):
            continue
        elif name in value and field.record.nullable:
            kept[name] = None
        elif field.record.absent != "omit":
            kept[name] = [] if field.record.absent == "empty" else None
    return kept
