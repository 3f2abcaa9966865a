"""One field of a body against its record: type, null, size, range, what lies inside. Knows no rule between fields.

Nothing is coerced and nothing repaired; the one exception is a record that says so (`integral`, `truncated`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from refsample.errors import ParameterError
from refsample.spec.notation import Range, as_integers, fits, is_finite_number, same_json
from refsample.spec.provider import EndpointSpec, ParameterSpec, ProviderSpec


class FieldReader:
    """The records of one endpoint, and the errors they lead to. `bounds`: whether ranges are enforced at all."""

    def __init__(self, provider: ProviderSpec, endpoint: EndpointSpec, strict: bool, bounds: bool = True) -> None:
        self.provider, self.records, self.strict, self.bounds = provider, endpoint.parameters, strict, bounds

    def error(self, name: str, value: object, rule: str, code: str) -> ParameterError:
        return ParameterError(name, value, rule, self.provider.title, code=code)

    def reading(self, behaviour: str) -> str:
        return self.provider.reading(behaviour, strict=self.strict)

    def record(self, name: str, path: str) -> ParameterSpec | None:
        """The record at `path` of the field that the user calls `name`; None if there is none and that is no error."""
        found = self.records.get(path)
        if found is not None and not (self.strict and found.extension):
            return found
        if self.reading("unknown_fields") == "refused":
            # its value stays out of the error: where a field is unknown it may be anything, a key too
            raise self.error(name, ..., "is not a parameter of this endpoint", "unknown_parameter")
        return None

    def check(self, record: ParameterSpec, name: str, value: Any) -> Any:
        """The value, with integral floats made integers where the record says so. Raises ParameterError."""
        try:
            return self._checked(record, name, value)
        except ParameterError as error:
            if record.secret:
                raise self.error(name, ..., error.rule, error.code) from None
            if record.extension and error.source == self.provider.title:  # no rule of a page that lacks the field
                raise ParameterError(error.parameter, error.value, error.rule, record.source, error.code) from None
            raise

    def _checked(self, record: ParameterSpec, name: str, value: Any) -> Any:
        types = record.printed_types if self.strict else record.types
        if value is None:
            if record.printed_nullable if self.strict else record.nullable:
                return None
            raise self.error(name, None, f"must be {_types(types)}, not null", "invalid_type")
        integral = record.integral and not self.strict
        if not any(fits(value, kind, integral=integral) for kind in types):
            raise self.error(name, value, f"must be {_types(types)}{_type_hint(record, value)}", "invalid_type")
        value = as_integers(value) if integral else value
        value = self._counted(record, name, value) if record.truncated else value
        self._check_size(record, name, value)
        self._check_leaves(record, name, value)
        self._check_inside(record, name, value)
        if record.support == "refused" and not any(same_json(value, neutral) for neutral in record.neutral):
            said = f"is not supported here: {record.meaning}"
            raise ParameterError(name, value, said, "refsample", "unsupported_parameter")
        return value

    def _counted(self, record: ParameterSpec, name: str, value: float) -> int:
        """A count that the page types as a float (C27)."""
        if self.strict and int(value) != value:
            raise self.error(name, value, "counts tokens, so it must be a whole number", "invalid_value")
        self._check_leaves(record, name, value)  # before the fraction goes: -0.5 is no 0
        return int(value)

    def _check_size(self, record: ParameterSpec, name: str, value: object) -> None:
        if isinstance(value, list | tuple) and record.length is not None and not record.length.holds(len(value)):
            rule = f"must have {_count(record.length, 'entries')}, not {len(value)}"
            raise self.error(name, value, rule, "invalid_value")

    def _check_leaves(self, record: ParameterSpec, name: str, value: Any) -> None:
        printed = self.strict and record.printed is not None
        bounds = record.printed if printed else record.effective
        # what lies inside an object has records of its own, or none
        own = not isinstance(value, Mapping) and not any(isinstance(v, Mapping) for v in _entries(value))
        for place, leaf in _leaves(name, value):
            if self.bounds and bounds is not None and is_finite_number(leaf) and not bounds.holds(leaf):
                raise self.error(place, leaf, f"must lie in {bounds.about()}", "invalid_value")
            if isinstance(leaf, str):
                self._check_text(record, place, leaf, own)

    def _check_text(self, record: ParameterSpec, name: str, text: str, own: bool) -> None:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error(name, text, "must be Unicode text without lone surrogates", "invalid_value")
        if not own:
            return
        choices = record.printed_choices if self.strict else record.choices
        if choices and text not in choices:
            raise self.error(name, text, f"must be one of {', '.join(choices)}", "invalid_value")
        if record.item_length is not None and not record.item_length.holds(len(text)):
            rule = f"must have {_count(record.item_length, 'characters')}, not {len(text)}"
            raise self.error(name, text, rule, "invalid_value")
        if record.pattern and not re.fullmatch(record.pattern, text):
            raise self.error(name, text, f"must match {record.pattern}", "invalid_value")

    def _check_inside(self, record: ParameterSpec, name: str, value: Any) -> None:
        """Fields of an object, and of each object of an array, against their own records."""
        prefix = f"{record.name}[]." if isinstance(value, list | tuple) else f"{record.name}."
        own = [path for path in self.records if path.startswith(prefix)]
        if not own:
            return
        for place, entry in _objects(name, value):
            for key, inner in entry.items():
                found = self.record(f"{place}.{key}", prefix + key)
                if found is not None:
                    self.check(found, f"{place}.{key}", inner)
            for path in own:
                key = path.removeprefix(prefix)
                deeper = "." in key or "[]" in key
                if not deeper and self.needs(self.records[path]) and key not in entry:
                    raise self.error(f"{place}.{key}", ..., "is required", "missing_required_parameter")

    def needs(self, record: ParameterSpec) -> bool:
        """Whether a body has to have this field."""
        return record.printed_required and not record.extension if self.strict else record.required

    def ignored(self, record: ParameterSpec, name: str, value: Any) -> Iterator[str]:
        """Names of what has no effect: the field itself, or fields inside it."""
        neutral = value is None or any(same_json(value, entry) for entry in record.neutral)
        if record.support == "ignored" and not neutral:
            yield name
        if record.truncated and isinstance(value, float) and not value.is_integer():
            yield f"{name} (its fraction)"
        prefix = f"{record.name}[]." if isinstance(value, list | tuple) else f"{record.name}."
        if not any(path.startswith(prefix) for path in self.records):
            return
        for place, entry in _objects(name, value):
            for key, inner in entry.items():
                found = self.records.get(prefix + key)
                if found is None:
                    yield f"{place}.{key}"
                else:
                    yield from self.ignored(found, f"{place}.{key}", inner)


def _entries(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else ()


def _objects(name: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        yield name, value
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            if isinstance(entry, Mapping):
                yield f"{name}[{index}]", entry


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Numbers and strings of a value with their places: `stop[1]`, `logit_bias.50256`, `prompt[0][3]`."""
    if isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _leaves(f"{name}[{index}]", entry)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(f"{name}.{key}", entry)
    else:
        yield name, value


_PLAIN = {"string": "a string", "integer": "an integer", "number": "a finite number", "boolean": "true or false",
          "object": "an object"}  # fmt: skip
_MANY = {"string": "strings", "integer": "integers", "number": "finite numbers", "boolean": "booleans",
         "object": "objects"}  # fmt: skip


def _types(types: tuple[str, ...]) -> str:
    return " or ".join(_type(name) for name in types)


def _type(name: str, many: bool = False) -> str:
    if name.endswith("[]"):
        return f"{'arrays' if many else 'an array'} of {_type(name[:-2], many=True)}"
    if name.startswith("map<"):
        inner = _type(name[len("map<string,") : -1], many=True)
        return f"{'objects' if many else 'an object'} with values that are {inner}"
    return _MANY[name] if many else _PLAIN[name]


def _type_hint(record: ParameterSpec, value: object) -> str:
    if record.name == "messages" and isinstance(value, str):
        return '; for one message of a user write [{"role": "user", "content": "..."}]'
    return ""


def _count(bounds: Range, what: str) -> str:
    """`1 to 4 entries`, `1 or more entries`; lengths are written with closed ends."""
    if bounds.high == float("inf"):
        return f"{bounds.low} or more {what}"
    return f"{bounds.low} to {bounds.high} {what}"
