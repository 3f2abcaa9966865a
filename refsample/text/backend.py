"""From the files of a folder to a tokenizer of the `tokenizers` library. Knows nothing of models, bytes or decoding.

tokenizer.json, of whatever kind; else GPT-2's vocab.json and merges.txt. What the files beside it state of added and
special tokens is put over that as transformers 5 does it. A token that is to be added but has neither an id in its file
nor one in the vocabulary is left out: no model knows it. What begins and ends a text is what tokenizer.json says, and
`add_bos_token` and `add_eos_token` count only without one: so transformers 5 reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, UnsupportedModelError, shorten, shown
from refsample.files import read_json_object
from refsample.text.pieces import byte_alphabet
from refsample.text.specials import NAMES, Stated, special_settings, special_texts, stated_tokens

MAIN, PAIR = "tokenizer.json", ("vocab.json", "merges.txt")
_OTHERS: Mapping[str, str] = {
    "tokenizer.model": "a SentencePiece or tiktoken file", "spiece.model": "a SentencePiece file",
    "sentencepiece.bpe.model": "a SentencePiece file", "tiktoken.model": "a tiktoken file",
    "tekken.json": "Mistral's own format", "vocab.txt": "a word list", "vocab.json": "half of a pair with merges.txt",
}  # fmt: skip
_BYTE_LEVEL = ("GPT2Tokenizer", "GPT2TokenizerFast")
_END = "<|endoftext|>"
_SAVE = "load it once with transformers' AutoTokenizer and save_pretrained() writes tokenizer.json"


def open_backend(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, without truncation and padding.

    Raises MissingFileError, CorruptFileError, UnsupportedModelError for a folder that only has another format, and
    MismatchError where a token is stated under an id that it does not get.
    """
    config = special_settings(folder)
    whole = (folder / MAIN).is_file()
    if whole:
        with LibraryErrors(folder / MAIN):
            backend = tokenizers.Tokenizer.from_file(str(folder / MAIN))
    elif all((folder / name).is_file() for name in PAIR):
        backend = _from_pair(folder, config)
        config = {**{name: _END for name in NAMES[:3] if backend.token_to_id(_END) is not None}, **config}
    else:
        raise _absent(folder)
    for token in stated_tokens(folder, config):
        _add(folder, backend, token)
    if not whole:
        _set_ends(backend, config)
    backend.no_truncation()
    backend.no_padding()
    return backend


def _from_pair(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """GPT-2's own files: a byte-level BPE, whose other parts are the same for every model."""
    kind = config.get("tokenizer_class", _BYTE_LEVEL[0])
    if kind not in _BYTE_LEVEL:
        raise UnsupportedModelError(f"{folder}: tokenizer_class={shorten(kind)} without {MAIN}: {_SAVE}")
    read_json_object(folder / PAIR[0])
    with LibraryErrors(folder / PAIR[0]):
        model = models.BPE.from_file(*(str(folder / name) for name in PAIR))
    backend = tokenizers.Tokenizer(model)
    alphabet, vocabulary = set(byte_alphabet()), backend.get_vocab()
    foreign = sorted(piece for piece in vocabulary if piece != _END and not alphabet.issuperset(piece))
    if foreign:
        raise UnsupportedModelError(f"{folder}: {PAIR[0]} is not byte-level ({shorten(foreign[0])}): {_SAVE}")
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    return backend


def _add(folder: Path, backend: tokenizers.Tokenizer, stated: Stated) -> None:
    """Make sure that a token is known as an added one, with the flags that its file gives it."""
    there, added = backend.token_to_id(stated.text), backend.get_added_tokens_decoder()
    if stated.token_id is None and (there is None or there in added):  # a name of what tokenizer.json has, or nobody
        return
    flags: dict[str, bool] = {"normalized": not stated.special, **stated.flags}
    backend.add_tokens([AddedToken(stated.text, special=stated.special, **flags)])
    got = backend.token_to_id(stated.text)
    if stated.token_id is not None and got != stated.token_id:
        raise MismatchError(
            f"{folder}: the added token {shorten(stated.text)} is stated as id {stated.token_id}, but gets {got}"
        )


def _set_ends(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """`add_bos_token` and `add_eos_token` decide what is added to a text."""
    texts = special_texts(config)
    begin, end = (texts.get(name) if config.get(f"add_{name}") else None for name in NAMES[:2])
    marks = {text: backend.token_to_id(text) for text in (begin, end) if text is not None}
    known = {text: token_id for text, token_id in marks.items() if token_id is not None}
    parts = (*([begin] if begin in known else []), "$A", *([end] if end in known else []))
    backend.post_processor = processors.TemplateProcessing(
        single=" ".join(f"{part}:0" for part in parts), special_tokens=list(known.items())
    )


def _absent(folder: Path) -> MissingFileError | UnsupportedModelError:
    for name, what in _OTHERS.items():
        if (folder / name).is_file():
            return UnsupportedModelError(f"{folder}: no {MAIN}; {name} alone ({what}) is not read: {_SAVE}")
    return MissingFileError(f"{folder}: no {MAIN}")


class LibraryErrors:
    """Turns what `tokenizers` raises on a bad file into ours: the bare class Exception, or its panic, which is none."""

    def __init__(self, path: Path | str, what: str = "not a tokenizer") -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is Exception or (kind is not None and kind.__name__ == "PanicException"):
            said = shown(" ".join(str(error).split()), 300)
            raise CorruptFileError(f"{self.path}: {self.what}: {said}") from error
