"""A field of the page is taken at a value that the page allows; refusing all of them breaks the page.

That law checks skip a refused field, and say so, is no verdict on the page: this is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refsample.conformance.contract import UNSAID, ContractCheck
from refsample.conformance.page import Page
from refsample.conformance.report import Check, Finding, Note, finding
from refsample.conformance.session import ACTING, NEUTRAL, Session, error_text
from refsample.conformance.transport import Exchange


def check_takes(session: Session, page: Page) -> Iterator[Finding]:
    """The sampling fields of the page in one request; where that is refused, each by itself."""
    kind, values = page.kind, _values(page)
    title, asked = f"{kind}: fields of the page are taken", {n: v[0] for n, v in values.items() if n != "best_of"}
    if not asked:
        return
    here = kind == session.target.kinds[0]
    known = session.target.fields if here else frozenset()
    doubtful = here and not session.target.refused.keys().isdisjoint(values)
    if set(values) <= known or not doubtful and _takes(session, page, asked) is None:
        said = f"{', '.join(values)} taken"
        yield finding(f"contract.{kind}.takes", "contract", title, True, said, None)
        return
    for name, offered in values.items():
        refusals = [_takes(session, page, {name: value}) for value in offered]
        if not offered or None in refusals:
            continue
        yield refusal_of(session, page, name, offered[0], next(e for e in refusals if e is not None))


def refusal_of(
    session: Session, page: Page, name: str, value: Any, exchange: Exchange, group: str = "takes"
) -> Finding:
    """The finding on a legal value of a field that was refused. 5xx and their like say nothing of the field."""
    kind, record = page.kind, page.record(name)
    shown = name if record is None else record.name
    check, title = f"contract.{kind}.{group}.{shown}", f"{kind}: {shown} = {value!r} is taken"
    said = error_text(exchange)
    if exchange.status in {*UNSAID, 404} or exchange.status >= 500:
        return Finding(Check(check, "contract", title, "inconclusive", said))
    kept = "printed" in page.readings("vendor_rules")
    if record is not None and kept and record.kept_from(session.target.model):
        said = f"kept for {', '.join(record.kept_for)}, and refused: {said}"
        return Finding(Check(check, "contract", title, "skipped", said), notes=(Note(kind, shown, "unknown", said),))
    found = finding(check, "contract", title, False, said, session.curl(kind, exchange.body or {}))
    return Finding(found.check, notes=(Note(kind, shown, "rejected", f"{value!r}: {said}"),))


def _takes(session: Session, page: Page, fields: dict[str, Any]) -> Exchange | None:
    """None: taken; else the refusal."""
    exchange, answer = session.ask(page.kind, "Hello", max_tokens=1, **fields)
    return exchange if answer is None else None


def _values(page: Page) -> dict[str, list[Any]]:
    """Values inside the page of each of its sampling fields: one that switches it off, and one that acts."""
    offered: dict[str, list[Any]] = {n: [v] for n, v in NEUTRAL.items()}
    offered |= {"logit_bias": [{"1": 0}], "seed": [1], "best_of": []}
    values: dict[str, list[Any]] = {}
    for name, off in offered.items():
        record = page.record(name)
        if record is None or page.beside(record):
            continue
        acting = [page.near(name, ACTING[name])] if name in ACTING else []
        inside = [v for v in (*off, *acting) if name == "logit_bias" or page.allows(name, v)]
        if inside:
            values[name] = inside
    return values


TAKES_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = ((check_takes, ("takes", "takes.*")),)
