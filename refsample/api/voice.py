"""The text of one choice as parts of an answer: thought, content, calls. Knows no chunk and no other choice."""

from __future__ import annotations

from typing import Any

from refsample.api.answer import Job
from refsample.api.toolstream import ToolStream, message
from refsample.text.reasoning import ThoughtStream, split

Delta = dict[str, Any]


class Voice:
    """Feed it the text of a choice as it comes, then finish it."""

    __slots__ = ("_calls", "_thought")

    def __init__(self, job: Job) -> None:
        tools = job.request.tools
        self._calls = None if tools is None else ToolStream(tools)
        self._thought = None if job.marks is None else ThoughtStream(job.marks)

    def feed(self, text: str) -> list[Delta]:
        """What became certain with this text."""
        if self._thought is None:
            return self._content(text) if text else []
        return self._told(self._thought.feed(text))

    def finish(self, reason: str) -> tuple[list[Delta], str]:
        """What was held back, and why the choice ended, as an answer says it."""
        rest = [] if self._thought is None else self._told(self._thought.finish())
        if self._calls is None:
            return rest, reason
        return [*rest, *self._calls.finish()], self._calls.finish_reason(reason)

    def _told(self, pieces: list[tuple[str, str]]) -> list[Delta]:
        deltas: list[Delta] = []
        for kind, text in pieces:
            deltas += self._content(text) if kind == "content" else [thought(text)]
        return deltas

    def _content(self, text: str) -> list[Delta]:
        return [{"content": text}] if self._calls is None else self._calls.feed(text)


def thought(text: str) -> Delta:
    """A thought under both names that clients know it by."""
    return {"reasoning_content": text, "reasoning": text}


def spoken(job: Job, text: str, reason: str) -> tuple[Delta, str]:
    """A whole text as the fields of a message, and why it ended: what its stream, joined, comes to."""
    thinking, content = (None, text) if job.marks is None else split(text, job.marks)
    fields: Delta = {} if thinking is None else thought(thinking)
    tools = job.request.tools
    if tools is None:
        return {**fields, "content": content}, reason
    called, said = message(content or "", tools, reason)
    return {**fields, **called}, said
