"""Safetensors files of a folder as memory-mapped arrays by name. It knows nothing of families or shapes that fit.

The header is read and checked here rather than by the safetensors library: each thing that can be wrong gets its own
one-line error, and bfloat16 needs no type that NumPy lacks. Half-precision tensors are held as bit patterns:
uint16 for bfloat16, int16 for float16 (see `refsample_kernels.lanes.widen`).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.errors import CorruptFileError, MissingFileError, UnsupportedModelError, shorten, shown
from refsample.files import parse_json, read_json_object, refuse_endless

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HOLDERS: Mapping[str, Any] = {"F32": np.float32, "F16": np.int16, "BF16": np.uint16}
_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
_BYTES |= {"I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8}
_LONGEST_HEADER = 100_000_000  # the format's own limit
_MOST_AXES, _MOST = 8, 2**48  # of a shape; of its sizes and of offsets


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file."""

    dtype: str
    """The format's name: F32, F16, BF16, ..."""
    shape: tuple[int, ...]
    begin: int
    """Bytes from the start of the file."""
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor, mapped; `data` is read-only and holds bit patterns where the type is half precision, nothing but NaN
    where it is one of those that `refuse_foreign` refuses."""

    name: str
    dtype: str
    data: NDArray[Any]
    path: Path
    begin: int = 0
    """Bytes from the start of the file."""
    mapped: mmap.mmap | None = None
    """What `data` is a view of; None for a copy."""


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder: model.safetensors, else the shards that the index names. ModelError family."""
    try:
        return _open_folder(folder)
    except OSError as error:  # a directory, a name too long, no permission, ...
        raise _unreadable(folder, error) from None


def open_file(path: Path) -> dict[str, Tensor]:
    """Every tensor of one file. CorruptFileError, UnsupportedModelError."""
    try:
        return _open_file(path)
    except OSError as error:
        raise _unreadable(path.parent, error) from None


def _unreadable(folder: Path, error: OSError) -> CorruptFileError:
    name = shorten(Path(error.filename or "").name)
    return CorruptFileError(f"{folder}: {name} cannot be read: {error.strerror}")


def _open_folder(folder: Path) -> dict[str, Tensor]:
    if (folder / SINGLE).exists():
        return _open_file(folder / SINGLE)
    if not (folder / INDEX).exists():
        raise foreign_weights(folder) or MissingFileError(f"{folder}: {SINGLE} is missing (nor is there {INDEX})")
    index = folder / INDEX
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CorruptFileError(f"{index}: weight_map is missing or no object")
    found: dict[str, Tensor] = {}
    for name, shard in places.items():
        if not isinstance(shard, str):
            raise CorruptFileError(f"{index}: tensor {shown(name)} is in {shorten(shard)}, which is no file name")
    for shard in sorted(set(places.values())):
        path = folder / shard
        if path.parent != folder or path.name in ("", ".."):
            raise CorruptFileError(f"{index} names {shorten(shard)}, which is not a file name of this folder")
        if not path.exists():
            raise MissingFileError(f"{index} names the file {shorten(shard)}, which is missing")
        for name, tensor in _open_file(path).items():
            if name in found:
                raise CorruptFileError(f"{path}: tensor {shown(name)} is in {found[name].path.name} too")
            found[name] = tensor
    for name, shard in places.items():
        if name not in found or found[name].path.name != shard:
            raise MissingFileError(f"{index} says that {shown(shard)} holds {shorten(name)}, which it does not")
    return found


def read_header(path: Path) -> dict[str, Entry]:
    """Names and places of the tensors of one file, checked against its size. CorruptFileError."""
    refuse_endless(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise CorruptFileError(f"{path}: {size} bytes are too few for a safetensors header")
        length = int.from_bytes(first, "little")
        if length > _LONGEST_HEADER or 8 + length > size:
            raise CorruptFileError(f"{path}: header of {length} bytes does not fit into a file of {size} bytes")
        text = file.read(length)
    try:
        raw = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: header is not JSON: {shorten(str(error))}") from None
    if not isinstance(raw, dict):
        raise CorruptFileError(f"{path}: header is not a JSON object")
    notes = raw.pop("__metadata__", None)
    if notes is not None and not (isinstance(notes, dict) and all(isinstance(note, str) for note in notes.values())):
        raise CorruptFileError(f"{path}: __metadata__ of the header is no object of texts")
    entries = {name: _entry(path, name, value, 8 + length) for name, value in raw.items()}
    _check_places(path, entries, 8 + length, size)
    return entries


def _entry(path: Path, name: str, value: Any, start: int) -> Entry:
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise CorruptFileError(f"{path}: tensor {shorten(name)} has the unknown type {shorten(dtype)}")
    sane = _counts(shape) and len(shape) <= _MOST_AXES and math.prod(n for n in shape if n) < _MOST
    if not sane or not _counts(offsets) or len(offsets) != 2:
        raise CorruptFileError(f"{path}: header entry of tensor {shorten(name)} is malformed")
    need = math.prod(shape) * _BYTES[dtype]
    if offsets[1] - offsets[0] != need:
        raise CorruptFileError(f"{path}: tensor {shown(name)} of {need} bytes is given {offsets[1] - offsets[0]}")
    return Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < _MOST for n in value)


def _check_places(path: Path, entries: Mapping[str, Entry], start: int, size: int) -> None:
    """Tensors fill the file from the header to its end, side by side: the format allows no overlap and no hole."""
    at, before = start, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.end > size:
            raise CorruptFileError(f"{path}: tensor {shown(name)} ends at byte {entry.end}, the file has {size} bytes")
        if entry.begin != at:
            what = "overlaps" if entry.begin < at else "leaves a hole after"
            raise CorruptFileError(f"{path}: tensor {shown(name)} {what} {before}")
        at, before = entry.end, shown(name)
    if at != size:
        raise CorruptFileError(f"{path}: {size - at} bytes after the last tensor")


def _open_file(path: Path) -> dict[str, Tensor]:
    entries = read_header(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # lives as long as an array looks at it
    found = {}
    for name, entry in entries.items():
        if entry.dtype not in HOLDERS:  # old checkpoints hold masks that nobody reads: whoever wants one is refused
            found[name] = Tensor(name, entry.dtype, np.broadcast_to(np.float32(np.nan), entry.shape), path)
            continue
        data = np.frombuffer(mapped, HOLDERS[entry.dtype], math.prod(entry.shape), entry.begin).reshape(entry.shape)
        if not data.flags.aligned:  # a header of odd length; kernels want natural alignment
            data = data.copy()
            data.flags.writeable = False
        view = mapped if data.base is not None else None
        found[name] = Tensor(name, entry.dtype, data, path, entry.begin, view)
    return found


def refuse_foreign(tensor: Tensor) -> None:
    """UnsupportedModelError for a tensor of a type that is not run."""
    if tensor.dtype not in HOLDERS:
        said = f"tensor {shown(tensor.name)} is {tensor.dtype}, refsample runs {', '.join(HOLDERS)}"
        raise UnsupportedModelError(f"{tensor.path}: {said}")


def foreign_weights(folder: Path) -> MissingFileError | UnsupportedModelError | None:
    """The error for a folder that holds a model in another format or under another name; None for one without any."""
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name.endswith(".safetensors")]
    if others:
        return MissingFileError(
            f"{folder}: neither {SINGLE} nor {INDEX}, only {shorten(others)}: rename or write the index"
        )
    for suffix, hint in (
        (".bin", "save it again with safe_serialization=True, or convert with `transformers`"),
        (".pth", "convert it to Hugging Face's layout, then to safetensors"),
        (".pt", "convert it to Hugging Face's layout, then to safetensors"),
        (".gguf", "GGUF is not read; take the original checkpoint in safetensors"),
        ("tokenizer.model", "a vocabulary is no model; take the checkpoint in Hugging Face's layout"),
    ):
        there = [name for name in names if name.endswith(suffix)]
        if there:
            return UnsupportedModelError(f"{folder}: only {shorten(there[0])}, no {SINGLE}: {hint}")
    return None
