"""Calls split off a text: in one piece or in many the same, and only what is whole is called whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.api.tools import Function, ToolSet
from refsample.api.toolstream import ToolStream, joined, message, split

TOOLS = ToolSet(offered=(), functions=(Function("weather", {}), Function("now", {})), field="tools")
NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
HARD = '<tool_call>\n{"name": "now", "arguments": {"a": "}\\"{\\\\", "b": [{"</tool_call>": "\\n"}]}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "content", "arguments", "reason"),
    [
        (NOW, None, ["{}"], "tool_calls"),
        (f" \n{NOW}", None, ["{}"], "tool_calls"),
        (f"Well. {NOW}\n{HARD}", "Well. ", ["{}", '{"a": "}\\"{\\\\", "b": [{"</tool_call>": "\\n"}]}'], "tool_calls"),
        (" \n", " \n", [], "stop"),
        ("<tool_call>", "<tool_call>", [], "stop"),
        (NOW[:-1], None, ["{}"], "stop"),
        (f"{NOW}\n<tool_call>\n{{", None, ["{}"], "stop"),
        (
            '<tool_call>\n{"name": "then", "arguments": {}}',
            '<tool_call>\n{"name": "then", "arguments": {}}',
            [],
            "stop",
        ),
    ],
)
def test_split(text: str, content: str | None, arguments: list[str], reason: str) -> None:
    found, calls = split(text, TOOLS)
    assert (found, [call["function"]["arguments"] for call in calls]) == (content, arguments)
    assert message(text, TOOLS, "stop")[1] == reason
    assert message(text, TOOLS, "length")[1] == "length"


def pieces(text: str, cuts: Iterable[int]) -> Iterator[str]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return (text[start:end] for start, end in zip(places, places[1:], strict=False))


@given(
    st.lists(st.sampled_from([NOW, HARD, "\n", " ", "a", "<tool_call>", "<tool", '{"name": "now"', "}"]), max_size=6),
    st.lists(st.integers(0, 999), max_size=30),
)
def test_any_text_in_any_pieces(parts: list[str], cuts: list[int]) -> None:
    text, stream = "".join(parts), ToolStream(TOOLS)
    deltas = [delta for piece in pieces(text, cuts) for delta in stream.feed(piece)]
    content, calls = joined([*deltas, *stream.finish()])
    found, made = split(text, TOOLS)
    assert content == found
    assert [call["function"] for call in calls] == [call["function"] for call in made]
    assert stream.finish_reason("stop") == message(text, TOOLS, "stop")[1]
