"""The tools of a request: which functions an answer may or must call, and the grammar of the calls. Reads no answer.

An answer writes its calls as Hermes and Qwen models do, whatever the model's own template shows them as:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo"}}
    </tool_call>

first text, if any, then one call or several, then the end. On a completions endpoint, which has no place for calls, the
text is the call's JSON itself, one call a line. The grammar holds every call to its schema: with `auto` the text is
free until a call begins (on a completions endpoint: a text that begins with a brace is a call).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from refsample.api.builder import Builder
from refsample.generation.constrain import Grammar
from refsample.generation.grammars import SEPARATORS
from refsample.generation.schema import read_schema

OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What functions and schemas may be called (OpenAI's page)."""

_OPEN_ENDED = (
    "$ref", "$dynamicRef", "additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames",
    "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Function:
    """One function that an answer may call."""

    name: str
    schema: Mapping[str, Any]
    """JSON Schema of its arguments, an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSet:
    """The tools of a request and what was asked of them."""

    offered: tuple[Mapping[str, Any], ...]
    """All of them, as a chat template reads them: {"type": "function", "function": {...}}."""
    functions: tuple[Function, ...]
    """Those that may be called: none with tool_choice none, one with a named choice."""
    field: str
    """The request field that brought them, for errors."""
    must: bool = False
    """At least one call, and no text."""
    parallel: bool = True
    """More than one call."""
    legacy: bool = False
    """Asked for by `functions`: answered by `function_call`."""
    bare: bool = False
    """A completions endpoint: the text is the JSON of the calls."""

    @property
    def grammar(self) -> Grammar | None:
        """What the answer is held to; None where nothing may be called."""
        return self.grammar_with(None)

    def grammar_with(self, content: str | None) -> Grammar | None:
        """The same for an answer that, where it calls nothing, has to be `content`: an expression in Lark."""
        return Grammar("tools", _lark(self, content), self.field) if self.functions else None


def tools(take: Builder) -> ToolSet | None:
    """The tools of a request; None without any. Raises ParameterError."""
    asked, old = take.get("tools"), take.get("functions")
    if asked and old:
        raise take.error("functions", f"is the older form of {take.fields.name('tools')}: send one of them")
    name, listed = ("functions", old) if old else ("tools", asked)
    choice_name = "function_call" if old else "tool_choice"
    if not listed:
        _no_choice(take)
        return None
    place = take.fields.name(name)
    if old:
        found = [_function(take, f"{place}[{index}]", one) for index, one in enumerate(old)]
    else:
        found = [_tool(take, f"{place}[{index}]", one) for index, one in enumerate(asked)]
    names = [str(function["name"]) for function in found]
    for index, known in enumerate(names):
        if known in names[:index]:
            raise take.wrong(f"{place}[{index}]", known, "is the name of two functions")
    mode, picked = _choice(take, choice_name, names)
    inner = "parameters" if old else "function.parameters"
    functions = tuple(
        Function(names[index], _arguments(one.get("parameters"), f"{place}[{index}].{inner}"))
        for index, one in enumerate(found)
        if mode != "none" and picked in (None, names[index])
    )
    several = not old and picked is None and take.get("parallel_tool_calls") is not False
    return ToolSet(
        offered=tuple({"type": "function", "function": one} for one in found),
        functions=functions,
        field=place,
        must=mode == "required",
        parallel=several,
        legacy=bool(old),
        bare=take.endpoint.kind == "completions",
    )


def _no_choice(take: Builder) -> None:
    """A choice among no tools asks for nothing, unless it asks for a call."""
    for name, list_name in (("tool_choice", "tools"), ("function_call", "functions")):
        if take.fields.value(name) not in (None, "none", "auto"):
            raise take.error(name, f"needs {take.fields.name(list_name)} to choose from")


def _tool(take: Builder, place: str, tool: object) -> Mapping[str, Any]:
    if not isinstance(tool, Mapping):
        raise take.wrong(place, tool, "must be an object", "invalid_type")
    if tool.get("type") != "function":
        kind = tool.get("type", ...)
        raise take.wrong(f"{place}.type", kind, "must be function: no other tools are run here", "invalid_value")
    return _function(take, f"{place}.function", tool.get("function", ...))


def _function(take: Builder, place: str, function: object) -> Mapping[str, Any]:
    """A function's definition, checked; fields that only describe it are kept for the template."""
    if not isinstance(function, Mapping):
        raise take.wrong(place, function, "must be an object", "invalid_type")
    name = function.get("name", ...)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise take.wrong(f"{place}.name", name, "must be 1 to 64 letters, digits, underscores or dashes")
    for key, kind, words in (("description", str, "a string"), ("strict", bool, "true or false")):
        if function.get(key) is not None and not isinstance(function[key], kind):
            raise take.wrong(f"{place}.{key}", function[key], f"must be {words}", "invalid_type")
    schema = function.get("parameters")
    if schema is not None and not isinstance(schema, Mapping):
        raise take.wrong(f"{place}.parameters", schema, "must be a JSON Schema object", "invalid_type")
    if schema is not None and schema.get("type", "object") != "object":
        rule = "must be object: the arguments of a function have names"
        raise take.wrong(f"{place}.parameters.type", schema["type"], rule)
    return {key: value for key, value in function.items() if value is not None}


def _choice(take: Builder, field: str, names: Sequence[str]) -> tuple[str, str | None]:
    """none, auto or required, and the one function that is named, if one is."""
    choice = take.fields.value(field)
    modes = ("none", "auto") if field == "function_call" else ("none", "auto", "required")
    if choice is None:
        return "auto", None
    if isinstance(choice, str) and choice in modes:
        return choice, None
    place = take.fields.name(field)
    rule = f"must be {', '.join(modes)} or an object that names a function"
    if not isinstance(choice, Mapping):
        raise take.wrong(place, choice, rule)
    if field == "tool_choice":
        if choice.get("type") != "function":
            raise take.wrong(f"{place}.type", choice.get("type", ...), "must be function")
        place, choice = f"{place}.function", choice.get("function")
    name = choice.get("name") if isinstance(choice, Mapping) else None
    if not isinstance(name, str) or name not in names:
        shown = ... if name is None else name
        raise take.wrong(f"{place}.name", shown, f"must be the name of one of the functions: {', '.join(names)}")
    return "required", name


def _arguments(schema: Mapping[str, Any] | None, place: str) -> Mapping[str, Any]:
    """The schema of a call's arguments. One that lists its properties and says nothing of others allows no others:
    a function has no use for an argument it does not name. No schema: no arguments (OpenAI's page)."""
    if schema is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    read_schema(json.dumps(schema), place)
    named, required = schema.get("properties"), schema.get("required", [])
    whole = {"type": "object", **schema}
    listed = isinstance(named, Mapping) and isinstance(required, list) and set(map(str, required)) <= set(named)
    if not listed or any(key in schema for key in _OPEN_ENDED):
        return whole
    return {**whole, "additionalProperties": False}


def _lark(asked: ToolSet, content: str | None) -> str:
    """The grammar in llguidance's Lark. A rule of one literal is no lexeme of its own, so tokens may span its ends."""
    opened, closed = ("", "") if asked.bare else (f"{OPEN}\n", f"\n{CLOSE}")
    lines = ["start: answer"]
    more = f" ({_quoted(chr(10) + opened)} call)*" if asked.parallel else ""
    first = f"{_quoted(opened)} call{more}" if opened else f"call{more}"
    if asked.must:
        lines.append(f"answer: {first}")
    elif content is not None:
        lines.append(f"answer: {content} | {first}")
    elif asked.bare:
        lines += [f"answer: TEXT? | {first}", r"TEXT: /(?s:[^{].*)/"]
    else:
        lines += [
            f"answer: TEXT | opened {_quoted(chr(10))} call{more}",
            f"opened[lazy]: TEXT {_quoted(OPEN)}",
            "TEXT: /(?s:.*)/",
        ]
    options = " | ".join(f"f{index}" for index in range(len(asked.functions)))
    lines.append(f"call: {_quoted('{' + _quoted('name') + ': ')} ({options}) {_quoted('}' + closed)}")
    for index, function in enumerate(asked.functions):
        begin = f"{_quoted(function.name)}, {_quoted('arguments')}: "
        lines.append(f"f{index}: {_quoted(begin)} {json_rule(function.schema)}")
    return "\n".join(lines) + "\n"


def json_rule(schema: Mapping[str, Any]) -> str:
    """JSON of a schema as an expression in Lark, laid out as everywhere."""
    return f"%json {json.dumps({**schema, 'x-guidance': SEPARATORS})}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
