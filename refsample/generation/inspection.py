"""What a model folder holds, and whether and why not it can be run: headers and small files, no weights.

Every section is plain data for JSON, and None where a file is missing or says nothing that can be read: then
`why_not` says what is wrong. Nothing here needs the network.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from refsample.errors import ModelError, ParameterError
from refsample.files import read_json_object
from refsample.generation.defaults import read_defaults
from refsample.generation.hub import broken
from refsample.generation.load import adapters, held
from refsample.model.config import ModelConfig, read_config
from refsample.model.load import fingerprint
from refsample.model.tensors import read_header
from refsample.model.weights import check_weights
from refsample.text.chat import ChatTemplate, load_template
from refsample.text.describe import describe
from refsample.text.specials import special_settings, special_texts
from refsample.text.tokenizer import Tokenizer, load_tokenizer

Part = TypeVar("Part")

EXAMPLE: Final = (
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4."},
    {"role": "user", "content": "And 3 + 3?"},
)
"""The conversation that a chat template is shown on: every template takes these roles."""
CACHE_BYTES, LOGIT_BYTES = 4, 4  # float32, the arithmetic that a model has unless another is asked for
_RAW: Final[Mapping[str, tuple[str, ...]]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "kv_heads": ("num_key_value_heads",),
    "head_width": ("head_dim", "d_kv"),
    "feed_forward": ("intermediate_size", "n_inner", "d_ff", "ffn_dim"),
    "vocab_size": ("vocab_size",),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
    "tied": ("tie_word_embeddings",),
}
"""How config.json spells a size, for families that are not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One model folder."""

    name: str
    folder: str
    revision: str | None
    """Commit, where the folder is a snapshot of the hub cache."""
    family: str | None
    runnable: bool
    why_not: tuple[str, ...]
    architecture: Mapping[str, Any] | None
    weights: Mapping[str, Any] | None
    memory: Mapping[str, int] | None
    """Bytes; None where the sizes are not known."""
    special_tokens: Mapping[str, Any] | None
    tokenizer: Mapping[str, Any] | None
    chat_templates: Mapping[str, Any] | None
    generation_config: tuple[Mapping[str, Any], ...] | None
    """Every line of the file: name, value, use, detail."""
    adapters: tuple[str, ...]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def inspect_model(name: str) -> Inspection:
    """Look at a model by name: embedded, a folder, or an id of the local hub cache. UnknownModelError without one."""
    folder = held(name)
    wrong: list[str] = []
    torn = broken(folder)
    if torn is not None:
        wrong.append(torn)
    raw = _try(wrong, lambda: read_json_object(folder / "config.json"))
    config = None if raw is None else _try(wrong, lambda: read_config(folder))
    weights = _try(wrong, lambda: stored(folder))
    if config is not None:
        known = config
        _try(wrong, lambda: check_weights(folder, known))
    tokenizer = _try(wrong, lambda: load_tokenizer(folder, _Rows(raw or {}) if config is None else config))
    template = _try(wrong, lambda: load_template(folder))
    defaults = _try(wrong, lambda: read_defaults(folder))
    return Inspection(
        name=name,
        folder=str(folder),
        revision=folder.name if folder.parent.name == "snapshots" else None,
        family=None if raw is None or raw.get("model_type") is None else str(raw["model_type"]),
        runnable=not wrong,
        why_not=tuple(dict.fromkeys(wrong)),
        architecture=sizes(config) if config is not None else None if raw is None else raw_sizes(raw),
        weights=weights,
        memory=None if config is None or weights is None else memory(config, weights["bytes"]),
        special_tokens=None if tokenizer is None else _special(folder, tokenizer),
        tokenizer=None if tokenizer is None else describe(tokenizer),
        chat_templates=None if template is None else _shown(template, tokenizer),
        generation_config=None if defaults is None else tuple(asdict(entry) for entry in defaults.entries),
        adapters=tuple(adapters(folder)),
        fingerprint=fingerprint(folder),
    )


class _Rows:
    """What a tokenizer has to know of a config that cannot be read: nothing is refused."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        size = raw.get("vocab_size")
        self.vocab_size = size if type(size) is int and size > 0 else 1 << 31
        self.eos_token_ids: tuple[int, ...] = ()


def _try(wrong: list[str], make: Callable[[], Part]) -> Part | None:
    """What `make` gives; where a file is at fault, None and one more line in `wrong`."""
    try:
        return make()
    except ModelError as error:
        wrong.append(" ".join(str(error).split()))
        return None


def sizes(config: ModelConfig) -> dict[str, Any]:
    """The numbers of a family that is run, and of its switches those that are on."""
    turned = [settings for settings in config.ropes if settings.width]
    widths = sorted({width for width in config.windows if width is not None})
    on: dict[str, Any] = {
        "rope": ", ".join(dict.fromkeys(settings.kind for settings in turned)) or None,
        "rotary_width": turned[0].width if turned and turned[0].width != config.head_width else None,
        "layers_without_rotary": config.layer_ropes.count(None) if turned else None,
        "window": widths[0] if widths else None,
        "layers_with_window": sum(width is not None for width in config.windows),
        "experts": None if config.experts is None else config.experts.count,
        "experts_per_token": None if config.experts is None else config.experts.per_token,
        "layers_with_experts": None if config.experts is None else sum(config.experts.layers),
        "attention_cap": config.attention_cap,
        "final_cap": config.final_cap,
    }
    return {
        "layers": config.layers,
        "width": config.width,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_width": config.head_width,
        "feed_forward": config.feed_forward,
        "activation": config.activation,
        "vocab_size": config.vocab_size,
        "context": config.max_position,
        "tied": config.tied,
        **{name: value for name, value in on.items() if value},
    }


def raw_sizes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The same as far as config.json itself says them, for a family that is not run."""
    inner = raw.get("text_config")
    places = (inner, raw) if isinstance(inner, Mapping) else (raw,)
    found = {
        ours: next((place[key] for place in places for key in spelled if place.get(key) is not None), None)
        for ours, spelled in _RAW.items()
    }
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, Mapping) else None
    return {**found, "rope": kind}


def stored(folder: Path) -> dict[str, Any]:
    """What the headers of the weight files say. CorruptFileError."""
    paths = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    count: Counter[str] = Counter()
    tensors = 0
    for path in paths:
        for entry in read_header(path).values():
            count[entry.dtype] += math.prod(entry.shape)
            tensors += 1
    return {
        "files": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "tensors": tensors,
        "parameters": sum(count.values()),
        "by_dtype": dict(count.most_common()),
    }


def memory(config: ModelConfig, weights: int) -> dict[str, int]:
    """Bytes that running takes: the mapped weights, keys and values of one sequence, its logits for one token."""
    token = 2 * config.layers * config.kv_heads * config.head_width * CACHE_BYTES
    logits = config.vocab_size * LOGIT_BYTES
    full = token * config.max_position
    return {
        "weights": weights,
        "cache_per_token": token,
        "cache_full_context": full,
        "logits_per_token": logits,
        "one_sequence_full_context": weights + full + logits,
    }


def _special(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """The named special tokens with their ids, and every id that ends a text."""
    texts = special_texts(special_settings(folder))
    found: dict[str, Any] = {
        name: {"text": text, "id": tokenizer.backend.token_to_id(text)} for name, text in texts.items()
    }
    ends = [{"text": tokenizer.backend.id_to_token(i), "id": i} for i in tokenizer.eos_token_ids]
    return {**found, "ends": ends}


def _shown(template: ChatTemplate, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Names, and the default one's text of the example; the special tokens in it, where there is a tokenizer."""
    names = ([template.name] if template.compiled is not None else []) + sorted(template.named)
    text, refused, ids = None, None, []
    try:
        text = template.render(EXAMPLE)
        ids = [] if tokenizer is None else tokenizer.encode(text, bos=False)
    except ParameterError as error:
        refused = error.rule
    special = [] if tokenizer is None else [tokenizer.added[i] for i in ids if tokenizer.is_special(i)]
    return {
        "names": names,
        "example": json.loads(json.dumps(EXAMPLE)),
        "rendered": text,
        "refused": refused,
        "tokens": len(ids),
        "special_tokens": special,
    }
