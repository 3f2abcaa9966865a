"""Incremental text: never half a character, and joined it is what decoding everything gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.text.stream import Detokenizer
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.vocabularies import Facts, byte_level, sentencepiece_style

FRAGMENTS = (("Ġ", "a"), ("Ã", "©"), ("ð", "Ł"), ("Ļ", "Ĥ"), ("â", "Ĥ"))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Tokenizer]:
    first, second = tmp_path_factory.mktemp("bytes"), tmp_path_factory.mktemp("pieces")
    byte_level(first, FRAGMENTS)
    sentencepiece_style(second)
    return load_tokenizer(first, Facts(300)), load_tokenizer(second, Facts(300))


def streamed(tokenizer: Tokenizer, ids: list[int], **options: bool) -> list[str]:
    stream = Detokenizer(tokenizer, **options)
    return [*(stream.push(i) for i in ids), stream.flush()]


# Bytes that begin, continue and break UTF-8 sequences, beside whole pieces and marks.
BYTES = st.sampled_from([3 + b for b in (0x20, 0x41, 0x80, 0x82, 0x99, 0x9F, 0xA9, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xFF)])
IDS = st.lists(st.one_of(st.integers(0, 271), BYTES), max_size=20)


@given(IDS, st.booleans())
def test_joined_is_decode(tokenizers: tuple[Tokenizer, Tokenizer], ids: list[int], skip: bool) -> None:
    for tokenizer in tokenizers:
        assert "".join(streamed(tokenizer, ids, skip_special=skip)) == tokenizer.decode(ids, skip_special=skip)


@given(st.text(alphabet="aé€\U0001f642 ", min_size=1))
def test_no_replacement_inside_valid_text(tokenizers: tuple[Tokenizer, Tokenizer], text: str) -> None:
    for tokenizer in tokenizers:
        parts = streamed(tokenizer, tokenizer.encode(text))
        assert "".join(parts) == text
        assert not any("\ufffd" in part for part in parts)


def test_a_character_comes_with_its_last_byte(tokenizers: tuple[Tokenizer, Tokenizer]) -> None:
    tokenizer = tokenizers[0]
    ids = [tokenizer.backend.token_to_id(piece) for piece in ("ðŁ", "Ļ", "Ĥ", "a")]
    assert streamed(tokenizer, ids) == ["", "", "\U0001f642", "a", ""]
    assert streamed(tokenizer, ids[:2]) == ["", "", "\ufffd"]


def test_a_continuation_keeps_its_space(tokenizers: tuple[Tokenizer, Tokenizer]) -> None:
    tokenizer = tokenizers[1]
    the = tokenizer.backend.token_to_id("▁the")
    assert "".join(streamed(tokenizer, [the, the])) == "the the"
    assert "".join(streamed(tokenizer, [the, the], continued=True)) == " the the"
