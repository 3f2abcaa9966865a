"""The text of one choice as the deltas of an answer: content, calls of tools. Knows no chunk and no other choice."""

from __future__ import annotations

from typing import Any

from refsample.api.answer import Job
from refsample.api.toolstream import ToolStream, message

Delta = dict[str, Any]


class Voice:
    """Feed it the text of a choice as it comes, then finish it."""

    __slots__ = ("_calls",)

    def __init__(self, job: Job) -> None:
        tools = job.request.tools
        self._calls = None if tools is None else ToolStream(tools)

    def feed(self, text: str) -> list[Delta]:
        """What became certain with this text."""
        if self._calls is not None:
            return self._calls.feed(text)
        return [{"content": text}] if text else []

    def finish(self, reason: str) -> tuple[list[Delta], str]:
        """What was held back, and why the choice ended, as an answer says it."""
        if self._calls is None:
            return [], reason
        return self._calls.finish(), self._calls.finish_reason(reason)


def spoken(job: Job, text: str, reason: str) -> tuple[Delta, str]:
    """A whole text as the fields of a message, and why it ended. What it is worth as a stream, joined, is the same."""
    tools = job.request.tools
    return ({"content": text}, reason) if tools is None else message(text, tools, reason)
