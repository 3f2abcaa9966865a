"""Seed repeatability: the same request with the same seed gives the same draws (D28).

Kernel noise may move a draw now and then, so pairs of one-token draws are counted: equal ones are what a seed gives,
and what chance gives with the collision probability of the law (verification S10). An error is no observation.
"""

from __future__ import annotations

import math
from itertools import islice

from refsample.conformance.evidence import Evidence
from refsample.conformance.oracle import Oracle
from refsample.conformance.page import Kind
from refsample.conformance.probes import Prompts, prompt_texts
from refsample.conformance.report import Check, Finding, Mark
from refsample.conformance.session import Session
from refsample.sampling.params import SamplingParams

SEED = Check("contract.seed", "contract", "the same seed gives the same draws", "skipped", "")
DRAWS = 24
"""Pairs of draws asked for, over prompts with an open next word."""
NOISE = 0.05
"""Share of draws that honest kernel noise may move: far above what was seen."""
CHANCE = 0.3
"""Collision probability of independent draws where no reference tells it: that of rather settled prompts."""
DECISIVE = math.log(1000.0)


def seed_finding(session: Session, oracle: Oracle | None, kind: Kind) -> Finding:
    """Pairs of equal requests with equal seeds; skipped where the page has no seed or the endpoint refuses it."""
    if "seed" not in session.target.fields:
        why = "no seed on this page, or the endpoint refuses it"
        return Finding(Check(SEED.id, SEED.area, SEED.title, "skipped", why))
    session.begin(SEED.id)
    count = min(8, session.target.choices)
    number = max(3, math.ceil(DRAWS / count / 2)) if count > 1 else DRAWS // 2
    equal = differing = 0
    gain, curl = 0.0, None
    for text, chance in _prompts(session, oracle, kind, number):
        fields = {**session.law_fields({"temperature": 1.0}), "seed": session.fresh_seed(), "max_tokens": 1}
        fields |= {"n": count} if count > 1 else {}
        pair = [session.ask(kind, text, **fields) for _ in range(2)]
        choices = [answer.choices if answer is not None else () for _, answer in pair]
        for one, two in zip(*choices, strict=False):
            same = one.text == two.text
            equal, differing = equal + same, differing + (not same)
            gain += math.log(chance / (1.0 - NOISE)) if same else math.log((1.0 - chance) / NOISE)
            curl = curl or (None if same else session.curl(kind, pair[0][0].body or {}))
    mark: Mark = "inconclusive" if not equal + differing else "inconsistent" if gain >= DECISIVE else "consistent"
    said = f"{differing} of {equal + differing} pairs of draws differ"
    evidence = Evidence({"seed_ignored": gain}, observations=equal + differing) if equal + differing else Evidence()
    reproduce = curl if mark == "inconsistent" else None
    return Finding(Check(SEED.id, SEED.area, SEED.title, mark, said, statistic=gain, reproduce=reproduce), evidence)


def _prompts(session: Session, oracle: Oracle | None, kind: Kind, count: int) -> list[tuple[str, float]]:
    """Prompts with an open next word, and the chance that two independent draws there are equal."""
    if oracle is None:
        texts = (text for label, text in prompt_texts(kind, session.seed, SEED.id) if label == "wide")
        return [(text, CHANCE) for text in islice(texts, count)]
    pairs = []
    for context in Prompts(oracle, kind, session.seed, SEED.id).open_contexts(count):
        law = oracle.law(context, SamplingParams(), oracle.nulls[0])  # [K]
        pairs.append((context.text, min(0.9, float((law**2).sum()))))
    return pairs
