"""The pipeline against the sampler as written on paper (`tests/data/plain.py`), over all rules and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refsample.errors import ParameterError
from refsample.sampling.context import Memory
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution
from refsample.sampling.semantics import resolve
from refsample.spec.load import engines
from tests.data.plain import law
from tests.sampling.test_properties import further_sets, parameter_sets, rule_sets

Params = Mapping[str, Any]
# Sixteenths that are far apart or equal: no near tie that rounding could part, no outlier that only underflows.
logit_lists = st.lists(st.one_of(st.integers(-60, 60).map(lambda n: n / 16), st.just(-np.inf)), min_size=1, max_size=9)
extra = st.fixed_dictionaries(
    {},
    optional={
        "no_repeat_ngram_size": st.integers(0, 3),
        "dry_sequence_breakers": st.sampled_from([(), ((0,),), ((1, 2),), ((0, 0), (2,))]),
    },
)


def compare(logits: list[float], params: Params, rules: Any, prompt: list[int], output: list[int], **more: Any) -> bool:
    """Whether the case was decidable; asserts that both laws are one."""
    allowed, mu = more.get("allowed"), more.get("mu")
    mask = None if allowed is None else [i in allowed for i in range(len(logits))]
    try:
        found = distribution(
            logits, SamplingParams(**params), prompt, output, rules, None if mu is None else Memory(mu), allowed=mask
        )
    except ParameterError as error:
        assert any(words in error.rule for words in ("no such step", "leaves no token", "token ids lie in"))
        return False
    if found.boundary_within(1e-10).size:
        return False
    expected = np.array([float(p) for p in law(logits, params, asdict(rules), prompt, output, allowed, mu)])
    assert (expected > 0).tolist() == (found.probs > 0).tolist()
    np.testing.assert_allclose(found.probs, expected, rtol=1e-9, atol=1e-300)
    return True


@settings(max_examples=400)
@given(logit_lists, rule_sets, parameter_sets, further_sets, extra, st.data())
def test_any_rules(
    logits: list[float], rules: Params, params: Params, further: Params, more: Params, data: st.DataObject
) -> None:
    assume(max(logits) > -np.inf and params.get("temperature", 1.0) not in (1e-300, 1e-7))
    ids = st.integers(0, len(logits) - 1)
    prompt, output = data.draw(st.lists(ids, max_size=9)), data.draw(st.lists(ids, max_size=9))
    allowed = data.draw(st.none() | st.lists(ids, min_size=1))
    grammar = data.draw(st.sampled_from(["mask", "redraw"]))
    resolved = resolve("reference", {**rules, "order": list(rules["order"]), "grammar_rule": grammar})
    compare(logits, {**params, **further, **more}, resolved, prompt, output, allowed=allowed)


@pytest.mark.parametrize("engine", engines())
def test_every_engine(engine: str) -> None:
    """Seeded cases of the engine's own steps, most of them decidable."""
    rules, random, decided = resolve(engine), np.random.default_rng(len(engine)), 0
    steps = {*rules.order, *rules.mirostat_order}
    for _ in range(150):
        logits = np.round(random.standard_normal(8) * 24) / 16
        logits[random.random(8) < 0.1] = -np.inf
        logits[0] = 1.0
        values = {
            "temperature": ("temperature", (0.0, 0.5, 1.0, 1.5)), "top_k": ("top_k", (0, 1, 3)),
            "top_p": ("top_p", (1.0, 0.3, 0.8)), "min_p": ("min_p", (0.0, 0.2)), "repetition": (
                "repetition_penalty", (1.0, 1.3)), "frequency": ("frequency_penalty", (0.0, 0.4)),
            "presence": ("presence_penalty", (0.0, 0.7)), "logit_bias": ("logit_bias", ({}, {2: 1.5, 3: -200.0})),
            "typical_p": ("typical_p", (1.0, 0.6)), "xtc": ("xtc_probability", (0.0, 0.5)), "dry": (
                "dry_multiplier", (0.0, 0.8)), "dynamic_temperature": ("dynatemp_range", (0.0, 0.4)),
            "top_n_sigma": ("top_n_sigma", (0.0, 1.0)), "top_h": ("top_h", (0.0, 0.5)),
            "epsilon": ("epsilon_cutoff", (0.0, 0.1)), "eta": ("eta_cutoff", (0.0, 0.2)),
            "no_repeat_ngram": ("no_repeat_ngram_size", (0, 2)),
        }  # fmt: skip
        params = {name: options[int(random.integers(len(options)))] for step, (name, options) in values.items()
                  if step in steps}  # fmt: skip
        prompt, output = (random.integers(0, 8, int(random.integers(0, 30))).tolist() for _ in range(2))
        allowed = None if random.random() < 0.7 else random.choice(8, 5, replace=False).tolist()
        decided += compare(logits.tolist(), params, rules, prompt, output, allowed=allowed)
    assert decided > 75
