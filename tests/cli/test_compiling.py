"""What a person is told while kernels are compiled."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from refsample.cli import options
from refsample_kernels import jit


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    lines: list[str] = []
    monkeypatch.setattr(options, "note", lines.append)
    yield lines
    jit.tell(None)


def compile_three() -> None:
    for name in ("a", "b", "c"):
        jit.about_to_compile(name)


@pytest.mark.parametrize(("moment", "lines"), [(-1.0, 1), (1e9, 0)], ids=["long", "short"])
def test_one_line_where_it_takes_long(
    moment: float, lines: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "MOMENT", moment)
    options.say_compiling()
    compile_three()
    assert len(said) == lines and all("compiling" in line for line in said)


def test_no_line_beside_json(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "MOMENT", -1.0)
    context = click.Context(click.Command("complete"))
    context.params["as_json"] = True
    with context:
        options.say_compiling()
    compile_three()
    assert said == []
