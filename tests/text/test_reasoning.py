"""Thoughts split off an answer and put back: the very same text, in one piece or in many."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.text.chat import load_template
from refsample.text.reasoning import Marks, ThoughtStream, find_marks, join, joined, split, thought_tokens
from refsample.text.tokenizer import load_tokenizer
from tests.factories import VOCABULARY, write_json, write_llama
from tests.text.vocabularies import Facts

THINK = Marks("<think>", "</think>")
INSIDE = Marks("<think>", "</think>", opened=True)

CASES = [
    ("<think>\na\n</think>\n\nb", THINK, ("\na\n", "\n\nb")),
    ("\na</think>b</think>", INSIDE, ("\na", "b</think>")),
    ("plain <think>x</think>", THINK, (None, "plain <think>x</think>")),
    ("<think>cut </thi", THINK, ("cut </thi", None)),
    ("<thi", THINK, (None, "<thi")),
    ("<think></think>", THINK, ("", "")),
    ("<think>", THINK, ("", None)),
    ("", THINK, (None, "")),
    ("", INSIDE, ("", None)),
    ("<think>a", INSIDE, ("<think>a", None)),
]


@pytest.mark.parametrize(("text", "marks", "expected"), CASES)
def test_split_and_join(text: str, marks: Marks, expected: tuple[str | None, str | None]) -> None:
    assert split(text, marks) == expected
    assert join(*expected, marks) == text


@pytest.mark.parametrize(
    ("texts", "marks", "count"),
    [
        (["<think>", "a", " b", "</think>", "c", ""], THINK, 2),
        (["<th", "ink>a", "", "b</th", "ink>", "c"], THINK, 2),  # it counts where a token begins
        (["a", "b", "</think>", "c"], INSIDE, 2),
        (["<think>", "a", ""], THINK, 1),
        (["a", "b"], THINK, 0),
        ([], INSIDE, 0),
    ],
)
def test_tokens_of_a_thought(texts: list[str], marks: Marks, count: int) -> None:
    assert thought_tokens(texts, marks) == count


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", "think", "</", "a", "\n", "é", ">"]))


@given(PIECES, st.booleans())
def test_any_text_in_any_pieces(pieces: list[str], opened: bool) -> None:
    marks = INSIDE if opened else THINK
    text, stream = "".join(pieces), ThoughtStream(marks)
    given_out = [piece for part in pieces for piece in stream.feed(part)]
    before_the_end = "".join(part for _, part in given_out)
    whole = joined([*given_out, *stream.finish()], marks)
    assert whole == split(text, marks)
    assert join(*whole, marks) == text
    if whole[0] is not None and whole[1] is not None:  # a closed thought: no mark of it was shown
        assert before_the_end == whole[0] + whole[1]
        assert "</think>" not in whole[0]


@given(PIECES, PIECES)
def test_what_was_given_out_is_never_taken_back(first: list[str], rest: list[str]) -> None:
    stream = ThoughtStream(THINK)
    shown = joined([piece for part in first for piece in stream.feed(part)], THINK)
    for part, whole in zip(shown, split("".join(first + rest), THINK), strict=True):
        assert part is None or (whole is not None and whole.startswith(part))


def marks_of(folder: Path, template: str, prompt: str) -> Marks | None:
    write_llama(folder)
    write_json(folder / "tokenizer_config.json", {"chat_template": template, "eos_token": "<|endoftext|>"})
    tokenizer = load_tokenizer(folder, Facts(VOCABULARY))
    return find_marks(load_template(folder), tokenizer, tokenizer.encode(prompt, bos=False))


def test_marks_of_a_template(tmp_path: Path) -> None:
    reads = "{{ messages[0].content.split('</think>')[-1] }}"
    assert marks_of(tmp_path, reads, "<|user|>Hi<|assistant|>") == THINK
    assert marks_of(tmp_path, reads, "<|user|>Hi<|assistant|><think>\n") == INSIDE
    assert marks_of(tmp_path, reads, "<|assistant|><think>\n\n</think>\n\n") == THINK
    assert marks_of(tmp_path, "{{ '[/THINK]' }}", "a") == Marks("[THINK]", "[/THINK]")


def test_a_model_without_marks_is_not_split(tmp_path: Path) -> None:
    assert marks_of(tmp_path, "{{ messages[0].content }}", "<think>") is None
