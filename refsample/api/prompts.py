"""A request's prompts as token ids, and whether they fit the model's context. Knows nothing of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from refsample.api.types import Request
from refsample.checks import room
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.sequence import GenerationParams

if TYPE_CHECKING:
    from refsample.generation.model import Model

_FILL = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
"""Marks of fill-in-middle, in the order prefix, suffix, middle, as Qwen and tiny spell them."""


def encode_prompts(model: Model, request: Request, behaviour: Behaviour) -> tuple[tuple[int, ...], ...]:
    """Ids of every prompt; a chat is one prompt. Raises ParameterError where a prompt comes out empty."""
    prompts: list[Sequence[int]]
    if request.endpoint.kind == "chat":
        prompts = [_chat(model, request, behaviour)]
    elif request.suffix is not None:
        prompts = [_fill(model, str(prompt), request) for prompt in request.prompts]
    else:
        prompts = [_plain(model, prompt) for prompt in request.prompts]
    for prompt in prompts:
        if not prompt:
            name = request.fields.name("messages" if request.messages else "prompt")
            rule = "comes out as no token at all: a model needs at least one to continue"
            raise ParameterError(name, request.fields.values.get(name, ...), rule, request.provider.title)
    return tuple(tuple(prompt) for prompt in prompts)


def _chat(model: Model, request: Request, behaviour: Behaviour) -> Sequence[int]:
    asked, tools = request.templating, request.tools
    text = model.chat_template(behaviour.template).render(
        request.messages,
        tools=None if tools is None else tools.offered,
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final,
        **asked.kwargs,
    )
    return model.checked_ids(model.tokenizer.encode(text, bos=False), "messages")


def predicted(model: Model, request: Request) -> tuple[int, ...]:
    """Ids of the text that the answer is expected to be; () without one."""
    return () if request.prediction is None else tuple(model.tokenizer.encode(request.prediction, bos=False))


def _plain(model: Model, prompt: str | tuple[int, ...] | None) -> Sequence[int]:
    if isinstance(prompt, str):
        return model.tokenizer.encode(prompt)
    if prompt is not None:
        return prompt  # never given a begin-of-text id: who sends ids has encoded already
    start = model.config.bos_token_id
    return [start] if start is not None else list(model.tokenizer.eos_token_ids[:1])


def _fill(model: Model, prompt: str, request: Request) -> Sequence[int]:
    marks = [model.tokenizer.encode(mark, bos=False) for mark in _FILL]
    if any(len(mark) != 1 or not model.tokenizer.is_special(mark[0]) for mark in marks):
        rule = f"this model has no fill-in-middle tokens ({' '.join(_FILL)})"
        raise ParameterError(request.fields.name("suffix"), request.suffix, rule, f"model {model.name}")
    # as plain text: a mark inside the user's own text must not open a second gap
    before, after = (model.tokenizer.encode(text, special=False, bos=False) for text in (prompt, request.suffix or ""))
    return [*marks[0], *before, *marks[1], *after, *marks[2]]


def fit_context(
    prompts: Sequence[Sequence[int]], model: Model, request: Request, params: GenerationParams
) -> GenerationParams:
    """`params` with a max_tokens that fits. Raises ContextLengthError, or lowers it where the provider's page says so.

    None stays None: the room left, for each prompt its own.
    """
    context, longest = model.config.max_position, max(len(prompt) for prompt in prompts)
    source = f"model {model.name}"
    name = request.fields.name("messages" if request.messages else "prompt")
    least = 0 if params.max_tokens == 0 else 1
    room(name, ..., f"{longest} tokens and the answer", longest + least, context, source)
    if params.max_tokens is None:
        return params
    if request.provider.reading("overlong", strict=request.strict) == "lowered":
        return replace(params, max_tokens=min(params.max_tokens, context - longest))
    default = " (the default)" if request.fields.value("max_tokens") is None else ""
    counted = f"{longest} prompt tokens and {params.max_tokens}{default} to generate"
    name = request.fields.name("max_tokens")
    room(name, params.max_tokens, counted, longest + params.max_tokens, context, source)
    return params
