"""`refsample.load`: what a name can mean, and errors that say what is wrong and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import refsample
from refsample.errors import CorruptFileError, MismatchError, MissingFileError, ParameterError, UnknownModelError
from refsample.generation import hub
from refsample.generation.load import known, locate
from refsample.tiny import FOLDER

FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def linked(folder: Path) -> Path:
    """A folder that holds the embedded model by links; a test replaces what it wants to break."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).symlink_to(FOLDER / name)
    return folder


def replaced(folder: Path, name: str, text: str) -> Path:
    (folder / name).unlink()
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_embedded_model() -> None:
    model = refsample.load("tiny")
    assert (model.name, model.folder) == ("tiny", FOLDER)
    assert model.template is not None and model.tokenizer.vocab_size <= model.config.vocab_size
    assert len(model.fingerprint) == 64 and model.transformer.precision == "float32"
    assert refsample.load().fingerprint == model.fingerprint


def test_a_folder_and_an_id_give_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linked(tmp_path / "models--org--copy" / "snapshots" / "abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = linked(tmp_path / "plain")
    texts = {
        refsample.load(name).generate("A", seed=1, max_tokens=5).token_ids for name in ("tiny", folder, "org/copy")
    }
    assert len(texts) == 1
    assert known() == ("tiny", "org/copy")


def test_a_model_is_loaded_in_a_precision() -> None:
    model = refsample.load("tiny", precision="float64")
    assert model.logits([1, 2]).dtype == "float64"
    facts = model.generate([1, 2], seed=1, max_tokens=1, logprobs=0).logprobs
    plain = refsample.load("tiny").generate([1, 2], seed=1, max_tokens=1, logprobs=0).logprobs
    assert facts[0].logprob != plain[0].logprob
    with pytest.raises(ParameterError, match="precision='int3'"):
        refsample.load("tiny", precision="int3")


def test_unknown_names_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UnknownModelError, match=r"'no/such' does not exist: .*OFFLINE is set; known here: tiny$"):
        refsample.load("no/such")
    with pytest.raises(UnknownModelError, match="there is no such folder"):
        refsample.load(tmp_path / "absent")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(UnknownModelError, match="it is a file; give the folder"):
        locate(str(file))


def test_names_that_no_file_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in ("x" * 5000, "~nosuchuser/x"):
        with pytest.raises(UnknownModelError, match="does not exist: no folder that can be read: "):
            refsample.load(name)


def test_a_part_of_a_snapshot_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that was fetched alone neither is the model nor stands in the way of fetching it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--part" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").write_text("{}", encoding="utf-8")
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UnknownModelError, match=r"no config\.json with \*\.safetensors in .*abc, and HF_HUB_OFFLINE"):
        refsample.load("org/part")
    assert known() == ("tiny",)
    asked = []

    def download(name: str, names: tuple[str, ...], partly: Path | None) -> Path:
        asked.append((name, names, partly))
        return FOLDER

    monkeypatch.setattr(hub, "download", download)
    assert locate("org/part") == FOLDER and asked == [("org/part", ("tiny",), snapshot)]


def test_text_files_that_do_not_fit(tmp_path: Path) -> None:
    folder = linked(tmp_path / "a")
    tokenizer = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    size = refsample.load("tiny").config.vocab_size
    extra = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": size, "content": "<|more|>", **extra})
    model = refsample.load(replaced(folder, "tokenizer.json", json.dumps(tokenizer)))
    assert model.tokenizer.vocab_size == size  # the token is there, the model just has no row for it
    with pytest.raises(ParameterError, match=rf"holds '<\|more\|>', id {size}: the model's embedding has {size} rows"):
        model.generate("a<|more|>", max_tokens=1)
    tokenizer["model"]["vocab"]["more"] = size + 1
    with pytest.raises(MismatchError, match=f"ids up to {size + 1}, but config.json says vocab_size={size}"):
        refsample.load(replaced(folder, "tokenizer.json", json.dumps(tokenizer)))
    with pytest.raises(CorruptFileError, match=r"tokenizer\.json: not a tokenizer"):
        refsample.load(replaced(folder, "tokenizer.json", "{}"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingFileError, match=r"no tokenizer\.json"):
        refsample.load(folder)
    broken = linked(tmp_path / "b")
    with pytest.raises(CorruptFileError, match=r"tokenizer_config\.json is not JSON"):
        refsample.load(replaced(broken, "tokenizer_config.json", "{"))
    (broken / "chat_template.jinja").write_text("{% for %}", encoding="utf-8")
    replaced(broken, "tokenizer_config.json", "{}")
    with pytest.raises(CorruptFileError, match="chat template, line 1"):
        refsample.load(broken)


def test_public_names_are_lazy_and_listed() -> None:
    assert set(refsample.__all__) <= set(dir(refsample))
    assert refsample.SamplingParams().temperature == 1.0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = refsample.nothing  # type: ignore[attr-defined]
