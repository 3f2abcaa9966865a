"""Contract checks on what answers and streams say of themselves: model, time, ids, offsets and bytes of their tokens.

Prompt tokens are counted against the reference, where there is one; nothing else here needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refsample.conformance.contract import (
    LENGTH,
    LONG,
    ContractCheck,
    first,
    may_want,
    refused,
    seeded,
    skipped,
)
from refsample.conformance.oracle import Oracle
from refsample.conformance.page import Kind, Page
from refsample.conformance.report import Finding, Note, Status, finding
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import Answer, Choice, read_stream
from refsample.conformance.transport import Exchange, parse_json

DAY = 86400
MOST = 20
"""Alternatives asked for at most: more than this no page has."""


def check_facts(session: Session, page: Page) -> Iterator[Finding]:
    """One answer: the model it names, when it was made, and how its logprobs describe their tokens."""
    kind = page.kind
    fields = _most_logprobs(page) if session.target.top_logprobs.get(kind) is not None else {}
    exchange, answer = session.ask(kind, LONG, max_tokens=LENGTH, **_neutral(session, page), **fields)
    choice, curl = first(answer), session.curl(kind, exchange.body or {})
    if choice is None and fields:
        yield _few_taken(session, page, fields, exchange)
        exchange, answer = session.ask(kind, LONG, max_tokens=LENGTH, **_neutral(session, page))
        choice, curl, fields = first(answer), session.curl(kind, exchange.body or {}), {}
    if choice is None:
        return
    yield from _names_and_time(session, page, exchange, curl)
    if fields and choice.tokens:
        yield _count(page, fields, choice, curl)
        yield from _offsets(page, exchange, curl)
        yield from _bytes(page, choice, curl)


def _neutral(session: Session, page: Page) -> dict[str, Any]:
    """Fields of a draw from the whole vocabulary: a filter may leave fewer alternatives than are asked for."""
    off = {name: value for name, value in session.target.neutral.items() if page.allows(name, value)}
    return {**seeded(session), "temperature": page.near("temperature", 1.0), **off}


def _most_logprobs(page: Page) -> dict[str, Any]:
    return page.logprob_fields(MOST) or {}


def _wanted(fields: Mapping[str, Any]) -> tuple[str, int]:
    """The field that says how many alternatives are wanted, and how many: none where it is on or off alone."""
    name = "top_logprobs" if "top_logprobs" in fields else "logprobs"
    value = fields[name]
    return name, 0 if isinstance(value, bool) else int(value)


def _few_taken(session: Session, page: Page, fields: Mapping[str, Any], exchange: Exchange) -> Finding:
    """The largest number of alternatives that the page lets one ask for is refused."""
    name, wanted = _wanted(fields)
    check, title = f"contract.{page.kind}.top_logprobs_count", _title(page, wanted)
    found = refused(session, check, title, page.kind, exchange)
    said = f"{wanted}: {found.check.evidence}"
    status: Status = "rejected" if 400 <= exchange.status < 500 else "different"
    return Finding(found.check, notes=(Note(page.kind, page.name(name), status, said),))


def _title(page: Page, wanted: int) -> str:
    return f"{page.kind}: {wanted} alternatives are asked for and come"


def _count(page: Page, fields: Mapping[str, Any], choice: Choice, curl: str) -> Finding:
    """As many alternatives as were asked for; tokens of one text share an entry in some shapes, so those are left."""
    name, wanted = _wanted(fields)
    check, title = f"contract.{page.kind}.top_logprobs_count", _title(page, wanted)
    counts = [len(t.top) for t in choice.tokens or () if not any(_unshown(e.text) for e in (t.chosen, *t.top))]
    if not counts or not wanted:
        return skipped(check, title, "no token whose alternatives all show a text")
    fine, said = min(counts) >= wanted, f"between {min(counts)} and {max(counts)} of {wanted}"
    found = finding(check, "contract", title, fine, said, curl)
    status: Status = "honoured" if fine else "different"
    return Finding(found.check, notes=(Note(page.kind, page.name(name), status, f"alternatives: {said}"),))


def _unshown(text: str) -> bool:
    return not text or "\ufffd" in text


def related(asked: str, said: str) -> bool:
    """Whether a name may be another name of the same model: a date or a folder more or less, one part of a path.

    vendor/model/deployment may be answered by the model or by the deployment alone; another model of one vendor is
    another model.
    """
    split = [[part for part in name.lower().split("/") if part] for name in (asked, said)]
    ends = [{*parts[-1:], *(parts[1:2] if len(parts) == 3 else ())} for parts in split]
    return any(a.startswith(b) or b.startswith(a) for a in ends[0] for b in ends[1])


def _names_and_time(session: Session, page: Page, exchange: Exchange, curl: str) -> Iterator[Finding]:
    kind, body, fields = page.kind, exchange.json(), page.endpoint.response
    asked, said = session.target.model, body.get("model")
    if "model" in fields and isinstance(said, str):
        check, title = f"contract.{kind}.model_name", f"{kind}: the answer names the model asked for"
        if said != asked and related(asked, said):
            yield skipped(check, title, f"asked for {asked!r}, answered as {said!r}")
        else:
            yield finding(check, "contract", title, said == asked, f"asked for {asked!r}, answered as {said!r}", curl)
    created = body.get("created")
    if "created" in fields and isinstance(created, int) and exchange.at is not None:
        off, title = abs(created - exchange.at), f"{kind}: created is about now, in seconds"
        said = "within a day of the answer" if off <= DAY else f"created {created}, answered at {exchange.at}"
        yield finding(f"contract.{kind}.created", "contract", title, off <= DAY, said, curl)


def _offsets(page: Page, exchange: Exchange, curl: str) -> Iterator[Finding]:
    """text_offset counts the characters of the token strings, from the beginning of the text or of the prompt."""
    block = exchange.json()["choices"][0].get("logprobs")
    offsets, texts = ((block or {}).get(name) for name in ("text_offset", "tokens"))
    title = f"{page.kind}: text_offset counts characters"
    if not isinstance(offsets, list) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        return
    if all(offset in (None, -1) for offset in offsets):
        yield skipped(f"contract.{page.kind}.text_offset", title, "no offset is told, as sglang does not")
        return
    for begin in (0, len(LONG)):
        right = [begin + sum(map(len, texts[:at])) for at in range(len(texts))]
        if offsets == right:
            break
    fine = offsets == right
    said = f"from {begin}" if fine else f"tokens {texts[:4]}, offsets {offsets[:4]}"
    yield finding(f"contract.{page.kind}.text_offset", "contract", title, fine, said, curl)


def _bytes(page: Page, choice: Choice, curl: str) -> Iterator[Finding]:
    """bytes are the UTF-8 of a token that is whole text."""
    entries = [e for t in choice.tokens or () for e in (t.chosen, *t.top) if e.raw is not None and not _unshown(e.text)]
    if not entries:
        return
    wrong = [(e.text, list(e.raw or b"")) for e in entries if e.raw != e.text.encode()]
    said = f"{wrong[0][0]!r} with bytes {wrong[0][1]}" if wrong else f"all {len(entries)}"
    title = f"{page.kind}: bytes of a token are its UTF-8"
    yield finding(f"contract.{page.kind}.bytes", "contract", title, not wrong, said, curl)


def check_stream_facts(session: Session, page: Page) -> Iterator[Finding]:
    """A stream is declared as one, keeps its id, model and time, and has the choices and logprobs asked for."""
    kind = page.kind
    if not page.takes("stream"):
        return
    many = {"n": 2} if page.allows("n", 2) and session.target.choices > 1 else {}
    values = session.target.top_logprobs.get(kind) is not None
    fields = {**_neutral(session, page), **many, **(session.logprob_fields(kind, 1) if values else {})}
    exchange, _ = session.ask(kind, LONG, max_tokens=3, **fields, stream=True)
    streamed, curl = read_stream(exchange), session.curl(kind, exchange.body or {})
    if streamed is None:
        yield refused(session, f"contract.{kind}.stream_type", f"{kind}: a stream of several choices", kind, exchange)
        return
    said, title = exchange.content_type, f"{kind}: a stream is text/event-stream"
    yield finding(f"contract.{kind}.stream_type", "contract", title, said == "text/event-stream", repr(said), curl)
    yield from _constant(session, page, exchange, curl)
    yield from _choices(streamed, kind, len(many) + 1, values, curl)


def _constant(session: Session, page: Page, exchange: Exchange, curl: str) -> Iterator[Finding]:
    """What every chunk repeats."""
    chunks = [c for c in map(parse_json, exchange.events()) if isinstance(c, dict)]
    for check, names in (("stream_ids", ("id", "model")), ("stream_created", ("created",))):
        kept = [name for name in names if name in page.endpoint.chunk]
        seen = {name: {str(chunk.get(name)) for chunk in chunks} for name in kept}
        changed = {name: sorted(values)[:3] for name, values in seen.items() if len(values) > 1}
        if kept:
            title = f"{page.kind}: every chunk has the same {' and '.join(kept)}"
            said = "; ".join(f"{name}: {', '.join(values)}" for name, values in changed.items())
            id_ = f"contract.{page.kind}.{check}"
            yield finding(id_, "contract", title, not changed, said or f"{len(chunks)} chunks", curl)


def _choices(streamed: Answer, kind: Kind, wanted: int, values: bool, curl: str) -> Iterator[Finding]:
    indexes = [choice.index for choice in streamed.choices]
    title, fine = f"{kind}: a stream has every choice", indexes == list(range(wanted))
    yield finding(f"contract.{kind}.stream_n", "contract", title, fine, f"{wanted} asked for: {indexes}", curl)
    if values:
        title, fine = f"{kind}: a stream has the logprobs asked for", all(choice.tokens for choice in streamed.choices)
        counts = [len(choice.tokens or ()) for choice in streamed.choices]
        yield finding(f"contract.{kind}.stream_logprobs", "contract", title, fine, f"entries: {counts}", curl)


def prompt_findings(session: Session, oracle: Oracle, only: frozenset[str]) -> Iterator[Finding]:
    """usage.prompt_tokens against the reference's own count, on each route."""
    for kind in session.target.kinds:
        if not session.exhausted and may_want(only, f"contract.{kind}.prompt_tokens"):
            yield _prompt_tokens(session, oracle, kind)


def _prompt_tokens(session: Session, oracle: Oracle, kind: Kind) -> Finding:
    """A text has as many tokens as it has; around a chat's text, a template may put others, always as many."""
    check, title = f"contract.{kind}.prompt_tokens", f"{kind}: prompt_tokens are those of the prompt"
    if kind == "chat" and not oracle.model.template:
        return skipped(check, title, "the reference has no chat template")
    told: list[int] = []
    own: list[int] = []
    for text, count in ((LONG, LENGTH), ("Hello", 1)):
        answer = session.greedily(kind, text, count)
        given = (answer.usage or {}).get("prompt_tokens") if answer is not None else None
        if not isinstance(given, int):
            return skipped(check, title, "usage has no prompt_tokens")
        asked: Any = [{"role": "user", "content": text}] if kind == "chat" else text
        told, own = [*told, given], [*own, len(oracle.model.prompt_ids(asked))]
    off = {a - b for a, b in zip(told, own, strict=True)}
    said = f"counted {told}, by the reference {own}"
    if len(off) == 1 and off != {0} and (kind == "chat" or off <= {-1, 1}):
        why = "another template or a hidden message" if kind == "chat" else "a token that begins every text"
        return skipped(check, title, f"{said}: always as many off, so {why}")
    curl = session.curl(kind, session.body(kind, LONG, **session.greedy(kind, LENGTH)))
    found = finding(check, "contract", title, off == {0}, said, curl)
    field = session.target.pages[kind].name("prompt" if kind == "completions" else "messages")
    status: Status = "honoured" if off == {0} else "different"
    return Finding(found.check, notes=(Note(kind, field, status, f"prompt_tokens: {said}"),))


def silent_routes(session: Session, only: frozenset[str]) -> Iterator[Finding]:
    """Routes of the page without a readable answer: one that answers without choices is broken, others are told."""
    for kind, exchange in session.target.silent.items():
        check, title = f"contract.{kind}.choices", f"{kind}: the route answers with choices"
        if not may_want(only, check):
            continue
        if exchange.status == 200:
            yield refused(session, check, title, kind, exchange)
        else:
            yield skipped(check, title, error_text(exchange))


FACT_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_facts, ("model_name", "created", "top_logprobs_count", "text_offset", "bytes")),
    (check_stream_facts, ("stream_type", "stream_ids", "stream_created", "stream_n", "stream_logprobs")),
)
