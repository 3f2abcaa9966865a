"""Answers of an endpoint in one form, whatever shape they came in. It knows nothing of the reference.

Three logprob shapes are read on any route: arrays side by side ("legacy"), an object per token ("chat"), and numbers
alone ("bare"), which say nothing of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refsample.conformance.transport import Exchange, parse_json


@dataclass(frozen=True, slots=True)
class Reported:
    """One token as the endpoint names it: its text, its exact bytes and id where given, its logprob."""

    text: str
    raw: bytes | None
    logprob: float | None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class ReportedToken:
    """A sampled token with the alternatives reported beside it."""

    chosen: Reported
    top: tuple[Reported, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of an answer; `tokens` is None where no logprobs came."""

    index: int
    text: str
    finish_reason: str | None
    tokens: tuple[ReportedToken, ...] | None
    logprobs_shape: str | None
    role: str | None = None
    """Who speaks, as a message or the first chunk of a stream says."""
    thought: str | None = None
    """What the endpoint split off as reasoning; `text` is then what came after it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 answer: its choices by index, usage, and whether it ended as it should."""

    choices: tuple[Choice, ...]
    usage: Mapping[str, Any] | None
    done: bool = True
    usage_events: tuple[int, ...] = ()
    """Streams only: number of choices in each event that carried a usage object."""


def _bytes(value: object) -> bytes | None:
    if isinstance(value, list) and all(isinstance(b, int) and 0 <= b < 256 for b in value):
        return bytes(value)
    return None


def _number(value: object) -> float | None:
    """A finite number as a float. NaN and infinities, which Python reads where JSON has none, are no logprobs."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _chat_token(value: object) -> Reported:
    entry = _object(value)
    raw, logprob = _bytes(entry.get("bytes")), _number(entry.get("logprob"))
    return Reported(_text(entry.get("token")), raw, logprob, _whole(entry.get("id")))


def _chat_tokens(content: Sequence[object]) -> tuple[ReportedToken, ...]:
    return tuple(
        ReportedToken(_chat_token(e), tuple(_chat_token(t) for t in _list(_object(e).get("top_logprobs"))))
        for e in content
    )


def _legacy_tokens(block: Mapping[str, Any]) -> tuple[ReportedToken, ...]:
    texts = _list(block.get("tokens"))
    values = _list(block.get("token_logprobs")) or [None] * len(texts)
    tops = _list(block.get("top_logprobs")) or [None] * len(texts)
    return tuple(
        ReportedToken(
            Reported(_text(text), None, _number(value)),
            tuple(Reported(k, None, _number(v)) for k, v in _object(top).items()),
        )
        for text, value, top in zip(texts, values, tops, strict=False)
    )


def read_tokens(block: object) -> tuple[tuple[ReportedToken, ...] | None, str | None]:
    """A `logprobs` value -> (tokens, name of its shape); (None, None) where there is none."""
    if isinstance(block, list):
        return None, "bare"
    if not isinstance(block, Mapping):
        return None, None
    if isinstance(block.get("content"), list):
        return _chat_tokens(block["content"]), "chat"
    if isinstance(block.get("tokens"), list):
        return _legacy_tokens(block), "legacy"
    return None, "unknown"


def _choice(entry: Mapping[str, Any], position: int) -> Choice:
    message, index = entry.get("message"), _whole(entry.get("index"))
    text = entry.get("text") if message is None else _object(message).get("content")
    tokens, shape = read_tokens(entry.get("logprobs"))
    reason = _text(entry.get("finish_reason")) or None
    role = _text(_object(message).get("role")) or None
    thought = _thought(_object(message))
    return Choice(position if index is None else index, _text(text), reason, tokens, shape, role, thought)


def _thought(said: Mapping[str, Any]) -> str | None:
    """The thought in a message or a delta, under either of its names."""
    found = [said[name] for name in ("reasoning_content", "reasoning") if isinstance(said.get(name), str)]
    return found[0] if found else None


def read_answer(exchange: Exchange) -> Answer | None:
    """A 200 answer that is not a stream; None where it has no list of choices."""
    body = exchange.json()
    if exchange.status != 200 or not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        return None
    entries = [e for e in body["choices"] if isinstance(e, dict)]
    choices = sorted((_choice(e, i) for i, e in enumerate(entries)), key=lambda c: c.index)
    usage = body.get("usage")
    return Answer(tuple(choices), usage if isinstance(usage, dict) else None)


@dataclass(slots=True)
class _Growing:
    text: str = ""
    finish_reason: str | None = None
    tokens: tuple[ReportedToken, ...] | None = None
    shape: str | None = None
    role: str | None = None
    thought: str | None = None
    begun: bool = False

    def add(self, entry: Mapping[str, Any]) -> None:
        delta = entry.get("delta")
        if not self.begun:
            self.begun, self.role = True, _text(_object(delta).get("role")) or None
        self.text += _text(entry.get("text") if delta is None else _object(delta).get("content"))
        if (thought := _thought(_object(delta))) is not None:
            self.thought = (self.thought or "") + thought
        self.finish_reason = _text(entry.get("finish_reason")) or self.finish_reason
        tokens, shape = read_tokens(entry.get("logprobs"))
        if tokens is not None:
            self.tokens, self.shape = (self.tokens or ()) + tokens, shape


def read_stream(exchange: Exchange) -> Answer | None:
    """A 200 event stream folded into the answer it tells; None where an event is not a JSON object."""
    if exchange.status != 200:
        return None
    growing: dict[int, _Growing] = {}
    usage: Mapping[str, Any] | None = None
    usage_events: list[int] = []
    events = exchange.events()
    for payload in events:
        if payload == "[DONE]":
            continue
        chunk = parse_json(payload)
        if not isinstance(chunk, dict):
            return None
        entries = [e for e in _list(chunk.get("choices")) if isinstance(e, dict)]
        for position, entry in enumerate(entries):
            index = _whole(entry.get("index"))
            growing.setdefault(position if index is None else index, _Growing()).add(entry)
        if isinstance(chunk.get("usage"), dict):
            usage = chunk["usage"]
            usage_events.append(len(entries))
    choices = tuple(
        Choice(i, g.text, g.finish_reason, g.tokens, g.shape, g.role, g.thought) for i, g in sorted(growing.items())
    )
    return Answer(choices, usage, bool(events) and events[-1] == "[DONE]", tuple(usage_events))
