"""One grammar from what a request says of its answer's form: which wish counts, what contradicts, what comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import refsample
from refsample.api.constraints import after_thought
from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.generation.constrain import Grammar, compile_grammar
from refsample.generation.model import Model
from refsample.spec.provider import Reading, provider
from refsample.text.reasoning import Marks
from tests.api.test_tools import is_valid, stubborn, tools

Fields = dict[str, Any]

SCHEMA: Fields = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "size": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["colour", "size"],
    "additionalProperties": False,
}
OTHER: Fields = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
OBJECT: Fields = {"type": "json_object"}


def formatted(schema: Fields) -> Fields:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}


def body(**fields: Any) -> Fields:
    return {"model": "m", "messages": [{"role": "user", "content": "Go."}], "max_tokens": 200, **fields}


def grammar(**fields: Any) -> Grammar | None:
    return parse(body(**fields), provider("openai"), "chat").generation.grammar


WISHES: list[tuple[Fields, tuple[str, Any, str] | None]] = [
    ({}, None),
    ({"response_format": None, "guided_json": None}, None),
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": OBJECT}, ("json_object", "", "response_format")),
    ({"response_format": formatted(SCHEMA)}, ("json_schema", SCHEMA, "response_format.json_schema.schema")),
    ({"guided_json": SCHEMA}, ("json_schema", SCHEMA, "guided_json")),
    ({"guided_json": json.dumps(SCHEMA)}, ("json_schema", SCHEMA, "guided_json")),
    ({"guided_json": SCHEMA, "response_format": OBJECT}, ("json_schema", SCHEMA, "guided_json")),
    ({"guided_json": SCHEMA, "response_format": formatted(SCHEMA)}, ("json_schema", SCHEMA, "guided_json")),
    ({"guided_json": SCHEMA, "response_format": {"type": "text"}}, ("json_schema", SCHEMA, "guided_json")),
    ({"guided_regex": "[ab]+"}, ("regex", "[ab]+", "guided_regex")),
    ({"guided_choice": ["yes", "né"]}, ("choice", ["yes", "né"], "guided_choice")),
    ({"guided_grammar": 'start: "x"'}, ("grammar", 'start: "x"', "guided_grammar")),
]


@pytest.mark.parametrize(("fields", "expected"), WISHES)
def test_what_counts(fields: Fields, expected: tuple[str, Any, str] | None) -> None:
    found = grammar(**fields)
    if expected is None or found is None:
        assert found is expected is None
        return
    kind, source, field = expected
    assert (found.kind, found.field) == (kind, field)
    assert (json.loads(found.source) if isinstance(source, dict | list) else found.source) == source


REFUSED: list[tuple[Fields, str]] = [
    ({"guided_json": SCHEMA, "response_format": formatted(OTHER)}, "guided_json=.*differs from the schema of response"),
    ({"guided_regex": "a", "response_format": OBJECT}, "guided_regex='a': cannot be combined with response_format"),
    ({"guided_json": SCHEMA, "guided_choice": ["a"]}, "guided_choice=.*cannot be combined with guided_json"),
    ({"guided_regex": "a", "guided_grammar": "start: A"}, "guided_grammar=.*cannot be combined with guided_regex"),
    ({"guided_json": "{"}, "guided_json='{': as text of JSON, it is not JSON: Expecting property name"),
    ({"guided_json": '{"type": "string", "type": "integer"}'}, "guided_json=.* holds the name 'type' twice"),
    ({"guided_json": "3"}, "guided_json=3: must be a JSON Schema"),
    ({"guided_json": [SCHEMA]}, "guided_json"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_choice": [""]}, "guided_choice"),
    ({"guided_regex": ""}, "guided_regex"),
    ({"response_format": {"type": "yaml"}}, "response_format.type='yaml'"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: is required by type json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format.json_schema.schema"),
    ({"response_format": formatted(SCHEMA) | {"json_schema": {"schema": SCHEMA}}}, "response_format.json_schema.name"),
    ({"guided_regex": "a", "tools": tools("now")}, "guided_regex='a': cannot be combined with tools"),
    ({"guided_json": {"not": {}}, "tools": tools("now")}, "guided_json: keyword not at #/not is not supported"),
]


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_what_is_refused(fields: Fields, said: str) -> None:
    with pytest.raises(ParameterError, match=f"^{said}"):
        grammar(**fields)


def test_a_provider_may_refuse_two_at_once() -> None:
    page = provider("openai")
    strict = Reading(printed="refused", effective="refused", source="a test", grade="C")
    page = replace(page, behaviours={**page.behaviours, "guided_and_format": strict})
    with pytest.raises(ParameterError, match="guided_json=.*cannot be combined with response_format"):
        parse(body(guided_json=SCHEMA, response_format=OBJECT), page, "chat")


ANSWERS: list[Fields] = [
    {"response_format": formatted(SCHEMA)},
    {"guided_json": SCHEMA, "response_format": OBJECT},
    {"tools": tools("now"), "tool_choice": "none", "response_format": formatted(SCHEMA)},
]


@pytest.mark.parametrize("fields", ANSWERS)
def test_answers_keep_to_it(model: Model, fields: Fields) -> None:
    for seed in range(3):
        answer = refsample.chat(model, body(seed=seed, **fields))
        (choice,) = answer["choices"]
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
        assert answer["refsample"]["constraint"] in ("guided_json", "response_format.json_schema.schema")


def test_a_call_or_the_format(tmp_path: Path) -> None:
    """With tools that may be called and a format: the calls or text of the format, whatever the model would say."""
    fields = {"tools": tools("now"), "response_format": formatted(SCHEMA)}
    called = refsample.chat(stubborn(tmp_path / "a", "<tool_call>, or not"), body(seed=1, **fields))["choices"][0]
    assert called["finish_reason"] == "tool_calls" and called["message"]["content"] is None
    assert all(is_valid(call["function"], ["now"]) for call in called["message"]["tool_calls"])
    said = refsample.chat(stubborn(tmp_path / "b", "{ I will not."), body(seed=1, **fields))["choices"][0]
    assert said["finish_reason"] == "stop" and "tool_calls" not in said["message"]
    jsonschema.validate(json.loads(said["message"]["content"]), SCHEMA)


INSIDE = Marks("<think>", "</think>", opened=True)
FREE = Marks("<think>", "</think>")
BEHIND = [
    (Grammar("choice", '["yes", "no"]', "f"), "yes", "maybe"),
    (Grammar("regex", "[0-9]{2}/[a-c]", "f"), "42/b", "4/b"),
    (Grammar("json_schema", json.dumps(SCHEMA), "f"), '{"colour": "red","size":3}', '{"size": 3}'),
    (Grammar("grammar", 'start: "}" x\nx: "{"*', "f"), "}{{", "{"),
    (Grammar("tools", 'start: answer\nanswer: "a" | "b" answer', "f"), "bba", "ab"),
]


@pytest.mark.parametrize(("form", "good", "bad"), BEHIND)
def test_the_form_holds_behind_a_thought(model: Model, form: Grammar, good: str, bad: str) -> None:
    free, inside = (compile_grammar(after_thought(form, marks), model) for marks in (FREE, INSIDE))
    for constraint, text, fits in (
        (free, good, True),
        (free, f"<think>Or {bad}? é</thin></think>{good}", True),
        (inside, f"Or {bad}?\n</think>{good}", True),
        (free, bad, False),
        (free, f"<think></think>{bad}", False),
        (inside, f"</think>{bad}", False),
        (inside, good, False),
        (free, "<think>", False),
    ):
        state = constraint.start()
        ids = model.tokenizer.encode(text, bos=False)
        for token_id in ids:
            if not state.allowed()[token_id]:
                break
            state.push(token_id)
        else:
            assert bool(state.allowed()[model.tokenizer.eos_token_ids[0]]) is fits, text
            continue
        assert not fits, text
