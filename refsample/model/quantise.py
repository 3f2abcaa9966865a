"""What numbers become in narrow formats and in quantised storage. Knows nothing of models or of who runs them.

Every function takes float values, or bit patterns of half precision, and returns float32: the values that whoever
unpacks the storage computes with. "Group" is a run of neighbours along the last axis, the input dimension of a matrix
[out, in]; the last group of a row may be shorter. Scales are one float32 division, `value / scale` another; a group
of zeros stays zeros. What each formula is equal to, bit for bit, tests/parity/test_quantisers.py shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refsample_kernels.lanes import widen

Array = NDArray[Any]
F32 = NDArray[np.float32]

E4M3_MAX = 448.0
"""Largest finite number of FP8 E4M3 in its `fn` variant (no infinities; Micikevicius et al. 2022)."""
_E4M3_SMALL, _E4M3_STEP = np.float32(2.0**-6), np.float32(2.0**-9)  # least normal number, distance below it
_AT_ONCE = 1 << 22  # values that are rounded together: bounds the memory of what is in between
GGUF_BLOCK = 32
CLIP_RATIOS = tuple(1.0 - step / 20 for step in range(11))
"""Shares of the largest magnitude that clipped rounding tries: 1, .95, ..., .5."""


def to_f16(values: Array) -> F32:
    """Rounded to the nearest IEEE float16, ties to even; what rounds beyond 65504 becomes an infinity, as there."""
    with np.errstate(over="ignore"):
        return widen(values).astype(np.float16).astype(np.float32)


def to_e4m3(values: Array, saturate: bool = True) -> F32:
    """Rounded to the nearest FP8 E4M3 (fn), ties to even, subnormals kept.

    What lies beyond 448 becomes 448, as where engines and packers clamp first and as torch 2.13 casts; with
    `saturate=False` what rounds beyond it, above 464, becomes NaN, as ml_dtypes casts.
    """
    held = np.asarray(widen(values), np.float32)
    if saturate:
        held = np.clip(held, np.float32(-E4M3_MAX), np.float32(E4M3_MAX))
    bits = np.ascontiguousarray(held).view(np.uint32)
    kept = (bits + np.uint32(0x7FFFF) + ((bits >> np.uint32(20)) & np.uint32(1))) & np.uint32(0xFFF00000)  # 3 bits
    with np.errstate(invalid="ignore"):  # a signalling NaN may be among them
        small = np.rint(np.clip(held, -_E4M3_SMALL, _E4M3_SMALL) / _E4M3_STEP) * _E4M3_STEP
    rounded = np.where(np.abs(held) < _E4M3_SMALL, small, kept.view(np.float32))
    fits = (np.abs(rounded) <= np.float32(E4M3_MAX)) & ~np.isnan(held)
    return np.where(fits, rounded, np.float32(np.nan))


def round_to_fp8(matrix: Array, scale: Literal["row", "tensor", "none"] = "row") -> F32:
    """FP8 E4M3 with one float32 scale = largest magnitude / 448 for each row or for all, or by a plain cast.

    A row is an output channel of a matrix [out, in], or a token of activations [N, in]. The cast saturates.
    """
    if scale == "none":
        return _in_groups(matrix, matrix.shape[-1], to_e4m3)
    if scale == "row":
        return _in_groups(matrix, matrix.shape[-1], lambda rows: _scaled_e4m3(rows, _peaks(rows)))
    peak = np.float32(max((float(np.abs(widen(row)).max()) for row in matrix), default=0.0))
    return _in_groups(matrix, matrix.shape[-1], lambda rows: _scaled_e4m3(rows, peak))


def round_to_int8(matrix: Array, group: int | None = None) -> F32:
    """Symmetric 8 bits: scale = largest magnitude / 127.5, nearest of -128..127, ties to even.

    One scale a row (output channel of a matrix, token of activations), or one a group. Equal to compressed-tensors on
    a float32 matrix; where its matrix is bfloat16, its scales are too.
    """
    return _in_groups(matrix, group or matrix.shape[-1], lambda groups: _integers(groups, 127.5, -128, 127))


def round_to_int4(matrix: Array, group: int = 32) -> F32:
    """Symmetric 4 bits, fifteen levels: scale = largest magnitude / 7, nearest of -7..7, ties to even."""
    return _in_groups(matrix, group, lambda groups: _integers(groups, 7.0, -7, 7))


def round_to_int4_full(matrix: Array, group: int = 32) -> F32:
    """Symmetric 4 bits, all sixteen levels: scale = largest magnitude / 7.5, nearest of -8..7, ties to even.

    Equal to compressed-tensors' W4A16 on a float32 matrix whose rows its groups divide. A largest magnitude that is
    positive is cut to 7 scales.
    """
    return _in_groups(matrix, group, lambda groups: _integers(groups, 7.5, -8, 7))


def round_to_int4_clipped(matrix: Array, group: int = 32) -> F32:
    """`round_to_int4_full` with the scale that errs least in each group.

    Of the scales r * largest magnitude / 7.5, r in CLIP_RATIOS, the one with the least sum of squared errors, the
    widest of equals: the search that AWQ and observers by squared error make, here on weights alone.
    """
    return _in_groups(matrix, group, _clipped)


def round_to_q8_0(matrix: Array) -> F32:
    """GGUF's Q8_0: groups of 32, d = largest magnitude / 127, nearest of value * (1 / d), halves away from zero.

    What is stored, and multiplied with, is d rounded to float16. Rows that 32 does not divide stay as they are, as
    converters leave them.
    """
    return _gguf(matrix, _q8_0)


def round_to_q4_0(matrix: Array) -> F32:
    """GGUF's Q4_0: groups of 32, d = the value of largest magnitude (the first of equals) / -8, so that it becomes
    -8 exactly; the others trunc(value * (1 / d) + 8.5) - 8, at most 7. d is stored in float16; else as Q8_0."""
    return _gguf(matrix, _q4_0)


def _in_groups(matrix: Array, group: int, rounded: Callable[[F32], F32]) -> F32:
    """`rounded` on groups [rows, groups, group], the last one filled up with zeros, a part of the rows at a time."""
    width = matrix.shape[-1]
    rows = matrix.reshape(-1, width)
    across = -(-width // group)
    out = np.empty(rows.shape, np.float32)
    step = max(1, _AT_ONCE // max(1, across * group))
    for start in range(0, len(rows), step):
        part = widen(rows[start : start + step])
        padded = np.zeros((len(part), across * group), np.float32)
        padded[:, :width] = part
        made = rounded(padded.reshape(len(part), across, group))
        out[start : start + step] = made.reshape(len(part), -1)[:, :width]
    return out.reshape(matrix.shape)


def _peaks(groups: F32) -> F32:
    """Largest magnitude of each group, [..., 1]."""
    return np.asarray(np.abs(groups).max(axis=-1, keepdims=True))


def _divided(groups: F32, scale: F32) -> F32:
    """groups / scale, 0 where the scale is 0."""
    return np.divide(groups, scale, out=np.zeros_like(groups), where=scale > 0)


def _integers(groups: F32, levels: float, low: int, high: int, ratio: float = 1.0) -> F32:
    scale = _peaks(groups) / np.float32(levels)
    if ratio != 1.0:
        scale = scale * np.float32(ratio)
    steps: F32 = np.clip(np.rint(_divided(groups, scale)), np.float32(low), np.float32(high))
    return steps * scale


def _clipped(groups: F32) -> F32:
    best = _integers(groups, 7.5, -8, 7)
    least = np.square(best - groups).sum(axis=-1, keepdims=True)
    for ratio in CLIP_RATIOS[1:]:
        made = _integers(groups, 7.5, -8, 7, ratio)
        error = np.square(made - groups).sum(axis=-1, keepdims=True)
        best, least = np.where(error < least, made, best), np.minimum(error, least)
    return best


def _scaled_e4m3(rows: F32, peak: F32 | np.float32) -> F32:
    scale = np.asarray(peak, np.float32) / np.float32(E4M3_MAX)
    return to_e4m3(_divided(rows, scale)) * scale


def _gguf(matrix: Array, rounded: Callable[[F32], F32]) -> F32:
    if matrix.shape[-1] % GGUF_BLOCK:
        return np.asarray(widen(matrix), np.float32)
    return _in_groups(matrix, GGUF_BLOCK, rounded)


def _inverse(d: F32) -> tuple[F32, F32]:
    """1 / d, and d as it is stored; both 0 where float16 holds it as 0: then the whole group is."""
    stored = to_f16(d)
    return np.divide(np.float32(1), d, out=np.zeros_like(d), where=stored != 0), stored


def _q8_0(groups: F32) -> F32:
    inverse, stored = _inverse(_peaks(groups) / np.float32(127))
    size = np.abs(groups * inverse)
    whole = np.floor(size)
    steps: F32 = np.copysign(whole + (size - whole >= np.float32(0.5)), groups).astype(np.float32)
    return steps * stored


def _q4_0(groups: F32) -> F32:
    place = np.abs(groups).argmax(axis=-1, keepdims=True)
    inverse, stored = _inverse(np.take_along_axis(groups, place, axis=-1) / np.float32(-8))
    steps: F32 = np.minimum(np.trunc(groups * inverse + np.float32(8.5)), np.float32(15)) - np.float32(8)
    return steps * stored
