"""The forms that a request can ask for, written in llguidance's Lark dialect. It knows no vocabulary and no tokens.

JSON is written compactly: one space may follow a comma or a colon, and there is no other whitespace. A model that
writes noise would else go on with newlines for ever. No character is escaped by its number. Keys come in the order of
the schema, required ones first where they are not among `properties`; a key that the schema leaves free may come twice.

A `grammar` is Lark as llguidance reads it (its lexer is greedy), or GBNF as llama.cpp reads it, told apart by the rule
called `start` or `root`; GBNF goes through llguidance's own converter, as in vLLM. A regular expression is Rust's
(crate regex: no look-around, no back-references) and has to match the whole text.
"""

from __future__ import annotations

import json
import re
from typing import Final

from refsample.errors import ParameterError
from refsample.generation.schema import MAX_CHARACTERS, located, narrowed, read_schema

LAYOUT = {
    "whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?", "json_allowed_escapes": 'bfnrt"\\',
}  # fmt: skip
"""How JSON is written. No escape by number: llguidance compares keys as written, and "a" is not its own escape."""
EXACT = '\n%llguidance {"no_forcing": true}\n'
"""Every tokenization of a text is allowed, not the usual one alone. At the end, where it moves no line number."""

_DRAWING = re.compile(r"^(\s*\d+ \|.*|\s*\|?\s*\^+\s*)$", re.MULTILINE)
_PLACE = re.compile(r"^(?:at )?(\d+)\(\d+\):\s*")


def written(kind: str, source: str, field: str) -> str:
    """Lark text for a grammar of a kind. Raises ParameterError for a source that is malformed or cannot be kept."""
    if kind == "json_object":
        return _json({"type": "object"})
    if kind == "json_schema":
        return _json(read_schema(source, field))
    if len(source) > MAX_CHARACTERS:
        raise ParameterError(field, ..., f"must not be longer than {MAX_CHARACTERS} characters; it has {len(source)}")
    if "\0" in source or not source.strip():
        raise ParameterError(field, source, "must not be empty, nor hold a zero character")
    if kind == "choice":
        return _choice(source, field)
    if kind == "regex":
        return _regex(source) + EXACT
    return _lark(source, field) + EXACT


def explained(kind: str, source: str, message: str) -> str:
    """llguidance's message about what `written` gave, on one line and about the user's own text."""
    plain = " ".join(_DRAWING.sub("", message).split())
    if kind in ("json_schema", "json_object"):
        plain = _PLACE.sub("", plain).removeprefix("failed to compile JSON schema: ")
        return located(plain, json.loads(source)) if kind == "json_schema" else plain
    if kind == "regex":
        head, _, tail = plain.partition("(in regex): ")
        reason = (tail or head).rpartition("error: ")[2]
        return f"not a regular expression that can be kept: {reason}"
    return _PLACE.sub(r"line \1: ", plain)


def _json(schema: dict[str, object]) -> str:
    return "start: %json " + json.dumps({**narrowed(schema), "x-guidance": LAYOUT}) + EXACT


_WIDEST: Final = 1000
"""Alternatives of one rule: llguidance's parser follows no more than 2000 at a time; its lexer does."""


def _choice(source: str, field: str) -> str:
    try:
        texts = json.loads(source)
    except (ValueError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ParameterError(field, source, "must be a list of strings, at least one")
    for text in texts:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ParameterError(field, text, "must be Unicode text without lone surrogates")
    # A literal of Lark is written as in JSON, and `ensure_ascii` would split characters beyond U+FFFF in two.
    literals = [json.dumps(text, ensure_ascii=False) for text in texts]
    if len(texts) <= _WIDEST or "" in texts:  # one terminal is one lexeme, which may not be empty
        return "start: " + " | ".join(literals) + EXACT
    return "start: CHOICE\nCHOICE: " + " | ".join(literals) + EXACT


def _regex(source: str) -> str:
    from llguidance import LLMatcher

    return str(json.loads(LLMatcher.grammar_from_regex(source))["grammars"][0]["lark_grammar"])


def _lark(source: str, field: str) -> str:
    from llguidance import grammar_from

    try:
        return grammar_from("grammar", source)
    except ValueError as error:  # its converter's own errors, all of them under this name
        reason = " ".join(str(error).split()).removeprefix("Failed to convert the grammar from GBNF to Lark: ")
        raise ParameterError(field, ..., f"neither Lark (a rule `start:`) nor GBNF: {reason}", "llguidance") from None
