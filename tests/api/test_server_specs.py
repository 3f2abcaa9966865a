"""Several providers behind one server: prefixes, paths, envelopes, lists of models, who answers what nobody serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import jsonschema
import pytest

from refsample.api.completions import complete
from refsample.api.errors import error_body, failure
from refsample.api.keys import places
from refsample.api.server import LocalServer, create_app
from refsample.errors import BusyError, MismatchError, ParameterError, RefsampleError, RequestTimeoutError
from refsample.generation.model import Model
from refsample.spec.openapi import openapi
from refsample.spec.provider import FAILURES, ProviderSpec, provider, providers
from refsample.spec.records import Auth
from tests.api.doors import ONCE
from tests.api.joined import comparable

OPENAI = provider("openai")
ENVELOPES = ("openai", "vllm", "novita", "scale")


def shaped(envelope: str, **changes: Any) -> ProviderSpec:
    """OpenAI's page in another envelope."""
    return replace(OPENAI, name=envelope, envelope=envelope, **changes)


def message_of(body: dict[str, Any]) -> str:
    """What went wrong, out of any envelope."""
    found = body.get("error", body)
    text = found.get("message", found.get("detail"))
    assert isinstance(text, str)
    return text


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[httpx2.Client]:
    specs = {
        "a": OPENAI,
        "b": shaped("vllm", models_path="/models-llm", models_shape="names"),
        "c": shaped("novita", model_names="vendor"),
        "d": shaped("scale", models_path=""),
    }
    app = create_app({"tiny": model, "org/tiny-2": model}, specs, max_body=100_000)
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=60) as made:
        yield made


@pytest.mark.parametrize("prefix", "abcd")
def test_each_provider_has_its_prefix(client: httpx2.Client, model: Model, prefix: str) -> None:
    expected = comparable(complete(model, ONCE))
    for path in ("/v1/completions", "/completions"):
        assert comparable(client.post(f"/{prefix}{path}", json=ONCE).json()) == expected
    assert client.get(f"/{prefix}/health").json()["status"] == "ok"
    assert client.post("/v1/completions", json=ONCE).status_code == 404


def test_the_index(client: httpx2.Client) -> None:
    served = client.get("/").json()["serves"]
    assert [(entry["prefix"], entry["spec"]) for entry in served] == [
        ("/a", "openai"), ("/b", "vllm"), ("/c", "novita"), ("/d", "scale"),
    ]  # fmt: skip
    assert served[0]["paths"] == {
        "completions": "/a/v1/completions",
        "chat": "/a/v1/chat/completions",
        "models": "/a/v1/models",
        "tokenize": "/a/tokenize",
        "detokenize": "/a/detokenize",
        "health": "/a/health",
    }
    assert served[1]["paths"]["models"] == "/b/models-llm" and "models" not in served[3]["paths"]


def test_lists_of_models(client: httpx2.Client) -> None:
    cards = client.get("/a/v1/models").json()
    assert [card["id"] for card in cards["data"]] == ["tiny", "org/tiny-2"]
    assert client.get("/b/models-llm").json() == ["tiny", "org/tiny-2"]
    assert client.get("/b/v1/models").status_code == client.get("/d/v1/models").status_code == 404
    assert client.get("/c/v1/models/hub/org/tiny-2/blue").json()["id"] == "org/tiny-2"
    assert client.get("/a/v1/models/hub/org/tiny-2").status_code == 404


def test_names_of_models_are_the_providers(client: httpx2.Client) -> None:
    body = {**ONCE, "model": "hub/tiny", "max_tokens": 1}
    assert client.post("/c/v1/completions", json=body).json()["model"] == "hub/tiny"
    assert client.post("/a/v1/completions", json=body).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/v1/completions", {**ONCE, "temperature": 9}, 400, "temperature=9"),
        ("/v1/completions", {**ONCE, "model": "nix"}, 404, "'nix' does not exist"),
        ("/v1/completions", {**ONCE, "prompt": "x" * 200_000}, 413, "100000 bytes"),
        ("/v1/nix", {}, 404, "unknown URL: POST /"),
        ("/health", {}, 405, "does not take the method"),
        ("/tokenize", {}, 400, "prompt: is required"),
    ],
)
def test_refusals_are_the_providers(client: httpx2.Client, path: str, body: Any, status: int, part: str) -> None:
    shapes = {}
    for prefix in "abcd":
        response = client.post(f"/{prefix}{path}", json=body)
        assert response.status_code == status
        shapes[prefix] = response.json()
        assert part in message_of(shapes[prefix])
        assert response.headers["x-request-id"].startswith("req_")
    assert set(shapes["a"]) == {"error"} and set(shapes["a"]["error"]) == {"message", "type", "param", "code"}
    assert set(shapes["b"]) == {"object", "message", "type", "param", "code"} and shapes["b"]["code"] == status
    assert set(shapes["c"]) == {"code", "reason", "message", "metadata"} and shapes["c"]["code"] == status
    assert isinstance(shapes["c"]["reason"], str)


@pytest.mark.parametrize("name", providers())
@pytest.mark.parametrize("kind", FAILURES)
def test_every_failure_has_a_body(name: str, kind: str) -> None:
    page = provider(name)
    status, body = failure(kind, "what is wrong", page, param="x")
    assert status == page.errors[kind].status and 400 <= status < 600
    assert message_of(body) == "what is wrong"


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (BusyError("too many wait"), 429, True),
        (RequestTimeoutError(2.5), 408, True),
        (MismatchError("a folder of ours"), 500, False),
        (RefsampleError("anything else"), 500, False),
    ],
)
def test_errors_that_are_no_users(error: RefsampleError, status: int, shown: bool) -> None:
    for envelope in ENVELOPES:
        got, body = error_body(error, shaped(envelope))
        assert got == status and (str(error) in message_of(body)) == shown


@dataclass(frozen=True, slots=True)
class Door:
    """One provider over HTTP, whose every answer has to fit the provider's OpenAPI document."""

    page: ProviderSpec
    document: dict[str, Any]
    client: httpx2.Client
    place: Auth

    def ask(self, method: str, path: str, body: Any = None, *, known: bool = True) -> tuple[int, Any]:
        """Status and body, after both were found in the document."""
        header, key = {}, f"{self.place.scheme} sk-x".strip()
        if known and self.place.place == "header":
            header = {self.place.name: key}
        elif known and isinstance(body, dict):
            body = {**body, self.place.name: key}
        response = self.client.request(method, path, json=body, headers=header)
        stated = self.document["paths"][path][method.lower()]["responses"][str(response.status_code)]
        schema = stated["content"]["application/json"]["schema"]
        jsonschema.validate(response.json(), {**schema, "components": self.document["components"]})
        return response.status_code, response.json()


@pytest.mark.parametrize("strict", [False, True], ids=["effective", "strict"])
@pytest.mark.parametrize("name", providers())
def test_every_shipped_provider(model: Model, name: str, strict: bool) -> None:
    """Each file's own paths, keys, list of models and refusals, in the shapes that its OpenAPI document declares."""
    page = provider(name)
    app = create_app({"tiny": model}, name, strict=strict, api_key="sk-x")
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=60) as client:
        door = Door(page, openapi(page, strict=strict), client, places(page, strict=strict)[0])
        assert client.get("/").json()["serves"][0]["spec"] == name
        assert door.ask("GET", "/health")[0] == 200
        for endpoint in page.endpoints.values():
            ask = {"messages": [{"role": "user", "content": "Hi."}]} if endpoint.kind == "chat" else {"prompt": "Hi."}
            body = {"model": "tiny", "max_tokens": 128, "temperature": 0.5, **ask}
            status, answer = door.ask("POST", endpoint.path, body)
            assert status == 200 and len(answer["choices"]) == 1
            for wrong, kind in (({"model": "nix"}, "unknown_model"), ({"temperature": "hot"}, "invalid")):
                status, answer = door.ask("POST", endpoint.path, {**body, **wrong})
                assert status == page.errors[kind].status and next(iter(wrong.values())) in message_of(answer)
            assert door.ask("POST", endpoint.path, body, known=False)[0] == page.errors["unauthorized"].status
        if page.models_path and door.place.place == "header":
            _, found = door.ask("GET", page.models_path)
            assert (found if page.models_shape == "names" else [card["id"] for card in found["data"]]) == ["tiny"]
        status, tokens = door.ask("POST", "/tokenize", {"prompt": "Hi there.", "return_token_strs": True})
        assert status == 200 and len(tokens["token_strs"]) == tokens["count"]
        assert door.ask("POST", "/detokenize", {"tokens": tokens["tokens"]})[1] == {"prompt": "Hi there."}


@pytest.mark.parametrize(
    ("named", "spec", "blamed"), [(False, "openai", "models"), (True, {}, "spec"), (True, {"a/b": "openai"}, "spec")]
)
def test_what_cannot_be_served(model: Model, named: bool, spec: Any, blamed: str) -> None:
    with pytest.raises(ParameterError, match=f"^{blamed}="):
        create_app({"tiny": model} if named else {}, spec)


def test_behaviours_by_prefix(model: Model) -> None:
    from refsample.api.answer import default_behaviour

    careless = replace(default_behaviour(OPENAI), flaws=frozenset({"unknown_model_accepted"}))
    app = create_app({"tiny": model}, {"a": "openai", "b": "openai"}, behaviour={"b": careless})
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        body = {**ONCE, "model": "gpt-4"}
        assert client.post("/a/v1/completions", json=body).status_code == 404
        assert client.post("/b/v1/completions", json=body).json()["model"] == "gpt-4"
