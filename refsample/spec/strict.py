"""Strict reading of a parsed table into a frozen dataclass, by its annotations. It knows no particular spec.

Nothing has a default and nothing is coerced, except an int where a float is wanted: TOML writers omit the point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from refsample.errors import SpecError, shorten

Record = TypeVar("Record")


def hints(cls: type) -> Mapping[str, Any]:
    """Field name -> resolved annotation of a dataclass."""
    found = get_type_hints(cls)
    return MappingProxyType({field.name: found[field.name] for field in fields(cls)})


def problem(hint: Any, value: object) -> str | None:
    """The rule that `value` breaks as a field annotated `hint`; None if it keeps it."""
    origin = get_origin(hint)
    if origin is Literal:
        allowed = get_args(hint)
        fits = isinstance(value, str) and value in allowed
        return None if fits else "must be one of " + ", ".join(map(str, allowed))
    if origin is tuple:
        item = get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            return "must be a list"
        return _first_problem(item, enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        item = get_args(hint)[1]
        if not isinstance(value, Mapping):
            return "must be a table"
        return _first_problem(item, value.items())
    return _scalar_problem(hint, value)


def _first_problem(hint: Any, parts: Iterable[tuple[object, object]]) -> str | None:
    broken = ((key, part, problem(hint, part)) for key, part in parts)
    return next((f"item {key} is {shorten(part)} and {rule}" for key, part, rule in broken if rule), None)


def _scalar_problem(hint: Any, value: object) -> str | None:
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
        return None if number else "must be a number"
    if hint is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "must be an integer"
    return None if isinstance(value, hint) else f"must be of type {hint.__name__}"


def converted(hint: Any, value: Any) -> Any:
    """A value that `problem` passed, in the field's own frozen type."""
    origin = get_origin(hint)
    if origin is tuple:
        return tuple(converted(get_args(hint)[0], part) for part in value)
    if origin is not None and origin is not Literal:
        return MappingProxyType({key: converted(get_args(hint)[1], part) for key, part in value.items()})
    return float(value) if hint is float else value


def from_table(cls: type[Record], table: object, where: str, **built: object) -> Record:
    """A `cls` from a parsed table.

    `where` names file and section for errors; `built` are fields that the caller has made already (the table must
    not hold them). Raises SpecError for an unknown key, a missing key, a bad value or a broken rule of `cls`.
    """
    if not isinstance(table, Mapping):
        raise SpecError(f"{where} is missing" if table is None else f"{where}: must be a table")
    wanted = {name: hint for name, hint in hints(cls).items() if name not in built}
    unknown = sorted(set(table) - set(wanted))
    if unknown:
        raise SpecError(f"{where}: unknown key {unknown[0]}")
    missing = [name for name in wanted if name not in table]
    if missing:
        raise SpecError(f"{where}: missing key {missing[0]}")
    values: dict[str, object] = {}
    for name, hint in wanted.items():
        rule = problem(hint, table[name])
        if rule:
            raise SpecError(f"{where}: {name}={shorten(table[name])}: {rule}")
        values[name] = converted(hint, table[name])
    try:
        return cls(**values, **built)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
