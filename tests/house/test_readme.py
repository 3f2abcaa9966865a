"""The README is true: its tree is the tree, its commands and its Python exist."""

from __future__ import annotations

import re
import tomllib

import click
import pytest

from refsample.cli.app import app
from tests.house.sources import ROOT, modules

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def drawn() -> set[str]:
    """Python files in the README's tree, as paths."""
    tree = next(text for _, text in BLOCKS if text.startswith("kernels/"))
    found, room = set(), ""
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            room = name
        else:
            found.add(room + name)
    return found


def test_the_tree_is_the_tree() -> None:
    real = {str(path.relative_to(ROOT)) for path in modules() if path.name != "__init__.py"}
    assert real <= drawn(), f"files that the README's tree lacks: {sorted(real - drawn())}"
    assert drawn() <= real, f"files of the README's tree that are gone: {sorted(drawn() - real)}"


def commands() -> list[list[str]]:
    """Command lines of refsample in the README's blocks, comments cut off."""
    lines = [line.split("#")[0].split("&&")[-1] for kind, text in BLOCKS if kind == "" for line in text.splitlines()]
    return [line.split() for line in lines if line.strip().startswith("refsample ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_options_exist(words: list[str]) -> None:
    command = app.commands[words[1]]
    if isinstance(command, click.Group):
        command = command.commands[words[2]]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_the_two_commands() -> None:
    assert "pip install '.[all]' && refsample demo\npip install -e '.[test]' && pytest\n" in README
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"all", "test"} <= set(extras)
    assert not any("torch" in requirement for requirement in (*extras["all"], *extras["test"]))


def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(text for kind, text in BLOCKS if kind == "python")
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 3
