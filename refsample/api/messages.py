"""The turns of a conversation as templates take them. Knows no template, no model and no HTTP.

Only fields that the provider's records list are read; the rest is ignored, and listed as such by the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from refsample.api.builder import Builder
from refsample.api.settings import joined_parts

# OpenAI's page: "developer messages replace the previous system messages"; a function message is the older name of a
# tool's. Templates know the names on the right.
_ROLES: Final = {"developer": "system", "function": "tool"}
_REASONING: Final = ("reasoning_content", "reasoning")


def messages(take: Builder) -> tuple[Mapping[str, Any], ...]:
    """Role, content and calls of each turn. Raises ParameterError."""
    name = take.name("messages")
    return tuple(_turn(take, f"{name}[{index}]", message) for index, message in enumerate(take.get("messages")))


def _turn(take: Builder, place: str, message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role", ...)
    if not isinstance(role, str):
        raise take.wrong(f"{place}.role", role, "must be a string", "invalid_type")
    said = {key: message[key] for key in message if _listed(take, key) and message[key] is not None}
    turn: dict[str, Any] = {"role": _ROLES.get(role, role)}
    calls = _calls(take, place, said) if role == "assistant" else []
    if calls:
        turn["tool_calls"] = calls
    reasoning = next((said[key] for key in _REASONING if key in said), None) if role == "assistant" else None
    if reasoning is not None:
        turn["reasoning_content"] = reasoning
    if "content" in said:
        turn["content"] = _content(take, f"{place}.content", said["content"])
    elif not calls and reasoning is None:
        raise _no_content(take, f"{place}.content", message.get("content", ...))
    return {**turn, **_answered(take, place, role, said)}


def _listed(take: Builder, key: str) -> bool:
    record = take.endpoint.parameters.get(f"messages[].{key}")
    return record is not None and not (take.strict and record.extension)


def _no_content(take: Builder, place: str, value: object) -> Exception:
    return take.wrong(place, value, "must be a string or an array of parts of type text", "invalid_type")


def _content(take: Builder, place: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise _no_content(take, place, content)
    return joined_parts(take, place, content)


def _answered(take: Builder, place: str, role: str, said: Mapping[str, Any]) -> dict[str, str]:
    """Which call a tool's message answers."""
    if role not in ("tool", "function"):
        return {}
    needed = "tool_call_id" if role == "tool" else "name"
    if not isinstance(said.get(needed), str):
        rule = f"is required in a message of role {role}: it says which call this answers"
        raise take.wrong(f"{place}.{needed}", said.get(needed, ...), rule, "missing_required_parameter")
    return {key: said[key] for key in ("tool_call_id", "name") if isinstance(said.get(key), str)}


def _calls(take: Builder, place: str, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Earlier calls of the assistant, the deprecated single one too, in the newer form."""
    calls = [
        {"id": call.get("id"), "type": "function", "function": _function(take, f"{here}.function", call)}
        for here, call in _objects(take, f"{place}.tool_calls", said.get("tool_calls") or ())
    ]
    if "function_call" in said:
        here = f"{place}.function_call"
        calls.append({"type": "function", "function": _function(take, here, {"function": said["function_call"]})})
    return calls


def _objects(take: Builder, place: str, entries: Any) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for index, entry in enumerate(entries):
        here = f"{place}[{index}]"
        if not isinstance(entry, Mapping):
            raise take.wrong(here, entry, "must be an object", "invalid_type")
        if entry.get("type", "function") != "function":
            raise take.wrong(f"{here}.type", entry["type"], "must be function, the only kind of tool")
        found.append((here, entry))
    return found


def _function(take: Builder, place: str, call: Mapping[str, Any]) -> dict[str, str]:
    function = call.get("function", ...)
    if not isinstance(function, Mapping):
        raise take.wrong(place, function, "must be an object with name and arguments", "invalid_type")
    for key in ("name", "arguments"):
        if not isinstance(function.get(key), str):
            raise take.wrong(f"{place}.{key}", function.get(key, ...), "must be a string", "invalid_type")
    return {"name": function["name"], "arguments": function["arguments"]}
