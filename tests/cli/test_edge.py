"""The outermost edge: one-line errors, exit codes, pipes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from refsample.cli import app as app_module
from refsample.cli.options import body_from, text_from
from refsample.errors import ParameterError
from tests.cli.conftest import Cli
from tests.house.sources import PACKAGES

COMMANDS = (
    "chat", "complete", "demo", "explain", "faults", "inspect", "judge", "models", "noise", "score", "serve", "specs",
    "vectors", "verify",
)  # fmt: skip

VERIFY = ("verify", "http://127.0.0.1:1", "--model", "m", "--reference", "tiny")


def test_commands_are_those_of_the_contract() -> None:
    assert tuple(sorted(app_module.app.commands)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Cli, command: str) -> None:
    got = cli(command, "--help")
    assert got.code == 0 and got.out.startswith(f"Usage: refsample {command}") and got.err == ""


def test_no_command_is_help(cli: Cli) -> None:
    got = cli()
    assert got.code == 0 and "Commands:" in got.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["complete", "--no-such"], "--no-such"),
        (["complete"], "PROMPT"),
        (["complete", "x", "-o", "temperature"], "KEY=VALUE"),
        (["complete", "x", "-o", "=1"], "KEY=VALUE"),
        (["complete", "x", "-o", "n=1", "-o", "n=2"], "n is given twice"),
        (["complete", "x", "-o", "stream=true"], "--no-stream"),
        (["complete", "x", "-o", "model=tiny"], "--model"),
        (["complete", "x", "-o", "prompt=y"], "prompt"),
        (["complete", "\udcff"], "UTF-8"),
        (["complete", "x", "--threads", "0"], "--threads"),
        (["chat", "hi", "-o", "messages=[]"], "messages"),
        (["chat", "--json"], "MESSAGE"),
        (["score", "x"], "COMPLETION"),
        (["score", "x", "y", "-o", "best_of=2"], "best_of"),
        (["score", "x", "y", "--resume", "state"], "--stream-layers"),
        (["verify", "http://127.0.0.1:1"], "--model"),
        (["verify", "http://127.0.0.1:1", "--model", "m"], "--reference"),
        ([*VERIFY, "--profile", "huge"], "huge"),
        ([*VERIFY, "--api-key-env", "NOT_SET"], "NOT_SET"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--api-key-env", "NOT_SET"], "NOT_SET"),
        (["judge"], "DIR"),
        (["inspect"], "MODEL"),
        (["inspect", "no/such"], "no/such"),
        (["specs", "nobody"], "nobody"),
    ],
)
def test_usage_is_one_line_and_code_two(cli: Cli, arguments: list[str], named: str) -> None:
    got = cli(*arguments)
    assert got.code == 2 and got.out == ""
    assert got.err.startswith("error: ") and got.err.count("\n") == 1 and named in got.err


def test_a_fault_of_ours_is_code_seventy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(app_module.app.commands["faults"], "callback", lambda as_json: broken())
    monkeypatch.delenv("REFSAMPLE_TRACEBACK", raising=False)
    got = cli("faults")
    assert got.code == 70 and got.err.count("\n") == 1
    assert "ZeroDivisionError: one two" in got.err and "REFSAMPLE_TRACEBACK" in got.err
    monkeypatch.setenv("REFSAMPLE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli("faults")


def test_stopped_is_code_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(as_json: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app_module.app.commands["faults"], "callback", interrupted)
    got = cli("faults")
    assert got.code == 130 and got.err == "error: stopped\n"


def test_settings_are_json_else_text() -> None:
    pairs = ("n=2", "temperature=0.5", "echo=true", "stop=[\"a\", \"b\"]", "user=me and you", "suffix=", "seed=null",
             "stop2=a=b", 'user2="5"')  # fmt: skip
    assert body_from(pairs) == {
        "n": 2, "temperature": 0.5, "echo": True, "stop": ["a", "b"], "user": "me and you", "suffix": "", "seed": None,
        "stop2": "a=b", "user2": "5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("piped", "text"), [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("", ""), (" a ", " a ")]
)
def test_piped_text_loses_one_final_line_break(monkeypatch: pytest.MonkeyPatch, piped: str, text: str) -> None:
    import io

    for argument in (None, "-"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
        assert text_from(argument, "PROMPT") == text


def test_piped_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    with pytest.raises(ParameterError, match="UTF-8"):
        text_from("-", "PROMPT")


def program(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """The command as a process of its own, seeing the checkout."""
    path = os.pathsep.join(str(package.parent) for package in PACKAGES)
    return subprocess.Popen(
        [sys.executable, "-m", "refsample", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[arg-type]
    )


def test_a_closed_pipe_is_quiet() -> None:
    process = program("specs", "openai")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141 and error == b""


def test_python_m_is_the_same_command() -> None:
    out, err = program("--version").communicate(timeout=60)
    assert out.startswith(b"refsample, version ") and err == b""
