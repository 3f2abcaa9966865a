"""An endpoint in this process: the provider layer's own door, with no socket between. It knows nothing of probes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from refsample.api.answer import default_behaviour, ready
from refsample.api.errors import error_body, failure
from refsample.api.response import answered
from refsample.api.stream import chunks
from refsample.conformance.transport import Exchange
from refsample.errors import RefsampleError
from refsample.generation.behaviour import Behaviour
from refsample.generation.model import Model
from refsample.spec.provider import EndpointSpec, provider


class LocalEndpoint:
    """Serves one model under one behaviour, as `refsample serve` would."""

    def __init__(
        self, model: Model, spec: str = "openai", behaviour: Behaviour | None = None, *, strict: bool = False
    ) -> None:
        self._models, self._spec, self._strict = {model.name: model}, provider(spec), strict
        self._behaviour = default_behaviour(self._spec, strict=strict) if behaviour is None else behaviour
        self._routes: Mapping[str, EndpointSpec] = {e.path: e for e in self._spec.endpoints.values()}

    @property
    def url(self) -> str:
        return "in-process:"

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        status, kind = 200, "application/json"
        try:
            if method == "GET" and path and path == self._spec.models_path:
                cards = [{"id": name, "object": "model"} for name in self._models]
                bare = self._spec.models_shape == "names"
                text = json.dumps(list(self._models) if bare else {"object": "list", "data": cards})
            elif method == "POST" and path in self._routes:
                text, kind = self._answer(self._routes[path], dict(body or {}))
            else:
                served = path in self._routes or path and path == self._spec.models_path
                status, answer = failure(
                    "method" if served else "unknown_path", f"{method} {path} is not served", self._spec
                )
                text = json.dumps(answer)
        except RefsampleError as error:
            status, answer = error_body(error, self._spec)
            text = json.dumps(answer)
        return Exchange(method, path, body, status, kind, text, at=int(time.time()))

    def _answer(self, endpoint: EndpointSpec, body: dict[str, Any]) -> tuple[str, str]:
        job = ready(self._models, body, self._spec, endpoint, self._behaviour, strict=self._strict)
        if job.request.stream:
            events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks(job, job.events))
            done = "" if "done_missing" in self._behaviour.flaws else "data: [DONE]\n\n"
            return events + done, "text/event-stream"
        return json.dumps(answered(job, job.events)), "application/json"
