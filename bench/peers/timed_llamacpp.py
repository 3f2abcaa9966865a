"""One step of llama.cpp's own chain, timed: penalties, top_k, top_p, min_p, temperature, draw. See `llamacpp`."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.llamacpp import LIBRARY, MIN_KEEP, TokenArray, TokenData


class Chain:
    """The samplers, built once and told the history, and the candidates as llama.cpp lays them out."""

    def __init__(self, settings: Mapping[str, Any], history: Sequence[int], row: NDArray[np.float32]) -> None:
        def made(name: str, *arguments: Any) -> int:
            return int(getattr(LIBRARY, f"llama_sampler_init_{name}")(*arguments))

        dist = LIBRARY.llama_sampler_init_dist
        dist.argtypes, dist.restype = (ctypes.c_uint32,), ctypes.c_void_p
        s = settings
        self.samplers = [
            made("penalties", row.size, len(history), s["repetition_penalty"], s["frequency_penalty"],
                 s["presence_penalty"]),
            made("top_k", s["top_k"]),
            made("top_p", s["top_p"], MIN_KEEP),
            made("min_p", s["min_p"], MIN_KEEP),
            made("temp_ext", s["temperature"], 0.0, 1.0),
            made("dist", 1),
        ]
        for token in history:
            LIBRARY.llama_sampler_accept(self.samplers[0], token)
        kind = np.dtype([("id", "i4"), ("logit", "f4"), ("p", "f4")])
        self.fresh, self.held = np.zeros(row.size, kind), np.zeros(row.size, kind)
        self.fresh["id"], self.fresh["logit"] = np.arange(row.size), row
        self.candidates = TokenArray()

    def timed(self) -> float:
        """Microseconds of one step; filling the candidates in is not in it."""
        self.held[:] = self.fresh
        data = ctypes.cast(self.held.ctypes.data, ctypes.POINTER(TokenData))
        self.candidates = TokenArray(data, self.held.size, -1, False)
        place, apply = ctypes.byref(self.candidates), LIBRARY.llama_sampler_apply
        start = time.perf_counter()
        for sampler in self.samplers:
            apply(sampler, place)
        return (time.perf_counter() - start) * 1e6

    def law(self) -> NDArray[np.float64]:
        """[V] probabilities of what it draws from."""
        self.timed()
        probs = np.zeros(self.held.size)
        left = [self.candidates.data[i] for i in range(self.candidates.size)]
        probs[[one.id for one in left]] = [one.p for one in left]
        return probs
