"""serve, verify, judge and demo: the verifier's commands against servers of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import refsample
from refsample.api.server import LocalServer, create_app
from refsample.cli import demo as demo_module
from refsample.cli.serve import faulty, key_from, open_models
from refsample.cli.verdict import check_lines, print_report
from refsample.conformance.report import Check, Report
from refsample.errors import ParameterError
from tests.cli.conftest import Cli
from tests.house.sources import PACKAGES

ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(str(package.parent) for package in PACKAGES)}
FAST = ("--profile", "smoke", "--seed", "5")


@pytest.fixture(scope="module")
def model() -> Any:
    return refsample.load("tiny")


@pytest.fixture(scope="module")
def honest(model: Any) -> Iterator[str]:
    with LocalServer(create_app({"tiny": model})) as url:
        yield url


@pytest.fixture(scope="module")
def without_top_k(model: Any) -> Iterator[str]:
    with LocalServer(create_app({"tiny": model}, behaviour=faulty(("top_k_ignored",), "openai"))) as url:
        yield url


def test_honest_is_zero(cli: Cli, honest: str) -> None:
    arguments = ("--model", "tiny", "--reference", "tiny", *FAST, "--only", "law.top_k", "--json")
    got = cli("verify", honest + "/v1", *arguments)
    assert got.err == f"verifying {honest}/v1\n"
    assert got.json["law"] == "consistent" and [check["id"] for check in got.json["checks"]] == ["law.top_k"]
    assert {"verdict", "model", "law", "contract", "checks", "faults", "excluded", "requests", "tokens", "spec",
            "engine", "reference"} <= set(got.json)  # fmt: skip
    assert got.code == {"consistent": 0, "inconclusive": 3}[got.json["verdict"]]


def test_faulty_is_one_and_the_record_says_so_again(cli: Cli, without_top_k: str, tmp_path: Path) -> None:
    record = tmp_path / "record"
    arguments = ("--model", "tiny", "--reference", "tiny", *FAST, "--only", "law.*")
    got = cli("verify", without_top_k, *arguments, "--out", str(record))
    assert got.code == 1
    lines = got.out.splitlines()
    assert any(line.strip().startswith("DIFFERS  law.top_k ") for line in lines)
    assert any(line.startswith("likeliest: top_k_ignored (") for line in lines)
    used = cli("verify", without_top_k, *arguments, "--out", str(record))
    assert used.code == 2 and "holds a record already" in used.err
    command = next(line for line in lines if line.startswith("refsample verify ") and line.endswith("--only law.top_k"))
    again = cli("judge", str(record))
    assert (again.code, again.out) == (1, got.out)
    assert cli(*command.split()[1:]).code == 1  # the printed command reproduces it


def test_the_command_that_repeats_a_check_names_the_key(cli: Cli, tmp_path: Path, monkeypatch: Any, model: Any) -> None:
    monkeypatch.setenv("OUR_KEY", "a-key-of-ours")
    app = create_app({"tiny": model}, behaviour=faulty(("top_k_ignored",), "openai"), api_key="a-key-of-ours")
    with LocalServer(app) as url:
        arguments = ("--model", "tiny", "--reference", "tiny", *FAST, "--only", "law.top_k", "--json")
        got = cli("verify", url, *arguments, "--api-key-env", "OUR_KEY", "--out", str(tmp_path / "record"))
        command = got.json["checks"][0]["reproduce"]
        assert "--api-key-env OUR_KEY" in command and cli(*command.split()[1:]).code == 1
        only, key = ["law.top_k"], "a-key-of-ours"
        report = refsample.verify(url, "tiny", profile="smoke", model="tiny", api_key=key, only=only)
    assert cli("judge", str(tmp_path / "record"), "--json").json == got.json
    assert "--api-key-env KEY" in str(report.checks[0].reproduce)


def test_no_reference(cli: Cli, without_top_k: str) -> None:
    arguments = ("--model", "tiny", "--reference", "none", *FAST, "--only", "contract.seed", "--json")
    got = cli("verify", without_top_k, *arguments)
    assert got.json["reference"] is None and got.json["contract"] == "consistent"


def test_dry_run_asks_nobody(cli: Cli) -> None:
    nowhere = "http://127.0.0.1:9"
    arguments = ("verify", nowhere, "--model", "m", "--reference", "tiny", *FAST, "--only", "law.top_k", "--dry-run")
    got = cli(*arguments, "--json")
    assert got.code == 0 and got.json["url"] == nowhere and got.json["dry_run"] is True
    assert [check["id"] for check in got.json["checks"]] == ["law.top_k"]
    assert cli(*arguments).out.splitlines()[-1] == (
        f"{nowhere} would be asked {got.json['requests']} times, for {got.json['tokens']} output tokens"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["verify", "http://127.0.0.1:9", "--model", "m", "--reference", "tiny"], "127.0.0.1:9"),
        (["verify", "ftp://x", "--model", "m", "--reference", "tiny"], "ftp://x"),
        (["verify", "http://127.0.0.1:9", "--model", "m", "--reference", "nix"], "nix"),
        (["verify", "http://127.0.0.1:9", "--model", "m", "--reference", "tiny", "--engine", "nix"], "nix"),
        (["judge", "no-such-record"], "no-such-record"),
        (["serve", "--fault", "nix"], "nix"),
        (["serve", "--model", "./nix"], "nix"),
        (["serve", "--spec", "nix"], "nix"),
        (["serve", "--model", "tiny", "--model", "tiny"], "tiny"),
        (["demo", "--fault", "nix"], "nix"),
    ],
)
def test_a_refusal_names_what_is_wrong(cli: Cli, arguments: list[str], named: str) -> None:
    got = cli(*arguments)
    errors = [line for line in got.err.splitlines() if line.startswith("error: ")]
    assert got.code == 2 and got.out == "" and len(errors) == 1 and named in errors[0]


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    assert key_from("A_KEY") == "secret" and key_from(None) is None
    monkeypatch.setenv("A_KEY", "")
    with pytest.raises(ParameterError, match="A_KEY"):
        key_from("A_KEY")


def test_models_are_served_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = refsample.load("tiny").folder
    assert list(open_models(("tiny", f"mine={folder}"))) == ["tiny", "mine"]
    monkeypatch.chdir(folder.parent)
    assert list(open_models((f"./{folder.name}",))) == [folder.name]


def test_serve_as_a_process() -> None:
    """A key, a fault, a free port; Ctrl-C ends it well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refsample", "serve", "--port", "0", "--fault", "stop_text_kept",
         "--api-key-env", "A_KEY"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**ENVIRON, "A_KEY": "secret"}, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "stop_text_kept" in line and "secret" not in line
        url = re.search(r"http://\S+/v1", line)
        assert url is not None, line
        body = {"model": "tiny", "prompt": "Once upon a time", "stop": [" "], "max_tokens": 4, "temperature": 0}
        request = urllib.request.Request(
            url.group() + "/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": "Bearer secret"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["text"].endswith(" ")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in rest
    finally:
        process.kill()
        process.communicate()


def test_demo_shows_the_main_job() -> None:
    """As a user runs it, and on numba's plainest threading layer, which aborts where two threads enter at once."""
    done = subprocess.run(
        [sys.executable, "-m", "refsample", "demo"], capture_output=True, text=True, timeout=300,
        env={**ENVIRON, "NUMBA_THREADING_LAYER": "workqueue"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    lines = done.stdout.splitlines()
    outcome = json.loads(lines[-1])
    assert outcome["ok"] is True
    assert outcome["honest"]["verdict"] == "consistent" and outcome["honest"]["tokens"] > 0
    assert outcome["faulty"]["verdict"] == "inconsistent"
    assert outcome["faulty"]["fault_named"] == outcome["faulty"]["fault_served"] == demo_module.DEFAULT_FAULT
    assert lines[1].startswith("Once upon a time ")
    assert "verifying an honest endpoint" in done.stderr


def report(verdict: str, *checks: Check, faults: tuple[tuple[str, float], ...] = ()) -> Report:
    """A report that nothing was asked for."""
    return Report(
        verdict, "consistent", verdict, "consistent", checks, (), faults, (), (), 0.01, 1.0, 1, 2, "http://h",
        "m\x1b[2J", "openai", "reference", "smoke", 0, "tiny", "abc", "0",
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("honest", "wrong", "named", "code"),
    [
        ("consistent", "inconsistent", "top_p_ignored", 0),
        ("consistent", "inconsistent", "top_k_ignored", 1),
        ("consistent", "consistent", None, 1),
        ("inconsistent", "inconsistent", "top_p_ignored", 1),
        ("inconclusive", "inconsistent", "top_p_ignored", 1),
    ],
)
def test_demo_is_honest_about_failure(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, honest: str, wrong: str, named: str | None, code: int
) -> None:
    reports = iter([report(honest), report(wrong, faults=((named, 1.0),) if named else ())])
    monkeypatch.setattr(demo_module, "check", lambda *_: next(reports))
    got = cli("demo", "--fault", "top_p_ignored")
    outcome = json.loads(got.out.splitlines()[-1])
    assert got.code == code and outcome["ok"] is (code == 0) and outcome["faulty"]["fault_named"] == named


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    checks = (
        Check("contract.a", "contract", "", "consistent", "fine", 1, 0),
        Check("contract.a", "contract", "", "consistent", "fine too", 2, 3),
        Check("contract.b", "contract", "", "known", "as its page says", known="its page"),
        Check("law.c", "law", "", "inconsistent", "bad\x1b[2J\nline", 4, 5, e_value=1e9, reproduce="try x"),
    )
    print_report(report("inconsistent", *checks, faults=(("f", 0.97), ("g", 0.001))))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert "  ok     contract.a  3 req, 3 tok    fine (and 1 more)" in lines
    assert "  known  contract.b  0 req           as its page says [its page]" in lines
    assert lines[-4:] == ["likeliest: f (97%)", "", "# law.c", "try x"]
    assert "\x1b" in check_lines(list(checks), on=True)[0]
