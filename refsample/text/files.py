"""Reading the small JSON files that stand beside a tokenizer. Knows nothing of what they mean for the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from refsample.errors import CorruptFileError

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_json(path: Path) -> Mapping[str, object]:
    """The object in `path`; empty where the file does not exist. Anything but a JSON object is a CorruptFileError."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path}: not a JSON object")
    return value


def special_texts(config: Mapping[str, object]) -> dict[str, str]:
    """`bos_token`, `eos_token`, ... of a tokenizer_config.json, each a string or an object with `content`."""
    found: dict[str, str] = {}
    for name in _SPECIAL_NAMES:
        value = config.get(name)
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found
