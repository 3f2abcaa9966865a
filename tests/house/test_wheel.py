"""The built wheel: what is in it, and that it works on its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.house.sources import ROOT

hatchling = pytest.importorskip("hatchling.build", reason="the test extra installs hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return folder / str(hatchling.build_wheel(str(folder)))


def test_top_level(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"refsample", "refsample_kernels"}


def test_data_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    specs = {f"refsample/specs/{p.relative_to(ROOT / 'specs')}" for p in (ROOT / "specs").rglob("*.toml")}
    assert specs and specs <= names
    tiny = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    pirate = {f"adapters/pirate/{name}" for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")}
    assert {f"refsample/tiny/{name}" for name in tiny | pirate} <= names
    assert "refsample/py.typed" in names
    assert not [name for name in names if name.endswith((".nbi", ".nbc", ".pyc"))]


def test_the_way_through_an_sdist_is_the_same(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an index would hold: sdist first, the wheel from it."""
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / str(hatchling.build_sdist(str(tmp_path)))) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    monkeypatch.chdir(source)
    again = tmp_path / str(hatchling.build_wheel(str(tmp_path)))
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_works_unpacked(wheel: Path, tmp_path: Path) -> None:
    """Away from the checkout it still finds its specs, a kernel and the embedded model."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import json, refsample, refsample_kernels.jit\n"
        "from refsample.spec import load, provider\n"
        "model = refsample.load('tiny')\n"
        "print(json.dumps([refsample.__file__, refsample_kernels.jit.__file__, str(load.folder()),"
        " list(load.engines()), list(provider.providers()), model.config.vocab_size > 0]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    package, kernel, folder, engines, providers, loaded = json.loads(done.stdout)
    assert all(place.startswith(str(site)) for place in (package, kernel, folder))
    assert set(engines) == {p.stem for p in (ROOT / "specs" / "engines").glob("*.toml")}
    assert set(providers) == {p.stem for p in (ROOT / "specs" / "providers").glob("*.toml")}
    assert loaded
