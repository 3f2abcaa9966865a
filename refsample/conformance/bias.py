"""logit_bias: "-100 or 100 should result in a ban or exclusive selection", and up to which temperature it can (A9).

A finite bias is worth bias / temperature nats, so the hotter the draw the less of it is left. How far it holds follows
from the reference's logits; that it holds there is asked for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.act import Act, Seen, refusal
from refsample.conformance.contract import LONG, first
from refsample.conformance.oracle import HONEST, Oracle
from refsample.conformance.page import Page
from refsample.conformance.session import Session

LEAK = 1e-6
"""Most probability that may be left to a banned token, or to all others beside the one selected."""
HOTTEST = 1000.0
COUNT = 4


def bias_act(oracle: Oracle | None) -> Act:
    """The act of logit_bias; without a reference no token has a name to ask with."""

    def see(session: Session, page: Page) -> Seen:
        if oracle is None:
            return "unknown", "no reference to take a token from"
        return _see(session, page, oracle)

    return Act("logit_bias", see)


def holds_up_to(logits: NDArray[np.float64], banned: int, chosen: int, low: float, high: float) -> float:
    """The highest temperature at which `low` bans one token and `high` selects another, both but for LEAK.

    logits [R, V]: the first row has to ban; every row has to select. 0.0: at no temperature, HOTTEST: at any up to it.
    """
    cold, hot = 0.0, HOTTEST
    if _holds(logits, banned, chosen, low, high, hot):
        return hot
    for _ in range(40):
        middle = (cold + hot) / 2
        cold, hot = (middle, hot) if _holds(logits, banned, chosen, low, high, middle) else (cold, middle)
    return cold


def _holds(logits: NDArray[np.float64], banned: int, chosen: int, low: float, high: float, heat: float) -> bool:
    without, only = logits[0].copy(), logits.copy()
    without[banned] += low
    only[:, chosen] += high
    return _share(without / heat, banned) <= LEAK and all(1.0 - _share(row / heat, chosen) <= LEAK for row in only)


def _share(scores: NDArray[np.float64], token: int) -> float:
    odds = np.exp(scores - scores.max())
    return float(odds[token] / odds.sum())


def _see(session: Session, page: Page, oracle: Oracle) -> Seen:
    """One token alone is drawn at the hottest temperature that lets it, and the likeliest one is not, greedily."""
    kind, model = page.kind, oracle.model
    asked: Any = [{"role": "user", "content": LONG}] if kind == "chat" and model.template else LONG
    ids = tuple(model.prompt_ids(asked))
    base = oracle.last_logits(ids, HONEST).astype(np.float64)  # [V]
    banned, chosen = int(base.argmax()), _ordinary(oracle, base)
    rows = oracle.all_logits((*ids, *(chosen,) * (COUNT - 1)), HONEST)[-COUNT:].astype(np.float64)  # [R, V]
    low, high = page.near("logit_bias", -100), page.near("logit_bias", 100)
    heat = holds_up_to(rows, banned, chosen, low, high)
    hot = min(page.near("temperature", math.floor(heat * 100) / 100), page.near("temperature", HOTTEST))
    said = _claim(page, low, high, heat)
    word = model.tokenizer.decode([chosen])
    count = session.limit(kind, COUNT)
    fields = {"max_tokens": count, "temperature": hot, "logit_bias": {str(chosen): high}}
    exchange, answer = session.ask(kind, LONG, **fields)
    choice = first(answer)
    if choice is None:
        return refusal(exchange)
    text = oracle.text_of(choice, ids)
    if hot <= heat and text.strip() != (word * count).strip():
        return "dropped", f"{high} for {word!r} at temperature {hot:g} gave {text[:40]!r}; {said}"
    exchange, answer = session.ask(kind, LONG, **session.greedy(kind, 1), logit_bias={str(banned): low})
    choice = first(answer)
    if choice is None:
        return refusal(exchange)
    text, top = oracle.text_of(choice, ids), model.tokenizer.decode([banned])
    if text.strip() and text.strip() == top.strip():
        return "dropped", f"{low} for {top!r} gave {text!r}; {said}"
    return "honoured", f"{high} gave {word!r} alone at temperature {hot:g}; {said}"


def _ordinary(oracle: Oracle, logits: NDArray[np.float64]) -> int:
    """The least likely token that is a word: the hardest one to select."""
    words = [(float(logits[k[0]]), k[0]) for t, i in oracle.index.items() if t.strip().isalpha() and t.isascii()
             for k in (oracle.members[i],) if len(k) == 1]  # fmt: skip
    return min(words)[1]


def _claim(page: Page, low: float, high: float, heat: float) -> str:
    record = page.record("temperature")
    ranges = [r for r in (record.printed, record.effective) if r is not None] if record is not None else []
    top = max((r.high for r in ranges if math.isfinite(r.high)), default=math.inf)
    reach = f"by the reference's logits {low} bans and {high} selects up to temperature {heat:.1f}"
    return f"{reach}, {'all of' if heat >= top else 'not all of'} the page's range (up to {top:g})"
