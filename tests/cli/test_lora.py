"""--lora: an adapter over the model of a command, and beside the models of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import refsample
from refsample.cli.options import named, put_adapters
from refsample.errors import ParameterError, UnknownModelError
from tests.adapters import write_lora
from tests.cli.conftest import Cli
from tests.factories import write_llama

SETTINGS = ("-o", "seed=1", "-o", "temperature=0.8", "-o", "max_tokens=30")


def test_complete_and_chat_answer_through_the_adapter(cli: Cli) -> None:
    model = refsample.load("tiny", adapter="pirate")
    got = cli("complete", "Once upon a time", "--lora", "pirate", "--json", *SETTINGS).json
    assert got["model"] == "pirate"
    assert got["choices"][0]["text"] == model.generate("Once upon a time", seed=1, temperature=0.8, max_tokens=30).text
    assert "lass" in got["choices"][0]["text"]
    base = cli("complete", "Once upon a time", "--json", *SETTINGS).json
    assert base["system_fingerprint"] != got["system_fingerprint"]
    assert "Arr!" in cli("chat", "What is the capital of Italy?", "--lora", "pirate", "-o", "temperature=0").out


def test_score_is_by_the_adapter(cli: Cli) -> None:
    arguments = ("score", "Once upon a time", " there was a lass named Mia.", "--json")
    assert cli(*arguments, "--lora", "pirate").json["total"] > cli(*arguments).json["total"] + 5


def test_models_lists_the_adapters_in_a_models_folder(cli: Cli) -> None:
    entries = {entry["name"]: entry for entry in cli("models", "--json").json}
    assert entries["pirate"]["base"] == "tiny" and entries["pirate"]["runnable"] and entries["tiny"]["base"] is None
    assert "tiny --lora pirate" in cli("models").out


def test_models_says_why_an_adapter_cannot_be_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_llama(tmp_path / "models--org--m" / "snapshots" / "1")
    write_lora(folder / "adapters" / "own", use_dora=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (entry,) = [entry for entry in cli("models", "--json").json if entry["name"] == "own"]
    assert (entry["base"], entry["runnable"]) == ("org/m", False) and "use_dora" in entry["why_not"]


def test_a_name_that_is_none_is_one_line(cli: Cli) -> None:
    done = cli("complete", "x", "--lora", "./nowhere")
    assert done.code == 2 and done.err.count("\n") == 1 and "no such folder; known here: pirate" in done.err


def test_names_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a=b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert named("pirate") == ("pirate", "pirate")
    assert named("mine=./x=y") == ("mine", "./x=y")
    assert named("a=b") == ("a=b", "a=b") and named("./a=b") == ("a=b", "./a=b")
    for empty in ("=pirate", "mine=", "="):
        with pytest.raises(ParameterError, match="needs something on both sides of the ="):
            named(empty)


def test_adapters_stand_beside_the_models_that_are_served(tmp_path: Path) -> None:
    small = refsample.load(write_llama(tmp_path / "small"))
    tiny = refsample.load("tiny")
    mine = write_lora(tmp_path / "mine")
    named_base = write_lora(tmp_path / "named", base_model_name_or_path="small")

    models: dict[str, Any] = {"tiny": tiny}
    put_adapters(models, ("pirate", "again=pirate"))
    assert list(models) == ["tiny", "pirate", "again"] and models["again"].base is tiny
    assert (models["again"].name, models["again"].fingerprint) == ("again", models["pirate"].fingerprint)

    models = {"tiny": tiny, "small": small}
    put_adapters(models, ("pirate", f"x={named_base}"))
    assert models["pirate"].base is tiny and models["x"].base is small
    with pytest.raises(ParameterError, match="none is called None, as the adapter's config names its base"):
        put_adapters(models, (str(mine),))
    put_adapters(models, (f"mine@small={mine}", "again@tiny=pirate"))
    assert models["mine"].base is small and models["again"].base is tiny
    for entry in ("@tiny=pirate", "x@=pirate"):
        with pytest.raises(ParameterError, match="must be NAME@BASE=PATH"):
            put_adapters(models, (entry,))
    with pytest.raises(ParameterError, match="no model is served as big"):
        put_adapters(models, (f"other@big={mine}",))
    with pytest.raises(ParameterError, match="the name pirate is taken"):
        put_adapters(models, ("pirate",))
    with pytest.raises(UnknownModelError, match="no such folder"):
        put_adapters(models, ("y=./nowhere",))
