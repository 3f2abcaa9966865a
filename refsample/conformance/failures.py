"""Contract checks on how an endpoint fails: the status and the words of a failure against the provider's file.

What a page prints of a failure (`Failure.printed`) has to be so. The rest of the file is inferred from the page's other
failures and from its engine: another status that refuses, or other words, are told and count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refsample.conformance.page import Page
from refsample.conformance.report import Check, Finding, finding
from refsample.conformance.session import Session, error_text
from refsample.conformance.transport import Exchange
from refsample.spec.envelopes import ENVELOPES
from refsample.spec.provider import Failure

LATE = frozenset({0, 408, 429, 502, 503, 504})
"""Statuses of an endpoint that was late or busy: they say nothing of the request."""
NOWHERE = "/refsample-no-such-path"


def failed_as(
    check: str, title: str, kind: str, exchanges: Sequence[Exchange], page: Page, curl: str | None
) -> Finding:
    """One check over failures of one kind: those that are not as the page's file has them, worst first."""
    record = page.provider.errors[kind]
    seen = [e for e in exchanges if e.status not in LATE]
    if not seen:
        return _told(check, title, error_text(exchanges[0]))
    other = [e for e in seen if not 400 <= e.status < 500]
    if other:
        return finding(check, "contract", title, False, f"HTTP {other[0].status}, {record.status} is expected", curl)
    statuses = sorted({e.status for e in seen} - {record.status})
    words = sorted({said for e in seen for said in _words(e, kind, record, page)})
    said = "; ".join([*(f"status {status}, not {record.status}" for status in statuses), *words])
    fails = statuses and record.printed != "nothing" or words and record.printed == "words"
    if fails or not said:
        return finding(check, "contract", title, not fails, said or f"status {record.status} and its words", curl)
    return _told(check, title, f"{said}; the page does not print it")


def _told(check: str, title: str, said: str) -> Finding:
    return Finding(Check(check, "contract", title, "skipped", said))


def _words(exchange: Exchange, kind: str, record: Failure, page: Page) -> Iterator[str]:
    """Words of the error object that are not the file's; any code of a bad value will do: it names the very mistake."""
    envelope, body = ENVELOPES[page.provider.envelope], exchange.json()
    inner = body.get(envelope.inside) if envelope.inside and isinstance(body, dict) else body
    error: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    expected = {"type": record.type, "reason": record.code, "code": "" if kind == "invalid" else record.code}
    for key, fact in envelope.keys.items():
        wanted = expected.get(fact, "")
        if wanted and error.get(key) != wanted:
            yield f"{key} {error.get(key)!r}, not {wanted!r}"


def unknown_places(session: Session, page: Page) -> Iterator[Finding]:
    """A path that is not there, and a method that the path does not take."""
    base = page.endpoint.path.rsplit("/", 1)[0]
    for check, kind, method, path, title in (
        ("contract.unknown_path", "unknown_path", "POST", base + NOWHERE, "a path that is not there fails as such"),
        ("contract.method", "method", "GET", page.endpoint.path, "a method that is not taken fails as such"),
    ):
        exchange = session.send(method, path)
        yield failed_as(check, title, kind, [exchange], page, session.curl_bare(method, path))
