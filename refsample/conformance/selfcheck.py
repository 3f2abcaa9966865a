"""Self-consistency with no reference: the endpoint's tokens against the logprobs it reports itself (verification S9).

Where reported logprobs are raw, a sampled token outside the filter that was asked for is a proof, whatever the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from refsample.conformance.page import Kind
from refsample.conformance.probes import Budget, prompt_texts
from refsample.conformance.report import Check, Finding, Mark, finding
from refsample.conformance.session import TOP_LOGPROBS, Session, error_text
from refsample.conformance.transcript import ReportedToken

SLACK = 1e-3
"""Nats (or share of mass) by which a token may miss a filter before it counts: rounding of the reported values."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that reported raw logprobs can refute: `outside` says why a token cannot have passed, or None."""

    name: str
    fields: Mapping[str, float | int]
    outside: Callable[[ReportedToken], str | None]


def _values(token: ReportedToken) -> tuple[float, list[float]]:
    """Logprobs of the token and of its alternatives, best first. None is above 0, whatever was reported: that those
    above 0 are wrong is a check of the contract."""
    own = token.chosen.logprob if token.chosen.logprob is not None else 0.0
    return min(0.0, own), sorted((min(0.0, r.logprob) for r in token.top if r.logprob is not None), reverse=True)


def _beyond_top_k(token: ReportedToken) -> str | None:
    own, top = _values(token)
    return f"rank over 3: {own:.3f} below {top[2]:.3f}" if len(top) > 2 and own < top[2] - SLACK else None


def _beyond_top_p(token: ReportedToken) -> str | None:
    own, top = _values(token)
    above = sum(math.exp(v) for v in top if v > own + SLACK)
    return f"mass {above:.3f} lies above it, top_p was 0.3" if above >= 0.3 + SLACK else None


def _beyond_min_p(token: ReportedToken) -> str | None:
    own, top = _values(token)
    short = top and own < top[0] + math.log(0.5) - SLACK
    return f"{math.exp(own - top[0]):.3f} of the largest probability, min_p was 0.5" if short else None


FILTERS: tuple[Filter, ...] = (
    Filter("top_k", {"temperature": 1.5, "top_k": 3}, _beyond_top_k),
    Filter("top_p", {"temperature": 1.0, "top_p": 0.3}, _beyond_top_p),
    Filter("min_p", {"temperature": 1.0, "min_p": 0.5}, _beyond_min_p),
)


def self_findings(session: Session, budget: Budget, kind: Kind, wanted: Callable[[str], bool]) -> Iterator[Finding]:
    """Greedy repeatability, and one finding for each filter that the endpoint's own logprobs can refute."""
    if wanted("model.repeat"):
        yield _repeat(session, kind)
    for rule in FILTERS:
        check = Check(
            f"law.self.{rule.name}", "law", f"sampled tokens pass {rule.name} by the reported logprobs", "skipped", ""
        )
        if not wanted(check.id):
            continue
        if session.target.top_logprobs.get(kind) is None:
            yield Finding(replace(check, evidence="the endpoint returns no logprobs"))
        elif rule.name not in session.target.fields:
            yield Finding(replace(check, evidence=f"the endpoint refuses {rule.name}"))
        else:
            yield _filtered(session, budget, kind, rule, check)


def _repeat(session: Session, kind: Kind) -> Finding:
    """Greedy text comes out the same four times; a difference is noise of batching, so it is no fault, but told."""
    text = next(text for label, text in prompt_texts(kind, session.seed, "model.repeat") if label == "wide")
    answers = [session.ask(kind, text, **session.greedy(kind, 24))[1] for _ in range(4)]
    texts = {a.choices[0].text for a in answers if a is not None and a.choices}
    mark: Mark = "consistent" if len(texts) == 1 else "inconclusive"
    said = f"{len(texts)} different texts in 4 tries"
    return Finding(Check("model.repeat", "model", "greedy text is repeatable", mark, said))


def _filtered(session: Session, budget: Budget, kind: Kind, rule: Filter, check: Check) -> Finding:
    session.begin(check.id)
    proofs, seen, curl = [], 0, None
    texts = (t for label, t in prompt_texts(kind, session.seed, check.id) if label == "wide")
    for text in islice(texts, 2 * budget.transcripts):
        if session.exhausted:
            break
        fields = session.law_fields(rule.fields)
        top = session.logprob_fields(kind, TOP_LOGPROBS)
        exchange, answer = session.ask(kind, text, max_tokens=8, **fields, **top)
        if answer is None:
            return Finding(replace(check, verdict="inconclusive", evidence=error_text(exchange)))
        for token in answer.choices[0].tokens or () if answer.choices else ():
            seen += 1
            reason = rule.outside(token)
            if reason is not None:
                proofs.append(f"{token.chosen.text!r}: {reason}")
                curl = curl or session.curl(kind, exchange.body or {})
    said = f"{seen} tokens, {len(proofs)} outside" + (f", first {proofs[0]}" if proofs else "")
    return finding(check.id, "law", check.title, not proofs, said, curl)
