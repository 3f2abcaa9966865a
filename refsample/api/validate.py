"""The door: a body (a JSON object) becomes a Request or a ParameterError that names field, value, rule and whose rule.

Types, ranges and nulls come from the provider's records, and from nowhere else; rules between fields are in
`refsample.api.requests`. Nothing is coerced; a field without effect is listed, not dropped silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from refsample.api.requests import build
from refsample.api.types import Fields, Request
from refsample.errors import ParameterError, SpecError
from refsample.spec.notation import Range, as_integers, fits, is_finite_number, same_json
from refsample.spec.provider import EndpointSpec, ParameterSpec, ProviderSpec

if TYPE_CHECKING:
    from refsample.generation.model import Model


def parse(
    body: object,
    provider: ProviderSpec,
    endpoint: str,
    *,
    strict: bool = False,
    model: Model | None = None,
    model_required: bool = False,
) -> Request:
    """The request that `body` makes at `endpoint` ("completions", "chat"). Raises ParameterError.

    `strict`: the page's printed types, ranges and behaviours, and nothing that is not on the page.
    `model`: also check token ids against its vocabulary. `model_required`: the body has to name a model, as over HTTP.
    """
    if endpoint not in provider.endpoints:
        raise SpecError(f"{provider.title} has no endpoint {endpoint!r}; it has {', '.join(provider.endpoints)}")
    spec = provider.endpoints[endpoint]
    if not isinstance(body, Mapping):
        raise ParameterError("body", body, "must be a JSON object", provider.title, code="invalid_type")
    fields = check_fields(body, provider, spec, strict=strict, model_required=model_required)
    return build(fields, provider, spec, strict=strict, model=model)


def check_fields(
    body: Mapping[str, Any], provider: ProviderSpec, endpoint: EndpointSpec, *, strict: bool, model_required: bool
) -> Fields:
    """Every field checked alone against its record. Raises ParameterError."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    ignored: list[str] = []
    reader = _Reader(provider, endpoint, strict)
    for name, value in body.items():
        if not isinstance(name, str):
            raise reader.error("body", name, "must have strings as keys", "invalid_type")
        record = reader.record(name, name, value)
        if record is None:
            ignored.append(name)
            continue
        checked = reader.check(record, name, value)
        ignored.extend(reader.ignored(record, name, value))
        known = values.get(record.means)
        if known is not None and checked is not None and not same_json(known, checked):
            rule = f"means the same as {names[record.means]} and must not differ from it"
            raise reader.error(name, value, rule, "invalid_value")
        if known is None:
            values[record.means], names[record.means] = checked, name
    for name, record in endpoint.parameters.items():
        inside = "." in name or "[]" in name
        missing = record.required and record.means not in values and not inside
        if missing and (name != "model" or model_required):
            rule = f"is required by {endpoint.path}{_hint(name, body)}"
            raise reader.error(name, ..., rule, "missing_required_parameter")
    return Fields(values, names, tuple(sorted(ignored)))


def _hint(name: str, body: Mapping[str, Any]) -> str:
    other = {"prompt": "messages", "messages": "prompt"}.get(name)
    return f"; {other} belongs to another endpoint" if other in body else ""


class _Reader:
    """The records of one endpoint, and the errors they lead to."""

    def __init__(self, provider: ProviderSpec, endpoint: EndpointSpec, strict: bool) -> None:
        self.provider, self.records, self.strict = provider, endpoint.parameters, strict

    def error(self, name: str, value: object, rule: str, code: str) -> ParameterError:
        return ParameterError(name, value, rule, self.provider.title, code=code)

    def record(self, name: str, path: str, value: object) -> ParameterSpec | None:
        """The record at `path` of the field that the user calls `name`; None if there is none and that is no error."""
        found = self.records.get(path)
        if found is not None and not (self.strict and found.extension):
            return found
        if self.provider.reading("unknown_fields", strict=self.strict) == "refused":
            raise self.error(name, value, "is not a parameter of this endpoint", "unknown_parameter")
        return None

    def check(self, record: ParameterSpec, name: str, value: Any) -> Any:
        """The value, with integral floats made integers where the record says so. Raises ParameterError."""
        if value is None:
            if record.nullable:
                return None
            raise self.error(name, None, f"must be {_types(record.types)}, not null", "invalid_type")
        types = record.printed_types if self.strict else record.types
        integral = record.integral and not self.strict
        if not any(fits(value, kind, integral=integral) for kind in types):
            raise self.error(name, value, f"must be {_types(types)}{_type_hint(record, value)}", "invalid_type")
        value = as_integers(value) if integral else value
        self._check_size(record, name, value)
        bounds = record.printed if self.strict else record.effective
        for place, number in _leaves(name, value):
            if bounds is not None and is_finite_number(number) and not bounds.holds(number):
                raise self.error(place, number, f"must lie in {bounds.about()}", "invalid_value")
            if isinstance(number, str):
                self._check_text(record, place, number)
        self._check_inside(record, name, value)
        if record.support == "refused" and not any(same_json(value, neutral) for neutral in record.neutral):
            raise self.error(name, value, f"is not supported here: {record.meaning}", "unsupported_parameter")
        return value

    def _check_size(self, record: ParameterSpec, name: str, value: object) -> None:
        if isinstance(value, list | tuple) and record.length is not None and not record.length.holds(len(value)):
            rule = f"must have {_count(record.length, 'entries')}, not {len(value)}"
            raise self.error(name, value, rule, "invalid_value")

    def _check_text(self, record: ParameterSpec, name: str, text: str) -> None:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error(name, text, "must be Unicode text without lone surrogates", "invalid_value")
        if record.choices and text not in record.choices:
            raise self.error(name, text, f"must be one of {', '.join(record.choices)}", "invalid_value")
        if record.item_length is not None and not record.item_length.holds(len(text)):
            rule = f"must have {_count(record.item_length, 'characters')}, not {len(text)}"
            raise self.error(name, text, rule, "invalid_value")

    def _check_inside(self, record: ParameterSpec, name: str, value: Any) -> None:
        """Fields of an object, and of each object of an array, against their own records."""
        prefix = f"{record.name}[]." if isinstance(value, list | tuple) else f"{record.name}."
        own = [path for path in self.records if path.startswith(prefix)]
        if not own:
            return
        for place, entry in _objects(name, value):
            for key, inner in entry.items():
                found = self.record(f"{place}.{key}", prefix + key, inner)
                if found is not None:
                    self.check(found, f"{place}.{key}", inner)
            for path in own:
                key = path.removeprefix(prefix)
                if self.records[path].required and key not in entry:
                    raise self.error(f"{place}.{key}", ..., "is required", "missing_required_parameter")

    def ignored(self, record: ParameterSpec, name: str, value: Any) -> Iterator[str]:
        """Names of what has no effect: the field itself, or fields inside it."""
        neutral = value is None or any(same_json(value, entry) for entry in record.neutral)
        if record.support == "ignored" and not neutral:
            yield name
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
