"""/tokenize and /detokenize: vLLM's shapes, the ids that the endpoints see, refusals as elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.api.server import LocalServer, create_app
from refsample.generation.model import Model
from refsample.spec.provider import provider
from tests.api.doors import refused

ASK = [{"role": "user", "content": "Name an animal."}]


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[httpx2.Client]:
    page = provider("openai")
    silent = replace(page, endpoints={"completions": page.endpoints["completions"]})
    app = create_app({"tiny": model, "other": model}, {"": page, "silent": silent})
    with LocalServer(app) as url, httpx2.Client(base_url=url, timeout=60) as made:
        yield made


def test_a_prompt(client: httpx2.Client, model: Model) -> None:
    body = {"model": "tiny", "prompt": "Once upon a time"}
    ids = model.tokenizer.encode("Once upon a time")
    got = client.post("/tokenize", json=body).json()
    assert got == {"count": len(ids), "max_model_len": model.config.max_position, "tokens": ids, "token_strs": None}
    strings = client.post("/tokenize", json={**body, "return_token_strs": True}).json()["token_strs"]
    assert strings == [model.tokenizer.backend.id_to_token(i) for i in ids]
    assert client.post("/tokenize", json={"prompt": ""}).json()["tokens"] == []


def test_a_chat_has_the_ids_that_the_chat_endpoint_sees(client: httpx2.Client) -> None:
    got = client.post("/tokenize", json={"model": "tiny", "messages": ASK}).json()
    answer = client.post("/v1/chat/completions", json={"model": "tiny", "messages": ASK, "max_tokens": 1}).json()
    assert got["count"] == len(got["tokens"]) == answer["usage"]["prompt_tokens"]
    bare = client.post("/tokenize", json={"messages": ASK, "add_generation_prompt": False}).json()["tokens"]
    assert bare == got["tokens"][: len(bare)] and len(bare) < got["count"]


def test_what_a_chat_has_no_use_for_is_listed(model: Model) -> None:
    body = {"messages": ASK, "add_generation_prompt": False}
    with LocalServer(create_app({"tiny": model}, "visioncraft")) as url:
        got = httpx2.post(f"{url}/tokenize", json=body).json()
    assert got["refsample"] == {"ignored": ["add_generation_prompt"]}


@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_there_and_back(client: httpx2.Client, model: Model, text: str) -> None:
    tokens = client.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"]
    back = client.post("/detokenize", json={"model": "tiny", "tokens": tokens}).json()
    assert back == {"prompt": model.tokenizer.decode(tokens)}
    assert "".join(back["prompt"].split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("path", "body", "param", "part"),
    [
        ("/tokenize", [], "body", "must be a JSON object"),
        ("/tokenize", {}, "prompt", "is required"),
        ("/tokenize", {"prompt": None}, "prompt", "must be a string"),
        ("/tokenize", {"prompt": ["a"]}, "prompt", "must be a string"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "add_special_tokens", "true or false"),
        ("/tokenize", {"prompt": "a", "return_token_strs": "yes"}, "return_token_strs", "true or false"),
        ("/tokenize", {"prompt": "a", "model": 5}, "model", "must be a string"),
        ("/tokenize", {"messages": []}, "messages", "1 or more"),
        ("/tokenize", {"messages": "hello"}, "messages", "must be"),
        ("/tokenize", {"messages": ASK, "add_special_tokens": True}, "add_special_tokens", "must be false"),
        ("/silent/tokenize", {"messages": ASK}, "messages", "has no chat"),
        ("/detokenize", {}, "tokens", "is required"),
        ("/detokenize", {"tokens": "abc"}, "tokens", "array of token ids"),
        ("/detokenize", {"tokens": [1, True]}, "tokens[1]", "must be an integer"),
        ("/detokenize", {"tokens": [1.0]}, "tokens[0]", "must be an integer"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]", "token ids lie in"),
        ("/detokenize", {"tokens": [10**9]}, "tokens[0]", "token ids lie in"),
    ],
)
def test_refusals(client: httpx2.Client, path: str, body: Any, param: str, part: str) -> None:
    assert part in refused(client.post(path, json=body), 400, param=param)


def test_lone_surrogates(client: httpx2.Client) -> None:
    response = client.post("/tokenize", content=b'{"prompt": "a\\ud800"}')
    assert "lone surrogates" in refused(response, 400, param="prompt")


def test_names_of_models_and_fields_without_effect(client: httpx2.Client, model: Model) -> None:
    assert client.post("/tokenize", json={"prompt": "a", "model": "other"}).status_code == 200
    refused(client.post("/tokenize", json={"prompt": "a", "model": "nix"}), 404, "model_not_found")
    got = client.post("/tokenize", json={"prompt": "a", "messages_": 1, "colour": "red"}).json()
    assert got["refsample"] == {"ignored": ["colour", "messages_"]}
    with LocalServer(create_app({"tiny": model}, strict=True)) as url:
        strict = httpx2.post(f"{url}/tokenize", json={"prompt": "a", "colour": "red"})
        refused(strict, 400, "unknown_parameter", "colour")
