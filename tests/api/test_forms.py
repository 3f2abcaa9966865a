"""Answers held to a form, calls of tools whole and streamed, turns of a conversation, thoughts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsample.api.chat import chat
from refsample.api.stream import stream
from refsample.errors import ParameterError
from refsample.generation.load import load
from refsample.generation.model import Model
from tests.api.pages import ASK, ask, text_of
from tests.generation.scripted import scripted, speaking
from tests.text.vocabularies import byte_level

MODEL = load("tiny")


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "legs": {"enum": [2, 4]}},
    "required": ["name", "legs"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "animal", "parameters": SCHEMA}}]


def test_an_answer_in_a_form() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    answer = chat(MODEL, ask(max_tokens=200, n=2, response_format=form))
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "stop"
        said = json.loads(choice["message"]["content"])
        assert set(said) == {"name", "legs"} and said["legs"] in (2, 4)
    assert answer["refsample"]["constraint"] == "response_format.json_schema.schema"
    assert "constraint" not in chat(MODEL, ask())["refsample"]
    cut = chat(MODEL, ask(max_tokens=3, response_format=form))
    assert cut["choices"][0]["finish_reason"] == "length"


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), how=st.sampled_from(["form", "tools", "choice"]), top=st.integers(0, 3))
def test_several_choices_are_several_requests(seed: int, how: str, top: int) -> None:
    """Each of n choices is what a request for it alone answers: text, calls, logprobs, reason."""
    wishes: dict[str, Any] = {
        "form": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        "tools": {"tools": TOOLS},
        "choice": {"guided_choice": ["a cat", "a dog", "a catfish"]},
    }[how]
    body = ask(max_tokens=60, logprobs=True, top_logprobs=top, temperature=1.2, **wishes)
    several = chat(MODEL, {**body, "n": 3, "seed": seed})["choices"]
    alone = [chat(MODEL, {**body, "seed": seed + i})["choices"][0] for i in range(3)]
    for index, (one, other) in enumerate(zip(several, alone, strict=True)):
        for choice in (one, other):
            for call in choice["message"].get("tool_calls", []):
                assert call.pop("id").startswith("call_")
        assert one == {**other, "index": index}


def calls_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of one choice's deltas, put together by hand."""
    calls: list[dict[str, Any]] = []
    for chunk in found:
        for piece in chunk["choices"][0]["delta"].get("tool_calls", []):
            if piece["index"] == len(calls):
                calls.append({"type": piece["type"], "function": {"name": piece["function"]["name"], "arguments": ""}})
            calls[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments", "")
    return calls


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), choice=st.sampled_from(["auto", "required", "none"]))
def test_calls_streamed_are_calls_whole(seed: int, choice: str) -> None:
    body = ask(tools=TOOLS, tool_choice=choice, seed=seed, max_tokens=150, logprobs=True)
    (whole,) = chat(MODEL, body)["choices"]
    found = list(stream(MODEL, body, chat=True))
    parts = [chunk["choices"][0] for chunk in found]
    assert parts[-1]["finish_reason"] == whole["finish_reason"]
    message = whole["message"]
    made = [{"type": one["type"], "function": one["function"]} for one in message.get("tool_calls", [])]
    assert calls_of(found) == made
    assert "".join(part["delta"].get("content") or "" for part in parts) == (message["content"] or "")
    rows = [entry for part in parts if part["logprobs"] for entry in part["logprobs"]["content"]]
    assert rows == whole["logprobs"]["content"]
    if choice == "required":
        assert message["content"] is None and whole["finish_reason"] in ("tool_calls", "length")
        assert whole["finish_reason"] == "length" or set(json.loads(made[0]["function"]["arguments"])) == set(
            SCHEMA["required"]
        )
    else:
        assert choice == "auto" or not made


def test_the_older_form_of_calls() -> None:
    body = ask(functions=[TOOLS[0]["function"]], function_call={"name": "animal"}, max_tokens=150)
    (choice,) = chat(MODEL, body)["choices"]
    assert choice["message"]["function_call"]["name"] == "animal" and "tool_calls" not in choice["message"]
    assert set(json.loads(choice["message"]["function_call"]["arguments"])) == {"name", "legs"}
    assert choice["finish_reason"] == "function_call"


def test_turns_of_tools() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "animal", "arguments": '{"name": "cat"}'}}
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It has 4 legs."},
    ]
    answer = chat(MODEL, ask(messages=turns, tools=TOOLS, tool_choice="none", return_token_ids=True))
    prompt = MODEL.tokenizer.decode(answer["prompt_token_ids"])
    assert prompt.index('"cat"') < prompt.index("It has 4 legs.") and text_of(answer)
    older = [
        *ASK,
        {"role": "assistant", "content": None, "function_call": call["function"]},
        {"role": "function", "name": "animal", "content": "It has 4 legs."},
    ]
    same = chat(MODEL, ask(messages=older, tools=TOOLS, tool_choice="none", return_token_ids=True))
    assert same["prompt_token_ids"] == answer["prompt_token_ids"]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "function", "content": "x"}, "messages[0].name"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "assistant"}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": []}, "messages[0].content"),
        ({"role": "user", "content": None, "tool_calls": [{"id": "1"}]}, "messages[0].tool_calls[0].function"),
    ],
)
def test_messages_that_are_refused(message: dict[str, Any], place: str) -> None:
    with pytest.raises(ParameterError) as caught:
        chat(MODEL, {"messages": [message]})
    assert caught.value.parameter == place


def test_the_name_of_a_function_has_an_effect() -> None:
    """It goes to the template; a participant's name has no place there."""
    turns = [{"role": "user", "name": "Ann", "content": "x"}, {"role": "function", "name": "f", "content": "5"}]
    assert chat(MODEL, {"messages": turns, "max_tokens": 1})["refsample"]["ignored"] == ["messages[0].name"]


THINKING = "{% for m in messages %}{{ m.content }}{% endfor %}{# writes <think> and </think> #}"


def thinker(folder: Path, text: str) -> Model:
    """A model that thinks aloud and says `text` byte by byte."""
    byte_level(folder)
    (folder / "chat_template.jinja").write_text(THINKING)
    return scripted(folder, speaking(text, 1))


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>A 🐢?</think>Yes.", "A 🐢?", "Yes."),
        ("Yes.", None, "Yes."),
        ("<think>On and o", "On and o", None),
        ("<thick>", None, "<thick>"),
    ],
)
def test_thoughts(tmp_path: Path, text: str, reasoning: str | None, content: str | None) -> None:
    model = thinker(tmp_path, text)
    body = {"messages": [{"role": "user", "content": "x"}], "seed": 1, "logprobs": True, "temperature": 0}
    whole = chat(model, body)
    (choice,) = whole["choices"]
    assert (choice["message"].get("reasoning_content"), choice["message"]["content"]) == (reasoning, content)
    thought = len((reasoning or "").encode())  # a token a byte
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": thought}
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(model, body, chat=True)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == (reasoning or "")
    assert "".join(delta.get("content", "") for delta in deltas) == (content or "")
    assert not any("think>" in str(delta) for delta in deltas)
    assert len(choice["logprobs"]["content"]) == len(text.encode()) + 1


def test_thoughts_stay_where_the_page_has_no_place_for_them(tmp_path: Path) -> None:
    model = thinker(tmp_path, "<think>Hm.</think>Yes.")
    body = {"model": "x", "messages": [{"role": "user", "content": "x"}], "temperature": 0}
    (choice,) = chat(model, body, "nebius", strict=True)["choices"]
    assert choice["message"]["content"] == "<think>Hm.</think>Yes."
    (choice,) = chat(model, body, "nebius")["choices"]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("Hm.", "Yes.")


def test_a_form_begins_behind_a_thought(tmp_path: Path) -> None:
    model = thinker(tmp_path, "<think>Hm.</think>Yes.")
    body = {"messages": [{"role": "user", "content": "x"}], "temperature": 0, "guided_choice": ["Yes.", "No."]}
    (choice,) = chat(model, body)["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("Hm.", "Yes.")
