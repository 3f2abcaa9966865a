"""Reads `specs/providers/*.toml` into the records of `refsample.spec.records`. Knows nothing of HTTP.

What a field is (types, meaning, the fields inside it) may stand once in `specs/fields.toml`; what a provider promises
of it (bounds, default, required, source, grade) stands in the provider's own file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from refsample.errors import SpecError, shorten
from refsample.spec.behaviours import BEHAVIOURS, FAILURES
from refsample.spec.load import find, folder, is_path, names, read
from refsample.spec.notation import Range, check_type, parse_range
from refsample.spec.records import (
    Auth,
    EndpointSpec,
    Failure,
    FieldSpec,
    HeaderSpec,
    ParameterSpec,
    ProviderSpec,
    Reading,
)
from refsample.spec.strict import from_table
from refsample.spec.types import KnownDifference

__all__ = [
    "BEHAVIOURS", "FAILURES", "Auth", "EndpointSpec", "Failure", "FieldSpec", "ParameterSpec", "ProviderSpec",
    "Reading", "provider", "provider_from", "providers",
]  # fmt: skip


def providers() -> tuple[str, ...]:
    """Names of the provider files."""
    return names("providers")


def provider(name_or_path: str) -> ProviderSpec:
    """The provider file of a name, or at a path that ends in .toml. Raises SpecError.

    A shipped file is read once; one at a path each time, for it may have changed.
    """
    if is_path(name_or_path):
        path = find("providers", name_or_path)
        return provider_from(read(path), path.name)
    return _shipped(name_or_path)


@cache
def _shipped(name: str) -> ProviderSpec:
    path = find("providers", name)
    return provider_from(read(path), path.name)


@cache
def _shared() -> Mapping[str, Any]:
    """`specs/fields.toml`: fields, groups of fields, usual behaviours."""
    return MappingProxyType(read(folder() / "fields.toml"))


def provider_from(data: Mapping[str, Any], where: str) -> ProviderSpec:
    """A ProviderSpec from a parsed file; `where` is its name for errors. Raises SpecError naming file and key."""
    rest = {"behaviours": {}, **_USUAL_PROVIDER, **data}
    sections = {key: _table(rest.pop(key, None), f"{where}: {key}") for key in _SECTIONS}
    sections["behaviours"] = {**_shared()["behaviours"], **sections["behaviours"]}
    built: dict[str, Any] = {
        "auth": _listed(rest.pop("auth", None), Auth, f"{where} [[auth]]", printed=True, required=False),
        "headers": _listed(rest.pop("headers"), HeaderSpec, f"{where} [[headers]]"),
        "known": _listed(rest.pop("known"), KnownDifference, f"{where} [[known]]"),
    }
    for key, cls, wanted in (("errors", Failure, FAILURES), ("behaviours", Reading, tuple(BEHAVIOURS))):
        section = sections[key]
        for name in section:
            if name not in wanted:
                raise SpecError(f"{where}: unknown key {key}.{name}")
        usual = {"printed": "nothing"} if cls is Failure else {}
        told = {name: {**usual, **entry} if isinstance(entry, dict) else entry for name, entry in section.items()}
        built[key] = MappingProxyType(
            {name: from_table(cls, told.get(name), f"{where} [{key}.{name}]") for name in wanted}
        )
    for name, reading in built["behaviours"].items():
        for value in (reading.printed, reading.effective):
            if value not in BEHAVIOURS[name]:
                raise SpecError(f"{where}: behaviours.{name}={value!r}: must be one of {', '.join(BEHAVIOURS[name])}")
    engine = rest.get("engine")
    if isinstance(engine, str) and engine not in ("unknown", *names("engines")) and not is_path(engine):
        raise SpecError(f"{where}: engine={engine!r}: must be unknown or one of {', '.join(names('engines'))}")
    built["endpoints"] = _each(sections["endpoints"], f"{where} endpoints", _endpoint)
    return from_table(ProviderSpec, rest, where, **built)


_SECTIONS: Final = ("errors", "behaviours", "endpoints")
# What a file that does not say otherwise means: TOML has no null, and fifty times "nullable = false" hides the rest.
_USUAL_PROVIDER: Final[Mapping[str, Any]] = MappingProxyType(
    {"models_path": "/v1/models", "models_shape": "openai", "model_names": "plain", "known": [], "headers": []}
)
_USUAL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "required": False, "nullable": False, "choices": [], "pattern": "", "integral": False, "truncated": False,
        "extension": False, "secret": False, "support": "served",
        "kept_for": [], "decisions": [],
    }
)  # fmt: skip
_USUAL_FIELD: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "required": True, "nullable": False, "choices": [], "extension": False, "decisions": [], "source": "page",
        "grade": "A",
    }
)  # fmt: skip


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecError(f"{where} is missing" if value is None else f"{where}={shorten(value)}: must be a table")
    return dict(value)


def _listed(value: object, cls: type[Any], where: str, **usual: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise SpecError(f"{where} is missing" if value is None else f"{where}={shorten(value)}: must be a list")
    entries = (_table(entry, f"{where} {i}") for i, entry in enumerate(value))
    return tuple(from_table(cls, {**usual, **entry}, f"{where} {i}") for i, entry in enumerate(entries))


def _each(section: object, where: str, make: Callable[[str, dict[str, Any], str], Any]) -> Mapping[str, Any]:
    tables = _table(section, where)
    return MappingProxyType(
        {name: make(name, _table(table, f"{where}.{name}"), f"{where}.{name}") for name, table in tables.items()}
    )


def _endpoint(name: str, table: dict[str, Any], where: str) -> EndpointSpec:
    built: dict[str, Any] = {"name": name}
    for key, make in (("parameters", _parameter), ("response", _field), ("chunk", _field)):
        own = _table(table.pop(key, None), f"{where}.{key}")
        usual = _table(own.pop("usual", {}), f"{where}.{key}.usual")
        shared = _groups(own.pop("groups", []), key, f"{where}.{key}")
        records = {**own, **{name: record for name, record in shared.items() if name not in own}}
        told = {name: {**usual, **_table(record, f"{where}.{key}.{name}")} for name, record in records.items()}
        built[key] = _each(told, f"{where}.{key}", make)
    table = {"printed_id_prefix": table.get("id_prefix"), "merged": [], **table}
    return from_table(EndpointSpec, table, where, **built)


def _groups(wanted: object, key: str, where: str) -> dict[str, Any]:
    """The records of the shared groups that an endpoint takes as they are; its own records come before them."""
    groups = _shared()["groups"]
    known = groups[key] if key == "parameters" else {**groups["answer"], **groups[key]}
    if not isinstance(wanted, list):
        raise SpecError(f"{where}: groups={shorten(wanted)}: must be a list")
    found: dict[str, Any] = {}
    for group in wanted:
        if group not in known:
            raise SpecError(f"{where}: groups: {shorten(group)} is none of {', '.join(known)}")
        found |= known[group]
    return found


def _parameter(name: str, table: dict[str, Any], where: str) -> ParameterSpec:
    table = {**_shared()["fields"].get(table.pop("like", name), {}), **table}
    ranges = {key: _parsed(table, key, where) for key in ("printed", "effective", "length", "item_length")}
    _check_types(table, where)
    default, neutral = table.pop("default", None), table.pop("neutral", [])
    if not isinstance(neutral, list):
        raise SpecError(f"{where}: neutral={shorten(neutral)}: must be a list")
    table = {"means": name, **_USUAL, **table}
    for key in ("types", "required", "nullable", "choices"):
        if key in table:
            table.setdefault(f"printed_{key}", table[key])
    return from_table(ParameterSpec, table, where, name=name, default=default, neutral=tuple(neutral), **ranges)


def _field(name: str, table: dict[str, Any], where: str) -> FieldSpec:
    _check_types(table, where)
    table = {**_USUAL_FIELD, **_shared()["answers"].get(name, {}), **table}
    table.setdefault("absent", "null" if table["nullable"] else "omit")
    table.setdefault("printed_types", table.get("types"))
    return from_table(FieldSpec, table, where, name=name)


def _parsed(table: dict[str, Any], key: str, where: str) -> Range | None:
    text = table.pop(key, None)
    if text is None:
        return None
    try:
        return parse_range(str(text))
    except ValueError as error:
        raise SpecError(f"{where}: {key}={text!r}: {error}") from None


def _check_types(table: Mapping[str, Any], where: str) -> None:
    for key in ("types", "printed_types"):
        for name in table.get(key, ()):
            try:
                check_type(str(name))
            except ValueError as error:
                raise SpecError(f"{where}: {key}: {error}") from None
