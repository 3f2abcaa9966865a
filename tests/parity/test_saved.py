"""Folders that transformers itself writes, from a SentencePiece file or a word list, read as its own classes do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refsample.errors import UnsupportedModelError
from refsample.text.stream import Detokenizer
from refsample.text.tokenizer import load_tokenizer
from tests.text.vocabularies import Facts

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

LINES = [
    "the cat sat on the mat .", "it isn't a cat, is it?", "Zoë's café is open", "1 2 3 4 5 6 7 8 9 0",
    "hello world! the cats and the dogs", " ".join("abcdefghijklmnopqrstuvwxyz"),
]  # fmt: skip
TEXTS = (
    "the cats", " the\n\n  cat é\U0001f642", "", "it isn't a cat, is it?", "cats</s> x", "<s>hi", "Zoë  1  2", "日本",
    "<pad>a<unk>", "[CLS] the [SEP]", "<extra_id_0> cat",
)  # fmt: skip
SOURCES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "LlamaTokenizer": (
        "tokenizer.model", "bpe", {"byte_fallback": True, "vocab_size": 330},
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True},
    ),
    "GemmaTokenizer": ("tokenizer.model", "bpe", {"byte_fallback": True, "vocab_size": 330}, {}),
    "T5Tokenizer": (
        "spiece.model", "unigram", {"vocab_size": 60, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
        {"eos_token": "</s>", "extra_ids": 2},
    ),
}  # fmt: skip


def same(folder: Path) -> None:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder, Facts(1000, ()))
    for text in TEXTS:
        for special in (True, False):
            ids = theirs(text, add_special_tokens=special)["input_ids"]
            assert ours.encode(text, bos=special) == ids, text
            for skip in (True, False):
                stream = Detokenizer(ours, skip_special=skip)
                streamed = "".join([*(stream.push(i) for i in ids), stream.flush()])
                expected = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
                assert ours.decode(ids, skip_special=skip) == streamed == expected, text
    assert ours.eos_token_ids == (() if theirs.eos_token_id is None else (theirs.eos_token_id,))


@pytest.mark.parametrize("name", SOURCES)
def test_from_sentencepiece(tmp_path: Path, name: str) -> None:
    """The file alone is refused; what save_pretrained() makes of it, as the refusal advises, is read."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    file, kind, options, config = SOURCES[name]
    (tmp_path / "text").write_text("\n".join(LINES * 50), encoding="utf-8")
    trainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "m"), model_type=kind, hard_vocab_limit=False,
        minloglevel=2, **options,
    )  # fmt: skip
    first, saved = tmp_path / "first", tmp_path / "saved"
    first.mkdir()
    (tmp_path / "m.model").rename(first / file)
    (first / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **config}))
    with pytest.raises(UnsupportedModelError, match=rf"{file} alone .* save_pretrained\(\) writes tokenizer.json"):
        load_tokenizer(first, Facts(1000, ()))
    getattr(transformers, name).from_pretrained(first).save_pretrained(saved)
    same(saved)


def test_from_a_word_list(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "is", "##n", "it", *"a't,?", "cats"]
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(tmp_path)
    same(tmp_path)
