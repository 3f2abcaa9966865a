"""Hand-worked tables of the steps that only some engines have. One line a case; sums are in the comments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.errors import ParameterError
from refsample.sampling.context import Memory
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution
from refsample.spec.load import engine, engines
from refsample_kernels.repeats import completing, dry, dry_penalty, suffix_lengths
from tests.sampling.laws import NOTHING, law, law_of

STAIR, DYADIC, FLAT = (0.4, 0.3, 0.2, 0.1), (0.5, 0.25, 0.125, 0.125), (0.25,) * 4
LLAMA, HF, MLX = "llamacpp", "hf", "mlx"

SHAPES: Sequence[tuple[str, str, Sequence[float], Mapping[str, object], Sequence[float]]] = [
    # surprises of DYADIC: ln 2 times 1, 2, 3, 3; entropy 1.75 ln 2; distances .75, .25, 1.25, 1.25: order 1, 0, 2, 3
    ("typical, first alone", "reference", DYADIC, {"typical_p": 0.25}, (0, 1, 0, 0)),
    ("typical, mass reached", "reference", DYADIC, {"typical_p": 0.75}, (2 / 3, 1 / 3, 0, 0)),
    ("typical, mass passed, llama.cpp", LLAMA, DYADIC, {"typical_p": 0.75}, (4 / 7, 2 / 7, 1 / 7, 0)),
    ("typical, ties at the end, hf", HF, DYADIC, {"typical_p": 0.8}, DYADIC),
    ("typical, ties at the end", "reference", DYADIC, {"typical_p": 0.8}, (4 / 7, 2 / 7, 1 / 7, 0)),
    ("typical_p=1 is off", "reference", DYADIC, {"typical_p": 1}, DYADIC),
    ("typical of what is possible", "reference", (*DYADIC, 0), {"typical_p": 0.75}, (2 / 3, 1 / 3, 0, 0, 0)),
    # logits 2, 0, 0, -2: deviation sqrt(2)
    ("top_n_sigma .5", "reference", np.exp([2.0, 0, 0, -2]).tolist(), {"top_n_sigma": 0.5}, (1, 0, 0, 0)),
    ("top_n_sigma 1.5", "reference", np.exp([2.0, 0, 0, -2]).tolist(), {"top_n_sigma": 1.5},
     (np.exp(2) / (np.exp(2) + 2), 1 / (np.exp(2) + 2), 1 / (np.exp(2) + 2), 0)),
    ("top_n_sigma off", "reference", STAIR, {"top_n_sigma": -1.0}, STAIR),
    ("top_n_sigma leaves out what is cut", "reference", np.exp([2.0, 0, 0, -2]).tolist() + [0.0],
     {"top_n_sigma": 0.5}, (1, 0, 0, 0, 0)),
    ("top_n_sigma of equals", "reference", FLAT, {"top_n_sigma": 1.0}, FLAT),
    # top_a .5 of .4: .5 * .16 = .08; of .5: .125
    ("top_a .5", "reference", STAIR, {"top_a": 0.5}, STAIR),
    ("top_a 1", "reference", STAIR, {"top_a": 1.0}, (4 / 9, 3 / 9, 2 / 9, 0)),
    ("top_a, equality stays", "reference", DYADIC, {"top_a": 0.5}, DYADIC),
    ("epsilon .15", "reference", STAIR, {"epsilon_cutoff": 0.15}, (4 / 9, 3 / 9, 2 / 9, 0)),
    ("epsilon, equality stays", "reference", DYADIC, {"epsilon_cutoff": 0.125}, DYADIC),
    ("epsilon above all keeps the best", "reference", STAIR, {"epsilon_cutoff": 0.9}, (1, 0, 0, 0)),
    ("epsilon above all keeps all of the best", HF, (0.4, 0.4, 0.2), {"epsilon_cutoff": 0.9}, (0.5, 0.5, 0)),
    # DYADIC: e^-entropy = 2^-1.75 = .2973; sqrt(.5) * .2973 = .2102
    ("eta .5", "reference", DYADIC, {"eta_cutoff": 0.5}, (2 / 3, 1 / 3, 0, 0)),
    ("eta .15", "reference", STAIR, {"eta_cutoff": 0.15}, (4 / 9, 3 / 9, 2 / 9, 0)),  # sqrt(.15) e^-1.2799 = .1077
    ("eta .12", "reference", STAIR, {"eta_cutoff": 0.12}, STAIR),  # .0963
    ("eta .05", "reference", (0.9, 0.06, 0.04), {"eta_cutoff": 0.05}, (0.9 / 0.96, 0.06 / 0.96, 0)),  # .05 < .149
    # entropy terms of DYADIC / ln 2: .5, .5, .375, .375; sums .5, 1, 1.375, 1.75
    ("top_h .25", "reference", DYADIC, {"top_h": 0.25}, (1, 0, 0, 0)),
    ("top_h reaches two", "reference", DYADIC, {"top_h": 1 / 1.75}, (2 / 3, 1 / 3, 0, 0)),
    ("top_h just short of two", "reference", DYADIC, {"top_h": 0.99 / 1.75}, (1, 0, 0, 0)),
    ("top_h 1", "reference", DYADIC, {"top_h": 1.0}, DYADIC),
    # first differences of (.5, .25, .15, .1): .25, .1, .05; second .15, .05; shares .75, 1
    ("tail free .5 keeps one, whatever", "reference", (0.5, 0.25, 0.15, 0.1), {"tfs_z": 0.5}, (1, 0, 0, 0)),
    ("tail free .9", "reference", (0.5, 0.25, 0.15, 0.1), {"tfs_z": 0.9}, (1, 0, 0, 0)),
    ("tail free off", "reference", (0.5, 0.25, 0.15, 0.1), {"tfs_z": 1.0}, (0.5, 0.25, 0.15, 0.1)),
    # (.4, .3, .15, .1, .05): first .1, .15, .05, .05; second .05, .1, 0; shares 1/3, 1, 1: rank 1 is past .5
    ("tail free, first share small", "reference", (0.4, 0.3, 0.15, 0.1, 0.05), {"tfs_z": 0.5}, (1, 0, 0, 0, 0)),
    ("tail free of three", "reference", (0.5, 0.3, 0.2), {"tfs_z": 0.1}, (0.5, 0.3, 0.2)),
    ("tail free of a line", "reference", FLAT, {"tfs_z": 0.4}, (1, 0, 0, 0)),  # shares 1/2, 1
    # xtc always: top choices of STAIR from .2 on are 0, 1, 2; the least of them stays
    ("xtc", "reference", STAIR, {"xtc_probability": 1, "xtc_threshold": 0.2}, (0, 0, 2 / 3, 1 / 3)),
    ("xtc above .2, mlx", MLX, STAIR, {"xtc_probability": 1, "xtc_threshold": 0.2}, (0, 3 / 6, 2 / 6, 1 / 6)),
    ("xtc, one top choice", "reference", STAIR, {"xtc_probability": 1, "xtc_threshold": 0.35}, STAIR),
    ("xtc, half the time", "reference", STAIR, {"xtc_probability": 0.5, "xtc_threshold": 0.2},
     (0.2, 0.15, 0.1 + 1 / 3, 0.05 + 1 / 6)),
    ("xtc ties, one stays", "reference", (0.4, 0.25, 0.25, 0.1), {"xtc_probability": 1, "xtc_threshold": 0.2},
     (0, 0, 5 / 7, 2 / 7)),
    ("xtc ties, all stay, mlx", MLX, (0.4, 0.25, 0.25, 0.1), {"xtc_probability": 1, "xtc_threshold": 0.2},
     (0, 5 / 12, 5 / 12, 2 / 12)),
    # mirostat begins at mu = 2 tau bits; surprises of DYADIC are 1, 2, 3, 3
    ("mirostat, mu 2", "reference", DYADIC, {"mirostat": 2, "mirostat_tau": 1}, (2 / 3, 1 / 3, 0, 0)),
    ("mirostat, mu 3", LLAMA, DYADIC, {"mirostat": 2, "mirostat_tau": 1.5}, DYADIC),
    ("mirostat keeps the best", "reference", DYADIC, {"mirostat": 2, "mirostat_tau": 0.1}, (1, 0, 0, 0)),
    ("mirostat after temperature", LLAMA, (16 / 30, 9 / 30, 4 / 30, 1 / 30),
     {"mirostat": 2, "mirostat_tau": 0.9, "temperature": 2}, (4 / 7, 3 / 7, 0, 0)),  # STAIR; 2^-1.8 = .287
    # entropy of FLAT is the largest: T = 1 + range; of a sure thing the least: T = 1 - range
    ("dynamic temperature, flat", "reference", FLAT, {"dynatemp_range": 0.5}, FLAT),
    ("dynamic temperature, one left", "reference", (1, 0, 0), {"dynatemp_range": 1.0}, (1, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rules", "probs", "params", "expected"), SHAPES, ids=[row[0] for row in SHAPES])
def test_shapes(
    name: str, rules: str, probs: Sequence[float], params: Mapping[str, object], expected: Sequence[float]
) -> None:
    dist = law(probs, rules, **params)
    np.testing.assert_allclose(dist.probs, expected, rtol=0, atol=1e-12)
    assert (dist.support == (np.array(expected) > 0)).all()


def test_dynamic_temperature_by_hand() -> None:
    """H = .4 ln 2.5 + ... of STAIR is 1.27985; by ln 4 it is .92322; squared .85234: T = .5 + 1 * .85234."""
    entropy = -sum(p * math.log(p) for p in STAIR)
    temperature = 0.5 + (entropy / math.log(4)) ** 2
    assert temperature == pytest.approx(1.35234, abs=1e-5)
    expected = np.array(STAIR) ** (1 / temperature)
    found = law(STAIR, LLAMA, dynatemp_range=0.5, dynatemp_exponent=2).probs
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)


def test_dynamic_temperature_counts_what_the_list_holds() -> None:
    """llama.cpp: top_n_sigma sets two of four to -inf and leaves them in the list, top_k takes them off.

    Two equal tokens have the entropy ln 2: half of ln 4, all of ln 2.
    """
    logits = [2.0, 2.0, -9.0, -9.0, -np.inf]
    asked = {"top_n_sigma": 1.0, "dynatemp_range": 0.5, "logit_bias": {1: -0.1}}
    gaps = []
    for engine_name, more in ((LLAMA, {}), (LLAMA, {"top_k": 2}), (LLAMA, {"min_p": 1e-3})):
        law_found = law_of(logits, engine_name, NOTHING, **asked, **more)
        gaps.append(float(np.log(law_found.probs[0] / law_found.probs[1])))
    entropy = -sum(p * math.log(p) for p in (1 / (1 + math.exp(-0.1)), 1 / (1 + math.exp(0.1))))
    assert gaps[0] == pytest.approx(0.1 / (0.5 + entropy / math.log(5)))
    assert gaps[1:] == [pytest.approx(0.1 / (0.5 + entropy / math.log(2)))] * 2


def test_a_joint_top_p_is_heated_by_the_same_temperature() -> None:
    """top_k 2 of STAIR, dynamic T, joint top_p: its base is all four at the temperature of the two that are left."""
    rules = {"order": ("top_k", "dynamic_temperature", "top_p"), "top_p_base": "joint"}
    two = np.array([4 / 7, 3 / 7])
    temperature = 0.5 + float(-(two * np.log(two)).sum() / math.log(2))
    heated = np.array(STAIR) ** (1 / temperature)
    share = float(heated[0] / heated.sum())
    for p, left in ((share - 1e-3, 1), (share + 1e-3, 2)):
        found = law(STAIR, "reference", rules, top_k=2, dynatemp_range=0.5, top_p=p)
        assert np.count_nonzero(found.probs) == left


def test_top_h_looks_at_a_hundred() -> None:
    assert np.count_nonzero(law([1 / 300] * 300, HF, top_h=1.0).probs) == 100
    assert np.count_nonzero(law([1 / 300] * 300, top_h=1.0).probs) == 300


# a b c c b c y a b c: the last three stand at the beginning too, and were followed by c
ABC = [0, 1, 2, 2, 1, 2, 3, 0, 1, 2]


def test_repeats_of_the_worked_example() -> None:
    """The example in llama.cpp's own comment: c would prolong 3, b 1 and y 2."""
    assert suffix_lengths(ABC) == [0, 0, 0, 0, 2, 0, 1, 3, 0, 0]
    assert dry(ABC, 1, ()) == {2: 3, 1: 1, 3: 2}
    assert dry(ABC, 2, ()) == {2: 3, 3: 2}
    assert dry(ABC, 4, ()) == {}
    assert dry(ABC, 1, [(3,)]) == {2: 3, 1: 1}  # y is a breaker: never penalised; three ids came after it
    assert dry(ABC, 1, [(0, 1)]) == {2: 1, 1: 1, 3: 1}  # one id after the breaker a b
    assert dry(ABC, 1, [(2,)]) == {} and dry([], 0, ()) == {} and dry([5], 0, ()) == {}
    assert dry([7, 7, 7], 1, ()) == {7: 2}


def test_dry_penalty() -> None:
    """.8 * 1.75^(3 - 2) from c, .8 * 1.75^0 from y."""
    found = law_of([0.0] * 5, LLAMA, NOTHING, ABC[:6], ABC[6:], dry_multiplier=0.8)
    expected = np.exp([0, 0, -1.4, -0.8, 0])
    np.testing.assert_allclose(found.probs, expected / expected.sum(), rtol=1e-12)
    short = law_of([0.0] * 5, LLAMA, NOTHING, ABC, dry_multiplier=0.8, dry_penalty_last_n=6)
    np.testing.assert_allclose(short.probs, np.exp([0, 0, 0, -0.8, 0]) / np.exp([0, 0, 0, -0.8, 0]).sum(), rtol=1e-12)
    assert dry_penalty(10_000, 1.0, 1.75, 2) == pytest.approx(1.75**158)


ids = st.lists(st.integers(0, 2), max_size=30)


@given(ids)
def test_suffix_lengths_are_the_definition(history: list[int]) -> None:
    for back, length in enumerate(suffix_lengths(history)):
        fits = [n for n in range(len(history) - back + 1) if back and _run(history, 0, n) == _run(history, back, n)]
        assert length == max(fits, default=0)


def _run(history: list[int], back: int, size: int) -> list[int]:
    """The `size` ids that end `back` ids before the end."""
    end = len(history) - back
    return history[end - size : end]


@given(ids, st.integers(1, 5))
def test_no_ngram_twice(history: list[int], size: int) -> None:
    runs = [tuple(history[i : i + size]) for i in range(len(history) - size + 1)]
    for token in range(3):
        new = tuple((*history, token)[-size:])
        assert (token in completing(history, size)) == (len(new) == size and new in runs)


def test_no_repeat_ngram() -> None:
    found = law_of([0.0] * 4, HF, NOTHING, [0, 1, 2, 0], [1], no_repeat_ngram_size=3)
    np.testing.assert_allclose(found.probs, [1 / 3, 1 / 3, 0, 1 / 3])
    with pytest.raises(ParameterError, match="no_repeat_ngram_size=1: leaves no token"):
        law_of([0.0] * 2, "reference", NOTHING, [0, 1], no_repeat_ngram_size=1)


def test_mirostat_remembers() -> None:
    """mu 2; a token of probability 2/3 surprises by .585 bits: mu = 2 + .1 * (1 - .585)."""
    params = SamplingParams(mirostat=2, mirostat_tau=1)
    first = distribution(np.log(DYADIC), params)
    after = first.memory_after(0)
    assert after is not None and after.mu == pytest.approx(2 + 0.1 * (1 - math.log2(1.5)))
    assert distribution(np.log(DYADIC), params, state=Memory(3.0)).support.all()
    assert distribution(np.log(DYADIC), {}).memory_after(0) is None
    with pytest.raises(ParameterError, match="token_id=3: has no probability here"):
        first.memory_after(3)
    with pytest.raises(ParameterError, match="state"):
        distribution(np.log(DYADIC), params, state=2.0)  # type: ignore[arg-type]


def test_a_step_that_an_engine_has_not_is_refused() -> None:
    """Every engine has an answer for every parameter: it acts, or it is refused; nothing is dropped silently."""
    refused = {}
    asked: Mapping[str, object] = {
        "dry_multiplier": 0.5, "dynatemp_range": 0.5, "typical_p": 0.5, "top_h": 0.5, "top_n_sigma": 1, "tfs_z": 0.5,
        "top_a": 0.5, "epsilon_cutoff": 0.3, "eta_cutoff": 0.3, "xtc_probability": 0.5, "mirostat": 2,
        "no_repeat_ngram_size": 2, "min_p": 0.9, "presence_penalty": 1,
    }  # fmt: skip
    for name in engines():
        refused[name] = set()
        for parameter, value in asked.items():
            try:
                law_of([2.0, 1, 0, 0, 0], name, NOTHING, [0, 1, 0, 1], [0], **{parameter: value})
            except ParameterError as error:
                assert error.parameter == parameter and "no such step" in error.rule
                refused[name].add(parameter)
    assert refused["reference"] == set()
    assert refused["llamacpp"] == {
        "top_h", "tfs_z", "top_a", "epsilon_cutoff", "eta_cutoff", "no_repeat_ngram_size",
    }  # fmt: skip
    assert refused["hf"] == {
        "dry_multiplier", "dynatemp_range", "top_n_sigma", "tfs_z", "top_a", "xtc_probability", "mirostat",
        "presence_penalty",
    }  # fmt: skip
    assert refused["tgi"] == set(asked) - {"typical_p"}
    assert refused["mlx"] == set(asked) - {"xtc_probability", "min_p", "presence_penalty"}
    assert refused["vllm"] == refused["sglang"] == set(asked) - {"min_p", "presence_penalty"}
    with pytest.raises(ParameterError, match="while mirostat is on"):
        law_of([0.0, 0.0], LLAMA, mirostat=2, top_k=1)
    assert engine("llamacpp").semantics.mirostat_order[-1] == "mirostat"


BAD: Sequence[tuple[str, object, str]] = [
    ("typical_p", 1.5, r"\[0, 1\]"), ("epsilon_cutoff", 1.0, r"\[0, 1\)"), ("dry_base", 0.5, r"\[1, inf\)"),
    ("mirostat", 1, "must be 0"), ("mirostat_tau", 0, r"\(0, inf\)"), ("no_repeat_ngram_size", -1, "at least 0"),
    ("dry_sequence_breakers", [[]], "at least one"), ("dry_sequence_breakers", "x", "list of lists"),
    ("dry_sequence_breakers", [5], "list of token ids"), ("dry_penalty_last_n", -2, "at least -1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "rule"), BAD)
def test_ranges(name: str, value: object, rule: str) -> None:
    with pytest.raises(ParameterError, match=f"{name}.*{rule}"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]
