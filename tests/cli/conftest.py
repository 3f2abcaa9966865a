"""Runs command lines inside this process, with streams of the test's choosing."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from refsample.cli import options, run


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code and both streams of a command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("complete", "x", stdin="...", terminal=True)`: no stdin given means that the person sits at a terminal."""

    monkeypatch.setattr(options, "MOMENT", math.inf)  # kernels may be compiled here or not: no line of it in any stream

    def call(*arguments: str, stdin: str | None = None, terminal: bool = False) -> Outcome:
        kind = Terminal if terminal else io.StringIO
        out, err = kind(), kind()
        monkeypatch.setattr(sys, "stdin", Terminal() if stdin is None else io.StringIO(stdin))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code = run(arguments)
        return Outcome(code, out.getvalue(), err.getvalue())

    return call
