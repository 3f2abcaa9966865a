"""Narrow formats and quantised storage: by hand, and what holds of every input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample.model import quantise
from refsample.model.quantise import (
    CLIP_RATIOS,
    round_to_fp8,
    round_to_int4,
    round_to_int4_clipped,
    round_to_int4_full,
    round_to_int8,
    round_to_q4_0,
    round_to_q8_0,
    to_e4m3,
    to_f16,
)

Rounding = Callable[[NDArray[Any]], NDArray[np.float32]]
NAN, INF = float("nan"), float("inf")
SCALED: dict[str, Rounding] = {
    "int8": round_to_int8,
    "int8-g32": partial(round_to_int8, group=32),
    "int4-g32": round_to_int4,
    "int4-g64": partial(round_to_int4, group=64),
    "int4-g32-full": round_to_int4_full,
    "int4-g128-clipped": partial(round_to_int4_clipped, group=128),
    "q8_0": round_to_q8_0,
    "q4_0": round_to_q4_0,
    "fp8": round_to_fp8,
    "fp8-cast": partial(round_to_fp8, scale="none"),
}


def row(values: list[float], width: int = 32) -> NDArray[np.float32]:
    """[1, width], zeros after the values."""
    return np.array([values + [0.0] * (width - len(values))], np.float32)


def matrix(seed: int, salt: str, rows: int, width: int) -> NDArray[np.float32]:
    """Weights with what quantisers stumble over: outliers, groups of zeros, tiny rows, equal magnitudes."""
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((rows, width))
    if salt == "outliers":
        made *= np.where(rng.random(made.shape) < 0.05, 50.0, 1.0)
    elif salt == "zeros":
        made[:, : width // 2] = 0.0
    elif salt == "tiny":
        made *= 1e-30
    elif salt == "equal":
        made = np.sign(made)
    return made.astype(np.float32)


matrices = st.builds(
    matrix, st.integers(0, 999), st.sampled_from(["plain", "outliers", "zeros", "tiny", "equal"]), st.integers(1, 5),
    st.integers(1, 9).map(lambda n: 32 * n),
)  # fmt: skip


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        # scale 127.5 / 127.5 = 1: ties to even, the positive end is cut to 127, the negative one is -128
        (round_to_int8, [127.5, 0.5, 1.5, -2.5, 3.4, -127.4], [127, 0, 2, -2, 3, -127]),
        (round_to_int8, [-127.5, 1.0], [-128, 1]),
        (round_to_int4_full, [7.5, 0.5, 1.5, -2.5, 3.4], [7, 0, 2, -2, 3]),
        (round_to_int4_full, [-7.5, 7.5], [-8, 7]),
        (round_to_int4, [7, -7, 0.5, 1.5, -2.5, 3.4], [7, -7, 0, 2, -2, 3]),
        # d = 1: halves away from zero
        (round_to_q8_0, [127, 0.5, 1.5, -2.5, 3.4, 0.49999997], [127, 1, 2, -3, 3, 0]),
        # d = -8 / -8 = 1: half steps go up, the other end is cut to 7
        (round_to_q4_0, [-8, 8, 0.5, -0.5, 1.4, -3.5], [-8, 7, 1, 0, 1, -3]),
        # d = 8 / -8 = -1: the same, mirrored; of equal magnitudes the first decides
        (round_to_q4_0, [8, -8, 0.5, -0.5, 1.4], [8, -7, 0, -1, 1]),
        # scale 1: three bits after the leading one, below 2^-6 steps of 2^-9
        (round_to_fp8, [448, 17, 19, 100, -1.07, 0.001, 0.0009765625], [448, 16, 20, 96, -1.125, 0.001953125, 0]),
        (partial(round_to_fp8, scale="none"), [1000, -500, 0.3], [448, -448, 0.3125]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_by_hand(function: Rounding, values: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(function(row(values)), row(expected))


def test_e4m3_beyond_its_largest() -> None:
    values = np.array([448, 463.9, 464, 464.1, 1e9, -1e9, INF, NAN], np.float32)
    np.testing.assert_array_equal(to_e4m3(values, saturate=False), [448, 448, 448, NAN, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(to_e4m3(values), [448, 448, 448, 448, 448, -448, 448, NAN])


def test_e4m3_has_253_numbers() -> None:
    """2 signs x (15 exponents x 8 + 7 numbers), less one NaN each; both zeros are one number here."""
    every = (np.arange(65536, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    held = np.unique(to_e4m3(every[np.isfinite(every)]))
    assert len(held) == 253 and held.max() == 448 and held[held > 0].min() == 2.0**-9


def test_f16_by_hand() -> None:
    values = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65504, 65519, 65520, -1e9, 2.0**-25, 2.0**-24], np.float32)
    np.testing.assert_array_equal(to_f16(values), [1, 1 + 2**-9, 65504, 65504, INF, -INF, 0, 2.0**-24])


def test_fp8_scales_of_rows_and_of_all() -> None:
    held = np.concatenate([row([448, 1.07]), row([4.48, 0.0107])])
    got = round_to_fp8(held)
    np.testing.assert_allclose(got[1], got[0] / 100, rtol=1e-6)
    np.testing.assert_array_equal(round_to_fp8(held, "tensor"), to_e4m3(held))


@given(matrices, st.sampled_from(sorted(SCALED)))
def test_every_rounding(values: NDArray[np.float32], name: str) -> None:
    """Shape and type stay, zeros stay, rows and leading axes do not see each other, bits are what they stand for."""
    function = SCALED[name]
    got = function(values)
    assert got.shape == values.shape and got.dtype == np.float32 and np.isfinite(got).all()
    assert not got[values == 0].any()
    np.testing.assert_array_equal(got, np.concatenate([function(one[None]) for one in values]))
    np.testing.assert_array_equal(function(values[None, :, None])[0, :, 0], got)
    halves = values.astype(np.float16)
    np.testing.assert_array_equal(function(halves.view(np.int16)), function(halves.astype(np.float32)))


@given(matrices)
def test_errors_are_half_a_step(values: NDArray[np.float32]) -> None:
    width = values.shape[1]
    for function, group, levels in (
        (round_to_int8, width, 127.5),
        (round_to_int4, 32, 7),
        (round_to_int4_full, 32, 7.5),
    ):
        groups = values.reshape(len(values), -1, group)
        step = np.abs(groups).max(axis=2, keepdims=True) / levels
        error = np.abs(function(values).reshape(groups.shape) - groups)
        assert np.all(error <= step / 2 * (1 + 1e-4))
    groups = values.reshape(len(values), -1, 32).astype(np.float64)
    peak = np.abs(groups).max(axis=2, keepdims=True)
    near = 2.0**-24 * 128  # where float16 has no more digits
    for function, levels, worst in ((round_to_q8_0, 127, 0.5), (round_to_q4_0, 8, 1.0)):
        error = np.abs(function(values).reshape(groups.shape) - groups)
        assert np.all(error <= peak / levels * worst * 1.0001 + peak * 2**-11 + near)


@given(matrices)
def test_what_is_rounded_stays(values: NDArray[np.float32]) -> None:
    for function in (to_f16, to_e4m3, round_to_q8_0, round_to_q4_0):
        once = function(values)
        np.testing.assert_array_equal(function(once), once)


@given(matrices, st.sampled_from([32, 64, 128]))
def test_clipping_errs_no_more(values: NDArray[np.float32], group: int) -> None:
    def loss(rounded: NDArray[np.float32]) -> NDArray[np.float64]:
        padded = np.pad(rounded.astype(np.float64) - values, ((0, 0), (0, -values.shape[1] % group)))
        return np.square(padded).reshape(len(values), -1, group).sum(axis=2)

    assert np.all(loss(round_to_int4_clipped(values, group)) <= loss(round_to_int4_full(values, group)) * (1 + 1e-5))


def test_clipping_takes_the_best_of_its_ratios() -> None:
    values = matrix(3, "outliers", 1, 32)
    losses = {}
    for ratio in CLIP_RATIOS:
        scale = np.float32(np.abs(values).max() / np.float32(7.5) * np.float32(ratio))
        made = np.clip(np.rint(values / scale), -8, 7) * scale
        losses[ratio] = float(np.square(made - values).sum())
    best = min(losses.values())
    assert best < losses[1.0], "an outlier is worth clipping"
    assert np.square(round_to_int4_clipped(values) - values).sum() == pytest.approx(best, rel=1e-6)


def test_widths_that_no_group_divides() -> None:
    values = matrix(0, "plain", 3, 40)
    for function in (round_to_int4, round_to_int4_full, round_to_int4_clipped, partial(round_to_int8, group=32)):
        np.testing.assert_array_equal(function(values)[:, 32:], function(values[:, 32:]))
    for function in (round_to_q8_0, round_to_q4_0):
        np.testing.assert_array_equal(function(values), values)


def test_large_matrices_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = matrix(1, "plain", 7, 96)
    wants = {name: function(values) for name, function in SCALED.items()}
    monkeypatch.setattr(quantise, "_AT_ONCE", 200)
    for name, function in SCALED.items():
        np.testing.assert_array_equal(function(values), wants[name])
