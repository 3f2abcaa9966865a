"""Law checks: are tokens distributed as the claimed parameters say? Exact laws against one-token draws or texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refsample.conformance.contract import CERTAIN, LENGTH, LONG, first, sign
from refsample.conformance.evidence import IMPOSSIBLE, Evidence, Tally, bet, log_e_value, log_mean_exp
from refsample.conformance.oracle import (
    HONEST,
    OTHER_DEFAULTS,
    SLACK_SIGMAS,
    Context,
    Floats,
    Hypothesis,
    Oracle,
    sampling_params,
)
from refsample.conformance.page import Kind
from refsample.conformance.probes import SETTINGS, Budget, Prompts, Setting
from refsample.conformance.report import Check, Finding, Note, finding
from refsample.conformance.session import Session, error_text
from refsample.conformance.spellings import Speller
from refsample.sampling.params import SamplingParams

DECIDED = math.log(100.0)
"""A check alone would decide at e >= 100 (alpha 0.01)."""
SUSPECT = math.log(10.0)
"""A gain or e-value worth a mention."""


def law_findings(
    session: Session, oracle: Oracle, budget: Budget, kind: Kind, wanted: Callable[[str], bool]
) -> Iterator[Finding]:
    """One finding for each wanted setting; one that the endpoint cannot be asked for is skipped with the reason."""
    settings = [s for s in SETTINGS if wanted(s.id)]
    if not settings and not wanted(f"contract.{kind}.n_drawn") and not wanted(f"contract.{kind}.leading_space"):
        return
    prompts = Prompts(oracle, kind, session.seed, "law")
    contexts = prompts.open_contexts(max(4, budget.draws // 8))
    yield from _leading(session, oracle, kind)
    many = session.target.choices > 1 and not session.exhausted
    apart = _copies(session, oracle, contexts, kind) if many else None
    if apart is not None:
        yield apart
    batch = session.target.choices
    draws = budget.draws if batch > 1 else budget.single_draws
    contexts = contexts[: max(4, draws // max(batch, 8))]
    for setting in settings:
        session.begin(setting.id)
        if setting.best_of > 1 and apart is not None and apart.check.verdict == "inconsistent":
            said = "choices are copies of one draw, and so are candidates"
            yield Finding(Check(setting.id, setting.area, setting.title, "skipped", said))
            continue
        missing = [n for n in setting.needs if n not in session.target.fields]
        if missing:
            said = "; ".join(f"{n}: {session.target.refused.get(n, 'not taken')}" for n in missing)
            yield Finding(Check(setting.id, setting.area, setting.title, "skipped", f"the endpoint refuses {said}"))
            continue
        here = [prompts.listing(c) for c in contexts] if setting.listed else contexts
        if not session.target.pages[kind].allows("max_tokens", 1):
            if oracle.cut:
                said = "whole texts without the white space they begin with cannot be scored"
                yield Finding(Check(setting.id, setting.area, setting.title, "inconclusive", said))
                continue
            yield _read(session, oracle, setting, here, draws, kind)
        elif setting.best_of > 1:
            yield _draw(session, oracle, setting, here, budget.single_draws, kind)
        else:
            yield _draw(session, oracle, setting, here, draws, kind)


@dataclass(frozen=True, slots=True)
class Laws:
    """Class laws [K] of one context and setting under every hypothesis."""

    context: Context
    params: SamplingParams
    honest: np.ndarray[Any, np.dtype[np.float64]]
    faults: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
    nulls: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]


def laws_of(
    oracle: Oracle, context: Context, params: SamplingParams, best_of: int = 1, more: Sequence[Hypothesis] = ()
) -> Laws:
    nulls = {h.name: oracle.law(context, params, h, best_of) for h in oracle.nulls}
    faults = {h.name: oracle.law(context, params, h, best_of) for h in (*oracle.faults, *more)}
    return Laws(context, params, nulls[HONEST], faults, nulls)


def _asked(
    session: Session, oracle: Oracle, setting: Setting, context: Context, kind: Kind
) -> tuple[dict[str, Any], SamplingParams]:
    """The fields to send, and what the endpoint then has to sample with."""
    if setting.defaults:
        return {}, sampling_params(session.target.pages[kind].defaults())
    fields = session.law_fields(setting.fields(oracle, context))
    return fields, sampling_params(fields)


def _leading(session: Session, oracle: Oracle, kind: Kind) -> Iterator[Finding]:
    """Whether texts come without the white space they begin with, as some servers do: then laws are of such texts."""
    asked = LONG if kind == "completions" or not oracle.model.template else [{"role": "user", "content": LONG}]
    choice = None if session.exhausted else first(session.greedily(kind, LONG, LENGTH))
    path = oracle.model.generate(list(oracle.model.prompt_ids(asked)), temperature=0.0, max_tokens=LENGTH).token_ids
    whole = oracle.model.tokenizer.decode(path, skip_special=True)
    word, said = (f"{text.split()[0]} " if text.split() else "" for text in (whole, choice.text if choice else ""))
    if choice is None or not word or word != said or whole == whole.lstrip() or choice.text != choice.text.lstrip():
        return
    oracle.cut_leading()
    told = f"{choice.text[:30]!r} where the reference says {whole[:30]!r}: laws are those of texts without it"
    yield Finding(Check(f"contract.{kind}.leading_space", "contract", f"{kind}: texts are whole", "skipped", told))


def _copies(session: Session, oracle: Oracle, contexts: Sequence[Context], kind: Kind) -> Finding:
    """Whether the choices of one request are drawn apart (S10). Where they are not, each draw is asked for alone."""
    check, title = f"contract.{kind}.n_drawn", f"{kind}: the n choices of a request are drawn apart"
    session.begin(check)
    count, chance, alike, asked = min(8, session.target.choices), 0.0, 0, 0
    for context in contexts[:3]:
        seed = {"seed": session.fresh_seed()} if "seed" in session.target.fields else {}
        fields = session.law_fields({"temperature": 1.0})
        exchange, answer = session.ask(kind, context.text, max_tokens=1, n=count, **fields, **seed)
        if answer is None or len(answer.choices) != count:
            return Finding(Check(check, "contract", title, "inconclusive", error_text(exchange)))
        texts = [oracle.text_of(choice, context.ids) for choice in answer.choices]
        asked += 1
        if len(set(texts)) == 1:
            alike += 1
            chance += _chance_alike(oracle, oracle.law(context, sampling_params(fields), oracle.nulls[0]), texts)
    said, apart = f"{alike} of {asked} requests gave {count} equal choices", alike < asked
    copies = not apart and chance < -CERTAIN
    if copies:
        session.target.choices = 1
    evidence = sign("choices_copied", copies, apart)
    if not copies and not apart:
        return Finding(Check(check, "contract", title, "inconclusive", f"{said}, as they well may"), evidence)
    found = finding(check, "contract", title, apart, said, None, evidence=evidence)
    return replace(found, notes=(Note(kind, "n", "different" if copies else "honoured", said),))


def _chance_alike(oracle: Oracle, law: Floats, texts: Sequence[str]) -> float:
    """ln of the chance that independent draws all give the first text again; 0 where no single token looks like it."""
    drawn = oracle.class_of_text(texts[0])
    return 0.0 if drawn is None else (len(texts) - 1) * math.log(max(IMPOSSIBLE, float(law[drawn])))


def observe(oracle: Oracle, laws: Laws, kind: int, tally: Tally) -> None:
    """Add one drawn text class to the tally; a class outside the support whatever the noise is a proof."""
    p, proof = float(laws.honest[kind]), None
    if p <= 0.0:
        ids = laws.context.ids
        p = oracle.softened(
            oracle.last_logits(ids, HONEST), laws.params, oracle.members[kind], SLACK_SIGMAS * oracle.sigma(ids), ids
        )
        if p <= 0.0:
            p = IMPOSSIBLE
            token = oracle.model.tokenizer.decode([oracle.members[kind][0]])
            proof = f"{token!r} was drawn after ...{laws.context.text[-40:]!r}, where its probability is 0"
    gains = {name: bet(float(q[kind]), p) for name, q in laws.faults.items()}
    nulls = {
        name: math.log(float(q[kind]) / p) if q[kind] > 0 else -math.inf
        for name, q in laws.nulls.items()
        if name != HONEST
    }
    tally.add(gains, nulls, proof)


def _draw(
    session: Session, oracle: Oracle, setting: Setting, contexts: Sequence[Context], draws: int, kind: Kind
) -> Finding:
    batch = session.target.choices if setting.best_of == 1 else 1
    more = oracle.overlays if setting.defaults else ()
    tally = _tally(oracle, more)
    unread: list[str] = []
    failed: str | None = None
    known: dict[str, Laws] = {}
    copies = 0
    for number in range(math.ceil(draws / batch)):
        if session.exhausted:
            break
        context = contexts[number % len(contexts)]
        fields, params = _asked(session, oracle, setting, context, kind)
        seed = {"seed": session.fresh_seed()} if "seed" in session.target.fields else {}
        count = {"n": batch} if batch > 1 else {}
        exchange, answer = session.ask(kind, context.text, max_tokens=1, **fields, **seed, **count)
        if answer is None:
            failed = error_text(exchange)
            break
        if context.text not in known:
            known[context.text] = laws_of(oracle, context, params, setting.best_of, more)
        laws = known[context.text]
        drawn = [choice for choice in answer.choices if choice.finish_reason != "content_filter"]
        texts = [oracle.text_of(choice, context.ids) for choice in drawn]
        if copied(oracle, laws, texts):
            copies, texts = copies + 1, texts[:1]
        for text in texts:
            text_class = oracle.class_of_text(text)
            if text_class is None:
                unread.append(text)
            else:
                observe(oracle, laws, text_class, tally)
    found = _finding(setting, _one_overlay(tally.evidence()), unread, failed)
    if copies:
        said = f"{found.check.evidence}; {copies} requests gave copies of one draw, counted once"
        found = replace(found, check=replace(found.check, evidence=said))
    return found


def _tally(oracle: Oracle, more: Sequence[Hypothesis] = ()) -> Tally:
    names = [h.name for h in (*oracle.faults, *more)]
    return Tally(names, [h.name for h in oracle.nulls if h.name != HONEST], DECIDED)


def _one_overlay(evidence: Evidence) -> Evidence:
    """The bets on each overlay as one bet on the fault: the average of e-values is one."""
    apart = [gain for name, gain in evidence.gains.items() if name.startswith(f"{OTHER_DEFAULTS}/")]
    if not apart:
        return evidence
    rest = {name: gain for name, gain in evidence.gains.items() if not name.startswith(f"{OTHER_DEFAULTS}/")}
    return replace(evidence, gains={**rest, OTHER_DEFAULTS: log_mean_exp(apart)})


def _read(
    session: Session, oracle: Oracle, setting: Setting, contexts: Sequence[Context], draws: int, kind: Kind
) -> Finding:
    """Whole answers, scored by their text, where the page has no limit of one token."""
    more = oracle.overlays if setting.defaults else ()
    tally, unread, failed = _tally(oracle, more), list[str](), None
    spellers: dict[str, Speller] = {}
    for number in range(draws):
        if session.exhausted:
            break
        context = contexts[number % len(contexts)]
        fields, params = _asked(session, oracle, setting, context, kind)
        if repr(params) not in spellers:
            spellers[repr(params)] = Speller(oracle, params, more)
        seed = {"seed": session.fresh_seed()} if "seed" in session.target.fields else {}
        exchange, answer = session.ask(kind, context.text, max_tokens=1, **fields, **seed)
        if answer is None or not answer.choices:
            failed = error_text(exchange)
            break
        choice = answer.choices[0]
        text = oracle.text_of(choice, context.ids)
        odds = spellers[repr(params)].odds(context, text, choice.finish_reason == "stop")
        if odds is None:
            unread.append(text)
            continue
        gains = {name: bet(q, odds.honest) for name, q in odds.faults.items()}
        nulls = {n: math.log(q / odds.honest) if q > 0 else -math.inf for n, q in odds.nulls.items()}
        tally.add(gains, nulls, odds.proof)
    return _finding(setting, _one_overlay(tally.evidence()), unread, failed)


def copied(oracle: Oracle, laws: Laws, texts: Sequence[str]) -> bool:
    """Whether choices are all equal where independent ones would be so less than once in a million (S10)."""
    return len(set(texts)) == 1 and _chance_alike(oracle, laws.honest, texts) < -CERTAIN


def _finding(setting: Setting, evidence: Evidence, unread: Sequence[str], failed: str | None) -> Finding:
    check = Check(setting.id, setting.area, setting.title, "inconclusive", "")
    if failed is not None:
        return Finding(replace(check, evidence=f"the endpoint answered {failed}"), evidence)
    if len(unread) > 0.02 * (evidence.observations + len(unread)):
        said = f"{len(unread)} answers are no tokens of the reference, such as {unread[0]!r}: nothing is concluded"
        return Finding(replace(check, evidence=said))
    return Finding(judged(check, evidence), evidence)


def judged(check: Check, evidence: Evidence) -> Check:
    """The check with its local e-value; the campaign decides with all checks together."""
    if not evidence.observations or not evidence.gains:
        return replace(check, evidence="nothing was observed")
    log_e = log_e_value([evidence])
    name, gain = max(evidence.gains.items(), key=lambda pair: pair[1])
    parts = [f"{evidence.observations} observations", f"ln e = {log_e:.1f}"]
    parts += [f"best explained by {name} ({gain:+.1f} nats)"] if gain > SUSPECT else []
    parts += [f"{len(evidence.proofs)} proofs: {evidence.proofs[0]}"] if evidence.proofs else []
    return replace(
        check,
        verdict="consistent",
        evidence="; ".join(parts),
        statistic=gain,
        e_value=math.exp(min(log_e, 700.0)),
        decided_after=evidence.decided_after,
    )
