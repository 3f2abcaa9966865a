"""Records as JSON Schemas (draft 2020-12, as OpenAPI 3.1 has them): a request's body, an answer. Knows no path.

A request's schema is as tight as a schema can be and no tighter than the door: what does not fit it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from refsample.spec.notation import Range
from refsample.spec.records import EndpointSpec, FieldSpec, ParameterSpec

Schema = dict[str, Any]


def request_schema(endpoint: EndpointSpec, *, strict: bool, unknown: bool) -> Schema:
    """The body that an endpoint takes. `unknown`: fields without a record are let through."""
    made = _Requests(endpoint.parameters, strict, unknown)
    return made.object("")


@dataclass(frozen=True, slots=True)
class _Requests:
    records: Mapping[str, ParameterSpec]
    strict: bool
    unknown: bool

    def object(self, prefix: str) -> Schema:
        """The fields whose names are `prefix` and one more step; an object without records may hold anything."""
        found = {
            name.removeprefix(prefix): record
            for name, record in self.records.items()
            if name.startswith(prefix) and not set(".[") & set(name.removeprefix(prefix))
        }
        if not found:
            return {"type": "object"}
        shown = {name: record for name, record in found.items() if not (self.strict and record.extension)}
        required = [
            name for name, record in shown.items() if (record.printed_required if self.strict else record.required)
        ]
        schema: Schema = {
            "type": "object",
            "properties": {name: self.field(record) for name, record in shown.items()},
        }
        if required:
            schema["required"] = required
        return schema if self.unknown else {**schema, "additionalProperties": False}

    def field(self, record: ParameterSpec) -> Schema:
        nullable = record.printed_nullable if self.strict else record.nullable
        if record.support == "refused":
            options: list[Schema] = [{"enum": list(record.neutral)}] if record.neutral else []
        else:
            types = record.printed_types if self.strict else record.types
            options = [self.typed(record, name) for name in types]
        options += [{"type": "null"}] if nullable else []
        schema: Schema = dict(options[0]) if len(options) == 1 else {"anyOf": options} if options else {"not": {}}
        schema["description"] = record.meaning + ("" if not record.extension else " (not on the page)")
        bounds, default = self.bounds(record), record.default
        # one page prints a default outside the range that it prints (C1)
        if default is not None and (bounds is None or bounds.holds(default)):
            schema["default"] = default
        return schema

    def typed(self, record: ParameterSpec, name: str) -> Schema:
        if name.endswith("[]"):
            items = self.object(f"{record.name}[].") if name == "object[]" else self.typed(record, name[:-2])
            return {"type": "array", "items": items, **_count(record.length, "Items")}
        if name == "object":
            return self.object(f"{record.name}.")
        if name.startswith("map<"):
            return {"type": "object", "additionalProperties": self.typed(record, name[len("map<string,") : -1])}
        return self._scalar(record, name)

    def _scalar(self, record: ParameterSpec, name: str) -> Schema:
        if name == "boolean":
            return {"type": "boolean"}
        if name == "string":
            pattern = {"pattern": f"^(?:{record.pattern})$"} if record.pattern else {}
            allowed = record.printed_choices if self.strict else record.choices
            choices = {"enum": list(allowed)} if allowed else {}
            return {"type": "string", **_count(record.item_length, "Length"), **pattern, **choices}
        # a count that the page types as a float: in strict mode it has to be whole
        kind = "integer" if self.strict and record.truncated else name
        return {"type": kind, **_bounds(self.bounds(record))}

    def bounds(self, record: ParameterSpec) -> Range | None:
        return record.printed if self.strict and record.printed is not None else record.effective


def _bounds(bounds: Range | None) -> Schema:
    if bounds is None:
        return {}
    low, high = (
        ("exclusiveMinimum" if bounds.open_low else "minimum"),
        ("exclusiveMaximum" if bounds.open_high else "maximum"),
    )
    ends = {low: bounds.low, high: bounds.high}
    return {name: end for name, end in ends.items() if math.isfinite(end)}


def _count(bounds: Range | None, what: str) -> Schema:
    """minItems and maxItems, minLength and maxLength; lengths are written with closed ends."""
    if bounds is None:
        return {}
    ends = {f"min{what}": bounds.low, f"max{what}": bounds.high}
    return {name: int(end) for name, end in ends.items() if math.isfinite(end)}


def answer_schema(records: Mapping[str, FieldSpec], *, strict: bool) -> Schema:
    """An answer or a chunk: the recorded fields, our own key `refsample`, and nothing else."""
    shown = {name: record for name, record in records.items() if not (strict and record.extension)}
    schema = _answer_object(shown, "")
    schema["properties"]["refsample"] = {"type": "object", "description": "what this server adds: seed, ignored fields"}
    return schema


def _answer_object(records: Mapping[str, FieldSpec], prefix: str) -> Schema:
    steps = {
        name.removeprefix(prefix): record
        for name, record in records.items()
        if name.startswith(prefix) and not set(".[") & set(name.removeprefix(prefix))
    }
    if not steps:
        return {"type": "object"}
    return {
        "type": "object",
        "properties": {step: _answer_field(records, record) for step, record in steps.items()},
        "required": [step for step, record in steps.items() if record.required],
        "additionalProperties": False,
    }


def _answer_field(records: Mapping[str, FieldSpec], record: FieldSpec) -> Schema:
    options = [_answer_typed(records, record, name) for name in record.types]
    if record.nullable:
        options.append({"type": "null"})
    schema = options[0] if len(options) == 1 else {"anyOf": options}
    return {**schema, "description": record.meaning}


def _answer_typed(records: Mapping[str, FieldSpec], record: FieldSpec, name: str) -> Schema:
    if name.endswith("?[]"):
        inner = _answer_typed(records, record, name[:-3])
        return {"type": "array", "items": {"anyOf": [inner, {"type": "null"}]}}
    if name == "object[]":
        return {"type": "array", "items": _answer_object(records, f"{record.name}[].")}
    if name.endswith("[]"):
        return {"type": "array", "items": _answer_typed(records, record, name[:-2])}
    if name.startswith("map<"):
        return {"type": "object", "additionalProperties": {"type": name[len("map<string,") : -1]}}
    if name == "object":
        return _answer_object(records, f"{record.name}.")
    return {"type": name, "enum": list(record.choices)} if record.choices else {"type": name}


def listed(items: Schema) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items}


def closed(properties: Schema, optional: Iterable[str] = ()) -> Schema:
    """An object with these properties and no other."""
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
