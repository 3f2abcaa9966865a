"""`score --stream-layers`: the same output, an estimate that is measured, what a person is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refsample.cli import streaming
from refsample.cli.streaming import Estimate, clock, described
from refsample.generation.streaming import Passed, Streamed
from tests.cli.conftest import Cli

LINES = "".join(
    json.dumps({"prompt": prompt, "completion": completion}) + "\n"
    for prompt, completion in (("Once upon a time", " there was a girl"), ("", "My favourite animal is the cat."))
)


def passed(work: float, layer: int, wave: int = 0) -> Passed:
    return Passed(layer=layer, layers=4, wave=wave, waves=1, read=1 << 30, to_read=4 << 30, work=work, to_do=100.0)


@pytest.mark.parametrize("how", [("--json",), ("-o", "temperature=0.7"), ("--top", "2", "--json", "--lora", "pirate")])
def test_the_output_is_the_same(cli: Cli, how: tuple[str, ...], tmp_path: Path) -> None:
    want = cli("score", "--file", "-", *how, stdin=LINES)
    state = tmp_path / "state"
    got = cli("score", "--file", "-", "--stream-layers", "--resume", str(state), *how, stdin=LINES)
    assert (got.code, got.out, got.err) == (0, want.out, "") and not state.exists()
    one = ("score", "Once upon a time", " there was a girl", *how)
    assert cli(*one, "--stream-layers").out == cli(*one).out


def test_stopped_and_gone_on_with(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, through = tmp_path / "state", Streamed._tell

    def stop(self: Streamed, wave: int, layer: int, work: float) -> None:
        through(self, wave, layer, work)
        if layer == 2:
            raise KeyboardInterrupt

    command = ("score", "--file", "-", "--stream-layers", "--resume", str(state))
    with monkeypatch.context() as patch:
        patch.setattr(Streamed, "_tell", stop)
        got = cli(*command, stdin=LINES)
    assert got.code == 130 and got.out == ""
    assert f"what is done is kept in {state}: the same command goes on from there" in got.err
    other = cli(*command, stdin=LINES + LINES)
    assert other.code == 2 and "holds the state of another run (transcripts 2 with" in other.err
    again = cli(*command, stdin=LINES)
    assert again.code == 0 and again.err.startswith("goes on after layer ")
    assert again.out == cli("score", "--file", "-", stdin=LINES).out


def test_a_line_on_a_terminal(cli: Cli) -> None:
    got = cli("score", "--file", "-", "--stream-layers", stdin=LINES, terminal=True)
    assert "layer 1 of 6: 0.0 of 0.0 GB read, " in got.err and "logits: " in got.err and "100% done" in got.err
    assert cli("score", "--file", "-", "--stream-layers", "--json", stdin=LINES, terminal=True).err == ""


def test_usage(cli: Cli, tmp_path: Path) -> None:
    got = cli("score", "--file", "-", "--resume", str(tmp_path), stdin=LINES)
    assert got.code == 2 and "--resume goes with --stream-layers" in got.err
    (tmp_path / "file").write_bytes(b"")
    got = cli("score", "a", "b", "--stream-layers", "--resume", str(tmp_path / "file"))
    assert got.code == 2 and "cannot be used" in got.err


def test_the_estimate_waits_for_a_second_layer() -> None:
    """The first one, ten times as slow as the others, does not count."""
    estimate = Estimate()
    told = [estimate(passed(work, layer), now) for work, layer, now in (
        (10.0, 0, 50.0), (20.0, 0, 100.0), (30.0, 1, 105.0), (40.0, 1, 110.0), (50.0, 2, 115.0), (90.0, 4, 135.0),
    )]  # fmt: skip
    assert told == [None, None, None, None, 25.0, 5.0]


def test_words() -> None:
    assert described(passed(50.0, 1), 3723.0, 59.6) == (
        "layer 2 of 4", "1.1 of 4.3 GB read, 50% done, 1:02:03 gone, about 1:00 left",
    )  # fmt: skip
    assert described(passed(50.0, 4), 3.0, None)[0] == "logits" and clock(0.2) == "0:00"


def test_a_hint_where_memory_is_too_small(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, said in ((1000, True), (1 << 40, False), (None, False)):
        monkeypatch.setattr(streaming, "available", lambda free=free: free)
        got = cli("score", "--file", "-", stdin=LINES)
        assert got.code == 0 and ("--stream-layers reads each layer once for all transcripts" in got.err) is said
        assert cli("score", "--file", "-", "--stream-layers", stdin=LINES).err == ""


def test_available_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that system and container leave; nothing where neither says anything."""
    def held(name: str, text: str) -> Any:
        (tmp_path / name).write_text(text, encoding="ascii")
        return tmp_path / name

    meminfo, limit = held("meminfo", "MemTotal: 9 kB\nMemAvailable:    3 kB\n"), held("limit", "2000\n")
    for files, want in (
        ((meminfo, (limit,)), 2000), ((meminfo, (held("max", "max\n"),)), 3072), ((tmp_path / "none", ()), None),
    ):  # fmt: skip
        monkeypatch.setattr(streaming, "_MEMINFO", files[0])
        monkeypatch.setattr(streaming, "_LIMITS", files[1])
        assert streaming.available() == want
