"""POST /tokenize and /detokenize, as vLLM has them: the ids of a prompt or of a chat, and their text. Draws nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from refsample import checks
from refsample.api.catalog import resolve
from refsample.api.prompts import encode_prompts
from refsample.api.site import Site, json_body
from refsample.api.validate import parse
from refsample.errors import ParameterError

if TYPE_CHECKING:
    from refsample.generation.model import Model

SOURCE = "vLLM's /tokenize"
_SWITCHES: Final = ("add_special_tokens", "return_token_strs")
_TEMPLATE: Final = ("tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs")
"""What the chat form hands on to the provider's chat endpoint, whose ids it gives."""


async def tokenize(site: Site, request: Request) -> Response:
    """{model, prompt | messages, ...} -> {count, max_model_len, tokens, token_strs}."""
    return site.respond(200, await run_in_threadpool(_tokenized, site, await json_body(site, request)))


async def detokenize(site: Site, request: Request) -> Response:
    """{model, tokens} -> {prompt}."""
    return site.respond(200, await run_in_threadpool(_text, site, await json_body(site, request)))


def _tokenized(site: Site, body: Any) -> dict[str, Any]:
    chat = isinstance(body, Mapping) and "messages" in body
    fields, ignored = _fields(site, body, ("messages", *_TEMPLATE) if chat else ("prompt",), _SWITCHES)
    special = _switch(fields, "add_special_tokens", not chat)
    strings = _switch(fields, "return_token_strs", False)
    model = _model(site, fields)
    if chat:
        ids, dropped = _chat_ids(site, model, fields, special)
        ignored = sorted([*ignored, *dropped])
    else:
        ids = _prompt_ids(model, fields, special)
    backend = model.tokenizer.backend
    return {
        "count": len(ids),
        "max_model_len": model.config.max_position,
        "tokens": list(ids),
        "token_strs": [backend.id_to_token(token_id) for token_id in ids] if strings else None,
        **_listed(ignored),
    }


def _prompt_ids(model: Model, fields: Mapping[str, Any], special: bool) -> Sequence[int]:
    prompt = fields.get("prompt", ...)
    if not isinstance(prompt, str):
        raise _missing_or_wrong("prompt", prompt, "must be a string")
    return model.tokenizer.encode(prompt, bos=special)


def _chat_ids(
    site: Site, model: Model, fields: Mapping[str, Any], special: bool
) -> tuple[Sequence[int], tuple[str, ...]]:
    """The ids of a conversation, and the fields that this provider's chat does nothing with."""
    chat = next((endpoint for endpoint in site.page.endpoints.values() if endpoint.kind == "chat"), None)
    if chat is None:
        raise ParameterError("messages", ..., "this provider has no chat: send a prompt", site.page.title)
    if special:
        raise ParameterError(
            "add_special_tokens", True, "must be false with messages: the template writes them", SOURCE
        )
    body = {name: value for name, value in fields.items() if name in ("messages", *_TEMPLATE)}
    request = parse(body, site.page, chat.name, model=model)
    return encode_prompts(model, request, site.behaviour)[0], request.ignored


def _text(site: Site, body: Any) -> dict[str, Any]:
    fields, ignored = _fields(site, body, ("tokens",))
    model, tokens = _model(site, fields), fields.get("tokens", ...)
    if not isinstance(tokens, list):
        raise _missing_or_wrong("tokens", tokens, "must be an array of token ids")
    ids = [
        checks.token_id(f"tokens[{i}]", token, model.config.vocab_size, f"model {model.name}")
        for i, token in enumerate(tokens)
    ]
    return {"prompt": model.tokenizer.decode(ids), **_listed(ignored)}


def _fields(site: Site, body: Any, *known: Collection[str]) -> tuple[Mapping[str, Any], list[str]]:
    """The body's fields, and the names of those without effect. Raises ParameterError."""
    if not isinstance(body, Mapping):
        raise ParameterError("body", ..., "must be a JSON object", SOURCE, "invalid_type")
    names = {"model", *(name for group in known for name in group)}
    secret = {place.name for place in site.page.auth if place.place == "body"}
    unknown = sorted(set(body) - names - secret)
    if unknown and site.page.reading("unknown_fields", strict=site.strict) == "refused":
        raise ParameterError(unknown[0], ..., "is not a parameter of this endpoint", SOURCE, "unknown_parameter")
    return {name: value for name, value in body.items() if name in names}, unknown


def _model(site: Site, fields: Mapping[str, Any]) -> Model:
    """The model that is named; without a name the first one, as in vLLM."""
    name = fields.get("model")
    if name is None:
        return next(iter(site.shared.models.values()))
    if not isinstance(name, str):
        raise ParameterError("model", name, "must be a string", SOURCE, "invalid_type")
    return resolve(name, site.shared.models, site.page, any_name="unknown_model_accepted" in site.behaviour.flaws)


def _switch(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ParameterError(name, value, "must be true or false", SOURCE, "invalid_type")
    return value


def _missing_or_wrong(name: str, value: object, rule: str) -> ParameterError:
    if value is ...:
        return ParameterError(name, ..., "is required", SOURCE, "missing_required_parameter")
    return ParameterError(name, value, rule, SOURCE, "invalid_type")


def _listed(ignored: list[str]) -> dict[str, Any]:
    return {"refsample": {"ignored": ignored}} if ignored else {}
