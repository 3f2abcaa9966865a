"""How a vocabulary piece becomes bytes, read from the decoder of a `tokenizer.json`. Knows no ids and no vocabulary.

Two worlds: byte-level pieces (GPT-2: one printable character stands for one byte) and SentencePiece-style pieces
(`▁` stands for a space, `<0x0A>` for a byte). Both end in bytes; text is made of the joined bytes, never of pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refsample.errors import UnsupportedModelError

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def byte_alphabet() -> dict[str, int]:
    """Character -> byte of GPT-2's table: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + k): byte for k, byte in enumerate(others)}


_ALPHABET = byte_alphabet()


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

    def to_bytes(self, piece: str) -> bytes:
        """The exact bytes of one vocabulary piece. Byte-level: a piece with a foreign character is its own UTF-8."""
        if self.byte_level:
            if all(character in _ALPHABET for character in piece):
                return bytes(_ALPHABET[character] for character in piece)
            return piece.encode("utf-8")
        if self.byte_fallback and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes.fromhex(match[1])
        for old, new in self.replacements:
            piece = piece.replace(old, new)
        return piece.encode("utf-8")

    def strip_start(self, data: bytes) -> bytes:
        """`data` without the leading spaces that the decoder drops at the start of a text."""
        count = 0
        while count < self.leading_spaces and data[count : count + 1] == b" ":
            count += 1
        return data[count:]


def piece_rule(decoder: Mapping[str, object] | None, file: str | Path = "tokenizer.json") -> PieceRule:
    """Read the `decoder` object of a tokenizer.json; one that is not exact on bytes is an UnsupportedModelError."""
    parts = _flatten(decoder)
    kinds = [str(part.get("type")) for part in parts]
    if "ByteLevel" in kinds and set(kinds) <= {"ByteLevel", "Fuse"}:
        return PieceRule(byte_level=True)
    replacements: list[tuple[str, str]] = []
    leading = 0
    for kind, part in zip(kinds, parts, strict=True):
        if kind == "Replace" and isinstance(pattern := part.get("pattern"), Mapping) and "String" in pattern:
            replacements.append((str(pattern["String"]), str(part.get("content"))))
        elif kind == "Metaspace":
            replacements.append((str(part.get("replacement")), " "))
            leading += part.get("prepend_scheme", "always") != "never"
        elif kind == "Strip" and part.get("content") == " " and part.get("stop") == 0:
            leading += int(str(part.get("start")))
        elif kind not in ("ByteFallback", "Fuse"):
            raise UnsupportedModelError(f"{file}: decoder {kind} is not one that refsample can turn into bytes")
    if not replacements:
        raise UnsupportedModelError(f"{file}: no decoder that says how pieces become text")
    return PieceRule(
        byte_level=False,
        replacements=tuple(replacements),
        byte_fallback="ByteFallback" in kinds,
        leading_spaces=leading,
    )


def _flatten(decoder: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    """The decoder as a plain list, with `Sequence` opened."""
    if decoder is None:
        return []
    inner = decoder.get("decoders")
    if decoder.get("type") == "Sequence" and isinstance(inner, Sequence):
        return [part for item in inner if isinstance(item, Mapping) for part in _flatten(item)]
    return [decoder]
