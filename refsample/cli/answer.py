"""An answer on its way to the person: streamed or whole, tinted or plain. Knows response shapes, not models."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from refsample.cli.terminal import choice_tokens, note, say, show
from refsample.errors import RefsampleError
from refsample.render import wants_colour


@dataclass(frozen=True, slots=True)
class Reply:
    """What is known of an answer when it is over."""

    text: str
    finish_reason: str | None
    tokens: int | None
    seconds: float
    first_s: float
    extra: Mapping[str, Any]
    """The extension object of the response: seed, ignored keys."""
    stopped: bool = False


def print_stream(chunks: Iterable[Mapping[str, Any]], *, interruptible: bool = False) -> Reply:
    """Print the one choice of a stream as it comes. Interruptible: Ctrl-C ends the answer, not the program."""
    colour, start = wants_colour(sys.stdout), time.perf_counter()
    text, finish, first, stopped = "", None, start, False
    usage: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = {}
    try:
        for chunk in chunks:
            usage = chunk.get("usage") or usage
            extra = chunk.get("refsample") or extra
            for choice in chunk["choices"]:
                piece = choice["text"] if "text" in choice else choice["delta"].get("content") or ""
                if "delta" in choice:
                    say_calls(choice["delta"])
                first = time.perf_counter() if piece and not text else first
                text += piece
                finish = choice.get("finish_reason") or finish
                print_piece(piece, choice.get("logprobs"), colour=colour)
    except KeyboardInterrupt:
        if not interruptible:
            raise
        stopped = True
    except RefsampleError:
        if text and not text.endswith("\n"):
            say("\n")  # what went wrong stands on a line of its own
        raise
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    end = time.perf_counter()
    tokens = usage["completion_tokens"] if usage else None
    return Reply(text, finish, tokens, end - start, first - start, extra, stopped)


def say_calls(message: Mapping[str, Any]) -> None:
    """Calls of tools in a message or a delta, as a name and its arguments on a line of their own."""
    called = message.get("function_call")
    for call in [*(message.get("tool_calls") or ()), *([{"function": called}] if called else ())]:
        name = call["function"].get("name")
        say((f"\n{name} " if name else "") + call["function"].get("arguments", ""))


def print_piece(text: str, logprobs: Any, *, colour: bool) -> None:
    """Text of one choice or chunk; tinted where there are logprobs with their tokens and colour is wanted."""
    if colour and isinstance(logprobs, Mapping) and logprobs:
        show(choice_tokens(text, logprobs))
    else:
        say(text)


def print_whole(response: Mapping[str, Any], seconds: float) -> Reply:
    """Print every choice of a response; more than one are told apart by a line before each."""
    colour = wants_colour(sys.stdout)
    choices = response["choices"]
    for choice in choices:
        text = choice["text"] if "text" in choice else choice["message"]["content"] or ""
        if len(choices) > 1:
            say(f"--- choice {choice['index']} ({choice['finish_reason']})\n")
        print_piece(text, choice.get("logprobs"), colour=colour)
        say_calls(choice.get("message") or {})
        if len(choices) > 1:
            say("\n")
    last = choices[-1]
    tokens = (response.get("usage") or {}).get("completion_tokens")
    return Reply(text, last["finish_reason"], tokens, seconds, 0.0, response.get("refsample") or {})


def footer(reply: Reply) -> None:
    """What the person should know beside the text: ignored fields always, figures on a terminal."""
    ignored = reply.extra.get("ignored")
    if ignored:
        note(f"ignored: {', '.join(map(str, ignored))}")
    if not sys.stderr.isatty():
        return
    parts = []
    if reply.tokens is not None:
        parts.append(f"{reply.tokens} tokens in {reply.seconds:.2f} s")
        decoding = reply.seconds - reply.first_s
        if reply.first_s and reply.tokens > 1 and decoding > 0:
            parts.append(f"{(reply.tokens - 1) / decoding:.0f} tokens/s after the first")
        elif reply.seconds > 0:
            parts.append(f"{reply.tokens / reply.seconds:.0f} tokens/s")
    parts.append("stopped" if reply.stopped else f"finish {reply.finish_reason}")
    if "seed" in reply.extra:
        parts.append(f"seed {reply.extra['seed']}")
    note(", ".join(parts))
