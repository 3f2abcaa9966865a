"""Logits against recorded ones of transformers: definition and kernel cannot both be wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from refsample.model.load import load_transformer
from tests.data.make_goldens import HERE, LENGTH, ROWS, TINY, TINY_LENGTH, TINY_ROWS, ids_for, tiny_ids
from tests.factories import CASES, write_llama

BOUND = 5e-5  # of the logits' standard deviation: section 6 of the design


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_random_folder(name: str, tmp_path: Path) -> None:
    goldens = np.load(HERE / "logits.npz")
    model = load_transformer(write_llama(tmp_path / name, **CASES[name]))
    for precision in ("float32", "float64"):
        run = model.with_precision(precision)
        logits = run.forward([(ids_for(268, LENGTH), run.new_cache())], rows="all")[0]
        worst = np.abs(logits[list(ROWS)] - goldens[name]).max()
        assert worst <= BOUND * goldens[f"{name}.std"], f"{precision}: {worst:.2e}"


@pytest.mark.slow
def test_embedded_model() -> None:
    goldens = np.load(HERE / "tiny_logits.npz")
    weights = hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()
    assert str(goldens["weights"]) == weights, "tiny has new weights: run tests/data/make_goldens.py"
    model = load_transformer(TINY)
    ids = tiny_ids(TINY_LENGTH)
    logits = model.forward([(ids, model.new_cache())], rows="all")[0]
    assert np.abs(logits[list(TINY_ROWS)] - goldens["rows"]).max() <= BOUND * goldens["std"]
