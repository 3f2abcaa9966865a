"""Text on a terminal: tinted tokens, footers, progress. Knows the shape of OpenAI's logprobs and nothing else."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from refsample.render import Token, ansi, ansi_token, visible, wants_colour


def say(text: str) -> None:
    """Text to stdout as it is ready, made harmless where stdout is a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(ansi(visible(text), "dim", on=wants_colour(sys.stderr)) + "\n")
    sys.stderr.flush()


def complain(message: str) -> None:
    """An error: one line on stderr, whatever line breaks the message holds."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.stderr.flush()


def show(tokens: Sequence[Token]) -> None:
    """Tokens to stdout, tinted."""
    sys.stdout.write("".join(ansi_token(token) for token in tokens))
    sys.stdout.flush()


def choice_tokens(text: str, logprobs: Mapping[str, Any] | None) -> list[Token]:
    """The text of a choice cut at its tokens, each with its probability; text without logprobs is one piece.

    A token whose text is not the next of the answer (part of a character, or cut away by a stop) tints no text.
    """
    named = list(named_logprobs(logprobs))
    tokens, place = [], 0
    for name, logprob in named:
        if name and text.startswith(name, place):
            tokens.append(Token(name, None if logprob is None else math.exp(logprob)))
            place += len(name)
    return [*tokens, Token(text[place:])] if place < len(text) else tokens


def named_logprobs(logprobs: Mapping[str, Any] | None) -> Iterator[tuple[str, float | None]]:
    """(token text, logprob) from either of OpenAI's shapes: completions' arrays, chat's content[]."""
    if not logprobs:
        return
    if "content" in logprobs:
        for entry in logprobs["content"] or ():
            yield entry["token"], entry["logprob"]
    else:
        yield from zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)


LINE = 100
"""Characters of a progress line: one that wraps could not be redrawn."""


class Progress:
    """One line on stderr that says how far long work has come: redrawn on a terminal, else a line per phase."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._phase = ""
        self._width = 0

    def __call__(self, phase: str, detail: str = "") -> None:
        """Say the phase; the detail, which changes often, is for a terminal only."""
        if not self._live:
            if phase != self._phase:
                sys.stderr.write(f"{phase}\n")
                sys.stderr.flush()
            self._phase = phase
            return
        line = visible(f"{phase}: {detail}" if detail else phase)[:LINE]
        sys.stderr.write("\r" + line.ljust(self._width))
        sys.stderr.flush()
        self._phase, self._width = phase, len(line)

    def requests(self, phase: str) -> Callable[[], None]:
        """A callback that counts the requests of a phase."""
        self(phase)
        count = itertools.count(1)
        return lambda: self(phase, f"{next(count)} requests")

    def clear(self) -> None:
        """Take the line away, so that what follows starts on an empty one."""
        if self._live and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
