"""Checked fields become a Request: rules between fields, and those that need a model's vocabulary. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from refsample.api.builder import Builder
from refsample.api.constraints import constraint
from refsample.api.messages import messages
from refsample.api.settings import checked_ids, generation, prediction, timeout
from refsample.api.tools import tools
from refsample.api.types import Fields, Request, Templating
from refsample.errors import ParameterError
from refsample.spec.provider import EndpointSpec, ProviderSpec

if TYPE_CHECKING:
    from refsample.generation.model import Model

Prompt = str | tuple[int, ...] | None

MAX_CHOICES: Final = 2048
"""Choices of one request in all, prompts times best_of: each has a cache of its own, so memory grows with them."""
_OWN_KWARGS: Final = ("messages", "tools", "add_generation_prompt", "continue_final_message", "self")
"""Variables of a template that a request sets in other ways, and the one that jinja2 sets."""


def build(
    fields: Fields, provider: ProviderSpec, endpoint: EndpointSpec, *, strict: bool, model: Model | None
) -> Request:
    """The Request of checked fields. `model`: also check token ids. Raises ParameterError."""
    take = Builder(fields, provider, endpoint, strict)
    vocabulary = None if model is None else model.config.vocab_size
    chat = endpoint.kind == "chat"
    _check_vendor(take)
    stream, usage = _streaming(take)
    turns = messages(take) if chat else ()
    prompts = () if chat else tuple(_prompts(take, vocabulary))
    toolset = tools(take)
    asked = generation(take, vocabulary, constraint(take, toolset))
    best_of = _best_of(take, asked.n, stream)
    if asked.sampling.temperature == 0 and asked.n > 1 and take.reading("greedy_n") == "refused":
        raise take.error("n", "must be 1 with temperature 0: every choice would be the same")
    _check_choices(take, max(1, len(prompts)), best_of)
    return Request(
        provider=provider,
        endpoint=endpoint,
        fields=fields,
        model=fields.value("model"),
        prompts=prompts,
        messages=turns,
        templating=_templating(take),
        tools=toolset,
        generation=asked,
        prediction=prediction(take),
        timeout_s=timeout(take),
        best_of=best_of,
        echo=bool(take.get("echo")),
        prompt_logprobs=_prompt_logprobs(take, stream),
        return_token_ids=bool(take.get("return_token_ids")),
        suffix=_suffix(take, prompts),
        stream=stream,
        include_usage=usage,
        strict=strict,
        ignored=tuple(name for name in fields.ignored if name not in _names_of_turns(take, turns)),
    )


def _names_of_turns(take: Builder, turns: Sequence[Mapping[str, Any]]) -> set[str]:
    """Where turns carry a name that goes to the template: that of the function they answer for."""
    return {f"{take.name('messages')}[{index}].name" for index, turn in enumerate(turns) if "name" in turn}


def _check_vendor(take: Builder) -> None:
    """Fields that the page keeps for some vendors' models, where that is enforced (A4)."""
    model = take.value("model")
    if model is None or take.reading("vendor_rules") != "printed":
        return
    for record in take.endpoint.parameters.values():
        asked = take.value(record.means)
        sent_as = take.name(record.means).rpartition(".")[2]  # it may have come in an object that is merged
        if asked is None or not record.kept_for or sent_as != record.name:
            continue
        if record.kept_from(model):
            rule = f"is only for models of {' or '.join(record.kept_for)}, and the model is {model}"
            raise take.error(record.means, rule, "unsupported_parameter")


def _streaming(take: Builder) -> tuple[bool, bool]:
    """Whether the answer comes in chunks, and whether a last one brings the usage."""
    stream, options = bool(take.get("stream")), take.value("stream_options")
    if options is not None and not stream:
        raise take.error("stream_options", "may only be sent with stream: true")
    usage = bool((options or {}).get("include_usage")) or take.reading("usage_chunk") == "always"
    return stream, stream and usage


def _templating(take: Builder) -> Templating:
    goes_on, starts = bool(take.get("continue_final_message")), take.value("add_generation_prompt")
    if goes_on and starts:
        raise take.error("continue_final_message", "cannot be combined with add_generation_prompt: true")
    kwargs = take.get("chat_template_kwargs") or {}
    for name in kwargs:
        if name in _OWN_KWARGS:
            rule = "is set by the request itself, not by chat_template_kwargs"
            raise take.wrong(f"{take.name('chat_template_kwargs')}.{name}", kwargs[name], rule)
    begins = not goes_on if starts is None else bool(starts)
    return Templating(add_generation_prompt=begins, continue_final=goes_on, kwargs=kwargs)


def _prompt_logprobs(take: Builder, stream: bool) -> int | None:
    asked: int | None = take.get("prompt_logprobs")
    if asked is not None and stream:
        raise take.error("prompt_logprobs", "cannot be combined with stream: true")
    return asked


def _best_of(take: Builder, n: int, stream: bool) -> int:
    sent = take.value("best_of") or None  # 0 counts as not sent, and so does the provider's default
    best_of: int = n if sent is None else sent
    above = take.reading("best_of_floor") == "above_n" and sent is not None
    if best_of < n or (above and best_of == n):
        raise take.error("best_of", f"must be {'greater than' if above else 'at least'} n ({n})")
    if stream and sent is not None and take.reading("best_of_stream") == "refused":
        raise take.error("best_of", "cannot be combined with stream: true")
    if stream and best_of > n:
        raise take.error("best_of", f"must not exceed n ({n}) in a stream: the best is known only at the end")
    return best_of


def _check_choices(take: Builder, prompts: int, best_of: int) -> None:
    if prompts * best_of > MAX_CHOICES:
        name = "prompt" if prompts > 1 else "best_of" if take.value("best_of") else "n"
        rule = f"asks for {prompts} x {best_of} choices (prompts x best_of), and one request gets {MAX_CHOICES} at most"
        raise ParameterError(take.name(name), take.get(name), rule)


def _prompts(take: Builder, vocabulary: int | None) -> Iterator[Prompt]:
    """The prompts of all four forms: text, texts, ids, arrays of ids."""
    prompt = take.get("prompt")
    name = take.name("prompt")
    several = isinstance(prompt, list | tuple) and len(prompt) > 0 and not isinstance(prompt[0], int)
    for index, one in enumerate(prompt if several else [prompt]):
        place = f"{name}[{index}]" if several else name
        if one is not None and len(one) == 0:
            raise take.wrong(place, one, "is empty: a model needs at least one token to continue")
        yield one if one is None or isinstance(one, str) else checked_ids(take, place, one, vocabulary)


def _suffix(take: Builder, prompts: tuple[Prompt, ...]) -> str | None:
    suffix: str | None = take.get("suffix")
    if suffix is None:
        return None
    if take.get("echo"):
        raise take.error("suffix", "cannot be combined with echo")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise take.error("suffix", "needs a prompt that is text")
    return suffix
