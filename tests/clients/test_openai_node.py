"""openai-node, unmodified, as a process: what it read of every kind of answer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from refsample.generation.model import Model
from tests.clients.asked import ANIMAL, ASK, FORMAT, ONCE, TOOL, WORD
from tests.clients.live import KEY, NODE_MODULES, environ, need

SCRIPT = Path(__file__).parent / "node" / "client.cjs"


@pytest.fixture(scope="module")
def said(url: str) -> Any:
    need("openai-node", shutil.which("node") is None or not NODE_MODULES.is_dir())
    asked = json.dumps({"once": ONCE, "ask": ASK, "tool": TOOL, "format": FORMAT})
    env = environ(BASE_URL=url, API_KEY=KEY, NODE_PATH=str(NODE_MODULES))
    done = subprocess.run(["node", str(SCRIPT)], env=env, input=asked, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    return json.loads(done.stdout)


def test_models(said: Any) -> None:
    assert said["models"] == ["tiny"]


def test_completions(said: Any, model: Model) -> None:
    direct = model.generate(ONCE, seed=1, max_tokens=8, n=2)
    assert [choice["text"] for choice in said["completion"]["choices"]] == [choice.text for choice in direct.choices]
    assert "".join(said["completion"]["choices"][0]["logprobs"]["tokens"]) == direct.choices[0].text
    assert "".join(said["completionParts"]) == direct.choices[0].text and len(said["completionParts"]) > 2


def test_chat(said: Any, model: Model) -> None:
    direct = model.generate(ASK, seed=1, max_tokens=12).text
    (choice,) = said["chat"]["choices"]
    assert choice["message"]["content"] == "".join(said["chatParts"]) == direct
    assert len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert said["streamUsage"] == said["chat"]["usage"]


def test_tools(said: Any) -> None:
    (call,) = said["tool"]["choices"][0]["message"]["tool_calls"]
    jsonschema.validate(json.loads(call["function"]["arguments"]), WORD)
    (folded,) = said["folded"]["choices"][0]["message"]["tool_calls"]
    assert folded["function"]["arguments"] == call["function"]["arguments"]


def test_schema(said: Any) -> None:
    message = said["schema"]["choices"][0]["message"]
    jsonschema.validate(message["parsed"], ANIMAL)
    assert json.loads(message["content"]) == message["parsed"]


def test_refusals(said: Any) -> None:
    assert said["badRequest"] == {
        "name": "BadRequestError", "status": 400, "param": "temperature", "code": "invalid_value",
    }  # fmt: skip
    assert (said["unknownModel"]["name"], said["unknownModel"]["status"]) == ("NotFoundError", 404)
    assert (said["wrongKey"]["name"], said["wrongKey"]["code"]) == ("AuthenticationError", "invalid_api_key")
