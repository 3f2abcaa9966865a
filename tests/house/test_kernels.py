"""Every kernel stands beside its definition, and every kernel is tested."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from tests.house.sources import ROOT

FOLDER = ROOT / "kernels" / "refsample_kernels"


def decorated(path: Path) -> list[str]:
    """Names of the functions of a file that carry `@kernel(...)`."""
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any("kernel" in {n.id for n in ast.walk(d) if isinstance(n, ast.Name)} for d in node.decorator_list)
    ]


WRITTEN = {name: path for path in sorted(FOLDER.glob("*.py")) for name in decorated(path)}


def test_the_table_is_complete() -> None:
    for path in FOLDER.glob("*.py"):
        import_module(f"refsample_kernels.{path.stem}" if path.stem != "__init__" else "refsample_kernels")
    from refsample_kernels.jit import KERNELS

    assert set(KERNELS) == set(WRITTEN) and WRITTEN


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_definition_stands_beside_its_kernel(name: str) -> None:
    """Same file, same parameters (but for what threads share), and words that a student can read."""
    import_module(f"refsample_kernels.{WRITTEN[name].stem}")
    from refsample_kernels.jit import KERNELS

    kernel, definition = KERNELS[name]
    assert inspect.getsourcefile(definition) == str(WRITTEN[name])
    assert definition.__doc__
    given, taken = (list(inspect.signature(one).parameters) for one in (definition, kernel.function))
    assert taken[: len(given)] == given
    assert taken[len(given) :] in ([], ["team"], ["work", "team"])


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_every_kernel_is_tested(name: str) -> None:
    """Some test calls both the kernel and its definition, and looks at what they gave."""
    wanted = {name, KERNEL_DEFINITION.format(name)}
    tests = [test for path in (ROOT / "tests" / "kernels").glob("test_*.py") for test in functions(path)]
    assert any(wanted <= called(test) and asserts(test) for test in tests), f"no test in tests/kernels runs {name}"


KERNEL_DEFINITION = "define_{}"


def functions(path: Path) -> list[ast.FunctionDef]:
    """The tests of a file."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def called(test: ast.FunctionDef) -> set[str]:
    """Names of the functions that a test calls, `np.testing.assert_...` by its last part."""
    calls = [node.func for node in ast.walk(test) if isinstance(node, ast.Call)]
    return {f.id if isinstance(f, ast.Name) else f.attr for f in calls if isinstance(f, ast.Name | ast.Attribute)}


def asserts(test: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or any(
        name.startswith("assert_") for name in called(test)
    )
