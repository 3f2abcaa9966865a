"""adapter_config.json of a LoRA as one frozen record, and which modules it adapts. It knows nothing of tensors.

The rules are those of PEFT (0.21), save that what PEFT passes over in silence is an error: a switch that refsample does
not run (UnsupportedModelError, which names it), a target that the base has no module for (MismatchError).
`base_model_name_or_path` is kept, not checked: it is a path on somebody else's machine more often than not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsample.errors import MismatchError, MissingFileError, UnsupportedModelError, shorten, shown
from refsample.files import read_json_object
from refsample.model.config import ModelConfig
from refsample.model.families import Slot
from refsample.model.reading import MOST

CONFIG = "adapter_config.json"
_READ = {
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "init_lora_weights", "bias", "base_model_name_or_path",
}  # fmt: skip
_NO_EFFECT = {  # on what a trained adapter computes
    "task_type", "auto_mapping", "peft_version", "revision", "inference_mode", "lora_dropout", "runtime_config",
    "fan_in_fan_out", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core",
    "qalora_group_size",
}  # fmt: skip
_HARMLESS_STARTS = ("gaussian", "eva", "orthogonal")
"""Of init_lora_weights; the other named ones train over a base that they have changed."""
_MOST = 2.0**128 - 2.0**104  # of float32


@dataclass(frozen=True, slots=True)
class Site:
    """A module that can be adapted."""

    module: str
    """Its name in the checkpoint."""
    out: int
    inp: int
    layer: int | None
    field: str
    """Its name in `weights.Layer`, of several that share a tensor the first; head and embedding, which have no
    layer, by theirs in `weights.Weights`."""
    slots: tuple[Slot, ...] = ()
    """The projections of a layer that are rows of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """adapter_config.json, as far as it decides a number."""

    path: Path
    rank: int
    alpha: float
    root: bool
    """The scale is alpha by the root of the rank (rsLoRA), else by the rank."""
    ranks: Mapping[str, int]
    """By regular expression for the end of a module's name; so are `alphas`."""
    alphas: Mapping[str, float]
    targets: str | tuple[str, ...]
    """A regular expression, or names; so is `excluded`."""
    excluded: str | tuple[str, ...]
    layers: frozenset[int] | None
    layer_patterns: tuple[str, ...]
    base: str | None
    """The model that it was trained over, as its config names it."""

    def rank_of(self, site: Site) -> int:
        """Rank of the factors of a module."""
        rank: int = _of_pattern(self.ranks, site.module, self.rank)
        return rank

    def scale_of(self, site: Site) -> float:
        """What the product of the factors of a module is multiplied with."""
        rank, alpha = self.rank_of(site), _of_pattern(self.alphas, site.module, self.alpha)
        return float(alpha / (math.sqrt(rank) if self.root else rank))

    def adapted(self, sites: Iterable[Site]) -> list[Site]:
        """The modules that this adapter changes, at least one. MismatchError for targets that are none."""
        sites = list(sites)
        for name in self.targets if isinstance(self.targets, tuple) else ():
            if not any(_named((name,), site.module) for site in sites):
                said = f"target_modules names {shorten(name)}, which is no module of the base"
                raise MismatchError(f"{self.path}: {said}")
        last = max(site.layer for site in sites if site.layer is not None)
        if self.layers is not None and max(self.layers) > last:
            said = f"layers_to_transform={shorten(max(self.layers))}: the last layer of the base is {last}"
            raise MismatchError(f"{self.path}: {said}")
        chosen = [site for site in sites if _adapts(self, site)]
        if not chosen:
            raise MismatchError(f"{self.path}: target_modules={shorten(self.targets)} fits no module of the base")
        return chosen


def sites_of(config: ModelConfig) -> list[Site]:
    """Every linear module of a base but routers and experts, and its embedding."""
    family, sites = config.family, []
    shared: dict[str, list[Slot]] = {}
    for slot in family.projections:
        shared.setdefault(slot.tensor, []).append(slot)
    for layer in range(config.layers):
        mixed = config.experts is not None and config.experts.layers[layer]
        for tensor, slots in shared.items():
            if mixed and slots[0].field in ("gate", "up", "down"):
                continue
            out = sum(config.size(slot.out) for slot in slots)
            name, inp = family.block.format(layer=layer) + tensor, config.size(slots[0].inp)
            sites.append(Site(name, out, inp, layer, slots[0].field, tuple(slots)))
    head, embedding = (name.removesuffix(".weight") for name in (family.head, family.embedding))
    sites.append(Site(head, config.vocab_size, config.width, None, "head"))
    return [*sites, Site(embedding, config.width, config.vocab_size, None, "embedding")]


def read_adapter_config(folder: Path) -> AdapterConfig:
    """The config of an adapter's folder. MissingFileError, CorruptFileError, MismatchError or UnsupportedModelError."""
    path = folder / CONFIG
    if not path.exists():
        raise MissingFileError(f"{folder}: {CONFIG} is missing, so this is no adapter in PEFT's layout")
    raw = read_json_object(path)
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModelError(f"{path}: peft_type={shorten(kind)} is not run (LORA)")
    for key, value in raw.items():
        if key not in _READ | _NO_EFFECT and value not in (None, False, "", [], {}):
            name = key if key.isidentifier() else shorten(key)
            raise UnsupportedModelError(f"{path}: {name}={shorten(value)}: this switch is not run")
    if raw.get("bias", "none") != "none":
        raise UnsupportedModelError(f"{path}: bias={shorten(raw['bias'])}: only none is run")
    start = raw.get("init_lora_weights")
    if start is not None and not isinstance(start, bool) and start not in _HARMLESS_STARTS:
        raise UnsupportedModelError(f"{path}: init_lora_weights={shorten(start)} changes the weights of the base")
    rank, root = _rank(raw.get("r", 8), "r", path), raw.get("use_rslora", False)
    if not isinstance(root, bool):
        raise MismatchError(f"{path}: use_rslora={shorten(root)} must be true or false")
    base = raw.get("base_model_name_or_path")
    return AdapterConfig(
        path=path,
        rank=rank,
        alpha=_alpha(raw.get("lora_alpha", 8), "lora_alpha", path),
        root=root,
        ranks=_pattern(raw, "rank_pattern", path, _rank),
        alphas=_pattern(raw, "alpha_pattern", path, _alpha),
        targets=_names(raw, "target_modules", path),
        excluded=_names(raw, "exclude_modules", path),
        layers=_layers(raw, path),
        layer_patterns=_layer_patterns(raw, path),
        base=base if isinstance(base, str) else None,
    )


def _rank(value: Any, key: str, path: Path) -> int:
    if type(value) is not int or not 1 <= value < MOST:
        raise MismatchError(f"{path}: {shown(key)}={shorten(value)} must be a positive whole number below 2**31")
    return value


def _alpha(value: Any, key: str, path: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _MOST:
        raise MismatchError(f"{path}: {shown(key)}={shorten(value)} must be a number within float32")
    return float(value)


def _pattern(raw: Mapping[str, Any], key: str, path: Path, checked: Callable[[Any, str, Path], Any]) -> dict[str, Any]:
    table = raw.get(key) or {}
    if not isinstance(table, dict):
        raise MismatchError(f"{path}: {key}={shorten(table)} is not an object")
    for expression in table:
        _compile(f"({expression})", key, path)
    return {expression: checked(value, f"{key}.{expression}", path) for expression, value in table.items()}


def _names(raw: Mapping[str, Any], key: str, path: Path) -> str | tuple[str, ...]:
    """A regular expression (text), or names (a list)."""
    value = raw.get(key) or ()
    if isinstance(value, str):
        _compile(value, key, path)
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise MismatchError(f"{path}: {key}={shorten(value)} must be a text or a list of texts")
    return tuple(value)


def _layer_patterns(raw: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Regular expressions for what stands before the number of a layer."""
    names = _names(raw, "layers_pattern", path)
    patterns = (names,) if isinstance(names, str) else names
    for pattern in patterns:
        _compile(f"({pattern})", "layers_pattern", path)
    return patterns


def _compile(expression: str, key: str, path: Path) -> None:
    """Those that become a part of another stand in brackets here: flags for a whole expression are an error there."""
    try:
        re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise MismatchError(
            f"{path}: {key} {shorten(expression)} is no regular expression: {shorten(str(error))}"
        ) from None


def _layers(raw: Mapping[str, Any], path: Path) -> frozenset[int] | None:
    value = raw.get("layers_to_transform")
    numbers = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise MismatchError(f"{path}: layers_to_transform={shorten(value)} must hold numbers of layers")
    return frozenset(numbers) or None


def _named(names: str | tuple[str, ...], module: str) -> bool:
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _adapts(s: AdapterConfig, site: Site) -> bool:
    """Whether PEFT would adapt this module."""
    if _named(s.excluded, site.module):
        return False
    if isinstance(s.targets, str) and s.targets.lower() == "all-linear":
        return site.layer is not None
    if not _named(s.targets, site.module):
        return False
    if s.layers is None or isinstance(s.targets, str) or site.module in s.targets:
        return True
    patterns = s.layer_patterns or ("[^.]*",)
    numbered = any(re.match(rf"(?:^|.*?\.){pattern}\.\d+\.", site.module) for pattern in patterns)
    return numbered and site.layer in s.layers


def _of_pattern(table: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's rule: the first expression that fits a whole tail of the name, from a dot on."""
    for expression, value in table.items():
        if re.match(rf"(.*\.)?({expression})$", module):
            return value
    return default
