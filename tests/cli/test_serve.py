"""`refsample serve` as a process: several providers, an adapter, keys that nobody sees, Ctrl-C inside a stream."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from refsample.cli.serve import by_prefix, open_models
from refsample.errors import ParameterError
from tests.cli.conftest import Cli
from tests.house.sources import PACKAGES

KEY = "sk-0123456789"
ENVIRON = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(package.parent) for package in PACKAGES),
    "A_KEY": KEY,
    "NO_COLOR": "1",
}


@contextmanager
def serving(*arguments: str, lines: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process and the lines that it says at its start."""
    command = [sys.executable, "-m", "refsample", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRON, text=True)
    try:
        assert process.stderr is not None
        yield process, [process.stderr.readline() for _ in range(lines)]
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """What else it says when Ctrl-C ends it."""
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in rest
    return rest


def test_several_specs_a_model_of_two_names_and_an_adapter() -> None:
    arguments = ("--spec", "openai", "--spec", "novita", "--model", "tiny", "--model", "again=tiny", "--lora", "pirate",
                 "--api-key-env", "A_KEY", "--log-level", "info", "--max-live", "8", "--max-waiting", "2",
                 "--prefix-cache", "8")  # fmt: skip
    with serving(*arguments, lines=2) as (process, banner):
        first = re.fullmatch(r"serving tiny, again, pirate as openai on (http://\S+)/openai/v1\n", banner[0])
        assert first is not None, banner
        url = first.group(1)
        assert banner[1] == f"serving tiny, again, pirate as novita on {url}/novita/openai/v1 (Ctrl-C stops)\n"
        with httpx2.Client(base_url=url, timeout=60) as client:
            for path in ("/openai/v1/completions", "/novita/openai/v1/completions"):
                body = {"model": "pirate", "prompt": "Once upon a time", "max_tokens": 2}
                assert client.post(path, json=body).status_code == 401
                right = {"authorization": f"Bearer {KEY}"}
                assert client.post(path, json=body, headers=right).json()["model"] == "pirate"
        said = ended(process)
        assert "POST /novita/openai/v1/completions -> 200" in said and "POST /openai/v1/completions -> 401" in said
        assert KEY not in said


def test_control_c_in_the_middle_of_a_stream() -> None:
    with serving(lines=1) as (process, banner):
        url = re.search(r"http://\S+/v1", banner[0])
        assert url is not None, banner
        body = {"model": "tiny", "prompt": "Once", "max_tokens": 1000, "n": 64, "ignore_eos": True, "stream": True}
        with httpx2.stream("POST", f"{url.group()}/completions", json=body, timeout=30) as response:
            lines = (line for line in response.iter_lines() if line)
            assert next(lines).startswith("data: ")
            process.send_signal(signal.SIGINT)
            last = list(lines)[-1]
        assert "the server is stopping" in json.loads(last.removeprefix("data: "))["error"]["message"]
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in rest


def test_prefixes() -> None:
    assert by_prefix(("nebius",)) == {"": "nebius"}
    assert by_prefix(("nebius", "openai")) == {"nebius": "nebius", "openai": "openai"}
    with pytest.raises(ParameterError, match="'openai': is given twice"):
        by_prefix(("openai", "nebius", "openai"))


def test_names_of_models() -> None:
    models = open_models(("b=tiny", "tiny"), ("p=pirate",))
    assert list(models) == ["b", "tiny", "p"] and models["p"].base is models["tiny"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--lora", "tiny=pirate"), "tiny is taken"),
        (("--lora", "./nix"), "./nix"),
        (("--spec", "openai", "--spec", "nix"), "nix"),
        (("--max-live", "0"), "--max-live"),
        (("--prefix-cache", "-1"), "--prefix-cache"),
        (("--log-level", "loud"), "--log-level"),
    ],
)
def test_refusals(cli: Cli, arguments: tuple[str, ...], named: str) -> None:
    got = cli("serve", *arguments)
    assert got.code == 2 and got.out == "" and named in got.err
