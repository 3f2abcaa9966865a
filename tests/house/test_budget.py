"""The line budget: a house stays small only if something says no."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from tests.house.sources import ROOT, modules, tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUDGET: dict[str, int] = PROJECT["tool"]["refsample"]["budget"]

# Longer than the limit, and why that is right.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of every function of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_total() -> None:
    counted = [p for p in tracked() if p.suffix == ".py" and "tests" not in p.relative_to(ROOT).parts]
    total = sum(lines(path) for path in counted)
    assert total <= BUDGET["python_lines_outside_tests"], f"{total} lines of Python outside tests"


def test_files() -> None:
    long = {str(p.relative_to(ROOT)): lines(p) for p in modules() if lines(p) > BUDGET["file_lines"]}
    assert {name: n for name, n in long.items() if name not in LONG_FILES} == {}
    assert set(LONG_FILES) <= set(long), "an exception that is no longer needed"


def test_functions() -> None:
    long = {name: n for path in modules() for name, n in functions(path) if n > BUDGET["function_lines"]}
    assert {name: n for name, n in long.items() if name not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) <= set(long), "an exception that is no longer needed"
