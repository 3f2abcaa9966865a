"""The tools of a request: which functions an answer may or must call, and the grammar of the calls. Reads no answer.

What lies inside the fields is checked by the provider's records; here are the rules between them.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from refsample.api.builder import Builder
from refsample.generation.constrain import Grammar, check_schema
from refsample.generation.grammars import LAYOUT
from refsample.generation.schema import narrowed

OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"

ANY_TEXT: Final = "TEXT: /(?s:.*)/"
"""The line of the grammar that says what free text may be."""

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
        raise take.error("functions", f"is the older form of {take.name('tools')}: send one of them")
    name, listed = ("functions", old) if old else ("tools", asked)
    choice_name = "function_call" if old else "tool_choice"
    _no_choice_of_nothing(take)
    if not listed:
        return None
    place = take.name(name)
    found: list[Mapping[str, Any]] = [one if old else one["function"] for one in listed]
    names = [str(function["name"]) for function in found]
    earlier: set[str] = set()
    for index, known in enumerate(names):
        if known in earlier:
            raise take.wrong(f"{place}[{index}]", known, "is the name of two functions")
        earlier.add(known)
    mode, picked = _choice(take, choice_name, names)
    inner = "parameters" if old else "function.parameters"
    functions = tuple(
        Function(names[index], _arguments(take, one.get("parameters"), f"{place}[{index}].{inner}"))
        for index, one in enumerate(found)
        if mode != "none" and picked in (None, names[index])
    )
    several = not old and picked is None and take.get("parallel_tool_calls") is not False
    return ToolSet(
        offered=tuple(
            {"type": "function", "function": {k: one[k] for k in one if one[k] is not None}} for one in found
        ),
        functions=functions,
        field=place,
        must=mode == "required",
        parallel=several,
        legacy=bool(old),
        bare=take.endpoint.kind == "completions",
    )


def _no_choice_of_nothing(take: Builder) -> None:
    for choice, among in (("tool_choice", "tools"), ("function_call", "functions")):
        if not take.get(among) and take.value(choice) not in (None, "none", "auto"):
            raise take.error(choice, f"needs {take.name(among)} to choose from")


def _choice(take: Builder, field: str, names: Sequence[str]) -> tuple[str, str | None]:
    """none, auto or required, and the one function that is named, if one is."""
    choice = take.value(field, "auto")
    if isinstance(choice, str):
        return choice, None
    function, place = (choice, "name") if field == "function_call" else (choice["function"], "function.name")
    if function["name"] not in names:
        rule = f"must be the name of one of the functions: {', '.join(names)}"
        raise take.wrong(f"{take.name(field)}.{place}", function["name"], rule)
    return "required", str(function["name"])


def _arguments(take: Builder, schema: Mapping[str, Any] | None, place: str) -> Mapping[str, Any]:
    """The schema of a call's arguments. One that lists its properties and says nothing of others allows no others:
    a function has no use for an argument it does not name. No schema: no arguments (OpenAI's page)."""
    if schema is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if schema.get("type", "object") != "object":
        raise take.wrong(f"{place}.type", schema["type"], "must be object: the arguments of a function have names")
    whole = {"type": "object", **schema}
    check_schema(json.dumps(whole), place)
    named, required = schema.get("properties"), schema.get("required", [])
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
            ANY_TEXT,
        ]
    options = " | ".join(f"f{index}" for index in range(len(asked.functions)))
    lines.append(f"call: {_quoted('{' + _quoted('name') + ': ')} ({options}) {_quoted('}' + closed)}")
    for index, function in enumerate(asked.functions):
        begin = f"{_quoted(function.name)}, {_quoted('arguments')}: "
        lines.append(f"f{index}: {_quoted(begin)} {json_rule(function.schema)}")
    return "\n".join(lines) + "\n"


def json_rule(schema: Mapping[str, Any]) -> str:
    """JSON of a schema as an expression in Lark, laid out as everywhere."""
    return f"%json {json.dumps({**narrowed(schema), 'x-guidance': LAYOUT})}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
