"""What the door refuses, and in which words; resolution of engines and overrides."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from refsample.errors import ParameterError, SpecError
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import decide, distribution
from refsample.sampling.semantics import resolve
from refsample.spec.load import engine
from tests.sampling.laws import law, law_of

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("temperature", -0.1, "[0, inf)"),
        ("temperature", NAN, "finite"),
        ("temperature", INF, "finite"),
        ("temperature", "hot", "a number"),
        ("temperature", True, "a number"),
        ("temperature", None, "a number"),
        ("temperature", 10**400, "fit into a float"),
        ("temperature", np.array([1.0, 2.0]), "a number"),
        ("temperature", np.array([1.0]), "a number"),
        ("temperature", 1j, "a number"),
        ("top_p", -0.1, "[0, 1]"),
        ("top_p", 1.1, "[0, 1]"),
        ("top_p", NAN, "finite"),
        ("min_p", 1.0000001, "[0, 1]"),
        ("min_p", -1e-9, "[0, 1]"),
        ("top_k", -2, "-1, 0"),
        ("top_k", 1.0, "an integer"),
        ("top_k", True, "an integer"),
        ("top_k", "5", "an integer"),
        ("repetition_penalty", 0, "(0, inf)"),
        ("repetition_penalty", -1.0, "(0, inf)"),
        ("presence_penalty", INF, "finite"),
        ("frequency_penalty", NAN, "finite"),
        ("logit_bias", [1], "must map"),
        ("logit_bias", {"5": 1.0}, "an integer"),
        ("logit_bias", {-1: 1.0}, "not negative"),
        ("logit_bias", {5: INF}, "below infinity"),
        ("logit_bias", {5: NAN}, "below infinity"),
        ("logit_bias", {5: "1"}, "a number"),
        ("logit_bias", {5: 10**400}, "fit into a float"),
        ("allowed_token_ids", (), "at least one"),
        ("allowed_token_ids", (1.5,), "an integer"),
        ("allowed_token_ids", "12", "a list"),
        ("banned_token_ids", (-1,), "not negative"),
        ("banned_token_ids", 5, "a list"),
    ],
)
def test_params_are_checked(field: str, value: object, rule: str) -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert caught.value.parameter.startswith(field)
    assert rule in caught.value.rule


def test_params_are_frozen_values() -> None:
    bias = {7: 1, 2: -1.5}
    params = SamplingParams(temperature=1, top_k=np.int64(5), logit_bias=bias, allowed_token_ids=(3, 1, 3))
    bias[9] = 5
    assert list(params.logit_bias.items()) == [(2, -1.5), (7, 1.0)]
    assert params.allowed_token_ids == (1, 3)
    assert isinstance(params.temperature, float) and type(params.top_k) is int
    assert params == replace(params) == copy.deepcopy(params) == pickle.loads(pickle.dumps(params))
    assert hash(params) == hash(replace(params))
    assert params != replace(params, top_k=6)
    with pytest.raises(AttributeError):
        params.top_k = 6  # type: ignore[misc]
    with pytest.raises(TypeError):
        params.logit_bias[1] = 0.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("logits", "rule"),
    [
        ([1.0, NAN], "NaN"),
        ([1.0, INF], "+inf"),
        ([-INF, -INF], "finite value"),
        ([], "shape"),
        ([[1.0]], "shape"),
        (1.0, "shape"),
        (["a"], "numbers"),
        ([1j], "numbers"),
        ([10**400], "numbers"),
        ([[1.0], [1.0, 2.0]], "numbers"),
    ],
)
def test_logits_are_checked(logits: object, rule: str) -> None:
    with pytest.raises(ParameterError) as caught:
        distribution(logits, SamplingParams())  # type: ignore[arg-type]
    assert caught.value.parameter == "logits"
    assert rule in caught.value.rule


@pytest.mark.parametrize(
    ("name", "params", "prompt", "output"),
    [
        ("logit_bias", {"logit_bias": {3: 1.0}}, [], []),
        ("allowed_token_ids", {"allowed_token_ids": (0, 3)}, [], []),
        ("banned_token_ids", {"banned_token_ids": (3,)}, [], []),
        ("prompt_ids", {}, [0, 3], []),
        ("prompt_ids", {}, [-1], []),
        ("prompt_ids", {}, [0.5], []),
        ("output_ids", {}, [], np.array([3])),
        ("output_ids", {}, [], [[1]]),
        ("prompt_ids", {}, [[1], [1, 2]], []),
        ("prompt_ids", {}, [True], []),
        ("prompt_ids", {}, 5, []),
        ("output_ids", {}, [], [2**70]),
    ],
)
def test_ids_are_checked(name: str, params: Mapping[str, Any], prompt: Any, output: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        distribution([0.0, 0.0, 0.0], SamplingParams(**params), prompt, output)
    assert caught.value.parameter == name


@pytest.mark.parametrize(
    ("params", "engine_name", "name"),
    [
        ({"banned_token_ids": (0, 1)}, "reference", "banned_token_ids"),
        ({"allowed_token_ids": (2,)}, "reference", "allowed_token_ids"),
        ({"allowed_token_ids": (0,), "banned_token_ids": (0,)}, "reference", "allowed_token_ids"),
        ({"logit_bias": {0: -INF, 1: -INF}}, "llamacpp", "logit_bias"),
    ],
)
def test_nothing_left(params: Mapping[str, Any], engine_name: str, name: str) -> None:
    with pytest.raises(ParameterError, match="leaves no token") as caught:
        law((0.5, 0.5, 0.0), engine_name, **params)
    assert caught.value.parameter == name


def test_a_bias_that_overflows() -> None:
    with pytest.raises(ParameterError, match="logit_bias=.*infinity"):
        law_of([1e308, 0.0], overrides={"bias_clamp": INF}, logit_bias={0: 1e308})


def test_a_parameter_without_a_step_is_refused() -> None:
    """An engine that has no min_p must not take one silently."""
    order = tuple(name for name in engine("reference").semantics.order if name != "min_p")
    assert law((0.6, 0.4), overrides={"order": order}, top_k=1).probs[0] == 1.0
    with pytest.raises(ParameterError, match=r"min_p=0\.1: this engine has no such step"):
        law((0.6, 0.4), overrides={"order": order}, min_p=0.1)


def test_state_is_reserved() -> None:
    with pytest.raises(ParameterError, match="state=3"):
        distribution([0.0], SamplingParams(), state=3)  # type: ignore[arg-type]


def test_engines_in_three_forms() -> None:
    spec = engine("llamacpp")
    assert resolve("llamacpp") == resolve(spec) == resolve(spec.semantics) == spec.semantics
    by_name = law((0.4, 0.6), "llamacpp").probs
    for form in (spec, spec.semantics):
        found = distribution(np.log([0.4, 0.6]), SamplingParams(), engine=form).probs
        np.testing.assert_array_equal(found, by_name)


def test_overrides() -> None:
    rules = resolve("reference", {"top_p_rule": "gt", "bias_clamp": 5, "order": ["temperature", "greedy"]})
    assert (rules.top_p_rule, rules.bias_clamp, rules.order) == ("gt", 5.0, ("temperature", "greedy"))
    assert isinstance(rules.bias_clamp, float)
    assert replace(rules, top_p_rule="ge", bias_clamp=100.0, order=resolve("reference").order) == resolve("reference")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("top_p_rule", "le", ("semantics.top_p_rule='le'", "must be one of ge, gt")),
        ("top_p_rul", "gt", ("semantics.top_p_rul", "did you mean top_p_rule?")),
        ("zzz", 1, ("semantics.zzz", "known: order,")),
        ("min_tokens_to_keep", "2", ("must be an integer",)),
        ("temperature_clamp", "small", ("must be a number",)),
        ("order", "mask", ("must be a list",)),
        ("order", ["mask", "top_x"], ("top_x", "must be one of mask,")),
    ],
)
def test_bad_overrides(name: str, value: object, words: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve("reference", {name: value})
    for word in words:
        assert word in str(caught.value)


def test_contradicting_overrides() -> None:
    with pytest.raises(SpecError, match="penalty_window=0"):
        resolve("reference", {"additive_scope": "window"})
    with pytest.raises(SpecError, match="engine 'vlm' does not exist"):
        resolve("vlm")


def test_params_may_be_a_mapping() -> None:
    asked = {"temperature": 0.5, "logit_bias": {1: 2.0}}
    by_name = distribution([0.0, 1.0], asked)
    np.testing.assert_array_equal(by_name.probs, distribution([0.0, 1.0], SamplingParams(**asked)).probs)
    np.testing.assert_array_equal(distribution([0.0, 1.0], None).probs, distribution([0.0, 1.0], {}).probs)
    with pytest.raises(ParameterError, match="tempurature=1: no such parameter; did you mean temperature?"):
        distribution([0.0], {"tempurature": 1})
    with pytest.raises(ParameterError, match="params=3: must be SamplingParams or a mapping"):
        distribution([0.0], 3)  # type: ignore[arg-type]


def test_a_distribution_is_read_only_and_leaves_its_logits_alone() -> None:
    logits = np.array([0.0, 1.0, 2.0])
    found = decide(logits, SamplingParams(top_k=2), (), (), resolve("reference"))
    for array in (found.probs, found.logits, found.final):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    logits[0] = 5.0  # the caller's own array is still writeable
