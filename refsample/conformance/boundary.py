"""Contract checks on values at the edges of what records allow: legal ones are taken, illegal ones refused.

Which values those are follows from the records (`refsample.spec.boundaries`); numbers a unit outside their range are
sent by `refusals`. A case that the page as printed and as read decide differently is told and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from refsample.conformance.calls import TOOLS
from refsample.conformance.contract import UNSAID, ContractCheck
from refsample.conformance.page import Page
from refsample.conformance.report import Check, Finding, Mark, Note, Status
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import read_answer, read_stream
from refsample.conformance.transport import Exchange
from refsample.spec.boundaries import COMPANIONS, Case, cases
from refsample.spec.provider import ParameterSpec

BESIDE: Mapping[str, Mapping[str, Any]] = {
    **COMPANIONS,
    "tool_choice": {"tools": TOOLS[:1]},
    "function_call": {"functions": [TOOLS[0]["function"]]},
}
"""Library's name of a field -> fields without which no value of it means anything."""


class Asked(NamedTuple):
    """One case and what came of it; `wrong` says why, where it is not as the page has it."""

    case: Case
    exchange: Exchange
    wrong: str | None
    clear: bool


def check_boundaries(session: Session, page: Page) -> Iterator[Finding]:
    """Fields left out, of a wrong type, too long, of no known choice; the largest n, the longest stop."""
    for record in page.endpoint.parameters.values():
        if set(".[") & set(record.name) or record.extension or record.secret or record.support != "served":
            continue
        chosen = list(_chosen(record, page))
        if chosen:
            yield _judged(session, page, record, [_ask(session, page, record, case) for case in chosen])


def _settled(record: ParameterSpec) -> list[Case]:
    """The cases of a record; disputed where the page as printed does not foretell the same."""
    printed = {repr(case.value): case.accepted for case in cases(record, strict=True)}
    return [
        Case(c.value, c.accepted, c.why, c.accepted is None or printed.get(repr(c.value)) is not c.accepted)
        for c in cases(record)
    ]


def _chosen(record: ParameterSpec, page: Page) -> Iterator[Case]:
    """The few cases that are worth a request: each kind of mistake once, each kind of legal extreme once."""
    found, kinds = _settled(record), {*record.types, *record.printed_types}
    numeric = bool({"integer", "number"} & kinds)
    yield from (c for c in found if c.accepted is False and c.why == "absent")
    yield from (c for c in found if c.accepted is True and c.why == "null" and record.required)
    if not numeric:
        wrong = [c for c in found if c.why == "wrong type"]
        yield from [c for c in wrong if not c.disputed][:1]
        yield from (c for c in found if c.accepted is False and (" in " in c.why or c.why == "none of the choices"))
    lengths = [c for c in found if c.why.endswith(" entries")]
    yield from (c for c in lengths if c.accepted is False)
    if record.means == "stop":
        yield from [c for c in lengths if c.accepted][-1:]
        if {"string", "string[]"} <= {*record.types} & {*record.printed_types}:
            yield Case("<0>", True, "a string")
    if record.means == "n":
        yield from [c for c in found if c.accepted and not c.disputed and isinstance(c.value, int)][-1:]


def _ask(session: Session, page: Page, record: ParameterSpec, case: Case) -> Asked:
    kind = page.kind
    body = session.body(kind, "Hello", max_tokens=session.limit(kind, 1))
    body |= {page.name(name): value for name, value in BESIDE.get(record.means, {}).items()}
    body[record.name] = case.value
    if case.value is ...:
        del body[record.name]
    exchange = session.post(kind, body, beyond=case.disputed or case.accepted is not True)
    return Asked(case, exchange, *_verdict(case, exchange, record))


def _verdict(case: Case, exchange: Exchange, record: ParameterSpec) -> tuple[str | None, bool]:
    """(what is wrong, whether the answer decides anything)."""
    shown, status = _shown(case), exchange.status
    if status == 200:
        if case.accepted is False:
            return f"{shown} gave an answer", True
        answer = read_stream(exchange) if exchange.content_type == "text/event-stream" else read_answer(exchange)
        count = len(answer.choices) if answer is not None else 0
        wanted = case.value if record.means == "n" and isinstance(case.value, int) else 1
        return (None if count == wanted else f"{shown} gave {count} choices"), True
    broken = status >= 500 and status not in UNSAID
    refused = 400 <= status < 500 and status not in UNSAID
    if broken or refused and case.accepted is True:
        return f"{shown}: {error_text(exchange)}", True
    return None, refused


def _shown(case: Case) -> str:
    text = "absent" if case.value is ... else repr(case.value)
    return text if len(text) <= 40 else f"{text[:36]}... ({case.why})"


def _judged(session: Session, page: Page, record: ParameterSpec, asked: Sequence[Asked]) -> Finding:
    kind, counted = page.kind, [one for one in asked if not one.case.disputed]
    wrong = [one for one in counted if one.wrong is not None]
    unclear = [one for one in counted if one.wrong is None and not one.clear]
    told = [f"{_shown(one.case)} {'taken' if one.exchange.status == 200 else 'refused'}" for one in asked
            if one.wrong is None or one.case.disputed]  # fmt: skip
    said = "; ".join([*(str(one.wrong) for one in wrong), *(error_text(o.exchange) for o in unclear), *told])
    mark: Mark = (
        "inconsistent" if wrong else "inconclusive" if unclear else "consistent" if counted else "skipped"
    )
    rejected = any(one.case.accepted for one in wrong if one.exchange.status != 200)
    status: Status = "unknown" if not wrong else "rejected" if rejected else "different"
    title = f"{kind}: {record.name} at the edges of the page"
    curl = session.curl(kind, wrong[0].exchange.body or {}) if wrong else None
    check = Check(f"contract.{kind}.boundary.{record.name}", "contract", title, mark, said, reproduce=curl)
    return Finding(check, notes=(Note(kind, record.name, status, said),))


def check_nulls(session: Session, page: Page) -> Iterator[Finding]:
    """Every field that may be null is null at once; only where that is refused is each asked for alone."""
    kind, limit = page.kind, page.record("max_tokens")
    names = [
        r.name for r in page.endpoint.parameters.values()
        if r.nullable and r.printed_nullable and not (r.required or r.printed_required or r.extension or r.secret)
        and not set(".[") & set(r.name) and r is not limit
    ]  # fmt: skip
    if not names:
        return
    body = session.body(kind, "Hello", max_tokens=session.limit(kind, 1))
    check, title = f"contract.{kind}.nulls", f"{kind}: null is taken where the page has it"
    exchange = session.post(kind, {**body, **dict.fromkeys(names)})
    if read_answer(exchange) is not None:
        yield Finding(Check(check, "contract", title, "consistent", f"{len(names)} fields at once"))
        return
    alone = {name: session.post(kind, {**body, name: None}) for name in names}
    refused = {name: one for name, one in alone.items() if read_answer(one) is None}
    for name, one in (refused or {"": exchange}).items():
        decided = 400 <= one.status < 600 and one.status not in UNSAID
        mark: Mark = "inconsistent" if decided else "inconclusive"
        said = f"{name or 'all at once'}: {error_text(one)}"
        found = Check(f"{check}.{name}".rstrip("."), "contract", title, mark, said,
                      reproduce=session.curl(kind, one.body or {}))  # fmt: skip
        yield Finding(found, notes=(Note(kind, name, "different", f"null: {said}"),) if name and decided else ())


BOUNDARY_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_boundaries, ("boundary.*", "boundary")),
    (check_nulls, ("nulls.*", "nulls")),
)
