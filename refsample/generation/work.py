"""One request in the making: its choices, and what one more token does to each. Knows nothing of providers or HTTP.

Each prompt is prefilled once for all its choices; choices that go on fork its cache. The token of (prompt, choice,
step) depends on its own logits and on uniform(seed, choice, step) alone, so neither `n`, nor other prompts, nor other
requests, nor a prediction, nor asking for logprobs can change it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from refsample.generation import constrain
from refsample.generation.behaviour import Behaviour
from refsample.generation.draft import Draft, Prediction
from refsample.generation.prefill import Prefilled, groups, prefilled
from refsample.generation.quickly import ASK, Asked, Question, Quick
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.generation.stop import Follower, StopRule
from refsample.sampling.context import Context, Memory
from refsample.sampling.logprobs import TokenLogprobs, token_logprobs
from refsample.sampling.params import check_left
from refsample.sampling.pipeline import Distribution, decide, draw, draws
from refsample.sampling.quick import Chosen, Tally, together
from refsample.sampling.rng import stream_choice, uniform, uniforms
from refsample.sampling.steps import plan
from refsample.spec.types import Semantics
from refsample.text.stream import Detokenizer

if TYPE_CHECKING:
    from refsample.generation.constrain import Constraint, State
    from refsample.generation.model import Model
    from refsample.model.cache import Cache
    from refsample.model.transformer import Transformer

Decided = tuple[int, TokenLogprobs | None, float | None]
"""A token, its logprobs and its raw logprob, where they are wanted."""
FEW = 32
"""Up to so many uniform numbers are computed one by one, which is quicker; they are the same numbers."""


@dataclass(slots=True, eq=False)
class Choice:
    """One text in the making."""

    prompt_index: int
    index: int
    prompt: tuple[int, ...]
    limit: int
    follower: Follower
    draft: Draft
    state: State | None
    output: list[int]
    cache: Cache | None = None
    memory: Memory | None = None
    """What a step knows from the draws so far, where one has a memory."""
    tally: Tally | None = None
    """Counts of the history, where the quick way was taken."""

    def take(self, token_id: int, logprobs: TokenLogprobs | None, ends: bool, raw: float | None) -> TokenEvent:
        """Append a token. `ends`: the grammar lets nothing follow. `raw`: its logprob, where choices are ranked."""
        step = self.follower.push(token_id, ends)
        self.output.append(token_id)
        self.draft.follow(self.output)
        return TokenEvent(
            prompt_index=self.prompt_index,
            choice=self.index,
            step=len(self.output) - 1,
            token_id=token_id,
            text=step.text,
            logprobs=logprobs,
            finish_reason=step.finish_reason,
            stop_reason=step.stop_reason,
            raw_logprob=raw,
        )


class Work:
    """What all choices of one request share, and those of them that go on.

    `start`; then, while `live`: `segments` through `transformer`, and the rows to `take` (before it, where several
    requests are asked together, to `ask`). Where `start` left prompts waiting, it is called again between rounds.
    Choices take turns: each has its next token before any has the one after, so the order of events does not depend on
    how many go at a time.
    """

    __slots__ = (
        "_at_turn", "_constraint", "_drafts", "_limits", "_model", "_prediction", "_prompts", "_quick", "_round",
        "_stops", "_waiting", "early", "live", "params", "prefixes", "sampling", "seed", "semantics", "transformer",
    )  # fmt: skip

    def __init__(
        self, model: Model, prompts: Sequence[tuple[int, ...]], limits: Sequence[int], params: GenerationParams,
        behaviour: Behaviour, seed: int,
    ) -> None:  # fmt: skip
        """`limits`: how many tokens may come after each prompt. ParameterError where no token could ever be drawn."""
        self._model, self._prompts, self._limits = model, prompts, limits
        self.params, self.seed = params, seed
        self.semantics: Semantics = behaviour.semantics
        self.transformer: Transformer = model.transformer_for(behaviour.precision)
        self.prefixes = model.prefixes
        self._waiting = deque(p for p, limit in enumerate(limits) if limit)
        """Prompts that are not begun; those without a token to come never are."""
        self.live: list[Choice] = []
        self._round: list[Choice] = []
        """Those of the live choices that have not had their turn in this round."""
        self._at_turn: list[Choice] = []
        self._drafts: list[Draft] = []
        self._prediction = Prediction(params.prediction)
        ends = model.tokenizer.eos_token_ids
        self._stops = StopRule(
            limit=0,
            stop=params.stop,
            stop_token_ids=frozenset(params.stop_token_ids),
            eos_ids=frozenset(() if params.ignore_eos else ends),
            min_tokens=params.min_tokens,
            include_stop=params.include_stop or behaviour.include_stop,
        )
        self.sampling = params.sampling
        banned = {*params.sampling.banned_token_ids, *params.stop_token_ids, *ends}
        self.early = replace(params.sampling, banned_token_ids=tuple(banned)) if params.min_tokens else params.sampling
        """Parameters while `min_tokens` are not reached: no end id and no stop id, ignored ones as well."""
        self._check()
        self._constraint: Constraint | None = None
        if params.grammar is not None:
            self._constraint = constrain.compile_grammar(params.grammar, model)
        possible = self._constraint is None and not params.steps
        self._quick = Quick(params, (self.sampling, self.early), self.semantics, possible)

    def _check(self) -> None:
        """ParameterError where a parameter has no step in this engine, or no token could ever be drawn."""
        for sampling in (self.sampling, self.early):
            plan(Context(sampling, self.semantics, own=self.params.steps))
        size = self._model.config.vocab_size
        check_left(self.sampling, size)
        if self.params.min_tokens:
            check_left(self.early, size, ("min_tokens", self.params.min_tokens))

    @property
    def choices(self) -> int:
        """How many choices there are in all."""
        return len(self._prompts) * self.params.n

    @property
    def prediction(self) -> tuple[int, int]:
        """(accepted, rejected) tokens of the prediction so far, over all choices."""
        return sum(draft.accepted for draft in self._drafts), sum(draft.rejected for draft in self._drafts)

    @property
    def waiting(self) -> int:
        """How many prompts are not begun."""
        return len(self._waiting)

    @property
    def coming(self) -> list[tuple[int, tuple[int, ...], int]]:
        """Number, ids and limit of the waiting prompts."""
        return [(p, self._prompts[p], self._limits[p]) for p in self._waiting]

    def start(self, most: int | None = None, made: Mapping[int, Prefilled] | None = None) -> Iterator[TokenEvent]:
        """Step 0 of every choice of the waiting prompts whose turn has come: of all, or of the next as long as no more
        than `most` choices are live, but of one where none is. `made`: what became of prompts that went through the
        transformer already."""
        taken = len(self.live)
        begun: list[int] = []
        while self._waiting and (most is None or not taken or taken + self.params.n <= most):
            begun.append(self._waiting.popleft())
            taken += self.params.n
        known = made or {}
        for p in (p for p in begun if p in known):
            yield from self._first(p, *known[p])
        for group in groups(self._prompts, [p for p in begun if p not in known]):
            prompts, limits = [self._prompts[p] for p in group], [self._limits[p] for p in group]
            for p, one in zip(group, prefilled(self.transformer, prompts, limits, self.prefixes), strict=True):
                yield from self._first(p, *one)

    def _first(self, p: int, cache: Cache, logits: NDArray[np.float32]) -> Iterator[TokenEvent]:
        """Step 0 of all choices of one prompt: of several one law and n draws, of one as any other step. Those that go
        on share out the prompt's cache."""
        begun = [self._begun(p, index) for index in range(self.params.n)]
        us = self._uniforms(range(self.params.n), 0)
        if len(begun) > 1:
            drawn = self._drawn(begun, logits, us)
        else:
            u = float(us[0])
            drawn = [self._decided(begun[0], logits, u, self._alone(begun[0], logits, u))]
        for choice, (token_id, logprobs, raw) in zip(begun, drawn, strict=True):
            event = choice.take(token_id, logprobs, self._ends(choice, token_id), raw)
            if event.finish_reason is None:
                choice.cache = cache  # of the prompt alone; forked once it is known who goes on
                self.live.append(choice)
            yield event
        for choice in [choice for choice in self.live if choice.prompt_index == p][1:]:
            choice.cache = cache.fork()

    def _begun(self, p: int, index: int) -> Choice:
        """A choice without a token. The first has the grammar's state; the others' are its forks, see `_drawn`."""
        detokenizer = Detokenizer(self._model.tokenizer, skip_special=self.params.skip_special, continued=True)
        follower = Follower(replace(self._stops, limit=self._limits[p]), detokenizer)
        self._drafts.append(draft := Draft(self._prediction))
        state = None if self._constraint is None or index else self._constraint.start()
        return Choice(p, index, self._prompts[p], self._limits[p], follower, draft, state, [])

    def _drawn(self, begun: Sequence[Choice], logits: NDArray[np.float32], us: NDArray[np.float64]) -> list[Decided]:
        """Step 0 of each, from one law."""
        state = begun[0].state
        law = self._law(logits, begun[0].prompt, (), state, None)
        if state is not None:
            for choice in begun[1:]:
                choice.state = state.fork()  # with what the grammar allows, which is known now
        ids = draws(law.probs, us).tolist()  # [n]
        facts, raw = {token_id: self._logprobs(law, token_id) for token_id in set(ids)}, self._raw(law, set(ids))
        for choice, token_id in zip(begun, ids, strict=True):
            choice.memory = law.memory_after(token_id)
        return [(token_id, facts[token_id], raw.get(token_id)) for token_id in ids]

    def segments(self, most: int | None = None) -> list[tuple[Sequence[int], Cache]]:
        """New ids and cache of every live choice, or of at most so many whose turn it is: its last token, and what is
        predicted to follow."""
        self._round = self._round or list(self.live)
        self._at_turn, self._round = self._round[:most], self._round[len(self._round[:most]) :]
        return [(_fed(choice), choice.cache) for choice in self._at_turn if choice.cache is not None]

    def ask(self, rows: Sequence[NDArray[np.float32]]) -> Asked:
        """What a kernel may decide at once of the choices that gave `segments`, from its logits [T, V] at each of its
        new ids."""
        us, block = self._next_uniforms(self._at_turn), together(rows)
        return Asked(us, ASK if block is None else self._quick.question(self._at_turn, block, us))

    def take(
        self, rows: Sequence[NDArray[np.float32]], asked: Asked | None = None,
        answer: Sequence[Chosen | None] | None = None,
    ) -> Iterator[TokenEvent]:  # fmt: skip
        """The next tokens of the choices that gave `segments`, from the rows of `ask`. `asked` and `answer`: that it
        was called already, and what became of its question."""
        asked = asked or self.ask(rows)
        known: Sequence[Chosen | Literal["ask"] | None]
        if isinstance(asked.question, Question):
            known = asked.question.answer() if answer is None else answer
        else:
            known = [asked.question] * len(rows)
        ended: set[int] = set()
        for choice, u, logits, chosen in zip(self._at_turn, asked.us, rows, known, strict=True):
            done = yield from self._continue(choice, u, logits, chosen)
            if done:
                ended.add(id(choice))
        if ended:
            self.live = [choice for choice in self.live if id(choice) not in ended]

    def _alone(self, choice: Choice, row: NDArray[np.float32], u: float) -> Chosen | None:
        """What the quick way says of one row [V]."""
        question = self._quick.question([choice], row[None], np.array([u]))
        return question.answer()[0] if isinstance(question, Question) else None

    def _next_uniforms(self, choices: Sequence[Choice]) -> NDArray[np.float64]:
        """[len(choices)] u of the next token of each; without a prediction all of them are at one step."""
        steps = {len(choice.output) for choice in choices}
        if len(steps) == 1:
            return self._uniforms([choice.index for choice in choices], steps.pop())
        return np.array([self._uniforms([choice.index], len(choice.output))[0] for choice in choices])

    def _continue(
        self, choice: Choice, u: float, logits: NDArray[np.float32], known: Chosen | Literal["ask"] | None
    ) -> Generator[TokenEvent, None, bool]:
        """One token, and one more for each that was predicted rightly; returns whether the choice has ended. `known`:
        what the quick way said of the first of them; ASK: it is asked now."""
        fed = _fed(choice)
        cache = choice.cache
        assert cache is not None
        before = cache.length - len(fed)
        for place, row in enumerate(logits):
            if place:
                u = float(self._uniforms([choice.index], len(choice.output))[0])
            chosen = self._alone(choice, row, u) if place or known == ASK else known
            token_id, logprobs, raw = self._decided(choice, row, u, chosen)
            event = choice.take(token_id, logprobs, self._ends(choice, token_id), raw)
            yield event
            if event.finish_reason is not None:
                return True
            if place + 1 == len(fed) or fed[place + 1] != token_id:
                cache.truncate(before + place + 1)
                break
        return False

    def _decided(self, choice: Choice, row: NDArray[np.float32], u: float, chosen: Chosen | None) -> Decided:
        """The next token from one row [V]; `chosen`: what the quick way says of it."""
        if chosen is not None:
            logprobs = None if self.params.logprobs is None else chosen.logprobs
            return chosen.token_id, logprobs, chosen.raw if self.params.ranked else None
        law = self._law(row, choice.prompt, choice.output, choice.state, choice.memory)
        token_id = draw(law.probs, u)
        choice.memory = law.memory_after(token_id)
        return token_id, self._logprobs(law, token_id), self._raw(law, {token_id}).get(token_id)

    def _ends(self, choice: Choice, token_id: int) -> bool:
        """Take the token into the grammar; True where nothing may follow it and no end id can say so."""
        eos, early = self._stops.eos_ids, len(choice.output) + 1 < self.params.min_tokens
        if choice.state is None or token_id in eos:
            return False
        choice.state.push(token_id)
        return choice.state.finished and (early or not eos)

    def _law(
        self, logits: NDArray[np.float32], prompt: Sequence[int], output: Sequence[int], state: State | None,
        memory: Memory | None,
    ) -> Distribution:  # fmt: skip
        sampling = self.early if len(output) < self.params.min_tokens else self.sampling
        if state is None:
            return decide(logits, sampling, prompt, output, self.semantics, None, memory, self.params.steps)
        allowed = self._going_on(state.allowed())
        if sampling is not self.sampling and not np.delete(allowed, sampling.banned_token_ids).any():
            sampling = self.sampling  # the grammar knows no other way: it goes before min_tokens
        return decide(logits, sampling, prompt, output, self.semantics, allowed, memory, self.params.steps)

    def _going_on(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[V] What the grammar lets through; with `ignore_eos` no end id, as long as anything else may follow."""
        if self._stops.eos_ids:
            return allowed
        rest = allowed.copy()  # [V]
        rest[list(self._model.tokenizer.eos_token_ids)] = False
        return rest if rest.any() else allowed

    def _uniforms(self, choices: Sequence[int], step: int) -> NDArray[np.float64]:
        """[len(choices)] one u for each choice; the same for every prompt."""
        streams = [stream_choice(choice, self.semantics.seed_rule) for choice in choices]
        if len(streams) > FEW:
            return uniforms(self.seed, streams, step)
        return np.array([uniform(self.seed, stream, step) for stream in streams])

    def _logprobs(self, law: Distribution, token_id: int) -> TokenLogprobs | None:
        wanted = self.params.logprobs
        return None if wanted is None else token_logprobs(law, token_id, wanted, self.semantics)

    def _raw(self, law: Distribution, ids: Set[int]) -> dict[int, float]:
        """The raw logprob of each of `ids`, where choices are ranked by it."""
        values = law.raw_logprobs if self.params.ranked else None
        return {} if values is None else {token_id: float(values[token_id]) for token_id in ids}


def _fed(choice: Choice) -> tuple[int, ...]:
    return (choice.output[-1], *choice.draft.ahead(choice.limit - len(choice.output) - 1))
