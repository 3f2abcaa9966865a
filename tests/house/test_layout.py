"""The shape of the house: what is a package, what an `__init__` may hold, what may not be committed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import PACKAGES, ROOT, modules, tracked

PUBLIC = ("OwnStep", "SamplingParams", "chat", "complete", "distribution", "load", "score", "score_many", "stream",
          "verify")  # fmt: skip
# The entry point of the installed command is `refsample.cli:main`, so this one `__init__` defines it.
INITS_WITH_CODE = {"refsample/__init__.py", "refsample/cli/__init__.py", "refsample/tiny/__init__.py"}
HEAVY = (
    "numba", "llvmlite", "numpy", "safetensors", "torch", "tokenizers", "jinja2", "starlette", "uvicorn", "httpx2",
    "click",
)  # fmt: skip
TEXT_SUFFIXES = {".py", ".toml", ".md", ".json", ".jinja", ".txt", ".cfg", ".yml", ".yaml", ""}
# Paths of somebody's machine; written in pieces so that this file does not find itself.
MACHINE_PATHS = re.compile("|".join("/" + place for place in ("work/", "root/", r"home/\w", r"Users/\w", "tmp/team")))


def test_kernels_is_no_package() -> None:
    """Hugging Face's distribution owns the import name `kernels`; with an `__init__` here, ours would shadow it."""
    assert (ROOT / "kernels" / "refsample_kernels" / "__init__.py").is_file()
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_every_package_folder_has_an_init() -> None:
    folders = {path.parent for path in modules()}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.name == "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_init_holds_a_docstring_only(path: Path) -> None:
    if str(path.relative_to(ROOT)) in INITS_WITH_CODE:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        star = [node for node in body if isinstance(node, ast.ImportFrom) and node.level == 0]
        foreign = [node.module for node in star if (node.module or "").split(".")[0] == "refsample"]
        assert foreign == [], "a sub-package re-exports nothing"
        return
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert len(body) == 1 and ast.get_docstring(ast.Module(body, [])) is not None


def test_every_module_says_what_it_is() -> None:
    silent = [p for p in modules() if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert [str(p.relative_to(ROOT)) for p in silent] == []


def test_no_machine_paths() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in TEXT_SUFFIXES and path.stat().st_size < 2_000_000
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert found == []


def test_no_leftovers() -> None:
    """No marker of unfinished work in what ships."""
    marker = re.compile(r"\b(" + "TO" + "DO|FIX" + "ME|XX" + r"X)\b")
    found = [str(p.relative_to(ROOT)) for p in modules() if marker.search(p.read_text(encoding="utf-8"))]
    assert found == []


EDGES = (
    "refsample/cli/__init__.py",  # the command's outermost edge
    "refsample/cli/vectors.py",  # around somebody else's sampler: what it raises is its answer
    "kernels/refsample_kernels/hands.py",  # between threads of one call; raised again for the caller
    "refsample/generation/batch.py",  # between one request and those beside it; raised again for whoever asked
)


def test_no_blind_except() -> None:
    """`except Exception` and bare `except` hide faults; only at an edge may they stand."""
    blind = []
    for path in modules():
        if path in {ROOT / edge for edge in EDGES}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                names = [] if node.type is None else [n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)]
                if node.type is None or {"Exception", "BaseException"} & set(names):
                    blind.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert blind == []


def in_fresh_python(code: str) -> str:
    """Run code in a new interpreter that sees the checkout; its stdout."""
    paths = [str(package.parent) for package in PACKAGES]
    prelude = f"import sys; sys.path[:0] = {paths!r}\n"
    done = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    out = in_fresh_python(
        f"import json, refsample\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    assert json.loads(out) == []


def test_public_names_exist() -> None:
    out = in_fresh_python(
        "import json, refsample\n"
        f"print(json.dumps([[n, callable(getattr(refsample, n))] for n in {PUBLIC!r}]))\n"
        "print(json.dumps(sorted(refsample.__all__)))\n"
        "print(json.dumps(refsample.__version__))"
    )
    names, listed, version = (json.loads(line) for line in out.splitlines())
    assert names == [[name, True] for name in PUBLIC]
    assert set(PUBLIC) <= set(listed)
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version)


def test_no_submodule_is_shadowed() -> None:
    """A public function must not carry the name of a room: `refsample.chat` would then be one or the other."""
    rooms = {path.stem for path in (ROOT / "refsample").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms.isdisjoint(PUBLIC)
