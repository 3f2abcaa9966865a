"""Weights of a model folder, checked against its config and laid out by block. It knows nothing of arithmetic.

Matrices stay mapped in the type of the file, save those that a checkpoint holds in another order than [out, in] rows,
which are copied; norms and biases, which are small, are widened to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.errors import MismatchError
from refsample.model.config import ModelConfig
from refsample.model.families import Slot
from refsample.model.taken import Taken
from refsample_kernels.lanes import widen

_ROWS_AT_ONCE = 4096
NOTHING = np.empty(0, np.float32)
"""Stands for a bias that is not there."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A matrix [out, in], float or bit patterns, and its bias [out], or [0] where there is none."""

    weight: NDArray[Any]
    bias: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Weight and bias of a norm, [width] each, the bias [0] where there is none."""

    weight: NDArray[Any]
    bias: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class FeedForward:
    """Of one expert."""

    gate: Projection
    """[X, C]"""
    up: Projection
    """[X, C]"""
    down: Projection
    """[C, X]"""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Experts and what chooses among them."""

    router: Projection
    """[E, C]"""
    experts: tuple[FeedForward, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One block; what its family does not have is None."""

    q: Projection
    """[HD, C]"""
    k: Projection
    """[KD, C]"""
    v: Projection
    """[KD, C]"""
    o: Projection
    """[C, HD]"""
    gate: Projection | None = None
    """[F, C]"""
    up: Projection | None = None
    """[F, C]"""
    down: Projection | None = None
    """[C, F]"""
    mixture: Mixture | None = None
    """In place of gate, up and down."""
    attention_norm: Norm | None = None
    """[C], before attention; `attention_out_norm` after it."""
    attention_out_norm: Norm | None = None
    mlp_norm: Norm | None = None
    """[C], before the feed-forward; `mlp_out_norm` after it."""
    mlp_out_norm: Norm | None = None
    q_norm: Norm | None = None
    """[D], of each head by itself, or [HD]."""
    k_norm: Norm | None = None
    """[D] or [KD]."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A whole model."""

    embedding: NDArray[Any]
    """[V, C]"""
    layers: Sequence[Layer]
    final_norm: Norm
    """[C]"""
    head: Projection
    """[V, C]; the embedding itself where the config ties them."""
    positions: NDArray[Any] | None = None
    """[P, C], learned."""


def check_weights(folder: Path, config: ModelConfig) -> None:
    """Every tensor is there, has its shape and type, and none is left over; ModelError. By the headers alone."""
    open_weights(folder, config, headers=True)


def open_layers(found: Taken, config: ModelConfig) -> Sequence[Layer]:
    """All layers, at once."""
    return tuple(open_layer(found, config, n) for n in range(config.layers))


def open_weights(
    folder: Path,
    config: ModelConfig,
    *,
    headers: bool = False,
    stack: Callable[[Taken, ModelConfig], Sequence[Layer]] = open_layers,
) -> Weights:
    """Map the weights of a folder. Every tensor is there, has its shape and type, and none is left over; ModelError.

    `headers`: nothing but headers is read; matrices are not cut to what they should be, and cannot be run. `stack`:
    how layers are opened; it has to ask for all their tensors.
    """
    family, found = config.family, Taken(folder, config, headers)
    embedding = found.matrix(family.embedding, "V", "C")
    positions = None if family.positions is None else found.matrix(family.positions, "P", "C")
    layers = stack(found, config)
    final_norm = _norm(found, config, family.final_norm, "C")
    bias = found.vector(family.head.removesuffix("weight") + "bias", "V") if family.head_bias else NOTHING
    head = Projection(_head(found, config, embedding), bias)
    found.refuse_left_over()
    return Weights(embedding, layers, final_norm, head, positions)


def open_layer(found: Taken, config: ModelConfig, number: int) -> Layer:
    """One layer by its number."""
    family = config.family
    prefix = family.block.format(layer=number)
    mixed = config.experts is not None and config.experts.layers[number]
    parts: dict[str, Any] = {}
    for slot in family.projections:
        if not (mixed and slot.field in ("gate", "up", "down")):
            parts[slot.field] = _projection(found, config, prefix, slot)
    for field, (name, letters) in family.norms.items():
        parts[field] = _norm(found, config, prefix + name, letters)
    return Layer(**parts, mixture=_mixture(found, config, prefix) if mixed else None)


def _norm(found: Taken, config: ModelConfig, name: str, letters: str) -> Norm:
    weight = found.vector(f"{name}.weight", letters)
    return Norm(weight, found.vector(f"{name}.bias", letters) if config.family.norm == "layer" else NOTHING)


def _projection(found: Taken, config: ModelConfig, prefix: str, slot: Slot) -> Projection:
    """A projection, cut out of its tensor where several share one."""
    name = prefix + slot.tensor
    total = sum(config.size(other.out) for other in config.family.projections if other.tensor == slot.tensor)
    if config.family.transposed:
        held = found.array(f"{name}.weight", (config.size(slot.inp), total)).T  # [out of all, in]
    else:
        held = found.array(f"{name}.weight", (total, config.size(slot.inp)))
    rows = rows_of(slot, config)  # only now that a tensor of this size is there
    if found.headers:
        weight = held
    else:
        weight = np.ascontiguousarray(held[rows]) if config.family.transposed else held[rows]
    biased = slot.bias if isinstance(slot.bias, bool) else getattr(config, slot.bias)
    bias = found.wide(f"{name}.bias", (total,))[rows] if biased else NOTHING
    return Projection(weight, np.ascontiguousarray(bias))


def rows_of(slot: Slot, config: ModelConfig) -> slice | NDArray[np.intp]:
    """Which rows of its tensor are a slot's: a slice wherever they lie together, so that they stay mapped."""
    count = config.size(slot.out)
    if not slot.fused:
        return slice(0, count)
    if slot.fused == "rows":
        start = 0
        for other in config.family.projections:
            if other.field == slot.field:
                break
            start += config.size(other.out) if other.tensor == slot.tensor else 0
        return slice(start, start + count)
    group = config.heads // config.kv_heads
    rows = np.arange(config.kv_heads * (group + 2) * config.head_width)
    grouped = rows.reshape(config.kv_heads, group + 2, config.head_width)  # [K, H/K + 2, D]
    places = {"q": slice(0, group), "k": slice(group, group + 1), "v": slice(group + 1, group + 2)}
    taken = grouped[:, places[slot.field]].reshape(-1)
    first, last = int(taken[0]), int(taken[-1])
    return slice(first, last + 1) if last - first + 1 == len(taken) else taken


def _mixture(found: Taken, config: ModelConfig, prefix: str) -> Mixture:
    names, mixture = config.family.experts, config.experts
    assert names is not None and mixture is not None
    router = Projection(found.matrix(f"{prefix}{names.router}.weight", "E", "C"), NOTHING)
    experts = []
    for number in range(mixture.count):
        gate, up, down = (
            Projection(found.matrix(f"{prefix}{name.format(expert=number)}.weight", out, inp), NOTHING)
            for name, out, inp in ((names.gate, "X", "C"), (names.up, "X", "C"), (names.down, "C", "X"))
        )
        experts.append(FeedForward(gate, up, down))
    return Mixture(router, tuple(experts))


def _head(found: Taken, config: ModelConfig, embedding: NDArray[Any]) -> NDArray[Any]:
    """The head's matrix; a tied head that is stored again has to hold the embedding's numbers."""
    name = config.family.head
    if not config.tied:
        return found.matrix(name, "V", "C")
    if name in found.tensors:
        stored = found.matrix(name, "V", "C")
        for row in () if found.headers else range(0, len(stored), _ROWS_AT_ONCE):
            rows = slice(row, row + _ROWS_AT_ONCE)
            if not np.array_equal(widen(stored[rows]), widen(embedding[rows])):
                raise MismatchError(
                    f"{found.tensors[name].path}: {name} differs from {config.family.embedding}, "
                    "though config.json says tie_word_embeddings=true"
                )
    return embedding
