"""A LoRA in PEFT's layout as pairs of low-rank factors by place in the model. It knows nothing of the forward pass.

A folder holds adapter_config.json, which says which modules are adapted (see `peft`), and adapter_model.safetensors,
which has to agree with that to the last tensor. Factors stay mapped in the type of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.errors import CorruptFileError, MismatchError, MissingFileError, UnsupportedModelError, shown
from refsample.model.config import ModelConfig
from refsample.model.peft import CONFIG, AdapterConfig, Site, read_adapter_config, sites_of
from refsample.model.tensors import Tensor, open_file, refuse_foreign
from refsample.model.weights import Weights, rows_of
from refsample_kernels.lanes import widen

TENSORS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """What is added to a product: scale * up (down x)."""

    down: NDArray[Any]
    """A [r, in] as the file holds it; of the embedding A^T [V, r], whose rows are looked up."""
    up: NDArray[Any]
    """B [out, r]."""
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """All that one adapter adds to a model."""

    layers: tuple[Mapping[str, LowRank], ...]
    """For each block, by the projection's name in `weights.Layer`."""
    embedding: LowRank | None
    head: LowRank | None
    base: str | None
    """The model that it was trained over, as its config names it."""


def read_adapter(folder: Path, config: ModelConfig, weights: Weights) -> Adapter:
    """The adapter of a folder for a base with this config and these weights (as its files hold them).

    MissingFileError, CorruptFileError, MismatchError or UnsupportedModelError, with the file and what is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder: an adapter is one with {CONFIG} and {TENSORS}")
    settings, sites = read_adapter_config(folder), sites_of(config)
    found, taken = _open(folder), set[str]()
    layers: list[dict[str, LowRank]] = [{} for _ in range(config.layers)]
    ends: dict[str, LowRank] = {}
    for site in settings.adapted(sites):
        whole = _pair(settings, site, found, folder, taken)
        if site.layer is None:
            ends[site.field] = whole
        for slot in site.slots:  # the rows of a shared tensor, as the base's are cut
            up = np.ascontiguousarray(whole.up[rows_of(slot, config)])
            layers[site.layer or 0][slot.field] = replace(whole, up=up)
    _refuse_left_over(found, taken, sites, weights)
    return Adapter(tuple(layers), ends.get("embedding"), ends.get("head"), settings.base)


def _open(folder: Path) -> dict[str, Tensor]:
    if (folder / TENSORS).exists():
        return open_file(folder / TENSORS)
    if (folder / "adapter_model.bin").exists():
        hint = "save it again with safe_serialization=True"
        raise UnsupportedModelError(f"{folder}: only adapter_model.bin, no {TENSORS}: {hint}")
    raise MissingFileError(f"{folder}: {TENSORS} is missing")


def _pair(s: AdapterConfig, site: Site, found: Mapping[str, Tensor], folder: Path, taken: set[str]) -> LowRank:
    """The factors of one module, checked."""
    rank, looked_up = s.rank_of(site), site.field == "embedding"
    factors = []
    for side, shape in (("A", (rank, site.inp)), ("B", (site.out, rank))):
        kind = f"lora_embedding_{side}" if looked_up else f"lora_{side}.weight"
        name = f"{_PREFIX}{site.module}.{kind}"
        tensor = found.get(name)
        if tensor is None:
            raise MismatchError(f"{folder}: tensor {name} is missing, though {CONFIG} adapts this module")
        refuse_foreign(tensor)
        if tensor.data.shape != shape:
            held = list(tensor.data.shape)
            said = f"rank {rank} over the base makes {list(shape)}"
            raise MismatchError(f"{tensor.path}: tensor {name} has shape {held}, {said}")
        if not np.isfinite(widen(tensor.data)).all():
            raise CorruptFileError(f"{tensor.path}: tensor {name} holds NaN or infinity")
        taken.add(name)
        factors.append(tensor.data)
    down = np.ascontiguousarray(factors[0].T) if looked_up else factors[0]
    return LowRank(down, factors[1], s.scale_of(site))


def _refuse_left_over(found: Mapping[str, Tensor], taken: set[str], sites: list[Site], weights: Weights) -> None:
    """MismatchError for a tensor that nobody reads. Copies of embedding and head, as PEFT saves, are the base's own."""
    own = {"embedding": weights.embedding, "head": weights.head.weight}
    copies = {
        f"{_PREFIX}{site.module}.{kind}": own[site.field]
        for site in sites
        if site.field in own
        for kind in ("weight", "base_layer.weight")
    }
    for name in sorted(set(found) - taken):
        tensor = found[name]
        if name in copies:
            refuse_foreign(tensor)
            if not np.array_equal(widen(tensor.data), widen(copies[name])):
                raise UnsupportedModelError(f"{tensor.path}: {name} is not that of the base: it was trained or resized")
            continue
        module = name.removeprefix(_PREFIX)
        here = any(module.startswith(f"{site.module}.") for site in sites)
        why = f"which {CONFIG} does not adapt" if here else "which the base has no module for"
        raise MismatchError(f"{tensor.path}: tensor {shown(name)}, {why}")
