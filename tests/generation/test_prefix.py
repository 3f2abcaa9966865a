"""Keys and values kept across calls: never a bit changed, never a byte too many, nothing given to another model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsample
from refsample.errors import ParameterError
from refsample.generation.forest import NEVER, planted
from refsample.generation.forest import Path as Known
from refsample.generation.model import Model
from refsample.generation.prefill import prefilled
from refsample.generation.prefix import LEAST, ROOM, PrefixCache
from refsample_kernels.jit import jit_disabled
from tests.adapters import write_lora
from tests.factories import write_llama
from tests.generation.scripted import scripted, wandering
from tests.text.vocabularies import byte_level

few = settings(max_examples=3 if jit_disabled() else 40)
TOKEN = 2 * 2 * 8 * 2 * 4
"""Bytes of one token of the small model: layers, kv heads, head width, keys and values, float32."""


@cache
def small() -> Model:
    return refsample.load(write_llama(Path(mkdtemp(prefix="refsample-test-"))))


@st.composite
def families(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Prompts that share beginnings of many lengths: each goes on from some place of an earlier one."""
    size = 4 if jit_disabled() else 12
    made: list[tuple[int, ...]] = [()]
    for number in range(draw(st.integers(1, size))):
        stem = made[draw(st.integers(0, number))]
        length = draw(st.integers(1, 40))
        seed = draw(st.integers(0, 3))
        rest = np.random.default_rng(seed).integers(0, 268, length).tolist()
        made.append((*stem[: draw(st.integers(0, len(stem)))], *rest)[:200])
    return draw(st.permutations(made[1:]))


@few
@given(families(), st.sampled_from(["float32", "bf16", "int4-g32"]), st.sampled_from([0, 9000, 40_000, ROOM]))
def test_what_is_taken_over_is_what_would_be_computed(
    prompts: list[tuple[int, ...]], precision: str, room: int
) -> None:
    run, kept = small().transformer_for(precision), PrefixCache(room)
    known: list[tuple[int, ...]] = []
    for ids in prompts:
        want = run.forward([(ids, run.new_cache())], rows="all")[0]
        own = kept.begun(run, ids[:-1], len(ids))
        longest = max([0, *(len(_common(ids[:-1], other)) for other in known)])
        taken = own.length
        assert taken <= longest and (room < ROOM or taken == (longest if longest >= LEAST else 0))
        got = run.forward([(ids[taken:], own)], rows="all")[0]
        np.testing.assert_array_equal(got, want[taken:])
        kept.keep(run, ids, own)
        known += [ids] if len(ids) >= LEAST else []
        assert kept.held <= room


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    count = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:count]


@settings(max_examples=200)
@given(families())
def test_a_forest_holds_every_path_once(prompts: list[tuple[int, ...]]) -> None:
    levels = planted([Known(ids, len(ids) - 1) for ids in prompts])
    built: list[tuple[int, ...]] = [()] * len(prompts)
    for level in levels:
        for stem in level:
            whole = all(len(prompts[p]) == stem.stop for p in stem.members)  # the same to their end
            assert stem.ids and (len(stem.members) == 1 or len(stem.ids) >= LEAST or whole)
            for p in stem.members:
                assert len(built[p]) == stem.start
                built[p] += stem.ids
    assert built == prompts


def test_short_prompts_that_are_equal_stand_once() -> None:
    equal = [Known(ids, len(ids) - 1) for ids in ((5, 6), (5, 6), (5, 6, 7), (5, 6))]
    (level,) = planted(equal)
    assert sorted(stem.members for stem in level) == [(0, 1, 3), (2,)]
    (level,) = planted(equal, NEVER)
    assert sorted(stem.members for stem in level) == [(0,), (1,), (2,), (3,)]


def test_equal_prompts_go_their_own_ways() -> None:
    """Of whatever length, whatever follows them."""
    run, limits = small().transformer, [1, 300, 40]
    for ids in ((7, 3, 9), tuple(range(20))):
        made = prefilled(run, [ids] * 3, limits, PrefixCache(0))
        ((own, want),) = prefilled(run, [ids], [300], PrefixCache(0))
        after = run.forward([(range(100, 200), own)], rows="all")[0]
        for (held, logits), begin in zip(made, (150, 120, 180), strict=True):
            np.testing.assert_array_equal(logits, want)
            run.forward([(range(100, begin), held)])
            got = run.forward([(range(begin, 200), held)], rows="all")[0]
            np.testing.assert_array_equal(got, after[begin - 100 :])


@pytest.mark.slow
def test_the_bound_is_kept_and_the_oldest_goes_first() -> None:
    run, kept = small().transformer, PrefixCache(3 * (1024 + 50 * (16 + TOKEN)))
    prompts = [tuple(np.random.default_rng(seed).integers(0, 268, 50).tolist()) for seed in range(4)]

    def found(number: int) -> int:
        return kept.begun(run, prompts[number], 0).length

    def keep(number: int) -> None:
        own = run.new_cache()
        run.forward([(prompts[number], own)])
        kept.keep(run, prompts[number], own)

    for number in range(3):
        keep(number)
    assert kept.held == kept.room and [found(number) for number in (1, 2, 0)] == [50, 50, 50]
    keep(3)
    assert kept.held == kept.room and [found(number) for number in range(4)] == [50, 0, 50, 50]
    narrow = PrefixCache(1024 + 20 * (16 + TOKEN))
    own = run.new_cache()
    run.forward([(prompts[0], own)])
    narrow.keep(run, prompts[0], own)
    assert narrow.begun(run, prompts[0], 0).length == 20 and narrow.held == narrow.room
    nothing = PrefixCache(0)
    nothing.keep(run, prompts[0], own)
    assert nothing.begun(run, prompts[0], 0).length == nothing.held == 0


def test_what_two_prompts_share_is_held_once() -> None:
    run, kept = small().transformer, PrefixCache()
    head = tuple(range(100))
    for tail in range(5):
        ids = (*head, *range(200, 216 + tail))
        own = kept.begun(run, ids[:-1], 0)
        run.forward([(ids[own.length :], own)])
        kept.keep(run, ids, own)
    assert kept.held == 1024 * 5 + 120 * (16 + TOKEN)


def test_only_the_same_weights_take_over(tmp_path: Path) -> None:
    base = refsample.load(write_llama(tmp_path / "base"))
    first, second = (base.with_adapter(name, write_lora(tmp_path / name, seed=n)) for n, name in enumerate("ab"))
    ids = list(range(40))
    base.generate(ids, max_tokens=1)
    held = base.prefixes.held
    assert held and first.prefixes is base.prefixes
    runs = [base.transformer, base.transformer_for("bf16"), first.transformer, second.transformer]
    assert [base.prefixes.begun(run, tuple(ids), 0).length for run in runs] == [40, 0, 0, 0]
    first.generate(ids, max_tokens=1)
    assert [base.prefixes.begun(run, tuple(ids), 0).length for run in runs] == [40, 0, 40, 0]
    wide = refsample.load(base.folder, precision="float64")
    wide.generate(ids, max_tokens=1)
    assert wide.prefixes.held == 0  # its sums go through BLAS, whose bits depend on what is beside a row


def test_a_long_system_prompt_is_computed_once(tmp_path: Path) -> None:
    byte_level(tmp_path)
    seen: list[int] = []

    def law(ids: tuple[int, ...]) -> np.ndarray:
        seen.append(len(ids))
        return wandering()(ids)

    model = scripted(tmp_path, law)
    system = "You are a careful assistant. "
    first = model.generate(system + "One?", max_tokens=1, seed=1)
    before = len(seen)
    again = model.generate(system + "Two!", max_tokens=1, seed=1)
    assert seen[before:] == list(range(len(system) + 1, len(system) + 5))
    fresh = scripted(tmp_path, wandering())
    assert [first, again] == [fresh.generate(system + end, max_tokens=1, seed=1) for end in ("One?", "Two!")]


def test_the_door(tmp_path: Path) -> None:
    folder = write_llama(tmp_path)
    off = refsample.load(folder, prefix_cache=0)
    off.generate(list(range(40)), max_tokens=1)
    assert off.prefixes.held == 0
    for wrong in (-1, 0.5, True):
        with pytest.raises(ParameterError, match="prefix_cache"):
            refsample.load(folder, prefix_cache=wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_threads_share_it() -> None:
    """With so little room that runs are split and dropped all the time."""
    model = refsample.load(small().folder, prefix_cache=60_000)
    heads = [list(range(k, k + 60)) for k in range(3)]
    jobs = [heads[n % 3] + list(range(n, n + 20)) for n in range(24)]
    want = [small().generate(ids, seed=1, max_tokens=3).token_ids for ids in jobs]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda ids: model.generate(ids, seed=1, max_tokens=3).token_ids, jobs)) == want
    assert 0 < model.prefixes.held <= 60_000
