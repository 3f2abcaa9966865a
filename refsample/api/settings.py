"""Checked fields become GenerationParams: limits, stops, logprobs, bias, prediction. Knows no prompts and no HTTP."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refsample.api.builder import Builder
from refsample.errors import ParameterError
from refsample.generation.sequence import GenerationParams
from refsample.sampling.params import SamplingParams

if TYPE_CHECKING:
    from refsample.generation.constrain import Grammar

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "typical_p", "top_h", "top_n_sigma", "tfs_z", "top_a", "epsilon_cutoff", "eta_cutoff",
    "xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent",
    "mirostat", "mirostat_tau", "mirostat_eta", "no_repeat_ngram_size",
    "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers",
)  # fmt: skip


def generation(take: Builder, vocabulary: int | None, grammar: Grammar | None) -> GenerationParams:
    """What the request asks of the decoding loop. `vocabulary`: also check token ids. Raises ParameterError."""
    max_tokens, min_tokens = _at_least(take, "max_tokens", 0), take.get("min_tokens") or 0
    n = _at_least(take, "n", 1)
    if max_tokens is not None and min_tokens > max_tokens:
        raise take.error("min_tokens", f"must not exceed {take.name('max_tokens')} ({max_tokens})")
    sampling = {name: take.get(name) for name in _SAMPLING if take.get(name) is not None}
    for index, run in enumerate(sampling.get("dry_sequence_breakers", ())):
        checked_ids(take, f"{take.name('dry_sequence_breakers')}[{index}]", run, vocabulary)
    keeps, shows = take.get("include_stop_str_in_output"), take.get("skip_special_tokens")
    ignore_eos = bool(take.get("ignore_eos"))
    # One page says that what is ignored is "the stop sequence": read so, nothing but the limit ends the text (C32).
    stops = () if ignore_eos and take.reading("ignore_eos") == "stop_too" else _stops(take)
    stop_ids = checked_ids(take, take.name("stop_token_ids"), take.get("stop_token_ids") or (), vocabulary)
    return GenerationParams(
        sampling=_sampling(take, sampling, _bias(take, vocabulary)),
        max_tokens=max_tokens,
        stop=stops,
        stop_token_ids=stop_ids,
        include_stop=take.reading("stop_text") == "kept" if keeps is None else keeps,
        ignore_eos=ignore_eos,
        min_tokens=min_tokens,
        n=1 if n is None else n,
        seed=_seed(take),
        logprobs=_logprobs(take),
        grammar=grammar,
        skip_special=True if shows is None else shows,
    )


def _sampling(take: Builder, values: Mapping[str, Any], bias: Mapping[int, float]) -> SamplingParams:
    """The sampler's own rules, where a page prints none, under the names that the user gave."""
    try:
        return SamplingParams(**values, logit_bias=bias)
    except ParameterError as error:
        raise ParameterError(take.name(error.parameter), error.value, error.rule, error.source) from None


def _seed(take: Builder) -> int | None:
    """-1 is vLLM's word for any seed; to the letter of a page it is a number like the others, taken mod 2^64."""
    seed: int | None = take.get("seed")
    return seed % (1 << 64) if take.strict and seed == -1 else seed


def _at_least(take: Builder, name: str, low: int) -> int | None:
    """A count, where a page prints no range or one that has no meaning below `low`: then it is a limit of ours."""
    count: int | None = take.get(name)
    if count is not None and count < low:
        raise ParameterError(take.name(name), count, f"must be at least {low}")
    return count


def _stops(take: Builder) -> tuple[str, ...]:
    stop = take.get("stop")
    return () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)


def _logprobs(take: Builder) -> int | None:
    """How many alternatives at each position; None: no logprobs at all. Both readings of the field are served."""
    asked, top = take.get("logprobs"), take.value("top_logprobs")
    if top is not None and (asked is None or asked is False):
        raise take.error("top_logprobs", "needs logprobs: true")
    if isinstance(asked, bool):
        return (top or 0) if asked else None
    return None if asked is None else int(asked)


def _bias(take: Builder, vocabulary: int | None) -> dict[int, float]:
    bias = {}
    for key, value in (take.get("logit_bias") or {}).items():
        place = f"{take.name('logit_bias')}.{key}"
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", key):
            raise take.wrong(place, value, 'its key must be a token id, such as "50256"')
        _check_id(place, int(key), vocabulary, take)
        bias[int(key)] = float(value)
    return bias


def _check_id(place: str, token_id: int, vocabulary: int | None, take: Builder) -> None:
    if token_id < 0 or (vocabulary is not None and token_id >= vocabulary):
        limit = "" if vocabulary is None else f" < {vocabulary}, the size of the model's vocabulary"
        raise take.wrong(place, token_id, f"is no token id: 0 <= id{limit}")


def checked_ids(take: Builder, place: str, ids: Any, vocabulary: int | None) -> tuple[int, ...]:
    """Token ids of a field, each in the vocabulary. Raises ParameterError naming the one that is not."""
    for index, token_id in enumerate(ids):
        _check_id(f"{place}[{index}]", token_id, vocabulary, take)
    return tuple(ids)


def timeout(take: Builder) -> float | None:
    """Seconds after which nobody waits for the answer; a number or one written as a string. Raises ParameterError."""
    value = take.get("inference_timeout")
    if value is None:
        return None
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", value):
        raise take.error("inference_timeout", 'must be seconds: a number, or one as text such as "2.5"')
    seconds = float(value)
    if not 0 < seconds < math.inf:
        raise take.error("inference_timeout", "must be a finite number of seconds above 0")
    return seconds


def prediction(take: Builder) -> str | None:
    """The text that the answer is expected to be. Raises ParameterError."""
    value = take.value("prediction")
    if value is None:
        return None
    name, kind, content = take.name("prediction"), value.get("type"), value.get("content")
    if kind != "content":
        raise take.wrong(f"{name}.type", value.get("type", ...), "must be content, the only kind of prediction")
    if not isinstance(content, str | list | tuple):
        rule = "must be a string or an array of parts of type text"
        raise take.wrong(f"{name}.content", value.get("content", ...), rule, "invalid_type")
    return content if isinstance(content, str) else joined_parts(take, f"{name}.content", content)


def joined_parts(take: Builder, place: str, parts: Sequence[Any]) -> str:
    """The text of parts of type text, joined without a separator. Raises ParameterError for any other part."""
    texts = []
    for index, part in enumerate(parts):
        here = f"{place}[{index}]"
        if not isinstance(part, Mapping):
            raise take.wrong(here, part, "must be an object with a type and a text", "invalid_type")
        kind, text = part.get("type", ...), part.get("text", ...)
        if kind != "text":
            raise take.wrong(f"{here}.type", kind, "must be text: this model reads no other", "unsupported_parameter")
        if not isinstance(text, str):
            raise take.wrong(f"{here}.text", text, "must be a string", "invalid_type")
        texts.append(text)
    return "".join(texts)
