"""Seed repeatability: the same request with the same seed gives the same draws (D28).

Kernel noise may move a draw now and then, so pairs of one-token draws are counted: equal ones are what a seed gives,
and what chance gives with the collision probability of the law (verification S10). An error is no observation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

from refsample.conformance.contract import LENGTH, LONG, ContractCheck, first, skipped
from refsample.conformance.evidence import Evidence
from refsample.conformance.oracle import Oracle
from refsample.conformance.page import Kind, Page
from refsample.conformance.probes import Prompts, prompt_texts
from refsample.conformance.report import Check, Finding, Mark, Note, Status, finding
from refsample.conformance.session import Session, error_text
from refsample.sampling.params import SamplingParams

SEED = Check("contract.seed", "contract", "the same seed gives the same draws", "skipped", "")
DRAWS = 24
"""Pairs of draws asked for, over prompts with an open next word."""
NOISE = 0.05
"""Share of draws that honest kernel noise may move: far above what was seen."""
CHANCE = 0.3
"""Collision probability of independent draws where no reference tells it: that of rather settled prompts."""
DECISIVE = math.log(1000.0)
HOT = 1000.0
OTHERS = 3
"""Seeds that give one text where the seed sent is replaced by another: chance does not draw LENGTH tokens so often."""


def check_new_seed(session: Session, page: Page) -> Iterator[Finding]:
    """Another seed gives another text at the highest temperature: a seed that is replaced repeats itself too."""
    kind, record = page.kind, page.record("seed")
    check, title = f"contract.{kind}.seed_new", f"{kind}: another seed gives another text"
    if record is None:
        return
    texts: list[str] = []
    curl = ""
    for number in range(OTHERS):
        seed = session.seed % 2**30 + number
        hot = page.near("temperature", HOT)
        exchange, answer = session.ask(kind, LONG, max_tokens=LENGTH, temperature=hot, seed=seed)
        choice, curl = first(answer), session.curl(kind, exchange.body or {})
        if choice is None:
            yield skipped(check, title, error_text(exchange))
            return
        texts.append(choice.text)
        if choice.text != texts[0]:
            break
    plain, same = first(session.greedily(kind, LONG, LENGTH)), len(set(texts)) == 1
    said = f"{len(texts)} seeds gave {', '.join(repr(text[:24]) for text in texts)}"
    if same and (plain is None or plain.text == texts[0]):
        yield skipped(check, title, f"{said}, as without chance")
        return
    status: Status = "dropped" if same else "unknown"
    found = finding(check, "contract", title, not same, said, curl)
    yield Finding(found.check, notes=(Note(kind, record.name, status, said),))


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


SEED_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = ((check_new_seed, ("seed_new",)),)
