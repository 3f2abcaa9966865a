"""The error bars of a verification come from the noise that `refsample noise` shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refsample.conformance.errorbars import rows_of, sigmas_of
from refsample.conformance.oracle import HONEST, NOISE_FLOOR, TWIN, Oracle
from refsample.generation.behaviour import Behaviour
from refsample.generation.load import load
from refsample.generation.noise import measure, truth_of
from refsample.sampling.semantics import resolve

PROMPT = "Once upon a time there was a small dog. The dog had a red ball."


def test_they_are_made_of_the_same_figure() -> None:
    tiny = load("tiny")
    ids = tiny.prompt_ids(PROMPT)
    (twin,) = measure(tiny, truth_of(tiny, [ids]), [TWIN])
    oracle = Oracle(tiny, Behaviour(semantics=resolve("reference")))
    bars = sigmas_of(oracle, rows_of(oracle, ids, 1))[HONEST]
    assert len(bars) == twin.positions and min(bars) >= NOISE_FLOOR
    assert bars[-1] == oracle.sigma(ids[:-1])
    # The base is float32 there and float64 here, a thousandth of what bfloat16 does.
    assert twin.logit_error == pytest.approx(math.sqrt(np.mean(np.square(bars))), rel=1e-2)
