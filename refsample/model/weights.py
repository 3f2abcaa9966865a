"""Weights of a model folder, checked against its config and laid out by block. It knows nothing of arithmetic.

Matrices stay mapped in the type of the file; norms and biases, which are small, are widened to float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.errors import MismatchError
from refsample.model.config import ModelConfig
from refsample.model.tensors import Tensor, open_tensors
from refsample_kernels.lanes import widen

_CONFIG_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A matrix [out, in], float or bit patterns, and its bias [out], or [0] where there is none."""

    weight: NDArray[Any]
    bias: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One block."""

    attention_norm: NDArray[Any]
    """[C]"""
    q: Projection
    """[HD, C]"""
    k: Projection
    """[KD, C]"""
    v: Projection
    """[KD, C]"""
    o: Projection
    """[C, HD]"""
    mlp_norm: NDArray[Any]
    """[C]"""
    gate: Projection
    """[F, C]"""
    up: Projection
    """[F, C]"""
    down: Projection
    """[C, F]"""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A whole model."""

    embedding: NDArray[Any]
    """[V, C]"""
    layers: tuple[Layer, ...]
    final_norm: NDArray[Any]
    """[C]"""
    head: Projection
    """[V, C]; the embedding itself where the config ties them."""


def open_weights(folder: Path, config: ModelConfig) -> Weights:
    """Map the weights of a folder. Every tensor is there, has its shape and type, and none is left over; ModelError."""
    found = _Taken(folder, config, open_tensors(folder))
    family = config.family
    embedding = found.matrix(family.embedding, "V", "C")
    layers = tuple(_layer(found, config, family.block.format(layer=n)) for n in range(config.layers))
    final_norm = found.vector(family.final_norm, "C")
    head = _head(found, config, embedding)
    found.refuse_left_over(family.left_over)
    return Weights(embedding, layers, final_norm, Projection(head, np.empty(0, np.float32)))


def _layer(found: _Taken, config: ModelConfig, prefix: str) -> Layer:
    family = config.family
    parts = {}
    for slot in family.projections:
        weight = found.matrix(f"{prefix}{slot.tensor}.weight", slot.out, slot.inp)
        biased = slot.bias is not None and getattr(config, slot.bias)
        bias = found.vector(f"{prefix}{slot.tensor}.bias", slot.out) if biased else np.empty(0, np.float32)
        parts[slot.field] = Projection(weight, bias)
    return Layer(
        attention_norm=found.vector(prefix + family.attention_norm, "C"),
        mlp_norm=found.vector(prefix + family.mlp_norm, "C"),
        **parts,
    )


def _head(found: _Taken, config: ModelConfig, embedding: NDArray[Any]) -> NDArray[Any]:
    """The head's matrix; a tied head that is stored again has to hold the embedding's numbers."""
    name = config.family.head
    if not config.tied:
        return found.matrix(name, "V", "C")
    if name in found.tensors:
        stored = found.matrix(name, "V", "C")
        for row in range(0, len(stored), _ROWS_AT_ONCE):
            rows = slice(row, row + _ROWS_AT_ONCE)
            if not np.array_equal(widen(stored[rows]), widen(embedding[rows])):
                raise MismatchError(
                    f"{found.tensors[name].path}: {name} differs from {config.family.embedding}, "
                    "though config.json says tie_word_embeddings=true"
                )
    return embedding


class _Taken:
    """Tensors of a folder and which of them have been asked for."""

    def __init__(self, folder: Path, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
        self.folder, self.config, self.tensors = folder, config, tensors
        self._names: set[str] = set()

    def matrix(self, name: str, out: str, inp: str) -> NDArray[Any]:
        """A tensor [out, in] as it is held."""
        return self._take(name, (self.config.size(out), self.config.size(inp))).data

    def vector(self, name: str, letters: str) -> NDArray[Any]:
        """A tensor of one axis, widened to float32."""
        return np.array(widen(self._take(name, (self.config.size(letters),)).data), np.float32)

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise MismatchError(f"{self.folder}: tensor {name} is missing from the weights")
        if tensor.data.shape != shape:
            held = list(tensor.data.shape)
            raise MismatchError(f"{tensor.path}: tensor {name} has shape {held}, config.json says {list(shape)}")
        said, held_as = self.config.dtype, _CONFIG_NAMES[tensor.dtype]
        if said is not None and said not in (held_as, "float32"):  # float32 holds every half-precision number exactly
            raise MismatchError(f"{tensor.path}: tensor {name} is {held_as}, config.json says {said}")
        self._names.add(name)
        return tensor

    def refuse_left_over(self, harmless: tuple[str, ...]) -> None:
        """MismatchError when the files hold a tensor that nobody reads."""
        rest = [n for n in sorted(set(self.tensors) - self._names) if not any(fnmatchcase(n, p) for p in harmless)]
        if rest:
            more = f" and {len(rest) - 1} more" if len(rest) > 1 else ""
            raise MismatchError(
                f"{self.folder}: tensor {rest[0]}{more} in the weights, which the config has no use for"
            )
