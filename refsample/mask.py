"""A key, kept out of what is logged, answered or recorded, however it is spelled there. Knows no HTTP and no JSON.

A server masks its own in its log and its errors; the verifier masks the run's in all that an endpoint says back, for a
gateway that debugs echoes the headers it got.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SHORTEST = 6
"""Shorter keys are not looked for: they stand in words that have nothing to do with them."""
MASK = "***"
BACKSLASHES = r"\\+"


def masker(key: str | None) -> Callable[[str], str]:
    """Replaces the key in a text: as it stands, as JSON may escape it (a character or all), or as a URL does."""
    if not key or len(key) < SHORTEST:
        return lambda text: text
    pattern = re.compile("".join(_forms(char) for char in key))
    return lambda text: pattern.sub(MASK, text)


def _forms(char: str) -> str:
    """One character in its spellings; the backslashes of JSON within JSON are any number."""
    units = char.encode("utf-16-be", "surrogatepass")
    escaped = "".join(rf"\\+u{_any_case(units[at : at + 2].hex())}" for at in range(0, len(units), 2))
    in_url = "".join(f"%{_any_case(f'{byte:02x}')}" for byte in char.encode("utf-8", "surrogatepass"))
    return f"(?:{in_url}|{escaped}|{BACKSLASHES}{re.escape(char)}|{re.escape(char)})"


def _any_case(digits: str) -> str:
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in digits)
