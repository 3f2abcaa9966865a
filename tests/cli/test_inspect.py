"""refsample inspect and models: what folders hold, whether they run and why not; no network, no weights in memory."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from refsample.model.cache import Cache
from refsample.tiny import FOLDER
from tests.cli.conftest import Cli
from tests.generation.caches import commit, split_shards, store, tiny_files
from tests.text.vocabularies import sentencepiece_style


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_the_embedded_model(cli: Cli) -> None:
    got = cli("inspect", "tiny", "--json")
    found, config = got.json, json.loads((FOLDER / "config.json").read_text())
    assert got.code == 0 and got.err == "" and (found["name"], found["family"]) == ("tiny", "llama")
    assert (found["runnable"], found["why_not"], found["adapters"]) == (True, [], ["pirate"])
    shape = found["architecture"]
    assert shape["layers"] == config["num_hidden_layers"] and shape["kv_heads"] == config["num_key_value_heads"]
    assert (shape["context"], shape["tied"], shape["rope"]) == (config["max_position_embeddings"], True, "default")
    weights, memory = found["weights"], found["memory"]
    assert weights["bytes"] == (FOLDER / "model.safetensors").stat().st_size and weights["files"] == 1
    with safe_open(FOLDER / "model.safetensors", "numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  # no mapping
    assert weights["parameters"] == weights["by_dtype"]["BF16"] == sum(math.prod(one) for one in shapes)
    assert weights["tensors"] == len(shapes)
    cache = Cache((shape["layers"], shape["kv_heads"], shape["head_width"]), 16, np.float32, "float32", 16)
    assert memory["cache_per_token"] * 16 == cache.keys.nbytes + cache.values.nbytes
    assert memory["cache_full_context"] == memory["cache_per_token"] * shape["context"]
    assert found["special_tokens"]["eos_token"] == {"text": "<|endoftext|>", "id": 0}
    assert found["special_tokens"]["ends"] == [{"text": "<|endoftext|>", "id": 0}]
    assert found["tokenizer"]["kind"] == "BPE" and found["tokenizer"]["byte_level"]
    rendered = found["chat_templates"]["rendered"]
    assert rendered.startswith("<|user|>What is 2 + 2?<|endoftext|><|assistant|>4.")
    assert found["chat_templates"]["special_tokens"].count("<|endoftext|>") == 3
    assert found["generation_config"] == [
        {"name": "eos_token_id", "value": 0, "use": "always", "detail": "ends a text"}
    ]


def test_for_people(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, tinted = cli("inspect", "tiny"), cli("inspect", "tiny", terminal=True)
    for title in ("architecture", "weights", "memory", "special tokens", "tokenizer", "chat templates"):
        assert f"\n{title}\n" in plain.out
    assert "| <|user|>What is 2 + 2?<|endoftext|>" in plain.out and "\x1b" not in plain.out
    assert "\x1b[1m<|user|>\x1b[0mWhat" in tinted.out and "\x1b[1marchitecture" in tinted.out
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli("inspect", "tiny", terminal=True).out == plain.out


def folder(place: Path, config: dict[str, Any]) -> Path:
    """A Llama-2 style tokenizer and one tensor, under a config of the test's choosing."""
    sentencepiece_style(place)
    (place / "config.json").write_text(json.dumps(config))
    save_file({"wte": np.zeros((4, 3), np.float32), "ids": np.zeros(2, np.int64)}, place / "model.safetensors")
    return place


def test_a_family_that_is_not_run(cli: Cli, tmp_path: Path) -> None:
    """It says why and shows the rest: sizes as config.json has them, weights, tokenizer, templates, defaults."""
    config = {"model_type": "starfish", "n_layer": 3, "n_embd": 24, "n_head": 4, "n_positions": 99, "vocab_size": 300}
    place = folder(tmp_path / "m", config)
    template = "{{ bos_token }}{{ raise_exception('no\x1b[2J') if messages | length > 2 }}"
    named = [{"name": "rag", "template": "x"}, {"name": "default", "template": template}]
    settings = {"bos_token": "<|user|>", "chat_template": named}
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    (place / "generation_config.json").write_text('{"temperature": 0.6, "magic": [1]}')
    got = cli("inspect", str(place), "--json")
    found = got.json
    assert got.code == 1 and not found["runnable"] and "model_type='starfish' is not a family" in found["why_not"][0]
    shape = found["architecture"]
    assert (shape["layers"], shape["width"], shape["context"], shape["kv_heads"]) == (3, 24, 99, None)
    assert found["weights"]["by_dtype"] == {"F32": 12, "I64": 2} and found["memory"] is None
    kind = found["tokenizer"]
    assert kind["byte_fallback"] and kind["decoder"] == ["Replace", "ByteFallback", "Fuse", "Strip"]
    assert kind["normalizer"] == ["Prepend", "Replace"] and kind["rows_without_an_id"] == 28
    assert found["chat_templates"]["names"] == ["default", "rag"] and found["chat_templates"]["rendered"] is None
    assert [(e["name"], e["use"]) for e in found["generation_config"]] == [
        ("temperature", "taken"), ("magic", "not understood")
    ]  # fmt: skip
    text = cli("inspect", str(place), terminal=True)
    assert text.code == 1 and "the example is refused: " in text.out and "\x1b[2J" not in text.out
    assert "- " in text.out and "magic" in text.out


def test_one_broken_file_hides_no_other(cli: Cli, tmp_path: Path) -> None:
    place = folder(tmp_path / "m", {})
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors")
    for name in names:
        (place / name).write_text("[")
    got = cli("inspect", str(place), "--json")
    assert got.code == 1 and got.json["architecture"] is got.json["weights"] is got.json["tokenizer"] is None
    said = "; ".join(got.json["why_not"])
    assert all(f"/{name}" in said for name in names if name != "tokenizer.json")  # hidden behind its own config
    assert cli("inspect", str(place)).out.count("\n  - ") == len(got.json["why_not"])
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cli("inspect", str(empty)).code == 1
    gone = cli("inspect", "no/such", "--json")
    assert gone.code == 2 and gone.out == "" and "not in the local hub cache; known here: tiny" in gone.err


def test_ids_and_revisions(cli: Cli, tmp_path: Path) -> None:
    sha, old = commit("new"), commit("old")
    store(tmp_path / "hub", "org/m", sha, tiny_files(), "main")
    files = {name: data for name, data in tiny_files().items() if name != "model.safetensors"} | split_shards()
    part = store(tmp_path / "hub", "org/m", old, files, "v1")
    found = cli("inspect", "org/m", "--json").json
    assert (found["revision"], found["runnable"], found["weights"]["files"]) == (sha, True, 1)
    assert cli("inspect", "org/m@v1", "--json").json["weights"]["files"] == 2
    blob = part / os.readlink(part / "model-00001-of-00002.safetensors")
    blob.rename(blob.with_suffix(".incomplete"))
    got = cli("inspect", "org/m@v1", "--json")
    assert got.code == 1 and "model-00001-of-00002.safetensors is missing in" in got.json["why_not"][0]
    assert got.json["weights"]["files"] == 1 and got.json["architecture"]["layers"] == found["architecture"]["layers"]


def test_models_lists_every_revision(cli: Cli, tmp_path: Path) -> None:
    sha, old = commit("new"), commit("old")
    store(tmp_path / "hub", "org/m", sha, tiny_files(), "main", "v2")
    part = store(tmp_path / "hub", "org/m", old, tiny_files(model__safetensors=b"another"), "v1")
    (part / os.readlink(part / "model.safetensors")).unlink()
    entries = {entry["name"]: entry for entry in cli("models", "--json").json}
    assert set(entries) == {"tiny", "pirate", "org/m", f"org/m@{old[:8]}"}
    assert (entries["org/m"]["revision"], entries["org/m"]["references"]) == (sha, ["main", "v2"])
    broken = entries[f"org/m@{old[:8]}"]
    assert not broken["runnable"] and "model.safetensors is missing in" in broken["why_not"]
    assert entries["org/m"]["runnable"] and entries["tiny"]["revision"] is None
    rows = {line.split()[0]: line for line in cli("models").out.splitlines()}
    assert f"main, v2, {sha[:8]}" in rows["org/m"] and f"v1, {old[:8]}" in rows[f"org/m@{old[:8]}"]
