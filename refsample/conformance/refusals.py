"""Contract checks on requests at and beyond the page's limits: what is refused, how, and what edge values give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from refsample.conformance.contract import ANSWER_CHECKS, LONG, ContractCheck, endpoint_of
from refsample.conformance.report import Check, Finding, finding
from refsample.conformance.session import Kind, Session, error_text
from refsample.conformance.transport import Exchange
from refsample.spec.provider import ParameterSpec, ProviderSpec

REFUSED = frozenset({400, 422})
"""Statuses that refuse a value; 401, 404 and 429 refuse something else."""
LARGEST = 2**53
"""Bounds beyond this are not probed: not every client and server can write one more than them."""


def contract_findings(session: Session, provider: ProviderSpec, only: frozenset[str]) -> Iterator[Finding]:
    """Contract checks on every route the endpoint has; of a group of them, all where `only` may want one."""
    for kind in session.target.kinds:
        for check, names in (*ANSWER_CHECKS, *REQUEST_CHECKS):
            if not session.exhausted and any(_may_want(only, f"contract.{kind}.{name}") for name in names):
                yield from check(session, provider, kind)
    if _may_want(only, "contract.models"):
        yield _models(session)
    if _may_want(only, "contract.unknown_model"):
        yield _unknown_model(session)


def _may_want(only: frozenset[str], check: str) -> bool:
    """Whether one of the patterns names the check, or one below it such as contract.chat.validation.n."""
    return not only or any(fnmatchcase(check, pattern) or pattern.startswith(check + ".") for pattern in only)


def check_edges(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """echo, max_tokens 0 and a best_of below n, where the page has them; a field that no page has."""
    parameters = endpoint_of(provider, kind).parameters
    if "echo" in parameters:
        exchange, answer = session.ask(kind, LONG, max_tokens=2, temperature=0.0, echo=True)
        text = answer.choices[0].text if answer is not None and answer.choices else error_text(exchange)
        check, title, curl = (
            f"contract.{kind}.echo",
            "echo puts the prompt first",
            session.curl(kind, exchange.body or {}),
        )
        yield finding(check, "contract", title, text.startswith(LONG), f"got {text[:40]!r}", curl)
    limit = parameters.get("max_tokens")
    if limit is not None and limit.effective is not None and limit.effective.holds(0):
        exchange, answer = session.ask(kind, LONG, max_tokens=0, temperature=0.0)
        text = answer.choices[0].text if answer is not None and answer.choices else error_text(exchange)
        check, curl = f"contract.{kind}.max_tokens_zero", session.curl(kind, exchange.body or {})
        yield finding(check, "contract", "max_tokens 0 gives no text", text == "", f"got {text!r}", curl)
    exchange, answer = session.ask(kind, LONG, max_tokens=1, temperature=0.0, refsample_unknown_field=1)
    readings = {provider.reading("unknown_fields"), provider.reading("unknown_fields", strict=True)}
    fine = "ignored" in readings if answer is not None else "refused" in readings and 400 <= exchange.status < 500
    title, curl = (
        f"{kind}: an unknown field is {' or '.join(sorted(readings))}",
        session.curl(kind, exchange.body or {}),
    )
    yield finding(f"contract.{kind}.unknown_fields", "contract", title, fine, _outcome(exchange), curl)
    if "best_of" in parameters:
        yield _must_refuse(session, kind, "best_of", [{"n": 2, "best_of": 1}], f"contract.{kind}.best_of")[0]


def check_validation(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """One value just outside each bound of the page, and one of a wrong type, are refused with an error body."""
    refusals: list[Exchange] = []
    for parameter in endpoint_of(provider, kind).parameters.values():
        if parameter.extension or parameter.support != "served":
            continue
        companions = {"logprobs": True} if parameter.name == "top_logprobs" else {}
        asked = [{"max_tokens": 1, **companions, parameter.name: value} for value in _outside(parameter)]
        if asked:
            check = f"contract.{kind}.validation.{parameter.name}"
            found, refused = _must_refuse(session, kind, parameter.name, asked, check)
            refusals += refused
            yield found
    if refusals:
        yield from _bodies(refusals, kind)


def _bodies(refusals: Sequence[Exchange], kind: Kind) -> Iterator[Finding]:
    """Every refusal carries an error object with a message, a type, a param and a code."""
    bodies = [e.json() for e in refusals]
    inner = [b["error"] for b in bodies if isinstance(b, dict) and isinstance(b.get("error"), dict)]
    fine = len(inner) == len(bodies) and all(isinstance(e.get("message"), str) for e in inner)
    title, said = f"{kind}: refusals carry an error object with a message", f"{len(inner)} of {len(bodies)} refusals"
    yield finding(f"contract.{kind}.error_body", "contract", title, fine, said, None)
    whole = sum("param" in e and "type" in e and "code" in e for e in inner)
    title, said = f"{kind}: error objects have type, param and code", f"{whole} of {len(bodies)} refusals"
    yield finding(f"contract.{kind}.error_param", "contract", title, whole == len(bodies), said, None)


def _outside(parameter: ParameterSpec) -> Iterator[Any]:
    """One unit outside each finite bound, and a value of no numeric type."""
    bounds = parameter.effective
    if bounds is None or not {"integer", "number"} & set(parameter.types):
        return
    if math.isfinite(bounds.high) and bounds.high < LARGEST:
        yield bounds.high + 1
    if math.isfinite(bounds.low) and bounds.low > -LARGEST:
        yield bounds.low - 1
    yield "hot"


def _must_refuse(
    session: Session, kind: Kind, name: str, asked: Sequence[Mapping[str, Any]], check: str
) -> tuple[Finding, list[Exchange]]:
    """One check over several bad values of a field, and the refusals that came."""
    exchanges = [session.ask(kind, "Hello", **fields)[0] for fields in asked]
    refused = [e for e in exchanges if e.status in REFUSED]
    taken = [e for e in exchanges if e.status == 200 or e.status >= 500 and e.status != 503]
    values = ", ".join(repr(fields[name]) for fields in asked)
    title = f"{kind}: {name} = {values} is refused"
    if not taken and len(refused) < len(exchanges):
        other = next(e for e in exchanges if e.status not in REFUSED)
        return Finding(Check(check, "contract", title, "inconclusive", error_text(other))), refused
    if not taken:
        return finding(check, "contract", title, True, error_text(refused[-1]), None), refused
    said = "; ".join(f"{(e.body or {}).get(name)!r} gave {_outcome(e)}" for e in taken)
    return finding(check, "contract", title, False, said, session.curl(kind, taken[0].body or {})), refused


def _outcome(exchange: Exchange) -> str:
    return "an answer" if exchange.status == 200 else error_text(exchange)


def _models(session: Session) -> Finding:
    exchange = session.send("GET", "/v1/models")
    body = exchange.json()
    entries = body.get("data") if isinstance(body, dict) else None
    names = [e.get("id") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    title, said = "/v1/models lists the model", f"HTTP {exchange.status}, {names[:5]}"
    curl = f"curl -s {session.endpoint.url}/v1/models"
    return finding("contract.models", "contract", title, session.target.model in names, said, curl)


def _unknown_model(session: Session) -> Finding:
    kind = session.target.kinds[0]
    body = {**session.body(kind, "Hello", max_tokens=1), "model": "refsample-no-such-model"}
    exchange = session.send("POST", session.target.paths[kind], body)
    fine, title = exchange.status in REFUSED | {403, 404}, "an unknown model is refused"
    return finding("contract.unknown_model", "contract", title, fine, _outcome(exchange), session.curl(kind, body))


REQUEST_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_edges, ("echo", "max_tokens_zero", "unknown_fields", "best_of")),
    (check_validation, ("validation.*", "validation", "error_body", "error_param")),
)
