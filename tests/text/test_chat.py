"""Chat templates: the same text as transformers gives, and one clear error for everything a template can do wrong."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from refsample.errors import CorruptFileError, ParameterError
from refsample.text import sandbox
from refsample.text.chat import ChatTemplate, load_template

MESSAGES = [{"role": "user", "content": "Hi <b>"}, {"role": "assistant", "content": None, "tool_calls": None}]


def template(folder: Path, source: object, **config: object) -> ChatTemplate:
    text = json.dumps({"chat_template": source, "bos_token": "<s>", "eos_token": {"content": "</s>"}, **config})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    loaded = load_template(folder, clock=lambda: datetime(2024, 2, 29, 12, 30))
    assert loaded is not None
    return loaded


# One line a case: template source, expected text. Messages: MESSAGES; expected by hand from jinja2's documentation
# (trim_blocks, lstrip_blocks) and from what transformers adds.
CASES = [
    ("{% for m in messages %}\n  {% if m.content %}\n[{{ m.role }}]\n  {% endif %}\n{% endfor %}\n", "[user]\n"),
    ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>Hi <b></s>"),
    ("{{ messages[0] | tojson }}", '{"role": "user", "content": "Hi <b>"}'),
    ("{{ {'b': 'é', 'a': 1} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 1,\n "b": "é"\n}'),
    ("{{ strftime_now('%d %b %Y') }}", "29 Feb 2024"),
    ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user"),
    ("{% generation %}a{{ messages[0].role }}{% endgeneration %}b", "auserb"),
    ("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}", "1"),
    ("{% set n = namespace(x=1) %}{% set n.x = n.x + 1 %}{{ n.x }}{{ dict(a=1).a }}", "21"),
    ("{{ 'p' if add_generation_prompt else 'q' }}{{ tools is none }}{{ unknown }}", "pTrue"),
    ("{{ 'content' in messages[1] }}{{ 'tool_calls' in messages[1] }}", "FalseFalse"),
]


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_rendering(tmp_path: Path, source: str, expected: str) -> None:
    assert template(tmp_path, source).render(MESSAGES) == expected


def test_arguments_reach_the_template(tmp_path: Path) -> None:
    source = "{{ add_generation_prompt }}{{ tools[0].name }}{{ thinking }}{{ bos_token }}"
    text = template(tmp_path, source).render(
        MESSAGES, add_generation_prompt=False, tools=[{"name": "t"}], thinking=3, bos_token="B"
    )
    assert text == "Falset3B"


def test_reasoning_goes_by_all_its_names(tmp_path: Path) -> None:
    source = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}"
    assert template(tmp_path, source).render([{"role": "assistant", "content": "a", "reasoning": "r"}]) == "rr"


CALLS = "{% for c in messages[0].tool_calls %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}"


def test_arguments_of_calls_are_objects(tmp_path: Path) -> None:
    """As text (OpenAI's form) or as objects already; other things about a call stay as they are."""
    loaded = template(tmp_path, CALLS + "{{ messages[0].tool_calls[0].id }}")
    texts: list[object] = ['{"b": "\u00e9", "a": [1.0]}', {"b": "\u00e9", "a": [1.0]}]
    for arguments in texts:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert loaded.render([message]) == 'f({"b": "é", "a": [1.0]})c1'
        assert message["tool_calls"] == [call] and call["function"]["arguments"] == arguments  # type: ignore[index]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_arguments_that_are_no_object(tmp_path: Path, text: str) -> None:
    call = {"function": {"name": "f", "arguments": text}}
    with pytest.raises(ParameterError, match=r"^messages\[1\]\.tool_calls\[0\]\.function\.arguments=.*JSON object"):
        template(tmp_path, CALLS).render([MESSAGES[0], {"role": "assistant", "tool_calls": [call]}])


TURNS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)
TRIMS = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}"
PARTS = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (TURNS, "Once \n", "[user]Hi <b></s>\n[assistant]Once \n"),
        (TURNS, "</s>", "[user]Hi <b></s>\n[assistant]</s>"),
        (TURNS, "", "[user]Hi <b></s>\n[assistant]"),
        (TRIMS, " Once \n", "[user]Hi <b></s>[assistant]Once"),
        ("{{ messages[-1].content }}{{ messages[0].content }}", "Hi", "Hi"),
    ],
)
def test_the_last_message_goes_on(tmp_path: Path, source: str, content: str, expected: str) -> None:
    messages = [MESSAGES[0], {"role": "assistant", "content": content}]
    assert template(tmp_path, source).render(messages, continue_final_message=True) == expected
    assert messages[1]["content"] == content


def test_the_last_part_goes_on(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}]
    text = template(tmp_path, PARTS).render([{"role": "user", "content": parts}], continue_final_message=True)
    assert text == "<a><b" and parts[1] == {"type": "text", "text": "b"}


@pytest.mark.parametrize(
    ("source", "content", "reason"),
    [
        (TURNS, None, "it has no text"),
        (PARTS, [{"type": "image"}], "it has no text"),
        ("{{ messages[0].role }}", "x", "never reads content"),
        ("{% for m in messages[:1] %}{{ m.content }}{% endfor %}", "x", "does not appear"),
    ],
)
def test_a_last_message_that_cannot_go_on(tmp_path: Path, source: str, content: object, reason: str) -> None:
    with pytest.raises(ParameterError, match=f"^continue_final_message=True: .*{reason}"):
        template(tmp_path, source).render([{"role": "assistant", "content": content}] * 2, continue_final_message=True)


def test_a_last_message_and_a_new_one(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="^continue_final_message=True: cannot be combined with add_generation"):
        template(tmp_path, TURNS).render(MESSAGES[:1], continue_final_message=True, add_generation_prompt=True)
    loaded = template(tmp_path, TURNS)
    assert loaded.render(MESSAGES[:1]) == "[user]Hi <b></s>\n[a]"
    assert loaded.render(MESSAGES[:1], add_generation_prompt=False) == "[user]Hi <b></s>\n"


def test_a_template_that_reads_parts_gets_parts(tmp_path: Path) -> None:
    """A text would show nothing where only parts are read; where both are, it stays a text, as in transformers."""
    for walk in ("m.content", "m['content']"):
        source = "{% for m in messages %}{% for p in " + walk + " %}<{{ p.text }}>{% endfor %}{% endfor %}"
        assert template(tmp_path, source).render(MESSAGES[:1]) == "<Hi <b>>"
    aliased = (
        "{% for m in messages %}{% set content = m.content %}{% for p in content %}{{ p.text }}{% endfor %}{% endfor %}"
    )
    assert template(tmp_path, aliased).render(MESSAGES[:1]) == "Hi <b>"
    either = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
    loaded = template(tmp_path, either)
    assert not loaded.reads_parts and loaded.render(MESSAGES[:1]) == "Hi <b>"


REFUSALS = [
    ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ("{{ messages[0].content.missing.deeper }}", "no attribute 'missing'"),
    ("{{ messages[0].content + 1 }}", "can only concatenate str"),
    ("{{ messages[0].content.__class__.__mro__ }}", "unsafe"),
    ("{{ messages.append(1) }}", "'append' of 'list' object is unsafe"),
    ("{% set n = namespace() %}{% set n._x = 1 %}", "'_x'"),
    ("{{ 1 / 0 }}", "division by zero"),
    ("{{ messages[7].content }}", "no element 7"),
    ("{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}", "more than 4000000 characters"),
]


@pytest.mark.parametrize(("source", "reason"), REFUSALS)
def test_what_a_template_refuses_is_the_messages_fault(tmp_path: Path, source: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=r"^messages=.*the chat template refuses them") as caught:
        template(tmp_path, source).render(MESSAGES)
    assert reason in str(caught.value)
    assert caught.value.parameter == "messages"


@pytest.mark.parametrize("messages", [[], "hi", None, [{"content": "x"}], ["hi"], [{"role": 1}]])
def test_messages_that_are_none(tmp_path: Path, messages: list[dict[str, object]]) -> None:
    with pytest.raises(ParameterError, match="messages"):
        template(tmp_path, "x").render(messages)


def test_named_templates_in_the_config(tmp_path: Path) -> None:
    pairs = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    loaded = template(tmp_path, pairs)
    assert (loaded.name, loaded.render(MESSAGES), loaded.render(MESSAGES, tools=[{}])) == ("default", "D", "T")
    assert loaded.named["tool_use"].render(MESSAGES) == "T"


def test_files_win_over_the_config(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag{{ bos_token }}", encoding="utf-8")
    loaded = template(tmp_path, "config")
    assert (loaded.render(MESSAGES), loaded.named["rag"].render(MESSAGES)) == ("file", "rag<s>")


def test_an_image_processors_file_comes_last(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text('{"chat_template": "old{{ bos_token }}"}', encoding="utf-8")
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<b>"}', encoding="utf-8")
    loaded = load_template(tmp_path)
    assert loaded is not None and loaded.render(MESSAGES) == "old<b>"
    assert template(tmp_path, "new").render(MESSAGES) == "new"
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.json").write_text('{"chat_template": 3}', encoding="utf-8")
    with pytest.raises(CorruptFileError, match=r"chat_template of chat_template\.json is neither"):
        load_template(tmp_path)


def test_no_template_at_all(tmp_path: Path) -> None:
    assert load_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert load_template(tmp_path) is None


def test_only_named_templates(tmp_path: Path) -> None:
    """The folder can be used, and each of its templates by name; only the default is missing."""
    loaded = template(tmp_path, [{"name": name, "template": name} for name in ("rag", "tool_use")])
    assert loaded.named["rag"].render(MESSAGES) == "rag"
    assert loaded.render(MESSAGES, tools=[{}]) == "tool_use"
    with pytest.raises(ParameterError, match="no default chat template, only rag, tool_use: name one"):
        loaded.render(MESSAGES)


def test_broken_templates(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="chat template, line 2: "):
        template(tmp_path, "\n{% if %}")
    for source in ([{"name": "default"}], 3, ["x"]):
        with pytest.raises(CorruptFileError, match="neither text nor a list of named ones"):
            template(tmp_path, source)


def test_the_cap_counts_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_CHARACTERS", 6)
    assert template(tmp_path, "{{ messages[0].content }}").render(MESSAGES) == "Hi <b>"
    with pytest.raises(ParameterError, match="more than 6 characters"):
        template(tmp_path, "{{ messages[0].content }}!").render(MESSAGES)
