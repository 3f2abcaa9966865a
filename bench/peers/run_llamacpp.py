"""llama.cpp as an engine of `bench.worker`, through the C interface that lies compiled in a wheel.

    pip install xllamacpp          (or llama-cpp-python, built on the spot: its library is taken where xllamacpp is not)

Only the first fields of its settings are touched, and those are looked at before: their places differ between versions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F16, F32 = 1, 0
AUTO, OFF = -1, 0
CACHE_WIDTH = {"bf16": 2, "f32": 4}
"""Bytes of a key's element: llama.cpp's default, and float32 where float32 is what is compared."""
MOST, ROUND = 2048, 256


class Settings(ctypes.Structure):
    """The first fields of llama_context_params; what comes after is left as it is."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in (
            "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq")),
        *((name, ctypes.c_int32) for name in (
            "n_threads", "n_threads_batch", "ctx_type", "rope", "pooling", "attention", "flash")),
        *((name, ctypes.c_float) for name in ("base", "scale", "extrapolation", "factor", "fast", "slow")),
        ("original", ctypes.c_uint32), ("defrag", ctypes.c_float), ("evaluated", ctypes.c_void_p),
        ("evaluated_data", ctypes.c_void_p), ("type_k", ctypes.c_int32), ("type_v", ctypes.c_int32),
        ("rest", ctypes.c_char * 256),
    )  # fmt: skip


class ModelSettings(ctypes.Structure):
    """llama_model_params: the defaults, whatever they are."""

    _fields_ = (("rest", ctypes.c_char * 256),)


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    )  # fmt: skip


def _library() -> tuple[str, Path]:
    """Name of the package and its library. ModuleNotFoundError where neither is installed."""
    for package, place in (("xllamacpp", "*.so"), ("llama_cpp", "lib/libllama.so")):
        found = find_spec(package)
        if found is not None and found.submodule_search_locations:
            return package, next(Path(next(iter(found.submodule_search_locations))).glob(place))
    raise ModuleNotFoundError("neither xllamacpp nor llama-cpp-python is installed")


def _opened(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    p, i = ctypes.c_void_p, ctypes.c_int32
    for name, answers, arguments in (
        ("llama_model_default_params", ModelSettings, ()), ("llama_context_default_params", Settings, ()),
        ("llama_model_load_from_file", p, (ctypes.c_char_p, ModelSettings)),
        ("llama_init_from_model", p, (p, Settings)), ("llama_free", None, (p,)),
        ("llama_batch_init", Batch, (i, i, i)), ("llama_decode", i, (p, Batch)),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), (p,)), ("llama_set_n_threads", None, (p, i, i)),
        ("llama_get_memory", p, (p,)), ("llama_memory_seq_rm", ctypes.c_bool, (p, i, i, i)),
        ("llama_model_get_vocab", p, (p,)), ("llama_vocab_n_tokens", i, (p,)),
        ("llama_print_system_info", ctypes.c_char_p, ()), ("llama_log_set", None, (p, p)),
    ):  # fmt: skip
        function = getattr(library, name)
        function.restype, function.argtypes = answers, arguments
    return library


LOGGER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
SILENT = LOGGER(lambda level, text, data: None)


class Engine:
    """A GGUF file, and the state of as many sequences as were asked for."""

    def __init__(self, path: Path, kind: str) -> None:
        self.package, place = _library()
        self.library = _opened(place)
        self.library.llama_log_set(ctypes.cast(SILENT, ctypes.c_void_p), None)
        self.kind, self.count = kind, 1
        file = path / f"{kind}.gguf"
        self.model = self.library.llama_model_load_from_file(
            str(file).encode(), self.library.llama_model_default_params()
        )
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {file.name}")
        self.vocabulary = self.library.llama_vocab_n_tokens(self.library.llama_model_get_vocab(self.model))
        self.batch = self.library.llama_batch_init(MOST, 0, 1)
        self.context: int | None = None
        self.lengths: list[int] = []

    def versions(self) -> dict[str, str]:
        """Of the package, and what the library was compiled for."""
        said: bytes = self.library.llama_print_system_info()
        name = {"llama_cpp": "llama-cpp-python"}.get(self.package, self.package)
        return {name: version(name), "llama.cpp features": said.decode().strip(" |")}

    def threads(self, count: int) -> None:
        """Use so many from now on."""
        self.count = count
        if self.context:
            self.library.llama_set_n_threads(self.context, count, count)

    def start(self, sequences: int, room: int, flash: bool) -> None:
        """Fresh states of that many sequences, with room for `room` tokens each.

        `flash`: its default, fused attention, which rounds to 16 bits inside; it is not always the faster.
        """
        if self.context:
            self.library.llama_free(self.context)
        settings: Any = self.library.llama_context_default_params()
        found = (settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max, settings.type_k,
                 settings.type_v)  # fmt: skip
        if found != (512, 2048, 512, 1, F16, F16):
            raise RuntimeError(f"this llama.cpp lays its settings out otherwise: {found}")
        settings.n_ctx, settings.n_seq_max = sequences * (room + -room % ROUND), sequences
        settings.n_threads = settings.n_threads_batch = self.count
        settings.type_k = settings.type_v = F32 if self.kind == "f32" else F16
        settings.flash = AUTO if flash else OFF
        self.context = self.library.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context")
        self.lengths = [0] * sequences

    def keep(self, length: int) -> None:
        """Forget all tokens from position `length` on."""
        memory = self.library.llama_get_memory(self.context)
        for n in range(len(self.lengths)):
            self.library.llama_memory_seq_rm(memory, n, length, -1)
            self.lengths[n] = min(self.lengths[n], length)

    def feed(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """New tokens of each sequence; logits [sequences, V] after the last of each, valid until the next call."""
        batch, n = self.batch, 0
        for sequence, ids in enumerate(rows):
            for place, token in enumerate(ids):
                batch.token[n], batch.pos[n] = token, self.lengths[sequence] + place
                batch.n_seq_id[n], batch.seq_id[n][0] = 1, sequence
                batch.logits[n] = place == len(ids) - 1
                n += 1
            self.lengths[sequence] += len(ids)
        batch.n_tokens = n
        if self.library.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        return np.ctypeslib.as_array(self.library.llama_get_logits(self.context), (len(rows), self.vocabulary))
