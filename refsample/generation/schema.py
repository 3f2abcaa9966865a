"""What of a JSON Schema can be kept while a text is written. It knows schemas, no grammars and no tokens.

llguidance refuses most of what it cannot keep, without saying where; this module finds the place. Four things more are
refused here: `minProperties` where keys are free (it may write one key twice, which counts once when it is read),
`multipleOf` with so many digits that it would be compiled for minutes, constants with characters that have to be
escaped by number, and schemas that only a text without an end satisfies. Dates and times are narrowed to real ones.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from decimal import Decimal

from refsample.errors import ParameterError

MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 100
"""Levels of JSON; llguidance reads 128."""
MAX_DIVISOR = 100_000
"""Least common multiple of all `multipleOf`, powers of ten left out: a state of the lexer for each remainder."""
_BY_NUMBER = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
"""Characters that JSON text holds as \\uXXXX, the last of them since llguidance writes no other way."""

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "additionalProperties", "items", "additionalItems", "not", "if", "then", "else", "contains", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems", "contentSchema",
)  # fmt: skip
_UNKNOWN_KEYS = re.compile(r'Unimplemented keys: \["([^"]+)"')
_UNKNOWN_FORMAT = re.compile(r"Unknown format: (\S+)")

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAY = f"(?:{_YEAR}-(?:(?:0[13-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
_TIME = "[0-9]{2}:[0-9]{2}:[0-5]"
_REAL = {"date": f"^{_DAY}", "time": f"^{_TIME}", "date-time": f"^{_DAY}[Tt]{_TIME}"}
"""What llguidance leaves open: every 29th of February, the year 0, and leap seconds, which few libraries read."""

Schema = Mapping[str, object]


def read_schema(source: str, field: str) -> dict[str, object]:
    """The schema in a JSON text. Raises ParameterError where it is none, is too large, or cannot be kept."""
    if len(source) > MAX_CHARACTERS:
        raise ParameterError(field, ..., f"must not be longer than {MAX_CHARACTERS} characters; it has {len(source)}")
    try:
        found = json.loads(source)
    except ValueError as error:
        raise ParameterError(field, source, f"must be JSON: {error}") from None
    except RecursionError:
        found = None
    if found is None or depth(found) > MAX_DEPTH:
        raise ParameterError(field, ..., f"must not be nested deeper than {MAX_DEPTH} levels")
    if not isinstance(found, dict):
        raise ParameterError(field, source, "must be a JSON object that holds a schema")
    for place, schema in positions(found):
        _check_counts(schema, place, field)
        _check_constants(schema, place, field)
    _check_divisors(found, field)
    if _endless(found):
        raise ParameterError(field, ..., "no text satisfies it: it requires itself inside itself, without an end")
    return found


def depth(value: object) -> int:
    """How many containers lie inside each other at most; 0 for a plain value."""
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        node, level = waiting.pop()
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
        if inner is not None:
            deepest = max(deepest, level + 1)
            waiting += [(child, level + 1) for child in inner]
    return deepest


def positions(schema: Schema, place: str = "#") -> Iterator[tuple[str, Schema]]:
    """Every schema in a schema with its JSON pointer, the whole one first. Boolean schemas are left out."""
    yield place, schema
    for name, inner in _inside(schema):
        if isinstance(inner, Mapping):
            yield from positions(inner, f"{place}/{name}")


def _inside(schema: Schema) -> Iterator[tuple[str, object]]:
    for key in _MAPS:
        for name, inner in _mapping(schema.get(key)).items():
            yield f"{key}/{name.replace('~', '~0').replace('/', '~1')}", inner
    for key in (*_LISTS, "items"):
        for place, inner in enumerate(_list(schema.get(key))):
            yield f"{key}/{place}", inner
    for key in _SINGLE:
        yield key, schema.get(key)


def narrowed(schema: Schema) -> dict[str, object]:
    """A copy in which dates and times are those of the calendar and the clock."""
    found = dict(schema)
    for key in _MAPS:
        if isinstance(inner := schema.get(key), Mapping):
            found[key] = {name: _narrowed(one) for name, one in inner.items()}
    for key in (*_LISTS, *_SINGLE):
        inner = schema.get(key)
        if isinstance(inner, list):
            found[key] = [_narrowed(one) for one in inner]
        elif isinstance(inner, Mapping):
            found[key] = narrowed(inner)
    if isinstance(name := schema.get("format"), str) and name in _REAL:
        found["allOf"] = [*_list(found.get("allOf")), {"pattern": _REAL[name]}]
    return found


def _narrowed(schema: object) -> object:
    return narrowed(schema) if isinstance(schema, Mapping) else schema


def located(reason: str, schema: Schema) -> str:
    """llguidance's reason with the place that it is about, where it names a keyword or a format."""
    if match := _UNKNOWN_KEYS.search(reason):
        key = match[1]
        place = next((place for place, inner in positions(schema) if key in inner), None)
        return f"keyword {key}{_at(place, key)} is not supported"
    if match := _UNKNOWN_FORMAT.search(reason):
        name = match[1]
        place = next((place for place, inner in positions(schema) if inner.get("format") == name), None)
        return f"format {name}{_at(place, 'format')} is not supported"
    if reason.startswith("oneOf constraints"):
        places = ", ".join(place for place, inner in positions(schema) if "oneOf" in inner)
        return f"keyword oneOf (at {places}) is supported only where its branches evidently exclude each other"
    return reason


def _at(place: str | None, key: str) -> str:
    return "" if place is None else f" at {place}/{key}"


def _check_counts(schema: Schema, place: str, field: str) -> None:
    least = schema.get("minProperties")
    closed = schema.get("additionalProperties") is False and not _mapping(schema.get("patternProperties"))
    sure = len(set(map(str, _list(schema.get("required"))))) + 1
    if isinstance(least, int | float) and least > sure and not closed:
        rule = f"keyword minProperties at {place}/minProperties is not supported above {sure} where keys are free"
        raise ParameterError(field, ..., rule)


def _check_constants(schema: Schema, place: str, field: str) -> None:
    for key in ("const", "enum"):
        if character := _BY_NUMBER.search(" ".join(_texts(schema.get(key)))):
            rule = f"keyword {key} at {place}/{key} holds {character[0]!r}: control characters are not supported"
            raise ParameterError(field, ..., rule)


def _texts(value: object) -> Iterator[str]:
    """All texts in a JSON value, names of objects too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (name, *_texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _check_divisors(root: Schema, field: str) -> None:
    common = 1
    for place, schema in positions(root):
        divisor = schema.get("multipleOf")
        if isinstance(divisor, bool) or not isinstance(divisor, int | float) or not 0 < divisor < math.inf:
            continue
        digits = Decimal(str(divisor)).normalize().as_tuple().digits
        common = math.lcm(common, int("".join(map(str, digits))))
        if common > MAX_DIVISOR:
            rule = (f"keyword multipleOf at {place}/multipleOf is not supported: the least common multiple of all of "
                    f"them may be {MAX_DIVISOR} at most, powers of ten apart")  # fmt: skip
            raise ParameterError(field, ..., rule)


def _endless(root: Schema) -> bool:
    """Whether no finite text satisfies a schema, since it requires itself inside itself: the least fixed point.

    Each reference waits for one that it needs, so that a chain of them takes as many steps as it has links.
    """
    ending: set[str] = set()
    waiting: dict[str, list[str]] = {}
    queue = [str(inner["$ref"]) for _, inner in positions(root) if "$ref" in inner]
    while queue:
        name = queue.pop()
        if name in ending:
            continue
        missing = _missing(_target(root, name), ending)
        if not missing:
            ending.add(name)
            queue += waiting.pop(name, [])
        for other in missing:
            waiting.setdefault(other, []).append(name)
    return bool(_missing(root, ending))


def _missing(schema: object, ending: Set[str]) -> list[str]:
    """References that a finite text of a schema waits for: none where there is one. In doubt: none."""
    if not isinstance(schema, Mapping):
        return []
    if "$ref" in schema and str(schema["$ref"]) not in ending:
        return [str(schema["$ref"])]
    for key in ("anyOf", "oneOf"):
        branches = [_missing(branch, ending) for branch in _list(schema.get(key))]
        if branches and all(branches):
            return [name for branch in branches for name in branch]
    for inner in _needed(schema):
        if missing := _missing(inner, ending):
            return missing
    return []


def _needed(schema: Schema) -> Iterator[object]:
    """Schemas of what every text of a schema holds."""
    yield from _list(schema.get("allOf"))
    if _is_only(schema, "object"):
        required = {str(name) for name in _list(schema.get("required"))}
        for name in required:
            yield from _of_property(schema, name)
        fixed = _mapping(schema.get("properties")) or _mapping(schema.get("patternProperties"))
        least = schema.get("minProperties")
        if isinstance(least, int) and least > len(required) and not fixed:
            yield schema.get("additionalProperties")
    least = schema.get("minItems")
    if _is_only(schema, "array") and isinstance(least, int):
        first = _list(schema.get("prefixItems"))
        yield from first[:least]
        if least > len(first):
            yield schema.get("items")


def _is_only(schema: Schema, name: str) -> bool:
    """Whether a schema takes values of one type alone."""
    return schema.get("type") in (name, [name])


def _of_property(schema: Schema, name: str) -> Iterator[object]:
    """The schemas that the value of one property has to satisfy."""
    properties, patterns = _mapping(schema.get("properties")), _mapping(schema.get("patternProperties"))
    try:
        matching = [inner for pattern, inner in patterns.items() if re.search(pattern, name)]
    except re.error:  # a pattern of Rust's that Python does not read
        return
    yield from matching
    if name in properties:
        yield properties[name]
    elif not matching:
        yield schema.get("additionalProperties")


def _target(root: Schema, reference: str) -> object:
    """What a reference inside the schema points at; None where it points elsewhere or nowhere: llguidance says so."""
    if reference != "#" and not reference.startswith("#/"):  # "#name" is an anchor, which llguidance does not know
        return None
    node: object = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping):
            node = node.get(name)
        else:
            return None
    return node


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
