"""The shipped vectors: valid, made by the plain sampler, met by the pipeline, and missed by every other rule."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import jsonschema
import numpy as np
import pytest

from refsample.errors import ParameterError, SpecError
from refsample.sampling.logprobs import from_values, rendered
from refsample.sampling.pipeline import draw
from refsample.sampling.semantics import resolve
from refsample.sampling.vectors import (
    Vector,
    answer_problems,
    draw_problems,
    law_problems,
    logprob_problems,
    own_law,
    recipe,
    vectors,
)
from refsample.spec.load import engines, folder
from refsample.spec.types import Semantics
from tests.data import make_vectors

FOLDER = folder() / "vectors"
ALL = vectors()
SMALL = [one for one in ALL if one.logits.size < 1000]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.id)
def test_the_pipeline_meets_them(one: Vector) -> None:
    law = own_law(one)
    assert law_problems(one, law.probs) == ()
    assert logprob_problems(one, law.logprobs()) == ()
    assert draw_problems(one, lambda u: draw(law.probs, u)) == ()
    assert answer_problems(one, law) == ()
    alive = np.flatnonzero(law.support).tolist()
    stated = one.expected["support"]
    count = stated["count"] if isinstance(stated, Mapping) else len(stated)
    assert len(alive) == count + len(one.expected["faint"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_files_are_valid(path: Any) -> None:
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    if path.stem == "schema":
        broken = {"version": 1, "vectors": [{"id": "x"}]}
        assert not jsonschema.Draft202012Validator(schema).is_valid(broken)
    else:
        jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(make_vectors.FILES) - {"edges", "pairs"}))
def test_files_are_the_generators(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == make_vectors.text(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edges", "pairs"])
def test_slow_files_are_made_again_from_their_inputs(name: str) -> None:
    """Edges have big ones, which take a minute each, and pairs are looked for: what is small is worked out again."""
    for entry in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["vectors"]:
        one = next(one for one in ALL if one.id == entry["id"])
        if one.logits.size < 1000:
            made = make_vectors.vector(
                one.id, one.about, one.decisions, one.engine, one.logits.tolist(), one.params,
                semantics=one.semantics, prompt_ids=one.prompt_ids, output_ids=one.output_ids, allowed=one.allowed,
                mu=one.mu,
            )  # fmt: skip
            assert json.loads(json.dumps(made)) == entry


def test_ids_are_names() -> None:
    ids = [one.id for one in ALL]
    assert len(set(ids)) == len(ids) > 150
    assert {one.engine for one in ALL} == set(engines())


def test_every_divergence_of_the_sampler_has_a_vector() -> None:
    named = {one.id.partition("/")[0].partition("-")[0] for one in ALL}
    sampling = {*range(1, 13), 15, 17, 18, 19, 20}
    assert {f"D{number:02}" for number in sampling} <= named
    assert any(one.logits.size == 151_936 for one in ALL)


# Rules that no law shows. Forms that differ by rounding alone; how an answer lists and writes logprobs; seeds.
NOT_IN_A_LAW = {"min_p_form", "rank_rule", "minus_inf", "top_logprobs_rule", "seed_rule"}
NUMBERS: Mapping[str, float] = {
    "min_tokens_to_keep": 3, "top_h_ranks": 2, "temperature_clamp": 0.5, "greedy_below": 0.6, "penalty_window": 3,
    "bias_clamp": 3.0,
}  # fmt: skip


def flips() -> list[tuple[str, object]]:
    """(rule, another value) for every rule of Semantics that a law or a logprob shows."""
    found: list[tuple[str, object]] = []
    for name, hint in get_type_hints(Semantics).items():
        if name in NOT_IN_A_LAW or name in ("order", "mirostat_order"):
            continue
        found += [(name, NUMBERS[name])] if name in NUMBERS else [(name, value) for value in get_args(hint)]
    return found


@pytest.mark.parametrize(("name", "value"), flips())
def test_a_flipped_rule_fails_a_vector(name: str, value: Any) -> None:
    """Every vector whose engine has another value is answered with this one: at least one has to notice.

    exact_any is exact_low_id with a promise less, and cannot be told from it.
    """
    bitten = []
    for one in SMALL:
        rules = resolve(one.engine, one.semantics)
        same = {"exact_any", "exact_low_id"}
        if getattr(rules, name) == value or {getattr(rules, name), value} == same:
            continue
        if name == "penalty_window" and "window" not in (rules.repetition_scope, rules.additive_scope):
            continue
        window = 5 if value == "window" and not rules.penalty_window else rules.penalty_window
        other = replace(rules, **{"penalty_window": window, name: value})
        try:
            law = own_law(one, other)
        except ParameterError:
            bitten.append(one.id)
            continue
        if law_problems(one, law.probs) or logprob_problems(one, law.logprobs()):
            bitten.append(one.id)
    assert bitten, f"no vector notices {name} = {value}"


# Neighbours that give the same law in either order, and why.
COMMUTE = {
    *(frozenset(pair) for pair in (
        ("mask", "logit_bias"), ("mask", "repetition"), ("mask", "frequency"), ("no_repeat_ngram", "mask"),
        ("repetition", "no_repeat_ngram"), ("presence", "no_repeat_ngram"), ("no_repeat_ngram", "dry"),  # -inf stays
        ("frequency", "presence"), ("presence", "dry"),  # sums
        ("greedy", "temperature"), ("greedy", "top_p"),  # the maximum stays the maximum
        ("mask", "greedy"),  # or the maximum is banned, and nothing is left
        ("min_p", "top_k"),  # both keep a number of ranks that the other does not change
        ("temperature", "dynamic_temperature"),  # one or the other
        ("temperature", "top_k"), ("top_k", "temperature"),  # ranks stay
    ))
}  # fmt: skip


def neighbours() -> list[tuple[str, int]]:
    return [(name, place) for name in engines() for place in range(len(resolve(name).order) - 1)]


@pytest.mark.parametrize(("engine", "place"), neighbours())
def test_neighbours_that_change_places_fail_a_vector(engine: str, place: int) -> None:
    """Unless they commute; and those that are said to commute do, or the list is wrong."""
    rules = resolve(engine)
    order = list(rules.order)
    pair = frozenset(order[place : place + 2])
    order[place], order[place + 1] = order[place + 1], order[place]
    turned, bitten = replace(rules, order=tuple(order)), []
    for one in (one for one in SMALL if one.engine == engine and not one.semantics):
        try:
            law = own_law(one, turned)
        except ParameterError:
            continue
        if law_problems(one, law.probs):
            bitten.append(one.id)
    alone = rules.top_p_base == "joint" and pair in ({"top_p", "min_p"}, {"top_p", "top_k"})  # top_p sees neither
    commute = pair in COMMUTE or alone
    assert bool(bitten) != commute, (sorted(pair), bitten)


def test_decisions_beside_the_law() -> None:
    """Rank, list and stand-in for -inf are no part of a law: 30 to 32, by hand."""
    values = np.log([0.4, 0.2, 0.2, 0.2])
    rules = resolve("reference")
    assert from_values(values, 2, 2, rules).rank == 2 and from_values(values, 2, 2, resolve("vllm")).rank == 4
    assert [i for i, _ in from_values(values, 3, 2, rules).top] == [0, 1]
    assert [i for i, _ in from_values(values, 3, 2, resolve("vllm")).top] == [3, 0, 1]
    assert [i for i, _ in from_values(values, 3, 2, resolve("tgi")).top] == [0, 1, 2, 3]
    assert [i for i, _ in from_values(np.array([0.0, -np.inf, -np.inf]), 0, 2, resolve("tgi")).top] == [0]
    assert rendered(-math.inf, rules) == -9999.0 and rendered(-math.inf, resolve("llamacpp")) < -3e38


@pytest.mark.parametrize(("rule", "value"), [
    ("rank_rule", "strict"), ("rank_rule", "ge"), ("top_logprobs_rule", "rank_sorted"), ("minus_inf", -5.0),
    ("top_logprobs_rule", "ties_expanded"), ("top_logprobs_rule", "sampled_first_cut_n_plus_1"),
])  # fmt: skip
def test_other_answers_miss_a_vector(rule: str, value: Any) -> None:
    """Wherever an engine's own rule is another one."""
    told = [one for one in ALL if "answers" in one.expected]
    assert {one.engine for one in told} == set(engines())
    for engine in engines():
        turned = resolve(engine, {rule: value})
        missed = [one for one in told if one.engine == engine and answer_problems(one, own_law(one, turned))]
        assert bool(missed) == (getattr(resolve(engine), rule) != value)


def test_wrong_answers_are_told() -> None:
    one = next(one for one in ALL if one.id == "D01/llamacpp")
    law = own_law(one).probs.copy()
    assert law_problems(one, law[:3]) == ("probabilities of the shape [3] instead of [4]",)
    assert "support: [0] instead of [0, 1]" in law_problems(one, np.array([1.0, 0, 0, 0]))
    law[:2] = 0.64 + 3e-7, 0.36 - 3e-7
    assert law_problems(one, law) and not law_problems(one, law, float32=True)
    with pytest.raises(SpecError, match="recipe 'x'"):
        recipe({"recipe": "x"})
