"""Where models are looked for: embedded, folder, local hub cache; never the network here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from refsample.errors import UnknownModelError
from refsample.generation import hub


def snapshot(cache: Path, name: str, commit: str, main: bool = True) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    if main:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit + "\n")
    return folder


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}, "/a/b"),
        ({"HUGGINGFACE_HUB_CACHE": "/a/b"}, "/a/b"),
        ({"HF_HOME": "/c"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HF_HOME": ""}, str(Path("~/.cache/huggingface/hub").expanduser())),
    ],
)
def test_cache_folder(environ: dict[str, str], expected: str) -> None:
    assert hub.cache_folder(environ) == Path(expected)


def test_offline_is_what_the_user_says() -> None:
    assert hub.offline({"HF_HUB_OFFLINE": "1"}) and hub.offline({"TRANSFORMERS_OFFLINE": "true"})
    assert not hub.offline({"HF_HUB_OFFLINE": "0"}) and not hub.offline({})


def test_cached_snapshots(tmp_path: Path) -> None:
    main = snapshot(tmp_path, "org/some-model", "c0ffee")
    snapshot(tmp_path, "org/some-model", "older", main=False)
    only = snapshot(tmp_path, "gpt2", "abc", main=False)
    snapshot(tmp_path, "org/two", "a", main=False)
    snapshot(tmp_path, "org/two", "b", main=False)
    (tmp_path / "models--org--gone" / "refs").mkdir(parents=True)
    (tmp_path / "models--org--gone" / "refs" / "main").write_text("missing")
    assert hub.cached("org/some-model", tmp_path) == main
    assert hub.cached("gpt2", tmp_path) == only
    assert [hub.cached(name, tmp_path) for name in ("org/two", "org/gone", "none", "a/b/c", "../x")] == [None] * 5
    assert hub.all_cached(tmp_path) == (("gpt2", only), ("org/some-model", main))


def test_a_user_without_a_home_has_an_empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert (hub.cache_folder(), hub.cached("gpt2"), hub.all_cached()) == (None, None, ())


def test_ids_have_a_length() -> None:
    assert hub.is_id("a" * 96) and not hub.is_id("a" * 97)


def test_no_download_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnknownModelError, match=r"'org/x' does not exist: .*HF_HUB_OFFLINE is set; known here: tiny$"):
        hub.download("org/x", ("tiny",))
    with pytest.raises(UnknownModelError, match="neither a folder nor a hub id"):
        hub.download("a/b/c")


def library(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[tuple[str, dict[str, Any]]]:
    """Puts a stand-in for huggingface_hub in place; returns the list of what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []
    errors = ModuleType("huggingface_hub.errors")
    for name in ("HfHubHTTPError", "HFValidationError", "LocalEntryNotFoundError"):
        setattr(errors, name, type(name, (Exception,), {}))

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    module = ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr(hub, "find_spec", lambda name: module)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    return asked


def test_download_takes_only_what_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = library(monkeypatch, tmp_path)
    assert hub.download("org/x") == tmp_path
    assert hub.download("org/x@refs/pr/1") == tmp_path
    (_, plain), (name, options) = asked
    assert plain == {**options, "revision": None} and (name, options["revision"]) == ("org/x", "refs/pr/1")
    assert options["allow_patterns"] == ["*.safetensors", "*.json", "*.jinja", "merges.txt"]
    assert "consolidated*" in options["ignore_patterns"]


def test_a_failed_download_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, OSError("no route\nmore"))
    with pytest.raises(UnknownModelError, match="the hub does not give it: no route$"):
        hub.download("org/x")
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(UnknownModelError, match="pip install huggingface_hub"):
        hub.download("org/x")
