"""Functions out of another package's Python files, without importing the package and all that it needs."""

from __future__ import annotations

import ast
from collections.abc import Collection
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["folder", "functions", "version"]


def folder(package: str) -> Path:
    """Where an installed package lies."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed here: see the head of bench/peers/{package}.py")
    return Path(next(iter(spec.submodule_search_locations)))


def functions(path: Path, names: Collection[str], scope: dict[str, Any]) -> None:
    """Define the functions and methods of a file with these names in `scope`, as they stand there, undecorated.

    A method is named Class.method and lies in the scope under its own name.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        found |= {f"{owner.name}.{node.name}": node for node in owner.body if isinstance(node, ast.FunctionDef)}
    for name in names:
        node = found[name]
        node.decorator_list, node.returns = [], None
        for argument in (*node.args.args, *node.args.kwonlyargs):
            argument.annotation = None
        exec(compile(ast.Module([node], []), str(path), "exec"), scope)  # that is the point: their code, as it is
