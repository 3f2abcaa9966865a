"""A cache laid out as the hub lays it out: models by id and revision with the network off, and broken downloads."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

import refsample
from refsample.errors import MissingFileError, ParameterError, UnknownModelError
from refsample.generation import hub
from refsample.generation.load import known, locate
from tests.generation.caches import commit, split_shards, store, tiny_files

MAIN, OLD, REQUEST = commit("main"), commit("old"), commit("request")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """org/m with three commits, found by HF_HOME as most people have it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = tmp_path / "hub"
    store(root, "org/m", MAIN, tiny_files(), "main")
    store(root, "org/m", OLD, tiny_files(generation_config__json=b'{"eos_token_id": [0, 5]}'), "v1.0", "dev/x")
    store(root, "org/m", REQUEST, tiny_files(generation_config__json=b'{"eos_token_id": 7}'), "refs/pr/1")
    return root


@pytest.mark.parametrize(
    ("revision", "eos"),
    [
        (None, (0,)), ("main", (0,)), ("v1.0", (0, 5)), ("dev/x", (0, 5)), ("refs/pr/1", (0, 7)), ("pr/1", (0, 7)),
        (OLD, (0, 5)), (OLD[:7], (0, 5)), (REQUEST[:4], (0, 7)),
    ],
)  # fmt: skip
def test_a_model_by_id_and_revision(cache: Path, revision: str | None, eos: tuple[int, ...]) -> None:
    name = "org/m" if revision is None else f"org/m@{revision}"
    model = refsample.load(name)
    assert (model.name, model.tokenizer.eos_token_ids) == (name, eos)
    assert model.generate("Once", seed=1, max_tokens=2).token_ids
    assert refsample.load("org/m", revision=revision).fingerprint == model.fingerprint
    assert refsample.load(name, revision=revision).folder == model.folder


def test_other_places_of_a_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(UnknownModelError, match="not in the local hub cache, and HF_HUB_OFFLINE is set"):
        locate("org/m")
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    assert locate("org/m").name == MAIN and known() == ("tiny", "org/m")


def test_an_adapter_by_id_and_revision(cache: Path) -> None:
    own = refsample.load("tiny").folder / "adapters" / "pirate"
    files = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    store(cache, "org/pirate", OLD, files, "v2")
    store(cache, "org/pirate", MAIN, {"README.md": b"moved"}, "main")
    model = refsample.load("org/m", adapter="org/pirate@v2")
    assert model.name == "org/pirate@v2"
    assert model.fingerprint == refsample.load("tiny", adapter="pirate").fingerprint


def test_a_beginning_of_several_commits(cache: Path) -> None:
    twin = OLD[:6] + "0" * 34
    store(cache, "org/m", twin, tiny_files())
    with pytest.raises(UnknownModelError, match=f"2 commits .* begin so; known here: org/m@{min(twin, OLD)}, org/m@"):
        locate(f"org/m@{OLD[:5]}")
    assert locate(f"org/m@{OLD}").name == OLD and locate("org/m@v1.0").name == OLD


def test_revisions_that_are_not_here(cache: Path) -> None:
    for revision in ("v2", "0" * 40, OLD[:3]):
        with pytest.raises(UnknownModelError, match="that revision is not .*org/m, org/m@.*OFFLINE is set; known"):
            locate(f"org/m@{revision}")
    store(cache, "org/two", MAIN, {"config.json": b"{}"})
    store(cache, "org/two", OLD, {"config.json": b"{}"})
    with pytest.raises(UnknownModelError, match=rf"which has .*org/two@{min(MAIN, OLD)[:8]}"):
        locate("org/two")
    for name in ("org/m@", "org/m@a..b", "org/m@/x", "org/m@x y", "org/m@v1.0@v2"):
        with pytest.raises(UnknownModelError, match="neither a folder nor a hub id"):
            locate(name)


def test_a_revision_of_what_has_none(cache: Path, tmp_path: Path) -> None:
    for name in ("tiny", str(tmp_path)):
        with pytest.raises(ParameterError, match="revision='main': only an id of the hub has revisions"):
            refsample.load(name, revision="main")
    for name, revision in (("org/m@v1.0", "main"), ("org/m", "a b"), ("org/m", "")):
        with pytest.raises(ParameterError, match="must be a branch, a tag or a commit"):
            refsample.load(name, revision=revision)


def test_shards_behind_links(cache: Path) -> None:
    files = {name: data for name, data in tiny_files().items() if name != "model.safetensors"} | split_shards()
    store(cache, "org/shards", MAIN, files, "main")
    ours, tiny = refsample.load("org/shards"), refsample.load("tiny")
    assert ours.logits([1, 2, 3]).tobytes() == tiny.logits([1, 2, 3]).tobytes()


@pytest.mark.parametrize("lost", ["model-00002-of-00002.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("how", ["never begun", "broken off", "blob gone"])
def test_a_part_of_a_download(cache: Path, lost: str, how: str) -> None:
    """A file that is not there at all, one whose blob is still .incomplete, one whose blob was cleaned away."""
    files = {name: data for name, data in tiny_files().items() if name != "model.safetensors"} | split_shards()
    snapshot = store(cache, "org/part", MAIN, files, "main")
    blob = snapshot / os.readlink(snapshot / lost)
    if how == "never begun":
        (snapshot / lost).unlink()
        if lost == "tokenizer.json":  # nothing tells that it should be there, but the model's own error
            with pytest.raises(MissingFileError, match="no tokenizer.json"):
                refsample.load("org/part")
            return
    elif how == "broken off":
        blob.rename(blob.with_suffix(".incomplete"))
    else:
        blob.unlink()
    cause = r"a download was broken off \(1 .incomplete\)" if how == "broken off" else ".*"
    named = "no config.json with" if (lost, how) == ("config.json", "never begun") else f"{lost} is missing in"
    with pytest.raises(UnknownModelError, match=f"no such folder, {named} .*{cause}, and HF_HUB_OFFLINE is set"):
        refsample.load("org/part")
    assert known() == ("tiny", "org/m")


def test_what_does_not_stop_a_model(cache: Path) -> None:
    """A broken page about it, another revision that is still on its way, an index that says nothing."""
    snapshot = store(cache, "org/m2", MAIN, tiny_files(README__md=b"x", pytorch_model__bin=b"y"), "main")
    for name in ("README.md", "pytorch_model.bin"):
        blob = snapshot / os.readlink(snapshot / name)
        blob.rename(blob.with_suffix(".incomplete"))
    assert locate("org/m2") == snapshot and hub.lacking(snapshot) is None
    files = {"config.json": b"{}", "a.safetensors": b"", "model.safetensors.index.json": b"["}
    odd = store(cache, "org/m3", MAIN, files)
    assert hub.whole(odd)


def test_every_snapshot_is_listed(cache: Path) -> None:
    (cache / "models--org--broken--name--x").mkdir()
    listed = [(one.call, one.references, one.default) for one in hub.snapshots()]
    others = sorted([(f"org/m@{OLD[:8]}", ("dev/x", "v1.0"), False), (f"org/m@{REQUEST[:8]}", ("refs/pr/1",), False)])
    assert listed == [("org/m", ("main",), True), *others]
    assert all(locate(one.call) == one.path for one in hub.snapshots())


def test_the_librarys_own_view(cache: Path) -> None:
    """huggingface_hub itself, offline, reads this cache in the same way."""
    library = pytest.importorskip("huggingface_hub")
    scan = library.scan_cache_dir(cache)
    (repository,) = scan.repos
    theirs = {(one.commit_hash, frozenset(one.refs)) for one in repository.revisions}
    assert theirs == {(one.commit, frozenset(one.references)) for one in hub.snapshots()} and not scan.warnings
    for revision in ("main", "v1.0", "dev/x", "refs/pr/1", OLD):
        path = library.snapshot_download("org/m", revision=revision, cache_dir=cache, local_files_only=True)
        assert Path(path) == hub.cached(f"org/m@{revision}")
    assert json.loads((hub.cached("org/m@pr/1") or cache).joinpath("generation_config.json").read_text()) == {
        "eos_token_id": 7
    }
