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
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from refsample.api.builder import Builder
from refsample.api.tools import ANY_TEXT, ToolSet, json_rule
from refsample.api.wire import loads
from refsample.errors import ParameterError
from refsample.generation.constrain import Grammar, check_schema
from refsample.generation.grammars import written
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
    check_schema(_source(wish), wish.place)
    return tools.grammar_with(json_rule(wish.value))


def after_thought(grammar: Grammar, marks: Marks) -> Grammar:
    """`grammar` for an answer that may think aloud first: the thought is free, what follows its mark has the form.

    An answer that is already inside its thought has to end it.
    """
    if grammar.kind == "json_schema":
        check_schema(grammar.source, grammar.field)
    form, begin = written(grammar.kind, grammar.source, grammar.field), "thought"
    if not marks.opened:
        begin = f"({json.dumps(marks.open)} thought)?"
        # or free text could begin with the mark, and what is a thought would be read as text
        form = form.replace(ANY_TEXT, f"{ANY_TEXT} & ~/{re.escape(marks.open)}(?s:.*)/")
    source = f"start: {begin} %lark {{\n{form}\n}}\nthought[lazy]: /(?s:.*)/ {json.dumps(marks.close)}\n"
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
    value, place = take.value(name), take.name(name)
    if value is None:
        return None
    return _Wish(name, _GUIDED[name], _schema(take, place, value) if name == "guided_json" else value, place)


def _schema(take: Builder, place: str, value: object) -> Mapping[str, Any]:
    """A JSON Schema, sent as an object or as its text."""
    if isinstance(value, str):
        try:
            value = loads(value.encode())
        except ParameterError as error:
            raise take.wrong(place, value, f"as text of JSON, it {error.rule}") from None
    if not isinstance(value, Mapping):
        raise take.wrong(place, value, "must be a JSON Schema: an object, or its text", "invalid_type")
    return value


def _response_format(take: Builder) -> _Wish | None:
    value, name = take.value("response_format"), "response_format"
    if value is None or value["type"] == "text":
        return None
    if value["type"] == "json_object":
        return _Wish(name, "json_object", None, take.name(name))
    place, inner = f"{take.name(name)}.json_schema", value.get("json_schema")
    if inner is None:
        rule = "is required by type json_schema"
        raise take.wrong(place, value.get("json_schema", ...), rule, "missing_required_parameter")
    return _Wish(name, "json_schema", inner["schema"], f"{place}.schema")


def _source(wish: _Wish) -> str:
    """What the wish says, as a grammar's source: a schema and choices as JSON text."""
    if wish.kind == "json_object":
        return ""
    return wish.value if isinstance(wish.value, str) else json.dumps(wish.value, ensure_ascii=False)
