"""simonw's llm, unmodified, as a command: models out of extra-openai-models.yaml, its log, schemas, tools."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from refsample.generation.model import Model
from tests.clients.asked import ANIMAL, ASK, ONCE, QUESTION
from tests.clients.live import KEY, environ, missing, need

MODELS = """
- model_id: tiny-chat
  model_name: tiny
  api_base: {url}/v1
  api_key_name: refsample
  supports_schema: true
  supports_tools: true
- model_id: tiny-text
  model_name: tiny
  api_base: {url}/v1
  api_key_name: refsample
  completion: true
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, url: str) -> Path:
    """A folder with its settings, the key where `llm keys set` writes it."""
    need("llm", missing("llm") or shutil.which("llm") is None)
    folder = tmp_path_factory.mktemp("llm")
    (folder / "extra-openai-models.yaml").write_text(MODELS.format(url=url), encoding="utf-8")
    (folder / "keys.json").write_text(json.dumps({"refsample": KEY}), encoding="utf-8")
    return folder


def llm(home: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        ["llm", *arguments], env=environ(LLM_USER_PATH=str(home)), capture_output=True, text=True, timeout=240,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout + (done.stderr if code else "")


@pytest.mark.parametrize("stream", [(), ("--no-stream",)], ids=["streamed", "whole"])
def test_chat(home: Path, model: Model, stream: tuple[str, ...]) -> None:
    printed = llm(home, "-m", "tiny-chat", *stream, "-o", "seed", "1", "-o", "max_tokens", "12", QUESTION)
    assert printed.strip() == model.generate(ASK, seed=1, max_tokens=12).text.strip()
    (entry,) = json.loads(llm(home, "logs", "list", "--json", "-n", "1"))
    assert entry["response"].strip() == printed.strip() and entry["input_tokens"] > 0


@pytest.mark.parametrize("stream", [(), ("--no-stream",)], ids=["streamed", "whole"])
def test_completions_with_logprobs(home: Path, model: Model, stream: tuple[str, ...]) -> None:
    options = ("-o", "seed", "1", "-o", "max_tokens", "8", "-o", "logprobs", "2")
    printed = llm(home, "-m", "tiny-text", *stream, *options, ONCE)
    assert printed.strip() == model.generate(ONCE, seed=1, max_tokens=8).text.strip()
    (entry,) = json.loads(llm(home, "logs", "list", "--json", "-n", "1"))
    assert '"top_logprobs": [{' in json.dumps(entry["response_json"])


def test_schema(home: Path) -> None:
    printed = llm(home, "-m", "tiny-chat", "-o", "seed", "1", "--schema", json.dumps(ANIMAL), QUESTION)
    jsonschema.validate(json.loads(printed), ANIMAL)


def test_tools_are_offered(home: Path) -> None:
    """The command cannot force a call, so what counts is that the offer and whatever follows are taken."""
    offer = ("--functions", "def look_up(word: str) -> str:\n    return 'a small animal'", "--chain-limit", "2")
    assert llm(home, "-m", "tiny-chat", "-o", "seed", "1", "-o", "max_tokens", "60", *offer, QUESTION).strip()


def test_a_refusal(home: Path) -> None:
    said = llm(home, "-m", "tiny-chat", "-o", "max_tokens", "99999", QUESTION, code=1)
    assert "99999" in said and KEY not in said
