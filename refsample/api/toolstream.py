"""Calls in an answer's text: split off whole, or piece by piece as the text comes. Knows no grammar and no schema.

Arguments are passed on as they were written, never parsed and written again, so a stream joined is the whole answer.
An answer that ends inside a call shows the part of its arguments that there is, as OpenAI's does, and keeps the reason
why it ended (length, or a stop string's stop): only where every call is complete is the reason `tool_calls`. It is so
for a call that was forced by name too, where OpenAI and vLLM say `stop`: nothing else tells that the call is whole.
What ends before its name is known is not shown: it was to be a call. Text that is no call is content.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any

from refsample.api.tools import CLOSE, OPEN, ToolSet

Delta = dict[str, Any]
"""{"content": text}, {"tool_calls": [one call or a piece of one]} or {"function_call": a call or a piece of one}."""


class _Value:
    """Where the JSON object that is being read ends."""

    __slots__ = ("depth", "escaped", "quoted")

    def __init__(self) -> None:
        self.depth, self.quoted, self.escaped = 0, False, False

    def end(self, text: str) -> int | None:
        """How many characters of `text` the object still takes; None: all of them, and more is to come."""
        for index, character in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.quoted:
                self.escaped, self.quoted = character == "\\", character != '"'
            elif character == '"':
                self.quoted = True
            elif character in "{[":
                self.depth += 1
            elif character in "}]":
                self.depth -= 1
                if self.depth == 0:
                    return index + 1
        return None


class ToolStream:
    """The deltas of one choice. Feed it the answer's text as it comes, then finish it."""

    __slots__ = (
        "_buffer", "_calls", "_closed", "_heads", "_mark", "_next", "_shown", "_stage", "_tail", "_tools", "_value",
    )  # fmt: skip

    def __init__(self, tools: ToolSet) -> None:
        self._tools = tools
        self._buffer = ""
        self._stage = "plain" if not tools.functions else "call" if tools.bare else "text"
        self._mark = ""  # what led into the call that is being read
        self._tail = "}" if tools.bare else f"}}\n{CLOSE}"
        self._next = "\n" if tools.bare else f"\n{OPEN}\n"
        self._heads = {f'{{"name": {json.dumps(one.name)}, "arguments": {{': one.name for one in tools.functions}
        self._calls = self._closed = 0
        self._shown = False
        self._value = _Value()

    def feed(self, text: str) -> list[Delta]:
        """What became certain with this text; nothing that may still be the beginning of a call's mark."""
        self._buffer += text
        deltas: list[Delta] = []
        stage = ""
        while stage != self._stage:
            stage = self._stage
            deltas += self._step()
        if self._tools.bare:
            return [{"content": text}] if text else []
        return deltas

    def finish(self) -> list[Delta]:
        """What is left when the text has ended."""
        rest, self._buffer = self._buffer, ""
        cut = self._stage == "tail" and self._tail.startswith(rest)
        cut = cut or (self._stage == "next" and self._next.startswith(rest))
        return [] if self._tools.bare or cut or self._stage == "call" or not rest else [{"content": rest}]

    def finish_reason(self, reason: str) -> str:
        """`reason` as the sampler gave it, or that there are calls and every one is complete."""
        if reason != "stop" or self._calls == 0 or self._closed < self._calls or self._stage != "next":
            return reason
        return "function_call" if self._tools.legacy else "tool_calls"

    def _step(self) -> list[Delta]:
        """As much of the buffer as the present stage can read; it moves on to the next stage if it is done."""
        if self._stage == "text":
            return self._text()
        if self._stage == "call":
            return self._head()
        if self._stage == "arguments":
            return self._arguments()
        if self._stage == "tail" and self._buffer.startswith(self._tail):
            self._closed += 1
            self._move("next", len(self._tail))
        elif self._stage == "next":
            if self._buffer.startswith(self._next):
                self._mark = self._next
                self._move("call", len(self._next))
        elif self._stage == "plain":
            return self._content(len(self._buffer))
        return []

    def _move(self, stage: str, read: int) -> None:
        self._stage, self._buffer = stage, self._buffer[read:]

    def _content(self, size: int) -> list[Delta]:
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self._shown = self._shown or bool(text)
        return [{"content": text}] if text else []

    def _text(self) -> list[Delta]:
        """Text up to a mark. White space before the first call is no content; until there is more, it waits."""
        mark = f"{OPEN}\n"
        at = self._buffer.find(mark)
        if at < 0:
            held = next(size for size in range(len(mark) - 1, -1, -1) if self._buffer.endswith(mark[:size]))
            sure = len(self._buffer) - held
            return self._content(sure) if self._shown or self._buffer[:sure].strip() else []
        deltas = self._content(at) if self._shown or self._buffer[:at].strip() else []
        self._mark = mark if deltas or self._shown else self._buffer[:at] + mark
        self._move("call", self._buffer.index(mark) + len(mark))
        return deltas

    def _head(self) -> list[Delta]:
        head = next((head for head in self._heads if self._buffer.startswith(head)), None)
        if head is None:
            if not any(head.startswith(self._buffer) for head in self._heads):
                self._stage, self._buffer = "plain", self._mark + self._buffer
            return []
        self._move("arguments", len(head) - 1)  # its last brace is where the arguments begin
        self._calls, self._value = self._calls + 1, _Value()
        called = {"name": self._heads[head], "arguments": ""}
        if self._tools.legacy:
            return [{"function_call": called}]
        start = {"index": self._calls - 1, "id": f"call_{secrets.token_hex(12)}", "type": "function"}
        return [{"tool_calls": [{**start, "function": called}]}]

    def _arguments(self) -> list[Delta]:
        end = self._value.end(self._buffer)
        piece = self._buffer[:end]
        self._move("arguments" if end is None else "tail", len(piece))
        if not piece:
            return []
        if self._tools.legacy:
            return [{"function_call": {"arguments": piece}}]
        return [{"tool_calls": [{"index": self._calls - 1, "function": {"arguments": piece}}]}]


def joined(deltas: Iterable[Delta]) -> tuple[str | None, list[dict[str, Any]]]:
    """A stream's deltas as the whole: content (None where there are calls and no text) and the calls made."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        if "content" in delta:
            texts.append(delta["content"])
            continue
        pieces = delta["tool_calls"] if "tool_calls" in delta else [{"function": delta["function_call"]}]
        for piece in pieces:
            if "name" in piece["function"]:
                own = {key: value for key, value in piece.items() if key in ("id", "type")}
                calls.append({**own, "function": dict(piece["function"])})
            else:
                calls[-1]["function"]["arguments"] += piece["function"]["arguments"]
    return ("".join(texts) or None) if calls else "".join(texts), calls


def split(text: str, tools: ToolSet) -> tuple[str | None, list[dict[str, Any]]]:
    """Content and calls of a whole answer: {"id", "type", "function": {"name", "arguments"}} each.

    The older form, `functions`, gives one without id and type: its `function` is the message's `function_call`.
    """
    stream = ToolStream(tools)
    return joined([*stream.feed(text), *stream.finish()])


def message(text: str, tools: ToolSet, reason: str) -> tuple[dict[str, Any], str]:
    """The fields of a whole answer's message, and its finish_reason: `content` and what was called, if anything was."""
    stream = ToolStream(tools)
    content, calls = joined([*stream.feed(text), *stream.finish()])
    fields: dict[str, Any] = {"content": content}
    if calls and tools.legacy:
        fields["function_call"] = calls[0]["function"]
    elif calls:
        fields["tool_calls"] = calls
    return fields, stream.finish_reason(reason)
