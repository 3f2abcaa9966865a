"""The forms that a request can ask for, written in llguidance's Lark dialect. It knows no vocabulary and no tokens.

JSON is written compactly: one space may follow a comma or a colon, and there is no other whitespace. A model that
writes noise would else go on with newlines for ever.
"""

from __future__ import annotations

import json

from refsample.errors import ParameterError

SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
EXACT = '\n%llguidance {"no_forcing": true}\n'
"""Every tokenization of a text is allowed, not the usual one alone."""


def written(kind: str, source: str, field: str) -> str:
    """Lark text for a grammar of some kind. Raises ParameterError for a source that is malformed or not supported."""
    if kind == "json_schema":
        return _json(_object(source, field))
    if kind == "json_object":
        return _json({"type": "object"})
    if kind == "choice":
        return "start: " + " | ".join(json.dumps(s, ensure_ascii=False) for s in json.loads(source)) + EXACT
    if kind == "regex":
        from llguidance import LLMatcher

        return str(json.loads(LLMatcher.grammar_from_regex(source))["grammars"][0]["lark_grammar"]) + EXACT
    return source + EXACT


def _object(source: str, field: str) -> dict[str, object]:
    try:
        found = json.loads(source)
    except ValueError as error:
        raise ParameterError(field, source, f"must be JSON: {error}") from None
    if not isinstance(found, dict):
        raise ParameterError(field, source, "must be a JSON object")
    return found


def _json(schema: dict[str, object]) -> str:
    return "start: %json " + json.dumps({**schema, "x-guidance": SEPARATORS}) + EXACT


def one_line(text: str) -> str:
    """A library's message without its line breaks and drawings."""
    return " ".join(text.split())
