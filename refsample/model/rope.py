"""Angles of the rotary embedding: settings -> frequencies -> cosines and sines. It knows nothing of heads or weights.

Frequencies and angles are rounded to float32 where transformers 5 rounds them: at position 1000 an angle exact in
float64 already differs from the trained one by 3e-5, so the float32 table is part of the model's definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
KINDS = ("default", "linear", "llama3", "yarn")
BLOCK = 256  # rows of the table made at once, always as one array, so that a row's bits depend on its position alone


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSettings:
    """Rotary settings of a config, in the names of transformers 5; those that a kind does not read stay at None."""

    kind: str = "default"
    theta: float = 10000.0
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


def frequencies(settings: RopeSettings, head_width: int) -> tuple[F32, float]:
    """(radians per position [D/2], factor on cosines and sines) of any kind in KINDS."""
    exponent = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
    theta = float(np.float32(settings.theta))
    # By the C library in float64: NumPy's own float32 powers differ in the last bit from processor to processor.
    periods = np.array([math.pow(theta, power) for power in exponent.tolist()], np.float32)  # [D/2], over 2 pi
    plain = np.float32(1) / periods
    if settings.kind == "linear":
        return plain / np.float32(settings.factor), 1.0
    if settings.kind == "llama3":
        return _llama3(settings, plain), 1.0
    if settings.kind == "yarn":
        return _yarn(settings, head_width, periods), _yarn_attention(settings)
    return plain, 1.0


def _llama3(settings: RopeSettings, plain: F32) -> F32:
    """Long waves are stretched by factor, short ones kept, those between are blended."""
    factor, low, high = settings.factor, settings.low_freq_factor, settings.high_freq_factor
    context = settings.original_max_position_embeddings
    assert factor is not None and low is not None and high is not None and context is not None
    waves = np.float32(2 * math.pi) / plain
    stretched = np.where(waves > context / low, plain / np.float32(factor), plain)
    blend = (np.float32(context) / waves - np.float32(low)) / np.float32(high - low)
    mixed = (1 - blend) * stretched / np.float32(factor) + blend * stretched
    between = (waves >= context / high) & (waves <= context / low)
    result: F32 = np.where(between, mixed, stretched).astype(np.float32)
    return result


def _yarn(settings: RopeSettings, head_width: int, periods: F32) -> F32:
    """Fast pairs keep their frequency, slow ones are divided by factor, a linear ramp between them."""
    context, factor = settings.original_max_position_embeddings, settings.factor
    assert context is not None and factor is not None

    def pair(rotations: float) -> float:
        turns = math.log(context / (rotations * 2 * math.pi))
        return head_width * turns / (2 * math.log(settings.theta))

    low, high = pair(settings.beta_fast or 32), pair(settings.beta_slow or 1)
    if settings.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_width - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(head_width // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    keep = 1 - ramp.astype(np.float32)
    slow = np.float32(1) / (np.float32(factor) * periods)
    blended: F32 = (slow * (1 - keep) + np.float32(1) / periods * keep).astype(np.float32)
    return blended


def _yarn_attention(settings: RopeSettings) -> float:
    if settings.attention_factor is not None:
        return settings.attention_factor
    assert settings.factor is not None

    def scale(mscale: float) -> float:
        return 1.0 if settings.factor is None or settings.factor <= 1 else 0.1 * mscale * math.log(settings.factor) + 1

    if settings.mscale and settings.mscale_all_dim:
        return scale(settings.mscale) / scale(settings.mscale_all_dim)
    return scale(1.0)


class Angles:
    """Cosines and sines by position, made in whole blocks when first asked for; safe to share between threads."""

    __slots__ = ("_cos", "_factor", "_frequencies", "_lock", "_sin")

    def __init__(self, settings: RopeSettings, head_width: int) -> None:
        self._frequencies, self._factor = frequencies(settings, head_width)
        empty = np.empty((0, head_width // 2))
        self._cos: NDArray[np.float64] = empty
        self._sin: NDArray[np.float64] = empty
        self._lock = Lock()

    def at(self, positions: NDArray[np.int64], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """(cos, sin), both [T, D/2] of `dtype`, for positions [T]."""
        need = int(positions.max()) + 1
        cos, sin = self._cos, self._sin
        if len(sin) < need or len(cos) < need:
            cos, sin = self._grow(need)
        return cos[positions].astype(dtype), sin[positions].astype(dtype)

    def _grow(self, need: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with self._lock:
            have = len(self._sin)
            if have < need:
                room = -(-max(need, 2 * have) // BLOCK) * BLOCK
                cos, sin = np.empty((room, len(self._frequencies))), np.empty((room, len(self._frequencies)))
                cos[:have], sin[:have] = self._cos, self._sin
                for start in range(have, room, BLOCK):
                    rows = np.arange(start, start + BLOCK, dtype=np.float32)
                    angles = (rows[:, None] * self._frequencies).astype(np.float64)  # [BLOCK, D/2]
                    cos[start : start + BLOCK] = np.cos(angles) * self._factor
                    sin[start : start + BLOCK] = np.sin(angles) * self._factor
                self._cos, self._sin = cos, sin
            return self._cos, self._sin
