"""Rotary settings of a config: its spellings, one record for each kind of layer. It knows nothing of angles.

transformers 4 writes `rope_theta` and `rope_scaling`, 5 writes `rope_parameters`, for some families one for each kind
of layer. Both are read, also side by side; what contradicts itself is a MismatchError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsample.errors import MismatchError, UnsupportedModelError, shorten
from refsample.model.reading import Reader, flag, positive
from refsample.model.rope import KINDS, RopeSettings

_KEYS = {
    "rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "attention_factor",
    "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
    "partial_rotary_factor", "short_factor", "long_factor", "finetuned",
}  # fmt: skip
_NEEDS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
}
_STRETCHED = ("llama3", "yarn", "longrope")
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def rope_settings(reader: Reader, head_width: int) -> tuple[RopeSettings, ...]:
    """Settings of the layers without a window, and of those with one where the family tells them apart."""
    family = reader.family
    new, old = reader.given("rope_parameters"), reader.given("rope_scaling")
    for name, given in (("rope_parameters", new), ("rope_scaling", old)):
        if given is not None and not isinstance(given, dict):
            raise MismatchError(f"{reader.path}: {name}={shorten(given)} is not an object")
    new, old = dict(new or {}), dict(old or {})
    nested = {kind: new.pop(kind) for kind in (GLOBAL, LOCAL) if isinstance(new.get(kind), dict)}
    if new and (nested or family.local_rope):
        raise UnsupportedModelError(f"{reader.path}: rope_parameters that are of no kind of layer")
    if nested and not family.local_rope:
        said = "rope_parameters by kind of layer"
        raise UnsupportedModelError(f"{reader.path}: {said}: {family.model_type} has one for all")
    theta = _theta(reader, "rope_theta", 10000.0)
    main = _settings(reader, nested.get(GLOBAL, new), old, theta, head_width)
    if not family.local_rope:
        return (main,)
    local = _theta(reader, "rope_local_base_freq", 10000.0)
    return main, _settings(reader, nested.get(LOCAL, {}), {}, local, head_width)


def _theta(reader: Reader, key: str, default: float) -> tuple[float, bool]:
    """(base, whether the file says it outside of the tables)."""
    own = reader.own(key)
    said = reader.given(own)
    if said is None:
        return float(reader.family.defaults.get(key, default)), False
    return positive(said, own, reader.path), True


def _merged(reader: Reader, new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables as one."""
    for name, given in (("rope_parameters", new), ("rope_scaling", old)):
        if given and given.get("rope_type", given.get("type")) != given.get("type", given.get("rope_type")):
            said = f"{name} names two types, rope_type={shorten(given['rope_type'])} and type"
            raise MismatchError(f"{reader.path}: {said}")
    if new and old and _kind(new) != _kind(old):
        raise MismatchError(f"{reader.path}: rope_parameters and rope_scaling name different types")
    for key in sorted(new.keys() & old.keys()):
        if new[key] != old[key]:
            said = f"{key}={shorten(new[key])} and {shorten(old[key])}"
            raise MismatchError(f"{reader.path}: rope_parameters and rope_scaling contradict each other: {said}")
    merged = {**old, **new}
    for key in merged:
        if key not in _KEYS:
            raise UnsupportedModelError(f"{reader.path}: rope setting {shorten(key)} is not known")
    return merged


def _kind(given: Mapping[str, Any]) -> str:
    return str(given.get("rope_type", given.get("type", "default")))


def _settings(
    reader: Reader, new: Mapping[str, Any], old: Mapping[str, Any], theta: tuple[float, bool], head_width: int
) -> RopeSettings:
    path, given = reader.path, _merged(reader, new, old)
    kind = _kind(given)
    if reader.family.model_type == "phi3" and kind in ("su", "yarn"):  # older names of the same
        kind = "longrope"
    if kind not in KINDS:
        raise UnsupportedModelError(f"{path}: rope_type={shorten(kind)} is not run ({', '.join(KINDS)})")
    base, said = theta
    if given.get("rope_theta") is not None:
        own = positive(given["rope_theta"], "rope_theta", path)
        if said and own != base:
            raise MismatchError(f"{path}: rope_theta={base:g} and {shorten(own)} contradict each other")
        base = own
    if base <= 1:
        raise MismatchError(f"{path}: rope_theta={base:g} must be more than 1")
    context = reader.needed_count("max_position_embeddings")
    outer = reader.value("original_max_position_embeddings")
    if kind in _STRETCHED:  # transformers: a top-level value wins, the context stands in for one that is missing
        if outer is not None:
            given["original_max_position_embeddings"] = outer
        given.setdefault("original_max_position_embeddings", context)
    for key in _NEEDS[kind]:
        if given.get(key) is None:
            raise MismatchError(f"{path}: rope_type={kind} needs {key}")

    def number(key: str) -> float | None:
        return None if given.get(key) is None else positive(given[key], key, path)

    original = number("original_max_position_embeddings")
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if original is not None and (original < 1 or original % 1):
        raise MismatchError(f"{path}: original_max_position_embeddings={original:g} must be a positive whole number")
    if kind == "longrope" and original == 1:  # the logarithm of the context is divided by
        raise MismatchError(f"{path}: original_max_position_embeddings=1 must be more than 1 for rope_type=longrope")
    if kind == "llama3" and low is not None and high is not None and high <= low:
        raise MismatchError(f"{path}: high_freq_factor={high:g} must be more than low_freq_factor={low:g}")
    width = _rotary_width(reader, given, head_width)
    factor = number("factor")
    if kind == "longrope" and factor is None and original is not None:
        factor = context / original
    return RopeSettings(
        kind=kind,
        theta=base,
        width=width,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=context if kind == "dynamic" else None if original is None else int(original),
        attention_factor=number("attention_factor"),
        beta_fast=number("beta_fast"),
        beta_slow=number("beta_slow"),
        mscale=number("mscale"),
        mscale_all_dim=number("mscale_all_dim"),
        truncate=flag(given.get("truncate", True), "truncate", path),
        short_factor=_factors(reader, given, "short_factor", width),
        long_factor=_factors(reader, given, "long_factor", width),
    )


def _rotary_width(reader: Reader, given: Mapping[str, Any], head_width: int) -> int:
    """How many of a head's D values are turned: a multiple of two."""
    path, name = reader.path, reader.own("partial_rotary_factor")
    outer, inner = reader.value("partial_rotary_factor"), given.get("partial_rotary_factor")
    if inner is not None and reader.raw.get(name) is not None and inner != outer:
        raise MismatchError(f"{path}: {name}={shorten(outer)} and {shorten(inner)} contradict each other")
    share = inner if inner is not None else outer
    share = 1.0 if share is None else positive(share, name, path)
    if share != 1 and "partial_rotary_factor" not in reader.family.defaults:
        raise UnsupportedModelError(f"{path}: {name}={share:g} is not run for {reader.family.model_type}")
    width = int(head_width * share)
    if not 2 <= width <= head_width or width % 2:
        said = f"{name}={share:g} of head_dim={head_width} turns {width} values"
        raise UnsupportedModelError(f"{path}: {said}: an even number from 2 to {head_width} is run")
    return width


def _factors(reader: Reader, given: Mapping[str, Any], key: str, width: int) -> tuple[float, ...] | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != width // 2:
        held = f"{len(value)} numbers" if isinstance(value, list) else shorten(value)
        raise MismatchError(f"{reader.path}: {key} holds {held}, the rotary width {width} needs {width // 2}")
    return tuple(positive(one, key, reader.path) for one in value)
