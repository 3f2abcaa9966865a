"""When a text ends: end ids, stop ids, stop strings, length, in this order. Knows ids and text, nothing of logits.

Stop strings are searched in the text as it grows, across token borders: the match that ends first wins, among equal
ends the one that is listed first. Only text that may still become a stop string is held back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refsample.text.stream import Detokenizer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class StopRule:
    """Everything that can end one choice."""

    limit: int
    """Tokens at most."""
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    eos_ids: frozenset[int] = frozenset()
    """Empty where end ids are to be ignored."""
    min_tokens: int = 0
    """No end but length before the token after this many."""
    include_stop: bool = False
    """True: the matched string, or the text of the stop id, stays in the text."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one token did: the text that may be sent now, and whether the choice ended with it."""

    text: str
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    """The stop string or stop id that ended it; None for an end id and for length."""


class StopScanner:
    """Finds stop strings in a text that comes in parts; holds back no more than it has to."""

    __slots__ = ("_include_stop", "_stop", "_tail")

    def __init__(self, stop: tuple[str, ...], include_stop: bool = False) -> None:
        self._stop = stop
        self._include_stop = include_stop
        self._tail = ""
        """End of the text so far that is a proper prefix of a stop string; held back unless `include_stop`."""

    def push(self, text: str, active: bool = True) -> tuple[str, str | None]:
        """(text that is free now, stop string that ended the text). Not `active`: no match may end in this part."""
        old = len(self._tail)
        buffer = self._tail + text
        sent = old if self._include_stop else 0
        match = self._first(buffer, old) if active else None
        if match is not None:
            start, string = match
            self._tail = ""
            cut = start + len(string) if self._include_stop else start
            return buffer[sent:cut], string
        self._tail = self._prefix_at_end(buffer)
        free = len(buffer) if self._include_stop else len(buffer) - len(self._tail)
        return buffer[sent:free], None

    def flush(self) -> str:
        """What was held back, at an end that is not a stop string."""
        held = "" if self._include_stop else self._tail
        self._tail = ""
        return held

    def _first(self, buffer: str, old: int) -> tuple[int, str] | None:
        """(start, string) of the match with the earliest end beyond `old`; min keeps the list order among equals."""
        found = []
        for string in self._stop:
            start = buffer.find(string, max(0, old - len(string) + 1))
            if start >= 0:
                found.append((start, string))
        return min(found, key=lambda match: match[0] + len(match[1]), default=None)

    def _prefix_at_end(self, buffer: str) -> str:
        longest = max((len(string) - 1 for string in self._stop), default=0)
        for size in range(min(longest, len(buffer)), 0, -1):
            end = buffer[-size:]
            if any(len(string) > size and string.startswith(end) for string in self._stop):
                return end
        return ""


class Follower:
    """Follows one choice token by token and says what its text is and when it ends."""

    __slots__ = ("_count", "_detokenizer", "_rule", "_scanner")

    def __init__(self, rule: StopRule, detokenizer: Detokenizer) -> None:
        self._rule = rule
        self._detokenizer = detokenizer
        self._scanner = StopScanner(rule.stop, rule.include_stop)
        self._count = 0

    def push(self, token_id: int, ends: bool = False) -> Step:
        """Take the next token. After a Step with a finish_reason no further token may come.

        `ends`: the text is complete with it, whatever the rule says.
        """
        rule = self._rule
        self._count += 1
        active = self._count > rule.min_tokens
        if active and token_id in rule.eos_ids:
            return Step(self._rest(), "stop")
        if active and token_id in rule.stop_token_ids:
            shown = self._scanner.push(self._detokenizer.push(token_id), active=False)[0] if rule.include_stop else ""
            return Step(shown + self._rest(), "stop", token_id)
        text, matched = self._scanner.push(self._detokenizer.push(token_id), active)
        if matched is not None:
            return Step(text, "stop", matched)
        if ends:
            return Step(text + self._rest(), "stop")
        if self._count >= rule.limit:
            return Step(text + self._rest(), "length")
        return Step(text)

    def _rest(self) -> str:
        # An unfinished character becomes U+FFFD here; it ends with the choice, so it is not searched for stops.
        return self._scanner.flush() + self._detokenizer.flush()
