"""What is asked when the law of tokens is tested: prompts with an open next word, and settings that separate faults.

Prompts come from a generator seeded per run, so they are private, natural and different each time; the reference picks
those whose next token is open (2.5 to 6 nats), which is where one draw tells most (verification.md 8.1).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from refsample.conformance.oracle import HONEST, Context, Oracle
from refsample.conformance.page import Kind
from refsample.tiny.openings import openings

OPEN_NATS = (2.5, 6.0)
CANDIDATES = 8
"""Prompts looked at for each one kept."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a profile spends."""

    draws: int
    """One-token draws per setting where many choices fit into one request."""
    single_draws: int
    """The same where every draw costs a request."""
    transcripts: int
    """Prompts of the greedy and logprob checks."""
    length: int
    """Tokens per transcript."""


PROFILES: Mapping[str, Budget] = {
    "smoke": Budget(96, 24, 4, 16),
    "standard": Budget(320, 96, 10, 24),
    "deep": Budget(1600, 400, 40, 48),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Parameters under which one-token draws are taken; `needs` are the fields the endpoint has to take."""

    id: str
    area: Literal["law", "model"]
    title: str
    needs: tuple[str, ...]
    fields: Callable[[Oracle, Context], Mapping[str, Any]]
    listed: bool = False
    """True: the prompt first lists half of the likely answers, so that penalties on the prompt show."""
    best_of: int = 1
    """The best of so many candidates is asked for, one choice at a time."""
    defaults: bool = False
    """Nothing is sent: the page's own defaults are the law."""


def _fixed(**fields: Any) -> Callable[[Oracle, Context], Mapping[str, Any]]:
    return lambda oracle, context: fields


def _bias(oracle: Oracle, context: Context) -> Mapping[str, Any]:
    """Ban the likeliest token and lift one of about 2 %."""
    logits = oracle.last_logits(context.ids, HONEST).astype(np.float64)  # [V]
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    lifted = int(np.abs(probs - 0.02).argmin())
    return {"logit_bias": {str(int(probs.argmax())): -100, str(lifted): 5}}


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "model.draws", "model", "draws at temperature 1 follow the model", ("temperature",), _fixed(temperature=1.0)
    ),
    Setting(
        "law.defaults", "law", "what is not sent is the page's default", ("temperature",), _fixed(), defaults=True
    ),
    Setting("law.temperature_low", "law", "temperature 0.6", ("temperature",), _fixed(temperature=0.6)),
    Setting("law.temperature_high", "law", "temperature 1.5", ("temperature",), _fixed(temperature=1.5)),
    Setting("law.top_p", "law", "top_p 0.6", ("top_p",), _fixed(temperature=1.0, top_p=0.6)),
    Setting(
        "law.order",
        "law",
        "temperature 1.5 with top_p 0.7: which comes first",
        ("temperature", "top_p"),
        _fixed(temperature=1.5, top_p=0.7),
    ),
    Setting("law.top_k", "law", "top_k 5 at temperature 1.5", ("top_k",), _fixed(temperature=1.5, top_k=5)),
    Setting("law.min_p", "law", "min_p 0.3", ("min_p",), _fixed(temperature=1.0, min_p=0.3)),
    Setting("law.logit_bias", "law", "logit_bias -100 and +5", ("logit_bias",), _bias),
    Setting(
        "law.penalty_scope",
        "law",
        "presence and frequency penalty, answers named in the prompt",
        ("presence_penalty",),
        _fixed(temperature=1.0, presence_penalty=1.9, frequency_penalty=0.5),
        listed=True,
    ),
    Setting(
        "law.repetition",
        "law",
        "repetition penalty 1.5, answers named in the prompt",
        ("repetition_penalty",),
        _fixed(temperature=1.0, repetition_penalty=1.5),
        listed=True,
    ),
    Setting(
        "law.best_of", "law", "the best of 8 candidates", ("best_of",), _fixed(temperature=1.5, best_of=8), best_of=8
    ),
)


def prompt_texts(kind: Kind, seed: int, check: str) -> Iterator[tuple[str, str]]:
    """Endless different prompts of one run and check: ("wide" or "narrow", text)."""
    prefix = "chat_" if kind == "chat" else ""
    for label, text in openings(seed * 2**32 + zlib.crc32(check.encode())):
        if label in (prefix + "wide", prefix + "narrow"):
            yield label.removeprefix(prefix), text


class Prompts:
    """Private prompts of one run, as contexts of the reference."""

    def __init__(self, oracle: Oracle, kind: Kind, seed: int, check: str) -> None:
        self._oracle, self._kind = oracle, kind
        self._texts = prompt_texts(kind, seed, check)

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids the endpoint should see for a prompt of this text."""
        model = self._oracle.model
        asked = text if self._kind == "completions" or not model.template else [{"role": "user", "content": text}]
        return tuple(model.prompt_ids(asked))

    def texts(self, count: int, which: str = "any") -> list[str]:
        """New prompt texts: "wide" (an open next word), "narrow" (a settled one) or "any"."""
        return list(islice((text for label, text in self._texts if which in ("any", label)), count))

    def open_contexts(self, count: int) -> list[Context]:
        """Contexts with an open next token; where the model has too few, the most open of those looked at."""
        candidates: list[Context] = []
        kept: list[Context] = []
        while len(kept) < count and len(candidates) < CANDIDATES * count:
            texts = self.texts(count, "wide")
            if not texts:
                break
            fresh = [self._oracle.context(text, self.ids(text)) for text in texts]
            candidates += fresh
            kept += [c for c in fresh if OPEN_NATS[0] <= c.entropy <= OPEN_NATS[1]]
        rest = sorted((c for c in candidates if c not in kept), key=lambda c: -c.entropy)
        return list(islice([*kept, *rest], count))

    def listing(self, context: Context) -> Context:
        """The same opening after a line that names every second of its 60 likeliest answers."""
        oracle = self._oracle
        order = np.argsort(-oracle.last_logits(context.ids, HONEST), kind="stable")[:60:2]
        names = [t for t in (oracle.model.tokenizer.decode([int(i)]) for i in order) if t.strip() and "\ufffd" not in t]
        text = "".join(names).strip() + "\n" + context.text
        return oracle.context(text, self.ids(text))
