"""Scoring given text under the model (teacher forcing). Draws nothing, knows nothing of providers or HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refsample.checks import room
from refsample.generation.model import Model, Prompt
from refsample.generation.prefill import all_rows, rows_of
from refsample.sampling.logprobs import TokenLogprobs, from_values, rank_of
from refsample.sampling.params import SamplingParams, sampling_params
from refsample.sampling.pipeline import distribution
from refsample.sampling.semantics import resolve
from refsample.spec.types import EngineSpec, Semantics
from refsample_kernels.softmax import log_softmax, row_log_softmax


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


def score(
    model: Model,
    prompt: Prompt,
    completion: str | Sequence[int],
    params: SamplingParams | Mapping[str, object] | None = None,
    engine: str | EngineSpec | Semantics = "reference",
) -> Scored:
    """What the model and the law of `params` say about a given completion, token by token.

    A completion that is text is tokenised by itself, not together with the prompt: the border is a token border.
    ParameterError for ids that the model does not have and for an empty completion; ContextLengthError.
    """
    semantics = resolve(engine)
    sampling = sampling_params(params, "score")
    before = model.prompt_ids(prompt)
    ids = model.tokenizer.encode(completion, bos=False) if isinstance(completion, str) else completion
    after = model.checked_ids(ids, "completion")
    counted, needed = f"{len(before)} + {len(after)} tokens", len(before) + len(after)
    room("completion", ..., counted, needed, model.config.max_position, f"model {model.name}")
    rows = rows_of(model.transformer, before, after)
    tokens, memory = [], None
    for t, (token_id, row) in enumerate(zip(after, rows, strict=True)):
        law = distribution(row, sampling, before, after[:t], semantics, memory)
        if law.probs[token_id] > 0.0:  # a token that could not be drawn teaches mirostat nothing
            memory = law.memory_after(token_id)
        raw = law.raw_logprobs
        final = raw if law.final is law.logits else log_softmax(law.final)
        tokens.append(
            ScoredToken(
                token_id=token_id,
                text=model.tokenizer.token_text(token_id),
                raw_logprob=float(raw[token_id]),
                logprob=float(final[token_id]),
                rank=rank_of(raw, token_id, semantics.rank_rule),
                in_support=bool(law.support[token_id]),
            )
        )
    return Scored(tuple(tokens))


def prompt_logprobs(
    model: Model, ids: Sequence[int], n: int, semantics: Semantics, precision: str | None = None
) -> tuple[TokenLogprobs | None, ...]:
    """Raw logprobs and the best `n` alternatives of each prompt token, as `echo` shows them; None for the first.

    Raw whatever the engine's stage: no parameter acts on a prompt. `precision` None: as the model was loaded.
    """
    checked = model.checked_ids(ids)
    transformer = model.transformer_for(precision)
    pairs = zip(checked[1:], all_rows(transformer, checked[:-1], transformer.new_cache(len(checked))), strict=True)
    return (None, *(from_values(row_log_softmax(row), i, n, semantics) for i, row in pairs))
