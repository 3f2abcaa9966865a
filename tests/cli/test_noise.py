"""`refsample noise`: its table, its JSON, its prompts and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refsample.cli.noise import decades
from refsample.model.emulations import ARITHMETICS
from tests.cli.conftest import Cli


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("Once upon a time\nthere was a dog.\n\n\nThe cat sat on the mat.\n", encoding="utf-8")
    return str(path)


def test_a_table_from_the_least_to_the_most(cli: Cli, prompts: str) -> None:
    got = cli("noise", "tiny", "--prompts", prompts, "-e", "int4-g32", "-e", "bf16", "-e", "int4-g32")
    lines = got.out.splitlines()
    assert got.code == 0 and lines[0].startswith("tiny: ") and "2 prompts, against float64" in lines[0]
    assert lines[1].split()[:3] == ["emulation", "mean", "KL"]
    assert [line.split()[0] for line in lines[2:4]] == ["bf16", "int4-g32"]
    assert lines[2].count("=") < lines[3].count("=")
    assert [line.split()[0] for line in lines[5:]] == ["bf16", "int4-g32"] and "bfloat16" in lines[5]
    assert "float64, the truth" in got.err


def test_progress_is_a_bar_on_a_terminal(cli: Cli, prompts: str) -> None:
    got = cli("noise", "--prompts", prompts, "-e", "bf16", terminal=True)
    assert got.code == 0 and "[" in got.err and "=]" in got.err and got.err.endswith("\r")


def test_json_is_one_object_of_every_emulation(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('"Once upon a time"\n\n[5, 17, 200, 33]\n', encoding="utf-8")
    got = cli("noise", "--prompts", str(path), "--json").json
    assert (got["model"], got["truth"], got["prompts"]) == ("tiny", "float64", 2)
    found = {one["name"]: one for one in got["emulations"]}
    assert set(found) == set(ARITHMETICS) - {"float64"}
    kls = [one["kl"] for one in got["emulations"]]
    assert kls == sorted(kls) and all(one["positions"] == got["positions"] for one in found.values())
    assert set(found["bf16"]["dlogp"]) == {"0.5", "0.95", "0.99", "1"}
    assert found["float32"]["kl"] < 1e-10 < found["bf16"]["kl"] < found["q4_0"]["kl"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\n\n", "holds no prompt"),
        ("a.txt", b"\xff", "must be UTF-8"),
        ("a.jsonl", b'"fine"\n{"no": 1}\n', "line 2 must be a JSON string or a list of token ids"),
        ("a.jsonl", b"[true]\n", "line 1 must be"),
        ("a.jsonl", b"[5]\n", "prompt 1 needs two tokens or more"),
        ("a.jsonl", b"[5, 99999]\n", "token ids lie in [0, 3072)"),
    ],
)
def test_prompts_that_are_none(cli: Cli, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    got = cli("noise", "--prompts", str(tmp_path / name))
    assert got.code == 2 and said in got.err and got.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["noise", "-e", "fp4"], "--emulation='fp4': must be one of float32, "),
        (["noise", "--prompts", "no-such-file"], "cannot be read"),
        (["noise", "no-such-model"], "no-such-model"),
        (["noise", "--threads", "0"], "--threads"),
    ],
)
def test_refusals_say_what_to_do(cli: Cli, arguments: list[str], said: str) -> None:
    got = cli(*arguments)
    assert got.code == 2 and said in got.err and got.out == ""


def test_the_picture() -> None:
    kls = (0.0, float("nan"), 1e-9, 1e-8, 1e-4, 1e-2, 1.0, 9.0)
    assert [len(decades(kl)) for kl in kls] == [0, 0, 0, 0, 8, 12, 16, 16]


def test_what_overflows_is_null_in_json(monkeypatch: pytest.MonkeyPatch, cli: Cli, prompts: str) -> None:
    import numpy as np

    from refsample.generation import noise

    real = noise.compare
    monkeypatch.setattr(noise, "compare", lambda law, rows, following: real(law, np.full_like(rows, np.nan), following))
    text = cli("noise", "--prompts", prompts, "-e", "f16", "--json").out
    (one,) = json.loads(text)["emulations"]
    assert "NaN" not in text and one["kl"] is None and one["dlogp"]["1"] is None and one["not_finite"] > 0
    table = cli("noise", "--prompts", prompts, "-e", "f16").out
    assert "positions left out, their logits are not finite" in table
