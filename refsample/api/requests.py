"""Checked fields become a Request: rules between fields, and those that need a model's vocabulary. Knows no HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from refsample.api.types import UNSET, Fields, Request
from refsample.errors import ParameterError
from refsample.generation.sequence import GenerationParams
from refsample.sampling.params import SamplingParams
from refsample.spec.provider import EndpointSpec, ProviderSpec

if TYPE_CHECKING:
    from refsample.generation.model import Model

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip


MAX_CHOICES = 2048
"""Choices of one request in all, prompts times best_of: each has a cache of its own, so memory grows with them."""


class _Builder:
    """The fields of one request, with the provider's defaults under them."""

    def __init__(self, fields: Fields, provider: ProviderSpec, endpoint: EndpointSpec, strict: bool) -> None:
        self.fields, self.provider, self.strict = fields, provider, strict
        records = endpoint.parameters.values()
        self.defaults = {record.means: record.default for record in records if record.default is not None}

    def get(self, name: str) -> Any:
        """The value sent, else the provider's default, else None."""
        return self.fields.value(name, self.defaults.get(name))

    def wrong(self, place: str, value: object, rule: str, code: str = "invalid_value") -> ParameterError:
        """The error of something inside a field."""
        return ParameterError(place, value, rule, self.provider.title, code)

    def error(self, name: str, rule: str) -> ParameterError:
        """The error of a whole field, under the name that the user gave it."""
        sent = self.fields.sent(name)
        return self.wrong(self.fields.name(name), ... if sent is UNSET else sent, rule)

    def reading(self, behaviour: str) -> str:
        return self.provider.reading(behaviour, strict=self.strict)


def build(
    fields: Fields, provider: ProviderSpec, endpoint: EndpointSpec, *, strict: bool, model: Model | None
) -> Request:
    """The Request of checked fields. `model`: also check token ids. Raises ParameterError."""
    take = _Builder(fields, provider, endpoint, strict)
    vocabulary = None if model is None else model.config.vocab_size
    stream = bool(take.get("stream"))
    options = fields.value("stream_options")
    if options is not None and not stream:
        raise take.error("stream_options", "may only be sent with stream: true")
    generation = _generation(take, vocabulary)
    best_of = _best_of(take, generation.n, stream)
    if generation.sampling.temperature == 0 and generation.n > 1 and take.reading("greedy_n") == "refused":
        raise take.error("n", "must be 1 with temperature 0: every choice would be the same")
    chat = endpoint.kind == "chat"
    messages = _messages(take) if chat else ()
    prompts = () if chat else tuple(_prompts(take, vocabulary))
    _check_choices(take, max(1, len(prompts)), best_of)
    usage = bool((options or {}).get("include_usage")) or take.reading("usage_chunk") == "always"
    return Request(
        provider=provider,
        endpoint=endpoint,
        fields=fields,
        model=fields.value("model"),
        prompts=prompts,
        messages=messages,
        generation=generation,
        best_of=best_of,
        echo=bool(take.get("echo")),
        suffix=_suffix(take, prompts),
        stream=stream,
        include_usage=stream and usage,
        strict=strict,
        ignored=fields.ignored,
    )


def _generation(take: _Builder, vocabulary: int | None) -> GenerationParams:
    stop = take.get("stop")
    max_tokens, min_tokens = take.get("max_tokens"), take.get("min_tokens") or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise take.error("min_tokens", f"must not exceed {take.fields.name('max_tokens')} ({max_tokens})")
    sampling = {name: take.get(name) for name in _SAMPLING if take.get(name) is not None}
    keeps, ids_name = take.get("include_stop_str_in_output"), take.fields.name("stop_token_ids")
    return GenerationParams(
        sampling=SamplingParams(**sampling, logit_bias=_bias(take, vocabulary)),
        max_tokens=max_tokens,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=_ids(take, ids_name, take.get("stop_token_ids") or (), vocabulary),
        include_stop=take.reading("stop_text") == "kept" if keeps is None else keeps,
        ignore_eos=bool(take.get("ignore_eos")),
        min_tokens=min_tokens,
        n=take.get("n") or 1,
        seed=take.get("seed"),
        logprobs=_logprobs(take),
    )


def _logprobs(take: _Builder) -> int | None:
    """How many alternatives at each position; None: no logprobs at all. Both readings of the field are served."""
    asked, top = take.get("logprobs"), take.fields.value("top_logprobs")
    if top is not None and not asked:
        raise take.error("top_logprobs", "needs logprobs: true")
    if isinstance(asked, bool):
        return (top or 0) if asked else None
    return None if asked is None else int(asked)


def _best_of(take: _Builder, n: int, stream: bool) -> int:
    sent = take.fields.value("best_of") or None  # 0 counts as not sent
    best_of: int = n if sent is None else sent
    above = take.reading("best_of_floor") == "above_n" and sent is not None
    if best_of < n or (above and best_of == n):
        raise take.error("best_of", f"must be {'greater than' if above else 'at least'} n ({n})")
    if stream and best_of > n:
        raise take.error("best_of", f"must not exceed n ({n}) in a stream: the best is known only at the end")
    return best_of


def _check_choices(take: _Builder, prompts: int, best_of: int) -> None:
    if prompts * best_of > MAX_CHOICES:
        name = "prompt" if prompts > 1 else "best_of" if take.fields.value("best_of") else "n"
        rule = f"asks for {prompts} x {best_of} choices (prompts x best_of), and one request gets {MAX_CHOICES} at most"
        raise ParameterError(take.fields.name(name), take.get(name), rule)


def _bias(take: _Builder, vocabulary: int | None) -> dict[int, float]:
    bias = {}
    for key, value in (take.get("logit_bias") or {}).items():
        place = f"{take.fields.name('logit_bias')}.{key}"
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", key):
            raise take.wrong(place, value, 'its key must be a token id, such as "50256"')
        _check_id(place, int(key), vocabulary, take)
        bias[int(key)] = float(value)
    return bias


def _check_id(place: str, token_id: int, vocabulary: int | None, take: _Builder) -> None:
    if token_id < 0 or (vocabulary is not None and token_id >= vocabulary):
        limit = "" if vocabulary is None else f" < {vocabulary}, the size of the model's vocabulary"
        raise take.wrong(place, token_id, f"is no token id: 0 <= id{limit}")


def _ids(take: _Builder, place: str, ids: Any, vocabulary: int | None) -> tuple[int, ...]:
    for index, token_id in enumerate(ids):
        _check_id(f"{place}[{index}]", token_id, vocabulary, take)
    return tuple(ids)


def _prompts(take: _Builder, vocabulary: int | None) -> Iterator[str | tuple[int, ...] | None]:
    """The prompts of all four forms: text, texts, ids, arrays of ids."""
    prompt = take.get("prompt")
    name = take.fields.name("prompt")
    several = isinstance(prompt, list | tuple) and not isinstance(prompt[0], int)
    for index, one in enumerate(prompt if several else [prompt]):
        place = f"{name}[{index}]" if several else name
        if one is not None and len(one) == 0:
            raise take.wrong(place, one, "is empty: a model needs at least one token to continue")
        yield one if one is None or isinstance(one, str) else _ids(take, place, one, vocabulary)


def _suffix(take: _Builder, prompts: tuple[str | tuple[int, ...] | None, ...]) -> str | None:
    suffix: str | None = take.get("suffix")
    if suffix is None:
        return None
    if take.get("echo"):
        raise take.error("suffix", "cannot be combined with echo")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise take.error("suffix", "needs a prompt that is text")
    return suffix


def _messages(take: _Builder) -> tuple[Mapping[str, str], ...]:
    """Role and text of each message."""
    turns = []
    name = take.fields.name("messages")
    for index, message in enumerate(take.get("messages")):
        place = f"{name}[{index}]"
        role = message["role"]
        if role in ("tool", "function"):
            raise take.wrong(f"{place}.role", role, "is not supported here: no tools yet", "unsupported_parameter")
        # OpenAI's page: "developer messages replace the previous system messages"; templates know only the old name.
        turns.append({"role": "system" if role == "developer" else role, "content": _content(take, place, message)})
    return tuple(turns)


def _content(take: _Builder, place: str, message: Mapping[str, Any]) -> str:
    content, place = message.get("content"), f"{place}.content"
    if content is None:
        given = message.get("content", ...)
        raise take.wrong(place, given, "must be a string or an array of parts of type text", "invalid_type")
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        here, kind, text = f"{place}[{index}]", part.get("type"), part.get("text")
        if kind != "text":
            raise take.wrong(f"{here}.type", kind, "must be text: this model reads no other", "unsupported_parameter")
        if not isinstance(text, str):
            raise take.wrong(f"{here}.text", text, "must be a string", "invalid_type")
        texts.append(text)
    return "".join(texts)
