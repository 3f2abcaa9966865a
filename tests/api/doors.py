"""Requests over HTTP and what must be true of every refusal. Knows only OpenAI's shapes."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.api import schemas

PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
ONCE = {"model": "tiny", "prompt": "Once upon a time", "seed": 1, "max_tokens": 8}


def refused(response: httpx2.Response, status: int, code: str | None = None, param: str | None = None) -> str:
    """The message of an error that has OpenAI's shape."""
    assert response.status_code == status
    body = response.json()
    schemas.check(body, schemas.ERROR)
    error = body["error"]
    assert "\n" not in error["message"] and "Traceback" not in error["message"]
    assert response.headers["x-request-id"].startswith("req_")
    assert code is None or error["code"] == code
    assert param is None or error["param"] == param
    message: str = error["message"]
    return message


def frames(client: httpx2.Client, path: str, body: dict[str, Any]) -> list[str]:
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-request-id"].startswith("req_")
        text = "".join(response.iter_text())
    assert text.endswith("\n\n") and "\r" not in text
    lines = text[:-2].split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]
