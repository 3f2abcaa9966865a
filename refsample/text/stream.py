"""Text from a growing list of ids, given out as soon as it is certain. Knows nothing of stop strings or sampling."""

from __future__ import annotations

import codecs

from refsample.text.tokenizer import Tokenizer


class Detokenizer:
    """Joins the bytes of ids as they come and never splits a character.

    What `push` and the final `flush` returned, joined, is `tokenizer.decode(all ids, skip_special=...)`.
    `continued`: the ids go on from a text before them, so a space before the first word stays; in byte-level
    vocabularies it always does.
    """

    __slots__ = ("_decoder", "_first", "_skip_special", "_stripping", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = False, continued: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._first = not continued
        self._stripping = 0 if continued else tokenizer.rule.leading_spaces

    def push(self, token_id: int) -> str:
        """The text that became certain with this id; empty while a character is incomplete."""
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        data = self._tokenizer.token_bytes(token_id, first=self._first)
        if self._first and self._tokenizer.has_piece(token_id):
            self._first = False
        while self._stripping and data:
            if not data.startswith(b" "):
                self._stripping = 0
                break
            data = data[1:]
            self._stripping -= 1
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end: U+FFFD where a character never became whole."""
        return self._decoder.decode(b"", final=True)
