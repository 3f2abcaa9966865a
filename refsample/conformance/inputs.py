"""What is read of a question: all of the prompt, and every message, as usage counts its tokens."""

from __future__ import annotations

from typing import Any

from refsample.conformance.act import Act, Seen, refusal
from refsample.conformance.contract import LENGTH, LONG
from refsample.conformance.page import Page
from refsample.conformance.session import Session
from refsample.conformance.transcript import Answer

FURTHER = " saw a ship with red sails."


def _read(answer: Answer | None) -> int | None:
    """usage.prompt_tokens, where it is a number."""
    count = (answer.usage or {}).get("prompt_tokens") if answer is not None else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _compared(session: Session, page: Page, longer: Any, what: str) -> Seen:
    """A question that has more beside LONG is longer; the same number of tokens says that this was not read."""
    plain = _read(session.greedily(page.kind, LONG, LENGTH))
    exchange, answer = session.ask(page.kind, longer, **session.greedy(page.kind, 1))
    if answer is None:
        return refusal(exchange)
    count = _read(answer)
    if plain is None or count is None:
        return "unknown", "answered, and no usage tells what was read"
    return ("honoured" if count > plain else "dropped"), f"{plain} tokens, {what} {count}"


def _prompt(session: Session, page: Page) -> Seen:
    return _compared(session, page, LONG + FURTHER, "with more text")


def _messages(session: Session, page: Page) -> Seen:
    """An earlier turn is read, and so is a system message where the model takes one."""
    last = _message("user", LONG)
    earlier = [_message("user", "Is the sea blue?"), _message("assistant", "Yes."), last]
    status, said = _compared(session, page, earlier, "with an earlier turn")
    if status != "honoured":
        return status, said
    told, more = _compared(session, page, [_message("system", "Answer in verse."), last], "with a system text")
    if told == "rejected":  # templates without a place for it exist
        return "honoured", f"{said}; a system message is refused: {more}"
    return told, f"{said}; {more}"


INPUT_ACTS: tuple[Act, ...] = (Act("prompt", _prompt), Act("messages", _messages))
