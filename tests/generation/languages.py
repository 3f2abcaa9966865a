"""Small languages by derivatives (Brzozowski 1964): what may follow a text, without any library. Knows no tokens.

A language is None (empty), a tuple ("", ), ("byte", set), ("cat", a, b), ("alt", a, b) or ("star", a).
"""

from __future__ import annotations

from typing import Any

Language = tuple[Any, ...] | None
NOTHING: Language = ("",)
"""The language of the empty text alone."""


def literal(text: bytes) -> Language:
    found: Language = NOTHING
    for byte in reversed(text):
        found = cat(("byte", frozenset({byte})), found)
    return found


def cat(left: Language, right: Language) -> Language:
    if left is None or right is None:
        return None
    return right if left == NOTHING else left if right == NOTHING else ("cat", left, right)


def alt(left: Language, right: Language) -> Language:
    if left is None or right is None or left == right:
        return right if left is None else left
    return ("alt", left, right)


def star(inner: Language) -> Language:
    return NOTHING if inner is None or inner == NOTHING else ("star", inner)


def has_empty(language: Language) -> bool:
    match language:
        case None | ("byte", _):
            return False
        case ("",) | ("star", _):
            return True
        case ("cat", left, right):
            return has_empty(left) and has_empty(right)
        case ("alt", left, right):
            return has_empty(left) or has_empty(right)
    raise AssertionError(language)


def after(language: Language, text: bytes) -> Language:
    """What may follow `text`; None where nothing that starts with it is in the language."""
    for byte in text:
        language = _after_byte(language, byte)
    return language


def _after_byte(language: Language, byte: int) -> Language:
    match language:
        case None | ("",):
            return None
        case ("byte", allowed):
            return NOTHING if byte in allowed else None
        case ("cat", left, right):
            first = cat(_after_byte(left, byte), right)
            return alt(first, _after_byte(right, byte)) if has_empty(left) else first
        case ("alt", left, right):
            return alt(_after_byte(left, byte), _after_byte(right, byte))
        case ("star", inner):
            return cat(_after_byte(inner, byte), language)
    raise AssertionError(language)
