"""Thinking aloud: the part of an answer between a template's marks, split off and put back exactly. Knows no messages.

    <think>They ask for a city.</think>Oslo.      ->  reasoning "They ask for a city.", content "Oslo."

Nothing is trimmed, as vLLM trims nothing: `join(*split(text))` is the text, so a score of it reads the same tokens. An
answer thinks only at its beginning; templates that write the opening mark themselves leave the answer inside a thought.
Marks that are special tokens never appear in an answer's text: a model that has such marks is not split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from refsample.text.chat import ChatTemplate
from refsample.text.tokenizer import Tokenizer

PAIRS: Final = (("<think>", "</think>"), ("<seed:think>", "</seed:think>"), ("[THINK]", "[/THINK]"))
"""Marks in use: Qwen, DeepSeek and most others; Seed; Magistral."""

Piece = tuple[str, str]
"""("reasoning" or "content", a piece of its text)."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How one model's answer to one prompt thinks aloud."""

    open: str
    close: str
    opened: bool = False
    """The prompt ends with the opening mark, so the answer begins inside the thought."""


def find_marks(template: ChatTemplate | None, tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> Marks | None:
    """The marks of a model's answer to a prompt; None for a model that does not think aloud.

    It does where its template writes or reads a closing mark, or its vocabulary has both marks as tokens.
    """
    texts = set(tokenizer.added.values())
    hidden = {tokenizer.added[token_id] for token_id in tokenizer.special_ids if token_id in tokenizer.added}
    for opening, closing in PAIRS:
        known = (template is not None and closing in template.source) or {opening, closing} <= texts
        if known and closing not in hidden:
            end = tokenizer.decode(prompt_ids[-2 * len(opening) :]).rstrip()
            return Marks(opening, closing, opened=end.endswith(opening))
    return None


class ThoughtStream:
    """Splits an answer's text as it comes; no part of a mark is ever given out."""

    __slots__ = ("_buffer", "_marks", "_stage")

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._stage = "thought" if marks.opened else "start"
        self._buffer = ""

    def feed(self, text: str) -> list[Piece]:
        """What became certain with this text. A part begins with a piece, which may be empty: so joined is whole."""
        begun: list[Piece] = []
        self._buffer += text
        if self._stage == "start":
            opening = self._marks.open
            if self._buffer.startswith(opening):
                self._stage, self._buffer = "thought", self._buffer[len(opening) :]
                begun.append(("reasoning", ""))
            elif self._buffer and not opening.startswith(self._buffer):
                self._stage = "content"
        if self._stage == "thought":
            begun += self._thought()
        if self._stage == "content" and self._buffer:
            begun.append(("content", self._buffer))
            self._buffer = ""
        return begun

    def finish(self) -> list[Piece]:
        """What is left when the text has ended: half a mark is text."""
        rest, self._buffer = self._buffer, ""
        if self._stage == "start":
            return [("content", rest)]
        return [("reasoning", rest)] if rest else []

    def _thought(self) -> list[Piece]:
        closing = self._marks.close
        at = self._buffer.find(closing)
        if at >= 0:
            piece, self._buffer = self._buffer[:at], self._buffer[at + len(closing) :]
            self._stage = "content"
            return [("reasoning", piece), ("content", "")]
        held = next(size for size in range(len(closing) - 1, -1, -1) if self._buffer.endswith(closing[:size]))
        sure = len(self._buffer) - held
        piece, self._buffer = self._buffer[:sure], self._buffer[sure:]
        return [("reasoning", piece)] if piece else []


def joined(pieces: Iterable[Piece], marks: Marks) -> tuple[str | None, str | None]:
    """Reasoning and content of a stream's pieces; None for no thought at all, and for what comes after an open one."""
    parts: dict[str, str] = {"reasoning": ""} if marks.opened else {}
    for kind, text in pieces:
        parts[kind] = parts.get(kind, "") + text
    return parts.get("reasoning"), parts.get("content")


def split(text: str, marks: Marks) -> tuple[str | None, str | None]:
    """Reasoning and content of a whole answer: what the stream gives, joined."""
    stream = ThoughtStream(marks)
    return joined([*stream.feed(text), *stream.finish()], marks)


def thought_tokens(texts: Sequence[str], marks: Marks) -> int:
    """How many tokens of an answer, given by the text of each, begin inside its thought; the marks are not in it."""
    reasoning, _ = split("".join(texts), marks)
    start = 0 if marks.opened else len(marks.open)
    starts = accumulate(map(len, texts[:-1]), initial=0)
    return sum(start <= at < start + len(reasoning or "") for at in starts) if texts else 0


def join(reasoning: str | None, content: str | None, marks: Marks) -> str:
    """The text that was split: with the prompt before it, the very text that the model wrote."""
    if reasoning is None:
        return content or ""
    opening = "" if marks.opened else marks.open
    return opening + reasoning + ("" if content is None else marks.close + content)
