"""Templates that write tools, calls, results and thoughts, and last messages that go on: against transformers.

The templates are written after those of Qwen 2.5, QwQ, Llama 3.1 and Mistral Nemo; each shows one habit of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refsample.text.chat import ChatTemplate, load_template
from refsample.tiny import FOLDER
from tests.text.vocabularies import byte_level

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

HERMES = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nFunction signatures within <tools></tools> XML tags:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = (message.content or '').split('</think>')[-1].lstrip('\\n') %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.reasoning_content is string and loop.last %}
            {{- '\\n<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n' }}
        {%- endif %}
        {%- if content %}{{- '\\n' + content }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is not defined or enable_thinking %}{{- '<think>\\n' }}{%- endif %}
{%- endif %}
"""
LLAMA = """\
{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
        {%- if loop.first and tools is not none %}
            {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
        {%- endif %}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start|>assistant<|end|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}{{- tool_call.arguments | tojson }}{{- "}<|eot|>" }}
    {%- else %}
        {{- "<|start|>ipython<|end|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\\n\\n' }}{%- endif %}
"""
MISTRAL = """\
{%- set ns = namespace() %}{%- set ns.users = 0 %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "user" %}
        {%- set ns.users = ns.users + 1 %}
        {%- if tools is not none and tools and loop.index0 == 0 %}
            {{- "[AVAILABLE_TOOLS][" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.function.items() if key != "return" %}
                    {{- '"' + key + '": ' + (val | tojson) }}{%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST]" + message["content"] + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS][" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function | tojson %}
            {{- out[:-1] + ', "id": "' + tool_call.id + '"}' }}{%- if not loop.last %}{{- ", " }}{%- endif %}
        {%- endfor %}
        {{- "]" + eos_token }}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token }}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS]{"content": ' + message.content | string + ', "call_id": "' + message.tool_call_id + '"}' }}
    {%- endif %}
{%- endfor %}
"""
TEMPLATES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL}

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "description": "The <b>weather</b>.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"],
    }}},
    {"type": "function", "function": {"name": "now"}},
]  # fmt: skip
ARGUMENTS = {"city": "Zürich \U0001f402", "days": 2, "at": [1.5, None, True]}


def call(arguments: object) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


ASKED: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather?"}]
CALLED = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call(ARGUMENTS)]}]
ANSWERED = [*CALLED, {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "sunny"}]
TALKS: dict[str, list[dict[str, Any]]] = {
    "asked": [{"role": "system", "content": "Be brief. "}, *ASKED],
    "called": CALLED,
    "answered": ANSWERED,
    "twice": [*ANSWERED, {"role": "tool", "tool_call_id": "call_2", "content": "and warm"}],
    "thought": [*ANSWERED, {"role": "assistant", "content": "It is sunny.", "reasoning_content": "\nWell.\n"}],
}


def both(folder: Path, source: str) -> tuple[Any, ChatTemplate]:
    byte_level(folder)
    config = {"chat_template": source, "eos_token": "<|endoftext|>", "bos_token": "<|user|>"}
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ours = load_template(folder)
    assert ours is not None
    return transformers.AutoTokenizer.from_pretrained(folder), ours


OPTIONS: list[dict[str, Any]] = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "tools": TOOLS},
    {"add_generation_prompt": True, "tools": TOOLS, "enable_thinking": False},
]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_and_calls(tmp_path: Path, name: str, talk: str) -> None:
    theirs, ours = both(tmp_path, TEMPLATES[name])
    for options in OPTIONS:
        expected = theirs.apply_chat_template(TALKS[talk], tokenize=False, **options)
        assert ours.render(TALKS[talk], **options) == expected
        as_text = [
            {**turn, "tool_calls": [call(json.dumps(ARGUMENTS))]} if "tool_calls" in turn else turn
            for turn in TALKS[talk]
        ]
        assert ours.render(as_text, **options) == expected


LAST: list[Any] = ["It is", "It is ", " It\n\nis \n", ""]
PARTS = [{"type": "text", "text": "It"}, {"type": "text", "text": "is "}]
SHOWS = "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}\
{% for p in m.content %}({{ p.text }}){% endfor %}{% endif %}<end>{% endfor %}"


GOES_ON = [(source, last) for source in (*TEMPLATES.values(), SHOWS) for last in LAST] + [(SHOWS, PARTS)]


@pytest.mark.parametrize(("source", "last"), GOES_ON)
def test_the_last_message_goes_on(tmp_path: Path, source: str, last: Any) -> None:
    theirs, ours = both(tmp_path, source)
    talk = [*ASKED, {"role": "assistant", "content": last}]
    options: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
    assert ours.render(talk, **options) == theirs.apply_chat_template(talk, tokenize=False, **options)


def test_the_embedded_template() -> None:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(FOLDER), load_template(FOLDER)
    assert ours is not None
    for talk in TALKS.values():
        for options in ({"tools": TOOLS}, {}):
            expected = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, **options)
            assert ours.render(talk, **options) == expected
