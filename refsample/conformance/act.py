"""What an act is: one question that shows whether a parameter does anything, and what it showed. Knows no parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refsample.conformance.contract import first
from refsample.conformance.page import Page
from refsample.conformance.report import Status
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import Answer, Choice
from refsample.conformance.transport import Exchange

Seen = tuple[Status, str]
ASK = "Is the sea blue? Answer."


@dataclass(frozen=True, slots=True)
class Act:
    """One parameter, and the question that shows it."""

    means: str
    see: Callable[[Session, Page], Seen]
    model_dependent: bool = False
    """A refusal may be the model's, not the page's."""
    told: bool = False
    """Its status is told and counts for nothing: an honest endpoint may do otherwise."""
    inner: tuple[str, ...] = ()
    """Other fields that the question asks with, and that are shown by it."""
    fault: str = ""
    """The fault of the dictionary that a parameter without effect is."""


def answered(
    session: Session, page: Page, judge: Callable[[Choice, Answer], Seen], prompt: str = ASK, **fields: Any
) -> Seen:
    exchange, answer = session.ask(page.kind, prompt, **fields)
    choice = first(answer)
    if answer is None or choice is None:
        return refusal(exchange)
    return judge(choice, answer)


def asker(session: Session, page: Page) -> Callable[..., tuple[Exchange, Answer | None]]:
    """A page may keep fields for some vendors' models: whether this is one, nobody here knows."""
    return session.ask_beyond if "printed" in page.readings("vendor_rules") else session.ask


def refusal(exchange: Exchange) -> Seen:
    return ("rejected" if 400 <= exchange.status < 500 else "unknown"), error_text(exchange)
