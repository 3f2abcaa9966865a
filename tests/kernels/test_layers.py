"""All layers in one kernel: near its definition, and bit for bit the single kernels in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refsample_kernels.activation import gelu, gelu_tanh, silu
from refsample_kernels.attention import attention
from refsample_kernels.jit import jit_disabled
from refsample_kernels.layers_few import define_layers_few, layers_few
from refsample_kernels.layers_many import define_layers_many, layers_many
from refsample_kernels.linear import apply_linear, linear, linear_few
from refsample_kernels.memory import address_of
from refsample_kernels.norm import rms_norm
from refsample_kernels.rope import rotate
from refsample_kernels.thin import FEW
from tests.kernels.test_definitions import held, salted, seeds

Array = NDArray[Any]
few = settings(max_examples=4 if jit_disabled() else 40, deadline=None)
kinds = st.sampled_from(["float32", "float16", "bfloat16"])
EPS, BENDS = 1e-5, (silu, gelu, gelu_tanh)


def empty(*shape: int) -> NDArray[np.float32]:
    return np.full(shape, np.nan, np.float32)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    layers: int = 2
    columns: int
    heads: int
    kv_heads: int
    width: int
    inner: int
    rows: tuple[int, ...]
    """Of each text."""
    biased: bool
    kind: str
    activation: int
    window: int
    cap: float
    turned: float
    """How much of a head is."""


@st.composite
def sizes(draw: st.DrawFn, rows: st.SearchStrategy[list[int]]) -> Sizes:
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return Sizes(
        columns=draw(st.integers(1, 70)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        width=draw(st.sampled_from([2, 6, 16, 18])),
        inner=draw(st.integers(1, 70)),
        rows=tuple(draw(rows)),
        biased=draw(st.booleans()),
        kind=draw(kinds),
        activation=draw(st.integers(0, 2)),
        window=draw(st.sampled_from([0, 3, 20])),
        cap=draw(st.sampled_from([0.0, 5.0])),
        turned=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )


@dataclass
class Made:
    """Random layers and caches of some sizes, and the tables that a kernel takes."""

    seed: int
    sizes: Sizes
    layers: list[dict[str, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng, s = np.random.default_rng(self.seed), self.sizes
        wide, narrow = s.heads * s.width, s.kv_heads * s.width
        shapes = {"q": (wide, s.columns), "k": (narrow, s.columns), "v": (narrow, s.columns), "o": (s.columns, wide)}
        shapes |= {"gate": (s.inner, s.columns), "up": (s.inner, s.columns), "down": (s.columns, s.inner)}
        for _ in range(s.layers):
            layer = {norm: salted(rng, "plain", s.columns) for norm in ("attention", "mlp")}
            for name, shape in shapes.items():
                layer[name] = held(salted(rng, "plain", *shape) * np.float32(0.3), s.kind)
                layer[name + " bias"] = salted(rng, "plain", shape[0] if s.biased else 0)
            self.layers.append(layer)
        self.starts = [int(rng.integers(0, 40)) for _ in s.rows]
        self.slots = [(start + count + 15) // 16 * 16 for start, count in zip(self.starts, s.rows, strict=True)]
        shape = (s.layers, s.kv_heads, s.width)
        self.keys = [salted(rng, "plain", *shape, slots) for slots in self.slots]  # [L, K, D, S]
        self.values = [np.ascontiguousarray(salted(rng, "plain", *shape, n).transpose(0, 1, 3, 2)) for n in self.slots]
        count, half = sum(s.rows), int(s.width // 2 * s.turned)
        self.x = salted(rng, "plain", count, s.columns)
        angles = rng.uniform(-3, 3, (2, count, half))
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self.ropes = [int(n) for n in rng.integers(-1, 2, s.layers)]

    def through(self, run: Any, x: Array) -> None:
        """x through a kernel or its definition."""
        s, order = self.sizes, ("q", "k", "v", "o", "gate", "up", "down")
        rows = [
            [address_of(layer[name]) for name in ("attention", *order[:4], "mlp", *order[4:])]
            + [address_of(layer[name + " bias"]) if s.biased else 0 for name in order]
            for layer in self.layers
        ]
        firsts = np.cumsum([0, *s.rows])[:-1].tolist()
        addresses = ([address_of(array) for array in arrays] for arrays in (self.keys, self.values))
        run(
            x, np.array(rows), np.array([(s.window, rope) for rope in self.ropes]), np.full(s.layers, 0.3),
            np.array([s.heads, s.kv_heads, s.width, s.inner, s.activation]),
            np.array(list(zip(firsts, s.rows, self.starts, self.slots, *addresses, strict=True))),
            self.cos, self.sin, EPS, s.cap, self.layers[0]["q"][:0].reshape(-1),
        )  # fmt: skip

    def one_by_one(self, x: Array) -> Array:
        """x through the single kernels."""
        for number, layer in enumerate(self.layers):
            normed = self._norm(x, layer["attention"])
            q, k, v = (self._linear(normed, layer, name) for name in ("q", "k", "v"))
            x = x + self._linear(self._attention(number, q, k, v), layer, "o")
            normed = self._norm(x, layer["mlp"])
            gate, bent = self._linear(normed, layer, "gate"), empty(len(x), self.sizes.inner)
            BENDS[self.sizes.activation](gate, bent)
            x = x + self._linear(bent * self._linear(normed, layer, "up"), layer, "down")
        return x

    def _norm(self, x: Array, weight: Array) -> Array:
        out = empty(*x.shape)
        rms_norm(x, weight, EPS, out)
        return out

    def _linear(self, x: Array, layer: dict[str, Array], name: str) -> Array:
        out = empty(len(x), len(layer[name]))
        apply_linear(x, layer[name], layer[name + " bias"], out)
        return out

    def _attention(self, number: int, q: Array, k: Array, v: Array) -> Array:
        s, rope = self.sizes, self.ropes[number]
        q, k, v = (part.reshape(len(q), -1, s.width) for part in (q, k, v))
        if rope >= 0:
            turned_q, turned_k = empty(*q.shape), empty(*k.shape)
            rotate(q, self.cos[rope], self.sin[rope], turned_q)
            rotate(k, self.cos[rope], self.sin[rope], turned_k)
            q, k = turned_q, turned_k
        out, first = empty(*q.shape), 0
        for count, start, keys, values in zip(s.rows, self.starts, self.keys, self.values, strict=True):
            span = slice(first, first + count)
            keys[number, :, :, start : start + count] = k[span].transpose(1, 2, 0)
            values[number, :, start : start + count] = v[span].transpose(1, 0, 2)
            attention(q[span], keys[number], values[number], start, 0.3, s.window, s.cap, out[span])
            first += count
        return out.reshape(len(out), -1)


def wrong(seed: int, sizes: Sizes, kernel: Any, definition: Any) -> list[str]:
    """In what a kernel differs from the single kernels, and from its definition by more than it may."""
    ours, theirs, exact = Made(seed, sizes), Made(seed, sizes), Made(seed, sizes)
    got, wide = ours.x.copy(), exact.x.astype(np.float64)
    ours.through(kernel, got)
    exact.through(definition, wide)
    same = {
        "rows": np.array_equal(got, theirs.one_by_one(theirs.x)),
        "keys": all(map(np.array_equal, ours.keys, theirs.keys)),
        "values": all(map(np.array_equal, ours.values, theirs.values)),
        "definition": np.abs(got - wide).max() <= 1e-3 * max(1e-30, float(np.abs(wide).max())),
    }
    return [name for name, fits in same.items() if not fits]


@few
@given(seeds, sizes(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
def test_layers_few(seed: int, sizes: Sizes) -> None:
    assert not wrong(seed, sizes, lambda *given: layers_few(*given), lambda *given: define_layers_few(*given))


@few
@given(seeds, sizes(st.lists(st.integers(1, 60), min_size=1, max_size=3)))
def test_layers_many(seed: int, sizes: Sizes) -> None:
    assert not wrong(seed, sizes, lambda *given: layers_many(*given), lambda *given: define_layers_many(*given))


@pytest.mark.skipif(jit_disabled(), reason="would take minutes in plain Python")
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [(1,), (2,), (1, 6, 1), (1,) * 48, (1,) * 49, (47, 1), (400, 3), (96,)])
def test_sizes_at_which_threads_share(rows: tuple[int, ...], kind: str) -> None:
    """Rows of more than one block, several slabs, more heads than parts: nothing here is small."""
    shape = Sizes(
        columns=192, heads=6, kv_heads=2, width=32, inner=1200, rows=rows, biased=True, kind=kind, activation=0,
        window=0, cap=0.0, turned=1.0, layers=4,
    )  # fmt: skip
    pair = (layers_few, define_layers_few) if sum(rows) <= FEW else (layers_many, define_layers_many)
    assert not wrong(1, shape, *pair)


@pytest.mark.parametrize("width", [1, 15, 48, 1000] if jit_disabled() else [1, 15, 48, 1023, 1024, 1040, 2500])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_a_row_has_the_same_bits_in_every_tile(width: int, kind: str) -> None:
    """Alone, among few rows and among many: whole tiles, parts of them, one block of a row or several."""
    rng = np.random.default_rng(width)
    most = 10 if jit_disabled() else 401
    x, weight = salted(rng, "plain", most, width), held(salted(rng, "plain", 35, width), kind)
    nothing, alone = np.empty(0, np.float32), empty(most, 35)
    for n in range(most):
        apply_linear(x[n : n + 1], weight, nothing, alone[n : n + 1])
    for rows in (2, 3, 7, 8, 9, 10) if jit_disabled() else (2, 3, 4, 5, 8, 9, 16, 47, 48, 49, 96, 97, 200, 401):
        for kernel in (linear, linear_few) if rows <= FEW else (linear, apply_linear):
            together = empty(rows, 35)
            kernel(x[:rows], weight, nothing, together)
            np.testing.assert_array_equal(together, alone[:rows])


@pytest.mark.parametrize("rows", [6, 25] if jit_disabled() else [5, 6, 24, 29, 48, 49, 54, 77])
@pytest.mark.parametrize("width", [16, 48])
def test_rows_that_share_what_they_read_have_the_bits_of_rows_alone(rows: int, width: int) -> None:
    """With nothing but NaN behind the last key, in a cache without a place to spare."""
    rng = np.random.default_rng(rows + width)
    heads, group = 2, 3
    for start in (0, 40) if jit_disabled() else (0, 1, 40, 130):
        count = start + rows
        room = (count + 15) // 16 * 16
        q = salted(rng, "plain", rows, heads * group, width)
        keys, values = salted(rng, "plain", heads, width, room), salted(rng, "outliers", heads, room, width)
        keys[:, :, count:], values[:, count:] = np.nan, np.nan
        for window in (0, count, count - 1):
            for cap in (0.0, 5.0):
                together, alone = empty(*q.shape), empty(*q.shape)
                attention(q, keys, values, start, 0.2, window, cap, together)
                for t in range(rows):
                    attention(q[t : t + 1], keys, values, start + t, 0.2, window, cap, alone[t : t + 1])
                np.testing.assert_array_equal(together, alone)
                assert np.isfinite(together).all()
