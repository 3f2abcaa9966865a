"""An endpoint in this process: the provider layer's own door, with no socket between. It knows nothing of probes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.errors import error_body, failure
from refsample.api.stream import stream
from refsample.conformance.transport import Exchange
from refsample.errors import RefsampleError, UnknownModelError
from refsample.generation.behaviour import Behaviour
from refsample.generation.model import Model
from refsample.spec.provider import EndpointSpec, provider


class LocalEndpoint:
    """Serves one model under one behaviour, as `refsample serve` would."""

    def __init__(self, model: Model, spec: str = "openai", behaviour: Behaviour | None = None) -> None:
        self._model, self._spec, self._behaviour = model, provider(spec), behaviour
        self._routes: Mapping[str, EndpointSpec] = {e.path: e for e in self._spec.endpoints.values()}

    @property
    def url(self) -> str:
        return "in-process:"

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        try:
            text, kind = self._answer(method, path, dict(body or {}))
            status = 200
        except RefsampleError as error:
            status, answer = error_body(error, self._spec)
            text, kind = json.dumps(answer), "application/json"
        except LookupError:
            status, answer = failure("unknown_path", f"{method} {path} is not served", self._spec)
            text, kind = json.dumps(answer), "application/json"
        return Exchange(method, path, body, status, kind, text)

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[str, str]:
        if (method, path) == ("GET", "/v1/models"):
            return json.dumps(
                {"object": "list", "data": [{"id": self._model.name, "object": "model"}]}
            ), "application/json"
        is_chat = self._routes[path].kind == "chat"
        if body.get("model", self._model.name) != self._model.name:
            raise UnknownModelError(str(body["model"]), (self._model.name,))
        if body.get("stream") is True:
            chunks = stream(self._model, body, self._spec, chat=is_chat, behaviour=self._behaviour)
            events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
            return events + "data: [DONE]\n\n", "text/event-stream"
        answer = (chat if is_chat else complete)(self._model, body, self._spec, behaviour=self._behaviour)
        return json.dumps(answer), "application/json"
