"""What a verification says: checks, faults, exclusions, verdict. It knows nothing of how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from refsample.conformance.evidence import Evidence

Verdict = Literal["consistent", "inconsistent", "inconclusive"]
Mark = Literal["consistent", "inconsistent", "inconclusive", "known", "skipped"]
Area = Literal["contract", "model", "law"]
Status = Literal["honoured", "different", "dropped", "rejected", "unknown"]
"""Acts as meant; acts otherwise; taken without effect; refused though the page has it; not seen to act."""

_RANK: Mapping[str, int] = {"consistent": 0, "inconclusive": 1, "inconsistent": 2}


@dataclass(frozen=True, slots=True)
class Check:
    """One question put to the endpoint, and the answer with its evidence."""

    id: str
    area: Area
    title: str
    verdict: Mark
    evidence: str
    requests: int = 0
    tokens: int = 0
    statistic: float | None = None
    """ln of the best hypothesis's likelihood gain over the honest reference, where there is one."""
    e_value: float | None = None
    """Evidence against the honest reference: P(e >= x) <= 1/x if it is honest."""
    decided_after: int | None = None
    """Observations after which this check alone would have decided."""
    reproduce: str | None = None
    known: str | None = None
    """Where the difference is documented, when it is."""


class Note(NamedTuple):
    """What one question showed of one parameter of the page."""

    endpoint: str
    parameter: str
    """The page's name for it."""
    status: Status
    said: str


class ParameterLine(NamedTuple):
    """A parameter of the page: what the page says, what is made of it, what was seen."""

    endpoint: str
    name: str
    page: str
    expected: str
    observed: str
    status: Status


@dataclass(frozen=True, slots=True)
class Finding:
    """A check as it came out of a probe, with the likelihood evidence behind it and what it showed of parameters."""

    check: Check
    evidence: Evidence = field(default_factory=Evidence)
    notes: tuple[Note, ...] = ()


def finding(
    check: str,
    area: Area,
    title: str,
    fine: bool,
    said: str,
    reproduce: str | None,
    *,
    evidence: Evidence | None = None,
) -> Finding:
    """A yes-or-no check: consistent or inconsistent, with the command that repeats it where it failed."""
    mark: Mark = "consistent" if fine else "inconsistent"
    return Finding(Check(check, area, title, mark, said, reproduce=None if fine else reproduce), evidence or Evidence())


class NamedFault(NamedTuple):
    """A fault of the dictionary and its share of the likelihood, all faults and honesty weighed equally before."""

    name: str
    posterior: float


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one verification of one endpoint."""

    verdict: Verdict
    model: Verdict
    law: Verdict
    contract: Verdict
    checks: tuple[Check, ...]
    parameters: tuple[ParameterLine, ...]
    """Every parameter of the page on the routes that answer."""
    faults: tuple[NamedFault, ...]
    excluded: tuple[Mapping[str, Any], ...]
    not_excluded: tuple[str, ...]
    """Faults that this run had too little data to rule out."""
    alpha: float
    """Chance, at most, that an honest endpoint is called inconsistent by the statistical checks."""
    e_value: float
    requests: int
    tokens: int
    url: str
    endpoint_model: str
    spec: str
    engine: str
    profile: str
    seed: int
    reference: str | None
    reference_fingerprint: str | None
    version: str

    def to_dict(self) -> dict[str, Any]:
        """One JSON-ready object (design section 5, `verify --json`)."""
        data = asdict(self)
        data["checks"] = [asdict(check) for check in self.checks]
        data["parameters"] = [line._asdict() for line in self.parameters]
        data["faults"] = [fault._asdict() for fault in self.faults]
        data["excluded"] = [dict(entry) for entry in self.excluded]
        return data


def worst(verdicts: Sequence[str]) -> Verdict:
    """The worst of some verdicts; of none: inconclusive, since nothing was looked at."""
    ranked = [v for v in verdicts if v in _RANK]
    if not ranked:
        return "inconclusive"
    name = max(ranked, key=lambda v: _RANK[v])
    return "inconsistent" if name == "inconsistent" else "inconclusive" if name == "inconclusive" else "consistent"


def mark_known(check: Check, source: str) -> Check:
    """The check as a documented difference: listed, not counted."""
    return replace(check, verdict="known", known=source)
