"""config.json and generation_config.json of a model folder as one frozen record. It knows nothing of weights.

Both spellings of the rotary settings are read: transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`).
A value that refsample does not run is an UnsupportedModelError that names it, and two that contradict each other are a
MismatchError. What a config leaves out has transformers' default for Llama: silu, context 2048, epsilon 1e-6,
theta 1e4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsample.errors import MismatchError, UnsupportedModelError, shorten
from refsample.files import read_json_object
from refsample.model.families import FAMILIES, Family
from refsample.model.rope import KINDS, RopeSettings

_LEAST, _MOST = 2.0**-126, 2.0**128 - 2.0**104  # normal numbers of float32
_DTYPES = ("float32", "float16", "bfloat16")
_ROPE_KEYS = {
    "rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "attention_factor",
    "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
    "partial_rotary_factor", "finetuned",
}  # fmt: skip
_ROPE_NEEDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes and switches of a model; letters are those of the design."""

    model_type: str
    vocab_size: int
    """V: rows of the embedding; the tokenizer may have fewer."""
    layers: int
    width: int
    """C."""
    heads: int
    """H, query heads."""
    kv_heads: int
    """K, key/value heads; H is a multiple of it."""
    head_width: int
    """D, even; H times D need not be C."""
    feed_forward: int
    """F."""
    max_position: int
    """Longest context in tokens."""
    norm_eps: float
    rope: RopeSettings
    tied: bool
    """The head is the embedding."""
    attention_bias: bool
    mlp_bias: bool
    dtype: str | None
    """Type that the config says the weights have; None where it says nothing."""
    bos_token_id: int | None
    """The first one, where the config gives a list."""
    eos_token_ids: tuple[int, ...]
    """Every id that ends a text, ascending, from both files."""

    @property
    def family(self) -> Family:
        """The row of FAMILIES."""
        return FAMILIES[self.model_type]

    def size(self, letters: str) -> int:
        """Product of the sizes that the letters V C H K D F stand for."""
        sizes = {"V": self.vocab_size, "C": self.width, "H": self.heads, "K": self.kv_heads}
        sizes |= {"D": self.head_width, "F": self.feed_forward}
        product = 1
        for letter in letters:
            product *= sizes[letter]
        return product


def read_config(folder: Path) -> ModelConfig:
    """The config of a folder. MissingFileError, CorruptFileError, MismatchError or UnsupportedModelError."""
    path = folder / "config.json"
    raw = read_json_object(path)
    family = _family(raw, path)
    _refuse_unknown_switches(raw, path, family)
    heads, width = _count(raw, "num_attention_heads", path), _count(raw, "hidden_size", path)
    if raw.get("head_dim") is None and width % heads:
        raise MismatchError(f"{path}: hidden_size={width} is no multiple of num_attention_heads={heads}")
    vocab_size = _count(raw, "vocab_size", path)
    config = ModelConfig(
        model_type=family.model_type,
        vocab_size=vocab_size,
        layers=_count(raw, "num_hidden_layers", path),
        width=width,
        heads=heads,
        kv_heads=_count(raw, "num_key_value_heads", path, heads),
        head_width=_count(raw, "head_dim", path, width // heads),
        feed_forward=_count(raw, "intermediate_size", path),
        max_position=_count(raw, "max_position_embeddings", path, 2048),
        norm_eps=_number(raw, "rms_norm_eps", path, 1e-6),
        rope=_rope(raw, path),
        tied=_switch(raw, "tie_word_embeddings", path),
        attention_bias=_switch(raw, "attention_bias", path),
        mlp_bias=_switch(raw, "mlp_bias", path),
        dtype=_dtype(raw, path),
        bos_token_id=next(iter(_ids(raw, "bos_token_id", path, vocab_size)), None),
        eos_token_ids=_eos(raw, path, vocab_size),
    )
    if config.heads % config.kv_heads:
        raise MismatchError(
            f"{path}: num_attention_heads={heads} is no multiple of num_key_value_heads={config.kv_heads}"
        )
    if config.head_width % 2:
        raise UnsupportedModelError(f"{path}: head_dim={config.head_width} is odd, rotary pairs need an even width")
    return config


def _family(raw: Mapping[str, Any], path: Path) -> Family:
    name = raw.get("model_type")
    if name is None:
        raise MismatchError(f"{path}: model_type is missing")
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModelError(f"{path}: model_type={shorten(name)} is not a family that refsample runs ({known})")
    return FAMILIES[name]


def _refuse_unknown_switches(raw: Mapping[str, Any], path: Path, family: Family) -> None:
    activation = raw.get("hidden_act", "silu")
    if not isinstance(activation, str) or activation not in family.activations:
        known = ", ".join(sorted(family.activations))
        raise UnsupportedModelError(f"{path}: hidden_act={shorten(activation)}, {family.model_type} runs with {known}")
    if raw.get("quantization_config"):
        method = raw["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        raise UnsupportedModelError(f"{path}: quantization_config ({shorten(method)}): quantised weights are not run")


def _rope_table(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`rope_parameters` and `rope_scaling` as one; contradictions are errors."""
    new, old = raw.get("rope_parameters"), raw.get("rope_scaling")
    for name, given in (("rope_parameters", new), ("rope_scaling", old)):
        if given is not None and not isinstance(given, dict):
            raise MismatchError(f"{path}: {name}={shorten(given)} is not an object")
        if given and given.get("rope_type", given.get("type")) != given.get("type", given.get("rope_type")):
            raise MismatchError(f"{path}: {name} names two types, rope_type={shorten(given['rope_type'])} and type")
    new, old = dict(new or {}), dict(old or {})
    if new and old and _kind(new) != _kind(old):
        raise MismatchError(f"{path}: rope_parameters and rope_scaling name different types")
    for key in sorted(new.keys() & old.keys()):
        if new[key] != old[key]:
            said = f"{key}={shorten(new[key])} and {shorten(old[key])}"
            raise MismatchError(f"{path}: rope_parameters and rope_scaling contradict each other: {said}")
    return old | new


def _rope(raw: Mapping[str, Any], path: Path) -> RopeSettings:
    """Settings from `rope_parameters`, `rope_scaling` and the top-level `rope_theta`; contradictions are errors."""
    given = _rope_table(raw, path)
    for key in given:
        if key not in _ROPE_KEYS:
            raise UnsupportedModelError(f"{path}: rope setting {shorten(key)} is not known")
    kind = _kind(given)
    if kind not in KINDS:
        raise UnsupportedModelError(f"{path}: rope_type={shorten(kind)} is not run ({', '.join(KINDS)})")
    theta = _number(raw, "rope_theta", path, 10000.0)
    if given.get("rope_theta") is not None and raw.get("rope_theta") is not None and given["rope_theta"] != theta:
        raise MismatchError(f"{path}: rope_theta={theta:g} and {shorten(given['rope_theta'])} contradict each other")
    for where in (raw, given):
        if where.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise UnsupportedModelError(f"{path}: partial_rotary_factor={shorten(where['partial_rotary_factor'])}")
    if kind in ("llama3", "yarn"):  # transformers' default, and a top-level value wins
        given.setdefault("original_max_position_embeddings", raw.get("max_position_embeddings", 2048))
        if raw.get("original_max_position_embeddings") is not None:
            given["original_max_position_embeddings"] = raw["original_max_position_embeddings"]
    for key in _ROPE_NEEDS[kind]:
        if given.get(key) is None:
            raise MismatchError(f"{path}: rope_type={kind} needs {key}")

    def number(key: str) -> float | None:
        return None if given.get(key) is None else _number(given, key, path)

    theta, original = _number(given, "rope_theta", path, theta), number("original_max_position_embeddings")
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if theta <= 1:
        raise MismatchError(f"{path}: rope_theta={theta:g} must be more than 1")
    if original is not None and (original < 1 or original % 1):
        raise MismatchError(f"{path}: original_max_position_embeddings={original:g} must be a positive whole number")
    if kind == "llama3" and low is not None and high is not None and high <= low:
        raise MismatchError(f"{path}: high_freq_factor={high:g} must be more than low_freq_factor={low:g}")
    return RopeSettings(
        kind=kind,
        theta=theta,
        factor=number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=None if original is None else int(original),
        attention_factor=number("attention_factor"),
        beta_fast=number("beta_fast"),
        beta_slow=number("beta_slow"),
        mscale=number("mscale"),
        mscale_all_dim=number("mscale_all_dim"),
        truncate=_switch(given, "truncate", path, True),
    )


def _kind(given: Mapping[str, Any]) -> str:
    return str(given.get("rope_type", given.get("type", "default")))


def _eos(raw: Mapping[str, Any], path: Path, vocab_size: int) -> tuple[int, ...]:
    ids = set(_ids(raw, "eos_token_id", path, vocab_size))
    other = path.with_name("generation_config.json")
    ids |= set(_ids(read_json_object(other, optional=True), "eos_token_id", other, vocab_size))
    return tuple(sorted(ids))


def _ids(raw: Mapping[str, Any], key: str, path: Path, vocab_size: int) -> list[int]:
    value = raw.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for one in ids:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < vocab_size:
            raise MismatchError(f"{path}: {key}={shorten(value)} must hold ids below vocab_size={vocab_size}")
    return ids


def _dtype(raw: Mapping[str, Any], path: Path) -> str | None:
    value = raw.get("dtype", raw.get("torch_dtype"))
    if value is None:
        return None
    name = str(value).removeprefix("torch.")
    if name not in _DTYPES:
        raise UnsupportedModelError(f"{path}: dtype={shorten(value)} is not run ({', '.join(_DTYPES)})")
    return name


def _count(raw: Mapping[str, Any], key: str, path: Path, default: int | None = None) -> int:
    value = raw.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        said = "is missing" if value is None else f"={shorten(value)} must be a positive whole number"
        raise MismatchError(f"{path}: {key}{' ' if value is None else ''}{said}")
    return value


def _number(raw: Mapping[str, Any], key: str, path: Path, default: float | None = None) -> float:
    value = raw.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST <= value <= _MOST:
        raise MismatchError(f"{path}: {key}={shorten(value)} must be a positive number within float32")
    return float(value)


def _switch(raw: Mapping[str, Any], key: str, path: Path, default: bool = False) -> bool:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise MismatchError(f"{path}: {key}={shorten(value)} must be true or false")
    return value
