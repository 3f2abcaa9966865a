"""Model checks: greedy text with margins, returned logprobs against the reference, sampled transcripts.

Every position has its own error bar: the difference that honest bf16 kernels make to the reference's own logits there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.evidence import IMPOSSIBLE, Tally, bet, flip_gain, residual_gain
from refsample.conformance.law import DECIDED, judged
from refsample.conformance.oracle import (
    HONEST,
    HONEST_SCALES,
    OTHER_MODEL,
    SLACK_SIGMAS,
    TWIN,
    Hypothesis,
    Oracle,
    blurred,
    precision_of,
    sampling_params,
)  # fmt: skip
from refsample.conformance.probes import Budget, Prompts
from refsample.conformance.report import Check, Finding
from refsample.conformance.session import TOP_LOGPROBS, Kind, Session, error_text, logprob_fields
from refsample.conformance.transcript import Choice, Reported, ReportedToken
from refsample.generation.behaviour import applied
from refsample.sampling.params import SamplingParams

OTHER_SIGMA = 3.0
"""Logit error (nats, rms) of a model that is not this one."""
UNTOLD = -9000.0
"""Reported values below this stand for -inf (decision 32)."""

KERNELS: Mapping[str, float] = {f"kernels_x{scale:g}": scale for scale in HONEST_SCALES}
"""Honest configurations beside the emulated one: its error bars, this many times as wide."""

GREEDY_PARAMS = SamplingParams(temperature=0.0)

Rows = Mapping[str, NDArray[np.float32]]


GREEDY = Check("model.greedy", "model", "greedy text equals the reference's", "inconclusive", "")
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
        if not wanted(check.id):
            continue
        session.begin(check.id)
        prompts = Prompts(oracle, kind, session.seed, check.id)
        if check is GREEDY:
            yield greedy(session, oracle, prompts, budget, kind)
        elif session.target.top_logprobs.get(kind) is None:
            yield Finding(replace(check, verdict="skipped", evidence="the endpoint returns no logprobs"))
        elif check is TRANSCRIPTS:
            yield transcripts(session, oracle, prompts, budget, kind)
        else:
            temperature = 1.0 if check is LOGPROBS else 0.5
            yield logprobs(session, oracle, prompts, budget, kind, check, {"temperature": temperature})


def _rows(oracle: Oracle, ids: tuple[int, ...], start: int) -> Rows:
    """Raw logits [T, V] of the positions that predict ids[start:], for each precision among the hypotheses."""
    precisions = {precision_of(h.behaviour) for h in (*oracle.nulls, *oracle.faults) if h.behaviour is not None}
    return {p: oracle.all_logits(ids, p)[start - 1 : len(ids) - 1] for p in sorted(precisions)}


def _sigmas(oracle: Oracle, rows: Rows) -> dict[str, list[float]]:
    """Logit error expected at each position: that of honest kernels, and of each other precision (pooled)."""
    honest, count = rows[HONEST], len(rows[HONEST])
    base = [oracle.noise(honest[t], rows[TWIN][t]) for t in range(count)]
    result = {HONEST: base, OTHER_MODEL: [OTHER_SIGMA] * count}
    for precision in rows.keys() - {HONEST, TWIN}:
        pooled = math.sqrt(float(np.mean([oracle.noise(honest[t], rows[precision][t]) ** 2 for t in range(count)])))
        result[precision] = [math.hypot(pooled, b) for b in base]
    return result


def _scale(hypothesis: Hypothesis) -> str:
    """Which entry of `_sigmas` a hypothesis stands for."""
    if hypothesis.behaviour is None:
        return OTHER_MODEL
    return precision_of(hypothesis.behaviour)


def greedy(session: Session, oracle: Oracle, prompts: Prompts, budget: Budget, kind: Kind) -> Finding:
    """Text at temperature 0 against the reference's; a difference counts by the margin it had to overcome (S7)."""
    tally = Tally([h.name for h in oracle.faults], list(KERNELS), DECIDED)
    unread = 0
    for text in prompts.texts(budget.transcripts):
        if session.exhausted:
            break
        ids = prompts.ids(text)
        fields = session.law_fields({"temperature": 0.0})
        exchange, answer = session.ask(kind, text, max_tokens=budget.length, **fields)
        if answer is None or not answer.choices:
            return Finding(replace(GREEDY, evidence=error_text(exchange)), tally.evidence())
        if answer.choices[0].finish_reason == "content_filter":
            unread += 1
            continue
        path = oracle.model.generate(list(ids), temperature=0.0, max_tokens=budget.length).token_ids
        _compare_path(oracle, ids, path, answer.choices[0], tally)
    found = judged(GREEDY, tally.evidence())
    if unread:
        found = replace(found, evidence=f"{found.evidence}; {unread} answers were filtered")
    return Finding(found, tally.evidence())


def _compare_path(oracle: Oracle, ids: tuple[int, ...], path: Sequence[int], choice: Choice, tally: Tally) -> None:
    """Walk along the reference's greedy tokens as long as the endpoint's text follows them.

    White space at the ends does not count, nor does what an answer cut short by a limit did not get to.
    """
    rows = _rows(oracle, (*ids, *path), len(ids))
    sigmas = _sigmas(oracle, rows)
    shown = [oracle.model.tokenizer.decode(path[: t + 1], skip_special=True).strip() for t in range(len(path))]
    whole, text = shown[-1] if shown else "", choice.text.strip()
    cut = choice.finish_reason == "length" and whole.startswith(text)
    for t in range(len(path)):
        ended = t == len(path) - 1 and oracle.model.tokenizer.is_special(path[t])
        sure = shown[t].rstrip("\ufffd")  # the half of a character says nothing yet
        if cut and len(sure) > len(text):
            return
        flipped = not (text == whole or (not ended and text.startswith(sure)))
        _observe_greedy(oracle, rows, sigmas, ids, path, t, flipped, tally)
        if flipped:
            return


def _observe_greedy(
    oracle: Oracle,
    rows: Rows,
    sigmas: Mapping[str, Sequence[float]],
    ids: tuple[int, ...],
    path: Sequence[int],
    t: int,
    flipped: bool,
    tally: Tally,
) -> None:
    """One greedy position: was the reference's best token taken, and what would each hypothesis have done?"""
    order = np.sort(rows[HONEST][t])
    margin, base = float(order[-1] - order[-2]), sigmas[HONEST][t]
    proof = None
    if flipped and margin > SLACK_SIGMAS * base:
        before = oracle.model.tokenizer.decode(path[:t], skip_special=True)[-30:]
        proof = f"after {before!r} the reference leads by {margin:.2f} nats, the text goes on otherwise"
    gains = {}
    for h in oracle.faults:
        followed = 1.0
        if h.behaviour is not None and applied(GREEDY_PARAMS, h.behaviour).temperature > 0.0:
            law = oracle.distribution(rows[HONEST][t], GREEDY_PARAMS, h.behaviour, ids, path[:t])
            followed = float(law.probs[path[t]])
        gains[h.name] = flip_gain(flipped, margin, sigmas[_scale(h)][t], base, followed)
    nulls = {name: flip_gain(flipped, margin, scale * base, base) for name, scale in KERNELS.items()}
    tally.add(gains, nulls, proof)


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
            kind, text, max_tokens=budget.length, **fields, **seed, **logprob_fields(kind, TOP_LOGPROBS)
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
        rows = _rows(oracle, (*ids, *sampled), len(ids))
        sigmas = _sigmas(oracle, rows)
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
                gains[h.name] = residual_gain(base if own is None else own, sigmas[_scale(h)][t], base, sigma)
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
    wanted = {"temperature": 0.9, "top_p": 0.95, "presence_penalty": 1.0, "frequency_penalty": 0.5}
    fields = session.law_fields({n: v for n, v in wanted.items() if n in session.target.fields})
    params = sampling_params(fields)
    tally = Tally([h.name for h in oracle.faults], [TWIN], DECIDED)
    for ids, choice in _sample(session, prompts, budget, kind, fields):
        sampled = _sampled_ids(oracle, choice.tokens or ())
        if not sampled:
            continue
        rows = _rows(oracle, (*ids, *sampled), len(ids))
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
