"""One config.json read setting by setting, each checked. It knows nothing of what a setting means.

Settings are asked for by Llama's names; a family says how it writes them and what they are where it leaves them out. A
setting that nobody asked for is an error in the end: it might change what the model computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refsample.errors import MismatchError, UnsupportedModelError, shorten
from refsample.model.families import Family
from refsample.model.rows import FAMILIES

MOST = 2**31
"""Sizes and counts of a config lie below it."""
_LEAST, _MOST = 2.0**-126, 2.0**128 - 2.0**104  # normal numbers of float32
_COMMON: Mapping[str, Any] = {
    "num_key_value_heads": None, "head_dim": None, "hidden_act": "silu", "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False,
    "partial_rotary_factor": None, "original_max_position_embeddings": None,
}  # fmt: skip
"""What any family may set, and what Llama means where it is left out."""
HARMLESS = frozenset({
    "architectures", "model_type", "transformers_version", "auto_map", "name_or_path", "_name_or_path",
    "tokenizer_class", "use_cache", "initializer_range", "attention_dropout", "hidden_dropout", "attn_implementation",
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "output_attentions",
    "output_hidden_states", "return_dict", "return_dict_in_generate", "output_scores", "torchscript", "use_bfloat16",
    "is_decoder", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "pad_token_id", "sep_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "prefix",
    "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p",
    "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "num_return_sequences", "max_length", "min_length", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "remove_invalid_values", "tie_encoder_decoder", "tf_legacy_loss",
    "pruned_heads", "chunk_size_feed_forward", "unsloth_fixed", "unsloth_version", "model_name", "hf_device_map",
    "transformers.js_config", "is_llama_config", "model_max_length", "max_sequence_length", "seq_length",
})  # fmt: skip
"""Settings of any family that change no logit: of training, of the library, of generation."""


_FIXED: Mapping[str, tuple[Any, ...]] = {"is_causal": (True,)}
"""Switches of every family that are run at some values only: false, here, would open attention to later tokens."""


class Reader:
    """The settings of one config.json and which of them have been asked for."""

    def __init__(self, raw: Mapping[str, Any], path: Path) -> None:
        self.raw, self.path = raw, path
        self.family = _family(raw, path)
        self._asked = {key for row in FAMILIES[self.family.model_type] for key in row.when}

    def own(self, key: str) -> str:
        """How the family, and of its spellings this file, writes a setting. MismatchError for two that contradict."""
        names = self.family.names.get(key, key)
        if isinstance(names, str):
            return names
        here = [name for name in names if name in self.raw]
        if any(self.raw[name] != self.raw[here[0]] for name in here[1:]):
            said = " and ".join(f"{name}={shorten(self.raw[name])}" for name in here)
            raise MismatchError(f"{self.path}: {said} contradict each other")
        self._asked.update(here)
        return here[0] if here else names[0]

    def knows(self, key: str) -> bool:
        """Whether the family has a setting."""
        return key in self.family.defaults or key in _COMMON

    def given(self, *keys: str) -> Any:
        """The first of these, as the file has it, that is not null; None where none is. They count as asked for."""
        self._asked.update(keys)
        return next((self.raw[key] for key in keys if self.raw.get(key) is not None), None)

    def value(self, key: str, default: Any = None) -> Any:
        """A setting as it stands; null is null. Left out: the family's default, else Llama's, else `default`."""
        if not self.knows(key):
            return default
        own = self.own(key)
        self._asked.add(own)
        if own in self.raw:
            return self.raw[own]
        return self.family.defaults[key] if key in self.family.defaults else _COMMON.get(key, default)

    def size(self, key: str) -> int:
        """A positive whole number that has to be there. MismatchError."""
        own = self.own(key)
        self._asked.add(own)
        return self._count(own, self.raw.get(own))

    def count(self, key: str, default: int | None = None) -> int | None:
        """A positive whole number; `default` for null. MismatchError."""
        value = self.value(key, default)
        return default if value is None else self._count(self.own(key), value)

    def number(self, key: str, default: float | None = None) -> float | None:
        """A positive number within float32; `default` for null. MismatchError."""
        value = self.value(key, default)
        return default if value is None else positive(value, self.own(key), self.path)

    def needed(self, key: str, default: float | None = None) -> float:
        """A positive number within float32 that may be left out but is not null. MismatchError."""
        return positive(self.value(key, default), self.own(key), self.path)

    def needed_count(self, key: str, default: int | None = None) -> int:
        """A positive whole number that may be left out but is not null. MismatchError."""
        return self._count(self.own(key), self.value(key, default))

    def switch(self, key: str, default: bool = False) -> bool:
        """True or false; null is false. MismatchError."""
        value = self.value(key, default)
        return False if value is None else flag(value, self.own(key), self.path)

    def ids(self, key: str, vocab_size: int) -> list[int]:
        """One id or a list of them, below vocab_size. MismatchError."""
        self._asked.add(key)
        return token_ids(self.raw, key, self.path, vocab_size)

    def per_layer(self, key: str, layers: int) -> list[Any] | None:
        """A list with an entry for each layer; None for null. MismatchError."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            held = f"{len(value)} entries" if isinstance(value, list) else shorten(value)
            raise MismatchError(f"{self.path}: {self.own(key)} has {held}, there are {layers} layers")
        return value

    def _count(self, name: str, value: Any) -> int:
        if type(value) is not int or not 1 <= value < MOST:
            said = " is missing" if value is None else f"={shorten(value)} must be a positive whole number below 2**31"
            raise MismatchError(f"{self.path}: {name}{said}")
        return value

    def finish(self) -> None:
        """UnsupportedModelError for a switch at a value that is not run, and for settings nobody asked for."""
        for key, allowed in {**_FIXED, **self.family.fixed}.items():
            own = self.own(key)
            self._asked.add(own)
            value = self.raw.get(own)
            if value is not None and value not in allowed:
                said = f"{own}={shorten(value)} is not run for {self.family.model_type}"
                raise UnsupportedModelError(f"{self.path}: {said}")
        table = self.raw.get("rope_parameters")
        for key, other in self.family.repeats.items():
            self._asked.add(key)
            counts = self.raw.get(other, (table or {}).get(key, self.family.defaults.get(key)))
            if self.raw.get(key) is not None and self.raw[key] != counts:
                said = f"{key}={shorten(self.raw[key])}, but {other}={shorten(counts)}"
                raise UnsupportedModelError(f"{self.path}: {said}: transformers reads the second")
        for key, value in self.raw.items():
            known = key in self._asked or key in HARMLESS or key in self.family.harmless
            if not known and value not in (None, False, "", [], {}):
                name = key if key.isidentifier() else shorten(key)
                said = f"{name}={shorten(value)} is no setting that refsample knows for {self.family.model_type}"
                raise UnsupportedModelError(f"{self.path}: {said}: it may change what the model computes")


def _family(raw: Mapping[str, Any], path: Path) -> Family:
    name = raw.get("model_type")
    if name is None:
        raise MismatchError(f"{path}: model_type is missing")
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModelError(f"{path}: model_type={shorten(name)} is not a family that refsample runs ({known})")
    for key, example in ((key, row.when[key]) for row in FAMILIES[name] for key in row.when):
        if isinstance(example, bool) and key in raw:
            flag(raw[key], key, path)
    return next(row for row in FAMILIES[name] if all(raw.get(key) == value for key, value in row.when.items()))


def positive(value: Any, name: str, path: Path) -> float:
    """A positive number within float32. MismatchError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST <= value <= _MOST:
        raise MismatchError(f"{path}: {name}={shorten(value)} must be a positive number within float32")
    return float(value)


def flag(value: Any, name: str, path: Path) -> bool:
    """True or false. MismatchError."""
    if not isinstance(value, bool):
        raise MismatchError(f"{path}: {name}={shorten(value)} must be true or false")
    return value


def token_ids(raw: Mapping[str, Any], key: str, path: Path, vocab_size: int) -> list[int]:
    """One id or a list of them, below vocab_size; none for null. MismatchError."""
    value = raw.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for one in ids:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < vocab_size:
            raise MismatchError(f"{path}: {key}={shorten(value)} must hold ids below vocab_size={vocab_size}")
    return ids
