"""Scoring given text under the model (teacher forcing). Draws nothing, knows nothing of providers or HTTP.

Many texts go through the transformer together; the numbers of each are, bit for bit, those that it gets alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import numpy as np
from numpy.typing import NDArray

from refsample.checks import integer, room
from refsample.errors import ParameterError
from refsample.generation import streaming
from refsample.generation.forest import Path
from refsample.generation.model import Model, Prompt
from refsample.generation.prefill import Rows, grow
from refsample.generation.resume import Kept, what_decides
from refsample.generation.streaming import Passed, Streamed, bytes_each
from refsample.model.shelf import Shelf
from refsample.sampling.context import Context, Memory
from refsample.sampling.logprobs import TokenLogprobs, from_values
from refsample.sampling.params import SamplingParams, sampling_params
from refsample.sampling.pipeline import check_named, decide
from refsample.sampling.semantics import resolve
from refsample.sampling.steps import plan
from refsample.spec.types import EngineSpec, Semantics
from refsample_kernels.softmax import log_softmax, row_law, row_log_softmax

Item = tuple[Prompt | None, str | Sequence[int]]
"""A prompt and a completion."""
CACHE_BYTES = 256 << 20
"""So much memory the keys and values of the transcripts under way take, or those of one transcript."""


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of the completion."""

    token_id: int
    text: str
    raw_logprob: float
    """Under the model itself."""
    logprob: float
    """Under the law of the parameters; -inf where it cannot be drawn."""
    rank: int
    """1 is the most likely token under the model itself; ties by the engine's rule."""
    in_support: bool
    entropy: float
    """Of the model's own law of this token, in nats: how open it was what would come."""
    top: tuple[tuple[int, float], ...] = ()
    """(id, raw logprob) of the best alternatives, listed as the engine lists them; empty unless asked for."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion, token by token, and its sums in nats."""

    tokens: tuple[ScoredToken, ...]

    @property
    def total(self) -> float:
        """Sum of the logprobs under the law of the parameters."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def raw_total(self) -> float:
        """Sum of the logprobs under the model itself."""
        return math.fsum(token.raw_logprob for token in self.tokens)

    @property
    def per_token(self) -> float:
        """Mean logprob under the law of the parameters."""
        return self.total / len(self.tokens)

    @property
    def perplexity(self) -> float:
        """e^-(mean logprob under the model itself); inf where that leaves the numbers."""
        mean = -self.raw_total / len(self.tokens)
        return math.exp(mean) if mean < 709.0 else math.inf

    @property
    def entropy(self) -> float:
        """Mean entropy of the model's own laws."""
        return math.fsum(token.entropy for token in self.tokens) / len(self.tokens)


@dataclass(frozen=True, slots=True)
class Transcript:
    """Checked ids, and the place of the first one that is scored, 1 or later. See `transcript`."""

    ids: tuple[int, ...]
    start: int


def transcript(model: Model, prompt: Prompt | None, completion: str | Sequence[int], name: str = "") -> Transcript:
    """What `score` scores of a pair; `name` goes before the parameter's name in errors.

    A completion that is text is tokenised by itself, not together with the prompt: the border is a token border. Where
    the prompt is empty or None the completion is a whole text (with what the tokenizer adds to one, for some models a
    begin id), scored from its second token on: nothing comes before the first. ParameterError for ids that the model
    does not have, for an empty completion, and where there is nothing to come after; ContextLengthError.
    """
    try:
        if prompt is None or (isinstance(prompt, Sized) and not len(prompt)):
            whole = model.tokenizer.encode(completion) if isinstance(completion, str) else completion
            ids = model.checked_ids(whole, "completion")
            if len(ids) < 2:
                raise ParameterError("prompt", (), "must hold at least one token, or the completion at least two")
            return Transcript(ids, 1)
        before = model.prompt_ids(prompt)
        given = model.tokenizer.encode(completion, bos=False) if isinstance(completion, str) else completion
        after = model.checked_ids(given, "completion")
        counted, needed = f"{len(before)} + {len(after)} tokens", len(before) + len(after)
        room("completion", ..., counted, needed, model.config.max_position, f"model {model.name}")
    except ParameterError as error:
        raise type(error)(name + error.parameter, error.value, error.rule, error.source, error.code) from None
    return Transcript((*before, *after), len(before))


def score(
    model: Model,
    prompt: Prompt | None,
    completion: str | Sequence[int],
    params: SamplingParams | Mapping[str, object] | None = None,
    engine: str | EngineSpec | Semantics = "reference",
    top: int = 0,
) -> Scored:
    """What the model and the law of `params` say about a given completion, token by token: `score_many` of one pair."""
    (found,) = score_many(model, [transcript(model, prompt, completion)], params, engine, top)
    return found


def score_many(
    model: Model,
    items: Iterable[Item | Transcript],
    params: SamplingParams | Mapping[str, object] | None = None,
    engine: str | EngineSpec | Semantics = "reference",
    top: int = 0,
    progress: Callable[[int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
    watch: Callable[[Passed], None] | None = None,
) -> Iterator[Scored]:
    """What the model and the law of `params` say about many (prompt, completion) pairs, one after the other in their
    order; what a pair may be, says `transcript`.

    `top`: how many alternatives of each token to list. `progress` is told how many tokens more are scored. Everything
    is checked before this returns; what is wrong with item n is told of `items[n]`. What items begin with together is
    computed once; no item changes a bit of another. Memory is bounded: 2048 tokens, 64 MiB of logits and 256 MiB of
    keys and values are under way at a time (more only where a single row of logits or a single item needs more), never
    the logits of all tokens.

    Of a model that was loaded with `stream_layers` every layer is read from disk once for all items, and the numbers
    are the same (bit for bit, in every precision but float64); with more than 512 MiB of hidden states (and keys and
    values of one layer) items go in waves. `watch` is told how far they have come. `resume` is a folder for what is
    done: a run that was stopped goes on from there, and ends by taking it away; ParameterError where it holds the state
    of another run. Sampling parameters may be others than before.
    """
    if isinstance(items, (str, Mapping)) or not isinstance(items, Iterable):
        raise ParameterError("items", items, "must be a list of pairs of prompt and completion")
    semantics = resolve(engine)
    sampling = sampling_params(params, "score")
    check_named(sampling, model.config.vocab_size)
    acts = bool(plan(Context(sampling, semantics)))
    rules = _Rules(sampling, semantics, acts, integer("top", top, 0))
    transcripts = [_checked(model, item, n) for n, item in enumerate(items)]
    if isinstance(model.transformer.weights.layers, Shelf):
        return _streamed(model, transcripts, rules, progress, None if resume is None else FilePath(resume), watch)
    for name, value in (("resume", resume), ("watch", watch)):
        if value is not None:
            raise ParameterError(name, value, "needs a model that was loaded with stream_layers")
    return _scored(model, transcripts, rules, progress)


def _checked(model: Model, item: Item | Transcript, number: int) -> Transcript:
    if isinstance(item, Transcript):  # of this model or of another: its ids are looked at
        ids = model.checked_ids(item.ids, f"items[{number}].ids")
        integer(f"items[{number}].start", item.start, 1)
        if item.start >= len(ids):
            raise ParameterError(f"items[{number}].start", item.start, f"must lie below the {len(ids)} tokens")
        return item
    if isinstance(item, (str, Mapping)) or not isinstance(item, Sequence) or len(item) != 2:
        raise ParameterError(f"items[{number}]", item, "must be a pair of prompt and completion")
    return transcript(model, *item, name=f"items[{number}].")


@dataclass(frozen=True, slots=True)
class _Rules:
    sampling: SamplingParams
    semantics: Semantics
    acts: bool
    """Whether any step does anything; else both laws are the same."""
    top: int


@dataclass(slots=True)
class _Reader:
    """One transcript on its way: the rows that predict its tokens come in their order."""

    model: Model
    ids: tuple[int, ...]
    start: int
    rules: _Rules
    tokens: list[ScoredToken] = field(default_factory=list)
    memory: Memory | None = None

    def read(self, row: NDArray[np.floating], raw: NDArray[np.float64], entropy: float) -> None:
        """Score the next token by logits [V] and their log-softmax [V]."""
        rules, place = self.rules, self.start + len(self.tokens)
        token_id, values = self.ids[place], raw
        in_support = bool(row[token_id] > -np.inf)
        if rules.acts:
            before, after = self.ids[: self.start], self.ids[self.start : place]
            law = decide(row, rules.sampling, before, after, rules.semantics, None, self.memory)
            if law.probs[token_id] > 0.0:  # a token that could not be drawn teaches mirostat nothing
                self.memory = law.memory_after(token_id)
            values = raw if law.final is law.logits else log_softmax(law.final)
            in_support = bool(law.support[token_id])
        facts = from_values(raw, token_id, rules.top, rules.semantics)
        self.tokens.append(
            ScoredToken(
                token_id=token_id,
                text=self.model.tokenizer.token_text(token_id),
                raw_logprob=facts.logprob,
                logprob=float(values[token_id]),
                rank=facts.rank,
                in_support=in_support,
                entropy=entropy,
                top=facts.top if rules.top else (),
            )
        )


def _scored(
    model: Model, transcripts: Sequence[Transcript], rules: _Rules, progress: Callable[[int], None] | None
) -> Iterator[Scored]:
    each = max(1, model.transformer.new_cache(16).nbytes // 16)
    for wave in _waves(transcripts, each, CACHE_BYTES):
        readers = [_Reader(model, one.ids, one.start, rules) for one in wave]
        for found in grow(model.transformer, _paths(wave), model.prefixes):
            if isinstance(found, Rows):
                count = _read(found, readers)
                if progress is not None:
                    progress(count)
            else:
                p, cache = found
                model.prefixes.keep(model.transformer, wave[p].ids[: wave[p].start], cache)
        yield from (Scored(tuple(reader.tokens)) for reader in readers)


def _streamed(
    model: Model,
    transcripts: Sequence[Transcript],
    rules: _Rules,
    progress: Callable[[int], None] | None,
    resume: FilePath | None,
    watch: Callable[[Passed], None] | None,
) -> Iterator[Scored]:
    """The same over a model that stays on disk; what `resume` holds is looked at before this returns."""
    waves = list(_waves(transcripts, bytes_each(model.transformer), streaming.ROOM))
    kept = None if resume is None else Kept(resume, what_decides(model, [(one.start, one.ids) for one in transcripts]))
    stream = Streamed(model.transformer, [_paths(wave) for wave in waves], kept, watch)

    def each_scored() -> Iterator[Scored]:
        for number, wave in enumerate(waves):
            readers = [_Reader(model, one.ids, one.start, rules) for one in wave]
            for found in stream.rows(number):
                count = _read(found, readers)
                if progress is not None:
                    progress(count)
            yield from (Scored(tuple(reader.tokens)) for reader in readers)
        if kept is not None:
            kept.remove()

    return each_scored()


def _paths(wave: Sequence[Transcript]) -> list[Path]:
    return [Path(one.ids[:-1], one.start - 1, 0, len(one.ids)) for one in wave]


def _waves(transcripts: Sequence[Transcript], each: int, most: int) -> Iterator[list[Transcript]]:
    """Transcripts that are under way together, of so many bytes a token."""
    wave: list[Transcript] = []
    left = most
    for one in transcripts:
        if wave and len(one.ids) * each > left:
            yield wave
            wave, left = [], most
        wave.append(one)
        left -= len(one.ids) * each
    if wave:
        yield wave


def _read(found: Rows, readers: Sequence[_Reader]) -> int:
    """Hand rows to all who wait for them; what does not depend on who it is for is worked out once. How many tokens."""
    count = 0
    for place, row in enumerate(found.logits, found.position):
        waiting = [readers[p] for p in found.stem.members if readers[p].start <= place + 1]
        if not np.isfinite(row.max()):
            decide(row, SamplingParams(), (), (), waiting[0].rules.semantics)  # refuses it
        raw, entropy = row_law(row)
        for reader in waiting:
            reader.read(row, raw, entropy)
        count += len(waiting)
    return count


def prompt_logprobs(
    model: Model, ids: Sequence[int], n: int, semantics: Semantics, precision: str | None = None, to_come: int = 0
) -> tuple[TokenLogprobs | None, ...]:
    """Raw logprobs and the best `n` alternatives of each prompt token, as `echo` shows them; None for the first.

    Raw whatever the engine's stage: no parameter acts on a prompt. `precision` None: as the model was loaded.
    `to_come`: tokens that the text is declared to get after them.
    """
    checked = model.checked_ids(ids)
    found: list[TokenLogprobs | None] = [None]
    if len(checked) > 1:
        path = Path(checked[:-1], 0, 0, len(checked) + to_come)
        for rows in grow(model.transformer_for(precision), [path], model.prefixes):
            if isinstance(rows, Rows):
                for row in rows.logits:
                    found.append(from_values(row_log_softmax(row), checked[len(found)], n, semantics))
    return tuple(found)
