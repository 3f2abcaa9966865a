"""The door: a body against the provider's records, field by field. Knows no spec by name, no HTTP and no sampling.

Steps: JSON object -> fields that are merged into it -> each field alone (`refsample.api.fields`) -> names that mean
the same -> rules between fields in `refsample.api.requests`. A field without effect is listed, not dropped silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from refsample.api.fields import FieldReader
from refsample.api.requests import build
from refsample.api.types import Fields, Request
from refsample.errors import ParameterError, SpecError
from refsample.spec.notation import same_json
from refsample.spec.provider import EndpointSpec, ProviderSpec

if TYPE_CHECKING:
    from refsample.generation.model import Model

_OVER_HTTP = ("model", "token")
"""What only a body that came over HTTP has to have: in process there is one model and no key."""


def parse(
    body: object,
    provider: ProviderSpec,
    endpoint: str,
    *,
    strict: bool = False,
    model: Model | None = None,
    model_required: bool = False,
    flaws: frozenset[str] = frozenset(),
) -> Request:
    """The request that `body` makes at `endpoint` ("completions", "chat"). Raises ParameterError.

    `strict`: the page's printed types, ranges and behaviours, and nothing that is not on the page.
    `model`: also check token ids against its vocabulary. `model_required`: the body has to name a model (and carry the
    key that a page wants in it), as over HTTP. `flaws`: of `Behaviour.flaws`; "bound_not_enforced" checks no range.
    """
    if endpoint not in provider.endpoints:
        raise SpecError(f"{provider.title} has no endpoint {endpoint!r}; it has {', '.join(provider.endpoints)}")
    spec = provider.endpoints[endpoint]
    if not isinstance(body, Mapping):
        # without the value: a body that is no object may be anything, a key too
        raise ParameterError("body", ..., "must be a JSON object", provider.title, code="invalid_type")
    reader = FieldReader(provider, spec, strict, bounds="bound_not_enforced" not in flaws)
    fields = check_fields(body, reader, spec, model_required=model_required)
    return build(fields, provider, spec, strict=strict, model=model)


def sent_model(body: object, endpoint: EndpointSpec) -> object:
    """The model that a body names, unchecked: itself, or in an object that is merged into it. None: it names none."""
    if not isinstance(body, Mapping):
        return None
    inside = (body.get(outer) for outer in endpoint.merged)
    objects = (body, *(found for found in inside if isinstance(found, Mapping)))
    return next((found["model"] for found in objects if found.get("model") is not None), None)


def check_fields(
    body: Mapping[str, Any], reader: FieldReader, endpoint: EndpointSpec, *, model_required: bool
) -> Fields:
    """Every field checked alone against its record. Raises ParameterError."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    ignored: list[str] = []
    seen: set[str] = set()
    for place, name, value in _merged(body, reader, endpoint):
        record = reader.record(place, name)
        if record is None:
            ignored.append(place)
            continue
        checked = reader.check(record, place, value)
        ignored.extend(reader.ignored(record, place, value))
        seen.add(record.means)
        if record.secret or name in endpoint.merged:
            continue
        known = values.get(record.means)
        if known is None:
            values[record.means], names[record.means] = checked, place
        elif checked is not None and not same_json(_listed(known), _listed(checked)):
            lowest = record.means == "max_tokens" and reader.reading("token_limits") == "lowest"
            if not lowest:
                rule = f"means the same as {names[record.means]} and must not differ from it"
                raise reader.error(place, value, rule, "invalid_value")
            ignored.append(place if known <= checked else names[record.means])
            if checked < known:
                values[record.means], names[record.means] = checked, place
    for name, record in endpoint.parameters.items():
        inside = "." in name or "[]" in name
        missing = reader.needs(record) and record.means not in seen and not inside
        if missing and (record.means not in _OVER_HTTP or model_required):
            rule = f"is required by {endpoint.path}{_hint(name, body)}"
            raise reader.error(name, ..., rule, "missing_required_parameter")
    return Fields(values, names, tuple(sorted(ignored)))


def _listed(value: Any) -> Any:
    """A text alone as the list of it: that is what a field means which takes both, such as `stop`."""
    return [value] if isinstance(value, str) else value


def _merged(body: Mapping[str, Any], reader: FieldReader, endpoint: EndpointSpec) -> Iterator[tuple[str, str, Any]]:
    """Place, name and value of every field: those of the body, then those of the objects that are merged into it."""
    for name, value in body.items():
        if not isinstance(name, str):
            raise reader.error("body", name, "must have strings as keys", "invalid_type")
        yield name, name, value
    sent = {name: (name, value) for name, value in body.items() if value is not None}
    for outer in endpoint.merged:
        inside = body.get(outer)
        if not isinstance(inside, Mapping) or reader.record(outer, outer) is None:
            continue
        for name, value in inside.items():
            place = f"{outer}.{name}"
            first, other = sent.setdefault(name, (place, value))
            if first != place and value is not None and not same_json(other, value):
                raise reader.error(place, ..., f"is also sent as {first}, with another value", "invalid_value")
            if first == place:
                yield place, name, value


def _hint(name: str, body: Mapping[str, Any]) -> str:
    other = {"prompt": "messages", "messages": "prompt"}.get(name)
    return f"; {other} belongs to another endpoint" if other in body else ""
