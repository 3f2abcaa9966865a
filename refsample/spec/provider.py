"""What a provider's API promises, as frozen records read from `specs/providers/*.toml`. Knows nothing of HTTP.

Every bound and every behaviour is kept twice: `printed` is what the page says, `effective` what a careful reader makes
of it, with a grade of the evidence for that reading. Strict mode serves the printed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal

from refsample.errors import SpecError, shorten
from refsample.spec.load import find, is_path, names, read
from refsample.spec.notation import Range, check_type, fits, parse_range
from refsample.spec.strict import from_table

Grade = Literal["A", "B", "C", "run", "3p"]
"""A: the provider's own page; B: upstream specification or engine; C: inference; run: executed; 3p: a third party."""
Support = Literal["served", "ignored", "refused"]
Kind = Literal["completions", "chat"]
Envelope = Literal["openai"]

BEHAVIOURS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "stop_text": ("removed", "kept"),
        "best_of_floor": ("n", "above_n"),
        "unknown_fields": ("ignored", "refused"),
        "usage_chunk": ("on_request", "always"),
        "greedy_n": ("allowed", "refused"),
        "overlong": ("refused", "lowered"),
    }
)
"""Behaviours that pages read differently, and the readings."""
FAILURES: Final = (
    "invalid", "context_length", "unknown_model", "unauthorized", "unknown_path", "method", "too_large", "internal",
)  # fmt: skip
"""Kinds of failure that every provider file has to give a status and a type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One request field. `name` may reach inside: `stream_options.include_usage`, `messages[].role`."""

    name: str
    means: str
    """The library's name for it where the provider calls it otherwise; several fields may mean the same."""
    types: tuple[str, ...]
    printed_types: tuple[str, ...]
    required: bool
    nullable: bool
    default: Any
    """The provider's default; None where the page prints none."""
    printed: Range | None
    effective: Range | None
    length: Range | None
    """How many entries an array may hold."""
    item_length: Range | None
    """How many characters a string, or each string of an array, may hold."""
    choices: tuple[str, ...]
    """The only strings allowed; empty: any."""
    integral: bool
    """50.0 is taken as the integer 50."""
    extension: bool
    """Not on the provider's page: taken by default, an unknown field in strict mode."""
    support: Support
    """served; ignored: checked, then without effect and listed as such; refused: 400 unless null or neutral."""
    neutral: tuple[Any, ...]
    """Values of an ignored or refused field that ask for nothing."""
    meaning: str
    source: str
    grade: Grade

    def __post_init__(self) -> None:
        """A record agrees with itself: its default is one of its own values. Raises SpecError."""
        value, bounds = self.default, self.effective
        if value is not None and not any(fits(value, name) for name in self.types):
            raise SpecError(f"default={shorten(value)}: is of none of the types {', '.join(self.types)}")
        if isinstance(value, int | float) and bounds is not None and not bounds.holds(value):
            raise SpecError(f"default={value}: breaks the effective range {bounds.about()}")
        if value is not None and self.choices and value not in self.choices:
            raise SpecError(f"default={shorten(value)}: is none of {', '.join(self.choices)}")
        if self.extension and self.printed is not None:
            raise SpecError("printed: an extension is not on the page, so no range of it is printed")
        if self.neutral and self.support == "served":
            raise SpecError("neutral: only an ignored or refused field has neutral values")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One field of an answer; `name` is its path, such as `choices[].logprobs.tokens`."""

    name: str
    types: tuple[str, ...]
    required: bool
    nullable: bool
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """One path: what it takes and what it answers, whole and as chunks of a stream."""

    name: str
    path: str
    kind: Kind
    id_prefix: str
    object: str
    chunk_object: str
    parameters: Mapping[str, ParameterSpec]
    response: Mapping[str, FieldSpec]
    chunk: Mapping[str, FieldSpec]

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise SpecError(f"path={self.path!r}: must start with '/'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A behaviour that can be read in more than one way."""

    printed: str
    effective: str
    source: str
    grade: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How one kind of failure is reported; an empty code is null."""

    status: int
    type: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """The header that carries the key, and the word before it."""

    header: str
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One file of `specs/providers/`."""

    name: str
    title: str
    version: str
    """Which edition of the page was read."""
    source: str
    engine: str
    """Name of an engine file, or "unknown": then `reference` samples."""
    envelope: Envelope
    """Shape of an error's body."""
    auth: Auth
    errors: Mapping[str, Failure]
    behaviours: Mapping[str, Reading]
    endpoints: Mapping[str, EndpointSpec]

    def reading(self, behaviour: str, *, strict: bool = False) -> str:
        """The reading of a behaviour that is served: the printed one in strict mode."""
        found = self.behaviours[behaviour]
        return found.printed if strict else found.effective


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


def provider_from(data: Mapping[str, Any], where: str) -> ProviderSpec:
    """A ProviderSpec from a parsed file; `where` is its name for errors. Raises SpecError naming file and key."""
    rest = dict(data)
    sections = {key: _table(rest.pop(key, None), f"{where}: {key}") for key in _SECTIONS}
    built: dict[str, Any] = {"auth": from_table(Auth, sections["auth"], f"{where} [auth]")}
    for key, cls, wanted in (("errors", Failure, FAILURES), ("behaviours", Reading, tuple(BEHAVIOURS))):
        section = sections[key]
        for name in section:
            if name not in wanted:
                raise SpecError(f"{where}: unknown key {key}.{name}")
        built[key] = MappingProxyType(
            {name: from_table(cls, section.get(name), f"{where} [{key}.{name}]") for name in wanted}
        )
    for name, reading in built["behaviours"].items():
        for value in (reading.printed, reading.effective):
            if value not in BEHAVIOURS[name]:
                raise SpecError(f"{where}: behaviours.{name}={value!r}: must be one of {', '.join(BEHAVIOURS[name])}")
    built["endpoints"] = _each(sections["endpoints"], f"{where} endpoints", _endpoint)
    return from_table(ProviderSpec, rest, where, **built)


_SECTIONS: Final = ("auth", "errors", "behaviours", "endpoints")


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecError(f"{where} is missing" if value is None else f"{where}={shorten(value)}: must be a table")
    return dict(value)


def _each(section: object, where: str, make: Callable[[str, dict[str, Any], str], Any]) -> Mapping[str, Any]:
    tables = _table(section, where)
    return MappingProxyType(
        {name: make(name, _table(table, f"{where}.{name}"), f"{where}.{name}") for name, table in tables.items()}
    )


def _endpoint(name: str, table: dict[str, Any], where: str) -> EndpointSpec:
    parameters = _each(table.pop("parameters", None), f"{where}.parameters", _parameter)
    response = _each(table.pop("response", None), f"{where}.response", _field)
    chunk = _each(table.pop("chunk", None), f"{where}.chunk", _field)
    built: dict[str, Any] = {"name": name, "parameters": parameters, "response": response, "chunk": chunk}
    return from_table(EndpointSpec, table, where, **built)


# What a record that does not say otherwise means: TOML has no null, and fifty times "nullable = false" hides the rest.
_USUAL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "required": False,
        "nullable": False,
        "choices": [],
        "integral": False,
        "extension": False,
        "support": "served",
    }
)


def _parameter(name: str, table: dict[str, Any], where: str) -> ParameterSpec:
    ranges = {key: _parsed(table, key, where) for key in ("printed", "effective", "length", "item_length")}
    table.setdefault("means", name)
    table.setdefault("printed_types", table.get("types", []))
    _check_types(table, where)
    default, neutral = table.pop("default", None), table.pop("neutral", [])
    if not isinstance(neutral, list):
        raise SpecError(f"{where}: neutral={shorten(neutral)}: must be a list")
    built: dict[str, Any] = {"name": name, "default": default, "neutral": tuple(neutral), **ranges}
    return from_table(ParameterSpec, {**_USUAL, **table}, where, **built)


def _field(name: str, table: dict[str, Any], where: str) -> FieldSpec:
    _check_types(table, where)
    return from_table(FieldSpec, {"required": True, "nullable": False, "choices": [], **table}, where, name=name)


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
