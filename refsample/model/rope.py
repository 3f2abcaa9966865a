"""Angles of the rotary embedding: settings -> frequencies -> cosines and sines. It knows nothing of heads or weights.

Frequencies and angles are rounded to float32 where transformers 5 rounds them: at position 1000 an angle exact in
float64 already differs from the trained one by 3e-5, so the float32 table is part of the model's definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
_TABLES = 8  # of one model at a time, where they depend on the total length
BLOCK = 256  # rows of the table made at once, always as one array, so that a row's bits depend on its position alone


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSettings:
    """Rotary settings of a config, in the names of transformers 5; those that a kind does not read stay at None."""

    width: int
    """R: how many values of a head are turned, an even number."""
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
    short_factor: tuple[float, ...] | None = None
    """[R/2], for texts up to the original context; `long_factor` for longer ones."""
    long_factor: tuple[float, ...] | None = None

    @property
    def by_length(self) -> bool:
        """Whether the angles depend on how long the whole text is."""
        return self.kind in ("dynamic", "longrope")

    def regime(self, total: int) -> int:
        """What of a text's total length the angles depend on: nothing (0) but for dynamic and longrope."""
        original = self.original_max_position_embeddings
        if self.kind == "dynamic" and original is not None:
            return max(0, total - original)
        if self.kind == "longrope" and original is not None:
            return int(total > original)
        return 0


def frequencies(settings: RopeSettings, regime: int = 0) -> tuple[F32, float]:
    """(radians per position [R/2], factor on cosines and sines) of any kind in KINDS; see `RopeSettings.regime`."""
    exponent = np.arange(0, settings.width, 2, dtype=np.float32) / np.float32(settings.width)
    theta = float(np.float32(settings.theta if settings.kind != "dynamic" else _dynamic_base(settings, regime)))
    # By the C library in float64: NumPy's own float32 powers differ in the last bit from processor to processor.
    periods = np.array([math.pow(theta, power) for power in exponent.tolist()], np.float32)  # [R/2], over 2 pi
    plain = np.float32(1) / periods
    if settings.kind == "longrope":
        factors = np.array(settings.long_factor if regime else settings.short_factor, np.float32)  # [R/2]
        return np.float32(1) / (factors * periods), _longrope_attention(settings)
    if settings.kind == "linear":
        return plain / np.float32(settings.factor), 1.0
    if settings.kind == "llama3":
        return _llama3(settings, plain), 1.0
    if settings.kind == "yarn":
        return _yarn(settings, periods), _yarn_attention(settings)
    return plain, 1.0


def _dynamic_base(settings: RopeSettings, regime: int) -> float:
    """Base for a text that is `regime` tokens longer than the original context (NTK-aware scaling)."""
    context, factor, width = settings.original_max_position_embeddings, settings.factor, settings.width
    assert context is not None and factor is not None
    if width <= 2:  # the exponent has no value there, and one frequency needs no base
        return settings.theta
    # transformers takes these steps in float32, and an exponent of theta shows the difference
    stretch = np.float32(np.float32(factor * (context + regime)) / np.float32(context)) - np.float32(factor - 1)
    return settings.theta * float(np.float32(math.pow(float(stretch), float(np.float32(width / (width - 2))))))


def _longrope_attention(settings: RopeSettings) -> float:
    """1 for a context that was not stretched (arXiv 2402.13753, section 3.3 of transformers' reading of it)."""
    if settings.attention_factor is not None:
        return settings.attention_factor
    factor, context = settings.factor, settings.original_max_position_embeddings
    assert factor is not None and context is not None
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(context))


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


def _yarn(settings: RopeSettings, periods: F32) -> F32:
    """Fast pairs keep their frequency, slow ones are divided by factor, a linear ramp between them."""
    context, factor, width = settings.original_max_position_embeddings, settings.factor, settings.width
    assert context is not None and factor is not None

    def pair(rotations: float) -> float:
        turns = math.log(context / (rotations * 2 * math.pi))
        return width * turns / (2 * math.log(settings.theta))

    low, high = pair(settings.beta_fast or 32), pair(settings.beta_slow or 1)
    if settings.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(width // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
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

    __slots__ = ("_lock", "_settings", "_tables")

    def __init__(self, settings: RopeSettings) -> None:
        self._settings = settings
        self._tables: dict[int, _Table] = {}
        self._lock = Lock()

    def at(self, positions: NDArray[np.int64], dtype: Any, total: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
        """(cos, sin), both [T, R/2] of `dtype`, for positions [T] of a text that is declared to get `total` tokens."""
        regime, need = self._settings.regime(total), int(positions.max()) + 1
        table = self._tables.get(regime)
        if table is None or len(table.cos) < need:
            table = self._grown(regime, need)
        return table.cos[positions].astype(dtype), table.sin[positions].astype(dtype)

    def _grown(self, regime: int, need: int) -> _Table:
        with self._lock:
            table = self._tables.get(regime)
            if table is None or len(table.cos) < need:
                table = _extended(table or _Table(*frequencies(self._settings, regime)), need)
                kept = dict(list(self._tables.items())[1 - _TABLES :])
                self._tables = kept | {regime: table}
            return table


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Frequencies and what has been made of them."""

    frequencies: F32
    factor: float
    cos: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    sin: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))


def _extended(table: _Table, need: int) -> _Table:
    """The table with at least `need` rows."""
    have = len(table.cos)
    room = -(-max(need, 2 * have) // BLOCK) * BLOCK
    cos, sin = np.empty((room, len(table.frequencies))), np.empty((room, len(table.frequencies)))  # [room, R/2]
    if have:
        cos[:have], sin[:have] = table.cos, table.sin
    for start in range(have, room, BLOCK):
        rows = np.arange(start, start + BLOCK, dtype=np.float32)
        angles = (rows[:, None] * table.frequencies).astype(np.float64)  # [BLOCK, R/2]
        cos[start : start + BLOCK] = np.cos(angles) * table.factor
        sin[start : start + BLOCK] = np.sin(angles) * table.factor
    return replace(table, cos=cos, sin=sin)
