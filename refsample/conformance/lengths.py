"""The token limit, seen at work: an answer that is longer without it is cut by it, and says so.

An answer that ends by itself shows nothing: a server that does not look at the limit gives the same one. So the limit
is asked of a greedy answer that was seen to be longer; where none is, nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from refsample.conformance.contract import LONG, ContractCheck, first, skipped, tokens_counted
from refsample.conformance.page import Page
from refsample.conformance.report import Finding, Note, Status, finding
from refsample.conformance.session import Session
from refsample.conformance.transcript import Answer

LENGTHY = (LONG, "Tell me a long story.", "Count from one to two hundred, in words.", "Write a long poem.")
SHORT = 3
MORE = 9
CLEAR = 3
"""Tokens that the longer answer has beyond the limit at least: an end token and one without a letter change no text."""
WIDE = 8
"""Characters a token, at most on the average, where no usage counts tokens."""


def check_limit(session: Session, page: Page) -> Iterator[Finding]:
    """max_tokens cuts an answer that is longer, after that many tokens, and finish_reason is length."""
    for prompt in LENGTHY:
        found = None if session.exhausted else _cut(session, page, prompt)
        if found is not None:
            yield found
            return
    said = f"no greedy answer was seen to be longer than {session.limit(page.kind, SHORT)} tokens"
    yield skipped(f"contract.{page.kind}.max_tokens", f"{page.kind}: max_tokens is kept", said)


def _cut(session: Session, page: Page, prompt: str) -> Finding | None:
    kind, limit = page.kind, session.limit(page.kind, SHORT)
    larger = session.limit(kind, limit + MORE)
    plain = session.greedily(kind, prompt, larger)
    whole, count = first(plain), tokens_counted(plain)
    if whole is None or whole.finish_reason not in ("length", "stop") or not _longer(plain, limit):
        return None
    exchange, answer = session.ask(kind, prompt, **session.greedy(kind, limit))
    cut, told = first(answer), tokens_counted(answer)
    if cut is None:
        return None
    uncut = bool(cut.text.strip()) and cut.text.strip() == whole.text.strip()
    if not uncut and not whole.text.lstrip().startswith(cut.text.strip()):
        return None  # greedy text is not the same twice: its length may not be either
    dropped = uncut or (told or 0) > limit or (count or 0) > larger
    fine = not dropped and cut.finish_reason == "length" and told in (None, limit)
    if dropped:
        session.overran.add(kind)
    status: Status = "honoured" if fine else "dropped" if dropped else "different"
    said = f"{limit} of a longer answer: finish_reason {cut.finish_reason!r} after {told} tokens, {cut.text[:40]!r}"
    record = page.record("max_tokens")
    check, title = f"contract.{kind}.max_tokens", f"{kind}: max_tokens is kept"
    found = finding(check, "contract", title, fine, said, session.curl(kind, exchange.body or {}))
    return Finding(found.check, notes=() if record is None else (Note(kind, record.name, status, said),))


def _longer(plain: Answer | None, limit: int) -> bool:
    """Whether an answer surely has more tokens than the limit."""
    count, choice = tokens_counted(plain), first(plain)
    if count is not None:
        return count >= limit + CLEAR
    return choice is not None and len(choice.text) > WIDE * limit


LENGTH_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = ((check_limit, ("max_tokens",)),)
