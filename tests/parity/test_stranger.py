"""`refsample verify` against a server that is not ours: llama.cpp's own, with our embedded model in GGUF.

In float32 it has to end consistent, with what the engine file documents listed as known; with four-bit weights it has
to end inconsistent with a precision fault named first. `test_llamacpp.py` shows that the stranger's law is the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

# The helpers import those packages, hence after the skips.
from tests.parity.stranger.gguf_writer import convert
from tests.parity.stranger.llamacpp_server import serve_gguf

pytestmark = pytest.mark.parity

ROOT = Path(__file__).parents[2]
TINY = ROOT / "refsample" / "tiny"
SEED = "0"  # of the probes; at alpha 0.01 one seed in a hundred may accuse an honest endpoint

KNOWN = {
    "contract.completions.logprobs_shape",
    "contract.completions.id_prefix",
    "contract.completions.n_usage",
    "contract.completions.stream_usage_place",
    "contract.completions.echo",
    "contract.completions.best_of",
    "contract.completions.max_tokens_zero",
    "contract.completions.error_param",
    "contract.completions.validation.temperature",
    "contract.chat.validation.top_logprobs",
    "contract.chat.shape.choices.logprobs",
    "contract.unknown_model",
}


def refsample(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON object of a command."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    command = [sys.executable, "-m", "refsample", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


def verify(url: str, *more: str) -> tuple[int, dict[str, Any]]:
    return refsample("verify", url, "--model", "tiny", "--reference", "tiny", "--seed", SEED, *more)


def ids(report: dict[str, Any], verdict: str) -> set[str]:
    return {check["id"] for check in report["checks"] if check["verdict"] == verdict}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stranger")


@pytest.fixture(scope="module")
def exact(room: Path) -> Iterator[str]:
    with serve_gguf(convert(TINY, room / "f32.gguf")) as url:
        yield url


def test_llamacpp_is_consistent_and_its_differences_are_known(exact: str, room: Path) -> None:
    code, report = verify(exact, "--engine", "llamacpp", "--out", str(room / "record"))
    assert not ids(report, "inconsistent"), report["checks"]
    assert [report[part] for part in ("verdict", "model", "law", "contract")] == ["consistent"] * 4
    assert code == 0
    known = ids(report, "known")
    assert known >= KNOWN
    again, judged = refsample("judge", str(room / "record"))
    assert (again, judged["verdict"]) == (code, report["verdict"])
    assert ids(judged, "known") == known


def test_the_same_server_is_inconsistent_when_its_differences_are_not_documented(exact: str) -> None:
    code, report = verify(exact, "--engine", "reference", "--only", "contract.*")
    assert (code, report["contract"]) == (1, "inconsistent")
    assert not ids(report, "known")


def test_a_server_that_claims_another_engine_is_told_where_it_differs(exact: str) -> None:
    """llama.cpp heats after its filters and counts the prompt: two real faults against the rules of `reference`."""
    code, report = verify(exact, "--engine", "reference", "--only", "law.order", "--only", "law.penalty_scope")
    assert (code, report["law"]) == (1, "inconsistent")
    shown = {"law.order", "law.penalty_scope"}
    assert ids(report, "inconsistent") == shown
    assert {fault["name"] for fault in report["faults"][:2]} == {"temperature_after_top_p", "penalty_scope"}


def test_four_bit_weights_are_found_and_named(room: Path) -> None:
    with serve_gguf(convert(TINY, room / "q4_0.gguf", "Q4_0")) as url:
        code, report = verify(url, "--engine", "llamacpp")
    assert (code, report["verdict"], report["model"]) == (1, "inconsistent", "inconsistent")
    assert report["faults"][0]["name"] == "weights_int4"
    assert report["faults"][0]["posterior"] > 0.99
    assert not {check for check in ids(report, "inconsistent") if check.startswith("contract")}
