"""Tokenizers of every kind and age of folder against transformers' AutoTokenizer, and templates' rarer features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refsample.text.chat import load_template
from refsample.text.stream import Detokenizer
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.test_backend import FLAGS, pair, write
from tests.text.vocabularies import KINDS, Facts, byte_level

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TEXTS = (
    "the cats", " the\n\n<|user|>  cat é\U0001f642", "", "it isn't a cat, is it?", "cats<|endoftext|>",
    "[PAD] plain word", "<new>  x <|assistant|> y",
)  # fmt: skip
CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}


def same(folder: Path) -> Tokenizer:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder, Facts(300, ()))
    for text in TEXTS:
        for special in (True, False):
            assert ours.encode(text, bos=special) == theirs(text, add_special_tokens=special)["input_ids"], text
        ids = ours.encode(text)
        for skip in (False, True):
            stream = Detokenizer(ours, skip_special=skip)
            streamed = "".join([*(stream.push(i) for i in ids), stream.flush()])
            expected = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special=skip) == streamed == expected, text
    return ours


@pytest.mark.parametrize("name", KINDS)
def test_kinds(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path)  # type: ignore[operator]
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"eos_token": "<|endoftext|>", **CLASS}))
    same(tmp_path)
    path.unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    ours = load_tokenizer(tmp_path, Facts(300, ()))  # tokenizer.json alone
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert all(ours.encode(text) == theirs(text)["input_ids"] for text in TEXTS)


CONFIGS: dict[str, dict[str, Any]] = {
    "table": {"added_tokens_decoder": {
        "1": {**FLAGS, "content": "<|user|>", "rstrip": True},
        "259": {**FLAGS, "content": "<new>"},
        "260": {**FLAGS, "content": "word", "special": False, "lstrip": True},
    }},
    "named": {"extra_special_tokens": ["<|user|>", "c"], "pad_token": "<|endoftext|>"},
    "older": {"additional_special_tokens": ["b"]},
    "begins": {"add_bos_token": True, "bos_token": "<|user|>"},
    "ends": {"add_eos_token": True, "bos_token": {"__type": "AddedToken", **FLAGS, "content": "<|user|>"}},
    "neither": {"add_bos_token": False, "bos_token": "<|user|>"},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_config_states(tmp_path: Path, name: str) -> None:
    byte_level(tmp_path)
    write(tmp_path, tokenizer_config__json={"eos_token": "<|endoftext|>", **CLASS, **CONFIGS[name]})
    same(tmp_path)


def test_an_old_folder(tmp_path: Path) -> None:
    byte_level(tmp_path)
    write(
        tmp_path,
        tokenizer_config__json=CLASS,
        added_tokens__json={"[PAD]": 259, "plain": 260},
        special_tokens_map__json={"eos_token": "<|assistant|>", "pad_token": "[PAD]", "bos_token": "<|user|>"},
    )
    ours = same(tmp_path)
    assert ours.eos_token_ids == (transformers.AutoTokenizer.from_pretrained(tmp_path).eos_token_id,)


@pytest.mark.parametrize("config", [{}, {"add_prefix_space": True}, {"add_bos_token": True}, {"add_eos_token": True}])
def test_gpt2s_pair(tmp_path: Path, config: dict[str, Any]) -> None:
    pair(tmp_path, **{"tokenizer_class": "GPT2Tokenizer", **config})
    same(tmp_path)


FEATURES = {
    "sets inside": "{% for m in messages %}{% generation %}{% set x = 1 %}{{ m.content }}{% endgeneration %}{{ x }}"
    "{% endfor %}",
    "documents": "{% for d in documents %}{{ d.title }}: {{ d.text | tojson }}\n{% endfor %}{{ documents | length }}",
    "no documents": "{{ documents is none }}{{ tools is none }}{{ tools is defined }}",
    "loops": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
    "json": "{{ messages | tojson(indent=2) }}{{ messages[0] | tojson(separators=(',', ':'), sort_keys=true) }}"
    "{{ 'é' | tojson(ensure_ascii=true) }}",
    "date": "{{ strftime_now('%Y') | length }}",
    "tools": "{% for t in tools %}{{ t.function.name }}{{ t | tojson }}{% endfor %}",
    "specials": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ additional_special_tokens }}|{{ unk_token }}",
    "macros": "{% macro show(m) %}<{{ m.role }}>{% endmacro %}{% for m in messages %}{{ show(m) }}{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join('+') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_of_templates(tmp_path: Path, name: str) -> None:
    byte_level(tmp_path)
    config = {"chat_template": FEATURES[name], "bos_token": "<|user|>", **CLASS, "extra_special_tokens": ["<|user|>"]}
    write(tmp_path, tokenizer_config__json=config)
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "ü"}]
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_template(tmp_path)
    assert ours is not None
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    options: dict[str, Any]
    for options in ({}, {"documents": [{"title": "T", "text": "<x>"}]}, {"tools": tools}):
        if name == "documents" and "documents" not in options:
            continue
        if name == "tools" and "tools" not in options:
            continue
        expected = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, **options)
        assert ours.render(talk, **options) == expected


@pytest.mark.parametrize("kept_in", ["list", "files", "files and config", "further files only"])
def test_named_templates(tmp_path: Path, kept_in: str) -> None:
    """A list in the config, files, both: the same template answers to the same name."""
    byte_level(tmp_path)
    sources = {"default": "D{{ messages[0].content }}", "tool_use": "T{{ messages[0].content }}", "rag": "R"}
    config: dict[str, Any] = dict(CLASS)
    if kept_in in ("list", "files and config"):
        config["chat_template"] = [{"name": n, "template": f"C{s}"} for n, s in sources.items()]
    if kept_in != "list":
        (tmp_path / "additional_chat_templates").mkdir()
        for name, source in sources.items():
            if name != "default":
                (tmp_path / "additional_chat_templates" / f"{name}.jinja").write_text(source)
        if kept_in != "further files only":
            (tmp_path / "chat_template.jinja").write_text(sources["default"])
    write(tmp_path, tokenizer_config__json=config)
    talk, tools = [{"role": "user", "content": "x"}], [{"type": "function", "function": {"name": "f"}}]
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_template(tmp_path)
    assert ours is not None and set(ours.named) == set(theirs.chat_template) - {"default"}
    assert ours.render(talk, tools=tools) == theirs.apply_chat_template(talk, tools=tools, tokenize=False)
    assert ours.named["rag"].render(talk) == theirs.apply_chat_template(talk, chat_template="rag", tokenize=False)
    if "default" in theirs.chat_template:
        assert ours.render(talk) == theirs.apply_chat_template(talk, tokenize=False)
