"""What kind of tokenizer a folder has, in words and numbers. It encodes and decodes nothing."""

from __future__ import annotations

import json
from typing import Any

from refsample.text.tokenizer import Tokenizer


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """Plain data: the model's kind, the parts around it, sizes, and every added token."""
    backend = tokenizer.backend
    return {
        "kind": type(backend.model).__name__,
        "normalizer": _parts(backend.normalizer),
        "pre_tokenizer": _parts(backend.pre_tokenizer),
        "post_processor": _parts(backend.post_processor),
        "decoder": _parts(backend.decoder),
        "byte_level": tokenizer.rule.byte_level,
        "byte_fallback": tokenizer.rule.byte_fallback,
        "ids": len(backend.get_vocab(with_added_tokens=True)),
        "rows_without_an_id": tokenizer.rows - tokenizer.vocab_size,
        "added_tokens": [
            {"id": token_id, "text": text, "special": token_id in tokenizer.special_ids}
            for token_id, text in sorted(tokenizer.added.items())
        ],
    }


def _parts(component: Any) -> list[str]:
    """Types of a component in their order, with what `Sequence` holds; empty where there is none."""
    return [] if component is None else list(_types(json.loads(component.__getstate__())))


def _types(state: dict[str, Any]) -> list[str]:
    if state.get("type") != "Sequence":
        return [str(state.get("type"))]
    inner = next((value for value in state.values() if isinstance(value, list)), [])
    return [kind for part in inner for kind in _types(part)]
