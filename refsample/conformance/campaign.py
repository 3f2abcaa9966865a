"""One verification from first request to report: discover, ask, add the evidence up, decide, name the fault.

Error budget (verification.md section 7): alpha 0.01 in all, as e-value thresholds for the model, for the law and for
the logprob stage; deterministic contract checks and proofs need none.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from refsample.conformance.acts import act_findings
from refsample.conformance.evidence import Evidence, log_e_value, posterior, total_gains
from refsample.conformance.facts import prompt_findings
from refsample.conformance.faults import FAULTS
from refsample.conformance.identity import STAGE, identity_findings
from refsample.conformance.law import DECIDED, SUSPECT, law_findings
from refsample.conformance.oracle import OTHER_MODEL, Oracle
from refsample.conformance.parameters import parameter_lines
from refsample.conformance.probes import Budget
from refsample.conformance.refusals import contract_findings
from refsample.conformance.report import Check, Finding, NamedFault, Report, Verdict, mark_known, worst
from refsample.conformance.seeds import SEED, seed_finding
from refsample.conformance.selfcheck import self_findings
from refsample.conformance.session import Session, discover
from refsample.errors import ParameterError
from refsample.spec.provider import ProviderSpec
from refsample.spec.types import EngineSpec, KnownDifference

THRESHOLDS: Mapping[str, float] = {"model": math.log(250.0), "law": math.log(250.0), STAGE.id: math.log(500.0)}
"""ln e at which an area is inconsistent: .004 + .004 + .002 = alpha .01."""
ALPHA = 0.01
"""Chance, at most, that an honest endpoint is called inconsistent by the statistical checks."""
EXCLUDED = -math.log(100.0)
SURE = 0.99
"""Posterior from which on the fault that explains what was found says which area it is in."""
ALL_AREAS = math.log(500.0)
"""ln e of all evidence together from which on that is said at all: an honest endpoint gets there once in 500 runs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is about: all that its report has to name."""

    provider: ProviderSpec
    engine: EngineSpec
    budget: Budget
    profile: str
    seed: int
    reference: str | None
    fingerprint: str | None
    version: str
    only: frozenset[str] = frozenset()
    extensions: bool | None = None
    key_env: str | None = None
    """Variable that the key of this run is in, for the commands that repeat a check; None: there is no key."""

    def wanted(self, check: str) -> bool:
        return not self.only or any(fnmatchcase(check, pattern) for pattern in self.only)


def run(session: Session, oracle: Oracle | None, plan: Plan, on_check: Callable[[Check], None] | None = None) -> Report:
    """Ask everything that the plan wants and report. `on_check` sees each check as soon as it is through."""
    discover(session)
    findings: list[Finding] = []
    spent = (session.requests, session.tokens)
    for found in _findings(session, oracle, plan):
        check = replace(found.check, requests=session.requests - spent[0], tokens=session.tokens - spent[1])
        spent = (session.requests, session.tokens)
        if plan.wanted(check.id):
            findings.append(replace(found, check=check))
            if on_check is not None:
                on_check(check)
    if not findings and plan.only and not session.exhausted:
        raise ParameterError("only", ", ".join(sorted(plan.only)), "names no check; --dry-run lists those there are")
    return _report(session, plan, findings)


def _findings(session: Session, oracle: Oracle | None, plan: Plan) -> Iterator[Finding]:
    kind = session.target.kinds[0]
    yield from contract_findings(session, plan.only)
    if oracle is not None:
        yield from prompt_findings(session, oracle, plan.only)
    yield from act_findings(session, oracle, plan.only)
    if plan.wanted(SEED.id):
        yield seed_finding(session, oracle, kind)
    if oracle is None:
        yield from self_findings(session, plan.budget, kind, plan.wanted)
    else:
        yield from identity_findings(session, oracle, plan.budget, kind, plan.wanted)
        yield from law_findings(session, oracle, plan.budget, kind, plan.wanted)


def _documented(check: Check, known: Iterable[KnownDifference]) -> Check:
    if check.verdict != "inconsistent":
        return check
    for difference in known:
        if fnmatchcase(check.id, difference.check):
            return mark_known(check, f"{difference.summary} ({difference.source})")
    return check


def _decided(check: Check, evidence: Evidence, differs: bool, cause: str | None) -> Check:
    """A statistical check's own verdict, once its area is decided; `cause` is a fault elsewhere that explains it.

    Laws are worked out from the reference's logits, so where the model differs, no law can be held against them.
    """
    if check.verdict != "consistent" or not evidence.gains or check.e_value is None:
        return check
    suspect = bool(evidence.proofs) or check.e_value >= math.exp(DECIDED)
    if not (differs and suspect):
        return check
    if cause is not None and (_home(cause) == "model" or evidence.gains.get(cause, 0.0) > SUSPECT):
        return replace(check, verdict="inconclusive", evidence=f"{check.evidence}; {cause} explains it")
    return replace(check, verdict="inconsistent")


def _differs(findings: Sequence[Finding], threshold: float) -> bool:
    parts = [f.evidence for f in findings if f.evidence.gains]
    return any(part.proofs for part in parts) or (bool(parts) and log_e_value(parts) >= threshold)


def _silenced(found: Finding, known: Iterable[KnownDifference]) -> Finding:
    """A law that the engine is documented to have otherwise speaks for no fault and against none."""
    check = found.check
    if check.area != "law" or check.verdict == "skipped":
        return found
    documented = _documented(replace(check, verdict="inconsistent"), known)
    return found if documented.verdict == "inconsistent" else replace(found, check=documented, evidence=Evidence())


def _report(session: Session, plan: Plan, findings: Sequence[Finding]) -> Report:
    documented = (*plan.engine.known, *plan.provider.known)
    findings = [_silenced(found, documented) for found in findings]
    of = {area: [f for f in findings if f.check.area == area] for area in ("contract", "model", "law")}
    differs = {area: _differs(of[area], THRESHOLDS[area]) for area in ("model", "law")}
    faults = likeliest([f.evidence for f in findings])
    cause = faults[0][0] if faults else None
    home = _home(cause)
    checks: list[Check] = []
    for found in findings:
        check, area = found.check, found.check.area
        if area != "contract":
            elsewhere = home != area and differs.get(home or "", False)
            check = _decided(check, found.evidence, differs[area], cause if elsewhere else None)
        elif check.id == STAGE.id:
            stage = _differs([found], THRESHOLDS[STAGE.id])
            check = _decided(check, found.evidence, stage, cause if differs.get(home or "") else None)
        if check.verdict == "inconsistent" and check.reproduce is None:
            check = replace(check, reproduce=_command(session, plan, check.id))
        penalised = ".act." in check.id and check.id.endswith("_penalty")  # a greedy text, so the model's as well
        if home == "model" and differs["model"] and check.verdict == "inconsistent" and penalised:
            check = replace(check, verdict="inconclusive", evidence=f"{check.evidence}; {cause} explains it")
        checks.append(_documented(check, documented))
    verdicts = {area: worst([c.verdict for c in checks if c.area == area]) for area in ("contract", "model", "law")}
    explained = {area for area in differs if home != area and differs.get(home or "", False)}
    verdicts |= {area: "inconsistent" for area in differs if differs[area] and area not in explained}
    sure = bool(faults) and faults[0].posterior > SURE and log_e_value([f.evidence for f in findings]) >= ALL_AREAS
    if home is not None and sure and "inconsistent" in verdicts.values():
        verdicts[home] = "inconsistent"  # a law, say, whose breach an act on a greedy text has shown
    return _assemble(session, plan, findings, checks, verdicts)


def _home(cause: str | None) -> str | None:
    """Area that a fault belongs to."""
    return "model" if cause == OTHER_MODEL else FAULTS[cause].area if cause is not None else None


def _assemble(
    session: Session,
    plan: Plan,
    findings: Sequence[Finding],
    checks: Sequence[Check],
    verdicts: Mapping[str, Verdict],
) -> Report:
    parts = [f.evidence for f, c in zip(findings, checks, strict=True) if c.verdict != "known"]
    verdict = worst(list(verdicts.values()))
    shares = likeliest(parts) if verdict == "inconsistent" else ()
    gains = total_gains(parts, hedged=False)
    excluded: list[Mapping[str, Any]] = [
        {"name": name, "log_likelihood_ratio": round(gain, 2), "observations": _observations(name, parts)}
        for name, gain in gains.items()
        if gain <= EXCLUDED
    ]
    open_still = tuple(name for name, gain in gains.items() if gain > EXCLUDED and name not in dict(shares))
    return Report(
        verdict,
        verdicts["model"],
        verdicts["law"],
        verdicts["contract"],
        tuple(checks),
        parameter_lines(session.target, [note for f in findings for note in f.notes], checks, _sure(shares)),
        shares,
        tuple(excluded),
        open_still,
        ALPHA,
        math.exp(min(700.0, max(0.0, log_e_value(parts)))),
        session.requests,
        session.tokens,
        session.endpoint.url,
        session.target.model,
        plan.provider.name,
        plan.engine.name,
        plan.profile,
        plan.seed,
        plan.reference,
        plan.fingerprint,
        plan.version,
    )


def likeliest(parts: Sequence[Evidence]) -> tuple[NamedFault, ...]:
    """Faults that explain the data better than honesty does, most likely first; empty if none does."""
    ranked = posterior(parts)
    honest = next(share for name, share in ranked if name == "none")
    return tuple(NamedFault(name, share) for name, share in ranked if name != "none" and share > honest)


def _sure(faults: Sequence[NamedFault]) -> list[NamedFault]:
    """The fault that is likelier than all others together, if there is one: it alone is said of a parameter."""
    return [fault for fault in faults if fault.posterior > 0.5]


def _observations(name: str, parts: Sequence[Evidence]) -> int:
    return sum(part.observations for part in parts if part.gains.get(name, 0.0) != 0.0)


def _command(session: Session, plan: Plan, check: str) -> str:
    """The command that asks this one check again with the same prompts and seeds."""
    words = ["refsample", "verify", session.endpoint.url, "--model", session.target.model]
    words += ["--reference", plan.reference or "none", "--spec", plan.provider.name, "--engine", plan.engine.name]
    words += ["--profile", plan.profile, "--seed", str(plan.seed), "--only", check]
    words += ["--api-key-env", plan.key_env] if plan.key_env is not None else []
    if plan.extensions is not None:
        words.append("--extensions" if plan.extensions else "--no-extensions")
    return shlex.join(words)
