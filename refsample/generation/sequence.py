"""What is asked of a generation and what comes out: parameters, events, completions. Knows no model and no HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from refsample import render
from refsample.checks import integer
from refsample.errors import ParameterError
from refsample.generation.constrain import Grammar
from refsample.generation.stop import FinishReason
from refsample.sampling.logprobs import TokenLogprobs
from refsample.sampling.own import OwnStep
from refsample.sampling.params import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationParams:
    """One request, apart from its prompts. Types and meaning are checked here, providers' bounds by `refsample.api`."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    """Tokens at most, the end id included; None: as many as the context has room for. 0 gives no events."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it unless `include_stop`."""
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False
    ignore_eos: bool = False
    """True: the model's end ids are tokens like any other."""
    min_tokens: int = 0
    """So many tokens come before any end but length: end and stop ids are masked, stop strings wait."""
    n: int = 1
    seed: int | None = None
    """None, or -1 as several APIs write it: a fresh one from the operating system, given back in the result."""
    logprobs: int | None = None
    """Number of alternatives to report beside the drawn token; 0: only that one; None: nothing."""
    ranked: bool = False
    """True: every event brings the drawn token's raw logprob, by which candidates are ranked."""
    grammar: Grammar | None = None
    """What the text has to be; every token that cannot lead there is masked."""
    prediction: tuple[int, ...] = ()
    """Ids that the text probably consists of. It changes no token: where it is right, the text comes sooner."""
    steps: tuple[OwnStep, ...] = ()
    """Sampling steps of your own beside the engine's."""
    skip_special: bool = True
    """False: special tokens stand in the text as they are written in the vocabulary."""

    def __post_init__(self) -> None:
        ids = tuple(integer("stop_token_ids", i, 0) for i in _tuple("stop_token_ids", self.stop_token_ids))
        object.__setattr__(self, "stop", _strings("stop", self.stop))
        object.__setattr__(self, "stop_token_ids", ids)
        guess = tuple(integer("prediction", i, 0) for i in _tuple("prediction", self.prediction))
        object.__setattr__(self, "prediction", guess)
        object.__setattr__(self, "steps", _tuple("steps", self.steps))
        for step in self.steps:
            if not isinstance(step, OwnStep):
                raise ParameterError("steps", step, "must be a list of refsample.OwnStep")
        if not isinstance(self.grammar, Grammar | None):
            raise ParameterError("grammar", self.grammar, "must be a refsample.generation.constrain.Grammar")
        for name in ("include_stop", "ignore_eos", "skip_special", "ranked"):
            if not isinstance(getattr(self, name), bool):
                raise ParameterError(name, getattr(self, name), "must be true or false")
        object.__setattr__(self, "min_tokens", integer("min_tokens", self.min_tokens, 0))
        object.__setattr__(self, "n", integer("n", self.n, 1))
        for name, low in (("max_tokens", 0), ("logprobs", 0), ("seed", -(1 << 63))):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, integer(name, getattr(self, name), low))
        if self.seed == -1:
            object.__setattr__(self, "seed", None)
        if self.seed is not None and self.seed >= 1 << 64:
            raise ParameterError("seed", self.seed, "must fit into 64 bits")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ParameterError("min_tokens", self.min_tokens, f"must not exceed max_tokens={self.max_tokens}")


def _strings(name: str, value: object) -> tuple[str, ...]:
    found = []
    for text in (value,) if isinstance(value, str) else _tuple(name, value):
        if not isinstance(text, str) or not text:
            raise ParameterError(name, text, "must be a string that is not empty")
        found.append(text)
    return tuple(found)


def _tuple(name: str, values: object) -> tuple[object, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ParameterError(name, values, "must be a list")
    return tuple(values)


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One token of one choice."""

    prompt_index: int
    choice: int
    """0 .. n - 1 within its prompt."""
    step: int
    """0 for the first token after the prompt."""
    token_id: int
    text: str
    """Text that may be sent now; all texts of a choice joined are its answer."""
    logprobs: TokenLogprobs | None
    finish_reason: FinishReason | None
    """Set in the last event of a choice, which also brings the text that was held back."""
    stop_reason: str | int | None
    raw_logprob: float | None = None
    """From the model's own logits, whatever stage `logprobs` are of; None unless choices are ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished choice, and through `choices` the others of its request."""

    text: str
    token_ids: tuple[int, ...] = field(repr=False)
    """Every sampled token, an end id and the tokens of a stop string included."""
    tokens: tuple[str, ...] = field(repr=False)
    """Their texts one by one; a fragment of a character shows its valid part."""
    logprobs: tuple[TokenLogprobs, ...] = field(repr=False)
    """Empty unless asked for."""
    finish_reason: FinishReason
    stop_reason: str | int | None
    seed: int
    """The seed that was used: the same request with it gives the same tokens."""
    prompt_ids: tuple[int, ...] = field(repr=False)
    index: int
    others: tuple[Completion, ...] = field(default=(), repr=False)
    """Choices 1 .. n - 1; only choice 0 holds them."""

    @property
    def choices(self) -> tuple[Completion, ...]:
        """All choices in order; for n = 1 just this one."""
        return (self, *self.others)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens counted as the APIs count them: the prompt once, every sampled token of every choice."""
        sampled = sum(len(choice.token_ids) for choice in self.choices)
        return {
            "prompt_tokens": len(self.prompt_ids),
            "completion_tokens": sampled,
            "total_tokens": len(self.prompt_ids) + sampled,
        }

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON: this choice alone; a logprob of -inf is None."""
        names = (f.name for f in fields(self) if f.name not in ("others", "logprobs"))
        plain: dict[str, object] = {name: getattr(self, name) for name in names}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
        plain["logprobs"] = [
            {
                "token_id": facts.token_id,
                "logprob": _finite(facts.logprob),
                "rank": facts.rank,
                "top": [[token_id, _finite(value)] for token_id, value in facts.top],
            }
            for facts in self.logprobs
        ]
        return plain

    def _repr_html_(self) -> str:
        """Tokens tinted by probability, for notebooks; one block per choice."""
        return "".join(render.tinted(_drawn(choice)) for choice in self.choices)


def _finite(logprob: float) -> float | None:
    return logprob if math.isfinite(logprob) else None


def _drawn(choice: Completion) -> list[render.Token]:
    if not choice.logprobs:
        return [render.Token(text) for text in choice.tokens]
    drawn = []
    for text, facts in zip(choice.tokens, choice.logprobs, strict=True):
        probability = math.exp(facts.logprob)
        title = f"id {facts.token_id}, p {probability:.3g}, rank {facts.rank}"
        drawn.append(render.Token(text, probability, title))
    return drawn
