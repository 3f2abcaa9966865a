"""A provider's file as an OpenAPI 3.1 document. Knows the records and nothing of how they are enforced.

A body that fits the document may still be refused with a declared status, for rules between fields; one that does not
fit is refused.
"""

from __future__ import annotations

from typing import Any, Final

from refsample.spec.envelopes import ENVELOPES
from refsample.spec.records import Auth, EndpointSpec, ProviderSpec
from refsample.spec.schemas import Schema, answer_schema, closed, listed, request_schema

VERSION: Final = "3.1.0"
_JSON: Final = "application/json"
_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_SWITCH: Final[Schema] = {"type": ["boolean", "null"]}


def openapi(provider: ProviderSpec, *, strict: bool = False) -> dict[str, Any]:
    """The document of a provider's API; `strict`: as printed, and with nothing that is not on the page."""
    unknown = provider.reading("unknown_fields", strict=strict) == "ignored"
    schemas: Schema = {"Error": ENVELOPES[provider.envelope].schema(), "Model": _card(), "Health": _health()}
    paths: Schema = {}
    for endpoint in provider.endpoints.values():
        name = endpoint.name.capitalize()
        schemas[f"{name}Request"] = request_schema(endpoint, strict=strict, unknown=unknown)
        schemas[f"{name}Response"] = answer_schema(endpoint.response, strict=strict)
        schemas[f"{name}Chunk"] = answer_schema(endpoint.chunk, strict=strict)
        paths[endpoint.path] = {"post": _generation(provider, endpoint, name, strict)}
    paths |= _models(provider, strict) | _tokens(provider, schemas, unknown)
    ok = {"200": _answer("it is", _ref("Health"))}
    paths["/health"] = {"get": {"operationId": "health", "security": [], "responses": ok}}
    return {
        "openapi": VERSION,
        "info": {
            "title": provider.title + (" (as printed)" if strict else ""),
            "version": provider.version,
            "description": f"Generated from {provider.source}.",
        },
        "servers": [{"url": "/"}],
        "security": _security(provider, strict),
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _schemes(provider)},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _failures(provider: ProviderSpec, *leave: str) -> Schema:
    """A response for each status that a failure may have."""
    kinds: dict[int, list[str]] = {}
    for kind, failure in provider.errors.items():
        if kind not in leave:
            kinds.setdefault(failure.status, []).append(kind.replace("_", " "))
    return {str(status): _answer(", ".join(found), _ref("Error")) for status, found in sorted(kinds.items())}


def _generation(provider: ProviderSpec, endpoint: EndpointSpec, name: str, strict: bool) -> Schema:
    streamed = f"data: {name}Chunk, one for each event; then data: [DONE]"
    content = {
        _JSON: {"schema": _ref(f"{name}Response")},
        "text/event-stream": {"schema": {"type": "string", "description": streamed}},
    }
    # content-type is the body's own matter in OpenAPI, which reads no parameter of that name
    headers = [
        {"name": header.name, "in": "header", "required": strict, "schema": {"type": "string", "enum": [header.value]}}
        for header in provider.headers if header.name != "content-type"
    ]  # fmt: skip
    return {
        "operationId": f"create_{endpoint.name}",
        **({"parameters": headers} if headers else {}),
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref(f"{name}Request")}}},
        "responses": {
            "200": {"description": "the answer, whole or as server-sent events", "content": content},
            **_failures(provider),
        },
    }


def _models(provider: ProviderSpec, strict: bool) -> Schema:
    if not provider.models_path:
        return {}
    names = provider.models_shape == "names"
    listing = listed(_TEXT) if names else closed({"object": {"const": "list"}, "data": listed(_ref("Model"))})
    name = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    failures = _failures(provider, "context_length", "timeout")
    one = {"200": _answer("the model", _ref("Model")), **failures}
    return {
        provider.models_path: {
            "get": {"operationId": "list_models", "responses": {"200": _answer("the models", listing), **failures}}
        },
        provider.models_path + "/{name}": {"get": {"operationId": "get_model", "parameters": [name], "responses": one}},
    }


def _tokens(provider: ProviderSpec, schemas: Schema, unknown: bool) -> Schema:
    """/tokenize and /detokenize, which are vLLM's and no page's."""
    model = {"model": _TEXT_OR_NULL}
    switches = {"add_special_tokens": _SWITCH, "return_token_strs": _SWITCH}
    chat = next((endpoint.name for endpoint in provider.endpoints.values() if endpoint.kind == "chat"), None)
    prompt = {**closed({**model, **switches, "prompt": _TEXT}, (*model, *switches))}
    forms = [_opened(prompt) if unknown else prompt]
    if chat is not None:
        template: Schema = {name: {} for name in ("tools", "chat_template_kwargs")}
        template |= dict.fromkeys(("add_generation_prompt", "continue_final_message"), _SWITCH)
        turns = {"messages": listed({"type": "object"})}
        form = closed({**model, **switches, **template, **turns}, (*model, *switches, *template))
        forms.append(_opened(form) if unknown else form)
    schemas["TokenizeRequest"] = forms[0] if len(forms) == 1 else {"anyOf": forms}
    ids = closed({**model, "tokens": listed(_COUNT)}, model)
    schemas["DetokenizeRequest"] = _opened(ids) if unknown else ids
    own = {"refsample": {"type": "object"}}
    strings = {"anyOf": [listed(_TEXT), {"type": "null"}]}
    counted = {"count": _COUNT, "max_model_len": _COUNT, "tokens": listed(_COUNT), "token_strs": strings}
    answers = {"tokenize": closed({**counted, **own}, own), "detokenize": closed({"prompt": _TEXT, **own}, own)}
    return {f"/{name}": {"post": _posted(provider, name, answer)} for name, answer in answers.items()}


def _posted(provider: ProviderSpec, name: str, answer: Schema) -> Schema:
    return {
        "operationId": name,
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref(f"{name.capitalize()}Request")}}},
        "responses": {"200": _answer("vLLM's answer", answer), **_failures(provider)},
    }


def _opened(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "additionalProperties"}


def _card() -> Schema:
    card = {"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT, "parent": _TEXT}
    return closed(card, ("parent",))


def _health() -> Schema:
    return closed({"status": {"const": "ok"}, "models": listed(_TEXT)})


def _name(auth: Auth) -> str:
    return f"{auth.name.replace('-', '_')}_{auth.place}"


def _schemes(provider: ProviderSpec) -> Schema:
    found: Schema = {}
    for auth in provider.auth:
        if auth.place == "body":  # a field of the request's schema: OpenAPI has no scheme for it
            continue
        bearer = auth.scheme.lower() == "bearer"
        found[_name(auth)] = (
            {"type": "http", "scheme": "bearer"} if bearer else {"type": "apiKey", "in": "header", "name": auth.name}
        )
    return found


def _security(provider: ProviderSpec, strict: bool) -> list[Schema]:
    """Any one of the places is enough."""
    printed = [auth for auth in provider.auth if auth.printed]
    places = printed if strict and printed else provider.auth
    return [{_name(auth): []} if auth.place == "header" else {} for auth in places]
