"""Sampling fields on a route whose law is not tested: what is left of a hot draw where one field leaves one token.

Every question has one answer: the greedy text, or any other. A draw at the page's highest temperature is not the greedy
text, but for a chance that two tries make small; top_k 1, a tiny top_p or min_p 1 make it that text again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refsample.conformance.act import Act, Seen, refusal
from refsample.conformance.contract import LENGTH, LONG, UNSTEADY, first, repeats
from refsample.conformance.page import Page
from refsample.conformance.session import Session
from refsample.conformance.transcript import Choice

Heated = Callable[[Session, Page], tuple[str | None, Seen]]
"""A hot draw with nothing beside it: another text than the greedy one where any of a few tries is."""
HOT = 1000.0
TINY = 1e-6
"""Less than the share of the likeliest token of any vocabulary at any temperature."""
TRIES = 2
TIES = 3
COLD, APART, STEADY = 6, 3, 3
"""Most draws at the lowest temperature; how many texts among them say that it is ignored; how many equal ones, not."""
LEAST = 8
"""Characters that a greedy text has to have: the shorter it is, the likelier a hot draw is the same."""


def _plain(session: Session, page: Page) -> Choice | None:
    """The greedy answer, where it is long enough to tell draws from it."""
    plain = first(session.greedily(page.kind, LONG, LENGTH))
    return plain if plain is not None and len(plain.text.strip()) >= LEAST else None


def _draw(session: Session, page: Page, **fields: Any) -> tuple[str | None, Seen]:
    """A text at the highest temperature, and what a refusal says where none came."""
    hot = page.near("temperature", HOT)
    seeded = page.takes("seed") and "seed" in session.target.fields  # a refused one is takes.seed's to tell
    seed = {"seed": session.fresh_seed()} if seeded else {}
    exchange, answer = session.ask(page.kind, LONG, max_tokens=LENGTH, **{"temperature": hot, **seed, **fields})
    choice = first(answer)
    return (None, refusal(exchange)) if choice is None else (choice.text, ("unknown", ""))


def _temperature(session: Session, page: Page, heated: Heated) -> Seen:
    """0 gives one text again and again; the highest gives another than that."""
    plain = _plain(session, page)
    if plain is None:
        return "unknown", "no greedy text to tell draws from"
    colds = [plain.text]
    while len(colds) < COLD and len(set(colds)) < APART and colds != [plain.text] * STEADY:
        # by temperature alone: where 0 is off the page, greedy fields hold a top_p that does it without
        text, refused = _draw(session, page, temperature=page.near("temperature", 0))
        if text is None:
            return refused
        colds.append(text)
    if len(set(colds)) == APART:
        return "dropped", f"the lowest gave {APART} texts: {', '.join(repr(t[:24]) for t in set(colds))}"
    if len(set(colds)) > 1:
        return "unknown", UNSTEADY
    text, refused = heated(session, page)
    if text is None:
        return refused
    said = f"the lowest repeats {plain.text[:24]!r}, the highest gave {text[:24]!r}"
    return ("honoured" if text != plain.text else "dropped"), said


def _leaves_one(session: Session, page: Page, heated: Heated, name: str, value: float | int) -> Seen:
    """A field at a value that leaves the likeliest token alone: a hot draw is the greedy text."""
    plain, least = _plain(session, page), page.near(name, value)
    if plain is None:
        return "unknown", "no greedy text to tell draws from"
    if least != value and name != "min_p":
        return "unknown", f"the page lets nobody ask for {value}"
    text: str | None = None
    for _ in range(TIES):  # tokens that tie for the best place all stay, and greedy text shows one of them
        text, refused = _draw(session, page, **{name: least})
        if text is None:
            return refused
        if text == plain.text:
            break
    assert text is not None
    said = f"{least} at the highest temperature gave {text[:40]!r}, the greedy text is {plain.text[:40]!r}"
    if text != plain.text:
        return ("dropped", said) if repeats(session, page.kind, plain) else ("unknown", UNSTEADY)
    if heated(session, page)[0] in (None, plain.text):
        return "unknown", f"{said}, and no draw without it is another"
    return "honoured", said


def heat_acts() -> tuple[Act, ...]:
    """Acts of one route; whether a hot draw is the greedy text is asked once for all of them."""
    known: list[tuple[str | None, Seen]] = []

    def heated(session: Session, page: Page) -> tuple[str | None, Seen]:
        plain = _plain(session, page)
        while not known or (len(known) < TRIES and plain is not None and known[-1][0] == plain.text):
            known.append(_draw(session, page))
        return known[-1]

    def leaves_one(name: str, value: float | int) -> Act:
        return Act(name, lambda session, page: _leaves_one(session, page, heated, name, value))

    return (
        Act("temperature", lambda session, page: _temperature(session, page, heated)),
        leaves_one("top_p", TINY),
        leaves_one("top_k", 1),
        leaves_one("min_p", 1),
    )
