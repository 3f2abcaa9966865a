"""What every client asks for: the same prompts, the same tool, the same schema. Knows no client."""

from __future__ import annotations

from typing import Any

ONCE = "Once upon a time"
QUESTION = "Name an animal."
ASK: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
WORD: dict[str, Any] = {
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 12}},
    "required": ["word"],
    "additionalProperties": False,
}
"""The arguments of the tool."""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look_up", "description": "Look a word up.", "parameters": WORD},
}
ANIMAL: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "legs": {"type": "integer", "minimum": 0}},
    "required": ["name", "legs"],
    "additionalProperties": False,
}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "animal", "strict": True, "schema": ANIMAL}}
