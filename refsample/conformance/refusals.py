"""Contract checks on requests at and beyond the page's limits: what is refused, how, and what edge values give.

A value that the printed and the effective range both refuse has to be refused. Where the two differ (an end printed as
open that is meant to be closed), nothing can fail: what the endpoint does is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refsample.conformance.boundary import BOUNDARY_CHECKS
from refsample.conformance.contract import ANSWER_CHECKS, CERTAIN, LONG, REFUSED, ContractCheck, may_want, sign
from refsample.conformance.evidence import Evidence
from refsample.conformance.facts import FACT_CHECKS, silent_routes
from refsample.conformance.failures import failed_as, unknown_places
from refsample.conformance.lengths import LENGTH_CHECKS
from refsample.conformance.page import Kind, Page
from refsample.conformance.report import Check, Finding, Note, Status, finding
from refsample.conformance.reported import REPORTED_CHECKS
from refsample.conformance.seeds import SEED_CHECKS
from refsample.conformance.session import NEUTRAL, Session, error_message, error_text, model_names
from refsample.conformance.takes import TAKES_CHECKS, refusal_of
from refsample.conformance.transport import Exchange
from refsample.spec.envelopes import ENVELOPES
from refsample.spec.provider import ParameterSpec

LARGEST = 2**53
"""Bounds beyond this are not probed: not every client and server can write one more than them."""

def contract_findings(session: Session, only: frozenset[str]) -> Iterator[Finding]:
    """Contract checks on every route the endpoint has; of a group of them, all where `only` may want one."""
    target = session.target
    yield from silent_routes(session, only)
    for kind in target.kinds:
        for check, names in GROUPS:
            if not session.exhausted and any(may_want(only, f"contract.{kind}.{name}") for name in names):
                yield from check(session, target.pages[kind])
    if target.models_path and may_want(only, "contract.models"):
        yield _models(session)
    if any(may_want(only, f"contract.{name}") for name in ("unknown_model", "unknown_model_error")):
        yield from _unknown_model(session)
    if any(may_want(only, f"contract.{name}") for name in ("unknown_path", "method")):
        yield from unknown_places(session, target.pages[target.kinds[0]])


def check_edges(session: Session, page: Page) -> Iterator[Finding]:
    """echo, max_tokens 0 and a best_of below n, where the page has them; a field that no page has."""
    kind = page.kind
    if page.takes("echo"):
        exchange, answer = session.ask(kind, LONG, **session.greedy(kind, 2), echo=True)
        text = answer.choices[0].text if answer is not None and answer.choices else error_text(exchange)
        check, curl = f"contract.{kind}.echo", session.curl(kind, exchange.body or {})
        yield finding(
            check, "contract", "echo puts the prompt first", text.startswith(LONG), f"got {text[:40]!r}", curl
        )
    if page.allows("max_tokens", 0):
        exchange, answer = session.ask(kind, LONG, **session.greedy(kind, 0))
        text = answer.choices[0].text if answer is not None and answer.choices else error_text(exchange)
        check, curl = f"contract.{kind}.max_tokens_zero", session.curl(kind, exchange.body or {})
        yield finding(check, "contract", "max_tokens 0 gives no text", text == "", f"got {text!r}", curl)
    exchange, answer = session.ask_beyond(kind, LONG, **_least(session, kind), refsample_unknown_field=1)
    readings = page.readings("unknown_fields")
    fine = "ignored" in readings if answer is not None else "refused" in readings and 400 <= exchange.status < 500
    title = f"{kind}: an unknown field is {' or '.join(sorted(readings))}"
    curl = session.curl(kind, exchange.body or {})
    yield finding(f"contract.{kind}.unknown_fields", "contract", title, fine, _outcome(exchange), curl)
    if page.takes("best_of") and page.allows("n", 2):
        yield _must_refuse(session, kind, "best_of", [{"n": 3, "best_of": 2}], f"contract.{kind}.best_of")[0]


def _least(session: Session, kind: Kind) -> dict[str, Any]:
    """The cheapest answer that the page allows."""
    return {"max_tokens": session.limit(kind, 1)}


def check_validation(session: Session, page: Page) -> Iterator[Finding]:
    """One value just outside each bound of the page, and one of a wrong type, are refused with an error body."""
    kind = page.kind
    refusals: list[Exchange] = []
    bounds = taken = 0
    for record in page.endpoint.parameters.values():
        if record.extension or record.support != "served" or record.secret:
            continue
        companions = _companions(session, page, record)
        beyond = [value for value in _outside(record) if value is not None]
        asked = [{**companions, record.name: value} for value in (*beyond, *_wrong(record))]
        if not asked:
            continue
        check = f"contract.{kind}.validation.{record.name}"
        found, refused = _must_refuse(session, kind, record.name, asked, check, len(beyond))
        bounds, taken = bounds + len(beyond), taken + (found.evidence.gains.get("bound_not_enforced", 0.0) > 0.0)
        refusals += refused
        ends = list(_ends(session, page, record, companions))
        yield Finding(found.check, found.evidence, (*found.notes, *(e for e in ends if isinstance(e, Note))))
        yield from (end for end in ends if isinstance(end, Finding))
    if refusals:
        yield from _bodies(
            refusals, page, Evidence() if taken or not bounds else sign("bound_not_enforced", False, True)
        )


def _companions(session: Session, page: Page, record: ParameterSpec) -> dict[str, Any]:
    """Fields that a value of this one needs beside it."""
    fields = {} if record.means == "max_tokens" else _least(session, page.kind)
    if record.means == "top_logprobs" and page.takes("logprobs"):
        fields["logprobs"] = True
    return fields


def _outside(record: ParameterSpec) -> tuple[float | int | None, float | int | None]:
    """One unit above and one below what printed and effective range leave in; None where there is no such bound."""
    if record.effective is None or not {"integer", "number"} & set(record.types):
        return None, None
    ranges = [r for r in (record.effective, record.printed) if r is not None]
    high, low = max(r.high for r in ranges), min(r.low for r in ranges)
    above = high + 1 if math.isfinite(high) and high < LARGEST else None
    return above, low - 1 if math.isfinite(low) and low > -LARGEST else None


def _wrong(record: ParameterSpec) -> list[Any]:
    """A value of no type that the field has."""
    numeric = {"integer", "number"} & {*record.types, *record.printed_types}
    return ["hot"] if numeric and "string" not in record.types else []


def _ends(
    session: Session, page: Page, record: ParameterSpec, companions: Mapping[str, Any]
) -> Iterator[Note | Finding]:
    """What is said to the ends of a range: both where both readings take them, and those that only one takes.

    That an end is taken shows no effect; that one is refused which both readings take breaks the page.
    """
    if record.effective is None or not {"integer", "number"} & set(record.types):
        return
    contested: dict[float | int, bool] = {}
    for bounds in (record.effective, record.printed or record.effective):
        for end in (bounds.low, bounds.high):
            if math.isfinite(end) and abs(end) < LARGEST:
                contested[end] = page.allows(record.means, end)
    for end, inside in contested.items():
        if inside and record.means not in NEUTRAL:
            continue
        if not inside and record.means not in {*NEUTRAL, "logprobs", "top_logprobs"}:
            continue
        ask = session.ask if inside else session.ask_beyond
        exchange, answer = ask(page.kind, "Hello", **{**companions, record.name: end})
        yield Note(page.kind, record.name, "unknown", f"{end} {'refused' if answer is None else 'taken'}")
        if inside and answer is None:
            yield refusal_of(session, page, record.means, end, exchange, "takes_ends")


def _bodies(refusals: Sequence[Exchange], page: Page, evidence: Evidence) -> Iterator[Finding]:
    """Every refusal carries an error object in the provider's envelope."""
    envelope, bodies = ENVELOPES[page.provider.envelope], [e.json() for e in refusals]
    inside, keys = envelope.inside, envelope.promised()
    inner = [b.get(inside) if inside and isinstance(b, dict) else b for b in bodies]
    fine = all(isinstance(error_message(b), str) for b in bodies)
    told = sum(isinstance(error_message(b), str) for b in bodies)
    title, said = f"{page.kind}: refusals carry an error message", f"{told} of {len(bodies)} refusals"
    yield finding(f"contract.{page.kind}.error_body", "contract", title, fine, said, None, evidence=evidence)
    whole = sum(isinstance(e, dict) and all(key in e for key in keys) for e in inner)
    title, said = f"{page.kind}: error objects have {', '.join(keys)}", f"{whole} of {len(bodies)} refusals"
    yield finding(f"contract.{page.kind}.error_param", "contract", title, whole == len(bodies), said, None)
    title = f"{page.kind}: bad values fail as such"
    yield failed_as(f"contract.{page.kind}.error_words", title, "invalid", refusals, page, None)


def _must_refuse(
    session: Session, kind: Kind, name: str, asked: Sequence[Mapping[str, Any]], check: str, bounds: int = 0
) -> tuple[Finding, list[Exchange]]:
    """One check over several bad values of a field, and the refusals that came. The first `bounds` break a bound."""
    exchanges = [session.ask_beyond(kind, "Hello", **fields)[0] for fields in asked]
    refused = [e for e in exchanges if e.status in REFUSED]
    taken = [e for e in exchanges if e.status == 200 or e.status >= 500 and e.status != 503]
    values = ", ".join(repr(fields[name]) for fields in asked)
    title = f"{kind}: {name} = {values} is refused"
    broken = any(e.status == 200 for e in exchanges[:bounds])
    evidence = Evidence({"bound_not_enforced": CERTAIN}, observations=1) if broken else Evidence()
    if not taken and len(refused) < len(exchanges):
        other = next(e for e in exchanges if e.status not in REFUSED)
        return Finding(Check(check, "contract", title, "inconclusive", error_text(other))), refused
    if not taken:
        notes = (Note(kind, name, "unknown", f"{values} refused"),)
        return Finding(Check(check, "contract", title, "consistent", error_text(refused[-1])), notes=notes), refused
    said = "; ".join(f"{(e.body or {}).get(name)!r} gave {_outcome(e)}" for e in taken)
    found = finding(check, "contract", title, False, said, session.curl(kind, taken[0].body or {}), evidence=evidence)
    return Finding(found.check, evidence, (Note(kind, name, "different", said),)), refused


def _outcome(exchange: Exchange) -> str:
    return "an answer" if exchange.status == 200 else error_text(exchange)


def _models(session: Session) -> Finding:
    path = session.target.models_path
    exchange = session.send("GET", path)
    names = model_names(exchange.json())
    title, said = f"{path} lists the model", f"HTTP {exchange.status}, {names[:5]}"
    right = session.target.model in names
    return finding("contract.models", "contract", title, right, said, session.curl_bare("GET", path))


def _unknown_model(session: Session) -> Iterator[Finding]:
    """A model that nobody has is refused, on every route, and as what it is."""
    notes: list[Note] = []
    asked: list[tuple[Kind, Exchange]] = []
    for kind in session.target.kinds:
        body = {**session.body(kind, "Hello", **_least(session, kind)), "model": "refsample-no-such-model"}
        exchange = session.post(kind, body)
        status: Status = "honoured" if exchange.status in REFUSED | {403, 404} else "different"
        notes.append(Note(kind, "model", status, f"an unknown one: {_outcome(exchange)}"))
        asked.append((kind, exchange))
    taken = [each for each, note in zip(asked, notes, strict=True) if note.status != "honoured"]
    kind, exchange = (taken or asked)[0]
    fine, title = all(note.status == "honoured" for note in notes), "an unknown model is refused"
    evidence = sign("unknown_model_accepted", exchange.status == 200, fine)
    curl = session.curl(kind, exchange.body or {})
    found = finding("contract.unknown_model", "contract", title, fine, _outcome(exchange), curl, evidence=evidence)
    yield Finding(found.check, evidence, tuple(notes))
    if exchange.status != 200:
        title, page = "an unknown model fails as such", session.target.pages[kind]
        yield failed_as("contract.unknown_model_error", title, "unknown_model", [exchange], page, curl)


REQUEST_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_edges, ("echo", "max_tokens_zero", "unknown_fields", "best_of")),
    (check_validation, ("validation.*", "validation", "takes_ends.*", "error_body", "error_param", "error_words")),
)
GROUPS = (
    *ANSWER_CHECKS, *LENGTH_CHECKS, *TAKES_CHECKS, *REPORTED_CHECKS, *FACT_CHECKS, *SEED_CHECKS, *REQUEST_CHECKS,
    *BOUNDARY_CHECKS,
)  # fmt: skip
