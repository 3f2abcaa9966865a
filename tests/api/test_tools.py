"""Tools: every call keeps to its schema, whole and streamed, alone and several; what ends early is not called whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import refsample
from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.generation.model import Model
from refsample.spec.provider import provider
from tests.factories import write_llama
from tests.generation.scripted import scripted, speaking
from tests.text.vocabularies import byte_level

Answer = dict[str, Any]

SCHEMAS: dict[str, dict[str, Any] | None] = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 1, "maxLength": 8},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
        },
        "required": ["city", "unit"],
    },
    "send_mail": {
        "type": "object",
        "properties": {
            "to": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[a-z]{1,6}@[a-z]{1,6}\\.(com|org)$"},
                "minItems": 1,
                "maxItems": 2,
            },
            "urgent": {"type": "boolean"},
        },
        "required": ["to"],
        "additionalProperties": False,
    },
    "move": {
        "type": "object",
        "properties": {"by": {"$ref": "#/$defs/step"}, "then": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "null"}]}},
        "required": ["by"],
        "$defs": {
            "step": {
                "type": "object",
                "properties": {"x": {"type": "integer", "minimum": -99, "maximum": 99}, "y": {"const": 0}},
                "required": ["x", "y"],
                "additionalProperties": False,
            }
        },
    },
    "remember-this_1": {
        "properties": {
            "value": {"type": ["string", "null"], "maxLength": 8},
            "on": {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])$"},
        },
        "required": ["value", "on"],
    },
    "now": None,
}
CLOSED = {name: schema or {"type": "object", "maxProperties": 0} for name, schema in SCHEMAS.items()}
"""What arguments have to keep to: a function without parameters takes none."""


def tools(*names: str) -> list[Answer]:
    functions: list[Answer] = [{"name": name, "parameters": SCHEMAS[name]} for name in names or SCHEMAS]
    return [{"type": "function", "function": {k: v for k, v in one.items() if v is not None}} for one in functions]


def named(name: str) -> Answer:
    return {"type": "function", "function": {"name": name}}


def body(**fields: Any) -> Answer:
    return {"messages": [{"role": "user", "content": "Go."}], "max_tokens": 400, **fields}


def is_valid(function: Answer, among: Iterable[str]) -> bool:
    arguments = json.loads(function["arguments"])
    fits = jsonschema.Draft202012Validator(CLOSED[function["name"]]).is_valid(arguments)
    return function["name"] in among and isinstance(arguments, dict) and fits


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random model: nothing but the grammar makes its calls."""
    return refsample.load(write_llama(tmp_path_factory.mktemp("noise"), max_position=4096))


@pytest.mark.parametrize(("who", "requests"), [("model", 40), ("noise", 160)])
def test_two_hundred_calls_are_valid(who: str, requests: int, request: pytest.FixtureRequest) -> None:
    """Required and named by turns, one tool and several: every call ends and is valid."""
    model: Model = request.getfixturevalue(who)
    valid, names = 0, list(SCHEMAS)
    for seed in range(requests):
        first, second = names[seed // 2 % 5], names[seed // 10 % 5]
        among = dict.fromkeys([first, second]) if seed % 2 else [first]
        wishes = body(
            tools=tools(*dict.fromkeys([second, first])),
            tool_choice="required" if seed % 2 else named(first),
            parallel_tool_calls=False,
            seed=seed,
        )
        (said,) = refsample.chat(model, wishes)["choices"]
        assert said["finish_reason"] == "tool_calls" and said["message"]["content"] is None
        (call,) = said["message"]["tool_calls"]
        assert set(call) == {"id", "type", "function"} and call["id"].startswith("call_")
        valid += is_valid(call["function"], among)
    assert valid == requests


def test_several_calls_and_one(noise: Model) -> None:
    counts = []
    for seed in range(20):
        said = refsample.chat(noise, body(tools=tools("now"), tool_choice="required", seed=seed))["choices"][0]
        calls = said["message"]["tool_calls"]
        assert all(is_valid(call["function"], ["now"]) for call in calls)
        assert len({call["id"] for call in calls}) == len(calls)
        counts.append(len(calls))
    assert min(counts) == 1 and max(counts) > 1


def test_none_is_free_text_and_shows_the_tools(model: Model) -> None:
    plain = body(seed=3, max_tokens=12)
    offered = refsample.chat(model, {**plain, "tools": tools("now"), "tool_choice": "none", "logprobs": True})
    assert "tool_calls" not in offered["choices"][0]["message"]
    assert offered["usage"]["prompt_tokens"] > refsample.chat(model, plain)["usage"]["prompt_tokens"]


def stubborn(folder: Path, text: str, begun: str = "", marks: str = "") -> Model:
    """A model that says `text` after a prompt that ends with `begun`, unless it may not; its template knows `marks`."""
    byte_level(folder)
    config = {"eos_token": "<|endoftext|>", "chat_template": f"<|user|>Go.<|assistant|>{begun}{{# {marks} #}}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return scripted(folder, speaking(text, len("uGo.a") + len(begun)), max_position=1024)


def test_auto_is_free_until_a_call_begins(tmp_path: Path) -> None:
    said = "Let me see: é <tool_call> is a mark.\n<tool_calls>"
    model = stubborn(tmp_path, said)
    for seed in range(8):
        answer = refsample.chat(model, body(tools=tools("weather", "now"), seed=seed))["choices"][0]
        assert answer["message"]["content"] == "Let me see: é "
        assert answer["finish_reason"] == "tool_calls"
        assert all(is_valid(call["function"], ["weather", "now"]) for call in answer["message"]["tool_calls"])
    free = refsample.chat(model, body(seed=0))["choices"][0]
    assert free["message"]["content"] == said and free["finish_reason"] == "stop"


def test_auto_may_be_all_text(tmp_path: Path) -> None:
    said = "<tool_cal> is no mark, nor is <tool"
    answer = refsample.chat(stubborn(tmp_path, said), body(tools=tools(), seed=0))["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == (said, "stop")


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "unit": "celsius"}}\n</tool_call>'


def test_calls_in_a_stream(tmp_path: Path) -> None:
    model = stubborn(tmp_path, f"Yes. {CALL}\n{CALL}")
    wishes = body(tools=tools(), seed=0, logprobs=True)
    whole = refsample.chat(model, wishes)["choices"][0]
    chunks = list(refsample.stream(model, wishes, chat=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    called = [call for delta in deltas for call in delta.get("tool_calls", ())]
    begun = [call for call in called if "id" in call]
    assert [call["index"] for call in begun] == [0, 1]
    assert all(call["type"] == "function" for call in begun)
    assert all(call["function"] == {"name": "weather", "arguments": ""} for call in begun)
    assert len(called) > 10, "arguments come piece by piece"
    for index, call in enumerate(whole["message"]["tool_calls"]):
        pieces = [piece["function"]["arguments"] for piece in called if piece["index"] == index]
        assert "".join(pieces) == call["function"]["arguments"] == '{"city": "Oslo", "unit": "celsius"}'
    assert "".join(delta.get("content") or "" for delta in deltas) == whole["message"]["content"] == "Yes. "
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "tool_calls"
    rows = [row for chunk in chunks for row in (chunk["choices"][0]["logprobs"] or {}).get("content", ())]
    assert rows == whole["logprobs"]["content"]


@pytest.mark.parametrize(("begun", "opening"), [("", "<think>"), ("<think>", "")])
def test_a_call_after_a_thought(tmp_path: Path, begun: str, opening: str) -> None:
    """The thought is free, even to speak of marks; what follows it is held to the form."""
    thought = "A <tool_call> is due.\n"
    model = stubborn(tmp_path, f"{opening}{thought}</think>{CALL}", begun, "</think>")
    for choice in ("auto", "required", named("weather")):
        wishes = body(tools=tools(), tool_choice=choice, seed=0)
        said = refsample.chat(model, wishes)["choices"][0]
        assert said["message"]["reasoning_content"] == thought and said["message"]["content"] is None
        assert said["finish_reason"] == "tool_calls" and len(said["message"]["tool_calls"]) == 1
        deltas = [chunk["choices"][0]["delta"] for chunk in refsample.stream(model, wishes, chat=True)]
        assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == thought
        assert sum("tool_calls" in delta for delta in deltas) > 10
    guided = refsample.chat(model, body(guided_regex="[0-9]{3}", seed=0))["choices"][0]
    assert guided["message"]["reasoning_content"] == thought
    assert len(guided["message"]["content"]) == 3 and guided["message"]["content"].isdecimal()


def test_a_call_that_is_cut_is_not_called_whole(tmp_path: Path) -> None:
    model = stubborn(tmp_path, CALL)
    for size in range(1, len(CALL)):
        answer = refsample.chat(model, body(tools=tools(), seed=0, max_tokens=size))["choices"][0]
        assert answer["finish_reason"] == "length"
        calls = answer["message"].get("tool_calls", [])
        shown = calls[0]["function"]["arguments"] if calls else ""
        assert '{"city": "Oslo", "unit": "celsius"}'.startswith(shown)
    whole = refsample.chat(model, body(tools=tools(), seed=0, max_tokens=len(CALL) + 1))["choices"][0]
    assert whole["finish_reason"] == "tool_calls"


def test_a_stop_string_inside_a_call(tmp_path: Path) -> None:
    answer = refsample.chat(stubborn(tmp_path, CALL), body(tools=tools(), seed=0, stop="lo"))["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert answer["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Os'


def test_the_older_form(tmp_path: Path) -> None:
    functions = [one["function"] for one in tools("weather", "now")]
    model = stubborn(tmp_path, f"{CALL}\n{CALL}")
    wishes = body(functions=functions, seed=0)
    said = refsample.chat(model, wishes)["choices"][0]
    assert said["finish_reason"] == "function_call" and "tool_calls" not in said["message"]
    assert said["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "Oslo", "unit": "celsius"}'}
    deltas = [chunk["choices"][0]["delta"] for chunk in refsample.stream(model, wishes, chat=True)]
    pieces = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert pieces[0] == {"name": "weather", "arguments": ""}
    assert "".join(piece["arguments"] for piece in pieces) == said["message"]["function_call"]["arguments"]
    forced = refsample.chat(model, {**wishes, "function_call": {"name": "now"}})["choices"][0]
    assert forced["message"]["function_call"] == {"name": "now", "arguments": "{}"}
    free = refsample.chat(model, {**wishes, "function_call": "none"})["choices"][0]
    assert free["message"]["content"] == f"{CALL}\n{CALL}"


@pytest.mark.parametrize(
    ("says", "choice", "parallel", "calls"),
    [
        ("No { call.", "auto", True, 0),
        ("{ is no call", "auto", False, 1),
        ("", "auto", True, 0),
        ("No call.", "required", False, 1),
        ('{"name": "now", "arguments": {}}\n{"name": "now", "arguments": {}}', "auto", True, 2),
    ],
)
def test_a_completion_is_its_calls(tmp_path: Path, says: str, choice: str, parallel: bool, calls: int) -> None:
    """An endpoint whose answers have no place for calls (A3): they are the JSON in the text, one a line."""
    length = len("Weather?")
    byte_level(tmp_path)
    model = scripted(tmp_path, speaking(says, length), max_position=1024)
    wishes = {"prompt": "Weather?", "tools": tools("weather", "now"), "tool_choice": choice, "seed": 1}
    wishes |= {"parallel_tool_calls": parallel, "max_tokens": 400}
    (said,) = refsample.complete(model, wishes, spec="scale")["choices"]
    if calls:
        made = [json.loads(line) for line in said["text"].split("\n")]
        assert len(made) == calls and said["finish_reason"] == "tool_calls"
        assert all(is_valid({**one, "arguments": json.dumps(one["arguments"])}, ["weather", "now"]) for one in made)
    else:
        assert (said["text"], said["finish_reason"]) == (says, "stop")
    chunks = [chunk["choices"][0] for chunk in refsample.stream(model, wishes, spec="scale")]
    assert "".join(chunk["text"] for chunk in chunks) == said["text"]
    assert chunks[-1]["finish_reason"] == said["finish_reason"]


def test_every_provider_shows_calls_in_its_own_fields(model: Model) -> None:
    wishes = body(tools=tools("now"), tool_choice=named("now"), seed=1, max_tokens=128)
    for spec, extra in (("nebius", {"function_call": None}), ("empower", {}), ("openai", {"refusal": None})):
        message_of = refsample.chat(model, wishes, spec=spec)["choices"][0]["message"]
        assert message_of["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
        assert message_of["content"] is None and extra.items() <= message_of.items()
    plain = refsample.chat(model, body(seed=1, max_tokens=8), spec="nebius")["choices"][0]["message"]
    assert plain["tool_calls"] == [] and plain["function_call"] is None
    assert "tools" in refsample.chat(model, {**wishes, "max_tokens": 128}, spec="visioncraft")["refsample"]["ignored"]


def test_a_conversation_with_a_result(model: Model) -> None:
    """The call goes back as it came, with its result; the prompt holds both, and the model answers."""
    first = body(tools=tools("weather"), tool_choice="required", parallel_tool_calls=False, seed=1)
    said = refsample.chat(model, first)["choices"][0]["message"]
    (call,) = said["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "It is sunny."}
    wishes = {**body(tools=tools("weather"), seed=1), "messages": [*first["messages"], said, result], "max_tokens": 40}
    answer = refsample.chat(model, wishes)
    assert answer["choices"][0]["message"]["content"]
    assert model.template is not None
    text = model.template.render(
        parse({**wishes, "model": "tiny"}, provider("openai"), "chat").messages, tools=tools("weather")
    )
    arguments = json.dumps(json.loads(call["function"]["arguments"]), ensure_ascii=False)
    assert f'<tool_call>\n{{"name": "weather", "arguments": {arguments}}}\n</tool_call>' in text
    assert text.endswith("<tool_response>\nIt is sunny.\n</tool_response><|endoftext|><|assistant|>")
    assert answer["usage"]["prompt_tokens"] == len(model.tokenizer.encode(text, bos=False))


REFUSED: list[tuple[Answer, str]] = [
    ({"tools": tools("now", "now")}, "tools[1]=.*the name of two functions"),
    ({"tools": tools("now"), "tool_choice": named("then")}, "tool_choice.function.name='then'.*: now"),
    ({"tool_choice": "required"}, "tool_choice='required': needs tools"),
    ({"tools": [], "tool_choice": named("now")}, "tool_choice=.*needs tools"),
    ({"tools": tools("now"), "function_call": {"name": "now"}}, "function_call=.*needs functions"),
    ({"tools": tools("now"), "functions": [{"name": "f"}]}, "functions=.*older form of tools"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name='g'"),
    ({"tools": [{"type": "retrieval"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"functions": [{"name": "f", "parameters": {"type": "array"}}]}, "functions[0].parameters.type='array'.*object"),
    ({"functions": [{"name": "f", "parameters": {"minProperties": 2}}]}, "functions[0].parameters"),
    ({"functions": [{"name": "f", "parameters": {"enum": [3]}}]}, "functions[0].parameters: Unsatisfiable schema"),
    (
        {"functions": [{"name": "f", "parameters": {"$ref": "#/$defs/x", "$defs": {"x": {"type": "array"}}}}]},
        "functions[0].parameters: Unsatisfiable schema",
    ),
    (
        {"tools": [*tools("now"), {"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]},
        "tools[1].function.parameters: keyword not at #/not is not supported",
    ),
]


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_what_is_refused(fields: Answer, said: str) -> None:
    with pytest.raises(ParameterError, match="^" + said.replace("[", r"\[")):
        parse(body(model="m", **fields), provider("openai"), "chat")


def test_a_schema_that_is_not_called_is_not_read() -> None:
    """Only what may be called has to have a form that can be kept."""
    strange = {"type": "function", "function": {"name": "odd", "parameters": {"minProperties": 2}}}
    wishes = body(model="m", tools=[strange, *tools("now")], tool_choice=named("now"))
    found = parse(wishes, provider("openai"), "chat").tools
    assert found is not None and [function.name for function in found.functions] == ["now"]
    assert [tool["function"]["name"] for tool in found.offered] == ["odd", "now"]
