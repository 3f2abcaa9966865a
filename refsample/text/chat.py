"""Chat templates: messages to the text a model was trained on, as transformers 5 writes it (`sandbox`). Knows no ids.

The same template and messages give the same text as there. A template comes with the model folder and is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from refsample.errors import CorruptFileError, ParameterError
from refsample.files import read_json_object
from refsample.text.specials import special_settings, special_texts

_REASONING = ("reasoning_content", "thinking", "reasoning")

_END_MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""Stands after the text that is to be continued while the template runs; the word is transformers'."""

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, eq=False)
class ChatTemplate:
    """One compiled template; `named` holds the folder's other templates by their names."""

    name: str
    source: str
    compiled: Any = field(repr=False)
    """None: this is the default of a folder that only has named ones."""
    specials: Mapping[str, str]
    """`bos_token`, `eos_token`, ... as the template may write them."""
    named: Mapping[str, ChatTemplate] = field(default_factory=dict)
    reads_parts: bool = False
    """It reads content as a list of parts only, so a text is handed to it as one part, as vLLM does."""

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        **kwargs: object,
    ) -> str:
        """The text of a conversation. With `tools`, the folder's `tool_use` template is taken where there is one.

        `add_generation_prompt`: end with what opens an answer; by default so, unless `continue_final_message` asks that
        the text ends where the last message does, for that message is the beginning of the answer.
        Arguments of tool calls that are JSON text reach the template as objects, as it expects them (vLLM does so too).
        Whatever the template refuses or cannot do is a ParameterError on `messages`.
        """
        opens = not continue_final_message if add_generation_prompt is None else add_generation_prompt
        if tools is not None and "tool_use" in self.named and self.name == "default":
            return self.named["tool_use"].render(
                messages,
                add_generation_prompt=opens,
                continue_final_message=continue_final_message,
                tools=tools,
                **kwargs,
            )
        if self.compiled is None:
            rule = f"this model has no default chat template, only {', '.join(sorted(self.named))}: name one"
            raise ParameterError("template", None, rule, f"chat template {self.name}")
        if opens and continue_final_message:
            rule = "cannot be combined with add_generation_prompt: that would open a new message"
            raise ParameterError("continue_final_message", True, rule)
        turns = [_message(message, f"messages[{index}]") for index, message in enumerate(_checked(messages))]
        if self.reads_parts:
            turns = [_in_parts(turn) for turn in turns]
        last = _mark_end(turns, self.source) if continue_final_message else ""
        values = {
            **self.specials,
            **kwargs,
            "messages": turns,
            "tools": None if tools is None else [dict(tool) for tool in tools],
            "documents": kwargs.get("documents"),
            "add_generation_prompt": opens,
        }
        sandbox = _sandbox()
        try:
            text: str = sandbox.written(self.compiled, values)
        except sandbox.Refused as error:
            raise ParameterError(
                "messages", list(messages), f"the chat template refuses them: {error}", f"chat template {self.name}"
            ) from error
        return _cut_at_end(text, last) if continue_final_message else text


def _checked(messages: object) -> Sequence[Mapping[str, object]]:
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise ParameterError("messages", messages, "must be a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ParameterError(f"messages[{index}]", message, "must be an object with a role")
    return messages


def _message(message: Mapping[str, object], place: str) -> dict[str, object]:
    """A message as transformers 5 hands it on: null fields left out, reasoning under each of its usual names."""
    kept = {key: value for key, value in message.items() if value is not None}
    calls = kept.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        kept["tool_calls"] = [_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(calls)]
    reasoning = next((kept[name] for name in _REASONING if name in kept), None)
    return kept if reasoning is None else {"thinking": reasoning, **kept, "reasoning_content": reasoning}


def _in_parts(turn: dict[str, object]) -> dict[str, object]:
    content = turn.get("content")
    return {**turn, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else turn


def _call(call: object, place: str) -> object:
    """A tool call whose arguments, if they are text, are read as the JSON object that they have to be."""
    function = call.get("function") if isinstance(call, Mapping) else None
    text = function.get("arguments") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(text, str):
        return call
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ParameterError(f"{place}.function.arguments", text, "must be the text of a JSON object")
    return {**call, "function": {**function, "arguments": arguments}}


def _mark_end(turns: list[dict[str, object]], source: str) -> str:
    """Puts a mark after the last message's text (its last part's, if it has parts) and returns that text."""
    content = turns[-1].get("content")
    if "content" not in source:
        raise _no_end("the template never reads content")
    if isinstance(content, str):
        turns[-1]["content"] = content + _END_MARK
        return content
    parts = list(content) if isinstance(content, Sequence) else []
    for index in range(len(parts) - 1, -1, -1):
        text = parts[index].get("text") if isinstance(parts[index], Mapping) else None
        if isinstance(text, str):
            parts[index] = {**parts[index], "text": text + _END_MARK}
            turns[-1]["content"] = parts
            return text
    raise _no_end("it has no text")


def _cut_at_end(text: str, last: str) -> str:
    """`text` up to the mark. A template that trims messages takes the mark's space: then no space stays before it."""
    mark = _END_MARK.strip()
    if last.strip() not in text or mark not in text:
        raise _no_end("it does not appear in what the template writes")
    at = text.rindex(mark)
    return text[:at] if text.startswith(_END_MARK, at) else text[:at].rstrip()


def _no_end(reason: str) -> ParameterError:
    return ParameterError("continue_final_message", True, f"the last message cannot be continued: {reason}")


def _sandbox() -> Any:
    return import_module("refsample.text.sandbox")


def load_template(folder: Path, *, clock: Clock = datetime.now) -> ChatTemplate | None:
    """The chat templates of `folder`, the default one on top (an empty one if all are named); None without any.

    `chat_template.jinja` and `additional_chat_templates/*.jinja` win over `chat_template` in tokenizer_config.json, and
    this over the chat_template.json that older transformers wrote beside an image processor. `clock` is what
    `strftime_now` reads. A template that does not parse is a CorruptFileError.
    """
    sources = _sources(folder) or _config_sources("tokenizer_config.json", folder)
    sources = sources or _config_sources("chat_template.json", folder)
    if not sources:
        return None
    specials = special_texts(special_settings(folder))
    sandbox = _sandbox()
    compiled = {name: sandbox.compiled(source, clock, str(folder)) for name, source in sources.items()}
    plain = {
        name: ChatTemplate(name, source, compiled[name], specials, reads_parts=sandbox.reads_parts(source))
        for name, source in sources.items()
    }
    others = {name: template for name, template in plain.items() if name != "default"}
    default = plain.get("default", ChatTemplate("default", "", None, specials))
    return replace(default, named=others)


def _sources(folder: Path) -> dict[str, str]:
    named = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    paths = {path.stem: path for path in named if path.is_file()}
    if (folder / "chat_template.jinja").is_file():
        paths["default"] = folder / "chat_template.jinja"
    try:
        return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{folder}: a chat template is not UTF-8: {error}") from error
    except OSError as error:
        raise CorruptFileError(f"{folder}: a chat template cannot be read: {error.strerror}") from error


def _config_sources(file: str, folder: Path) -> dict[str, str]:
    value = read_json_object(folder / file, optional=True).get("chat_template")
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        pairs = [(item.get("name"), item.get("template")) for item in value if isinstance(item, dict)]
        if len(pairs) == len(value) and all(isinstance(part, str) for pair in pairs for part in pair):
            return {str(name): str(template) for name, template in pairs}
    raise CorruptFileError(f"{folder}: chat_template of {file} is neither text nor a list of named ones")
