"""Where the house's files are and what they import. Knows no rule."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "refsample", ROOT / "kernels" / "refsample_kernels")


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: who (dotted module), whom (dotted), where."""

    importer: str
    target: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} {self.importer} imports {self.target}"


def modules() -> list[Path]:
    """Every Python file that ships."""
    return sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def dotted(path: Path) -> str:
    """`refsample/model/cache.py` -> `refsample.model.cache`; a package's `__init__` is the package."""
    base = ROOT / "kernels" if "refsample_kernels" in path.parts else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, code: str | None = None) -> Iterator[Import]:
    """Every import of a file, also those inside functions, and `import_module("a.b")` of a literal.

    `from a import b` counts as `a.b` where that is a module. `code`: what to read instead of the file's text.
    """
    name = dotted(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8") if code is None else code, filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, path, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                if (source, alias.name) == ("refsample", "__version__"):
                    continue  # a constant of the front door, which any floor may print
                target = f"{source}.{alias.name}" if is_module(f"{source}.{alias.name}") else source
                yield Import(name, target, path, node.lineno)
        elif isinstance(node, ast.Call) and (target := _imported(node)):
            yield Import(name, target, path, node.lineno)


def _imported(call: ast.Call) -> str | None:
    """The module that `import_module("...")` or `__import__("...")` names; None for other calls."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    if function in ("import_module", "__import__") and call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return None


def is_module(name: str) -> bool:
    """Whether a dotted name is a file or folder of the house."""
    base = ROOT / "kernels" if name.startswith("refsample_kernels") else ROOT
    place = base.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def tracked() -> list[Path]:
    """Files under version control; in an unpacked sdist, which has none, every file there is."""
    if (ROOT / ".git").exists():
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        names = os.fsdecode(done.stdout).split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file()]
