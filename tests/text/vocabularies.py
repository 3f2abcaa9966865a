"""Small tokenizers for tests, written as folders. Knows nothing of models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from refsample.text.pieces import byte_alphabet

MARKS = ["<|endoftext|>", "<|user|>", "<|assistant|>"]
SENTENCES = ["▁", "▁the", "▁cat", "the", "cat", "s", "t", "h", "e", "c", "a", "é", "▁▁"]


@dataclass(frozen=True)
class Facts:
    """What `load_tokenizer` asks of a model config."""

    vocab_size: int
    eos_token_ids: tuple[int, ...] = (0,)


def byte_level(folder: Path, merges: tuple[tuple[str, str], ...] = ()) -> tokenizers.Tokenizer:
    """GPT-2 style: marks at 0, 1, 2, byte b at 3 + b, then the merges; `eos_token` in tokenizer_config.json."""
    table = byte_alphabet()
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet())
    alphabet = sorted(table, key=table.__getitem__)
    pieces = [*MARKS, *alphabet, *(left + right for left, right in merges)]
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=list(merges))
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(MARKS)
    return _save(folder, tokenizer, {"eos_token": "<|endoftext|>"})


def sentencepiece_style(folder: Path) -> tokenizers.Tokenizer:
    """Llama-2 style: `▁` for a space, `<0x..>` for bytes, one dummy space in front that decoding takes away again."""
    pieces = [*MARKS, *(f"<0x{byte:02X}>" for byte in range(256)), *SENTENCES]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<|user|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(MARKS)
    return _save(folder, tokenizer, {"eos_token": {"content": "<|endoftext|>"}})


LETTERS = "abcdefghijklmnopqrstuvwxyzZëé.,?!'"


def unigram(folder: Path) -> tokenizers.Tokenizer:
    """T5 style: `▁` for a space, the library's own Metaspace decoder, no bytes: what is unknown is one id."""
    pieces = [*MARKS, "<unk>", "▁", "▁the", "▁cat", "▁▁", "s", "the", "is", "n't", *sorted({*LETTERS} - {"s"})]
    scores = [(piece, -1.0 - 0.1 * place) for place, piece in enumerate(pieces)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([*MARKS, "<unk>"])
    return _save(folder, tokenizer, {"eos_token": "<|endoftext|>", "unk_token": "<unk>"})


def word_piece(folder: Path) -> tokenizers.Tokenizer:
    """BERT style: `##` goes on with a word, spaces are not in the vocabulary, text is lower case."""
    pieces = [*MARKS, "<unk>", "the", "cat", "##s", "do", "not", "n't", "##'", *sorted(LETTERS)]
    pieces += [f"##{letter}" for letter in sorted({*LETTERS} - {*"s'"})]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([*MARKS, "<unk>"])
    return _save(folder, tokenizer, {"eos_token": "<|endoftext|>"})


def gemma_style(folder: Path) -> tokenizers.Tokenizer:
    """Gemma style: spaces become `▁` with none put in front, byte pieces, added runs of spaces and line breaks."""
    pieces = [*MARKS, *(f"<0x{byte:02X}>" for byte in range(256)), *SENTENCES]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [("t", "h"), ("th", "e")]
    vocab["th"] = len(vocab)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(MARKS)
    tokenizer.add_tokens([AddedToken("▁▁▁", normalized=True), AddedToken("\n\n", normalized=False)])
    return _save(folder, tokenizer, {"eos_token": "<|endoftext|>"})


def words(folder: Path) -> tokenizers.Tokenizer:
    """Whole words and no decoder at all: the library writes a space between any two pieces."""
    vocab = {piece: i for i, piece in enumerate([*MARKS, "<unk>", "the", "cat", "s", ".", "é"])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(MARKS)
    return _save(folder, tokenizer, {"eos_token": "<|endoftext|>"})


KINDS = {
    "byte_level": byte_level, "sentencepiece": sentencepiece_style, "gemma": gemma_style, "unigram": unigram,
    "word_piece": word_piece, "words": words,
}  # fmt: skip


def _save(folder: Path, tokenizer: tokenizers.Tokenizer, config: dict[str, object]) -> tokenizers.Tokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tokenizer
