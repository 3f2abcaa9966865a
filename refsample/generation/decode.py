"""The decoding loop: prompts in, token events out. Knows nothing of providers, HTTP or chat templates.

Each prompt is prefilled once for all its choices; choices that go on fork its cache. All live choices of all prompts
go through the transformer together, which changes no bit of any of them. The token of (prompt, choice, step) depends
on its own logits and on uniform(seed, choice, step) alone, so neither `n`, nor other prompts, nor streaming, nor
asking for logprobs can change it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refsample.checks import room, token_ids
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour, applied
from refsample.generation.prefill import groups, last_rows
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.generation.stop import Follower, StopRule
from refsample.sampling.logprobs import TokenLogprobs, token_logprobs
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import Distribution, decide, draw, draws
from refsample.sampling.rng import effective_seed, stream_choice, uniform, uniforms
from refsample.sampling.steps import Context, plan
from refsample.spec.types import Semantics
from refsample.text.stream import Detokenizer

if TYPE_CHECKING:
    from refsample.generation.model import Model
    from refsample.model.cache import Cache
    from refsample.model.transformer import Transformer

RESERVED = 256
"""Places kept free in a fresh cache; it grows when an answer gets longer."""
FEW = 32
"""Up to so many uniform numbers are computed one by one, which is quicker; they are the same numbers."""


class Events(Iterator[TokenEvent]):
    """The events of one request as they come about. Closing or dropping it stops the work."""

    __slots__ = ("_source", "params", "seed")

    def __init__(self, source: Generator[TokenEvent], params: GenerationParams, seed: int) -> None:
        self._source = source
        self.params = params
        """What is really done: the request less what the behaviour drops."""
        self.seed = seed
        """The seed that is used; the same request with it gives the same events."""

    def __next__(self) -> TokenEvent:
        return next(self._source)

    def close(self) -> None:
        """Stop: no further token is computed."""
        self._source.close()


def generate_events(
    model: Model, prompts: Sequence[Sequence[int]], params: GenerationParams, behaviour: Behaviour
) -> Events:
    """Events of `params.n` choices for each prompt; each choice's events come in order, choices are interleaved.

    Everything is checked before this returns: ParameterError for ids that the model does not have or an empty prompt,
    ContextLengthError where prompt and max_tokens do not fit the context. max_tokens=0 gives no events.
    """
    asked = settled(params, behaviour)
    checked = [model.checked_ids(prompt) for prompt in prompts]
    _check_vocabulary(model, asked)
    limits = [_limit(model, ids, asked) for ids in checked]
    seed = effective_seed(asked.seed, behaviour.semantics.seed_rule)
    job = _Job(model, asked, behaviour, seed)
    job.check()
    return Events(_run(job, checked, limits), asked, seed)


def settled(params: GenerationParams, behaviour: Behaviour) -> GenerationParams:
    """`params` with every field that the behaviour drops set to its default. ParameterError for names of no field."""
    general = {f.name for f in fields(GenerationParams)} - {"sampling"}
    unknown = sorted(behaviour.dropped - general - {f.name for f in fields(SamplingParams)})
    if unknown:
        raise ParameterError("dropped", unknown[0], "names no parameter of generation")
    neutral = GenerationParams()
    rest = {name: getattr(neutral, name) for name in behaviour.dropped & general}
    return replace(params, sampling=applied(params.sampling, behaviour), **rest)


def _check_vocabulary(model: Model, params: GenerationParams) -> None:
    """The ids that parameters name; the sampler's own door is not on the way of `decide`."""
    named = {
        "logit_bias": tuple(params.sampling.logit_bias),
        "allowed_token_ids": params.sampling.allowed_token_ids or (),
        "banned_token_ids": params.sampling.banned_token_ids,
        "stop_token_ids": params.stop_token_ids,
    }
    for name, ids in named.items():
        token_ids(name, ids, model.config.vocab_size, f"model {model.name}")


def _check_left(sampling: SamplingParams, size: int, cause: tuple[str, object] | None = None) -> None:
    """The ids that are allowed are not all banned; `cause`: the parameter that bans them."""
    allowed, banned = sampling.allowed_token_ids, frozenset(sampling.banned_token_ids)
    if len(banned) >= size if allowed is None else banned.issuperset(allowed):
        own = ("banned_token_ids", sampling.banned_token_ids)
        name, value = cause or (own if allowed is None else ("allowed_token_ids", allowed))
        raise ParameterError(name, value, "leaves no token that could be drawn")


def _limit(model: Model, ids: tuple[int, ...], params: GenerationParams) -> int:
    """How many tokens may come after a prompt."""
    context, source = model.config.max_position, f"model {model.name}"
    counted = f"the prompt's {len(ids)} tokens and these"
    if params.max_tokens is not None:
        room("max_tokens", params.max_tokens, counted, len(ids) + params.max_tokens, context, source)
        return params.max_tokens
    room("prompt", ..., f"{len(ids)} tokens and one to come", len(ids) + 1, context, source)
    room("min_tokens", params.min_tokens, counted, len(ids) + params.min_tokens, context, source)
    return context - len(ids)


class _Job:
    """What all choices of one request share."""

    __slots__ = ("early", "model", "n", "params", "sampling", "seed", "semantics", "stops", "transformer")

    def __init__(self, model: Model, params: GenerationParams, behaviour: Behaviour, seed: int) -> None:
        self.model = model
        self.params = params
        self.semantics: Semantics = behaviour.semantics
        self.seed = seed
        self.n = params.n
        self.transformer: Transformer = model.transformer_for(behaviour.precision)
        eos = () if params.ignore_eos else model.tokenizer.eos_token_ids
        self.stops = StopRule(
            limit=0,
            stop=params.stop,
            stop_token_ids=frozenset(params.stop_token_ids),
            eos_ids=frozenset(eos),
            min_tokens=params.min_tokens,
            include_stop=params.include_stop or behaviour.include_stop,
        )
        self.sampling = params.sampling
        banned = {*params.sampling.banned_token_ids, *params.stop_token_ids, *eos}
        self.early = replace(params.sampling, banned_token_ids=tuple(banned)) if params.min_tokens else params.sampling
        """Parameters while `min_tokens` are not reached: no token may end the text."""

    def check(self) -> None:
        """ParameterError where a parameter has no step in this engine, or no token could ever be drawn."""
        for sampling in (self.sampling, self.early):
            plan(Context(sampling, self.semantics))
        _check_left(self.sampling, self.model.config.vocab_size)
        if self.params.min_tokens:
            _check_left(self.early, self.model.config.vocab_size, ("min_tokens", self.params.min_tokens))

    def law(self, logits: NDArray[np.float32], prompt: Sequence[int], output: Sequence[int]) -> Distribution:
        sampling = self.early if len(output) < self.params.min_tokens else self.sampling
        return decide(logits, sampling, prompt, output, self.semantics)

    def uniforms(self, choices: Sequence[int], step: int) -> NDArray[np.float64]:
        """[len(choices)] one u for each choice; the same for every prompt."""
        streams = [stream_choice(choice, self.semantics.seed_rule) for choice in choices]
        if len(streams) > FEW:
            return uniforms(self.seed, streams, step)
        return np.array([uniform(self.seed, stream, step) for stream in streams])

    def logprobs(self, law: Distribution, token_id: int) -> TokenLogprobs | None:
        wanted = self.params.logprobs
        return None if wanted is None else token_logprobs(law, token_id, wanted, self.semantics)


@dataclass(slots=True, eq=False)
class _Choice:
    """One text in the making."""

    prompt_index: int
    index: int
    prompt: tuple[int, ...]
    follower: Follower
    output: list[int]
    cache: Cache | None = None

    def take(self, token_id: int, logprobs: TokenLogprobs | None) -> TokenEvent:
        """Append a token."""
        step = self.follower.push(token_id)
        self.output.append(token_id)
        return TokenEvent(
            prompt_index=self.prompt_index,
            choice=self.index,
            step=len(self.output) - 1,
            token_id=token_id,
            text=step.text,
            logprobs=logprobs,
            finish_reason=step.finish_reason,
            stop_reason=step.stop_reason,
        )


def _run(job: _Job, prompts: Sequence[tuple[int, ...]], limits: Sequence[int]) -> Generator[TokenEvent]:
    live: list[_Choice] = []
    for group in groups(prompts, limits):
        caches = [job.transformer.new_cache(len(prompts[p]) + min(limits[p], RESERVED)) for p in group]
        rows = last_rows(job.transformer, [(prompts[p], cache) for p, cache in zip(group, caches, strict=True)])
        for p, cache, row in zip(group, caches, rows, strict=True):
            started: list[_Choice] = []
            yield from _first(job, p, prompts[p], limits[p], row[0], started)
            _share(cache, started)
            live += started
    while live:
        live = yield from _next(job, live)


def _first(
    job: _Job, p: int, prompt: tuple[int, ...], limit: int, logits: NDArray[np.float32], started: list[_Choice]
) -> Iterator[TokenEvent]:
    """Step 0 of all choices of one prompt: one law, n draws. Those that go on are put into `started`."""
    law = job.law(logits, prompt, ())
    ids = draws(law.probs, job.uniforms(range(job.n), 0)).tolist()  # [n]
    facts = {token_id: job.logprobs(law, token_id) for token_id in set(ids)}
    stops = replace(job.stops, limit=limit)
    for index, token_id in enumerate(ids):
        detokenizer = Detokenizer(job.model.tokenizer, skip_special=True, continued=True)
        choice = _Choice(p, index, prompt, Follower(stops, detokenizer), [])
        event = choice.take(token_id, facts[token_id])
        if event.finish_reason is None:
            started.append(choice)
        yield event


def _share(cache: Cache, choices: Sequence[_Choice]) -> None:
    """Give each choice its own cache of the same prompt; the first takes the original."""
    for place, choice in enumerate(choices):
        choice.cache = cache.fork() if place else cache


def _next(job: _Job, live: list[_Choice]) -> Generator[TokenEvent, None, list[_Choice]]:
    """One more token for every live choice; returns those that go on."""
    segments = [(choice.output[-1:], choice.cache) for choice in live if choice.cache is not None]
    rows = job.transformer.forward(segments)
    us = job.uniforms([choice.index for choice in live], len(live[0].output))  # live choices are all at one step
    going: list[_Choice] = []
    for choice, row, u in zip(live, rows, us, strict=True):
        law = job.law(row[0], choice.prompt, choice.output)
        token_id = draw(law.probs, u)
        event = choice.take(token_id, job.logprobs(law, token_id))
        if event.finish_reason is None:
            going.append(choice)
        yield event
    return going
