"""Keys and values of one sequence, for every block. It knows nothing of how they are made or read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.checks import room

_LANES = 16  # attention reads keys in blocks of sixteen


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Keys and values of a run of tokens, in arrays of their own that nobody writes to."""

    keys: NDArray[Any]
    """[L, K, D, N]"""
    values: NDArray[Any]
    """[L, K, N, D]"""

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.keys.nbytes + self.values.nbytes

    def cut(self, start: int, stop: int) -> Part:
        """A copy of tokens start..stop - 1."""
        return Part(self.keys[:, :, :, start:stop].copy(), self.values[:, :, start:stop].copy())


class Cache:
    """Keys [L, K, D, S] (transposed, as attention reads them) and values [L, K, S, D]; S grows up to `limit` tokens.

    Slots beyond `length` are read by attention, never used: they start as zeros, as stale memory may overflow there.
    One sequence, one user at a time; `fork` gives an independent one. `precision` is that of the transformer it is for,
    `declared` the length that the text was said to get, 0 until it is known.
    """

    __slots__ = ("declared", "keys", "length", "limit", "precision", "values")

    def __init__(
        self,
        shape: tuple[int, int, int],
        limit: int,
        dtype: Any,
        precision: str,
        capacity: int = 0,
        declared: int | None = None,
    ) -> None:
        """`shape` is (L, K, D); `declared` None: as many as `capacity`."""
        layers, kv_heads, head_width = shape
        slots = _round_up(min(capacity, limit))
        self.keys: NDArray[Any] = np.zeros((layers, kv_heads, head_width, slots), dtype)  # [L, K, D, S]
        self.values: NDArray[Any] = np.zeros((layers, kv_heads, slots, head_width), dtype)  # [L, K, S, D]
        self.length, self.limit, self.precision = 0, limit, precision
        self.declared = capacity if declared is None else declared

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays, room that is not used yet included."""
        return self.keys.nbytes + self.values.nbytes

    def part(self, start: int, stop: int) -> Part:
        """A copy of the tokens at positions start..stop - 1, all of them held here."""
        return Part(self.keys, self.values).cut(start, stop)

    def append(self, part: Part, count: int) -> None:
        """Take up the first `count` tokens of a part, made at these very positions. ContextLengthError."""
        end = self.length + count
        self.reserve(end)
        self.keys[:, :, :, self.length : end] = part.keys[:, :, :, :count]
        self.values[:, :, self.length : end] = part.values[:, :, :count]
        self.length = end

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens in all. ContextLengthError beyond the model's context."""
        room("tokens", ..., f"{length} tokens", length, self.limit, "the model's config")
        held = self.keys.shape[3]
        if length > held:
            self._move(_round_up(min(max(length, 2 * held, 64), self.limit)))

    def fork(self, capacity: int = 0) -> Cache:
        """A copy that grows by itself; `capacity`: tokens that it has room for at once."""
        copy = object.__new__(Cache)
        copy.keys, copy.values, copy.length = self.keys, self.values, self.length
        copy.limit, copy.precision, copy.declared = self.limit, self.precision, self.declared
        copy._move(_round_up(max(self.length + 1, min(capacity, self.limit))))
        return copy

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length={length}: the cache holds {self.length} tokens")
        self.length = length

    def _move(self, slots: int) -> None:
        layers, heads, width, _ = self.keys.shape
        keys, values = np.zeros((layers, heads, width, slots), self.keys.dtype), self.values  # [L, K, D, S]
        keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        self.values = np.zeros((layers, heads, slots, width), values.dtype)  # [L, K, S, D]
        self.values[:, :, : self.length] = values[:, :, : self.length]
        self.keys = keys


def _round_up(length: int) -> int:
    slots = (length + _LANES - 1) // _LANES * _LANES
    return slots + _LANES if slots and slots % 256 == 0 else slots  # rows a power of two apart push each other out
