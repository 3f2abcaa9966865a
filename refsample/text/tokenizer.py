"""The tokenizer of a model folder: text to ids, ids to exact bytes and text. Knows nothing of weights or sampling.

Encoding is done by the `tokenizers` library. Decoding is ours: the bytes of all pieces are joined and read as UTF-8,
each invalid part as U+FFFD. On byte-level vocabularies this is what the library's decoder gives, except that an added
token keeps its own text (the library garbles one written in Latin-1 letters); on SentencePiece-style vocabularies an
invalid run of byte pieces gives one U+FFFD per invalid part, where the library gives one per byte of the whole run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Protocol

import tokenizers

from refsample import checks
from refsample.errors import (
    CorruptFileError,
    MismatchError,
    MissingFileError,
    ParameterError,
    UnsupportedModelError,
    shorten,
    shown,
)
from refsample.files import read_json_object
from refsample.text.pieces import PieceRule, piece_rule
from refsample.text.specials import SPECIAL_NAMES, special_texts


class Vocabulary(Protocol):
    """What the tokenizer has to know of a model's config."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """End ids that config.json and generation_config.json name."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """Text <-> ids of one model folder; safe to share between threads."""

    backend: tokenizers.Tokenizer
    rule: PieceRule
    added: Mapping[int, str]
    """Id -> text of the tokens that stand outside the vocabulary's own algorithm."""
    special_ids: frozenset[int]
    """Those of them that are marks (end of text, turns), not text."""
    eos_token_ids: tuple[int, ...]
    """Every id that ends a text, ascending: config, generation_config and tokenizer_config together."""
    vocab_size: int
    """Highest id that has a piece, plus one."""
    rows: int
    """Rows of the model's embedding, never fewer than that: ids lie below it, and one without a piece has no bytes."""
    _lock: Lock = field(default_factory=Lock, repr=False)
    _bytes: dict[int, bytes] = field(default_factory=dict, repr=False)

    def encode(self, text: str, *, special: bool = True, bos: bool = True) -> list[int]:
        """Ids of `text`. `special`: marks written in the text become their ids, else they are plain text.

        `bos`: the file's own post-processor adds what it adds (a begin-of-text id, for some models);
        off for text that a chat template wrote or that continues a text. Lone surrogates are a ParameterError; a text
        that the file has no way to encode is a CorruptFileError.
        """
        if not isinstance(text, str):
            raise ParameterError("prompt", text, "must be text")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ParameterError("prompt", text, "must be Unicode text without lone surrogates")
        with self._lock:  # the setting is a property of the shared backend
            self.backend.encode_special_tokens = not special
            with _LibraryErrors("tokenizer.json", "cannot encode this text"):
                return list(self.backend.encode(text, add_special_tokens=bos).ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; invalid UTF-8 becomes U+FFFD. ParameterError for ids that the model does not have."""
        known = checks.token_ids("ids", ids, self.rows)
        kept = (i for i in known if not (skip_special and i in self.special_ids))
        data = b"".join(self.token_bytes(i) for i in kept)
        return self.rule.strip_start(data).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one id: a fragment of a character where the piece is one; empty for a padding row.

        ParameterError for an id that the model does not have.
        """
        known = checks.token_id("token_id", token_id, self.rows)
        data = self._bytes.get(known)
        if data is None:
            data = self._bytes[known] = self._piece_bytes(known)
        return data

    def token_text(self, token_id: int) -> str:
        """The longest valid UTF-8 start of one id's bytes: what a logprobs list shows as the token."""
        data = self.token_bytes(token_id)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            return data[: error.start].decode("utf-8")

    def is_special(self, token_id: int) -> bool:
        """True for a mark (end of text, a turn), which is never shown as text of an answer."""
        return token_id in self.special_ids

    def _piece_bytes(self, token_id: int) -> bytes:
        text = self.added.get(token_id)
        if text is not None and (self.rule.byte_level or token_id in self.special_ids):
            return text.encode("utf-8")
        piece = self.backend.id_to_token(token_id)
        return b"" if piece is None else self.rule.to_bytes(piece)


def load_tokenizer(folder: Path, config: Vocabulary) -> Tokenizer:
    """Open the tokenizer of `folder` (tokenizer.json, tokenizer_config.json) for a model with `config`.

    Raises MissingFileError, CorruptFileError, UnsupportedModelError (a decoder that is not exact on bytes) or
    MismatchError (more ids than the model has rows, an end token without an id).
    """
    backend = _backend(folder)
    backend.no_truncation()
    backend.no_padding()
    size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if size > config.vocab_size:
        raise MismatchError(
            f"{folder}: tokenizer.json has ids up to {size - 1}, but config.json says vocab_size={config.vocab_size}"
        )
    _check_ids(folder / "tokenizer.json", backend, config)
    added = backend.get_added_tokens_decoder()
    if getattr(backend.model, "dropout", None):
        said = f"dropout={backend.model.dropout} in tokenizer.json splits a text by chance"
        raise UnsupportedModelError(f"{folder}: {said}, which is not run")
    decoder = None if backend.decoder is None else json.loads(backend.decoder.__getstate__())
    return Tokenizer(
        backend=backend,
        rule=piece_rule(decoder, folder / "tokenizer.json"),
        added={token_id: token.content for token_id, token in added.items()},
        special_ids=frozenset(token_id for token_id, token in added.items() if token.special),
        eos_token_ids=_eos_ids(folder, backend, config),
        vocab_size=size,
        rows=config.vocab_size,
    )


def _check_ids(path: Path, backend: tokenizers.Tokenizer, config: Vocabulary) -> None:
    """MismatchError for pieces that share an id, and for a post-processor that adds ids which the model lacks."""
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if len(set(vocabulary.values())) < len(vocabulary):
        raise MismatchError(f"{path}: the vocabulary gives one id to several pieces")
    with _LibraryErrors(path, "cannot encode the empty text"):
        around = backend.encode("").ids
    if any(one >= config.vocab_size for one in around):
        said = f"the post-processor adds id {max(around)}, config.json says vocab_size={config.vocab_size}"
        raise MismatchError(f"{path}: {said}")


def _backend(folder: Path) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        hint = ""
        if (folder / "tokenizer.model").is_file():
            hint = "; tokenizer.model alone is not read: load and save it once with transformers"
        raise MissingFileError(f"{folder}: no tokenizer.json{hint}")
    with _LibraryErrors(path):
        return tokenizers.Tokenizer.from_file(str(path))


class _LibraryErrors:
    """Turns what `tokenizers` raises on a bad file into ours: the bare class Exception, or its panic, which is none."""

    def __init__(self, path: Path | str, what: str = "not a tokenizer") -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is Exception or (kind is not None and kind.__name__ == "PanicException"):
            said = shown(" ".join(str(error).split()), 300)
            raise CorruptFileError(f"{self.path}: {self.what}: {said}") from error


def _eos_ids(folder: Path, backend: tokenizers.Tokenizer, config: Vocabulary) -> tuple[int, ...]:
    ids = set(config.eos_token_ids)
    path = folder / "tokenizer_config.json"
    settings = read_json_object(path, optional=True)
    texts = special_texts(settings)
    for name in SPECIAL_NAMES:
        if name not in texts and settings.get(name) is not None:
            raise MismatchError(f"{path}: {name}={shorten(settings[name])} must be text, or hold it as content")
    text = texts.get("eos_token")
    if text is not None:
        token_id = backend.token_to_id(text)
        if token_id is None:
            raise MismatchError(
                f"{folder}: eos_token {shorten(text)} of tokenizer_config.json has no id in tokenizer.json"
            )
        ids.add(int(token_id))
    return tuple(sorted(ids))
