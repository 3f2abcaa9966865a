"""The reference's side of a verification: exact laws of the next token under every hypothesis.

It holds the reference model, the honest behaviours (float32 and bf16 kernels) and the fault hypotheses, and answers
"how probable is this under that". It knows nothing of requests; what a token looks like from outside is a text class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.faults import FAULTS, Fault
from refsample.conformance.transcript import Choice
from refsample.generation.behaviour import OVERLAY, Behaviour, applied
from refsample.generation.decode import generate_events
from refsample.generation.model import Model
from refsample.generation.noise import LIKELIEST, logit_error
from refsample.generation.sequence import GenerationParams
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import Distribution, distribution
from refsample.text.reasoning import find_marks, join

Floats = NDArray[np.float64]

HONEST = "float32"
TWIN = "bf16"
OTHER_MODEL = "other_model"
OTHER_DEFAULTS = "other_defaults"
NOISE_FLOOR = 1e-3
"""Least logit error (nats, rms) that any two honest engines are granted."""
HONEST_SCALES = (2.0, 4.0)
"""One emulation tells the size of honest kernel noise only roughly: it may be this many times larger as well."""
SLACK_SIGMAS = 6 * 2**0.5 * HONEST_SCALES[-1]
"""A token outside the support by more than this many logit errors is a proof (verification.md S1)."""
OVERLAYS: tuple[tuple[tuple[str, float], ...], ...] = (
    OVERLAY, (("temperature", 0.7), ("top_p", 0.8), ("top_k", 20)), (("temperature", 0.2),), (("temperature", 0.6),),
    (("temperature", 0.8),), (("temperature", 1.0),), (("temperature", 0.7), ("top_p", 0.95)), (("top_p", 0.9),),
)  # fmt: skip
"""Defaults in use that a page may not know of: what `other_defaults` is bet on, each with the same stake."""
OTHER = 0
"""Text class of everything that shows no text of its own: specials, parts of a character."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A possible truth about the endpoint; `behaviour` None means: not this model at all."""

    name: str
    behaviour: Behaviour | None


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt whose next token is asked for: its text, its ids, and the entropy (nats) of the next token."""

    text: str
    ids: tuple[int, ...]
    entropy: float


Greedy = tuple[list[int], NDArray[np.float32], NDArray[np.float32]]
"""A greedy path, and the logits along it of the reference and of its twin."""
KEPT = 1 << 28
"""Bytes of such logits that are kept."""


class Oracle:
    """Exact next-token laws of one reference model under the honest behaviour and every fault."""

    def __init__(self, model: Model, honest: Behaviour) -> None:
        self.model, self.honest = model, honest
        self.nulls = (Hypothesis(HONEST, honest), Hypothesis(TWIN, replace(honest, precision="bf16")))
        self.faults = (
            *(Hypothesis(f.name, f.change(honest)) for f in FAULTS.values() if f.applies(honest) and _told(f)),
            Hypothesis(OTHER_MODEL, None),
        )
        ours = {name for overlay in OVERLAYS for name, _ in overlay}
        self.overlays = tuple(
            Hypothesis(f"{OTHER_DEFAULTS}/{at}", replace(honest, dropped=frozenset(ours), imposed=overlay))
            for at, overlay in enumerate(OVERLAYS)
        )
        """What a request without any parameter may be sampled with instead."""
        self._last: dict[tuple[tuple[int, ...], str], NDArray[np.float32]] = {}
        self._greedy: dict[tuple[tuple[int, ...], int], Greedy] = {}
        self.cut = False
        self._classes()

    def text_of(self, choice: Choice, ids: Sequence[int]) -> str:
        """All that a choice says after the prompt `ids`: with its thought, as the model wrote it."""
        marks = None if choice.thought is None else find_marks(self.model.template, self.model.tokenizer, ids)
        if marks is None:
            return choice.text
        unfinished = not choice.text and choice.finish_reason == "length"
        return join(choice.thought, None if unfinished else choice.text, marks)

    def cut_leading(self) -> None:
        """The endpoint cuts white space off the beginning of its texts: so what is told of a first token is less."""
        self.cut = True
        self._classes()

    def _classes(self) -> None:
        tokenizer = self.model.tokenizer
        self.index: dict[str, int] = {"": OTHER}
        self.class_of = np.zeros(self.model.config.vocab_size, np.int64)  # [V]
        self.id_of_bytes: dict[bytes, int] = {}
        for token in range(tokenizer.vocab_size):
            raw = tokenizer.token_bytes(token)
            self.id_of_bytes.setdefault(raw, token)
            text = "" if tokenizer.is_special(token) else raw.decode("utf-8", errors="replace")
            text = text.lstrip() if self.cut else text
            if text and "\ufffd" not in text:
                self.class_of[token] = self.index.setdefault(text, len(self.index))
        members: dict[int, list[int]] = {}
        for token, kind in enumerate(self.class_of.tolist()):
            members.setdefault(kind, []).append(token)
        self.members = {kind: tuple(tokens) for kind, tokens in members.items()}

    def class_of_text(self, text: str) -> int | None:
        """Class of a one-token answer's text; None where no single token looks like that."""
        return OTHER if "\ufffd" in text else self.index.get(text)

    def context(self, text: str, ids: Sequence[int]) -> Context:
        logits = self.last_logits(tuple(ids), HONEST).astype(np.float64)  # [V]
        logp = logits - logits.max()
        logp -= np.log(np.exp(logp).sum())
        return Context(text, tuple(ids), float(-(np.exp(logp) * logp).sum()))

    def last_logits(self, ids: tuple[int, ...], precision: str) -> NDArray[np.float32]:
        """Raw logits [V] after `ids`, computed once."""
        key = (ids, precision)
        if key not in self._last:
            self._last[key] = self.all_logits(ids, precision, rows="last")[0]
        return self._last[key]

    def all_logits(self, ids: tuple[int, ...], precision: str, rows: str = "all") -> NDArray[np.float32]:
        """Raw logits [T, V] of a whole transcript."""
        transformer = self.model.transformer_for(precision)
        tokens = np.asarray(ids, np.int64)
        return transformer.forward([(tokens, transformer.new_cache(len(ids)))], "all" if rows == "all" else "last")[0]

    def both_logits(self, ids: tuple[int, ...], path: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw logits [T + 1, V] along a path after `ids`, of the reference and of its twin."""
        whole, start = (*ids, *path), len(ids) - 1
        return self.all_logits(whole, HONEST)[start:].copy(), self.all_logits(whole, TWIN)[start:].copy()

    def path(self, ids: tuple[int, ...], length: int, values: Mapping[str, Any]) -> list[int]:
        """The reference's greedy tokens after `ids`, at most `length`."""
        params = GenerationParams(sampling=SamplingParams(temperature=0.0, **values), max_tokens=length)
        return [event.token_id for event in generate_events(self.model, [ids], params, self.honest)]

    def greedy(self, ids: tuple[int, ...], length: int) -> Greedy:
        """The greedy path without any parameter, and `both_logits` along it; kept while there is room."""
        found = self._greedy.get((ids, length))
        if found is None:
            path = self.path(ids, length, {})
            found = (path, *self.both_logits(ids, path))
            if sum(rows.nbytes for _, *both in self._greedy.values() for rows in both) < KEPT:
                self._greedy[ids, length] = found
        return found

    def noise(self, base: NDArray[np.float32], twin: NDArray[np.float32]) -> float:
        """Logit error (rms, nats) that honest bf16 kernels make here, over the 64 likeliest tokens."""
        top = np.argsort(base)[-LIKELIEST:]
        return max(NOISE_FLOOR, float(logit_error(base[top], twin[top])))

    def sigma(self, ids: tuple[int, ...]) -> float:
        return self.noise(self.last_logits(ids, HONEST), self.last_logits(ids, TWIN))

    def distribution(
        self,
        logits: NDArray[np.float32] | Floats,
        params: SamplingParams,
        behaviour: Behaviour,
        prompt_ids: Sequence[int],
        output_ids: Sequence[int] = (),
    ) -> Distribution:
        """The law under a behaviour for logits already computed."""
        return distribution(logits, applied(params, behaviour), prompt_ids, output_ids, engine=behaviour.semantics)

    def law(self, context: Context, params: SamplingParams, hypothesis: Hypothesis, best_of: int = 1) -> Floats:
        """Probability of each text class [K] of a one-token answer, the best of so many by raw logprob."""
        behaviour = hypothesis.behaviour or self.honest
        logits = self.last_logits(context.ids, precision_of(behaviour))
        if hypothesis.behaviour is None:
            logits = blurred(logits)
        probs = self.distribution(logits, params, behaviour, context.ids).probs  # [V]
        if best_of > 1 and "best_of_ignored" not in behaviour.flaws:
            probs = _best(probs, self.last_logits(context.ids, precision_of(behaviour)), best_of)
        return np.bincount(self.class_of, probs, len(self.index)).astype(np.float64)  # [K]

    def softened(
        self,
        logits: NDArray[np.float32],
        params: SamplingParams,
        tokens: Sequence[int],
        slack: float,
        prompt_ids: Sequence[int],
        output_ids: Sequence[int] = (),
    ) -> float:
        """Honest probability of `tokens` that stand outside the support; 0.0: outside whatever the noise.

        `slack` is six standard deviations of the widest honest noise between two logits. The least rise that brings a
        token in is looked for; the token then has its share there, times the chance that noise rises so far.
        """
        raised = logits.astype(np.float64)
        for lower, upper in pairwise((0.0, *(2.0**-k for k in range(5, -1, -1)))):
            raised[list(tokens)] = logits[list(tokens)] + slack * upper
            law = self.distribution(raised, params, self.honest, prompt_ids, output_ids)
            share = float(law.probs[list(tokens)].sum())
            if share > 0.0:
                return share * math.erfc(6.0 * lower / math.sqrt(2.0))
        return 0.0


def _told(fault: Fault) -> bool:
    """Whether tokens or logprobs tell a fault: a flaw of the API around them changes neither."""
    return not fault.flaw or fault.name == "logprobs_after_temperature"


def _best(probs: Floats, logits: NDArray[np.float32], count: int) -> Floats:
    """Law [V] of the likeliest by `logits` of `count` draws from `probs`: P(all at most this) - P(all below this)."""
    order = np.argsort(logits, kind="stable")
    upto = np.minimum(1.0, np.cumsum(probs[order]))
    best = np.empty_like(probs)
    best[order] = upto**count - np.maximum(0.0, upto - probs[order]) ** count
    return best


def blurred(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [V] of the law mixed half and half with the uniform one: what some other model might say.

    Mixed before the filters, so a token that a dropped filter let through speaks for the dropped filter alone.
    """
    probs = np.exp(logits.astype(np.float64) - logits.max())
    mixed: NDArray[np.float64] = np.log(0.5 * probs / probs.sum() + 0.5 / len(probs))
    return mixed.astype(np.float32)  # [V]


def precision_of(behaviour: Behaviour) -> str:
    """Its precision by name: a behaviour that leaves it to the model as loaded counts as honest."""
    return behaviour.precision or HONEST


def sampling_params(fields: Mapping[str, object]) -> SamplingParams:
    """Request fields (as a body has them) -> SamplingParams; logit_bias keys become ints."""
    values = dict(fields)
    values.pop("best_of", None)
    bias = values.pop("logit_bias", None)
    if isinstance(bias, Mapping):
        values["logit_bias"] = {int(k): float(v) for k, v in bias.items()}
    return SamplingParams(**values)  # type: ignore[arg-type]  # field types are checked by SamplingParams itself
