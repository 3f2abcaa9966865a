"""Encoding, decoding and chat templates against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refsample.text.chat import load_template
from refsample.text.tokenizer import load_tokenizer
from refsample.tiny import FOLDER
from tests.text.vocabularies import Facts, byte_level, sentencepiece_style

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

CHATML = """\
{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
LLAMA = """\
{{ bos_token }}{% for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'] | trim + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}
"""
BLOCKS = """\
{%- set ns = namespace(count=0) %}
{%- for m in messages %}
  {%- set ns.count = ns.count + 1 %}
    {% generation %}
    {{ ns.count }}: {{ m | tojson }}
    {% endgeneration %}
{% endfor %}

{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
"""
BREAKS = """\
{% for m in messages %}{% if m.content is not defined %}{% continue %}{% endif %}
{{ m.role | upper }}={{ m.content | default('?') | replace('a', 'A') }};{% endfor %}{{ bos_token }}{{ eos_token }}
"""
TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "blocks": BLOCKS, "breaks": BREAKS}
TALKS = {
    "one": [{"role": "user", "content": " Say <b>é</b> & '\"\U0001f642 "}],
    "three": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ],
    "null": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "name": None, "reasoning": "r"}],
}


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_alike(tmp_path: Path, name: str, talk: str) -> None:
    byte_level(tmp_path)
    config = {"chat_template": TEMPLATES[name], "eos_token": "<|endoftext|>", "bos_token": "<|user|>"}
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_template(tmp_path)
    assert ours is not None
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    for options in ({}, {"add_generation_prompt": False}, {"tools": tools}):
        expected = theirs.apply_chat_template(TALKS[talk], tokenize=False, **{"add_generation_prompt": True, **options})
        assert ours.render(TALKS[talk], **options) == expected


@pytest.mark.parametrize("make", [byte_level, sentencepiece_style])
def test_tokenizers_agree(tmp_path: Path, make: object) -> None:
    make(tmp_path)  # type: ignore[operator]
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path, Facts(300))
    for text in ("the cat", " the\n<|user|> cat é\U0001f642", "", "cats<|endoftext|>"):
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"]
        for skip in (False, True):
            assert ours.decode(ids, skip_special=skip) == theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
    assert ours.eos_token_ids == (theirs.eos_token_id,)


def test_the_embedded_model_reads_and_writes_alike() -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(FOLDER)
    ours, template = load_tokenizer(FOLDER, Facts(theirs.vocab_size + 1000)), load_template(FOLDER)
    assert template is not None
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Zoë & José \U0001f422?"},
        {"role": "assistant", "content": "Café."},
        {"role": "user", "content": "<|user|> \n\t 12+30=\u200d"},
    ]
    for prompt in (True, False):
        text = template.render(talk, add_generation_prompt=prompt)
        assert text == theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=prompt)
        ids = ours.encode(text, bos=False)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids) == text
    assert ours.eos_token_ids == (theirs.eos_token_id,)
