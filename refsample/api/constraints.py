"""What form an answer has to take: response_format, the guided_* fields and tools as one grammar. Reads no answer.

Of several wishes one grammar is made, or the request is refused:
- guided_json and response_format json_object: guided_json, the narrower (or a 400, as the provider's file says);
- the same schema twice: that schema; two that differ, or two kinds of guided_*: a 400, for neither can be dropped;
- tools that must be called: the calls; tools that may be called: the calls or, instead of free text, the JSON that
  response_format or guided_json asks for. The other guided_* fields say what the whole text is, so with tools that
  may be called they are a 400.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from refsample.api.builder import Builder
from refsample.api.tools import NAME, ToolSet, json_rule
from refsample.generation.constrain import Grammar
from refsample.generation.grammars import written
from refsample.generation.schema import read_schema
from refsample.spec.notation import same_json
from refsample.text.reasoning import Marks

Kind = Literal["json_schema", "json_object", "regex", "choice", "grammar"]

_GUIDED: Final[Mapping[str, Kind]] = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}


@dataclass(frozen=True, slots=True)
class _Wish:
    """One field's wish."""

    name: str
    """The library's name of the field."""
    kind: Kind
    value: Any
    place: str
    """Where the user wrote it."""


def constraint(take: Builder, tools: ToolSet | None = None) -> Grammar | None:
    """The grammar of a request's answer; None where any text will do. Raises ParameterError.

    What a schema or a pattern says is only looked at when it is compiled.
    """
    guided = [wish for name in _GUIDED if (wish := _guided(take, name)) is not None]
    if len(guided) > 1:
        raise take.error(guided[1].name, f"cannot be combined with {guided[0].place}: each says what the answer is")
    wish = _one(take, guided[0] if guided else None, _response_format(take))
    if tools is None or not tools.functions:
        return None if wish is None else Grammar(wish.kind, _source(wish), wish.place)
    if wish is None or tools.must:
        return tools.grammar
    if wish.kind not in ("json_schema", "json_object"):
        raise take.error(wish.name, f"cannot be combined with {tools.field} that may be called: a call is no such text")
    if wish.kind == "json_object":
        return tools.grammar_with(json_rule({"type": "object"}))
    return tools.grammar_with(json_rule(read_schema(_source(wish), wish.place)))


def after_thought(grammar: Grammar, marks: Marks) -> Grammar:
    """`grammar` for an answer that may think aloud first: the thought is free, what follows its mark has the form.

    An answer that is already inside its thought has to end it.
    """
    form = f"%lark {{\n{written(grammar.kind, grammar.source, grammar.field)}\n}}"
    thought = "thought" if marks.opened else f"({json.dumps(marks.open)} thought)?"
    source = f"start: {thought} {form}\nthought[lazy]: /(?s:.*)/ {json.dumps(marks.close)}\n"
    return Grammar("tools", source, grammar.field)


def _one(take: Builder, guided: _Wish | None, format: _Wish | None) -> _Wish | None:
    """The one wish that counts."""
    if guided is None or format is None:
        return guided or format
    if take.reading("guided_and_format") == "refused":
        raise take.error(guided.name, f"cannot be combined with {format.place}")
    if format.kind == guided.kind == "json_schema":
        if not same_json(guided.value, format.value):
            raise take.error(guided.name, f"differs from the schema of {format.place}: send one schema")
        return guided
    if guided.kind != "json_schema":
        raise take.error(guided.name, f"cannot be combined with {format.place}: each says what the answer is")
    return guided


def _guided(take: Builder, name: str) -> _Wish | None:
    value, place = take.fields.value(name), take.fields.name(name)
    if value is None:
        return None
    if name == "guided_json":
        value = _schema(take, place, value)
    elif name == "guided_choice":
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise take.wrong(place, value, "must be an array of at least one string", "invalid_type")
        for index, one in enumerate(value):
            if not isinstance(one, str) or not one:
                raise take.wrong(f"{place}[{index}]", one, "must be a string that is not empty", "invalid_type")
    elif not isinstance(value, str) or not value:
        raise take.wrong(place, value, "must be a string that is not empty", "invalid_type")
    return _Wish(name, _GUIDED[name], value, place)


def _schema(take: Builder, place: str, value: object) -> Mapping[str, Any]:
    """A JSON Schema, sent as an object or as its text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise take.wrong(place, value, f"is a string that is no JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise take.wrong(place, value, "must be a JSON Schema: an object, or its text", "invalid_type")
    return value


def _response_format(take: Builder) -> _Wish | None:
    value, place = take.fields.value("response_format"), take.fields.name("response_format")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise take.wrong(place, value, "must be an object", "invalid_type")
    kind = value.get("type", ...)
    if kind == "text":
        return None
    if kind == "json_object":
        return _Wish("response_format", "json_object", None, place)
    if kind != "json_schema":
        raise take.wrong(f"{place}.type", kind, "must be text, json_object or json_schema")
    place = f"{place}.json_schema"
    inner = value.get("json_schema", ...)
    if not isinstance(inner, Mapping):
        raise take.wrong(place, inner, "must be an object with name and schema", "invalid_type")
    schema = inner.get("schema", ...)
    if not isinstance(schema, Mapping):
        raise take.wrong(f"{place}.schema", schema, "must be a JSON Schema object", "invalid_type")
    _check_names(take, place, inner)
    return _Wish("response_format", "json_schema", schema, f"{place}.schema")


def _check_names(take: Builder, place: str, inner: Mapping[str, Any]) -> None:
    name = inner.get("name", ...)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise take.wrong(f"{place}.name", name, "must be 1 to 64 letters, digits, underscores or dashes")
    if not isinstance(inner.get("strict"), bool | None):
        raise take.wrong(f"{place}.strict", inner["strict"], "must be true or false", "invalid_type")


def _source(wish: _Wish) -> str:
    """What the wish says, as a grammar's source: a schema and choices as JSON text."""
    if wish.kind == "json_object":
        return ""
    return wish.value if isinstance(wish.value, str) else json.dumps(wish.value, ensure_ascii=False)
