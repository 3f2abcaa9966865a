"""--generation-config: the model's own defaults under what the person gives, said on stderr, kept and not kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refsample.cli import chat as chat_module
from tests.cli.conftest import Cli
from tests.generation.caches import commit, store, tiny_files


@pytest.fixture
def folder(tmp_path: Path) -> str:
    config = {"temperature": 0.2, "max_new_tokens": 4, "max_length": 99, "new_thing": 1, "eos_token_id": 0}
    files = tiny_files(generation_config__json=json.dumps(config).encode())
    return str(store(tmp_path, "org/m", commit("x"), files))


SAID = "generation_config.json gives temperature=0.2, max_tokens=4; not kept: max_length, new_thing"


def test_complete(cli: Cli, folder: str) -> None:
    got = cli("complete", "Once", "--model", folder, "--generation-config", "--json", "-o", "seed=1")
    assert SAID in got.err and got.json["usage"]["completion_tokens"] == 4
    plain = cli("complete", "Once", "--model", folder, "--json", "-o", "seed=1", "-o", "temperature=0.2")
    assert plain.err == "" and plain.json["choices"][0]["text"].startswith(got.json["choices"][0]["text"])
    over = cli("complete", "Once", "--model", folder, "--generation-config", "--json", "-o", "max_tokens=2")
    assert over.json["usage"]["completion_tokens"] == 2
    streamed = cli("complete", "Once", "--model", folder, "--generation-config", "-o", "seed=1")
    assert streamed.out.rstrip("\n") == got.json["choices"][0]["text"].rstrip("\n")


def test_chat(cli: Cli, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("chat", "--model", folder, "--generation-config")
    got = cli(*words, "Hi", "--json", "-o", "seed=1")
    assert SAID in got.err and got.json["usage"]["completion_tokens"] <= 4
    monkeypatch.setattr(chat_module, "converse", lambda answer, told: None)
    assert SAID in cli(*words).err


def test_without_such_a_file(cli: Cli) -> None:
    got = cli("complete", "Once", "--generation-config", "-o", "max_tokens=1")
    assert "tiny: generation_config.json gives nothing\n" in got.err


def test_serve(cli: Cli, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from refsample.api import server

    seen = []
    monkeypatch.setattr(server, "run", lambda app, host, port, ready: seen.append(app.state.sites))
    got = cli("serve", "--model", f"m={folder}", "--generation-config", "--spec", "openai", "--spec", "nebius")
    assert got.code == 0 and SAID in got.err
    assert [site.behaviour.generation_config for site in seen[0]] == [True, True]
    assert cli("serve", "--fault", "top_k_ignored").code == 0
    assert [site.behaviour.generation_config for site in seen[1]] == [False]
