"""complete, chat and score on the embedded model: what is printed, and that it is the API's answer."""

from __future__ import annotations

import json
import math
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import refsample
from refsample.cli.chat import HELP, Message, converse
from refsample.cli.terminal import choice_tokens
from tests.cli.conftest import Cli
from tests.house.sources import PACKAGES

PROMPT = "Once upon a time"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def model() -> Any:
    return refsample.load("tiny")


def without_name(response: Mapping[str, Any]) -> dict[str, Any]:
    """A response without the two fields that name it."""
    return {key: value for key, value in response.items() if key not in ("id", "created")}


def test_json_is_the_apis_response_and_repeats(cli: Cli, model: Any) -> None:
    arguments = ("complete", PROMPT, "--json", "-o", "logprobs=5", "-o", "seed=1")
    first, second = cli(*arguments), cli(*arguments)
    assert first.code == 0 and first.err == "" and first.out.count("\n") == 1
    hidden = [re.sub(r'"id": "[^"]*"|"created": \d+', "", got.out) for got in (first, second)]
    assert hidden[0] == hidden[1]
    expected = refsample.complete(model, {"prompt": PROMPT, "logprobs": 5, "seed": 1})
    assert without_name(first.json) == without_name(expected)


@pytest.mark.parametrize("extra", [(), ("--no-stream",), ("--threads", "1"), ("-o", "n=4"), ("-o", "logprobs=3")])
def test_the_text_is_the_same_however_it_is_asked_for(cli: Cli, extra: tuple[str, ...]) -> None:
    settings = ("-o", "seed=7", "-o", "max_tokens=24", "-o", "temperature=0.9")
    whole = cli("complete", PROMPT, "--json", *settings).json["choices"][0]["text"]
    got = cli("complete", PROMPT, *settings, *extra).out
    if "n=4" in extra:
        assert got.startswith(f"--- choice 0 (length)\n{whole}\n--- choice 1 ")
    else:
        assert got == whole + ("" if whole.endswith("\n") else "\n")


def test_choice_beside_other_prompts(cli: Cli) -> None:
    settings = ("-o", "seed=7", "-o", "max_tokens=12", "--json")
    alone = cli("complete", PROMPT, *settings).json["choices"][0]
    beside = cli("complete", "-o", f'prompt=["Hello", "{PROMPT}"]', *settings).json["choices"][1]
    assert {**beside, "index": 0} == alone


def test_prompt_from_a_pipe(cli: Cli) -> None:
    settings = ("-o", "temperature=0", "-o", "max_tokens=8")
    argument = cli("complete", PROMPT, *settings).out
    assert cli("complete", *settings, stdin=PROMPT + "\n").out == argument
    assert cli("complete", "-", *settings, stdin=PROMPT).out == argument


def test_tint_and_footer_on_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    settings = ("-o", "seed=1", "-o", "max_tokens=8", "-o", "logprobs=0")
    plain, tinted = cli("complete", PROMPT, *settings), cli("complete", PROMPT, *settings, terminal=True)
    assert "\x1b" not in plain.out and plain.err == ""
    assert tinted.out.count("\x1b[48;5;") >= 8 and COLOUR.sub("", tinted.out) == plain.out
    assert re.search(r"8 tokens in [\d.]+ s, .*finish length, seed 1", COLOUR.sub("", tinted.err))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in cli("complete", PROMPT, *settings, terminal=True).out


def test_what_was_ignored_is_said(cli: Cli) -> None:
    got = cli("complete", PROMPT, "-o", "max_tokens=1", "-o", "no_such_field=1")
    assert got.code == 0 and "ignored: no_such_field" in got.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["complete", PROMPT, "-o", "temperature=9"], "temperature=9"),
        (["complete", PROMPT, "-o", "max_tokens=999999"], "max_tokens"),
        (["complete", PROMPT, "-o", "no_such_field=1", "--strict"], "no_such_field"),
        (["complete", PROMPT, "--model", "./no-such-folder"], "no-such-folder"),
        (["complete", PROMPT, "--spec", "nobody"], "nobody"),
        (["complete", PROMPT, "--threads", "4096"], "--threads=4096"),
        (["chat", "hi", "-o", "top_logprobs=3"], "top_logprobs"),
        (["score", PROMPT, " there", "-o", "temperature=-1"], "temperature=-1"),
        (["score", PROMPT, " there", "--engine", "nobody"], "nobody"),
    ],
)
def test_a_refusal_names_what_is_wrong(cli: Cli, arguments: list[str], named: str) -> None:
    got = cli(*arguments)
    assert got.code == 2 and got.out == "" and got.err.count("\n") == 1 and named in got.err


def test_chat_is_the_apis_response(cli: Cli, model: Any) -> None:
    body = {
        "messages": [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Name a colour."}],
        "seed": 3,
        "max_tokens": 12,
    }
    expected = refsample.chat(model, body)
    arguments = ("chat", "Name a colour.", "--system", "You are kind.", "-o", "seed=3", "-o", "max_tokens=12")
    assert without_name(cli(*arguments, "--json").json) == without_name(expected)
    assert cli(*arguments).out == expected["choices"][0]["message"]["content"] + "\n"
    assert cli(*arguments, "--no-stream").out == cli(*arguments).out


def test_score_agrees_with_the_library(cli: Cli, model: Any) -> None:
    got = cli("score", PROMPT, " there was a girl", "-o", "top_k=1", "--json").json
    params = refsample.SamplingParams(top_k=1)
    expected = refsample.score(model, PROMPT, " there was a girl", params)
    assert [entry["raw_logprob"] for entry in got["tokens"]] == [t.raw_logprob for t in expected.tokens]
    for entry in got["tokens"]:
        assert (entry["logprob"] is not None) == entry["in_support"]
    text = cli("score", PROMPT, " there was a girl", "-o", "top_k=1").out.splitlines()
    assert len(text) == len(expected.tokens) + 2 and text[-1].startswith("total ")


def test_score_takes_a_bias_by_token(cli: Cli) -> None:
    plain = cli("score", PROMPT, " there", "--json").json["tokens"][0]
    setting = "logit_bias=" + json.dumps({str(plain["token_id"]): -100})
    biased = cli("score", PROMPT, " there", "--json", "-o", setting).json["tokens"][0]
    assert biased["raw_logprob"] == plain["raw_logprob"] and biased["logprob"] < plain["logprob"] - 90


def test_choice_tokens_cover_the_text() -> None:
    legacy = {"tokens": ["ab", "\ufffd", "c"], "token_logprobs": [None, -1.0, math.log(0.5)]}
    cut = choice_tokens("abcd", legacy)
    assert [token.text for token in cut] == ["ab", "c", "d"]
    assert [token.probability for token in cut] == [None, pytest.approx(0.5), None]
    chat = {"content": [{"token": "x", "logprob": 0.0}]}
    assert [(token.text, token.probability) for token in choice_tokens("x", chat)] == [("x", 1.0)]
    assert [token.text for token in choice_tokens("plain", None)] == ["plain"]


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}]}


def test_conversation_keeps_its_history(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[list[Message]] = []

    def answer(turns: list[Message]) -> Iterator[dict[str, Any]]:
        heard.append(list(turns))
        if turns[-1]["content"] == "too long":
            raise refsample.errors.ParameterError("messages", "too long", "must be shorter", "this test")
        yield chunk(f"answer {len(heard)}")
        if turns[-1]["content"] == "stop me":
            raise KeyboardInterrupt
        yield chunk("!", "stop")

    lines = iter(["one", "", "/what", "stop me", "too long", "three", "/reset", "four", "/exit", "never read"])
    converse(answer, [{"role": "system", "content": "S"}], read=lambda prompt: next(lines))
    said = [[(turn["role"][0], turn["content"]) for turn in turns] for turns in heard]
    start = [("s", "S"), ("u", "one")]
    assert said[0] == start
    assert said[1] == [*start, ("a", "answer 1!"), ("u", "stop me")]
    assert said[3] == [*said[1], ("a", "answer 2"), ("u", "three")]  # a refused turn is taken back
    assert said[4] == [("s", "S"), ("u", "four")]
    out, err = capsys.readouterr()
    assert out == "answer 1!\nanswer 2\nanswer 4!\nanswer 5!\n"
    assert "error: messages" in err and err.count(HELP) == 2 and next(lines) == "never read"


def test_conversation_ends_with_the_input(capsys: pytest.CaptureFixture[str]) -> None:
    presses = iter([KeyboardInterrupt, EOFError])

    def read(prompt: str) -> str:
        raise next(presses)

    converse(lambda turns: [], [], read=read)
    assert capsys.readouterr().err.count(HELP) == 2


def test_chat_at_a_real_terminal() -> None:
    """A person at a terminal: a question, its answer, /exit."""
    pty = pytest.importorskip("pty", reason="a system without pseudo-terminals")
    ours, theirs = pty.openpty()
    path = os.pathsep.join(str(package.parent) for package in PACKAGES)
    process = subprocess.Popen(
        [sys.executable, "-m", "refsample", "chat", "-o", "max_tokens=8", "-o", "temperature=0"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "PYTHONPATH": path, "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = wait_for(ours, "> ")
        os.write(ours, b"Name a colour.\n")
        seen += wait_for(ours, "> ")
        os.write(ours, b"/exit\n")
        assert process.wait(60) == 0
        assert "/reset" in seen and "finish " in seen and "seed " in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def wait_for(stream: int, text: str, seconds: float = 90.0) -> str:
    """What comes from a terminal until it ends with `text`."""
    seen, end = "", time.monotonic() + seconds
    while not seen.endswith(text):
        ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"no {text!r} within {seconds} s; so far: {seen!r}"
        seen += os.read(stream, 4096).decode()
    return seen


def test_score_under_a_rule_of_the_engine(cli: Cli) -> None:
    """A temperature below the clamp is raised to it, here to 1: the law is the model's own."""
    plain = cli("score", PROMPT, " there", "-o", "temperature=0.5", "--json").json
    rule = ("-o", "semantics.temperature_clamp=1")
    clamped = cli("score", PROMPT, " there", "-o", "temperature=0.5", *rule, "--json").json
    assert clamped["tokens"][0]["logprob"] == pytest.approx(plain["tokens"][0]["raw_logprob"])
    assert plain["tokens"][0]["logprob"] > clamped["tokens"][0]["logprob"]
    assert cli("score", PROMPT, " there", "-o", "semantics.top_p_rul=gt").code == 2


def test_an_answer_under_a_rule_of_the_engine(cli: Cli) -> None:
    """A clamp of 5 makes T = 2 hotter, in the whole answer and in the streamed one."""
    asked = ("-o", "top_p=0.6", "-o", "temperature=2", "-o", "seed=4", "-o", "max_tokens=30")
    for command, text in (("complete", PROMPT), ("chat", "Name an animal.")):
        plain = cli(command, text, *asked, "--json").json
        ruled = cli(command, text, *asked, "--json", "-o", "semantics.temperature_clamp=5").json
        assert ruled["refsample"]["ignored"] == [] and ruled["choices"] != plain["choices"]
        streamed = cli(command, text, *asked, "-o", "semantics.temperature_clamp=5").out.strip()
        choice = ruled["choices"][0]
        assert streamed == (choice["text"] if command == "complete" else choice["message"]["content"]).strip()
        wrong = cli(command, text, "-o", "semantics.nothing=1")
        assert wrong.code == 2 and "semantics.nothing=1: no such choice" in wrong.err
