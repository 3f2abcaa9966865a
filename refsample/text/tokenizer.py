"""The tokenizer of a model folder: text to ids, ids to exact bytes and text. Knows nothing of weights or sampling.

Encoding is done by the `tokenizers` library. Decoding is ours: the bytes of all pieces are joined and read as UTF-8,
each invalid part as U+FFFD. This is what the library's decoder gives, but for two things. On byte-level vocabularies an
added token keeps its own text (the library garbles one written in Latin-1 letters). With byte pieces (`<0x0A>`) an
invalid run of them gives one U+FFFD per invalid part, where the library gives one per byte of the whole run.
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
from refsample.errors import MismatchError, ParameterError, UnsupportedModelError, shorten
from refsample.text.backend import MAIN, LibraryErrors, open_backend
from refsample.text.pieces import PieceRule, piece_rule
from refsample.text.specials import CONFIG, NAMES, special_settings, special_texts


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
    """Highest id below `rows` that has a piece, plus one."""
    rows: int
    """Rows of the model's embedding: ids lie below it, and one without a piece has no bytes."""
    _lock: Lock = field(default_factory=Lock, repr=False)
    _bytes: dict[int, bytes] = field(default_factory=dict, repr=False)

    def encode(self, text: str, *, special: bool = True, bos: bool = True) -> list[int]:
        """Ids of `text`. `special`: marks written in the text become their ids, else they are plain text.

        `bos`: the file's own post-processor adds what it adds (a begin-of-text id, for some models);
        off for text that a chat template wrote or that continues a text. ParameterError for lone surrogates, and for
        an added token that the model has no row for; CorruptFileError for what the file has no way to encode.
        """
        if not isinstance(text, str):
            raise ParameterError("prompt", text, "must be text")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ParameterError("prompt", text, "must be Unicode text without lone surrogates")
        with self._lock:  # the setting is a property of the shared backend
            self.backend.encode_special_tokens = not special
            with LibraryErrors(MAIN, "cannot encode this text"):
                ids = list(self.backend.encode(text, add_special_tokens=bos).ids)
        for token_id in ids:
            if token_id >= self.rows:
                said = f"holds {self.added.get(token_id)!r}, id {token_id}: the model's embedding has {self.rows} rows"
                raise ParameterError("prompt", text, said, "the model's config")
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; invalid UTF-8 becomes U+FFFD. ParameterError for ids that the model does not have."""
        known = checks.token_ids("ids", ids, self.rows)
        kept = [i for i in known if self.has_piece(i) and not (skip_special and i in self.special_ids)]
        data = b"".join(self.token_bytes(i, first=place == 0) for place, i in enumerate(kept))
        return self.rule.strip_start(data).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int, *, first: bool = False) -> bytes:
        """The exact bytes of one id: a fragment of a character where the piece is one; empty for a padding row.

        `first`: as they are where nothing stands before it, which is another matter in vocabularies that write the
        spaces between words themselves. ParameterError for an id that the model does not have.
        """
        known = checks.token_id("token_id", token_id, self.rows)
        if first:
            return self._piece_bytes(known, True)
        data = self._bytes.get(known)
        if data is None:
            data = self._bytes[known] = self._piece_bytes(known)
        return data

    def has_piece(self, token_id: int) -> bool:
        """False for a padding row, which is no part of any text."""
        return self.backend.id_to_token(token_id) is not None

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

    def _piece_bytes(self, token_id: int, first: bool = False) -> bytes:
        text = self.added.get(token_id)
        if text is not None and self.rule.byte_level:
            return text.encode("utf-8")
        piece = self.backend.id_to_token(token_id)
        return b"" if piece is None else self.rule.to_bytes(piece, first)


def load_tokenizer(folder: Path, config: Vocabulary) -> Tokenizer:
    """Open the tokenizer of `folder` for a model with `config`; its files are those of `backend.open_backend`.

    The model may have more rows than the tokenizer has ids, and added tokens may lie beyond its rows: they cannot be
    used then. Raises MissingFileError, CorruptFileError, UnsupportedModelError (a decoder that is not exact on bytes)
    or MismatchError (a vocabulary of more ids than the model has rows, an end token without an id).
    """
    backend = open_backend(folder)
    ids = list(backend.get_vocab(with_added_tokens=False).values())
    size = max(ids, default=-1) + 1
    if size > config.vocab_size:
        raise MismatchError(
            f"{folder}: its vocabulary has ids up to {size - 1}, but config.json says vocab_size={config.vocab_size}"
        )
    _check_ids(folder / MAIN, ids, backend, config)
    added = backend.get_added_tokens_decoder()
    if getattr(backend.model, "dropout", None):
        said = f"dropout={backend.model.dropout} in {MAIN} splits a text by chance"
        raise UnsupportedModelError(f"{folder}: {said}, which is not run")
    decoder = None if backend.decoder is None else json.loads(backend.decoder.__getstate__())
    return Tokenizer(
        backend=backend,
        rule=piece_rule(decoder, folder / MAIN),
        added={token_id: token.content for token_id, token in added.items()},
        special_ids=frozenset(token_id for token_id, token in added.items() if token.special),
        eos_token_ids=_eos_ids(folder, backend, config),
        vocab_size=max((size, *(token_id + 1 for token_id in added if token_id < config.vocab_size))),
        rows=config.vocab_size,
    )


def _check_ids(path: Path, ids: list[int], backend: tokenizers.Tokenizer, config: Vocabulary) -> None:
    """MismatchError for pieces that share an id, and for a post-processor that adds ids which the model lacks."""
    if len(set(ids)) < len(ids):
        raise MismatchError(f"{path}: the vocabulary gives one id to several pieces")
    with LibraryErrors(path, "cannot encode the empty text"):
        around = backend.encode("").ids
    if any(one >= config.vocab_size for one in around):
        said = f"the post-processor adds id {max(around)}, config.json says vocab_size={config.vocab_size}"
        raise MismatchError(f"{path}: {said}")


def _eos_ids(folder: Path, backend: tokenizers.Tokenizer, config: Vocabulary) -> tuple[int, ...]:
    ids, given = set(config.eos_token_ids), special_settings(folder)
    texts = special_texts(given)
    for name in NAMES:
        if name not in texts and given.get(name) is not None:
            raise MismatchError(f"{folder / CONFIG}: {name}={shorten(given[name])} must be text, or hold it as content")
    text = texts.get("eos_token")
    if text is not None:
        token_id = backend.token_to_id(text)
        if token_id is None or token_id >= config.vocab_size:
            place = "has no id in the tokenizer" if token_id is None else f"has the id {token_id}, beyond the model's"
            raise MismatchError(f"{folder}: eos_token {shorten(text)} of {CONFIG} {place}")
        ids.add(int(token_id))
    return tuple(sorted(ids))
