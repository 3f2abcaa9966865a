"""Greedy text against the reference's, with margins; and usage against the reference's own count of the same text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from refsample.conformance.contract import sign, tokens_counted
from refsample.conformance.errorbars import KERNELS, Rows, rows_of, scale_of, sigmas_of
from refsample.conformance.evidence import Tally, flip_gain
from refsample.conformance.law import DECIDED, judged
from refsample.conformance.oracle import HONEST, SLACK_SIGMAS, Oracle, sampling_params
from refsample.conformance.page import Kind
from refsample.conformance.probes import Budget, Prompts
from refsample.conformance.report import Check, Finding, finding
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import Choice
from refsample.generation.behaviour import applied
from refsample.sampling.params import SamplingParams

GREEDY = Check("model.greedy", "model", "greedy text equals the reference's", "inconclusive", "")
ENDED = Check("contract.usage_tokens", "contract", "usage counts the reference's tokens", "skipped", "")


def greedy(session: Session, oracle: Oracle, prompts: Prompts, budget: Budget, kind: Kind) -> Iterator[Finding]:
    """Text at temperature 0 against the reference's; a difference counts by the margin it had to overcome (S7).

    Where the text is the reference's to its end, usage has to count the reference's tokens.
    """
    tally = Tally([h.name for h in oracle.faults], list(KERNELS), DECIDED)
    asked = session.greedy(kind, budget.length)
    limit = asked.pop("max_tokens")
    unread, fields = 0, session.law_fields(asked)
    counts: list[tuple[int, int]] = []
    for text in prompts.texts(budget.transcripts):
        if session.exhausted:
            break
        ids = prompts.ids(text)
        exchange, answer = session.ask(kind, text, max_tokens=limit, **fields)
        if answer is None or not answer.choices:
            yield Finding(replace(GREEDY, evidence=error_text(exchange)), tally.evidence())
            return
        choice = replace(answer.choices[0], text=oracle.text_of(answer.choices[0], ids))
        if choice.finish_reason == "content_filter":
            unread += 1
            continue
        path = oracle.model.generate(list(ids), temperature=0.0, max_tokens=limit).token_ids
        told = tokens_counted(answer)
        if _compare_path(oracle, ids, path, choice, sampling_params(fields), tally) and told is not None:
            counts.append((told, len(path)))
    found = judged(GREEDY, tally.evidence())
    if unread:
        found = replace(found, evidence=f"{found.evidence}; {unread} answers were filtered")
    yield Finding(found, tally.evidence())
    if counts:
        yield _usage(counts)


def _usage(counts: Sequence[tuple[int, int]]) -> Finding:
    """usage against the reference's own count of the same texts, their end tokens included."""
    fine = all(told == known for told, known in counts)
    less = all(told == known - 1 for told, known in counts)
    said = ", ".join(f"{told} for {known}" for told, known in counts[:4])
    evidence = sign("eos_not_counted", less, fine)
    return finding(ENDED.id, ENDED.area, ENDED.title, fine, f"counted {said}", None, evidence=evidence)


def _compare_path(
    oracle: Oracle, ids: tuple[int, ...], path: Sequence[int], choice: Choice, params: SamplingParams, tally: Tally
) -> bool:
    """Walk along the reference's greedy tokens as long as the endpoint's text follows them. True: to their very end.

    White space at the ends does not count, nor does what an answer cut short by a limit did not get to.
    """
    rows = rows_of(oracle, (*ids, *path), len(ids))
    # the spread of a logistic, as that of two normal errors: draws stand in for noise
    chance = 1.28 * params.temperature
    sigmas = {name: [math.hypot(s, chance) for s in of] for name, of in sigmas_of(oracle, rows).items()}
    shown = [oracle.model.tokenizer.decode(path[: t + 1], skip_special=True).strip() for t in range(len(path))]
    whole, text = shown[-1] if shown else "", choice.text.strip()
    cut = choice.finish_reason == "length" and whole.startswith(text)
    for t in range(len(path)):
        ended = t == len(path) - 1 and oracle.model.tokenizer.is_special(path[t])
        sure = shown[t].rstrip("\ufffd")  # the half of a character says nothing yet
        if cut and len(sure) > len(text):
            return False
        flipped = not (text == whole or (not ended and text.startswith(sure)))
        _observe_greedy(oracle, rows, sigmas, ids, path, t, flipped, tally, params)
        if flipped:
            return False
    return (
        text == whole and choice.finish_reason == "stop" and bool(path) and oracle.model.tokenizer.is_special(path[-1])
    )


def _observe_greedy(
    oracle: Oracle,
    rows: Rows,
    sigmas: Mapping[str, Sequence[float]],
    ids: tuple[int, ...],
    path: Sequence[int],
    t: int,
    flipped: bool,
    tally: Tally,
    params: SamplingParams,
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
        if h.behaviour is not None and applied(params, h.behaviour).temperature > 2.0 * params.temperature:
            law = oracle.distribution(rows[HONEST][t], params, h.behaviour, ids, path[:t])
            followed = float(law.probs[path[t]])
        gains[h.name] = flip_gain(flipped, margin, sigmas[scale_of(h)][t], base, followed)
    nulls = {name: flip_gain(flipped, margin, scale * base, base) for name, scale in KERNELS.items()}
    tally.add(gains, nulls, proof)
