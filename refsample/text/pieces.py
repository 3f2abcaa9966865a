"""How a vocabulary piece becomes bytes, read from the decoder of a `tokenizer.json`. Knows no ids and no vocabulary.

Three worlds: byte-level pieces (GPT-2: one printable character stands for one byte), SentencePiece-style pieces (`▁`
stands for a space, `<0x0A>` for a byte), and words with a space before each (WordPiece: `##` goes on with the word
before). All end in bytes; text is made of the joined bytes, never of pieces. What a decoder does to a piece may depend
on whether it is the first of its text, and on nothing else: so text can be given out as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refsample.errors import UnsupportedModelError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """Character -> byte of GPT-2's table: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + k): byte for k, byte in enumerate(others)}


_ALPHABET = byte_alphabet()
_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What the library's `cleanup` replaces, in its order."""


@dataclass(frozen=True, slots=True)
class PieceRule:
    """What a tokenizer's decoder does to one piece, and to the start of a text."""

    byte_level: bool
    """True: characters stand for bytes. False: pieces are text, with the replacements below."""
    replacements: tuple[tuple[str, str], ...] = ()
    """Literal replacements inside a piece, in order; mostly `▁` -> space."""
    byte_fallback: bool = False
    """True: `<0x0A>` is one byte."""
    leading_spaces: int = 0
    """How many leading spaces the decoder takes from the start of a text (the dummy prefix of SentencePiece)."""
    first_drops: str = ""
    """Characters that vanish from the first piece of a text (Metaspace: every `▁` of it, wherever it stands)."""
    spaced: bool = False
    """True: a space stands before every piece but the first of a text and those with the prefix."""
    prefix: str = ""
    """What marks a piece that goes on with the word before it, taken away there; empty: nothing does."""
    cleanup: bool = False
    """True: English spacing is tidied inside a piece (and its space), as `tokenizers` does it."""

    def to_bytes(self, piece: str, first: bool = False) -> bytes:
        """The exact bytes of one vocabulary piece, inside a text or as its `first`.

        Byte-level: a piece with a foreign character is its own UTF-8.
        """
        if self.byte_level:
            if all(character in _ALPHABET for character in piece):
                return bytes(_ALPHABET[character] for character in piece)
            return piece.encode("utf-8")
        if self.byte_fallback and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes.fromhex(match[1])
        if first:
            piece = "".join(character for character in piece if character not in self.first_drops)
        elif self.spaced:
            goes_on = bool(self.prefix) and piece.startswith(self.prefix)
            piece = piece[len(self.prefix) :] if goes_on else f" {piece}"
        for old, new in (*self.replacements, *(_CLEANED if self.cleanup else ())):
            piece = piece.replace(old, new)
        return piece.encode("utf-8")

    def strip_start(self, data: bytes) -> bytes:
        """`data` without the leading spaces that the decoder drops at the start of a text."""
        count = 0
        while count < self.leading_spaces and data[count : count + 1] == b" ":
            count += 1
        return data[count:]


def piece_rule(decoder: Mapping[str, object] | None, file: str | Path = "tokenizer.json") -> PieceRule:
    """Read the `decoder` object of a tokenizer.json; without one the library writes a space between all pieces.

    UnsupportedModelError for one whose text of a piece hangs on more than the piece and whether it is the first.
    """
    parts = _flatten(decoder)
    kinds = [str(part.get("type")) for part in parts]
    if not parts:
        return PieceRule(byte_level=False, spaced=True)
    if "ByteLevel" in kinds and set(kinds) <= {"ByteLevel", "Fuse"}:
        return PieceRule(byte_level=True)
    if kinds[0] == "WordPiece" and set(kinds[1:]) <= {"Fuse"}:
        marks, tidy = str(parts[0].get("prefix", "##")), bool(parts[0].get("cleanup", True))
        return PieceRule(byte_level=False, spaced=True, prefix=marks, cleanup=tidy)
    return _sentencepiece(kinds, parts, file)


def _sentencepiece(kinds: Sequence[str], parts: Sequence[Mapping[str, object]], file: str | Path) -> PieceRule:
    """A chain of replacements, byte pieces and spaces cut from the start; `Fuse` joins the pieces to one text."""
    replacements: list[tuple[str, str]] = []
    leading, first_drops, fused = 0, "", False
    for kind, part in zip(kinds, parts, strict=True):
        pattern = part.get("pattern")
        old = str(pattern["String"]) if isinstance(pattern, Mapping) and "String" in pattern else ""
        if kind == "Replace" and (len(old) == 1 or (old and not fused)):
            replacements.append((old, str(part.get("content"))))
        elif kind == "Metaspace" and not fused:
            replacements.append((str(part.get("replacement")), " "))
            first_drops += str(part.get("replacement")) if part.get("prepend_scheme", "always") != "never" else ""
        elif kind == "Strip" and fused and part.get("content") == " " and part.get("stop") == 0:
            leading += int(str(part.get("start")))
        elif kind == "Fuse":
            fused = True
        elif kind != "ByteFallback":
            raise UnsupportedModelError(f"{file}: decoder {kind} is not one that refsample can turn into bytes")
    if not replacements:
        raise UnsupportedModelError(f"{file}: no decoder that says how pieces become text")
    return PieceRule(
        byte_level=False,
        replacements=tuple(replacements),
        byte_fallback="ByteFallback" in kinds,
        leading_spaces=leading,
        first_drops=first_drops,
    )


def _flatten(decoder: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    """The decoder as a plain list, with `Sequence` opened."""
    if decoder is None:
        return []
    inner = decoder.get("decoders")
    if decoder.get("type") == "Sequence" and isinstance(inner, Sequence):
        return [part for item in inner if isinstance(item, Mapping) for part in _flatten(item)]
    return [decoder]
