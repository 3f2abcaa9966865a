"""Keys over HTTP: every place that a page names, in every spelling; no key in any answer, log or error."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from refsample.api import keys
from refsample.api.server import LocalServer, create_app
from refsample.generation.model import Model
from refsample.spec.provider import ProviderSpec, provider
from refsample.spec.records import Auth
from tests.api.doors import ONCE, refused
from tests.api.matrix import HEADERS, PAGES

KEY = "sk-right"
BEARER = Auth(place="header", name="authorization", scheme="Bearer", printed=True, required=False)
X_KEY = Auth(place="header", name="x-api-key", scheme="", printed=True, required=False)
TOKEN = Auth(place="body", name="token", scheme="", printed=True, required=False)


def page(*auth: Auth) -> ProviderSpec:
    """OpenAI's page, but for the places of the key."""
    return replace(provider("openai"), auth=auth)


def test_keys(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LocalServer(create_app({"tiny": model}, api_key=KEY)) as url, httpx2.Client(base_url=url) as client:
        for header in (None, "", "Bearer", "Bearer sk-wrong", "Basic sk-right", "sk-right", "Bearer sk-right2"):
            response = client.post(
                "/v1/completions", json=ONCE, headers={} if header is None else {"authorization": header}
            )
            message = refused(response, 401, "invalid_api_key")
            assert "sk-" not in message and response.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/models").status_code == 401
        assert client.post("/tokenize", json={"prompt": "x"}).status_code == 401
        assert client.get("/health").status_code == client.get("/").status_code == 200
        right = {"authorization": "bearer sk-right"}
        assert client.post("/v1/completions", json=ONCE, headers=right).status_code == 200
    assert "POST /v1/completions -> 401" in caplog.text
    assert "sk-" not in caplog.text


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_headers_that_a_page_prints_as_required(model: Model, name: str, strict: bool) -> None:
    """To the letter of such a page a request needs them, even where the server knows no key; else nobody minds."""
    served = provider(name)
    (endpoint,) = served.endpoints.values()
    said = {"messages": [{"role": "user", "content": "Hi."}]} if endpoint.kind == "chat" else {"prompt": "Hi."}
    # what the document of the page lets through: "must be greater than n" needs an n of 2 at Novita (C1)
    own: dict[str, Any] = {"visioncraft": {"token": KEY}, "novita": {"n": 2}}.get(name, {})
    body = json.dumps({"model": "tiny", "max_tokens": 128 if name == "visioncraft" else 1, **said, **own})
    right = {"content-type": "application/json; charset=utf-8", "authorization": "Bearer anything", "accept": "*/*"}
    app = create_app({"tiny": model}, served, strict=strict)
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        assert client.post(endpoint.path, content=body, headers=right).status_code == 200
        for header, (pages, value) in HEADERS.items():
            wanted = 200 if not strict or name not in pages else 401 if value is None else 400
            wrong = ("text/plain", "") if value else ("Basic x", "Bearer")
            for sent in (*wrong, None):
                headers = {key: text for key, text in right.items() if key != header}
                headers |= {} if sent is None or header == "accept" else {header: sent}
                response = client.post(endpoint.path, content=body, headers=headers)
                assert response.status_code == wanted, (header, sent)
                assert response.status_code != 400 or header in response.text


def test_a_key_in_a_wrong_place_is_not_repeated(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    """In a path, as a model, as a name: neither the log nor the error has it."""
    caplog.set_level(logging.DEBUG)
    key = "sk right/é"
    with LocalServer(create_app({"tiny": model}, api_key=key)) as url, httpx2.Client(base_url=url) as client:
        header = {b"authorization": b"Bearer " + key.encode()}
        said = [
            client.get(f"/v1/models/{key}", headers=header),
            client.get("/v1/models/sk%20right%2F%C3%A9", headers=header),
            client.get(f"/nowhere/{key}", headers=header),
            client.post("/v1/completions", json={**ONCE, "model": key}, headers=header),
            client.post("/v1/completions", json={**ONCE, "stop": [key, ""]}, headers=header),
            client.post("/v1/completions", content=b'{"sk right/\xc3\xa9": 1, "sk right/\xc3\xa9": 2}', headers=header),
        ]
    assert [response.status_code for response in said] == [404, 404, 404, 404, 400, 400]
    assert all("right" not in response.text for response in said)
    lines = [record.getMessage() for record in caplog.records if record.name == "refsample.server"]
    assert len(lines) >= 5 and not any("right" in line for line in lines)


def test_a_key_outside_ascii(model: Model) -> None:
    app = create_app({"tiny": model}, api_key="schlüssel ключ")
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        for key, status in (("schlüssel ключ", 200), ("schlüssel клюй", 401), ("ключ", 401)):
            header = {b"authorization": b"Bearer " + key.encode()}
            assert client.get("/v1/models", headers=header).status_code == status


@pytest.mark.parametrize(
    ("auth", "headers", "fields", "status"),
    [
        ((X_KEY,), {"x-api-key": KEY}, {}, 200),
        ((X_KEY,), {"X-API-Key": KEY}, {}, 200),
        ((X_KEY,), {"x-api-key": f"Bearer {KEY}"}, {}, 401),
        ((X_KEY,), {"authorization": f"Bearer {KEY}"}, {}, 401),
        ((X_KEY, BEARER), {"authorization": f"Bearer {KEY}"}, {}, 200),
        ((TOKEN,), {}, {"token": KEY}, 200),
        ((TOKEN,), {}, {"token": "sk-wrong"}, 401),
        ((TOKEN,), {}, {"token": "sk-\ud800"}, 401),
        ((TOKEN,), {}, {"token": [KEY]}, 401),
        ((TOKEN,), {}, {"token": None}, 401),
        ((TOKEN,), {"authorization": f"Bearer {KEY}"}, {}, 401),
        ((TOKEN, BEARER), {"authorization": f"Bearer {KEY}"}, {}, 200),
        ((TOKEN, BEARER), {"authorization": "Bearer sk-wrong"}, {"token": KEY}, 200),
        ((BEARER,), {}, {"token": KEY}, 401),
    ],
)
def test_places(
    model: Model, auth: tuple[Auth, ...], headers: Mapping[str, str], fields: Mapping[str, Any], status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    app = create_app({"tiny": model}, page(*auth), api_key=KEY)
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        data = json.dumps({**ONCE, "max_tokens": 1, **fields}).encode()
        response = client.post("/v1/completions", content=data, headers=dict(headers))
    assert response.status_code == status
    assert "sk-" not in response.text and "sk-" not in caplog.text
    assert ("www-authenticate" in response.headers) == (status == 401 and BEARER in auth)


def test_a_key_in_the_body_is_asked_for_before_the_body_is_judged(model: Model) -> None:
    app = create_app({"tiny": model}, page(TOKEN), api_key=KEY, max_body=10_000)
    with LocalServer(app) as url, httpx2.Client(base_url=url) as client:
        message = refused(client.post("/v1/completions", json={"model": "gpt-4", "temperature": 99}), 401)
        assert message.endswith("send token in the body")
        assert refused(client.get("/v1/models"), 401)
        assert refused(client.post("/v1/completions", content=b"x" * 20_000), 413)
        assert "line 1" in refused(client.post("/v1/completions", content=b"{"), 400)


def test_strict_takes_what_is_printed() -> None:
    later = replace(BEARER, printed=False)
    assert keys.places(page(TOKEN, later), strict=False) == (TOKEN, later)
    assert keys.places(page(TOKEN, later), strict=True) == (TOKEN,)
    assert keys.places(page(later), strict=True) == (later,)
    assert keys.in_body({"token": KEY}, (BEARER,), KEY) is False
    assert keys.in_body([KEY], (TOKEN,), KEY) is False
