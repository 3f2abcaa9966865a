"""The one-go check and the benchmark's sums: what they do without running any lane or server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.house.sources import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / ".ci" / "run").exists(), reason="an sdist without the repository's tools")


def ran(folder: Path, python: str, *lanes: str, tests: str = "true") -> tuple[int, str, str]:
    """Exit code, what it said and which commands it used, with a stand-in Python that makes the environment."""
    tools = folder / "tools"
    tools.mkdir()
    log = folder / "log"
    log.touch()
    made = 'mkdir -p "$3/bin" && : > "$3/bin/activate"'
    stand_ins = {"python3.11": python or made, "pytest": tests, **dict.fromkeys(("pip", "python", "npm"), "true")}
    for name, code in stand_ins.items():
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{code}\n')
        (tools / name).chmod(0o755)
    (folder / ".ci").mkdir()
    shutil.copytree(ROOT / "tests" / "clients" / "node", folder / "tests" / "clients" / "node")
    script = shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", script, *lanes], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, log.read_text()


def test_without_an_environment_nothing_is_installed(tmp_path: Path) -> None:
    code, said, used = ran(tmp_path, "exit 1", "parity")
    assert code == 1 and "no lane was run" in said
    assert [line.split()[0] for line in used.splitlines()] == ["python3.11"]


def test_parity_alone_installs_what_it_needs(tmp_path: Path) -> None:
    code, _, used = ran(tmp_path, "", "parity")
    assert code == 0 and "pip install -q -e .[test]" in used
    assert used.rstrip().endswith("pytest -q -n 2 --dist worksteal tests/parity")


def test_clients_are_set_in_environments_of_their_own(tmp_path: Path) -> None:
    code, _, used = ran(tmp_path, "", "clients")
    assert code == 0
    made = [line.split("-m venv ")[1] for line in used.splitlines() if "-m venv" in line]
    assert [Path(path).name for path in made] == [".ci-venv", ".ci-venv-clients", ".ci-venv-litellm"]
    assert "npm ci --prefix .ci-node" in used and "python -m tests.clients.schema" in used
    assert used.rstrip().endswith("pytest -q tests/clients/test_litellm.py")


@pytest.mark.parametrize(("written", "expected"), [("all is well", 0), ("Bearer a-key-of-the-tests", 1)])
def test_a_key_that_was_written_fails_the_tests(tmp_path: Path, written: str, expected: int) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text('KEY = "a-key-of-the-tests"\n')
    code, said, _ = ran(tmp_path, "", "tests", tests=f"echo '{written}'")
    assert code == expected and ("was written" in said) == bool(expected)


def test_failed_tests_fail_the_lane(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text('KEY = "a-key-of-the-tests"\n')
    assert ran(tmp_path, "", "tests", tests="exit 1")[0] == 1


def test_an_unknown_lane_stops_before_anything(tmp_path: Path) -> None:
    code, said, used = ran(tmp_path, "", "tests", "speed")
    assert (code, used) == (2, "") and "no lane speed" in said


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verifier_bench", ROOT / "bench" / "verifier.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(**changes: Any) -> dict[str, Any]:
    numbers = {"requests": 10, "tokens": 20, "ln_e": 1.0, "seconds": 1.0, "decided_after": None}
    fault = {"fault": "top_k_ignored", "named": "top_k_ignored", "verdict": "inconsistent"}
    return {"seed": 0, "profile": "standard", **fault, **numbers, **changes}


def test_a_fault_is_named_only_where_it_was_found(bench: ModuleType) -> None:
    rows = [row(), row(verdict="consistent"), row(named="min_p_ignored")]
    assert [bench.named(each) for each in rows] == [True, False, False]
    assert "| top_k_ignored | 3 | 2 | 1 |" in bench.table(rows)


def test_a_table_is_about_one_profile(bench: ModuleType) -> None:
    rows = [row(), row(profile="smoke"), row(seed=20), row(fault=bench.HONEST, seed=20)]
    assert bench.of_run(rows, "standard", 20, 100) == [rows[0], rows[3]]
