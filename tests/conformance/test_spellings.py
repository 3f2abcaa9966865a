"""Texts scored over all their spellings: against a sum without pruning, as a prefix code, and with half characters."""

from __future__ import annotations

import pytest

import refsample
from refsample.conformance.faults import FAULTS
from refsample.conformance.oracle import HONEST, OTHER_MODEL, Context, Oracle
from refsample.conformance.spellings import SPAN, Odds, Speller
from refsample.generation.behaviour import Behaviour
from refsample.sampling.params import SamplingParams
from refsample.spec.load import engine

WARM = SamplingParams(temperature=1.2)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(refsample.load("tiny"), Behaviour(semantics=engine("reference").semantics, precision=HONEST))


@pytest.fixture(scope="module")
def context(oracle: Oracle) -> Context:
    text = "Name a colour."
    return oracle.context(text, oracle.model.prompt_ids([{"role": "user", "content": text}]))


def spelled(oracle: Oracle, context: Context, wanted: bytes, path: tuple[int, ...] = ()) -> float:
    """Probability that the answer begins with `wanted`, by walking every spelling there is; specials left out."""
    tokenizer, total = oracle.model.tokenizer, 0.0
    logits = oracle.last_logits((*context.ids, *path), HONEST)
    probs = oracle.distribution(logits, WARM, oracle.honest, context.ids, path).probs
    for token in range(tokenizer.vocab_size):
        raw = b"" if tokenizer.is_special(token) else tokenizer.token_bytes(token)
        if raw and raw.startswith(wanted):
            total += float(probs[token])
        elif raw and wanted.startswith(raw):
            total += float(probs[token]) * spelled(oracle, context, wanted[len(raw) :], (*path, token))
    return total


def odds(oracle: Oracle, context: Context, text: str, params: SamplingParams = WARM, ended: bool = True) -> Odds:
    found = Speller(oracle, params).odds(context, text, ended)
    assert found is not None
    return found


@pytest.mark.parametrize(("text", "rare"), [("Red.", False), ("Blue.", False), ("Xyz is none", True)])
def test_every_spelling_counts(oracle: Oracle, context: Context, text: str, rare: bool) -> None:
    exact, found = spelled(oracle, context, text[:SPAN].encode()), odds(oracle, context, text)
    lower = found.faults["top_k_ignored"]  # no top_k was asked for: the honest law
    assert lower <= 1.1 * exact and found.honest >= exact and found.proof is None
    assert rare or found.honest <= 1.5 * lower  # a text of 1e-17 is not worth the time: it says less, nothing false


def test_events_are_a_code_whose_probabilities_add_up_to_one(oracle: Oracle, context: Context) -> None:
    """Texts drawn from the model: the events seen cover what the sum over them says, and no more than all."""
    drawn = [oracle.model.generate(list(context.ids), temperature=1.0, seed=s, max_tokens=32) for s in range(40)]
    speller = Speller(oracle, SamplingParams(temperature=1.0))
    events = {c.text if len(c.text) <= SPAN else c.text[:SPAN]: c for c in drawn if c.finish_reason == "stop"}
    shares = [speller.odds(context, c.text, True) for c in events.values()]
    total = sum(share.honest for share in shares if share is not None)
    assert 0.5 < total <= 1.0


def test_a_filter_that_leaves_a_text_out_makes_it_a_proof_and_speaks_for_the_dropped_filter(
    oracle: Oracle, context: Context
) -> None:
    found = odds(oracle, context, "Xyz is none", SamplingParams(temperature=0.7, top_k=1))
    assert found.proof is not None and "'Xyz'" in found.proof
    assert found.faults["top_k_ignored"] > 0.0 == found.faults["min_p_ignored"]
    assert found.faults[OTHER_MODEL] == 0.0  # some other model keeps the filter too


def test_half_a_character_ends_what_is_scored(oracle: Oracle, context: Context) -> None:
    broken = odds(oracle, context, "R\ufffd")
    begun = spelled(oracle, context, b"R")
    assert 0.0 < broken.faults["top_k_ignored"] <= broken.honest < 0.2 * begun


def test_a_text_cut_short_within_the_span_says_nothing(oracle: Oracle, context: Context) -> None:
    assert Speller(oracle, WARM).odds(context, "Re"[:SPAN], False) is None
    assert set(odds(oracle, context, "Red.").faults) <= {*FAULTS, OTHER_MODEL}
