"""Model checks: greedy text, returned logprobs against the reference, the stage they are taken at, transcripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.errorbars import KERNELS, Rows, rows_of, scale_of, sigmas_of
from refsample.conformance.evidence import IMPOSSIBLE, Tally, bet, residual_gain
from refsample.conformance.greedy import ENDED, GREEDY, greedy
from refsample.conformance.law import DECIDED, judged
from refsample.conformance.oracle import (
    HONEST,
    OTHER_MODEL,
    SLACK_SIGMAS,
    TWIN,
    Hypothesis,
    Oracle,
    blurred,
    precision_of,
    sampling_params,
)
from refsample.conformance.page import Kind
from refsample.conformance.probes import Budget, Prompts
from refsample.conformance.report import Check, Finding
from refsample.conformance.session import TOP_LOGPROBS, Session
from refsample.conformance.transcript import Choice, Reported, ReportedToken
from refsample.sampling.params import SamplingParams

UNTOLD = -9000.0
"""Reported values below this stand for -inf (decision 32)."""

LOGPROBS = Check("model.logprobs", "model", "returned logprobs equal the reference's", "inconclusive", "")
STAGE = Check(
    "contract.logprobs_stage",
    "contract",
    "logprobs at temperature 0.5 are taken where the engine says",
    "inconclusive",
    "",
)
TRANSCRIPTS = Check("law.transcripts", "law", "sampled transcripts with penalties follow the law", "inconclusive", "")


def identity_findings(
    session: Session, oracle: Oracle, budget: Budget, kind: Kind, wanted: Callable[[str], bool]
) -> Iterator[Finding]:
    """Greedy text, then returned logprobs at temperature 1, then their stage, then sampled transcripts."""
    for check in (GREEDY, LOGPROBS, STAGE, TRANSCRIPTS):
        if not wanted(check.id) and not (check is GREEDY and wanted(ENDED.id)):
            continue
        session.begin(check.id)
        prompts = Prompts(oracle, kind, session.seed, check.id)
        if check is GREEDY:
            yield from greedy(session, oracle, prompts, budget, kind)
        elif session.target.top_logprobs.get(kind) is None:
            yield Finding(replace(check, verdict="skipped", evidence="the endpoint returns no logprobs"))
        elif check is TRANSCRIPTS:
            yield transcripts(session, oracle, prompts, budget, kind)
        else:
            temperature = 1.0 if check is LOGPROBS else 0.5
            yield logprobs(session, oracle, prompts, budget, kind, check, {"temperature": temperature})


def _token_id(oracle: Oracle, reported: Reported) -> int | None:
    """The one token that looks like this from outside; None where none or several do.

    An id is believed only where its bytes are those reported: llama.cpp lumps text it held back into a later entry.
    """
    if reported.id is not None and 0 <= reported.id < oracle.model.tokenizer.vocab_size:
        special = oracle.model.tokenizer.is_special(reported.id)
        fits = special or oracle.model.tokenizer.token_bytes(reported.id) == reported.raw
        return reported.id if fits else None
    if reported.raw is not None:
        return oracle.id_of_bytes.get(reported.raw)
    kind = oracle.index.get(reported.text)
    members = oracle.members.get(kind, ()) if kind else ()
    return members[0] if len(members) == 1 else None


def _sampled_ids(oracle: Oracle, tokens: Sequence[ReportedToken]) -> list[int]:
    """Ids of the sampled tokens up to the first that cannot be told: a stopping time, so evidence stays valid."""
    ids: list[int] = []
    for token in tokens:
        found = _token_id(oracle, token.chosen)
        if found is None or oracle.model.tokenizer.is_special(found):
            break
        ids.append(found)
    return ids


def _sample(
    session: Session, prompts: Prompts, budget: Budget, kind: Kind, fields: Mapping[str, Any]
) -> Iterator[tuple[tuple[int, ...], Choice]]:
    """Sampled transcripts with logprobs: (prompt ids, choice)."""
    for text in prompts.texts(budget.transcripts):
        if session.exhausted:
            return
        seed = {"seed": session.fresh_seed()} if "seed" in session.target.fields else {}
        exchange, answer = session.ask(
            kind, text, max_tokens=budget.length, **fields, **seed, **session.logprob_fields(kind, TOP_LOGPROBS)
        )
        if answer is not None and answer.choices and answer.choices[0].tokens:
            yield prompts.ids(text), answer.choices[0]


def _residual(oracle: Oracle, values: NDArray[np.float64], token: ReportedToken) -> float | None:
    """rms difference between the reported logprobs of one position and `values` [V]; None where none is told."""
    squares = []
    for reported in (token.chosen, *token.top):
        found = _token_id(oracle, reported)
        if found is None or reported.logprob is None or reported.logprob < UNTOLD:
            continue
        gap = reported.logprob - float(values[found])
        squares.append(min(gap * gap, 1e4))
    return math.sqrt(sum(squares) / len(squares)) if squares else None


def logprobs(
    session: Session,
    oracle: Oracle,
    prompts: Prompts,
    budget: Budget,
    kind: Kind,
    check: Check,
    values: Mapping[str, Any],
) -> Finding:
    """Reported logprobs against those each hypothesis would report (S8): right place, expected error."""
    fields = session.law_fields(values)
    params = sampling_params(fields)
    tally = Tally([h.name for h in oracle.faults], list(KERNELS), DECIDED)
    largest = 0.0
    for ids, choice in _sample(session, prompts, budget, kind, fields):
        sampled = _sampled_ids(oracle, choice.tokens or ())
        if not sampled:
            continue
        rows = rows_of(oracle, (*ids, *sampled), len(ids))
        sigmas = sigmas_of(oracle, rows)
        for t, token in enumerate((choice.tokens or ())[: len(sampled)]):
            base = _residual(oracle, _reported(oracle, oracle.nulls[0], rows, params, ids, sampled, t), token)
            if base is None:
                continue
            largest = max(largest, base)
            gains, sigma = {}, sigmas[HONEST][t]
            for h in oracle.faults:
                own: float | None = None
                if _reports_otherwise(oracle, h):
                    own = _residual(oracle, _reported(oracle, h, rows, params, ids, sampled, t), token)
                gains[h.name] = residual_gain(base if own is None else own, sigmas[scale_of(h)][t], base, sigma)
            tally.add(gains, {name: residual_gain(base, k * sigma, base, sigma) for name, k in KERNELS.items()})
    found = judged(check, tally.evidence())
    said = f"{found.evidence}; largest difference {largest:.2g} nats"
    return Finding(replace(found, evidence=said), tally.evidence())


def _reports_otherwise(oracle: Oracle, hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis puts reported logprobs elsewhere: raw ones do not depend on parameters or order.

    Another precision moves them by what its recipe says, which is not known: it has a larger error bar instead.
    """
    behaviour = hypothesis.behaviour
    if behaviour is None or precision_of(behaviour) != HONEST:
        return False
    stages = {behaviour.semantics.logprob_stage, oracle.honest.semantics.logprob_stage}
    return not stages <= {"raw", "raw_grammar"}  # the same where there is no grammar


def _reported(
    oracle: Oracle,
    hypothesis: Hypothesis,
    rows: Rows,
    params: SamplingParams,
    prompt: Sequence[int],
    sampled: Sequence[int],
    t: int,
) -> NDArray[np.float64]:
    """Logprobs [V] that a hypothesis would report at position t, at its own stage."""
    behaviour = hypothesis.behaviour or oracle.honest
    logits = rows[precision_of(behaviour)][t]
    stage = behaviour.semantics.logprob_stage
    return oracle.distribution(logits, params, behaviour, prompt, sampled[:t]).logprobs(stage)


def transcripts(session: Session, oracle: Oracle, prompts: Prompts, budget: Budget, kind: Kind) -> Finding:
    """Token by token along sampled answers: the law with penalties on the output and top_p, given what came before."""
    wanted = {"temperature": 0.9, "top_p": 0.95, "presence_penalty": 1.9, "frequency_penalty": 1.9}
    fields = session.law_fields({n: v for n, v in wanted.items() if n in session.target.fields})
    params = sampling_params(fields)
    tally = Tally([h.name for h in oracle.faults], [TWIN], DECIDED)
    for ids, choice in _sample(session, prompts, budget, kind, fields):
        sampled = _sampled_ids(oracle, choice.tokens or ())
        if not sampled:
            continue
        rows = rows_of(oracle, (*ids, *sampled), len(ids))
        for t, token in enumerate(sampled):
            _observe_step(oracle, rows, params, ids, sampled, t, token, tally)
    return Finding(judged(TRANSCRIPTS, tally.evidence()), tally.evidence())


def _observe_step(
    oracle: Oracle,
    rows: Rows,
    params: SamplingParams,
    ids: tuple[int, ...],
    sampled: Sequence[int],
    t: int,
    token: int,
    tally: Tally,
) -> None:
    probs = {
        h.name: float(
            oracle.distribution(rows[precision_of(h.behaviour)][t], params, h.behaviour, ids, sampled[:t]).probs[token]
        )
        for h in (*oracle.nulls, *oracle.faults)
        if h.behaviour is not None
    }
    p, proof = probs[HONEST], None
    if p <= 0.0:
        slack = SLACK_SIGMAS * oracle.noise(rows[HONEST][t], rows[TWIN][t])
        p = oracle.softened(rows[HONEST][t], params, [token], slack, ids, sampled[:t])
        if p <= 0.0:
            p, proof = (
                IMPOSSIBLE,
                f"token {oracle.model.tokenizer.decode([token])!r} has probability 0 at output position {t}",
            )
    other = oracle.distribution(blurred(rows[HONEST][t]), params, oracle.honest, ids, sampled[:t])
    probs[OTHER_MODEL] = float(other.probs[token])
    gains = {h.name: bet(probs[h.name], p) for h in oracle.faults}
    tally.add(gains, {TWIN: math.log(probs[TWIN] / p) if probs[TWIN] > 0 else -math.inf}, proof)
