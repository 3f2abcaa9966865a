"""Layers of a model that stay on disk: opened one at a time, read ahead, let go. Knows nothing of what they compute.

While one layer is used a thread reads the next one into the system's page cache, so that disk and processor work side
by side; a layer that is done with gives its pages back. What a matrix is held in is mapped memory, which the system can
take away and read again: beside it there is room for no more than the norms and biases of one layer, or for one layer
where an arithmetic makes new matrices of the file's.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from threading import Event
from typing import overload

from refsample.errors import CorruptFileError, UnsupportedModelError, shown
from refsample.model.config import ModelConfig
from refsample.model.taken import Taken
from refsample.model.tensors import Tensor
from refsample.model.weights import Layer, open_layer

PIECE = 8 << 20
"""Bytes read at a time: a thread that is to stop does so after one of them."""
_DONE_WITH = getattr(mmap, "MADV_DONTNEED", None)
_GRAIN = mmap.ALLOCATIONGRANULARITY


@dataclass(frozen=True, slots=True, eq=False)
class Shelf(Sequence[Layer]):
    """The layers of a model in place of a tuple of them; each is made when it is asked for, and held by nobody."""

    tensors: tuple[tuple[Tensor, ...], ...]
    """Of each layer, all of them mapped."""
    made: Callable[[int], Layer]
    """Opens a layer by its number."""

    def __len__(self) -> int:
        return len(self.tensors)

    @overload
    def __getitem__(self, number: int) -> Layer: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Layer]: ...

    def __getitem__(self, number: int | slice) -> Layer | Sequence[Layer]:
        places = range(len(self.tensors))[number]
        return self.made(places) if isinstance(places, int) else tuple(self.made(n) for n in places)

    def mapped(self, through: Callable[[Layer], Layer]) -> Shelf:
        """Every layer put through a function when it is opened."""
        return replace(self, made=lambda number: through(self.made(number)))

    def size(self, number: int) -> int:
        """Bytes of a layer on disk."""
        return sum(tensor.data.nbytes for tensor in self.tensors[number])

    def one_by_one(self, first: int = 0) -> Generator[tuple[int, Layer]]:
        """(number, layer) from `first` on, each read before it comes and let go after. CorruptFileError."""
        stopped = Event()
        with ThreadPoolExecutor(1, "refsample-reads-ahead") as reader:
            try:
                coming = reader.submit(_read, self.tensors[first], stopped) if first < len(self) else None
                for number in range(first, len(self)):
                    assert coming is not None
                    coming.result()
                    if number + 1 < len(self):
                        coming = reader.submit(_read, self.tensors[number + 1], stopped)
                    yield number, self[number]
                    _let_go(self.tensors[number])
            finally:
                stopped.set()


def shelved(found: Taken, config: ModelConfig) -> Shelf:
    """The layers of a folder, checked by their headers and left where they are. MismatchError, UnsupportedModelError.

    To be called as `stack` of `open_weights`.
    """
    looked = copy(found)  # what is asked of either counts for both
    looked.headers = True
    tensors = []
    for number in range(config.layers):
        before = len(looked.asked)
        open_layer(looked, config, number)
        names = dict.fromkeys(looked.asked[before:])  # several projections may share a tensor
        tensors.append(tuple(found.tensors[name] for name in names))
    for tensor in (one for layer in tensors for one in layer):
        if tensor.mapped is None:
            why = "begins at an odd byte and had to be copied, so it cannot be streamed: save the file again"
            raise UnsupportedModelError(f"{tensor.path}: tensor {shown(tensor.name)} {why}")

    def made(number: int) -> Layer:
        taken = copy(found)
        taken.asked = []  # a layer is made again and again, and nobody asks any more what was asked for
        return open_layer(taken, config, number)

    return Shelf(tuple(tensors), made)


def _read(tensors: Sequence[Tensor], stopped: Event) -> None:
    """Bring the pages of tensors into memory, and see that the disk gives them."""
    scratch = memoryview(bytearray(PIECE))
    for tensor in tensors:
        try:
            with tensor.path.open("rb", buffering=0) as file:
                file.seek(tensor.begin)
                left = tensor.data.nbytes
                while left and not stopped.is_set():
                    got = file.readinto(scratch[: min(left, PIECE)])
                    if not got:
                        raise CorruptFileError(f"{tensor.path} has become shorter: {left} bytes of a tensor are gone")
                    left -= got
        except OSError as error:
            raise CorruptFileError(f"{tensor.path} cannot be read any more: {error.strerror}") from None


def _let_go(tensors: Sequence[Tensor]) -> None:
    """Tell the system that nobody needs these pages now, where it listens: they only cost others memory."""
    for tensor in tensors:
        if tensor.mapped is None or _DONE_WITH is None:
            continue
        end = tensor.begin + tensor.data.nbytes
        begin = -(-tensor.begin // _GRAIN) * _GRAIN  # a page that others use too stays
        if end - end % _GRAIN > begin:
            tensor.mapped.madvise(_DONE_WITH, begin, end - end % _GRAIN - begin)
        if hasattr(os, "posix_fadvise"):
            with tensor.path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), tensor.begin, tensor.data.nbytes, os.POSIX_FADV_DONTNEED)
