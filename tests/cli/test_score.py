"""`score` over one text and over files of transcripts: what is printed, and which line an error names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import refsample
from tests.cli.conftest import Cli

LINES: tuple[dict[str, Any], ...] = (
    {"prompt": "Once upon a time", "completion": " there was a girl"},
    {"prompt": "Once upon a time", "completion": " there was a dog named Tim."},
    {"completion": "My favourite animal is the cat."},
    {"prompt": [{"role": "user", "content": "Name an animal."}], "completion": [5, 6, 7]},
    {"prompt": "", "completion": "The end."},
)


@pytest.fixture(scope="module")
def model() -> Any:
    return refsample.load("tiny")


def written(lines: tuple[dict[str, Any], ...] = LINES) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_a_file_gives_a_json_line_for_each(cli: Cli, model: Any, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(written(), encoding="utf-8")
    settings = ("-o", "temperature=0.7", "-o", "top_k=40", "--top", "2", "--json")
    got = cli("score", "--file", str(file), *settings)
    assert got.code == 0 and got.err == ""
    lines = [json.loads(line) for line in got.out.splitlines()]
    pairs = [(line.get("prompt"), line["completion"]) for line in LINES]
    want = list(refsample.score_many(model, pairs, {"temperature": 0.7, "top_k": 40}, top=2))
    for line, one in zip(lines, want, strict=True):
        assert (line["raw_total"], line["entropy"], line["perplexity"]) == (one.raw_total, one.entropy, one.perplexity)
        assert line["total"] == (one.total if math.isfinite(one.total) else None)
        assert [token["rank"] for token in line["tokens"]] == [token.rank for token in one.tokens]
        assert [[(e["token_id"], e["logprob"]) for e in token["top"]] for token in line["tokens"]] == [
            list(token.top) for token in one.tokens
        ]
    assert cli("score", "--file", "-", *settings, stdin="\n" + written() + " \n").out == got.out
    assert cli("score", "Once upon a time", " there was a girl", *settings).json == lines[0]


def test_a_file_as_a_table(cli: Cli, model: Any) -> None:
    got = cli("score", "--file", "-", stdin="\n" + written(LINES[:2]))
    head, first, second, last = got.out.splitlines()
    assert head.split() == ["line", "tokens", "total", "a", "token", "perplexity", "entropy"]
    one, other = refsample.score_many(model, [(line["prompt"], line["completion"]) for line in LINES[:2]])
    assert first.split()[:3] == ["2", str(len(one.tokens)), f"{one.total:.4f}"]
    assert second.split()[0] == "3" and second.split()[-1] == f"{other.entropy:.4f}"
    assert last.startswith(f"total {one.total + other.total:.4f} nat") and last.endswith("of 2 transcripts")
    assert "holds no transcript" in cli("score", "--file", "-", stdin="\n").err


def test_a_bar_for_long_work_on_a_terminal_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("score", "--file", "-", stdin=written(), terminal=True).err == ""
    monkeypatch.setattr("refsample.cli.score.LONG", 10)
    shown = cli("score", "--file", "-", stdin=written(), terminal=True)
    assert "0/23" in shown.err and "23/23" in shown.err and "23/23" not in shown.out
    assert cli("score", "--file", "-", stdin=written()).err == ""
    assert cli("score", "--file", "-", "--json", stdin=written(), terminal=True).err == ""


def test_the_best_beside_each_token(cli: Cli) -> None:
    lines = cli("score", "Once upon a time", " there was", "--top", "2").out.splitlines()
    assert lines[0].split()[-2:] == ["entropy", "best"] and len(lines[1].split("'")) >= 6
    assert "perplexity" in lines[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 2='{': is not JSON"),
        ("[1]", "line 2=[1]: must be a JSON object"),
        ('{"prompt": "a"}', "line 2: completion: must be text or token ids"),
        ('{"prompt": 3, "completion": "a"}', "line 2: prompt=3: must be text, token ids or messages"),
        ('{"prompt": "a", "completion": "b", "promt": 1}', "promt=1: no such parameter; did you mean prompt?"),
        ('{"prompt": "a", "completion": ""}', "line 2: completion=(): must hold at least one token"),
        ('{"prompt": "a", "completion": [99999]}', "line 2: completion=99999: token ids lie in"),
        ('{"prompt": "a", "completion": "\\ud800"}', "line 2: completion='\\ud800': must not hold half"),
        ('{"completion": [5]}', "line 2: prompt=(): must hold at least one token, or the completion at least two"),
        ('{"prompt": [{"role": "user"}], "completion": "b"}', "line 2: "),
    ],
)
def test_an_error_names_its_line(cli: Cli, text: str, said: str) -> None:
    got = cli("score", "--file", "-", stdin=f"{written(LINES[:1])}{text}\n")
    assert got.code == 2 and got.out == "" and said in got.err and "line 2" in got.err


def test_usage(cli: Cli, tmp_path: Path) -> None:
    for arguments, said in (
        (("score",), "PROMPT"),
        (("score", "a", "b", "--file", "-"), "--file stands instead"),
        (("score", "--file", str(tmp_path / "none")), "--file="),
        (("score", "a", "b", "--top", "-1"), "--top"),
    ):
        got = cli(*arguments)
        assert got.code == 2 and said in got.err
    (tmp_path / "odd").write_bytes(b"\xff\n")
    assert "must be UTF-8" in cli("score", "--file", str(tmp_path / "odd")).err
