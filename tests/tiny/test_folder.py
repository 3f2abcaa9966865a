"""The files of the embedded folder agree with each other and with what the model card promises."""

from __future__ import annotations

import json
import struct
from functools import cache
from math import prod

import pytest
from tokenizers import Tokenizer

from refsample.errors import ParameterError
from refsample.text.chat import load_template
from refsample.tiny import FOLDER
from refsample.tiny.chat import render
from refsample.tiny.vocabulary import CONTEXT, SPECIALS, VOCABULARY
from refsample.tiny.words import CLASSES

DATA = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def _json(name: str) -> dict[str, object]:
    return dict(json.loads((FOLDER / name).read_text(encoding="utf-8")))


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def test_the_folder_is_whole_and_small() -> None:
    sizes = {name: (FOLDER / name).stat().st_size for name in (*DATA, "README.md")}
    assert sum(sizes.values()) <= 12_000_000, sizes


def test_the_weights_are_those_of_the_config() -> None:
    raw = (FOLDER / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    assert {entry["dtype"] for entry in header.values()} == {"BF16"}
    parameters = sum(prod(entry["shape"]) for entry in header.values())
    assert 2_000_000 <= parameters <= 5_000_000
    assert len(raw) == 8 + length + 2 * parameters
    c = _json("config.json")
    assert header["model.embed_tokens.weight"]["shape"] == [c["vocab_size"], c["hidden_size"]]
    assert "lm_head.weight" not in header and c["tie_word_embeddings"] is True
    layers = {name.split(".")[2] for name in header if name.startswith("model.layers.")}
    assert len(layers) == c["num_hidden_layers"]
    assert header["model.layers.0.mlp.down_proj.weight"]["shape"] == [c["hidden_size"], c["intermediate_size"]]
    assert all(entry["shape"][-1] % 32 == 0 for entry in header.values())


def test_the_config_is_a_llama_with_grouped_queries_and_one_end() -> None:
    c = _json("config.json")
    assert c["model_type"] == "llama"
    assert isinstance(c["num_attention_heads"], int) and isinstance(c["num_key_value_heads"], int)
    assert c["num_attention_heads"] > c["num_key_value_heads"] > 1
    assert c["max_position_embeddings"] == CONTEXT >= 1024
    assert c["rope_parameters"] == {"rope_theta": c["rope_theta"], "rope_type": "default"}
    assert c["eos_token_id"] == _json("generation_config.json")["eos_token_id"] == 0
    assert _tokenizer().token_to_id("<|endoftext|>") == 0


def test_the_vocabulary_fits() -> None:
    tokenizer = _tokenizer()
    assert tokenizer.get_vocab_size() == VOCABULARY == _json("config.json")["vocab_size"]
    assert VOCABULARY % 64 == 0
    assert [tokenizer.token_to_id(s) for s in SPECIALS] == list(range(len(SPECIALS)))
    config = _json("tokenizer_config.json")
    assert config["eos_token"] == SPECIALS[0] and config["model_max_length"] == CONTEXT
    assert config["clean_up_tokenization_spaces"] is False


@pytest.mark.parametrize(
    "text", ["Zoë met José at the café. 🙂", " \n\t  x", "don't 12345 Ω≈ç 漢字", "", "\x00\x7f", "a" * 300]
)
def test_every_text_survives_and_nothing_is_added(text: str) -> None:
    tokenizer = _tokenizer()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_words_of_the_wide_classes_are_single_tokens_and_emoji_span_several() -> None:
    tokenizer = _tokenizer()
    for kind in ("name", "animal", "food", "thing", "place"):
        single = [w for w in CLASSES[kind] if len(tokenizer.encode(" " + w).ids) == 1]
        assert len(single) >= 0.9 * len(CLASSES[kind])
    assert all(len(tokenizer.encode(" " + e).ids) >= 3 for e in CLASSES["emoji"])
    assert len(tokenizer.encode("ë").ids) == 2


def test_the_template_writes_what_the_corpus_is_written_in() -> None:
    template = load_template(FOLDER)
    assert template is not None
    turns = [("system", "Be brief."), ("user", "Name an animal."), ("assistant", "Fox."), ("user", "And a food?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert template.render(messages, add_generation_prompt=False) == render(turns)
    assert template.render(messages) == render(turns) + "<|assistant|>"


def test_the_template_refuses_other_roles() -> None:
    template = load_template(FOLDER)
    assert template is not None
    with pytest.raises(ParameterError, match="unknown role critic: one of system, user, assistant, tool"):
        template.render([{"role": "critic", "content": "x"}])


def test_the_template_writes_calls_and_their_results() -> None:
    template = load_template(FOLDER)
    assert template is not None
    call = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": '{"of": [1, 2]}'}}
    messages = [
        {"role": "user", "content": "1+2?"},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
    ]
    written = '<tool_call>\n{"name": "sum", "arguments": {"of": [1, 2]}}\n</tool_call>'
    assert template.render(messages, tools=[{"type": "function", "function": {"name": "sum"}}]) == (
        '<|system|>Tools:\n{"name": "sum"}<|endoftext|><|user|>1+2?<|endoftext|>'
        f"<|assistant|>{written}\n{written}<|endoftext|>"
        "<|user|><tool_response>\n3\n</tool_response><|endoftext|><|assistant|>"
    )
