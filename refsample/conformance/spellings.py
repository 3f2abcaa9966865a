"""How probable is an answer of which only the text is known? The sum over every way to spell it in tokens.

A page that has no limit of one token, no logprobs and no token ids leaves whole texts. What is scored is an event that
is fixed before the answer is seen: it begins with these `SPAN` characters, or it is this text and ends. Texts of such
events form a prefix code, so their probabilities add up to one and likelihood ratios are fair (verification 6.2).
Spellings that are too rare to look at count for the honest law in full and for no other: that only weakens evidence.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.evidence import IMPOSSIBLE
from refsample.conformance.oracle import (
    HONEST,
    OTHER_MODEL,
    SLACK_SIGMAS,
    TWIN,
    Context,
    Floats,
    Hypothesis,
    Oracle,
    blurred,
    precision_of,
)
from refsample.generation.behaviour import applied
from refsample.model.cache import Cache
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution

SPAN = 3
"""Characters of an answer that are scored."""
RARE = 0.03
"""Share of what was found, under every hypothesis, below which what is still open is left aside."""
PROGRESS = 100.0
"""What a byte spelled is worth when the next beginning is chosen: else rare texts would never be reached."""
MEMORY = 64 << 20
"""Bytes of laws that are kept for other answers to the same prompt."""
FEW = 32
"""Special tokens without text that are spelled like others; more of them would be too many beginnings."""
NODES = 64
"""Beginnings that are followed at most."""
AHEAD = 8
"""Beginnings that go through the model together: the one in hand and those that are likely to be next."""


Beginning = tuple[float, tuple[int, ...], int, Floats]
"""Minus its worth, ids so far, bytes spelled, probability under every distinct hypothesis [J]."""


@dataclass(frozen=True, slots=True)
class Odds:
    """Probability of one text: `honest` at most this, each alternative at least this, each null at most this."""

    honest: float
    faults: Mapping[str, float]
    nulls: Mapping[str, float]
    proof: str | None = None


Last = Literal["any", "end", "fragment"]


class Speller:
    """Scores texts of answers under one setting, with the laws it needed kept."""

    def __init__(self, oracle: Oracle, params: SamplingParams, more: Sequence[Hypothesis] = ()) -> None:
        """`more`: hypotheses beside the oracle's own."""
        self.oracle, self.params = oracle, params
        self.hypotheses: tuple[Hypothesis, ...] = (*oracle.nulls, *oracle.faults, *more)
        tokenizer = oracle.model.tokenizer
        ids = range(oracle.model.config.vocab_size)
        self._hidden = np.array([i >= tokenizer.vocab_size or tokenizer.is_special(i) for i in ids])  # [V]
        unseen = [i for i in ids if self._hidden[i] and i not in oracle.model.config.eos_token_ids]
        self._unseen = unseen if len(unseen) <= FEW else []
        """Tokens without text that do not end it; where there are many, they are left aside."""
        shown = [i for i in ids if not self._hidden[i] and tokenizer.token_bytes(i)]
        self._sorted = sorted((tokenizer.token_bytes(i), i) for i in shown)
        self._keys = [raw for raw, _ in self._sorted]
        self._fragments = [i for raw, i in self._sorted if _breaks(raw)]
        self._longest = max(map(len, self._keys), default=1)
        self._ends = list(oracle.model.config.eos_token_ids)
        keys = [_key(h, params, oracle) for h in self.hypotheses]
        firsts = sorted({keys.index(key) for key in keys})
        self._distinct = [self.hypotheses[at] for at in firsts]
        self._place = [firsts.index(keys.index(key)) for key in keys]
        behaviours = [h.behaviour or oracle.honest for h in self._distinct]
        self._precisions = sorted({precision_of(behaviour) for behaviour in behaviours})
        self._applied = [applied(params, behaviour) for behaviour in behaviours]
        self._laws: dict[tuple[tuple[int, ...], tuple[int, ...]], Floats] = {}
        self._prompts: dict[tuple[tuple[int, ...], str], tuple[Cache, NDArray[np.float32]]] = {}
        self._seen: tuple[tuple[int, ...], dict[tuple[tuple[int, ...], str], NDArray[np.float32]]] = ((), {})
        """The last prompt, and the logits of what was spelled after it."""

    def odds(self, context: Context, text: str, ended: bool) -> Odds | None:
        """Odds of an answer's text; `ended`: by the model itself. None: a limit cut it short.

        Half a character ends what is scored: the event is then that a fragment of one comes after this text.
        """
        begun, broken, _ = text[:SPAN].partition("\ufffd")
        if not broken and len(text) <= SPAN and not ended:
            return None
        wanted = begun.encode()
        last: Last = "fragment" if broken else "end" if len(text) <= SPAN else "any"
        found, open_still = self._search(context.ids, wanted, last)
        lower = {h.name: float(found[at]) for h, at in zip(self.hypotheses, self._place, strict=True)}
        upper = {h.name: float((found + open_still)[at]) for h, at in zip(self.hypotheses, self._place, strict=True)}
        honest, proof = upper[HONEST], None
        if lower[HONEST] <= 0.0:
            honest = max(honest, self._softened(context.ids, wanted))
            if honest <= 0.0:
                honest, proof = IMPOSSIBLE, f"{text[:SPAN]!r} answers ...{context.text[-40:]!r} with probability 0"
        nulls = {h.name: upper[h.name] for h in self.oracle.nulls if h.name != HONEST}
        faults = {h.name: lower[h.name] for h in self.hypotheses[len(self.oracle.nulls) :]}
        return Odds(honest, faults, nulls, proof)

    def _search(self, prompt: tuple[int, ...], wanted: bytes, last: Last) -> tuple[Floats, Floats]:
        """(probability found, probability of what was left aside) [J] of texts that are `wanted` and then `last`."""
        found, aside, waiting = (np.zeros(len(self._distinct)) for _ in range(3))  # [J]
        heap: list[Beginning] = []
        waiting += self._push(heap, (), 0, np.ones(len(self._distinct)))
        for _ in range(NODES):
            if not heap or (waiting <= RARE * found).all():
                break
            self._look_ahead(prompt, heap)
            _, path, at, mass = heapq.heappop(heap)
            waiting -= mass
            laws = mass[:, None] * self._law(prompt, path)  # [J, V]
            ends = laws[:, self._ends].sum(axis=1)
            for token in self._unseen:
                waiting += self._push(heap, (*path, token), at, laws[:, token])
            special = laws[:, self._hidden].sum(axis=1) - ends - laws[:, self._unseen].sum(axis=1)
            aside += np.maximum(0.0, special)
            if at == len(wanted):
                found += ends if last == "end" else laws[:, self._fragments].sum(axis=1)
                continue
            rest = wanted[at:]
            for place in range(bisect_left(self._keys, rest), len(self._keys)):
                raw, token = self._sorted[place]
                if not raw.startswith(rest):
                    break
                if last == "any" or (last == "fragment" and _breaks(raw[len(rest) :])):
                    found += laws[:, token]
                elif raw == rest:
                    waiting += self._push(heap, (*path, token), len(wanted), laws[:, token])
            for size in range(1, min(len(rest) - 1, self._longest) + 1):
                place = bisect_left(self._keys, rest[:size])
                while place < len(self._keys) and self._keys[place] == rest[:size]:
                    token = self._sorted[place][1]
                    waiting += self._push(heap, (*path, token), at + size, laws[:, token])
                    place += 1
        return found, aside + np.maximum(0.0, waiting)

    def _push(self, heap: list[Beginning], path: tuple[int, ...], at: int, mass: Floats) -> Floats:
        if mass.max() > 0.0:
            heapq.heappush(heap, (-float(mass.max()) * PROGRESS**at, path, at, mass))
        return mass

    def _law(self, prompt: tuple[int, ...], path: tuple[int, ...]) -> Floats:
        """Law [J, V] of the token after prompt and path under every hypothesis that differs from the others here."""
        if (prompt, path) not in self._laws:
            if sum(laws.nbytes for laws in self._laws.values()) > MEMORY:
                self._laws.clear()
            each = zip(self._distinct, self._applied, strict=True)
            self._laws[prompt, path] = np.stack([self._one(h, params, prompt, path) for h, params in each])  # [J, V]
        return self._laws[prompt, path]

    def _one(
        self, hypothesis: Hypothesis, params: SamplingParams, prompt: tuple[int, ...], path: tuple[int, ...]
    ) -> Floats:
        behaviour = hypothesis.behaviour or self.oracle.honest
        logits = self._logits(prompt, path, precision_of(behaviour))
        seen = blurred(logits) if hypothesis.name == OTHER_MODEL else logits
        return distribution(seen, params, prompt, path, engine=behaviour.semantics).probs

    def _look_ahead(self, prompt: tuple[int, ...], heap: list[Beginning]) -> None:
        """Where the next beginning has no logits yet: those of the best ones, in one pass a precision."""
        if (prompt, heap[0][1]) in self._laws:
            return
        paths = [path for _, path, _, _ in heapq.nsmallest(AHEAD, heap)]
        for precision in self._precisions:
            self._pass(prompt, [path for path in paths if (prompt, path) not in self._laws], precision)

    def _logits(self, prompt: tuple[int, ...], path: tuple[int, ...], precision: str) -> NDArray[np.float32]:
        """Raw logits [V] after prompt and path."""
        self._pass(prompt, [path], precision)
        return self._seen[1][path, precision]

    def _pass(self, prompt: tuple[int, ...], paths: Sequence[tuple[int, ...]], precision: str) -> None:
        """Fill in the raw logits [V] after prompt and each path; the prompt goes through the model once."""
        if self._seen[0] != prompt:
            self._seen = (prompt, {})
        seen = self._seen[1]
        missing = [path for path in paths if (path, precision) not in seen]
        if not missing:
            return
        transformer = self.oracle.model.transformer_for(precision)
        if (prompt, precision) not in self._prompts:
            cache = transformer.new_cache(len(prompt))
            first = transformer.forward([(np.asarray(prompt, np.int64), cache)])[0][0]
            self._prompts[prompt, precision] = (cache, first)
        cache, first = self._prompts[prompt, precision]
        seen[(), precision] = first
        segments = [(np.asarray(path, np.int64), cache.fork()) for path in missing if path]
        rows = transformer.forward(segments) if segments else []
        for path, row in zip((path for path in missing if path), rows, strict=True):
            seen[path, precision] = row[0]

    def _softened(self, prompt: tuple[int, ...], wanted: bytes) -> float:
        """Honest probability of the usual spelling where tokens stand outside the support, within kernel noise."""
        ids = self.oracle.model.tokenizer.encode(wanted.decode(errors="replace"))
        product = 1.0
        for at, token in enumerate(ids):
            path = tuple(ids[:at])
            share = float(self._law(prompt, path)[0, token])
            if share <= 0.0:
                base, twin = (self._logits(prompt, path, name) for name in (HONEST, TWIN))
                slack = SLACK_SIGMAS * self.oracle.noise(base, twin)
                share = self.oracle.softened(base, self.params, [token], slack, prompt, path)
            product *= share
        return product


def _breaks(raw: bytes) -> bool:
    """Whether bytes begin with what is no whole character."""
    return raw.decode("utf-8", "replace").startswith("\ufffd")


def _key(hypothesis: Hypothesis, params: SamplingParams, oracle: Oracle) -> object:
    """What the law under a hypothesis depends on: under most settings most faults change nothing."""
    if hypothesis.behaviour is None:
        return OTHER_MODEL
    behaviour = hypothesis.behaviour
    semantics = replace(behaviour.semantics, logprob_stage=oracle.honest.semantics.logprob_stage)
    return repr((applied(params, behaviour), semantics, precision_of(behaviour)))
