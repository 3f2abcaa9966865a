"""The kernels for whole rows beside their definitions; `tests/sampling/test_quick.py` holds them to the pipeline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample_kernels import program as codes
from refsample_kernels.choose import EQUAL, LISTED, TOKEN, choose, define_choose, room
from refsample_kernels.choose_deep import choose_deep, define_choose_deep
from refsample_kernels.inverse import DEEPER, UNDECIDED
from refsample_kernels.jit import jit_disabled
from refsample_kernels.rank import kth_largest
from refsample_kernels.softmax import (
    define_row_mass,
    define_row_spread,
    log_softmax,
    row_law,
    row_log_softmax,
    row_mass,
    row_spread,
)

F32 = NDArray[np.float32]
SIZES = st.sampled_from([1, 15, 16, 17, 128, 300] if jit_disabled() else [1, 15, 16, 17, 128, 300, 4000])
TOPS = 3


def given_to(rows: F32, us: Any, steps: list[int], numbers: dict[int, float], history: Any) -> list[Any]:
    """The arguments of `choose` up to its answers, one history for all rows."""
    names, counts = np.unique(np.asarray(history, dtype=np.int64), return_counts=True)
    count, held = len(rows), names.size
    values = np.zeros(10)
    values[list(numbers)] = list(numbers.values())
    work, keys, ranks = room(rows.shape[1], held, TOPS)
    return [
        rows, np.asarray(us, dtype=np.float64), np.arange(count + 1) * held, np.tile(names, count),
        np.zeros(count * held), np.tile(counts, count), np.tile(counts, count), np.array(steps, dtype=np.int64),
        values, np.zeros(10, np.int64), 1, TOPS,
        np.zeros((1, work), np.float32), np.zeros((1, keys)), np.zeros((1, ranks), np.int64),
    ]  # fmt: skip


def answers(count: int) -> list[Any]:
    return [np.zeros((count, 5), np.int64), np.zeros((count, TOPS + 1), np.int64), np.zeros((count, TOPS + 3))]


@given(SIZES, st.integers(0, 2**32), st.floats(0.0, 1.0, exclude_max=True), st.sampled_from([1, 2, 20]))
def test_choose(size: int, seed: int, u: float, k: int) -> None:
    """All its steps at once: where it decides, it is the definition."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((2, size)) * 3.0).astype(np.float32)
    steps = [codes.REPETITION, codes.FREQUENCY, codes.PRESENCE]
    steps += [codes.TEMPERATURE, codes.MIN_P, codes.TOP_K, codes.TOP_P]
    numbers = dict(zip(steps, (1.3, 0.1, 0.2, 0.7, 0.01, k, 0.9), strict=True)) | {codes.LOG_MIN_P: float(np.log(0.01))}
    asked = given_to(rows, [u, 0.5], steps, numbers, rng.integers(size, size=12))
    got, want = answers(2), answers(2)
    choose(*asked, *got)
    define_choose(*asked, *want)
    sure = got[0][:, TOKEN] >= 0
    np.testing.assert_array_equal(got[0][sure, : EQUAL + 1], want[0][sure, : EQUAL + 1])
    for r in np.flatnonzero(sure):
        n = got[0][r, LISTED]
        assert n == want[0][r, LISTED] and got[1][r, :n].tolist() == want[1][r, :n].tolist()
        np.testing.assert_allclose(got[2][r], want[2][r], rtol=1e-15 * size)


@given(st.integers(0, 2**32), st.floats(0.0, 1.0, exclude_max=True), st.sampled_from([0.5, 0.9, 0.99]))
def test_choose_deep(seed: int, u: float, p: float) -> None:
    """A flat law whose nucleus is most of the vocabulary: `choose` leaves it, this knows, and says what is defined."""
    size = 300 if jit_disabled() else 2000
    rows = np.random.default_rng(seed).standard_normal((3, size)).astype(np.float32)
    numbers = {codes.TEMPERATURE: 3.0, codes.TOP_P: p}
    asked = given_to(rows, [u, 0.5, 0.2], list(numbers), numbers, [7])
    got, want = answers(3), answers(3)
    choose(*asked, *got)
    deeper = got[0][:, TOKEN] == DEEPER
    assert deeper.all() or p == 0.5
    which = np.flatnonzero(deeper)
    few = [*asked[:11], *asked[12:]]
    choose_deep(few[0], which, *few[1:], got[0])
    define_choose_deep(few[0], which, *few[1:], want[0])
    sure = deeper & (got[0][:, TOKEN] != UNDECIDED)
    assert not which.size or sure.any()
    np.testing.assert_array_equal(got[0][sure, : EQUAL + 1], want[0][sure, : EQUAL + 1])


def test_choose_by_hand() -> None:
    """ln (8, 4, 2, 1, 1), token 0 penalised by ln 8: shares 1, 4, 2, 1, 1; the best three, 4 2 1: the lowest id of the
    tied is kept, and u in [0, 1/7) is its own."""
    row = np.log(np.array([[8, 4, 2, 1, 1]])).astype(np.float32)
    for u, token in ((0.1, 0), (0.2, 1), (0.71, 1), (0.72, 2), (0.99, 2)):
        got = answers(1)
        steps = [codes.PRESENCE, codes.TOP_K]
        choose(*given_to(row, [u], steps, {codes.PRESENCE: float(row[0, 0]), codes.TOP_K: 3}, [0]), *got)
        assert got[0][0].tolist()[:2] == [token, 3]


@given(SIZES, st.integers(0, 2**32))
def test_row_mass(size: int, seed: int) -> None:
    row = (np.random.default_rng(seed).standard_normal(size) * 5.0).astype(np.float32)
    row[1::3] = -np.inf
    got, want = np.zeros(1), np.zeros(1)
    row_mass(row, got)
    define_row_mass(row, want)
    np.testing.assert_allclose(got, want, rtol=1e-15 * max(size, 8))
    np.testing.assert_allclose(row_log_softmax(row), log_softmax(row.astype(np.float64)), rtol=4e-15, atol=4e-15)


@given(SIZES, st.integers(0, 2**32), st.sampled_from([0.0, 1.0, 30.0, 1e5]))
def test_row_spread(size: int, seed: int, scale: float) -> None:
    row = (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)
    row[1::3] = -np.inf
    got, want, mass = np.zeros(2), np.zeros(2), np.zeros(1)
    row_spread(row, got)
    define_row_spread(row, want)
    row_mass(row, mass)
    assert got[0] == mass[0]
    np.testing.assert_allclose(got, want, rtol=1e-15 * max(size, 8), atol=1e-290)
    values, entropy = row_law(row)
    assert np.array_equal(values, row_log_softmax(row))
    other, wide = row_law(row.astype(np.float64))
    np.testing.assert_allclose(values, other, rtol=4e-15, atol=4e-15)
    assert 0.0 <= entropy == pytest.approx(wide, rel=1e-13, abs=1e-13)
    assert entropy <= math.log(np.count_nonzero(row > -np.inf)) + 1e-12


LISTS = ([2.0], [1.0] * 9, list(range(50)), list(range(50, 0, -1)), [1, 1, 2, 2, 3, 3, -np.inf])


@pytest.mark.parametrize("values", LISTS)
def test_kth_largest(values: list[float]) -> None:
    for k in range(1, len(values) + 1):
        held = np.array(values, dtype=np.float64)
        assert kth_largest(held, len(values), k) == sorted(values, reverse=True)[k - 1]
        assert sorted(held) == sorted(values)
