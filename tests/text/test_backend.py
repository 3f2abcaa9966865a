"""From files to a tokenizer: GPT-2's pair, added tokens of old and new folders, begin and end ids, formats not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, UnsupportedModelError
from refsample.text.pieces import byte_alphabet
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.vocabularies import Facts, byte_level

ROWS = Facts(300, ())
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}


def write(folder: Path, **files: Any) -> Path:
    """JSON files, `__` standing for the dot: config__json={...}."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(json.dumps(value), encoding="utf-8")
    return folder


def pair(folder: Path, **config: Any) -> Path:
    """GPT-2's files: bytes, then `th`, `the`, `Ġthe`, and the end mark as the last id (259)."""
    table = byte_alphabet()
    pieces = [*sorted(table, key=table.__getitem__), "th", "the", "Ġthe", "<|endoftext|>"]
    write(folder, vocab__json={piece: i for i, piece in enumerate(pieces)})
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n", encoding="utf-8")
    return write(folder, tokenizer_config__json=config) if config else folder


def loaded(folder: Path) -> Tokenizer:
    return load_tokenizer(folder, ROWS)


def test_gpt2s_pair(tmp_path: Path) -> None:
    """No other file needed: the end mark is GPT-2's, and is known as a mark."""
    tokenizer = loaded(pair(tmp_path))
    assert tokenizer.encode("the the<|endoftext|>\n") == [257, 258, 259, 10]
    assert tokenizer.is_special(259) and tokenizer.decode([258, 259, 0xC3, 0xA9]) == " the<|endoftext|>é"
    assert loaded(pair(tmp_path / "b", add_prefix_space=True)).encode("the") == [258]
    named = loaded(pair(tmp_path / "c", eos_token="the", tokenizer_class="GPT2Tokenizer"))
    assert named.eos_token_ids == (257,) and named.is_special(257)


def test_pairs_of_other_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="tokenizer_class='Qwen2Tokenizer' without tokenizer.json: load it"):
        loaded(pair(tmp_path / "a", tokenizer_class="Qwen2Tokenizer"))
    foreign = write(pair(tmp_path / "b"), vocab__json={"t": 0, "h</w>": 1, "日": 2})
    (foreign / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="vocab.json is not byte-level"):
        loaded(foreign)
    (foreign / "merges.txt").write_text("#version: 0.2\na b\n", encoding="utf-8")
    with pytest.raises(CorruptFileError, match="not a tokenizer: .*out of vocabulary"):
        loaded(foreign)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "vocab.txt", "vocab.json", "tekken.json"])
def test_formats_that_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match=f"no tokenizer.json; {name} alone .* save_pretrained"):
        loaded(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match="no tokenizer.json$"):
        loaded(tmp_path)


def test_added_tokens_of_a_new_folder(tmp_path: Path) -> None:
    """The table in tokenizer_config.json: tokens with the next ids; its flags stand over those of tokenizer.json."""
    byte_level(tmp_path)
    table = {
        "259": {**FLAGS, "content": "<new>"},
        "260": {**FLAGS, "content": "word", "special": False, "single_word": True, "lstrip": True},
        "1": {**FLAGS, "content": "<|user|>", "rstrip": True},
    }
    write(tmp_path, tokenizer_config__json={"added_tokens_decoder": table, "eos_token": "word"})
    tokenizer = loaded(tmp_path)
    assert tokenizer.encode("<new>a  word swordfish")[:3] == [259, 3 + 97, 260]
    assert tokenizer.encode("<|user|>  a") == [1, 3 + 97] and tokenizer.encode("a <|assistant|>")[-1] == 2
    assert tokenizer.special_ids == {0, 1, 2, 259, 260} and tokenizer.eos_token_ids == (260,)


def test_added_tokens_of_an_old_folder(tmp_path: Path) -> None:
    byte_level(tmp_path)
    write(tmp_path, added_tokens__json={"[PAD]": 259, "plain": 260})
    write(tmp_path, special_tokens_map__json={
        "eos_token": {"content": "<|assistant|>", "lstrip": False}, "pad_token": "[PAD]",
        "additional_special_tokens": ["<|user|>", "nowhere", "Ġ"],
    })  # fmt: skip
    tokenizer = loaded(tmp_path)
    assert (tokenizer.encode("[PAD]"), tokenizer.encode("xplain")[1:]) == ([259], [260])
    assert tokenizer.eos_token_ids == (2,)  # the map stands over tokenizer_config.json, which says <|endoftext|>
    assert tokenizer.is_special(259) and not tokenizer.is_special(260)
    assert tokenizer.is_special(3 + 0x20) and len(tokenizer.encode("nowhere")) == 7
    write(tmp_path, tokenizer_config__json={"added_tokens_decoder": {}, "eos_token": "<|user|>"})
    new = loaded(tmp_path)  # a new folder's old files count for nothing
    assert new.eos_token_ids == (1,) and len(new.encode("plain")) == 5


def test_added_tokens_that_cannot_be(tmp_path: Path) -> None:
    byte_level(tmp_path)
    write(tmp_path, tokenizer_config__json={"added_tokens_decoder": {"270": {**FLAGS, "content": "<gap>"}}})
    with pytest.raises(MismatchError, match="added token '<gap>' is stated as id 270, but gets 259"):
        loaded(tmp_path)
    for table in ({"x": {"content": "y"}}, {"-1": {"content": "y"}}, {"259": 3}, {"259": {"text": "y"}}, [1]):
        write(tmp_path, tokenizer_config__json={"added_tokens_decoder": table})
        with pytest.raises(CorruptFileError, match="is no token"):
            loaded(tmp_path)


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ({}, [97]),
        ({"add_bos_token": True}, [257, 97]),
        ({"add_bos_token": True, "add_eos_token": True}, [257, 97, 259]),
        ({"add_eos_token": True, "bos_token": None}, [97, 259]),
        ({"add_bos_token": True, "bos_token": None}, [97]),
    ],
)
def test_begin_and_end_ids(tmp_path: Path, config: dict[str, Any], ids: list[int]) -> None:
    """The config says what is added to a text, and tokenizer.json where there is one; for templates nothing is."""
    tokenizer = loaded(pair(tmp_path, **{"bos_token": "the", **config}))
    assert (tokenizer.encode("a"), tokenizer.encode("a", bos=False)) == (ids, [97])
    tokenizer.backend.post_processor = processors.TemplateProcessing(single="the $A", special_tokens=[("the", 257)])
    tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    assert loaded(tmp_path).encode("a") == [257, 97]


def test_more_rows_and_more_ids(tmp_path: Path) -> None:
    backend = byte_level(tmp_path)
    backend.add_special_tokens(["<image>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    wide, tight = load_tokenizer(tmp_path, Facts(400)), load_tokenizer(tmp_path, Facts(259))
    assert (wide.vocab_size, wide.rows, tight.vocab_size, tight.rows) == (260, 400, 259, 259)
    write(tmp_path, tokenizer_config__json={"eos_token": "<image>"})
    with pytest.raises(MismatchError, match="eos_token '<image>' .* has the id 259, beyond the model's"):
        load_tokenizer(tmp_path, Facts(259))
