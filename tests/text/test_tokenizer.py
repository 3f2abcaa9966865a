"""Ids, bytes and text: exact bytes, text as the `tokenizers` library gives it, clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, ParameterError, UnsupportedModelError
from refsample.text.pieces import byte_alphabet, piece_rule
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.vocabularies import Facts, byte_level, sentencepiece_style

BYTE_MERGES = (("Ġ", "a"), ("Ã", "©"), ("ð", "Ł"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bytes")
    byte_level(path, BYTE_MERGES)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder, Facts(264))


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("pieces")
    sentencepiece_style(path)
    return load_tokenizer(path, Facts(272))


def test_byte_alphabet_is_gpt2s() -> None:
    table = byte_alphabet()
    assert sorted(table.values()) == list(range(256))
    assert (table["!"], table["Ġ"], table["Ċ"], table["ł"], table["ÿ"]) == (0x21, 0x20, 0x0A, 0xA0, 0xFF)


def test_token_bytes_are_exact(tokenizer: Tokenizer) -> None:
    for character, byte in byte_alphabet().items():
        token_id = tokenizer.backend.token_to_id(character)
        assert tokenizer.token_bytes(token_id) == bytes([byte])
    assert [tokenizer.token_bytes(i) for i in (259, 260, 261)] == [b" a", b"\xc3\xa9", b"\xf0\x9f"]
    assert tokenizer.token_bytes(1) == b"<|user|>"
    assert tokenizer.token_bytes(263) == b""


@given(st.text())
def test_encode_then_decode_is_identity(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(i) for i in ids) == text.encode()


@given(st.lists(st.integers(0, 261), max_size=24), st.booleans())
def test_decode_is_the_librarys(tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    expected = tokenizer.backend.decode(ids, skip_special_tokens=skip)
    assert tokenizer.decode(ids, skip_special=skip) == expected


@given(st.lists(st.sampled_from([0, 1, *range(3 + 0x20, 3 + 0x7F), *range(259, 272)]), max_size=12), st.booleans())
def test_decode_of_pieces_is_the_librarys(spaced: Tokenizer, ids: list[int], skip: bool) -> None:
    # Byte pieces of ASCII only: where a run of bytes is not UTF-8 the library counts its U+FFFD differently.
    assert spaced.decode(ids, skip_special=skip) == spaced.backend.decode(ids, skip_special_tokens=skip)


def test_pieces_and_byte_fallback(spaced: Tokenizer) -> None:
    assert spaced.decode(spaced.encode("cat é \U0001f642")) == "cat é \U0001f642"
    assert spaced.token_bytes(3 + 0x0A) == b"\n"
    assert spaced.token_bytes(spaced.backend.token_to_id("▁the")) == b" the"
    assert spaced.token_text(3 + 0xF0) == ""


def test_metaspace_is_read_like_pieces() -> None:
    rule = piece_rule(json.loads(decoders.Metaspace().__getstate__()))
    assert (rule.to_bytes("▁a"), rule.to_bytes("▁a▁", first=True), rule.byte_fallback) == (b" a", b"a", False)


def test_special_tokens_in_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<|user|>a") == [1, tokenizer.backend.token_to_id("a")]
    plain = tokenizer.encode("<|user|>a", special=False)
    assert 1 not in plain and tokenizer.decode(plain) == "<|user|>a"
    assert tokenizer.encode("<|user|>")[0] == 1
    assert tokenizer.decode([1, 259], skip_special=True) == " a"
    assert tokenizer.is_special(1) and not tokenizer.is_special(259)


def test_token_text_is_a_valid_prefix(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_text(261) == ""
    assert tokenizer.token_text(260) == "é"


def test_eos_ids_come_from_all_files(folder: Path) -> None:
    assert load_tokenizer(folder, Facts(300, (7, 3))).eos_token_ids == (0, 3, 7)


def test_added_latin_text_keeps_its_letters(tmp_path: Path) -> None:
    backend = byte_level(tmp_path)
    backend.add_tokens(["été"])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, Facts(300))
    ids = tokenizer.encode("un été")
    assert 259 in ids and tokenizer.decode(ids) == "un été"


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path) -> None:
    backend = byte_level(tmp_path)
    backend.enable_truncation(4)
    backend.enable_padding(length=6)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, Facts(300))
    assert [len(tokenizer.encode("x" * n)) for n in (2, 9)] == [2, 9]


def test_errors_name_the_file_and_the_rule(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingFileError, match="no tokenizer.json$"):
        load_tokenizer(tmp_path, Facts(10))
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.model alone .* is not read: load it once with transf"):
        load_tokenizer(tmp_path, Facts(10))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptFileError, match="not a tokenizer: Model missing"):
        load_tokenizer(tmp_path, Facts(10))
    with pytest.raises(MismatchError, match="ids up to 261, but config.json says vocab_size=200"):
        load_tokenizer(folder, Facts(200))


def test_bad_config_files(tmp_path: Path) -> None:
    byte_level(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"eos_token": "<|nothing|>"}')
    with pytest.raises(MismatchError, match="<|nothing|>"):
        load_tokenizer(tmp_path, Facts(300))
    for text in ("[", "[]"):
        config.write_text(text)
        with pytest.raises(CorruptFileError, match=r"tokenizer_config\.json (is not JSON|holds a list)"):
            load_tokenizer(tmp_path, Facts(300))


def test_inexact_decoders_are_refused() -> None:
    metaspace = {"type": "Metaspace", "replacement": "▁"}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    chains = ([{"type": "CTC"}], [metaspace, strip], [{"type": "Fuse"}, metaspace], [{"type": "Fuse"}])
    for decoder in ({"type": "BPEDecoder"}, *({"type": "Sequence", "decoders": chain} for chain in chains)):
        with pytest.raises(UnsupportedModelError, match="decoder"):
            piece_rule(decoder)


def test_impossible_text_and_ids(tokenizer: Tokenizer) -> None:
    with pytest.raises(ParameterError, match="lone surrogates"):
        tokenizer.encode("a\ud800")
    for text in (None, b"", 3):
        with pytest.raises(ParameterError, match="prompt=.*must be text"):
            tokenizer.encode(text)  # type: ignore[arg-type]
    for wrong in (-1, 264, 10**8, 1 << 32, 1 << 70):
        for call in (tokenizer.token_bytes, tokenizer.token_text, lambda i: tokenizer.decode([7, i])):
            with pytest.raises(ParameterError, match=r"token ids lie in \[0, 264\)"):
                call(wrong)
    tokenizer.token_bytes(1)
    for none in (1.5, 1.0, True, "a", None, [1]):
        with pytest.raises(ParameterError, match="must be an integer"):
            tokenizer.decode([none])  # type: ignore[list-item]
        with pytest.raises(ParameterError, match="must be an integer"):
            tokenizer.token_bytes(none)  # type: ignore[arg-type]
    assert tokenizer.decode(np.array([7, 263])) == "\x04" and all(0 <= i < 264 for i in tokenizer._bytes)
