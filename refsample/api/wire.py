"""JSON in and out, as strict as JSON itself: no NaN, no name twice, no broken Unicode. Knows no HTTP library."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from refsample.errors import ParameterError

SOURCE = "JSON, RFC 8259"
MAX_DEPTH = 64
"""Arrays and objects inside each other: many times what any request needs, and far from Python's recursion limit."""


def loads(data: bytes) -> Any:
    """The value of a body. ParameterError on "body", with line and column where there are any."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(f"is not UTF-8: byte {error.start} cannot be read") from None
    try:
        value = json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise _wrong(f"is not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise _wrong(_TOO_DEEP) from None
    except ValueError:
        raise _wrong("holds a number with too many digits") from None
    if _is_deep(value):
        raise _wrong(_TOO_DEEP)
    return value


_TOO_DEEP = f"is nested too deeply: more than {MAX_DEPTH} arrays and objects inside each other"


def _is_deep(value: Any) -> bool:
    """Whether a value goes deeper than MAX_DEPTH. Level by level, since recursion is what has to be kept off."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inside = (entry for each in level for entry in (each.values() if isinstance(each, dict) else each))
        level = [entry for entry in inside if isinstance(entry, dict | list)]
    return bool(level)


def _wrong(rule: str) -> ParameterError:
    return ParameterError("body", ..., rule, SOURCE, "invalid_json")


def _constant(name: str) -> NoReturn:
    raise _wrong(f"holds {name}, which is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name in counts if counts[name] > 1)
        raise _wrong(f"holds the name {twice!r} twice in one object")
    return result


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON; a lone surrogate, which UTF-8 cannot hold, becomes its escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")
