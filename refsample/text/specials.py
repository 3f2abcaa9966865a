"""The special tokens that a tokenizer_config.json names. Knows nothing of their ids."""

from __future__ import annotations

from collections.abc import Mapping

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def special_texts(config: Mapping[str, object]) -> dict[str, str]:
    """`bos_token`, `eos_token`, ... of a tokenizer_config.json, each a string or an object with `content`."""
    found: dict[str, str] = {}
    for name in SPECIAL_NAMES:
        value = config.get(name)
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found
