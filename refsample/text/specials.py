"""The special and added tokens that the files beside a tokenizer.json name. Knows nothing of their ids' meaning.

transformers 5, and late 4, write all of them into tokenizer_config.json (`added_tokens_decoder`); older folders have
special_tokens_map.json and added_tokens.json, which count only where the former says nothing of added tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsample.errors import CorruptFileError, shorten
from refsample.files import read_json_object

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FURTHER = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


@dataclass(frozen=True, slots=True)
class Stated:
    """A token that stands outside the vocabulary's own algorithm, as a file states it."""

    text: str
    token_id: int | None
    """None: the file gives no id, the vocabulary has to."""
    special: bool
    flags: Mapping[str, bool]
    """lstrip, rstrip, single_word, normalized: only those that the file gives."""


def special_settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, under a special_tokens_map.json where that counts. CorruptFileError."""
    config = read_json_object(folder / CONFIG, optional=True)
    if "added_tokens_decoder" in config:
        return config
    return {**config, **read_json_object(folder / MAP, optional=True)}


def special_texts(config: Mapping[str, object]) -> dict[str, str]:
    """`bos_token`, `eos_token`, ... of such settings, each a string or an object with `content`."""
    found: dict[str, str] = {}
    for name in NAMES:
        value = config.get(name)
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def stated_tokens(folder: Path, config: Mapping[str, Any]) -> list[Stated]:
    """Every token that the files state beside tokenizer.json: those with an id by their ids, then the others.

    `config` is that of `special_settings`. CorruptFileError for what is no token.
    """
    texts = special_texts(config)
    named = [_stated(folder, config[name], None, True) for name in NAMES if name in texts]
    further: Any = next((config[name] for name in _FURTHER if config.get(name)), [])
    listed = list(further.values() if isinstance(further, Mapping) else further)
    specials = [*named, *(_stated(folder, value, None, True) for value in listed)]
    if "added_tokens_decoder" in config:
        table = config["added_tokens_decoder"]
        pairs = table.items() if isinstance(table, Mapping) else [(None, table)]
        marks = set(texts.values())
        numbered = [_stated(folder, value, _id(folder, key), _text(value) in marks) for key, value in pairs]
    else:
        marks = {token.text for token in specials}
        old = read_json_object(folder / ADDED, optional=True)
        numbered = [_stated(folder, text, _id(folder, key), text in marks) for text, key in old.items()]
    numbered.sort(key=lambda token: token.token_id or 0)
    every: dict[str, Stated] = {}
    for token in (*numbered, *specials):
        every.setdefault(token.text, token)
    return list(every.values())


def _text(value: object) -> object:
    return value.get("content") if isinstance(value, Mapping) else value


def _stated(folder: Path, value: object, token_id: int | None, special: bool) -> Stated:
    if isinstance(value, str):
        return Stated(value, token_id, special, {})
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        flags = {name: bool(value[name]) for name in _FLAGS if name in value}
        return Stated(value["content"], token_id, special or bool(value.get("special")), flags)
    raise CorruptFileError(f"{folder}: {shorten(value)} among the special and added tokens is no token")


def _id(folder: Path, key: object) -> int:
    if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
        return key
    if isinstance(key, str) and key.isascii() and key.isdigit():
        return int(key)
    raise CorruptFileError(f"{folder}: {shorten(key)} among the added tokens is no token id")
