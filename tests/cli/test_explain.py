"""explain on the command line: tables, JSON, a page, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import refsample
from tests.cli.conftest import Cli

D01 = ("explain", "--probs", ".4,.3,.2,.1", "-o", "top_p=.5", "-o", "temperature=.5")


def test_two_engines_side_by_side(cli: Cli) -> None:
    """D01 with no model: the figures of the catalogue."""
    found = cli(*D01, "--diff", "llamacpp")
    assert found.code == 0 and "2 tokens are drawn otherwise" in found.out
    lines = [line.split() for line in found.out.splitlines()]
    assert ["0", "0", "1.0000", "0.6400"] in lines and ["1", "1", "never", "0.3600"] in lines
    assert cli(*D01, "--diff", "vllm").out.endswith("reference and vllm draw from the same law\n")


def test_json(cli: Cli) -> None:
    found = cli(*D01, "--diff", "llamacpp", "--json").json
    assert found["differing"] == [0, 1] and found["diff"]["engine"] == "llamacpp"
    assert found["tokens"][1] == {
        "rank": 2, "token_id": 1, "text": "1", "cut_by": "top_p", "near": [],
        "probs": {"model": pytest.approx(0.3), "temperature": pytest.approx(0.3), "top_p": None},
    }  # fmt: skip


def test_a_model_and_its_answer_so_far(cli: Cli) -> None:
    """The table's law is that of `distribution` after prompt and answer; the answer is output for the penalties."""
    options = ("-o", "presence_penalty=2", "-o", "top_k=3")
    found = cli("explain", "Once upon a time", "--answer", " there was a", *options, "--json").json
    model = refsample.load("tiny")
    before, after = model.tokenizer.encode("Once upon a time"), model.tokenizer.encode(" there was a", bos=False)
    logits = model.logits([*before, *after])[-1]
    law = refsample.distribution(logits, {"presence_penalty": 2, "top_k": 3}, before, after)
    shown = {row["token_id"]: row["probs"]["top_k"] for row in found["tokens"] if row["probs"]["top_k"]}
    assert shown == {int(i): pytest.approx(law.probs[i]) for i in law.probs.nonzero()[0]} and len(shown) == 3
    table = cli("explain", "Once upon a time", "--answer", " there was a", *options)
    assert "presence" in table.out and "3 of 3072 tokens can be drawn" in table.out and "\x1b" not in table.out


def test_a_rule_of_the_engine_can_be_changed(cli: Cli) -> None:
    """D04: mass above <= p lets one more in."""
    probs = ("explain", "--probs", ".5,.25,.125,.125", "-o", "top_p=.5")
    assert cli(*probs, "--json").json["support"] == 1
    assert cli(*probs, "-o", "semantics.top_p_rule=gt", "--json").json["support"] == 2


def test_a_changed_rule_is_shown_and_is_the_first_engines_alone(cli: Cli) -> None:
    probs = ("explain", "--probs", ".5,.25,.125,.125", "-o", "top_p=.5", "-o", "semantics.top_p_rule=gt")
    found = cli(*probs, "--diff", "reference")
    assert "engine reference, top_p_rule=gt" in found.out and "2 tokens are drawn otherwise" in found.out
    assert cli(*probs[:-2], "-o", "semantics.bias_clamp=inf").code == 0


def test_cut_and_underflow_are_two_things(cli: Cli) -> None:
    found = cli("explain", "--probs", ".9,1e-5,.1", "-o", "temperature=0.001", "-o", "top_k=2")
    assert "0.0000" in found.out and found.out.count(" -  ") >= 1 and "- is cut" in found.out
    assert "add up to 1.00001" in found.err


def test_histories_of_ids(cli: Cli) -> None:
    found = cli("explain", "--probs", ".5,.5", "--history", "[0]", "--answer", "[1, 1]", "-o", "frequency_penalty=1",
                "-o", "repetition_penalty=2", "--json").json  # fmt: skip
    assert [step["name"] for step in found["steps"]] == ["model", "repetition", "frequency"]
    assert found["tokens"][1]["probs"]["frequency"] == pytest.approx(1 / (1 + 2.718281828459045**2))


def test_a_page(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "one.html"
    assert cli(*D01, "--html", str(page)).code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "cut by top_p" in text and "<svg" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--probs", "0,0"), "not all 0"),
        (("--probs", ".5,x"), "numbers with commas"),
        (("--probs", ".5,.5", "-o", "top_pp=1"), "did you mean top_p"),
        (("--probs", ".5,.5", "-o", "semantics.top_p_rul=gt"), "did you mean top_p_rule"),
        (("--probs", ".5,.5", "--history", "0"), "--history"),
        (("--probs", ".5,.5", "--history", "[7]"), "--history=7: token ids lie in [0, 2)"),
        (("--probs", ".5,.5", "-o", "typical_p=.5", "--diff", "vllm"), "no such step (rule of engine vllm)"),
        (("--probs", ".5,.5", "--engine", "vlm"), "engine 'vlm' does not exist"),
        (("a prompt", "--probs", ".5,.5"), "one of the two"),
        (("a prompt", "--history", "[1]"), "--history goes with --probs"),
        (("--probs", ".5,.5", "--threads", "2"), "--threads goes with a PROMPT"),
        (("--probs", ".5,.5", "--html", "/nowhere/x.html"), "--html='/nowhere/x.html': cannot be written"),
        (("--probs", ".5,.5", "-o", "semantics.bias_clamp=-1"), "semantics.bias_clamp=-1.0: not negative"),
    ],
)
def test_refusals(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    found = cli("explain", *arguments)
    assert found.code == 2 and words in found.err and found.out == ""
