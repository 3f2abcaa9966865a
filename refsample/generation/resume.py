"""Hidden states of a long pass on disk, so that one that was stopped goes on. Knows nothing of how they are made.

A folder holds one file for each wave of sequences: a line of JSON, then the numbers. A file is written whole beside the
old one and then takes its place, so that whatever happens there is a state, the old one or the new. What the numbers
depend on stands in the file: a state of anything else is an error, never used and never overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import refsample.model
from refsample import __version__
from refsample.errors import ParameterError, shorten
from refsample_kernels.store import source_hash

if TYPE_CHECKING:
    from refsample.generation.model import Model

_FORMAT = 1
_LONGEST_LINE = 1 << 16
_WHAT_NOW = "finish that run, name another folder, or delete this one"


@dataclass(frozen=True, slots=True)
class Kept:
    """The folder of a state, and what its numbers depend on, in words that an error can show."""

    folder: Path
    about: Mapping[str, str]

    def check(self, needed: int) -> None:
        """ParameterError where the folder holds the state of something else, cannot be written to, or is too full.

        `needed`: bytes that all files together take.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = sum(self._head(path)[1] for path in self._files())
            for left in self.folder.glob("wave-*.part"):  # of a run that was killed while it wrote
                left.unlink()
            free = _free(self.folder)
        except OSError as error:
            raise self._wrong(f"cannot be used: {error.strerror}") from None
        if free is not None and free + held < needed:
            raise self._wrong(f"needs {needed / 1e6:,.0f} MB for its state, {(free + held) / 1e6:,.0f} MB are free")

    def layers_done(self, wave: int) -> int:
        """How many layers a wave has gone through. ParameterError."""
        path = self._path(wave)
        return int(self._head(path)[0]["layers"]) if path.exists() else 0

    def load(self, wave: int) -> tuple[int, NDArray[Any] | None]:
        """(layers done, hidden states), or (0, None) where nothing is kept. ParameterError."""
        path = self._path(wave)
        if not path.exists():
            return 0, None
        head, _ = self._head(path)
        with path.open("rb") as file:
            file.readline(_LONGEST_LINE)
            x = np.empty((head["rows"], head["width"]), head["dtype"])  # [N, C]
            got = file.readinto(x.data)
        if got != x.nbytes or zlib.crc32(x.data) != head["crc32"]:
            raise self._wrong(f"{path.name} is damaged: delete it, and its layers are computed anew")
        return int(head["layers"]), x

    def save(self, wave: int, layers: int, of: int, x: NDArray[Any]) -> None:
        """Hidden states [N, C] after so many layers. ParameterError where they cannot be written; the last state stays
        then."""
        path = self._path(wave)
        part, x = path.with_suffix(".part"), np.ascontiguousarray(x)
        head = {
            "format": _FORMAT, "about": dict(self.about), "layers": layers, "of": of, "rows": x.shape[0],
            "width": x.shape[1], "dtype": x.dtype.str, "crc32": zlib.crc32(x.data),
        }  # fmt: skip
        try:
            with part.open("wb") as file:
                file.write(json.dumps(head).encode() + b"\n")
                file.write(x.data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync(self.folder)
        except OSError as error:
            rule = f"layer {layers} of {of} cannot be written: {error.strerror}; what was kept before is still there"
            raise self._wrong(rule) from None
        finally:
            part.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take the state away, and the folder where nothing else is in it."""
        for path in self._files():
            path.unlink()
        with suppress(OSError):  # it is not empty, or may not be taken away
            self.folder.rmdir()

    def _path(self, wave: int) -> Path:
        return self.folder / f"wave-{wave:05}.state"

    def _files(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("wave-*.state")))

    def _head(self, path: Path) -> tuple[dict[str, Any], int]:
        """The first line of a file, checked, and the file's size. ParameterError."""
        size = path.stat().st_size
        with path.open("rb") as file:
            line = file.readline(_LONGEST_LINE)
        try:
            head = json.loads(line)
            there, form, _ = dict(head["about"]), head["format"], (int(head["layers"]), int(head["crc32"]))
            whole = len(line) + head["rows"] * head["width"] * np.dtype(head["dtype"]).itemsize
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._wrong(f"{path.name} is no state of refsample: name another folder, or delete it") from None
        if form != _FORMAT:
            raise self._wrong(f"{path.name} has format {shorten(form)}, this is {_FORMAT}: {_WHAT_NOW}")
        differing = [name for name in self.about if there.get(name) != self.about[name]]
        if differing:
            said = "; ".join(f"{name} {there.get(name, '?')} there, {self.about[name]} here" for name in differing)
            raise self._wrong(f"holds the state of another run ({said}): {_WHAT_NOW}")
        if size != whole:
            raise self._wrong(f"{path.name} is damaged ({size} bytes instead of {whole}): delete it")
        return head, size

    def _wrong(self, rule: str) -> ParameterError:
        return ParameterError("resume", str(self.folder), rule)


def what_decides(model: Model, starts_and_ids: Sequence[tuple[int, tuple[int, ...]]]) -> dict[str, str]:
    """All that hidden states depend on, by name: of each sequence its ids, and from where on it is scored."""
    folders = Path(refsample.model.__path__[0]), Path(__file__).parent  # whose rows are where is decided here
    sources = [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py"))]
    code = hashlib.sha256(source_hash().encode() + b"".join(sources))
    ids = hashlib.sha256(json.dumps(starts_and_ids).encode()).hexdigest()
    return {
        "refsample": f"{__version__} ({code.hexdigest()[:12]})",
        "model": model.fingerprint[:16],
        "weights": _written(model.folder),
        "precision": model.transformer.precision,
        "transcripts": f"{len(starts_and_ids)} with {sum(len(one) for _, one in starts_and_ids)} tokens ({ids[:16]})",
    }


def _written(folder: Path) -> str:
    """When the weights were written, and a hash of their files' names, sizes and times."""
    files = [(path.name, path.stat()) for path in sorted(folder.glob("*.safetensors"))]
    listed = json.dumps([(name, found.st_size, found.st_mtime_ns) for name, found in files])
    newest = datetime.fromtimestamp(max(found.st_mtime for _, found in files), UTC)
    return f"of {newest:%Y-%m-%d %H:%M:%S} UTC ({hashlib.sha256(listed.encode()).hexdigest()[:12]})"


def _free(folder: Path) -> int | None:
    if not hasattr(os, "statvfs"):
        return None
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _sync(folder: Path) -> None:
    """A new name lasts once its folder is on disk; where folders cannot be opened there is nothing to do."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
