"""Transcripts in a file, one JSON object a line. Knows nothing of models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refsample.checks import known_names
from refsample.errors import ParameterError
from refsample.files import once

KEYS = ("prompt", "completion")


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says, of the right kinds; the model has not seen it yet."""

    number: int
    prompt: object
    """Text, ids, messages, or None: the completion is a whole text."""
    completion: object

    @property
    def name(self) -> str:
        """What goes before a parameter's name in errors."""
        return f"line {self.number}: "


def read_lines(source: str) -> Iterator[Line]:
    """The lines of a file, or of standard input where `source` is `-`; empty ones are passed over.

    ParameterError that names the line, for one that is no JSON object, that has another key, or no completion.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise ParameterError("--file", source, f"cannot be read: {error.strerror}", "the command line") from None
    except UnicodeDecodeError:
        raise ParameterError("--file", source, "must be UTF-8", "the command line") from None
    if not text.strip():
        raise ParameterError("--file", source, "holds no transcript", "the command line")
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON may hold U+2028 and its like
        if line.strip():
            yield _line(number, line)


def _line(number: int, text: str) -> Line:
    where = f"line {number}"
    try:
        given = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ParameterError(where, text, f"is not JSON: {error}", "the file") from None
    if not isinstance(given, dict):
        raise ParameterError(where, given, "must be a JSON object", "the file")
    known_names(given, KEYS, f"the file, {where}")
    found = Line(number, given.get("prompt"), given.get("completion"))
    if not isinstance(found.prompt, str | list | None):
        raise ParameterError(f"{found.name}prompt", found.prompt, "must be text, token ids or messages", "the file")
    if not isinstance(found.completion, str | list):
        value = found.completion if "completion" in given else ...
        raise ParameterError(f"{found.name}completion", value, "must be text or token ids", "the file")
    for name in KEYS:
        value = given.get(name)
        if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ParameterError(f"{found.name}{name}", value, "must not hold half of a surrogate pair", "the file")
    return found
