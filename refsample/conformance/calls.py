"""Acts of the fields that let an answer call functions: tools, tool_choice, their older forms. Knows no provider.

A page whose answers have no place for calls shows one by its finish_reason alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsample.conformance.act import ASK, Act, Seen, asker, refusal
from refsample.conformance.contract import first
from refsample.conformance.page import Page
from refsample.conformance.session import Session
from refsample.conformance.transport import Exchange

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def _function(name: str) -> dict[str, Any]:
    return {"name": name, "description": "Looks a word up.", "parameters": SCHEMA}


def _tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": _function(name)}


CALLS_LENGTH = 128
"""Tokens in which two calls have room: one that is cut short is not the only one."""
TOOLS = [_tool("look_up"), _tool("look_down")]


def _called(exchange: Exchange) -> tuple[tuple[str, ...] | None, str]:
    """Names of the functions that an answer calls, and what it looks like; None: it may have been cut short."""
    entry = exchange.json()["choices"][0]
    reason, said = entry.get("finish_reason"), entry.get("message")
    message: Mapping[str, Any] = said if isinstance(said, dict) else {}
    calls = [call.get("function") for call in message.get("tool_calls") or [] if isinstance(call, dict)]
    calls += [message["function_call"]] if message.get("function_call") else []
    names = tuple(str(call.get("name")) for call in calls if isinstance(call, dict))
    text = f"finish_reason {reason!r}, {len(names)} calls {', '.join(names)}".rstrip()
    if not names and reason == "tool_calls":
        return ("",), text
    return (None if not names and reason == "length" else names), text


def _ask(
    session: Session, page: Page, count: int = 64, **fields: Any
) -> tuple[Exchange, tuple[str, ...] | None, str]:
    exchange, answer = asker(session, page)(page.kind, ASK, **session.greedy(page.kind, count), **fields)
    return (exchange, (), "") if first(answer) is None else (exchange, *_called(exchange))


def _tools(session: Session, page: Page) -> Seen:
    must: dict[str, Any] = {"tool_choice": "required"} if page.takes("tool_choice") else {}
    exchange, names, said = _ask(session, page, tools=TOOLS[:1], **must)
    if not said:
        return refusal(exchange)
    return ("unknown" if names is None else "honoured" if names else "dropped"), said


def _tool_choice(session: Session, page: Page) -> Seen:
    """`required` gives a call, `none` gives none."""
    parts: list[str] = []
    for choice, wanted in (("required", True), ("none", False)):
        exchange, names, said = _ask(session, page, tools=TOOLS[:1], tool_choice=choice)
        if not said:
            status, why = refusal(exchange)
            return status, f"{choice}: {why}"
        parts.append(f"{choice}: {said}")
        if names is None and wanted:
            return "unknown", parts[-1]
        if bool(names) != wanted:
            return "dropped", parts[-1]
    return "honoured", "; ".join(parts)


def _named(session: Session, page: Page) -> Seen:
    """The function that is named is called, whichever of two that is."""
    parts: list[str] = []
    for tool in TOOLS:
        name = tool["function"]["name"]
        choice = {"type": "function", "function": {"name": name}}
        exchange, names, said = _ask(session, page, tools=TOOLS, tool_choice=choice)
        if not said:
            return refusal(exchange)
        parts.append(f"{name}: {said}")
        if names is None:
            return "unknown", parts[-1]
        if not names or set(names) - {name, ""}:
            return "dropped", parts[-1]
    return "honoured", "; ".join(parts)


def _parallel(session: Session, page: Page) -> Seen:
    """false: at most one call. Only where two come without it does one with it show anything."""
    must: dict[str, Any] = {"tool_choice": "required"} if page.takes("tool_choice") else {}
    exchange, names, said = _ask(session, page, CALLS_LENGTH, tools=TOOLS, parallel_tool_calls=False, **must)
    if not said:
        return refusal(exchange)
    if names is not None and len(names) > 1:
        return "dropped", f"false: {said}"
    _, free, more = _ask(session, page, CALLS_LENGTH, tools=TOOLS, **must)
    cut = names is None or exchange.json()["choices"][0].get("finish_reason") == "length"
    seen = not cut and free is not None and len(free) > 1
    return ("honoured" if seen else "unknown"), f"false: {said}; without it: {more or 'refused'}"


def _functions(session: Session, page: Page) -> Seen:
    """The older form: the one named is called, and with `none` no one is."""
    functions = [tool["function"] for tool in TOOLS]
    exchange, names, said = _ask(session, page, functions=functions, function_call={"name": "look_down"})
    if not said:
        return refusal(exchange)
    if names is None or names != ("look_down",):
        return ("unknown" if names is None else "dropped"), said
    exchange, names, none = _ask(session, page, functions=functions, function_call="none")
    if not none:
        return refusal(exchange)
    return ("dropped" if names else "honoured"), f"named: {said}; none: {none}"


CALLS: tuple[Act, ...] = (
    Act("tools", _tools, model_dependent=True),
    Act("tool_choice", _tool_choice, model_dependent=True),
    Act(
        "tool_choice.function.name",
        _named,
        model_dependent=True,
        inner=("tool_choice.type", "tool_choice.function"),
    ),
    Act("parallel_tool_calls", _parallel, model_dependent=True),
    Act("functions", _functions, model_dependent=True, inner=("function_call", "function_call.name")),
)
