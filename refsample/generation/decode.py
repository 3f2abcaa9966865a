"""The decoding loop: prompts in, token events out. Knows nothing of providers, HTTP or chat templates.

All live choices of all prompts go through the transformer together, which changes no bit of any of them
(`refsample.generation.work`); `refsample.generation.batch` does the same with the choices of several requests.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from refsample.checks import room, token_ids
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour, applied
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.generation.work import Work
from refsample.sampling.params import SamplingParams
from refsample.sampling.rng import effective_seed

if TYPE_CHECKING:
    from refsample.generation.model import Model


class Events(Iterator[TokenEvent]):
    """The events of one request as they come about. Closing or dropping it stops the work."""

    __slots__ = ("_source", "params", "seed", "work")

    def __init__(self, work: Work, max_live: int | None = None) -> None:
        self._source = _run(work, max_live)
        self.work = work
        """Not begun: it may be given to a Batcher instead of being iterated here."""
        self.params = work.params
        """What is really done: the request less what the behaviour drops."""
        self.seed = work.seed
        """The seed that is used; the same request with it gives the same events."""

    def __next__(self) -> TokenEvent:
        return next(self._source)

    def close(self) -> None:
        """Stop: no further token is computed."""
        self._source.close()

    @property
    def accepted_prediction(self) -> int:
        """Tokens of the prediction that were drawn so far, over all choices."""
        return self.work.prediction[0]

    @property
    def rejected_prediction(self) -> int:
        """Tokens of the prediction that were not, over all choices."""
        return self.work.prediction[1]


def generate_events(
    model: Model,
    prompts: Sequence[Sequence[int]],
    params: GenerationParams,
    behaviour: Behaviour,
    max_live: int | None = None,
) -> Events:
    """Events of `params.n` choices for each prompt; each choice's events come in order, choices are interleaved.

    Everything is checked before this returns: ParameterError for ids that the model does not have, an empty prompt or
    a grammar that cannot be met, ContextLengthError where prompt and max_tokens do not fit the context. max_tokens=0
    gives no events. With `max_live`, prompts wait until no more than so many choices would be live (those of one prompt
    are always begun together); it changes the order of the events of different choices, and nothing else.
    """
    asked = settled(params, behaviour)
    checked = [model.checked_ids(prompt) for prompt in prompts]
    _check_vocabulary(model, asked)
    limits = [_limit(model, ids, asked) for ids in checked]
    seed = effective_seed(asked.seed, behaviour.semantics.seed_rule)
    return Events(Work(model, checked, limits, asked, behaviour, seed), max_live)


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
        "prediction": params.prediction,
    }
    for name, ids in named.items():
        token_ids(name, ids, model.config.vocab_size, f"model {model.name}")


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


def _run(work: Work, max_live: int | None) -> Generator[TokenEvent]:
    while work.waiting or work.live:
        yield from work.start(max_live)
        if work.live:
            yield from work.take(work.transformer.forward(work.segments(), rows="all"))
