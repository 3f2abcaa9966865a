"""Contract checks on streams and on reported logprobs. Whether the logprobs are the model's is asked elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from refsample.conformance.contract import (
    LENGTH,
    LONG,
    REFUSED,
    UNSTEADY,
    ContractCheck,
    first,
    refused,
    repeats,
    seeded,
    sign,
    skipped,
    tokens_counted,
    unclear,
    wrong_fields,
)
from refsample.conformance.page import Kind, Page
from refsample.conformance.report import Finding, Note, Status, finding
from refsample.conformance.session import TOP_LOGPROBS, Session, error_text
from refsample.conformance.shape import shape_errors
from refsample.conformance.transcript import Answer, read_stream
from refsample.conformance.transport import Exchange
from refsample.spec.provider import FieldSpec

SWAPPED: Mapping[str, str] = {"legacy": "chat", "chat": "legacy"}
DRAWN = 24
"""Tokens drawn at a time to see how the drawn token stands among its alternatives."""


def check_logprobs(session: Session, page: Page) -> Iterator[Finding]:
    """Logprobs come in the shape that the page has, one entry a token, none above 0."""
    kind = page.kind
    check, title = f"contract.{kind}.logprobs", f"{kind}: one logprob a token, none above 0"
    fields = page.logprob_fields(TOP_LOGPROBS)
    if fields is None:
        return
    exchange, answer = session.ask(kind, LONG, **session.greedy(kind, LENGTH), **fields)
    curl, choice = session.curl(kind, exchange.body or {}), first(answer)
    if choice is None or choice.tokens is None:
        yield _no_logprobs(session, page, exchange, answer)
        return
    shape, promised = choice.logprobs_shape, page.endpoint.logprobs
    name = f"{kind}: shape of logprobs"
    evidence = sign("logprobs_shape_swapped", shape == SWAPPED.get(promised), shape == promised)
    said = f"{shape} shape, {promised} is promised"
    yield finding(f"contract.{kind}.logprobs_shape", "contract", name, shape == promised, said, curl, evidence=evidence)
    if shape == promised:
        records = {n: f for n, f in page.endpoint.response.items() if n.startswith("choices[].logprobs.")}
        yield from wrong_fields(f"contract.{kind}.logprobs_fields", name, shape_errors(exchange.json(), records), curl)
    values = [r.logprob for t in choice.tokens for r in (t.chosen, *t.top) if r.logprob is not None]
    count, largest = tokens_counted(answer), max(values, default=0.0)
    said = f"{len(choice.tokens)} entries for {'untold' if count is None else count} tokens, largest {largest:.3g}"
    if choice.finish_reason == "stop" and count is not None:
        # The end token has an entry in some engines and none in others, and no page says which.
        fine = len(choice.tokens) in (count - 1, count, count + 1)
    else:
        fine = count in (None, len(choice.tokens))
    yield finding(check, "contract", title, fine and largest <= 1e-6, said, curl)
    if promised == shape == "legacy":
        yield from _drawn(session, page)
    if "top_logprobs" in fields:
        asked, listed = fields["top_logprobs"], max((len(t.top) for t in choice.tokens), default=0)
        title, said = f"{kind}: top_logprobs alternatives come with a token", f"{asked} asked for, {listed} came"
        yield finding(f"contract.{kind}.top_logprobs", "contract", title, 0 < listed <= asked, said, curl)


def _no_logprobs(session: Session, page: Page, exchange: Exchange, answer: Answer | None) -> Finding:
    """Logprobs that the page has are refused, or do not come. Beside the page, nobody promised them."""
    kind, record = page.kind, page.record("logprobs")
    check, title = f"contract.{kind}.logprobs", f"{kind}: one logprob a token, none above 0"
    status: Status
    if record is None or page.beside(record):
        return skipped(check, title, "the endpoint returns none")
    if answer is not None:
        said, status, names = "an answer without logprobs", "dropped", ["logprobs", "top_logprobs"]
    elif exchange.status not in REFUSED:
        return unclear(check, title, error_text(exchange))
    else:
        said, status, names = f"refused: {error_text(exchange)}", "rejected", ["logprobs"]
        alone = {**session.greedy(kind, 1), **(page.logprob_fields(1) or {})}
        alone.pop("top_logprobs", None)
        if page.takes("top_logprobs") and session.ask(kind, LONG, **alone)[1] is not None:
            names, check = ["top_logprobs"], f"contract.{kind}.top_logprobs"
    shown = [r.name for name in names if (r := page.record(name)) is not None]
    found = finding(check, "contract", title, False, said, session.curl(kind, exchange.body or {}))
    return Finding(found.check, notes=tuple(Note(kind, name, status, said) for name in shown))


def _drawn(session: Session, page: Page) -> Iterator[Finding]:
    """The drawn token is among the alternatives even where it is none of the N likeliest: N + 1 entries then."""
    kind, title = page.kind, f"{page.kind}: the drawn token is always among its alternatives"
    check = f"contract.{kind}.top_logprobs"
    fields = {**seeded(session), **(page.logprob_fields(1) or {}), "temperature": page.near("temperature", 1.5)}
    listed = left_out = 0
    curl = ""
    for _ in range(3):
        exchange, answer = session.ask(kind, LONG, max_tokens=DRAWN, **fields)
        choice = first(answer)
        for token in (choice.tokens or ()) if choice is not None else ():
            if token.top and token.chosen.text and "\ufffd" not in token.chosen.text:
                missing = token.chosen.text not in {entry.text for entry in token.top}
                left_out, listed = left_out + missing, listed + (len(token.top) > 1)
        curl = curl or session.curl(kind, exchange.body or {})
        if left_out or listed:
            break
    if not left_out and not listed:
        yield skipped(check, title, "no token outside the likeliest was drawn")
        return
    said = f"{left_out} drawn tokens left out, {listed} listed beside the likeliest"
    evidence = sign("top_logprobs_n", left_out > 0, left_out == 0)
    yield finding(check, "contract", title, left_out == 0, said, curl, evidence=evidence)


def check_stream(session: Session, page: Page) -> Iterator[Finding]:
    """A stream tells the same answer, ends with [DONE], and carries usage in a chunk of its own when asked."""
    kind, asks_usage = page.kind, page.takes("stream_options")
    if not page.takes("stream"):
        return
    greedy = session.greedy(kind, LENGTH)
    plain = session.ask(kind, LONG, **greedy)[1]
    options = {"stream_options": {"include_usage": True}} if asks_usage else {}
    body: dict[str, Any] = session.body(kind, LONG, **greedy, stream=True, **options)
    exchange = session.post(kind, body)
    streamed, curl = read_stream(exchange), session.curl(kind, body)
    check, title = f"contract.{kind}.stream", f"{kind}: a stream tells the same answer"
    if streamed is None or plain is None:
        yield refused(session, check, title, kind, exchange)
        return
    pairs = [[(c.text, c.finish_reason) for c in a.choices] for a in (plain, streamed)]
    same = pairs[0] == pairs[1]
    if not same and not repeats(session, kind, first(plain)):
        yield unclear(check, title, UNSTEADY)
    else:
        said = "equal" if same else f"plain {pairs[0]}, streamed {pairs[1]}"
        yield finding(check, "contract", title, same, said, curl)
    records, name = page.endpoint.chunk, f"{kind}: fields of a stream's chunks"
    yield from wrong_fields(f"contract.{kind}.chunk", name, _chunk_errors(exchange, records), curl)
    title, ends = f"{kind}: a stream ends with one [DONE]", exchange.events().count("[DONE]")
    said = f"{ends} [DONE] seen" if streamed.done else "no [DONE] at the end"
    evidence = sign("done_missing", not streamed.done, streamed.done)
    yield finding(f"{check}_done", "contract", title, streamed.done and ends == 1, said, curl, evidence=evidence)
    yield from _role(streamed, page, curl)
    if asks_usage:
        yield from _usage(plain, streamed, kind, curl)


def _role(streamed: Answer, page: Page, curl: str) -> Iterator[Finding]:
    """The first chunk of a chat's choice names the role, where the page has a place for it."""
    if "choices[].delta.role" not in page.endpoint.chunk or not streamed.choices:
        return
    named = all(choice.role == "assistant" for choice in streamed.choices)
    title, said = f"{page.kind}: a stream names the role", f"role {streamed.choices[0].role!r}"
    evidence = sign("role_chunk_missing", streamed.choices[0].role is None, named)
    yield finding(f"contract.{page.kind}.stream_role", "contract", title, named, said, curl, evidence=evidence)


def _usage(plain: Answer, streamed: Answer, kind: Kind, curl: str) -> Iterator[Finding]:
    title = f"{kind}: usage comes in one chunk without choices"
    said = f"choices in the chunks with usage: {list(streamed.usage_events)}"
    check = f"contract.{kind}.stream_usage"
    yield finding(f"{check}_place", "contract", title, streamed.usage_events == (0,), said, curl)
    counts = [tokens_counted(answer) for answer in (plain, streamed)]
    if None not in counts:
        title, said = f"{kind}: a stream counts the same tokens", f"plain {counts[0]}, streamed {counts[1]}"
        yield finding(check, "contract", title, counts[0] == counts[1], said, curl)


def _chunk_errors(exchange: Exchange, records: Mapping[str, FieldSpec]) -> list[tuple[str, str]]:
    """What is wrong in any chunk of a stream, each field once."""
    found: dict[str, str] = {}
    for payload in exchange.events():
        if payload != "[DONE]":
            for path, problem in shape_errors(json.loads(payload), records):
                found.setdefault(path, problem)
    return list(found.items())


REPORTED_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_logprobs, ("logprobs", "logprobs_shape", "logprobs_fields", "top_logprobs")),
    (check_stream, ("stream", "stream_done", "stream_role", "stream_usage_place", "stream_usage", "chunk")),
)
