"""Every kind of tokenizer: the text of any ids is the library's, whole and streamed, with and without marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.text.stream import Detokenizer
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.vocabularies import KINDS, Facts

WORDS = (
    "the", "cat", "cats", "it's", "isn't", "do not", ".", ",", "'", "Zoë", "\U0001f642", "<|user|>", "  ", "\n\n", "▁",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    made = {}
    for name, make in KINDS.items():
        folder = tmp_path_factory.mktemp(name)
        make(folder)  # type: ignore[operator]
        made[name] = load_tokenizer(folder, Facts(300))
    return made


def ids_of(tokenizer: Tokenizer, places: list[int]) -> list[int]:
    """Ids that mean something to this vocabulary; no byte piece beyond ASCII, where the library counts U+FFFD in its
    own way (see refsample.text.tokenizer)."""
    known = range(tokenizer.vocab_size)
    if tokenizer.rule.byte_fallback:
        known = [i for i in known if not 3 + 0x80 <= i < 3 + 0x100]  # type: ignore[assignment]
    return [known[place % len(known)] for place in places]


@pytest.mark.parametrize("name", KINDS)
@given(places=st.lists(st.integers(0, 10_000), max_size=16), skip=st.booleans())
def test_any_ids(tokenizers: dict[str, Tokenizer], name: str, places: list[int], skip: bool) -> None:
    tokenizer = tokenizers[name]
    ids = ids_of(tokenizer, places)
    expected = tokenizer.backend.decode(ids, skip_special_tokens=skip)
    assert tokenizer.decode(ids, skip_special=skip) == expected
    stream = Detokenizer(tokenizer, skip_special=skip)
    parts = [*(stream.push(i) for i in ids), stream.flush()]
    assert "".join(parts) == expected


@pytest.mark.parametrize("name", KINDS)
@given(words=st.lists(st.sampled_from(WORDS), max_size=8), spaced=st.booleans())
def test_any_text(tokenizers: dict[str, Tokenizer], name: str, words: list[str], spaced: bool) -> None:
    """Ids of real text: a character of several bytes comes in one part, whatever the pieces are."""
    tokenizer, text = tokenizers[name], (" " if spaced else "").join(words)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.backend.decode(ids, skip_special_tokens=False)
    stream = Detokenizer(tokenizer)
    parts = [*(stream.push(i) for i in ids), stream.flush()]
    assert "".join(parts) == tokenizer.decode(ids) and not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("name", KINDS)
def test_padding_rows_are_no_text(tokenizers: dict[str, Tokenizer], name: str) -> None:
    """The library passes over them too: the piece behind one is still the first."""
    tokenizer = tokenizers[name]
    ids = [299, tokenizer.encode("cat")[-1], 299]
    assert tokenizer.decode(ids) == tokenizer.backend.decode(ids) and tokenizer.token_bytes(299) == b""
    stream = Detokenizer(tokenizer)
    assert "".join(stream.push(i) for i in ids) == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("name", "text", "first", "inside"),
    [
        ("word_piece", "cats", b"cat", b" cat"), ("words", "cat", b"cat", b" cat"), ("unigram", "the", b"the", b" the"),
        ("gemma", " the", b" ", b" "), ("byte_level", " a", b" ", b" "),
    ],
)  # fmt: skip
def test_a_first_piece(tokenizers: dict[str, Tokenizer], name: str, text: str, first: bytes, inside: bytes) -> None:
    """By hand: what a kind writes at the start of a text, and what where the text goes on."""
    tokenizer = tokenizers[name]
    start = tokenizer.encode(text)[0]
    assert (tokenizer.token_bytes(start, first=True), tokenizer.token_bytes(start)) == (first, inside)
