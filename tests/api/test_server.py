"""The server over real HTTP: every refusal in OpenAI's shape, streams, keys, hanging up, load."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from refsample.api.completions import complete
from refsample.api.server import LocalServer, create_app, run
from refsample.errors import MissingExtraError, ParameterError
from refsample.generation.model import Model
from tests.api import schemas
from tests.api.doors import ONCE, PATHS, frames, refused
from tests.api.joined import comparable, joined
from tests.api.malformed import ASK, MALFORMED, ask, say


@pytest.fixture(scope="module")
def url(model: Model) -> Iterator[str]:
    with LocalServer(create_app({"tiny": model, "org/tiny-2": model}, max_body=200_000)) as here:
        yield here


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=60) as made:
        yield made


OVER_HTTP = [case for case in MALFORMED if "surrogate" not in case[3]]


@pytest.mark.parametrize(("endpoint", "body", "parameter", "message"), OVER_HTTP)
def test_malformed(client: httpx2.Client, endpoint: str, body: Any, parameter: str, message: str) -> None:
    if isinstance(body, dict):
        body = {"model": "tiny", **body}
    response = client.post(PATHS[endpoint], json=body)
    assert message in refused(response, 400, param=parameter)
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert client.get("/health").json() == {"status": "ok", "models": ["tiny", "org/tiny-2"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1 column 1"),
        (b"{", "line 1 column 2"),
        (b'{"model": "tiny",\n "prompt": }', "line 2 column 12"),
        (b'{"model": "tiny" "prompt": "x"}', "line 1 column 18"),
        (b"{'model': 'tiny'}", "line 1 column 2"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"temperature": -Infinity}', "-Infinity"),
        (b'{"prompt": "a", "prompt": "b"}', "'prompt' twice"),
        (b'{"prompt": "\xff"}', "byte 12"),
        (b"[" * 100_000, "too deeply"),
        *((b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}", "too deeply") for depth in (64, 986, 987, 988)),
        (b'{"metadata": ' + b'{"a":' * 64 + b"1" + b"}" * 65, "too deeply"),
        (b'{"n": ' + b"9" * 5000 + b"}", "too many digits"),
    ],
)
def test_what_is_no_json(client: httpx2.Client, data: bytes, message: str) -> None:
    assert message in refused(client.post("/v1/completions", content=data), 400, "invalid_json", "body")


def test_a_body_as_deep_as_may_be(client: httpx2.Client) -> None:
    data = b'{"model": "tiny", "prompt": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert "must be a string or" in refused(client.post("/v1/completions", content=data), 400, param="prompt")


def test_lone_surrogates(client: httpx2.Client) -> None:
    data = b'{"model": "tiny", "prompt": "a\\ud800b", "\\udfff": 1}'
    assert "lone surrogates" in refused(client.post("/v1/completions", content=data), 400)
    data = b'{"model": "tiny", "prompt": "a", "max_tokens": 1, "\\udfff": 1}'
    assert client.post("/v1/completions", content=data).json()["refsample"]["ignored"] == ["\udfff"]


def test_a_number_too_large_for_a_double(client: httpx2.Client) -> None:
    data = b'{"model": "tiny", "prompt": "a", "temperature": 1e400}'
    assert "finite" in refused(client.post("/v1/completions", content=data), 400, param="temperature")


def test_unknown_models_paths_and_methods(client: httpx2.Client) -> None:
    response = client.post("/v1/completions", json={**ONCE, "model": "gpt-4"})
    assert "known here: tiny" in refused(response, 404, "model_not_found", "model")
    refused(client.get("/v1/models/gpt-4"), 404, "model_not_found", "model")
    refused(client.post("/v1/completions", json={"prompt": "x"}), 400, "missing_required_parameter", "model")
    assert "POST /v1/embeddings" in refused(client.post("/v1/embeddings", json={}), 404, "unknown_url")
    refused(client.post("/v1/completions/", json=ONCE), 404)
    response = client.get("/v1/completions")
    refused(response, 405, "method_not_supported")
    assert "POST" in response.headers["allow"]
    refused(client.delete("/v1/models"), 405)
    assert refused(client.get("/v1/%0Ax%22"), 404).endswith("GET /v1/%0Ax%22")


def test_a_body_that_is_too_large(client: httpx2.Client) -> None:
    response = client.post("/v1/completions", json={**ONCE, "prompt": "x" * 300_000})
    assert "200000 bytes" in refused(response, 413, "request_too_large")
    parts = (b"x" * 10_000 for _ in range(100))  # no content-length: found out while reading
    refused(client.post("/v1/completions", content=parts), 413)


def test_models(client: httpx2.Client) -> None:
    found = client.get("/v1/models").json()
    schemas.check(found, schemas.MODELS)
    assert [card["id"] for card in found["data"]] == ["tiny", "org/tiny-2"]
    for card in found["data"]:
        assert client.get(f"/v1/models/{card['id']}").json() == card
    assert client.get("/models").json() == found


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_answers(client: httpx2.Client, model: Model, prefix: str) -> None:
    response = client.post(f"{prefix}/completions", json={**ONCE, "logprobs": 2})
    assert response.headers["content-type"] == "application/json"
    schemas.check(response.json(), schemas.COMPLETION)
    assert comparable(response.json()) == comparable(complete(model, {**ONCE, "logprobs": 2}))
    body = {"model": "org/tiny-2", **ASK, "logprobs": True, "top_logprobs": 2}
    response = client.post(f"{prefix}/chat/completions", json=body)
    schemas.check(response.json(), schemas.CHAT)
    assert response.json()["model"] == "org/tiny-2"


def test_the_same_seed_gives_the_same_bytes(client: httpx2.Client) -> None:
    one, two = (client.post("/v1/completions", json={**ONCE, "n": 2, "logprobs": 5}).content for _ in range(2))
    masked = [data.replace(str(json.loads(data)[name]).encode(), b"?") for data, name in ((one, "id"), (two, "id"))]
    created = [str(json.loads(data)["created"]).encode() for data in (one, two)]
    assert masked[0].replace(created[0], b"!") == masked[1].replace(created[1], b"!")


@pytest.mark.parametrize("is_chat", [False, True])
def test_streams(client: httpx2.Client, is_chat: bool) -> None:
    path = PATHS["chat" if is_chat else "completions"]
    body = {"model": "tiny", **(ask() if is_chat else say()), "seed": 1, "n": 2, "max_tokens": 6}
    whole = client.post(path, json=body).json()
    *parts, done = frames(client, path, {**body, "stream": True, "stream_options": {"include_usage": True}})
    assert done == "[DONE]"
    chunks = [json.loads(part) for part in parts]
    for chunk in chunks:
        schemas.check(chunk, schemas.CHAT_CHUNK if is_chat else schemas.COMPLETION_CHUNK)
    assert comparable(joined(chunks)) == comparable(whole)


def test_a_stream_is_refused_with_a_status(client: httpx2.Client) -> None:
    refused(client.post("/v1/completions", json={**ONCE, "stream": True, "temperature": 3}), 400, param="temperature")
    refused(client.post("/v1/completions", json={**ONCE, "stream": True, "max_tokens": 9999}), 400)


def test_answers_do_not_depend_on_load(client: httpx2.Client, model: Model) -> None:
    bodies = [{**ONCE, "seed": seed, "stream": bool(seed % 2), "logprobs": 1, "n": 2} for seed in range(8)]

    def ask_one(body: dict[str, Any]) -> dict[str, Any]:
        if not body["stream"]:
            answer: dict[str, Any] = client.post("/v1/completions", json=body).json()
            return answer
        parts = frames(client, "/v1/completions", {**body, "stream_options": {"include_usage": True}})
        return joined(json.loads(part) for part in parts[:-1])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask_one, bodies))
    for body, answer in zip(bodies, answers, strict=True):
        assert comparable(answer) == comparable(complete(model, {**body, "stream": False}))


def test_a_crash_says_nothing_of_itself(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(model, tokenizer=None)  # type: ignore[arg-type]  # whatever our own bug may be
    with LocalServer(create_app({"tiny": broken})) as url, httpx2.Client(base_url=url) as client:
        message = refused(client.post("/v1/completions", json=ONCE), 500)
        assert "NoneType" not in message
        assert client.get("/health").status_code == 200
    assert "NoneType" in caplog.text, "the log has to hold what the client is not told"


def test_strict_and_faulty_servers(model: Model) -> None:
    from refsample.api.answer import default_behaviour
    from refsample.conformance.faults import apply
    from refsample.spec.provider import provider

    app = create_app({"tiny": model}, strict=True)
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        refused(client.post("/v1/completions", json={**ONCE, "top_k": 1}), 400, "unknown_parameter", "top_k")
    behaviour = apply(["temperature_ignored"], default_behaviour(provider("openai")))
    with LocalServer(create_app({"tiny": model}, behaviour=behaviour)) as url, httpx2.Client(base_url=url) as client:
        cold = client.post("/v1/completions", json={**ONCE, "temperature": 0}).json()
        assert cold["choices"][0]["text"] == complete(model, ONCE)["choices"][0]["text"]


def test_a_port_that_is_taken(url: str, model: Model) -> None:
    with pytest.raises(ParameterError, match="port=.*cannot be bound"):
        run(create_app({"tiny": model}), "127.0.0.1", int(url.rpartition(":")[2]))
    with pytest.raises(ParameterError, match="host='no such host'"):
        run(create_app({"tiny": model}), "no such host", 0)


@pytest.mark.parametrize("package", ["starlette.applications", "uvicorn", "starlette.concurrency", "anyio"])
def test_without_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("server", "routes", "site", "generate", "listing", "tokenize"):
        monkeypatch.delitem(sys.modules, f"refsample.api.{name}")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'refsample\[server\]'"):
        importlib.import_module("refsample.api.server")
