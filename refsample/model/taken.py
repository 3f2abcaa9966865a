"""Tensors of a model folder asked for one by one: each checked, and what nobody asked for refused in the end."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.errors import MismatchError, shown
from refsample.model.config import ModelConfig
from refsample.model.tensors import Tensor, open_tensors, refuse_foreign
from refsample_kernels.lanes import widen

_CONFIG_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Taken:
    """Tensors of a folder, by the names of the whole model, and which of them have been asked for."""

    def __init__(self, folder: Path, config: ModelConfig, headers: bool = False) -> None:
        """`headers`: the values of tensors are not looked at."""
        self.folder, self.config, self.headers = folder, config, headers
        self.tensors = _named(open_tensors(folder), config)
        self.asked: list[str] = []
        """Names of the tensors that were asked for, in that order."""

    def matrix(self, name: str, out: str, inp: str) -> NDArray[Any]:
        """A tensor [out, in] as it is held, sizes in letters. MismatchError."""
        return self.array(name, (self.config.size(out), self.config.size(inp)))

    def vector(self, name: str, letters: str) -> NDArray[Any]:
        """A tensor of one axis, widened to float32. MismatchError."""
        return self.wide(name, (self.config.size(letters),))

    def wide(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tensor of a shape, copied and widened to float32. MismatchError."""
        held = self.array(name, shape)
        return np.zeros(shape, np.float32) if self.headers else np.array(widen(held), np.float32)

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tensor of a shape as it is held. MismatchError."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise MismatchError(f"{self.folder}: tensor {name} is missing from the weights")
        refuse_foreign(tensor)
        if tensor.data.shape != shape:
            held = list(tensor.data.shape)
            raise MismatchError(f"{tensor.path}: tensor {name} has shape {held}, config.json says {list(shape)}")
        said, held_as = self.config.dtype, _CONFIG_NAMES[tensor.dtype]
        if said is not None and said not in (held_as, "float32"):  # float32 holds every half-precision number exactly
            raise MismatchError(f"{tensor.path}: tensor {name} is {held_as}, config.json says {said}")
        self.asked.append(name)
        return tensor.data

    def refuse_left_over(self) -> None:
        """MismatchError when the files hold a tensor that nobody reads."""
        harmless = self.config.family.left_over
        rest = [n for n in sorted(set(self.tensors) - set(self.asked)) if not any(fnmatchcase(n, p) for p in harmless)]
        if rest:
            more = f" and {len(rest) - 1} more" if len(rest) > 1 else ""
            raise MismatchError(
                f"{self.folder}: tensor {shown(rest[0])}{more} in the weights, which the config has no use for"
            )


def _named(found: Mapping[str, Tensor], config: ModelConfig) -> Mapping[str, Tensor]:
    """A checkpoint of the bare model, without a head, leaves out the prefix of every name."""
    prefix = config.family.prefix
    if not config.tied or any(name.startswith(prefix) for name in found):
        return found
    return {prefix + name: tensor for name, tensor in found.items()}
