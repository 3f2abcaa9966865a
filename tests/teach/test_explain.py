"""An explanation is the trace of its law, row by row."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution
from refsample.sampling.semantics import resolve
from refsample.teach.explain import differing, explain
from tests.sampling.laws import law, law_of

STAIR = (0.4, 0.3, 0.2, 0.1)


def test_a_row_by_hand() -> None:
    """D01 on the reference: heat first, then top_p cuts three."""
    found = explain(law(STAIR, temperature=0.5, top_p=0.5), "reference", str)
    assert [column.name for column in found.columns] == ["model", "temperature", "top_p"]
    assert [candidate.cut_by for candidate in found.candidates] == [None, "top_p", "top_p", "top_p"]
    first, second = found.candidates[:2]
    assert (first.rank, first.token_id, first.text) == (1, 0, "0")
    assert first.probs == (pytest.approx(0.4), pytest.approx(16 / 30), 1.0)
    assert second.probs == (pytest.approx(0.3), pytest.approx(9 / 30), None)
    last = found.columns[-1]
    assert (last.cut, last.margin_unit) == (3, "probability") and last.mass_kept == pytest.approx(16 / 30)
    assert (found.support, found.others) == (1, 0)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["tokens"][1]["probs"]["top_p"] is None


def test_who_cannot_be_drawn_by_the_model_was_cut_by_it() -> None:
    found = explain(law_of([0.0, -np.inf, 1.0]), "reference", str)
    assert [(c.token_id, c.cut_by) for c in found.candidates] == [(2, None), (0, None), (1, "model")]
    assert [column.name for column in found.columns] == ["model"]


def test_a_token_far_down_that_can_be_drawn_is_listed() -> None:
    """Bias lifts the least token of forty to the top: it is among the candidates though its rank is 40."""
    logits = -np.arange(40) / 4
    found = explain(law_of(logits, logit_bias={39: 50.0}), "reference", str, top=3)
    assert [c.token_id for c in found.candidates] == [0, 1, 2, 39] and found.candidates[-1].rank == 40
    assert found.others == 36 and found.support == 40


def test_the_coin_of_xtc_has_a_column_of_its_own() -> None:
    found = explain(law(STAIR, xtc_probability=0.5, xtc_threshold=0.15), "reference", str)
    assert [column.name for column in found.columns] == ["model", "xtc", "law"]
    assert found.candidates[0].probs == (pytest.approx(0.4), None, pytest.approx(0.2))
    assert found.candidates[0].cut_by is None and found.support == 4
    always = explain(law(STAIR, xtc_probability=1.0, xtc_threshold=0.15), "reference", str)
    assert [column.name for column in always.columns] == ["model", "xtc"]
    assert always.candidates[0].cut_by == "xtc"


def test_near_the_cut() -> None:
    found = explain(law_of([3.0, 2.0, 2.0 - 4e-7, 0.0], top_k=2), "reference", str)
    assert [c.near for c in found.candidates] == [(), ("top_k",), ("top_k",), ()]
    assert found.columns[1].undecidable == 2


def test_differing() -> None:
    logits, params = np.log(STAIR), SamplingParams(temperature=0.5, top_p=0.5)
    ours, theirs = (distribution(logits, params, engine=resolve(name)) for name in ("reference", "llamacpp"))
    assert differing(ours, theirs) == (0, 1)
    assert differing(ours, ours) == ()
